import numpy as np
import pytest

from tests.volumes.samples import at, head, metaimage, save
from tfdisent.volumes import read_header, read_nifti, read_volume


def test_volumes_of_any_kind_are_turned_and_checked_alike(tmp_path):
    array = np.zeros((6, 10, 14), np.uint8)
    array[1, 2, 3] = 1
    path = metaimage(tmp_path, array, TransformMatrix="1 0 0 0 1 0 0 0 -1")
    volume = read_volume(path, labels=True)
    assert at(volume.array, 1) == (4, 2, 3)
    assert read_header(path).shape == (6, 10, 14)
    source = save(head("PSR"), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(source).array, read_nifti(source).array)
    assert read_header(source).shape == read_nifti(source).array.shape
    turned = metaimage(tmp_path, array, TransformMatrix="0.8 0.6 0 -0.6 0.8 0 0 0 1")
    with pytest.raises(ValueError, match="oblique"):
        read_volume(turned)
