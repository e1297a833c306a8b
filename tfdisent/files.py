"""Files that are there whole or not at all, and their checksums."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    The name keeps its ending, by which some writers choose a format. What a failed block wrote is removed.

    Raises:
        OSError: the file cannot be written or moved.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """An empty folder beside `path`, which takes the place of `path` when the block ends without an error.

    A folder that is at `path` then is moved aside before it is deleted, so that a killed process leaves a whole folder
    or none. What a killed process left beside `path` is removed first.

    Raises:
        OSError: the folder cannot be written or moved.
    """
    path = pathlib.Path(path)
    temporary, old = (path.with_name(f".{path.name}.{part}") for part in ("writing", "deleting"))
    for left in (temporary, old):
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def delete_folder(path: str | os.PathLike) -> None:
    """Deletes a folder; a process that is killed meanwhile leaves it whole, or under the name `.<name>.deleting`.

    Raises:
        OSError: the folder cannot be renamed.
    """
    path = pathlib.Path(path)
    old = path.with_name(f".{path.name}.deleting")
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: str | os.PathLike, text: str) -> pathlib.Path:
    """Writes UTF-8 text whole or not at all; returns the path."""
    path = pathlib.Path(path)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: str | os.PathLike, content: Any) -> pathlib.Path:
    """Writes JSON whole or not at all; returns the path."""
    return write_text(path, json.dumps(content, indent=1) + "\n")


def sha256(path: str | os.PathLike) -> str:
    """Checksum of a file's content, in hexadecimal."""
    with pathlib.Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
