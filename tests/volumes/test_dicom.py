import tracemalloc

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid

from tests.volumes.samples import dicom, series
from tfdisent.volumes import canonical, read_dicom_header, read_dicom_series, read_header, read_volume


def test_slices_are_sorted_by_position_and_rescaled(tmp_path):
    files = series(tmp_path, RescaleSlope=1, RescaleIntercept=-1024)
    volume = read_dicom_series(files[::-1])
    assert volume.array.shape == (4, 4, 6) and volume.array.dtype == np.int16
    assert volume.array[:, 0, 0].tolist() == [-1024, -1014, -1004, -994]
    assert list(volume.files) == files
    np.testing.assert_allclose(volume.spacing, [1.5, 0.5, 3])
    np.testing.assert_allclose(volume.affine @ [0, 0, 1, 1], [10, 20, 3, 1])
    np.testing.assert_allclose(volume.positions, [0, 3, 6, 9])
    np.testing.assert_array_equal(canonical(volume).array, volume.array)
    np.testing.assert_array_equal(read_volume(tmp_path).array, volume.array)


def test_fractions_of_a_rescale_slope_are_kept(tmp_path):
    volume = read_dicom_series(series(tmp_path, RescaleSlope=0.25, RescaleIntercept=0))
    assert volume.array.dtype == np.float32 and volume.array[1, 0, 0] == 2.5
    files = [dicom(tmp_path / "p1.dcm", np.full((2, 2), 8), 0, RescaleSlope=0.5, RescaleIntercept=0)]
    files += [dicom(tmp_path / "p2.dcm", np.full((2, 2), 8), 1, RescaleSlope=2, RescaleIntercept=0)]
    assert read_dicom_series(files).array[:, 0, 0].tolist() == [4, 16]


def test_sagittal_series_are_turned_by_canonical(tmp_path):
    random = np.random.default_rng(0).integers(1, 999, (3, 4, 6))
    files = [
        # Columns run to posterior, rows to inferior, slices to the left.
        dicom(tmp_path / f"{i}.dcm", random[i], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
        for i in range(3)
    ]
    for i, file in enumerate(files):
        data = pydicom.dcmread(file)
        data.ImagePositionPatient = [5.0 * i, -20, 30]
        data.save_as(file)
    volume = canonical(read_dicom_series(files))
    assert volume.array.shape == (4, 6, 3) and volume.files == ()
    np.testing.assert_array_equal(volume.array, random[:, ::-1].transpose(1, 2, 0))
    np.testing.assert_allclose(volume.spacing, [0.5, 5, 1.5])


def test_copies_of_a_slice_count_once(tmp_path):
    files = series(tmp_path)
    copy = dicom(tmp_path / "copy.dcm", np.full((4, 6), 10), 3.004, number=9)
    volume = read_dicom_series([*files, copy])
    assert volume.array[:, 0, 0].tolist() == [0, 10, 20, 30]
    assert volume.files == (files[0], copy, *files[2:])


@pytest.mark.parametrize(
    "name, values, said",
    [
        ("EchoTime", (2.3, 4.6), r"EchoTime \(2.3 and 4.6\)"),
        ("EchoNumbers", (1, 2), r"EchoNumbers \(1 and 2\)"),
        ("AcquisitionNumber", (1, 2), r"AcquisitionNumber \(1 and 2\)"),
        ("TemporalPositionIdentifier", (1, 2), r"TemporalPositionIdentifier \(1 and 2\)"),
        ("TriggerTime", (0, 40.5), r"TriggerTime \(0 and 40.5\)"),
        ("DiffusionBValue", (0.0, 1000.0), r"DiffusionBValue \(0 and 1000\)"),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]), "ImageType, "),
    ],
)
def test_several_volumes_in_one_series_are_refused_by_what_tells_them_apart(name, values, said, tmp_path):
    for index, value in enumerate(values):
        (tmp_path / str(index)).mkdir()
        series(tmp_path / str(index), **{name: value})
        assert len(read_volume(tmp_path / str(index)).array) == 4
    files = sorted(tmp_path.rglob("*.dcm"))
    for read in (read_dicom_series, read_dicom_header):
        with pytest.raises(
            ValueError, match=f"/0/0.dcm and .*/1/0.dcm lie at one position and differ in {said}"
        ) as caught:
            read(files)
        assert "4 of 4 positions" in str(caught.value) and "several volumes" in str(caught.value)


def test_two_volumes_that_no_tag_tells_apart_are_refused(tmp_path):
    files = series(tmp_path)
    files.append(dicom(tmp_path / "again.dcm", np.full((4, 6), 77), 3.0, number=9))
    with pytest.raises(ValueError, match="lie at one position and show different images, 1 of 4 positions"):
        read_dicom_series(files)
    beside = dicom(tmp_path / "beside.dcm", np.full((4, 6), 10), ImagePositionPatient=[90, -20, 3])
    with pytest.raises(ValueError, match="beside.dcm .*lie side by side in one plane"):
        read_dicom_series([*files[:-1], beside])


def test_volumes_that_complement_one_another_are_refused(tmp_path):
    files = [dicom(tmp_path / f"{i}.dcm", np.full((4, 6), i), 3.0 * i, i, EchoTime=(2.3, 4.6)[i % 2]) for i in range(4)]
    with pytest.raises(ValueError, match=r"0.dcm and .*1.dcm differ in EchoTime \(2.3 and 4.6\): .*different volumes"):
        read_dicom_series(files)
    files = [
        dicom(tmp_path / f"{i}.dcm", np.full((4, 6), i), 3.0 * i, i, EchoTime=2.3 + i / 1000, AcquisitionNumber=i)
        for i in range(4)
    ]
    assert len(read_dicom_series(files).array) == 4  # rounding, and a number for each slice


def test_missing_slices_are_counted_and_placed(tmp_path):
    files = series(tmp_path, 9)
    names = {path.name: path for path in files}
    order = [names[f"{7 * i % 9}.dcm"] for i in range(9)]
    for kept, missing in ((order[:3] + order[5:], 2), (order[:7] + order[8:], 1)):
        with pytest.raises(ValueError, match=f"{missing} slices are missing by ImagePositionPatient: .*apart"):
            read_dicom_series(kept)
    with pytest.raises(ValueError, match="8.dcm and .*2.dcm lie 9 mm apart, other neighbours 3 mm"):
        read_dicom_series([path for path in files if path not in (order[6], order[7])])


def moved(path, offset):
    data = pydicom.dcmread(path)
    data.ImagePositionPatient = [a + b for a, b in zip(data.ImagePositionPatient, offset, strict=True)]
    data.save_as(path)


def test_positions_off_the_grid_by_more_than_a_tenth_of_the_gap_are_refused(tmp_path):
    files = series(tmp_path)
    moved(files[1], (0, 0, 0.29))
    np.testing.assert_allclose(read_dicom_series(files).spacing, [1.5, 0.5, 3])
    moved(files[1], (0, 0, 0.02))
    with pytest.raises(ValueError, match=f"{files[1].name} lies 0.31 mm off its place .*not evenly spaced"):
        read_dicom_series(files)


def test_a_tilted_gantry_is_refused_and_rounding_is_not(tmp_path):
    for index, path in enumerate(files := series(tmp_path)):
        moved(path, (0, 3 * index * np.tan(np.radians(12)), 0))
    with pytest.raises(ValueError, match=f"{files[3].name} lies 1.91 mm beside .* gantry tilted by 12 degrees"):
        read_dicom_series(files)
    for index, path in enumerate(files := series(tmp_path)):
        moved(path, (0.02 * index, -0.09 * index, 0.05 * (-1) ** index))
    assert len(read_dicom_series(files).array) == 4


@pytest.mark.parametrize(
    "orientation", [[1.01, 0, 0, 0, 1, 0], [1, 0, 0, 0.1, 0.995, 0], [2, 0, 0, 0, 2, 0], [0, 0, 0, 0, 1, 0]]
)
def test_directions_are_unit_vectors_at_right_angles(orientation, tmp_path):
    files = series(tmp_path, ImageOrientationPatient=orientation)
    with pytest.raises(ValueError, match="0.dcm has ImageOrientationPatient .* length 1 at right angles"):
        read_dicom_series(files)


def test_directions_that_are_rounded_are_made_unit_vectors(tmp_path):
    volume = read_dicom_series(series(tmp_path, ImageOrientationPatient=[0.8, 0.6004, 0, -0.6, 0.8, 0]))
    np.testing.assert_allclose(volume.spacing, [1.5, 0.5, 3], rtol=1e-6)


def test_an_oblique_series_is_where_simpleitk_has_it(tmp_path):
    import SimpleITK as sitk

    a, b = np.radians(53), np.radians(20)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    random = np.random.default_rng(0)
    for index in range(5):
        place = np.round((-20, 30, 11) + 8 * index * turn[:, 2], 4).tolist()
        name = f"{3 * index % 5}.dcm"
        orientation = np.round(turn[:, :2].T.ravel(), 6).tolist()
        changes = {"ImagePositionPatient": place, "ImageOrientationPatient": orientation}
        dicom(tmp_path / name, random.integers(0, 999, (4, 6)), 0, index, **changes)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    volume = read_volume(tmp_path, orientation="as_acquired")
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image))
    for index in ((0, 0, 0), (5, 3, 4), (2, 1, 3)):
        expected = np.array(image.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], expected, atol=1e-3)
    header = read_header(tmp_path, orientation="as_acquired")
    assert header.shape == volume.array.shape and header.is_integer
    np.testing.assert_array_equal(header.affine, volume.affine)
    with pytest.raises(ValueError, match="is oblique: .* orientation=as_acquired takes its own slices"):
        read_volume(tmp_path)


@pytest.mark.parametrize("bits, is_signed", [(16, 0), (12, 0), (8, 0), (16, 1), (12, 1)])
def test_monochrome1_is_inverted_within_the_stored_range(bits, is_signed, tmp_path):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    pixels = np.array([[low, high], [low + 1, 5]])
    bytes_ = pixels.astype("<i2" if is_signed else "<u2").tobytes()
    changes = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": bits, "HighBit": bits - 1}
    path = dicom(tmp_path / "a.dcm", pixels, PixelRepresentation=is_signed, PixelData=bytes_, **changes)
    array = read_dicom_series([path]).array[0]
    assert array.tolist() == [[high, low], [high - 1, low + high - 5]]


def test_monochrome1_with_units_or_beside_monochrome2_is_refused(tmp_path):
    files = series(tmp_path)
    negative = {"PhotometricInterpretation": "MONOCHROME1"}
    odd = dicom(tmp_path / "odd.dcm", np.zeros((4, 6)), 12.0, 50, **negative)
    with pytest.raises(ValueError, match="odd.dcm and .* differ in PhotometricInterpretation"):
        read_dicom_series([*files, odd])
    dicom(odd, np.zeros((4, 6)), RescaleSlope=1, RescaleIntercept=-1024, **negative)
    with pytest.raises(ValueError, match="odd.dcm has the PhotometricInterpretation MONOCHROME1.* unit"):
        read_dicom_series([odd])


def test_pixels_that_contradict_the_header_are_refused(tmp_path, monkeypatch):
    path = dicom(tmp_path / "a.dcm", np.zeros((4, 6)), Rows=8)
    with pytest.raises(ValueError, match="a.dcm cannot be decoded"):
        read_dicom_series([path])
    negative = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    path = dicom(path, np.zeros((4, 6)), **negative)
    monkeypatch.setattr(pydicom.Dataset, "pixel_array", np.full((4, 6), 4096, np.uint16))
    with pytest.raises(ValueError, match="a.dcm holds values outside of its range by BitsStored, 0 to 4095"):
        read_dicom_series([path])
    monkeypatch.setattr(pydicom.Dataset, "pixel_array", np.zeros((6, 4), np.uint16))
    with pytest.raises(ValueError, match=r"a.dcm has pixels of shape \(6, 4\), and Rows and Columns \(4, 6\)"):
        read_dicom_series([path])


def test_a_header_is_read_without_pixels(tmp_path):
    files = [dicom(tmp_path / f"{index}.dcm", np.full((1000, 1000), index), index) for index in range(2)]
    read_dicom_header(files)  # its imports
    tracemalloc.start()
    header = read_dicom_header(files)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.shape == (2, 1000, 1000) and peak < 1e6  # bytes, of 4e6 in the files
    volume = read_dicom_series(files)
    assert volume.array.shape == header.shape
    np.testing.assert_array_equal(volume.affine, header.affine)


def test_files_that_unpack_to_too_much_are_refused_before(tmp_path):
    path = dicom(tmp_path / "a.dcm", np.zeros((4, 6)))
    data = pydicom.dcmread(path)
    data.PixelData += bytes(200 << 20)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(tmp_path / "bomb.dcm")
    assert (tmp_path / "bomb.dcm").stat().st_size < 1e6
    for read in (read_dicom_series, read_dicom_header):
        with pytest.raises(ValueError, match="bomb.dcm unpacks to more than 100 MB, of .* raise max_gigabytes"):
            read([tmp_path / "bomb.dcm"])
    data.PixelData = bytes(48)
    data.save_as(tmp_path / "small.dcm")
    assert read_dicom_series([tmp_path / "small.dcm"]).array.shape == (1, 4, 6)
    assert read_dicom_header([tmp_path / "small.dcm"]).shape == (1, 4, 6)
    files = series(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path} holds more than 1.5e-07 GB .* up to .*.dcm.* max_gigabytes"):
        read_dicom_series(files, max_gigabytes=150e-9)
    assert len(read_dicom_series(files, max_gigabytes=200e-9).array) == 4


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"SeriesInstanceUID": generate_uid()}, "odd.dcm and .* are of different series"),
        ({"PixelData": None}, "odd.dcm has no pixel data"),
        ({"PixelSpacing": [1.5, 0.7]}, "odd.dcm has pixel_spacing"),
        ({"PixelSpacing": [1.5, 0]}, "odd.dcm has the spacing .* expected positive"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "odd.dcm has directions"),
        ({"ImagePositionPatient": None}, "odd.dcm has no ImagePositionPatient"),
        ({"NumberOfFrames": 2}, "odd.dcm holds several frames"),
        ({"Rows": 8}, "odd.dcm has shape"),
        ({"Rows": 2, "PixelData": bytes(24)}, "odd.dcm has shape"),
        ({"Rows": 60_000, "Columns": 60_000}, "odd.dcm has the shape"),
        ({"ModalityLUTSequence": [pydicom.Dataset()]}, "odd.dcm has a ModalityLUTSequence"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "odd.dcm has a PhotometricInterpretation other than"),
        ({"BitsAllocated": 7}, "odd.dcm has 7 BitsAllocated"),
    ],
)
def test_slices_that_do_not_belong_together_are_errors_without_names(changes, message, tmp_path):
    files = series(tmp_path)
    files.append(dicom(tmp_path / "odd.dcm", np.zeros((4, 6)), 12.0, 50, **changes))
    with pytest.raises(ValueError, match=message) as caught:
        read_dicom_series(files)
    assert "ecret" not in str(caught.value)
    if "SeriesInstanceUID" in changes:
        assert len(read_dicom_series(files, same_series=False).array) == 5


def test_files_that_are_not_dicom_are_named(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match="notes.txt is not a DICOM file"):
        read_dicom_series([*series(tmp_path), tmp_path / "notes.txt"])
    with pytest.raises(ValueError, match="at least one file"):
        read_dicom_series([])
    with pytest.raises(OSError, match="none.dcm"):
        read_dicom_series([tmp_path / "none.dcm"])


def test_errors_of_the_system_and_of_decoders_name_the_file(tmp_path, monkeypatch):
    path = dicom(tmp_path / "a.dcm", np.zeros((4, 6)))
    for error in (OSError("no seek"), EOFError("end"), RecursionError("deep"), AttributeError("none")):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(pydicom, "dcmread", fail)
        with pytest.raises((ValueError, OSError), match="a.dcm"):
            read_dicom_series([path])


def test_mutated_dicom_files_raise_only_our_errors(tmp_path):
    random = np.random.default_rng(0)
    original = dicom(tmp_path / "a.dcm", np.zeros((4, 6))).read_bytes()
    path, failures = tmp_path / "b.dcm", 0
    for turn in range(300):
        raw = bytearray(original)
        for _ in range(random.integers(1, 8)):
            raw[random.integers(132, len(raw))] = random.integers(256)
        path.write_bytes(raw[: random.integers(len(raw))] if turn % 4 == 0 else raw)
        try:
            with np.errstate(all="ignore"):
                read_dicom_series([path])
        except (ValueError, OSError) as error:
            failures += 1
            assert "b.dcm" in str(error) and "ecret" not in str(error)
    assert failures > 50
