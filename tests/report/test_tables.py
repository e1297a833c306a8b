"""A run's numbers stand beside a paper's."""

import math

import pytest

from tfdisent.papers import Row, paper_of
from tfdisent.papers.paper import transcribed
from tfdisent.report import tables

DRAI = paper_of("drai")


def test_paper_column_gathers_the_main_tables_first():
    column = tables.paper_column(DRAI, "ham10000", "drai", "DRAI")
    assert {name: value.printed for name, value in column.values.items()} == {
        "frechet_distance": "1.224 ± 0.05",
        "inception_score": "1.300 ± 0.01",
        "conditional_generation_accuracy": "0.630 ± 0.02",
        "cross_image_feature_consistency": "0.210 ± 0.01",
    }
    assert any("0.618" in note for note in column.notes)
    assert "disagreement_divergence" in tables.paper_column(DRAI, "lidc", "drai").values
    assert tables.paper_column(DRAI, "lidc", "selfReg").values["inception_score"].source == "Table V"


def test_a_row_that_the_paper_does_not_have_is_refused_with_those_that_it_has():
    with pytest.raises(ValueError, match="'HAM10000', 'DRAI'.*received \\('HAM10000', 'VAE'\\)"):
        tables.row_column(DRAI, "HAM10000", "VAE")


def test_the_papers_figures_stand_beside_its_own_data_and_the_phantom_alone():
    assert tables.paper_column(DRAI, "ham10000", "drai").values
    assert tables.paper_column(DRAI, "skin_phantom", "drai").values
    assert tables.paper_column(DRAI, "another", "drai") is None


def test_a_methods_own_figures_stand_beside_it_under_whatever_name_the_paper_gives_it():
    name = "cross_image_feature_consistency"
    assert tables.paper_column(DRAI, "ham10000", "dai").values[name].value == 0.256
    dual = tables.paper_column(DRAI, "ham10000", "dcavae", "D-cAVAE")
    assert (dual.values["frechet_distance"].value, dual.values[name].value) == (4.893, 1.354)
    assert dual.heading == "D-cAVAE on HAM10000, paper"
    assert "In the paper, D-cAVAE is called D-cAAVE, D-cAVAE is called D-cVAE." in dual.notes
    assert name not in tables.paper_column(DRAI, "ham10000", "cavae").values
    assert tables.paper_column(DRAI, "ham10000", "MIReg+featureCycle") is None


def test_a_mean_of_several_methods_stands_beside_none_of_them():
    unified = paper_of("unified")
    column = tables.paper_column(unified, "brain_phantom", "unified")
    assert column.values["ssim"].value == 0.9625 and column.values["dice"].value == 0.7862
    assert tables.paper_column(unified, "ixi", "unified") is None
    assert tables.paper_column(unified, "brats", "tcmgan_T1") is None


def test_rows_are_called_by_the_titles_of_their_methods():
    titles = {method: method.upper() for row in DRAI.rows.values() for method in row.methods}
    named = tables.row_titles(DRAI, titles)
    assert (named["D-cVAE"], named["D-cAAVE"], named["Pixel Matched"]) == ("DCAVAE", "DCAVAE", "Pixel Matched")
    table = DRAI.tables[3][0]
    assert [line[0] for line in tables.comparison(table, {}, titles=named)] == [
        "Method",
        "DCINFOGAN",
        "DCAVAE",
        "DAI",
        "DRAI",
    ]
    results = {row: {metric: [k, k + 0.1]} for k, row in enumerate(table.rows) for metric in table.metrics}
    said = tables.order(table, results, *table.metrics, named)
    assert said == "CIFC, best first: DCINFOGAN, DCAVAE, DAI, DRAI; in the paper DRAI, DAI, DCINFOGAN, DCAVAE."
    assert tables.renamed({"DAI": "DAI", "D-cVAE": "D-cAVAE"}) == ["In the paper, D-cAVAE is called D-cVAE."]
    assert tables.renamed({"DAI": "DAI"}) == []


def test_the_best_is_marked_where_it_is_better_by_more_than_the_spread():
    table = DRAI.tables[3][0]
    (metric,) = table.metrics
    runs = {"DRAI": [1.0, 1.1], "DAI": [2.0, 2.1]}
    lines = {line[0]: line[1] for line in tables.comparison(table, {row: {metric: v} for row, v in runs.items()})}
    assert lines["DRAI"] == "1.050 ± 0.071 (best)" and lines["DAI"] == "2.050 ± 0.071"
    for close in ([1.0, 1.3], [1.2]):
        results = {row: {metric: v} for row, v in (runs | {"DAI": close}).items()}
        assert "best" not in str(tables.comparison(table, results)), close


def test_one_run_of_a_method_ranks_nothing():
    table = DRAI.tables[3][0]
    (metric,) = table.metrics
    results = {row: {metric: [k]} for k, row in enumerate(table.rows)}
    assert tables.order(table, results, metric).startswith("CIFC: not ranked, as one run of a method says nothing")


def test_methods_within_the_spread_of_their_runs_are_not_told_apart():
    table = DRAI.tables[3][0]
    (metric,) = table.metrics
    runs = {"DRAI": [1.0, 1.4], "DAI": [1.1, 1.2], "D-cInfoGAN": [5.0, 5.1], "D-cVAE": [9.0, 9.1]}
    results = {row: {metric: values} for row, values in runs.items() if row in table.rows}
    said = tables.order(table, results, metric)
    assert said.startswith("CIFC, best first: DRAI ~ DAI, D-cInfoGAN")
    assert "within the spread over runs" in said and "as in the paper" in said


def test_differences_are_of_runs_with_the_same_seed():
    table = DRAI.tables[3][0]
    (metric,) = table.metrics
    nan = float("nan")
    results = {
        "DRAI": {metric: {0: 1.0, 1: 2.0, 2: 6.0}, "steps": {0: 10, 1: 10, 2: 10}},
        "DAI": {metric: {2: 5.5, 1: 1.0}, "steps": {1: 10, 2: 10}},  # by place, and not by seed: 4.5 and -1
        "D-cVAE": {metric: {0: 1.5, 1: 2.5, 2: nan}, "steps": {0: 20, 1: 20, 2: 20}},
        "D-cInfoGAN": {metric: {2: 9.0, 3: 1.0}},  # one seed in common
    }
    against = dict.fromkeys(("DAI", "D-cVAE", "D-cInfoGAN"), "DRAI")
    lines = tables.differences(table, results, against, {"steps": "steps"}, {"D-cVAE": "D-cAVAE"})
    assert lines == [
        ["Difference", "CIFC ↓", "steps", "seeds"],
        ["DAI − DRAI", "-0.75 ± 0.35", "0 ± 0", "2"],
        ["D-cAVAE − DRAI", "+0.5 ± 0 (n = 2)", "+10 ± 0", "3"],
    ]


def test_without_two_common_seeds_there_are_no_differences():
    table = DRAI.tables[3][0]
    (metric,) = table.metrics
    results = {"DRAI": {metric: {0: 1.0}}, "DAI": {metric: {0: 1.0, 1: 2.0}}}
    assert tables.differences(table, results, {"DAI": "DRAI", "D-cVAE": "DRAI"}) == []


ORGANS = {
    "dice": {
        "value": 0.8,
        "n": 4,
        "per_seed": [0.7, 0.9],
        "per_class": {"liver": 0.9, "spleen": None},
        "per_modality": {"T1": 0.75},
    },
    "dice_real": {"value": None, "per_class": {"liver": 0.95}},
}
ORGAN_TABLE = transcribed(
    "Table 1",
    "CHAOS",
    ("dice", "dice/liver", "dice/kidney"),
    """
    Ours   0.81   0.91 ± 0.02   0.7
    U-Net  0.75   0.85 ± 0.03   –
    """,
)
ORGAN_PAPER = DRAI._replace(
    data={"chaos": "CHAOS"}, tables={1: (ORGAN_TABLE,)}, rows={"Ours": Row(("ours",)), "U-Net": Row(("unet",))}
)


def test_parts_of_metrics_have_keys_of_their_own():
    found = tables.numbers(ORGANS)
    assert found.keys() == {"dice", "dice/liver", "dice/spleen", "dice/T1", "dice_real", "dice_real/liver"}
    assert (found["dice"], found["dice/liver"], found["dice/T1"]) == (0.8, 0.9, 0.75)
    assert math.isnan(found["dice/spleen"]) and math.isnan(found["dice_real"])
    real = tables.numbers(ORGANS, "_real")
    assert real.keys() == {"dice", "dice/liver"} and real["dice/liver"] == 0.95


def test_parts_stand_beside_the_papers_under_their_metric():
    column = tables.paper_column(ORGAN_PAPER, "chaos", "ours")
    row, _ = tables.metric_table(ORGANS, column)
    assert (row.label, row.value, row.paper) == ("Dice ↑", "0.8", "0.81")
    assert [(part.name, part.value, part.paper) for part in row.parts] == [
        ("liver", "0.9", "0.91 ± 0.02"),
        ("spleen", "not computed: the value is None", ""),
        ("T1", "0.75", ""),
        ("kidney", "not computed: not measured here", "0.7"),
    ]
    assert [part.computed for part in row.parts] == [True, False, True, False]
    (missing,) = tables.metric_table({}, column)
    assert missing.name == "dice" and [part.name for part in missing.parts] == ["liver", "kidney"]


def test_a_table_may_compare_parts_over_folds():
    results = {"Ours": {"dice": [0.8, 0.8], "dice/liver": [0.7, 0.9]}, "U-Net": {"dice/liver": [0.95, 0.97]}}
    lines = tables.comparison(ORGAN_TABLE, results, runs="folds")
    assert lines[0][3:] == ["Dice, liver ↑ here", "paper", "Dice, kidney ↑ here", "paper", "folds"]
    assert lines[1] == ["Ours", "0.8", "0.81", "0.80 ± 0.14", "0.91 ± 0.02", "–", "0.7", "2"]
    said = tables.order(ORGAN_TABLE, results, "dice/liver")
    assert said == "Dice, liver, best first: U-Net, Ours; in the paper Ours, U-Net."


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


def test_metric_table_stands_beside_the_paper_and_each_group_ends_with_what_is_missing():
    ours = {
        "inception_score": {"value": 2.5, "std": None, "n": 10, "extractor": "e", "protocol": "p"},
        "hybrid_accuracy": {"value": 0.5, "std": None, "n": 4, "extractor": "", "protocol": ""},
    }
    rows = tables.metric_table(ours, tables.paper_column(DRAI, "ham10000", "drai"))
    inception, distance, accuracy, hybrid, *others = rows
    assert inception.label == "Inception score (IS) ↑"
    assert (inception.value, inception.paper, inception.source) == ("2.5", "1.300 ± 0.01", "Table II")
    assert (distance.name, distance.value) == ("frechet_distance", "not computed: this run did not measure it")
    assert inception.group == distance.group == accuracy.group == "Generated images"
    assert (hybrid.label, hybrid.paper, hybrid.group) == ("Hybrid accuracy", "", "Hybrids and reconstructions")
    assert [row.computed for row in rows] == [True, False, False, True, *(False for _ in others)]


def test_opponents_and_floors_stand_beside_what_they_are_held_against():
    names = ("ssim_brain", "psnr_brain", "ssim_brain_affine", "psnr_brain_lookup", "ssim_brain_lookup")
    rows = tables.metric_table({name: {"value": 1.0, "extractor": "none"} for name in names})
    assert [row.name for row in rows] == [names[k] for k in (0, 2, 4, 1, 3)]
    assert {row.extractor for row in rows} == {""}


@pytest.mark.parametrize("given, shown", [("none", ""), ("", ""), (None, ""), ("nonesuch", "nonesuch")])
def test_an_extractor_is_shown_unless_there_is_none(given, shown):
    (row,) = tables.metric_table({"dice": {"value": 1.0, "extractor": given}})
    assert row.extractor == shown


def test_every_metric_that_is_known_belongs_to_a_group():
    rows = tables.metric_table({name: {"value": 1.0} for name in tables.METRICS})
    assert [row.name for row in rows if row.group == "Other"] == []


def test_markdown_escapes_and_text_aligns():
    entry = {"value": 1.0, "std": None, "n": 3, "extractor": "a|b", "protocol": ""}
    (row,) = tables.metric_table({"frechet_distance": entry})
    lines = [["Metric", "This run", "Paper", "n", "Extractor"], [row.label, row.value, row.paper, row.n, row.extractor]]
    markdown = tables.markdown(lines).splitlines()
    assert markdown[1] == "| --- | --- | --- | --- | --- |"
    assert markdown[2] == "| Fréchet distance (FID) ↓ | 1 |  | 3 | a\\|b |"
    head, rule, line = tables.text(lines).splitlines()
    assert head.index("Extractor") == rule.rindex(" ") + 1 == line.index("a|b")


def test_no_metrics_give_an_empty_table():
    assert tables.metric_table({}) == []
    assert len(tables.text([["Metric", "This run"]]).splitlines()) == 2
