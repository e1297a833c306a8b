"""Dermatoscopic images of skin lesions with known factors.

Content is the lesion class: it sets palette, inner structure, sharpness of the edge, and the ranges of `size` and
`border`. Style is everything else (position, orientation, elongation, skin tone, illumination, hairs) and is drawn from
the same distribution, indeed from the same random numbers, whatever the class.

    nv    nevus: small, smooth, soft-edged, uniform reddish brown
    mel   melanoma: large, jagged, asymmetric; black, brown and blue-grey side by side
    bkl   benign keratosis: tan to grey-brown, sharp scalloped edge, light milia-like cysts

The look follows HAM10000 (Tschandl et al., 2018, https://doi.org/10.1038/sdata.2018.161); no image of it is embedded.
Lengths are in half widths of the image: centre 0, x right, y down.

Drawing is apart from rendering, so that one lesion can be moved, turned or put on other skin:

    factors = skin.draw_factors(label, seed=1, index=7)
    factors[skin.FACTORS.index("position_x")] = 0.3
    image, mask = skin.render(label, factors, size=64, seed=1, index=7)
"""

from typing import NamedTuple

import numpy as np

from tfdisent.phantoms.fields import Waves, check_integer, halved, mix, smoothstep, stream

LABELS = ("bkl", "mel", "nv")

FACTORS = (
    "position_x",  # centroid of the lesion, half widths, [-0.36, 0.36]
    "position_y",
    "orientation_sin",  # of twice the angle of the long axis (x towards y), [-1, 1]
    "orientation_cos",
    "elongation",  # long axis over short axis, [1.1, 1.6]
    "size",  # radius, half widths, [0.21, 0.42]; depends on the class
    "border",  # amplitude of the border's irregularity, radii, [0.02, 0.11]; depends on the class
    "skin_red",  # colour of the skin, [0, 1]
    "skin_green",
    "skin_blue",
    "illumination_x",  # relative change of brightness from the centre to the edge, [-0.18, 0.18]
    "illumination_y",
    "vignette",  # relative loss of brightness in the corners, [0, 0.5], 0 in half of the images
    "hair_count",  # 0 to 6 hairs
    "hair_lightness",  # 0 black to 1 fair
)
CONTENT_FACTORS = ("size", "border")
STYLE_FACTORS = tuple(name for name in FACTORS if name not in CONTENT_FACTORS)

# Tones like those at the borders of real images: pinks, lilacs, pale, beige, tan, light brown.
_SKIN_TONES = (
    np.array(
        [
            (240, 160, 172),
            (218, 136, 160),
            (236, 220, 224),
            (236, 208, 192),
            (212, 180, 156),
            (229, 154, 146),
            (212, 182, 208),
            (184, 150, 164),
            (226, 192, 178),
            (196, 150, 128),
        ]
    )
    / 255
)


class _Look(NamedTuple):
    """What a class fixes. Colours in [0, 1], lengths in half widths."""

    size: tuple[float, float]
    border: tuple[float, float]
    lobes: tuple[float, float]  # how many lobes the border has
    edge: float  # width over which the pigment fades out
    light: tuple[float, float, float]
    dark: tuple[float, float, float]


_LOOKS = {
    "nv": _Look((0.21, 0.30), (0.02, 0.05), (2, 4), 0.13, (0.66, 0.36, 0.27), (0.36, 0.17, 0.13)),
    "mel": _Look((0.32, 0.42), (0.07, 0.11), (3, 11), 0.06, (0.54, 0.33, 0.25), (0.16, 0.10, 0.10)),
    "bkl": _Look((0.28, 0.38), (0.05, 0.09), (5, 9), 0.02, (0.71, 0.52, 0.38), (0.45, 0.31, 0.24)),
}
_BLUE_GREY = (0.38, 0.38, 0.46)
_CYST = (0.90, 0.79, 0.65)
_PORE = (0.30, 0.20, 0.15)

_STYLE, _CONTENT, _LESION, _SKIN, _HAIR, _LABEL = range(6)  # independent random streams of one image


class SkinPhantom(NamedTuple):
    """Images with their truth.

    images: uint8 (N, size, size, 3), RGB.
    labels: int32 (N,), index into `LABELS`.
    factors: float32 (N, len(FACTORS)), columns named by `FACTORS`.
    masks: uint8 (N, size, size), 1 in the lesion.
    """

    images: np.ndarray
    labels: np.ndarray
    factors: np.ndarray
    masks: np.ndarray


def make(num_images: int, *, size: int = 64, seed: int = 0, labels: np.ndarray | None = None) -> SkinPhantom:
    """Makes images 0 ... num_images - 1 of the endless series that `seed` names.

    Image i depends on seed, i and its label alone, so a longer series begins with the shorter one.

    Args:
        num_images: how many, 0 or more.
        size: side in pixels, 16 or more.
        seed: names the series, 0 or more.
        labels: int (num_images,), index into `LABELS`; by default images 3 k to 3 k + 2 hold each class once, in random
            order.

    Returns:
        A `SkinPhantom`.
    """
    check_integer("skin", "num_images", num_images, 0)
    check_integer("skin", "size", size, 16)
    check_integer("skin", "seed", seed, 0)
    labels = _balanced_labels(num_images, seed) if labels is None else np.asarray(labels)
    if labels.shape != (num_images,):
        raise ValueError(
            f"skin.make: expected labels of shape ({num_images},), one per image, received shape {labels.shape}."
        )
    images = np.empty((num_images, size, size, 3), np.uint8)
    masks = np.empty((num_images, size, size), np.uint8)
    factors = np.empty((num_images, len(FACTORS)), np.float32)
    for i, label in enumerate(labels):
        factors[i] = draw_factors(label, seed=seed, index=i)
        images[i], masks[i] = render(label, factors[i], size=size, seed=seed, index=i)
    return SkinPhantom(images, labels.astype(np.int32), factors, masks)


def draw_factors(label: int, *, seed: int = 0, index: int = 0) -> np.ndarray:
    """Draws the factors of image `index`: float32 (len(FACTORS),), in the units of `FACTORS`."""
    look = _LOOKS[_label_name(label)]
    style = stream(seed, index, _STYLE)
    angle = style.uniform(0, np.pi)
    tone = style.dirichlet(np.full(len(_SKIN_TONES), 0.25)) @ _SKIN_TONES
    tone = np.clip(tone * style.uniform(0.94, 1.04) + style.normal(0, 0.01, 3), 0, 1)
    lit = style.uniform(0, 0.18), style.uniform(0, 2 * np.pi)
    content = stream(seed, index, _CONTENT)
    values = {
        "position_x": style.uniform(-0.36, 0.36),
        "position_y": style.uniform(-0.36, 0.36),
        "orientation_sin": np.sin(2 * angle),
        "orientation_cos": np.cos(2 * angle),
        "elongation": style.uniform(1.1, 1.6),
        "size": content.uniform(*look.size),
        "border": content.uniform(*look.border),
        "skin_red": tone[0],
        "skin_green": tone[1],
        "skin_blue": tone[2],
        "illumination_x": lit[0] * np.cos(lit[1]),
        "illumination_y": lit[0] * np.sin(lit[1]),
        "vignette": max(0.0, style.uniform(-0.5, 0.5)),
        "hair_count": style.choice(7, p=(0.6, 0.12, 0.1, 0.08, 0.05, 0.03, 0.02)),
        "hair_lightness": style.choice((0.0, 0.7), p=(0.8, 0.2)) + style.uniform(0, 0.3),
    }
    return np.array([values[name] for name in FACTORS], np.float32)


def render(
    label: int, factors: np.ndarray, *, size: int = 64, seed: int = 0, index: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Renders one image; the same arguments give the same bytes.

    Args:
        label: index into `LABELS`.
        factors: (len(FACTORS),) as from `draw_factors`, changed at will.
        size: side in pixels, 16 or more.
        seed, index: name the details that no factor describes (shape of the border, inner structure, texture of the
            skin, course of the hairs). The lesion's move with it.

    Returns:
        The image, uint8 (size, size, 3), and the lesion's mask, uint8 (size, size), 1 inside.
    """
    name = _label_name(label)
    check_integer("skin", "size", size, 16)
    if np.shape(factors) != (len(FACTORS),):
        raise ValueError(
            f"skin.render: expected factors of shape ({len(FACTORS)},), one per name in skin.FACTORS, received shape "
            f"{np.shape(factors)}."
        )
    f = dict(zip(FACTORS, np.asarray(factors, np.float64).tolist(), strict=True))
    axis = ((np.arange(2 * size) + 0.5) / size - 1).astype(np.float32)  # rendered at twice the size
    image = _skin(f, axis, stream(seed, index, _SKIN))
    image, depth = _with_lesion(image, name, f, axis, stream(seed, index, _LESION))
    image = _with_hairs(image, f, axis, stream(seed, index, _HAIR))
    image = halved(image * _illumination(f, axis))
    image = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
    mask = halved((depth > 0).astype(np.float32)) >= 0.5
    return image, mask.astype(np.uint8)


# Inside, images are planes, (3, S, S) float32, on the grid axis x axis.


def _skin(f: dict, axis: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Skin of the given tone, faintly mottled: (3, S, S)."""
    coarse, fine = (_field(_waves(random, *wave), axis) for wave in ((24, 3, 9), (32, 14, 24)))
    mottle = 0.6 * coarse + 0.4 * fine
    # Blood and melanin absorb green and blue more than red.
    return _tone(f) * (1 + _colour((0.013, 0.024, 0.022)) * mottle)


def _with_lesion(
    image: np.ndarray, name: str, f: dict, axis: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Puts the lesion onto the skin; also gives the depth below the border, (S, S), > 0 inside."""
    look = _LOOKS[name]
    position = np.array([f["position_x"], f["position_y"]])
    angle = 0.5 * np.arctan2(f["orientation_sin"], f["orientation_cos"])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    stretch = np.sqrt(f["elongation"])
    to_disc = np.diag([1 / stretch, stretch]) @ turn / f["size"]  # image to the lesion's unit disc

    def texture(slow: float, fast: float) -> np.ndarray:
        return _field(_moved(_waves(random, 28, slow, fast), turn, position), axis)

    inside = _Shape(name, f["border"], random).depth(axis, to_disc, position)
    depth = inside * np.float32(f["size"])
    inside = np.clip(inside, 0, 1)  # 0 at the border, about 1 in the middle
    blotches, grain = texture(4, 10), texture(20, 34)
    shade, warmth = random.normal(0, (0.03, 0.012)).astype(np.float32)
    light, dark = (_colour(c) + shade + warmth * _colour((1, 0, -1)) for c in (look.light, look.dark))

    if name == "nv":
        pigment = mix(light, dark, 0.1 + 0.9 * np.sqrt(inside) + 0.14 * blotches + 0.12 * grain)
    elif name == "mel":
        lean = turn.T @ random.uniform(-1.1, 1.1, 2)  # one side darker than the other
        offset = axis[None, :] * lean[0] + axis[:, None] * lean[1] - lean @ position
        pigment = mix(light, dark, 0.6 + 0.26 * blotches + 0.13 * grain + offset.astype(np.float32))
        veil = smoothstep(0.4, 1.2, texture(4, 8)) * smoothstep(0.1, 0.4, inside)
        pigment = mix(pigment, _colour(_BLUE_GREY), (0.6 + 0.12 * grain) * veil)
    else:
        rim = smoothstep(0.07, 0.0, depth)
        pigment = mix(light, dark, 0.25 + 0.2 * blotches + 0.12 * grain + 0.4 * rim)
        for colour, most in ((_PORE, 3), (_CYST, 6)):
            pigment = mix(pigment, _colour(colour), _dots(most, f, to_disc, position, axis, random))
    pigment = pigment * (0.4 + 0.6 * _tone(f) / _colour(_SKIN_TONES.mean(0)))

    # Reddened, faintly pigmented skin around the lesion.
    halo = np.exp(np.minimum(depth, 0) / np.float32(0.07))
    image = image * (1 - _colour((0.05, 0.11, 0.10)) * halo)
    fringe = depth + look.edge * (0.10 * blotches + 0.08 * grain)  # pigment fades unevenly
    return mix(image, pigment, 0.95 * smoothstep(-0.5 * look.edge, 0.7 * look.edge, fringe)), depth


def _waves(random: np.random.Generator, count: int, slow: float, fast: float) -> Waves:
    """`count` waves over the plane (x, y) in random directions, `slow` to `fast` radians per half width."""
    angle = random.uniform(0, 2 * np.pi, count)
    speed = random.uniform(slow, fast, count)[:, None]
    return Waves(speed * np.stack([np.cos(angle), np.sin(angle)], 1), random.uniform(0, 2 * np.pi, count))


def _moved(waves: Waves, matrix: np.ndarray, origin: np.ndarray) -> Waves:
    """The field at matrix @ (x - origin) as a field of x: an affine map turns waves into waves."""
    vectors = waves.vectors @ matrix
    return Waves(vectors, waves.phases - vectors @ origin)


def _field(waves: Waves, axis: np.ndarray) -> np.ndarray:
    """Values on the grid axis x axis: (S, S), rows along y."""
    return np.ascontiguousarray(waves.on(axis, axis).T)


class _Shape:
    """The lesion's outline: a disc whose border a random field pushes in and out.

    The field would also shift, turn and stretch the disc; the frame undoes this, so that centroid and second moments of
    the outline are those of the disc and the factors are true.
    """

    def __init__(self, name: str, border: float, random: np.random.Generator):
        slow, fast = _LOOKS[name].lobes
        self.waves = _waves(random, 24, slow, fast)
        self.border = border
        self.scalloped = name == "bkl"
        self.frame, self.centre = np.eye(2), np.zeros(2)
        self._settle()

    def depth(self, axis: np.ndarray, to_disc: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Depth below the border in radii, (S, S), on the grid axis x axis; > 0 inside."""
        matrix = self.frame @ to_disc
        origin = position - np.linalg.solve(matrix, self.centre)
        push = _field(_moved(self.waves, matrix, origin), axis)
        if self.scalloped:  # bulges that meet in notches
            push = 1.6 * (np.abs(push) - 0.8)
        x, y = axis[None, :] - np.float32(origin[0]), axis[:, None] - np.float32(origin[1])
        matrix = matrix.astype(np.float32)
        radius = np.hypot(matrix[0, 0] * x + matrix[0, 1] * y, matrix[1, 0] * x + matrix[1, 1] * y)
        return 1 - radius + np.float32(self.border) * push

    def _settle(self) -> None:
        axis = np.linspace(-2, 2, 65, dtype=np.float32)
        weight = np.clip(self.depth(axis, np.eye(2), np.zeros(2)) * 10 + 0.5, 0, 1).astype(np.float64)
        weight /= weight.sum()
        grid = np.stack(np.broadcast_arrays(axis[None, :], axis[:, None])).reshape(2, -1)
        centre = grid @ weight.ravel()
        spread = grid - centre[:, None]
        variance, vectors = np.linalg.eigh(spread * weight.ravel() @ spread.T)
        # A unit disc has variance 1/4 along each axis.
        self.frame = 2 * vectors @ np.diag(np.sqrt(variance)) @ vectors.T
        self.centre = centre


def _dots(
    most: int,
    f: dict,
    to_disc: np.ndarray,
    position: np.ndarray,
    axis: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """Up to `most` round soft dots scattered over the lesion: opacity (S, S) in [0, 1]."""
    count = random.integers(most // 2, most + 1)
    # Golden-angle spiral with jitter: spread out but not regular.
    turns = 2.4 * np.arange(count) + random.uniform(0, 2 * np.pi) + random.normal(0, 0.3, count)
    radii = 0.8 * np.sqrt((np.arange(count) + 0.5) / count) * random.uniform(0.75, 1.05, count)
    disc = radii * np.stack([np.cos(turns), np.sin(turns)])
    x, y = np.linalg.solve(to_disc, disc) + position[:, None]
    width = random.uniform(0.07, 0.15, (count, 1)) * f["size"]
    opacity = random.uniform(0.5, 0.85, (count, 1))
    along_x = np.exp(-0.5 * ((axis - x[:, None]) / width) ** 2)
    along_y = np.exp(-0.5 * ((axis - y[:, None]) / width) ** 2) * opacity
    return (along_y.T @ along_x).astype(np.float32)


def _with_hairs(image: np.ndarray, f: dict, axis: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draws thin parabolas that cross the image or end in it."""
    cover = np.zeros(image.shape[1:], np.float32)
    for _ in range(round(f["hair_count"])):
        angle, shift, bend, width, reach = random.uniform(
            (0, -0.9, -0.3, 0.007, 0.1), (2 * np.pi, 0.9, 0.3, 0.013, 1.6)
        ).astype(np.float32)
        along = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]
        across = np.cos(angle) * axis[:, None] - np.sin(angle) * axis[None, :]
        distance = np.abs(across - shift - bend * along**2) / np.hypot(1, 2 * bend * along)
        hair = smoothstep(2 * width, 0.5 * width, distance) * smoothstep(reach, reach - 0.3, along)
        cover = np.maximum(cover, hair)
    lightness = np.float32(f["hair_lightness"])
    colour = mix(_colour((0.10, 0.07, 0.06)), _colour((0.93, 0.83, 0.72)), lightness)
    return mix(image, colour, np.float32(0.8) * cover)


def _illumination(f: dict, axis: np.ndarray) -> np.ndarray:
    """Relative brightness, (S, S), about 1."""
    slope = 1 + f["illumination_x"] * axis[None, :] + f["illumination_y"] * axis[:, None]
    radius = np.hypot(axis[None, :], axis[:, None])
    return (slope * (1 - f["vignette"] * smoothstep(0.7, 1.4, radius))).astype(np.float32)


def _tone(f: dict) -> np.ndarray:
    return _colour((f["skin_red"], f["skin_green"], f["skin_blue"]))


def _colour(values: tuple | np.ndarray) -> np.ndarray:
    """Three numbers as planes, (3, 1, 1)."""
    return np.asarray(values, np.float32)[:, None, None]


def _balanced_labels(num_images: int, seed: int) -> np.ndarray:
    trios = [stream(seed, trio, _LABEL).permutation(len(LABELS)) for trio in range(-(-num_images // len(LABELS)))]
    return np.concatenate([np.empty(0, np.int64), *trios])[:num_images]


def _label_name(label: int) -> str:
    if label not in range(len(LABELS)):
        raise ValueError(
            f"skin: expected a label in 0 ... {len(LABELS) - 1}, an index into {LABELS}, received {label!r}."
        )
    return LABELS[label]
