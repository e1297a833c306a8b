"""The papers' numbers are transcribed as printed, and every row, figure and data set that they name is ours too."""

import importlib
import pathlib
import re

import pytest

from tfdisent import datasets, papers
from tfdisent.datasets import msseg
from tfdisent.report import tables as formats

DRAI = papers.paper_of("drai")
ALL = [papers.paper_of(name) for name in papers.NAMES]
each_paper = pytest.mark.parametrize("paper", ALL, ids=lambda paper: paper.name)


def methods(paper):
    """The names of the methods that a paper compares."""
    return {method.name for method in importlib.import_module(f"tfdisent.baselines.{paper.name}").METHODS}


def test_tables_hold_what_the_paper_prints():
    value = DRAI.tables[2][0].rows["DRAI"]["frechet_distance"]
    assert value == ("1.224 ± 0.05", 1.224, 0.05, "Table II")
    assert DRAI.tables[1][0].rows["cAAVE"]["conditional_generation_accuracy"].value == 0.809
    assert DRAI.tables[3][1].rows["D-cVAE"]["cross_image_feature_consistency"].std == 0.02
    assert DRAI.tables[4][0].rows["Pixel Matched"]["label_overlap"] == (
        "35.27",
        35.27,
        None,
        "Table IV",
    )
    assert [len(table.rows) for tables in DRAI.tables.values() for table in tables] == [6, 6, 4, 4, 9, 6, 6]


def test_swapped_columns_of_table_six_are_put_right():
    for row in DRAI.tables[6][0].rows.values():
        assert row["inception_score"].value >= 1
        assert row["conditional_generation_accuracy"].value < 1
    assert "swapped" in DRAI.tables[6][0].note


def test_an_unknown_paper_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="one of drai, unified, margin, harmonize, mmsdnet; received 'gan'"):
        papers.paper_of("gan")


@each_paper
def test_every_row_and_figure_is_of_methods_that_there_are(paper):
    rows = {row for tables in paper.tables.values() for table in tables for row in table.rows}
    assert rows == paper.rows.keys()
    named = [*paper.rows.values(), *paper.figures.values()]
    assert {method for one in named for method in one.methods} <= methods(paper)


@each_paper
def test_every_data_set_is_ours_and_the_papers_own_has_a_phantom(paper):
    shown = {table.data for tables in paper.tables.values() for table in tables}
    shown |= {data for figure in paper.figures.values() for data in figure.data}
    variants = paper.variants.values()
    assert shown == {*paper.data.values(), *(variant.data for variant in variants)}
    assert set(paper.data.values()) == paper.phantoms.keys()
    assert {variant.dataset for variant in variants} <= datasets.DATASETS.keys()
    assert all(paper.data[phantom] == data for data, phantom in paper.phantoms.items())
    assert paper.data.keys() <= datasets.DATASETS.keys()


@each_paper
def test_the_help_of_reproduce_lists_the_papers_tables_figures_and_phantoms(paper):
    text = (pathlib.Path(__file__).parents[2] / "train/reproduce.py").read_text("utf-8")
    (row,) = re.findall(rf"^\| {paper.name} \| (.*) \| (.*) \| (.*) \|$", text, re.MULTILINE)
    for numbers, there in zip(row[:2], (paper.tables, paper.figures), strict=True):
        ends = [part.split(" to ") for part in numbers.split(", ")]
        assert {n for pair in ends for n in range(int(pair[0]), int(pair[-1]) + 1)} == there.keys()
    phantoms = dict(part.split(" for ") for part in row[2].split(", "))
    assert phantoms.items() == {(data, name) for data, name in paper.data.items() if data.endswith("_phantom")}


def test_the_directions_of_msseg_are_between_its_scanners_and_as_printed():
    paper = papers.paper_of("harmonize")
    for variant in paper.variants.values():
        assert set(variant.changes) == {"source", "target"}
        assert set(variant.changes.values()) <= set(msseg.SCANNERS.values())
    one, other = paper.variants["msseg_sv_pi"].changes.values()
    assert (one, other) == ("Siemens Verio", "Philips Ingenia")
    table = next(table for table in paper.tables[5] if table.data == "MS-SEG, SV to PI")
    assert table.rows["Target Segmentor, Harmonized (Ours)"]["dice/lesion"].value == 0.51


@each_paper
def test_every_metric_of_a_table_has_a_name_in_print_and_a_protocol(paper):
    keys = {key for tables in paper.tables.values() for table in tables for key in table.metrics}
    names = {key.partition("/")[0] for key in keys}
    assert names <= formats.METRICS.keys()
    assert names == paper.protocols.keys()
    assert paper.also.keys() <= keys
