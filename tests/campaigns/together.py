"""Two processes at once in one folder: preparations, trainings, exports; and two runs of one seed, compared.

    python -m tests.campaigns.together --tries=10

Two preparations must both succeed. Of two trainings or exports in one run folder one may be refused; what is left must
be that of one alone. "two runs" trains the same command twice in folders of its own (determinism); KERAS_BACKEND picks
the backend.
"""

import argparse
import math
import pathlib
import random
import shutil
import tempfile

import keras

from tests.campaigns import common, crash, runs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tries", type=int, default=10, help="of each row in all, those in --output counted in")
    parser.add_argument("--stages", default="preparation,training,export,two runs")
    parser.add_argument("--kind", default="skin_phantom", help="of data that are prepared")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of tries in all; rows take turns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("together.json"))
    given = parser.parse_args()
    table = common.Table(given.output)
    rng = table.rng(given.seed)
    runs.preload()
    with tempfile.TemporaryDirectory() as folder:
        backend, begun = keras.backend.backend(), {}
        rows = [{"backend": backend, "what": name} for name in given.stages.split(",")]
        for row in table.in_turn(rows, given.tries, given.minutes):
            name = "training" if row["what"] == "two runs" else row["what"]
            if name not in begun:
                kind = given.kind if name == "preparation" else None
                begun[name] = crash.Stage(pathlib.Path(folder), name, kind)
            table.add(row | (again if row["what"] == "two runs" else two)(begun[name], rng))
        table.show()


def two(stage: crash.Stage, rng: random.Random) -> dict:
    """Does a stage in two processes, the second of which starts while the first is at it; returns what is counted."""
    here = stage.folder / "try"
    shutil.copytree(stage.before, here)
    first = common.forked(stage.task(here), stage.folder / "first")
    status = common.ended(first, 600, work=rng.uniform(0, stage.work))
    second = common.forked(stage.task(here), stage.folder / "second")
    statuses = [common.ended(first, 600) if status is None else status, common.ended(second, 600)]
    failed = sum(status != 0 for status in statuses)
    lost = failed == 2 or (stage.name == "preparation" and failed > 0)
    if lost:
        print(*((stage.folder / name).read_text()[-1000:] for name in ("first", "second")), sep="\n", flush=True)
    return counts(stage, here, failed, lost)


def again(stage: crash.Stage, rng: random.Random) -> dict:
    """Does a stage once more; returns what is counted."""
    here = stage.folder / "try"
    shutil.copytree(stage.before, here)
    failed = not common.finished(stage.task(here), stage.log)
    return counts(stage, here, failed, failed)


def counts(stage: crash.Stage, here: pathlib.Path, failed: int, lost: bool) -> dict:
    """The numbers of a row; removes the folder."""
    found = {
        "tries": 1,
        "processes refused": int(failed),
        "lost": int(lost),
        "differing": int(not lost and stage.differs(here)),
    }
    shutil.rmtree(here)
    return found


if __name__ == "__main__":
    main()
