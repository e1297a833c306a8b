"""The margin system's command, from a phantom to an export, and the export on several volumes of a subject."""

import json

import keras
import nibabel
import numpy as np
import pytest

from tests.commands.shell import call
from tfdisent.downstream.segmentation import Segmentor
from tfdisent.evaluation import missing_inputs
from tfdisent.phantoms import brain

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for the command")

TINY = [
    "--steps=3",
    "--batch_size=4",
    "--data=num_train=4",
    "--data=num_test=4",
    "--data=slices_per_subject=3",
    "--data=contrasts=T1,T2,FLAIR",
    "--set=image_size=32",
    *(f"--set={name}=2" for name in ("filters", "modality_filters", "spade_filters")),
    "--set=decoder_filters=8",
]


NO_TUMOUR = "--data=tumour=0"  # no networks downstream, which other tests train
LABELS = ["background", "necrosis", "oedema", "enhancing"]


def oedema_everywhere(inputs, labels, judge_kind, seed, log):
    """Segmentors in place of trained ones, which find oedema in all pixels."""
    found = {}
    for fused in (True, False):
        kind = next(kind for kind in missing_inputs.KINDS.values() if kind.fused == fused)
        segmentor = Segmentor(inputs.shape(kind), len(labels) - 1, filters=2, num_levels=1)
        bias = next(v for v in reversed(segmentor.network.trainable_variables) if v.shape == (len(labels),))
        bias.assign([0.0, 0.0, 9.0, 0.0])
        found |= {kind.learner: segmentor for kind in missing_inputs.KINDS.values() if kind.fused == fused}
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("margin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(missing_inputs, "fitted_segmentors", oedema_everywhere)
        call(work_dir, "train", "margin", *TINY, "--run_dir=r")
    return work_dir


def test_a_run_measures_reports_and_exports(trained):
    metrics = json.loads((trained / "r/metrics.json").read_text())
    assert not [name for name, found in metrics.items() if found.get("failed")]
    chief = {"modality_from_anatomy", "modality_from_modality_code", "subject_retrieval", "subject_from_modality_code"}
    assert chief | {"margins_held", "psnr_brain", "ssim_brain", "psnr_brain_lookup"} <= metrics.keys()
    assert len(metrics["subset_retrieval"]["per_subset"]) == len(metrics["psnr_brain_missing"]["per_subset"]) == 6
    assert all(metrics[name]["value"] is not None for name in chief)
    assert set(metrics["psnr"]["per_target"]) == {"T1", "T2", "FLAIR"}
    assert len(list((trained / "r/figures").glob("*.png"))) == 6
    assert (trained / "r/report.html").is_file()
    card = json.loads((trained / "saved_models/margin-brain_phantom/1/card.json").read_text())
    assert card["inputs"] == card["config"]["modalities"] == ["T1", "T2", "FLAIR"]
    assert set(card["signatures"]) == {"complete", "encode", "decode", "cross_reconstruct", "fuse", "segment"}
    assert card["outputs"]["labels"] == {"kind": "labels", "names": LABELS, "per_target": False}
    assert "oedema" in card["values"]["labels"]


def test_the_export_segments_its_fused_anatomy_as_the_segmentor_that_the_run_kept(trained):
    import tensorflow as tf

    kept = Segmentor.load(trained / "r/downstream/segmentor")
    signatures = tf.saved_model.load(str(trained / "saved_models/margin-brain_phantom/1")).signatures
    given = {
        "image": tf.random.stateless_uniform((3, 32, 32, 3), (0, 1), -1, 1),
        "available": tf.constant([[1, 1, 1], [1, 0, 1], [0, 0, 1]], tf.float32),
    }
    made = signatures["segment"](**given)["labels"].numpy()
    expected = kept.probabilities(signatures["fuse"](**given)["anatomy"].numpy())
    np.testing.assert_allclose(made[..., 1:], expected, rtol=1e-3, atol=1e-7)
    assert made.shape == (3, 32, 32, 4) and np.ptp(made, axis=(0, 1, 2)).min() > 1e-5


def test_the_export_draws_the_missing_contrast_and_maps_anatomy_and_labels_of_a_subject_with_two_contrasts(trained):
    subject = brain.draw_subject(seed=3, index=0, tumour=True)
    for name in ("T1", "T2"):
        volume, affine = brain.volume(subject, name, spacing=8.0)
        nibabel.save(nibabel.Nifti1Image(volume, affine), trained / f"{name}.nii.gz")
    arguments = ["--model=saved_models/margin-brain_phantom", "--input=T1=T1.nii.gz", "--input=T2=T2.nii.gz"]
    call(trained, "apply", *arguments, "--output=made", "--target=missing")
    found = {path.name.partition("_")[2]: nibabel.load(path) for path in (trained / "made").glob("*.nii.gz")}
    assert found.keys() == {f"{name}.nii.gz" for name in ("FLAIR", "anatomy", "labels")}
    for image in found.values():
        assert image.shape == volume.shape
        np.testing.assert_allclose(image.affine, affine)
    anatomy, labels = (np.asarray(found[f"{name}.nii.gz"].dataobj) for name in ("anatomy", "labels"))
    assert np.all(anatomy[volume > 0] > 0) and anatomy.max() <= 4  # parts, after the background
    assert set(np.unique(labels)) == {0, 2} and np.array_equal(labels > 0, anatomy > 0)
    names = json.loads(next((trained / "made").glob("*_labels.json")).read_text())["labels"]
    assert list(names.values()) == LABELS


def test_what_it_is_compared_with_trains_by_the_same_command(tmp_path):
    arguments = [*TINY, NO_TUMOUR, "--data=contrasts=T1,T2", "--model=conv_adv", "--run_dir=r", "--noexport"]
    call(tmp_path, "train", "margin", *arguments)
    metrics = json.loads((tmp_path / "r/metrics.json").read_text())
    assert not [name for name, found in metrics.items() if found.get("failed")]
    assert "d_accuracy" in (tmp_path / "r/metrics.csv").read_text().splitlines()[0]


def test_data_without_the_neighbours_that_the_preset_paper_takes_are_refused_with_the_mend(tmp_path):
    _, error = call(tmp_path, "train", "margin", "--preset=paper", "--set=image_size=64", status=1)
    assert "--data=neighbours=1" in error and "Traceback" not in error


def test_presets_fit_the_configs_of_all_models():
    from tfdisent.baselines.margin import METHODS

    for known in METHODS:
        for preset in ("quick", "small", "paper"):
            assert known.model.config_class.preset(preset, **known.changes).steps > 0, (known.name, preset)
