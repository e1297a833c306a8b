"""A run, step by step, each of which can be called alone and continues what is there:

    run = prepare(Settings(system="drai", dataset="skin_phantom", preset="quick"))
    fit(run)
    evaluate(run)
    export(run)

`train` takes all of them; `open_run` opens a trained run again.
"""

import contextlib
import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import keras  # before TensorFlow: with the torch backend it must load torch first
import numpy as np
from PIL import Image

from tfdisent import data, datasets, files, report
from tfdisent.data import Manifest
from tfdisent.examples import Examples
from tfdisent.experiment import catalogue, folder
from tfdisent.experiment.settings import Settings, command_of
from tfdisent.export import export as export_model
from tfdisent.messages import Stopped, say
from tfdisent.training import callbacks, distribution
from tfdisent.training.checkpoint import Checkpoints


@dataclasses.dataclass
class Run:
    """A model with its data and its folder.

    Attributes:
        settings: what was asked for.
        method: what is trained, a `tfdisent.baselines.method.Method`.
        evaluation: how it is measured, a `tfdisent.evaluation.protocol.Evaluation`.
        data_folder: the prepared data.
        manifest: what the data are.
        run_dir: where results are written.
        model: compiled, with the weights of the newest checkpoint.
        state: of training: {"step": steps done, "seconds": spent on them}.
    """

    settings: Settings
    method: Any
    evaluation: Any
    data_folder: pathlib.Path
    manifest: Manifest
    run_dir: pathlib.Path
    model: keras.Model
    state: dict[str, Any]

    @property
    def config(self) -> Any:
        """The model's config."""
        return self.model.config

    @property
    def title(self) -> str:
        """The method's name in print."""
        return self.method.title

    def examples(self, split: str) -> Examples:
        """The examples of a split as the model takes them, with all that the records hold."""
        return examples_of(self.data_folder, split, **self.config.loading)


def train(settings: Settings) -> Run:
    """Prepares, trains, evaluates and, unless the settings say otherwise, exports."""
    run = prepare(settings)
    fit(run)
    evaluate(run)
    if settings.export:
        export(run)
    return run


def prepare(settings: Settings) -> Run:
    """Prepares the data where they are not yet, opens the run folder, and makes the model.

    The model has the weights of the newest checkpoint in the folder, where there is one.

    Raises:
        ValueError: the data cannot serve the system, or the folder is of other settings.
        FileNotFoundError: no raw data; says where to get them.
    """
    say(f"1/5 data: {settings.dataset}")
    data_folder, manifest = prepared_data(settings)
    config = settings.config(**settings.method.model.config_class.data_fields(manifest))
    if settings.epochs:
        steps = settings.epochs * max(1, manifest.split("train")["num_examples"] // config.batch_size)
        config = dataclasses.replace(config, steps=steps)
    run_dir = folder.open_folder(settings, config, manifest)
    return _run_of(settings, config, data_folder, manifest, run_dir)


def open_run(run_dir: str, **others: Any) -> Run:
    """A trained run, with the model of its newest checkpoint.

    Args:
        run_dir: its folder.
        **others: fields of `Settings` to change: where the data lie, how images are judged, or another `dataset`, on
            which results are written to `<run_dir>/on-<dataset>`.

    Raises:
        FileNotFoundError: it is not the folder of a trained run.
        ValueError: the model is not for these data.
    """
    record = folder.read_record(run_dir)
    settings = folder.read_settings(run_dir, **others)
    results = checkpoints = settings.folder
    config = settings.method.model.config_class(**record["config"])
    data_folder, manifest = prepared_data(settings)
    decided = config.data_fields(manifest)
    for name, value in decided.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"Expected data with {name} {getattr(config, name)}, as {run_dir} was trained on; {settings.dataset} "
                f"has {value}."
            )
    changes = {name: value for name, value in settings.changes.items() if name not in decided}
    settings = dataclasses.replace(settings, changes=changes)
    if settings.dataset != record["dataset"]:
        results /= f"on-{settings.dataset}"
    run = _run_of(settings, config, data_folder, manifest, results, checkpoints)
    if not run.state["step"]:
        raise FileNotFoundError(f"{run_dir} has no checkpoint yet; train it first.")
    results.mkdir(exist_ok=True)
    return run


def prepared_data(settings: Settings) -> tuple[pathlib.Path, Manifest]:
    """The prepared data set at the config's image size, and its manifest; it is prepared when it can be.

    Raises:
        ValueError: the data cannot serve the system. Where the builder knows it, nothing is prepared before.
        FileNotFoundError: no raw data; says where to get them.
    """
    name, options, config = settings.dataset, settings.preparation, settings.provisional_config
    builder = datasets.make_builder(name, options)
    raw_dir = settings.raw_dir and pathlib.Path(settings.raw_dir).expanduser()
    if not builder.raw_help or (raw_dir and raw_dir.exists()):
        manifest = builder.info(raw_dir)
        config.check_manifest(manifest)
        settings.config(**config.data_fields(manifest))
    path = datasets.prepare(name, settings.data_dir, raw_dir, **options)
    manifest = Manifest.read(path)
    config.check_manifest(manifest)
    return path, manifest


def fit(run: Run) -> None:
    """Trains up to the config's steps, from the newest checkpoint on.

    Raises:
        Stopped: by SIGTERM or SIGINT; the state is saved, and another call continues there.
        ArithmeticError: a loss is not finite.
    """
    config, settings, start = run.config, run.settings, run.state["step"]
    if start >= config.steps:
        say(f"2/5 training: {start} of {config.steps} steps are done; only evaluating")
        return
    beginning = f"continuing after step {start}" if start else "starting"
    say(f"2/5 training: {beginning}, {config.steps} steps in total")
    load = _loader(run)
    validation = run.model.validation(load)
    epochs = {"steps_per_epoch": config.steps - start}
    if validation is not None:
        every = min(settings.sample_every, config.steps - start)
        epochs = {"steps_per_epoch": every, "epochs": math.ceil((config.steps - start) / every)}
    checkpoints = Checkpoints(run.run_dir / "checkpoints")
    saver = callbacks.SaveCheckpoints(checkpoints, settings.checkpoint_every, start, run.state["seconds"])
    write_scalars = _tensorboard_writer(run.run_dir / "tensorboard")
    try:
        with _precision(settings), distribution.scope(settings.devices):
            run.model.fit(
                run.model.stream(load, start),
                **epochs,
                validation_data=validation,
                verbose=0,
                callbacks=[
                    callbacks.MetricsFile(run.run_dir / "metrics.csv", start=start, also=write_scalars),
                    callbacks.Every(settings.sample_every, _sampler(run), start),
                    callbacks.ValidationFile(run.run_dir / "validation.csv", start=start, also=write_scalars),
                    callbacks.Progress(config.steps, start),
                    saver,
                    callbacks.Every(config.steps, lambda step: setattr(run.model, "stop_training", True), start),
                ],
            )
    finally:
        saver.restore_signals()
    run.state = {"step": saver.step, "seconds": saver.seconds}
    if saver.signal is not None:
        message = f"stopped by signal {saver.signal} after step {saver.step}; the same command continues there"
        raise Stopped(message, saver.signal)


def evaluate(run: Run) -> dict[str, dict]:
    """Measures the trained model, writes metrics.json, figures and report.html; returns the metrics."""
    settings, manifest = run.settings, run.manifest
    say("3/5 evaluation")
    is_paper = settings.preset == "paper"
    with _precision(settings):
        metrics, figures = run.evaluation.evaluate_run(
            run.model,
            run.examples,
            manifest,
            judge_directory=settings.judge_dir or run.run_dir / "judges",
            judge_kind=settings.judge or ("inception" if is_paper else "convnet"),
            num_samples=settings.num_samples or (5000 if is_paper else 2000),
            log=lambda message: say(f"    {message}"),
        )
    folder.save_figures(run.run_dir / "figures", figures)
    files.write_json(run.run_dir / "metrics.json", metrics)

    say("4/5 report")
    headline = run.evaluation.headline(metrics)
    path = report.write_report(
        run.run_dir,
        title=f"{run.title} on {manifest.dataset}",
        summary=f"{_summary(run)}\n\n{headline}",
        metrics=metrics,
        figures=figures,
        paper=report.paper_column(catalogue.paper(settings.system), manifest.dataset, run.method.name, run.title),
        curves=run.run_dir / "metrics.csv",
        config=dataclasses.asdict(run.config),
        environment=folder.environment(),
        data=dataclasses.asdict(manifest),
        command=command_of(settings),
    )
    say(f"\n{headline}\n\nreport: {path}")
    return metrics


def export(run: Run) -> pathlib.Path:
    """Writes the next version of the SavedModel, unless the state trained so far is exported already.

    Returns:
        The folder of the version.
    """
    record, step = run.run_dir / "export.json", run.state["step"]
    if record.is_file():
        done = json.loads(record.read_text())
        if done["step"] == step and pathlib.Path(done["path"]).is_dir():
            say(f"5/5 export: step {step} is exported already: {done['path']}")
            return pathlib.Path(done["path"])
    say("5/5 export")
    measured = run.run_dir / "metrics.json"
    metrics = json.loads(measured.read_text()) if measured.is_file() else {}
    settings, manifest = run.settings, run.manifest
    card = {
        "title": f"{run.title} on {settings.dataset}",
        "summary": run.evaluation.headline(metrics) if metrics else "Not evaluated.",
        "licence": manifest.licence,
        "citation": manifest.citation,
        "values": run.evaluation.card_values(manifest),
        "data": report.data_summary(dataclasses.asdict(manifest)) | _volume_settings(run),
        "training": {
            "steps": step,
            "minutes": round(run.state["seconds"] / 60, 1),
            "preset": settings.preset,
            "seed": settings.seed,
        },
        "metrics": metrics,
    }
    path = export_model(run.model, settings.export_folder, card=card)
    files.write_json(record, {"step": step, "path": str(path)})
    say(f"model: {path}")
    return path


def examples_of(folder: pathlib.Path, split: str, **loading: Any) -> Examples:
    """The examples of a split of a prepared folder; `loading` are arguments of `tfdisent.data.load`."""

    def read(size: int, seed: int | None = None) -> Iterator[dict[str, np.ndarray]]:
        order = {"shuffle": False} if seed is None else {"shuffle": True, "seed": seed}
        once = {"drop_remainder": False, "cache": False, "metadata": True}
        return data.load(folder, split, batch_size=size, **order, **once, **loading).as_numpy_iterator()

    return Examples(read, Manifest.read(folder).split(split)["num_examples"])


def _run_of(settings, config, data_folder, manifest, run_dir, checkpoints_of=None) -> Run:
    """The run with its model, from the newest checkpoint of the folder `checkpoints_of`, by default its own."""
    checkpoints = Checkpoints((checkpoints_of or run_dir) / "checkpoints")
    with _precision(settings), distribution.scope(settings.devices):
        keras.utils.set_random_seed(settings.seed)
        model = settings.method.model(config, seed=settings.seed)
        model.compile()
        state = checkpoints.restore(model) or {"step": 0, "seconds": 0.0}
    evaluation = catalogue.evaluation(settings.system)
    return Run(settings, settings.method, evaluation, data_folder, manifest, run_dir, model, state)


def _loader(run: Run) -> Callable[..., Any]:
    """Gives an endless stream of a split's batches as the config says, but for arguments of `tfdisent.data.load`."""
    config = run.config
    arguments = {
        "batch_size": config.batch_size,
        "augment": config.augmentation.split(",") if config.augmentation else None,
        "seed": run.settings.seed,
        "repeat": True,
        "balance": config.balance_classes,
        **config.loading,
    }
    return lambda split, **changes: data.load(run.data_folder, split, **arguments | changes)


@contextlib.contextmanager
def _precision(settings: Settings) -> Iterator[None]:
    """Inside the block networks are made and run in the precision of the settings."""
    before = keras.config.dtype_policy()
    if settings.mixed_precision:
        keras.config.set_dtype_policy(f"mixed_{settings.mixed_precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _sampler(run: Run) -> Callable[[int], None]:
    """Writes a picture of progress when it is called with the step."""
    test = run.examples("test")
    shown = test.take(np.arange(min(12, len(test))))

    def save(step: int) -> None:
        path = run.run_dir / "samples" / f"step-{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(run.evaluation.sample_grid(run.model, shown)).save(path)

    return save


def _tensorboard_writer(directory: pathlib.Path) -> Callable[[int, dict[str, float]], None]:
    """Writes scalars for TensorBoard when it is called with the step and {name: value}."""
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(directory))

    def write(step: int, values: dict[str, float]) -> None:
        with writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)
        writer.flush()

    return write


def _summary(run: Run) -> str:
    """What was trained on what and for how long, in words."""
    manifest = run.manifest
    return (
        f"{run.title}, preset {run.settings.preset}, {run.state['step']} steps of {run.config.batch_size} images in "
        f"{run.state['seconds'] / 60:.1f} minutes. Measured on {manifest.dataset}: "
        f"{manifest.split('train')['num_examples']} images to train, {manifest.split('test')['num_examples']} to test, "
        f"{' x '.join(map(str, manifest.image_shape))}."
    )


def _volume_settings(run: Run) -> dict[str, Any]:
    """What `tfdisent.apply` has to know to give the model slices of volumes as it saw them; {} of other images."""
    once = {"shuffle": False, "drop_remainder": False, "cache": False}
    batches = data.load(run.data_folder, "train", batch_size=64, metadata=True, **once)
    found, shape = [], None
    for batch in batches.take(20).as_numpy_iterator():
        found.append(batch["spacing"][:, :2])  # y, x
        shape = batch["image"].shape[1:3]
    spacing = np.concatenate(found)
    if not (spacing > 0).all():
        return {}
    size = run.config.image_size
    scale = np.array(shape) / (size if isinstance(size, tuple) else (size, size))
    chosen = run.manifest.options
    settings = {
        "planes": chosen.get("planes", ["axial"]),
        "foreground": chosen.get("foreground", "nonzero"),
        "background": float(chosen.get("background", 0.0)),
    }
    if np.ptp(spacing, axis=0).max() < 1e-3:  # else slices of different pixel sizes were learnt alike
        settings["pixel_spacing"] = [round(float(step), 4) for step in spacing[0] * scale]
    return settings
