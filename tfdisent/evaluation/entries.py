"""An entry of metrics.json."""

import numpy as np


def entry(
    value,
    n: int,
    protocol: str,
    extractor: str = "none",
    std: float | None = None,
    reason: str = "",
) -> dict:
    """What metrics.json holds of one metric; a value that is not finite becomes null, which JSON has.

    Args:
        value: the metric, or None where it could not be computed.
        n: images or pairs behind it.
        protocol: how it was measured, in words.
        extractor: the network whose features it is of.
        std: its spread, where one run tells it.
        reason: why there is no value, with the mend.
    """
    value, std = (None if v is None or not np.isfinite(v) else float(v) for v in (value, std))
    why = {"reason": reason} if reason else {}
    return {
        "value": value,
        "std": std,
        "n": int(n),
        "extractor": extractor,
        "protocol": protocol,
    } | why
