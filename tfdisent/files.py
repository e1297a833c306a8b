"""Files that are there whole or not at all, their checksums, and folders that one process has at a time."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import socket
import time
from collections.abc import Iterator
from typing import Any

from tfdisent.messages import say

_CLUTTER = {
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"),
    *("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"),
}
LOCK, OWNER = ".lock", ".lock.json"  # in a folder that is locked: what the system locks, and who did


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


def read_json(path: str | os.PathLike) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, naming it.
    """
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, it is no JSON: {error}. Restore it from a copy.") from None


def sha256(path: str | os.PathLike) -> str:
    """Checksum of a file's content, in hexadecimal."""
    with pathlib.Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(folder: str | os.PathLike, task: str, *, wait: bool = False) -> Iterator[None]:
    """One process at a time is inside the block for a folder; within a thread, blocks may lie in one another.

    The lock is the operating system's: it is free as soon as its owner has ended, also by `kill -9`, and the `.lock`
    that stays in the folder means nothing.

    Args:
        folder: made where it is missing; it must not be moved or deleted inside the block.
        task: what is done in it, "training", for the message that others get.
        wait: whether to wait, after one message, until the folder is free.

    Raises:
        BlockingIOError: another process has the folder, naming the process, and there is no waiting.
        OSError: the lock cannot be written.
    """
    import filelock  # what locks nothing need not wait for it

    folder = pathlib.Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK, is_singleton=True)  # one object for all blocks of a thread
    is_outermost = not lock.is_locked
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        owner = _owner(folder)
        if not wait:
            raise BlockingIOError(
                f"{folder} is in use by {owner}. Wait until that process ends, stop it, or choose another folder."
            ) from None
        say(f"waiting for {owner}, which has {folder}")
        lock.acquire(poll_interval=0.2)
    try:
        if is_outermost:
            write_json(
                folder / OWNER,
                {
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "task": task,
                    "since": time.strftime("%Y-%m-%d %H:%M:%S"),
                },
            )
        yield
    finally:
        if is_outermost:
            (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def _owner(folder: pathlib.Path) -> str:
    """Who has locked a folder, in words. A record of a killed process, or none, is there only for a moment."""
    for _ in range(10):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            owner = json.loads((folder / OWNER).read_text(encoding="utf-8"))
            if owner["host"] != socket.gethostname() or _is_running(owner["pid"]):
                return "process {pid} on {host} ({task} since {since})".format(**owner)
        time.sleep(0.1)
    return "another process"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    return True


def is_clutter(name: str) -> bool:
    """Whether a file or folder is by its name none of the user's data: hidden (.DS_Store, ._scan.nii, .git), or left
    behind by a file browser, an archiver or an office program (Thumbs.db, __MACOSX).
    """
    return name.startswith((".", "~$")) or name.lower() in _CLUTTER
