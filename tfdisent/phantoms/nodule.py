"""CT patches of lung nodules with known attributes.

Content is the nodule: the label (malignant or benign), five more attributes, low or high, and the size, which are the
ratings of LIDC-IDRI that DRAI conditions on, and which fix how it looks:

    subtlety       low: little contrast to the lung; high: obvious
    calcification  low: dense specks or a dense core above 300 HU; high: none (LIDC's rating of 6)
    sphericity     low: elongated, lobed; high: round
    margin         low: fades into the lung; high: sharp
    texture        low: non-solid (ground glass, mottled, vessels shine through); high: solid
    malignancy     high: spicules and an irregular border; low: smooth
    size           one of five bins of the diameter, 2 to 12 mm in steps of 2

Style is everything else: position, orientation, density of the lung, vessels, chest wall, noise. It
is drawn from the same random numbers whatever the nodule. Given the label, the other attributes
are drawn so that, as in LIDC, malignant nodules are more often large, lobed, poorly marginated and
free of calcium.

The look follows LIDC-IDRI (Armato et al., 2011, https://doi.org/10.1118/1.3528204); no image of it is embedded. Values
are Hounsfield units; the patch is 33.6 mm wide, 48 pixels of 0.7 mm at whatever `size`. Lengths are millimetres: centre
0, x right, y down.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tfdisent.phantoms import fields
from tfdisent.phantoms.fields import mix, smoothstep, stream

FIELD_OF_VIEW = 33.6  # mm
WINDOW = (-1000.0, 400.0)  # HU shown as 0 and 255

LABELS = ("benign", "malignant")
# Each is low (0) or high (1), by LIDC's ratings; the last one is the label.
ATTRIBUTES = ("subtlety", "calcification", "sphericity", "margin", "texture", "malignancy")
SIZE_BINS = ("2_4", "4_6", "6_8", "8_10", "10_12")  # diameter, mm
CONDITION_NAMES = (
    *(f"{name}_{level}" for name in ATTRIBUTES for level in ("low", "high")),
    *(f"size_{size}" for size in SIZE_BINS),
)
MASK_LABELS = ("background", "nodule")

FACTORS = (
    "position_x",  # centroid of the nodule, mm, [-5, 5]
    "position_y",
    "orientation_sin",  # of twice the angle of the long axis (x towards y), [-1, 1]
    "orientation_cos",
    "parenchyma",  # of the lung around, HU, [-890, -800]
    "vessel_count",  # 6 to 16 vessels, with their branches
    "wall_distance",  # of the pleura from the centre, mm, [8, 15]; 30 (out of sight) without
    "wall_angle",  # direction of the chest wall, radians (x towards y), [-pi, pi]
    "noise",  # standard deviation, HU, [8, 32]
    "diameter",  # of the disc of the mask's area, mm, [3, 12]; from here on set by the attributes
    "elongation",  # long axis over short axis, [1, 2]
    "lobulation",  # waviness of the border, radii, [0.01, 0.13]
    "edge",  # width over which the nodule fades out, diameters, [0.08, 0.55]
    "attenuation",  # mean, HU, [-720, 60]
    "mottle",  # 0 solid to 1 ground glass with denser strands
    "spiculation",  # length of the spicules, radii, 0 or [0.7, 1.2]
    "calcium",  # density above the nodule's, HU, 0 or [450, 900]
)
STYLE_FACTORS = FACTORS[:9]
CONTENT_FACTORS = FACTORS[9:]

# How often an attribute is high, in benign and in malignant nodules.
_FREQUENCIES = {
    "subtlety": (0.5, 0.7),
    "calcification": (0.55, 0.85),
    "sphericity": (0.7, 0.4),
    "margin": (0.65, 0.4),
    "texture": (0.7, 0.6),
}
_SIZE_FREQUENCIES = ((0.25, 0.25, 0.2, 0.15, 0.15), (0.12, 0.18, 0.2, 0.25, 0.25))

_ATTRIBUTES, _STYLE, _CONTENT, _NODULE, _LUNG, _NOISE, _LABEL = range(7)  # random streams


class NodulePhantom(NamedTuple):
    """Patches with their truth.

    images: int16 (N, size, size), HU.
    labels: int32 (N,), index into `LABELS`.
    attributes: int32 (N, 7), the values of `ATTRIBUTES` (0 or 1) and the size bin (0 to 4).
    factors: float32 (N, len(FACTORS)), columns named by `FACTORS`.
    masks: uint8 (N, size, size), 1 in the nodule (without its spicules).
    """

    images: np.ndarray
    labels: np.ndarray
    attributes: np.ndarray
    factors: np.ndarray
    masks: np.ndarray


def make(num_images: int, *, size: int = 64, seed: int = 0, labels: np.ndarray | None = None) -> NodulePhantom:
    """Makes patches 0 ... num_images - 1 of the endless series that `seed` names.

    Patch i depends on seed, i and its label alone, so a longer series begins with the shorter one.

    Args:
        num_images: how many, 0 or more.
        size: side in pixels, 16 or more.
        seed: names the series, 0 or more.
        labels: int (num_images,), index into `LABELS`; by default patches 2 k and 2 k + 1 hold each once, in random
            order.

    Returns:
        A `NodulePhantom`.
    """
    fields.check_integer("nodule", "num_images", num_images, 0)
    fields.check_integer("nodule", "size", size, 16)
    fields.check_integer("nodule", "seed", seed, 0)
    labels = _balanced_labels(num_images, seed) if labels is None else np.asarray(labels)
    if labels.shape != (num_images,):
        raise ValueError(
            f"nodule.make: expected labels of shape ({num_images},), one per image, received shape {labels.shape}."
        )
    images = np.empty((num_images, size, size), np.int16)
    masks = np.empty((num_images, size, size), np.uint8)
    attributes = np.empty((num_images, len(ATTRIBUTES) + 1), np.int32)
    factors = np.empty((num_images, len(FACTORS)), np.float32)
    for i, label in enumerate(labels):
        attributes[i] = draw_attributes(label, seed=seed, index=i)
        factors[i] = draw_factors(attributes[i], seed=seed, index=i)
        images[i], masks[i] = render(factors[i], size=size, seed=seed, index=i)
    return NodulePhantom(images, labels.astype(np.int32), attributes, factors, masks)


def draw_attributes(label: int, *, seed: int = 0, index: int = 0) -> np.ndarray:
    """Draws the attributes of patch `index`: int32 (7,), as in `NodulePhantom.attributes`."""
    fields.check_one_of("nodule", "label", label, range(len(LABELS)))
    random = stream(seed, index, _ATTRIBUTES)
    values = [random.uniform() < chances[label] for chances in _FREQUENCIES.values()]
    size = random.choice(len(SIZE_BINS), p=_SIZE_FREQUENCIES[label])
    return np.array([*values, label, size], np.int32)


def condition(attributes: np.ndarray) -> np.ndarray:
    """The 17-dimensional condition of DRAI: float32 (17,), named by `CONDITION_NAMES`.

    Six attributes as one-hot pairs, and the size bin as a one-hot of five.
    """
    attributes = _checked(attributes)
    pairs = np.eye(2, dtype=np.float32)[attributes[:-1]].ravel()
    return np.concatenate([pairs, np.eye(len(SIZE_BINS), dtype=np.float32)[attributes[-1]]])


def draw_factors(attributes: np.ndarray, *, seed: int = 0, index: int = 0) -> np.ndarray:
    """Draws the factors of patch `index` within what its attributes (7,) allow.

    Returns:
        float32 (len(FACTORS),), in the units of `FACTORS`.
    """
    *values, size = _checked(attributes).tolist()
    obvious, uncalcified, round_, sharp, solid, malignant = values
    style = stream(seed, index, _STYLE)
    angle = style.uniform(0, np.pi)
    drawn = {
        "position_x": style.uniform(-5, 5),
        "position_y": style.uniform(-5, 5),
        "orientation_sin": np.sin(2 * angle),
        "orientation_cos": np.cos(2 * angle),
        "parenchyma": style.uniform(-890, -800),
        "vessel_count": style.integers(6, 17),
        "wall_distance": style.choice((30, style.uniform(8, 15)), p=(0.6, 0.4)),
        "wall_angle": style.uniform(-np.pi, np.pi),
        "noise": style.uniform(8, 32),
    }
    content = stream(seed, index, _CONTENT)
    solidity = content.uniform(-10, 60) if solid else content.uniform(-500, -420)
    contrast = content.uniform(0.92, 1) if obvious else content.uniform(0.5, 0.6)
    drawn |= {
        "diameter": content.uniform(max(3, 2 + 2 * size) + 0.1, 3.9 + 2 * size),
        "elongation": content.uniform(1, 1.15) if round_ else content.uniform(1.6, 2),
        "lobulation": content.uniform(0.01, 0.03) if round_ else content.uniform(0.06, 0.1),
        "edge": content.uniform(0.08, 0.14) if sharp else content.uniform(0.4, 0.55),
        "attenuation": -850 + contrast * (solidity + 850),
        "mottle": content.uniform(0, 0.1) if solid else content.uniform(0.8, 1),
        "spiculation": content.uniform(0.7, 1.2) if malignant else 0,
        "calcium": 0 if uncalcified else content.uniform(450, 900),
    }
    if malignant:
        drawn["lobulation"] += 0.03
    return np.array([drawn[name] for name in FACTORS], np.float32)


def render(factors: np.ndarray, *, size: int = 64, seed: int = 0, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Renders one patch; the same arguments give the same bytes.

    Args:
        factors: (len(FACTORS),) as from `draw_factors`, changed at will.
        size: side in pixels, 16 or more.
        seed, index: name the details that no factor describes (lobes, spicules, course of the vessels, ribs, noise).

    Returns:
        The patch, int16 (size, size), HU, and the nodule's mask, uint8 (size, size).
    """
    f = fields.check_factors("nodule.render", factors, FACTORS)
    fields.check_integer("nodule", "size", size, 16)
    axis = fields.axis(2 * size, FIELD_OF_VIEW / (2 * size)).astype(np.float32)  # twice the size
    lung = _lung(f, axis, stream(seed, index, _LUNG))
    image, depth = _with_nodule(lung, f, axis, stream(seed, index, _NODULE))
    image = fields.halved(ndimage.gaussian_filter(image, 0.35 / (axis[1] - axis[0])))
    image += f["noise"] * _grain(size, stream(seed, index, _NOISE))
    mask = fields.halved(depth) > 0
    return np.rint(np.clip(image, -1024, 3071)).astype(np.int16), mask.astype(np.uint8)


def window(image: np.ndarray, low: float = WINDOW[0], high: float = WINDOW[1]) -> np.ndarray:
    """HU as grey values, uint8: `low` and below is 0, `high` and above 255, linear between."""
    if not low < high:
        raise ValueError(f"nodule.window: expected low < high, received {low} and {high}.")
    grey = (np.asarray(image, np.float32) - low) * (255 / (high - low))
    return np.rint(np.clip(grey, 0, 255)).astype(np.uint8)


# Inside, images are (S, S) float32, HU, on the grid axis x axis.


def _lung(f: dict, axis: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Parenchyma, vessels, at times emphysema, and the chest wall."""
    x, y = axis[None, :], axis[:, None]
    texture = 0.7 * fields.waves(random, 1.5, 5, count=40).on(axis, axis)
    texture += 0.7 * fields.waves(random, 6, 25).on(axis, axis)
    image = np.float32(f["parenchyma"]) + 22 * texture
    gravity = random.uniform(-1.5, 1.5, 2)
    image = image + (gravity[0] * x + gravity[1] * y).astype(np.float32)
    bulla = random.uniform((-15, -15, 2.5, 2, 0), (15, 15, 6, 4.5, np.pi))
    if random.uniform() < 0.12:
        depth = fields.ellipse(y, x, tuple(bulla[:2]), tuple(bulla[2:4]), bulla[4])
        image = mix(image, -970, smoothstep(-0.3, 0.5, depth))
        image += 120 * np.exp(-((depth / 0.35) ** 2))
    for vessel in range(round(f["vessel_count"])):
        image = _with_vessel(image, x, y, stream(*random.integers(0, 2**31, 3), vessel))
    return _with_wall(image, f, x, y, random)


def _with_vessel(image: np.ndarray, x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A vessel that runs in the plane, with branches, or one that crosses it."""
    at_x, at_y = random.uniform(-17, 17, 2).tolist()
    angle, width = random.uniform(0, 2 * math.pi), 0.22 + random.gamma(1.2, 0.22)
    if random.uniform() < 0.35:
        radii = width * random.uniform(1, 1.3), width * random.uniform(1, 2.2)
        depth = fields.ellipse(y, x, (at_y, at_x), radii, angle)
        return np.maximum(image, mix(image, 30, smoothstep(-0.35, 0.35, depth)))
    length, bend, wiggle, phase = random.uniform((6, -0.025, 0.2, 0), (26, 0.025, 0.9, 6.28)).tolist()
    branches = [(at_x, at_y, angle, width, length, bend)]
    for at in random.uniform(0.2, 0.8, random.integers(0, 4)).tolist():
        at *= length
        off = bend * at**2 + wiggle * (math.sin(at / 2.8 + phase) - math.sin(phase))
        root_x = at_x + math.cos(angle) * at - math.sin(angle) * off
        root_y = at_y + math.sin(angle) * at + math.cos(angle) * off
        turn = float(random.choice((-1, 1))) * random.uniform(0.4, 1.0)
        reach = length * random.uniform(0.2, 0.5)
        branches.append((root_x, root_y, angle + turn, 0.65 * width, reach, -2 * bend))
    for root_x, root_y, direction, radius, reach, curve in branches:
        cos, sin = math.cos(direction), math.sin(direction)
        along = cos * (x - root_x) + sin * (y - root_y)
        across = cos * (y - root_y) - sin * (x - root_x)
        centre_line = curve * along**2 + wiggle * (np.sin(along / 2.8 + phase) - math.sin(phase))
        # Both ends leave the slice and taper off; a branch starts within its parent.
        start = smoothstep(-3, 1.5, along) if radius == width else smoothstep(-0.4, 0.2, along)
        radius = radius * start * (1 - 0.6 * np.clip(along / reach, 0, 1))
        depth = radius - np.abs(across - centre_line) / np.hypot(1, 2 * curve * along)
        # A vessel thinner than the slice fills only a part of it.
        density = np.minimum(30, -850 + 900 * radius / 0.7)
        cover = smoothstep(-0.35, 0.35, depth)
        cover *= start * smoothstep(reach + 1.5, reach - 2.5, along)
        image = np.maximum(image, mix(image, density, cover))
    return image


def _with_wall(image: np.ndarray, f: dict, x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Chest wall: pleura and muscle, a stripe of fat, a rib that runs out of the plane."""
    radius, rib, rib_depth, rib_half, fat = random.uniform((45, -0.35, 3.5, 0.08, 0.4), (110, 0.35, 6, 0.22, 0.9))
    reach = f["wall_distance"] + 0.02 * random.uniform()
    centre = (reach - radius) * np.array([np.cos(f["wall_angle"]), np.sin(f["wall_angle"])])
    toward = np.arctan2(y - centre[1], x - centre[0]) - f["wall_angle"]
    toward = (toward + np.pi) % (2 * np.pi) - np.pi
    depth = np.hypot(x - centre[0], y - centre[1]) - radius
    depth = depth + 0.5 * np.sin(25 * toward + radius)
    muscle = 45 + 12 * np.sin(9 * depth + 40 * toward)
    tissue = mix(muscle, -95, fat * smoothstep(1.2, 2.2, depth) * smoothstep(3.6, 2.8, depth))
    tissue = mix(tissue, -100, smoothstep(8.5, 9.5, depth))
    bone = fields.ellipse(depth, toward * radius, (rib_depth, rib * radius), (2.6, max(rib_half * radius, 5)))
    tissue = mix(tissue, 250 + 450 * np.exp(-((bone - 0.6) ** 2)), smoothstep(-0.3, 0.4, bone))
    return mix(image, tissue, smoothstep(-0.4, 0.4, depth)).astype(np.float32)


def _with_nodule(
    image: np.ndarray, f: dict, axis: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Puts the nodule into the lung; also gives the depth below its border, mm, > 0 inside."""
    x, y = axis[None, :] - f["position_x"], axis[:, None] - f["position_y"]
    tilt = 0.5 * np.arctan2(f["orientation_sin"], f["orientation_cos"])
    stretch, size = np.sqrt(f["elongation"]), f["diameter"] / 2
    u = (np.cos(tilt) * x + np.sin(tilt) * y) / stretch
    v = (np.cos(tilt) * y - np.sin(tilt) * x) * stretch
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    shape = fields.harmonics(random, (3, 4, 5, 6, 7), f["lobulation"])  # centroid and axes stay
    depth = (size * fields.border(shape, angle) - radius).astype(np.float32)

    coarse = fields.waves(random, 2, 5).on(axis, axis)
    fine = fields.waves(random, 0.9, 2.2, count=40).on(axis, axis)
    mottle = f["mottle"] * (50 * coarse + 45 * fine) + 12 * fine
    dense = f["attenuation"] + mottle
    fade = f["edge"] * f["diameter"]
    ragged = depth + 0.22 * fade * (0.6 * fine + 0.6 * coarse)
    cover = smoothstep(-0.5 * fade - 0.1, 0.5 * fade + 0.1, ragged)
    if f["spiculation"] > 0:
        cover = np.maximum(cover, _spicules(f, depth, radius, angle, random))
    if f["calcium"] > 0:
        dense = dense + f["calcium"] * _calcium(size, u, v, random)
    # Vessels and wall that are denser than the nodule shine through.
    return np.maximum(image, mix(image, dense, cover)).astype(np.float32), depth


def _spicules(
    f: dict, depth: np.ndarray, radius: np.ndarray, angle: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Thin strands that radiate from the border, straight and tapering: cover (S, S)."""
    count = random.integers(6, 12)
    length = f["spiculation"] * f["diameter"] / 2
    cover = np.zeros_like(depth)
    spread = 2 * np.pi * (np.arange(count) + random.uniform(-0.45, 0.45, count)) / count
    for at in spread:
        reach, bend = random.uniform((0.4 * length + 0.4, -0.12), (length + 1.4, 0.12))
        outside = np.clip(-depth / reach, -0.5, 1)
        off = (angle - at - bend * np.maximum(-depth, 0) + np.pi) % (2 * np.pi) - np.pi
        width = 0.22 + 0.12 * f["diameter"] * 0.5 * (1 - outside) ** 2
        strand = np.exp(-((radius * np.sin(np.clip(off, -1.5, 1.5)) / width) ** 2))
        strand[np.abs(off) > np.pi / 2] = 0
        cover = np.maximum(cover, 0.85 * strand * (1 - np.maximum(outside, 0)) ** 0.7)
    return cover


def _calcium(size: float, u: np.ndarray, v: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A dense core, or specks like popcorn: share of the density (S, S)."""
    if random.uniform() < 0.5:
        specks = [(0, 0, 0.5 * size)]
    else:
        turns = 2.4 * np.arange(4) + random.uniform(0, 6.28)
        reach = random.uniform(0.25, 0.5, 4) * size
        specks = [(r * np.cos(t), r * np.sin(t), max(0.3, 0.24 * size)) for r, t in zip(reach, turns, strict=True)]
    share = np.zeros_like(u)
    for a, b, width in specks:
        share = np.maximum(share, smoothstep(1.25, 0.75, np.hypot(u - a, v - b) / width))
    return share


def _grain(size: int, random: np.random.Generator) -> np.ndarray:
    """Noise of unit variance, correlated over neighbours as a reconstruction kernel leaves it."""
    grain = ndimage.gaussian_filter(random.standard_normal((size, size), np.float32), 0.6)
    return grain / grain.std()


def _checked(attributes: np.ndarray) -> np.ndarray:
    attributes = np.asarray(attributes)
    highest = np.array([1] * len(ATTRIBUTES) + [len(SIZE_BINS) - 1])
    if (
        attributes.shape != highest.shape
        or attributes.dtype.kind not in "iu"
        or ((attributes < 0) | (attributes > highest)).any()
    ):
        raise ValueError(
            f"nodule: expected 7 integers, six attributes of 0 or 1 and a size bin of 0 to 4, received {attributes!r}."
        )
    return attributes


def _balanced_labels(num_images: int, seed: int) -> np.ndarray:
    pairs = [stream(seed, k, _LABEL).permutation(2) for k in range(-(-num_images // 2))]
    return np.concatenate([np.empty(0, np.int64), *pairs])[:num_images]
