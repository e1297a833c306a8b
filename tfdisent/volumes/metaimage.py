"""Reading MetaImage: .mha, or .mhd with its raw file.

SimpleITK, which the project has for other things, is not used to read them (tests compare with what it writes): version
2.5 ends the process at `NDims = -3`, fills truncated or damaged compressed data up with whatever is in memory, reads
unknown types as bytes and a matrix of eight numbers as nine. A check of the header before it would be a second parser,
longer than this reader, and wrong images would come from wherever the two disagree.
"""

import math
import pathlib
import re
from typing import NamedTuple

import numpy as np
from isal import isal_zlib  # the same as zlib, in half the time

from tfdisent.volumes.volume import (
    GET_IT_AGAIN,
    MAX_GIGABYTES,
    Header,
    Volume,
    check_affine,
    check_size,
    in_smallest_type,
)

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def read_metaimage(path: str | pathlib.Path, *, max_gigabytes: float = MAX_GIGABYTES) -> Volume:
    """Reads a MetaImage in the order as stored.

    The first axis of the array is the file's slowest, e.g. (B-scan, depth, width) for the OCT volumes of RETOUCH;
    `canonical` turns a volume whose header says how it lies in the patient.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a header that is not MetaImage's or that lacks a line, a raw file of another size or outside of the
            folder, more than one channel, spacing that is not positive, axes not of unit length or not at right angles,
            more than `max_gigabytes` of voxels.
    """
    path = pathlib.Path(path)
    layout = _layout(path, max_gigabytes)
    size = math.prod(layout.shape) * layout.dtype.itemsize
    raw, start = _data_file(path, layout.fields, layout.end)
    content = _voxels(path, layout.fields, raw, start, size)
    if len(content) != size:
        held = f"{len(content)}{' or more' * (len(content) > size)}"
        raise ValueError(
            f"{raw} holds {held} bytes, and its header {path.name} promises {size} ({layout.shape[::-1]} of "
            f"{layout.fields['ElementType']}). {GET_IT_AGAIN}"
        )
    array = np.frombuffer(content, layout.dtype).reshape(layout.shape)
    return Volume(in_smallest_type(path, array, 1.0, 0.0), layout.affine)


def read_metaimage_header(path: str | pathlib.Path, *, max_gigabytes: float = MAX_GIGABYTES) -> Header:
    """The shape, affine and type of what `read_metaimage` would give, without reading voxels; same errors."""
    layout = _layout(pathlib.Path(path), max_gigabytes)
    return Header(layout.shape, layout.affine, layout.dtype.kind in "iu")


class _Layout(NamedTuple):
    """What a header says: `shape` (S, H, W), its lines, and where they end."""

    shape: tuple[int, int, int]
    dtype: np.dtype
    affine: np.ndarray
    fields: dict[str, str]
    end: int


def _layout(path: pathlib.Path, max_gigabytes: float) -> _Layout:
    with path.open("rb") as file:
        fields, end = _fields(path, file.read(1 << 16))
    shape = _numbers(path, fields, "DimSize", int)
    if len(shape) not in (2, 3) or _numbers(path, fields, "ElementNumberOfChannels", int, "1") != [1]:
        raise ValueError(f"{path} is not one volume: DimSize is {shape}. Give one volume.")
    if _numbers(path, fields, "NDims", int, str(len(shape))) != [len(shape)]:
        raise ValueError(f"{path} has NDims {fields['NDims']} and DimSize {shape}. {GET_IT_AGAIN}")
    kind = fields.get("ElementType", "")
    if kind not in _TYPES:
        raise ValueError(f"{path} has ElementType {kind!r}, expected one of {', '.join(_TYPES)}.")
    if (unit := fields.get("DistanceUnits", "mm").lower()) not in ("mm", "?", ""):
        raise ValueError(f"{path} gives lengths in {unit[:8]!r}, expected mm. Convert its header.")
    is_big = "true" in fields.get("ElementByteOrderMSB", fields.get("BinaryDataByteOrderMSB", "")).lower()
    dtype = np.dtype(_TYPES[kind]).newbyteorder(">" if is_big else "<")
    check_size(path, shape, dtype.itemsize, max_gigabytes)
    affine = _affine(path, fields, len(shape))
    x, y, z = [*shape, 1][:3]
    return _Layout((z, y, x), dtype, affine, fields, end)


def _data_file(path: pathlib.Path, fields: dict[str, str], end: int) -> tuple[pathlib.Path, int]:
    """The file that holds the voxels, and where they begin if the header does not say so."""
    name = fields["ElementDataFile"]
    if name == "LOCAL":
        return path, end
    if pathlib.PurePath(name).name != name or "%" in name or name.startswith("LIST"):
        raise ValueError(
            f"{path} names its data {name!r}, expected one file beside it. Put the data there and its bare name into "
            "ElementDataFile."
        )
    raw = path.parent / name
    if not raw.is_file():
        raise FileNotFoundError(f"{raw}, named by {path}, does not exist. Get it again.")
    return raw, 0


def _voxels(path: pathlib.Path, fields: dict[str, str], raw: pathlib.Path, start: int, size: int) -> bytes:
    """The voxels' bytes. Where the data hold more than `size` bytes, more than `size` are returned, not all."""
    header_size = _numbers(path, fields, "HeaderSize", int, "0")[0]
    is_packed = fields.get("CompressedData", "").lower() == "true"
    with raw.open("rb") as file:
        if raw != path and not is_packed:
            start = raw.stat().st_size - size if header_size < 0 else header_size
        file.seek(max(0, start))
        # Packed bytes are at most a little more than what they hold.
        content = file.read(size + 1 if not is_packed else size + size // 1000 + (1 << 16))
    if not is_packed:
        return content
    try:
        return isal_zlib.decompressobj(47).decompress(content, size + 1)
    except isal_zlib.error as error:
        raise ValueError(f"{raw} is damaged ({error}). {GET_IT_AGAIN}") from error


def _fields(path: pathlib.Path, start: bytes) -> tuple[dict[str, str], int]:
    """The header's lines by name, and the position after the last one, ElementDataFile."""
    fields, end = {}, 0
    for line in re.finditer(rb"([^\n]*)(\n|$)", start):
        name, equals, value = line[1].decode("latin-1").partition("=")
        if not equals:
            break
        fields[name.strip()], end = value.strip(), line.end()
        if name.strip() == "ElementDataFile":
            break
    if "ElementDataFile" not in fields or "DimSize" not in fields:
        raise ValueError(f"{path} is not a MetaImage header: it lacks DimSize or ElementDataFile. {GET_IT_AGAIN}")
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


def _affine(path: pathlib.Path, fields: dict[str, str], rank: int) -> np.ndarray:
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
    directions = directions.reshape(rank, rank)  # each row is the direction of one axis
    if not np.abs(np.linalg.norm(directions, axis=1) - 1).max() < 1e-3:  # NaN neither
        raise ValueError(f"{path} has a TransformMatrix whose rows are not of length 1. Correct its header.")
    affine = np.eye(4)
    affine[:rank, :rank] = directions.T * spacing
    affine[:rank, 3] = found(("Offset", "Position", "Origin"), [0.0] * rank)
    affine[:2] *= -1  # MetaImage counts towards left and posterior
    check_affine(path, affine)
    return affine
