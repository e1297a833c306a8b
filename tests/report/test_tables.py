"""The paper's numbers are transcribed as printed, and a run's stand beside them."""

import math

import pytest

from tfdisent.report import tables


def test_tables_hold_what_the_paper_prints():
    value = tables.PAPERS["drai"]["II"].rows["DRAI"]["frechet_distance"]
    assert value == ("1.224 ± 0.05", 1.224, 0.05, "Table II")
    assert tables.PAPERS["drai"]["I"].rows["cAAVE"]["conditional_generation_accuracy"].value == 0.809
    assert tables.PAPERS["drai"]["III-LIDC"].rows["D-cVAE"]["cross_image_feature_consistency"].std == 0.02
    assert tables.PAPERS["drai"]["IV"].rows["Pixel Matched"]["label_overlap"] == (
        "35.27",
        35.27,
        None,
        "Table IV",
    )
    assert [len(table.rows) for table in tables.PAPERS["drai"].values()] == [6, 6, 4, 4, 9, 6, 6]


def test_swapped_columns_of_table_six_are_put_right():
    for row in tables.PAPERS["drai"]["VI"].rows.values():
        assert row["inception_score"].value >= 1
        assert row["conditional_generation_accuracy"].value < 1
    assert "swapped" in tables.PAPERS["drai"]["VI"].note


def test_paper_column_gathers_the_main_tables_first():
    column = tables.paper_column("drai", "HAM10000", "DRAI")
    assert {name: value.printed for name, value in column.values.items()} == {
        "frechet_distance": "1.224 ± 0.05",
        "inception_score": "1.300 ± 0.01",
        "conditional_generation_accuracy": "0.630 ± 0.02",
        "cross_image_feature_consistency": "0.210 ± 0.01",
    }
    assert any("0.618" in note for note in column.notes)
    assert "disagreement_divergence" in tables.paper_column("drai", "LIDC", "DRAI").values
    assert tables.paper_column("drai", "LIDC", "DAI+selfReg").values["inception_score"].source == "Table V"


def test_paper_column_lists_what_the_paper_has():
    with pytest.raises(ValueError, match="'HAM10000', 'DRAI'.*received \\('HAM10000', 'VAE'\\)"):
        tables.paper_column("drai", "HAM10000", "VAE")


@pytest.mark.parametrize(
    ("value", "std", "text"),
    [
        (0.95704, 0.0064, "0.9570 ± 0.0064"),
        (12.345, 2.5, "12.3 ± 2.5"),
        (627.123, None, "627.1"),
        (0.5, math.nan, "0.5"),
        (0.5, 0.0, "0.5"),
        (1234.5, 150.0, "1234 ± 150"),
    ],
)
def test_values_carry_the_digits_that_their_spread_allows(value, std, text):
    assert tables.format_value(value, std) == text


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"value": math.nan}, "not computed: the value is nan"),
        ({"value": -math.inf}, "not computed: the value is -inf"),
        ({"value": None, "reason": "too few images"}, "not computed: too few images"),
        ({}, "not computed: the value is None"),
    ],
)
def test_values_that_are_none_say_why(entry, text):
    (row,) = tables.metric_table({"psnr": entry})
    assert (row.value, row.computed) == (text, False)


def test_metric_table_stands_beside_the_paper_and_ends_with_what_is_missing():
    ours = {
        "inception_score": {"value": 2.5, "std": None, "n": 10, "extractor": "e", "protocol": "p"},
        "hybrid_accuracy": {"value": 0.5, "std": None, "n": 4, "extractor": "", "protocol": ""},
    }
    rows = tables.metric_table(ours, tables.paper_column("drai", "HAM10000", "DRAI"))
    assert [row.name for row in rows[:2]] == list(ours)
    assert rows[0].label == "Inception score (IS) ↑"
    assert (rows[0].value, rows[0].paper, rows[0].source) == ("2.5", "1.300 ± 0.01", "Table II")
    assert (rows[1].label, rows[1].paper) == ("Hybrid accuracy", "")
    assert [row.computed for row in rows] == [True, True, False, False, False]
    assert rows[-1].value == "not computed: this run did not measure it"


def test_markdown_escapes_and_text_aligns():
    entry = {"value": 1.0, "std": None, "n": 3, "extractor": "a|b", "protocol": ""}
    rows = tables.metric_table({"frechet_distance": entry})
    markdown = tables.to_markdown(rows).splitlines()
    assert markdown[1] == "| --- | --- | --- | --- | --- |"
    assert markdown[2] == "| Fréchet distance (FID) ↓ | 1 |  | 3 | a\\|b |"
    head, rule, line = tables.to_text(rows).splitlines()
    assert head.index("Extractor") == rule.rindex(" ") + 1 == line.index("a|b")


def test_no_metrics_give_an_empty_table():
    assert tables.metric_table({}) == []
    assert len(tables.to_text([]).splitlines()) == 2
