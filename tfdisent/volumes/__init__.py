"""Whole volumes without TensorFlow: reading and writing them, their slices in three planes, preprocessing."""

from tfdisent.volumes.volume import (
    MAX_OBLIQUE,
    Header,
    Volume,
    canonical,
    grid_difference,
    read_dicom_series,
    read_header,
    read_metaimage,
    read_nifti,
    read_volume,
    write_nifti,
)

__all__ = [
    "MAX_OBLIQUE",
    "Header",
    "Volume",
    "canonical",
    "grid_difference",
    "read_dicom_series",
    "read_header",
    "read_metaimage",
    "read_nifti",
    "read_volume",
    "write_nifti",
]
