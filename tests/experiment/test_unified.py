"""The framework's command, from a phantom to an export, and the export on a volume."""

import dataclasses
import json
import shutil

import keras
import nibabel
import numpy as np
import pytest

from tests.commands.shell import call, finish, start
from tests.datasets import raw_volumes
from tfdisent.experiment import open_run, prepare
from tfdisent.phantoms import brain

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for the command")

TINY = [
    "--steps=3",
    "--batch_size=4",
    "--data=num_train=4",
    "--data=num_test=2",
    "--data=slices_per_subject=2",
    "--set=image_size=32",
    "--set=filters=2",
    "--set=discriminator_filters=2",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("unified")
    call(work_dir, "train", "unified", *TINY, "--run_dir=r")
    return work_dir


def test_a_run_measures_reports_and_exports(trained):
    metrics = json.loads((trained / "r/metrics.json").read_text())
    assert {"ssim_brain", "ssim_brain_affine", "dice", "dice_real", "anatomy_distance_ratio"} <= (metrics.keys())
    assert (trained / "r/report.html").is_file()
    card = json.loads((trained / "saved_models/unified-brain_phantom/1/card.json").read_text())
    assert card["config"]["modalities"] == ["T1", "T1ce", "T2", "FLAIR"]
    assert card["config"]["normalize"] == "volume"
    # The phantom's field of view is 208 mm.
    assert card["data"]["pixel_spacing"] == [6.5, 6.5] and card["data"]["planes"] == ["axial"]


def test_a_trained_run_opens_as_its_command_would_make_it(trained):
    run = open_run(str(trained / "r"), data_dir=str(trained / "data"))
    assert run.config.modalities == ("T1", "T1ce", "T2", "FLAIR")
    changes = {"image_size": 32, "filters": 2, "discriminator_filters": 2, "batch_size": 4}
    assert (run.settings.changes, run.settings.steps) == (changes, 3)
    assert prepare(run.settings).state == run.state


def test_the_export_translates_a_volume_onto_its_own_grid(trained):
    subject = brain.draw_subject(seed=3, index=0, tumour=True)
    volume, affine = brain.volume(subject, "T1", spacing=8.0)
    nibabel.save(nibabel.Nifti1Image(volume, affine), trained / "T1.nii.gz")
    model = "--model=saved_models/unified-brain_phantom"
    arguments = [model, "--input=T1.nii.gz", "--output=made"]
    call(trained, "apply", *arguments, "--target=T2", "--target=FLAIR")
    for target in ("T2", "FLAIR"):
        made = nibabel.load(trained / f"made/T1_{target}.nii.gz")
        assert made.shape == volume.shape
        np.testing.assert_allclose(made.affine, affine)
        values = made.get_fdata()
        assert 0 <= values.min() < values.max() <= 1
        assert not values[0, 0].any()  # background stays
    _, error = call(trained, "apply", *arguments, "--target=PET", status=1)
    assert "T1, T1ce, T2, FLAIR" in error and "Traceback" not in error


def test_volumes_of_unlike_sizes_in_three_planes_make_a_model_that_is_applied_in_three(tmp_path):
    lines = ["subject,modality,image,split"]
    for index, shape in enumerate([(24, 20, 18), (30, 26, 16), (22, 28, 20)]):
        for modality, seed in (("T1", index), ("T2", 9 + index)):
            name = f"s{index}_{modality}.nii.gz"
            raw_volumes.write(tmp_path / "raw" / name, raw_volumes.brain(seed, shape))
            lines.append(f"s{index},{modality},{name},{'test' if index == 2 else 'train'}")
    (tmp_path / "raw/table.csv").write_text("\n".join(lines) + "\n")
    size = ["--steps=2", "--batch_size=4", *[s for s in TINY if s.startswith("--set")]]
    data = ["--dataset=manifest", "--raw_dir=raw/table.csv", "--run_dir=r"]
    data += ["--data=planes=axial,coronal,sagittal", "--data=size=32x30"]
    finish(start(tmp_path, "train.unified", *data, *size))  # slices are prepared by processes of its own
    card = json.loads((tmp_path / "saved_models/unified-manifest/1/card.json").read_text())
    assert card["config"]["modalities"] == ["T1", "T2"]
    assert card["data"]["planes"] == ["axial", "coronal", "sagittal"]
    # Slices of 32 x 30 mm are read as 32 x 32 pixels.
    assert card["data"]["pixel_spacing"] == pytest.approx([1, 30 / 32], abs=1e-3)
    arguments = ["--model=saved_models/unified-manifest", "--input=raw/s2_T1.nii.gz"]
    call(tmp_path, "apply", *arguments, "--output=made", "--target=T2")
    assert nibabel.load(tmp_path / "made/s2_T1_T2.nii.gz").shape == (22, 28, 20)


def test_presets_fit_the_configs_of_all_models():
    from tfdisent.baselines.unified import METHODS

    for known in METHODS:
        for preset in ("quick", "small", "paper"):
            assert known.model.config_class.preset(preset, **known.changes).steps > 0, (known.name, preset)


def test_an_unknown_model_is_told_which_there_are(tmp_path):
    _, error = call(tmp_path, "train", "unified", "--model=cyclegan", status=1)
    assert "pix2pix" in error and "no_disentanglement" in error and "Traceback" not in error


def test_images_of_classes_are_not_what_it_makes(trained):
    _, error = call(trained, "augment", "--run_dir=r", status=1)
    assert "does not generate" in error and "Traceback" not in error


def test_data_of_one_modality_are_refused(tmp_path):
    one = "--data=contrasts=T1"
    _, error = call(tmp_path, "train", "unified", *TINY, one, status=1)
    assert "two or more" in error and "Traceback" not in error


def test_the_size_of_a_phantoms_slices_is_the_models(tmp_path):
    _, error = call(tmp_path, "train", "unified", *TINY, "--data=size=40", status=1)
    assert "--set=image_size" in error and "Traceback" not in error


def test_a_metric_that_fails_is_named_and_the_model_is_exported_all_the_same(trained, tmp_path, monkeypatch):
    """Of a finished run, as the command goes on with it: report and export are there, and then it says what failed."""
    from tfdisent.evaluation import unified
    from tfdisent.experiment import Settings, train
    from tfdisent.messages import Incomplete

    def broken(*arguments):
        raise TypeError("expected non-empty vector")

    monkeypatch.setattr(unified, "lesion_metrics", broken)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "r", "r")
    settings = dataclasses.replace(
        open_run("r", data_dir=str(trained / "data")).settings, run_dir="r", export_dir="m", export=True
    )
    assert isinstance(settings, Settings)
    (tmp_path / "r/export.json").unlink()
    with pytest.raises(Incomplete, match="mean_absolute_error_lesion failed: .*expected non-empty vector"):
        train(settings)
    metrics = json.loads((tmp_path / "r/metrics.json").read_text())
    assert metrics["mean_absolute_error_lesion"]["failed"] and metrics["ssim_brain"]["value"] is not None
    assert "expected non-empty vector" in (tmp_path / "r/report.html").read_text()
    assert list(tmp_path.glob("m/**/saved_model.pb"))
