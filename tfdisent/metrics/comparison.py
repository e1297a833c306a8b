"""Whether one method is better than another, from the scores of both on the same subjects."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 9999


class Paired(NamedTuple):
    """Result of a paired test.

    Attributes:
        difference: mean of the first method's scores less the second's.
        p: two-sided; how often a difference of this size or more comes about if it is chance which method is which.
        n: subjects with a score of both.
    """

    difference: float
    p: float
    n: int


def paired_permutation_test(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray, *, seed: int = 0
) -> Paired:
    """Compares two methods on the same subjects, by exchanging which is which at random in each of them.

    The mean difference is compared with those of all exchanges where there are at most `RESAMPLES` of them, or else of
    as many drawn ones. The ranks are those of the paired t, so this is the paired t-test by permutations of Chartsias
    et al., IEEE TMI 2021, Sec. V. Subjects without a score (NaN) of either method are left out.

    Args:
        first, second: (N,), of the same subjects in the same order.
        seed: of the drawn exchanges.

    Returns:
        With one subject, or two methods that are alike, p is 1.

    Raises:
        ValueError: lengths differ, or no subject has both scores.
    """
    from scipy import stats

    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(
            f"Expected the scores of two methods on the same subjects, received shapes {first.shape} and "
            f"{second.shape}. Measure both on the same split, with the same --num_samples."
        )
    both = np.isfinite(first) & np.isfinite(second)
    if not both.any():
        raise ValueError("Expected a subject with a score of both methods, received none.")
    differences = (first - second)[both]
    # The smallest p of n subjects is 2 / 2^n: of one 1, which SciPy does not take.
    if len(differences) < 2 or not differences.any():
        return Paired(float(differences.mean()), 1.0, len(differences))
    result = stats.permutation_test(
        (differences,),
        lambda values, axis: values.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        random_state=seed,
    )
    return Paired(float(differences.mean()), float(result.pvalue), len(differences))
