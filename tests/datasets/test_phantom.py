import numpy as np
import pytest

from datasets.builder import prepare
from datasets.phantom import SkinPhantom
from tfdisent.data import Manifest, as_arrays
from tfdisent.phantoms import skin


def images(num_train, tmp_path):
    folder = prepare(SkinPhantom(num_train, 6, size=16), tmp_path, workers=1)
    return {
        split: {i.tobytes() for i in as_arrays(folder, split)["image"]}
        for split in ("train", "test")
    }


def test_classes_are_balanced_and_factors_known(tmp_path):
    folder = prepare(SkinPhantom(30, 6, size=16), tmp_path, workers=1)
    manifest = Manifest.read(folder)
    assert manifest.splits["train"]["label_counts"] == {"bkl": 10, "mel": 10, "nv": 10}
    assert manifest.factor_names == skin.FACTORS
    arrays = as_arrays(folder)
    size = arrays["factors"][:, skin.FACTORS.index("size")]
    assert np.corrcoef(size, arrays["mask"].mean((1, 2, 3)))[0, 1] > 0.9


def test_fewer_images_are_a_part_of_more_and_test_images_stay(tmp_path):
    few, many = images(6, tmp_path), images(12, tmp_path)
    assert few["train"] < many["train"] and few["test"] == many["test"]
    assert many["train"].isdisjoint(many["test"])


@pytest.mark.parametrize("options", [{"num_train": 0}, {"num_test": 0}, {"size": 8}, {"seed": -1}])
def test_options_out_of_range_are_errors(options):
    with pytest.raises(ValueError, match="skin_phantom needs"):
        SkinPhantom(**options)


def test_raw_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="makes its own images"):
        prepare(SkinPhantom(6, 6, size=16), tmp_path, tmp_path)
