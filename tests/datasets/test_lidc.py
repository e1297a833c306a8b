import re

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from tfdisent.data import Manifest, as_arrays
from tfdisent.datasets.lidc import CONDITIONS, LIDC, condition
from tfdisent.datasets.lidc_readings import RATINGS
from tfdisent.datasets.preparation import dry_run, prepare

SHAPE = (96, 96)
SPACING = 0.7  # millimetres
STEP = 2.0
UID = "1.2.3.4"
TYPICAL = dict(zip(RATINGS, (5, 1, 6, 4, 4, 1, 1, 5, 5), strict=True))
CENTRE = (40.0, 50.0)  # row and column of the nodule


def write_dicom(path, uid, index, hu, *, number=None, modality="CT", patient="P1", **changes):
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{uid}.{index}.{number or index}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.PatientID, data.Modality = uid, patient, modality
    data.PatientName = "Somebody^Known"
    data.InstanceNumber = index if number is None else number
    data.ImagePositionPatient = [-30, -30, -100 + STEP * index]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing = [SPACING, SPACING]
    data.SliceThickness = 5  # which is not the distance of the slices
    data.Rows, data.Columns = hu.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = (hu + 1024).astype("<i2").tobytes()
    for name, value in changes.items():
        if value is None:
            del data[name]
        else:
            setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def disk(centre, radius):
    rows, columns = np.indices(SHAPE)
    return np.hypot(rows - centre[0], columns - centre[1]) <= radius


def ring(mask):
    """The pixels just outside of a convex mask, in order: what a reader's file holds."""
    grown = mask.copy()
    for axis in (0, 1):
        for shift in (-1, 1):
            grown |= np.roll(mask, shift, axis)
    rows, columns = np.nonzero(grown & ~mask)
    inner = np.argwhere(mask).mean(0)
    order = np.argsort(np.arctan2(rows - inner[0], columns - inner[1]))
    return list(zip(columns[order].tolist(), rows[order].tolist(), strict=True))


def roi(index, points, inclusion="TRUE", uid=UID, sop=None):
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    return (
        f"<roi><imageZposition>{-100 + STEP * index}</imageZposition>"
        f"<imageSOP_UID>{sop or f'{uid}.{index}.{index}'}</imageSOP_UID>"
        f"<inclusion>{inclusion}</inclusion>{edges}</roi>"
    )


def nodule(rois, **ratings):
    ratings = {**TYPICAL, **ratings}
    texts = "".join(f"<{name}>{value}</{name}>" for name, value in ratings.items() if value != "")
    return (
        "<unblindedReadNodule><noduleID>1</noduleID>"
        f"<characteristics>{texts}</characteristics>{''.join(rois)}</unblindedReadNodule>"
    )


SMALL_NODULE = (
    "<unblindedReadNodule><noduleID>2</noduleID>" + roi(3, [(20, 20)]) + "</unblindedReadNodule>"
    "<nonNodule><nonNoduleID>3</nonNoduleID></nonNodule>"
)


def message(sessions, uid=UID, name="SeriesInstanceUid", root="LidcReadMessage"):
    body = "".join(f"<readingSession>{session}</readingSession>" for session in sessions)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<{root} uid="x" xmlns="http://www.nih.gov"><ResponseHeader><Version>1</Version>'
        f"<{name}>{uid}</{name}></ResponseHeader>{body}</{root}>"
    )


def ball(radius=5.0, first=4, last=8, uid=UID, centre=CENTRE, **ratings):
    """A nodule: a cylinder of `radius` pixels through slices `first` to `last`."""
    points = ring(disk(centre, radius))
    return nodule([roi(index, points, uid=uid) for index in range(first, last + 1)], **ratings)


def hu_slice(index, radius=5.0, centre=CENTRE, first=4, last=8):
    """Lung of -800 HU with a nodule of 40 HU, and padding of -2000 in a corner."""
    image = np.full(SHAPE, -800)
    image[:6, :6] = -2000
    if first <= index <= last:
        image[disk(centre, radius)] = 40
    return image


class Raw:
    """A raw tree of LIDC-IDRI."""

    def __init__(self, directory):
        self.directory = directory

    def folder(self, case, number=1, descriptive=False):
        patient = self.directory / "LIDC-IDRI" / f"LIDC-IDRI-{case:04d}"
        if descriptive:
            return patient / "01-01-2000-30178" / f"300056{number}.000000-03192"
        return patient / f"1.3.6.{case}" / f"1.3.6.{case}.{number}"

    def scan(self, case, number=1, slices=12, descriptive=False, **options):
        folder, uid = self.folder(case, number, descriptive), f"{UID}.{case}.{number}"
        for index in range(slices):
            name = f"1-{index + 1:03d}.dcm" if descriptive else f"{index + 1:06d}.dcm"
            options.setdefault("patient", f"LIDC-IDRI-{case:04d}")
            hu = hu_slice(index)
            hu[-1, -1] += 2 * case + number  # no two scans show the same
            write_dicom(folder / name, uid, index, hu, **options)
        return folder, uid

    def annotated(self, case, readers=4, number=1, descriptive=False, **ratings):
        folder, uid = self.scan(case, number, descriptive=descriptive)
        sessions = [ball(uid=uid, **ratings) + SMALL_NODULE for _ in range(readers)]
        self.xml(folder / "069.xml", sessions, uid)
        return folder, uid

    def xml(self, path, sessions, uid, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(message(sessions, uid, **options))


@pytest.fixture
def raw(tmp_path):
    return Raw(tmp_path / "raw")


def read(raw, builder=None, **changes):
    """All examples by split."""
    builder = builder or LIDC(**changes)
    return {
        split: [example for unit in units for example in builder.examples(unit)]
        for split, units in builder.splits(raw.directory).items()
    }


def only(raw, case=3, **changes):
    """The single example of a patient."""
    units = [u for units in LIDC(**changes).splits(raw.directory).values() for u in units]
    units = [u for u in units if u.subject == f"LIDC-IDRI-{case:04d}"]
    assert len(units) == 1 and not units[0].problem
    (example,) = LIDC(**changes).examples(units[0])
    return example


def test_a_drawn_nodule_comes_back_with_its_mask_centre_hu_and_condition(raw):
    raw.annotated(3)
    raw.annotated(900, malignancy=1)
    # 48 pixels as scanned, not enlarged: the patch is a plain cut of the slice.
    example = only(raw, size=48, resample="none", size_unit="mm")
    top, left = 40 - 24, 50 - 24
    np.testing.assert_allclose(example["crop"], [left + 0.5, top + 0.5, 48, 48], atol=1e-3)
    assert example["slice_index"] == 6 and example["num_slices"] == 12
    assert example["key"] == "LIDC-IDRI-0003-n0-s6"
    assert (example["image"][21:27, 21:27] == 40).all()
    assert example["image"][2, 40, 0] == -800 and example["image"].dtype == np.int16
    area = disk(CENTRE, 5).sum()
    assert abs(int(example["mask"].sum()) - area) <= 0.1 * area
    rows, columns = np.nonzero(example["mask"][..., 0])
    assert abs(rows.mean() - 23.5) < 0.3 and abs(columns.mean() - 23.5) < 0.3
    assert example["diameter"] == pytest.approx(11 * SPACING, abs=0.3)
    assert example["label"] == "malignant" and example["num_readers"] == 4
    np.testing.assert_array_equal(example["ratings"], list(TYPICAL.values()))
    on = {name for name, value in zip(CONDITIONS, example["condition"], strict=True) if value}
    assert on == {
        "subtlety_high",
        "calcification_high",
        "sphericity_high",
        "margin_high",
        "texture_high",
        "malignancy_high",
        "size_6_8",  # 7.7 mm
    }
    np.testing.assert_allclose(example["spacing"], [SPACING, SPACING, STEP])


def test_patches_of_millimetres_are_enlarged_about_the_same_centre(raw):
    raw.annotated(3)
    raw.annotated(900)
    example = only(raw)
    assert example["image"].shape == (64, 64, 1) and example["mask"].shape == (64, 64, 1)
    width = 48 / SPACING
    np.testing.assert_allclose(example["crop"][2:], width)
    np.testing.assert_allclose(example["spacing"], [0.75, 0.75, STEP])
    area = disk(CENTRE, 5).sum() * (SPACING / 0.75) ** 2
    assert abs(int(example["mask"].sum()) - area) <= 0.1 * area
    # Beyond the slice, and in its padding of -2000 HU, there is air.
    wide = only(raw, pixel_size=2.0)
    assert wide["image"].min() == -1024 and wide["image"][0, 0, 0] == -1024
    np.testing.assert_array_equal(wide["intensity"][0, :2], (-1000, 400))
    matrix = only(raw, resample="matrix")
    np.testing.assert_allclose(matrix["crop"][2:], 48 * 96 / 256)


def test_all_slices_of_a_nodule_and_sizes_in_pixels_are_options(raw):
    raw.annotated(3)
    raw.annotated(900)
    examples = read(raw, slices="all")["train"]
    assert [example["slice_index"] for example in examples] == [4, 5, 6, 7, 8]
    assert len({example["key"] for example in examples}) == 5
    bins = CONDITIONS[12:]
    for unit, resample, pixel, found in (
        ("mm", "mm", 1.0, "size_6_8"),
        ("pixels", "mm", 1.0, "size_6_8"),
        ("pixels", "mm", 2.0, "size_2_4"),
        ("pixels", "none", 1.0, "size_10_12"),
    ):
        vector = only(raw, size_unit=unit, resample=resample, pixel_size=pixel)["condition"]
        assert bins[int(vector[12:].argmax())] == found and vector[12:].sum() == 1


def test_the_consensus_is_where_half_of_the_readers_agree(raw):
    folder, uid = raw.scan(3)
    raw.annotated(900)
    radii = (3, 5, 5, 7)
    raw.xml(folder / "1.xml", [ball(radius, uid=uid) for radius in radii], uid)
    options = {"size": 48, "resample": "none"}
    for agreement, radius in ((0.5, 5), (0.25, 7), (1.0, 3), (0.75, 5)):
        mask = only(raw, agreement=agreement, **options)["mask"]
        area = disk(CENTRE, radius).sum()
        assert abs(int(mask.sum()) - area) <= 0.12 * area, agreement


def test_a_contour_that_excludes_is_a_hole(raw):
    folder, uid = raw.scan(3)
    raw.annotated(900)
    rois = [roi(6, ring(disk(CENTRE, 8)), uid=uid), roi(6, ring(disk(CENTRE, 2)), "FALSE", uid=uid)]
    raw.xml(folder / "1.xml", [nodule(rois)] * 3, uid)
    mask = only(raw, size=48, resample="none")["mask"][..., 0]
    assert mask[23:25, 23:25].sum() == 0  # the hole, of which the contour is a part
    expected = disk(CENTRE, 8).sum() - disk(CENTRE, 2).sum() - len(ring(disk(CENTRE, 2)))
    assert abs(int(mask.sum()) - expected) <= 0.1 * expected


def test_marks_are_grouped_by_proximity_and_three_readers_are_needed(raw):
    folder, uid = raw.scan(3)
    raw.annotated(900)
    apart = ball(4, uid=uid, centre=(70.0, 20.0), malignancy=1)
    near = [ball(4, uid=uid, centre=(40.0, 50.0 + shift)) for shift in (0, 1, 2)]
    sessions = [near[0] + apart, near[1] + apart, near[2], apart + ball(2, 4, 5, uid, (10.0, 80.0))]
    raw.xml(folder / "1.xml", sessions, uid)
    examples = read(raw)["train"]
    assert [(e["label"], e["num_readers"]) for e in examples] == [
        ("benign", 3),
        ("malignant", 3),
    ]
    assert len(read(raw, min_readers=1)["train"]) == 3
    assert not read(raw, min_readers=4, split="paper")["train"]


def test_two_near_nodules_of_one_reader_stay_two(raw):
    folder, uid = raw.scan(3)
    raw.annotated(900)
    both = "".join(ball(4, uid=uid, centre=(40.0, 40.0 + shift)) for shift in (0, 11))
    raw.xml(folder / "1.xml", [both] * 4, uid)
    examples = read(raw)["train"]
    assert [example["num_readers"] for example in examples] == [4, 4]
    lefts = sorted(example["crop"][0] for example in examples)
    assert lefts[1] - lefts[0] == pytest.approx(11)


def test_medians_decide_and_indeterminate_nodules_are_the_query(raw, tmp_path):
    for case, votes in ((1, (1, 2, 3)), (2, (3, 3, 4)), (900, (5, 4, 3)), (901, (3, 3, 1))):
        folder, uid = raw.scan(case)
        sessions = [ball(uid=uid, malignancy=vote) for vote in votes]
        if case == 900:  # one nodule to test with and one to ask with, in the same scan
            sessions = [s + ball(3, 4, 8, uid, (70.0, 20.0), malignancy=3) for s in sessions]
        raw.xml(folder / "1.xml", sessions, uid)
    folder = prepare(LIDC(), tmp_path / "data", raw.directory, workers=1)
    splits = Manifest.read(folder).splits
    assert splits["train"]["subjects"] == ["LIDC-IDRI-0001"]  # 0002 is indeterminate
    assert splits["train"]["label_counts"] == {"benign": 1, "malignant": 0}
    assert splits["test"]["label_counts"] == {"benign": 0, "malignant": 1}
    assert splits["query"]["subjects"] == ["LIDC-IDRI-0900", "LIDC-IDRI-0901"]
    arrays = as_arrays(folder, "test")
    assert arrays["condition"].shape == (1, 17)
    # The window of -1000 to 400 HU becomes -1 to 1: lung of -800, nodule of 40.
    assert arrays["image"].max() == pytest.approx(2 * 1040 / 1400 - 1, abs=1e-2)
    assert np.median(arrays["image"]) == pytest.approx(2 * 200 / 1400 - 1, abs=1e-2)
    for path in folder.iterdir():
        for secret in (b"Somebody", UID.encode() + b"."):
            assert secret not in path.read_bytes()


def test_ratings_out_of_range_are_missing_and_counted(raw):
    folder, uid = raw.scan(3)
    raw.annotated(900)
    sessions = [
        ball(uid=uid, internalStructure=5, subtlety=0, margin=""),
        ball(uid=uid, subtlety=0, malignancy=0),
        ball(uid=uid, subtlety=0),
    ]
    raw.xml(folder / "1.xml", sessions, uid)
    example = only(raw)
    ratings = dict(zip(RATINGS, example["ratings"], strict=True))
    assert (ratings["internalStructure"], ratings["subtlety"], ratings["margin"]) == (1, 0, 4)
    assert example["condition"][:2].sum() == 0 and example["condition"][2:12].sum() == 5
    assert "1.xml: 6 ratings out of range are taken as missing" in dry_run(LIDC(), raw.directory)


def test_thresholds_decide_what_is_high():
    ratings = np.array([3, 1, 5, 3.5, 2, 1, 1, 4, np.nan])
    vector = condition(ratings, 1.0, (3, 5.5, 3, 3, 3, 3))
    np.testing.assert_array_equal(vector[:12], [1, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(condition(ratings, 99, (3, 3, 3, 3, 3, 3))[2:4], [0, 1])
    for diameter, index in ((0, 0), (3.9, 0), (4, 1), (9.9, 3), (10, 4), (30, 4)):
        assert condition(ratings, diameter, (3,) * 6)[12:].argmax() == index


def test_of_two_images_at_one_position_the_lower_instance_number_is_kept(raw):
    folder, uid = raw.annotated(3)
    raw.annotated(900)
    # A second file at the position of slice 6, of a higher InstanceNumber and another content.
    write_dicom(folder / "x.dcm", uid, 6, np.full(SHAPE, 500), number=30, patient="LIDC-IDRI-0003")
    example = only(raw)
    assert example["num_slices"] == 12 and example["slice_index"] == 6
    assert example["image"].max() == 40
    # Marks on the file that was left out count for its position.
    sessions = [
        nodule([roi(6, ring(disk(CENTRE, 5)), sop=f"{uid}.6.30")]),
        *[nodule([roi(6, ring(disk(CENTRE, 5)), uid=uid)])] * 2,
    ]
    raw.xml(folder / "069.xml", sessions, uid)
    assert only(raw)["num_readers"] == 3


def write_second_acquisition(folder, uid):
    for index in range(12):
        name, number = f"second-{index}.dcm", 50 + index
        write_dicom(
            folder / name, uid, index, hu_slice(index), number=number, patient="LIDC-IDRI-0003", AcquisitionNumber=2
        )


def tilt(folder, uid):
    for index in range(12):
        place = [-30, -30 + index, -100 + STEP * index]
        name = folder / f"{index + 1:06d}.dcm"
        write_dicom(name, uid, index, hu_slice(index), patient="LIDC-IDRI-0003", ImagePositionPatient=place)


def turn(folder, uid):
    for index in range(12):
        name, place = folder / f"{index + 1:06d}.dcm", [-30, -30 + STEP * index, -100]
        changes = {"ImagePositionPatient": place, "ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}
        write_dicom(name, uid, index, hu_slice(index), patient="LIDC-IDRI-0003", **changes)


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda folder, uid: (folder / "000006.dcm").unlink(),
            "1 slices are missing by ImagePositionPatient: .*000005",
        ),
        (write_second_acquisition, "differ in AcquisitionNumber, 12 of 12 positions are taken more than once"),
        (tilt, "a gantry tilted by 26.6 degrees"),
        (turn, "is not axial, and marks are placed by height"),
    ],
)
def test_a_series_that_is_not_one_axial_volume_is_a_problem(raw, damage, message):
    folder, uid = raw.annotated(3)
    raw.annotated(4)
    raw.annotated(900)
    damage(folder, uid)
    units = LIDC().splits(raw.directory)["train"]
    assert [unit.subject for unit in units] == ["LIDC-IDRI-0004", "LIDC-IDRI-0003"]
    assert re.search(message, units[1].problem) and str(folder) in units[1].problem


def test_images_of_one_scan_under_two_patients_are_a_problem_whatever_their_headers_say(raw):
    for case in (3, 4, 900):
        raw.annotated(case)
    for case in (4, 900):  # all of 4, and of 900 all but the first slice, become those of 3
        for index in range(12):
            name = f"{index + 1:06d}.dcm"
            source = raw.folder(900 if (case, index) == (900, 0) else 3) / name
            changes = {"patient": f"P{case}", "PixelData": pydicom.dcmread(source).PixelData}
            write_dicom(raw.folder(case) / name, f"{UID}.{case}.1", index, hu_slice(index), **changes)
    units = [unit for units in LIDC(split="paper").splits(raw.directory).values() for unit in units]
    assert {unit.subject for unit in units if not unit.problem} == {"LIDC-IDRI-0900"}
    both = "show the same images, of the patients LIDC-IDRI-0003 and LIDC-IDRI-0004. Remove one."
    said = f"{raw.folder(3)} and {raw.folder(4)} {both}"
    assert [(unit.subject, unit.problem) for unit in units if unit.problem] == [
        ("LIDC-IDRI-0003", said),
        ("LIDC-IDRI-0004", said),
    ]


def test_every_layout_is_read_and_chest_films_are_left_out(raw):
    raw.annotated(3, descriptive=True)
    folder, uid = raw.scan(4)
    sessions = [ball(uid=uid)] * 3
    raw.xml(raw.directory / "LIDC-XML-only/tcia-lidc-xml/157/158.xml", sessions, uid)
    folder, uid = raw.scan(900)
    raw.xml(folder / "068.xml", sessions, "9.9", root="IdriReadMessage", name="CXRSeriesInstanceUid")
    raw.xml(folder / "069.xml", [ball(uid=uid)] * 3, uid, name="CTSeriesInstanceUid")
    film = raw.folder(900, 2)
    write_dicom(film / "000000.dcm", "9.9", 0, hu_slice(0), modality="DX", ImagePositionPatient=None)
    manifest = raw.directory / "manifest-1600709154662"
    manifest.mkdir()
    (manifest / "metadata.csv").write_text("Series UID,Collection\n1,2\n")
    (manifest / "notes.xml").write_text("<a/>")
    (manifest / "LICENSE").write_text("free")
    raw.scan(5)  # never annotated
    units = LIDC().splits(raw.directory)
    assert {split: [unit.subject for unit in found] for split, found in units.items()} == {
        "train": ["LIDC-IDRI-0003", "LIDC-IDRI-0004"],
        "test": ["LIDC-IDRI-0900"],
    }
    assert not any(unit.problem for found in units.values() for unit in found)


def test_series_mixed_in_one_folder_are_told_apart_and_stay_with_their_patient(raw):
    first, uid = raw.annotated(3)
    second, other = raw.annotated(3, number=2, malignancy=1)
    for path in second.glob("*.dcm"):
        path.rename(first / f"b{path.name}")
    (second / "069.xml").rename(first / "070.xml")
    # The same patient once more, in a folder of another name.
    third, _ = raw.annotated(800)
    for path in third.glob("*.dcm"):
        data = pydicom.dcmread(path)
        data.PatientID = "LIDC-IDRI-0003"
        data.save_as(path)
    raw.annotated(900)
    units = LIDC().splits(raw.directory)
    assert [(unit.key, unit.subject) for unit in units["train"]] == [
        ("LIDC-IDRI-0003", "LIDC-IDRI-0003"),
        ("LIDC-IDRI-0003-2", "LIDC-IDRI-0003"),
        ("LIDC-IDRI-0003-3", "LIDC-IDRI-0003"),
    ]
    assert [e["label"] for e in read(raw)["train"]] == ["malignant", "benign", "malignant"]


def test_a_part_of_the_data_is_split_by_patient_with_a_seed(raw):
    for case in (1, 2, 3, 4):
        raw.annotated(case)
    raw.annotated(2, number=2)

    def subjects(**options):
        found = LIDC(test_fraction=0.5, **options).splits(raw.directory)
        return {split: {unit.subject for unit in units} for split, units in found.items()}

    first = subjects()
    assert first == subjects() and first["train"].isdisjoint(first["test"])
    assert len(first["train"]) == len(first["test"]) == 2
    assert any(subjects(seed=seed) != first for seed in (1, 2, 3))
    with pytest.raises(ValueError, match="split 'test' is empty"):
        prepare(LIDC(split="paper"), raw.directory / "data", raw.directory, workers=1)
    paper = subjects(split="paper", first_test_case=3)
    assert paper["test"] == {"LIDC-IDRI-0003", "LIDC-IDRI-0004"}


def test_bad_files_are_named_or_skipped(raw, tmp_path):
    folder, uid = raw.annotated(3)
    raw.annotated(4)
    raw.annotated(900)
    (folder / "000001.dcm").write_bytes(b"not DICOM")
    write_dicom(folder / "000002.dcm", uid, 1, hu_slice(1), ImagePositionPatient=None)
    (folder / "bad.xml").write_text("<LidcReadMessage><a>")
    with pytest.raises(ValueError, match="(?s)3 problems.*bad.xml.*000001.dcm.*000002.dcm"):
        prepare(LIDC(), tmp_path / "data", raw.directory, workers=1)
    prepared = prepare(LIDC(), tmp_path / "data", raw.directory, workers=1, on_error="skip")
    manifest = Manifest.read(prepared)
    assert len(manifest.skipped) == 3 and manifest.splits["train"]["num_examples"] == 2
    # Pixels are decoded last, of the slices that are needed.
    path = raw.folder(4) / "000007.dcm"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="000007.dcm cannot be decoded"):
        only(raw, 4)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "no element found"),
        ("<LidcReadMessage></x>", "mismatched tag"),
        ("<LidcReadMessage/>", "names no SeriesInstanceUid"),
        (message([nodule([roi(3, [("a", 3)])])]), "invalid literal"),
        (message([nodule([roi(3, [])])]), "lacks points"),
        (message([nodule([roi(3, [(-1, 4)])])]), "out of range"),
        (message([nodule([roi(3, [(3, 4)])], subtlety="x")]), "invalid literal"),
        (
            '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><LidcReadMessage>&b;</LidcReadMessage>',
            "declares a document type",
        ),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><LidcReadMessage/>', "declares a document type"),
    ],
)
def test_bad_xml_is_a_problem_with_a_reason(raw, text, reason):
    raw.annotated(3)
    raw.annotated(900)
    (raw.directory / "0.xml").write_text(text)
    problems = [unit.problem for unit in LIDC().splits(raw.directory)["train"] if unit.problem]
    assert len(problems) == 1 and "0.xml is not a readers' XML file" in problems[0]
    assert reason in problems[0]


def test_marks_that_cannot_be_on_the_slices_are_problems(raw):
    folder, uid = raw.scan(3)
    raw.annotated(900)
    raw.annotated(4)
    raw.xml(folder / "1.xml", [nodule([roi(6, [(10, 10), (200, 10), (10, 20)], uid=uid)])], uid)
    other, uid = raw.scan(5)
    raw.xml(other / "1.xml", [ball(uid=uid)] * 3, uid)
    write_dicom(other / "000003.dcm", uid, 2, hu_slice(2), patient="LIDC-IDRI-0005", PixelSpacing=[1, 1])
    problems = [unit.problem for unit in LIDC().splits(raw.directory)["train"] if unit.problem]
    assert "1.xml has a contour outside of the 96 x 96 pixels" in problems[0]
    assert "000003.dcm has pixel_spacing [1.0, 1.0], and" in problems[1]


def test_missing_parts_of_the_raw_folder_are_named(raw, tmp_path):
    raw.directory.mkdir()
    with pytest.raises(FileNotFoundError, match="(?s)No XML file.*cancerimagingarchive"):
        LIDC().splits(raw.directory)
    raw.xml(raw.directory / "1.xml", [ball()] * 3, "7.7")
    with pytest.raises(FileNotFoundError, match="No CT images"):
        LIDC().splits(raw.directory)
    raw.scan(3)
    with pytest.raises(FileNotFoundError, match="None of the 1 CT series"):
        LIDC().splits(raw.directory)


def test_mutated_files_give_our_errors_only(raw):
    folder, uid = raw.annotated(3)
    raw.annotated(900)
    builder, random = LIDC(), np.random.default_rng(0)
    seen = 0
    for name in ["069.xml"] * 25 + ["000007.dcm"] * 60:
        path = folder / name
        original = path.read_bytes()
        content = bytearray(original)
        if random.random() < 0.3:
            content = content[: random.integers(len(content))]
        # Headers are where damage hurts; pixels only change.
        area = min(len(content), 1200 if name.endswith("dcm") else len(content))
        for _ in range(random.integers(1, 8)):
            if area:
                content[random.integers(area)] = random.integers(256)
        path.write_bytes(content)
        try:
            for units in builder.splits(raw.directory).values():
                for unit in units:
                    if unit.problem:
                        seen += 1
                    else:
                        list(builder.examples(unit))
        except (ValueError, OSError):
            seen += 1
        finally:
            path.write_bytes(original)
    assert seen > 10


@pytest.mark.parametrize(
    "options, message",
    [
        ({"resample": "cm"}, "resample to be one of mm, matrix, none"),
        ({"slices": "some"}, "centre, all"),
        ({"thresholds": (1, 2)}, "thresholds to be 6 numbers"),
        ({"thresholds": ("a",) * 6}, "thresholds to be 6 numbers"),
        ({"window": (400, -1000)}, "two rising HU"),
        ({"agreement": 0.0}, "agreement to be a fraction"),
        ({"size": 4}, "8 to 512"),
        ({"min_readers": 5}, "min_readers to be 1 to 4"),
        ({"max_gigabytes": -1.0}, "max_gigabytes to be 0 to 1e6, received -1.0"),
    ],
)
def test_options_out_of_range_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        LIDC(**options)


def test_xml_files_of_one_series_must_hold_the_same_marks(raw):
    folder, uid = raw.annotated(3)
    raw.annotated(900)
    second = raw.directory / "xml-only/069.xml"
    second.parent.mkdir()
    second.write_text((folder / "069.xml").read_text() + "\n<!-- a copy -->\n")
    assert [unit.problem for unit in LIDC().splits(raw.directory)["train"]] == [""]
    raw.xml(second, [ball(uid=uid, malignancy=1)] * 4, uid)
    raw.annotated(4)
    units = {unit.subject: unit for unit in LIDC().splits(raw.directory)["train"]}
    assert not units["LIDC-IDRI-0004"].problem
    problem = units["LIDC-IDRI-0003"].problem
    assert problem == f"{folder / '069.xml'} and {second} are readings of one series and differ. Remove one."


def test_patients_in_one_flat_folder_are_subjects_of_their_own(raw):
    flat = raw.directory / "scans"
    for case, number in ((1, 1), (2, 1), (2, 2), (3, 1)):
        folder, _ = raw.annotated(case, number=number)
        for path in folder.iterdir():
            flat.mkdir(exist_ok=True)
            path.rename(flat / f"{case}-{number}-{path.name}")
    units = [u for units in LIDC(test_fraction=0.4).splits(raw.directory).values() for u in units]
    assert sorted((unit.key, unit.subject) for unit in units) == [
        ("scans", "scans"),
        ("scans-patient-2", "scans-patient-2"),
        ("scans-patient-2-2", "scans-patient-2"),
        ("scans-patient-3", "scans-patient-3"),
    ]


def test_a_series_of_two_patients_is_a_problem_that_names_both_files(raw):
    folder, uid = raw.annotated(3)
    for case in (4, 900):
        raw.annotated(case)
    write_dicom(folder / "000005.dcm", uid, 4, hu_slice(4), patient="LIDC-IDRI-0007")
    units = {unit.subject: unit for units in LIDC().splits(raw.directory).values() for unit in units}
    assert not units["LIDC-IDRI-0004"].problem
    problem = units["LIDC-IDRI-0003"].problem
    assert f"{folder / '000001.dcm'} and {folder / '000005.dcm'} are of one series and of two PatientIDs" in problem
