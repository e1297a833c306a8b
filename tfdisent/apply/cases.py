"""The volumes that a model is applied to: files of one case each, found in folders or a table, read and compared."""

import csv
import math
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfdisent.files import is_clutter
from tfdisent.messages import say
from tfdisent.volumes import Volume, aligned, grid_difference, read_nifti

if TYPE_CHECKING:
    from tfdisent.apply.model import SliceModel

ENDINGS = (".nii.gz", ".nii")
UNNAMED = ""  # the input of a file that is given without one: the model's only input
FEW = 16  # whole numbers, as a label map has; images have hundreds

# Words of the names of files and folders that hold masks, segmentations and label maps.
_MASK = re.compile(
    r"(?:^|[-_. ])(?:gt|ground[-_ ]?truth|\w*segs?|\w*segmentations?|\w*masks?|msk|\w*labels?(?:maps?|tr|ts)?|rois?|"
    r"lesions?|\w*parc|parcellations?|atlas|annotations?|consensus)(?=[-_. +]|$)",
    re.IGNORECASE,
)


class Case(NamedTuple):
    """Volumes that a model sees together.

    Attributes:
        label: what progress and errors call it.
        name: where its results go in the output folder, without the endings of their names.
        files: {input: file}, without those missing.
        mask: its brain mask, if a table names it.
        is_chosen: whether the user named its files; those found in a folder may be masks, which are left out.
    """

    label: str
    name: pathlib.PurePath
    files: dict[str, pathlib.Path]
    mask: pathlib.Path | None = None
    is_chosen: bool = True


def find_cases(
    source: str | os.PathLike | Mapping[str, str | os.PathLike],
    output: pathlib.Path,
    pattern: str = "*",
    masks_too: bool = False,
) -> list[Case]:
    """The cases to work on; in folders hidden files and those in `output` are left out, and what is a mask by its name.

    Args:
        source: a NIfTI file, a folder of them or a table (.csv); or {input: file or folder}.
        output: folder of the results.
        pattern: names of the files in folders.
        masks_too: masks and label maps in folders are cases as well.

    Raises:
        OSError: there is no such file or folder, or no such volume in it.
        ValueError: results would be among the inputs, or two of one name; or it is not clear which files are one case.
    """
    sources = source if isinstance(source, Mapping) else {UNNAMED: source}
    sources = {name: pathlib.Path(path).expanduser() for name, path in sources.items()}
    for name, path in sources.items():
        _check_apart(f"--input={f'{name}=' * bool(name)}{path}", path, output)
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"--output={output} is a file. Give a folder.")
    if UNNAMED not in sources:
        return _matched(sources, output, pattern, masks_too)
    path = sources[UNNAMED]
    if path.is_dir():
        return _in_folder(path, output, pattern, masks_too)
    return _in_table(path, output) if path.suffix.lower() == ".csv" else [_of_file(path, path.parent)]


def assigned(case: Case, inputs: tuple[str, ...]) -> Case:
    """The case with a file that was given without a name under the name of the model's only input.

    Raises:
        ValueError: the model has several inputs, or none of that name.
    """
    known = ", ".join(inputs)
    if UNNAMED in case.files and len(inputs) > 1:
        raise ValueError(
            f"The model takes {known} of each case, received {case.files[UNNAMED]} without a name. Give "
            f"--input={inputs[0]}=PATH --input={inputs[1]}=PATH, or a table (.csv) with these columns."
        )
    files = {name or inputs[0]: path for name, path in case.files.items()}
    if unknown := [name for name in files if name not in inputs]:
        raise ValueError(f"Unknown input {unknown[0]}, given for {files[unknown[0]]}. The model takes {known}.")
    return case._replace(files=files)


def check_case(case: Case, model: "SliceModel") -> None:
    """Raises ValueError where a case lacks an input that the model needs, OSError where a file does not exist."""
    missing = [name for name in model.inputs if name not in case.files]
    if missing and not model.takes_missing:
        raise ValueError(
            f"{case.label} lacks {', '.join(missing)}. The model needs {', '.join(model.inputs)} of each case; add the "
            "volume, or leave the case out."
        )
    for name, path in {**case.files, **({"mask": case.mask} if case.mask else {})}.items():
        if not path.is_file():
            raise FileNotFoundError(f"{path}, {name} of {case.label}, does not exist.")


def is_mask_by_name(relative: pathlib.PurePath) -> bool:
    """Whether a word of a file's name, or the name of a folder on the way to it, is one for masks and label maps."""
    return bool(_MASK.search(_stem(relative))) or any(map(_MASK.fullmatch, relative.parent.parts))


def is_mask_by_content(array: np.ndarray) -> bool:
    """Whether the values are whole numbers, and two or a few more different ones: a mask or a label map."""
    values = array.reshape(-1)
    for some in (values[:: max(1, array.size // 10_000)], values):  # most images need no more than the first
        found = np.unique(some)
        if len(found) > FEW or not np.array_equal(found, np.rint(found)):
            return False
    return len(found) > 1


def read_case(
    case: Case, inputs: tuple[str, ...], masks: str | os.PathLike | None = None, **options: Any
) -> tuple[dict[str, Volume], np.ndarray | None]:
    """The volumes of a case by input, in the order of `inputs`, and its brain mask (S, H, W) bool, or None.

    Args:
        case: what to read.
        inputs: of the model.
        masks: a mask, or a folder of masks named as the cases; a mask that the case names takes precedence.
        options: of `read_nifti`.

    Raises:
        OSError: a file cannot be read.
        ValueError: a volume cannot be used, or is not on the grid of the others.
    """
    volumes, first = {}, None
    for name in filter(case.files.__contains__, inputs):
        path = case.files[name]
        volume = read_nifti(path, **options)
        first = first or name
        volumes[name] = volume = aligned(volume, volumes[first].affine) if volumes else volume
        if problem := _difference(volume, volumes[first]):
            raise ValueError(
                f"{path} is not on the grid of {case.files[first]}: {problem}. Resample one to the grid of the other."
            )
    masks = case.mask or masks
    return volumes, read_mask(masks, case.name, volumes[first], case.label) if masks else None


def read_mask(masks: str | os.PathLike, name: pathlib.PurePath, volume: Volume, label: str | None = None) -> np.ndarray:
    """A brain mask as bool (S, H, W), checked to be on the grid of its volume.

    Args:
        masks: the mask, or a folder where it has the name of the case.
        name: of the case.
        volume: on whose grid it must be.
        label: what errors call the case; its name by default.
    """
    path = pathlib.Path(masks)
    if path.is_dir():
        files = [path / name.with_name(name.name + ending) for ending in ENDINGS]
        path = next((file for file in files if file.is_file()), files[0])
    mask = aligned(read_nifti(path, labels=True, orientation="as_acquired", max_gigabytes=math.inf), volume.affine)
    if problem := _difference(mask, volume):
        raise ValueError(f"The mask {path} is not on the grid of {label or name}: {problem}.")
    return mask.array > 0


def make_folder(output: pathlib.Path) -> None:
    """Makes the folder of the results, and finds out now whether it can be written to."""
    probe = output / f".{os.getpid()}.probe"
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"Cannot write to --output={output}: {error}.") from error


def _difference(volume: Volume, other: Volume) -> str:
    return grid_difference(volume.array.T.shape, volume.affine, other.array.T.shape, other.affine)


def _check_apart(given: str, path: pathlib.Path, output: pathlib.Path) -> None:
    """Raises OSError where an input does not exist, ValueError where the output is its folder or the input itself."""
    if not path.exists():
        raise FileNotFoundError(f"{given} does not exist.")
    folder = path if path.is_dir() else path.parent
    if output.resolve() in (path.resolve(), folder.resolve()):
        raise ValueError(
            f"--output={output} is the input, or its folder. Give another folder, so that no result is taken for a "
            "scan."
        )


# --- one input ---


def _in_folder(folder: pathlib.Path, output: pathlib.Path, pattern: str, masks_too: bool) -> list[Case]:
    found = _volumes(folder, output, pattern, masks_too)
    cases = [_of_file(path, folder)._replace(is_chosen=masks_too) for path in found]
    names: dict[pathlib.PurePath, Case] = {}
    for case in cases:
        other = names.setdefault(case.name, case)
        if other is not case:
            files = " and ".join(str(one.files[UNNAMED]) for one in (other, case))
            raise ValueError(f"Results of {files} would have one name. Rename one.")
    return cases


def _of_file(path: pathlib.Path, folder: pathlib.Path) -> Case:
    relative = path.relative_to(folder)
    return Case(str(relative), relative.with_name(_stem(path)), {UNNAMED: path})


def _volumes(folder: pathlib.Path, output: pathlib.Path, pattern: str, masks_too: bool) -> list[pathlib.Path]:
    """The NIfTI files in a folder and its subfolders, masks by their names only if they are asked for."""
    done = output.resolve()
    found = [
        path
        for path in sorted(folder.rglob(pattern))
        if path.name.lower().endswith(ENDINGS)
        and path.is_file()
        and not any(map(is_clutter, path.relative_to(folder).parts))
        and done not in path.resolve().parents
    ]
    if not found:
        raise FileNotFoundError(f"No .nii or .nii.gz file in {folder} is named as --pattern={pattern!r}.")
    masks = [] if masks_too else [path for path in found if is_mask_by_name(path.relative_to(folder))]
    if len(masks) == len(found):
        raise FileNotFoundError(
            f"All {len(found)} volumes in {folder} are masks or label maps by their names, as {masks[0].name}. Give "
            "--masks_too if they are images."
        )
    if masks:
        names = ", ".join(str(path.relative_to(folder)) for path in masks[:3]) + (", ..." if len(masks) > 3 else "")
        say(f"{folder}: {len(masks)} left out, masks or label maps by their names ({names}); --masks_too takes them.")
    return [path for path in found if path not in set(masks)]


def _stem(path: pathlib.PurePath) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


# --- several inputs ---


def _matched(sources: Mapping[str, pathlib.Path], output: pathlib.Path, pattern: str, masks_too: bool) -> list[Case]:
    """Cases of {input: file or folder}; files of one case have one name but for the input's."""
    if all(path.is_file() for path in sources.values()):
        first, path = next(iter(sources.items()))
        name = _without(first, pathlib.PurePath(_stem(path))) or pathlib.PurePath(path.resolve().parent.name or "case")
        return [Case(str(name), name, dict(sources))]
    if files := [f"{name}={path}" for name, path in sources.items() if path.is_file()]:
        raise ValueError(f"--input={files[0]} is a file, and others are folders. Give files alone, or folders alone.")
    cases: dict[pathlib.PurePath, dict[str, pathlib.Path]] = {}
    for name, folder in sources.items():
        for path in _volumes_of(name, folder, sources, _volumes(folder, output, pattern, masks_too)):
            relative = path.relative_to(folder)
            key = _without(name, relative.with_name(_stem(path))) or pathlib.PurePath(folder.resolve().name or "case")
            files = cases.setdefault(key, {})
            if other := files.get(name):
                raise ValueError(f"{other} and {path} may both be {name} of {key}. {_GIVE_A_TABLE}")
            if path.resolve() in {file.resolve() for file in files.values()}:
                raise ValueError(f"{path} may be {' and '.join((*files, name))} of {key}. {_GIVE_A_TABLE}")
            files[name] = path
    return [Case(str(key), key, files, is_chosen=masks_too) for key, files in sorted(cases.items())]


_GIVE_A_TABLE = "Rename files or narrow --pattern; or say in a table (.csv) which files are one case."


def _volumes_of(
    name: str, folder: pathlib.Path, names: Iterable[str], paths: Iterable[pathlib.Path]
) -> list[pathlib.Path]:
    """The files of an input in a folder: those that say its name, or, where none does, those that say no name."""
    found = {path: _said(path.relative_to(folder), names) for path in paths}
    if unclear := [path for path, said in found.items() if name in said and len(said) > 1]:
        said = " and ".join(found[unclear[0]])
        raise ValueError(f"{unclear[0]} may be {said} by its name. {_GIVE_A_TABLE}")
    files = [path for path, said in found.items() if said == [name]] or [p for p, said in found.items() if not said]
    if not files:
        raise FileNotFoundError(f"No file in {folder} is {name} by its name. {_GIVE_A_TABLE}")
    return files


def _said(relative: pathlib.PurePath, names: Iterable[str]) -> list[str]:
    """Which of the inputs' names a path says."""
    path = relative.with_name(_stem(relative))
    return [name for name in names if any(re.search(_word(name), part, re.IGNORECASE) for part in path.parts)]


def _without(name: str, path: pathlib.PurePath) -> pathlib.PurePath | None:
    """A path without the input's name in it, None if nothing is left."""
    parts = [re.sub(_word(name), "", part, flags=re.IGNORECASE).lstrip("-_. ") for part in path.parts]
    parts = [part for part in parts if part]
    return pathlib.PurePath(*parts) if parts else None


def _word(name: str) -> str:
    """An input's name as a word of a file's name, with what parts it from the word before; BIDS writes T1 as T1w."""
    return rf"(?:^|[-_. ]+){re.escape(name)}w?(?=[-_. ]|$)"


# --- a table ---


def _in_table(table: pathlib.Path, output: pathlib.Path) -> list[Case]:
    """Cases of a table with the columns subject, one for each input and, optionally, mask; its paths are relative to
    the table's folder, and an empty cell is a missing input.
    """
    cases: dict[str, Case] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            if "subject" not in columns or len(set(columns)) < len(columns):
                raise ValueError(
                    f"{table} has the columns {', '.join(columns) or 'none'}; expected subject, one for each input of "
                    "the model and, optionally, mask, each once."
                )
            for row in reader:
                case = _of_row(f"{table}, line {reader.line_num}", row, table.parent)
                if case.label in cases:
                    raise ValueError(f"{table} has subject {case.label} twice. Give each case a name of its own.")
                for path in case.files.values():
                    _check_apart_from_file(path, output)
                cases[case.label] = case
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table} is not a table of comma-separated UTF-8 text ({error}). Save it as such.") from error
    if not cases:
        raise ValueError(f"{table} has no row. Expected one for each case.")
    return list(cases.values())


def _of_row(where: str, row: Mapping[str | None, str | None], folder: pathlib.Path) -> Case:
    if None in row or None in row.values():
        raise ValueError(f"{where}: expected as many cells as the table has columns.")
    cells = {column: text.strip() for column, text in row.items()}
    subject, mask = cells.pop("subject"), cells.pop("mask", "")
    name = pathlib.PurePath(subject)
    if not name.parts or name.is_absolute() or ".." in name.parts:
        raise ValueError(f"{where}: subject is {subject!r}; expected a name, of which results' names can be made.")
    files = {column: folder / pathlib.Path(path).expanduser() for column, path in cells.items() if path}
    if not files:
        raise ValueError(f"{where}: {subject} has no volume. Expected the path of one at least.")
    return Case(subject, name, files, folder / pathlib.Path(mask).expanduser() if mask else None)


def _check_apart_from_file(path: pathlib.Path, output: pathlib.Path) -> None:
    if output.resolve() == path.resolve().parent:
        raise ValueError(
            f"--output={output} is the folder of {path}. Give another folder, so that no result is taken for a scan."
        )
