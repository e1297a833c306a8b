"""OCT B-scans of the macula with fluid, as two vendors' devices show the same eye.

An eye has the layers of the retina around a foveal pit, vessels with their shadows, a choroid, and up to three kinds of
fluid that push the layers apart as they do in patients: cysts within the retina (IRF), fluid under the retina, which
lifts it off the pigment epithelium (SRF), and a detachment of the pigment epithelium from Bruch's membrane (PED).
Masks: 1 IRF, 2 SRF, 3 PED, as in RETOUCH (Bogunovic et al., IEEE TMI 38, 1858, 2019,
https://doi.org/10.1109/TMI.2019.2901398); no image of it is embedded.

Vendors: "spectralis" averages many frames: fine speckle, high contrast, dark vitreous. "cirrus"
does not: coarse, strong speckle, low contrast, grey vitreous, and a deeper range. Both show an eye
at the same places, unless asked for each vendor's own range of depth.

    factors = retina.draw_factors(seed=1, index=7, fluid=("SRF", "IRF"))
    scan = retina.render(factors, "cirrus", offset=0.0, size=256, seed=1, index=7)

Lengths are millimetres: x from the middle of the scan, 6 mm wide, to the right; depth from the top downwards; offset of
the scan from the fovea across the scan.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tfdisent.phantoms import fields
from tfdisent.phantoms.fields import mix, smoothstep, stream

WIDTH = 6.0  # mm
DEPTH = 1.92  # mm, of Spectralis: 496 pixels of 3.87 um
FLUIDS = ("IRF", "SRF", "PED")
MASK_LABELS = ("background", *FLUIDS)

# Layers from the vitreous down: thickness (mm) beside the fovea, and reflectivity.
_LAYERS = {
    "nerve_fibres": (0.032, 0.80),
    "ganglion_cells": (0.042, 0.47),
    "inner_plexiform": (0.038, 0.58),
    "inner_nuclear": (0.038, 0.33),
    "outer_plexiform": (0.028, 0.55),
    "outer_nuclear": (0.075, 0.22),
    "limiting_membrane": (0.006, 0.45),
    "inner_segments": (0.026, 0.30),
    "ellipsoid_zone": (0.016, 0.85),
    "outer_segments": (0.022, 0.45),
    "pigment_epithelium": (0.022, 0.95),
}
LAYERS = tuple(_LAYERS)
_VITREOUS, _FLUID, _DETACHMENT, _BRUCH, _CHOROID, _SCLERA = 0.05, 0.04, 0.16, 0.7, 0.56, 0.34

_RANGES = {
    "fovea_x": (-0.5, 0.5),
    "depth": (1.15, 1.4),
    "tilt": (-0.05, 0.05),
    "curvature": (-0.02, 0.005),
    "thickness": (0.9, 1.12),
    "pit": (0.3, 0.45),
    "choroid": (0.18, 0.34),
    "vessels": (2, 7),
    "cysts": (16, 45),
    "swelling": (0.08, 0.24),
    "srf_x": (-0.9, 0.9),
    "srf_width": (0.6, 1.5),
    "srf_height": (0.08, 0.3),
    "ped_x": (-1.2, 1.2),
    "ped_width": (0.5, 1.2),
    "ped_height": (0.07, 0.24),
}
FACTORS = (
    "fovea_x",  # mm, [-0.5, 0.5]
    "depth",  # of Bruch's membrane under the fovea, mm, [1.15, 1.4]
    "tilt",  # of Bruch's membrane, mm per mm, [-0.05, 0.05]
    "curvature",  # its depth at 1 mm from the fovea, mm, [-0.02, 0.005]
    "thickness",  # of the layers, of the average, [0.9, 1.12]
    "pit",  # radius of the foveal pit, mm, [0.3, 0.45]
    "choroid",  # thickness, mm, [0.18, 0.34]
    "vessels",  # 2 to 7 vessels of the retina that cross the scan
    "cysts",  # of IRF: 16 to 45 in the eye; 0 without
    "swelling",  # by which IRF thickens the retina, mm, [0.08, 0.24]; 0 without
    "srf_x",  # middle of the SRF, mm; 0 without
    "srf_width",  # half its width, mm, [0.6, 1.5]; 0 without
    "srf_height",  # mm, [0.08, 0.3]; 0 without
    "ped_x",  # as of the SRF
    "ped_width",  # [0.5, 1.2]
    "ped_height",  # [0.07, 0.24]
)


class Vendor(NamedTuple):
    """How a device shows an eye.

    frames: speckle is that of the mean of so many frames.
    speckle: its strength, on the grey scale.
    floor: grey of what reflects nothing.
    contrast: of the grey scale, which ends at 1.
    axial, lateral: standard deviation of the point spread, mm.
    grain: lateral size of the speckle, mm.
    depth: range of depth, mm.
    """

    frames: float
    speckle: float
    floor: float
    contrast: float
    axial: float
    lateral: float
    grain: float
    depth: float


VENDORS = {
    "spectralis": Vendor(10, 0.13, 0.02, 1.25, 0.0028, 0.008, 0.007, 1.92),
    "cirrus": Vendor(1.8, 0.12, 0.14, 0.95, 0.0045, 0.013, 0.015, 2.0),
}

_FACTORS, _SHAPE, _CYSTS, _VESSELS, _TEXTURE, _SPECKLE = range(6)  # random streams of one eye


class Scan(NamedTuple):
    """One B-scan with its truth.

    image: float32 (H, W), grey values in [0, 1].
    mask: uint8 (H, W), index into `MASK_LABELS`.
    boundaries: float32 (len(LAYERS) + 2, W), rows of the upper borders of `LAYERS`, then of the
        lower border of the last one and of Bruch's membrane. They differ where there is a PED.
    """

    image: np.ndarray
    mask: np.ndarray
    boundaries: np.ndarray


def draw_factors(*, seed: int = 0, index: int = 0, fluid: Sequence[str] = FLUIDS) -> np.ndarray:
    """Draws the factors of eye `index`: float32 (len(FACTORS),), in the units of `FACTORS`.

    Args:
        seed, index: name the eye; its layers are the same whatever fluid it has.
        fluid: which of `FLUIDS` it has.
    """
    fields.check_integer("retina", "seed", seed, 0)
    fields.check_integer("retina", "index", index, 0)
    for name in fluid:
        fields.check_one_of("retina", "fluid", name, FLUIDS)
    random = stream(seed, index, _FACTORS)
    drawn = {name: random.uniform(*_RANGES[name]) for name in FACTORS}
    drawn["vessels"], drawn["cysts"] = round(drawn["vessels"]), round(drawn["cysts"])
    parts = {"IRF": ("cysts", "swelling"), "SRF": ("srf_x", "srf_width", "srf_height")}
    parts["PED"] = "ped_x", "ped_width", "ped_height"
    for name in set(FLUIDS) - set(fluid):
        drawn |= dict.fromkeys(parts[name], 0)
    return np.array([drawn[name] for name in FACTORS], np.float32)


def render(
    factors: np.ndarray,
    vendor: str | Vendor = "spectralis",
    *,
    offset: float = 0.0,
    size: int | tuple[int, int] = 256,
    depth: float | None = DEPTH,
    seed: int = 0,
    index: int = 0,
) -> Scan:
    """Renders one B-scan; the same arguments give the same bytes.

    Args:
        factors: (len(FACTORS),) as from `draw_factors`, changed at will.
        vendor: a name in `VENDORS`, or one of your own.
        offset: of the scan from the fovea, mm, -3 to 3.
        size: height and width in pixels, each 16 or more, or one number for both.
        depth: range that the height shows, mm; None for the vendor's own.
        seed, index: name the details that no factor describes.
    """
    f = fields.check_factors("retina.render", factors, FACTORS)
    height, width = (size, size) if isinstance(size, int | np.integer) else size
    for number in (height, width):
        fields.check_integer("retina", "size", number, 16)
    if isinstance(vendor, str):
        fields.check_one_of("retina", "vendor", vendor, tuple(VENDORS))
        key, vendor = tuple(VENDORS).index(vendor), VENDORS[vendor]
    else:
        key = len(VENDORS)
    if not -3 <= offset <= 3:
        raise ValueError(f"retina: expected an offset from -3 to 3 mm, received {offset}.")
    depth = vendor.depth if depth is None else depth
    x = fields.axis(width, WIDTH / width)
    z = (np.arange(height) + 0.5)[:, None] * (depth / height)
    borders = _borders(f, x, offset, stream(seed, index, _SHAPE))
    cysts = _cyst_depth(f, z, x, offset, borders, stream(seed, index, _CYSTS))
    image = _reflectivity(f, z, x, offset, borders, cysts, stream(seed, index, _TEXTURE))
    image = image * _vessels(f, z, x, offset, borders, stream(seed, index, _VESSELS))
    speckle = stream(seed, index, _SPECKLE, key, round(1000 * offset) + 10**5)
    image = _seen(image, vendor, depth / height, WIDTH / width, speckle)
    mask = np.zeros(image.shape, np.uint8)
    for label, top, bottom in (
        (2, borders.photoreceptors, borders.tops[-1]),
        (3, borders.epithelium, borders.bruch),
    ):
        mask[(z > top) & (z < bottom)] = label
    mask[cysts > 0] = 1
    rows = np.stack([*borders.tops, borders.epithelium, borders.bruch]) * (height / depth) - 0.5
    return Scan(image, mask, rows.astype(np.float32))


class _Borders(NamedTuple):
    """Depths, mm, along a scan. Between `photoreceptors` and the last of `tops` lies SRF, between `epithelium` and
    `bruch` the content of a PED.
    """

    tops: np.ndarray  # (len(LAYERS), W), upper borders of the layers
    photoreceptors: np.ndarray  # (W,), lower border of the outer segments
    epithelium: np.ndarray  # (W,), lower border of the pigment epithelium
    bruch: np.ndarray  # (W,), Bruch's membrane


def _borders(f: dict, x: np.ndarray, offset: float, random: np.random.Generator) -> _Borders:
    wobble = [fields.waves(random, 0.7, 2.5, count=12) for _ in range(len(LAYERS) + 3)]
    wobble = [waves.at(offset, x) for waves in wobble]
    off = x - f["fovea_x"]
    radius = np.hypot(off, offset)
    pit = np.exp(-0.7 * (radius / max(f["pit"], 1e-3)) ** 2)  # 1 in the fovea, 0 beside it
    parafovea = 0.75 + 0.5 * np.exp(-(((radius - 0.9) / 0.7) ** 2))
    swollen = f["swelling"] * np.exp(-((radius / 1.1) ** 2))
    thickness = {
        name: f["thickness"] * value * (1 + 0.05 * wave)
        for (name, (value, _)), wave in zip(_LAYERS.items(), wobble, strict=False)
    }
    for name in LAYERS[:4]:
        thickness[name] = thickness[name] * (1 - pit)
    thickness["nerve_fibres"] *= 0.6 + 1.0 * smoothstep(-1.5, 3, off)  # thick towards the disc
    thickness["ganglion_cells"] *= parafovea
    thickness["inner_plexiform"] *= parafovea
    thickness["outer_plexiform"] *= 1 - 0.75 * pit
    thickness["outer_nuclear"] *= 1 + 0.45 * pit
    thickness["outer_segments"] *= 1 + 0.5 * pit
    thickness["inner_nuclear"] += 0.45 * swollen
    thickness["outer_nuclear"] += 0.55 * swollen

    bruch = f["depth"] + f["tilt"] * off + f["curvature"] * radius**2 + 0.006 * wobble[-1]
    detached = _dome(x, offset, f["ped_x"], f["ped_width"], f["ped_height"])
    epithelium = bruch - detached * (1 + 0.08 * wobble[-2])
    tops = [epithelium - thickness["pigment_epithelium"]]
    lifted = _dome(x, offset, f["srf_x"], f["srf_width"], f["srf_height"])
    photoreceptors = tops[0] - lifted * (1 + 0.08 * wobble[-3])
    tops.append(photoreceptors - thickness["outer_segments"])
    for name in LAYERS[-3::-1]:
        tops.append(tops[-1] - thickness[name])
    return _Borders(np.stack(tops[::-1]), photoreceptors, epithelium, bruch)


def _dome(x: np.ndarray, offset: float, middle: float, width: float, height: float) -> np.ndarray:
    """Height (W,) of a dome that meets the ground smoothly."""
    if height <= 0 or width <= 0:
        return np.zeros_like(x)
    radius = ((x - middle) / width) ** 2 + (offset / (0.8 * width)) ** 2
    return height * np.maximum(1 - radius, 0) ** 1.2


def _cyst_depth(
    f: dict,
    z: np.ndarray,
    x: np.ndarray,
    offset: float,
    borders: _Borders,
    random: np.random.Generator,
) -> np.ndarray:
    """Depth (H, W), mm, within cysts of the inner and of the outer nuclear layer; > 0 inside."""
    depth = np.full((z.shape[0], len(x)), -1.0)
    bent = fields.waves(random, 0.08, 0.3).at(z, x[None, :])
    for _ in range(round(f["cysts"])):
        name = random.choice(("inner_nuclear", "outer_nuclear"))
        across, along, wide, full = random.normal((0, f["fovea_x"], 0, 0), (0.35, 0.6, 1, 1))
        wide = 0.11 * math.exp(0.5 * wide)
        cut = 1 - ((offset - across) / (1.6 * wide)) ** 2
        if cut <= 0:
            continue
        k = LAYERS.index(name)
        top, bottom = borders.tops[k], borders.tops[k + 1]
        room = np.interp(along, x, bottom - top)
        tall = math.sqrt(cut) * room * min(0.48, 0.4 * math.exp(0.2 * full))
        wide = math.sqrt(cut) * wide
        if tall > 0.006:
            below = (z - 0.5 * (top + bottom)) / tall
            radius = np.hypot(below, (x - along) / wide) * (1 + 0.1 * bent)
            depth = np.maximum(depth, (1 - radius) * tall)
    return depth


def _reflectivity(
    f: dict,
    z: np.ndarray,
    x: np.ndarray,
    offset: float,
    borders: _Borders,
    cysts: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """What the tissue reflects, on a logarithmic scale, (H, W) in [0, 1]."""
    soft = 0.003

    def below(border: np.ndarray) -> np.ndarray:
        return smoothstep(-soft, soft, z - border)

    image = np.full((z.shape[0], len(x)), _VITREOUS)
    for name, top in zip(LAYERS[:-1], borders.tops, strict=False):
        image = mix(image, _LAYERS[name][1], below(top))
    image = mix(image, _FLUID, below(borders.photoreceptors))
    image = mix(image, _LAYERS["pigment_epithelium"][1], below(borders.tops[-1]))
    image = mix(image, _DETACHMENT, below(borders.epithelium))
    image = mix(image, _BRUCH, below(borders.bruch - 0.005))
    deep = z - borders.bruch
    lumens = fields.waves(random, 0.10, 0.32, dimensions=3, count=40)
    lumens = lumens.at(offset, 1.4 * deep, x[None, :])
    choroid = _CHOROID - 0.2 * smoothstep(0.2, 0.9, lumens) * smoothstep(0.01, 0.05, deep)
    choroid = choroid * np.exp(-np.maximum(deep, 0) / 0.55)
    end = f["choroid"] * (1 + 0.05 * fields.waves(random, 1, 4, count=12).at(offset, x))
    sclera = _SCLERA * np.exp(-np.maximum(deep - end, 0) / 0.35)
    choroid = mix(choroid, sclera, smoothstep(-0.02, 0.03, deep - end))
    # A detached epithelium and its fluid leave less light for what lies below.
    choroid = choroid * np.exp(-1.2 * (borders.bruch - borders.epithelium))
    image = mix(image, choroid, below(borders.bruch + 0.005))
    fine = fields.waves(random, 0.02, 0.12, dimensions=3, count=32).at(offset, 2.0 * z, x[None, :])
    image = image * (1 + 0.07 * fine)
    return mix(image, _FLUID, smoothstep(-soft, soft, cysts))


def _vessels(
    f: dict,
    z: np.ndarray,
    x: np.ndarray,
    offset: float,
    borders: _Borders,
    random: np.random.Generator,
) -> np.ndarray:
    """Relative brightness (H, W): vessels of the retina are bright, and cast shadows."""
    light = np.ones((z.shape[0], len(x)))
    for _ in range(round(f["vessels"])):
        side, far, slope, radius = random.uniform((-1, 0.7, -0.4, 0.018), (1, 2.9, 0.4, 0.05))
        middle = f["fovea_x"] + math.copysign(far, side) + slope * offset
        across = np.exp(-(((x - middle) / radius) ** 2))
        at = np.interp(middle, x, borders.tops[0]) + 0.6 * radius + 0.02
        lumen = np.exp(-(((z - at) / (0.8 * radius)) ** 2)) * across
        light *= 1 + 0.3 * lumen
        light *= 1 - 0.5 * across * smoothstep(0, 0.06, z - at - 0.5 * radius)
    return light


def _seen(
    image: np.ndarray,
    vendor: Vendor,
    row: float,
    column: float,
    random: np.random.Generator,
) -> np.ndarray:
    """What the device shows of reflectivities, with pixels `row` x `column` mm: [0, 1]."""
    image = ndimage.gaussian_filter(image, (vendor.axial / row, vendor.lateral / column))
    image = vendor.floor + (1 - vendor.floor) * np.clip(image, 0, 1) ** vendor.contrast
    # The logarithm of a mean of exponentially distributed intensities.
    speckle = np.log(random.standard_gamma(vendor.frames, image.shape) / vendor.frames)
    speckle = ndimage.gaussian_filter(speckle, (vendor.axial / row, vendor.grain / column))
    speckle = (speckle - speckle.mean()) / speckle.std()
    image = image + vendor.speckle * speckle * (0.3 + image)
    return np.clip(image, 0, 1).astype(np.float32)
