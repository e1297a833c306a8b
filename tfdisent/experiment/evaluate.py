"""Evaluates a trained run again: python -m train.evaluate --run_dir=DIR [--dataset=NAME] [--num_samples=N]
[--judge=KIND]

On the run's own data set its metrics.json and report.html are replaced; on another one they are written to
`<run_dir>/on-<dataset>/`.
"""

import importlib
import json
import pathlib
import sys

from absl import flags

from tfdisent.experiment import run

FLAGS = flags.FLAGS


def evaluate() -> None:
    """Rebuilds the run's model from its newest checkpoint and measures it."""
    if not FLAGS.run_dir:
        raise ValueError("Give --run_dir, the folder of a trained run.")
    run_dir = pathlib.Path(FLAGS.run_dir).expanduser()
    path = run_dir / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: {run_dir} is not the folder of a run.")
    record = json.loads(path.read_text())
    if not FLAGS["dataset"].present:
        FLAGS.dataset = record["dataset"]
        FLAGS.data = [f"{name}={value}" for name, value in record["data_options"].items()]
    FLAGS.preset = record["preset"]

    import keras

    system = importlib.import_module(f"train.{record['system']}")
    parts = system.parts(record.get("model", record["system"]))  # the oldest runs do not name it
    config = parts.config(**record["config"])
    folder, manifest = run.prepared_data(config)
    if record["mixed_precision"]:
        keras.config.set_dtype_policy(f"mixed_{record['mixed_precision']}")
    model = parts.model(config, seed=record["seed"])
    model.compile()
    from tfdisent.training.checkpoint import Checkpoints

    state = Checkpoints(run_dir / "checkpoints").restore(model)
    if state is None:
        raise FileNotFoundError(f"{run_dir} has no checkpoint yet; train it first.")
    if FLAGS.dataset != record["dataset"]:
        run_dir = run_dir / f"on-{FLAGS.dataset}"
        run_dir.mkdir(exist_ok=True)
    run.evaluate(record["system"], parts, model, folder, manifest, run_dir, state)


def main(argv):
    """Entry point of the command line."""
    try:
        evaluate()
    except run.USER_ERRORS as error:
        sys.exit(f"error: {error}")
