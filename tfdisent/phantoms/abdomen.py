"""Axial MR images of the upper abdomen, T1 in phase and T2-SPIR, misaligned by breathing.

Both show the same person, each in a breath-hold of its own: the T2 is the T1's anatomy seen through a smooth
deformation that is known, strongest at the front wall and none at the spine,

    t2_mask == fields.warp(t1_mask, displacement, order=0)       (but for the rounding)

and the two series need not have their slices at the same positions (`t2_level`). On T1 in phase fat is bright and liver
brighter than spleen and kidneys; on T2-SPIR fat is suppressed, and spleen, kidneys and above all fluid are bright.
`misalignment` moves the whole T2 further: labels copied from the T1 have a Dice on the T2 of .68 to .72 with 11 mm, the
default of the data set, and of .95 with none (seeds 0 to 2; 24 subjects of 8 slices of 64 x 64 pixels, means over the
organs of the volumes). A U-Net that is trained on the T1 alone has .08 on the T2 (preset quick of `mmsdnet`'s
`unet_source`, one training). Masks: 1 liver, 2 right kidney, 3 left kidney, 4 spleen, the order of CHAOS (Kavur et al.,
Medical Image Analysis 69, 2021, https://doi.org/10.1016/j.media.2020.101950); no image of it is embedded.

Slices go from the dome of the liver (level 0) to the lower poles of the kidneys (level 1), over `EXTENT` mm. Images are
shown as radiologists see them: front up, the patient's right (the liver) on the left. Lengths are millimetres: centre
0, x right, y down.

    factors = abdomen.draw_factors(seed=1, index=7)
    pair = abdomen.render(factors, level=0.5, size=192, seed=1, index=7)
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tfdisent.phantoms import fields
from tfdisent.phantoms.fields import ellipse, smoothstep, stream

FIELD_OF_VIEW = 350.0  # mm
EXTENT = 150.0  # mm from level 0 to level 1
MODALITIES = ("T1", "T2")
MASK_LABELS = ("background", "liver", "right_kidney", "left_kidney", "spleen")

_RANGES = {
    "width": (135, 160),
    "depth": (88, 112),
    "fat": (8, 26),
    "liver": (0.88, 1.1),
    "spleen": (0.8, 1.25),
    "kidneys": (0.88, 1.12),
    "organs_up": (-0.08, 0.08),
    "stomach": (0.7, 1.2),
    "breath": (-9, 9),
    "shift_x": (-4, 4),
    "warp": (1, 3),
}
FACTORS = (
    "width",  # half the width of the body, mm, [135, 160]
    "depth",  # half its depth from front to back, mm, [88, 112]
    "fat",  # thickness of the fat under the skin, mm, [8, 26]
    "liver",  # size, of the average, [0.88, 1.1]
    "spleen",  # [0.8, 1.25]
    "kidneys",  # [0.88, 1.12]
    "organs_up",  # where the organs lie, levels towards the head, [-0.08, 0.08]
    "stomach",  # filling, [0.7, 1.2]
    "breath",  # how far the front of the T2's anatomy has moved forwards, mm, [-9, 9]
    "shift_x",  # how far it has moved to the patient's right, mm, [-4, 4]
    "warp",  # root mean square of the rest of the deformation along each axis, mm, [1, 3]
)

# What the body consists of, and its signal on T1 in phase and T2-SPIR.
_SIGNALS = {
    "air": (0.01, 0.01),
    "lung": (0.05, 0.05),
    "fat": (0.95, 0.08),
    "muscle": (0.30, 0.13),
    "bone": (0.42, 0.17),
    "liver": (0.52, 0.27),
    "spleen": (0.34, 0.66),
    "cortex": (0.38, 0.62),
    "medulla": (0.29, 0.76),
    "vessel": (0.20, 0.12),
    "duct": (0.24, 0.46),
    "bowel": (0.33, 0.36),
    "fluid": (0.13, 0.98),
}
_NOISE_LEVEL = (0.016, 0.024)
_BLUR = (0.9, 1.1)  # mm

_FACTORS, _BODY, _BOWEL, _ORGANS, _WARP, _TEXTURE, _BIAS, _NOISE, _PLACE = range(9)  # random streams


class Pair(NamedTuple):
    """One slice in both modalities, with the truth.

    t1, t2: float32 (size, size), arbitrary units, 0 to about 1.3.
    t1_mask, t2_mask: uint8 (size, size), index into `MASK_LABELS`.
    displacement: float32 (size, size, 2), pixels along y and x; the T2 shows at a pixel what a T1
        of its level shows at pixel + displacement.
    """

    t1: np.ndarray
    t2: np.ndarray
    t1_mask: np.ndarray
    t2_mask: np.ndarray
    displacement: np.ndarray


def draw_factors(*, seed: int = 0, index: int = 0) -> np.ndarray:
    """Draws the factors of subject `index`: float32 (len(FACTORS),), in the units of `FACTORS`."""
    fields.check_integer("abdomen", "seed", seed, 0)
    fields.check_integer("abdomen", "index", index, 0)
    random = stream(seed, index, _FACTORS)
    return np.array([random.uniform(*_RANGES[name]) for name in FACTORS], np.float32)


def render(
    factors: np.ndarray,
    *,
    level: float = 0.5,
    t2_level: float | None = None,
    misalignment: float = 0.0,
    size: int = 192,
    seed: int = 0,
    index: int = 0,
) -> Pair:
    """Renders one slice in both modalities; the same arguments give the same bytes.

    Args:
        factors: (len(FACTORS),) as from `draw_factors`, changed at will.
        level: of the slice, 0 (dome of the liver) to 1 (lower poles of the kidneys).
        t2_level: of the T2, where it lies elsewhere than the T1.
        misalignment: how far the whole of the T2's anatomy has moved, mm, in a direction that is the subject's own, on
            top of its breathing; half to one and a half times as far, from one subject to another.
        size: side in pixels, 16 or more; the field of view is `FIELD_OF_VIEW` at any size.
        seed, index: name the details that no factor describes.
    """
    f = fields.check_factors("abdomen.render", factors, FACTORS)
    fields.check_integer("abdomen", "size", size, 16)
    if not 0 <= misalignment <= 100:
        raise ValueError(f"abdomen: expected a misalignment of 0 to 100 mm, received {misalignment}.")
    levels = level, level if t2_level is None else t2_level
    if not all(0 <= at <= 1 for at in levels):
        raise ValueError(f"abdomen: expected levels from 0 (dome of the liver) to 1 (kidneys), received {levels}.")
    spacing = FIELD_OF_VIEW / size
    axis = fields.axis(size, spacing)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    moved = fields.displacement(
        stream(seed, index, _WARP),
        axis,
        axis,
        amplitude=f["warp"],
        wavelengths=(110, 220),
        z=EXTENT * levels[1],
    )
    moved += np.array([f["breath"], f["shift_x"]])
    moved *= smoothstep(75, -70, y)[..., None]  # the spine stays
    distance, angle = stream(seed, index, _PLACE).uniform((0.5, 0), (1.5, 2 * np.pi))
    moved += misalignment * distance * np.array([math.sin(angle), math.cos(angle)])
    places = (y, x), (y + moved[..., 0], x + moved[..., 1])
    images, masks = [], []
    for k, ((place_y, place_x), at) in enumerate(zip(places, levels, strict=True)):
        signals = {name: pair[k] for name, pair in _SIGNALS.items()}
        canvas = fields.Canvas(place_y, place_x, signals, "air", 0.5 * max(spacing, 1.5))
        masks.append(_draw(canvas, f, at, seed, index))
        image = canvas.image * _texture(canvas, at, stream(seed, index, _TEXTURE))
        image = ndimage.gaussian_filter(image, _BLUR[k] / spacing)
        bias = fields.waves(stream(seed, index, _BIAS, k), 350, 700, count=8).on(axis, axis)
        image *= np.exp((0.08, 0.14)[k] * bias)
        noise = stream(seed, index, _NOISE, k, round(1000 * at))
        images.append(fields.rician(image, _NOISE_LEVEL[k], noise).astype(np.float32))
    return Pair(*images, *masks, (moved / spacing).astype(np.float32))


def _texture(canvas: fields.Canvas, level: float, random: np.random.Generator) -> np.ndarray:
    """Relative brightness of the tissue, about 1."""
    z = EXTENT * level
    fine = fields.waves(random, 6, 16, dimensions=3, count=16).at(z, canvas.y, canvas.x)
    slow = fields.waves(random, 30, 90, dimensions=3, count=12).at(z, canvas.y, canvas.x)
    return 1 + 0.035 * fine + 0.04 * slow


def _draw(canvas: fields.Canvas, f: dict, level: float, seed: int, index: int) -> np.ndarray:
    """Draws the slice; gives its mask."""
    cavity = _draw_body(canvas, f, level, stream(seed, index, _BODY))
    _draw_bowel(canvas, f, level, cavity, stream(seed, index, _BOWEL))
    return _draw_organs(canvas, f, level, cavity, stream(seed, index, _ORGANS))


def _draw_body(canvas: fields.Canvas, f: dict, level: float, random: np.random.Generator) -> np.ndarray:
    """Skin, fat, muscles, ribs and spine; gives the depth within the abdominal cavity, mm."""
    y, x = canvas.y, canvas.x
    wobble = fields.waves(random, 90, 220, dimensions=3, count=12).at(EXTENT * level, y, x)
    # Rounder in front than in the back, and less round than an ellipse.
    power = 2.5
    u, v = np.abs(x) / f["width"], np.abs(y) / (f["depth"] * np.where(y > 0, 0.95, 1.05))
    radius = np.maximum((u**power + v**power) ** (1 / power), 1e-3)
    body = np.hypot(x, y) * (1 / radius - 1) + 2 * wobble
    canvas.fill("muscle", body)
    canvas.fill("fat", body - 1.8)  # the skin is thin
    behind = smoothstep(-40, 60, y)
    wall = body - f["fat"] * (0.75 + 0.6 * behind * smoothstep(120, 30, np.abs(x)))
    canvas.fill("muscle", wall)
    canvas.fill("fat", 1.2 - np.abs(wall - 5 - 0.8 * wobble), 0.4)
    cavity = wall - 10
    canvas.fill("fat", cavity)
    # Above, the diaphragm's dome keeps the organs off the wall, and the lungs lie between.
    high = max(0.0, 1 - level / 0.3)
    dome_radii = f["depth"] * (1.3 - 0.55 * high), f["width"] * (1.3 - 0.62 * high)
    dome = ellipse(y, x, (-10 * high, -32 * high), dome_radii) + wobble
    canvas.fill("lung", np.minimum(cavity, 1 - dome))
    around = np.arctan2(y, x) * 120
    rib = np.hypot((wall - 6.5) * 1.6, (around + 70 * level) % 46 - 23) - 7.5
    canvas.fill("bone", np.where(y < 60, -rib, -9.0), float(smoothstep(0.9, 0.6, level)))
    spine = f["depth"] * 0.95 - 0.7 * f["fat"] - 46
    for side in (-1, 1):
        erector = ellipse(y, x, (spine + 33, 37 * side), (19, 25), 0.25 * side)
        canvas.fill("muscle", np.minimum(erector, wall))
        psoas = (14, 12 * float(smoothstep(0.3, 0.7, level)))
        canvas.fill("muscle", ellipse(y, x, (spine + 10, 30 * side), psoas, 0.5 * side))
    canvas.fill("muscle", ellipse(y, x, (spine + 22, 0), (24, 20)))
    canvas.fill("bone", ellipse(y, x, (spine + 30, 0), (14, 3.5)))
    canvas.fill("muscle", ellipse(y, x, (spine, 0), (18.5, 22.5)))
    canvas.fill("bone", ellipse(y, x, (spine, 0), (17, 21)))
    canvas.fill("fluid", ellipse(y, x, (spine + 23, 0), (6, 8)), 0.9)
    canvas.fill("muscle", ellipse(y, x, (spine + 23, 0), (3, 3.5)), 0.7)
    canvas.fill("vessel", ellipse(y, x, (spine - 28, 7), (9.5, 9.5)))
    return np.minimum(np.minimum(cavity, dome), -ellipse(y, x, (spine, 0), (22, 26)))


def _draw_bowel(canvas: fields.Canvas, f: dict, level: float, cavity: np.ndarray, random: np.random.Generator) -> None:
    """Stomach with its contents, loops of bowel, pancreas."""
    y, x = canvas.y, canvas.x
    z = EXTENT * level
    bent = fields.waves(random, 40, 100, dimensions=3, count=12).at(z, y, x)
    centres = random.uniform((-70, -105, 12), (25, 105, 24), (40, 3))
    heights, kinds = random.uniform(60, 200, 40), random.uniform(size=40)
    for (at_y, at_x, size), height, full in zip(centres, heights, kinds, strict=True):
        radius = size * (1 - ((z - height) / 32) ** 2)
        if radius > 2:
            loop = ellipse(y, x, (at_y, at_x), (radius, 1.3 * radius), full * 3) + bent
            loop = np.minimum(loop, cavity - 3)
            canvas.fill("bowel", loop)
            canvas.fill("fluid" if full < 0.3 else "air" if full > 0.85 else "duct", loop - 3)
    pancreas = ellipse(y, x, (0, 12), (9, 42 - 90 * abs(level - 0.55)), -0.2)
    canvas.fill("bowel", np.minimum(pancreas, cavity))
    swell = f["stomach"] * float(np.clip(1.25 - 1.6 * abs(level - 0.3), 0.0, 1.0))
    stomach = ellipse(y, x, (-32, 58), (28 * swell, 44 * swell), -0.35) + 2 * bent
    stomach = np.minimum(stomach, cavity - 3)
    canvas.fill("bowel", stomach)
    canvas.fill("fluid", stomach - 4, 0.75)
    canvas.fill("air", np.minimum(stomach - 4, -42 - y))


class _Organs(NamedTuple):
    """Depths (H, W), mm, below the borders of the organs, > 0 inside; they do not overlap."""

    liver: np.ndarray
    gall_bladder: np.ndarray
    spleen: np.ndarray
    kidneys: tuple[np.ndarray, np.ndarray]  # right, left, each with its sinus
    sinuses: tuple[np.ndarray, np.ndarray]


def _organs(canvas: fields.Canvas, f: dict, level: float, cavity: np.ndarray, random: np.random.Generator) -> _Organs:
    """Where the organs lie: ellipsoids, bent, and cut off by what they touch."""
    y, x = canvas.y, canvas.x
    z = EXTENT * (level + f["organs_up"])
    bent = fields.waves(random, 45, 120, dimensions=3, count=16).at(z, y, x)
    wide, deep = f["width"] / 148, f["depth"] / 100

    def share(middle: float, half: float) -> float:
        """Relative radius in this slice of an ellipsoid that reaches `half` mm up and down."""
        return math.sqrt(max(0.0, 1 - ((z - middle) / half) ** 2))

    kidneys, sinuses = [], []
    for side, middle in ((-1, 112), (1, 100)):
        size = f["kidneys"] * share(middle, 58)
        centre_y, centre_x = 36 * deep, side * 62 * wide
        kidney = ellipse(y, x, (centre_y, centre_x), (29 * size, 24 * size), 0.5 * side)
        kidneys.append(np.minimum(kidney + 1.2 * bent, cavity - 3))
        # The sinus opens to the middle and to the front.
        size = 1.6 * max(0.0, size - 0.4)
        sinus = ellipse(y, x, (centre_y - 7, centre_x - 15 * side), (7.5 * size, 13 * size))
        sinuses.append(sinus + 1.2 * bent)
    beside = -np.maximum(*kidneys) - 3

    right, left = f["liver"] * share(55, 92), f["liver"] * share(40, 58)
    liver = np.maximum(
        ellipse(y, x, (-2 * deep, -72 * wide), (72 * deep * right, 64 * wide * right), -0.1),
        ellipse(y, x, (-38 * deep, -12 * wide), (30 * deep * left, 68 * wide * left), 0.12),
    )
    around_cava = -ellipse(y, x, (26 * deep, -22 * wide), (10, 12))
    liver = np.minimum.reduce([liver + 2.5 * bent, cavity - 2, beside, around_cava])
    size = share(95, 30)
    gall = ellipse(y, x, (-32 * deep, -52 * wide), (16 * size, 11 * size), 0.5)
    gall = np.minimum(gall, cavity - 3)
    size = f["spleen"] * share(62, 62)
    spleen = ellipse(y, x, (28 * deep, 100 * wide), (50 * size, 24 * size), -0.35) + 2 * bent
    spleen = np.minimum.reduce([spleen, cavity - 2, beside, -liver - 2])
    return _Organs(liver, gall, spleen, tuple(kidneys), tuple(sinuses))


def _draw_organs(
    canvas: fields.Canvas, f: dict, level: float, cavity: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Liver with its vessels, gall bladder, vena cava, kidneys and spleen; gives the mask."""
    y, x = canvas.y, canvas.x
    wide, deep = f["width"] / 148, f["depth"] / 100
    organs = _organs(canvas, f, level, cavity, random)
    canvas.fill("fat", organs.liver + 1.5, 0.6)
    canvas.fill("liver", organs.liver)
    canvas.fill("vessel", ellipse(y, x, (24 * deep, -22 * wide), (8.5, 10.5)))
    branches = random.uniform((-45, -110, 1.2, 3, 0), (35, -10, 2.6, 14, np.pi), (14, 5))
    # Vessels run obliquely through the slices.
    branches[:, :2] += random.uniform(-0.15, 0.15, (14, 2)) * EXTENT * (level + f["organs_up"])
    canvas.ellipses("duct", branches, organs.liver - 3, 0.75)
    canvas.fill("fluid", organs.gall_bladder)
    canvas.fill("fat", organs.spleen + 2)
    canvas.fill("spleen", organs.spleen)
    columns = 3 + 2.5 * np.cos(9 * np.arctan2(y - 36 * deep, np.abs(x) - 62 * wide))
    for kidney, sinus in zip(organs.kidneys, organs.sinuses, strict=True):
        canvas.fill("fat", kidney + 3)
        canvas.fill("cortex", kidney)
        canvas.fill("medulla", np.minimum.reduce([kidney - 5, columns, -sinus]))
        canvas.fill("fat", np.minimum(sinus, kidney + 3))
        canvas.fill("vessel", np.minimum(sinus - 3.5, kidney + 3), 0.8)
    right, left = (np.minimum(k, -s) for k, s in zip(organs.kidneys, organs.sinuses, strict=True))
    inside = [depth > 0 for depth in (np.minimum(organs.liver, -organs.gall_bladder), right, left, organs.spleen)]
    return np.select(inside, range(1, len(MASK_LABELS)), 0).astype(np.uint8)
