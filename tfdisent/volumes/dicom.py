"""Reading DICOM series: files of one slice of grey values each, sorted by position.

A series becomes a volume only if its files are one: one slice at each position, all positions on one regular grid. What
is not (two echoes or time points, missing slices, a tilted gantry) is refused, with the tag and the files that say so.
"""

import io
import math
import pathlib
import warnings
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfdisent.volumes.volume import (
    GET_IT_AGAIN,
    MAX_GIGABYTES,
    Header,
    Volume,
    check_affine,
    check_size,
    finite,
    in_smallest_type,
)


def read_dicom_series(
    files: Iterable[str | pathlib.Path],
    *,
    same_series: bool = True,
    nan: str = "fail",
    max_gigabytes: float = MAX_GIGABYTES,
) -> Volume:
    """Reads the slices of one DICOM series, sorted by position along their normal, with rescale slope and intercept
    applied. Grey values of MONOCHROME1, where more is darker, are inverted within the range that is stored.

    Rows and columns are as stored, slices run towards superior (left, posterior) for axial (sagittal, coronal) series:
    a common axial series is in the order of `canonical` as it is. Copies of one slice count once.

    Args:
        files: the slices, in any order.
        same_series: require one SeriesInstanceUID. Some anonymised data (CHAOS) have another one in each file; a folder
            is a series there.
        nan: as in `read_nifti`.
        max_gigabytes: of pixels, unpacked, that are read at most.

    Raises:
        OSError: a file cannot be read.
        ValueError: no files, or one that is not DICOM, has no pixels, no position, directions that are not of unit
            length and at right angles, or is of another series, shape or direction than the first; several slices at
            one position; slices that are missing or that lie off the grid of the others by more than a tenth of their
            distance, as with a tilted gantry; too many gigabytes.
    """
    slices = _read(files, same_series, max_gigabytes)
    slices, affine = _stacked(slices)
    first = slices[0]
    if len({one.scale for one in slices}) == 1:
        array = in_smallest_type(first.path, np.stack([_pixels(one) for one in slices]), *first.scale)
    else:  # as in PET
        array = np.stack([in_smallest_type(one.path, _pixels(one).astype(np.float32), *one.scale) for one in slices])
    return Volume(finite(first.path, array, nan), affine, tuple(one.path for one in slices))


def read_dicom_header(
    files: Iterable[str | pathlib.Path], *, same_series: bool = True, max_gigabytes: float = MAX_GIGABYTES
) -> Header:
    """The shape, affine and type of what `read_dicom_series` would give, without decoding pixels; same errors, but for
    pixels that cannot be decoded.
    """
    slices, affine = _stacked(_read(files, same_series, max_gigabytes, with_pixels=False), compare_pixels=False)
    is_integer = all(number.is_integer() for one in slices for number in one.scale)
    return Header((len(slices), *slices[0].shape), affine, is_integer)


class _Slice(NamedTuple):
    """One file of a series.

    `directions` (2, 3) are those in the patient along which columns and rows are counted. `volume` holds what tells
    volumes of one series apart. `inverted_in` are the ends of the stored range of MONOCHROME1, else None. `data` is
    pydicom's.
    """

    path: pathlib.Path
    shape: tuple[int, int]
    series: str
    number: int
    position: np.ndarray
    directions: np.ndarray
    pixel_spacing: np.ndarray
    thickness: float
    scale: tuple[float, float]
    inverted_in: tuple[int, int] | None
    volume: dict[str, Any]
    data: Any


# By which the volumes of one series differ, and their slices at one position.
_VOLUME_TAGS = """
    EchoTime EchoNumbers TemporalPositionIdentifier TemporalPositionIndex AcquisitionNumber InversionTime FlipAngle
    RepetitionTime DiffusionBValue DiffusionGradientOrientation TriggerTime NominalCardiacTriggerDelayTime
    FrameReferenceTime ComplexImageComponent StackID ImageType
""".split()
_OF_WHOLE_VOLUMES = ("EchoTime", "TemporalPositionIdentifier")  # which are one for all slices of a volume
# Everything that is read of a file: geometry and pixels, no name and no date.
_DICOM_TAGS = (
    """
    SeriesInstanceUID InstanceNumber ImagePositionPatient ImageOrientationPatient PixelSpacing
    SliceThickness RescaleSlope RescaleIntercept ModalityLUTSequence Rows Columns BitsAllocated BitsStored HighBit
    PixelRepresentation SamplesPerPixel PhotometricInterpretation NumberOfFrames PixelData
""".split()
    + _VOLUME_TAGS
)


# --- from files to slices ---


def _read(
    files: Iterable[str | pathlib.Path], same_series: bool, max_gigabytes: float, with_pixels: bool = True
) -> list[_Slice]:
    """The slices in the order of their names, checked to be of one series."""
    slices, gigabytes = [], 0.0
    for path in map(pathlib.Path, sorted(map(str, files))):
        one = _dicom_slice(path, max_gigabytes, with_pixels)
        gigabytes += math.prod(one.shape) * one.data.BitsAllocated / 8e9
        if gigabytes > max_gigabytes:
            raise ValueError(
                f"{path.parent} holds more than {max_gigabytes:g} GB of pixels up to {path.name}, more are not read. "
                "Raise max_gigabytes if this is one series."
            )
        slices.append(one)
    if not slices:
        raise ValueError("Expected at least one file of a DICOM series, received none.")
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
        if other.inverted_in != first.inverted_in:
            raise ValueError(
                f"{other.path} and {first.path} differ in PhotometricInterpretation, or in BitsStored of MONOCHROME1. "
                "Put each series into a folder of its own."
            )
    return slices


def _dicom_slice(path: pathlib.Path, max_gigabytes: float, with_pixels: bool) -> _Slice:
    import pydicom  # only data sets of DICOM files wait for it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters here of a header is checked below
        try:
            with path.open("rb") as file:
                start = file.read(_START)
                content = start + file.read() if with_pixels or _DEFLATED in start else b""
                _check_deflated(path, content, max_gigabytes)
                file.seek(0)
                source = io.BytesIO(content) if content else file
                data = pydicom.dcmread(source, specific_tags=_DICOM_TAGS, defer_size=None if with_pixels else _START)
        except OSError as error:
            if error.filename is not None:
                raise
            raise OSError(f"{path} cannot be read ({error}). {GET_IT_AGAIN}") from error
        except (_TooLarge, MemoryError):
            raise
        except Exception as error:  # by the damage, pydicom raises errors of its own and of Python
            raise ValueError(
                f"{path} is not a DICOM file ({type(error).__name__}). Remove it, or get it again."
            ) from error
        return _parsed_slice(path, data, max_gigabytes)


class _TooLarge(ValueError):
    """A file that unpacks to more than is read."""


_DEFLATED = b"1.2.840.10008.1.2.1.99"
_START = 4096  # bytes of a file that say whether it is packed; tags that are longer, as pixels, are no header


def _check_deflated(path: pathlib.Path, content: bytes, max_gigabytes: float) -> None:
    """Raises ValueError where a file that is packed as a whole, which pydicom unpacks before its size is known, holds
    more than a tenth of what may be read of a series.
    """
    if _DEFLATED not in content[:_START]:
        return
    # After 128 bytes and DICM the length of the file's own header, which is not packed.
    start = 144 + int.from_bytes(content[140:144], "little")
    decoder, size, limit = zlib.decompressobj(-zlib.MAX_WBITS), 0, int(max_gigabytes * 1e8)
    packed = content[start:]
    while packed and not decoder.eof:
        size += len(decoder.decompress(packed, 1 << 20))
        packed = decoder.unconsumed_tail
        if size > limit:
            raise _TooLarge(
                f"{path} unpacks to more than {limit / 1e6:g} MB, of {len(content)} bytes. Get it again if this is not "
                "its size; else raise max_gigabytes, a tenth of which one packed file may take."
            )


def _parsed_slice(path: pathlib.Path, data, max_gigabytes: float) -> _Slice:
    def element(name: str, convert, default=None):
        try:
            value = data.get(name)
            return default if value in (None, "") else convert(value)
        except Exception as error:  # as above; values are parsed when they are asked for
            raise ValueError(f"{path} has a damaged {name}. {GET_IT_AGAIN}") from error

    def needed(name: str, count: int) -> np.ndarray:
        numbers = element(name, lambda value: np.array(value, float).reshape(count))
        if numbers is None or not np.isfinite(numbers).all():
            raise ValueError(f"{path} has no {name}, so that it has no place in a volume.")
        return numbers

    if "PixelData" not in data:
        raise ValueError(f"{path} has no pixel data. Remove it from the series, or get it again.")
    if element("NumberOfFrames", int, 1) != 1 or element("SamplesPerPixel", int, 1) != 1:
        raise ValueError(f"{path} holds several frames or colours, expected one slice of grey values.")
    if "ModalityLUTSequence" in data:
        raise ValueError(
            f"{path} has a ModalityLUTSequence, expected RescaleSlope and RescaleIntercept. Convert the series, e.g. "
            "with pydicom.pixels.apply_modality_lut."
        )
    position = needed("ImagePositionPatient", 3)
    directions = needed("ImageOrientationPatient", 6).reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1)
    if np.abs(lengths - 1).max() > 1e-3 or abs(directions[0] @ directions[1]) > 1e-3:
        raise ValueError(
            f"{path} has ImageOrientationPatient {np.round(directions, 4).tolist()}, expected two vectors of length 1 "
            f"at right angles. {GET_IT_AGAIN}"
        )
    pixel_spacing = needed("PixelSpacing", 2)
    if not (0 < pixel_spacing.min() and pixel_spacing.max() < 1e4):
        raise ValueError(f"{path} has the spacing {tuple(pixel_spacing.tolist())} mm, expected positive numbers.")
    thickness = element("SliceThickness", float, 1.0)
    shape = element("Rows", int, 0), element("Columns", int, 0)
    allocated = element("BitsAllocated", int, 0)
    stored, is_signed = element("BitsStored", int, allocated), element("PixelRepresentation", int, 0) == 1
    if allocated not in (1, 8, 16, 32, 64) or not 0 < stored <= allocated:
        raise ValueError(f"{path} has {allocated} BitsAllocated and {stored} BitsStored. {GET_IT_AGAIN}")
    check_size(path, shape, allocated / 8, max_gigabytes)
    scale = element("RescaleSlope", float, 1.0), element("RescaleIntercept", float, 0.0)
    photometric = element("PhotometricInterpretation", str, "")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"{path} has a PhotometricInterpretation other than MONOCHROME2 and MONOCHROME1.")
    inverted_in = None
    if photometric == "MONOCHROME1":
        if scale != (1, 0):
            raise ValueError(
                f"{path} has the PhotometricInterpretation MONOCHROME1, and by its rescale slope its values have a "
                "unit, which they would lose inverted. Write it as MONOCHROME2, if it is not meant as a negative."
            )
        inverted_in = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if is_signed else (0, 2**stored - 1)
    return _Slice(
        path=path,
        shape=shape,
        series=element("SeriesInstanceUID", str, ""),
        number=element("InstanceNumber", int, 0),
        position=position,
        directions=directions / lengths[:, None],
        pixel_spacing=pixel_spacing,
        thickness=thickness if 0 < thickness < 1e4 else 1.0,
        scale=scale,
        inverted_in=inverted_in,
        volume={name: element(name, _plain) for name in _VOLUME_TAGS},
        data=data,
    )


def _plain(value: Any) -> Any:
    """A tag's value as a number or numbers where it is, else as text."""
    try:
        return tuple(float(number) for number in ([value] if isinstance(value, str | int | float) else value))
    except (TypeError, ValueError):
        return str(value)


def _pixels(one: _Slice) -> np.ndarray:
    """(Rows, Columns), as stored, inverted where more is darker."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = one.data.pixel_array
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"{one.path} cannot be decoded ({type(error).__name__}). Get it again; compressed pixels need pydicom's "
            "plug-ins pylibjpeg and pylibjpeg-libjpeg."
        ) from error
    if pixels.shape != one.shape:
        raise ValueError(
            f"{one.path} has pixels of shape {pixels.shape}, and Rows and Columns {one.shape}. {GET_IT_AGAIN}"
        )
    if one.inverted_in is None:
        return pixels
    low, high = one.inverted_in
    if not (low <= pixels.min() and pixels.max() <= high):
        raise ValueError(f"{one.path} holds values outside of its range by BitsStored, {low} to {high}. {GET_IT_AGAIN}")
    return (low + high - pixels.astype(np.int64)).astype(pixels.dtype)


# --- from slices to a volume ---


def _stacked(slices: Sequence[_Slice], compare_pixels: bool = True) -> tuple[list[_Slice], np.ndarray]:
    """Slices in the order of their positions, one at each, and the affine of the grid that they lie on."""
    along_x, along_y = slices[0].directions
    normal = np.cross(along_x, along_y)
    if normal[np.abs(normal).argmax()] < 0:
        normal = -normal
    slices = _one_at_each_position(slices, normal, compare_pixels)
    _check_whole_volume(slices)
    first, gap = slices[0], slices[0].thickness
    if len(slices) > 1:
        positions = np.array([one.position for one in slices])
        gap = _gap(slices, positions, normal)
    directions = np.stack([along_x * first.pixel_spacing[1], along_y * first.pixel_spacing[0], normal * gap], axis=1)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions, first.position
    affine[:2] *= -1  # DICOM counts towards left and posterior
    check_affine(first.path, affine)
    return slices, affine


def _one_at_each_position(slices: Sequence[_Slice], normal: np.ndarray, compare_pixels: bool) -> list[_Slice]:
    """Slices by their position, of copies the one with the largest InstanceNumber."""
    same = 0.01 * min(1.0, *slices[0].pixel_spacing)  # millimetres
    groups: list[list[_Slice]] = []
    for one in sorted(slices, key=lambda one: (float(normal @ one.position), one.number)):
        if groups and normal @ (one.position - groups[-1][-1].position) <= same:
            groups[-1].append(one)
        else:
            groups.append([one])
    repeated = [group for group in groups if len(group) > 1]
    for group in repeated:
        for one, other in zip(group, group[1:], strict=False):
            _check_copies(one, other, f"{len(repeated)} of {len(groups)} positions", same, compare_pixels)
    return [max(group, key=lambda one: one.number) for group in groups]


def _check_copies(one: _Slice, other: _Slice, where: str, same: float, compare_pixels: bool) -> None:
    """Raises ValueError where two slices at one position are not copies."""
    both = f"{one.path} and {other.path}"
    if name := next((name for name in _VOLUME_TAGS if one.volume[name] != other.volume[name]), None):
        raise ValueError(
            f"{both} lie at one position and differ in {name}{_numbers(one, other, name)}, {where} are taken more than "
            "once: the series holds several volumes. Put the files of each into a folder of its own."
        )
    if np.abs(one.position - other.position).max() > same:
        raise ValueError(f"{both} lie side by side in one plane by their ImagePositionPatient. Leave one out.")
    if compare_pixels and not np.array_equal(_pixels(one), _pixels(other)):
        raise ValueError(
            f"{both} lie at one position and show different images, {where} are taken more than once, and no tag says "
            "why. Keep the files of one volume."
        )


def _check_whole_volume(slices: Sequence[_Slice]) -> None:
    """Raises ValueError where slices of two volumes complement one another."""
    for name in _OF_WHOLE_VOLUMES:
        for one, other in zip(slices, slices[1:], strict=False):
            values = one.volume[name], other.volume[name]
            if values[0] != values[1] and not _are_close(*values):
                raise ValueError(
                    f"{one.path} and {other.path} differ in {name}{_numbers(one, other, name)}: they are of different "
                    "volumes. Put the files of each into a folder of its own."
                )


def _are_close(one: Any, other: Any) -> bool:
    """Whether numbers differ by rounding alone."""
    return (
        isinstance(one, tuple)
        and isinstance(other, tuple)
        and len(one) == len(other)
        and np.allclose(one, other, rtol=1e-2, atol=0)
    )


def _numbers(one: _Slice, other: _Slice, name: str) -> str:
    """The values of a tag that differs, where they are numbers: text may name the patient."""
    values = one.volume[name], other.volume[name]
    if not all(isinstance(value, tuple) for value in values):
        return ""
    return f" ({' and '.join(', '.join(f'{number:g}' for number in value) for value in values)})"


def _gap(slices: Sequence[_Slice], positions: np.ndarray, normal: np.ndarray) -> float:
    """The distance of neighbouring slices, in millimetres, if they lie on a regular grid."""
    along = (positions - positions[0]) @ normal
    steps, typical = np.diff(along), float(np.median(np.diff(along)))
    if len(wide := np.flatnonzero(steps > 1.5 * typical)):
        index = int(wide[0])
        missing = int(sum(max(1, round(step / typical) - 1) for step in steps[wide]))
        raise ValueError(
            f"{missing} slices are missing by ImagePositionPatient: {slices[index].path} and {slices[index + 1].path} "
            f"lie {steps[index]:.3g} mm apart, other neighbours {typical:.3g} mm. Get the series again, or take one "
            "side of the gap."
        )
    gap = float(along[-1] / (len(slices) - 1))
    off = positions - positions[0] - np.arange(len(slices))[:, None] * gap * normal
    forward = np.abs(off @ normal)
    sideways = np.linalg.norm(off - (off @ normal)[:, None] * normal, axis=1)
    if forward.max() > gap / 10:
        index = int(forward.argmax())
        raise ValueError(
            f"{slices[index].path} lies {forward[index]:.3g} mm off its place by ImagePositionPatient: slices are not "
            f"evenly spaced ({steps.min():.3g} to {steps.max():.3g} mm). Get the series again, or resample it."
        )
    if sideways.max() > gap / 10:
        index = int(sideways.argmax())
        angle = math.degrees(math.atan2(sideways[index], abs(along[index])))
        raise ValueError(
            f"{slices[index].path} lies {sideways[index]:.3g} mm beside {slices[0].path} by ImagePositionPatient and "
            f"ImageOrientationPatient, as with a gantry tilted by {angle:.3g} degrees. Resample the series to right "
            "angles before, e.g. with dcm2niix."
        )
    return gap
