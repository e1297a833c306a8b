"""What a run is asked for: types, defaults, and what is known to be wrong before anything is prepared."""

import dataclasses
import re

import keras
import pytest

from tfdisent import datasets
from tfdisent.experiment import Settings, command_of, folder, prepare
from tfdisent.experiment.settings import flags_of, typed_changes
from tfdisent.systems.drai import DRAIConfig

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for the command")


def test_texts_take_the_types_of_their_fields():
    changes = {
        "style_dim": "8",
        "learning_rate": "2e-4",
        "train_twice": "false",
        "style_margin": "none",
        "initializer": "normal",
    }
    assert typed_changes(DRAIConfig, changes) == {
        "style_dim": 8,
        "learning_rate": 2e-4,
        "train_twice": False,
        "style_margin": None,
        "initializer": "normal",
    }
    assert typed_changes(DRAIConfig, {"style_margin": "0.5"}) == {"style_margin": 0.5}


def test_a_size_may_be_one_number_or_two_and_what_fits_no_type_names_them_all():
    @dataclasses.dataclass
    class Config:
        image_size: int | tuple[int, int] = 32

    assert typed_changes(Config, {"image_size": "64"}) == {"image_size": 64}
    assert typed_changes(Config, {"image_size": "192,160"}) == {"image_size": (192, 160)}
    with pytest.raises(ValueError, match=r"int or tuple\[int, int\], received 'big'"):
        typed_changes(Config, {"image_size": "big"})


def test_model_and_data_are_those_of_the_system_where_they_are_not_given():
    settings = Settings(system="unified")
    assert (settings.model, settings.dataset) == ("unified", "brain_phantom")
    assert settings.folder.as_posix() == "runs/unified-brain_phantom-quick-seed0"
    assert settings.export_folder.as_posix() == "saved_models/unified-brain_phantom"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"system": "gan"}, "a system of drai, unified, margin, harmonize, mmsdnet; received 'gan'"),
        ({"steps": 3, "epochs": 1}, "Give --steps or --epochs, not both"),
        ({"batch_size": 0}, "--batch_size of 1 or more, received 0"),
        ({"num_samples": 1}, "--num_samples of 2 or more, received 1"),
        ({"judge": "crowd"}, "--judge of convnet, inception; received 'crowd'"),
        ({"mixed_precision": "float8"}, "--mixed_precision of bfloat16; received 'float8'"),
        ({"model": "gan"}, "a model among drai, cinfogan"),
        ({"dataset": "imagenet"}, "Unknown data set 'imagenet'"),
        ({"data": {"size": 32}}, "--set=image_size"),
        ({"changes": {"image_size": 48}}, "power of two"),
        ({"changes": {"colour": 1}}, "received 'colour=1'"),
    ],
)
def test_a_wrong_value_is_an_error_at_once(values, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Settings(**{"system": "drai", **values})


def test_what_makes_a_method_cannot_be_changed():
    field = next(iter(Settings(system="drai", model="dai").method.changes))
    with pytest.raises(ValueError, match=rf"--model=dai is DAI by {field}=.*leave out --set={field}"):
        Settings(system="drai", model="dai", changes={field: 1})


def test_a_run_folder_gives_the_settings_that_made_it(tmp_path):
    given = {"steps": 7, "seed": 3, "changes": {"filters": 2}, "data": {"num_test": 2}, "run_dir": str(tmp_path / "r")}
    settings = Settings(system="unified", model="tcmgan_FLAIR", data_dir=str(tmp_path), **given)
    builder = datasets.make_builder("brain_phantom", settings.preparation)
    manifest = dataclasses.replace(builder.info(None), splits={})
    config = settings.config(modalities=tuple(manifest.modalities))
    folder.write_folder(settings, config, manifest, folder.check_folder(settings, config, manifest), done=0)
    read = folder.read_settings(tmp_path / "r")
    assert read.changes.pop("modalities", None) in (None, list(manifest.modalities))
    assert read == dataclasses.replace(settings, data={"num_test": "2"})


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings(system="drai").seed = 1


def test_the_command_names_what_differs_from_the_defaults():
    assert command_of(Settings(system="drai")) == "tfdisent train drai --dataset=skin_phantom"
    settings = Settings(
        system="unified",
        model="pix2pix",
        steps=3,
        export=False,
        changes={"image_size": (32, 64), "clip_norm": None},
        dataset="brats",
        data={"modalities": ("t1", "t2")},
    )
    assert command_of(settings) == (
        "tfdisent train unified --model=pix2pix --dataset=brats --steps=3 --noexport --set=image_size=32,64 "
        "--set=clip_norm=none --data=modalities=t1,t2"
    )
    assert "--seed=0" in flags_of(settings, defaults=True)


def test_what_depends_on_the_data_is_checked_when_they_are_known():
    settings = Settings(system="unified", model="tcmgan", dataset="chaos", changes={"source": "InPhase"})
    assert settings.config(modalities=("InPhase", "OutPhase")).source == "InPhase"
    with pytest.raises(ValueError, match="source to be one of T1, T2, received 'InPhase'"):
        settings.config(modalities=("T1", "T2"))
    settings = Settings(system="unified", model="pix2pix", dataset="chaos", batch_size=4)
    assert len(settings.config(modalities=("InPhase", "OutPhase")).pairs) == 2


def test_a_source_that_the_data_lack_is_told_before_they_are_prepared(tmp_path):
    settings = Settings(system="unified", model="tcmgan", data_dir=str(tmp_path), changes={"source": "PD"})
    with pytest.raises(ValueError, match="received 'PD'"):
        prepare(settings)
    assert not list(tmp_path.iterdir())


def test_data_without_conditions_are_told_to_drai_before_they_are_prepared(tmp_path):
    with pytest.raises(ValueError, match="conditions and classes, received brain_phantom"):
        prepare(Settings(system="drai", dataset="brain_phantom", data_dir=str(tmp_path)))
    assert not list(tmp_path.iterdir())
