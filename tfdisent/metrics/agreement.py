"""Agreement of repeated measurements, such as a subject's volumes on several scanners.

    spread = coefficient_of_variation(volumes)                  # volumes (N, K): N subjects on K scanners
    reliability = intraclass_correlation(volumes, "2,1")

The two ask for different things. The coefficient of variation is small too where all subjects are made alike, which the
intraclass correlation shows: it is near 0 where subjects cannot be told apart.
"""

import numpy as np

ICC_FORMS = ("1,1", "2,1", "3,1", "1,k", "2,k", "3,k")


def coefficient_of_variation(values: np.ndarray) -> np.ndarray:
    """Standard deviation over the measurements of a subject, by their mean.

    Args:
        values: (N, K), of N subjects K measurements above 0; NaN where one is missing.

    Returns:
        (N,), 0 or more: the standard deviation is that of a sample (K - 1). NaN for a subject with fewer than two
        measurements, or whose mean is 0: of what is nowhere found nothing can be said.

    Raises:
        ValueError: another shape, or a value that is negative or infinite.
    """
    values = _table(values)
    if np.isinf(values).any() or (values < 0).any():
        raise ValueError("Expected measurements of 0 and more, or NaN, received negative or infinite ones.")
    count = np.isfinite(values).sum(axis=1)
    mean = np.divide(np.nansum(values, axis=1), count, out=np.full(len(values), np.nan), where=count > 1)
    squares = np.nansum((values - mean[:, None]) ** 2, axis=1)
    spread = np.sqrt(squares / np.maximum(count - 1, 1))
    return np.divide(spread, mean, out=np.full(len(values), np.nan), where=mean > 0)


def intraclass_correlation(values: np.ndarray, form: str = "2,1") -> float:
    """The intraclass correlation of Shrout and Fleiss, Psychological Bulletin 86, 420, 1979, in one of its six forms.

        (1, 1)  (B - W) / (B + (K - 1) W)                       measurements of each subject by other raters
        (2, 1)  (B - E) / (B + (K - 1) E + K (J - E) / N)       the same raters, drawn from many: absolute agreement
        (3, 1)  (B - E) / (B + (K - 1) E)                       these raters alone: consistency, offsets do not count

    with the mean squares B between subjects, W within them, J between raters and E of the rest; (1, k), (2, k) and
    (3, k) are those of the mean of the K measurements. For scanners take (2, 1): that one reads more than another
    counts as disagreement.

    Args:
        values: (N, K), of N >= 2 subjects K >= 2 measurements, all of them there.
        form: one of `ICC_FORMS`.

    Returns:
        1 where the measurements of each subject agree; 0 or less where subjects differ no more than their measurements.
        NaN where all values are the same.

    Raises:
        ValueError: another shape or form, or values that are not finite.
    """
    values = _table(values)
    if form not in ICC_FORMS:
        raise ValueError(f"Expected a form of {'; '.join(ICC_FORMS)}, received {form!r}.")
    number, raters = values.shape
    if number < 2 or raters < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"Expected two subjects or more with two finite measurements or more each, received shape {values.shape}"
            f"{'' if np.isfinite(values).all() else ' with values that are not finite: leave these subjects out'}."
        )
    total = values.mean()
    of_subjects, of_raters = values.mean(axis=1), values.mean(axis=0)
    between = raters * np.sum((of_subjects - total) ** 2) / (number - 1)
    within = np.sum((values - of_subjects[:, None]) ** 2) / (number * (raters - 1))
    judges = number * np.sum((of_raters - total) ** 2) / (raters - 1)
    rest = values - of_subjects[:, None] - of_raters + total
    error = np.sum(rest**2) / ((number - 1) * (raters - 1))
    model, _, of_mean = form.partition(",")
    noise = {"1": within, "2": error, "3": error}[model]
    offsets = (judges - error) / number if model == "2" else 0.0
    below = between + offsets if of_mean == "k" else between + (raters - 1) * noise + raters * offsets
    return float((between - noise) / below) if below > 0 else float("nan")


def _table(values) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 2:
        raise ValueError(f"Expected measurements (N, K), of subjects and raters, received shape {values.shape}.")
    return values
