"""What of a run may leave the machine: no names of subjects, no paths, no file names of raw data.

Reports and model cards are made to be passed on, and folders of medical images carry patients' names. What both may say
is decided here: of a manifest only what `data_summary` gives; of any other content no absolute path, and of lists of
subjects, shards or files that were left out only their length; of a command the names of its folders' flags. A rule
that is in doubt takes a word too many rather than leave a name.

Prepared data are passed on too. `hash_key` and `digest` put digests in place of their subjects' names: who has the key
can tell which digest a name has, and nobody else can, though he had a list of all names.
"""

import hashlib
import hmac
import math
import numbers
import os
import pathlib
import re
import secrets
import shlex
import stat
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
# A key is as long as the digest that it goes into; a shorter one could be guessed.
_KEY_BYTES = 32
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


def hash_key(path: str | os.PathLike | None = None, *, outside: str | os.PathLike | None = None) -> bytes:
    """The key by which subjects are hashed: what the file holds, which is made with a random one if it does not exist.

    Args:
        path: the file; by default `tfdisent/subjects.key` in the user's folder of settings (XDG_CONFIG_HOME, or else
            ~/.config). It is made for the user's eyes alone (mode 0600).
        outside: a folder in which the key must not lie, since it is passed on.

    Raises:
        ValueError: the file lies in `outside`, others may read it, or it is too short to be a key.
        OSError: it cannot be read or made.
    """
    path = pathlib.Path(path).expanduser() if path is not None else _default_key_file()
    if outside is not None and path.resolve().is_relative_to(pathlib.Path(outside).expanduser().resolve()):
        raise ValueError(
            f"The key {path} lies in {outside}, which is passed on with the prepared data: who has both can tell names "
            "again. Keep the key elsewhere."
        )
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = _new_key(path)
    key = key.strip()
    if os.name == "posix" and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise ValueError(f"The key {path} is open to other users (mode {mode:04o}). Close it: chmod 600 {path}")
    if len(key) < _KEY_BYTES:
        raise ValueError(
            f"The key {path} has {len(key)} bytes, expected {_KEY_BYTES} or more, which nobody can guess. Give "
            "a file that does not exist yet, and it is made with a random key."
        )
    return key


def digest(key: bytes, text: str) -> str:
    """What stands for a name: HMAC-SHA-256 under the key, its first 64 bits in hexadecimal."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:16]


def _default_key_file() -> pathlib.Path:
    settings = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return pathlib.Path(settings).expanduser() / "tfdisent" / "subjects.key"


def _new_key(path: pathlib.Path) -> bytes:
    """Makes a key and returns it, or the one that another process made meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
        os.link(temporary, path)  # fails where there is one, which a rename would replace
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)
    return path.read_bytes()


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
