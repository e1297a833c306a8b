"""Entries of metrics.json, with values or with the reason why there are none."""

import traceback
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfdisent.messages import Stopped
from tfdisent.report import Figure


def entry(
    value,
    n: int,
    protocol: str,
    extractor: str = "none",
    std: float | None = None,
    reason: str = "",
    **parts: Mapping[str, float],
) -> dict:
    """What metrics.json holds of one metric; a value that is not finite becomes null, which JSON has.

    Args:
        value: the metric, or None where it could not be computed.
        n: number of images or pairs behind it.
        protocol: how it was measured, in words.
        extractor: the network whose features it is computed from.
        std: its spread, where one run tells it.
        reason: why there is no value, and what to do about it.
        **parts: values of its parts, by a name that begins with "per_": `per_pair={"T1 to T2": 0.9}`. The report lists
            them under the metric, and the tables of papers find them as "metric/part". And `subjects`, each test
            subject's value by its number, by which `metrics.paired_permutation_test` compares methods; not listed.
    """
    why = {"reason": reason} if reason else {}
    return {
        "value": _finite(value),
        "std": _finite(std),
        "n": int(n),
        "extractor": extractor,
        "protocol": protocol,
        **why,
        **{name: {part: _finite(score) for part, score in values.items()} for name, values in parts.items()},
    }


class Results:
    """What an evaluation has found: a part of it that fails becomes an entry that says so, and the rest goes on.

    Args:
        log: is told what failed, with the traceback.

    Attributes:
        metrics: {name: entry}, the content of metrics.json.
        figures: the pictures of the report, in its order.
    """

    def __init__(self, log: Callable[[str], None] = lambda message: None):
        self.log, self.metrics, self.figures = log, {}, []

    def measure(self, names: Sequence[str], compute: Callable[..., dict[str, dict]], *arguments) -> None:
        """Adds the entries that `compute(*arguments)` gives, or marks `names`, the chief ones of them, as failed."""
        found = self.attempt(names, compute, *arguments)
        self.metrics |= found or {}

    def draw(self, name: str, draw: Callable[..., list[Figure]], *arguments) -> None:
        """Adds the figures that `draw(*arguments)` gives, or an entry "figure <name>" that it failed."""
        self.figures += self.attempt([f"figure {name}"], draw, *arguments) or []

    def attempt(self, names: Sequence[str], function: Callable, *arguments):
        """What `function(*arguments)` returns, or None if it raises; `names` are marked as failed then."""
        try:
            return function(*arguments)
        except Stopped:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            self.log(f"{', '.join(names)} failed: {what}")
            self.log("".join(traceback.format_exception(error)).rstrip())
            self.metrics |= {
                name: {**entry(None, 0, "", reason=f"it failed: {what}"), "failed": True} for name in names
            }
            return None


def failed(metrics: Mapping[str, Mapping]) -> list[str]:
    """Names of the metrics that failed: not those that the data do not allow, which have their reason."""
    return [name for name, found in metrics.items() if found.get("failed")]


def value_of(metrics: Mapping[str, Mapping], name: str) -> float | None:
    """A metric's value, or None where it is not there or has none."""
    return metrics.get(name, {}).get("value")


def values_of(metrics: Mapping[str, Mapping], names: Sequence[str]) -> dict[str, float]:
    """Values of those of the metrics that are there, by name; NaN for one without a value."""
    found = {name: metrics[name]["value"] for name in names if name in metrics}
    return {name: float("nan") if value is None else value for name, value in found.items()}


def _finite(value) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
