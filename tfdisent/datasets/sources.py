"""What lies in a raw folder: its files, its tables, which files are the same, and which one of several is meant.

Every data set looks at its raw data through these functions, so that what other programs leave beside data (Thumbs.db,
.DS_Store, prepared data sets of our own) is passed over in all of them, a table that is no text is named, and of two
files that could be meant neither is taken without a word.
"""

import codecs
import csv
import functools
import gzip
import hashlib
import io
import os
import pathlib
import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from tfdisent.files import is_clutter

_T = TypeVar("_T")
_SAMPLE = 2**16  # bytes of a volume's files, at each of the places that are looked at
_DATA_FILE = re.compile(rb"^\s*ElementDataFile\s*=\s*(\S.*?)\s*$", re.MULTILINE)


class Row(NamedTuple):
    """A line of a table: its number in the file, and its values by column."""

    number: int
    values: dict[str, str]


# --- files ---


def files_under(raw_dir: pathlib.Path) -> list[pathlib.Path]:
    """All files below a folder in the order of their paths, also behind links to folders, each folder once.

    Left out are what file browsers and archivers leave behind (`tfdisent.files.is_clutter`), folders of prepared data
    sets, which may lie in the raw folder, and folders that vanish meanwhile.
    """
    found, seen = [], set()
    for folder, folders, names in os.walk(raw_dir, followlinks=True):
        try:
            status = os.stat(folder)
        except OSError:  # it vanished since its names were read; a file that is missed is told when it is looked for
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in seen or _is_prepared(folder, folders, names):
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # Links last: a folder that is reached by both is called by its own name.
        folders[:] = sorted(
            (name for name in folders if not is_clutter(name)),
            key=lambda name: (os.path.islink(os.path.join(folder, name)), name),
        )
        found += [pathlib.Path(folder, name) for name in names if not is_clutter(name)]
    return sorted(found)


def _is_prepared(folder: str, folders: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a folder holds a prepared data set, or what a killed preparation left of one."""
    partial = ".partial" in folders and os.path.isfile(os.path.join(folder, ".partial", "plan.json"))
    return partial or {"manifest.json", "dataset_info.json", "features.json"} <= set(names)


def parts_of(path: str | os.PathLike) -> list[pathlib.Path]:
    """The files of a volume: of a folder those in it, of a MetaImage header also the file of its voxels."""
    path = pathlib.Path(path)
    if path.is_dir():
        return sorted(part for part in path.iterdir() if part.is_file() and not is_clutter(part.name))
    if path.suffix.lower() == ".mhd" and path.is_file():
        with path.open("rb") as file:
            named = _DATA_FILE.findall(file.read(_SAMPLE))
        if named and (data := path.parent / os.fsdecode(named[-1])).is_file():
            return [path, data]
    return [path]


def one_of_each(name: str, found: Mapping[str, Iterable[str | os.PathLike]]) -> tuple[dict[str, str], str]:
    """The file of each role (a modality, a mask) of what is called `name`, and a problem that names two files of one
    role where there are several.
    """
    chosen, problem = {}, ""
    for role, paths in found.items():
        first, *others = sorted(map(str, paths))
        chosen[role] = first
        if others and not problem:
            problem = f"{name} has two files for {role}: {first} and {others[0]}. Remove one."
    return chosen, problem


def one_of_copies(paths: Iterable[str | os.PathLike]) -> tuple[str, str]:
    """The first of several files that should be copies of one, and a problem that names two that are not."""
    first, *others = sorted(map(str, paths))
    if not others:
        return first, ""
    same = {path for group in same_content([first, *others]) if first in group for path in group}
    differing = [path for path in others if path not in same]
    return first, f"{first} and {differing[0]} have one name and differ. Remove one." if differing else ""


# --- content ---


def remembered(read: Callable[..., _T]) -> Callable[..., _T]:
    """`read(path, **options)` that opens a file, or those of a folder, again only when size or time have changed."""

    @functools.lru_cache(maxsize=2**17)
    def of_state(path: str, state: Hashable, **options: Hashable) -> _T:
        return read(path, **options)

    @functools.wraps(read)
    def remembering(path: str | os.PathLike, **options: Hashable) -> _T:
        parts = sorted(os.scandir(path), key=lambda part: part.name) if os.path.isdir(path) else [pathlib.Path(path)]
        states = [part.stat() for part in parts]
        return of_state(
            str(path), tuple((s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in states), **options
        )

    return remembering


def same_content(paths: Iterable[str | os.PathLike]) -> list[list[str]]:
    """Groups of two and more volumes or pictures whose files have the same content, in the order of `paths`.

    A file that ends in .gz is compared as unpacked; of a folder the files are compared, and not their names. Little is
    read: sizes are compared first, then the checksum at the end of gzipped files and samples of others (three of 64 KiB
    a volume), and all of the content only where these agree. Files that are empty or cannot be read are equal to none.
    """
    groups = grouped(dict.fromkeys(map(str, paths)), _size)
    for kind in (_mark, _checksum):
        groups = [same for group in groups for same in grouped(group, functools.partial(kind, is_mixed=_mixed(group)))]
    return groups


def grouped(names: Iterable[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    """Groups of two and more names that have the same key; one whose files cannot be read for it is in none."""
    groups = defaultdict(list)
    for name in names:
        try:
            groups[key(name)].append(name)
        except (OSError, ValueError, EOFError, zlib.error):  # which is told when the file is read
            continue
    return [group for group in groups.values() if len(group) > 1]


def _is_packed(path: str | os.PathLike) -> bool:
    return os.fspath(path).lower().endswith(".gz")


def _mixed(group: Sequence[str]) -> bool:
    return len(set(map(_is_packed, group))) > 1


def _size(path: str) -> tuple[int, ...]:
    """Sizes of a volume's files, as unpacked, without those of texts that name the files beside them."""
    sizes = tuple(sorted(_trailer(str(part))[1] if _is_packed(part) else part.stat().st_size for part in _voxels(path)))
    if not any(sizes):
        raise EOFError(f"{path} is empty")
    return sizes


def _mark(path: str, is_mixed: bool) -> Hashable:
    """What tells most files of one size apart; the same for a gzipped and a plain file if `is_mixed`."""
    parts = _voxels(path)
    size = max(512, _SAMPLE // len(parts))

    def mark(part: str) -> str:
        if _is_packed(part):
            return str(_trailer(part)[0])
        return str(_crc(part)) if is_mixed else _sample(part, size=size)

    return tuple(sorted(mark(str(part)) for part in parts))


@remembered
def _trailer(path: str) -> tuple[int, int]:
    """CRC-32 and size (modulo 2**32) of what a gzip file holds, as it says itself."""
    with open(path, "rb") as file:
        file.seek(-8, os.SEEK_END)
        crc, size = (int.from_bytes(file.read(4), "little") for _ in range(2))
    return crc, size


@remembered
def _sample(path: str, size: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        for place in (0, (end - size) // 2, end - size):
            file.seek(max(0, place))
            digest.update(file.read(size))
    return digest.hexdigest()


@remembered
def _crc(path: str) -> int:
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(2**20):
            crc = zlib.crc32(block, crc)
    return crc


def _checksum(path: str, is_mixed: bool) -> tuple[str, ...]:
    return tuple(sorted(_checksum_of_part(str(part)) for part in _voxels(path)))


@remembered
def _checksum_of_part(path: str) -> str:
    digest = hashlib.sha256()
    with (gzip.open if _is_packed(path) else open)(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _voxels(path: str) -> list[pathlib.Path]:
    """The files of a volume that hold its voxels."""
    parts = parts_of(path)
    return parts[1:] if len(parts) == 2 and parts[0] == pathlib.Path(path) else parts


# --- names ---


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key by which names sort as people count: 1, 2, 10, and a2 before a10."""
    parts = re.split(r"([0-9]+)", text)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ in case, leading zeros, blanks or the form of Unicode alone: P1 and p1, 001 and 1."""
    groups = defaultdict(list)
    for name in dict.fromkeys(names):
        plain = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups[re.sub(r"(?<![0-9])0+(?=[0-9])", "", plain)].append(name)
    return [group for group in groups.values() if len(group) > 1]


# --- tables ---


def read_text(path: pathlib.Path) -> str:
    """A text in UTF-8, with or without a byte order mark.

    Raises:
        OSError: it cannot be read.
        ValueError: it is of another encoding, or holds zero bytes, as UTF-16 does.
    """
    content = path.read_bytes()
    try:
        text, place = content.decode("utf-8-sig"), content.find(0)
    except UnicodeDecodeError as error:
        text, place = "", error.start
    if place < 0:
        return text
    line = content[:place].count(b"\n") + 1
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or content[place] == 0
    name, code = ("UTF-16", "UTF-16") if is_wide else ("Latin-1", "LATIN1")
    raise ValueError(
        f"{path}, line {line}: byte {content[place]:#04x} is not UTF-8 text. Save it in UTF-8; if it is in {name}: "
        f"iconv -f {code} -t UTF-8 {path.name}"
    )


def read_table(path: pathlib.Path, delimiters: str = ",\t;", *, lower: bool = False) -> tuple[list[str], list[Row]]:
    """Columns and rows of a table with a header; the delimiter is whichever of those the header holds most of.

    Args:
        path: the table.
        delimiters: which may be.
        lower: names of columns become lower case.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not text in UTF-8, has a column twice, or a row of another number of values.
    """
    text = read_text(path)
    header = re.split(r"[\r\n]", text, maxsplit=1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(delimiters, key=header.count))
    rows = []
    try:
        columns = [name.strip() for name in next(reader, [])]
        if lower:
            columns = [name.lower() for name in columns]
        if len(set(columns)) < len(columns):
            raise ValueError(f"{path} has a column twice: {', '.join(columns)}.")
        for row in reader:
            values = [value.strip() for value in row]
            if not any(values):
                continue
            if len(values) != len(columns):
                raise ValueError(f"{path}, line {reader.line_num}: {len(values)} values, expected {len(columns)}.")
            rows.append(Row(reader.line_num, dict(zip(columns, values, strict=True))))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}.") from error
    return columns, rows
