"""Reading and writing NIfTI-1 and -2: .nii, and .nii.gz.

    volume = read_nifti("T1.nii.gz")         # array (S, H, W): slices from inferior to superior
    volume.array[80]                         # an axial slice as it is looked at: anterior up,
                                             # the patient's right on the viewer's left
    write_nifti(volume._replace(array=changed), "out.nii.gz", like="T1.nii.gz")

Every file is read once; a gzipped one is unpacked as it is read, and no further than its header says.
"""

import math
import os
import pathlib
from typing import NamedTuple

import nibabel
import numpy as np
from isal import isal_zlib  # the same as zlib, in half the time
from nibabel import orientations

from tfdisent import files
from tfdisent.volumes.volume import (
    GET_IT_AGAIN,
    MAX_GIGABYTES,
    MAX_OBLIQUE,
    Header,
    Volume,
    as_labels,
    canonical,
    canonical_header,
    check_affine,
    check_oblique,
    check_orientation,
    check_size,
    enough_memory,
    finite,
    grid_difference,
    in_smallest_type,
    turn_between,
)

_UNITS = {1: "metres", 3: "micrometres"}  # of xyzt_units; 2 is mm, and 0, not said, is taken for it
_DEFLATE_RATIO = 1032  # no gzip stream holds more than this many bytes a byte


def read_nifti(
    path: str | pathlib.Path,
    labels: bool = False,
    *,
    nan: str = "fail",
    orientation: str = "canonical",
    max_oblique: float = MAX_OBLIQUE,
    max_gigabytes: float = MAX_GIGABYTES,
) -> Volume:
    """Reads a NIfTI-1 or -2 file (.nii, or gzipped).

    A file without sform and qform has no orientation; it is taken as nibabel takes it, with the first axis from right
    to left. Of a file with both, the sform counts.

    Args:
        path: the file; whether it is gzipped is told by its first bytes, not its name.
        labels: it is a label map: values must be whole and are returned as uint8, or int32 where they need it.
        nan: what to do about voxels that are not finite: "fail", or "zero" to set them to 0.
        orientation: "canonical", turned to the order of `Volume`; or "as_acquired", where slices are those along the
            axis that the header calls that of the slices (`dim_info`), or else the third one, and rows and columns run
            as the file's other axes do.
        max_oblique: largest angle in degrees between the file's axes and the canonical ones, if it is turned to them.
        max_gigabytes: of voxels, unpacked, that are read at most.

    Returns:
        Its array in the file's integer type or float32.

    Raises:
        OSError: there is no such file, it cannot be read, or not in the memory that there is.
        ValueError: not NIfTI, truncated or damaged, not one volume, too large, of a type that is not a number, without
            a usable affine or with two that contradict each other, too oblique, voxels that are not finite, labels not
            whole.
    """
    path = pathlib.Path(path)
    check_orientation(orientation)
    with enough_memory(path), path.open("rb") as file:
        source = _Bytes(path, file)
        layout = _nifti_layout(path, source, max_gigabytes)
        if orientation == "canonical":
            check_oblique(path, layout.affine, max_oblique)
        source.read(layout.offset - layout.header_size)
        content = source.read(math.prod(layout.shape) * layout.dtype.itemsize)
        source.finish()
        array = content.view(layout.dtype).reshape(layout.shape, order="F")
        array = in_smallest_type(path, array, *layout.scale)
        array = as_labels(path, array) if labels else finite(path, array, nan)
        if orientation == "canonical":
            return canonical(Volume(array.T, layout.affine))
        return Volume(np.ascontiguousarray(array.transpose(layout.axes[::-1])), layout.affine[:, [*layout.axes, 3]])


def read_nifti_header(
    path: str | pathlib.Path, *, orientation: str = "canonical", max_gigabytes: float = MAX_GIGABYTES
) -> Header:
    """The shape, affine and type of what `read_nifti` would give, from the file's first bytes; same errors."""
    path = pathlib.Path(path)
    check_orientation(orientation)
    with path.open("rb") as file:
        layout = _nifti_layout(path, _Bytes(path, file), max_gigabytes)
    is_integer = layout.dtype.kind in "iu" and layout.scale == (1, 0)
    if orientation == "canonical":
        return canonical_header(Header(layout.shape[::-1], layout.affine, is_integer))
    x, y, z = (layout.shape[axis] for axis in layout.axes)
    return Header((z, y, x), layout.affine[:, [*layout.axes, 3]], is_integer)


def write_nifti(volume: Volume, path: str | pathlib.Path, like: str | pathlib.Path | None = None) -> None:
    """Writes a volume as NIfTI-1, gzipped when the name ends in .gz.

    float16 is written as float32 and bool as uint8, since NIfTI has neither.

    Args:
        volume: what to write.
        path: the file to write.
        like: the file that the volume came from. The new one then has its axes in the order of that file, and its
            header but for the type of the values, texts and extensions, which may name the patient.

    Raises:
        ValueError: the volume does not lie on the grid of `like`.
        OSError: the file cannot be written.
    """
    array = volume.array.T
    kept = {"float16": np.float32, "bool": np.uint8}.get(array.dtype.name, array.dtype)
    array = array.astype(kept, copy=False)
    affine, header = volume.affine, None
    if like is not None:
        like = pathlib.Path(like)
        with like.open("rb") as file:
            layout = _nifti_layout(like, _Bytes(like, file), math.inf)
        turn = turn_between(volume.affine, layout.affine)
        affine = affine @ orientations.inv_ornt_aff(turn, array.shape)
        array = orientations.apply_orientation(array, turn)
        problem = grid_difference(array.shape, affine, layout.shape, layout.affine)
        if problem:
            raise ValueError(f"The volume does not lie on the grid of {like}: {problem}.")
        affine, header = layout.affine, _grid_header(layout.header)
        header.set_data_shape(array.shape)
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    image = kind(array, affine, header, dtype=array.dtype)
    if header is None:
        image.header.set_xyzt_units("mm")
    with files.whole_file(path) as temporary:
        nibabel.save(image, temporary)


# What a header says of the grid; everything else describes the values, or may name the patient.
_GRID_FIELDS = ("dim_info", "pixdim", "xyzt_units", "qform_code", "sform_code")
_GRID_FIELDS += ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
_GRID_FIELDS += ("srow_x", "srow_y", "srow_z")


def _grid_header(header: nibabel.Nifti1Header) -> nibabel.Nifti1Header:
    """A new header of the same kind, with what another says of the grid."""
    new = type(header)()
    for field in _GRID_FIELDS:
        new[field] = header[field]
    # In reading a code that does not exist counts as any that is not 0.
    for field, code in (("qform_code", 1), ("sform_code", 2)):
        if not 0 <= int(header[field]) <= 5:
            new[field] = code
    return new


class _Bytes:
    """A file read from front to back, unpacked on the way when it is gzipped."""

    def __init__(self, path: pathlib.Path, file):
        self.path, self._file = path, file
        self.is_packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self.size = os.fstat(file.fileno()).st_size
        self._decoder, self._packed = isal_zlib.decompressobj(31), b""

    def read(self, count: int) -> np.ndarray:
        """The next `count` bytes (uint8)."""
        content = np.empty(count, np.uint8)
        fill = self._unpack_into if self.is_packed else self._file.readinto
        if (missing := count - fill(memoryview(content))) > 0:
            raise ValueError(f"{self.path} is truncated: {missing} of {count} bytes are missing. {GET_IT_AGAIN}")
        return content

    def finish(self) -> None:
        """Compares a gzipped file's checksum with what was read."""
        if self.is_packed:
            self._unpack_into(memoryview(bytearray(1)))
            if not self._decoder.eof and not self._packed:
                raise ValueError(f"{self.path} is truncated: it has no end. {GET_IT_AGAIN}")

    def _unpack_into(self, content: memoryview) -> int:
        """Fills `content` as far as the file goes; returns the number of bytes filled."""
        done = 0
        while done < len(content):
            if self._decoder.eof:  # a gzip file may be several, one after the other
                self._packed = self._decoder.unused_data + self._packed or self._file.read(1 << 16)
                if self._packed[:2] != b"\x1f\x8b":
                    break
                self._decoder = isal_zlib.decompressobj(31)
            self._packed = self._packed or self._file.read(1 << 16)
            if not self._packed:
                break
            try:
                part = self._decoder.decompress(self._packed, len(content) - done)
            except isal_zlib.error as error:
                raise ValueError(f"{self.path} is damaged ({error}). {GET_IT_AGAIN}") from error
            self._packed = self._decoder.unconsumed_tail
            content[done : done + len(part)] = part
            done += len(part)
        return done


class _Layout(NamedTuple):
    """How a NIfTI file lays out its volume; `shape` is (x, y, z), `scale` slope and intercept, `axes` those of the file
    along which columns, rows and slices were acquired, `header` as read.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    scale: tuple[float, float]
    affine: np.ndarray
    header_size: int
    axes: tuple[int, int, int]
    header: nibabel.Nifti1Header


def _nifti_layout(path: pathlib.Path, source: _Bytes, max_gigabytes: float) -> _Layout:
    """Reads the header of a NIfTI file and nothing after it."""
    if source.size < 348 and not source.is_packed:
        raise ValueError(f"{path} is not NIfTI: it has {source.size} bytes. {GET_IT_AGAIN}")
    block = source.read(348).tobytes()
    sizes = {order: int.from_bytes(block[:4], order) for order in ("little", "big")}
    if 540 in sizes.values():
        block += source.read(540 - 348).tobytes()
        kind = nibabel.Nifti2Header
    elif 348 in sizes.values():
        kind = nibabel.Nifti1Header
    else:
        raise ValueError(f"{path} is not NIfTI: its header has another size. {GET_IT_AGAIN}")
    header = kind(block, "<" if sizes["little"] in (348, 540) else ">", check=False)
    magic = block[344:348] if kind is nibabel.Nifti1Header else block[4:8]
    if magic[:2] != b"n+":
        raise ValueError(
            f"{path} has the magic {magic!r}, expected 'n+'. Convert .hdr/.img pairs and Analyze files to one .nii "
            "each, e.g. with nibabel."
        )
    try:
        return _checked_layout(path, source, header, len(block), max_gigabytes)
    except (nibabel.spatialimages.HeaderDataError, ArithmeticError, KeyError, TypeError) as error:
        raise ValueError(f"{path} has a damaged header ({error}). {GET_IT_AGAIN}") from error


def _checked_layout(path: pathlib.Path, source: _Bytes, header, header_size: int, max_gigabytes: float) -> _Layout:
    # The rank says how many of the lengths count; a slice or a row is a volume of one.
    rank, *lengths = (int(length) for length in header["dim"])
    if not 1 <= rank <= 7:
        raise ValueError(f"{path} has {rank} dimensions, expected 3. {GET_IT_AGAIN}")
    lengths = [*lengths[:rank], 1, 1][: max(rank, 3)]
    if any(length > 1 for length in lengths[3:]):
        raise ValueError(
            f"{path} holds {math.prod(lengths[3:])} volumes (its shape is {tuple(lengths)}), expected one. Save one of "
            "them, e.g. with nibabel.four_to_three."
        )
    shape = tuple(lengths[:3])
    dtype = header.get_data_dtype()
    check_size(path, shape, dtype.itemsize, max_gigabytes)
    if dtype.kind not in "iuf":
        raise ValueError(f"{path} holds {dtype} voxels, expected one number each.")
    bytes_needed = math.prod(shape) * dtype.itemsize
    if bytes_needed > source.size * (_DEFLATE_RATIO if source.is_packed else 1):
        raise ValueError(
            f"{path} is truncated: its header promises {bytes_needed} bytes of voxels, more than can be in its "
            f"{source.size} bytes. {GET_IT_AGAIN}"
        )
    offset = float(header["vox_offset"])
    if not (offset == 0 or header_size <= offset <= 2**24):
        raise ValueError(f"{path} has its voxels at byte {offset}. {GET_IT_AGAIN}")
    if np.isinf(header["scl_slope"]):  # NaN is how nibabel writes that there is none
        raise ValueError(f"{path} has the scale slope {header['scl_slope']}. {GET_IT_AGAIN}")
    slope, intercept = header.get_slope_inter()
    if unit := _UNITS.get(int(header["xyzt_units"]) % 8):
        raise ValueError(
            f"{path} gives lengths in {unit}, expected mm. Convert its affine, and say so by nibabel's "
            "header.set_xyzt_units('mm')."
        )
    header["pixdim"][0] = header["pixdim"][0] if abs(header["pixdim"][0]) == 1 else 1
    spacing = np.asarray(header["pixdim"][1:4], float)
    if not all(0 < step < np.inf or n == 1 for step, n in zip(spacing, shape, strict=True)):
        raise ValueError(
            f"{path} has the spacing {tuple(spacing.tolist())} mm, expected positive numbers. Correct pixdim in its "
            "header, e.g. with nibabel's header.set_zooms."
        )
    header["pixdim"][1:4] = np.where((spacing > 0) & np.isfinite(spacing), spacing, 1)
    affine = np.asarray(header.get_best_affine(), float)
    check_affine(path, affine)
    if header["sform_code"] > 0 and header["qform_code"] > 0:
        _check_agreement(path, affine, header)
    across = (int(header["dim_info"]) >> 4 & 3 or 3) - 1
    axes = (*(axis for axis in range(3) if axis != across), across)
    scale = (1.0, 0.0) if slope is None else (float(slope), float(intercept))
    offset = int(offset) or header_size + 4
    return _Layout(shape, dtype, offset, scale, affine, header_size, axes, header)


def _check_agreement(path: pathlib.Path, sform: np.ndarray, header) -> None:
    """Raises ValueError where sform and qform cannot both be true of one file: one mirrors the other, or both claim the
    same space and have other axes or voxels in it. A template's sform beside a scanner's qform is common, and fine.
    """
    try:
        qform = np.asarray(header.get_qform(), float)
    except ValueError:  # a quaternion that is none contradicts nothing
        return
    axes, others = ("".join(orientations.ornt2axcodes(orientations.io_orientation(form))) for form in (sform, qform))
    is_mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
    sizes, other_sizes = (np.sqrt((form[:3, :3] ** 2).sum(0)) for form in (sform, qform))
    is_other = axes != others or not np.allclose(sizes, other_sizes, rtol=0.02)
    if is_mirrored or (is_other and header["sform_code"] == header["qform_code"]):
        raise ValueError(
            f"{path} has an sform (axes {axes}, voxels of {np.round(sizes, 3).tolist()} mm) that contradicts its qform "
            f"({others}, {np.round(other_sizes, 3).tolist()} mm), so that programs show it differently. Find out which "
            "is right, and set the code of the other to 0."
        )
