"""Small files of each kind of volume, for tests."""

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def head(orientation, dtype=np.int16, tilt=0.0):
    """A NIfTI image of 14 x 10 x 6 voxels with 1 at the patient's right, 2 anterior, 3 superior."""
    ras = np.zeros((14, 10, 6), dtype)
    ras[12, 5, 3], ras[7, 8, 3], ras[7, 5, 5] = 1, 2, 3
    affine = np.diag([1.0, 1.5, 3.0, 1.0])
    affine[:3, 3] = -6, -7, -8
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    image = nibabel.Nifti1Image(ras, turn @ affine)
    image.header.set_xyzt_units("mm")
    # RAS axes point to the right in nibabel's sense: index 12 of 14 lies to the patient's right.
    return image.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"),
            nibabel.orientations.axcodes2ornt(orientation),
        )
    )


def save(image, path):
    nibabel.save(image, path)
    return path


def at(array, value):
    return tuple(np.argwhere(array == value)[0].tolist())


def patched(path, offset, content, out=None):
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    out = out or path
    out.write_bytes(raw)
    return out


def metaimage(folder, array, name="oct", **changes):
    fields = {
        "ObjectType": "Image",
        "NDims": array.ndim,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "1 2 3",
        "ElementSpacing": "0.5 0.25 2",
        "DimSize": " ".join(map(str, array.shape[::-1])),
        "ElementType": "MET_USHORT" if array.itemsize == 2 else "MET_UCHAR",
        "ElementDataFile": f"{name}.raw",
    }
    fields = {key: value for key, value in (fields | changes).items() if value is not None}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")  # which ends the header
    path = folder / f"{name}.mhd"
    path.write_text("\n".join(f"{key} = {value}" for key, value in fields.items()) + "\n")
    (folder / f"{name}.raw").write_bytes(array.tobytes())
    return path


SERIES = generate_uid()


def dicom(path, pixels, z=0.0, number=1, **changes):
    """Writes one axial slice; a change to None removes the element."""
    data = pydicom.Dataset()
    data.PatientName, data.PatientID = "Secret^Name", "secret-id"
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", generate_uid()
    data.SeriesInstanceUID, data.InstanceNumber = SERIES, number
    data.ImagePositionPatient = [-10, -20, z]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness = [1.5, 0.5], 4
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelData = pixels.astype("<u2").tobytes()
    data["PixelData"].VR = "OW"
    for name, value in changes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)
    return path


def series(folder, count=4, **changes):
    return [
        dicom(folder / f"{(7 * i) % count}.dcm", np.full((4, 6), 10 * i), 3.0 * i, i + 1, **changes)
        for i in range(count)
    ]
