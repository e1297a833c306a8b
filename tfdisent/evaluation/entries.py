"""An entry of metrics.json."""

from collections.abc import Mapping

import numpy as np


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
            them under the metric, and the tables of papers find them as "metric/part".
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


def _finite(value) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
