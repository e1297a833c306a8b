"""Takes the space away from each stage of a run, as a full disk or a quota does, and runs it again.

    python -m tests.campaigns.disk --tries=20 [--faults=size,disk,temporary]

The stage must end with an error, not by a signal, and succeed afterwards with what an unbroken run leaves.

* size: RLIMIT_FSIZE, at random between nothing and the size of one of the files that the stage leaves, so that small
  and large ones are cut alike: writing beyond is an error (EFBIG), as ENOSPC is on a full disk.
* disk: the folder of the run and its export, or of the data, is a tmpfs that is too small. Needs root, as the next.
* temporary: the folder of temporary files is a tmpfs without a free byte. A stage that writes none succeeds.
"""

import argparse
import contextlib
import math
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import tempfile

import keras

from tests.campaigns import common, crash, runs

FAULTS = {"size": "files of limited size", "disk": "full disk", "temporary": "full temporary folder"}
PAGE = 4096  # bytes, which a tmpfs has at least


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tries", type=int, default=20, help="of each row in all, those in --output counted in")
    parser.add_argument("--stages", default="preparation,training,evaluation,export")
    parser.add_argument("--kind", default="skin_phantom", help="of data that are prepared")
    parser.add_argument("--faults", default="size", help="size, disk and temporary, separated by commas")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of tries in all; rows take turns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("disk.json"))
    given = parser.parse_args()
    table = common.Table(given.output)
    rng = table.rng(given.seed)
    runs.preload()
    with tempfile.TemporaryDirectory() as folder:
        backend, begun = keras.backend.backend(), {}
        rows = [
            {"backend": backend, "fault": FAULTS[fault], "in": name}
            for fault in given.faults.split(",")
            for name in given.stages.split(",")
        ]
        for row in table.in_turn(rows, given.tries, given.minutes):
            name = row["in"]
            if name not in begun:
                kind = given.kind if name == "preparation" else None
                begun[name] = crash.Stage(pathlib.Path(folder), name, kind)
            table.add(row | full(begun[name], row["fault"], rng))
        table.show()


def full(stage: crash.Stage, fault: str, rng: random.Random) -> dict:
    """Does a stage without the space for it, and then with; returns what is counted."""
    here, temporary = stage.folder / "try", stage.folder / "tmp"
    here.mkdir()
    temporary.mkdir(exist_ok=True)
    task = stage.task(here)
    kept = sum(path.stat().st_size for path in stage.before.rglob("*") if path.is_file())
    with contextlib.ExitStack() as mounted:
        if fault == FAULTS["disk"]:
            mounted.enter_context(small(here, kept + rng.uniform(0, sum(stage.sizes) - kept)))
        shutil.copytree(stage.before, here, dirs_exist_ok=True)
        attempt = task
        if fault == FAULTS["size"]:
            attempt = limited(task, int(rng.choice(stage.sizes) * rng.random()))
        if fault == FAULTS["temporary"]:
            mounted.enter_context(small(temporary, 0))
            (temporary / "full").write_bytes(bytes(PAGE))
            attempt = without_temporary(task, temporary)
        status = common.ended(common.forked(attempt, stage.log), 600)
        if status is None or status < 0:
            print(f"{stage.name}: exit status {status}\n{stage.log.read_text()[-500:]}", flush=True)
        if fault == FAULTS["disk"]:
            subprocess.run(["mount", "-o", "remount,size=4g", str(here)], check=True)
        is_finished = common.finished(task, stage.log)
        if not is_finished:
            print(stage.log.read_text()[-1000:], flush=True)
        counts = {
            "tries": 1,
            "told": int(status == 1),
            "killed": int(status is None or status < 0),
            "lost": int(not is_finished),
            "differing": int(is_finished and stage.differs(here)),
        }
    shutil.rmtree(here)
    return counts


def without_temporary(task, folder: pathlib.Path):
    """The task with its temporary files in a folder that is full."""

    def run():
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        task()

    return run


def limited(task, size: int):
    """The task with files of at most `size` bytes."""

    def run():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        os.environ["TMPDIR"] = tempfile.gettempdir()
        task()

    return run


@contextlib.contextmanager
def small(folder: pathlib.Path, size: float):
    """A tmpfs of this size at the folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(size) + PAGE}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


if __name__ == "__main__":
    main()
