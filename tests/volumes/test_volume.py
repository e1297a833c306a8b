import gzip
import itertools
import zlib

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tfdisent.volumes import volume as volumes
from tfdisent.volumes.volume import (
    Volume,
    canonical,
    read_dicom_series,
    read_header,
    read_metaimage,
    read_nifti,
    read_volume,
    write_nifti,
)

LENGTHS = {"R": 14, "L": 14, "A": 10, "P": 10, "S": 6, "I": 6}
STEPS = {"R": 1.0, "L": 1.0, "A": 1.5, "P": 1.5, "S": 3.0, "I": 3.0}
# Every order of the axes, each with a direction of its own, and the ones that data sets have.
ORIENTATIONS = [
    "".join(pair[turn] for pair, turn in zip(axes, turns, strict=True))
    for axes, turns in zip(
        itertools.permutations(("RL", "AP", "SI")),
        [(0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1), (0, 1, 0)],
        strict=True,
    )
] + ["LPS", "LAS", "PSR", "ASL"]


def head(orientation, dtype=np.int16, tilt=0.0):
    """A NIfTI image of 14 x 10 x 6 voxels with 1 at the patient's right, 2 anterior, 3 superior."""
    ras = np.zeros((14, 10, 6), dtype)
    ras[12, 5, 3], ras[7, 8, 3], ras[7, 5, 5] = 1, 2, 3
    affine = np.diag([1.0, 1.5, 3.0, 1.0])
    affine[:3, 3] = -6, -7, -8
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    image = nibabel.Nifti1Image(ras, turn @ affine)
    image.header.set_xyzt_units("mm")
    # RAS axes point to the right in nibabel's sense: index 12 of 14 lies to the patient's right.
    return image.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"),
            nibabel.orientations.axcodes2ornt(orientation),
        )
    )


def save(image, path):
    nibabel.save(image, path)
    return path


def at(array, value):
    return tuple(np.argwhere(array == value)[0].tolist())


def patched(path, offset, content, out=None):
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    out = out or path
    out.write_bytes(raw)
    return out


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_right_anterior_and_superior_are_where_a_radiologist_looks_for_them(orientation, tmp_path):
    source = save(head(orientation), tmp_path / "a.nii.gz")
    volume = read_nifti(source)
    assert volume.array.shape == (6, 10, 14) and volume.array.dtype == np.int16
    assert at(volume.array, 1) == (3, 4, 1)  # right: on the left of the image
    assert at(volume.array, 2) == (3, 1, 6)  # anterior: at the top
    assert at(volume.array, 3) == (5, 4, 6)  # superior: in the last slice
    np.testing.assert_allclose(volume.spacing, [1.5, 1, 3])
    assert nibabel.aff2axcodes(volume.affine) == ("L", "P", "S")
    for value in (1, 2, 3):
        z, y, x = at(volume.array, value)
        ijk = at(np.asarray(nibabel.load(source).dataobj), value)
        np.testing.assert_allclose(volume.affine @ [x, y, z, 1], nibabel.load(source).affine @ [*ijk, 1], atol=1e-5)
    header = read_header(source)
    assert header.shape == volume.array.shape and header.is_integer
    np.testing.assert_allclose(header.affine, volume.affine)
    np.testing.assert_allclose(header.spacing, volume.spacing)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_volume_goes_back_onto_its_own_grid_exactly(orientation, tmp_path):
    image = head(orientation, tilt=0.2)
    image.header["descrip"] = image.header["db_name"] = b"Jane Doe"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    source = save(image, tmp_path / "a.nii.gz")
    volume = read_nifti(source)
    write_nifti(volume, tmp_path / "same.nii.gz", like=source)
    same = nibabel.load(tmp_path / "same.nii.gz")
    np.testing.assert_array_equal(np.asarray(same.dataobj), np.asarray(image.dataobj))
    np.testing.assert_array_equal(same.affine, nibabel.load(source).affine)
    assert same.get_data_dtype() == np.int16
    assert not same.header.extensions and b"Jane" not in same.header.binaryblock
    write_nifti(volume._replace(array=volume.array == 2), tmp_path / "mask.nii", like=source)
    mask = nibabel.load(tmp_path / "mask.nii")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(image.dataobj) == 2)
    assert mask.get_data_dtype() == np.uint8
    write_nifti(volume, tmp_path / "own.nii.gz")
    own = read_nifti(tmp_path / "own.nii.gz")
    np.testing.assert_array_equal(own.array, volume.array)
    np.testing.assert_allclose(own.affine, volume.affine, atol=1e-5)


def test_a_volume_of_another_grid_is_not_written(tmp_path):
    source = save(head("LPS"), tmp_path / "a.nii")
    volume = read_nifti(source)
    with pytest.raises(ValueError, match="not lie on the grid of .*a.nii: its shape is"):
        write_nifti(volume._replace(array=volume.array[1:]), tmp_path / "b.nii", like=source)
    moved = volume.affine + np.eye(4)[:, [3, 3, 3, 0]] * 2
    with pytest.raises(ValueError, match="corners lie up to 2 mm elsewhere"):
        write_nifti(volume._replace(affine=moved), tmp_path / "b.nii", like=source)
    assert not (tmp_path / "b.nii").exists()


@pytest.mark.parametrize(
    "stored, expected",
    [("u1", "uint8"), ("i1", "int8"), ("i2", "int16"), (">i2", "int16"), ("u2", "uint16")]
    + [("i4", "int16"), ("i8", "int16"), ("f4", "float32"), (">f8", "float32")],
)
def test_values_stay_in_the_smallest_type(stored, expected, tmp_path):
    image = head("PSR")
    header = nibabel.Nifti1Header(endianness=">" if stored[0] == ">" else "<")
    image = nibabel.Nifti1Image(np.asarray(image.dataobj).astype(stored), image.affine, header, dtype=np.dtype(stored))
    volume = read_nifti(save(image, tmp_path / "a.nii.gz"))
    assert volume.array.dtype == expected and volume.array.dtype.isnative
    assert at(volume.array, 3) == (5, 4, 6)


@pytest.mark.parametrize(
    "kind, values, slope, intercept, expected",
    [
        ("i2", [0, 5, 1000], 1, -1024, np.array([-1024, -1019, -24], np.int16)),
        ("i2", [0, 5, 1000], 0.5, 1, np.array([1, 3.5, 501], np.float32)),
        ("i4", [-(2**31), 2**31 - 1, 0], 2.0**-32, 0.5, np.array([0, 1, 0.5], np.float32)),
        ("i4", [0, 70_000, 3], 1, 0, np.array([0, 70_000, 3], np.float32)),
        ("u4", [0, 40_000, 3], 1, 0, np.array([0, 40_000, 3], np.uint16)),
        ("i2", [0, 5, 1000], np.nan, np.nan, np.array([0, 5, 1000], np.int16)),
    ],
)
def test_scale_slopes_are_applied(kind, values, slope, intercept, expected, tmp_path):
    image = nibabel.Nifti1Image(np.array(values, kind).reshape(3, 1, 1), np.diag([-1, -1, 1, 1]))
    image.header.set_slope_inter(slope, intercept)
    path = tmp_path / "a.nii"
    image.header["vox_offset"] = 352
    image.header["magic"] = b"n+1"
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + np.array(values, kind).tobytes())
    array = read_nifti(path).array
    assert array.dtype == expected.dtype
    np.testing.assert_allclose(array.ravel(), expected, atol=1e-6)


def test_label_maps_are_whole_numbers_also_when_scaled(tmp_path):
    path = tmp_path / "a.nii"
    scaled = nibabel.Nifti1Image(np.zeros((2, 1, 1), np.int16), np.eye(4))
    scaled.header.set_slope_inter(0.99999994, 0)
    scaled.header["vox_offset"], scaled.header["magic"] = 352, b"n+1"
    path.write_bytes(scaled.header.binaryblock + b"\0" * 4 + np.array([0, 4], "<i2").tobytes())
    labels = read_nifti(path, labels=True).array
    assert labels.dtype == np.uint8 and sorted(labels.ravel().tolist()) == [0, 4]
    big = save(nibabel.Nifti1Image(np.full((2, 2, 2), 500, np.float64), np.eye(4)), path)
    assert read_nifti(big, labels=True).array.dtype == np.int32
    torn = save(nibabel.Nifti1Image(np.full((2, 2, 2), 0.5, np.float32), np.eye(4)), path)
    with pytest.raises(ValueError, match="a.nii is not a label map: it has values 0.5 away"):
        read_nifti(torn, labels=True)


def test_trailing_axes_of_one_are_left_out_and_more_are_an_error(tmp_path):
    image = head("LPS")
    data = np.asarray(image.dataobj)
    four = save(nibabel.Nifti1Image(data[..., None], image.affine), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_nifti(four).array, data.T)
    plane = save(nibabel.Nifti1Image(data[..., 3], image.affine), tmp_path / "b.nii.gz")
    assert read_nifti(plane).array.shape == (1, 10, 14)
    many = save(nibabel.Nifti1Image(np.stack([data] * 3, -1), image.affine), tmp_path / "c.nii.gz")
    for function in (read_nifti, read_header):
        with pytest.raises(ValueError, match=r"c.nii.gz holds 3 volumes .*four_to_three"):
            function(many)


def test_oblique_volumes_keep_their_slices_up_to_an_angle(tmp_path):
    slightly = save(head("LPS", tilt=np.radians(15)), tmp_path / "a.nii")
    volume = read_nifti(slightly)
    assert at(volume.array, 1) == (3, 4, 1)
    much = save(head("LPS", tilt=np.radians(34)), tmp_path / "b.nii")
    with pytest.raises(ValueError, match="b.nii is oblique: its axes are 34 degrees off .* 20 are"):
        read_nifti(much)
    np.testing.assert_array_equal(read_nifti(much, max_oblique=45).array, volume.array)


def test_voxels_that_are_not_finite_are_counted_or_set_to_zero(tmp_path):
    data = np.ones((4, 4, 4), np.float32)
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    path = save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="a.nii.gz has 3 of 64 voxels that are not finite"):
        read_nifti(path)
    assert read_nifti(path, nan="zero").array.sum() == 61
    with pytest.raises(ValueError, match="nan must be"):
        read_nifti(path, nan="ignore")
    huge = save(nibabel.Nifti1Image(np.full((2, 2, 2), 1e300), np.eye(4)), tmp_path / "b.nii")
    with pytest.raises(ValueError, match="8 of 8 voxels"):
        read_nifti(huge)


def test_the_contents_tell_whether_a_file_is_gzipped_and_members_are_joined(tmp_path):
    plain = save(head("LPS"), tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(plain)
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain))
    (tmp_path / "d.nii.gz").write_bytes(gzip.compress(plain[:700]) + gzip.compress(plain[700:]))
    expected = read_nifti(tmp_path / "a.nii").array
    for name in ("b.nii.gz", "c.nii", "d.nii.gz"):
        np.testing.assert_array_equal(read_nifti(tmp_path / name).array, expected)


def test_damaged_files_say_what_is_wrong(tmp_path):
    good = save(head("LPS"), tmp_path / "good.nii.gz").read_bytes()
    plain = gzip.decompress(good)
    checksum = good[:-8] + bytes([good[-8] ^ 1]) + good[-7:]
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0x55
    bad = tmp_path / "bad.nii.gz"
    for content, message in (
        (good[: len(good) // 2], "truncated|damaged"),
        (good[:-9], "is truncated"),
        (good[:-3], "is truncated"),
        (checksum, "is damaged"),
        (bytes(flipped), "is damaged|is truncated|not NIfTI|the magic"),
        (gzip.compress(plain[:-1]), "truncated: 1 of 1680 bytes are missing"),
        (plain[:-1], "is truncated"),
        (plain[:200], "is not NIfTI: it has 200 bytes"),
        (b"", "is not NIfTI"),
        (b"\x1f\x8b", "is truncated"),
        (b"x" * 400, "is not NIfTI: its header has another size"),
        (plain[:344] + b"ni1\0" + plain[348:], "has the magic b'ni1.*pairs"),
    ):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=f"bad.nii.gz.*({message})"):
            read_nifti(bad)
    with pytest.raises(FileNotFoundError, match="none.nii"):
        read_nifti(tmp_path / "none.nii")


@pytest.mark.parametrize(
    "offset, content, message",
    [
        (40, np.array([3, 32767, 32767, 32767], "<i2"), "expected 1 to 1073741824 voxels"),
        (
            40,
            np.array([3, 900, 900, 900], "<i2"),
            "truncated: its header promises 1458000000 bytes",
        ),
        (40, np.array([3, 14, -10, 6], "<i2"), r"has the shape \(14, -10, 6\)"),
        (40, np.array([3, 14, 0, 6], "<i2"), r"has the shape \(14, 0, 6\)"),
        (40, np.array([9], "<i2"), "9 dimensions"),
        (70, np.array([128], "<i2"), "expected one number each"),
        (70, np.array([32], "<i2"), "expected one number each"),
        (70, np.array([999], "<i2"), "damaged header"),
        (80, np.array([0], "<f4"), "has the spacing .*0.0.* expected positive"),
        (80, np.array([-1], "<f4"), "has the spacing .*-1.0.* expected positive"),
        (80, np.array([np.nan], "<f4"), "has the spacing .*nan.* expected positive"),
        (108, np.array([1e9], "<f4"), "has its voxels at byte"),
        (108, np.array([np.nan], "<f4"), "has its voxels at byte"),
        (112, np.array([1, np.nan], "<f4"), "damaged header"),
        (280, np.zeros(4, "<f4"), "expected positive numbers"),
        (280, np.full(4, np.nan, "<f4"), "expected positive numbers"),
    ],
)
def test_absurd_headers_are_errors_before_memory_is_taken(offset, content, message, tmp_path):
    path = patched(save(head("LPS"), tmp_path / "a.nii"), offset, content.tobytes())
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for file in (path, packed):
        with pytest.raises(ValueError, match=f"{file.name}.*({message})"):
            read_nifti(file)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """A gigabyte of zeros behind a small volume stays packed."""
    plain = save(head("LPS"), tmp_path / "a.nii").read_bytes()
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(plain)] + [packer.compress(bytes(1 << 20)) for _ in range(64)]
    (tmp_path / "b.nii.gz").write_bytes(b"".join(parts) + packer.flush())
    monkeypatch.setattr(volumes, "MAX_VOXELS", 840)
    assert read_nifti(tmp_path / "b.nii.gz").array.size == 840
    monkeypatch.setattr(volumes, "MAX_VOXELS", 839)
    with pytest.raises(ValueError, match="expected 1 to 839 voxels"):
        read_nifti(tmp_path / "b.nii.gz")


def test_mutated_nifti_files_raise_only_our_errors(tmp_path):
    random = np.random.default_rng(0)
    plain = save(head("PSR"), tmp_path / "a.nii").read_bytes()
    packed = gzip.compress(plain)
    path, failures = tmp_path / "b.nii.gz", 0
    for turn in range(600):
        raw = bytearray(packed if turn % 3 == 0 else plain)
        for _ in range(random.integers(1, 6)):
            # Mostly in the header.
            raw[random.integers(len(raw) if turn % 2 else min(352, len(raw)))] = random.integers(256)
        if turn % 5 == 0:
            raw = raw[: random.integers(len(raw))]
        path.write_bytes(raw)
        for function in (read_nifti, read_header):
            with np.errstate(all="ignore"):
                try:
                    function(path)
                except (ValueError, OSError) as error:
                    failures += 1
                    assert "b.nii.gz" in str(error)
    assert failures > 300


def metaimage(folder, array, name="oct", **changes):
    fields = {
        "ObjectType": "Image",
        "NDims": array.ndim,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "1 2 3",
        "ElementSpacing": "0.5 0.25 2",
        "DimSize": " ".join(map(str, array.shape[::-1])),
        "ElementType": "MET_USHORT" if array.itemsize == 2 else "MET_UCHAR",
        "ElementDataFile": f"{name}.raw",
    }
    fields = {key: value for key, value in (fields | changes).items() if value is not None}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")  # which ends the header
    path = folder / f"{name}.mhd"
    path.write_text("\n".join(f"{key} = {value}" for key, value in fields.items()) + "\n")
    (folder / f"{name}.raw").write_bytes(array.tobytes())
    return path


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2"])
def test_metaimages_come_in_the_order_stored(dtype, tmp_path):
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)
    msb = str(dtype == ">u2")
    volume = read_metaimage(metaimage(tmp_path, array, BinaryDataByteOrderMSB=msb))
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == {"u1": "uint8"}.get(dtype, "uint16")
    np.testing.assert_allclose(volume.spacing, [0.25, 0.5, 2])
    np.testing.assert_allclose(volume.affine @ [1, 1, 1, 1], [-1.5, -2.25, 5, 1])


def test_metaimages_agree_with_simpleitk(tmp_path):
    import SimpleITK as sitk

    array = np.random.default_rng(0).integers(0, 999, (4, 5, 6)).astype(np.int16)
    image = sitk.GetImageFromArray(array)
    angle = 0.3
    turn = [np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1]
    image.SetDirection(turn), image.SetSpacing((0.5, 0.7, 3)), image.SetOrigin((1, 2, 3))
    for name, packed in (("a.mhd", False), ("b.mhd", True), ("c.mha", False), ("d.mha", True)):
        sitk.WriteImage(image, str(tmp_path / name), packed)
        volume = read_metaimage(tmp_path / name)
        np.testing.assert_array_equal(volume.array, array)
        expected = np.array(image.TransformIndexToPhysicalPoint((2, 3, 1))) * [-1, -1, 1]
        np.testing.assert_allclose((volume.affine @ [2, 3, 1, 1])[:3], expected, atol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"DimSize": "4 3 9"}, "oct.raw holds 24 bytes, and its header oct.mhd promises 108"),
        ({"DimSize": "99999 99999 9"}, "expected 1 to"),
        ({"DimSize": None}, "lacks DimSize"),
        ({"DimSize": "4 3 two"}, "DimSize '4 3 two', expected numbers"),
        ({"ElementType": "MET_STRING"}, "ElementType 'MET_STRING', expected one of"),
        ({"ElementDataFile": "../oct.raw"}, "expected one file beside it"),
        ({"ElementDataFile": "/etc/passwd"}, "expected one file beside it"),
        ({"ElementDataFile": "LIST"}, "expected one file beside it"),
        ({"ElementDataFile": "no.raw"}, "no.raw, named by .*oct.mhd, does not exist"),
        ({"ElementSpacing": "1 0 1"}, "expected positive numbers"),
        ({"ElementSpacing": "1 1"}, "has 2 numbers in ElementSpacing, not 3"),
        ({"ElementNumberOfChannels": "3"}, "is not one volume"),
        ({"ElementNumberOfChannels": "x"}, "ElementNumberOfChannels 'x', expected numbers"),
        ({"HeaderSize": "x"}, "HeaderSize 'x', expected numbers"),
        ({"CompressedData": "True"}, "is damaged"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 0"}, "oct.mhd has"),
    ],
)
def test_bad_metaimages_say_what_is_wrong(changes, message, tmp_path):
    path = metaimage(tmp_path, np.zeros((2, 3, 4), np.uint8), **changes)
    with pytest.raises((ValueError, OSError), match=message):
        read_metaimage(path)


def test_mutated_metaimages_raise_only_our_errors(tmp_path):
    random = np.random.default_rng(0)
    path = metaimage(tmp_path, np.zeros((2, 3, 4), np.uint8))
    original = path.read_bytes()
    for _ in range(300):
        raw = bytearray(original)
        for _ in range(random.integers(1, 4)):
            raw[random.integers(len(raw))] = random.integers(256)
        path.write_bytes(raw)
        try:
            read_metaimage(path)
        except (ValueError, OSError) as error:
            assert "oct" in str(error)


SERIES = generate_uid()


def dicom(path, pixels, z=0.0, number=1, **changes):
    """Writes one axial slice; a change to None removes the element."""
    data = pydicom.Dataset()
    data.PatientName, data.PatientID = "Secret^Name", "secret-id"
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", generate_uid()
    data.SeriesInstanceUID, data.InstanceNumber = SERIES, number
    data.ImagePositionPatient = [-10, -20, z]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness = [1.5, 0.5], 4
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelData = pixels.astype("<u2").tobytes()
    data["PixelData"].VR = "OW"
    for name, value in changes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)
    return path


def series(folder, count=4, **changes):
    return [
        dicom(folder / f"{(7 * i) % count}.dcm", np.full((4, 6), 10 * i), 3.0 * i, i + 1, **changes)
        for i in range(count)
    ]


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


def test_volumes_of_any_kind_are_turned_and_checked_alike(tmp_path):
    array = np.zeros((6, 10, 14), np.uint8)
    array[1, 2, 3] = 1
    path = metaimage(tmp_path, array, TransformMatrix="1 0 0 0 1 0 0 0 -1")
    volume = read_volume(path, labels=True)
    assert at(volume.array, 1) == (4, 2, 3)
    assert read_header(path).shape == (6, 10, 14)
    source = save(head("PSR"), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(source).array, read_nifti(source).array)
    turned = metaimage(tmp_path, array, TransformMatrix="0.8 0.6 0 -0.6 0.8 0 0 0 1")
    with pytest.raises(ValueError, match="oblique"):
        read_volume(turned)


def test_real_scans_go_round_unchanged(shared_data, tmp_path):
    source = shared_data / "ms_raw" / "patient12" / "study1_FLAIR.nii.gz"
    volume = read_nifti(source)
    assert volume.array.dtype == np.uint16 and volume.array.shape == (48, 320, 320)
    write_nifti(volume, tmp_path / "a.nii", like=source)
    image, again = nibabel.load(source), nibabel.load(tmp_path / "a.nii")
    np.testing.assert_array_equal(np.asarray(again.dataobj), np.asarray(image.dataobj))
    np.testing.assert_array_equal(again.affine, image.affine)


def test_positions_rise_with_the_slices():
    affine = np.diag([-1.0, -1.0, 4.0, 1.0])
    affine[2, 3] = -10
    np.testing.assert_allclose(Volume(np.zeros((3, 2, 2)), affine).positions, [-10, -6, -2])
