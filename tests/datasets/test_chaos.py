import shutil

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from tfdisent.data import Manifest, as_arrays
from tfdisent.datasets.chaos import CHAOS, FOLDS, ORGANS
from tfdisent.datasets.preparation import dry_run, prepare

GREYS = (0, 63, 126, 189, 252)
OLD_GREYS = (0, 80, 160, 240, 255)
SMALL = {"size": 40, "candidates": 2}
ECHO = {"InPhase": 4.6, "OutPhase": 2.3}
# Millimetres from below: T1 has 6 slices of 6 mm, T2 5 of 7 mm that begin 2 mm above.
T1_HEIGHTS = [-90 + 6.0 * index for index in range(6)]
T2_HEIGHTS = [-88 + 7.0 * index for index in range(5)]
# Row, column and radius in millimetres of each organ; the patient's right is on the left.
PLACES = {1: (30, 20, 12), 2: (50, 25, 6), 3: (50, 55, 6), 4: (30, 62, 7)}


def organs(shape, pixel):
    rows, columns = (np.indices(shape) + 0.5) * pixel
    mask = np.zeros(shape, np.uint8)
    for organ, (row, column, radius) in PLACES.items():
        mask[np.hypot(rows - row, columns - column) < radius] = organ
    return mask


def write_dicom(path, pixels, z, number, pixel, echo=None, **changes):
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID = generate_uid()  # another one in each file, as anonymised
    data.Modality, data.PatientName = "MR", "Somebody^Known"
    data.InstanceNumber = number
    data.ImagePositionPatient = [-40, -40, z]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness = [pixel, pixel], 5
    if echo:
        data.EchoTime = echo
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = pixels.astype("<u2").tobytes()
    for name, value in changes.items():
        if value is None:
            del data[name]
        else:
            setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def write_mask(path, mask, greys=GREYS):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(greys, np.uint8)[mask]).save(path)


def write_patient(folder, greys=GREYS, ground=True, echo=True, out_pixel=1.6, reverse=False):
    """One patient. T1 has pixels of 1.6 mm, T2 of 1.4 mm. Values tell organ, contrast and slice."""
    shape, pixel = (50, 50), 1.6
    for index, z in enumerate(T1_HEIGHTS):
        number = 2 * (len(T1_HEIGHTS) - index if reverse else index + 1)
        for phase, name, base in (("InPhase", number, 1000), ("OutPhase", number - 1, 2000)):
            size = out_pixel if phase == "OutPhase" else pixel
            mask = organs((round(80 / size),) * 2, size)
            write_dicom(
                folder / f"T1DUAL/DICOM_anon/{phase}/IMG-0004-{name:05d}.dcm",
                base + 100 * mask.astype(int) + index,
                z,
                name,
                size,
                ECHO[phase] if echo else None,
            )
        if ground:
            write_mask(folder / f"T1DUAL/Ground/IMG-0004-{number:05d}.png", organs(shape, pixel), greys)
    for index, z in enumerate(T2_HEIGHTS):
        mask = organs((57, 57), 1.4)
        pixels = 500 + 50 * mask.astype(int) + index
        write_dicom(folder / f"T2SPIR/DICOM_anon/IMG-0002-{index + 1:05d}.dcm", pixels, z, 1, 1.4)
        if ground:
            write_mask(folder / f"T2SPIR/Ground/IMG-0002-{index + 1:05d}.png", mask, greys)


@pytest.fixture
def raw(tmp_path):
    """Four training patients and one to test, in the tree of Zenodo's archives."""
    directory = tmp_path / "raw"
    for number in (1, 2, 3, 5):
        write_patient(directory / "CHAOS_Train_Sets/Train_Sets/MR" / str(number))
    ct = directory / "CHAOS_Train_Sets/Train_Sets/CT/1/DICOM_anon"
    ct.mkdir(parents=True)
    (ct / "i0000,0000b.dcm").write_bytes(b"never looked at")
    write_patient(directory / "CHAOS_Test_Sets/Test_Sets/MR/4", ground=False)
    return directory


def patient(raw, number=1):
    return raw / "CHAOS_Train_Sets/Train_Sets/MR" / str(number)


def examples_of(raw, subject="1", **options):
    builder = CHAOS(**{**SMALL, **options})
    units = [u for us in builder.splits(raw).values() for u in us if u.subject == subject]
    return list(builder.examples(units[0]))


def test_each_t1_slice_comes_with_the_nearest_t2_slices_and_their_masks(raw):
    examples = examples_of(raw)
    assert len(examples) == 6
    for index, example in enumerate(examples):
        assert example["key"] == f"MR-1/{index:03d}" and example["slice_index"] == index
        distances = np.abs(np.array(T2_HEIGHTS) - T1_HEIGHTS[index])
        np.testing.assert_array_equal(example["partner_index"], np.argsort(distances)[:2])
        np.testing.assert_allclose(example["partner_distance"], np.sort(distances)[:2], atol=1e-4)
        image, mask = example["image"], example["mask"]
        assert image.shape == (40, 40, 3) and image.dtype == np.int16
        # The last digits are the slice that it was drawn for.
        assert (image[0, 0] % 50).tolist() == [index, *example["partner_index"]]
        for channel, (base, step) in enumerate(((1000, 100), (500, 50), (500, 50))):
            for organ in range(1, 5):
                inner = image[..., channel][mask[..., channel] == organ]
                assert np.median(inner) == base + step * organ + image[0, 0, channel] % 50
        np.testing.assert_allclose(example["spacing"], [1.89, 1.89, 6.0], rtol=1e-6)
        np.testing.assert_allclose(example["intensity"][:, 0], [1000, 500, 500])


def test_organs_lie_where_they_were_drawn(raw):
    mask = examples_of(raw)[2]["mask"]
    for organ, (row, column, radius) in PLACES.items():
        for channel in range(mask.shape[-1]):
            rows, columns = np.nonzero(mask[..., channel] == organ)
            # 80 mm around the middle of 40 pixels of 1.89 mm.
            assert (rows.mean() + 0.5 - 20) * 1.89 + 40 == pytest.approx(row, abs=1)
            assert (columns.mean() + 0.5 - 20) * 1.89 + 40 == pytest.approx(column, abs=1)
            assert len(rows) * 1.89**2 == pytest.approx(np.pi * radius**2, rel=0.15)


def test_the_phase_is_told_by_echo_time_or_else_by_numbers(raw):
    def base(**options):
        image = examples_of(raw, **options)[0]["image"]
        return [int(value) // 1000 for value in image[0, 0, :-2]]

    assert (base(), base(phase="out"), base(phase="both")) == ([1], [2], [1, 2])
    folder = patient(raw) / "T1DUAL/DICOM_anon"
    # The folders' names are swapped: echo time knows better, and masks keep their names.
    (folder / "InPhase").rename(folder / "x")
    (folder / "OutPhase").rename(folder / "InPhase")
    (folder / "x").rename(folder / "OutPhase")
    assert (base(), base(phase="out")) == ([1], [2])
    for path in folder.rglob("*.dcm"):
        data = pydicom.dcmread(path)
        del data.EchoTime
        data.save_as(path)
    assert (base(), base(phase="out"), base(phase="both")) == ([1], [2], [1, 2])


def test_masks_are_paired_by_name_when_numbers_run_against_position(raw):
    write_patient(patient(raw), reverse=True)
    for phase in ("in", "out"):
        examples = examples_of(raw, phase=phase)
        assert [int(example["image"][0, 0, 0]) % 50 for example in examples] == list(range(6))
        mask = patient(raw) / "T1DUAL/Ground/IMG-0004-00012.png"  # of the lowest slice
        write_mask(mask, np.zeros((50, 50), np.uint8))
        counts = [example["mask"][..., 0].any() for example in examples_of(raw, phase=phase)]
        assert counts == [False] + [True] * 5


def test_both_codings_of_the_masks_mean_the_same_organs(raw):
    expected = examples_of(raw)[3]["mask"]
    assert set(np.unique(expected)) == set(range(len(ORGANS)))
    for greys in (OLD_GREYS, (0, 56, 135, 200, 241)):
        write_patient(patient(raw), greys)
        np.testing.assert_array_equal(examples_of(raw)[3]["mask"], expected)
    write_patient(patient(raw), (0, 63, 126, 189, 100))
    with pytest.raises(ValueError, match=r"00002.png holds the unknown grey 100 \(\d+ pixels\)"):
        examples_of(raw)


def test_phases_with_different_matrices_come_on_one_grid(raw):
    write_patient(patient(raw), out_pixel=1.25)  # 64 x 64, as patient 35 of the test set
    image = examples_of(raw, phase="both")[0]["image"]
    difference = np.abs(image[..., 1].astype(int) - image[..., 0] - 1000)
    assert np.median(difference) == 0 and np.mean(difference > 60) < 0.1


def test_a_part_of_the_data_is_split_by_patient_and_test_sets_are_unlabelled(raw, tmp_path):
    folder = prepare(CHAOS(**SMALL), tmp_path / "data", raw, workers=1)
    splits = Manifest.read(folder).splits
    assert splits["unlabelled"]["subjects"] == ["4"]
    found = [splits[name]["subjects"] for name in ("train", "val", "test")]
    assert [len(names) for names in found] == [2, 1, 1]
    assert sorted(sum(found, [])) == ["1", "2", "3", "5"]
    assert as_arrays(folder, "test")["labelled"].tolist() == [1] * 6
    unlabelled = as_arrays(folder, "unlabelled")
    assert not unlabelled["labelled"].any() and not unlabelled["mask"].any()
    with pytest.raises(ValueError, match="fold 1 needs patient 13, who is not under"):
        CHAOS(split="paper", fold=1).splits(raw)
    for path in folder.iterdir():
        assert b"Somebody" not in path.read_bytes()


def test_the_papers_folds_are_taken_where_its_patients_are_there(tmp_path):
    ids = (1, 2, 3, 5, 8, 10, 13, 15, 19, 20, 21, 22, 31, 32, 33, 34, 36, 37, 38, 39)
    for number in ids:
        for name in ("T1DUAL/DICOM_anon/InPhase/1.dcm", "T2SPIR/DICOM_anon/1.dcm"):
            for path in (name, name.split("/")[0] + "/Ground/1.png"):
                file = tmp_path / "MR" / str(number) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
    for fold, expected in enumerate(FOLDS):
        splits = CHAOS(fold=fold).splits(tmp_path)
        subjects = {name: {unit.subject for unit in units} for name, units in splits.items()}
        assert subjects["val"] == set(expected["val"]) and subjects["test"] == set(expected["test"])
        assert len(subjects["train"]) == 14
        assert sum(map(len, subjects.values())) == len(set.union(*subjects.values())) == 20


def test_the_dry_run_says_what_was_found_of_each_modality(raw):
    for path in (patient(raw, 2) / "T2SPIR/DICOM_anon").iterdir():
        path.unlink()
    for path in (patient(raw, 3) / "T1DUAL/Ground").iterdir():
        path.unlink()
    write_patient(patient(raw, 8))
    table = dry_run(CHAOS(**SMALL), raw)
    assert "problem: patient 2 has no T2SPIR; get it again" in table
    assert "problem: patient 3 has no masks of T1; get it again" in table
    assert "T1_in              6         0\n" in table
    assert table.endswith("T2                 5         1  MR-2")


def rewrite(path, **changes):
    data = pydicom.dcmread(path)
    for name, value in changes.items():
        if value is None:
            del data[name]
        else:
            setattr(data, name, value)
    data.save_as(path)


@pytest.mark.parametrize(
    "file, damage, message",
    [
        ("T1DUAL/Ground/IMG-0004-00004.png", lambda p: p.unlink(), "00004.dcm has no mask"),
        (
            "T2SPIR/Ground/IMG-0002-00003.png",
            lambda p: p.unlink(),
            "00003.dcm has no mask IMG-0002-00003.png",  # and not that of the next
        ),
        (
            "T2SPIR/Ground/IMG-0002-00009.png",
            lambda p: write_mask(p, np.zeros((57, 57), np.uint8)),
            "00009.png has no image",
        ),
        (
            "T2SPIR/Ground/IMG-0002-00003.png",
            lambda p: write_mask(p, np.zeros((50, 50), np.uint8)),
            r"00003.png is of shape \(50, 50\)",
        ),
        (
            "T2SPIR/Ground/IMG-0002-00003.png",
            lambda p: p.write_bytes(p.read_bytes()[:40]),
            "00003.png cannot be decoded",
        ),
        (
            "T2SPIR/Ground/IMG-0002-00003.png",
            lambda p: Image.new("RGB", (57, 57)).save(p),
            "its mode is RGB",
        ),
        (
            "T2SPIR/DICOM_anon/IMG-0002-00003.dcm",
            lambda p: rewrite(p, PixelData=None),
            "00003.dcm has no pixel data",
        ),
        (
            "T2SPIR/DICOM_anon/IMG-0002-00003.dcm",
            lambda p: p.write_bytes(b"no"),
            "00003.dcm is not a DICOM file",
        ),
        (
            "T1DUAL/DICOM_anon/InPhase/IMG-0004-00004.dcm",
            lambda p: rewrite(p, PixelSpacing=[3, 3]),
            "00004.dcm",
        ),
    ],
)
def test_bad_files_are_named_or_skipped(raw, tmp_path, file, damage, message):
    subject = CHAOS(**SMALL).splits(raw)["train"][0].subject
    damage(patient(raw, subject) / file)
    with pytest.raises(ValueError, match=f"(?s)MR-{subject}: .*{message}"):
        prepare(CHAOS(**SMALL), tmp_path / "data", raw, workers=1)
    folder = prepare(CHAOS(**SMALL), tmp_path / "data", raw, workers=1, on_error="skip")
    assert [entry["key"] for entry in Manifest.read(folder).skipped] == [f"MR-{subject}"]


def test_a_series_larger_than_asked_for_is_refused(raw):
    # T1 has 6 slices of 50 x 50 pixels of two bytes, 30 kB, and T2 5 of 57 x 57, 32.5 kB.
    with pytest.raises(ValueError, match="InPhase holds more than 2.9e-05 GB of pixels .* Raise max_gigabytes"):
        examples_of(raw, max_gigabytes=2.9e-5)
    with pytest.raises(ValueError, match="T2SPIR/DICOM_anon holds more than 3.1e-05 GB"):
        examples_of(raw, max_gigabytes=3.1e-5)
    assert len(examples_of(raw, max_gigabytes=3.3e-5)) == 6


def test_a_repeated_position_counts_once(raw):
    folder = patient(raw) / "T2SPIR"
    data = pydicom.dcmread(folder / "DICOM_anon/IMG-0002-00003.dcm")
    data.save_as(folder / "DICOM_anon/IMG-0002-00009.dcm")
    write_mask(folder / "Ground/IMG-0002-00009.png", organs((57, 57), 1.4))
    assert max(example["partner_index"].max() for example in examples_of(raw)) == 4


def test_images_or_masks_of_one_patient_in_two_folders_are_a_problem_that_names_both(raw):
    write_patient(raw / "again/MR/2")
    write_mask(patient(raw, 3) / "T2SPIR/old/Ground/IMG-0002-00001.png", organs((57, 57), 1.4))
    problems = {unit.subject: unit.problem for unit in CHAOS(**SMALL).units(raw) if unit.problem}
    assert problems.keys() == {"2", "3"}
    with pytest.raises(ValueError, match="(?s)patient 2 has .*patient 3 has .*2 subjects cannot be split"):
        dry_run(CHAOS(**SMALL), raw)
    kind = "T1DUAL/DICOM_anon/InPhase"
    assert f"two folders, {patient(raw, 2) / kind} and {raw / 'again/MR/2' / kind}. Remove one" in problems["2"]
    assert f"masks of T2 in two folders, {patient(raw, 3) / 'T2SPIR/Ground'} and" in problems["3"]


def test_two_patients_with_the_same_images_are_a_problem_whatever_their_files_are_called(raw):
    theirs, copy = patient(raw, 2) / "T2SPIR/DICOM_anon", raw / "CHAOS_Test_Sets/Test_Sets/MR/4/T2SPIR/DICOM_anon"
    for path in copy.iterdir():
        path.unlink()
    for index, path in enumerate(sorted(theirs.iterdir())):
        shutil.copy(path, copy / f"IMG-0009-{9 - index:05d}.dcm")
    problems = {unit.key: unit.problem for unit in CHAOS(**SMALL).units(raw) if unit.problem}
    assert problems.keys() == {"MR-2", "MR-4"}
    assert set(problems.values()) == {
        f"{theirs} and {copy}: one image is T2SPIR of 2 and T2SPIR of 4. Give each its own, or remove one."
    }


def test_volumes_of_different_places_are_an_error(raw):
    for path in (patient(raw) / "T2SPIR/DICOM_anon").iterdir():
        position = pydicom.dcmread(path).ImagePositionPatient
        rewrite(path, ImagePositionPatient=[-40, -40, position[2] + 500])
    with pytest.raises(ValueError, match="they are of different places"):
        examples_of(raw)


def test_mutated_files_give_our_errors_only(raw):
    random, failed = np.random.default_rng(0), 0
    for file in (
        "T1DUAL/DICOM_anon/InPhase/IMG-0004-00004.dcm",
        "T2SPIR/Ground/IMG-0002-00003.png",
    ) * 40:
        path = patient(raw) / file
        original = path.read_bytes()
        content = bytearray(original)
        for _ in range(random.integers(1, 8)):
            content[random.integers(min(len(content), 1000))] = random.integers(256)
        path.write_bytes(content)
        try:
            examples_of(raw)
        except (ValueError, OSError):
            failed += 1
        path.write_bytes(original)
    assert failed > 20


@pytest.mark.parametrize(
    "options, message",
    [
        ({"phase": "water"}, "phase to be in, out or both"),
        ({"fold": 3}, "fold to be 0 to 2"),
        ({"split": "mine"}, "auto, paper or seeded"),
        ({"candidates": 0}, "1 to 16 candidates"),
        ({"pixel_size": 0.0}, "pixel_size"),
        ({"max_gigabytes": -1.0}, "max_gigabytes to be 0 to 1e6, received -1.0"),
    ],
)
def test_options_out_of_range_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        CHAOS(**options)


def test_missing_raw_data_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="(?s)No MR/<id>/T1DUAL.*zenodo"):
        CHAOS().splits(tmp_path)
