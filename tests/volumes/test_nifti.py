import gzip
import itertools
import zlib

import nibabel
import numpy as np
import pytest

from tests.volumes.samples import at, head, patched, save
from tfdisent.volumes import aligned, read_volume
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
        (40, np.array([3, 32767, 32767, 32767], "<i2"), "takes 7.04e.04 GB, at most 1 are read"),
        (
            40,
            np.array([3, 700, 700, 700], "<i2"),
            "truncated: its header promises 686000000 bytes",
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
    assert read_nifti(tmp_path / "b.nii.gz", max_gigabytes=1680e-9).array.size == 840
    for function in (read_nifti, read_nifti_header):
        with pytest.raises(
            ValueError, match="b.nii.gz has the shape .* at most 1.67e-06 are read.* raise max_gigabytes"
        ):
            function(tmp_path / "b.nii.gz", max_gigabytes=1670e-9)


def test_a_small_file_of_many_voxels_is_refused_before_memory_is_taken(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((1, 1, 1)), np.eye(4))
    image.header["dim"][:4], image.header["magic"], image.header["vox_offset"] = (3, 640, 640, 640), b"n+1", 352
    packer = zlib.compressobj(9, wbits=31)
    header = packer.compress(image.header.binaryblock + bytes(4))
    (tmp_path / "a.nii.gz").write_bytes(header + packer.compress(bytes(1 << 22)) + packer.flush() + bytes(1 << 21))
    with pytest.raises(
        ValueError, match=r"a.nii.gz has the shape \(640, 640, 640\), which takes 2.1 GB, at most 1 are"
    ):
        read_nifti(tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="a.nii.gz is truncated"):
        read_nifti(tmp_path / "a.nii.gz", max_gigabytes=3)


def test_too_little_memory_names_the_file(tmp_path, monkeypatch):
    path = save(head("LPS"), tmp_path / "a.nii")

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("tfdisent.volumes.nifti.in_smallest_type", fail)
    for function in (read_nifti, read_volume):
        with pytest.raises(OSError, match="not enough memory to read .*a.nii"):
            function(path)


def test_axes_that_are_not_at_right_angles_are_refused(tmp_path):
    affine = np.diag([-1.0, -1, 3, 1])
    affine[1, 2] = 3 * np.tan(np.radians(15))  # a gantry tilted by 15 degrees
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    image.set_sform(affine, 1), image.set_qform(None, 0)
    with pytest.raises(ValueError, match="a.nii has axes at 1?[07]5.0 degrees, expected right angles"):
        read_nifti(save(image, tmp_path / "a.nii"))
    affine[1, 2] = 3 * np.tan(np.radians(0.5))  # by rounding
    image.set_sform(affine, 1)
    assert read_nifti(save(image, tmp_path / "b.nii")).array.shape == (6, 5, 4)


def test_an_sform_that_contradicts_the_qform_is_refused_and_one_of_a_template_is_not(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([-1.0, -1, 3, 1]))
    image.set_sform(np.diag([1.0, -1, 3, 1]), 4), image.set_qform(np.diag([-1.0, -1, 3, 1]), 1)
    with pytest.raises(ValueError, match=r"a.nii has an sform \(axes RPS, .* contradicts its qform \(LPS"):
        read_nifti(save(image, tmp_path / "a.nii"))  # mirrored
    turned = np.array([[0, 1.0, 0, 0], [-1, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    image.set_sform(turned, 1)
    image.set_qform(np.diag([-1.0, -1, 3, 1]), 1)
    with pytest.raises(ValueError, match="contradicts its qform"):
        read_nifti(save(image, tmp_path / "b.nii"))
    image.set_sform(turned, 4)
    np.testing.assert_allclose(read_nifti(save(image, tmp_path / "c.nii")).spacing, (1, 1, 3))
    image.set_sform(np.diag([-1.1, -1.2, 3.1, 1]), 4)  # a head brought to a template's size
    np.testing.assert_allclose(read_nifti(save(image, tmp_path / "d.nii")).spacing, (1.2, 1.1, 3.1), rtol=1e-6)


@pytest.mark.parametrize(
    "offset, content, message",
    [
        (112, np.array([np.inf], "<f4"), "scale slope inf"),
        (112, np.array([1, np.inf], "<f4"), "damaged header"),
        (123, np.array([1], "u1"), "lengths in metres, expected mm"),
        (123, np.array([3 + 8], "u1"), "lengths in micrometres, expected mm"),
    ],
)
def test_scales_and_units_that_would_be_misread_are_refused(offset, content, message, tmp_path):
    path = patched(save(head("LPS"), tmp_path / "a.nii"), offset, content.tobytes())
    with pytest.raises(ValueError, match=f"a.nii.*{message}"):
        read_nifti(path)


def short_axis(degrees=53.0, shape=(48, 40, 9), dim_info=None):
    """A stack of 48 x 40 pixels of 1.5 mm and 9 slices of 8 mm, tilted about two axes; voxels tell their indices."""
    a, b = np.radians(degrees), np.radians(20.0)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (1.5, 1.5, 8.0), (-20, 30, 11)
    x, y, z = np.indices(shape)
    image = nibabel.Nifti1Image((x + 100 * y + 10_000 * (z % 3)).astype(np.int16), affine)
    image.header.set_xyzt_units("mm")
    if dim_info is not None:
        image.header.set_dim_info(*dim_info)
    return image


def test_an_oblique_stack_is_read_as_acquired_and_written_back_onto_its_own_grid(tmp_path):
    image = short_axis()
    path = save(image, tmp_path / "sax.nii.gz")
    message = r"sax.nii.gz is oblique: its axes are \d\d degrees off those of the body.* orientation=as_acquired takes"
    with pytest.raises(ValueError, match=message):
        read_nifti(path)
    volume = read_nifti(path, orientation="as_acquired")
    np.testing.assert_array_equal(volume.array, np.asarray(image.dataobj).T)
    np.testing.assert_allclose(volume.affine, image.affine, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(volume.spacing, (1.5, 1.5, 8), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(volume.directions, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(volume.directions[2], image.affine[:3, 2] / 8, atol=1e-6)
    header = read_nifti_header(path, orientation="as_acquired")
    assert header.shape == volume.array.shape
    np.testing.assert_array_equal(header.affine, volume.affine)
    write_nifti(volume._replace(array=volume.array + 1), tmp_path / "out.nii.gz", like=path)
    out, source = nibabel.load(tmp_path / "out.nii.gz"), nibabel.load(path)
    np.testing.assert_array_equal(out.affine, source.affine)
    np.testing.assert_array_equal(np.asarray(out.dataobj), np.asarray(image.dataobj) + 1)
    with pytest.raises(ValueError, match="orientation to be one of canonical, as_acquired"):
        read_nifti(path, orientation="oblique")


@pytest.mark.parametrize("degrees", [0, 30, 44.9, 45, 45.1, 53, 90, 135, 180])
def test_a_stack_at_any_angle_goes_back_onto_its_grid(degrees, tmp_path):
    image = short_axis(degrees)
    path = save(image, tmp_path / "a.nii")
    for options in ({"orientation": "as_acquired"}, {"max_oblique": 90}):
        volume = read_nifti(path, **options)
        write_nifti(volume, tmp_path / "b.nii", like=path)
        out = nibabel.load(tmp_path / "b.nii")
        np.testing.assert_array_equal(np.asarray(out.dataobj), np.asarray(image.dataobj))
        np.testing.assert_array_equal(out.affine, nibabel.load(path).affine)


def test_the_slice_axis_of_the_header_counts_else_the_third(tmp_path):
    image = short_axis(shape=(9, 48, 40), dim_info=(1, 2, 0))
    volume = read_nifti(save(image, tmp_path / "a.nii"), orientation="as_acquired")
    data = np.asarray(image.dataobj)
    assert volume.array.shape == (9, 40, 48)
    np.testing.assert_array_equal(volume.array[4], data[4].T)
    np.testing.assert_allclose(volume.affine @ [3, 5, 2, 1], image.affine @ [2, 3, 5, 1], atol=1e-4)
    write_nifti(volume, tmp_path / "b.nii", like=tmp_path / "a.nii")
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "b.nii").dataobj), data)


def test_volumes_with_parallel_axes_are_aligned_at_any_angle(tmp_path):
    image = short_axis(45)
    other = image.as_reoriented(np.array([[1, -1], [2, 1], [0, 1]]))
    one, two = (
        read_nifti(save(image, tmp_path / f"{name}.nii"), orientation="as_acquired")
        for name, image in (("a", image), ("b", other))
    )
    assert one.array.shape != two.array.shape
    same = aligned(two, one.affine)
    np.testing.assert_array_equal(same.array, one.array)
    np.testing.assert_allclose(same.affine, one.affine, atol=1e-4)


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
