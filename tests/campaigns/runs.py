"""The tiny run on which campaigns work, and its stages as tasks."""

import importlib
import pathlib

from tfdisent import datasets, experiment
from tfdisent.experiment import Settings
from tfdisent.phantoms import brain

SMALL = {
    "image_size": 16,
    "content_dim": 4,
    "style_dim": 4,
    **dict.fromkeys(("generator_filters", "encoder_filters", "discriminator_filters"), 4),
    **dict.fromkeys(("condition_units", "regressor_units"), 4),
    **dict.fromkeys(("code_units", "joint_units"), 8),
}
STEPS = 8
# Of each stage: what it leaves that must equal that of an unbroken run, bit for bit.
LEFT = {
    # The last checkpoint alone: SIGTERM and SIGINT leave one of the step at which they stopped, in place of an older.
    "training": (f"run/checkpoints/step-{STEPS:08d}/*.npz", "run/metrics.csv", "run/splits/*"),
    "evaluation": ("run/metrics.json", "run/figures/*.png"),
    # Of an export what it computes: two of one model differ in the order of their variables and the names in the graph.
    "export": ("models/*/card.json", "models/*/outputs.npz"),
}
HEADS = {"size": "16x16", "min_foreground": 1}
# Data sets by kind of image and of raw data, each in several shards, with options that make them small.
DATA = {
    **dict.fromkeys(("skin_phantom", "nodule_phantom"), {"num_train": 40, "num_test": 8, "size": 16}),
    **dict.fromkeys(
        ("brain_phantom", "pet_phantom", "healthy_phantom", "cardiac_phantom", "abdomen_phantom", "retina_phantom"),
        {"num_train": 4, "num_test": 2, "size": 32, "slices_per_subject": 2},
    ),
    **dict.fromkeys(("manifest", "bids"), {**HEADS, "pixel_spacing": 0}),
    "brats": HEADS,
    "ixi": {**HEADS, "pixel_spacing": 0, "n4": 0},
    "chaos": {"size": 40, "candidates": 2},
    "ham10000": {"size": 16},
    "lidc": {"size": 16},
    "lidc_patches": {"size": 16},
    "msseg": {"size": "20x24", "pixel_spacing": 0, "min_foreground": 20},
    "retouch": {"size": "20x16"},
}


def preload() -> None:
    """Imports what every try needs, before it forks; not with this module, which preparations' workers import too."""
    for name in ("tfdisent.experiment.run", "tfdisent.systems.drai", "tfdisent.evaluation.drai"):
        importlib.import_module(name)
    for kind in DATA:
        datasets.builder_class(kind)
    importlib.import_module("tfdisent.datasets.preparation")
    subject = brain.draw_subject(seed=0, index=0, tumour=False, lesions=False)
    brain.anatomy(subject, brain.slice_positions(1), size=16)  # reads the template, once for all that are forked


def settings(folder: pathlib.Path, data_dir: pathlib.Path, **changes) -> Settings:
    """A run of `STEPS` steps in `folder`, its export beside it."""
    return Settings(
        **{
            "system": "drai",
            "dataset": "skin_phantom",
            "batch_size": 8,
            "changes": SMALL,
            "data": {"num_train": 24, "num_test": 12},
            "data_dir": str(data_dir),
            "run_dir": str(folder / "run"),
            "export_dir": str(folder / "models"),
            "steps": STEPS,
            "checkpoint_every": 2,
            "sample_every": 4,
            "num_samples": 12,
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


def raw_data(kind: str, folder: pathlib.Path) -> pathlib.Path | None:
    """Writes what a data set of this kind is prepared from, as small as it can be; returns the path to prepare it from.

    The form is that of the builders' tests, which are read only here.
    """
    from tests.datasets import conftest, test_chaos, test_lidc, test_lidc_patches, test_msseg, test_retouch
    from tests.datasets.raw_volumes import brain as head
    from tests.datasets.raw_volumes import lesion, write

    for number in range(6):
        if kind == "manifest":
            write(folder / f"s{number}.nii", head(number))
        elif kind == "bids":
            write(folder / f"sub-{number:02d}/anat/sub-{number:02d}_T1w.nii", head(number))
        elif kind == "brats":
            case = folder / f"HGG/Brats18_TCIA_{number}_1"
            for scale, name in enumerate(("t1", "t1ce", "t2", "flair"), 1):
                write(case / f"{case.name}_{name}.nii", head(number, scale=100 * scale))
            write(case / f"{case.name}_seg.nii", lesion(codes=(1, 2, 4)))
        elif kind == "ixi":
            write(folder / f"IXI-T1/IXI{number:03d}-HH-{1000 + number}-T1.nii", head(number))
        elif kind == "msseg":
            centre = ("01", "07", "08")[number // 2]
            test_msseg.patient(folder / f"Training/Center_{centre}/Patient_{number % 2 + 1:02d}", number)
        elif kind == "retouch":
            vendor = tuple(test_retouch.SHAPES)[number // 2]
            test_retouch.write_case(folder / f"RETOUCH-TrainingSet-{vendor}", vendor, number)
        elif kind == "ham10000":
            conftest.photograph(folder / f"HAM10000_images_part_1/ISIC_{number:07d}.jpg", number)
    if kind == "manifest":
        rows = [(f"s{number}", "T1", f"s{number}.nii") for number in range(6)]
        conftest.table(folder / "all.csv", ("subject", "modality", "image"), rows)
        return folder / "all.csv"
    if kind == "ham10000":
        classes = ("nv", "mel", "bkl")
        rows = [(f"HAM_{n}", f"ISIC_{n:07d}", classes[n % 3], "histo", "", "", "back") for n in range(6)]
        conftest.table(folder / "HAM10000_metadata", conftest.COLUMNS, rows)
    if kind == "chaos":
        for number in (1, 2, 3, 5):
            test_chaos.write_patient(folder / f"CHAOS_Train_Sets/Train_Sets/MR/{number}")
    if kind == "lidc":
        for number, malignancy in enumerate((1, 5, 2, 4, 1, 5), 1):
            test_lidc.Raw(folder).annotated(number, malignancy=malignancy)
    if kind == "lidc_patches":
        test_lidc_patches.patches(folder)
    return folder if folder.exists() else None


def preparation(kind: str, data_dir: pathlib.Path, raw: pathlib.Path | None, workers: int = 1):
    """A function that prepares a data set of this kind."""
    return lambda: datasets.prepare(kind, data_dir, raw, workers=workers, **DATA[kind])


def preparation_of_run(data_dir: pathlib.Path):
    """A function that prepares the data of `settings`."""
    made = settings(data_dir.parent / "unused", data_dir)
    return lambda: datasets.prepare(made.dataset, data_dir, workers=1, **made.preparation)
