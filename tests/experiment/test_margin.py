"""The margin system's command, from a phantom to an export, and the export on several volumes of a subject."""

import json

import keras
import nibabel
import numpy as np
import pytest

from tests.commands.shell import call
from tfdisent.phantoms import brain

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for the command")

TINY = [
    "--steps=3",
    "--batch_size=4",
    "--data=num_train=4",
    "--data=num_test=4",
    "--data=slices_per_subject=3",
    "--data=tumour=0",  # no networks downstream, which other tests train
    "--set=image_size=32",
    *(f"--set={name}=2" for name in ("filters", "modality_filters", "spade_filters")),
    "--set=decoder_filters=8",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("margin")
    call(work_dir, "train", "margin", *TINY, "--run_dir=r")
    return work_dir


def test_a_run_measures_reports_and_exports(trained):
    metrics = json.loads((trained / "r/metrics.json").read_text())
    assert not [name for name, found in metrics.items() if found.get("failed")]
    chief = {"modality_from_anatomy", "modality_from_modality_code", "subject_retrieval", "subject_from_modality_code"}
    assert chief | {"margins_held", "psnr_brain", "ssim_brain", "psnr_brain_lookup"} <= metrics.keys()
    assert len(metrics["subset_retrieval"]["per_subset"]) == len(metrics["psnr_brain_missing"]["per_subset"]) == 14
    assert all(metrics[name]["value"] is not None for name in chief)
    assert set(metrics["psnr"]["per_target"]) == {"T1", "T1ce", "T2", "FLAIR"}
    assert len(list((trained / "r/figures").glob("*.png"))) == 4
    assert (trained / "r/report.html").is_file()
    card = json.loads((trained / "saved_models/margin-brain_phantom/1/card.json").read_text())
    assert card["inputs"] == card["config"]["modalities"] == ["T1", "T1ce", "T2", "FLAIR"]
    assert set(card["signatures"]) == {"complete", "encode", "decode", "cross_reconstruct", "fuse"}


def test_the_export_draws_a_missing_contrast_and_the_fused_anatomy_of_a_subject_with_two_contrasts(trained):
    subject = brain.draw_subject(seed=3, index=0, tumour=True)
    for name in ("T1", "T2"):
        volume, affine = brain.volume(subject, name, spacing=8.0)
        nibabel.save(nibabel.Nifti1Image(volume, affine), trained / f"{name}.nii.gz")
    arguments = ["--model=saved_models/margin-brain_phantom", "--input=T1=T1.nii.gz", "--input=T2=T2.nii.gz"]
    call(trained, "apply", *arguments, "--output=made", "--target=FLAIR")
    found = {path.name: nibabel.load(path) for path in (trained / "made").glob("*.nii.gz")}
    assert len(found) == 2, found
    for image in found.values():
        assert image.shape == volume.shape
        np.testing.assert_allclose(image.affine, affine)
    anatomy = next(image for name, image in found.items() if "anatomy" in name)
    assert set(np.unique(np.asarray(anatomy.dataobj))) <= {0, 1, 2, 3}


@pytest.mark.parametrize("model", ["conv_adv", "conv_sim"])
def test_what_it_is_compared_with_trains_by_the_same_command(tmp_path, model):
    call(tmp_path, "train", "margin", *TINY, f"--model={model}", "--run_dir=r", "--noexport")
    metrics = json.loads((tmp_path / "r/metrics.json").read_text())
    assert not [name for name, found in metrics.items() if found.get("failed")]
    header = (tmp_path / "r/metrics.csv").read_text().splitlines()[0]
    assert ("d_accuracy" in header) == (model == "conv_adv")


def test_data_without_the_neighbours_that_the_preset_paper_takes_are_refused_with_the_mend(tmp_path):
    _, error = call(tmp_path, "train", "margin", "--preset=paper", "--set=image_size=64", status=1)
    assert "--data=neighbours=1" in error and "Traceback" not in error


def test_presets_fit_the_configs_of_all_models():
    from tfdisent.baselines.margin import METHODS

    for known in METHODS:
        for preset in ("quick", "small", "paper"):
            assert known.model.config_class.preset(preset, **known.changes).steps > 0, (known.name, preset)
