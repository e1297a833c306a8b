import numpy as np
import pytest

from tests.datasets.raw_volumes import assert_disjoint, brain, lesion, write
from tfdisent.data import as_arrays
from tfdisent.datasets.bids import BIDS
from tfdisent.datasets.preparation import prepare
from tfdisent.datasets.shards import verify

NAMES = {
    "T1w": "anat/{}_T1w",
    "T1w_ce": "anat/{}_ce-gadolinium_T1w",
    "T2w": "anat/{}_T2w",
    "FLAIR": "anat/{}_FLAIR",
    "pet": "pet/{}_trc-18FFDG_pet",
}


def session(raw, subject, ses="", modalities=tuple(NAMES), ending=".nii.gz"):
    prefix = f"{subject}_{ses}" if ses else subject
    for name in modalities:
        values = brain(int(subject[4:]), scale=100 * (1 + list(NAMES).index(name)))
        write(raw / subject / ses / f"{NAMES[name].format(prefix)}{ending}", values)
    for pipeline, name, values in (
        ("lesions", "label-lesion_mask", lesion()),
        ("brain", "desc-brain_mask", (brain(int(subject[4:])) > 0).astype(np.uint8)),
    ):
        folder = raw / "derivatives" / pipeline / subject / ses / "anat"
        write(folder / f"{prefix}_{name}{ending}", values)


@pytest.fixture
def bids(tmp_path):
    raw = tmp_path / "raw"
    for index in range(5):
        session(raw, f"sub-{index:02d}")
    rows = ["participant_id\tsite\tgroup\tage"]
    rows += [f"sub-{i:02d}\t{'north' if i < 3 else 'south'}\t{'ms' if i % 2 else 'control'}\tn/a" for i in range(5)]
    (raw / "participants.tsv").write_text("\n".join(rows) + "\n")
    write(raw / "sub-00/func/sub-00_task-rest_bold.nii.gz", brain(0))
    write(raw / "sourcedata/sub-00_T1w.nii.gz", brain(0))
    return raw


def test_all_modalities_of_bids_become_channels(bids, tmp_path):
    builder = BIDS(mask="label-lesion_mask", brain_mask="desc-brain_mask")
    assert assert_disjoint(builder.splits(bids)).keys() == {"train", "test"}
    folder = prepare(builder, tmp_path / "data", bids, workers=1)
    manifest = verify(folder)
    assert manifest.modalities == ("T1w", "T1w_ce", "T2w", "FLAIR", "pet")
    assert manifest.domains == ("north", "south") and manifest.labels == ("control", "ms")
    assert as_arrays(folder, "train")["mask"].max() == 1
    unit = next(unit for unit in builder.units(bids) if unit.key == "sub-03")
    assert unit.source.domain == "south" and unit.source.label == "ms"
    example = {e["slice_index"]: e for e in builder.examples(unit)}[4]
    for channel in range(5):
        expected = brain(3, scale=100 * (channel + 1))[:, :, 4].T
        np.testing.assert_array_equal(example["image"][..., channel], expected)
    np.testing.assert_array_equal(example["mask"][..., 0], lesion()[:, :, 4].T)


def test_sessions_of_a_subject_stay_in_one_split(tmp_path):
    for index in range(4):
        for ses in ("ses-a", "ses-b"):
            session(tmp_path, f"sub-{index:02d}", ses, ("T1w",), ".nii")
    builder = BIDS(mask="label-lesion_mask", test_fraction=0.5)
    splits = builder.splits(tmp_path)
    assert len(assert_disjoint(splits)["train"]) == 2 and len(splits["train"]) == 4
    unit = splits["train"][0]
    assert unit.key == f"{unit.subject}_ses-a" and "ses-a_label-lesion" in unit.source.mask
    assert unit.source.domain == unit.source.label == ""


def test_a_subject_who_was_scanned_at_several_sites_says_so_in_sessions_tsv(bids):
    for ses in ("ses-a", "ses-b"):
        session(bids, "sub-05", ses, ("T1w",))
    path = bids / "sub-05/sub-05_sessions.tsv"
    path.write_text("session_id\tsite\nses-a\tnorth\nses-b\tsouth\n")
    with open(bids / "participants.tsv", "a") as table:
        table.write("sub-05\tn/a\tms\tn/a\n")
    units = {unit.key: unit for unit in BIDS(modalities=("T1w",)).units(bids)}
    found = {key: (unit.subject, unit.source.domain, unit.source.label) for key, unit in units.items()}
    assert found["sub-05_ses-a"] == ("sub-05", "north", "ms") and found["sub-05_ses-b"] == ("sub-05", "south", "ms")
    assert found["sub-00"] == ("sub-00", "north", "control")
    path.write_text("session_id\tsite\nses-a\tnorth\n")
    problems = {unit.key: unit.problem for unit in BIDS(modalities=("T1w",)).units(bids)}
    assert "nor does its sessions.tsv" in problems["sub-05_ses-b"] and not problems["sub-05_ses-a"]


def test_without_participants_there_is_no_domain(bids):
    (bids / "participants.tsv").unlink()
    info = BIDS(modalities=("T2w", "FLAIR")).info(bids)
    assert info.domains == info.labels == () and info.modalities == ("T2w", "FLAIR")
    assert info.mask_labels == ()


def test_other_columns_may_be_domain_and_label(bids):
    info = BIDS(domain="group", label="none").info(bids)
    assert info.domains == ("control", "ms") and info.labels == ()
    problem = BIDS(domain="age").units(bids)[0].problem
    assert "participants.tsv does not tell the age of sub-00" in problem


def test_runs_and_acquisitions_are_told_apart(bids):
    anat = bids / "sub-00" / "anat"
    for run in (1, 2):
        write(anat / f"sub-00_run-{run}_T1w.nii.gz", brain(0))
    (anat / "sub-00_T1w.nii.gz").unlink()
    unit = BIDS(modalities=("T1w",)).units(bids)[0]
    assert unit.source.images["T1w"].endswith("sub-00_run-1_T1w.nii.gz") and not unit.problem
    write(anat / "sub-00_acq-high_T1w.nii.gz", brain(0))
    assert "choose with select=" in BIDS(modalities=("T1w",)).units(bids)[0].problem
    unit = BIDS(modalities=("T1w",), select=("acq-high",)).units(bids)[0]
    assert unit.source.images["T1w"].endswith("acq-high_T1w.nii.gz") and not unit.problem


def test_what_is_missing_is_a_problem_of_its_session(bids):
    (bids / "sub-01/anat/sub-01_T2w.nii.gz").unlink()
    (bids / "derivatives/lesions/sub-02/anat/sub-02_label-lesion_mask.nii.gz").unlink()
    builder = BIDS(mask="label-lesion_mask")
    problems = {unit.key: unit.problem for unit in builder.units(bids) if unit.problem}
    assert problems.keys() == {"sub-01", "sub-02"}
    assert "sub-01 has no T2w" in problems["sub-01"]
    assert "no file that ends in _label-lesion_mask" in problems["sub-02"]


def test_a_pipelines_own_folder_may_be_the_raw_folder(bids):
    for index in range(3):
        name = f"sub-{index:02d}"
        anat = bids / "derivatives/registered" / name / "anat"
        for suffix, scale in (("T1w", 100), ("FLAIR", 200)):
            write(anat / f"{name}_space-MNI_desc-preproc_{suffix}.nii.gz", brain(index, scale=scale))
    units = BIDS().units(bids / "derivatives/registered")
    assert len(units) == 3 and set(units[0].source.images) == {"T1w", "FLAIR"}
    assert not any(unit.problem for unit in units)


def test_wrong_options_and_folders_are_errors(bids, tmp_path):
    with pytest.raises(ValueError, match="no modality 'T1', but T1w"):
        BIDS(modalities=("T1",))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="(?s)bids: nothing that fits.*openneuro"):
        BIDS().splits(tmp_path / "empty")
    for path in bids.rglob("*pet.nii.gz"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no image pet. It has FLAIR"):
        BIDS(modalities=("pet",)).units(bids)
    (bids / "participants.tsv").write_text("id\tsite\nsub-00\tx\n")
    with pytest.raises(ValueError, match="lacks the column participant_id"):
        BIDS().units(bids)


def t1w(raw, subject="sub-00"):
    return next(unit for unit in BIDS(modalities=("T1w",)).units(raw) if unit.subject == subject)


def test_source_data_code_and_data_sets_within_the_data_set_are_passed_over(bids):
    own = bids / "sub-00/anat/sub-00_T1w.nii.gz"
    for place in ("sourcedata", "code", "derivatives/fmriprep/sourcedata", "other", "derivatives/a/b"):
        write(bids / place / "sub-00/anat/sub-00_T1w.nii.gz", brain(70))
        write(bids / place / "sub-09/anat/sub-09_T1w.nii.gz", brain(71))
        write(bids / place / "sub-00/anat/sub-00_label-lesion_mask.nii.gz", lesion(codes=(1, 1)))
    for place in ("other", "derivatives/a/b"):
        (bids / place / "dataset_description.json").write_text("{}")
    for place in (".", "derivatives/lesions"):  # which are its own
        (bids / place / "dataset_description.json").write_text("{}")
    units = BIDS(modalities=("T1w",), mask="label-lesion_mask").units(bids)
    assert [unit.subject for unit in units] == [f"sub-{index:02d}" for index in range(5)]
    assert not any(unit.problem for unit in units)
    assert units[0].source.images["T1w"] == str(own)
    assert units[0].source.mask == str(bids / "derivatives/lesions/sub-00/anat/sub-00_label-lesion_mask.nii.gz")


def test_a_folder_of_data_sets_is_not_one_data_set(tmp_path):
    for name in ("ds1", "ds2"):
        session(tmp_path / name, "sub-01", modalities=("T1w",))
        (tmp_path / name / "dataset_description.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="but data sets within it. Give one of them: ds1, ds2"):
        BIDS().units(tmp_path)
    assert len(BIDS().units(tmp_path / "ds1")) == 1


def test_two_paths_of_one_name_are_a_problem_that_names_both(bids):
    write(bids / "sub-00/anat/sub-00_T1w.nii", brain(0))
    problem = t1w(bids).problem
    assert "sub-00_T1w.nii and " in problem and "sub-00_T1w.nii.gz are both sub-00_T1w. Remove one." in problem
    ending = "sub-01/anat/sub-01_label-lesion_mask.nii.gz"
    write(bids / "derivatives/others" / ending, lesion(codes=(1, 1)))
    builder = BIDS(modalities=("T1w",), mask="label-lesion_mask")
    problem = next(unit.problem for unit in builder.units(bids) if unit.subject == "sub-01")
    assert f"lesions/{ending} and " in problem and f"others/{ending} are both" in problem


def test_a_file_in_the_folder_of_another_subject_or_session_is_a_problem(bids, tmp_path):
    path = bids / "sub-01/anat/sub-01_T1w.nii.gz"
    path.rename(bids / "sub-02/anat" / path.name)
    assert "sub-02/anat/sub-01_T1w.nii.gz names another subject" in t1w(bids, "sub-01").problem
    write(tmp_path / "b/sub-01/ses-a/anat/sub-01_T1w.nii.gz", brain(1))
    assert "names another subject or session than its folders" in t1w(tmp_path / "b", "sub-01").problem


def test_participants_in_another_encoding_or_twice_are_errors_that_name_the_file(bids):
    path = bids / "participants.tsv"
    good = path.read_text()
    path.write_bytes(good.replace("north", "Zürich").encode("latin-1"))
    with pytest.raises(ValueError, match="participants.tsv, line 2: byte 0xfc is not UTF-8 text.*iconv"):
        BIDS().units(bids)
    path.write_text(good + "sub-01\tsouth\tms\tn/a\n")
    with pytest.raises(ValueError, match="participants.tsv, lines 3 and 7: sub-01 is there twice"):
        BIDS().units(bids)
