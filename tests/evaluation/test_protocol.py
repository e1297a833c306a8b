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


def test_drai_alone_generates_labelled_images():
    generates = {
        name: importlib.import_module(f"tfdisent.evaluation.{name}").EVALUATION.generate is not None for name in NAMES
    }
    assert generates == {"drai": True, "unified": False, "margin": False, "harmonize": False, "mmsdnet": False}
