"""Each system's evaluation gives what the experiment calls, with the arguments that it calls it with."""

import importlib
import inspect

import pytest

from tfdisent.papers import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_evaluation_takes_what_the_experiment_gives_it(name):
    evaluation = importlib.import_module(f"tfdisent.evaluation.{name}").EVALUATION
    settings = ("judge_directory", "judge_kind", "num_samples", "seed", "log")
    inspect.signature(evaluation.evaluate_run).bind("model", "read", "manifest", **dict.fromkeys(settings))
    inspect.signature(evaluation.sample_grid).bind("model", "shown")
    inspect.signature(evaluation.headline).bind("metrics")
    inspect.signature(evaluation.card_values).bind("manifest")
    if evaluation.generate is not None:
        inspect.signature(evaluation.generate).bind("model", "conditions", "rng")


def test_drai_alone_generates_labelled_images():
    generates = {
        name: importlib.import_module(f"tfdisent.evaluation.{name}").EVALUATION.generate is not None for name in NAMES
    }
    assert generates == {"drai": True, "unified": False, "margin": False}
