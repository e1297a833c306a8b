"""What each paper reports, as plain data: tables, figures, the data behind them, and which method is which row."""

import importlib

from tfdisent.papers.paper import Figure, Paper, Row, Table, Value

NAMES = ("drai", "unified", "margin", "harmonize", "mmsdnet")


def paper_of(name: str) -> Paper:
    """Returns the paper of a system by the system's name.

    Raises:
        ValueError: there is no such paper; the known ones are listed.
    """
    if name not in NAMES:
        raise ValueError(f"Expected the name of a paper, one of {', '.join(NAMES)}; received {name!r}.")
    return importlib.import_module(f"tfdisent.papers.{name}").PAPER


__all__ = ["NAMES", "Figure", "Paper", "Row", "Table", "Value", "paper_of"]
