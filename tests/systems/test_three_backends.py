"""One file of weights, the same batches and the same draws: every backend takes the same steps."""

import importlib.util
import itertools

import numpy as np
import pytest

from benchmarks import three_steps

BACKENDS = ("tensorflow", "jax", "torch")


@pytest.fixture(scope="module")
def trained(run_python, tmp_path_factory):
    """{(backend, batch_norm): weights, losses and the largest change after three steps}, for what is installed."""
    folder = str(tmp_path_factory.mktemp("backends"))
    results = {}
    for backend in filter(importlib.util.find_spec, BACKENDS):
        prepare = "three_steps.prepare(FOLDER)\n" if backend == "tensorflow" else ""
        code = (
            f"from benchmarks import three_steps\nFOLDER = {folder!r}\n{prepare}three_steps.take(FOLDER, {backend!r})"
        )
        run_python(code, env={"KERAS_BACKEND": backend})
        for batch_norm in (True, False):
            with np.load(three_steps.result_file(folder, backend, batch_norm)) as result:
                results[backend, batch_norm] = dict(result)
    return results


@pytest.mark.slow
@pytest.mark.backend("tensorflow")  # it starts the other two itself
@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch norm", "no batch norm"])
@pytest.mark.parametrize("one, other", list(itertools.combinations(BACKENDS, 2)))
def test_three_steps_from_the_same_weights_agree(trained, one, other, batch_norm):
    for backend in (one, other):
        if (backend, batch_norm) not in trained:
            pytest.skip(f"{backend} is not installed")
    ours, theirs = trained[one, batch_norm], trained[other, batch_norm]
    largest = three_steps.largest_difference(ours, theirs)
    print(f"{one} and {other}, batch norm {batch_norm}: largest weight difference {largest:.2g}")
    assert ours["moved"] > 1e-2
    assert largest < 1e-5
    np.testing.assert_allclose(ours["logs"], theirs["logs"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours["shares"], theirs["shares"], atol=1e-5)
    assert len(set(ours["shares"])) == len(ours["shares"]) == (0 if batch_norm else len(ours["logs"]))
