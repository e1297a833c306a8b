"""Stops each stage of a run at random moments by kill -9, SIGTERM and SIGINT, runs it again, and compares.

    python -m tests.campaigns.crash --tries=100 [--stages=preparation,training,evaluation,export]
        [--signals=KILL,TERM,INT]

The second run must succeed, and what it leaves must equal what an unbroken run leaves, bit for bit. The report is part
of the evaluation. KERAS_BACKEND picks the backend.
"""

import argparse
import math
import pathlib
import random
import shutil
import signal
import tempfile
import time

from tests.campaigns import common, runs

ORDER = ("training", "evaluation", "export")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--stages", default="preparation,training,evaluation,export")
    parser.add_argument("--signals", default="KILL,TERM,INT")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of tries in all, shared by the rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("crash.json"))
    given = parser.parse_args()
    rng = random.Random(given.seed)
    runs.preload()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        rows, stages = [], given.stages.split(",")
        for stage in stages:
            kinds = list(runs.PHANTOMS) if stage == "preparation" else [None]
            tries = max(1, given.tries // len(kinds))
            share = given.minutes / len(stages) / len(kinds) / len(given.signals.split(","))
            for kind in kinds:
                begun = prepared(work, stage, kind)
                for name in given.signals.split(","):
                    rows.append(campaign(work, stage, kind, begun, getattr(signal, f"SIG{name}"), tries, share, rng))
                    print(rows[-1], flush=True)
        common.report(rows, given.output)


def prepared(work: pathlib.Path, stage: str, kind: str | None) -> tuple:
    """The state from which a stage starts, what it leaves unbroken, and its seconds."""
    work.mkdir(exist_ok=True)
    whole, before = work / f"{stage}-{kind}-whole", work / f"{stage}-{kind}-before"
    before.mkdir()
    if stage != "preparation":
        need(common.finished(runs.preparation_of_run(work / "data"), work / "log"), work)
        for earlier in ORDER[: ORDER.index(stage)]:
            need(common.finished(runs.stage(earlier, before, work / "data"), work / "log"), work)
    shutil.copytree(before, whole)
    begin = time.monotonic()
    need(common.finished(task(work, stage, kind, whole), work / "log"), work)
    return before, left(stage, whole), time.monotonic() - begin


def campaign(work, stage, kind, begun, number, tries, minutes, rng) -> dict:
    before, expected, seconds = begun
    done = lost = differing = hung = stopped = 0
    for _ in common.counted(tries, minutes):
        here = work / "try"
        done += 1
        shutil.copytree(before, here)
        status = common.interrupted(task(work, stage, kind, here), work / "log", rng.uniform(0, seconds), number)
        hung += status == -999
        stopped += status != 0
        if not common.finished(task(work, stage, kind, here), work / "again"):
            lost += 1
            print((work / "again").read_text()[-2000:], flush=True)
        else:
            found = left(stage, here)
            if found != expected:
                differing += 1
                names = {n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n)}
                print("differing:", sorted(names), flush=True)
        shutil.rmtree(here)
    what = f"{stage} {kind or ''}".strip()
    return {
        "fault": f"{signal.Signals(number).name} in {what}",
        "tries": done,
        "stopped in time": stopped,
        "hung": hung,
        "lost": lost,
        "differing": differing,
    }


def task(work, stage, kind, folder):
    return runs.preparation(kind, folder) if stage == "preparation" else runs.stage(stage, folder, work / "data")


def left(stage, folder) -> dict[str, str]:
    if stage == "export":
        need(common.finished(lambda: runs.outputs(folder / "models"), folder / "log"), folder)
    patterns = ("**/*.tfrecord-*", "**/manifest.json") if stage == "preparation" else runs.LEFT[stage]
    return common.checksums(folder, patterns)


def need(is_done: bool, work: pathlib.Path) -> None:
    if not is_done:
        raise SystemExit(f"An unbroken run failed:\n{(work / 'log').read_text()}")


if __name__ == "__main__":
    main()
