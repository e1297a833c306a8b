"""Short-axis MR images of the heart, cine and late gadolinium enhancement (LGE), misaligned.

Both show the same heart, but the LGE was taken in another breath-hold: it is the cine's anatomy seen through a smooth
deformation and a shift that are known,

    lge_mask == fields.warp(cine_mask, displacement, order=0)       (but for the rounding)

Cine (balanced steady-state free precession): blood is brightest, then fat, and myocardium is grey. LGE (inversion
recovery, with gadolinium): fat and a scar recover fastest and are brightest, blood is half as bright, and myocardium
is nulled, black as the lung. So none keeps its rank, and blood looks on the LGE as myocardium does on the cine. A
scar lies at the endocardium and spreads outwards.

Labels copied from the cine have a Dice on the LGE of .66 to .70 (seeds 0 to 2; the 20 test subjects of 6 slices of 64 x
64 pixels, means over the labels of the volumes), and a U-Net that is trained on the cine alone has .16 (preset quick of
`mmsdnet`'s `unet_source`, one training).

The mask has 1 myocardium, 2 blood pool of the left ventricle (with its papillary muscles), 3 blood pool of the right
ventricle, the order of MS-CMRSeg's codes 200, 500, 600; the scar, a part of the myocardium, has a mask of its own.

Slices go from the base of the heart (level 0) to near the apex (level 1). Images are shown as
usual: the right ventricle on the left, the chest wall on top, the liver at the bottom. Lengths are
millimetres: centre 0, x right, y down.

    factors = cardiac.draw_factors(seed=1, index=7, scar=True)
    pair = cardiac.render(factors, level=0.4, size=192, seed=1, index=7)
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tfdisent.phantoms import fields
from tfdisent.phantoms.fields import ellipse, smoothstep, stream

FIELD_OF_VIEW = 180.0  # mm
EXTENT = 90.0  # mm from level 0 to level 1
MODALITIES = ("cine", "LGE")
MASK_LABELS = ("background", "myocardium", "left_ventricle", "right_ventricle")

FACTORS = (
    "heart_x",  # centre of the left ventricle, mm, [2, 18]
    "heart_y",
    "turn",  # of the heart, radians (x towards y), [-0.35, 0.35]
    "cavity",  # radius of the left ventricle's blood pool at the base, mm, [20, 27]
    "wall",  # thickness of its wall, mm, [7.5, 12]
    "right",  # width of the right ventricle, radii of the left with its wall, [0.6, 0.95]
    "fat",  # thickness of the fat under the skin, mm, [6, 22]
    "scar_angle",  # middle of the scar, radians (x towards y); 0 without
    "scar_extent",  # half its angle, radians, [0.35, 0.9]; 0 without
    "scar_depth",  # share of the wall, [0.4, 1]; 0 without
    "shift_x",  # of the LGE's anatomy, mm, [-8, 8]
    "shift_y",
    "warp",  # root mean square of its smooth deformation along each axis, mm, [1, 2.5]
)

# What the body consists of, and its signal in cine and LGE. That of the LGE is |1 - 2 exp(-TI / T1)| at the TI that
# nulls myocardium (T1 450 ms after gadolinium), times the density of protons: T1 250 ms of fat, 270 of a scar, 330 of
# blood.
_SIGNALS = {
    "air": (0.01, 0.01),
    "lung": (0.06, 0.04),
    "fat": (0.78, 0.95),
    "muscle": (0.22, 0.13),
    "bone": (0.45, 0.50),
    "liver": (0.36, 0.27),
    "spleen": (0.52, 0.36),
    "blood": (0.92, 0.46),
    "myocardium": (0.34, 0.04),
    "scar": (0.36, 0.80),
}
_NOISE_LEVEL = (0.018, 0.035)
_BLUR = (0.7, 1.0)  # mm

_FACTORS, _BODY, _HEART, _WARP, _TEXTURE, _BIAS, _NOISE = range(7)  # random streams of one subject


class Pair(NamedTuple):
    """One slice in both modalities, with the truth.

    cine, lge: float32 (size, size), arbitrary units, 0 to about 1.2.
    cine_mask, lge_mask: uint8 (size, size), index into `MASK_LABELS`.
    cine_scar, lge_scar: uint8 (size, size), 1 in the scar.
    displacement: float32 (size, size, 2), pixels along y and x; the LGE shows at a pixel what the
        cine shows at pixel + displacement.
    """

    cine: np.ndarray
    lge: np.ndarray
    cine_mask: np.ndarray
    lge_mask: np.ndarray
    cine_scar: np.ndarray
    lge_scar: np.ndarray
    displacement: np.ndarray


def draw_factors(*, seed: int = 0, index: int = 0, scar: bool = False) -> np.ndarray:
    """Draws the factors of subject `index`: float32 (len(FACTORS),), in the units of `FACTORS`.

    The heart is the same with and without a scar.
    """
    fields.check_integer("cardiac", "seed", seed, 0)
    fields.check_integer("cardiac", "index", index, 0)
    random = stream(seed, index, _FACTORS)
    low_high = {
        "heart_x": (2, 18),
        "heart_y": (-8, 8),
        "turn": (-0.35, 0.35),
        "cavity": (20, 27),
        "wall": (7.5, 12),
        "right": (0.6, 0.95),
        "fat": (6, 22),
        "scar_angle": (-np.pi, np.pi),
        "scar_extent": (0.35, 0.9),
        "scar_depth": (0.4, 1),
        "shift_x": (-8, 8),
        "shift_y": (-8, 8),
        "warp": (1, 2.5),
    }
    drawn = {name: random.uniform(*low_high[name]) for name in FACTORS}
    if not scar:
        drawn |= dict.fromkeys(("scar_angle", "scar_extent", "scar_depth"), 0)
    return np.array([drawn[name] for name in FACTORS], np.float32)


def render(factors: np.ndarray, *, level: float = 0.4, size: int = 192, seed: int = 0, index: int = 0) -> Pair:
    """Renders one slice; the same arguments give the same bytes.

    Args:
        factors: (len(FACTORS),) as from `draw_factors`, changed at will.
        level: of the slice, 0 (base) to 1 (near the apex).
        size: side in pixels, 16 or more; the field of view is `FIELD_OF_VIEW` at any size.
        seed, index: name the details that no factor describes.
    """
    f = fields.check_factors("cardiac.render", factors, FACTORS)
    fields.check_integer("cardiac", "size", size, 16)
    if not 0 <= level <= 1:
        raise ValueError(f"cardiac: expected a level from 0 (base) to 1 (apex), received {level}.")
    spacing = FIELD_OF_VIEW / size
    axis = fields.axis(size, spacing)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    random = stream(seed, index, _WARP)
    moved = fields.displacement(random, axis, axis, amplitude=f["warp"], wavelengths=(80, 160), z=EXTENT * level)
    moved += np.array([f["shift_y"], f["shift_x"]])
    places = (y, x), (y + moved[..., 0], x + moved[..., 1])
    images, masks, scars = [], [], []
    for k, (place_y, place_x) in enumerate(places):
        signals = {name: pair[k] for name, pair in _SIGNALS.items()}
        canvas = fields.Canvas(place_y, place_x, signals, "air", 0.5 * max(spacing, 1.0))
        _draw_body(canvas, f, level, stream(seed, index, _BODY))
        mask, scar = _draw_heart(canvas, f, level, stream(seed, index, _HEART))
        image = canvas.image * _texture(canvas, level, stream(seed, index, _TEXTURE))
        image = ndimage.gaussian_filter(image, _BLUR[k] / spacing)
        bias = fields.waves(stream(seed, index, _BIAS, k), 250, 500, count=8).on(axis, axis)
        # The coil lies on the chest.
        image *= np.exp(0.12 * bias - np.float32(0.0022) * (axis[:, None] + 30))
        noise = stream(seed, index, _NOISE, k, round(1000 * level))
        images.append(fields.rician(image, _NOISE_LEVEL[k], noise).astype(np.float32))
        masks.append(mask)
        scars.append(scar)
    return Pair(*images, *masks, *scars, (moved / spacing).astype(np.float32))


def _texture(canvas: fields.Canvas, level: float, random: np.random.Generator) -> np.ndarray:
    """Relative brightness of the tissue, about 1."""
    fine = fields.waves(random, 5, 12, dimensions=3, count=16).at(60 * level, canvas.y, canvas.x)
    slow = fields.waves(random, 20, 60, dimensions=3, count=12).at(60 * level, canvas.y, canvas.x)
    return 1 + 0.03 * fine + 0.05 * slow


def _draw_body(canvas: fields.Canvas, f: dict, level: float, random: np.random.Generator) -> None:
    """Chest wall, lungs and their vessels, liver, spleen and the aorta."""
    y, x = canvas.y, canvas.x
    wobble = fields.waves(random, 60, 150, dimensions=3, count=12).at(40 * level, y, x)
    body = ellipse(y, x, (45, 10), (122, 155)) + 2.5 * wobble
    inner = body - f["fat"]
    canvas.fill("fat", body)
    canvas.fill("muscle", inner)
    around = np.arctan2(y - 45, x - 10) * 130
    canvas.fill("bone", 4.5 - np.hypot(inner - 7.5, (around + 23 * level) % 36 - 18))
    canvas.fill("fat", 1.5 - np.abs(inner - 2 - wobble), 0.6)
    canvas.fill("lung", inner - 15)
    low = 12 * level  # nearer to the apex, more of the abdomen is in the slice
    vessels = random.uniform((-70, -95, 0.5, 0.5, 0), (55, 95, 2.5, 4, np.pi), (16, 5))
    vessels[:, :2] += low
    canvas.ellipses("blood", vessels, inner - 17, 0.75)
    wavy = fields.waves(random, 35, 80, count=16).at(y, x)
    liver = np.minimum(ellipse(y, x, (106 - low, -50), (62, 90), 0.12) + 2 * wavy, inner - 13)
    canvas.fill("fat", liver + 2.5, 0.7)
    canvas.fill("liver", liver)
    vessels = random.uniform((60, -95, 1, 2, 0), (95, 0, 2.2, 9, np.pi), (10, 5))
    vessels[:, 0] -= low
    canvas.ellipses("blood", vessels, liver - 5, 0.55)
    spleen = np.minimum(ellipse(y, x, (92 - low, 74), (34, 30), 0.5) + 1.5 * wavy, inner - 13)
    canvas.fill("fat", spleen + 3, 0.8)
    canvas.fill("spleen", spleen)
    aorta = ellipse(y, x, (60, 58), (11, 10.5))
    canvas.fill("muscle", aorta + 1.5)
    canvas.fill("blood", aorta)


def _draw_heart(
    canvas: fields.Canvas, f: dict, level: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Ventricles, papillary muscles, scar, and the fat around; gives mask and scar."""
    cos, sin = math.cos(f["turn"]), math.sin(f["turn"])
    y, x = canvas.y - f["heart_y"], canvas.x - f["heart_x"]
    along = cos * x + sin * y  # from the septum to the free wall
    down = cos * y - sin * x
    narrow = 1 - 0.55 * level**2
    cavity, wall = f["cavity"] * narrow, f["wall"] * (1 - 0.15 * level)
    outer = cavity + wall
    angle, radius = np.arctan2(down, along), np.hypot(along, down)
    inside = cavity * fields.border(fields.harmonics(random, (2, 3, 4), 0.025), angle) - radius
    epicardium = outer * fields.border(fields.harmonics(random, (2, 3), 0.015), angle) - radius
    width = f["right"] * outer * (1 - 0.45 * level)
    tall = outer * (1.12 - 0.35 * level)
    bent = fields.waves(random, 30, 70, count=12).at(down, along)
    right = ellipse(down, along, (-0.06 * outer, -outer + 0.1 * width), (tall, width)) + 0.8 * bent
    right = np.minimum(right, -epicardium)
    rough = fields.waves(random, 40, 90, count=12).at(down, along)
    fat = np.maximum(right + 3, epicardium) + np.maximum(2.5 + 3.5 * rough, 0.3)
    canvas.fill("fat", fat)
    canvas.fill("muscle", np.where(right > -8, np.maximum(right + 3, epicardium), epicardium))
    canvas.fill("blood", right)
    canvas.fill("myocardium", epicardium)
    scar = np.full_like(radius, -1)
    if f["scar_depth"] > 0:
        off = (angle - f["scar_angle"] + math.pi) % (2 * math.pi) - math.pi
        ragged = 1 + 0.12 * fields.waves(random, 8, 20, count=12).at(down, along)
        share = ragged * np.sqrt(np.clip(1 - (off / f["scar_extent"]) ** 2, 0, 1))
        depth = inside + wall * f["scar_depth"] * share  # `inside` is -wall at the epicardium
        scar = np.where(share > 0, np.minimum(depth, epicardium), scar)
        canvas.fill("scar", scar)
    canvas.fill("blood", inside)
    for at, reach, size in zip((0.9, -2.3), random.uniform(0.55, 0.68, 2), random.uniform(0.17, 0.24, 2), strict=True):
        centre = reach * cavity * np.array([np.sin(at), np.cos(at)])
        radii = size * cavity * np.array([1.15, 0.9]) * smoothstep(0.05, 0.25, level)
        canvas.fill("myocardium", ellipse(down, along, tuple(centre), tuple(radii + 1e-3), at))
    trabeculae = fields.waves(random, 6, 12, count=16).at(down, along)
    canvas.fill("myocardium", np.minimum(np.minimum(trabeculae - 1.1, 3 - right), right), 0.5)
    mask = np.select([inside > 0, epicardium > 0, right > 0], [2, 1, 3], 0).astype(np.uint8)
    return mask, ((scar > 0) & (mask == 1)).astype(np.uint8)
