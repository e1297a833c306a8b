import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from tests.volumes.samples import dicom, series
from tfdisent.volumes import canonical, read_dicom_series, read_volume


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


def test_of_two_slices_at_one_position_the_later_stays(tmp_path):
    files = series(tmp_path)
    files.append(dicom(tmp_path / "again.dcm", np.full((4, 6), 77), 3.0, number=9))
    files.append(dicom(tmp_path / "before.dcm", np.full((4, 6), 66), 6.0, number=0))
    volume = read_dicom_series(files)
    assert volume.array[:, 0, 0].tolist() == [0, 77, 20, 30]
    assert volume.files[1].name == "again.dcm"


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
        ({"Rows": 8}, "odd.dcm cannot be decoded"),
        ({"Rows": 2, "PixelData": bytes(24)}, "odd.dcm has shape"),
        ({"Rows": 60_000, "Columns": 60_000}, "odd.dcm has the shape"),
    ],
)
def test_slices_that_do_not_belong_together_are_errors_without_names(changes, message, tmp_path):
    files = series(tmp_path)
    files.append(dicom(tmp_path / "odd.dcm", np.zeros((4, 6)), 50.0, 50, **changes))
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
