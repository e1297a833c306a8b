"""The harmonisation's command: from a phantom to a report, and from a trained model to harmonised volumes."""

import json

import nibabel
import numpy as np
import pytest

from tests import tiny
from tests.commands.shell import call
from tfdisent import experiment
from tfdisent.evaluation import harmonize
from tfdisent.phantoms import brain

TINY = {
    "steps": 3,
    "batch_size": 4,
    "data": {"num_train": 6, "num_test": 2, "slices_per_subject": 3},
    "changes": {
        "image_size": 32,
        "embedding_dim": 8,
        **dict.fromkeys(("filters", "segmentor_filters", "extractor_filters", "discriminator_filters"), 2),
    },
}
FLAGS = [
    *(f"--{name}={TINY[name]}" for name in ("steps", "batch_size")),
    *(f"--data={name}={value}" for name, value in TINY["data"].items()),
    *(f"--set={name}={value}" for name, value in TINY["changes"].items()),
]


@pytest.mark.backend("torch")
def test_a_run_measures_and_reports_and_its_data_have_what_the_audit_asks_about(tmp_path, monkeypatch):
    for name, setting in tiny.HARMONIZE_JUDGES.items():
        monkeypatch.setattr(harmonize, name, setting)
    call(tmp_path, "train", "harmonize", *FLAGS, "--run_dir=r", "--noexport")
    metrics = json.loads((tmp_path / "r/metrics.json").read_text())
    assert not [name for name, found in metrics.items() if found.get("failed")]
    measured = {name for name, found in metrics.items() if found["value"] is not None}
    assert {"error_to_truth", "error_to_truth_source", "error_to_truth_histogram", "error_to_truth_floor"} <= measured
    assert {"local_contrast_correlation", "scanner_accuracy", "noise_sensitivity", "dice"} <= measured
    assert {"tissue_gap_recovered", "lesion_gap_recovered", "lesion_sign_flips", "atrophy_effect_ratio"} <= set(metrics)
    assert set(metrics["dice"]["per_label"]) == {"csf", "grey", "white", "lesion"}
    assert (tmp_path / "r/report.html").is_file() and len(list((tmp_path / "r/figures").glob("*.png"))) == 3


@pytest.mark.backend("tensorflow")
def test_an_export_writes_a_harmonised_volume_and_its_labels_on_the_grid_of_the_file(tmp_path):
    settings = experiment.Settings(
        system="harmonize",
        data_dir=str(tmp_path / "data"),
        run_dir=str(tmp_path / "r"),
        export_dir=str(tmp_path / "model"),
        **TINY,
    )
    experiment.export(experiment.prepare(settings))  # what is not trained is exported alike
    card = json.loads((tmp_path / "model/1/card.json").read_text())
    assert card["inputs"] == ["T1"] and set(card["signatures"]) == {
        "harmonize",
        "back",
        "segment_source",
        "segment_target",
    }
    volume, affine = brain.volume(brain.draw_subject(seed=3, index=0), "T1", "scanner_b", spacing=8.0)
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "T1.nii.gz")
    call(tmp_path, "apply", "--model=model", "--input=T1.nii.gz", "--output=made")
    found = {path.name: nibabel.load(path) for path in (tmp_path / "made").glob("*.nii.gz")}
    assert len(found) == 2, found
    for image in found.values():
        assert image.shape == volume.shape
        np.testing.assert_allclose(image.affine, affine)
    labels = next(image for name, image in found.items() if "labels" in name)
    assert set(np.unique(np.asarray(labels.dataobj))) <= {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"changes": {"source": "scanner_c"}}, "two different domains of scanner_b, scanner_a"),
        ({"data": {"scanners": "scanner_a"}}, "two domains or more"),
        ({"data": {"mask": "pathology", "lesions": 0}}, "one label map for each slice"),
    ],
)
def test_data_and_domains_that_do_not_serve_are_refused_before_anything_is_prepared(tmp_path, change, message):
    settings = experiment.Settings(system="harmonize", data_dir=str(tmp_path / "data"), **change)
    with pytest.raises(ValueError, match=message):
        experiment.prepare(settings)
    assert not list((tmp_path / "data").glob("*"))


def test_presets_fit_the_configs_of_all_models():
    from tfdisent.baselines.harmonize import METHODS

    for known in METHODS:
        for preset in ("quick", "small", "paper"):
            assert known.model.config_class.preset(preset, **known.changes).steps > 0, (known.name, preset)
