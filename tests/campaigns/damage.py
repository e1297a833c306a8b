"""Damages checkpoints and shards at random, and counts what is accepted with other content than was written.

    python -m tests.campaigns.damage --tries=1000

Each damage is a flipped bit, a cut, a hole of zeros or a lost file. A checkpoint may be refused, or passed over for the
one before it; a shard may be refused. Neither may be read as something else, or end in an error that is not ours.
"""

import argparse
import collections
import pathlib
import random
import shutil
import tempfile

import keras
import numpy as np

from tests.campaigns import common, runs
from tfdisent import data
from tfdisent.datasets import prepare
from tfdisent.messages import USER_ERRORS
from tfdisent.systems.drai import DRAI, DRAIConfig
from tfdisent.training.checkpoint import Checkpoints

KINDS = ("bit flipped", "cut short", "zeros", "file lost")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tries", type=int, default=1000, help="of this call, added to those in --output")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("damage.json"))
    given = parser.parse_args()
    table = common.Table(given.output)
    rng = table.rng(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        for what, made in (("checkpoint", checkpoints), ("shard", shards)):
            for row in of(what, *made(work), given.tries, rng):
                table.add(row)
    table.show()


def checkpoints(work: pathlib.Path):
    """A folder of two checkpoints, and a function that reads it: the step, and whether the weights are that step's."""
    keras.utils.set_random_seed(0)
    model = DRAI(DRAIConfig(**runs.SMALL))
    model.compile()
    folder, states = work / "checkpoints", {}
    for step in (1, 2):
        for variable in model.trainable_variables:
            variable.assign_add(0.1 * step + 0 * variable)
        Checkpoints(folder).save(model, step, seconds=1.0)
        states[step] = model.get_weights()

    def read(place):
        state = Checkpoints(place).restore(model)
        same = all(map(np.array_equal, model.get_weights(), states[state["step"]]))
        return same and state["seconds"] == 1.0

    return folder, read


def shards(work: pathlib.Path):
    """A prepared folder, and a function that reads it: whether the examples are those written."""
    folder = prepare("skin_phantom", work / "data", num_train=30, num_test=6, size=16, workers=1)
    expected = data.as_arrays(folder, "train")

    def read(place):
        found = data.as_arrays(place, "train")
        return found.keys() == expected.keys() and all(np.array_equal(found[k], expected[k]) for k in found)

    return folder, read


def of(what: str, folder: pathlib.Path, read, tries: int, rng: random.Random) -> list[dict]:
    """Rows of the table for one kind of folder."""
    here = folder.with_name("damaged")
    counts = {kind: collections.Counter() for kind in KINDS}
    for number in range(tries):
        shutil.copytree(folder, here)
        kind = KINDS[number % len(KINDS)]
        files = [path for path in sorted(here.rglob("*")) if path.is_file()]
        if what == "shard":
            files = [path for path in files if "-train.tfrecord" in path.name]
        damage(rng.choice(files), kind, rng)
        try:
            counts[kind]["as written" if read(here) else "differing"] += 1
        except USER_ERRORS as error:
            counts[kind]["refused"] += 1
            counts[kind]["does not name the folder"] += str(here) not in str(error)
        except Exception as error:
            counts[kind]["foreign error"] += 1
            print(f"{what}, {kind}: {error!r}", flush=True)
        shutil.rmtree(here)
    names = ("as written", "refused", "does not name the folder", "differing", "foreign error")
    return [
        {
            "backend": keras.backend.backend(),
            "fault": f"{what}: {kind}",
            "tries": sum(c[n] for n in names if n != names[2]),
            **{n: c[n] for n in names},
        }
        for kind, c in counts.items()
    ]


def damage(path: pathlib.Path, kind: str, rng: random.Random) -> None:
    """Damages a file in one of the ways of `KINDS`."""
    content = bytearray(path.read_bytes())
    place = rng.randrange(max(1, len(content)))
    if kind == "file lost":
        path.unlink()
        return
    if kind == "cut short":
        content = content[:place]
    elif kind == "zeros":
        content[place : place + 4096] = bytes(len(content[place : place + 4096]))
    elif content:
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


if __name__ == "__main__":
    main()
