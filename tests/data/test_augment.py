import numpy as np
import pytest
import tensorflow as tf

from tfdisent.data import augment

SEED = tf.constant([3, 5], tf.int64)
INVERSES = np.array([0, 1, 2, 3, 4, 6, 5, 7], "int32")  # all but the quarter turns undo themselves


def test_the_eight_symmetries_are_distinct_and_undone_by_their_inverses():
    image = tf.random.stateless_uniform((1, 5, 5, 2), [1, 2])
    images, which = tf.repeat(image, 8, axis=0), tf.range(8)
    moved = augment.apply_symmetry(images, which)
    assert len({m.tobytes() for m in moved.numpy()}) == 8
    np.testing.assert_array_equal(augment.apply_symmetry(moved, INVERSES[which]), images)


def test_symmetries_are_the_rotations_and_flips_of_numpy():
    image = np.arange(9.0).reshape(3, 3)
    moved = augment.apply_symmetry(tf.repeat(image[None, :, :, None], 8, axis=0), tf.range(8)).numpy()[..., 0]
    expected = [image, image[:, ::-1], image[::-1], np.rot90(image, 2), image.T]
    for got, want in zip(moved[:5], expected, strict=True):
        np.testing.assert_array_equal(got, want)
    assert {moved[5].tobytes(), moved[6].tobytes()} == {
        np.rot90(image).tobytes(),
        np.rot90(image, 3).tobytes(),
    }


def test_draws_depend_on_the_seed_alone_and_reach_every_symmetry():
    first = augment.draw_symmetry(SEED, 200)
    tf.random.set_seed(9)
    np.testing.assert_array_equal(first, augment.draw_symmetry(SEED, 200))
    assert set(first.numpy()) == set(range(8))
    assert set(augment.draw_flip(SEED, 100).numpy()) == set(range(4))


@pytest.mark.parametrize("name", ["symmetry", "flip", "crop"])
def test_image_and_mask_move_together(name):
    mask = tf.cast(tf.random.stateless_uniform((8, 32, 32, 1), [1, 2]) > 0.5, tf.uint8)
    mask = tf.repeat(tf.repeat(mask[:, :4, :4], 8, axis=1), 8, axis=2)
    batch = {"image": tf.cast(mask, tf.float32), "mask": mask, "label": tf.range(8)}
    moved = augment.AUGMENTATIONS[name](batch, SEED)
    assert not np.array_equal(moved["mask"], mask)
    assert moved["mask"].dtype == tf.uint8
    assert np.mean(np.abs(moved["image"] - tf.cast(moved["mask"], tf.float32)) < 0.51) > 0.99
    np.testing.assert_array_equal(moved["label"], batch["label"])


def test_the_whole_box_leaves_an_image_as_it_is():
    images = tf.random.stateless_uniform((2, 8, 8, 3), [1, 2])
    boxes = augment.draw_crop(SEED, 2, fraction=1.0)
    np.testing.assert_allclose(augment.apply_crop(images, boxes), images, atol=1e-6)


def test_symmetry_wants_square_images():
    with pytest.raises(ValueError, match="augment='flip'"):
        augment.symmetry({"image": tf.zeros((2, 4, 6, 1))}, SEED)
    assert augment.flip({"image": tf.zeros((2, 4, 6, 1))}, SEED)["image"].shape == (2, 4, 6, 1)


def test_a_mirror_swaps_left_and_right_alone():
    assert set(augment.draw_mirror(SEED, 100).numpy()) == {0, 1}
    image = tf.random.stateless_uniform((20, 4, 6, 2), [1, 2])
    moved = augment.mirror({"image": image}, SEED)["image"].numpy()
    swapped = [np.array_equal(one, other[:, ::-1]) for one, other in zip(moved, image.numpy(), strict=True)]
    kept = [np.array_equal(one, other) for one, other in zip(moved, image.numpy(), strict=True)]
    assert all(a != b for a, b in zip(swapped, kept, strict=True)) and 0 < sum(swapped) < 20
