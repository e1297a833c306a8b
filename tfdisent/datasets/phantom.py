"""Phantoms as data sets: images with known factors, made from code; no raw data is needed.

skin_phantom      `tfdisent.phantoms.skin`: drawn dermatoscopic images of skin lesions, labels bkl,
                  mel and nv in equal parts, with each image's factors and the lesion's mask.
nodule_phantom    `tfdisent.phantoms.nodule`: CT patches of lung nodules, labels benign and
                  malignant in equal parts, conditions as LIDC's.
brain_phantom     `tfdisent.phantoms.brain`: MR and FDG-PET of brains with a tumour or lesions, on
                  several scanners.
pet_phantom       The same in T1 and FLAIR, with the PET that a network is to draw from them.
healthy_phantom   The same in T1 and T2, without disease.
cardiac_phantom   `tfdisent.phantoms.cardiac`: cine and late enhancement of the heart, misaligned.
abdomen_phantom   `tfdisent.phantoms.abdomen`: T1 and T2-SPIR of the abdomen, misaligned.
retina_phantom    `tfdisent.phantoms.retina`: OCT of the macula with fluid, by two vendors.

All but the first two are made of subjects, each with several slices; a subject is in one split only. Part of this
project, Apache-2.0. The brain's tissue maps are those of the MNI152 template (ICBM 2009a, Fonov et al., NeuroImage 54,
313, 2011), which the package `nilearn` carries.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from tfdisent.data.records import Feature, Manifest
from tfdisent.datasets.builder import Builder, Unit
from tfdisent.intensity import volume_statistics
from tfdisent.phantoms import abdomen, brain, cardiac, fields, nodule, retina, skin
from tfdisent.volumes import preprocess

# Test images are those of the endless series from here on, so that they stay the same with any
# num_train.
_FIRST_TEST_IMAGE = 10_000_000
_FIRST_VAL_IMAGE = 20_000_000
_DRAW = 1000  # random stream of what a data set draws for a subject, none of the phantoms' own


@dataclasses.dataclass(frozen=True)
class _Phantom(Builder):
    """Images (or subjects) 0 ... num_train - 1 of the series that `seed` names for training, later ones for testing.

    With `num_val` there is a third split, "val", on which settings can be chosen without a look at the test split.
    """

    labels: ClassVar[tuple[str, ...]] = ()

    num_train: int = 5000
    num_test: int = 1000
    num_val: int = 0
    size: int = 64
    seed: int = 0

    def __post_init__(self):
        counts = (self.num_train, self.num_test, self.num_val)
        if not (max(counts) <= _FIRST_TEST_IMAGE and min(counts[:2]) >= 1 and min(self.num_val, self.seed) >= 0):
            raise ValueError(
                f"{self.name}: expected num_train and num_test from 1 and num_val and seed from 0, none of the numbers "
                f"above 10 million, received num_train={self.num_train}, num_test={self.num_test}, "
                f"num_val={self.num_val}, seed={self.seed}."
            )
        if not 16 <= self.size <= 1024:
            raise ValueError(f"{self.name}: expected 16 <= size <= 1024 pixels, received size={self.size}.")

    def splits(self, raw_dir: pathlib.Path | None) -> dict[str, list[Unit]]:
        counts = {"train": (0, self.num_train), "test": (_FIRST_TEST_IMAGE, self.num_test)}
        counts |= {"val": (_FIRST_VAL_IMAGE, self.num_val)} if self.num_val else {}
        return {
            split: [self._unit(f"{split}-{index - first:06d}", split, index) for index in range(first, first + count)]
            for split, (first, count) in counts.items()
        }

    def in_split(self, unit: Unit, split: str) -> Unit:
        return self._unit(unit.key, split, unit.source[0])

    def _unit(self, key: str, split: str, index: int) -> Unit:
        """An image whose label follows from its index; `source` is the index and the label."""
        label = index % len(self.labels)
        return Unit(key, key, (index, label), group=self.labels[label])

    def _manifest(self, **entries) -> Manifest:
        return Manifest(
            dataset=self.name,
            version=self.version,
            licence="Apache-2.0",
            seed=self.seed,
            **entries,
        )


@dataclasses.dataclass(frozen=True)
class SkinPhantom(_Phantom):
    """Dermatoscopic images with one lesion each."""

    name = "skin_phantom"
    labels = skin.LABELS

    def info(self, raw_dir: pathlib.Path | None) -> Manifest:
        return self._manifest(
            image_shape=(self.size, self.size, 3),
            modalities=("dermatoscopy",),
            labels=skin.LABELS,
            condition_names=skin.LABELS,
            factor_names=skin.FACTORS,
            mask_labels=("skin", "lesion"),
            description="Drawn dermatoscopic images of skin lesions with known factors.",
        )

    def examples(self, unit: Unit) -> Iterator[dict]:
        index, label = unit.source
        factors = skin.draw_factors(label, seed=self.seed, index=index)
        image, mask = skin.render(label, factors, size=self.size, seed=self.seed, index=index)
        yield {"image": image, "mask": mask[..., None], "label": label, "factors": factors}


@dataclasses.dataclass(frozen=True)
class NodulePhantom(_Phantom):
    """CT patches with one nodule each, HU as in `lidc`.

    Args:
        window: HU that become -1 and 1: minimum and maximum in `intensity`.
    """

    name = "nodule_phantom"
    labels = nodule.LABELS

    window: tuple[float, ...] = nodule.WINDOW

    def __post_init__(self):
        super().__post_init__()
        try:
            low, high = map(float, self.window)
        except ValueError:
            low = high = 0.0
        if not low < high:
            raise ValueError(f"nodule_phantom: expected window as two rising HU, received {self.window}.")
        object.__setattr__(self, "window", (low, high))

    def info(self, raw_dir: pathlib.Path | None) -> Manifest:
        return self._manifest(
            image_shape=(self.size, self.size, 1),
            image_dtype="int16",
            modalities=("CT",),
            labels=nodule.LABELS,
            condition_names=nodule.CONDITION_NAMES,
            factor_names=nodule.FACTORS,
            mask_labels=nodule.MASK_LABELS,
            description="Drawn CT patches of lung nodules with known attributes and factors.",
        )

    def examples(self, unit: Unit) -> Iterator[dict]:
        index, label = unit.source
        attributes = nodule.draw_attributes(label, seed=self.seed, index=index)
        factors = nodule.draw_factors(attributes, seed=self.seed, index=index)
        image, mask = nodule.render(factors, size=self.size, seed=self.seed, index=index)
        pixel = nodule.FIELD_OF_VIEW / self.size
        statistics = volume_statistics(image)[None]
        statistics[0, :2] = self.window
        yield {
            "image": image[..., None],
            "intensity": statistics,
            "mask": mask[..., None],
            "label": label,
            "condition": nodule.condition(attributes),
            "factors": factors,
            "spacing": np.array([pixel, pixel, 0], np.float32),
        }


@dataclasses.dataclass(frozen=True)
class _SubjectPhantom(_Phantom):
    """Subjects with several slices. With several domains, `paired` says who is on which."""

    num_train: int = 60
    num_test: int = 20
    size: int = 128
    slices_per_subject: int = 8

    def __post_init__(self):
        super().__post_init__()
        self._check("slices_per_subject", 1 <= self.slices_per_subject <= 500, "1 to 500")

    def _check(self, option: str, is_valid: bool, expected: str) -> None:
        if not is_valid:
            raise ValueError(f"{self.name}: expected {option} of {expected}, received {getattr(self, option)!r}.")

    def _check_names(self, option: str, known: tuple[str, ...]) -> None:
        names = getattr(self, option)
        is_valid = bool(names) and set(names) <= set(known) and len(set(names)) == len(names)
        self._check(option, is_valid, f"one or more of {','.join(known)}, each once")

    def _unit(self, key: str, split: str, index: int) -> Unit:
        """`source` is the subject's index and the domains that it was scanned on."""
        domains = self._domains(split, index)
        return Unit(key, key, (index, domains), group=",".join(domains))

    def _domains(self, split: str, index: int) -> tuple[str, ...]:
        return ()

    def _spread(self, low: float, high: float) -> np.ndarray:
        """Where the slices lie: evenly from `low` to `high`; a single one in the middle."""
        count = self.slices_per_subject
        return np.linspace(low, high, count) if count > 1 else np.array([(low + high) / 2])

    def _has(self, index: int, fractions: tuple[float, ...]) -> list[bool]:
        """For each fraction whether this subject is one of it."""
        drawn = fields.stream(self.seed, index, _DRAW).uniform(size=len(fractions))
        return [bool(value < fraction) for value, fraction in zip(drawn, fractions, strict=True)]


def _paired_domains(domains: tuple[str, ...], paired: str, split: str, index: int) -> tuple[str, ...]:
    """All domains, or the one that falls to a subject."""
    if paired == "all" or (paired == "test" and split in ("test", "val")):
        return domains
    return (domains[index % len(domains)],)


BRAIN_MASKS = ("pathology", "tissue", "tissue_and_pathology")


@dataclasses.dataclass(frozen=True)
class BrainPhantom(_SubjectPhantom):
    """Axial slices of brains, each in all contrasts, aligned.

    Args:
        contrasts: which of `brain.CONTRASTS`; the channels in this order.
        scanners: which of `brain.SCANNERS`; the domains.
        paired: who is on which scanner. "test": training subjects on one each, in turn, and test subjects on all, for
            the truth; "all" and "none" for both splits.
        tumour: fraction of the subjects with a tumour.
        lesions: fraction of the subjects with lesions of multiple sclerosis.
        lesion_size: of their radii, those of plaques being 1. At 2, on T1 and 96 pixels, what finds lesions on
            scanner_a misses many on scanner_b: a harmonisation can be judged by them (docs/results/harmonize.md). Not
            on FLAIR, where they are the brightest of all on both.
        mask: "pathology", as BraTS (with a tumour only) or as MSSEG (with lesions only); "tissue", as IXI; or
            "tissue_and_pathology", both in one map, where tissue is what no disease is.
        clean: whether records hold `clean` as well, the image without noise and bias field: the least error that any
            harmonisation to this scanner can have is that between the two.
        neighbours: how many slices on either side become channels, of each contrast in turn; slices lie (80 mm /
            (slices_per_subject - 1)) apart.
        pet: whether records hold `pet` as well, the uptake of FDG that a network is to draw from the contrasts, float32
            from -1, none, to 1, the subject's highest. It depends on tissue and on what the tumour is made of, and on
            slow waves of the subject's own, which no contrast shows.
    """

    name = "brain_phantom"
    version = "1.1.0"

    contrasts: tuple[str, ...] = ("T1", "T1ce", "T2", "FLAIR")
    scanners: tuple[str, ...] = ("scanner_a",)
    paired: str = "test"
    tumour: float = 1.0
    lesions: float = 0.0
    lesion_size: float = 1.0
    mask: str = "pathology"
    clean: bool = False
    neighbours: int = 0
    pet: bool = False

    def __post_init__(self):
        super().__post_init__()
        self._check_names("contrasts", brain.CONTRASTS)
        self._check_names("scanners", tuple(brain.SCANNERS))
        self._check("paired", self.paired in ("none", "test", "all"), "none, test or all")
        self._check("mask", self.mask in BRAIN_MASKS, " or ".join(BRAIN_MASKS))
        self._check("tumour", 0 <= self.tumour <= 1, "0 to 1")
        self._check("lesions", 0 <= self.lesions <= 1, "0 to 1")
        self._check("lesion_size", 0 < self.lesion_size <= 5, "above 0 and up to 5")
        self._check("neighbours", 0 <= self.neighbours <= 16, "0 to 16")

    def info(self, raw_dir: pathlib.Path | None) -> Manifest:
        num_channels = len(self.contrasts) * (2 * self.neighbours + 1)
        return self._manifest(
            image_shape=(self.size, self.size, num_channels),
            image_dtype="int16",
            modalities=self.contrasts,
            domains=self.scanners,
            factor_names=brain.FACTORS,
            mask_labels=self._mask_labels,
            extra_features=self._extra_features(num_channels),
            description="Brains from the MNI152 tissue maps, by the signal equations of MR.",
            homepage="https://nist.mni.mcgill.ca/icbm-152-nonlinear-atlases-2009",
            citation="Tissue maps: Fonov et al., NeuroImage 54, 313 (2011), "
            "https://doi.org/10.1016/j.neuroimage.2010.07.033",
        )

    def _extra_features(self, num_channels: int) -> dict[str, Feature]:
        features = {"clean": Feature((self.size, self.size, num_channels), "int16")} if self.clean else {}
        return features | ({"pet": Feature((self.size, self.size, 1), "float32")} if self.pet else {})

    def examples(self, unit: Unit) -> Iterator[dict]:
        index, scanners = unit.source
        tumour, lesions = self._has(index, (self.tumour, self.lesions))
        subject = brain.draw_subject(
            seed=self.seed, index=index, tumour=tumour, lesions=lesions, lesion_size=self.lesion_size
        )
        positions = brain.slice_positions(self.slices_per_subject)
        anatomy = brain.anatomy(subject, positions, size=self.size)
        gap = np.ptp(positions) / max(1, len(positions) - 1)
        for scanner in scanners:
            stacks = self._stacks(anatomy, brain.SCANNERS[scanner])
            clean = self._stacks(anatomy, brain.SCANNERS[scanner].clean) if self.clean else []
            statistics = [volume_statistics(stack, anatomy.brain) for stack in stacks]
            pet = brain.render(anatomy, "PET", scanner) if self.pet else None
            for k in range(len(positions)):
                example = {
                    "key": f"{unit.key}/{scanner}/{k:03d}",
                    "image": self._channels(stacks, k),
                    "domain": scanner,
                    "slice_index": k,
                    "num_slices": len(positions),
                    "spacing": np.array([anatomy.spacing, anatomy.spacing, gap], np.float32),
                    "intensity": np.repeat(statistics, 2 * self.neighbours + 1, axis=0),
                    "factors": subject.factors,
                }
                if self._mask_labels:
                    example["mask"] = self._mask(anatomy, k)[..., None]
                if self.pet:
                    example["pet"] = 2 * pet[k, ..., None] / pet.max() - 1
                if self.clean:
                    example["clean"] = self._channels(clean, k)
                yield example

    def _stacks(self, anatomy: brain.Anatomy, scanner: brain.Scanner) -> list[np.ndarray]:
        return [np.rint(brain.render(anatomy, contrast, scanner)).astype(np.int16) for contrast in self.contrasts]

    def _channels(self, stacks: list[np.ndarray], k: int) -> np.ndarray:
        return np.concatenate([preprocess.neighbour_slices(stack, k, self.neighbours) for stack in stacks], axis=-1)

    @property
    def _mask_labels(self) -> tuple[str, ...]:
        names = brain.TISSUE_LABELS[1:] if self.mask != "pathology" else ()
        if self.mask != "tissue":
            names += brain.PATHOLOGY_LABELS[1:4] if self.tumour else ()
            names += brain.PATHOLOGY_LABELS[4:] if self.lesions else ()
        return (brain.PATHOLOGY_LABELS[0], *names) if names else ()

    def _mask(self, anatomy: brain.Anatomy, k: int) -> np.ndarray:
        healthy = anatomy.tissue_labels[k]
        if self.mask == "tissue":
            return healthy
        ids = [self._mask_labels.index(name) if name in self._mask_labels else 0 for name in brain.PATHOLOGY_LABELS]
        disease = np.array(ids, np.uint8)[anatomy.pathology[k]]
        return np.where(disease > 0, disease, healthy) if self.mask == "tissue_and_pathology" else disease

    def _domains(self, split: str, index: int) -> tuple[str, ...]:
        return _paired_domains(self.scanners, self.paired, split, index)


@dataclasses.dataclass(frozen=True)
class PETPhantom(BrainPhantom):
    """Brains with a tumour in T1 and FLAIR, and the PET that is to be drawn from them, as the data ZeroDose."""

    name = "pet_phantom"

    contrasts: tuple[str, ...] = ("T1", "FLAIR")
    pet: bool = True


@dataclasses.dataclass(frozen=True)
class HealthyPhantom(BrainPhantom):
    """Brains without disease in T1 and T2, as the data NCANDA."""

    name = "healthy_phantom"

    contrasts: tuple[str, ...] = ("T1", "T2")
    tumour: float = 0.0


@dataclasses.dataclass(frozen=True)
class RetinaPhantom(_SubjectPhantom):
    """OCT B-scans of the macula, spread over 2 mm around the fovea.

    Args:
        vendors: which of `retina.VENDORS`; the domains.
        paired: who is on which vendor's device, as in `BrainPhantom`.
        fluids: which kinds of fluid there are.
        fluid: fraction of the eyes that have each kind.
    """

    name = "retina_phantom"

    size: int = 256
    vendors: tuple[str, ...] = tuple(retina.VENDORS)
    paired: str = "test"
    fluids: tuple[str, ...] = retina.FLUIDS
    fluid: float = 0.7

    def __post_init__(self):
        super().__post_init__()
        self._check_names("vendors", tuple(retina.VENDORS))
        self._check("paired", self.paired in ("none", "test", "all"), "none, test or all")
        self._check_names("fluids", retina.FLUIDS)
        self._check("fluid", 0 <= self.fluid <= 1, "0 to 1")

    def info(self, raw_dir: pathlib.Path | None) -> Manifest:
        return self._manifest(
            image_shape=(self.size, self.size, 1),
            modalities=("OCT",),
            domains=self.vendors,
            factor_names=retina.FACTORS,
            mask_labels=retina.MASK_LABELS,
            extra_features={
                # Rows of the borders of the layers, see `retina.Scan`.
                "boundaries": Feature((len(retina.LAYERS) + 2, self.size), "float16")
            },
            description="Drawn OCT of the macula with fluid, the same eyes on two devices.",
        )

    def examples(self, unit: Unit) -> Iterator[dict]:
        index, vendors = unit.source
        found = self._has(index, (self.fluid,) * len(retina.FLUIDS))
        fluid = [name for name, is_found in zip(retina.FLUIDS, found, strict=True) if is_found and name in self.fluids]
        factors = retina.draw_factors(seed=self.seed, index=index, fluid=fluid)
        offsets = self._spread(-1.0, 1.0)
        gap = np.ptp(offsets) / max(1, len(offsets) - 1)
        spacing = np.array([retina.DEPTH / self.size, retina.WIDTH / self.size, gap], np.float32)
        for vendor in vendors:
            scans = [
                retina.render(factors, vendor, offset=at, size=self.size, seed=self.seed, index=index)
                for at in offsets.tolist()
            ]
            images = np.rint(255 * np.stack([scan.image for scan in scans])).astype(np.uint8)
            statistics = volume_statistics(images)[None]
            for k, scan in enumerate(scans):
                yield {
                    "key": f"{unit.key}/{vendor}/{k:03d}",
                    "image": images[k][..., None],
                    "mask": scan.mask[..., None],
                    "domain": vendor,
                    "slice_index": k,
                    "num_slices": len(scans),
                    "spacing": spacing,
                    "intensity": statistics,
                    "boundaries": scan.boundaries.astype(np.float16),
                    "factors": factors,
                }

    def _domains(self, split: str, index: int) -> tuple[str, ...]:
        return _paired_domains(self.vendors, self.paired, split, index)


@dataclasses.dataclass(frozen=True)
class _MisalignedPhantom(_SubjectPhantom):
    """Slices in two modalities that are misaligned. As in `chaos`, a record is a slice of the first with the
    `candidates` slices of the second that lie nearest to it, the nearest first: the one of the same position, then its
    neighbours. Masks are those of the channels.

    `displacement` (float16, pixels along y and x) leads from a pixel of the nearest slice of the second modality to the
    place of the first that it shows.

    With `reference` the second modality's name, a record is a slice of the second with its candidates of the first,
    which come before it. `shuffled` draws the candidates from the slices up to so many positions away; of several the
    right one is among them, at any place.
    """

    modalities: ClassVar[tuple[str, ...]]

    candidates: int = 1
    reference: str = ""
    shuffled: int = 0

    def __post_init__(self):
        super().__post_init__()
        self._check("candidates", 1 <= self.candidates <= 16, "1 to 16")
        self._check("reference", self.reference in ("", *self.modalities), f"one of {', '.join(self.modalities)}")
        self._check("shuffled", 0 <= self.shuffled <= 16, "0 to 16")

    def _paired_manifest(self, extra_features: dict[str, Feature], **entries) -> Manifest:
        return self._manifest(
            image_shape=(self.size, self.size, 1 + self.candidates),
            image_dtype="float16",
            mask_channels=1 + self.candidates,
            extra_features={
                "displacement": Feature((self.size, self.size, 2), "float16"),
                "partner_index": Feature((self.candidates,), "int64"),
                "partner_distance": Feature((self.candidates,), "float32"),
                **extra_features,
            },
            **entries,
        )

    def _records(
        self,
        unit: Unit,
        pairs: list[cardiac.Pair] | list[abdomen.Pair],
        positions: np.ndarray,
        pixel: float,
        factors: np.ndarray,
    ) -> Iterator[dict]:
        """Records of pairs whose first four entries are two images and their two masks."""
        first, second, first_masks, second_masks = (np.stack([pair[k] for pair in pairs]) for k in range(4))
        first, second = first.astype(np.float16), second.astype(np.float16)
        of_first, of_second = (volume_statistics(stack) for stack in (first, second))
        distances = np.abs(positions[:, None] - positions)
        partners = np.argsort(distances.round(3), axis=1, kind="stable")
        if self.shuffled:
            partners = [self._drawn(unit.source[0], k, order) for k, order in enumerate(partners)]
        last = np.arange(self.candidates)
        partners = [np.asarray(order)[last.clip(0, len(order) - 1)] for order in partners]
        is_second = self.reference == self.modalities[-1]
        gap = np.ptp(positions) / max(1, len(positions) - 1)
        for k, pair in enumerate(pairs):
            near = partners[k]
            if is_second:
                image, mask = [*first[near], second[k]], [*first_masks[near], second_masks[k]]
                statistics = [*[of_first] * self.candidates, of_second]
            else:
                image, mask = [first[k], *second[near]], [first_masks[k], *second_masks[near]]
                statistics = [of_first, *[of_second] * self.candidates]
            yield {
                "key": f"{unit.key}/{k:03d}",
                "image": np.stack(image, axis=-1),
                "mask": np.stack(mask, axis=-1),
                "slice_index": k,
                "num_slices": len(pairs),
                "spacing": np.array([pixel, pixel, gap], np.float32),
                "intensity": np.stack(statistics),
                "factors": factors,
                "displacement": pair.displacement.astype(np.float16),
                "partner_index": near,
                "partner_distance": distances[k, near],
            }

    def _drawn(self, subject: int, k: int, nearest: np.ndarray) -> np.ndarray:
        """Candidates of slice k: all that are near enough in a drawn order; of several the right one is in time."""
        random = np.random.default_rng([self.seed, subject, k])
        near = random.permutation([n for n in nearest if abs(n - k) <= self.shuffled])
        if self.candidates == 1:
            return near
        others = near[near != k][: self.candidates - 1]
        return random.permutation([k, *others])


@dataclasses.dataclass(frozen=True)
class CardiacPhantom(_MisalignedPhantom):
    """Short-axis slices of the heart from base to apex: cine and LGE.

    Args:
        candidates: how many LGE slices come with each cine slice.
        reference: with "LGE" they are cine slices that come with each LGE slice, before it.
        shuffled: draw them from the slices up to so many positions away, in place of the nearest.
        scar: fraction of the subjects with a scar. `scar` of a record is its mask on both.
    """

    name = "cardiac_phantom"
    modalities = cardiac.MODALITIES
    version = "1.1.1"

    slices_per_subject: int = 6
    scar: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        self._check("scar", 0 <= self.scar <= 1, "0 to 1")

    def info(self, raw_dir: pathlib.Path | None) -> Manifest:
        return self._paired_manifest(
            {"scar": Feature((self.size, self.size, 2), "uint8")},
            modalities=cardiac.MODALITIES,
            factor_names=cardiac.FACTORS,
            mask_labels=cardiac.MASK_LABELS,
            description="Drawn cine and LGE of the heart, misaligned by a known deformation.",
        )

    def examples(self, unit: Unit) -> Iterator[dict]:
        index, _ = unit.source
        (scar,) = self._has(index, (self.scar,))
        factors = cardiac.draw_factors(seed=self.seed, index=index, scar=scar)
        levels = self._spread(0.05, 0.95)
        pairs = [
            cardiac.render(factors, level=at, size=self.size, seed=self.seed, index=index) for at in levels.tolist()
        ]
        pixel = cardiac.FIELD_OF_VIEW / self.size
        records = self._records(unit, pairs, cardiac.EXTENT * levels, pixel, factors)
        for pair, record in zip(pairs, records, strict=True):
            yield {**record, "scar": np.stack([pair.cine_scar, pair.lge_scar], axis=-1)}


@dataclasses.dataclass(frozen=True)
class AbdomenPhantom(_MisalignedPhantom):
    """Axial slices of the abdomen from the dome of the liver to the kidneys: T1 and T2-SPIR.

    Args:
        candidates: how many T2 slices come with each T1 slice.
        reference: with "T2" they are T1 slices that come with each T2 slice, before it.
        shuffled: draw them from the slices up to so many positions away, in place of the nearest.
        misalignment: how far the T2's anatomy has moved, mm, on top of its breathing, see `abdomen.render`.
    """

    name = "abdomen_phantom"
    modalities = abdomen.MODALITIES
    version = "1.1.0"

    misalignment: float = 11.0

    def __post_init__(self):
        super().__post_init__()
        self._check("misalignment", 0 <= self.misalignment <= 100, "0 to 100 mm")

    def info(self, raw_dir: pathlib.Path | None) -> Manifest:
        return self._paired_manifest(
            {},
            modalities=abdomen.MODALITIES,
            factor_names=abdomen.FACTORS,
            mask_labels=abdomen.MASK_LABELS,
            description="Drawn T1 and T2-SPIR of the abdomen, misaligned by known breathing.",
        )

    def examples(self, unit: Unit) -> Iterator[dict]:
        index, _ = unit.source
        factors = abdomen.draw_factors(seed=self.seed, index=index)
        levels = self._spread(0.05, 0.95)
        pairs = [
            abdomen.render(
                factors, level=at, misalignment=self.misalignment, size=self.size, seed=self.seed, index=index
            )
            for at in levels.tolist()
        ]
        pixel = abdomen.FIELD_OF_VIEW / self.size
        yield from self._records(unit, pairs, abdomen.EXTENT * levels, pixel, factors)
