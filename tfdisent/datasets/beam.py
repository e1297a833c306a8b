"""Preparation under Apache Beam, for data sets past one machine: the shards are those of the pool.

    python -m datasets.build --dataset=NAME --raw_dir=DIR --data_dir=DIR --engine=beam
                             [--runner=FlinkRunner --runner_option=--flink_master=HOST:8081 ...]

    Create(units) | Reshuffle | read and encode a unit | GroupByKey(shard) | write the shard

A unit (a subject, a series) is a work item, wherever a worker is free. Its records travel to the worker that writes
their shard, in the order that the plan gives them, so that a shard's bytes and the manifest equal those of
`engine="pool"`, and an interrupted preparation resumes with the shards that are missing, under either engine.

`raw_dir` and `data_dir` must lie where every worker sees them under the same path (a network file system), and every
worker needs this package and what setup.py lists. The DirectRunner holds all records in the memory of one process: it
is for trying things out, and on one machine the pool is the better choice.

Needs Apache Beam; from a checkout: `pip install '.[beam]'`. Tried with apache-beam 2.77, TensorFlow 2.21, Python 3.11.
"""

import functools
import json
import operator
import pathlib
from collections.abc import Iterable

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError as error:
    raise ImportError(
        f"engine=beam needs Apache Beam ({error}). Install it, from a checkout: pip install '.[beam]'"
    ) from error

from tfdisent.datasets.builder import Unit
from tfdisent.datasets.pool import UnitProgress
from tfdisent.datasets.shards import Result, Task, read_unit, write_shard


def write_shards(tasks: list[Task], progress: UnitProgress, runner: str, options: tuple[str, ...] = ()) -> None:
    """Writes shards, each with its entry for the manifest.

    Args:
        tasks: the shards to write.
        progress: its `counts` are set when all is done; meanwhile the runner's own pages show the counters good, skip
            and fail.
        runner: name of Beam's runner.
        options: its flags, as Beam's documentation has them.

    Raises:
        ValueError: a unit could not be read, and `on_error` is "fail"; or an unknown runner.
        OSError: a shard cannot be written.
    """
    shards = [task._replace(units=()) for task in tasks]  # what a worker needs to know of them
    units = [(index, position, unit) for index, task in enumerate(tasks) for position, unit in enumerate(task.units)]
    pipeline = beam.Pipeline(options=PipelineOptions([*options, f"--runner={runner}"]))
    _ = (
        pipeline
        | beam.Create(units)
        | beam.Reshuffle()
        | beam.Map(functools.partial(_read, shards))
        | beam.GroupByKey()
        | beam.Map(functools.partial(_write, shards))
    )
    result = pipeline.run()
    result.wait_until_finish()
    progress.counts[:] = _counters(result)
    for task in tasks:
        if _problem(task).is_file():
            error = json.loads(_problem(task).read_text(encoding="utf-8"))
            for other in tasks:
                _problem(other).unlink(missing_ok=True)
            raise (ValueError if error["is_input"] else OSError)(error["message"])
        if not task.is_written:
            raise OSError(f"{runner} ended without {task.path}. Check that all workers see its folder.")


def _read(shards: list[Task], element: tuple[int, int, Unit]) -> tuple[int, tuple[int, Result]]:
    index, position, unit = element
    result = read_unit(shards[index], unit)
    outcome = "good" if not result.error else shards[index].on_error
    beam.metrics.Metrics.counter("tfdisent", outcome).inc()
    return index, (position, result)


def _write(shards: list[Task], element: tuple[int, Iterable[tuple[int, Result]]]) -> None:
    index, results = element
    task = shards[index]
    try:
        write_shard(task, (result for _, result in sorted(results, key=operator.itemgetter(0))))
    except (ValueError, OSError) as error:
        # Runners retry a failed item and wrap its error, so it is handed over as a file.
        problem = {"message": str(error), "is_input": isinstance(error, ValueError)}
        _problem(task).write_text(json.dumps(problem), encoding="utf-8")


def _problem(task: Task) -> pathlib.Path:
    return task.record.with_suffix(".problem")


def _counters(result) -> list[int]:
    """Units that were good, skipped and failed, as far as the runner counts."""
    found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace("tfdisent"))
    counts = {counter.key.metric.name: counter.committed for counter in found["counters"]}
    return [counts.get(name, 0) for name in ("good", "skip", "fail")]
