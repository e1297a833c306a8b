"""MR and FDG-PET images of brains with every truth known: tissue, disease, deformation, scanner.

A subject is the MNI152 tissue maps (ICBM 2009a, from the `nilearn` package) under a random smooth deformation, with its
own width of ventricles and sulci and its own relaxation times; with a tumour (necrotic core, enhancing rim, oedema) and
multiple-sclerosis lesions if asked for. A scanner turns a subject into images by the signal equations of its sequences,
and adds its gain, resolution, bias field and noise. The same subject can be had on every scanner, and any of its slices
at any resolution:

    subject = brain.draw_subject(seed=1, index=7, tumour=True)
    anatomy = brain.anatomy(subject, positions=brain.slice_positions(5), size=128)
    images = brain.render(anatomy, "FLAIR", "scanner_b")            # (5, 128, 128)
    volume, affine = brain.volume(subject, "T1", spacing=2.0)       # as NIfTI holds it

Contrasts: T1 and T1ce (inversion-prepared gradient echo, before and after gadolinium), T2 (spin echo), FLAIR (inversion
recovery that nulls CSF), PET (uptake of FDG).

Relaxation times (s) and proton densities of grey and white matter: T1 and density at 1.5 T as BrainWeb (Kwan et al.,
IEEE TMI 18, 1085, 1999), T1 at 3 T as Wansapura et al. (JMRI 9, 531, 1999); CSF as independent of the field (Rooney et
al., MRM 57, 308, 2007). T2, and all values of disease, are choices within the literature's wide ranges that give the
contrasts of clinical images; take them for plausible, not for measured. Relaxivity of gadolinium: 4.5 per mM and s
(Rohrer et al., Invest Radiol 40, 715, 2005). FDG: grey over white matter about 4 (Huang et al., Am J Physiol 238, E69,
1980).

Images are skull-stripped (exactly 0 outside the brain) and shown as radiologists see them: front up, the patient's
right on the left. Positions are millimetres in MNI space: x to the patient's right, y to the front, z up.
"""

import functools
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tfdisent.phantoms import fields
from tfdisent.phantoms.fields import paint, smoothstep, stream

FIELD_OF_VIEW = 208.0  # mm, of a slice
CENTRE_Y = -18.0  # mm, of a slice
SLICE_RANGE = (-24.0, 56.0)  # mm: from the temporal lobes to above the ventricles

CONTRASTS = ("T1", "T1ce", "T2", "FLAIR", "PET")
TISSUES = ("csf", "grey", "white", "necrosis", "oedema", "enhancing", "lesion")
PATHOLOGY_LABELS = ("background", "necrosis", "oedema", "enhancing", "lesion")  # 1 to 3 as BraTS
TISSUE_LABELS = ("background", "csf", "grey", "white")

FACTORS = (
    "scale_x",  # size of the head, of the template's, [0.93, 1.07]
    "scale_y",
    "scale_z",
    "roll",  # rotation in the axial plane, radians, [-0.08, 0.08]
    "ventricles",  # enlargement, 0 (the template's) to 0.35
    "atrophy",  # log odds that sulci gain over cortex, [1, 3]
    "tumour_x",  # centre, mm; 0 without a tumour
    "tumour_y",
    "tumour_z",
    "core_radius",  # necrotic core, mm, [5, 15]; 0 without a tumour
    "rim_width",  # enhancing rim, mm, [3, 7]
    "oedema_width",  # mm, [7, 20]
    "lesion_count",  # multiple-sclerosis lesions, 15 to 50; 0 without
)


class _Tissue(NamedTuple):
    """T1 at 1.5 and at 3 T, T2 (s), proton density, gadolinium (mM), FDG uptake (grey is 1)."""

    t1: tuple[float, float]
    t2: float
    density: float
    gadolinium: float
    uptake: float


_TISSUES = {
    "csf": _Tissue((4.2, 4.2), 2.0, 1.0, 0.0, 0.03),
    "grey": _Tissue((0.833, 1.331), 0.095, 0.86, 0.012, 1.0),
    "white": _Tissue((0.500, 0.832), 0.075, 0.77, 0.006, 0.25),
    "necrosis": _Tissue((1.6, 2.3), 0.25, 0.95, 0.02, 0.08),
    "oedema": _Tissue((0.95, 1.45), 0.135, 0.88, 0.01, 0.2),
    "enhancing": _Tissue((0.95, 1.40), 0.105, 0.88, 0.3, 1.15),
    "lesion": _Tissue((0.752, 1.2), 0.140, 0.84, 0.01, 0.18),
}
_RELAXIVITY = 4.5  # per mM and s


class Scanner(NamedTuple):
    """How a scanner images; the times of its sequences are in seconds.

    tesla: 1.5 or 3, which sets T1.
    gradient_echo: repetition and inversion time, of T1 and T1ce.
    spin_echo: repetition and echo time, of T2.
    flair: repetition and echo time; the inversion time nulls CSF.
    gain: value of the brightest healthy tissue.
    gamma: exponent of the reconstruction's grey scale.
    blur: standard deviation of the point spread in the plane, mm (PET: see `pet_blur`).
    bias: strength of the bias field, log units.
    noise: of real and imaginary part, of the gain.
    pet_blur: the same as `blur` for PET, mm.
    """

    tesla: float
    gradient_echo: tuple[float, float]
    spin_echo: tuple[float, float]
    flair: tuple[float, float]
    gain: float
    gamma: float
    blur: float
    bias: float
    noise: float
    pet_blur: float

    @property
    def clean(self) -> "Scanner":
        """The same scanner without bias and noise: what its images are to be compared with, in all else alike."""
        return self._replace(bias=0.0, noise=0.0)


SCANNERS = {
    "scanner_a": Scanner(3.0, (2.0, 0.9), (6.0, 0.100), (9.0, 0.105), 700, 1.0, 0.45, 0.05, 0.015, 2.2),
    "scanner_b": Scanner(1.5, (1.9, 1.1), (4.0, 0.085), (7.0, 0.140), 420, 0.75, 0.95, 0.16, 0.030, 3.2),
    "scanner_c": Scanner(3.0, (2.3, 1.1), (6.5, 0.120), (11.0, 0.085), 1500, 1.3, 0.60, 0.10, 0.045, 2.7),
}

# Independent random streams of one subject.
_FACTORS, _DEFORMATION, _TISSUE, _TUMOUR, _LESIONS, _BIAS, _NOISE, _UPTAKE = range(8)


class Subject(NamedTuple):
    """One person. `seed` and `index` name what no factor describes; see `FACTORS`."""

    seed: int
    index: int
    factors: np.ndarray  # float32 (len(FACTORS),)
    lesion_size: float = 1.0  # of the radius that each lesion has by itself


class Anatomy(NamedTuple):
    """What lies where in slices of a subject, before any scanner.

    subject: whose.
    positions: float64 (Z,), mm, of the slices.
    spacing: mm between pixels.
    tissues: float32 (Z, H, W, len(TISSUES)), fractions; their sum is 1 in the brain and 0 outside.
    brain: bool (Z, H, W).
    pathology: uint8 (Z, H, W), index into `PATHOLOGY_LABELS`.
    tissue_labels: uint8 (Z, H, W), index into `TISSUE_LABELS`: of csf, grey and white the most
        (0 in tumour and lesions too).
    displacement: float32 (Z, H, W, 3), mm along x, y, z: pixel + displacement is its place in the
        template.
    """

    subject: Subject
    positions: np.ndarray
    spacing: float
    tissues: np.ndarray
    brain: np.ndarray
    pathology: np.ndarray
    tissue_labels: np.ndarray
    displacement: np.ndarray


def draw_subject(
    *, seed: int = 0, index: int = 0, tumour: bool = False, lesions: bool = False, lesion_size: float = 1.0
) -> Subject:
    """Draws subject `index`; head and brain are the same with and without tumour and lesions.

    A lesion has a radius of 1.5 to 6.4 mm, times `lesion_size`; their places are the same at any size.
    """
    if not 0 < lesion_size <= 5:
        raise ValueError(f"brain: expected lesion_size above 0 and up to 5, received {lesion_size}.")
    fields.check_integer("brain", "seed", seed, 0)
    fields.check_integer("brain", "index", index, 0)
    random = stream(seed, index, _FACTORS)
    scale = random.uniform(0.96, 1.04) * random.uniform(0.97, 1.03, 3)
    side = random.choice((-1, 1))
    drawn = {
        "scale_x": scale[0],
        "scale_y": scale[1],
        "scale_z": scale[2],
        "roll": random.uniform(-0.08, 0.08),
        "ventricles": random.uniform(0, 0.35),
        "atrophy": random.uniform(1, 3),
    }
    where = {
        "tumour_x": side * random.uniform(22, 42),
        "tumour_y": random.uniform(-62, 32),
        "tumour_z": random.uniform(0, 40),
        "core_radius": random.uniform(5, 15),
        "rim_width": random.uniform(3, 7),
        "oedema_width": random.uniform(7, 20),
    }
    count = random.integers(15, 51)
    drawn |= {name: value if tumour else 0 for name, value in where.items()}
    drawn["lesion_count"] = count if lesions else 0
    return Subject(seed, index, np.array([drawn[name] for name in FACTORS], np.float32), lesion_size)


def slice_positions(count: int) -> np.ndarray:
    """`count` positions (mm) spread evenly over `SLICE_RANGE`; of one, its middle."""
    fields.check_integer("brain", "count", count, 1)
    low, high = SLICE_RANGE
    return np.linspace(low, high, count) if count > 1 else np.array([(low + high) / 2])


def anatomy(subject: Subject, positions: Sequence[float], *, size: int = 208) -> Anatomy:
    """Slices of a subject.

    Args:
        subject: as from `draw_subject`.
        positions: (Z,) of the slices, mm.
        size: side in pixels, 16 or more; the field of view is `FIELD_OF_VIEW` at any size.
    """
    fields.check_integer("brain", "size", size, 16)
    f = fields.check_factors("brain.anatomy", subject.factors, FACTORS)
    positions = np.asarray(positions, np.float64)
    if positions.ndim != 1 or not np.isfinite(positions).all():
        raise ValueError(f"brain.anatomy: expected positions (Z,) in mm, received {positions!r}.")
    x, y = _axes(size)
    deform = _Deformation(subject, f)
    random = stream(subject.seed, subject.index, _TISSUE)
    lean = [fields.waves(random, 15, 60, dimensions=3) for _ in range(2)]
    tumour, lesions = _Tumour(subject, f), _Lesions(subject, f)
    slices = [_slice(z, y, x, f, deform, lean, tumour, lesions) for z in positions]
    shapes = ((size, size, len(TISSUES)), (size, size), (size, size), (size, size), (size, size, 3))
    dtypes = (np.float32, bool, np.uint8, np.uint8, np.float32)
    stacks = [
        np.stack([part[k] for part in slices]) if slices else np.empty((0, *shape), dtype)
        for k, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    ]
    return Anatomy(subject, positions, FIELD_OF_VIEW / size, *stacks)


def render(anatomy: Anatomy, contrast: str, scanner: str | Scanner = "scanner_a") -> np.ndarray:
    """Images of slices; the same arguments give the same bytes, alone or among other slices.

    Args:
        anatomy: as from `anatomy`.
        contrast: one of `CONTRASTS`.
        scanner: a name in `SCANNERS`, or one of your own.

    Returns:
        float32 (Z, H, W), arbitrary units of 0 to about twice the scanner's gain; 0 outside. Bias field and noise are
        drawn for the visit, of a subject at a scanner: with another strength of either they are the same in shape, and
        `scanner.clean` gives the twin without them.
    """
    fields.check_one_of("brain", "contrast", contrast, CONTRASTS)
    if isinstance(scanner, str):
        fields.check_one_of("brain", "scanner", scanner, tuple(SCANNERS))
        scanner = SCANNERS[scanner]
    person, size = anatomy.subject[:2], anatomy.brain.shape[1]
    visit = *person, zlib.crc32(repr(tuple(scanner.clean)).encode())
    own = stream(*person, _TISSUE, 1).normal(1, 0.025, (3, len(TISSUES)))
    values = _signals(contrast, scanner, own)
    healthy = [TISSUES.index(name) for name in TISSUE_LABELS[1:]]
    values = (values * (scanner.gain / values[healthy].max())).astype(np.float32)
    x, y = _axes(size)
    bias = fields.waves(stream(*visit, _BIAS), 180, 400, dimensions=3, count=12)
    texture = fields.waves(stream(*person, _TISSUE, 2), 4, 14, dimensions=3)
    uptake = fields.waves(stream(*person, _UPTAKE), 40, 120, dimensions=3)
    images = np.empty(anatomy.brain.shape, np.float32)
    for k, z in enumerate(anatomy.positions):
        random = stream(*visit, _NOISE, CONTRASTS.index(contrast), round(1000 * z) + 10**6)
        brain, image = anatomy.brain[k], anatomy.tissues[k] @ values
        if contrast == "PET":
            image *= 1 + 0.08 * uptake.on(z, y, x)
            image = _pet(image, scanner, anatomy.spacing, random)
        else:
            image *= 1 + 0.015 * texture.on(z, y, x)
            image = _blurred(image, brain, scanner.blur / anatomy.spacing)
            image *= np.exp(scanner.bias * bias.on(z, y, x))
            image = scanner.gain * (image / scanner.gain) ** scanner.gamma
            image = fields.rician(image, scanner.noise * scanner.gain, random)
        images[k] = image * brain
    return images


def volume(
    subject: Subject,
    contrast: str,
    scanner: str | Scanner = "scanner_a",
    *,
    spacing: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """A whole brain on a grid of cubes, as NIfTI holds it.

    Returns:
        float32 (X, Y, Z) and its affine (4, 4) to RAS millimetres. The first two axes run to the left and to the back,
        as in BraTS.
    """
    size = round(FIELD_OF_VIEW / spacing)
    positions = np.arange(-72.0, 84.0, FIELD_OF_VIEW / size)
    slices = anatomy(subject, positions, size=size)
    x, y = _axes(size)
    affine = np.diag([-slices.spacing, -slices.spacing, slices.spacing, 1.0])
    affine[:3, 3] = x[0], y[0], positions[0]
    return render(slices, contrast, scanner).transpose(2, 1, 0), affine


def _axes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x of the columns, from the patient's right to left, and y of the rows, front to back."""
    spacing = FIELD_OF_VIEW / size
    return -fields.axis(size, spacing), CENTRE_Y - fields.axis(size, spacing)


@functools.cache
def _template() -> tuple[np.ndarray, np.ndarray]:
    """Grey matter, white matter and brain of the MNI152 template, float32 (3, X, Y, Z) in [0, 1] on a grid of 1 mm, and
    the place (3,) of its first voxel.
    """
    from nilearn import datasets  # takes seconds, and only this phantom needs it

    grey, white, head = (
        load(resolution=1)
        for load in (
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
            datasets.load_mni152_template,
        )
    )
    brain = ndimage.binary_fill_holes(head.get_fdata(dtype=np.float32) > 0).astype(np.float32)
    maps = np.stack(
        [
            grey.get_fdata(dtype=np.float32),
            white.get_fdata(dtype=np.float32),
            ndimage.gaussian_filter(brain, 0.8),
        ]
    )
    return maps, grey.affine[:3, 3]


class _Deformation:
    """From places in a subject to places in the template."""

    def __init__(self, subject: Subject, f: dict):
        random = stream(subject.seed, subject.index, _DEFORMATION)
        self.f = f
        # Millimetres: the shape of the head and lobes, then that of the gyri.
        self.fields = [
            [(2.1, fields.waves(random, 80, 180, dimensions=3)) for _ in range(3)],
            [(0.8, fields.waves(random, 22, 45, dimensions=3)) for _ in range(3)],
        ]

    def __call__(self, z: float, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Places in the template, (3, H, W), mm along x, y, z, of the pixels of a slice."""
        f, centre = self.f, np.array([0, CENTRE_Y, 10])[:, None, None]
        place = np.stack(np.broadcast_arrays(x[None, :], y[:, None], z))
        if f["core_radius"] > 0:  # the tumour has pushed the brain away
            middle = np.array([f["tumour_x"], f["tumour_y"], f["tumour_z"]])[:, None, None]
            off = place - middle
            reach = f["core_radius"] + f["rim_width"] + 5
            place = middle + off * (1 - 0.5 * np.exp(-np.sum(off**2, 0) / (2 * reach**2)))
        off = place - centre
        cos, sin = np.cos(f["roll"]), np.sin(f["roll"])
        off[:2] = cos * off[0] + sin * off[1], cos * off[1] - sin * off[0]
        scale = np.array([f["scale_x"], f["scale_y"], f["scale_z"]])[:, None, None]
        place = off / scale + centre
        for level in self.fields:
            for along, (amplitude, field) in enumerate(level):
                place[along] += amplitude * field.on(z, y, x)
        ventricles = np.array([0, -14, 16])[:, None, None]
        off = place - ventricles
        shrink = f["ventricles"] * np.exp(-np.sum((off / [[[26]], [[36]], [[15]]]) ** 2, 0) / 2)
        return ventricles + off * (1 - shrink)


def _slice(
    z: float,
    y: np.ndarray,
    x: np.ndarray,
    f: dict,
    deform: _Deformation,
    lean: list[fields.Waves],
    tumour: "_Tumour",
    lesions: "_Lesions",
) -> tuple[np.ndarray, ...]:
    """One slice: tissues, brain, pathology, tissue labels and displacement, as in `Anatomy`."""
    place = deform(z, y, x)
    maps, origin = _template()
    at = place - origin[:, None, None]
    grey, white, brain = (ndimage.map_coordinates(m, at, order=1) for m in maps)
    brain = brain > 0.5
    csf = np.clip(1 - grey - white, 0, 1)
    # One brain is sharper than the mean of many, and has its own widths of cortex and sulci.
    csf = csf**1.5 * np.exp(f["atrophy"] + 0.4 * lean[0].on(z, y, x))
    grey = grey**1.8
    white = white**1.8 * np.exp(0.35 * lean[1].on(z, y, x))
    total = csf + grey + white
    healthy = np.stack([csf, grey, white], -1) / np.maximum(total, 1e-6)[..., None]
    healthy[total < 1e-6] = 1, 0, 0
    fractions = np.zeros((*brain.shape, len(TISSUES)), np.float32)
    fractions[..., :3] = healthy
    lesions.add(fractions, place, z, y, x)
    tumour.add(fractions, z, y, x)
    fractions[~brain] = 0
    labels = np.where(brain, 1 + fractions[..., :3].argmax(-1), 0)
    pathology = np.zeros(brain.shape, np.uint8)
    for name in PATHOLOGY_LABELS[1:]:
        pathology[fractions[..., TISSUES.index(name)] > 0.5] = PATHOLOGY_LABELS.index(name)
    labels[pathology > 0] = 0
    displacement = place - np.stack(np.broadcast_arrays(x[None, :], y[:, None], z))
    displacement = np.moveaxis(displacement, 0, -1).astype(np.float32)
    return fractions, brain, pathology, labels.astype(np.uint8), displacement


class _Tumour:
    """Necrotic core, enhancing rim, and oedema that follows white matter."""

    def __init__(self, subject: Subject, f: dict):
        random = stream(subject.seed, subject.index, _TUMOUR)
        self.f = f
        self.stretch = random.uniform(0.8, 1.25, 3)
        self.waves = [
            fields.waves(random, shortest, longest, dimensions=3) for shortest, longest in ((14, 40), (7, 20), (12, 40))
        ]

    def add(self, fractions: np.ndarray, z: float, y: np.ndarray, x: np.ndarray) -> None:
        f = self.f
        if f["core_radius"] <= 0:
            return
        shape, rim, halo = (waves.on(z, y, x) for waves in self.waves)
        off = (x - f["tumour_x"])[None, :], (y - f["tumour_y"])[:, None], z - f["tumour_z"]
        radius = np.sqrt(sum((d / s) ** 2 for d, s in zip(off, self.stretch, strict=True)))
        radius = radius * (1 + 0.16 * shape)
        core = f["core_radius"] * (1 + 0.12 * rim)
        solid = core + f["rim_width"] * np.maximum(1 + 0.3 * rim + 0.2 * halo, 0.4)
        swollen = solid + f["oedema_width"] * np.clip(1 + 0.4 * halo, 0.1, 1.6)
        water = fractions[..., TISSUES.index("white")] + 0.3 * fractions[..., TISSUES.index("grey")]
        paint(fractions, TISSUES.index("oedema"), water * smoothstep(-1.5, 1.5, swollen - radius))
        paint(fractions, TISSUES.index("enhancing"), smoothstep(-0.8, 0.8, solid - radius))
        paint(fractions, TISSUES.index("necrosis"), smoothstep(-0.8, 0.8, core - radius))


class _Lesions:
    """Plaques of multiple sclerosis, most beside the ventricles and at right angles to them."""

    def __init__(self, subject: Subject, f: dict):
        random = stream(subject.seed, subject.index, _LESIONS)
        count = round(f["lesion_count"])
        self.waves = fields.waves(random, 5, 14, dimensions=3)
        near, far = _lesion_sites() if count else (np.zeros((1, 3)), np.zeros((1, 3)))
        self.lesions = []
        for _ in range(count):
            sites = near if random.uniform() < 0.7 else far
            centre = sites[random.integers(len(sites))] + random.uniform(-1, 1, 3)
            radius = random.uniform(1.5, 4) * (1.6 if random.uniform() < 0.15 else 1)
            stretch = random.uniform((1.1, 0.7, 0.8), (1.9, 1.1, 1.2))
            radii = subject.lesion_size * radius * stretch
            self.lesions.append((centre[:, None, None], radii[:, None, None]))

    def add(self, fractions: np.ndarray, place: np.ndarray, z: float, y: np.ndarray, x: np.ndarray) -> None:
        white = fractions[..., TISSUES.index("white")] + 0.4 * fractions[..., TISSUES.index("grey")]
        wave, cover = self.waves.on(z, y, x), np.zeros_like(white)
        for centre, radii in self.lesions:
            if np.abs(place[2] - centre[2]).min() > 2 * radii[2]:
                continue
            radius = np.sqrt((((place - centre) / radii) ** 2).sum(0)) * (1 + 0.2 * wave)
            cover = np.maximum(cover, smoothstep(1.2, 0.8, radius))
        paint(fractions, TISSUES.index("lesion"), (cover * white).astype(np.float32))


@functools.cache
def _lesion_sites() -> tuple[np.ndarray, np.ndarray]:
    """Places (N, 3), mm, of white matter within 8 mm of the lateral ventricles, and farther off."""
    maps, origin = _template()
    grey, white, brain = maps[:, ::2, ::2, ::2]
    x, y, z = (np.arange(n) * 2.0 + o for n, o in zip(grey.shape, origin, strict=True))
    box = (np.abs(x) < 34)[:, None, None] & (np.abs(y + 14) < 50)[:, None] & ((z > -6) & (z < 34))
    ventricles = (brain - grey - white > 0.6) & box
    distance = 2 * ndimage.distance_transform_edt(~ventricles)
    places = np.stack(np.meshgrid(x, y, z, indexing="ij"), -1)
    return (
        places[(white > 0.8) & (distance < 8) & box],
        places[(white > 0.9) & (distance > 12) & (np.abs(z - 20) < 30)],
    )


def _signals(contrast: str, scanner: Scanner, own: np.ndarray) -> np.ndarray:
    """What each of `TISSUES` gives in a contrast, (len(TISSUES),); `own` (3, len(TISSUES)) multiplies T1, T2 and proton
    density.
    """
    table = [_TISSUES[name] for name in TISSUES]
    if contrast == "PET":
        return np.array([tissue.uptake for tissue in table])
    weight = (scanner.tesla - 1.5) / 1.5
    t1 = own[0] * [(1 - weight) * tissue.t1[0] + weight * tissue.t1[1] for tissue in table]
    t2 = own[1] * [tissue.t2 for tissue in table]
    density = own[2] * [tissue.density for tissue in table]
    if contrast in ("T1", "T1ce"):
        if contrast == "T1ce":
            t1 = 1 / (1 / t1 + _RELAXIVITY * np.array([tissue.gadolinium for tissue in table]))
        repetition, inversion = scanner.gradient_echo
        return inversion_recovery(density, t1, t2, repetition, 0, inversion)
    if contrast == "T2":
        return spin_echo(density, t1, t2, *scanner.spin_echo)
    repetition, echo = scanner.flair
    fluid = t1[TISSUES.index("csf")]
    inversion = fluid * np.log(2 / (1 + np.exp(-repetition / fluid)))
    return inversion_recovery(density, t1, t2, repetition, echo, inversion)


def spin_echo(density: np.ndarray, t1: np.ndarray, t2: np.ndarray, repetition: float, echo: float) -> np.ndarray:
    """Signal of a spin echo; times in s."""
    return density * (1 - np.exp(-repetition / t1)) * np.exp(-echo / t2)


def inversion_recovery(
    density: np.ndarray,
    t1: np.ndarray,
    t2: np.ndarray,
    repetition: float,
    echo: float,
    inversion: float,
) -> np.ndarray:
    """Magnitude of an inversion recovery, with a spin echo unless `echo` is 0; times in s."""
    recovered = 1 - 2 * np.exp(-inversion / t1) + np.exp(-repetition / t1)
    return density * np.abs(recovered) * np.exp(-echo / t2)


def _blurred(image: np.ndarray, brain: np.ndarray, sigma: float) -> np.ndarray:
    """The point spread within the brain; what lies outside does not darken its rim."""
    share = ndimage.gaussian_filter(brain.astype(np.float32), sigma)
    return ndimage.gaussian_filter(image, sigma) / np.maximum(share, 0.1)


def _pet(image: np.ndarray, scanner: Scanner, spacing: float, random: np.random.Generator) -> np.ndarray:
    """Counts are few and the point spread is wide, so that noise comes in blobs."""
    image = ndimage.gaussian_filter(image, scanner.pet_blur / spacing)
    noise = random.standard_normal(image.shape, np.float32)
    noise = ndimage.gaussian_filter(noise, 1.5 / spacing)
    noise *= 1.2 * scanner.noise / max(float(noise.std()), 1e-6)
    return np.maximum(image + noise * np.sqrt(image * scanner.gain), 0)
