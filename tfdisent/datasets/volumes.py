"""What the data sets of volumes share: from one subject's files to records of its slices.

A data set derives from `VolumeBuilder` and says where things are; reading, checking, preprocessing and cutting into
slices are here:

    @dataclasses.dataclass(frozen=True)
    class Example(VolumeBuilder):
        name = "example"
        raw_help = "Get it from ..."

        mask_labels: tuple[str, ...] = ("background", "lesion")     # what masks hold, and
        mask_codes: tuple[str, ...] = ("0", "1")                    # the files' codes of them

        def index(self, raw_dir):           # all units, by names alone; "" for a missing modality
            return [Unit("p1", "p1", Scans({"T1": "p1/t1.nii.gz", "T2": ""}, mask="p1/seg.nii.gz"))]

        def info(self, raw_dir):
            return self.manifest(self.units(raw_dir), description=..., licence=...)

        def splits(self, raw_dir):
            return self.seeded_splits(self.units(raw_dir))

Slices are axial, anterior up and the patient's right on the left, numbered from inferior to
superior (`tfdisent.volumes`); with `planes` coronal and sagittal ones beside them, superior up
(`tfdisent.volumes.planes`), whose keys say so. With `orientation="as_acquired"` they are the slices of
the file instead, rows and columns as it has them, for stacks that follow an organ (cardiac short axis);
`directions` (3, 3) of each record are the unit vectors (right, anterior, superior) along which columns,
rows and slices run. A unit is one session of one subject; splits are made by subject.
Channels of an image are the modalities in their order, or with `neighbours` all slices of the
first, then all of the second. `intensity` describes the subject's whole volume inside its
foreground, as it is stored. Masks hold contiguous ids; `options` of the manifest has the files'
codes of them as `mask_codes`. `labelled` is 1 where there was a mask.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from nibabel import aff2axcodes

from tfdisent import volumes
from tfdisent.data.records import IMAGE_DTYPES, Feature, Manifest
from tfdisent.datasets.builder import Builder, Unit
from tfdisent.datasets.sources import alike, natural, remembered, same_content
from tfdisent.datasets.splits import deal, seeded_split
from tfdisent.intensity import INTENSITY, statistic, volume_statistics
from tfdisent.messages import say
from tfdisent.volumes import Volume, planes, preprocess


class Scans(NamedTuple):
    """The files of one session, as `Unit.source`. Every unit of a data set names the same modalities in the same order;
    the path is "" where there is none. `size` and `dtype` of the stored images are filled in by `VolumeBuilder.units`.
    `masks` are those of the modalities, where each has its own, and `mask` is "" then.
    """

    images: dict[str, str]
    mask: str = ""
    brain_mask: str = ""
    domain: str = ""
    label: str = ""
    condition: tuple[float, ...] = ()
    size: tuple[int, int] = (0, 0)
    dtype: str = ""
    masks: tuple[str, ...] = ()


class Session(NamedTuple):
    """What `VolumeBuilder.load` reads: volumes by modality (without those missing), and of the first one's shape the
    mask as contiguous ids (uint8) and the brain mask (bool), or None; `masks` of each modality where it has its own.
    """

    images: dict[str, Volume]
    mask: np.ndarray | None
    brain: np.ndarray | None
    masks: tuple[np.ndarray, ...] = ()


@dataclasses.dataclass(frozen=True)
class VolumeBuilder(Builder):
    """A data set of volumes.

    Args:
        size: height and width of the slices as "HxW" or one number; cropped or padded around the middle. Empty: the
            size of the largest slice, to which others are padded.
        pixel_spacing: resample slices to square pixels of this many millimetres; 0 leaves them as they are.
        planes: of "axial", "coronal" and "sagittal": what slices are cut; a model that is to be applied in three planes
            needs all of them. Coronal and sagittal slices get the pixel size of the axial ones.
        slice_range: first and last axial slice (from below, counted from 0, both included); empty: all.
        min_foreground: pixels of foreground that a slice must have in every modality.
        foreground: "nonzero" (background was set to 0, or to another value that is found where nothing is 0), or "otsu"
            (images as scanned); inside the brain mask where there is one.
        background: value of the padding, and of what is outside of a brain mask. An image whose background was set to
            a value other than 0 is padded with that.
        neighbours: how many slices on either side become channels.
        n4: shrink factor of a bias field correction (4 is usual), 0 for none.
        dtype: "int16", "uint8", "float32" or "float16"; "auto" is int16 if all files hold integers, else float32.
        nan: "fail" at voxels that are not finite, or set them to "zero".
        orientation: "canonical", or "as_acquired": slices, rows and columns as they are in the file of a session's
            first modality. Its slices then are the only plane, which is called axial.
        max_oblique: largest angle in degrees between a file's axes and the canonical ones.
        max_gigabytes: of one volume, unpacked, that are read at most.
        allow_missing: keep subjects that lack a modality; its image is 0, and so is its entry in `available`.
        modalities: which ones, in this order; empty: the data set's own.
        mask_labels: names of what masks hold, the background first.
        mask_codes: the files' codes of these names, by default 0, 1, ...; several codes of one name as "4|3".
        test_fraction: of the subjects.
        val_fraction: of the subjects; 0 makes no split "val".
        seed: of the splits.

    And `folds` and `fold`, as every data set (`Builder`).
    """

    num_shards: ClassVar[int] = 16
    extra_features: ClassVar[dict[str, Feature]] = {}

    size: str = ""
    pixel_spacing: float = 0.0
    planes: tuple[str, ...] = ("axial",)
    slice_range: tuple[str, ...] = ()
    min_foreground: int = 1
    foreground: str = "nonzero"
    background: float = 0.0
    neighbours: int = 0
    n4: int = 0
    dtype: str = "auto"
    nan: str = "fail"
    orientation: str = "canonical"
    max_oblique: float = volumes.MAX_OBLIQUE
    max_gigabytes: float = volumes.MAX_GIGABYTES
    allow_missing: bool = False
    modalities: tuple[str, ...] = ()
    mask_labels: tuple[str, ...] = ()
    mask_codes: tuple[str, ...] = ()
    test_fraction: float = 0.2
    val_fraction: float = 0.0
    seed: int = 0

    def __post_init__(self):
        if not isinstance(self.size, str):
            size = (self.size,) if isinstance(self.size, int) else self.size
            object.__setattr__(self, "size", "x".join(map(str, size)))
        object.__setattr__(self, "slice_range", tuple(map(str, self.slice_range)))
        codes = self.mask_codes or range(len(self.mask_labels))
        object.__setattr__(self, "mask_codes", tuple(map(str, codes)))
        self._check_choices()
        self._check_numbers()
        _parsed_size(self.size), _parsed_range(self.slice_range), self._code_ids()

    def _check_choices(self) -> None:
        for name, choices in (
            ("foreground", ("nonzero", "otsu")),
            ("dtype", ("auto", *IMAGE_DTYPES)),
            ("nan", ("fail", "zero")),
            ("orientation", volumes.ORIENTATIONS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Expected {name} to be one of {', '.join(choices)}, received {getattr(self, name)!r}."
                )
        if not self.planes or sorted(self.planes) != sorted(set(self.planes) & set(planes.PLANES)):
            raise ValueError(
                f"Expected planes to be one or more of {', '.join(planes.PLANES)}, each once, received {self.planes}."
            )
        if self.orientation == "as_acquired" and self.planes != ("axial",):
            raise ValueError(
                f"Expected planes to be axial, the slices of the files, with orientation=as_acquired, received "
                f"{self.planes}."
            )
        if len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"Expected modalities to name each one once, received {self.modalities}.")

    def _check_numbers(self) -> None:
        for name, low, high in (
            ("pixel_spacing", 0, 100),
            ("min_foreground", 0, 2**31),
            ("neighbours", 0, 16),
            ("n4", 0, 32),
            ("max_oblique", 0, 90),
            ("max_gigabytes", 0, 1e6),
            ("test_fraction", 0, 1),
            ("val_fraction", 0, 1),
            ("seed", 0, 2**63),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"Expected {name} to be {low} to {high}, received {getattr(self, name)!r}.")
        if self.test_fraction + self.val_fraction >= 1:
            raise ValueError(
                f"test_fraction and val_fraction leave nothing to train on: {self.test_fraction} and "
                f"{self.val_fraction}."
            )

    # Methods that a data set defines or overrides.

    def index(self, raw_dir: pathlib.Path) -> list[Unit]:
        """All units, with `Scans` as their source, by names and tables alone."""
        raise NotImplementedError

    def read(self, path: str, labels: bool = False) -> Volume:
        """One volume; for data sets whose slices are not axial, or whose files are special."""
        return volumes.read_volume(
            path,
            labels,
            nan=self.nan,
            orientation=self.orientation,
            max_oblique=self.max_oblique,
            max_gigabytes=self.max_gigabytes,
        )

    def load(self, scans: Scans) -> Session:
        """Reads all files of a session, each once, and checks that they belong together."""
        images: dict[str, Volume] = {}
        first = next((name for name, path in scans.images.items() if path), "")
        if not first:
            raise ValueError("it has no modality at all")

        def on_grid(path: str, labels: bool = False) -> Volume:
            volume = self.read(path, labels)
            if images:
                if self.orientation == "as_acquired":
                    volume = volumes.aligned(volume, images[first].affine)
                _check_grid(path, volume, scans.images[first], images[first])
            return volume

        for name, path in scans.images.items():
            if path:
                images[name] = on_grid(path)

        def ids_of(path: str) -> np.ndarray:
            return self.mask_ids(path, on_grid(path, labels=True).array)

        mask = ids_of(scans.mask) if scans.mask else None
        brain = on_grid(scans.brain_mask, labels=True).array > 0 if scans.brain_mask else None
        return Session(images, mask, brain, tuple(map(ids_of, scans.masks)))

    def num_masks(self, scans: Scans) -> int:
        """How many masks a session has: one, or one of each modality."""
        return 1

    # Methods that a data set calls.

    def units(self, raw_dir: pathlib.Path) -> list[Unit]:
        """The index, with what is missing turned into problems, and the stored size and dtype."""
        units = checked_contents([self._checked(unit) for unit in self.index(raw_dir)])
        if not units:
            raise FileNotFoundError(f"{self.name}: nothing that fits was found under {raw_dir}.\n{self.raw_help}")
        if self.orientation == "as_acquired":
            units = self._with_notes_on_axes(units)
        size, dtype = _parsed_size(self.size), self.dtype
        if not size or dtype == "auto":
            headers = list(self._headers(units))
            size = size or self._largest(headers)
            if dtype == "auto":
                dtype = "int16" if all(header.is_integer for header in headers) else "float32"
        return [
            unit._replace(
                source=unit.source._replace(size=size, dtype=dtype),
                modalities=tuple(name for name, path in unit.source.images.items() if path),
            )
            for unit in units
        ]

    def manifest(self, units: Sequence[Unit], *, condition_names: Sequence[str] = (), **words: str) -> Manifest:
        """What records of these units look like; `words` are the manifest's texts."""
        scans = [unit.source for unit in units if not unit.problem] or [units[0].source]
        modalities = tuple(scans[0].images)
        more = {"labelled": Feature((), "int64")} if self.mask_labels else {}
        if self.orientation == "as_acquired":
            more["directions"] = Feature((3, 3), "float32")
        return Manifest(
            dataset=self.name,
            version=self.version,
            image_shape=(*scans[0].size, len(modalities) * (2 * self.neighbours + 1)),
            image_dtype=scans[0].dtype,
            modalities=modalities,
            labels=tuple(sorted({scan.label for scan in scans} - {""}, key=natural)),
            domains=tuple(sorted({scan.domain for scan in scans} - {""}, key=natural)),
            condition_names=tuple(condition_names),
            mask_labels=self.mask_labels,
            mask_channels=self.num_masks(scans[0]),
            extra_features={**more, **self.extra_features},
            seed=self.seed,
            **words,
        )

    def seeded_splits(self, units: Sequence[Unit], *, by_domain: bool = False) -> dict[str, list[Unit]]:
        """Units by split, with `test_fraction` and `val_fraction` of the subjects (of each domain) drawn by `seed`."""
        fractions = {"test": self.test_fraction, "val": self.val_fraction}
        subjects: dict[str, list[str]] = {}
        for unit in units:
            if not unit.problem:
                domain = unit.source.domain if by_domain else ""
                subjects.setdefault(domain, []).append(unit.subject)
        if not subjects:
            raise ValueError(f"{self.name}: no subject is left to be split.")
        splits: dict[str, list[str]] = {}
        for domain in sorted(subjects):
            of_domain = seeded_split(subjects[domain], fractions, self.seed, domain)
            for split, names in of_domain.items():
                splits[split] = splits.get(split, []) + names
        return deal(units, splits)

    def examples(self, unit: Unit) -> Iterator[dict[str, Any]]:
        scans = unit.source
        session = self.preprocessed(self.load(scans), scans)
        foregrounds, intensity, backgrounds = [], [], {}
        for name, path in scans.images.items():
            if name not in session.images:
                intensity.append(np.zeros(len(INTENSITY), np.float32))
                continue
            array = session.images[name].array
            inside, backgrounds[name] = self._foreground(path, array, session.brain)
            if not inside.any():
                raise ValueError(f"{path} is empty: it has no foreground ({self.foreground}).")
            foregrounds.append(inside)
            intensity.append(volume_statistics(array, inside))
        statistics = np.stack(intensity)
        for plane in self.planes:
            chosen = self._chosen(foregrounds, plane)
            yield from self._slices(unit, _seen_in(session, plane), chosen, statistics, backgrounds, plane)

    def _foreground(self, path: str, array: np.ndarray, brain: np.ndarray | None) -> tuple[np.ndarray, float]:
        """Where an image has anatomy, and the value of its background."""
        if brain is not None:
            if brain.any() and self.background > np.percentile(array[brain], DARK):
                _tell_amid(self.name, path, self.background, float(array[brain].min()))
            return brain, self.background
        if self.foreground != "nonzero":
            return preprocess.foreground(array, self.foreground), self.background
        value, share = preprocess.background(array)
        if value:
            _tell_background(self.name, path, value, share)
        return array != value, value or self.background

    def _chosen(self, foregrounds: Sequence[np.ndarray], plane: str) -> np.ndarray:
        """Indices of the slices that are kept."""
        counts = np.stack([preprocess.slice_counts(planes.as_slices(inside, plane)) for inside in foregrounds])
        within = _parsed_range(self.slice_range) if plane == "axial" else None
        chosen = preprocess.select_slices(counts, self.min_foreground, within)
        if not len(chosen):
            raise ValueError(
                f"none of its {counts.shape[1]} {plane} slices has {self.min_foreground} pixels of foreground within "
                f"slice_range={','.join(map(str, within or ())) or 'all'} (the most is {counts.min(axis=0).max()}). "
                "Lower min_foreground, or widen slice_range."
            )
        return chosen

    def bias_corrected(self, session: Session, scans: Scans) -> Session:
        """N4, where `n4` asks for it, inside the brain mask if there is one."""
        if not self.n4:
            return session
        return session._replace(
            images={
                name: _named(scans.images[name], preprocess.n4, volume, session.brain, shrink=self.n4)
                for name, volume in session.images.items()
            }
        )

    def preprocessed(self, session: Session, scans: Scans) -> Session:
        """Bias correction, brain mask and resampling, in this order."""
        session = self.bias_corrected(session, scans)
        if session.brain is not None:
            images = {
                name: volume._replace(array=preprocess.apply_mask(volume.array, session.brain, self.background))
                for name, volume in session.images.items()
            }
            session = session._replace(images=images)
        if not self.pixel_spacing:
            return session
        return _changed(session, preprocess.resample_in_plane, self.pixel_spacing)

    def mask_ids(self, path: str, codes: np.ndarray) -> np.ndarray:
        """A label map with contiguous ids (uint8) in place of the file's codes.

        Raises:
            ValueError: it holds a code that `mask_codes` does not.
        """
        ids = self._code_ids()
        low, high = int(codes.min()), int(codes.max())
        table = np.full(max(256, max(ids) + 1), 255, np.uint8)
        table[list(ids)] = list(ids.values())
        # An unknown code becomes 255; so many names do not fit into uint8 in any case.
        found = table[codes] if low >= 0 and high < len(table) else None
        if found is None or found.max() == 255:
            present, counts = np.unique(codes, return_counts=True)
            unknown = [
                f"{code} ({count} voxels)"
                for code, count in zip(present.tolist(), counts.tolist(), strict=True)
                if code not in ids
            ]
            raise ValueError(
                f"{path} holds the unknown codes {', '.join(unknown[:8])}; known are {', '.join(map(str, ids))}. Name "
                "them in mask_labels and mask_codes, or fix the file."
            )
        return found

    def _slices(
        self,
        unit: Unit,
        session: Session,
        chosen: np.ndarray,
        intensity: np.ndarray,
        backgrounds: Mapping[str, float],
        plane: str,
    ) -> Iterator[dict[str, Any]]:
        key = unit.key if plane == "axial" else f"{unit.key}/{plane}"
        scans, span = unit.source, 2 * self.neighbours + 1
        grid = next(iter(session.images.values()))
        num_slices, (height, width) = len(grid.array), scans.size
        deviations = statistic(intensity[[name in session.images for name in scans.images]], "std")
        stored = {
            name: preprocess.crop_or_pad(
                _stored(scans.images[name], volume.array, scans.dtype, std=std),
                scans.size,
                constant=backgrounds[name],
            )
            for (name, volume), std in zip(session.images.items(), deviations, strict=True)
        }
        common: dict[str, Any] = {
            "available": np.array([name in stored for name in scans.images], np.uint8),
            "num_slices": num_slices,
            "spacing": grid.spacing,
            "intensity": intensity.repeat(span, axis=0),
        }
        if self.orientation == "as_acquired":
            common["directions"] = grid.directions
        common |= {name: value for name, value in (("domain", scans.domain), ("label", scans.label)) if value}
        if scans.condition:
            common["condition"] = np.array(scans.condition, np.float32)
        masks = None
        if self.mask_labels:
            known = session.masks or (() if session.mask is None else (session.mask,))
            common["labelled"] = int(bool(known))
            empty = (np.zeros(grid.array.shape, np.uint8),) * self.num_masks(scans)
            masks = np.stack([preprocess.crop_or_pad(one, scans.size) for one in known or empty], axis=-1)
        for index in chosen.tolist():
            image = np.zeros((height, width, len(scans.images), span), scans.dtype)
            around = np.arange(index - self.neighbours, index + self.neighbours + 1)
            for channel, name in enumerate(scans.images):
                if name in stored:
                    for offset, other in enumerate(around.clip(0, num_slices - 1)):
                        image[:, :, channel, offset] = stored[name][other]
            example = {
                "key": f"{key}/{index:03d}",
                "image": image.reshape(height, width, -1),
                "slice_index": index,
                **common,
            }
            if masks is not None:
                example["mask"] = masks[index]
            yield example

    def _checked(self, unit: Unit) -> Unit:
        missing = [name for name, path in unit.source.images.items() if not path]
        if not missing or unit.problem or (self.allow_missing and len(missing) < len(unit.source.images)):
            return unit
        found = next((path for path in unit.source.images.values() if path), "")
        where = f" (beside {found})" if found else ""
        problem = f"{unit.key} has no {', '.join(missing)}{where}; allow_missing=true keeps it"
        return unit._replace(problem=problem)

    def _with_notes_on_axes(self, units: Sequence[Unit]) -> list[Unit]:
        """The units, with a note on those whose slices do not lie as those of most: nothing turns them alike."""
        found = {}
        for index, unit in enumerate(units):
            header = next(self._headers([unit]), None)
            if header is not None:
                found[index] = "".join(aff2axcodes(header.affine))
        usual = max(set(found.values()), key=[*found.values()].count, default="")
        return [
            unit._replace(
                note=f"{unit.key}: columns, rows and slices run to {', '.join(found[index])}, those of most to "
                f"{', '.join(usual)}; orientation=as_acquired keeps them"
            )
            if found.get(index, usual) != usual
            else unit
            for index, unit in enumerate(units)
        ]

    def _headers(self, units: Sequence[Unit]) -> Iterator[volumes.Header]:
        for unit in units:
            for path in unit.source.images.values():
                if path and not unit.problem:
                    try:
                        yield _header(path, orientation=self.orientation, max_gigabytes=self.max_gigabytes)
                    except (OSError, ValueError):
                        continue  # the error comes when the unit is read, or it is skipped then

    def _largest(self, headers: Sequence[volumes.Header]) -> tuple[int, int]:
        if not headers:
            return (1, 1)
        shapes = [self._shape(header, plane) for header in headers for plane in self.planes]
        height, width = np.rint(shapes).astype(int).max(0).tolist()
        return height, width

    def _shape(self, header: volumes.Header, plane: str) -> np.ndarray:
        """Height and width of slices in pixels, as fractions."""
        shape = np.array(planes.extent(header.shape, plane), float)
        if plane == "axial" and not self.pixel_spacing:
            return shape
        y, x, z = header.spacing
        return shape * planes.extent((z, y, x), plane) / (self.pixel_spacing or min(y, x))

    def _code_ids(self) -> dict[int, int]:
        """Id of each code."""
        try:
            codes = [[int(code) for code in codes.split("|")] for codes in self.mask_codes]
        except ValueError:
            raise ValueError(
                f"Expected mask_codes to be whole numbers like 0,1,4|3, received {self.mask_codes}."
            ) from None
        ids = {code: index for index, group in enumerate(codes) for code in group}
        if len(codes) != len(self.mask_labels) or len(ids) != sum(map(len, codes)):
            raise ValueError(
                "Expected mask_labels and mask_codes to name the same number of things, and each code once, received "
                f"{self.mask_labels} and {self.mask_codes}."
            )
        if ids and not (0 <= min(ids) and max(ids) < 2**16 and len(codes) < 255):
            raise ValueError(f"Expected mask_codes to be 0 to 65535, received {self.mask_codes}.")
        return ids


_header = remembered(volumes.read_header)  # a data set is indexed more than once in a preparation


def checked_contents(
    units: Sequence[Unit], images: Callable[[Unit], Mapping[str, str]] = lambda unit: unit.source.images
) -> list[Unit]:
    """The units with a problem where two subjects, or two modalities of one, have the same image, and with a note where
    names of subjects are nearly the same. `tfdisent.datasets.sources.same_content` says what is read for it; `images`
    are the paths of a unit's images by modality.
    """
    users: dict[str, dict[tuple[str, str], int]] = {}
    for place, unit in enumerate(units):
        for modality, path in images(unit).items():
            if path:
                users.setdefault(path, {})[unit.subject, modality] = place
    problems, notes = {}, {}
    for paths in [*same_content(users), *([path] for path in users)]:
        owners = [(path, *user, place) for path in paths for user, place in users[path].items()]
        (first, subject, modality, _), *others = owners
        for other, its_subject, its_modality, _ in others:
            if (subject, modality) != (its_subject, its_modality):
                files = first if other == first else f"{first} and {other}"
                text = (
                    f"{files}: one image is {modality} of {subject} and {its_modality} of {its_subject}. Give each "
                    "its own, or remove one."
                )
                for *_, place in owners:
                    problems.setdefault(place, text)
                break
    for names in alike(unit.subject for unit in units):
        place = next(place for place, unit in enumerate(units) if unit.subject == names[1])
        notes[place] = f"{' and '.join(names[:2])} are taken as two subjects. Write them alike if they are one."
    return [
        unit._replace(problem=unit.problem or problems.get(place, ""), note=unit.note or notes.get(place, ""))
        for place, unit in enumerate(units)
    ]


def _seen_in(session: Session, plane: str) -> Session:
    """The session with the slices of a plane, with the pixel size of the axial ones."""
    if plane == "axial":
        return session
    pixel = float(min(next(iter(session.images.values())).spacing[:2]))

    def turned(volume: Volume, labels: bool) -> Volume:
        return preprocess.resample_in_plane(planes.seen_in(volume, plane), pixel, labels=labels)

    return _changed(session, turned)


def _changed(session: Session, change: Callable[..., Volume], *arguments: Any) -> Session:
    """The session with `change(volume, *arguments, labels=...)` of all that it holds."""
    grid = next(iter(session.images.values()))
    images = {name: change(volume, *arguments, labels=False) for name, volume in session.images.items()}
    mask, brain, *masks = (
        None if array is None else change(grid._replace(array=array), *arguments, labels=True).array
        for array in (session.mask, session.brain, *session.masks)
    )
    return Session(images, mask, brain, tuple(masks))


def _check_grid(path: str, volume: Volume, other_path: str, other: Volume) -> None:
    if problem := volumes.grid_difference(volume.array.T.shape, volume.affine, other.array.T.shape, other.affine):
        raise ValueError(
            f"{path} is not on the grid of {other_path}: {problem} (x, y, z; affines "
            f"{np.round(volume.affine[:3], 3).tolist()} and {np.round(other.affine[:3], 3).tolist()}). Register and "
            "resample one to the other before."
        )


DARK = 5  # per cent of the brain's voxels that may be darker than the background
_told: set[str] = set()  # data sets of which this process has said it
_told_amid: set[str] = set()  # likewise


def _tell_background(dataset: str, path: str, value: float, share: float) -> None:
    """Says once what is taken for background in a data set whose images are not 0 there."""
    if dataset not in _told:
        _told.add(dataset)
        say(
            f"{dataset}: hardly a voxel of {path} is 0, and {share:.0%} are {value:g}, which is taken for its "
            "background; likewise in other images of this kind."
        )


def _tell_amid(dataset: str, path: str, value: float, lowest: float) -> None:
    """Says once that what is outside of brain masks becomes as bright as the brain, as z-scores of a brain have it."""
    if dataset not in _told_amid:
        _told_amid.add(dataset)
        say(
            f"{dataset}: outside of the brain mask {path} becomes {value:g}, which is amid the brain's values, from "
            f"{lowest:g}: grey, and not the darkest. Give --background={np.floor(lowest):g} or lower, or leave out the "
            "masks where the images have a dark background already."
        )


def _stored(path: str, array: np.ndarray, dtype: str, std: float) -> np.ndarray:
    """`array` as it is stored; fails where that would change its values, or in float16 round them by more than a
    thousandth of the standard deviation of the volume, as a root mean square.
    """
    if array.dtype == dtype:
        return array
    target, low, high = np.dtype(dtype), float(array.min()), float(array.max())
    ends = np.finfo(target) if target.kind == "f" else np.iinfo(target)
    is_within = float(ends.min) <= low and high <= float(ends.max)
    stored = array.astype(target) if is_within else None
    if stored is None:
        problem = f"values from {low:g} to {high:g}, which {dtype} cannot hold ({ends.min:g} to {ends.max:g})"
    elif np.array_equal(stored, array):
        return stored
    elif target.kind != "f":
        problem = f"fractions, which {dtype} cannot hold"
    else:
        changes = np.subtract(stored, array, dtype=np.float64)
        error = np.sqrt(np.square(changes[changes != 0]).mean())
        if error <= std / 1000:
            return stored
        problem = f"values that {dtype} rounds by {error:.2g}, more than a thousandth of their deviation ({std:.2g})"
    is_short = -(2**15) <= low and high < 2**15 and np.array_equal(np.rint(array), array)
    raise ValueError(f"{path} holds {problem}. Use dtype={'int16' if is_short else 'float32'}, or scale it before.")


def _named(path: str, function, *arguments, **options):
    """Calls a function of arrays; its errors then name the file."""
    try:
        return function(*arguments, **options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parsed_size(text: str) -> tuple[int, int] | None:
    """Height and width; None for as large as the largest."""
    if not text:
        return None
    try:
        numbers = [int(number) for number in text.lower().split("x")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(1 <= number <= 4096 for number in numbers):
        raise ValueError(f"Expected size like 240x240 or 240 (height x width), received {text!r}.")
    return numbers[0], numbers[-1]


def _parsed_range(texts: tuple[str, ...]) -> tuple[int, int] | None:
    """First and last slice; None for all."""
    if not texts:
        return None
    try:
        first, last = map(int, texts)
    except ValueError:
        first, last = 0, -1
    if not 0 <= first <= last:
        raise ValueError(f"Expected slice_range like 50,104 (first and last), received {texts}.")
    return first, last
