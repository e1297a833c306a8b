"""Memory of one process over thousands of steps, tens of epochs and hundreds of applied volumes.

    python -m tests.campaigns.memory --steps=3000 --epochs=50 --volumes=200

"first" and "last" are the resident MiB after a tenth of the work and after all of it: they should be close.
"""

import argparse
import pathlib
import tempfile

import keras
import nibabel
import numpy as np

from tests.campaigns import common, runs
from tfdisent import data
from tfdisent.datasets import prepare
from tfdisent.systems.drai import DRAI, DRAIConfig


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--volumes", type=int, default=200)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("memory.json"))
    given = parser.parse_args()
    table = common.Table(given.output)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        for row in (training(work, given.steps), epochs(work, given.epochs), applied(work, given.volumes)):
            table.add(row)
    table.show()


class Watch(keras.callbacks.Callback):
    """Notes the resident memory after a tenth of the steps or epochs, and at the end."""

    def __init__(self, total: int, by_epoch: bool = False):
        super().__init__()
        self.total, self.by_epoch, self.done, self.seen = total, by_epoch, 0, []

    def note(self):
        """Counts one, and notes the memory when it is due."""
        self.done += 1
        if self.done in (max(1, self.total // 10), self.total):
            self.seen.append(resident())

    def on_train_batch_end(self, batch, logs=None):
        """Counts a step."""
        if not self.by_epoch:
            self.note()

    def on_epoch_end(self, epoch, logs=None):
        """Counts an epoch."""
        if self.by_epoch:
            self.note()


def resident() -> float:
    """MiB that this process holds now."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def model() -> DRAI:
    made = DRAI(DRAIConfig(**runs.SMALL))
    made.compile()
    return made


def row(what: str, number: int, seen: list[float]) -> dict:
    return {
        "backend": keras.backend.backend(),
        "what": f"{number} {what}",
        "runs": 1,
        "first (MiB)": round(seen[0], 1),
        "last (MiB)": round(seen[-1], 1),
        "growth (MiB)": round(seen[-1] - seen[0], 1),
    }


def training(work: pathlib.Path, steps: int) -> dict:
    folder = prepare("skin_phantom", work / "data", num_train=200, num_test=6, size=16, workers=1)
    watch = Watch(steps)
    batches = data.load(folder, "train", batch_size=8, repeat=True)
    model().fit(batches, steps_per_epoch=steps, verbose=0, callbacks=[watch])
    return row("steps of training", steps, watch.seen)


def epochs(work: pathlib.Path, number: int) -> dict:
    folder = prepare("skin_phantom", work / "data", num_train=200, num_test=6, size=16, workers=1)
    watch = Watch(number, by_epoch=True)
    model().fit(data.load(folder, "train", batch_size=40), epochs=number, verbose=0, callbacks=[watch])
    return row("epochs", number, watch.seen)


def applied(work: pathlib.Path, number: int) -> dict:
    from tests.apply.scans import KNOWN, brain, save_model
    from tfdisent.apply import Options, apply, results

    saved = save_model(work / "model", lambda image: -image, size=(64, 64), card={"data": KNOWN})
    (work / "in").mkdir()
    nibabel.save(nibabel.Nifti1Image(brain(shape=(60, 62, 40)), np.eye(4)), work / "in/000.nii.gz")
    for k in range(1, number):
        (work / "in" / f"{k:03d}.nii.gz").hardlink_to(work / "in/000.nii.gz")
    watch, process = Watch(number), results.process

    def watched(task, case):
        outcome = process(task, case)
        watch.note()
        return outcome

    results.process = watched
    try:
        apply(saved, work / "in", work / "out", Options())
    finally:
        results.process = process
    return row("volumes applied", number, watch.seen)


if __name__ == "__main__":
    main()
