import shutil

import numpy as np
import pytest

from tests.datasets.raw_volumes import assert_disjoint, brain, lesion, subjects, write
from tfdisent.data import as_arrays
from tfdisent.datasets.brats import BraTS
from tfdisent.datasets.preparation import dry_run, prepare
from tfdisent.datasets.shards import verify

OLD = ("t1", "t1ce", "t2", "flair")
NEW = ("t1n", "t1c", "t2w", "t2f")
SMALL = {"size": "20x24", "min_foreground": 50}
MAPPING = "Grade,BraTS_2017_subject_ID,BraTS_2020_subject_ID\n"


def case(folder, names=OLD, codes=(1, 2, 4), seed=0, ending=".nii.gz", seg="seg", glue="_"):
    for index, name in enumerate(names):
        write(folder / f"{folder.name}{glue}{name}{ending}", brain(seed, scale=100 * (index + 1)))
    if seg:
        write(folder / f"{folder.name}{glue}{seg}{ending}", lesion(codes=codes))


@pytest.fixture
def brats18(tmp_path):
    """Six cases HGG, four LGG, and two of the validation set."""
    raw = tmp_path / "raw"
    training = raw / "MICCAI_BraTS_2018_Data_Training"
    for index in range(10):
        grade = "HGG" if index < 6 else "LGG"
        case(training / grade / f"Brats18_TCIA08_{index}_1", seed=index)
    for index in range(2):
        case(raw / "MICCAI_BraTS_2018_Data_Validation" / f"Brats18_CBICA_A{index}_1", seed=20 + index, seg="")
    (training / "survival_data.csv").write_text("Brats18ID,Age,Survival\n")
    return raw


def examples(builder, raw, key):
    unit = next(unit for unit in builder.units(raw) if unit.key == key)
    assert not unit.problem, unit.problem
    return {example["slice_index"]: example for example in builder.examples(unit)}


def test_the_tree_of_2018_is_prepared_by_the_unified_protocol(brats18, tmp_path):
    builder = BraTS(**SMALL)
    splits = builder.splits(brats18)
    found = assert_disjoint(splits)
    assert {split: len(names) for split, names in found.items()} == {
        "train": 3,
        "test": 3,
        "segmentation": 4,
    }
    assert {unit.group for units in splits.values() for unit in units} == {"HGG", "LGG"}
    folder = prepare(builder, tmp_path / "data", brats18, workers=1)
    manifest = verify(folder)
    assert manifest.modalities == OLD and manifest.image_shape == (20, 24, 4)
    assert manifest.image_dtype == "int16"
    assert manifest.options["mask_codes"] == ["0", "1", "2", "4|3"]
    arrays = as_arrays(folder, "segmentation")
    assert set(np.unique(arrays["mask"])) == {0, 1, 2, 3} and arrays["labelled"].all()
    assert manifest.splits["segmentation"]["subjects"] == sorted(found["segmentation"])


def test_channels_and_masks_are_those_of_the_files(brats18):
    example = examples(BraTS(**SMALL), brats18, "Brats18_TCIA08_3_1")[4]
    for channel in range(4):
        expected = brain(3, scale=100 * (channel + 1))[:, :, 4].T
        np.testing.assert_array_equal(example["image"][..., channel], expected)
    expected = lesion(codes=(1, 2, 3))[:, :, 4].T
    np.testing.assert_array_equal(example["mask"][..., 0], expected)


def test_the_unified_protocol_has_the_papers_numbers(tmp_path):
    builder = BraTS(size="240x240")
    for index in range(285):
        folder = tmp_path / f"Brats18_X_{index}_1"
        folder.mkdir()
        for name in (*OLD, "seg"):
            (folder / f"{folder.name}_{name}.nii.gz").touch()
    found = assert_disjoint(builder.splits(tmp_path))
    assert [len(found[split]) for split in ("train", "test", "segmentation")] == [100, 85, 100]
    assert builder.min_foreground == 2000
    assert found != subjects(BraTS(dtype="int16", seed=1).splits(tmp_path))
    folds = [BraTS(protocol="margin", fold=k).splits(tmp_path) for k in range(5)]
    assert sum(len(fold["test"]) for fold in folds) == 285
    assert len(set().union(*(subjects(fold)["test"] for fold in folds))) == 285
    assert [len(assert_disjoint(folds[0])[s]) for s in ("train", "val", "test")] == [206, 22, 57]


def test_the_margin_protocol_cuts_the_middle_and_has_neighbours(tmp_path):
    names = [f"BraTS20_Training_{index:03d}" for index in range(1, 7)]
    for index, name in enumerate(names):
        case(tmp_path / name, seed=index)
    shape = (240, 240, 60)
    values = np.zeros(shape, np.int16)
    values[40:200, 24:216] = np.arange(60) + 1
    for name in OLD:
        write(tmp_path / names[0] / f"{names[0]}_{name}.nii.gz", values + np.int16(OLD.index(name)) * (values > 0))
    write(tmp_path / names[0] / f"{names[0]}_seg.nii.gz", lesion(shape))
    builder = BraTS(protocol="margin")
    assert builder.info(tmp_path).image_shape == (192, 160, 12)
    found = examples(builder, tmp_path, names[0])
    assert list(found) == list(range(50, 60))
    assert (found[50]["image"] == np.tile([50, 51, 52], 4) + np.arange(4).repeat(3)).all()
    assert BraTS(protocol="margin", neighbours=3).neighbours == 3


def test_kaggles_copy_of_2020_with_its_odd_case_is_read(tmp_path):
    training = tmp_path / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData"
    rows = []
    for index in (1, 2, 3, 355):
        name = f"BraTS20_Training_{index:03d}"
        case(training / name, ending=".nii", seed=index, seg="" if index == 355 else "seg")
        rows.append(f"{'HGG' if index < 3 else 'LGG'},Brats17_X_{index},{name}\n")
    odd = training / "BraTS20_Training_355" / "W39_1998.09.19_Segm.nii"
    write(odd, lesion(codes=(4,)))
    (training / "name_mapping.csv").write_text(MAPPING + "".join(rows))
    builder = BraTS(**SMALL)
    assert assert_disjoint(builder.splits(tmp_path)).keys() == {"train", "test", "segmentation"}
    assert examples(builder, tmp_path, odd.parent.name)[4]["mask"].max() == 3
    groups = {unit.key[-3:]: unit.group for unit in builder.units(tmp_path)}
    assert groups == {"001": "HGG", "002": "HGG", "003": "LGG", "355": "LGG"}


def test_later_editions_are_the_same_under_other_names(tmp_path):
    for index in range(4):
        for session in range(2):
            name = f"BraTS-GLI-{index:05d}-{session:03d}"
            case(tmp_path / name, NEW, codes=(1, 2, 3), seed=index, glue="-")
    builder = BraTS(**SMALL)
    splits = builder.splits(tmp_path)
    assert sum(len(units) for units in splits.values()) == 8
    assert len(assert_disjoint(splits)["train"]) == 2  # both sessions of a patient in one split
    new = examples(builder, tmp_path, "BraTS-GLI-00000-000")
    old = tmp_path / "old" / "Brats18_X_0_1"
    case(old, codes=(1, 2, 4))
    for index, example in examples(builder, old.parent, old.name).items():
        np.testing.assert_array_equal(example["image"], new[index]["image"])
        np.testing.assert_array_equal(example["mask"], new[index]["mask"])


def test_validation_cases_come_as_unlabelled_when_asked_for(brats18):
    splits = BraTS(unlabelled=True, **SMALL).splits(brats18)
    assert [unit.key for unit in splits["unlabelled"]] == [
        "Brats18_CBICA_A0_1",
        "Brats18_CBICA_A1_1",
    ]
    assert_disjoint(splits)
    example = examples(BraTS(unlabelled=True, **SMALL), brats18, "Brats18_CBICA_A0_1")[4]
    assert example["labelled"] == 0 and not example["mask"].any()


def test_what_is_missing_is_a_problem_of_its_case(brats18):
    folders = sorted(brats18.rglob("Brats18_TCIA*_1"))
    (folders[0] / f"{folders[0].name}_seg.nii.gz").unlink()
    (folders[1] / f"{folders[1].name}_t2.nii.gz").unlink()
    problems = {unit.key: unit.problem for unit in BraTS(**SMALL).units(brats18) if unit.problem}
    assert problems.keys() == {folders[0].name, folders[1].name}
    assert "has no segmentation" in problems[folders[0].name]
    assert "has no t2" in problems[folders[1].name]
    assert "problem: " in dry_run(BraTS(**SMALL), brats18)
    taken = BraTS(unlabelled=True, **SMALL).splits(brats18)
    assert folders[0].name in {unit.key for unit in taken["unlabelled"]}
    kept = BraTS(allow_missing=True, **SMALL)
    assert examples(kept, brats18, folders[1].name)[4]["available"].tolist() == [1, 1, 0, 1]


def test_a_file_with_both_codes_of_enhancing_tumour_is_another_scheme(brats18):
    folder = sorted(brats18.rglob("Brats18_TCIA*_1"))[0]
    write(folder / f"{folder.name}_seg.nii.gz", lesion(codes=(1, 2, 3, 4)))
    with pytest.raises(ValueError, match="_seg.nii.gz holds both codes 3 and 4"):
        examples(BraTS(**SMALL), brats18, folder.name)
    parts = ("background", "necrosis", "oedema", "rest", "enhancing")
    own = BraTS(mask_labels=parts, mask_codes=("0", "1", "2", "3", "4"), **SMALL)
    assert set(np.unique(examples(own, brats18, folder.name)[4]["mask"])) == {0, 1, 2, 3, 4}
    write(folder / f"{folder.name}_seg.nii.gz", lesion(codes=(1, 7)))
    with pytest.raises(ValueError, match="unknown codes 7 "):
        examples(BraTS(**SMALL), brats18, folder.name)


def test_fewer_modalities_may_be_chosen_in_any_order(brats18):
    builder = BraTS(modalities=("flair", "t1"), **SMALL)
    example = examples(builder, brats18, "Brats18_TCIA08_3_1")[4]
    assert builder.info(brats18).modalities == ("flair", "t1")
    np.testing.assert_array_equal(example["image"][..., 1], brain(3)[:, :, 4].T)


def test_wrong_options_and_folders_are_errors(tmp_path, brats18):
    for options, message in (
        ({"protocol": "paper"}, "protocol to be one of unified, margin, plain"),
        ({"fold": 5}, "fold to be 0 to 4"),
        ({"modalities": ("t1", "pd")}, "no modality 'pd'"),
    ):
        with pytest.raises(ValueError, match=message):
            BraTS(**options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="(?s)brats: nothing that fits.*synapse"):
        BraTS().splits(tmp_path / "empty")
    for folder in sorted(brats18.rglob("Brats18_TCIA*_1"))[2:]:
        shutil.rmtree(folder)
    with pytest.raises(ValueError, match="2 subjects cannot be split"):
        BraTS(**SMALL).splits(brats18)


def case_of(raw, key):
    return next(unit for unit in BraTS(**SMALL).units(raw) if unit.key == key)


def test_patients_side_by_side_in_one_folder_are_not_mixed(tmp_path):
    folder = tmp_path / "flat"
    for number in (1, 2):
        name = f"BraTS-GLI-{number:05d}-000"
        case(tmp_path / "made" / name, NEW, codes=(1, 2, 3), seed=number, glue="-")
        folder.mkdir(exist_ok=True)
        for path in (tmp_path / "made" / name).iterdir():
            path.rename(folder / path.name)
    for key, number in (("BraTS-GLI-00001-000", 1), ("BraTS-GLI-00002-000", 2)):
        for channel in range(4):
            expected = brain(number, scale=100 * (channel + 1))[:, :, 4].T
            np.testing.assert_array_equal(examples(BraTS(**SMALL), folder, key)[4]["image"][..., channel], expected)
    # What one of them lacks is not taken from the other.
    (folder / "BraTS-GLI-00001-000-t2w.nii.gz").unlink()
    (folder / "BraTS-GLI-00002-000-t1n.nii.gz").unlink()
    (folder / "BraTS-GLI-00002-000-seg.nii.gz").unlink()
    units = {unit.key: unit for unit in BraTS(**SMALL).units(folder)}
    assert "BraTS-GLI-00001-000 has no t2" in units["BraTS-GLI-00001-000"].problem
    assert "BraTS-GLI-00002-000 in" in units["BraTS-GLI-00002-000"].problem
    for key, unit in units.items():
        assert all(key in path for path in (*unit.source.images.values(), unit.source.mask) if path)
    write(folder / "Segm.nii.gz", lesion())  # whose it is cannot be told
    assert "has no segmentation" in case_of(folder, "BraTS-GLI-00002-000").problem


def test_the_file_of_another_patient_in_a_folder_is_noticed(brats18):
    first, second = sorted(brats18.rglob("Brats18_TCIA*_1"))[:2]
    shutil.move(second / f"{second.name}_t2.nii.gz", first)
    problem = case_of(brats18, second.name).problem
    assert f"{second.name} lies in {first} and in {second}" in problem
    assert not case_of(brats18, first.name).problem


def test_two_files_of_one_modality_are_a_problem_that_names_both(brats18):
    folders = sorted(brats18.rglob("Brats18_TCIA*_1"))
    write(folders[0] / f"{folders[0].name}_t1.nii", brain(0))
    write(folders[1] / f"{folders[1].name}_t1c.nii.gz", brain(1))
    write(folders[2] / f"{folders[2].name}_seg.nii", lesion())
    for folder, names in (
        (folders[0], ("_t1.nii and ", "_t1.nii.gz")),
        (folders[1], ("_t1c.nii.gz and ", "_t1ce.nii.gz")),
        (folders[2], ("_seg.nii and ", "_seg.nii.gz")),
    ):
        assert all(folder.name + name in case_of(brats18, folder.name).problem for name in names)
    copy = brats18 / "again" / folders[3].name
    shutil.copytree(folders[3], copy)
    assert f"{folders[3].name} lies in {folders[3]} and in {copy}" in case_of(brats18, folders[3].name).problem


def test_one_image_of_two_patients_is_a_problem_of_both(brats18):
    first, second = sorted(brats18.rglob("Brats18_TCIA*_1"))[:2]
    shutil.copy(first / f"{first.name}_t1.nii.gz", second / f"{second.name}_t1.nii.gz")
    for folder in (first, second):
        problem = case_of(brats18, folder.name).problem
        assert f"{first.name}_t1.nii.gz and " in problem and f"{second.name}_t1.nii.gz: one image is t1 of" in problem


def test_problems_are_told_before_a_split_that_they_make_impossible(brats18, tmp_path):
    for folder in sorted(brats18.rglob("Brats18_TCIA*_1"))[1:]:
        (folder / f"{folder.name}_seg.nii.gz").unlink()
    with pytest.raises(ValueError, match="(?s)problem: .* has no segmentation.*1 subjects cannot be split"):
        dry_run(BraTS(**SMALL), brats18)
    for on_error in ("fail", "skip"):
        with pytest.raises(ValueError, match="(?s)problem: .* has no segmentation.*1 subjects cannot be split"):
            prepare(BraTS(**SMALL), tmp_path / "data", brats18, workers=1, on_error=on_error)


def test_grades_in_another_encoding_are_an_error_that_names_the_file(brats18):
    (brats18 / "name_mapping.csv").write_bytes((MAPPING + "HGG,X,Müller\n").encode("latin-1"))
    with pytest.raises(ValueError, match="name_mapping.csv, line 2: byte 0xfc is not UTF-8 text"):
        BraTS(**SMALL).units(brats18)
