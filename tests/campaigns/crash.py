"""Stops each stage of a run at random moments by kill -9, SIGTERM and SIGINT, runs it again, and compares.

    python -m tests.campaigns.crash --tries=100 [--stages=preparation,training,evaluation,export]
        [--signals=KILL,TERM,INT] [--stops=3]

A run is stopped `--stops` times, each time after some more of it, and then let finish: every one that goes on must do
so, the last must succeed, and what it leaves must equal what an unbroken run leaves, bit for bit. A try is one stop.
The report is part of the evaluation. KERAS_BACKEND picks the backend. `--output` is continued where it is there.
"""

import argparse
import math
import pathlib
import random
import shutil
import signal
import tempfile

import keras

from tests.campaigns import common, runs

BEFORE = {"training": (), "evaluation": ("training",), "export": ("training",)}  # what a stage takes
LONG = 10  # seconds of processor time, beside which imports are little


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tries", type=int, default=100, help="of each row in all, those in --output counted in")
    parser.add_argument("--stages", default="preparation,training,evaluation,export")
    parser.add_argument("--kinds", default=",".join(runs.DATA), help="of data that are prepared")
    parser.add_argument("--signals", default="KILL,TERM,INT")
    parser.add_argument("--stops", type=int, default=3, help="of a run until it is let finish")
    parser.add_argument("--workers", type=int, default=1, help="of a preparation")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of tries in all; rows take turns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("crash.json"))
    given = parser.parse_args()
    table = common.Table(given.output)
    rng = table.rng(given.seed)
    runs.preload()
    with tempfile.TemporaryDirectory() as folder:
        stages = {
            what(stage, kind, given.workers): (stage, kind)
            for stage in given.stages.split(",")
            for kind in (given.kinds.split(",") if stage == "preparation" else [None])
        }
        rows = [
            {"backend": keras.backend.backend(), "fault": f"SIG{name}", "in": name_of_stage}
            for name_of_stage in stages
            for name in given.signals.split(",")
        ]
        begun = {}
        for row in table.in_turn(rows, given.tries, given.minutes):
            if row["in"] not in begun:
                stage = begun[row["in"]] = Stage(pathlib.Path(folder), *stages[row["in"]], given.workers)
                print(f"{row['in']}: {stage.work:.2f} s of processor time unbroken", flush=True)
            table.add(row | broken(begun[row["in"]], getattr(signal, row["fault"]), given.stops, rng))
        table.show()


def what(stage: str, kind: str | None, workers: int) -> str:
    """The name of a stage in the table."""
    return f"{stage} of {kind}" + f", {workers} workers" * (workers > 1) if kind else stage


class Stage:
    """A stage of a run: the state from which it starts, and what it leaves unbroken.

    Attributes:
        expected: {file: checksum} of what an unbroken run leaves.
        sizes: of the files that an unbroken run leaves, in bytes.
        work: seconds of processor time that an unbroken run takes.
    """

    def __init__(self, folder: pathlib.Path, name: str, kind: str | None = None, workers: int = 1):
        self.name, self.kind, self.workers = name, kind, workers
        self.folder = folder / f"{name}-{kind}"
        self.log, self.before, whole = (self.folder / part for part in ("log", "before", "whole"))
        self.before.mkdir(parents=True)
        self.raw = runs.raw_data(kind, self.folder / "raw") if kind else None
        if name != "preparation":
            self._must(runs.preparation_of_run(self.folder / "data"))
            for earlier in BEFORE[name]:
                self._must(runs.stage(earlier, self.before, self.folder / "data"))
        for attempt in ("imports", "whole"):  # the second imports nothing, as the tries
            whole = self.folder / attempt
            shutil.copytree(self.before, whole)
            begin = common.work_of_children()
            self._must(self.task(whole))
            self.work = common.work_of_children() - begin
            if self.work > LONG:
                break
        self.expected = self.left(whole)
        self.sizes = [path.stat().st_size for path in whole.rglob("*") if path.is_file()]

    def _must(self, task) -> None:
        if not common.finished(task, self.log):
            raise SystemExit(f"An unbroken run failed:\n{self.log.read_text()}")
        common.import_as(self.log)

    def task(self, folder: pathlib.Path):
        """What does the stage in a copy of `before`."""
        if self.name == "preparation":
            return runs.preparation(self.kind, folder, self.raw, self.workers)
        return runs.stage(self.name, folder, self.folder / "data")

    def left(self, folder: pathlib.Path) -> dict[str, str]:
        """{file: checksum} of what the stage has left in a folder."""
        if self.name == "export":
            self._must(lambda: runs.outputs(folder / "models"))
        patterns = ("**/*.tfrecord-*", "**/manifest.json") if self.name == "preparation" else runs.LEFT[self.name]
        return common.checksums(folder, patterns)

    def differs(self, folder: pathlib.Path) -> bool:
        """Whether what is left in a folder is other than what an unbroken run leaves; says what is."""
        found = self.left(folder)
        names = {n for n in found.keys() | self.expected.keys() if found.get(n) != self.expected.get(n)}
        if names:
            print("differing:", sorted(names), flush=True)
        return bool(names)


def broken(stage: Stage, number: int, stops: int, rng: random.Random) -> dict:
    """Stops a run several times, and lets it finish; returns what is counted."""
    here = stage.folder / "try"
    shutil.copytree(stage.before, here)
    counts = dict.fromkeys(("tries", "stopped in time", "hung", "lost", "differing"), 0)
    in_order = (-number, 128 + number)  # killed, or ended by itself after the signal
    for _ in range(stops):
        status = common.stopped(stage.task(here), stage.log, rng.uniform(0, stage.work), number)
        counts["tries"] += 1
        counts["stopped in time"] += status in in_order
        counts["hung"] += status == common.HUNG
        if status not in in_order:
            if status not in (0, common.HUNG):
                counts["lost"] += 1
                print(f"exit status {status}:\n{stage.log.read_text()[-2000:]}", flush=True)
            break
    if not common.finished(stage.task(here), stage.log):
        counts["lost"] += 1
        print(stage.log.read_text()[-2000:], flush=True)
    else:
        counts["differing"] += stage.differs(here)
    if counts["lost"] or counts["differing"] or counts["hung"]:
        kept = pathlib.Path(tempfile.mkdtemp(prefix=f"crash-{stage.name}-"))
        shutil.copytree(stage.folder, kept, dirs_exist_ok=True)
        print(f"all of it is kept in {kept}", flush=True)
    shutil.rmtree(here)
    return counts


if __name__ == "__main__":
    main()
