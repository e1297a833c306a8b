"""What a machine with an NVIDIA GPU has to tell, in less than six minutes: python -m benchmarks.device --output=DIR

It needs PyTorch or JAX with CUDA, and no TensorFlow and no network; benchmarks/README.md says how packages that are
missing are brought along. Each section runs in a process of its own, within a time of its own:

    agreement  three steps from the same weights give the same weights on the GPU, on each backend, as on the CPU
    steps      a training step of each system's preset "paper", in bfloat16, TF32 and float32
    training   DRAI's preset "paper" trained for three minutes on a phantom, and what it learned

DIR gets device.json, device.md (the tables, which are printed too) and device.log (what the processes said). The exit
status is 1 where something failed or differs; what else was found is there all the same. --dry_run does the same with
tiny sizes on the CPU.
"""

import concurrent.futures
import importlib.util
import json
import os
import pathlib
import re
import sys
import tempfile
import time
from typing import Any, NamedTuple

from absl import app, flags

from benchmarks import device_report as report
from benchmarks import machine
from benchmarks.process import run_python

FLAGS = flags.FLAGS
flags.DEFINE_string("output", os.environ.get("OUT", "device"), "Folder for device.json, device.md and device.log.")
flags.DEFINE_float(
    "minutes", 5.9, "All of it ends within this time; training gets what the others leave.", lower_bound=0
)
flags.DEFINE_bool("dry_run", False, "Tiny sizes on the CPU: whether everything works, in a minute or two.")
flags.DEFINE_list("backends", [], "Of jax and torch; by default those that are installed.")
flags.DEFINE_list(
    "peaks", [], "The card's TFLOP/s in float32, TF32 and bfloat16, dense, where its name is not among the known ones."
)
flags.register_validator(
    "peaks",
    lambda values: len(values) in (0, 3) and all(re.fullmatch(r"\d+(\.\d+)?", value) for value in values),
    message="expected three numbers: float32,TF32,bfloat16",
)


class Sizes(NamedTuple):
    """How much of everything.

    Attributes:
        systems: fields that differ from the paper's, by system.
        drai: likewise, of the DRAI that is trained.
        num_train, num_test: images of the phantom.
        image_size: their side.
        judge_epochs: passes of the judges over them.
        step_seconds: of measuring each step.
        train_seconds: of training, at most.
        measure_seconds: kept for measuring what was trained.
        batch_norms: variants of the agreement.
        precisions: of the steps, the most important first.
        accelerated: on the GPU.
        patience: factor of all limits in time.
    """

    systems: dict[str, dict]
    drai: dict[str, Any]
    num_train: int
    num_test: int
    image_size: int
    judge_epochs: int
    step_seconds: float
    train_seconds: float
    measure_seconds: float
    batch_norms: list[bool]
    precisions: list[str]
    accelerated: bool
    patience: float


FULL = Sizes(
    systems={"drai": {}, "unified": {}},
    drai={},
    num_train=4096,
    num_test=500,
    image_size=64,
    judge_epochs=6,
    step_seconds=1.0,
    train_seconds=180.0,
    measure_seconds=30.0,
    batch_norms=[True, False],
    precisions=["bfloat16", "TF32", "float32"],
    accelerated=True,
    patience=1.0,
)
_TINY_DRAI = {
    "image_size": 16,
    "content_dim": 4,
    "style_dim": 4,
    "generator_filters": 4,
    "encoder_filters": 4,
    "discriminator_filters": 4,
    "condition_units": 4,
    "code_units": 8,
    "joint_units": 8,
    "regressor_units": 8,
    "batch_size": 8,
}
TINY = Sizes(
    systems={
        "drai": _TINY_DRAI,
        "unified": {"image_size": 32, "filters": 4, "discriminator_filters": 4, "batch_size": 4},
    },
    drai=_TINY_DRAI | {"train_twice": False, "learning_rate": 1e-3},
    num_train=96,
    num_test=30,
    image_size=16,
    judge_epochs=1,
    step_seconds=0.05,
    train_seconds=10.0,
    measure_seconds=60.0,
    batch_norms=[True],
    precisions=["bfloat16"],
    accelerated=False,
    patience=3.0,
)


class Sections:
    """Runs sections in processes and keeps what they found.

    Args:
        folder: for their files.
        sizes: how much of everything.
        deadline: of the monotonic clock; no section runs longer.
        log: file for what they write to stderr.
    """

    def __init__(self, folder: str, sizes: Sizes, deadline: float, log):
        self.folder, self.sizes, self.deadline, self.log = folder, sizes, deadline, log
        self.rows: list[dict[str, Any]] = []
        self.start = time.monotonic()

    def run(
        self, section: str, backend: str, limit: float, on_cpu: bool = False, keep: bool = True, **arguments
    ) -> bool:
        """Runs a section of `benchmarks.on_device`.

        Args:
            section: its name there.
            backend: of Keras.
            limit: seconds after which it is given up.
            on_cpu: hide the GPU from it.
            keep: what it finds counts.
            **arguments: of the section.

        Returns:
            Whether all went well.
        """
        begin = time.monotonic()
        limit = min(limit * self.sizes.patience, self.deadline - begin)
        name = f"{section} {backend}{' on the CPU' * on_cpu}{'' if keep else ' rehearsal'}"
        error, found = "not started: the time is over", []
        if limit > 0:
            file = pathlib.Path(self.folder, f"{name}.jsonl")
            file.touch()
            command = ["-m", "benchmarks.on_device", section, json.dumps(arguments), str(file)]
            error = run_python(command, self.environment(backend, on_cpu), limit, self.log)
            found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        if error:
            found.append({"section": section.partition("_")[0], "backend": backend, "error": error})
        if keep:
            self.rows += found
        now, failed = time.monotonic(), "; ".join(row["error"] for row in found if "error" in row)
        line = f"{now - self.start:5.0f} s: {name}, {now - begin:.0f} s"
        print(": ".join(filter(None, (line, failed))), flush=True)
        return not failed

    def environment(self, backend: str, on_cpu: bool) -> dict[str, str]:
        """Variables of a process."""
        variables = os.environ | {
            "KERAS_BACKEND": backend,
            "PYTHONUNBUFFERED": "1",
            # Several processes share the card.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            # What one process compiled, such as the drawing of weights, the next one reads.
            "JAX_COMPILATION_CACHE_DIR": f"{self.folder}/compiled",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        if on_cpu or not self.sizes.accelerated:
            variables |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
        if not self.sizes.accelerated:
            variables["OMP_NUM_THREADS"] = "1"  # several processes share the cores
            variables["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # halves the time that compiling takes
        return variables


def measure(sections: Sections, backends: list[str]) -> None:
    """All sections; those whose speed is not measured run side by side, and with them JAX compiles what it measures."""
    sizes, folder, go = sections.sizes, sections.folder, pathlib.Path(sections.folder) / "go"
    trainer, other = backends[0], backends[-1]  # JAX compiles, so what is tiny runs faster on PyTorch
    steps = {"systems": sizes.systems, "precisions": sizes.precisions, "seconds": sizes.step_seconds}
    trained = {"folder": folder, "changes": sizes.drai, "precision": "bfloat16", "judge_epochs": sizes.judge_epochs}

    def phantom():
        count = {"num_train": sizes.num_train, "num_test": sizes.num_test}
        if sections.run("data", other, 60, on_cpu=True, folder=folder, size=sizes.image_size, **count):
            sections.run("judges", other, 100, folder=folder, epochs=sizes.judge_epochs)
            # A rehearsal: what JAX compiles for it is there when it counts.
            sections.run("training", trainer, 100, keep=False, seconds=0.0, **trained)

    def agree():
        given = {"folder": folder, "batch_norms": sizes.batch_norms}
        if sections.run("agreement", other, 80, on_cpu=True, name="cpu", first=True, **given):
            for backend in backends:
                sections.run("agreement", backend, 80, name=backend, **given)

    def steps_jax():
        sections.run("steps_jax", "jax", 200, compile_seconds=120.0 * sizes.patience, go=str(go), **steps)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = [pool.submit(phantom), pool.submit(agree)]
        then = [pool.submit(steps_jax)] if "jax" in backends else []
        concurrent.futures.wait(first)
        go.touch()
        for done in first + then:
            done.result()
    if "torch" in backends:
        sections.run("steps_torch", "torch", 70, **steps)
    left = sections.deadline - time.monotonic() - sizes.measure_seconds
    seconds = min(sizes.train_seconds, max(left, 0.0))
    sections.run("training", trainer, sections.deadline - time.monotonic(), seconds=seconds, **trained)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Expected flags of the form --name=value, received {argv[1:]}.")
    start, facts = time.monotonic(), machine.facts()
    peak = report.peaks(facts["gpus"], [float(peak) for peak in FLAGS.peaks])
    sizes = TINY if FLAGS.dry_run else FULL
    if sizes.accelerated and not facts["gpus"]:
        sys.exit(
            "Expected an NVIDIA GPU, and nvidia-smi lists none; --dry_run does the same with tiny sizes on the CPU."
        )
    backends = FLAGS.backends or [name for name in ("jax", "torch") if importlib.util.find_spec(name)]
    if not backends:
        sys.exit("Expected PyTorch or JAX, and neither is installed.")
    output = pathlib.Path(FLAGS.output)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, open(output / "device.log", "w", encoding="utf-8") as log:
        sections = Sections(folder, sizes, start + 60 * FLAGS.minutes, log)
        try:
            measure(sections, backends)
        finally:
            rows = report.with_shares(sections.rows, peak)
            rows += report.agreements(folder, ["cpu", *backends], sizes.batch_norms)
            seconds = time.monotonic() - start
            text = report.markdown(facts, rows, peak, seconds)
            content = {"machine": facts, "peaks": peak, "seconds": seconds, "rows": rows}
            (output / "device.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            (output / "device.md").write_text(text, encoding="utf-8")
            print("\n" + text)
    if any("error" in row for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
