import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from tfdisent.data import Manifest, as_arrays
from tfdisent.datasets.lidc_patches import LIDCPatches
from tfdisent.datasets.lidc_readings import RATINGS
from tfdisent.datasets.preparation import prepare

TYPICAL = dict(zip(RATINGS, (5, 1, 6, 4, 4, 1, 1, 5, 5), strict=True))

COLUMNS = ["patient_id", "nodule_index", "k_global", "img_path", "mask_path", "area_mm2"]


def patches(directory, patients=4):
    """Patches as the public tool writes them: nodules of 20, 22, ... pixels of half a millimetre."""
    rows = []
    for patient in range(patients):
        name = f"LIDC-IDRI-{patient:04d}"
        for plane in (7, 8):
            side = 20 + 2 * patient
            mask = np.zeros((100, 110), np.uint8)
            mask[30 : 30 + side, 50 : 50 + side] = 255
            image = np.where(mask, 200, 60).astype(np.uint8)
            stem = f"{name}_n0_k{plane}"
            (directory / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(directory / name / f"{stem}_img.png")
            Image.fromarray(mask).save(directory / name / f"{stem}_mask.png")
            paths = [f".\\all\\{name}\\{stem}_{kind}.png" for kind in ("img", "mask")]
            ratings = list({**TYPICAL, "malignancy": 1 if patient % 2 else 5}.values())
            rows.append([name, 0, plane, *paths, side**2 * 0.25, *ratings])
    with (directory / "all_patches_metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*COLUMNS, *(f"ann_{name}" for name in RATINGS)], *rows])
    return rows


def test_cut_patches_are_read_with_their_table(tmp_path):
    rows = patches(tmp_path / "raw")
    builder = LIDCPatches(size=48, patch=24.0)
    splits = builder.splits(tmp_path / "raw")
    assert {split: len(units) for split, units in splits.items()} == {"train": 6, "test": 2}
    assert {u.subject for u in splits["train"]}.isdisjoint(u.subject for u in splits["test"])
    for unit in (unit for units in splits.values() for unit in units):
        (example,) = builder.examples(unit)
        patient = int(unit.subject[-4:])
        side = 20 + 2 * patient
        assert example["image"].dtype == np.uint8
        assert int(example["mask"].sum()) == side**2  # 24 mm are 48 pixels of half a millimetre
        assert example["image"][24, 24, 0] == 200 and example["image"][0, 0, 0] == 60
        np.testing.assert_allclose(example["spacing"], [0.5, 0.5, 0])
        assert example["label"] == ("benign" if patient % 2 else "malignant")
    centre = LIDCPatches(slices="centre").splits(tmp_path / "raw")
    assert sum(map(len, centre.values())) == 4 and len(rows) == 8


def test_bad_tables_and_pictures_of_patches_are_errors(tmp_path):
    raw_dir, builder = tmp_path / "raw", LIDCPatches()
    patches(raw_dir)
    table = raw_dir / "all_patches_metadata.csv"
    text = table.read_text()
    (raw_dir / "LIDC-IDRI-0000/LIDC-IDRI-0000_n0_k7_mask.png").unlink()
    problems = [u.problem for us in builder.splits(raw_dir).values() for u in us if u.problem]
    assert len(problems) == 1 and "k7_mask.png, which is not there" in problems[0]
    picture = raw_dir / "LIDC-IDRI-0001/LIDC-IDRI-0001_n0_k7_img.png"
    picture.write_bytes(picture.read_bytes()[:50])
    units = [u for us in builder.splits(raw_dir).values() for u in us]
    with pytest.raises(ValueError, match="k7_img.png cannot be decoded"):
        list(builder.examples(next(u for u in units if u.key == "LIDC-IDRI-0001-0-n0-s7")))
    table.write_text(text.replace("area_mm2", "area"))
    with pytest.raises(ValueError, match="lacks the column area_mm2"):
        builder.splits(raw_dir)
    table.write_text(text.replace(",100.0,", ",none,", 1))
    with pytest.raises(ValueError, match="line 2: could not convert"):
        builder.splits(raw_dir)
    shutil.rmtree(raw_dir)
    raw_dir.mkdir()
    with pytest.raises(FileNotFoundError, match="No patches_metadata.csv"):
        builder.splits(raw_dir)


def test_real_patches_are_prepared(shared_data, tmp_path):
    folder = prepare(LIDCPatches(), tmp_path, shared_data / "lidc_patches", workers=1)
    manifest = Manifest.read(folder)
    assert sum(split["num_examples"] for split in manifest.splits.values()) == 29
    arrays = as_arrays(folder)
    inside = arrays["image"][arrays["mask"] == 1].mean()
    assert inside > arrays["image"][arrays["mask"] == 0].mean() + 0.3
    assert (arrays["condition"][:, 12:].sum(1) == 1).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": 1}, "lidc_patches: expected size of 8 to 512"),
        ({"slices": "one"}, "slices to be one of centre, all"),
        ({"thresholds": ("1",)}, "thresholds to be 6 numbers"),
    ],
)
def test_options_out_of_range_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        LIDCPatches(**options)


def test_scans_of_one_patient_are_told_apart(tmp_path):
    patches(tmp_path)
    table = tmp_path / "all_patches_metadata.csv"
    lines = table.read_text().splitlines()
    scans = ["scan_id", *(str(index % 2) for index in range(len(lines) - 1))]
    table.write_text("".join(f"{scan},{line}\n" for scan, line in zip(scans, lines, strict=True)))
    splits = LIDCPatches(slices="centre").splits(tmp_path)
    assert sum(map(len, splits.values())) == 8  # each slice is now of a scan of its own


def problems_of(raw_dir):
    return [unit.problem for units in LIDCPatches().splits(raw_dir).values() for unit in units if unit.problem]


def test_pictures_of_one_name_must_be_copies(tmp_path):
    patches(tmp_path)
    picture = tmp_path / "LIDC-IDRI-0001/LIDC-IDRI-0001_n0_k7_img.png"
    copy = tmp_path / "more" / picture.name
    copy.parent.mkdir()
    shutil.copy(picture, copy)
    assert not problems_of(tmp_path)
    shutil.copy(tmp_path / "LIDC-IDRI-0002/LIDC-IDRI-0002_n0_k7_img.png", copy)
    assert problems_of(tmp_path) == [f"{picture} and {copy} have one name and differ. Remove one."]


def test_a_picture_is_of_one_patient_and_is_described_once(tmp_path):
    patches(tmp_path)
    table = tmp_path / "all_patches_metadata.csv"
    text = table.read_text()
    row = text.splitlines()[1]
    table.write_text(text + row + "\n")  # the same once more
    assert not problems_of(tmp_path)
    table.write_text(text + row.replace("100.0", "90.0") + "\n")
    with pytest.raises(ValueError, match="say different things of LIDC-IDRI-0000_n0_k7_img.png"):
        LIDCPatches().splits(tmp_path)
    table.write_text(text + row.replace("LIDC-IDRI-0000,", "LIDC-IDRI-0009,", 1) + "\n")
    with pytest.raises(ValueError, match="is of the patient LIDC-IDRI-0000 in .* and of LIDC-IDRI-0009"):
        LIDCPatches().splits(tmp_path)


def test_the_same_command_again_is_answered_where_data_dir_lies_in_raw_dir(tmp_path):
    patches(tmp_path)
    folder = prepare(LIDCPatches(), tmp_path / "data", tmp_path, workers=1)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert prepare(LIDCPatches(), tmp_path / "data", tmp_path, workers=1) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    other = prepare(LIDCPatches(size=32), tmp_path / "data", tmp_path, workers=1)
    assert Manifest.read(other).source == Manifest.read(folder).source


def test_one_picture_under_two_patients_is_a_problem_that_names_both(tmp_path):
    patches(tmp_path)
    one, other = (tmp_path / name / f"{name}_n0_k7_img.png" for name in ("LIDC-IDRI-0000", "LIDC-IDRI-0003"))
    shutil.copy(one, other)
    units = [unit for units in LIDCPatches().splits(tmp_path).values() for unit in units]
    found = {unit.subject: unit.problem for unit in units if unit.problem}
    assert set(found) == {"LIDC-IDRI-0000", "LIDC-IDRI-0003"}  # slices of one patient may be alike
    for problem in found.values():
        assert str(one) in problem and str(other) in problem and "Remove one" in problem
