"""Preparation by the processes of this machine, and its progress.

`tfdisent.datasets.shards` is imported by the functions that need it: a worker process imports this module to start, and
is to import TensorFlow only where its start-up noise is filtered.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import sys
import threading
from typing import TYPE_CHECKING

from tfdisent.messages import Progress, without_startup_noise

if TYPE_CHECKING:
    from tfdisent.datasets.shards import Task

OUTCOMES = ("good", "skipped", "failed")


class UnitProgress:
    """Shows how many units were good, skipped and failed; a thread looks at `counts` five times a second.

    Args:
        name: of the data set.
        total: how many units it has.
        good, skipped: how many of them an earlier run has written or left out.

    Attributes:
        counts: of the units read since, by `OUTCOMES`: a list, or an array that worker processes share and add to.
    """

    def __init__(self, name: str, total: int, good: int = 0, skipped: int = 0):
        self.counts = [0] * len(OUTCOMES)
        self._before = (good, skipped, 0)
        self._shown = Progress(name, total, "unit", done=good + skipped)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show_until_the_end, daemon=True)

    def __enter__(self) -> UnitProgress:
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._ended.set()
        self._thread.join()
        self._show()
        self._shown.close()

    def _show_until_the_end(self) -> None:
        while not self._ended.wait(0.2):
            self._show()

    def _show(self) -> None:
        counts = [now + before for now, before in zip(self.counts, self._before, strict=True)]
        details = ", ".join(f"{count} {outcome}" for count, outcome in zip(counts, OUTCOMES, strict=True))
        self._shown.update(sum(counts), details)


def write_shards(tasks: list[Task], progress: UnitProgress, workers: int | None = None) -> None:
    """Writes shards, each with its entry for the manifest.

    Args:
        tasks: the shards to write.
        progress: counts their units.
        workers: processes, at most one a shard; 1 works in this process. By default one a core.

    Raises:
        ValueError: a unit could not be read, and `on_error` is "fail".
        OSError: a shard cannot be written, or a worker process died.
    """
    workers = min(workers or os.cpu_count() or 1, len(tasks))
    if workers == 1:
        for task in tasks:
            _write(task, progress.counts)
        return
    # Spawned, not forked: TensorFlow's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    progress.counts = context.Array("q", len(OUTCOMES))
    told_to_end, tell_to_end = context.Pipe(duplex=False)
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(progress.counts, told_to_end)
    )
    try:
        for future in concurrent.futures.as_completed([pool.submit(_write_in_worker, task) for task in tasks]):
            future.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise OSError(_why_a_worker_died()) from error
    except Exception:
        raise  # after the shards that are being written
    except BaseException:  # Ctrl-C, or SIGTERM: at once
        tell_to_end.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        tell_to_end.close()
        told_to_end.close()


def check_not_starting() -> None:
    """Ends a worker process that still imports the script which started it: it would wait for its own parent.

    Raises:
        RuntimeError: this is such a process.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself asks
        raise RuntimeError('A script prepares data under `if __name__ == "__main__":`, which this one lacks.')


_counts = None  # of a worker process: what it shares with its parent


def _start_worker(counts, told_to_end) -> None:
    global _counts
    _counts = counts
    threading.Thread(target=_end_when_told, args=(told_to_end,), daemon=True).start()
    with without_startup_noise():
        from tfdisent.datasets import shards  # noqa: F401


def _end_when_told(told_to_end: multiprocessing.connection.Connection) -> None:
    """Ends this process when its parent closes the other end, or has ended itself, in whatever way."""
    multiprocessing.connection.wait([told_to_end, multiprocessing.parent_process().sentinel])
    os._exit(1)


def _write_in_worker(task: Task) -> None:
    _write(task, _counts)


def _write(task: Task, counts) -> None:
    from tfdisent.datasets.shards import read_unit, write_shard

    def results():
        for unit in task.units:
            result = read_unit(task, unit)
            outcome = "good" if not result.error else "skipped" if task.on_error == "skip" else "failed"
            with getattr(counts, "get_lock", contextlib.nullcontext)():
                counts[OUTCOMES.index(outcome)] += 1
            yield result

    write_shard(task, results())


def _why_a_worker_died() -> str:
    """The likeliest cause first: each worker imports the script that runs, if it runs one."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is not None and not os.path.isfile(script):
        return f"Worker processes cannot import {script}. Save the script as a file, or use workers=1."
    if script is not None and "__name__" not in pathlib.Path(script).read_text(encoding="utf-8", errors="replace"):
        return (
            f'{script} has no `if __name__ == "__main__":`, so that each worker process runs it from the start, and '
            "died. Put what the script does under that line, or use workers=1."
        )
    return "A worker process died, probably by lack of memory. Use fewer workers."
