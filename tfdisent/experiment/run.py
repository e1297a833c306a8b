"""What every training command does: data -> fit -> evaluate -> report -> export, continuing where it stopped; with
--mode=augment, data -> fit -> synthetic images and what they bring.

`main` takes the system's own parts; flags are shared by all. Nothing heavy is imported before flags are parsed.
"""

import dataclasses
import json
import logging as python_logging
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
import time
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import app, flags, logging

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", "skin_phantom", "Which data set; `--dataset=help` lists them.")
flags.DEFINE_string("data_dir", "data", "Folder of prepared data sets.")
flags.DEFINE_string("raw_dir", None, "Folder of the raw data, to prepare it first.")
flags.DEFINE_string("preset", "quick", "Settings to start from: quick, small or paper.")
flags.DEFINE_integer("steps", None, "Training steps in total, over all runs of this command.", lower_bound=1)
flags.DEFINE_integer("epochs", None, "In place of --steps: passes over the training split in total.", lower_bound=1)
flags.DEFINE_integer("batch_size", None, "Images a step, over all devices.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of weights, order, augmentation and noise.")
flags.DEFINE_string("run_dir", None, "Folder of the run; default: runs/<model>-<dataset>-<preset>-seed<seed>.")
flags.DEFINE_string("export_dir", None, "Folder of the exports; default: saved_models/<model>-<dataset>.")
flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "augment"],
    "train: evaluate, report and export what was trained; augment: write labelled synthetic images that balance the "
    "classes, and measure what they bring to a classifier.",
)
flags.DEFINE_integer(
    "augment_to",
    None,
    "Images of each class, real and synthetic together; default: as many as the most frequent class has.",
    lower_bound=1,
)
flags.DEFINE_string("augment_dir", None, "Folder of the synthetic images; default: <run_dir>/synthetic.")
flags.DEFINE_bool("export", True, "Export the trained model.")
flags.DEFINE_string("devices", "1", "Number of devices, or 'all'.")
flags.DEFINE_enum("mixed_precision", None, ["bfloat16"], "Compute the networks in bfloat16.")
flags.DEFINE_multi_string("set", [], "field=value of the system's config; may be repeated.")
flags.DEFINE_multi_string(
    "data",
    [],
    "option=value of the data set's preparation, as of `datasets.build`; may be repeated.",
)
flags.DEFINE_integer("checkpoint_every", 500, "Steps between checkpoints.", lower_bound=1)
flags.DEFINE_integer("sample_every", 500, "Steps between sample pictures.", lower_bound=1)
flags.DEFINE_enum(
    "judge",
    None,
    ["convnet", "inception"],
    "Extractor of FID and IS; default: inception for paper, else convnet.",
)
flags.DEFINE_string(
    "judge_dir",
    None,
    "Folder of the classifiers that judge images, to share them among runs on one data set; default: <run_dir>/judges.",
)
flags.DEFINE_integer(
    "num_samples",
    None,
    "Generated images to measure; default: 5000 for paper, else 2000.",
    lower_bound=2,
)

# What a user can mend: told in one message, without a traceback.
USER_ERRORS = (ValueError, OSError, ArithmeticError)
STOPPED = 143  # exit status after SIGTERM, as shells count it


class Parts(NamedTuple):
    """What a training command trains: its system, or a method that the system is compared with.

    Attributes:
        name: of the model, for folders and the command line.
        title: its name in print.
        config: its config's class.
        model: (config, seed=) -> the model, to be compiled.
        evaluation: its module in `tfdisent.evaluation`, with `evaluate_run`, `sample_grid`, `headline`, `paper` and
            `card_values`.
        changes: values of config fields that make it this model; `--set` cannot set those.
    """

    name: str
    title: str
    config: type
    model: Callable
    evaluation: types.ModuleType
    changes: dict[str, Any]


def main(
    argv: Sequence[str],
    system: str,
    name: str,
    parts: Callable[[str], Parts],
) -> None:
    """Runs a system's command; a mistake of the user's ends in one message and status 1.

    Args:
        argv: the program, and what absl has left of its arguments.
        system: its name.
        name: of the model to train, the system's or that of a method that it is compared with.
        parts: gives a model's parts by its name, importing what is heavy; a ValueError if there is none.
    """
    if len(argv) > 1:
        raise app.UsageError(f"Expected flags of the form --name=value, received {argv[1:]}.")
    try:
        train(system, name, parts)
    except USER_ERRORS as error:
        if logging.get_verbosity() >= logging.DEBUG:
            raise
        sys.exit(f"error: {error}")


def train(system: str, name: str, parts: Callable[[str], Parts]) -> None:
    """Data, training, evaluation, report, export."""
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else dozens of lines that say nothing
        python_logging.getLogger("tensorflow").setLevel("ERROR")  # likewise of networks compiled
    say(f"1/5 data: {FLAGS.dataset}")
    import keras  # before TensorFlow: with the torch backend it must load torch first

    parts = parts(name)
    if FLAGS.mode == "augment" and not hasattr(parts.model, "generate"):
        raise ValueError(f"--mode=augment writes images of classes, and {parts.title} does not generate any.")
    chosen = parse_settings(parts.config, FLAGS.set)
    for field in chosen.keys() & parts.changes.keys():
        raise ValueError(
            f"--model={name} is {parts.title} by {field}={parts.changes[field]}: leave out --set={field}=..., or give "
            "another --model."
        )
    settings = parts.changes | chosen
    if FLAGS.batch_size:
        settings["batch_size"] = FLAGS.batch_size
    if FLAGS.steps and FLAGS.epochs:
        raise ValueError("Give --steps or --epochs, not both.")
    if FLAGS.steps:
        settings["steps"] = FLAGS.steps
    config = parts.config.preset(FLAGS.preset, **settings)
    folder, manifest = prepared_data(config)
    config = parts.config.preset(FLAGS.preset, **settings, **config.data_fields(manifest))
    if FLAGS.epochs:
        steps = FLAGS.epochs * max(1, manifest.split("train")["num_examples"] // config.batch_size)
        config = dataclasses.replace(config, steps=steps)

    if FLAGS.mode == "augment":
        from tfdisent.experiment import augment

        augment.additions(manifest, FLAGS.augment_to)  # nothing to add is said before training
    run_dir = open_run(system, name, config, manifest)
    if FLAGS.mixed_precision:
        keras.config.set_dtype_policy(f"mixed_{FLAGS.mixed_precision}")
    keras.utils.set_random_seed(FLAGS.seed)
    from tfdisent.training import distribution

    with distribution.scope(FLAGS.devices):
        model = parts.model(config, seed=FLAGS.seed)
        model.compile()
        state = fit(model, parts.evaluation, folder, run_dir)
    if FLAGS.mode == "augment":
        options = {"per_class": FLAGS.augment_to, "output": FLAGS.augment_dir, "seed": FLAGS.seed}
        augment.augment(system, parts, model, folder, manifest, run_dir, state, **options)
        return
    metrics = evaluate(system, parts, model, folder, manifest, run_dir, state)
    if FLAGS.export:
        export(parts, model, folder, manifest, metrics, run_dir, state)


def parse_settings(config_class: type, assignments: list[str]) -> dict[str, Any]:
    """Values of config fields from "field=value" texts, in their fields' types.

    Raises:
        ValueError: on an unknown field (the known ones are listed) or a value of another type.
    """
    fields = {field.name: field.type for field in dataclasses.fields(config_class)}
    settings = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or name not in fields:
            raise ValueError(
                f"Expected --set=field=value with a field of {', '.join(fields)}; received {assignment!r}."
            )
        settings[name] = _parse_value(name, text, fields[name])
    return settings


def _parse_value(name: str, text: str, kind: Any) -> Any:
    kinds = kind.__args__ if isinstance(kind, types.UnionType) else (kind,)
    for one in kinds:
        try:
            return _typed(text, one)
        except (KeyError, ValueError):
            continue
    names = " or ".join("None" if one is types.NoneType else _type_name(one) for one in kinds)
    raise ValueError(f"Expected {name} to be of type {names}, received {text!r}.")


def _typed(text: str, kind: Any) -> Any:
    if kind is bool or kind is types.NoneType:
        return ({"none": None} if kind is types.NoneType else {"true": True, "false": False})[text.lower()]
    if typing.get_origin(kind) is tuple:
        return tuple(_typed(part.strip(), kind.__args__[0]) for part in text.split(","))
    return kind(text)


def _type_name(kind: Any) -> str:
    return str(kind) if typing.get_origin(kind) else kind.__name__


def prepared_data(config: Any):
    """The prepared folder of the data set for a config, and its manifest; prepares it when it can.

    Raises:
        ValueError: if it cannot serve the system; before preparation, where its builder knows it without raw data.
    """
    from tfdisent import datasets
    from tfdisent.data import Manifest

    options, given = config.preparation(FLAGS.dataset, config.image_size), data_options()
    if "size" in options.keys() & given.keys():
        raise ValueError("The image size is the system's: give --set=image_size=... in place of --data=size=...")
    options |= given
    builder = datasets.make_builder(FLAGS.dataset, options)
    if not builder.raw_help:  # drawn
        config.check_manifest(builder.info(None))
    folder = datasets.prepare(FLAGS.dataset, FLAGS.data_dir, FLAGS.raw_dir, **options)
    manifest = Manifest.read(folder)
    config.check_manifest(manifest)
    return folder, manifest


def data_options() -> dict[str, str]:
    """The values of --data by option."""
    return dict(assignment.partition("=")[::2] for assignment in FLAGS.data)


def open_run(system: str, name: str, config: Any, manifest: Any) -> pathlib.Path:
    """Makes the run folder, or checks that the one there is of the same settings; returns its path.

    Raises:
        ValueError: if it is the folder of other settings, naming those that differ.
    """
    default = f"runs/{name}-{FLAGS.dataset}-{FLAGS.preset}-seed{FLAGS.seed}"
    run_dir = pathlib.Path(FLAGS.run_dir or default).expanduser()
    record = {
        "system": system,
        "model": name,
        "dataset": FLAGS.dataset,
        "preset": FLAGS.preset,
        "data_options": data_options(),
        "data_version": manifest.version,
        "data_source": manifest.source,
        "seed": FLAGS.seed,
        "mixed_precision": FLAGS.mixed_precision,
        "config": dataclasses.asdict(config),
    }
    path = run_dir / "config.json"
    if path.is_file():
        old = {"model": system, **json.loads(path.read_text())}  # the oldest runs do not name it
        differences = _differences(old, json.loads(json.dumps(record)))
        if differences:
            raise ValueError(
                f"{run_dir} is a run with other settings: {'; '.join(differences)}. Give those again to "
                "continue it, or another --run_dir to start anew."
            )
        if old["config"]["steps"] != config.steps:
            (run_dir / "metrics.json").unlink(missing_ok=True)  # of the shorter training
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(path, record)
    (run_dir / "flags.txt").write_text(FLAGS.flags_into_string())
    write_json(run_dir / "environment.json", environment())
    for split in manifest.splits:
        (run_dir / "splits").mkdir(exist_ok=True)
        subjects = manifest.split(split)["subjects"]
        (run_dir / "splits" / f"{split}.txt").write_text("".join(f"{subject}\n" for subject in subjects))
    return run_dir


def _differences(old: dict, new: dict) -> list[str]:
    found = []
    for name in sorted(old.keys() | new.keys()):
        before, now = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            found += _differences(before, now)
        elif before != now and name != "steps":  # a total: may grow when the run is continued
            found.append(f"{name} was {before}, is now {now}")
    return found


def fit(model: Any, evaluation: types.ModuleType, folder: pathlib.Path, run_dir: pathlib.Path) -> dict:
    """Trains up to the config's steps, from the newest checkpoint on; returns the last state, {"step", "seconds"}."""
    from tfdisent import data
    from tfdisent.training import callbacks
    from tfdisent.training.checkpoint import Checkpoints

    config = model.config
    checkpoints = Checkpoints(run_dir / "checkpoints")
    state = checkpoints.restore(model) or {"step": 0, "seconds": 0.0}
    start = state["step"]
    if start >= config.steps:
        say(f"2/5 training: {start} of {config.steps} steps are done; only evaluating")
        return state
    say(
        f"2/5 training: {'continuing after step ' + str(start) if start else 'starting'}, {config.steps} steps in total"
    )

    batches = data.load(
        folder,
        "train",
        batch_size=config.batch_size,
        augment=config.augmentation.split(",") if config.augmentation else None,
        seed=FLAGS.seed,
        repeat=True,
        start_step=start,
        balance=config.balance_classes,
        **config.loading,
    )
    shown = data.as_arrays(folder, "test", limit=12, **config.loading)

    def save_sample(step):
        from PIL import Image

        path = run_dir / "samples" / f"step-{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(evaluation.sample_grid(model, shown)).save(path)

    write_scalars = tensorboard_writer(run_dir / "tensorboard")
    saver = callbacks.SaveCheckpoints(checkpoints, FLAGS.checkpoint_every, start, state["seconds"])
    try:
        model.fit(
            batches,
            steps_per_epoch=config.steps - start,
            verbose=0,
            callbacks=[
                callbacks.MetricsFile(run_dir / "metrics.csv", start=start, also=write_scalars),
                callbacks.Every(FLAGS.sample_every, save_sample, start),
                callbacks.Progress(config.steps, start),
                saver,
            ],
        )
    finally:
        saver.restore_signals()
    if saver.signal is not None:
        say(f"stopped by signal {saver.signal} after step {saver.step}; the same command continues there")
        sys.exit(STOPPED)
    return {"step": saver.step, "seconds": saver.seconds}


def tensorboard_writer(directory: pathlib.Path) -> Callable:
    """(step, {name: value}) -> None, writing scalars for TensorBoard."""
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(directory))

    def write(step: int, values: dict[str, float]) -> None:
        with writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)
        writer.flush()

    return write


def evaluate(system, parts, model, folder, manifest, run_dir, state) -> dict:
    """Measures the trained model, writes metrics.json and report.html into `run_dir`; returns the metrics."""
    from tfdisent import data, papers, report

    evaluation = parts.evaluation
    say("3/5 evaluation")
    is_paper = FLAGS.preset == "paper"
    metrics, figures = evaluation.evaluate_run(
        model,
        lambda split: data.as_arrays(folder, split, metadata=True, **model.config.loading),
        manifest,
        judge_directory=FLAGS.judge_dir or run_dir / "judges",
        judge_kind=FLAGS.judge or ("inception" if is_paper else "convnet"),
        num_samples=FLAGS.num_samples or (5000 if is_paper else 2000),
        log=lambda message: say(f"    {message}"),
    )
    save_figures(run_dir / "figures", figures)
    write_json(run_dir / "metrics.json", metrics)

    say("4/5 report")
    minutes = state["seconds"] / 60
    shape = " x ".join(map(str, manifest.image_shape))
    summary = (
        f"{parts.title}, preset {FLAGS.preset}, {state['step']} steps of "
        f"{model.config.batch_size} images in {minutes:.1f} "
        f"minutes. Measured on {manifest.dataset}: {manifest.split('train')['num_examples']} images to train, "
        f"{manifest.split('test')['num_examples']} to test, {shape}.\n\n{evaluation.headline(metrics)}"
    )
    path = report.write_report(
        run_dir,
        title=f"{parts.title} on {manifest.dataset}",
        summary=summary,
        metrics=metrics,
        figures=figures,
        paper=report.paper_column(papers.paper_of(system), manifest.dataset, parts.name, parts.title),
        curves=run_dir / "metrics.csv",
        config=dataclasses.asdict(model.config),
        environment=environment(),
        data=dataclasses.asdict(manifest),
        command=shlex.join(["python", "-m", f"train.{system}", *sys.argv[1:]]),
    )
    say(f"\n{evaluation.headline(metrics)}\n\nreport: {path}")
    return metrics


def save_figures(directory: pathlib.Path, figures: list) -> None:
    """Writes a report's pictures as PNG files too, named by their headings; those of before are removed."""
    from PIL import Image

    directory.mkdir(exist_ok=True)
    for path in directory.glob("*.png"):
        path.unlink()
    for figure in figures:
        name = figure_file(figure.name)
        number = sum(path.stem.startswith(name) for path in directory.glob("*.png"))
        Image.fromarray(figure.image).save(directory / f"{name}{f'-{number + 1}' * bool(number)}.png")


def figure_file(heading: str) -> str:
    """The name of a figure's file, without its ending."""
    return re.sub("[^a-z0-9]+", "-", heading.lower()).strip("-")


def volume_settings(folder: pathlib.Path, manifest: Any, model: Any) -> dict[str, Any]:
    """What `tfdisent.apply` has to know to give the model slices of volumes as it saw them; {} of other images."""
    import numpy as np

    from tfdisent import data

    once = {"shuffle": False, "drop_remainder": False, "cache": False}
    batches = data.load(folder, "train", batch_size=64, metadata=True, **once)
    found, shape = [], None
    for batch in batches.take(20).as_numpy_iterator():
        found.append(batch["spacing"][:, :2])  # y, x
        shape = batch["image"].shape[1:3]
    spacing = np.concatenate(found)
    if not (spacing > 0).all():
        return {}
    size = model.config.image_size
    scale = np.array(shape) / (size if isinstance(size, tuple) else (size, size))
    chosen = manifest.options
    settings = {
        "planes": chosen.get("planes", ["axial"]),
        "foreground": chosen.get("foreground", "nonzero"),
        "background": float(chosen.get("background", 0.0)),
    }
    if np.ptp(spacing, axis=0).max() < 1e-3:  # else slices of unlike pixels were learnt alike
        settings["pixel_spacing"] = [round(float(step), 4) for step in spacing[0] * scale]
    return settings


def export(parts, model, folder, manifest, metrics, run_dir, state) -> None:
    """Writes the next version of the SavedModel, unless the state trained so far is exported already."""
    from tfdisent import report
    from tfdisent.export import export as export_model

    record = run_dir / "export.json"
    if record.is_file():
        done = json.loads(record.read_text())
        if done["step"] == state["step"] and pathlib.Path(done["path"]).is_dir():
            say(f"5/5 export: step {state['step']} is exported already: {done['path']}")
            return
    say("5/5 export")
    card = {
        "title": f"{parts.title} on {FLAGS.dataset}",
        "summary": parts.evaluation.headline(metrics),
        "licence": manifest.licence,
        "citation": manifest.citation,
        "values": parts.evaluation.card_values(manifest),
        "data": report.data_summary(dataclasses.asdict(manifest)) | volume_settings(folder, manifest, model),
        "training": {
            "steps": state["step"],
            "minutes": round(state["seconds"] / 60, 1),
            "preset": FLAGS.preset,
            "seed": FLAGS.seed,
        },
        "metrics": metrics,
    }
    directory = pathlib.Path(FLAGS.export_dir or f"saved_models/{parts.name}-{FLAGS.dataset}").expanduser()
    path = export_model(model, directory, card=card)
    write_json(record, {"step": state["step"], "path": str(path)})
    say(f"model: {path}")


def environment() -> dict[str, Any]:
    """Versions, backend, machine and commit."""
    import keras

    packages = ("tfdisent", "tensorflow", "keras", "jax", "torch", "numpy", "tensorflow-gan")
    root = pathlib.Path(__file__).resolve().parent.parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True)
    return {
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "versions": {name: version for name in packages if (version := _version(name))},
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "commit": commit.stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
    }


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON whole or not at all."""
    temporary = path.with_suffix(".writing")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)


def say(message: str) -> None:
    """A line of progress, at once."""
    print(message, flush=True)
