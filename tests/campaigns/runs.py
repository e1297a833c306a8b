"""The tiny run on which campaigns work, and its stages as tasks."""

import importlib
import pathlib

from tfdisent import datasets, experiment
from tfdisent.experiment import Settings

SMALL = {
    "image_size": 16,
    "content_dim": 4,
    "style_dim": 4,
    **dict.fromkeys(("generator_filters", "encoder_filters", "discriminator_filters"), 4),
    **dict.fromkeys(("condition_units", "regressor_units"), 4),
    **dict.fromkeys(("code_units", "joint_units"), 8),
}
# Of each stage: what it leaves that must equal that of an unbroken run, bit for bit.
LEFT = {
    "training": ("run/checkpoints/step-*/*.npz", "run/metrics.csv", "run/splits/*"),
    "evaluation": ("run/metrics.json", "run/figures/*.png"),
    # Of an export what it computes: two of one model differ in the order of their variables and the names in the graph.
    "export": ("models/*/card.json", "models/*/outputs.npz"),
}
# Data sets that need no files, by kind of image: 2-D, patches, volumes in several modalities.
PHANTOMS = {
    "skin_phantom": {"num_train": 400, "num_test": 60},
    "nodule_phantom": {"num_train": 400, "num_test": 60},
    "brain_phantom": {"num_train": 6, "num_test": 3},
    "cardiac_phantom": {"num_train": 6, "num_test": 3},
    "abdomen_phantom": {"num_train": 6, "num_test": 3},
    "retina_phantom": {"num_train": 6, "num_test": 3},
}


def preload() -> None:
    """Imports what every try needs, before it forks; not with this module, which preparations' workers import too."""
    for name in ("tfdisent.experiment.run", "tfdisent.systems.drai", "tfdisent.evaluation.drai"):
        importlib.import_module(name)


def settings(folder: pathlib.Path, data_dir: pathlib.Path, **changes) -> Settings:
    """A run of 12 steps in `folder`, its export beside it."""
    return Settings(
        **{
            "system": "drai",
            "dataset": "skin_phantom",
            "batch_size": 8,
            "changes": SMALL,
            "data": {"num_train": 48, "num_test": 30},
            "data_dir": str(data_dir),
            "run_dir": str(folder / "run"),
            "export_dir": str(folder / "models"),
            "steps": 12,
            "checkpoint_every": 2,
            "sample_every": 4,
            "num_samples": 30,
        }
        | changes
    )


def stage(name: str, folder: pathlib.Path, data_dir: pathlib.Path):
    """A function that does one stage of the run, what is before it being done."""

    def work():
        if name == "training":
            experiment.fit(experiment.prepare(settings(folder, data_dir)))
            return
        run = experiment.open_run(str(folder / "run"), data_dir=str(data_dir), export_dir=str(folder / "models"))
        {"evaluation": experiment.evaluate, "export": experiment.export}[name](run)

    return work


def outputs(models: pathlib.Path) -> None:
    """Writes what each exported version computes from a fixed input, `outputs.npz` beside its graph."""
    import numpy as np
    import tensorflow as tf

    for folder in models.glob("[0-9]*"):
        function, random = tf.saved_model.load(str(folder)).signatures["serving_default"], np.random.default_rng(0)
        given = {
            name: random.uniform(-1, 1, [2 if side is None else side for side in spec.shape]).astype("float32")
            for name, spec in function.structured_input_signature[1].items()
        }
        found = function(**{name: tf.constant(value) for name, value in given.items()})
        np.savez(folder / "outputs.npz", **{name: value.numpy() for name, value in sorted(found.items())})


def preparation(dataset: str, data_dir: pathlib.Path):
    """A function that prepares a phantom."""
    return lambda: datasets.prepare(dataset, data_dir, None, workers=2, **PHANTOMS[dataset])


def preparation_of_run(data_dir: pathlib.Path):
    """A function that prepares the data of `settings`."""
    return lambda: experiment.prepare(settings(data_dir.parent / "unused", data_dir))
