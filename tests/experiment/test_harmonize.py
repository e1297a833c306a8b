"""The harmonisation's command: from a phantom to a report, and from a trained model to harmonised volumes."""

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from tests import tiny
from tests.commands.shell import call
from tfdisent import experiment
from tfdisent.evaluation import harmonize
from tfdisent.experiment import travelling
from tfdisent.phantoms import brain

TINY = {
    "steps": 3,
    "batch_size": 4,
    "data": {"num_train": 8, "num_test": 2, "slices_per_subject": 3},
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


@pytest.fixture(scope="module")
def small_judges():
    """Judges of few slices and epochs."""
    with pytest.MonkeyPatch.context() as patched:
        for name, setting in tiny.HARMONIZE_JUDGES.items():
            patched.setattr(harmonize, name, setting)
        yield


@pytest.fixture(scope="module")
def trained(small_judges, tmp_path_factory):
    """A folder in which `r` is a trained run."""
    folder = tmp_path_factory.mktemp("harmonize")
    call(folder, "train", "harmonize", *FLAGS, "--run_dir=r", "--noexport")
    return folder


@pytest.mark.backend("torch")
def test_a_run_measures_and_reports_and_its_data_have_what_the_audit_asks_about(trained):
    metrics = json.loads((trained / "r/metrics.json").read_text())
    assert not [name for name, found in metrics.items() if found.get("failed")]
    assert set(metrics["scanner_distance"]["per_domain"]) == {"scanner_b", "scanner_a"}
    measured = {name for name, found in metrics.items() if found["value"] is not None}
    assert {"error_to_truth", "error_to_truth_source", "error_to_truth_histogram", "error_to_truth_floor"} <= measured
    assert {"local_contrast_correlation", "scanner_accuracy", "noise_sensitivity", "dice"} <= measured
    assert {"tissue_gap_recovered", "lesion_gap_recovered", "lesion_sign_flips", "atrophy_effect_ratio"} <= set(metrics)
    assert set(metrics["dice"]["per_label"]) == {"csf", "grey", "white", "lesion"}
    assert (trained / "r/report.html").is_file() and len(list((trained / "r/figures").glob("*.png"))) == 3


@pytest.mark.backend("torch")
def test_runs_nothing_and_normalisations_are_compared_on_travelling_subjects_by_one_command(trained):
    call(trained, "travelling", "--run_dir=r", "--output_dir=t")
    found = json.loads((trained / "t/travelling.json").read_text())
    assert (found["target"], found["scanners"], found["subjects"]) == ("scanner_a", ["scanner_b", "scanner_a"], 2)
    titles = list(found["methods"])
    assert {"Not harmonised", "Z-scores", "Segmentation-renormalised"} <= set(titles)
    for one in found["methods"].values():
        assert one["image_error"]["value"] > 0 and one["image_error"]["n"] == 2
        assert one["volume_variation"]["value"] is not None or one["volume_variation"]["reason"]
    assert found["methods"]["Segmentation-renormalised"] != found["methods"]["Not harmonised"]
    written = (trained / "t/travelling.md").read_text()
    assert all(f"| {title} |" in written for title in titles) and "ICC(2, 1)" in written
    assert "From scanner_b to scanner_a" in (trained / "t/travelling.html").read_text()


@pytest.mark.backend("torch")
def test_subjects_that_a_run_was_trained_on_are_refused_and_so_are_data_without_travellers(trained):
    _, said = call(trained, "travelling", "--run_dir=r", "--split=train", status=1)
    assert "Expected subjects with scans on two or more of scanner_b, scanner_a, received none in train" in said
    path = trained / "r/splits/train.txt"
    before = path.read_text()
    path.write_text(f"{before}test-000001\n")
    _, said = call(trained, "travelling", "--run_dir=r", status=1)
    path.write_text(before)
    assert "r was trained on 1 of the 2 travelling subjects, as test-000001" in said


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
    assert card["familiar"]["name"] == "scanner_b" and card["familiar"]["scans"] == 4
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


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected the folder of a run, or of runs from several sources"):
        travelling.opened(tmp_path)


def compared(name="r", source="b", hashed=False, select="last", **config):
    """A method that is compared, of one run without a folder."""
    config = SimpleNamespace(
        **{"target": "a", "modality": "T1", "image_size": 32, "normalize": "volume", "source": source} | config
    )
    run = SimpleNamespace(
        config=config,
        manifest=SimpleNamespace(options={"hash_subjects": hashed}),
        settings=SimpleNamespace(folder=name, select=select),
        title="ours",
    )
    return travelling.Compared(name, {source: run})


def test_runs_are_compared_on_the_scanners_that_all_of_them_harmonise_from():
    several = compared()
    several.runs |= compared(source="c").runs
    assert travelling.common_scanners([several, several]) == ("a", ("b", "c", "a"))
    assert travelling.common_scanners([several, compared(source="c")]) == ("a", ("c", "a"))
    with pytest.raises(ValueError, match="from the same scanners, received r from b; r from c"):
        travelling.common_scanners([compared(), compared(source="c")])
    with pytest.raises(ValueError, match="Expected runs of one target, received r a, s c"):
        travelling.common_scanners([compared(), compared("s", target="c")])
    assert travelling.titles_of([compared("r"), compared("s")]) == ["ours, r", "ours, s"]
    assert travelling.titles_of([compared("r"), compared("r")]) == ["ours, r (1)", "ours, r (2)"]


def test_hashed_subjects_are_not_held_against_plain_ones_and_those_that_chose_the_best_count_as_seen(tmp_path):
    manifest = SimpleNamespace(dataset="d", options={})
    with pytest.raises(ValueError, match="cannot be compared: those of one are hashed"):
        travelling.require_unseen(["s"], compared(hashed=True), manifest)
    (tmp_path / "splits").mkdir()
    for split, subject in (("train", "a b"), ("val", "s")):
        (tmp_path / f"splits/{split}.txt").write_text(f"{subject}\n")
    travelling.require_unseen(["s", "a"], compared(tmp_path), manifest)
    with pytest.raises(ValueError, match="was trained on 1 of the 2"):
        travelling.require_unseen(["s", "a"], compared(tmp_path, select="best"), manifest)
    with pytest.raises(ValueError, match="was trained on 1 of the 1"):
        travelling.require_unseen(["a b"], compared(tmp_path), manifest)
    (tmp_path / "splits/train.txt").unlink()
    with pytest.raises(FileNotFoundError, match="the subjects that the run was trained on, is missing"):
        travelling.require_unseen(["s"], compared(tmp_path), manifest)


def test_travelling_data_without_the_scanners_of_the_run_are_refused():
    manifest = SimpleNamespace(dataset="d", modalities=("T1",), domains=("a", "z"))
    with pytest.raises(ValueError, match="Expected T1 of a and of one or more of b, .*received d with T1 of a, z"):
        travelling.found(None, manifest, compared().first, ("b", "a"), "a", None)


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
