"""The sections of `benchmarks.device`: python -m benchmarks.on_device SECTION ARGUMENTS FILE

Each runs in a process with its own KERAS_BACKEND, and appends what it finds to FILE as it goes, a JSON object a line:
what a section found before it failed, or was given up, is kept. ARGUMENTS is a JSON object. Nothing here needs
TensorFlow.
"""

import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

# What is measured -> Keras's dtype policy, and how float32's products are computed in it. In order of importance.
PRECISIONS = {
    "bfloat16": ("mixed_bfloat16", "tensorfloat32"),
    "TF32": ("float32", "tensorfloat32"),
    "float32": ("float32", "highest"),
}


# --- data: a phantom, drawn on all cores ---


def data(folder: str, size: int, num_train: int, num_test: int) -> Iterator[dict]:
    """Draws the skin phantom into `folder`."""
    begin = time.perf_counter()
    for split, seed, num in (("train", 1, num_train), ("test", 2, num_test)):
        parts = [(rows, size, seed) for rows in np.array_split(np.arange(num), max(1, num // 64))]
        with multiprocessing.get_context("spawn").Pool() as pool:
            arrays = [np.concatenate(column) for column in zip(*pool.starmap(_draw, parts), strict=True)]
        np.savez(f"{folder}/{split}.npz", **dict(zip(("image", "label", "factors"), arrays, strict=True)))
    seconds = time.perf_counter() - begin
    yield {"what": f"{num_train} + {num_test} images of {size} x {size} drawn", "seconds": seconds}


def _draw(rows, size: int, seed: int):
    """Some images of the series, with their labels and factors."""
    from tfdisent.phantoms import skin

    labels = rows % len(skin.LABELS)
    factors = np.stack(
        [skin.draw_factors(label, seed=seed, index=row) for row, label in zip(rows, labels, strict=True)]
    )
    drawn = zip(rows, labels, factors, strict=True)
    images = [skin.render(label, values, size=size, seed=seed, index=row)[0] for row, label, values in drawn]
    return np.stack(images), labels, factors


def read(folder: str, split: str) -> dict[str, np.ndarray]:
    """What `data` drew: image in [-1, 1], condition, label and factors."""
    arrays = dict(np.load(f"{folder}/{split}.npz"))
    arrays["image"] = (arrays["image"] / 127.5 - 1.0).astype("float32")
    arrays["condition"] = np.eye(3, dtype="float32")[arrays["label"]]
    return arrays


# --- agreement: three steps from the same weights ---


def agreement(folder: str, name: str, batch_norms: list[bool], first: bool = False) -> Iterator[dict]:
    """Three steps on this backend; `first` also writes what all start from."""
    from benchmarks import three_steps

    set_precision("highest")
    if first:
        three_steps.prepare(folder, batch_norms)
    three_steps.take(folder, name, batch_norms)
    yield {"what": f"three steps on {where()}"}


# --- steps: how fast, and in how much memory ---


class Subject(NamedTuple):
    """A system to measure.

    Attributes:
        model: its class.
        config: its settings, one pass a step.
        batch: noise in place of images; a step takes as long on it as on data.
    """

    model: type
    config: Any
    batch: dict[str, np.ndarray]


def subject(system: str, changes: dict[str, Any]) -> Subject:
    """A system in its preset "paper", with some fields changed."""
    random = np.random.default_rng(0)
    if system == "drai":
        from tfdisent.systems.drai import DRAI, DRAIConfig

        # A second pass on the transformed batch would double the time of a step, and tell nothing more.
        config = DRAIConfig.preset("paper", **{"train_twice": False} | changes)
        shape = (config.batch_size, config.image_size, config.image_size, config.channels)
        classes = np.arange(config.batch_size) % config.num_conditions
        condition = np.eye(config.num_conditions, dtype="float32")[classes]
        return Subject(DRAI, config, {"image": random.uniform(-1, 1, shape).astype("float32"), "condition": condition})
    from tfdisent.systems.unified import Unified, UnifiedConfig

    config = UnifiedConfig.preset("paper", **changes)
    shape = (config.batch_size, *config.image_shape[:2], config.num_modalities)
    return Subject(Unified, config, {"image": random.uniform(-1, 1, shape).astype("float32")})


def built(one: Subject, policy: str):
    """The system, compiled, with the same weights at each call."""
    import keras

    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    model = one.model(one.config, seed=0)
    model.compile()
    return model


def steps_torch(systems: dict[str, dict], precisions: list[str], seconds: float) -> Iterator[dict]:
    """Steps on PyTorch, which runs a step operation by operation.

    Args:
        systems: system -> fields of its config that differ from the paper's.
        precisions: of `PRECISIONS`.
        seconds: of measuring, for each.
    """
    for system, changes in systems.items():
        one = subject(system, changes)
        for precision in precisions:
            row = {"system": system, "backend": "torch", "precision": precision, "batch_size": one.config.batch_size}
            try:
                row |= _measured_torch(one, precision, seconds)
            except Exception as error:  # one that fails leaves the others
                row["error"] = one_line(error)
            yield row


def _measured_torch(one: Subject, precision: str, seconds: float) -> dict[str, float | None]:
    """Time and memory of a step, and the operations of its products and convolutions, an image."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    on_gpu = torch.cuda.is_available()
    policy, products = PRECISIONS[precision]
    torch_precision(products)
    model = built(one, policy)
    device = "cuda" if on_gpu else "cpu"
    batch = {name: torch.as_tensor(value, device=device) for name, value in one.batch.items()}

    def wait(result):
        if on_gpu:
            torch.cuda.synchronize()

    with FlopCounterMode(display=False) as counter:  # on a step of its own, as counting slows it
        model.train_step(batch)
    wait(model.train_step(batch))
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step = median_step(lambda: model.train_step(batch), wait, seconds)
    memory = torch.cuda.max_memory_allocated() if on_gpu else None
    return {"step": step, "flops": counter.get_total_flops() / one.config.batch_size, "memory": memory}


def steps_jax(
    systems: dict[str, dict], precisions: list[str], seconds: float, compile_seconds: float, go: str = ""
) -> Iterator[dict]:
    """Steps on JAX, which compiles a step as a whole: all of them side by side, before any is measured.

    Args:
        systems, precisions, seconds: as of `steps_torch`.
        compile_seconds: a program that needs longer than this, from the start, is left out.
        go: a file; nothing is measured before it is there.
    """
    import jax

    deadline = time.monotonic() + compile_seconds
    pool = concurrent.futures.ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1)))
    programs, rows, states, flops = {}, {}, {}, {}
    for precision in precisions:
        policy, products = PRECISIONS[precision]
        for system, changes in systems.items():
            one = subject(system, changes)
            size = one.config.batch_size
            rows[system, precision] = {"system": system, "backend": "jax", "precision": precision, "batch_size": size}
            try:
                if (system, policy) not in states:
                    model = built(one, policy)
                    groups = (
                        model.trainable_variables,
                        model.non_trainable_variables,
                        model.optimizer.variables,
                        model.metrics_variables,
                    )
                    # On the CPU until it is its turn.
                    state = tuple([np.asarray(variable.value) for variable in group] for group in groups)
                    states[system, policy] = model, state
                model, state = states[system, policy]
                with jax.default_matmul_precision(products):
                    lowered = jax.jit(model.train_step, donate_argnums=0).lower(state, one.batch)
                programs[system, precision] = pool.submit(lowered.compile)
                if system not in flops:  # counting takes seconds
                    flops[system] = (lowered.cost_analysis() or {}).get("flops", 0.0) / size or None
                rows[system, precision]["flops"] = flops[system]
            except Exception as error:
                rows[system, precision]["error"] = one_line(error)  # one that fails leaves the others
    concurrent.futures.wait(programs.values(), timeout=max(0.0, deadline - time.monotonic()))
    while go and not pathlib.Path(go).exists():
        time.sleep(0.2)
    for (system, precision), row in rows.items():
        program = programs.get((system, precision))
        if program is not None and not program.done():
            row["error"] = f"still compiling after {compile_seconds:.0f} s"
        if "error" not in row:
            try:
                _, state = states[system, PRECISIONS[precision][0]]
                row |= _measured_jax(program.result(), state, subject(system, systems[system]).batch, seconds)
            except Exception as error:
                row["error"] = one_line(error)
        yield row


def _measured_jax(program, state, batch, seconds: float) -> dict[str, float | None]:
    """Time and memory of a compiled step."""
    import jax

    state, batch = jax.device_put(state), jax.device_put(batch)

    def step():
        nonlocal state
        logs, state = program(state, batch)
        return logs

    for _ in range(2):
        jax.block_until_ready(step())
    sizes = program.memory_analysis()  # of this program alone, where the device's peak is of all that ran
    memory = None
    if sizes is not None:
        held = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
        memory = held + sizes.temp_size_in_bytes
    return {"step": median_step(step, jax.block_until_ready, seconds), "memory": memory}


def median_step(step: Callable, wait: Callable, seconds: float, rounds: int = 5) -> float:
    """Seconds of a step: median over rounds of several steps each, which are waited for together.

    Args:
        step: makes one, and may return before it is done.
        wait: for what `step` returned.
        seconds: of measuring, at least one step a round.
        rounds: how many.
    """
    begin = time.perf_counter()
    wait(step())
    count = max(1, int(seconds / rounds / (time.perf_counter() - begin)))
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(count):
            result = step()
        wait(result)
        times.append((time.perf_counter() - begin) / count)
    return statistics.median(times)


# --- training: DRAI on the phantom, and what it learned ---


def judges(folder: str, epochs: int) -> Iterator[dict]:
    """Fits the networks that judge hybrids and generated images, and keeps them in `folder`."""
    from tfdisent.downstream.judge import fit_classifier, fit_position_regressor

    begin, train, test = time.perf_counter(), read(folder, "train"), read(folder, "test")
    classifier = fit_classifier(
        train["image"], train["label"], 3, kind="convnet", epochs=epochs, directory=f"{folder}/judges/classifier"
    )
    fit_position_regressor(
        train["image"], train["factors"][:, _positions()], epochs=epochs, directory=f"{folder}/judges/position"
    )
    accuracy = classifier.accuracy(test["image"], test["label"])
    seconds = time.perf_counter() - begin
    yield {"what": "judges fitted", "accuracy on real test images": accuracy, "seconds": seconds}


def training(folder: str, changes: dict[str, Any], precision: str, seconds: float, judge_epochs: int) -> Iterator[dict]:
    """Trains DRAI in its preset "paper" by `fit`, and measures it as `tfdisent.evaluation.drai` does.

    Args:
        folder: of data and judges.
        changes: fields of the config that differ from the paper's.
        precision: of `PRECISIONS`.
        seconds: of training, the building and compiling of the system included.
        judge_epochs: as `judges` was given.
    """
    import keras

    begin = time.monotonic()
    from tfdisent.systems.drai import DRAI, DRAIConfig

    policy, products = PRECISIONS[precision]
    set_precision(products)
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    train, test = read(folder, "train"), read(folder, "test")
    config = DRAIConfig.preset("paper", **changes)
    model = DRAI(config, seed=0)
    model.compile()
    whole = len(train["image"]) // config.batch_size * config.batch_size  # JAX compiles a step for each size of a batch
    batches = {name: train[name][:whole] for name in ("image", "condition")}

    watch = _watch(begin + seconds)
    history = model.fit(batches, batch_size=config.batch_size, epochs=1_000_000, verbose=0, callbacks=[watch]).history
    row = {"system": "drai", "backend": keras.backend.backend(), "precision": precision, "steps": watch.steps}
    row |= {"seconds until the first step": watch.first - begin, "images/s": config.batch_size * watch.rate()}
    yield row | {"passes": 1 + config.train_twice, "losses": {name: values[-1] for name, values in history.items()}}

    for measures in _measures(model, train, test, f"{folder}/judges", judge_epochs):
        yield {"measures": measures}


def _watch(deadline: float):
    """A callback that stops `fit` at a time of the monotonic clock."""
    import keras

    class Watch(keras.callbacks.Callback):
        """Counts steps, and notes when the first and the last one ended."""

        steps, first, last = 0, 0.0, 0.0

        def on_train_batch_end(self, batch, logs=None):
            """Stops training when it is time."""
            float(next(iter(logs.values())))  # waits for the step
            self.steps, self.last = self.steps + 1, time.monotonic()
            self.first = self.first or self.last
            self.model.stop_training = self.last >= deadline

        def rate(self) -> float:
            """Steps a second, the first left out."""
            return (self.steps - 1) / max(self.last - self.first, 1e-9)

    return Watch()


def _measures(model, train, test, judge_directory: str, judge_epochs: int) -> Iterator[dict[str, float]]:
    """Metrics of a trained DRAI, by name, some at a time."""
    from tfdisent import metrics
    from tfdisent.downstream.judge import fit_classifier
    from tfdisent.evaluation import drai
    from tfdisent.examples import Examples
    from tfdisent.phantoms import skin

    train, test = Examples.of(train), Examples.of(test)
    random, directory = np.random.default_rng(0), pathlib.Path(judge_directory)
    classifier = fit_classifier(
        train.select(), train["label"], 3, kind="convnet", epochs=judge_epochs, directory=directory / "classifier"
    )
    with model.averaged():
        logits = classifier.logits(drai.generate(model, test["condition"], random))
        accuracy = metrics.conditional_generation_accuracy(logits, test["label"])
        yield {"conditional_generation_accuracy": accuracy}
        hybrids = drai.make_hybrids(model, test, random)
        for entries in (
            drai.class_metrics(model, classifier, hybrids, test),
            drai.reconstruction_metrics(model, hybrids, test),
            drai.position_metrics(model, directory, hybrids, train, test, list(skin.FACTORS), judge_epochs),
            drai.code_metrics(hybrids["codes"], test, list(skin.FACTORS)),
            drai.consistency_metrics(model, hybrids),
        ):
            yield {name: entry["value"] for name, entry in entries.items()}


def _positions() -> list[int]:
    """Columns of the lesion's position among the phantom's factors."""
    from tfdisent.phantoms import skin

    return [skin.FACTORS.index(name) for name in ("position_x", "position_y")]


# --- of backends ---


def set_precision(products: str) -> None:
    """How products of float32 are computed from now on: "highest", or "tensorfloat32"."""
    import keras

    if keras.backend.backend() == "torch":
        torch_precision(products)
    else:
        import jax

        jax.config.update("jax_default_matmul_precision", products)


def torch_precision(products: str) -> None:
    """The same on PyTorch."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = products != "highest"


def where() -> str:
    """Backend and device that this process computes on."""
    import keras

    if keras.backend.backend() == "torch":
        import torch

        return f"torch, {torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'}"
    import jax

    return f"jax, {jax.devices()[0].device_kind}"


def one_line(error: Exception) -> str:
    """An error in words that fit into a table."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


SECTIONS = {
    "data": data,
    "agreement": agreement,
    "judges": judges,
    "steps_jax": steps_jax,
    "steps_torch": steps_torch,
    "training": training,
}


def main(section: str, arguments: str, file: str) -> None:
    """Runs a section, and writes what it finds."""
    with open(file, "a", encoding="utf-8") as rows:
        for row in SECTIONS[section](**json.loads(arguments)):
            rows.write(json.dumps({"section": section.partition("_")[0]} | row) + "\n")
            rows.flush()
    sys.stderr.flush()
    os._exit(0)  # a program that is still being compiled would hold the process


if __name__ == "__main__":
    main(*sys.argv[1:])
