"""The campaign notices what a stop spoils: it is given stages that are sound, that lose work, and that leave other."""

import os
import pathlib
import random
import shutil
import signal
import time

import pytest

from tests.campaigns import common, crash

pytestmark = pytest.mark.backend("torch")


class Plain(crash.Stage):
    """A stage of plain files: it writes a, then b, over what is there; `spoilt` says what a stop between them does."""

    def __init__(self, folder: pathlib.Path, spoilt: str = ""):
        self.name, self.folder, self.before, self.log = "training", folder, folder / "before", folder / "log"
        self.spoilt, self.work, self.waits = spoilt, 60.0, False
        self.begun = folder / "begun"
        self.before.mkdir(parents=True)
        self.task(self.before)()
        self.expected = self.left(self.before)
        shutil.rmtree(self.before)
        self.before.mkdir()

    def left(self, folder):
        return common.checksums(folder, ("a", "b"))

    def task(self, folder):
        def work():
            was_stopped = (folder / "a").is_file() and not (folder / "b").is_file()
            if was_stopped and self.spoilt == "lost":
                raise ValueError("it has begun already")
            (folder / "a").write_text("other" if was_stopped and self.spoilt == "differing" else "the same")
            self.begun.touch()
            while self.waits:
                time.sleep(0.01)
            (folder / "b").write_text("b")

        return work

    def stopped(self, task, log, after, number):
        """As `common.stopped`, but between a and b."""
        self.begun.unlink()
        self.waits = True
        pid = common.forked(task, log)
        self.waits = False
        while not self.begun.exists():
            if (status := common.ended(pid, 0.02)) is not None:
                return status
        os.kill(pid, number)
        return common.ended(pid, 60)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("spoilt", ["", "lost", "differing"])
def test_what_stops_spoil_is_counted(tmp_path, monkeypatch, spoilt, number):
    monkeypatch.setattr(crash.tempfile, "mkdtemp", lambda prefix: str(tmp_path / "kept"))
    stage = Plain(tmp_path / "stage", spoilt)
    monkeypatch.setattr(common, "stopped", stage.stopped)
    counts = crash.broken(stage, number, stops=2, rng=random.Random(0))
    # What cannot go on after the first stop is not stopped again in time.
    expected = {"tries": 2, "stopped in time": 2 - (spoilt == "lost"), "hung": 0, "lost": 0, "differing": 0}
    if spoilt == "lost":
        expected["lost"] = 2  # the second run, and the last
    elif spoilt:
        expected["differing"] = 1
    assert counts == expected
    assert (tmp_path / "kept/try").is_dir() == bool(spoilt) and not (stage.folder / "try").exists()


def test_a_run_that_ends_before_its_stop_is_not_stopped_again(tmp_path, monkeypatch):
    stage, rng = Plain(tmp_path / "stage"), random.Random(0)
    monkeypatch.setattr(rng, "uniform", lambda low, high: 60.0)
    counts = crash.broken(stage, signal.SIGKILL, stops=3, rng=rng)
    assert counts == {"tries": 1, "stopped in time": 0, "hung": 0, "lost": 0, "differing": 0}
