import numpy as np
import pytest

from tfdisent import metrics


def _images(count, seed, latent=4):
    """Images (count, 6, 6, 3) in [-1, 1] of one distribution with few degrees of freedom."""
    basis = np.random.default_rng(99).normal(size=(latent, 6 * 6 * 3)) / 6
    flat = np.tanh(np.random.default_rng(seed).normal(size=(count, latent)) @ basis)
    return flat.reshape(count, 6, 6, 3).astype(np.float32)


def test_nearest_distances_by_hand():
    references = np.array([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]])
    distances, indices = metrics.nearest_distances(np.array([[0.0, 1.0], [9.0, 5.0]]), references)
    np.testing.assert_array_equal(indices, [0, 2])
    np.testing.assert_allclose(distances, [np.sqrt(1 / 2), np.sqrt(26 / 2)])
    assert distances.dtype == np.float64


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_nearest_distances_are_those_of_all_differences_whatever_the_batch(batch):
    queries, references = _images(20, 0), _images(50, 1)
    distances, indices = metrics.nearest_distances(queries, references, batch=batch)
    differences = queries[:, None].astype(np.float64) - references
    every = np.sqrt(np.mean(differences**2, axis=(2, 3, 4)))
    np.testing.assert_array_equal(indices, every.argmin(axis=1))
    np.testing.assert_allclose(distances, every.min(axis=1), rtol=1e-12)


def test_nearest_distances_keep_their_digits_where_values_are_large_and_alike():
    rng = np.random.default_rng(0)
    references = 1e4 + rng.normal(size=(1, 300)) + 1e-7 * rng.normal(size=(40, 300))
    references[:20] += 1e3  # so that subtracting the mean does not help
    steps = 1e-8 * (1 + np.arange(40))[:, None]
    order = rng.permutation(40)
    queries = references[order] + steps[order]
    distances, indices = metrics.nearest_distances(queries, references)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(distances, steps[order, 0], rtol=1e-3)


def test_equal_images_have_distance_zero_and_the_lowest_index():
    references = np.repeat(_images(5, 0), 3, axis=0)
    distances, indices = metrics.nearest_distances(references, references, batch=4)
    assert not distances.any()
    np.testing.assert_array_equal(indices, np.repeat([0, 3, 6, 9, 12], 3))


def test_whole_numbers_do_not_wrap_around():
    black, white = np.zeros((1, 2, 2, 1), np.uint8), np.full((1, 2, 2, 1), 255, np.uint8)
    assert metrics.nearest_distances(black, white)[0][0] == 255


@pytest.mark.parametrize(
    "queries, references, message",
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), r"rows of one shape, received \(3,\) and \(4,\)"),
        (np.zeros((2, 3)), np.zeros((0, 3)), r"references to be finite.*shape \(0, 3\)"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), "queries to be finite.*6 values not finite"),
        (np.zeros(3), np.zeros((2, 3)), r"queries to be finite.*shape \(3,\)"),
        (np.zeros((2, 3), np.uint8), np.zeros((2, 3)), "one range of values, received uint8 and float"),
    ],
)
def test_nearest_distances_refuse_what_does_not_compare(queries, references, message):
    with pytest.raises(ValueError, match=message):
        metrics.nearest_distances(queries, references)


def test_nearest_distances_refuse_an_empty_batch():
    with pytest.raises(ValueError, match="batch to be 1 or more, received 0"):
        metrics.nearest_distances(np.zeros((1, 1)), np.zeros((1, 1)), batch=0)


def test_an_independent_sample_of_the_same_distribution_is_no_closer_than_chance():
    result = metrics.memorisation(_images(3000, 1), _images(3000, 2), _images(1000, 3))
    assert result.ratio == pytest.approx(1, abs=0.05)
    assert result.expected_share == 0.01
    assert result.share_closer == pytest.approx(0.01, abs=0.01)


def test_the_share_is_calibrated_with_few_held_out_images_too():
    shares = [
        metrics.memorisation(_images(200, 3 * k), _images(10, 3 * k + 1), _images(100, 3 * k + 2)) for k in range(200)
    ]
    assert {result.expected_share for result in shares} == {1 / 11}
    assert np.mean([result.share_closer for result in shares]) == pytest.approx(1 / 11, abs=0.02)


def test_copies_are_found_with_distance_zero_the_exact_ones_first():
    train, generated = _images(300, 0), _images(100, 1)
    generated[17], generated[60] = train[250], train[4]
    generated[33] = train[123] + 1e-4
    result = metrics.memorisation(generated, _images(200, 2), train, top=3)
    np.testing.assert_array_equal(result.copies, [[17, 250], [60, 4], [33, 123]])
    assert not result.distances[[17, 60]].any()
    assert result.distances[33] == pytest.approx(1e-4, rel=1e-3)
    assert result.share_closer >= 0.03


def test_a_generator_that_only_copies_has_ratio_zero_and_share_one():
    train = _images(100, 0)
    result = metrics.memorisation(train[:40], _images(50, 1), train)
    assert result.ratio == 0
    assert result.share_closer == 1
    np.testing.assert_array_equal(result.copies, np.repeat(np.arange(16)[:, None], 2, axis=1))


def test_nearly_copied_images_halve_the_ratio():
    train, held_out = _images(500, 0), _images(200, 1)
    _, nearest = metrics.nearest_distances(held_out, train)
    halfway = (held_out + train[nearest]) / 2
    assert metrics.memorisation(halfway, held_out, train).ratio == pytest.approx(0.5, rel=1e-3)


def test_a_generator_of_something_else_is_farther_than_held_out_images():
    result = metrics.memorisation(_images(50, 1) + 2, _images(100, 2), _images(100, 3))
    assert result.ratio > 3
    assert result.share_closer == 0


def test_fewer_generated_images_than_asked_for_are_all_returned():
    result = metrics.memorisation(_images(3, 1), _images(9, 2), _images(9, 3), top=16)
    assert result.copies.shape == (3, 2)


def test_held_out_images_that_were_trained_on_leave_the_ratio_undefined():
    train = _images(30, 0)
    assert np.isnan(metrics.memorisation(_images(5, 1), train, train).ratio)


def test_symmetries_are_all_eight_of_a_square_and_the_four_of_a_rectangle():
    images = _images(3, 0)
    versions = metrics.symmetries(images)
    expected = [np.rot90(one, k, axes=(1, 2)) for one in (images, images[:, :, ::-1]) for k in range(4)]
    assert len(versions) == 8
    for one in expected:
        assert sum(np.array_equal(one, version) for version in versions) == 1
    np.testing.assert_array_equal(versions[0], images)
    flat = metrics.symmetries(images[:, :4])
    assert len(flat) == 4 and {version.shape for version in flat} == {(3, 4, 6, 3)}


@pytest.mark.parametrize("planted", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("turn", [lambda x: x, lambda x: np.rot90(x, 1, axes=(1, 2)), lambda x: x[:, :, ::-1]])
def test_a_planted_share_of_copies_is_found_turned_ones_too(planted, turn):
    train, generated, held_out = (_images(1000, seed, latent=12) for seed in range(3))
    count = int(1000 * planted)
    generated[:count] = turn(train[:count])
    given = [metrics.symmetries(images) for images in (generated, held_out)]
    result = metrics.memorisation(*given, train, top=max(count, 1))
    assert result.share_closer == pytest.approx(planted + (1 - planted) * 0.01, abs=0.01)
    if planted:
        assert {tuple(pair) for pair in result.copies} == {(k, k) for k in range(count)}
        nearest = np.stack([given[0][way][k] for way, (k, _) in zip(result.turned, result.copies, strict=True)])
        np.testing.assert_array_equal(nearest, train[result.copies[:, 1]])


def test_training_images_are_read_once_and_the_nearest_of_all_versions_is_found():
    train, generated, held_out = _images(90, 0), _images(20, 1), _images(30, 2)
    reads = []

    def blocks():
        reads.append(1)
        return (train[:50], train[50:])

    given = [metrics.symmetries(images) for images in (generated, held_out)]
    result = metrics.memorisation(*given, blocks, top=20)
    assert len(reads) == 1
    for versions, distances in zip(given, (result.distances, result.held_out_distances), strict=True):
        each = np.stack([metrics.nearest_distances(version, train)[0] for version in versions])
        np.testing.assert_allclose(distances, each.min(axis=0), rtol=1e-12)
        if versions is given[0]:
            np.testing.assert_array_equal(result.turned, each.argmin(axis=0)[result.copies[:, 0]])


def test_turned_copies_are_not_seen_by_who_compares_images_as_they_are():
    train, held_out = _images(300, 0, latent=12), _images(300, 1, latent=12)
    assert metrics.memorisation(np.rot90(train, 1, axes=(1, 2)), held_out, train).ratio > 0.9


def test_a_ratio_does_not_depend_on_the_unit_of_the_images_nor_on_doubles():
    generated, held_out, train = _images(50, 0), _images(60, 1), _images(90, 2)
    expected = metrics.memorisation(generated, held_out, train)
    scaled = metrics.memorisation(1e-3 * generated, 1e-3 * held_out, 1e-3 * train)
    twice = metrics.memorisation(np.concatenate([generated] * 2), held_out, np.concatenate([train] * 2))
    for found in (scaled, twice):
        assert found.ratio == pytest.approx(expected.ratio, rel=1e-5)
        assert found.share_closer == expected.share_closer


def test_versions_must_be_as_many_of_both():
    with pytest.raises(ValueError, match="as many versions, received 8 and 1"):
        metrics.memorisation(metrics.symmetries(_images(5, 1)), _images(5, 2), _images(5, 3))


def test_versions_must_be_of_the_same_images():
    with pytest.raises(ValueError, match=r"versions of the same images, received \[4, 5\]"):
        metrics.memorisation([_images(5, 1), _images(4, 1)], [_images(5, 2)] * 2, _images(5, 3))


@pytest.mark.parametrize("arguments", [{"percentile": 0}, {"percentile": 100}, {"top": 0}])
def test_memorisation_refuses_numbers_out_of_range(arguments):
    with pytest.raises(ValueError, match=r"percentile to lie in \(0, 100\) and top to be 1 or more"):
        metrics.memorisation(_images(5, 1), _images(5, 2), _images(5, 3), **arguments)
