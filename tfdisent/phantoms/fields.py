"""What the phantoms are drawn with: random streams, smooth fields, soft shapes, warps and noise.

Fields are functions of continuous positions, so that a phantom is the same at any resolution.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage


def stream(*key: int) -> np.random.Generator:
    """The random numbers that a tuple of integers >= 0 names (seed, index, purpose, ...)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def check_integer(who: str, name: str, value: int, least: int) -> None:
    """Raises ValueError unless `value` is an integer >= `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{who}: expected {name} to be an integer >= {least}, received {value!r}.")


def check_one_of(who: str, name: str, value: object, known: Sequence) -> None:
    """Raises ValueError unless `value` is one of `known`."""
    if value not in known:
        names = ", ".join(map(str, known))
        raise ValueError(f"{who}: expected {name} to be one of {names}, received {value!r}.")


def check_factors(who: str, factors: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Factors (len(names),) by name. Raises ValueError for another shape or values not finite."""
    factors = np.asarray(factors, np.float64)
    if factors.shape != (len(names),) or not np.isfinite(factors).all():
        raise ValueError(
            f"{who}: expected finite factors of shape ({len(names)},), one per name in FACTORS, received {factors!r}."
        )
    return dict(zip(names, factors.tolist(), strict=True))


class Waves(NamedTuple):
    """A smooth random field of mean 0 and variance 1: a sum of plane waves in D dimensions."""

    vectors: np.ndarray  # (K, D), radians per unit of length
    phases: np.ndarray  # (K,)

    def on(self, *axes: np.ndarray | float) -> np.ndarray:
        """Values on the grid of D axes, of which all but the last two are numbers: (H, W).

        cos(a + b) = cos(a) cos(b) - sin(a) sin(b) makes all waves one matrix product.
        """
        *fixed, y, x = axes
        phases = self.phases + self.vectors[:, : len(fixed)] @ np.asarray(fixed, np.float64)
        along_y = (np.outer(self.vectors[:, -2], y) + phases[:, None]).astype(np.float32)
        along_x = np.outer(self.vectors[:, -1], x).astype(np.float32)
        left = np.concatenate([np.cos(along_y), -np.sin(along_y)])
        right = np.concatenate([np.cos(along_x), np.sin(along_x)])
        return np.float32(np.sqrt(2 / len(self.phases))) * (left.T @ right)

    def at(self, *places: np.ndarray | float) -> np.ndarray:
        """Values at any places, one array or number for each dimension: their common shape."""
        places = [np.float32(place) for place in places]
        total = np.zeros(np.broadcast_shapes(*(place.shape for place in places)), np.float32)
        for vector, phase in zip(np.float32(self.vectors), np.float32(self.phases), strict=True):
            total += np.cos(sum(k * place for k, place in zip(vector, places, strict=True)) + phase)
        return np.float32(np.sqrt(2 / len(self.phases))) * total


def waves(
    random: np.random.Generator,
    shortest: float,
    longest: float,
    *,
    dimensions: int = 2,
    count: int = 24,
) -> Waves:
    """`count` waves in random directions, `shortest` to `longest` units of length long."""
    direction = random.normal(size=(count, dimensions))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    speed = 2 * np.pi / random.uniform(shortest, longest, (count, 1))
    return Waves(speed * direction, random.uniform(0, 2 * np.pi, count))


def axis(size: int, spacing: float = 1.0) -> np.ndarray:
    """Centres of `size` pixels that are `spacing` apart, 0 in the middle: (size,) float64."""
    return (np.arange(size) - (size - 1) / 2) * spacing


def smoothstep(start: float, stop: float, x: np.ndarray) -> np.ndarray:
    """0 before start, 1 after stop, smooth between; start may lie above stop."""
    t = np.clip((x - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


def mix(image: np.ndarray, value: np.ndarray | float, cover: np.ndarray) -> np.ndarray:
    """Lays value over the image: unseen where cover is 0, opaque where it is 1."""
    return image + np.clip(cover, 0, 1) * (value - image)


def ellipse(
    y: np.ndarray,
    x: np.ndarray,
    centre: tuple[float, float],
    radii: tuple[float, float],
    angle: float = 0.0,
) -> np.ndarray:
    """Depth below the border of an ellipse, > 0 inside, in units of length near the border.

    `centre` is (y, x); `radii` are those along y and x before the ellipse is turned by `angle`, radians from x towards
    y. With a radius of 0 or less there is no ellipse, and depth is -1000.
    """
    if min(radii) <= 0:
        return np.full(np.broadcast_shapes(np.shape(y), np.shape(x)), -1000, np.float32)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    along_x = (cos * (x - centre[1]) + sin * (y - centre[0])) / radii[1]
    along_y = (cos * (y - centre[0]) - sin * (x - centre[1])) / radii[0]
    radius = np.hypot(along_x, along_y)
    # First-order distance: the level function over the length of its gradient.
    slope = np.hypot(along_x / radii[1], along_y / radii[0]) / np.maximum(radius, 1e-6)
    return (1 - radius) / np.maximum(slope, 1 / (2 * max(radii)))


class Canvas:
    """An image (H, W) float32 that is painted with soft-edged shapes, later ones over earlier ones.

    y, x: (H, W) float32, the place in the body that each pixel shows.
    values: of the materials, by name.
    soft: half the width of the edges.
    """

    def __init__(self, y: np.ndarray, x: np.ndarray, values: dict[str, float], background: str, soft: float):
        self.y, self.x = np.float32(y), np.float32(x)
        self.values, self.soft = values, soft
        self.image = np.full(self.y.shape, values[background], np.float32)

    def fill(self, name: str, depth: np.ndarray, cover: float = 1.0) -> None:
        """Paints where `depth` (H, W) below the shape's border is > 0."""
        self.image = mix(self.image, self.values[name], cover * smoothstep(-self.soft, self.soft, depth))

    def ellipses(self, name: str, shapes: np.ndarray, within: np.ndarray | float = np.inf, cover: float = 1.0) -> None:
        """Paints small ellipses (N, 5): centre y, x, radii along y, x, and angle, as in `ellipse`, where `within` (H,
        W) is > 0.
        """
        within = np.broadcast_to(within, self.image.shape)
        for centre_y, centre_x, radius_y, radius_x, angle in np.asarray(shapes).tolist():
            reach = max(radius_y, radius_x) + self.soft
            near = (np.abs(self.y - centre_y) < reach) & (np.abs(self.x - centre_x) < reach)
            depth = ellipse(self.y[near], self.x[near], (centre_y, centre_x), (radius_y, radius_x), angle)
            share = smoothstep(-self.soft, self.soft, np.minimum(depth, within[near]))
            self.image[near] = mix(self.image[near], self.values[name], cover * share)


def harmonics(
    random: np.random.Generator, orders: Sequence[int], amplitude: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orders, amplitudes and phases of a random closed border; see `border`. The root mean square of its waviness is
    `amplitude`, of the radius.
    """
    orders = np.asarray(orders)
    sizes = random.uniform(0.5, 1, len(orders)) / np.sqrt(orders)
    sizes *= amplitude * np.sqrt(2 / np.sum(sizes**2))
    return orders, sizes, random.uniform(0, 2 * np.pi, len(orders))


def border(shape: tuple[np.ndarray, np.ndarray, np.ndarray], angle: np.ndarray) -> np.ndarray:
    """Radius of a wavy closed border at each angle; the area within is pi."""
    orders, sizes, phases = shape
    radius = np.ones_like(angle)
    for order, size, phase in zip(orders, sizes, phases, strict=True):
        radius = radius + size * np.cos(order * angle + phase)
    return radius / np.sqrt(1 + 0.5 * np.sum(sizes**2))


def warp(image: np.ndarray, displacement: np.ndarray, order: int = 1) -> np.ndarray:
    """The image (H, W, ...) at x + displacement(x): same shape; beyond the edge, the edge's value.

    Args:
        image: of any dtype; label maps need order 0.
        displacement: (H, W, 2), pixels along y and x.
        order: of the spline, 0 (nearest) to 5.
    """
    rows, columns = np.indices(displacement.shape[:2])
    at = np.stack([rows + displacement[..., 0], columns + displacement[..., 1]])
    planes = image.reshape(*image.shape[:2], -1)
    warped = [ndimage.map_coordinates(planes[..., k], at, order=order, mode="nearest") for k in range(planes.shape[-1])]
    return np.stack(warped, -1).reshape(image.shape)


def displacement(
    random: np.random.Generator,
    y: np.ndarray,
    x: np.ndarray,
    *,
    amplitude: float,
    wavelengths: tuple[float, float],
    z: float = 0.0,
) -> np.ndarray:
    """A smooth random displacement (H, W, 2) along y and x on the grid of the axes y (H,), x (W,).

    Its root mean square along each axis is about `amplitude`. Fields at neighbouring z are alike.
    """
    parts = [waves(random, *wavelengths, dimensions=3, count=16).on(z, y, x) for _ in range(2)]
    return amplitude * np.stack(parts, -1)


def paint(fractions: np.ndarray, tissue: int, cover: np.ndarray) -> None:
    """Turns a share `cover` (H, W) of every tissue in fractions (H, W, T) into another, in place."""
    fractions *= (1 - cover)[..., None]
    fractions[..., tissue] += cover


def rician(image: np.ndarray, sigma: float, random: np.random.Generator) -> np.ndarray:
    """A magnitude image whose real and imaginary parts have Gaussian noise of width `sigma`."""
    noise = random.standard_normal((2, *image.shape), np.float32) * np.float32(sigma)
    return np.hypot(image + noise[0], noise[1])


def halved(image: np.ndarray) -> np.ndarray:
    """Means over 2 x 2 pixels: (..., 2 H, 2 W) to (..., H, W)."""
    rows = image[..., ::2, :] + image[..., 1::2, :]
    return 0.25 * (rows[..., ::2] + rows[..., 1::2])
