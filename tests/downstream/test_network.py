"""What networks downstream share: how a stream is learnt from, and which weights layers start with."""

import random

import keras
import numpy as np
import pytest

from tfdisent.downstream.network import float32_from, image_shape_2d, learn
from tfdisent.examples import Examples


class Recorder:
    """In place of a model: keeps what it is trained on, and has the mean of all of an epoch as its loss."""

    def __init__(self):
        self.epochs = []

    def reset_metrics(self):
        self.epochs.append([])

    def train_on_batch(self, batch, targets):
        np.testing.assert_array_equal(10 * batch, targets)
        self.epochs[-1].append(batch.ravel().tolist())
        return np.mean(sum(self.epochs[-1], []))


@pytest.mark.backend("torch")
def test_each_epoch_sees_every_image_once_with_its_own_target_and_the_same_seed_repeats_it():
    values = np.arange(5, dtype="float32")[:, None, None, None]
    images = Examples.of({"image": values, "target": 10 * values}).select(columns=("image", "target"))
    draws = []

    def change(batch, generator):
        draws.append(generator.integers(1000))
        return batch

    def trained(seed):
        model = Recorder()
        report = learn(
            model,
            images,
            lambda batch, columns: (batch, columns["target"]),
            epochs=3,
            batch_size=2,
            change=change,
            seed=seed,
        )
        assert report == {"loss": 2, "steps": 9}
        return model.epochs

    epochs = trained(0)
    assert [sorted(sum(batches, [])) for batches in epochs] == 3 * [[0, 1, 2, 3, 4]]
    assert [len(batch) for batches in epochs for batch in batches] == 3 * [2, 2, 1]
    assert trained(0) == epochs != trained(1)
    assert draws[:9] == draws[9:18] != draws[18:]


def test_layers_start_from_the_seed_in_float32_and_leave_the_state_of_random_numbers_as_it_was():
    random.seed(5)
    expected = random.random()
    random.seed(5)
    kernels = []
    for seed in (0, 0, 1):
        with float32_from(seed):
            dense = keras.layers.Dense(3)
            dense.build((None, 2))
        kernels.append(keras.ops.convert_to_numpy(dense.kernel))
    assert random.random() == expected
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert kernels[0].dtype == "float32" and not np.array_equal(kernels[0], kernels[2])


def test_slices_have_height_width_and_channels():
    assert image_shape_2d([4, np.int64(5), 1]) == (4, 5, 1)
    for wrong in ((4, 5), (4, 0, 1)):
        with pytest.raises(ValueError, match=r"image_shape to be \(H, W, C\), received"):
            image_shape_2d(wrong)
