"""Each system's evaluation gives what the experiment calls, with the arguments that it calls it with."""

import importlib
import inspect

import pytest

from tfdisent.papers import NAMES


def takes(function, *arguments, **settings):
    """Whether a function can be called like this: with all that it needs, and nothing that it does not know."""
    try:
        inspect.signature(function).bind(*arguments, **settings)
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("name", NAMES)
def test_an_evaluation_takes_what_the_experiment_gives_it(name):
    evaluation = importlib.import_module(f"tfdisent.evaluation.{name}").EVALUATION
    settings = ("judge_directory", "judge_kind", "num_samples", "seed", "log")
    assert takes(evaluation.evaluate_run, "model", "read", "manifest", **dict.fromkeys(settings))
    assert takes(evaluation.sample_grid, "model", "shown")
    assert takes(evaluation.headline, "metrics")
    assert takes(evaluation.card_values, "manifest")
    assert evaluation.generate is None or takes(evaluation.generate, "model", "conditions", "rng")
    assert evaluation.trend is None or takes(evaluation.trend, "model", "val")
    assert evaluation.familiar is None or takes(evaluation.familiar, "model", "read")


def who_has(part):
    """The systems whose evaluation has an optional part."""
    evaluations = {name: importlib.import_module(f"tfdisent.evaluation.{name}").EVALUATION for name in NAMES}
    return {name for name, evaluation in evaluations.items() if getattr(evaluation, part) is not None}


def test_only_some_systems_generate_labelled_images_are_measured_in_training_or_know_their_scans():
    assert who_has("generate") == {"drai"}
    assert who_has("trend") == {"drai", "unified"}
    assert who_has("familiar") == {"harmonize"}
