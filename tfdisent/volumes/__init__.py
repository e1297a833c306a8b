"""Whole volumes without TensorFlow: reading and writing them, their slices in three planes, preprocessing."""

from tfdisent.volumes.dicom import read_dicom_header, read_dicom_series
from tfdisent.volumes.metaimage import read_metaimage
from tfdisent.volumes.nifti import read_nifti, write_nifti
from tfdisent.volumes.read import read_header, read_volume
from tfdisent.volumes.volume import (
    MAX_GIGABYTES,
    MAX_OBLIQUE,
    ORIENTATIONS,
    Header,
    Volume,
    aligned,
    canonical,
    grid_difference,
)

__all__ = [
    "MAX_GIGABYTES",
    "MAX_OBLIQUE",
    "ORIENTATIONS",
    "Header",
    "Volume",
    "aligned",
    "canonical",
    "grid_difference",
    "read_dicom_header",
    "read_dicom_series",
    "read_header",
    "read_metaimage",
    "read_nifti",
    "read_volume",
    "write_nifti",
]
