"""Lets files grow no further than a limit, as a full disk or a quota does, in each stage of a run, and runs it again.

    python -m tests.campaigns.disk --tries=20

The limit is RLIMIT_FSIZE, at random between nothing and the largest file that the stage writes: writing beyond is an
error (EFBIG), as ENOSPC is on a full disk. The stage must end with an error, not by a signal, and succeed afterwards
with what an unbroken run leaves. With --mount (needs root) the run's folder is a tmpfs that is too small instead.
"""

import argparse
import contextlib
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import tempfile

from tests.campaigns import common, crash, runs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--stages", default="preparation,training,evaluation,export")
    parser.add_argument("--mount", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("disk.json"))
    given = parser.parse_args()
    rng = random.Random(given.seed)
    runs.preload()
    with tempfile.TemporaryDirectory() as folder:
        rows = [full(pathlib.Path(folder), stage, given, rng) for stage in given.stages.split(",")]
    common.report(rows, given.output)


def full(work: pathlib.Path, stage: str, given, rng: random.Random) -> dict:
    """The row of one stage."""
    kind = "skin_phantom" if stage == "preparation" else None
    before, expected, _ = crash.prepared(work / stage, stage, kind)
    whole = work / stage / f"{stage}-{kind}-whole"
    sizes = [path.stat().st_size for path in whole.rglob("*") if path.is_file()]
    told = killed = lost = differing = 0
    for _ in range(given.tries):
        here = work / "try"
        here.mkdir()
        task = crash.task(work / stage, stage, kind, here)
        kept = sum(path.stat().st_size for path in before.rglob("*") if path.is_file())
        with small(here, kept + rng.uniform(0, sum(sizes) - kept)) if given.mount else contextlib.nullcontext():
            shutil.copytree(before, here, dirs_exist_ok=True)
            task_in = task if given.mount else limited(task, rng.randrange(max(sizes)))
            pid = common.forked(task_in, work / "log")
            status = common.ended(pid, 600)
            told += status == 1
            killed += status is None or status < 0
            if status is not None and status < 0:
                print(f"{stage}: signal {-status}\n{(work / 'log').read_text()[-500:]}", flush=True)
            if given.mount:
                subprocess.run(["mount", "-o", "remount,size=4g", str(here)], check=True)
            if not common.finished(task, work / "again"):
                lost += 1
                print((work / "again").read_text()[-1000:], flush=True)
            else:
                differing += crash.left(stage, here) != expected
        shutil.rmtree(here)
    return {
        "fault": f"no space in {stage}",
        "tries": given.tries,
        "told": told,
        "killed": killed,
        "lost": lost,
        "differing": differing,
    }


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
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(size) + 4096}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


if __name__ == "__main__":
    main()
