import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from tfdisent.data import Manifest, as_arrays
from tfdisent.datasets.ham10000 import HAM10000, _decoded
from tfdisent.datasets.preparation import dry_run, prepare

SMALL = HAM10000(size=16)
ONE_HOT = ("image", "MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def one_hot(path, rows, columns=ONE_HOT):
    """Writes (image, diagnosis) rows as the ISIC archive does."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for image, diagnosis in rows:
            writer.writerow([image, *(float(name.lower() == diagnosis) for name in columns[1:])])


def official_test_set(ham, diagnoses=("nv", "mel", "bkl")):
    rows = [(f"ISIC_{34000 + index:07d}", diagnosis) for index, diagnosis in enumerate(diagnoses)]
    for index, (image, _) in enumerate(rows):
        ham.photo(f"ISIC2018_Task3_Test_Images/{image}.jpg", 50 + index)
    one_hot(ham.directory / "ISIC2018_Task3_Test_GroundTruth.csv", rows)
    return rows


def read(raw_dir, tmp_path, builder=SMALL, **options):
    folder = prepare(builder, tmp_path / "data", raw_dir, workers=1, **options)
    return folder, Manifest.read(folder)


def keys(builder, raw_dir):
    return {split: {unit.key for unit in units} for split, units in builder.splits(raw_dir).items()}


def test_the_chosen_classes_are_prepared_and_no_lesion_is_in_two_splits(ham, tmp_path):
    folder, manifest = read(ham.directory, tmp_path)
    train, test = manifest.splits["train"], manifest.splits["test"]
    assert manifest.labels == manifest.condition_names == ("bkl", "mel", "nv")
    assert train["num_examples"] + test["num_examples"] == 15
    assert set(train["subjects"]).isdisjoint(test["subjects"])
    assert len(train["subjects"]) + len(test["subjects"]) == 12
    assert all(test["label_counts"].values())
    arrays = as_arrays(folder, "test")
    assert arrays["image"].shape[1:] == (16, 16, 3)
    np.testing.assert_array_equal(arrays["condition"].argmax(1), arrays["label"])
    assert (arrays["image"][..., 0].min((1, 2)) < 0).all()  # the lesion
    assert (arrays["image"][:, 0, :, 0].min(1) > 0.2).all()  # the skin above it


def test_the_split_depends_on_the_seed_alone(ham):
    first, again = keys(HAM10000(size=16), ham.directory), keys(HAM10000(size=16), ham.directory)
    assert first == again != keys(HAM10000(size=16, seed=1), ham.directory)


@pytest.mark.parametrize(
    "name, delimiter",
    [
        ("HAM10000_metadata.csv", ","),
        ("HAM10000_metadata.tab", "\t"),
        ("ham10000_metadata.CSV", ";"),
    ],
)
def test_every_form_of_the_table_is_read(ham, name, delimiter):
    expected = keys(SMALL, ham.directory)
    ham.remove_table()
    ham.write(name, delimiter)
    assert keys(SMALL, ham.directory) == expected


def test_copies_of_folders_and_byte_order_marks_do_no_harm(ham):
    expected = keys(SMALL, ham.directory)
    shutil.copytree(ham.directory / "HAM10000_images_part_1", ham.directory / "x" / "ham10000_images_part_1")
    path = ham.directory / "HAM10000_metadata"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert keys(SMALL, ham.directory) == expected


def test_the_isic_archive_is_read_with_its_lesion_groups(ham):
    expected = keys(SMALL, ham.directory)
    ham.remove_table()
    path = ham.directory / "ISIC2018_Task3_Training_GroundTruth.csv"
    one_hot(path, [(row[1], row[2]) for row in ham.rows])
    with pytest.raises(ValueError, match="which lesion they show"):
        SMALL.splits(ham.directory)
    groups = ham.directory / "ISIC2018_Task3_Training_LesionGroupings.csv"
    groups.write_text("image,lesion_id\n" + "".join(f"{row[1]},{row[0]}\n" for row in ham.rows))
    assert keys(SMALL, ham.directory) == expected
    groups.unlink()
    official_test_set(ham)
    assert len(SMALL.splits(ham.directory)["train"]) == 15


def test_a_table_without_lesions_is_refused_unless_each_photograph_may_be_a_lesion(ham):
    table = ham.directory / "HAM10000_metadata"
    table.write_text("image_id,dx\n" + "".join(f"{row[1]},{row[2]}\n" for row in ham.rows))
    with pytest.raises(ValueError, match=r"does not say of 15 photographs \(ISIC_.*lesions=image"):
        SMALL.splits(ham.directory)
    builder = HAM10000(size=16, lesions="image")
    units = [unit for units in builder.splits(ham.directory).values() for unit in units]
    assert len({unit.subject for unit in units}) == 15
    assert "one lesion may be in train and test" in builder.info(ham.directory).description
    assert "may be" not in SMALL.info(ham.directory).description


def test_one_photograph_under_two_names_is_one_lesion_or_a_problem(ham):
    first, same, other = (
        next(row for row in ham.rows if row[2] == name and row[0] != lesion)
        for name, lesion in (("nv", ""), ("nv", next(row[0] for row in ham.rows if row[2] == "nv")), ("mel", ""))
    )
    paths = {path.stem: path for path in ham.directory.rglob("ISIC_*.jpg")}
    shutil.copy(paths[first[1]], paths[same[1]])
    splits = SMALL.splits(ham.directory)
    holding = {split for split, units in splits.items() for unit in units if unit.key in (first[1], same[1])}
    subjects = {unit.subject for units in splits.values() for unit in units if unit.key in (first[1], same[1])}
    assert len(holding) == len(subjects) == 1
    shutil.copy(paths[first[1]], paths[other[1]])
    problems = {unit.problem for units in SMALL.splits(ham.directory).values() for unit in units if unit.problem}
    assert any("are one photograph with two diagnoses" in problem for problem in problems)


def test_one_photograph_in_train_and_in_the_official_test_set_is_a_problem(ham):
    (first, _), (other, _), _ = official_test_set(ham)
    folder = ham.directory / "ISIC2018_Task3_Test_Images"
    paths = {path.stem: path for path in ham.directory.rglob("ISIC_*.jpg")}
    row = next(row for row in ham.rows if row[2] == "nv")
    shutil.copy(paths[row[1]], folder / f"{first}.jpg")
    splits = SMALL.splits(ham.directory)
    problems = {unit.key: unit.problem for units in splits.values() for unit in units if unit.problem}
    assert problems.keys() == {row[1], first}
    for problem in problems.values():
        assert (
            problem == f"{paths[row[1]]} of HAM10000 and {paths[first]} of the test set are one photograph. Remove one."
        )
    # Within the test set the two of one photograph are one lesion.
    shutil.copy(folder / f"{first}.jpg", folder / f"{other}.jpg")
    one_hot(ham.directory / "ISIC2018_Task3_Test_GroundTruth.csv", [(first, "nv"), (other, "nv")])
    paths[row[1]].unlink()
    assert {unit.subject for unit in SMALL.splits(ham.directory)["test"] if not unit.problem} == {first}


def test_a_picture_whose_header_is_cut_is_named(tmp_path):
    """Of which PIL says a ValueError of its own."""
    path = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:8] + (5).to_bytes(4, "big") + content[12:])  # the length of the header
    with pytest.raises(ValueError, match=f"{path} cannot be decoded .*IHDR.*Get it again"):
        _decoded(path)


def test_two_photographs_of_one_name_that_differ_are_a_problem(ham):
    paths = sorted(ham.directory.rglob("ISIC_*.jpg"))
    copy = ham.directory / "x" / paths[0].name
    copy.parent.mkdir()
    shutil.copy(paths[1], copy)
    problems = [unit.problem for unit in SMALL.splits(ham.directory)["train"] if unit.problem]
    assert problems == [f"{paths[0]} and {copy} have one name and differ. Remove one."]


def test_the_official_test_set_is_used_where_there_is_one(ham, tmp_path):
    rows = official_test_set(ham, ("nv", "mel", "bkl", "df"))
    _, manifest = read(ham.directory, tmp_path)
    assert manifest.splits["train"]["num_examples"] == 15
    assert manifest.splits["test"]["subjects"] == [image for image, diagnosis in rows if diagnosis != "df"]
    seeded = keys(HAM10000(size=16, split="seeded"), ham.directory)
    assert not seeded["test"] & {image for image, _ in rows}


def test_a_mask_centres_the_patch_and_widens_it_to_fit(ham, tmp_path):
    names = {row[1]: index for index, row in enumerate(ham.rows)}
    for image, index in names.items():
        mask = np.zeros((45, 60), np.uint8)
        left = 10 + index % 20
        mask[12:24, left : left + 14] = 255
        folder = ham.directory / "HAM10000_segmentations_lesion_tschandl/HAM10000_segmentations_lesion_tschandl"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(folder / f"{image}_segmentation.png")
    for fraction, side in ((0.4, 18), (0.1, 16), (0.75, 34)):
        builder = HAM10000(size=8, crop_fraction=fraction)
        for unit in builder.splits(ham.directory)["train"]:
            left, top, got, has_mask = next(builder.examples(unit))["crop"]
            assert has_mask
            assert got == (side if fraction != 0.1 else 14)  # the lesion is 14 wide: 13 + a tenth
            if fraction == 0.4:
                assert abs(left + side / 2 - (17 + names[unit.key] % 20)) <= 1
                assert abs(top + side / 2 - 18) <= 1


def test_without_masks_the_patch_is_the_centre(ham):
    builder = HAM10000(size=8, crop_fraction=0.6)
    example = next(builder.examples(builder.splits(ham.directory)["train"][0]))
    np.testing.assert_array_equal(example["crop"], [16, 9, 27, 0])


def test_rows_and_photographs_that_lack_each_other_are_named_or_skipped(ham, tmp_path):
    first, second = ham.rows[0][1], ham.rows[1][1]
    (ham.directory / f"HAM10000_images_part_1/{first}.jpg").unlink()
    ham.photo("HAM10000_images_part_2/ISIC_0099999.jpg")
    with pytest.raises(ValueError, match=f"(?s)2 problems.*{first}.*no photograph.*ISIC_0099999.jpg has no row"):
        read(ham.directory, tmp_path)
    _, manifest = read(ham.directory, tmp_path, on_error="skip")
    assert sorted(entry["key"] for entry in manifest.skipped) == [first, "ISIC_0099999"]
    assert sum(split["num_examples"] for split in manifest.splits.values()) == 14
    assert second not in {entry["key"] for entry in manifest.skipped}
    assert "problem" in dry_run(SMALL, ham.directory)


def test_a_truncated_photograph_is_named_or_skipped(ham, tmp_path):
    path = ham.directory / f"HAM10000_images_part_1/{ham.rows[0][1]}.jpg"
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ValueError, match=f"(?s){path.name}.*Get it again"):
        read(ham.directory, tmp_path)
    _, manifest = read(ham.directory, tmp_path, on_error="skip")
    assert [entry["key"] for entry in manifest.skipped] == [ham.rows[0][1]]


def test_a_grey_photograph_is_named(ham, tmp_path):
    path = f"HAM10000_images_part_1/{ham.rows[0][1]}.jpg"
    ham.photo(path, mode="L")
    with pytest.raises(ValueError, match=f"{path} is of mode L, expected an RGB"):
        read(ham.directory, tmp_path)


def test_missing_parts_of_the_raw_folder_are_named(ham, tmp_path):
    with pytest.raises(FileNotFoundError, match="(?s)raw_dir.*does not exist.*Dataverse|dataverse|doi.org"):
        read(tmp_path / "nowhere", tmp_path)
    with pytest.raises(FileNotFoundError, match="test set .* needs ISIC2018_Task3_Test_Images"):
        HAM10000(split="official").splits(ham.directory)
    ham.remove_table()
    with pytest.raises(FileNotFoundError, match="(?s)No HAM10000_metadata.*skin_phantom"):
        read(ham.directory, tmp_path)
    (tmp_path / "empty").mkdir()
    ham.write()
    shutil.copy(ham.directory / "HAM10000_metadata", tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="No photographs"):
        read(tmp_path / "empty", tmp_path)


def test_bad_tables_are_errors(ham):
    path = ham.directory / "HAM10000_metadata"
    text = path.read_text()
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="has the columns a, b. Expected image_id and dx"):
        SMALL.splits(ham.directory)
    path.write_text(text.replace(",nv,", ",nevus,", 1))
    problems = [unit.problem for units in SMALL.splits(ham.directory).values() for unit in units]
    assert any("unknown diagnosis 'nevus'" in problem for problem in problems)
    path.unlink()
    table = ham.directory / "ISIC2018_Task3_Training_GroundTruth.csv"
    one_hot(table, [(ham.rows[0][1], "none")])
    with pytest.raises(ValueError, match="has 0 diagnoses"):
        SMALL.splits(ham.directory)


def test_a_class_of_one_lesion_cannot_be_split(ham):
    ham.rows = [row for row in ham.rows if row[0] not in ("HAM_nv0", "HAM_nv1", "HAM_nv2")]
    ham.write()
    with pytest.raises(ValueError, match="(?s)class 'nv' has 1 lesions.*--classes=bkl,mel"):
        SMALL.splits(ham.directory)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"classes": ("nv", "xx")}, "no class 'xx'. Its classes are: akiec, bcc"),
        ({"classes": ("nv", "nv")}, "each class once"),
        ({"split": "random"}, "auto, official or seeded"),
        ({"lesions": "none"}, "table or image"),
        ({"test_fraction": 1.0}, "test_fraction"),
        ({"crop_fraction": 0.0}, "crop_fraction"),
        ({"size": 4}, "8 to 450"),
    ],
)
def test_options_out_of_range_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        HAM10000(**options)


def test_real_photographs_are_prepared(shared_data, tmp_path):
    builder = HAM10000(size=32, classes=("mel", "nv"))
    folder, manifest = read(shared_data / "ham10000", tmp_path, builder)
    assert {name: split["num_examples"] for name, split in manifest.splits.items()} == {
        "train": 84,
        "test": 16,
    }
    images = as_arrays(folder, "train")["image"]
    assert images.std(axis=(1, 2)).min() > 0.005
    assert images[..., 0].mean() > images[..., 2].mean()  # skin is red rather than blue


def test_by_default_the_papers_classes_are_taken_that_the_table_has(ham):
    assert HAM10000(size=16).info(ham.directory).labels == ("bkl", "mel", "nv")
    ham.rows[:] = [row for row in ham.rows if row[2] != "bkl"]
    ham.write()
    assert HAM10000(size=16).info(ham.directory).labels == ("mel", "nv")
