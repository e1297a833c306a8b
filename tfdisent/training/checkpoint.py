"""Checkpoints from which training continues exactly.

A checkpoint is a folder `step-00001200/` with `model.weights.h5` (every weight, every optimizer's state, averages; the
same file on every backend) and `state.json` (step, checksum, states of the random generators, what else the
caller wants kept). It is written beside its place and renamed when whole, and renamed before it is deleted: a kill at
any moment leaves whole checkpoints, and beside them only what the next `save` removes.
"""

import errno
import itertools
import json
import logging
import math
import os
import pathlib
import shutil
import warnings

import keras
from keras import ops

from tfdisent.files import delete_folder, sha256, whole_folder

WEIGHTS, STATE = "model.weights.h5", "state.json"
log = logging.getLogger("tfdisent")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: of the checkpoints; made when needed.
        keep: how many of the newest stay.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 3):
        if keep < 1:
            raise ValueError(f"Expected to keep at least 1 checkpoint, received keep={keep}.")
        self.directory = pathlib.Path(directory)
        self.keep = keep

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first."""
        names = (path.name for path in self.directory.glob("step-*") if (path / STATE).is_file())
        return sorted(int(name.removeprefix("step-")) for name in names)

    def save(self, model: keras.Model, step: int, **extra) -> pathlib.Path:
        """Writes the model's whole state.

        Args:
            model: compiled and built.
            step: training steps done.
            **extra: plain values to keep in `state.json`.

        Returns:
            The checkpoint's folder.

        Raises:
            OSError: if it cannot be written, naming the folder; earlier checkpoints stay.
        """
        target = self._folder(step)
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            _require_space(self.directory, model)
            with whole_folder(target) as folder:
                model.save_weights(folder / WEIGHTS)
                seeds = [ops.convert_to_numpy(seed).tolist() for seed in random_states(model)]
                state = {"step": step, "sha256": sha256(folder / WEIGHTS), "seeds": seeds, **extra}
                (folder / STATE).write_text(json.dumps(state, indent=1))
                _flush_to_disk(folder / WEIGHTS, folder / STATE)
            for old in self.steps()[: -self.keep]:
                delete_folder(self._folder(old))
        except OSError as error:
            raise OSError(
                f"Could not write a checkpoint in {self.directory}: {error}. Free space there or choose another "
                f"folder; the checkpoints of steps {self.steps() or 'none'} are intact."
            ) from error
        return target

    def _folder(self, step: int) -> pathlib.Path:
        return self.directory / f"step-{step:08d}"

    def _remove_leftovers(self) -> None:
        """Removes what a killed run left half written or half deleted; nothing else that may be in the folder."""
        unfinished = (path for path in self.directory.glob("step-[0-9]*") if not (path / STATE).exists())
        hidden = (self.directory.glob(name) for name in (".writing", ".step-*.writing", ".step-*.deleting"))
        for left in itertools.chain(unfinished, *hidden):
            shutil.rmtree(left, ignore_errors=True)

    def restore(self, model: keras.Model) -> dict | None:
        """Loads the newest whole checkpoint into the model.

        One that is cut short or damaged is passed over with a warning, and the one before it is used.

        Args:
            model: compiled and built as the one that was saved.

        Returns:
            Its state, {"step": ..., ...}, or None where there is no checkpoint.

        Raises:
            ValueError: if checkpoints are there but none is whole, or the model is another one.
        """
        steps = self.steps()
        for step in reversed(steps):
            folder = self._folder(step)
            state = _whole_state(folder)
            if state is None:
                log.warning("Checkpoint %s is cut short or damaged; the one before it is used.", folder.name)
                continue
            with warnings.catch_warnings():
                # Keras only warns when it skips what does not fit, such as an optimizer's state.
                warnings.simplefilter("error", UserWarning)
                try:
                    model.load_weights(folder / WEIGHTS)
                    for seed, value in zip(random_states(model), state["seeds"], strict=True):
                        seed.assign(value)
                except (UserWarning, ValueError) as error:
                    raise ValueError(
                        f"{folder} holds the state of another model: {error}. Use the config that it was written with, "
                        "or another run folder."
                    ) from error
            return state
        if steps:
            raise ValueError(f"None of the checkpoints in {self.directory} is whole. Delete the folder to start anew.")
        return None


def _whole_state(folder: pathlib.Path) -> dict | None:
    try:
        state = json.loads((folder / STATE).read_text())
        return state if state["sha256"] == sha256(folder / WEIGHTS) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _require_space(directory: pathlib.Path, model: keras.Model) -> None:
    """Raises OSError on a disk too full for the model: HDF5, which writes the file, may crash on one."""
    variables = [*model.variables, *model.optimizer.variables]
    needed = sum(4 * math.prod(variable.shape) for variable in variables)
    free = shutil.disk_usage(directory).free
    if free < 1.1 * needed:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free")


def random_states(model: keras.Model) -> list[keras.Variable]:
    """The states of the model's random generators, which Keras leaves out of the weights file."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _flush_to_disk(*paths: pathlib.Path) -> None:
    for path in paths:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
