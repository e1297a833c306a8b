import numpy as np
import pytest

from tests.datasets.raw_volumes import assert_disjoint, brain, lesion, subjects, write
from tfdisent.data import as_arrays
from tfdisent.datasets.msseg import MSSEG
from tfdisent.datasets.preparation import prepare
from tfdisent.datasets.shards import verify

SMALL = {"size": "20x24", "pixel_spacing": 0, "min_foreground": 20}


def patient(folder, seed, scale=100):
    """One patient in the current tree."""
    for index, name in enumerate(("FLAIR", "T1", "T2", "DP", "GADO")):
        write(folder / f"Preprocessed_Data/{name}_preprocessed.nii.gz", brain(seed, scale=scale + index))
        write(folder / f"Raw_Data/{name}.nii.gz", brain(seed, (30, 20, 8), scale + index))
    write(folder / "Masks/Consensus.nii.gz", lesion())
    for rater in range(1, 8):
        write(folder / f"Masks/ManualSegmentation_{rater}.nii.gz", lesion(codes=(1, 1)[: rater % 3]))
    write(folder / "Masks/Brain_Mask.nii.gz", (brain(seed) > 0).astype(np.uint8))


@pytest.fixture
def msseg(tmp_path):
    """Two patients of each training centre, and one of each to test."""
    raw = tmp_path / "raw"
    for centre in ("01", "07", "08"):
        for index in range(2):
            patient(raw / f"Training/Center_{centre}/Patient_{index + 1:02d}", 10 * int(centre) + index)
    for centre in ("01", "03"):
        patient(raw / f"Testing/Center_{centre}/Patient_01", 50 + int(centre))
    return raw


def examples(builder, raw, key):
    unit = next(unit for unit in builder.units(raw) if unit.key == key)
    return {example["slice_index"]: example for example in builder.examples(unit)}


def test_one_patient_of_each_scanner_is_left_out_in_turn(msseg, tmp_path):
    folds = [MSSEG(fold=fold, **SMALL).splits(msseg) for fold in range(2)]
    for fold in folds:
        assert len(assert_disjoint(fold)["test"]) == 3
        scanners = [unit.source.domain for unit in fold["test"]]
        assert sorted(scanners) == ["Philips Ingenia", "Siemens Aera", "Siemens Verio"]
        assert not any("Testing" in name for name in subjects(fold)["train"])
    assert subjects(folds[0])["test"].isdisjoint(subjects(folds[1])["test"])
    with pytest.raises(ValueError, match="fold 2 needs 3 training patients of each scanner"):
        MSSEG(fold=2, **SMALL).splits(msseg)
    folder = prepare(MSSEG(**SMALL), tmp_path / "data", msseg, workers=1)
    manifest = verify(folder)
    assert "GE Discovery" in manifest.domains and manifest.modalities == ("FLAIR",)
    arrays = as_arrays(folder, "test")
    assert arrays["mask"].max() == 1 and len(set(arrays["domain"])) == 3


def test_the_official_split_is_that_of_the_folders(msseg):
    found = assert_disjoint(MSSEG(split="official", **SMALL).splits(msseg))
    assert found["test"] == {"Testing-Center_01-Patient_01", "Testing-Center_03-Patient_01"}
    assert len(found["train"]) == 6 and "val" not in found
    with_val = assert_disjoint(MSSEG(split="official", val_fraction=0.2, **SMALL).splits(msseg))
    assert len(with_val["val"]) == 1 and len(with_val["train"]) == 5
    with pytest.raises(FileNotFoundError, match="needs the folders Training and Testing"):
        MSSEG(split="official", **SMALL).splits(msseg / "Training")


def test_preprocessed_images_get_the_brain_mask_and_any_rater_may_be_chosen(msseg):
    key = "Training-Center_07-Patient_02"
    units = {unit.key: unit.source for unit in MSSEG(**SMALL).units(msseg)}
    assert units[key].images["FLAIR"].endswith("FLAIR_preprocessed.nii.gz")
    assert units[key].brain_mask.endswith("Brain_Mask.nii.gz")
    consensus = examples(MSSEG(**SMALL), msseg, key)[4]["mask"]
    second = examples(MSSEG(rater=2, **SMALL), msseg, key)[4]["mask"]
    assert (consensus.sum(), second.sum()) == (16, 32)
    (msseg / "Training/Center_07/Patient_02/Masks/ManualSegmentation_2.nii.gz").unlink()
    problems = [unit.problem for unit in MSSEG(rater=2, **SMALL).units(msseg) if unit.problem]
    assert len(problems) == 1 and f"{key} has no ManualSegmentation_2" in problems[0]


def test_all_five_contrasts_are_read_with_dp_as_pd(msseg):
    builder = MSSEG(modalities=("FLAIR", "T1", "T2", "PD", "GADO"), **SMALL)
    example = examples(builder, msseg, "Training-Center_01-Patient_01")[4]
    assert example["image"].shape == (20, 24, 5) and example["available"].all()


def test_raw_images_off_the_grid_of_the_mask_are_errors(msseg):
    with pytest.raises(ValueError, match="Consensus.nii.gz is not on the grid of .*Raw_Data/FLAIR"):
        examples(MSSEG(images="raw", **SMALL), msseg, "Training-Center_01-Patient_01")


def test_an_empty_consensus_is_kept(msseg):
    write(
        msseg / "Training/Center_01/Patient_01/Masks/Consensus.nii.gz",
        np.zeros((24, 20, 10), np.uint8),
    )
    example = examples(MSSEG(**SMALL), msseg, "Training-Center_01-Patient_01")[4]
    assert example["labelled"] == 1 and not example["mask"].any()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_the_tree_of_2016_is_read(ending, tmp_path):
    for index, name in enumerate(("01016SACH", "01038PAGU", "07043SEME", "07001MOEL")):
        folder = tmp_path / "UnprocTrainingDataset" / name
        done = tmp_path / "PreprocTrainingDataset" / name
        for number, stem in enumerate(("3DFLAIR", "3DT1", "3DT1GADO", "T2", "DP")):
            write(folder / f"{stem}{ending}", brain(index, (30, 20, 8), 100 + number))
            write(done / f"{stem}{ending}", brain(index, scale=100 + number))
        write(folder / f"Consensus{ending}", lesion())
        write(folder / f"Mask_registered{ending}", (brain(index) > 0).astype(np.uint8))
    builder = MSSEG(modalities=("FLAIR", "GADO"), **SMALL)
    assert subjects(builder.splits(tmp_path))["test"] == {
        "Training-01016SACH",
        "Training-07001MOEL",
    }
    unit = next(unit for unit in builder.units(tmp_path) if "SEME" in unit.key)
    assert unit.source.domain == "Siemens Aera"
    assert "PreprocTraining" in unit.source.images["GADO"] and unit.source.brain_mask
    assert next(builder.examples(unit))["image"].shape == (20, 24, 2)


def test_two_files_of_a_patient_for_one_role_are_a_problem_that_names_both(msseg):
    folder = msseg / "Training/Center_01/Patient_01"
    write(folder / "Preprocessed_Data/3DFLAIR_preprocessed.nii.gz", brain(9))
    write(msseg / "Training/Center_07/Patient_01/Masks/Consensus.nii", lesion())
    patient(msseg / "again/Center_08/Patient_01", 99)
    problems = {unit.key: unit.problem for unit in MSSEG(**SMALL).units(msseg) if unit.problem}
    assert problems.keys() == {f"Training-Center_{centre}-Patient_01" for centre in ("01", "07", "08")}
    first, second, third = (problems[key] for key in sorted(problems))
    assert "3DFLAIR_preprocessed.nii.gz and " in first and "/FLAIR_preprocessed.nii.gz" in first
    assert "Consensus.nii and " in second and "Consensus.nii.gz" in second
    assert "/Training/Center_08/" in third and "/again/Center_08/" in third


def test_wrong_options_are_errors():
    for options, message in (
        ({"split": "seeded"}, "split to be one of leave_one_out, official"),
        ({"images": "all"}, "images to be one of preprocessed, raw"),
        ({"rater": 8}, "rater to be one of 0, 1"),
        ({"fold": -1}, "fold to be 0 or more"),
        ({"modalities": ("DP",)}, "no modality 'DP', but FLAIR"),
    ):
        with pytest.raises(ValueError, match=message):
            MSSEG(**options)
