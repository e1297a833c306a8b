"""Checkpoints from which training continues exactly.

A checkpoint is a folder `step-00001200/` with `weights.npz` (every weight, every optimizer's state, averages, states of
the random generators; the same on every backend) and `state.json` (format, step, what else the caller wants kept, and
checksums of both files). It is written beside its place and renamed when whole, and renamed before it is deleted: a
kill at any moment leaves whole checkpoints, and beside them only what the next `save` removes.
"""

import contextlib
import hashlib
import itertools
import json
import logging
import math
import os
import pathlib
import re
import shutil

import keras
import numpy as np

from tfdisent.files import delete_folder, sha256, whole_folder
from tfdisent.training import weights

WEIGHTS, STATE = "weights.npz", "state.json"
FORMAT = 2  # 1: weights in HDF5, by Keras
EARLIER_WEIGHTS = "model.weights.h5"
log = logging.getLogger("tfdisent")


class NonFiniteWeights(ArithmeticError):
    """A weight, an average or an optimizer's variable became NaN or infinite."""


class Checkpoints:
    """The checkpoints of one run.

    Other files and folders beside them are neither read nor removed.

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
        folders = (path for path in self.directory.glob("step-*") if (path / STATE).is_file())
        return sorted(int(path.name.removeprefix("step-")) for path in folders if _is_name(path.name))

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
            NonFiniteWeights: a variable holds NaN or infinity, naming it; earlier checkpoints stay.
        """
        target = self._folder(step)
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()
        arrays = weights.arrays_of(_variables(model))
        bad = weights.not_finite(arrays)
        if bad:
            raise NonFiniteWeights(
                f"Expected finite weights, but after step {step} there is NaN or infinity in {_listed(bad)}. No "
                f"checkpoint was written; those of steps {self.steps() or 'none'} are intact. A lower learning rate, "
                "clip_norm, or float32 in place of a lower precision, usually fixes it."
            )
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            with whole_folder(target) as folder:
                weights.write(folder / WEIGHTS, arrays)
                state = {"format": FORMAT, "step": step, "weights": sha256(folder / WEIGHTS), **extra}
                with (folder / STATE).open("w", encoding="utf-8") as file:
                    json.dump({**state, "sha256": _checksum(state)}, file, indent=1)
                    file.flush()
                    os.fsync(file.fileno())
            # Those of later steps are damaged ones, which this training passed over: they are no reason to go.
            for old in [known for known in self.steps() if known <= step][: -self.keep]:
                delete_folder(self._folder(old))
        except OSError as error:
            raise OSError(
                f"Could not write a checkpoint in {self.directory}: {error}. Free space there or choose another "
                f"folder; the checkpoints of steps {self.steps() or 'none'} are intact."
            ) from error
        return target

    def newest_step(self) -> int | None:
        """Step of the newest checkpoint that can be restored; None where there is none."""
        for step in reversed(self.steps()):
            with contextlib.suppress(ValueError):
                _read(self._folder(step), step)
                return step
        return None

    def _folder(self, step: int) -> pathlib.Path:
        return self.directory / f"step-{step:08d}"

    def _remove_leftovers(self) -> None:
        """Removes what a killed run left half written or half deleted; nothing else that may be in the folder."""
        for left in itertools.chain(*(self.directory.glob(f".step-*.{part}") for part in ("writing", "deleting"))):
            if _is_name(left.stem.removeprefix(".")):
                shutil.rmtree(left, ignore_errors=True)

    def restore(self, model: keras.Model) -> dict | None:
        """Loads the newest whole checkpoint into the model.

        One that is cut short, damaged or not finite is passed over with a warning, and the one before it is used.

        Args:
            model: compiled and built as the one that was saved.

        Returns:
            Its state, {"step": ..., ...}, or None where there is no checkpoint.

        Raises:
            ValueError: if checkpoints are there but none is whole, or the model is another one.
        """
        passed_over = []
        for step in reversed(self.steps()):
            folder = self._folder(step)
            try:
                state, arrays = _read(folder, step)
            except ValueError as error:
                passed_over.append(f"{folder.name} {error}")
                log.warning("Checkpoint %s; the one before it is used.", passed_over[-1])
                continue
            try:
                weights.assign(_variables(model), arrays)
            except ValueError as error:
                raise ValueError(
                    f"{folder} holds the state of another model: {error}. Use the config that it was written with, or "
                    "another run folder."
                ) from error
            return state
        if passed_over:
            raise ValueError(
                f"None of the checkpoints in {self.directory} can be used: {'; '.join(passed_over)}. Delete the folder "
                "to start anew."
            )
        return None


class BestCheckpoint:
    """The checkpoint of the step at which a measure was highest.

    Args:
        directory: of the checkpoint.
        start: steps that are done. What a run left that was killed beyond them is removed: it is trained again.
    """

    def __init__(self, directory: str | os.PathLike, start: int = 0):
        self._checkpoints = Checkpoints(directory, keep=1)
        self._value = -math.inf
        for step in self._checkpoints.steps():
            folder = self._checkpoints.directory / f"step-{step:08d}"
            try:
                self._value = _read(folder, step)[0]["value"] if step <= start else self._value
            except ValueError:  # damaged: the next one is the best that there is
                step = math.inf
            if step > start:
                delete_folder(folder)

    def offer(self, model: keras.Model, step: int, value: float) -> None:
        """Keeps the model's state in the place of the one before if its value is higher.

        Raises:
            OSError, NonFiniteWeights: as `Checkpoints.save`.
        """
        if value > self._value:
            self._checkpoints.save(model, step, value=value)
            self._value = value


def _read(folder: pathlib.Path, step: int) -> tuple[dict, dict[str, np.ndarray]]:
    """State and arrays of a checkpoint, or an error whose text says what is wrong with it.

    Raises:
        ValueError: it is damaged, of another step, or not finite.
    """
    if (folder / EARLIER_WEIGHTS).is_file():
        raise ValueError("was written by an earlier version of tfdisent, with which its training can be continued")
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        claimed = state.pop("sha256")
        is_whole = claimed == _checksum(state) and state["weights"] == sha256(folder / WEIGHTS)
        arrays = weights.read(folder / WEIGHTS) if is_whole else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise ValueError("is cut short or damaged")
    if state["format"] != FORMAT:
        raise ValueError(f"has format {state['format']}, of another version of tfdisent than this one")
    if state["step"] != step:
        raise ValueError(f"holds the state of step {state['step']}")
    if bad := weights.not_finite(arrays):
        raise ValueError(f"holds NaN or infinity in {_listed(bad)}")
    return state, arrays


def _is_name(name: str) -> bool:
    """Whether a folder is named as a checkpoint is."""
    return re.fullmatch(r"step-\d{8,}", name) is not None and name == f"step-{int(name[5:]):08d}"


def _checksum(state: dict) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _listed(names: list[str]) -> str:
    shown = ", ".join(name.partition(" ")[2] for name in names[:3])
    return f"{shown} and {len(names) - 3} others" if len(names) > 3 else shown


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All that has to be restored, by name."""
    return weights.named([*model.variables, *model.optimizer.variables])


def random_states(model: keras.Model) -> list[keras.Variable]:
    """The states of the model's random generators, which Keras leaves out of its weights files."""
    known = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in known]
