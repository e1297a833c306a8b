"""Volumes in and out: NIfTI, MetaImage and DICOM series as arrays of one fixed orientation.

    volume = read_nifti("T1.nii.gz")         # array (S, H, W): slices from inferior to superior
    volume.array[80]                         # an axial slice as it is looked at: anterior up,
                                             # the patient's right on the viewer's left
    write_nifti(volume._replace(array=changed), "out.nii.gz", like="T1.nii.gz")

Axes are turned and mirrored to the nearest canonical ones; nothing is interpolated. A volume that
was acquired obliquely therefore stays oblique: its slices are those of the file, its affine says
how they lie. `max_oblique` bounds that angle.

Every file is read once and kept in the smallest type that holds it exactly: int16 stays int16,
float64 becomes float32. What a header promises is compared with what the file can hold before any
memory is taken. Bad input is a ValueError or OSError that names the file, the cause and the mend.
No text of a header (names, dates, descriptions) reaches a volume or an error.
"""

import math
import os
import pathlib
import re
import warnings
from collections.abc import Iterable
from typing import NamedTuple

import nibabel
import numpy as np
from isal import isal_zlib  # the same as zlib, in half the time
from nibabel import orientations

MAX_VOXELS = 2**30  # of a file; more is taken for a damaged header
MAX_OBLIQUE = 20.0  # degrees
_LPS = orientations.axcodes2ornt("LPS")
_DEFLATE_RATIO = 1032  # no gzip stream holds more than this many bytes a byte
_GET_IT_AGAIN = "Get the file again."


class Volume(NamedTuple):
    """One scan.

    `array` is (S, H, W). From `read_nifti`, `read_volume` and `canonical` its slices run from
    inferior to superior, its rows from anterior to posterior, and its columns from the patient's
    right to left. `affine` (4, 4) takes (column, row, slice) indices to millimetres right, anterior
    and superior, as nibabel's does. `files` are a DICOM series' files in the order of the slices.
    """

    array: np.ndarray
    affine: np.ndarray
    files: tuple[pathlib.Path, ...] = ()

    @property
    def spacing(self) -> np.ndarray:
        """(3,) float32: millimetres along rows' (y) and columns' (x) direction, and across
        slices.
        """
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(0))
        return np.array([y, x, z], np.float32)

    @property
    def positions(self) -> np.ndarray:
        """(S,) float64: where the slices lie along their normal, in millimetres."""
        columns, rows, slices = self.affine[:3, :3].T
        normal = np.cross(columns, rows)
        normal *= np.sign(normal @ slices) / np.linalg.norm(normal)
        return normal @ self.affine[:3, 3] + np.arange(len(self.array)) * (normal @ slices)


class Header(NamedTuple):
    """What a volume will be, known without reading it: `shape` (S, H, W) and `affine` as of the
    volume, and whether its values are whole numbers by their type.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    is_integer: bool

    @property
    def spacing(self) -> np.ndarray:
        """As of the volume."""
        return Volume(np.empty(0), self.affine).spacing


def read_volume(
    path: str | pathlib.Path,
    labels: bool = False,
    *,
    nan: str = "fail",
    max_oblique: float = MAX_OBLIQUE,
) -> Volume:
    """Reads a volume of any kind: .nii, .nii.gz, .mhd, .mha, or a folder with one DICOM series.

    Arguments and errors are those of `read_nifti`.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        files = [file for file in path.iterdir() if file.is_file() and file.name[0] != "."]
        volume = read_dicom_series(files)
    elif path.suffix.lower() in (".mhd", ".mha"):
        volume = read_metaimage(path)
    else:
        return read_nifti(path, labels, nan=nan, max_oblique=max_oblique)
    _check_oblique(path, volume.affine, max_oblique)
    volume = canonical(volume)
    array = _as_labels(path, volume.array) if labels else _finite(path, volume.array, nan)
    return volume._replace(array=array)


def read_header(path: str | pathlib.Path) -> Header:
    """The shape, affine and type of what `read_volume` would give, from a NIfTI file's first bytes;
    files of other kinds are read.
    """
    path = pathlib.Path(path)
    if path.is_dir() or path.suffix.lower() in (".mhd", ".mha"):
        volume = read_volume(path, nan="zero", max_oblique=90)
        return Header(volume.array.shape, volume.affine, volume.array.dtype.kind in "iu")
    with path.open("rb") as file:
        layout = _nifti_layout(path, _Bytes(path, file))
    shape = np.array(layout.shape)
    to_lps = orientations.ornt_transform(orientations.io_orientation(layout.affine), _LPS)
    affine = layout.affine @ orientations.inv_ornt_aff(to_lps, shape)
    x, y, z = shape[np.argsort(to_lps[:, 0])].tolist()
    return Header((z, y, x), affine, layout.dtype.kind in "iu" and layout.scale == (1, 0))


def read_nifti(
    path: str | pathlib.Path,
    labels: bool = False,
    *,
    nan: str = "fail",
    max_oblique: float = MAX_OBLIQUE,
) -> Volume:
    """Reads a NIfTI-1 or -2 file (.nii, or gzipped), turned to the order of `Volume`.

    A file without sform and qform has no orientation; it is taken as nibabel takes it, with the
    first axis from right to left.

    Args:
        path: the file; whether it is gzipped is seen from its first bytes, not its name.
        labels: it is a label map: values must be whole and are returned as uint8, or int32 where
            they need it.
        nan: what to do about voxels that are not finite: "fail", or "zero" to set them to 0.
        max_oblique: largest angle in degrees between the file's axes and the canonical ones.

    Returns:
        Its array in the file's integer type or float32.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: not NIfTI, truncated or damaged, not one volume, of a type that is not a number,
            without a usable affine, too oblique, voxels that are not finite, labels not whole.
    """
    path = pathlib.Path(path)
    with path.open("rb") as file:
        source = _Bytes(path, file)
        layout = _nifti_layout(path, source)
        _check_oblique(path, layout.affine, max_oblique)
        source.read(layout.offset - layout.header_size)
        content = source.read(math.prod(layout.shape) * layout.dtype.itemsize)
        source.finish()
    array = content.view(layout.dtype).reshape(layout.shape, order="F").T
    array = _values(path, array, *layout.scale)
    array = _as_labels(path, array) if labels else _finite(path, array, nan)
    return canonical(Volume(array, layout.affine))


def write_nifti(volume: Volume, path: str | pathlib.Path, like: str | pathlib.Path | None = None) -> None:
    """Writes a volume as NIfTI-1, gzipped when the name ends in .gz.

    float16 is written as float32 and bool as uint8, since NIfTI has neither.

    Args:
        volume: what to write.
        path: the file to write.
        like: the file that the volume came from. The new one then has its axes in the order of that
            file, and its header but for the type of the values, texts and extensions, which may
            name the patient.

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
            layout = _nifti_layout(like, _Bytes(like, file))
        turn = orientations.ornt_transform(
            orientations.io_orientation(volume.affine), orientations.io_orientation(layout.affine)
        )
        affine = affine @ orientations.inv_ornt_aff(turn, array.shape)
        array = orientations.apply_orientation(array, turn)
        problem = grid_difference(array.shape, affine, layout.shape, layout.affine)
        if problem:
            raise ValueError(f"The volume does not lie on the grid of {like}: {problem}.")
        affine, header = layout.affine, nibabel.load(like).header.copy()
        header.set_data_shape(array.shape)
        header["scl_slope"], header["scl_inter"] = np.nan, np.nan
        header["cal_min"], header["cal_max"] = 0, 0
        header.extensions.clear()  # DICOM headers and comments
        header.set_data_offset(0)
        for text in ("descrip", "aux_file", "intent_name", "db_name"):
            if text in header:
                header[text] = b""
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    image = kind(array, affine, header, dtype=array.dtype)
    if header is None:
        image.header.set_xyzt_units("mm")
    path = pathlib.Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        nibabel.save(image, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def canonical(volume: Volume) -> Volume:
    """The volume with its axes turned to the nearest canonical ones: slices from inferior to
    superior, rows from anterior to posterior, columns from right to left.

    Label maps on the same grid follow with the same affine:
    `canonical(volume._replace(array=mask))`.
    """
    turn = orientations.ornt_transform(orientations.io_orientation(volume.affine), _LPS)
    affine = volume.affine @ orientations.inv_ornt_aff(turn, volume.array.T.shape)
    array = orientations.apply_orientation(volume.array.T, turn).T
    # The files of the slices stay in order where the slices are still the first axis.
    files = volume.files[:: int(turn[2, 1])] if turn[2, 0] == 2 else ()
    return Volume(np.ascontiguousarray(array), affine, files)


def grid_difference(
    shape: tuple[int, ...],
    affine: np.ndarray,
    other_shape: tuple[int, ...],
    other_affine: np.ndarray,
) -> str:
    """How two grids differ, in words; empty when they are one to within a tenth of a voxel at each
    corner. Shapes are in the order of the affines' columns.
    """
    if tuple(shape) != tuple(other_shape):
        return f"its shape is {tuple(shape)}, expected {tuple(other_shape)}"
    corners = np.array(np.meshgrid(*[(0, length - 1) for length in shape])).reshape(3, -1)
    moved = (affine - other_affine)[:3] @ np.vstack([corners, np.ones(8)])
    distance = np.sqrt((moved**2).sum(0)).max()
    voxel = np.sqrt((other_affine[:3, :3] ** 2).sum(0)).min()
    return "" if distance < 0.1 * voxel else f"its corners lie up to {distance:.3g} mm elsewhere"


def read_metaimage(path: str | pathlib.Path) -> Volume:
    """Reads a MetaImage, .mha or .mhd with its raw file, in the order as stored.

    The first axis of the array is the file's slowest, e.g. (B-scan, depth, width) for the OCT
    volumes of RETOUCH; `canonical` turns a volume whose header says how it lies in the patient.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a header that is not MetaImage's or that lacks a line, a raw file of another
            size or outside of the folder, more than one channel, spacing that is not positive.
    """
    path = pathlib.Path(path)
    with path.open("rb") as file:
        fields, end = _metaimage_fields(path, file.read(1 << 16))
        shape = _numbers(path, fields, "DimSize", int)
        channels = _numbers(path, fields, "ElementNumberOfChannels", int, "1")
        skipped = _numbers(path, fields, "HeaderSize", int, "0")[0]
        if len(shape) not in (2, 3) or channels != [1]:
            raise ValueError(f"{path} is not one volume: DimSize is {shape}. Give one volume.")
        kind = fields.get("ElementType", "")
        if kind not in _METAIMAGE_TYPES:
            raise ValueError(f"{path} has ElementType {kind!r}, expected one of {', '.join(_METAIMAGE_TYPES)}.")
        is_big = "true" in (fields.get("ElementByteOrderMSB", fields.get("BinaryDataByteOrderMSB", "")).lower())
        dtype = np.dtype(_METAIMAGE_TYPES[kind]).newbyteorder(">" if is_big else "<")
        _check_voxels(path, shape)
        size = math.prod(shape) * dtype.itemsize
        name = fields["ElementDataFile"]
        if name == "LOCAL":
            file.seek(end)
            content, raw = file.read(), path
        else:
            raw = path.parent / name
            if pathlib.PurePath(name).name != name or "%" in name or name.startswith("LIST"):
                raise ValueError(
                    f"{path} names its data {name!r}, expected one file beside it. Put the data "
                    "there and its bare name into ElementDataFile."
                )
            if not raw.is_file():
                raise FileNotFoundError(f"{raw}, named by {path}, does not exist. Get it again.")
            content = raw.read_bytes()
    if fields.get("CompressedData", "").lower() == "true":
        try:
            content = isal_zlib.decompressobj(47).decompress(content, size + 1)
        except isal_zlib.error as error:
            raise ValueError(f"{raw} is damaged ({error}). {_GET_IT_AGAIN}") from error
    elif name != "LOCAL":
        content = content[len(content) - size if skipped < 0 else skipped :]
    if len(content) != size:
        raise ValueError(
            f"{raw} holds {len(content)} bytes, and its header {path.name} promises {size} "
            f"({shape} of {kind}). {_GET_IT_AGAIN}"
        )
    array = np.frombuffer(content, dtype).reshape(shape[::-1])
    affine = _metaimage_affine(path, fields, len(shape))
    array = _values(path, array[None] if array.ndim == 2 else array, 1.0, 0.0)
    return Volume(array, affine)


def read_dicom_series(files: Iterable[str | pathlib.Path], *, same_series: bool = True, nan: str = "fail") -> Volume:
    """Reads the slices of one DICOM series, sorted by position along their normal, with rescale
    slope and intercept applied.

    Rows and columns are as stored, slices run towards superior (left, posterior) for axial
    (sagittal, coronal) series: a common axial series is in the order of `canonical` as it is. Of
    several files at one position, the one with the largest InstanceNumber stays. The spacing across
    slices is the median distance of neighbours: missing slices are not made up for.

    Args:
        files: the slices, in any order.
        same_series: require one SeriesInstanceUID. Some anonymised data (CHAOS) have another one in
            each file; a folder is a series there.
        nan: as in `read_nifti`.

    Raises:
        OSError: a file cannot be read.
        ValueError: no files, a file that is not DICOM, has no pixels, no position, or is of another
            series, shape or direction than the first.
    """
    slices = [_dicom_slice(pathlib.Path(file)) for file in sorted(map(str, files))]
    if not slices:
        raise ValueError("A DICOM series needs at least one file, received none.")
    first = slices[0]
    for other in slices[1:]:
        if same_series and other.series != first.series:
            raise ValueError(
                f"{other.path} and {first.path} are of different series. Put each series into a folder of its own."
            )
        for name, tolerance in (("shape", 0), ("directions", 1e-3), ("pixel_spacing", 1e-3)):
            one, another = getattr(first, name), getattr(other, name)
            if not np.allclose(one, another, rtol=0, atol=tolerance):
                raise ValueError(
                    f"{other.path} has {name} {np.round(another, 4).tolist()}, and {first.path} "
                    f"{np.round(one, 4).tolist()}. Put each series into a folder of its own."
                )
    along_x, along_y = first.directions
    normal = np.cross(along_x, along_y)
    if normal[np.abs(normal).argmax()] < 0:
        normal = -normal
    at = {}
    for item in sorted(slices, key=lambda item: item.number):
        at[round(float(normal @ item.position), 2)] = item  # hundredths of a millimetre
    slices = [at[position] for position in sorted(at)]
    gap = float(np.median(np.diff(sorted(at)))) if len(at) > 1 else first.thickness
    directions = np.stack([along_x * first.pixel_spacing[1], along_y * first.pixel_spacing[0], normal * gap], axis=1)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions, slices[0].position
    affine[:2] *= -1  # DICOM counts towards left and posterior
    _check_affine(first.path, affine)
    if len({s.scale for s in slices}) == 1:
        array = _values(first.path, np.stack([s.pixels for s in slices]), *first.scale)
    else:  # as in PET
        array = np.stack([_values(s.path, s.pixels.astype(np.float32), *s.scale) for s in slices])
    return Volume(_finite(first.path, array, nan), affine, tuple(s.path for s in slices))


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
            raise ValueError(f"{self.path} is truncated: {missing} of {count} bytes are missing. {_GET_IT_AGAIN}")
        return content

    def finish(self) -> None:
        """Compares a gzipped file's checksum with what was read."""
        if self.is_packed:
            self._unpack_into(memoryview(bytearray(1)))
            if not self._decoder.eof and not self._packed:
                raise ValueError(f"{self.path} is truncated: it has no end. {_GET_IT_AGAIN}")

    def _unpack_into(self, content: memoryview) -> int:
        """Fills `content` as far as the file goes; returns how many bytes that were."""
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
                raise ValueError(f"{self.path} is damaged ({error}). {_GET_IT_AGAIN}") from error
            self._packed = self._decoder.unconsumed_tail
            content[done : done + len(part)] = part
            done += len(part)
        return done


class _Layout(NamedTuple):
    """How a NIfTI file lays out its volume; `shape` is (x, y, z), `scale` slope and intercept."""

    shape: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    scale: tuple[float, float]
    affine: np.ndarray
    header_size: int


def _nifti_layout(path: pathlib.Path, source: _Bytes) -> _Layout:
    """Reads the header of a NIfTI file and nothing behind it."""
    if source.size < 348 and not source.is_packed:
        raise ValueError(f"{path} is not NIfTI: it has {source.size} bytes. {_GET_IT_AGAIN}")
    block = source.read(348).tobytes()
    sizes = {order: int.from_bytes(block[:4], order) for order in ("little", "big")}
    if 540 in sizes.values():
        block += source.read(540 - 348).tobytes()
        kind = nibabel.Nifti2Header
    elif 348 in sizes.values():
        kind = nibabel.Nifti1Header
    else:
        raise ValueError(f"{path} is not NIfTI: its header has another size. {_GET_IT_AGAIN}")
    header = kind(block, "<" if sizes["little"] in (348, 540) else ">", check=False)
    magic = block[344:348] if kind is nibabel.Nifti1Header else block[4:8]
    if magic[:2] != b"n+":
        raise ValueError(
            f"{path} has the magic {magic!r}, expected 'n+'. Convert .hdr/.img pairs and Analyze "
            "files to one .nii each, e.g. with nibabel."
        )
    try:
        return _checked_layout(path, source, header, len(block))
    except (nibabel.spatialimages.HeaderDataError, ArithmeticError, KeyError, TypeError) as error:
        raise ValueError(f"{path} has a damaged header ({error}). {_GET_IT_AGAIN}") from error


def _checked_layout(path: pathlib.Path, source: _Bytes, header, header_size: int) -> _Layout:
    # The rank says how many of the lengths count; a slice or a row is a volume of one.
    rank, *lengths = (int(length) for length in header["dim"])
    if not 1 <= rank <= 7:
        raise ValueError(f"{path} has {rank} dimensions, expected 3. {_GET_IT_AGAIN}")
    lengths = [*lengths[:rank], 1, 1][: max(rank, 3)]
    if any(length > 1 for length in lengths[3:]):
        raise ValueError(
            f"{path} holds {math.prod(lengths[3:])} volumes (its shape is {tuple(lengths)}), "
            "expected one. Save one of them, e.g. with nibabel.four_to_three."
        )
    shape = tuple(lengths[:3])
    _check_voxels(path, shape)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise ValueError(f"{path} holds {dtype} voxels, expected one number each.")
    bytes_needed = math.prod(shape) * dtype.itemsize
    if bytes_needed > source.size * (_DEFLATE_RATIO if source.is_packed else 1):
        raise ValueError(
            f"{path} is truncated: its header promises {bytes_needed} bytes of voxels, more than "
            f"can be in its {source.size} bytes. {_GET_IT_AGAIN}"
        )
    offset = float(header["vox_offset"])
    if not (offset == 0 or header_size <= offset <= 2**24):
        raise ValueError(f"{path} has its voxels at byte {offset}. {_GET_IT_AGAIN}")
    slope, intercept = header.get_slope_inter()
    header["pixdim"][0] = header["pixdim"][0] if abs(header["pixdim"][0]) == 1 else 1
    spacing = np.asarray(header["pixdim"][1:4], float)
    if not all(0 < step < np.inf or n == 1 for step, n in zip(spacing, shape, strict=True)):
        raise ValueError(
            f"{path} has the spacing {tuple(spacing.tolist())} mm, expected positive numbers. "
            "Correct pixdim in its header, e.g. with nibabel's header.set_zooms."
        )
    header["pixdim"][1:4] = np.where((spacing > 0) & np.isfinite(spacing), spacing, 1)
    affine = np.asarray(header.get_best_affine(), float)
    _check_affine(path, affine)
    scale = (1.0, 0.0) if slope is None else (float(slope), float(intercept))
    offset = int(offset) or header_size + 4
    return _Layout(shape, dtype, offset, scale, affine, header_size)


def _check_voxels(path: pathlib.Path, shape: Iterable[int]) -> None:
    shape = tuple(shape)
    if min(shape) < 1 or math.prod(shape) > MAX_VOXELS:
        raise ValueError(f"{path} has the shape {shape}, expected 1 to {MAX_VOXELS} voxels. {_GET_IT_AGAIN}")


def _check_affine(path: pathlib.Path, affine: np.ndarray) -> None:
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(0))
    if not (np.isfinite(affine).all() and 0 < lengths.min() and lengths.max() < 1e4):
        raise ValueError(
            f"{path} has voxels of {tuple(lengths.tolist())} mm, expected positive numbers. Correct "
            "the affine in its header."
        )
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 0.1:
        raise ValueError(f"{path} has an affine whose axes lie in a plane. Correct its header.")


def _check_oblique(path: pathlib.Path, affine: np.ndarray, max_oblique: float) -> None:
    axes = affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(0))
    cosines = np.abs(axes).max(0)
    angle = math.degrees(math.acos(min(1.0, cosines.min())))
    if angle > max_oblique:
        raise ValueError(
            f"{path} is oblique: its axes are {angle:.0f} degrees off the canonical ones, at most "
            f"{max_oblique:.0f} are allowed. Raise max_oblique to take its slices as they are, or "
            "resample it, e.g. with nibabel.processing.resample_to_output."
        )


def _values(path: pathlib.Path, array: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """`array` times slope plus intercept, in this machine's byte order and in the smallest type
    that holds it: integers of up to 16 bits where whole numbers stay whole and fit, else float32.
    """
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not (math.isfinite(slope) and math.isfinite(intercept) and slope):
        raise ValueError(f"{path} has the scale {slope} x + {intercept}. {_GET_IT_AGAIN}")
    is_scaled = (slope, intercept) != (1, 0)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what is then infinite is an error of its own
            if is_scaled:
                array = array * slope + intercept
            return array.astype(np.float32, copy=False)
    if not is_scaled and array.dtype.itemsize <= 2:
        return array
    if slope.is_integer() and intercept.is_integer():
        ends = [int(end) * int(slope) + int(intercept) for end in (array.min(), array.max())]
        for kind in (np.int16, np.uint16):
            if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
                if is_scaled:
                    array = array.astype(np.int64) * int(slope) + int(intercept)
                return array.astype(kind)
    # float64 between: the scale of 32-bit integers can be tiny and their values huge.
    return (array.astype(np.float64) * slope + intercept).astype(np.float32)


def _finite(path: pathlib.Path, array: np.ndarray, nan: str) -> np.ndarray:
    if nan not in ("fail", "zero"):
        raise ValueError(f"nan must be 'fail' or 'zero', received {nan!r}.")
    # A sum is finite only if all are (and, short of an overflow, if all are).
    if array.dtype.kind != "f" or math.isfinite(array.sum(dtype=np.float64)):
        return array
    finite = np.isfinite(array)
    if nan == "zero":
        return np.where(finite, array, np.float32(0))
    raise ValueError(
        f"{path} has {array.size - np.count_nonzero(finite)} of {array.size} voxels that are not "
        "finite. Set them to 0 with nan=zero, or mend the file."
    )


def _as_labels(path: pathlib.Path, array: np.ndarray) -> np.ndarray:
    """Whole numbers as uint8, or int32 where they need it. What was scaled may be off by rounding
    errors.
    """
    whole = array
    if array.dtype.kind == "f":
        whole = np.rint(_finite(path, array, "fail"))
        if (distance := float(np.abs(whole - array).max())) > 1e-3:
            raise ValueError(
                f"{path} is not a label map: it has values {distance:.3g} away from whole numbers. "
                "Resample label maps by nearest neighbours."
            )
    if not (-(2**31) <= whole.min() and whole.max() < 2**31):
        raise ValueError(f"{path} is not a label map: it has values up to {whole.max()}.")
    fits = whole.min() >= 0 and whole.max() <= 255
    return whole.astype(np.uint8 if fits else np.int32, copy=False)


_METAIMAGE_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def _metaimage_fields(path: pathlib.Path, start: bytes) -> tuple[dict[str, str], int]:
    """The header's lines by name, and the byte behind the last, which is ElementDataFile."""
    fields, end = {}, 0
    for line in re.finditer(rb"([^\n]*)(\n|$)", start):
        name, equals, value = line[1].decode("latin-1").partition("=")
        if not equals:
            break
        fields[name.strip()], end = value.strip(), line.end()
        if name.strip() == "ElementDataFile":
            break
    if "ElementDataFile" not in fields or "DimSize" not in fields:
        raise ValueError(f"{path} is not a MetaImage header: it lacks DimSize or ElementDataFile. {_GET_IT_AGAIN}")
    return fields, end


def _numbers(path: pathlib.Path, fields: dict[str, str], name: str, kind: type, default: str = "") -> list:
    text = fields.get(name, default)
    try:
        numbers = [kind(number) for number in text.split()]
    except ValueError:
        numbers = []
    if not numbers:
        raise ValueError(f"{path} has {name} {text!r}, expected numbers.")
    return numbers


def _metaimage_affine(path: pathlib.Path, fields: dict[str, str], rank: int) -> np.ndarray:
    def found(names: tuple[str, ...], default: list[float]) -> np.ndarray:
        name = next((name for name in names if name in fields), None)
        numbers = default if name is None else _numbers(path, fields, name, float)
        if len(numbers) != len(default):
            raise ValueError(f"{path} has {len(numbers)} numbers in {name}, not {len(default)}.")
        return np.array(numbers)

    spacing = found(("ElementSpacing", "ElementSize"), [1.0] * rank)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(
            f"{path} has the spacing {tuple(spacing.tolist())} mm, expected positive numbers. Correct ElementSpacing."
        )
    directions = found(("TransformMatrix", "Orientation", "Rotation"), np.eye(rank).ravel().tolist())
    affine = np.eye(4)
    # Each row of the matrix is the direction of one axis.
    affine[:rank, :rank] = directions.reshape(rank, rank).T * spacing
    affine[:rank, 3] = found(("Offset", "Position", "Origin"), [0.0] * rank)
    affine[:2] *= -1  # MetaImage counts towards left and posterior
    _check_affine(path, affine)
    return affine


class _Slice(NamedTuple):
    """One DICOM file; directions (2, 3) of its rows' and columns' index."""

    path: pathlib.Path
    pixels: np.ndarray
    series: str
    number: int
    position: np.ndarray
    directions: np.ndarray
    pixel_spacing: np.ndarray
    thickness: float
    scale: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        return self.pixels.shape


# Everything that is read of a file: geometry and pixels, no name and no date.
_DICOM_TAGS = """
    SeriesInstanceUID InstanceNumber ImagePositionPatient ImageOrientationPatient PixelSpacing
    SliceThickness RescaleSlope RescaleIntercept Rows Columns BitsAllocated BitsStored HighBit
    PixelRepresentation SamplesPerPixel PhotometricInterpretation NumberOfFrames PixelData
""".split()


def _dicom_slice(path: pathlib.Path) -> _Slice:
    import pydicom  # only data sets of DICOM files wait for it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters here of a header is checked below
        try:
            data = pydicom.dcmread(path, specific_tags=_DICOM_TAGS)
        except OSError:
            raise
        except Exception as error:  # pydicom raises its own and Python's, by the damage
            raise ValueError(
                f"{path} is not a DICOM file ({type(error).__name__}). Remove it, or get it again."
            ) from error
        return _parsed_slice(path, data)


def _parsed_slice(path: pathlib.Path, data) -> _Slice:
    def element(name: str, convert, default=None):
        try:
            value = data.get(name)
            return default if value in (None, "") else convert(value)
        except Exception as error:  # as above; values are parsed when they are asked for
            raise ValueError(f"{path} has a damaged {name}. {_GET_IT_AGAIN}") from error

    def needed(name: str, count: int) -> np.ndarray:
        numbers = element(name, lambda value: np.array(value, float).reshape(count))
        if numbers is None or not np.isfinite(numbers).all():
            raise ValueError(f"{path} has no {name}, so that it has no place in a volume.")
        return numbers

    if "PixelData" not in data:
        raise ValueError(f"{path} has no pixel data. Remove it from the series, or get it again.")
    if element("NumberOfFrames", int, 1) != 1 or element("SamplesPerPixel", int, 1) != 1:
        raise ValueError(f"{path} holds several frames or colours, expected one slice of greys.")
    position = needed("ImagePositionPatient", 3)
    directions = needed("ImageOrientationPatient", 6).reshape(2, 3)
    pixel_spacing = needed("PixelSpacing", 2)
    if not (0 < pixel_spacing.min() and pixel_spacing.max() < 1e4):
        raise ValueError(f"{path} has the spacing {tuple(pixel_spacing.tolist())} mm, expected positive numbers.")
    thickness = element("SliceThickness", float, 1.0)
    _check_voxels(path, (element("Rows", int, 0), element("Columns", int, 0)))
    try:
        pixels = data.pixel_array
    except Exception as error:
        raise ValueError(
            f"{path} cannot be decoded ({type(error).__name__}). Get it again; compressed pixels "
            "need pydicom's plug-ins pylibjpeg and pylibjpeg-libjpeg."
        ) from error
    return _Slice(
        path=path,
        pixels=pixels,
        series=element("SeriesInstanceUID", str, ""),
        number=element("InstanceNumber", int, 0),
        position=position,
        directions=directions,
        pixel_spacing=pixel_spacing,
        thickness=thickness if 0 < thickness < 1e4 else 1.0,
        scale=(element("RescaleSlope", float, 1.0), element("RescaleIntercept", float, 0.0)),
    )
