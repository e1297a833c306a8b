import shutil

import numpy as np
import pytest

from tfdisent.data import Manifest, as_arrays
from tfdisent.datasets.preparation import dry_run, prepare
from tfdisent.datasets.retouch import RETOUCH

TYPES = {"uint8": "MET_UCHAR", "uint16": "MET_USHORT", "float32": "MET_FLOAT"}
# Shapes (B-scans, depth, width) of small scanners.
SHAPES = {"Cirrus": (3, 40, 20), "Spectralis": (2, 20, 16), "Topcon": (3, 30, 20)}
SMALL = {"size": "20x16"}


def write_mhd(path, array, spacing=(0.01, 0.004, 0.05), **fields):
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "Offset": "0 0 0",
        "ElementSpacing": " ".join(map(str, spacing)),
        "DimSize": " ".join(map(str, array.shape[::-1])),
        "ElementType": TYPES[array.dtype.name],
        "ElementDataFile": f"{path.stem}.raw",
        **fields,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name} = {value}\n" for name, value in fields.items()))
    path.with_suffix(".raw").write_bytes(array.tobytes())


def volume(vendor, number):
    """A dark vitreous above a bright retina that holds a dark pocket of fluid, and its mask."""
    num, height, width = SHAPES[vendor]
    array = np.full(SHAPES[vendor], 20)
    array[:, height // 2 :] = 150 + number % 50
    mask = np.zeros(SHAPES[vendor], np.uint8)
    pocket = np.s_[:, height * 5 // 8 : height * 7 // 8, width // 4 : width // 2]
    array[pocket], mask[pocket] = 40, 1 + number % 3
    if vendor == "Spectralis":
        array = array * 257
        array[:, :, 0] = 0  # blank after motion correction
        return array.astype(np.uint16), mask
    return array.astype(np.uint8), mask


def write_case(folder, vendor, number, kind="TRAIN"):
    array, mask = volume(vendor, number)
    case = folder / f"{kind}{number:03d}"
    write_mhd(case / "oct.mhd", array)
    if kind == "TRAIN":
        write_mhd(case / "reference.mhd", mask)
    return case


@pytest.fixture
def raw(tmp_path):
    """Each vendor's folder in another wrapping, with 4 volumes, and 1 to test."""
    directory = tmp_path / "raw"
    for vendor, folder, first in (
        ("Cirrus", "RETOUCH-TrainingSet-Cirrus", 1),
        ("Spectralis", "TrainingSpectralis/RETOUCH-TrainingSet-Spectralis-Release", 25),
        ("Topcon", "TrainingTopcon/data", 49),
    ):
        for number in range(first, first + 4):
            write_case(directory / folder, vendor, number)
    write_case(directory / "RETOUCH-TestSet-Topcon", "Topcon", 29, "TEST")
    return directory


def example_of(raw, key, index=0, **options):
    builder = RETOUCH(**{**SMALL, **options})
    units = [unit for units in builder.splits(raw).values() for unit in units if unit.key == key]
    return list(builder.examples(units[0]))[index]


def test_volumes_of_all_vendors_become_b_scans_of_one_size_and_scale(raw, tmp_path):
    folder = prepare(RETOUCH(**SMALL), tmp_path / "data", raw, workers=1)
    manifest = Manifest.read(folder)
    assert manifest.domains == ("Cirrus", "Spectralis", "Topcon")
    assert manifest.mask_labels == ("background", "IRF", "SRF", "PED")
    assert {name: len(split["subjects"]) for name, split in manifest.splits.items()} == {
        "train": 9,
        "test": 3,
        "unlabelled": 1,
    }
    assert manifest.splits["unlabelled"]["subjects"] == ["TEST029"]
    train, test = (set(manifest.splits[split]["subjects"]) for split in ("train", "test"))
    assert train.isdisjoint(test)
    arrays = as_arrays(folder, "test")
    assert sorted(np.unique(arrays["domain"], return_counts=True)[1]) == [2, 3, 3]
    assert arrays["image"].shape == (8, 20, 16, 1)
    np.testing.assert_array_equal(arrays["image"].max((1, 2, 3)), 1)  # by its own volume
    assert set(np.unique(as_arrays(folder, "unlabelled")["mask"])) == {0}


@pytest.mark.parametrize("key, vendor", [("TRAIN001", "Cirrus"), ("TRAIN026", "Spectralis")])
def test_values_mask_and_spacing_are_those_of_the_file(raw, key, vendor):
    example = example_of(raw, key, 1)
    array, mask = volume(vendor, int(key[5:]))
    num, height, width = array.shape
    assert example["key"] == f"{key}/001" and example["num_slices"] == num
    assert example["image"].dtype == np.float32
    np.testing.assert_allclose(example["spacing"], [0.004 * height / 20, 0.01 * width / 16, 0.05], rtol=1e-5)
    np.testing.assert_array_equal(np.unique(example["mask"]), np.unique(mask))
    # Nearest neighbours make no new values, and mask and image stay on each other.
    grey = array / 257 if array.dtype == np.uint16 else array
    assert set(np.unique(example["image"])) <= set(np.unique(grey.astype(np.float32)))
    assert (example["image"][example["mask"] > 0] == 40).all()
    fluid, expected = example["mask"] > 0, (mask[1] > 0).mean()
    assert fluid.mean() == pytest.approx(expected, rel=0.15)
    assert (example["image"][:9] <= 20).all()  # the vitreous is above
    inside = grey[grey != (0 if (grey == 0).any() else 20)]  # the vitreous is of one value here
    np.testing.assert_allclose(example["intensity"][0, :3], [inside.min(), inside.max(), inside.mean()], rtol=0.05)


def test_other_ways_to_resample_and_store_are_options(raw):
    cut = example_of(raw, "TRAIN001", resample="none")
    array, _ = volume("Cirrus", 1)
    np.testing.assert_array_equal(cut["image"][..., 0], array[0, 10:30, 2:18])
    linear = example_of(raw, "TRAIN001", resample="linear")
    assert len(np.unique(linear["image"])) > 3 and set(np.unique(linear["mask"])) == {0, 2}
    stored = example_of(raw, "TRAIN025", dtype="uint8")
    assert stored["image"].dtype == np.uint8 and stored["image"].max() == 175
    assert {u.group for us in RETOUCH(vendors=("Topcon",)).splits(raw).values() for u in us} == {"Topcon"}


def test_the_vendor_follows_from_the_number_where_no_folder_names_it(raw, tmp_path):
    flat = tmp_path / "flat"
    for case in raw.rglob("T*0*"):
        if (case / "oct.mhd").is_file():
            shutil.copytree(case, flat / case.name)
    expected = {unit.key: unit.group for unit in RETOUCH().index(raw)}
    assert {unit.key: unit.group for unit in RETOUCH().index(flat)} == expected
    shutil.copytree(flat, raw / "copy")  # counts once
    assert len(RETOUCH().index(raw)) == len(expected) == 13
    assert not any(unit.problem for unit in RETOUCH().index(raw))


def test_two_volumes_of_one_name_that_differ_are_a_problem_that_names_both(raw, tmp_path):
    copies = {key: shutil.copytree(next(raw.rglob(key)), raw / "copy" / key) for key in ("TRAIN001", "TRAIN002")}
    content = bytearray((copies["TRAIN001"] / "oct.raw").read_bytes())
    content[100] ^= 1
    (copies["TRAIN001"] / "oct.raw").write_bytes(content)
    (copies["TRAIN002"] / "reference.raw").write_bytes(bytes(2400))
    problems = {unit.key: unit.problem for unit in RETOUCH(**SMALL).units(raw) if unit.problem}
    assert problems.keys() == copies.keys()
    for key, name in (("TRAIN001", "oct"), ("TRAIN002", "reference")):
        first = next((raw / "RETOUCH-TrainingSet-Cirrus").rglob(key)) / f"{name}.mhd"
        assert f"{first} and {copies[key] / name}.mhd have one name and differ" in problems[key]


def case_folder(raw, key="TRAIN001"):
    return next(raw.rglob(key))


@pytest.mark.parametrize(
    "file, damage, message",
    [
        ("oct.raw", lambda p: p.write_bytes(p.read_bytes()[:-7]), "oct.raw holds 2393 bytes"),
        ("oct.raw", lambda p: p.unlink(), "oct.raw, named by .*oct.mhd, does not exist"),
        ("oct.mhd", lambda p: p.write_text("ObjectType = Image\n"), "not a MetaImage header"),
        (
            "oct.mhd",
            lambda p: write_mhd(p, np.zeros((3, 4, 5), np.float32)),
            "oct.mhd holds float32, expected MET_UCHAR or MET_USHORT",
        ),
        (
            "oct.mhd",
            lambda p: write_mhd(p, np.zeros((3, 4, 5), np.uint8), ElementDataFile="../oct.raw"),
            "expected one file beside it",
        ),
        ("oct.mhd", lambda p: write_mhd(p, np.zeros((3, 4, 5), np.uint8)), "its volume .* of"),
        ("oct.mhd", lambda p: write_mhd(p, np.zeros((3, 40, 20), np.uint8)), "is empty"),
        (
            "reference.mhd",
            lambda p: write_mhd(p, np.full((3, 40, 20), 4, np.uint8)),
            "reference.mhd holds the unknown codes 4",
        ),
    ],
)
def test_bad_files_are_named_or_skipped(raw, tmp_path, file, damage, message):
    damage(case_folder(raw) / file)
    with pytest.raises((ValueError, OSError), match=f"(?s)TRAIN001.*{message}"):
        prepare(RETOUCH(**SMALL), tmp_path / "data", raw, workers=1)
    folder = prepare(RETOUCH(**SMALL), tmp_path / "data", raw, workers=1, on_error="skip")
    assert [entry["key"] for entry in Manifest.read(folder).skipped] == ["TRAIN001"]


def test_a_training_volume_without_reference_is_a_problem(raw):
    (case_folder(raw) / "reference.mhd").unlink()
    assert "TRAIN001/oct.mhd has no reference.mhd" in dry_run(RETOUCH(), raw)


def test_mutated_headers_give_our_errors_only(raw):
    path = case_folder(raw) / "oct.mhd"
    original, random, failed = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        content = bytearray(original)
        for _ in range(random.integers(1, 6)):
            content[random.integers(len(content))] = random.integers(256)
        path.write_bytes(content)
        try:
            example_of(raw, "TRAIN001")
        except (ValueError, OSError):
            failed += 1
    assert failed > 20


@pytest.mark.parametrize(
    "options, message",
    [
        ({"resample": "cubic"}, "nearest, linear, none"),
        ({"size": ""}, "expected a size"),
        ({"vendors": ("Zeiss",)}, "vendors to be some of Cirrus, Spectralis, Topcon"),
        ({"vendors": ()}, "vendors to be some of"),
    ],
)
def test_options_out_of_range_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        RETOUCH(**options)


def test_missing_raw_data_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="(?s)nothing that fits.*grand-challenge"):
        RETOUCH().splits(tmp_path)


@pytest.mark.parametrize("size", [1e-9, 1e-3])
def test_voxels_beyond_max_gigabytes_are_refused_and_others_read(raw, size):
    if size < 1e-6:
        with pytest.raises(ValueError, match="oct.mhd.*raise max_gigabytes"):
            example_of(raw, "TRAIN001", max_gigabytes=size)
    else:
        assert example_of(raw, "TRAIN001", max_gigabytes=size)["image"].any()
