"""A run, step by step, each of which can be called alone and continues what is there:

    run = prepare(Settings(system="drai", dataset="skin_phantom", preset="quick"))
    fit(run)
    evaluate(run)
    export(run)

`train` takes all of them; `open_run` opens a trained run again.
"""

import contextlib
import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras  # before TensorFlow: with the torch backend it must load torch first
import numpy as np
from PIL import Image

from tfdisent import data, datasets, files, report
from tfdisent.data import Manifest
from tfdisent.downstream.segmentation import Segmentor
from tfdisent.evaluation.entries import Results, failed
from tfdisent.examples import SHUFFLED_BYTES, Examples
from tfdisent.experiment import catalogue, folder
from tfdisent.experiment.curves import TRAINING, Curves, write_evaluation
from tfdisent.experiment.settings import Settings, command_of
from tfdisent.export import export as export_model
from tfdisent.messages import Incomplete, Stopped, say
from tfdisent.report.tables import METRICS
from tfdisent.training import callbacks, distribution
from tfdisent.training.checkpoint import BestCheckpoint, Checkpoints

SEGMENTOR = "downstream/segmentor"  # in the run's folder
FEW_SUBJECTS = 10  # with fewer, those who train are warned


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


def alone(task: str) -> Callable[[Callable], Callable]:
    """Makes of a step of a run one that has the run's folder to itself: another process is refused, naming this one."""

    def decorate(step: Callable) -> Callable:
        @functools.wraps(step)
        def alone_in_it(run: Run, *args: Any, **kwargs: Any) -> Any:
            with _locked(run.settings, run.run_dir, task):
                return step(run, *args, **kwargs)

        return alone_in_it

    return decorate


def _locked(settings: Settings, run_dir: pathlib.Path, task: str) -> contextlib.AbstractContextManager:
    """The lock of a run's folder; of several hosts the first has it for all."""
    return files.locked(run_dir, task) if settings.hosts.is_first else contextlib.nullcontext()


def train(settings: Settings) -> Run:
    """Prepares, trains, evaluates and, unless the settings say otherwise, exports.

    Of several hosts all train, and the first does the rest.

    Raises:
        Incomplete: a metric failed; the report names it, and the model is exported.
        BlockingIOError: another process has the run folder, naming it.
    """
    data_folder, manifest = prepared_data(settings)
    with _locked(settings, settings.folder, "training"):
        run = _opened(settings, data_folder, manifest)
        fit(run)
        if settings.num_hosts > 1:
            distribution.disconnect(settings.hosts)
            if not settings.hosts.is_first:
                say(f"host {settings.host} of {settings.num_hosts} is done: host 0 evaluates, reports and exports")
                return run
            settings = dataclasses.replace(settings, coordinator=None, num_hosts=1, devices="1")
            run = _opened(settings, data_folder, manifest)  # the model of this host alone
        select(run)
        metrics = evaluate(run)
        if settings.export:
            export(run)
    require_all_measured(metrics)
    return run


def prepare(settings: Settings) -> Run:
    """Prepares the data where they are not yet, opens the run folder, and makes the model.

    The model has the weights of the newest checkpoint in the folder, where there is one.

    Raises:
        ValueError: the data cannot serve the system, or the folder is of other settings.
        FileNotFoundError: no raw data; says where to get them.
        BlockingIOError: another process has the run folder, naming it.
    """
    data_folder, manifest = prepared_data(settings)
    with files.locked(settings.folder, "training"):
        return _opened(settings, data_folder, manifest)


def _opened(settings: Settings, data_folder: pathlib.Path, manifest: Manifest) -> Run:
    config = settings.config(**settings.method.model.config_class.data_fields(manifest))
    if settings.epochs:
        steps = settings.epochs * max(1, manifest.split("train")["num_examples"] // config.batch_size)
        config = dataclasses.replace(config, steps=steps)
    if warning := few_subjects(manifest, config):
        say(warning)
    if settings.select == "best":
        require_trend(settings.system, manifest)
    before = folder.check_folder(settings, config, manifest)
    if settings.num_hosts > 1:
        say(f"host {settings.host} of {settings.num_hosts} meets the others at {settings.coordinator}")
    distribution.connect(settings.hosts)
    distribution.require_same(settings.hosts, "settings or data", str(folder.record_of(settings, config, manifest)))
    run = _run_of(settings, config, data_folder, manifest, settings.folder)
    distribution.require_same(settings.hosts, "a newest checkpoint", f"step {run.state['step']} in {run.run_dir}")
    if settings.hosts.is_first:
        folder.write_folder(settings, config, manifest, before, run.state["step"])
    return run


def few_subjects(manifest: Manifest, config: Any) -> str:
    """A warning of a training split with fewer than `FEW_SUBJECTS` subjects, "" with more."""
    count = len(manifest.split("train")["subjects"])
    if count >= FEW_SUBJECTS:
        return ""
    augmented = "" if config.augmentation else ", or turn on augmentation, as with --set=augmentation=mirror"
    return (
        f"    warning: {count} subject{'' if count == 1 else 's'} to train on. Below {FEW_SUBJECTS} a model may learn "
        "them by heart, and put into new images what only these have; measures vary with who they are. Train on more"
        f"{augmented}."
    )


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
    config = folder.config_of(record, run_dir)
    settings = folder.read_settings(run_dir, **others)
    results = checkpoints = settings.folder
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
    select(run)
    return run


def select(run: Run) -> None:
    """Gives the model the weights that the settings choose: the last ones, which it has, or the best on "val".

    Raises:
        FileNotFoundError: none are best, since nothing was measured in training.
    """
    if run.settings.select == "last":
        return
    state = Checkpoints(run.settings.folder / "best").restore(run.model)
    if state is None:
        raise FileNotFoundError(
            f"{run.settings.folder} has no best checkpoint: it is chosen in training, every --sample_every steps, on "
            "data with a split val. Train on such data, or give --select=last."
        )
    run.state = run.state | {"step": state["step"], "is_best": True}
    say(f"the best checkpoint is that of step {state['step']}")


def require_trend(system: str, manifest: Manifest) -> None:
    """Raises ValueError where no checkpoint can be the best, since nothing is measured in training."""
    if catalogue.evaluation(system).trend is None:
        raise ValueError(f"--select=best: {system} is not measured while it trains. Give --select=last.")
    if "val" not in manifest.splits:
        raise ValueError(
            f"--select=best chooses on the split val, which {manifest.dataset} does not have as it is prepared. "
            "Prepare it with one (of a phantom --data=num_val=64), or give --select=last."
        )


def prepared_data(settings: Settings) -> tuple[pathlib.Path, Manifest]:
    """The prepared data set at the config's image size, and its manifest; it is prepared when it can be.

    Raises:
        ValueError: the data cannot serve the system. Where the builder knows it, nothing is prepared before.
        FileNotFoundError: no raw data; says where to get them.
    """
    say(f"1/5 data: {settings.dataset}")
    if settings.num_hosts == 1:  # of several, the devices are known once they have met
        distribution.check_batch(settings.devices, settings.provisional_config.batch_size)
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


@alone("training")
def fit(run: Run) -> None:
    """Trains up to the config's steps, from the newest checkpoint on.

    Raises:
        Stopped: by SIGTERM or SIGINT; the state is saved, and another call continues there.
        ArithmeticError: a loss or a weight is not finite.
        BlockingIOError: another process has the run folder, naming it.
        ValueError: another process has trained it since it was opened.
    """
    config, settings, start = run.config, run.settings, run.state["step"]
    checkpoints = Checkpoints(run.run_dir / "checkpoints")
    if checkpoints.newest_step() not in (None, start):
        raise ValueError(
            f"{run.run_dir} was opened at step {start}, and has been trained to step {checkpoints.newest_step()} by "
            "another process since. Open it again."
        )
    if start >= config.steps:
        say(f"2/5 training: {start} of {config.steps} steps are done; only evaluating")
        return
    beginning = f"continuing after step {start}" if start else "starting"
    say(f"2/5 training: {beginning}, {config.steps} steps in total")
    load = _loader(run)
    writers, unfinished = _writers(run, load) if settings.hosts.is_first else ([], dict)
    saver = distribution.saver(settings.hosts)(
        checkpoints, settings.checkpoint_every, start, run.state["seconds"], also=unfinished
    )
    try:
        with (
            _precision(settings),
            distribution.losses_told(settings.hosts),
            distribution.scope(settings.devices, settings.hosts),
        ):
            run.model.fit(
                run.model.stream(load, start),
                steps_per_epoch=config.steps - start,
                verbose=0,
                callbacks=[
                    *writers,
                    callbacks.Every(settings.sample_every, _sampler(run), start),
                    *([callbacks.Progress(config.steps, start)] if settings.hosts.is_first else []),
                    saver,
                ],
            )
    except callbacks.NonFiniteLoss as error:
        raise callbacks.NonFiniteLoss(f"{error}{_bad_examples(run.model, load, saver.step)}") from None
    finally:
        saver.restore_signals()
    run.state = {"step": saver.step, "seconds": saver.seconds, **unfinished()}
    if saver.signal is not None:
        message = f"stopped by signal {saver.signal} after step {saver.step}; the same command continues there"
        raise Stopped(message, saver.signal)


@alone("evaluation")
def evaluate(run: Run, split: str = "test") -> dict[str, dict]:
    """Measures the trained model, writes metrics.json, figures and report.html; returns the metrics.

    A part that fails is marked in them and named in the report: see `require_all_measured`. A segmentor that is trained
    on the model's codes is kept in `downstream`, and exported with the model.

    Args:
        run: trained; results are written to its folder.
        split: what is measured on; "val", where the data have it, to choose settings by. Results on another split than
            "test" are written to `on-<split>` in the run's folder, and judged by the same networks.
    """
    run.manifest.split(split)  # a missing one is an error at once
    settings, manifest = run.settings, run.manifest
    results_dir = run.run_dir if split == "test" else run.run_dir / f"on-{split}"
    results_dir.mkdir(exist_ok=True)
    say("3/5 evaluation")
    is_paper = settings.preset == "paper"
    results = Results(log=lambda message: say(f"    {message}"))
    kept = results_dir / SEGMENTOR
    shutil.rmtree(kept, ignore_errors=True)  # of other weights
    with _precision(settings):
        found = results.attempt(
            ["evaluation"],
            lambda: run.evaluation.evaluate_run(
                run.model,
                lambda name: run.examples(split if name == "test" else name),
                manifest,
                judge_directory=settings.judge_dir or run.run_dir / "judges",
                judge_kind=settings.judge or ("inception" if is_paper else "convnet"),
                num_samples=settings.num_samples or (5000 if is_paper else 2000),
                log=results.log,
                **({"keep": kept} if run.evaluation.keeps_segmentor else {}),
            ),
        )
    metrics, figures = found or (results.metrics, [])
    folder.save_figures(results_dir / "figures", figures)
    files.write_json(results_dir / "metrics.json", metrics)
    write_evaluation(results_dir / "tensorboard", run.state["step"], metrics)

    say("4/5 report")
    headline = _headline(run, metrics)
    path = report.write_report(
        results_dir,
        title=f"{run.title} on {manifest.dataset}" + (f", split {split}" if split != "test" else ""),
        summary=f"{_summary(run)}\n\n{headline}",
        metrics=metrics,
        figures=figures,
        paper=report.paper_column(catalogue.paper(settings.system), manifest.dataset, run.method.name, run.title),
        curves=run.run_dir / "metrics.csv",
        gradients=run.run_dir / "gradients.csv",
        config=dataclasses.asdict(run.config),
        environment=folder.environment(),
        data=dataclasses.asdict(manifest),
        command=command_of(settings),
    )
    say(f"\n{headline}\n\nreport: {path}")
    return metrics


def require_all_measured(metrics: Mapping[str, Mapping]) -> None:
    """Raises `Incomplete` if a metric failed, naming it; one that the data do not allow is not meant."""
    if names := failed(metrics):
        raise Incomplete(f"{', '.join(names)} failed: {metrics[names[0]]['reason']}. The report has the rest.")


@alone("export")
def export(run: Run) -> pathlib.Path:
    """Writes the next version of the SavedModel, unless the state trained so far is exported already.

    It waits for other processes that export to the same folder.

    Returns:
        The folder of the version.
    """
    record, step = run.run_dir / "export.json", run.state["step"]
    if record.is_file():
        done = files.read_json(record)
        if done["step"] == step and pathlib.Path(done["path"]).is_dir():
            say(f"5/5 export: step {step} is exported already: {done['path']}")
            return pathlib.Path(done["path"])
    say("5/5 export")
    measured = run.run_dir / "metrics.json"
    metrics = files.read_json(measured) if measured.is_file() else {}
    settings, manifest = run.settings, run.manifest
    card = {
        "title": f"{run.title} on {settings.dataset}",
        "summary": _headline(run, metrics) if metrics else "Not evaluated.",
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
    familiar = run.evaluation.familiar and run.evaluation.familiar(run.model, run.examples)
    card |= {"familiar": familiar.to_card()} if familiar else {}
    if (run.run_dir / SEGMENTOR).is_dir():
        run.model.segment_with(Segmentor.load(run.run_dir / SEGMENTOR), manifest.mask_labels)
    with files.locked(settings.export_folder, "export", wait=True):
        path = export_model(run.model, settings.export_folder, card=card, formats=settings.export_formats)
    files.write_json(record, {"step": step, "path": str(path)})
    say(f"model: {path}")
    return path


def examples_of(folder: pathlib.Path, split: str, **loading: Any) -> Examples:
    """The examples of a split of a prepared folder; `loading` are arguments of `tfdisent.data.load`."""

    def read(size: int, seed: int | None, rows: np.ndarray | None) -> Iterator[dict[str, np.ndarray]]:
        order = {"shuffle": False} if seed is None else {"shuffle": True, "seed": seed}
        once = {"drop_remainder": False, "cache": False, "metadata": True, "block_bytes": SHUFFLED_BYTES}
        return data.load(folder, split, rows=rows, batch_size=size, **order, **once, **loading).as_numpy_iterator()

    return Examples(read, Manifest.read(folder).split(split)["num_examples"])


def _run_of(settings, config, data_folder, manifest, run_dir, checkpoints_of=None) -> Run:
    """The run with its model, from the newest checkpoint of the folder `checkpoints_of`, by default its own."""
    checkpoints = Checkpoints((checkpoints_of or run_dir) / "checkpoints")
    with _precision(settings), distribution.scope(settings.devices, settings.hosts):
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
        # Several devices get whole batches alone, in a validation too.
        "drop_remainder": True if str(run.settings.devices) != "1" else None,
        "balance": config.balance_classes,
        "annotated": config.annotated or None,
        "share": (run.settings.host, run.settings.num_hosts),
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
        grid = run.evaluation.sample_grid(run.model, shown)  # on all hosts, which compute it together
        if run.settings.hosts.is_first:
            path = run.run_dir / "samples" / f"step-{step:08d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(grid).save(path)

    return save


def _writers(run: Run, load: Callable[..., Any]) -> tuple[list[keras.callbacks.Callback], Callable[[], dict[str, Any]]]:
    """What writes the curves of training, and of its validation if there is one; and what continues them.

    The latter is to be kept with each checkpoint, since it gives the sums of a row that is not whole yet.
    """
    start, steps, every = run.state["step"], run.config.steps, run.settings.sample_every
    metrics = callbacks.MetricsFile(
        run.run_dir / "metrics.csv", start=start, unfinished=run.state.get("unfinished"), total=steps
    )
    curves = Curves(
        run.run_dir / "tensorboard",
        lambda group, step: step <= start and (group not in TRAINING or metrics.is_whole(step)),
    )
    metrics.also = curves.write_training
    writers = [metrics]
    # Of several hosts the first writes alone, and a validation would need all of them.
    validation = run.model.validation(load) if run.settings.num_hosts == 1 else None
    if validation is not None:
        path, write = run.run_dir / "validation.csv", functools.partial(curves.write, "validation")
        measure = callbacks.validation_of(validation)
        writers.append(callbacks.ValidationFile(path, measure, every, start, total=steps, also=write))
    if run.settings.gradient_every and run.settings.num_hosts == 1:
        path, write = run.run_dir / "gradients.csv", functools.partial(curves.write, "gradients")
        measure, every = _gradient_shares(run, load), run.settings.gradient_every
        writers.append(callbacks.ValidationFile(path, measure, every, start, total=steps, also=write))
    if run.settings.num_hosts == 1 and run.evaluation.trend is not None and "val" in run.manifest.splits:
        writers.append(_trend(run, curves))
    return writers, lambda: {"unfinished": metrics.unfinished}


def _gradient_shares(run: Run, load: Callable[..., Any]) -> Callable[[Any], dict[str, float]]:
    """Measures the shares of the loss terms in the gradient, always on the first batch of training."""
    first = functools.cache(lambda: next(run.model.stream(load, 0).take(1).as_numpy_iterator()))
    return lambda model: model.gradient_shares(first())


def _trend(run: Run, curves: Curves) -> keras.callbacks.Callback:
    """Measures the model on the validation split at times, and keeps the best checkpoint beside the newest."""
    val, start = run.examples("val"), run.state["step"]
    best = BestCheckpoint(run.run_dir / "best", start)

    def keep(step: int, values: dict[str, float]) -> None:
        curves.write("trend", step, values)
        name, value = next(iter(values.items()))
        best.offer(run.model, step, -value if METRICS[name][1] == "lower" else value)

    def measure(model) -> dict[str, float]:
        results = Results(log=lambda message: say(f"    {message}"))  # what fails here must not end the training
        return results.attempt(["trend"], run.evaluation.trend, model, val) or {}

    return callbacks.ValidationFile(
        run.run_dir / "trend.csv",
        measure,
        run.settings.sample_every,
        start,
        total=run.config.steps,
        also=keep,
    )


def _bad_examples(model: keras.Model, load: Callable[..., Any], step: int) -> str:
    """Which examples of the batch after `step` hold NaN or infinity, as a sentence; "" if none does."""
    batch = next(model.stream(functools.partial(load, metadata=True), step).take(1).as_numpy_iterator())
    found = []
    for name in model.batch_shapes().keys() & batch.keys():
        values = batch[name]
        if values.dtype.kind == "f":
            bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
            keys = [batch["key"][i].decode() if "key" in batch else str(i) for i in bad]
            found += [f"the {name} of example {key}" for key in keys]
    return f" NaN or infinite in this batch: {', '.join(sorted(found))}." if found else ""


def _headline(run: Run, metrics: Mapping[str, Mapping]) -> str:
    """The result in words, and what failed."""
    names = failed(metrics)
    lines = [] if "evaluation" in names else [run.evaluation.headline(metrics)]
    if names:
        lines.append(f"Failed, with its reason in the table: {', '.join(names)}.")
    return "\n".join(lines)


def _summary(run: Run) -> str:
    """What was trained on what and for how long, in words."""
    manifest = run.manifest
    best = f" (the best on the validation split; trained for {run.config.steps})" * run.state.get("is_best", False)
    return (
        f"{run.title}, preset {run.settings.preset}, {run.state['step']} steps{best} of {run.config.batch_size} images "
        f"in {run.state['seconds'] / 60:.1f} minutes{_extension(run)}. Measured on {manifest.dataset}: "
        f"{manifest.split('train')['num_examples']} images to train, {manifest.split('test')['num_examples']} to test, "
        f"{' x '.join(map(str, manifest.image_shape))}."
    )


def _extension(run: Run) -> str:
    """How a training was extended that was planned to be shorter, as part of a sentence; "" if it was not."""
    steps = folder.read_record(run.settings.folder).get("extended", ())
    return f", extended after step {' and '.join(map(str, steps))}, which changed its schedules" if steps else ""


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
        "orientation": chosen.get("orientation", "canonical"),
        "foreground": chosen.get("foreground", "nonzero"),
        "background": float(chosen.get("background", 0.0)),
    }
    if np.ptp(spacing, axis=0).max() < 1e-3:  # else slices of different pixel sizes were learnt alike
        settings["pixel_spacing"] = [round(float(step), 4) for step in spacing[0] * scale]
    return settings
