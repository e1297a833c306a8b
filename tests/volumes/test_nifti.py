import gzip
import itertools
import zlib

import nibabel
import numpy as np
import pytest

from tests.volumes.samples import at, head, patched, save
from tfdisent.volumes import volume as volumes
from tfdisent.volumes.nifti import read_nifti, read_nifti_header, write_nifti

# Every order of the axes, each with a direction of its own, and the ones that data sets have.
ORIENTATIONS = [
    "".join(pair[turn] for pair, turn in zip(axes, turns, strict=True))
    for axes, turns in zip(
        itertools.permutations(("RL", "AP", "SI")),
        [(0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1), (0, 1, 0)],
        strict=True,
    )
] + ["LPS", "LAS", "PSR", "ASL"]


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
    header = read_nifti_header(source)
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


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_whatever_header_is_read_can_be_written_after(kind, tmp_path):
    image = kind(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([-1, 1, 2, 1]))
    image.header.set_qform(image.affine, 1)
    raw = save(image, tmp_path / "a.nii").read_bytes()
    random, written = np.random.default_rng(0), 0
    for _ in range(500):
        damaged = bytearray(raw)
        for place in random.integers(0, image.header.sizeof_hdr, 3):
            damaged[place] = random.integers(256)
        (tmp_path / "b.nii.gz").write_bytes(damaged)  # plain, whatever the name says
        try:
            with np.errstate(over="ignore"):  # of scales that make float32 infinite
                volume = read_nifti(tmp_path / "b.nii.gz", nan="zero", max_oblique=90)
        except ValueError:
            continue
        write_nifti(volume, tmp_path / "c.nii", like=tmp_path / "b.nii.gz")
        again = read_nifti(tmp_path / "c.nii", nan="zero", max_oblique=90)
        np.testing.assert_array_equal(again.array, volume.array)
        np.testing.assert_allclose(again.affine, volume.affine, rtol=1e-6, atol=1e-4)
        written += 1
    assert written > 250


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
    for function in (read_nifti, read_nifti_header):
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
    with pytest.raises(ValueError, match="nan to be"):
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
        for function in (read_nifti, read_nifti_header):
            with np.errstate(all="ignore"):
                try:
                    function(path)
                except (ValueError, OSError) as error:
                    failures += 1
                    assert "b.nii.gz" in str(error)
    assert failures > 300


def test_real_scans_go_round_unchanged(shared_data, tmp_path):
    source = shared_data / "ms_raw" / "patient12" / "study1_FLAIR.nii.gz"
    volume = read_nifti(source)
    assert volume.array.dtype == np.uint16 and volume.array.shape == (48, 320, 320)
    write_nifti(volume, tmp_path / "a.nii", like=source)
    image, again = nibabel.load(source), nibabel.load(tmp_path / "a.nii")
    np.testing.assert_array_equal(np.asarray(again.dataobj), np.asarray(image.dataobj))
    np.testing.assert_array_equal(again.affine, image.affine)
