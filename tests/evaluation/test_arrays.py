import numpy as np

from tfdisent.evaluation.arrays import in_batches


def test_batches_put_together_equal_the_whole():
    a, b = np.arange(14.0).reshape(7, 2), np.arange(7.0)[:, None]
    np.testing.assert_array_equal(in_batches(lambda x, y: x + y, a, b, size=3), a + b)


def test_dicts_of_arrays_are_put_together_by_name():
    a = np.arange(5.0)
    result = in_batches(lambda x: {"double": 2 * x, "same": x}, a, size=2)
    np.testing.assert_array_equal(result["double"], 2 * a)
    np.testing.assert_array_equal(result["same"], a)
