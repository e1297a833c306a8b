"""Volumes of any kind, by the names of their files."""

import pathlib

from tfdisent.volumes.dicom import read_dicom_series
from tfdisent.volumes.metaimage import read_metaimage
from tfdisent.volumes.nifti import read_nifti, read_nifti_header
from tfdisent.volumes.volume import MAX_OBLIQUE, Header, Volume, as_labels, canonical, check_oblique, finite


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
    check_oblique(path, volume.affine, max_oblique)
    volume = canonical(volume)
    array = as_labels(path, volume.array) if labels else finite(path, volume.array, nan)
    return volume._replace(array=array)


def read_header(path: str | pathlib.Path) -> Header:
    """The shape, affine and type of what `read_volume` would give, from a NIfTI file's first bytes; files of other
    kinds are read.
    """
    path = pathlib.Path(path)
    if path.is_dir() or path.suffix.lower() in (".mhd", ".mha"):
        volume = read_volume(path, nan="zero", max_oblique=90)
        return Header(volume.array.shape, volume.affine, volume.array.dtype.kind in "iu")
    return read_nifti_header(path)
