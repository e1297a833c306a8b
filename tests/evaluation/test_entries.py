"""Entries of metrics.json, and what becomes of a part of an evaluation that fails."""

import json

import pytest

from tfdisent.evaluation.entries import Results, entry, failed, value_of
from tfdisent.messages import Stopped


def test_a_value_that_is_not_finite_becomes_null():
    found = entry(float("nan"), 3, "how", std=float("inf"), per_pair={"a": 1.0, "b": float("nan")}, reason="why")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["value"], found["std"], found["per_pair"], found["reason"]) == (
        None,
        None,
        {"a": 1, "b": None},
        "why",
    )


def test_a_part_that_fails_is_named_and_takes_nothing_else_with_it():
    said, results = [], None
    results = Results(said.append)

    def broken(what):
        raise TypeError(f"no {what}")

    results.measure(["first"], lambda: {"first": entry(1.0, 2, "how")})
    results.measure(["second", "third"], broken, "slices")
    results.draw("Contents", broken, "colours")
    results.draw("Styles", lambda name: [name], "picture")
    results.measure(["fourth"], lambda: {"fourth": entry(None, 0, "how", reason="no masks")})
    assert failed(results.metrics) == ["second", "third", "figure Contents"]
    assert results.metrics["third"]["reason"] == "it failed: TypeError: no slices"
    assert results.figures == ["picture"]
    assert [value_of(results.metrics, name) for name in ("first", "second", "fourth", "fifth")] == [1, None, None, None]
    assert "second, third failed: TypeError: no slices" in said and any("Traceback" in line for line in said)


@pytest.mark.parametrize("error", [Stopped("saved", 15), KeyboardInterrupt(), SystemExit(143)])
def test_what_is_to_stop_the_process_stops_it(error):
    def stop():
        raise error

    with pytest.raises(type(error)):
        Results().measure(["first"], stop)
