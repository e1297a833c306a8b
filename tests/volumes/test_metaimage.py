import zlib

import numpy as np
import pytest

from tests.volumes.samples import metaimage
from tfdisent.volumes.metaimage import read_metaimage


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
        ({"DimSize": "99999 99999 9"}, "takes 90 GB, at most 1 are read"),
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
        ({"ElementSpacing": "1 -1 1"}, "expected positive numbers"),
        ({"NDims": "2"}, "oct.mhd has NDims 2 and DimSize"),
        ({"NDims": "-3"}, "oct.mhd has NDims -3 and DimSize"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 1"}, "has 8 numbers in TransformMatrix, not 9"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 0"}, "oct.mhd has a TransformMatrix whose rows are not of length 1"),
        ({"TransformMatrix": "1 0 0 0 1.1 0 0 0 1"}, "rows are not of length 1"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 nan 1"}, "rows are not of length 1"),
        ({"TransformMatrix": "1 0 0 0.6 0.8 0 0 0 1"}, "oct.mhd has axes at .* degrees, expected right angles"),
        ({"DistanceUnits": "um"}, "oct.mhd gives lengths in 'um', expected mm"),
    ],
)
def test_bad_metaimages_say_what_is_wrong(changes, message, tmp_path):
    path = metaimage(tmp_path, np.zeros((2, 3, 4), np.uint8), **changes)
    with pytest.raises((ValueError, OSError), match=message):
        read_metaimage(path)


@pytest.mark.parametrize("length, found", [(23, "23"), (25, "25 or more"), (48, "25 or more")])
def test_compressed_data_of_another_length_are_not_filled_up_or_cut(length, found, tmp_path):
    path = metaimage(tmp_path, np.zeros((2, 3, 4), np.uint8), CompressedData="True")
    (tmp_path / "oct.raw").write_bytes(zlib.compress(bytes(length)))
    with pytest.raises(ValueError, match=f"oct.raw holds {found} bytes, and its header oct.mhd promises 24"):
        read_metaimage(path)


@pytest.mark.parametrize("keep", [3, 100])
def test_truncated_compressed_data_are_refused(keep, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (4, 8, 8)).astype(np.uint8)
    path = metaimage(tmp_path, array, CompressedData="True")
    (tmp_path / "oct.raw").write_bytes(zlib.compress(array.tobytes())[:keep])
    with pytest.raises(ValueError, match="oct.raw holds .* promises 256"):
        read_metaimage(path)


def test_raw_files_may_begin_with_a_header_of_their_own(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for size, content in ((3, b"abc" + array.tobytes()), (-1, b"abcde" + array.tobytes())):
        path = metaimage(tmp_path, array, HeaderSize=size)
        (tmp_path / "oct.raw").write_bytes(content)
        np.testing.assert_array_equal(read_metaimage(path).array, array)
    metaimage(tmp_path, array)
    with pytest.raises(ValueError, match="oct.raw holds 25 or more bytes"):
        (tmp_path / "oct.raw").write_bytes(content)
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
