"""The form in which a paper's results are kept.

Methods have their names from `METHODS` of the paper's module in `tfdisent.baselines`, data sets theirs from
`tfdisent.datasets`, and metrics theirs from metrics.json. A metric of a table is a key of two kinds:

    "dice"        the entry "dice" of metrics.json
    "dice/liver"  of that entry the part "liver": of an organ, a modality, a pair or a missing input; the entry holds
                  it in a mapping whose name begins with "per_", such as "per_class"

Where a row has an `ending`, it is appended to the entry's name: the row reads "dice_real" or "dice_real/liver".
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple


class Value(NamedTuple):
    """A number of a paper: as printed ("1.224 ± 0.05"), as floats, and the table that prints it."""

    printed: str
    value: float
    std: float | None
    source: str


class Table(NamedTuple):
    """What a table of a paper prints on one data set.

    Attributes:
        name: as in the paper, "Table II".
        data: the paper's name of the data set.
        metrics: keys of metrics, in the order of the columns.
        rows: {row as printed: {metric: value}}, without what the paper leaves empty.
        note: what a reader has to know of this table.
    """

    name: str
    data: str
    metrics: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Value]]
    note: str = ""


class Figure(NamedTuple):
    """A figure of a paper that compares methods by the same picture of each.

    Attributes:
        data: the paper's data sets that it shows.
        methods: names of the methods that it shows.
        heading: of the picture in a run's report that mirrors it.
        options: of the data's preparation, "name=value", where they are not those of other runs.
    """

    data: tuple[str, ...]
    methods: tuple[str, ...]
    heading: str
    options: tuple[str, ...] = ()


class Row(NamedTuple):
    """Which runs make a row of a table.

    Attributes:
        methods: names of the methods; of several, the row is the mean.
        ending: of the names of the row's metrics, where a run measures several rows, e.g. "_real".
        title: what the row is called here, if not by the title of its one method.
        options: of the data's preparation, "name=value", where they are not those of other rows.
        ours: the row, as printed, of the paper's own method that it is held against; by default the only one in the
            table that is of the method with the paper's name and nothing else.
    """

    methods: tuple[str, ...]
    ending: str = ""
    title: str = ""
    options: tuple[str, ...] = ()
    ours: str = ""


class Variant(NamedTuple):
    """One of several experiments of a paper on one of our data sets.

    Attributes:
        dataset: ours.
        data: what the paper calls the experiment.
        changes: fields of the config that make it.
        folds: runs of cross-validation, of which the k-th, with seed k, has the data set's option fold=k; 0 without it.
    """

    dataset: str
    data: str
    changes: Mapping[str, str]
    folds: int = 0


class Paper(NamedTuple):
    """What a paper reports.

    Attributes:
        name: of the system, e.g. "drai".
        title: of the paper.
        citation: authors, venue and year.
        url: where to read it.
        data: {data set: what the paper calls it}. A phantom stands beside the data that it imitates, for orientation.
        phantoms: {the paper's data: the phantom that stands for it where no data set is named}.
        tables: {number: the table, once for each of its data sets}.
        figures: {number: figure}.
        rows: {row as printed in any table: the methods that make it}.
        also: {metric of a table: (a metric of ours without which it misleads, heading)}.
        protocols: {metric: how the paper measured it}.
        notes: what a reader has to know before comparing.
        variants: {name: experiment}, where the paper has several on one of our data sets; no phantom stands for these.
    """

    name: str
    title: str
    citation: str
    url: str
    data: Mapping[str, str]
    phantoms: Mapping[str, str]
    tables: Mapping[int, tuple[Table, ...]]
    figures: Mapping[int, Figure]
    rows: Mapping[str, Row]
    also: Mapping[str, tuple[str, str]]
    protocols: Mapping[str, str]
    notes: tuple[str, ...]
    variants: Mapping[str, Variant] = MappingProxyType({})


def transcribed(name: str, data: str, metrics: Sequence[str], text: str, note: str = "") -> Table:
    """Returns a table from its text: a row in each line, cells apart by two blanks or more, "–" where one is empty."""
    rows = {}
    for line in text.strip().splitlines():
        row, *cells = re.split(r"\s{2,}", line.strip())
        rows[row] = {
            metric: _value(printed, name) for metric, printed in zip(metrics, cells, strict=True) if printed != "–"
        }
    return Table(name, data, tuple(metrics), rows, note)


def _value(printed: str, source: str) -> Value:
    value, _, std = printed.partition(" ± ")
    return Value(printed, float(value), float(std) if std else None, source)
