"""Reading DICOM series: files of one slice of grey values each, sorted by position."""

import pathlib
import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tfdisent.volumes.volume import GET_IT_AGAIN, Volume, check_affine, check_voxels, finite, in_smallest_type


def read_dicom_series(files: Iterable[str | pathlib.Path], *, same_series: bool = True, nan: str = "fail") -> Volume:
    """Reads the slices of one DICOM series, sorted by position along their normal, with rescale slope and intercept
    applied.

    Rows and columns are as stored, slices run towards superior (left, posterior) for axial (sagittal, coronal) series:
    a common axial series is in the order of `canonical` as it is. Of several files at one position, the one with the
    largest InstanceNumber stays. The spacing across slices is the median distance of neighbours: missing slices are not
    filled in.

    Args:
        files: the slices, in any order.
        same_series: require one SeriesInstanceUID. Some anonymised data (CHAOS) have another one in each file; a folder
            is a series there.
        nan: as in `read_nifti`.

    Raises:
        OSError: a file cannot be read.
        ValueError: no files, a file that is not DICOM, has no pixels, no position, or is of another series, shape or
            direction than the first.
    """
    slices = [_dicom_slice(pathlib.Path(file)) for file in sorted(map(str, files))]
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
    check_affine(first.path, affine)
    if len({s.scale for s in slices}) == 1:
        array = in_smallest_type(first.path, np.stack([s.pixels for s in slices]), *first.scale)
    else:  # as in PET
        array = np.stack([in_smallest_type(s.path, s.pixels.astype(np.float32), *s.scale) for s in slices])
    return Volume(finite(first.path, array, nan), affine, tuple(s.path for s in slices))


class _Slice(NamedTuple):
    """One file of a series. `directions` (2, 3) are those in the patient along which columns and rows are counted."""

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
        except Exception as error:  # by the damage, pydicom raises errors of its own and of Python
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
    position = needed("ImagePositionPatient", 3)
    directions = needed("ImageOrientationPatient", 6).reshape(2, 3)
    pixel_spacing = needed("PixelSpacing", 2)
    if not (0 < pixel_spacing.min() and pixel_spacing.max() < 1e4):
        raise ValueError(f"{path} has the spacing {tuple(pixel_spacing.tolist())} mm, expected positive numbers.")
    thickness = element("SliceThickness", float, 1.0)
    check_voxels(path, (element("Rows", int, 0), element("Columns", int, 0)))
    try:
        pixels = data.pixel_array
    except Exception as error:
        raise ValueError(
            f"{path} cannot be decoded ({type(error).__name__}). Get it again; compressed pixels need pydicom's "
            "plug-ins pylibjpeg and pylibjpeg-libjpeg."
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
