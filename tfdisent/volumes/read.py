"""Volumes of any kind, by the names of their files."""

import pathlib

from tfdisent.files import is_clutter
from tfdisent.volumes.dicom import read_dicom_header, read_dicom_series
from tfdisent.volumes.metaimage import read_metaimage, read_metaimage_header
from tfdisent.volumes.nifti import read_nifti, read_nifti_header
from tfdisent.volumes.volume import (
    MAX_GIGABYTES,
    MAX_OBLIQUE,
    Header,
    Volume,
    as_labels,
    canonical,
    canonical_header,
    check_oblique,
    check_orientation,
    enough_memory,
    finite,
)


def read_volume(
    path: str | pathlib.Path,
    labels: bool = False,
    *,
    nan: str = "fail",
    orientation: str = "canonical",
    max_oblique: float = MAX_OBLIQUE,
    max_gigabytes: float = MAX_GIGABYTES,
) -> Volume:
    """Reads a volume of any kind: .nii, .nii.gz, .mhd, .mha, or a folder with one DICOM series.

    Arguments and errors are those of `read_nifti`.
    """
    path = pathlib.Path(path)
    check_orientation(orientation)
    with enough_memory(path):
        if path.is_dir():
            volume = read_dicom_series(_files(path), nan=nan, max_gigabytes=max_gigabytes)
        elif path.suffix.lower() in (".mhd", ".mha"):
            volume = read_metaimage(path, max_gigabytes=max_gigabytes)
        else:
            return read_nifti(
                path,
                labels,
                nan=nan,
                orientation=orientation,
                max_oblique=max_oblique,
                max_gigabytes=max_gigabytes,
            )
        if orientation == "canonical":
            check_oblique(path, volume.affine, max_oblique)
            volume = canonical(volume)
        array = as_labels(path, volume.array) if labels else finite(path, volume.array, nan)
    return volume._replace(array=array)


def read_header(
    path: str | pathlib.Path, *, orientation: str = "canonical", max_gigabytes: float = MAX_GIGABYTES
) -> Header:
    """The shape, affine and type of what `read_volume` would give, without reading voxels."""
    path = pathlib.Path(path)
    check_orientation(orientation)
    if path.is_dir():
        header = read_dicom_header(_files(path), max_gigabytes=max_gigabytes)
    elif path.suffix.lower() in (".mhd", ".mha"):
        header = read_metaimage_header(path, max_gigabytes=max_gigabytes)
    else:
        return read_nifti_header(path, orientation=orientation, max_gigabytes=max_gigabytes)
    return canonical_header(header) if orientation == "canonical" else header


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [file for file in folder.iterdir() if file.is_file() and not is_clutter(file.name)]
