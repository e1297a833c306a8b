"""What the evaluation of a system consists of; each module of this package ends with its own, `EVALUATION`."""

from collections.abc import Callable
from typing import NamedTuple


class Evaluation(NamedTuple):
    """How the models of a paper, the system and what it is compared with, are measured and shown.

    Attributes:
        evaluate_run: `(model, read, manifest, *, judge_directory, judge_kind, num_samples, seed, log)` -> (metrics,
            figures). It measures a trained model on a prepared data set. `read(split)` gives the arrays of a split, as
            from `tfdisent.data.as_arrays`; `judge_directory` is where networks that judge images are kept, and
            `judge_kind` their kind (see `tfdisent.downstream.judge`); `num_samples` bounds the images that are
            measured; `seed` is of all random draws; `log` is told what is done. Metrics are the content of
            metrics.json, {name: entry}, figures are `tfdisent.report.Figure`s.
        sample_grid: `(model, shown)` -> a picture of training's progress, uint8 RGB, from some examples of the test
            split, `shown` being arrays as from `read`.
        headline: `(metrics)` -> the result in words.
        card_values: `(manifest)` -> what the inputs of the exported model hold, {tensor: words}, for its card.
        generate: `(model, conditions, rng)` -> images (N, H, W, C) of conditions (N, K); None for a system that
            generates no labelled images.
    """

    evaluate_run: Callable
    sample_grid: Callable
    headline: Callable
    card_values: Callable
    generate: Callable | None = None
