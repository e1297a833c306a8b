"""Two processes at once in one folder: preparations, trainings, exports; and two runs of one seed, compared.

    python -m tests.campaigns.together --tries=10

Two preparations must both succeed. Of two trainings or exports in one run folder one may be refused; what is left must
be that of one alone. "two runs" trains the same command twice in folders of its own (determinism); KERAS_BACKEND picks
the backend.
"""

import argparse
import pathlib
import random
import shutil
import tempfile
import time

from tests.campaigns import common, crash, runs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("--stages", default="preparation,training,export,two runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("together.json"))
    given = parser.parse_args()
    rng = random.Random(given.seed)
    runs.preload()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        rows = [two(work, stage, given.tries, rng) for stage in given.stages.split(",")]
    common.report(rows, given.output)


def two(work: pathlib.Path, stage: str, tries: int, rng: random.Random) -> dict:
    """The row of one stage."""
    name, kind = ("training", None) if stage == "two runs" else (stage, None)
    kind = "skin_phantom" if stage == "preparation" else kind
    before, expected, seconds = crash.prepared(work / stage.replace(" ", "-"), name, kind)
    refused = differing = lost = 0
    for _ in range(tries):
        here = work / "try"
        shutil.copytree(before, here)
        task = crash.task(before.parent, name, kind, here)
        statuses = []
        if stage == "two runs":
            statuses.append(0 if common.finished(task, work / "log") else 1)
        else:
            first = common.forked(task, work / "first")
            time.sleep(rng.uniform(0, seconds / 2))
            second = common.forked(task, work / "second")
            statuses += [common.ended(pid, 600) for pid in (first, second)]
        refused += sum(status != 0 for status in statuses)
        lost += all(status != 0 for status in statuses) or (stage == "preparation" and any(statuses))
        differing += crash.left(name, here) != expected
        shutil.rmtree(here)
    return {"what": stage, "tries": tries, "processes refused": refused, "lost": lost, "differing": differing}


if __name__ == "__main__":
    main()
