"""What the evaluation of a system consists of; each module of this package ends with its own, `EVALUATION`.

How one is written:

* It is given splits as `tfdisent.examples.Examples`, whose images are never in memory as a whole. It finds out from
  their columns which slices it needs, goes through these in batches, and keeps a number or a short vector of each.
  Where arrays are needed at once, as in a figure, it asks for a bounded `sample`, and says in the protocol of an entry
  how many slices were used.
* Networks of `tfdisent.downstream` are trained on `examples.select(rows, channels)` and asked about the same.
* Data come in any shape: modalities that are missing in one split or in all slices, one class, no masks, a split
  without subjects. What cannot be computed is an entry without a value, with its reason (`entries.entry`).
* Whatever else goes wrong in a part of the evaluation stays there: `entries.Results` marks its metrics as failed, which
  the report names and the command's exit status tells, and goes on with the next part.

    def evaluate_run(model, read, manifest, *, judge_directory, judge_kind, num_samples=2000, seed=0, log=print):
        results, test = Results(log), read("test")
        rows = test.spread(num_samples)
        with model.averaged():
            results.measure(["content_distance"], distances, model, test, rows)
            results.draw("Contents", draw_contents, model, test.sample(8))
        return results.metrics, results.figures

    def distances(model, test, rows):
        found = [distance(model.encode(batch["image"])) for batch in test.batches(rows)]
        ...
"""

from collections.abc import Callable
from typing import NamedTuple


class Evaluation(NamedTuple):
    """How the models of a paper, the system and what it is compared with, are measured and shown.

    Attributes:
        evaluate_run: `(model, read, manifest, *, judge_directory, judge_kind, num_samples, seed, log)` -> (metrics,
            figures). It measures a trained model on a prepared data set. `read(split)` gives the examples of a split,
            `tfdisent.examples.Examples`, with images as the model takes them and all that the records hold;
            `judge_directory` is where networks that judge images are kept, and `judge_kind` their kind (see
            `tfdisent.downstream.judge`); `num_samples` bounds the images that are measured; `seed` is of all random
            draws; `log` is told what is done. Metrics are the content of metrics.json, {name: entry}, figures are
            `tfdisent.report.Figure`s.
        sample_grid: `(model, shown)` -> a picture of training's progress, uint8 RGB, from some examples of the test
            split, `shown` being arrays as from `Examples.take`.
        headline: `(metrics)` -> the result in words, of those entries that are there and have a value.
        card_values: `(manifest)` -> what the inputs of the exported model hold, {tensor: words}, for its card.
        generate: `(model, conditions, rng)` -> images (N, H, W, C) of conditions (N, K); None for a system that
            generates no labelled images.
        trend: `(model, val)` -> {metric: value}, some of the metrics that need no other network, on examples of the
            validation split, measured at times in training; the best checkpoint is chosen by the first of them. None
            where there is no such thing.
        familiar: `(model, read)` -> the training scans that inputs of the exported model are to be like, a
            `tfdisent.familiarity.Familiar`, for its card; None where these are too few. None of systems without it.
        keeps_segmentor: whether `evaluate_run` takes `keep`, a folder to which it saves a segmentor that it trains on
            the model's codes (`tfdisent.downstream.segmentation`), and that is exported with the model.
    """

    evaluate_run: Callable
    sample_grid: Callable
    headline: Callable
    card_values: Callable
    generate: Callable | None = None
    trend: Callable | None = None
    familiar: Callable | None = None
    keeps_segmentor: bool = False
