"""What of a run may leave the machine: no names of subjects, no paths, no file names of raw data.

Reports and model cards are made to be passed on, and folders of medical images carry patients' names. What both may say
is decided here: of a manifest only what `data_summary` gives; of any other content no absolute path, and of lists of
subjects, shards or files that were left out only their length; of a command the names of its folders' flags. A rule
that is in doubt takes a word too many rather than leave a name.
"""

import math
import numbers
import os
import pathlib
import re
import shlex
from collections.abc import Mapping
from typing import Any

# What of a data set's manifest may be said as it is.
PUBLIC = (
    "dataset",
    "version",
    "description",
    "homepage",
    "image_shape",
    "image_dtype",
    "modalities",
    "labels",
    "condition_names",
    "domains",
    "factor_names",
    "seed",
    "citation",
    "licence",
)
# Of these only the number may be said.
COUNTED = ("subjects", "skipped", "shards")
# Flags whose value is not told, though it be a relative path.
PRIVATE_FLAGS = ("raw_dir",)

_BEFORE = r"""(?<![^\s"'`=(\[{>|,;:])"""  # a path does not begin inside a word, a ratio or a tag
_START = rf"""(?:
    {_BEFORE}~(?:[A-Za-z_][\w.-]*)?/       # a home folder
  | {_BEFORE}/(?!/)                        # POSIX
  | {_BEFORE}(?<!:)//(?=[^/\s])            # a network share; after a colon it is an address of the web
  | {_BEFORE}\\\\                          # a network share of Windows
  | (?<!\w)[A-Za-z]:[\\/](?!/)             # a drive
  | (?<!\w)(?:file:|(?:smb|nfs|afp|s?ftp|ssh|scp)://)
)"""
_LETTER = r"""[^\s"'`,;:)\]}<>|]"""
# Marks that end a path before a blank, and are part of it before a letter: /scans/Roe,Jane/1.nii, /scans/O'Jane/1.nii
_INNER = r"(?: [,;)\]}'](?=\w) | :(?=[\w\\/]) )"
# Blanks inside of a path: a few words, up to the next separator, as in /scans/Jane van Roe/1.nii
_BLANKS = r"""(?:[ ](?!-)[^\s/\\"'`,;:=()\[\]{}<>|]+){1,3}[\\/]"""
_PATH = re.compile(
    rf"""(?P<quote>["'`])(?P<quoted>{_START}(?:[^"'`\n]|'(?=\w))+)(?P=quote)
       | (?P<plain>{_START}(?:{_LETTER}|{_INNER}|{_BLANKS})+)""",
    re.VERBOSE,
)
_FLAG = re.compile(rf"""(?P<flag>--?(?:{"|".join(PRIVATE_FLAGS)})(?:=|\s+))(?P<value>"[^"]*"|'[^']*'|\S+)""")


def without_paths(text: Any, mark: str = "[path]", inside: str | os.PathLike | None = None) -> str:
    """Returns a text in which a mark stands for each absolute path and for the value of each private flag.

    Args:
        text: whatever is to be shown, as `str` gives it.
        mark: what stands for a path.
        inside: a folder; paths in it become relative to it.
    """
    text = str(text)

    def shown(path: str) -> str:
        return _relative(path, inside) or mark

    # A whole value may be a path with any letters in it, where a pattern would end too early.
    if "\n" not in text and _is_path(text):
        return shown(text)

    def replaced(match: re.Match) -> str:
        if match["quoted"]:
            return f"{match['quote']}{shown(match['quoted'])}{match['quote']}"
        return shown(match["plain"])

    text = _PATH.sub(replaced, text)
    return _FLAG.sub(lambda match: match["flag"] + mark, text)


def publishable(value: Any, mark: str = "<path>") -> Any:
    """Returns a copy in plain JSON values, without paths and with counts for lists of subjects; NaN becomes null.

    Args:
        value: mappings, lists, texts, numbers, paths and arrays.
        mark: what stands for a path.
    """
    if isinstance(value, Mapping):
        return {
            without_paths(key, mark): _count(item) if key in COUNTED else publishable(item, mark)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [publishable(item, mark) for item in value]
    if isinstance(value, str | os.PathLike):
        return without_paths(value, mark)
    if hasattr(value, "tolist"):  # numpy
        return publishable(value.tolist(), mark)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def data_summary(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what may be said of a manifest: what the data are and how many, but not whose."""
    summary = {name: manifest[name] for name in PUBLIC if manifest.get(name) not in (None, "", (), [], {})}
    for name, split in (manifest.get("splits") or {}).items():
        labels = ", ".join(f"{label} {n}" for label, n in (split.get("label_counts") or {}).items())
        text = f"{split.get('num_examples')} examples of {_count(split.get('subjects') or ())} subjects"
        summary[f"{name} split"] = f"{text}: {labels}" if labels else text
    if skipped := manifest.get("skipped"):
        summary["skipped"] = _count(skipped)
    return summary


def public_command(command: str, inside: str | os.PathLike | None = None) -> str:
    """Returns a command in which folders are the names of their flags, `--data_dir=DATA_DIR`, and other paths a mark.

    Args:
        command: as typed in a shell.
        inside: a folder; paths in it become relative to it.
    """
    try:
        words = shlex.split(command)
    except ValueError:  # an unpaired quote: no command, but words all the same
        return without_paths(command, inside=inside)
    shown, before = [], ""
    for word in words:
        flag, equals, value = word.partition("=")
        name = flag.lstrip("-") if flag.startswith("-") else ""
        if before in PRIVATE_FLAGS and not name:  # its value, as in --raw_dir DIR
            word = before.upper()
        elif name and equals and (name in PRIVATE_FLAGS or without_paths(value, inside=inside) != value):
            word = f"{flag}={name.upper()}"
        else:
            word = without_paths(word, inside=inside)
        before = name if not equals else ""
        shown.append(word if word == "[path]" else shlex.quote(word))
    return " ".join(shown)


def _count(items: Any) -> int:
    if items is None or isinstance(items, numbers.Integral):
        return int(items or 0)
    return 1 if isinstance(items, str) else len(items)


def _is_path(text: str) -> bool:
    windows, posix = pathlib.PureWindowsPath(text), pathlib.PurePosixPath(text)
    return posix.is_absolute() or windows.is_absolute() or bool(re.match(r"~[\w.-]*/|file:", text))


def _relative(path: str, inside: str | os.PathLike | None) -> str | None:
    """The path relative to the folder, or None if it leads out of it."""
    path = pathlib.Path(path)
    if inside is None or ".." in path.parts:
        return None
    for root in (pathlib.Path(inside).absolute(), pathlib.Path(inside).resolve()):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return None
