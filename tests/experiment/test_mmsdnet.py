"""The mmsdnet system's command, from a phantom to an export."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.apply.scans import save, values
from tests.commands.shell import call
from tests.tiny import MMSDNET
from tfdisent.apply import Options, apply
from tfdisent.export import export
from tfdisent.systems.mmsdnet import MMSDNet, MMSDNetConfig
from tfdisent.training.system import System

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for the command")

TINY = [
    "--steps=2",
    "--batch_size=4",
    "--data=num_train=4",
    "--data=num_test=2",
    "--data=slices_per_subject=3",
    "--set=image_size=48",
    "--set=filters=2",
]
NARROW = [
    *(f"--set={name}=2" for name in ("modality_filters", "segmentor_filters", "discriminator_filters")),
    "--set=transformer_filters=2",
    "--set=transformer_units=4",
]


@pytest.fixture(scope="module", autouse=True)
def without_compilation():
    """Compiling a step of all networks takes longer than two such steps without it."""
    compiled = System.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(System, "compile", lambda self, **given: compiled(self, run_eagerly=True, **given))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("mmsdnet")
    call(work_dir, "train", "mmsdnet", *TINY, *NARROW, "--target_annotations=0.5", "--run_dir=r")
    return work_dir


def test_a_run_measures_reports_exports_and_lists_whose_labels_were_read(trained):
    metrics = json.loads((trained / "r/metrics.json").read_text())
    assert not [name for name, found in metrics.items() if found.get("failed")]
    chief = {"dice_fused", "dice_deformed", "dice_target", "dice_copy", "field_error_relative", "dice_warped_truth"}
    chief |= {"empty_anatomy_share", "modality_from_z"}
    assert all(metrics[name]["value"] is not None for name in chief)
    assert len(list((trained / "r/figures").glob("*.png"))) == 6
    listed = (trained / "r/splits/train-annotated-T2.txt").read_text().split()
    assert len(listed) == 2 and set(listed) < set((trained / "r/splits/train.txt").read_text().split())
    assert "--set=target_annotations=0.5" in (trained / "r/flags.txt").read_text()


def test_the_export_gives_labels_of_the_target_by_one_modality_and_by_both(trained):
    folder = trained / "saved_models/mmsdnet-abdomen_phantom/1"
    card = json.loads((folder / "card.json").read_text())
    assert set(card["signatures"]) == {"segment", "segment_target", "encode", "align", "reconstruct"}
    loaded = tf.saved_model.load(str(folder))
    image = np.random.default_rng(0).uniform(-1, 1, (2, 48, 48, 2)).astype("float32")
    both = loaded.signatures["segment"](image=tf.constant(image))["labels"]
    one = loaded.signatures["segment_target"](image=tf.constant(image[..., 1:]))["labels"]
    for labels in (both, one):
        np.testing.assert_allclose(labels.numpy().sum(-1), 1, atol=1e-4)
    assert both.shape == one.shape == (2, 48, 48, 5)


def test_a_u_net_trains_by_the_same_command_without_labels_of_the_target(trained):
    call(trained, "train", "mmsdnet", *TINY, "--model=unet_source", "--run_dir=u", "--noexport")
    metrics = json.loads((trained / "u/metrics.json").read_text())
    assert {name for name in metrics if "slices" not in name} == {"dice_source_only", "dice_copy"}


def test_wrong_shares_and_data_are_refused_with_the_mend(tmp_path):
    for arguments, words in (
        (["--target_annotations=2"], "target_annotations from 0 to 1"),
        (["--target_annotations=half"], "target_annotations"),
        (["--target_annotations=0", "--model=unet_single"], "Train unet_both or unet_source"),
        (["--data=candidates=2"], "--data=candidates=1"),
    ):
        _, error = call(tmp_path, "train", "mmsdnet", *arguments, status=1)
        assert words in error and "Traceback" not in error


def test_an_export_of_a_model_of_candidates_segments_volumes(tmp_path, monkeypatch):
    config = MMSDNetConfig(**MMSDNET, candidates=3)
    signatures = MMSDNet.signatures
    chosen = ("segment", "segment_candidates")
    monkeypatch.setattr(MMSDNet, "signatures", lambda self: {name: signatures(self)[name] for name in chosen})
    card = {"data": {"normalize": "volume", "modalities": list(config.modalities), "pixel_spacing": 1.0}}
    folder = export(MMSDNet(config), tmp_path / "model", card=card)
    random = np.random.default_rng(0)
    scans = {}
    for name in config.modalities:
        volume = np.zeros((40, 44, 3), np.int16)
        volume[4:-4, 4:-4] = random.integers(100, 900, (32, 36, 3))
        scans[name] = save(tmp_path / f"{name}.nii.gz", volume)
    counts = apply(folder, {name: str(path) for name, path in scans.items()}, tmp_path / "out", Options())
    assert counts["failed"] == 0
    (made,) = (tmp_path / "out").rglob("*.nii.gz")
    labels = values(made)
    assert labels.shape == (40, 44, 3) and set(np.unique(labels)) <= {0, 1, 2}
