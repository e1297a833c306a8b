import numpy as np
import pytest
from scipy import ndimage

from tfdisent.phantoms import fields

GRID = fields.axis(64)
Y, X = np.meshgrid(GRID, GRID, indexing="ij")


def test_axis_is_centred_and_spaced():
    assert fields.axis(4, 0.5).tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_streams_differ_by_every_part_of_their_key():
    draws = {fields.stream(*key).integers(2**60) for key in ((1, 2, 3), (1, 3, 2), (1, 2), (0, 2, 3))}
    assert len(draws) == 4
    assert fields.stream(1, 2).integers(2**60) == fields.stream(1, 2).integers(2**60)


def test_waves_have_mean_zero_and_variance_one():
    found = [fields.waves(fields.stream(k), 5, 15).on(GRID, GRID) for k in range(50)]
    assert abs(np.mean(found)) < 0.05 and np.var(found) == pytest.approx(1, abs=0.1)


def test_waves_on_a_grid_are_those_at_its_points():
    waves = fields.waves(fields.stream(0), 5, 15, dimensions=3)
    assert waves.on(7.0, GRID, GRID) == pytest.approx(waves.at(7.0, Y, X), abs=1e-3)


def test_waves_are_as_long_as_asked():
    """A wave of length L correlates with itself after L and is opposite after L / 2."""
    wave = fields.waves(fields.stream(0), 16, 16, count=1)
    x = np.linspace(0, 100, 400)
    along = wave.vectors[0] / np.linalg.norm(wave.vectors[0])
    values = [wave.at(*(along[:, None] * (x + shift))) for shift in (0, 8, 16)]
    assert np.allclose(values[0], -values[1], atol=1e-3)
    assert np.allclose(values[0], values[2], atol=1e-3)


def test_depth_in_a_circle_is_the_distance_to_its_border():
    depth = fields.ellipse(Y, X, (3, -5), (10, 10))
    assert depth == pytest.approx(10 - np.hypot(Y - 3, X + 5), abs=1e-3)


def test_area_and_orientation_of_an_ellipse():
    mask = fields.ellipse(Y, X, (0, 0), (6, 18), np.pi / 2) > 0
    assert mask.sum() == pytest.approx(np.pi * 6 * 18, rel=0.02)
    rows, columns = np.nonzero(mask)
    assert rows.std() > 2 * columns.std()  # turned by a right angle, the long axis is y


def test_an_ellipse_without_a_radius_is_empty():
    assert (fields.ellipse(Y, X, (0, 0), (0, 5)) < -99).all()


def test_wavy_border_encloses_the_area_of_the_disc():
    shape = fields.harmonics(fields.stream(0), (3, 4, 5), 0.15)
    mask = 20 * fields.border(shape, np.arctan2(Y, X)) - np.hypot(Y, X) > 0
    assert mask.sum() == pytest.approx(np.pi * 20**2, rel=0.01)
    angles = np.linspace(0, 2 * np.pi, 1000)
    waviness = fields.border(shape, angles).std() / fields.border(shape, angles).mean()
    assert waviness == pytest.approx(0.15, rel=0.05)


def test_warp_shifts_by_the_displacement():
    image = np.random.default_rng(0).normal(size=(8, 9, 2))
    moved = fields.warp(image, np.broadcast_to([2.0, -1.0], (8, 9, 2)))
    assert np.allclose(moved[:-2, 1:], image[2:, :-1])
    labels = fields.warp(np.eye(8, dtype=np.uint8), np.full((8, 8, 2), 0.4), order=0)
    assert labels.dtype == np.uint8 and np.array_equal(labels, np.eye(8))


def test_displacement_has_its_amplitude_and_is_smooth():
    found = [
        fields.displacement(fields.stream(k), GRID, GRID, amplitude=3, wavelengths=(30, 60), z=5.0) for k in range(40)
    ]
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(3, rel=0.15)
    assert np.abs(np.diff(found, axis=1)).max() < 3


def test_smoothstep_and_mix_have_their_ends():
    assert fields.smoothstep(1, 3, np.array([0, 1, 2, 3, 4])).tolist() == [0, 0, 0.5, 1, 1]
    assert fields.smoothstep(3, 1, np.array([0, 4])).tolist() == [1, 0]
    assert fields.mix(np.array([2.0, 2, 2]), 4, np.array([-1, 0.5, 9])).tolist() == [2, 3, 4]


def test_paint_keeps_the_sum_of_the_fractions():
    fractions = np.random.default_rng(0).dirichlet(np.ones(3), (4, 5))
    fields.paint(fractions, 1, np.full((4, 5), 0.25))
    assert np.allclose(fractions.sum(-1), 1) and (fractions[..., 1] >= 0.25).all()


def test_rician_noise_is_gaussian_where_bright_and_positive_where_dark():
    random = fields.stream(0)
    bright = fields.rician(np.full((200, 200), 50, np.float32), 2, random)
    assert bright.std() == pytest.approx(2, rel=0.03)
    dark = fields.rician(np.zeros((200, 200), np.float32), 2, random)
    assert dark.mean() == pytest.approx(2 * np.sqrt(np.pi / 2), rel=0.03)


def test_halved_means_over_two_by_two():
    assert fields.halved(np.array([[1, 3, 0, 0], [5, 7, 0, 4]])).tolist() == [[4, 1]]


def test_canvas_paints_later_over_earlier_and_within():
    canvas = fields.Canvas(Y, X, {"air": 0.0, "fat": 1.0, "stone": 3.0}, "air", 0.5)
    canvas.fill("fat", fields.ellipse(Y, X, (0, 0), (20, 20)))
    canvas.ellipses("stone", [(0, 0, 5, 5, 0), (0, 40, 5, 5, 0)], within=X)
    assert canvas.image[0, 0] == 0 and canvas.image[32, 22] == 1 and canvas.image[32, 34] == 3
    assert canvas.image[32, 29] == 1  # left of the middle `within` is negative
    inside = ndimage.binary_erosion(canvas.image >= 1)
    assert inside.sum() == pytest.approx(np.pi * 20**2, rel=0.15)


@pytest.mark.parametrize("value", [-1, 2.0, "3", True])
def test_check_integer_refuses_what_is_none(value):
    with pytest.raises(ValueError, match="who: expected n to be an integer >= 0, received"):
        fields.check_integer("who", "n", value, 0)
