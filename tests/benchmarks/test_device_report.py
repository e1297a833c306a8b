"""The tables of what a GPU does."""

import numpy as np
import pytest

from benchmarks import device_report


def test_the_share_is_of_the_cards_peak_and_of_what_pytorch_counts():
    row = {"section": "steps", "system": "drai", "precision": "TF32", "batch_size": 64, "step": 0.064}
    steps = [row | {"backend": "jax", "flops": 20e9}, row | {"backend": "torch", "flops": 28e9}]
    peak = device_report.peaks(["NVIDIA H100 80GB HBM3"], [])
    assert peak == {"float32": 67.0, "TF32": 494.0, "bfloat16": 989.0}
    for measured in device_report.with_shares(steps, peak):  # a thousand images a second
        assert measured["images/s"] == pytest.approx(1000)
        assert measured["share"] == pytest.approx(28 / 494)


def test_a_card_that_is_not_known_has_no_peak_unless_given():
    assert device_report.peaks(["NVIDIA GeForce"], []) == {}
    assert device_report.peaks([], [1.0, 2.0, 4.0]) == {"float32": 1.0, "TF32": 2.0, "bfloat16": 4.0}


def test_weights_that_differ_or_do_not_move_fail(tmp_path):
    for name, weight, moved in (("cpu", 1.0, 0.1), ("jax", 1.0, 0.1), ("torch", 1.1, 0.1)):
        np.savez(tmp_path / f"{name}-True.npz", np.float32([weight]), moved=moved)
    rows = {row["pair"]: row for row in device_report.agreements(str(tmp_path), ["cpu", "jax", "torch"], [True])}
    assert "error" not in rows["cpu, jax"]
    assert "differ by 0.1" in rows["cpu, torch"]["error"]


def test_what_failed_is_said_with_its_names_and_the_rest_is_there():
    facts = {"date": "today", "commit": "x", "gpus": [], "cpu": "c", "cores": 2, "python": "3", "versions": {}}
    row = {"section": "steps", "system": "drai", "backend": "jax", "precision": "TF32", "batch_size": 64}
    rows = [row | {"error": "out of memory"}, {"section": "data", "what": "images drawn", "seconds": 2.0}]
    text = device_report.markdown(facts, rows, {}, 3.0)
    assert "* FAILED: steps drai jax TF32: out of memory" in text
    assert "* data: images drawn, seconds 2" in text
