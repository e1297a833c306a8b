"""The page is one file that loads nothing, says no names, and survives odd input."""

import base64
import html.parser
import io
import math
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from tfdisent.papers import paper_of
from tfdisent.report import Figure, paper_column, write_report
from tfdisent.report.comparison import write_comparison

PIXELS = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)


class _Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def _write(folder, **changes) -> _Page:
    fields = {"title": "A run", "summary": "What was done.", "metrics": {}}
    return _Page(write_report(folder, **{**fields, **changes}))


def _full(folder) -> _Page:
    (folder / "metrics.csv").write_text("step,d_image,g_image\n1,0.5,0.25\n")
    return _write(
        folder,
        metrics={"frechet_distance": {"value": 6.1, "std": None, "n": 9, "extractor": "net"}},
        figures=[
            Figure("Hybrids", "Rows and columns.", PIXELS, "paper Fig. 12/13", "A grid"),
            Figure("Hybrids", "More of them.", PIXELS),
            Figure("Samples", "", PIXELS),
        ],
        paper=paper_column(paper_of("drai"), "ham10000", "drai", "DRAI"),
        curves=folder / "metrics.csv",
        config={"steps": 3, "nested": {"rates": (1, 2)}},
        environment={"keras": "3.15"},
        data={
            "dataset": "skin_phantom",
            "splits": {"test": {"subjects": ["Roe"], "num_examples": 4}},
        },
        command="python -m train.drai --steps=10 --set=kl_weight=0.1",
    )


def test_page_loads_nothing_and_runs_nothing(tmp_path):
    page = _full(tmp_path)
    assert not {"script", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "background"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in page.text
    assert "@import" not in page.text


def test_page_has_every_section_and_its_links_lead_somewhere(tmp_path):
    page = _full(tmp_path)
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {link["href"].removeprefix("#") for link in page.all("a")} == targets
    assert targets >= {"metrics", "figure-2", "curves", "data", "config", "environment", "continue"}
    assert "figure-3" not in targets  # figures of one name share a heading
    for text in (
        "Mirrors paper Fig. 12/13.",
        "nested.rates",
        "1, 2",
        "python -m train.drai --steps=10 --set=kl_weight=0.1",
        "1.224 ± 0.05",
    ):
        assert text in page.text


def test_pictures_are_inside_and_unchanged(tmp_path):
    png = io.BytesIO()
    Image.fromarray(PIXELS).save(png, "PNG")
    figures = [Figure("One", "", PIXELS, alt="words"), Figure("Two", "", png.getvalue())]
    first, second = _write(tmp_path, figures=figures).all("img")
    for image in (first, second):
        data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        assert (np.asarray(Image.open(io.BytesIO(data))) == PIXELS).all()
        assert (image["width"], image["height"]) == ("9", "6")
    assert (first["alt"], second["alt"]) == ("words", "Two")


def test_a_picture_without_words_of_its_own_is_described_by_its_name_and_caption(tmp_path):
    (image,) = _write(tmp_path, figures=[Figure("One", "What is seen.", PIXELS)]).all("img")
    assert image["alt"] == "One: What is seen."


def test_every_page_says_that_it_is_not_for_diagnosis(tmp_path):
    pages = [_write(tmp_path), _Page(write_comparison(tmp_path / "c.html", title="C", summary="", sections=[]))]
    for page in pages:
        assert "nothing on this page is for diagnosis or treatment" in page.text


def test_metrics_are_in_groups_under_headings(tmp_path):
    names = ("hybrid_class_accuracy", "frechet_distance", "label_overlap", "memorisation_ratio", "of_somebody")
    page = _write(tmp_path, metrics={name: {"value": 60.0, "n": 3} for name in names})
    places = [
        page.text.index(text)
        for text in ("Generated images", "Fréchet distance", "Copies of", "Hybrids and", "Retrieval", "Label overlap")
    ]
    assert places == sorted(places)
    assert page.text.index("Other") > places[-1] and "60 %" in page.text
    assert len(page.all("tbody")) == 5
    alone = _write(tmp_path, metrics={"psnr": {"value": 24.0}})
    assert "24 dB" in alone.text and "Likeness to the truth" not in alone.text


@pytest.mark.parametrize(
    "last, said", [("0.003,0.99,0.01", True), ("0.4,0.99,0.01", False), ("0.003,0.004,0.01", False)]
)
def test_the_page_says_that_a_discriminator_has_won(tmp_path, last, said):
    (tmp_path / "metrics.csv").write_text(f"step,d_cycle,g_cycle,d_modality\n1,0.5,0.3,0.5\n2,{last}\n")
    page = _write(tmp_path, curves=tmp_path / "metrics.csv")
    assert ("A discriminator has won" in page.text) == said
    assert ("at the end d_cycle is 0.003 and g_cycle 0.99" in page.text) == said


def test_shares_of_the_gradient_are_a_table_of_percents_at_five_steps_with_the_last_one(tmp_path):
    rows = "".join(f"{step},{step / 1000},{0.5 - step / 1000},1\n" for step in range(50, 401, 50))
    (tmp_path / "gradients.csv").write_text(f"step,cycle,translation,d_adversarial\n{rows}")
    page = _write(tmp_path, gradients=tmp_path / "gradients.csv")
    assert [part.strip() for part in re.findall(r"step \d+", page.text)] == [
        *("step 50", "step 150", "step 250", "step 300", "step 400")
    ]
    assert re.search(r"cycle\s*5 %\s*15 %\s*25 %\s*30 %\s*40 %\s*translation\s*45 %", page.text)
    assert page.text.index("translation") < page.text.index("d_adversarial")
    (tmp_path / "gradients.csv").write_text("step,cycle\n")
    assert "Shares" not in _write(tmp_path, gradients=tmp_path / "gradients.csv").text


def test_text_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    page = _write(
        tmp_path,
        title=evil,
        summary=evil,
        metrics={evil: {"value": math.nan, "reason": evil, "protocol": evil}},
        figures=[Figure(evil, evil, PIXELS, evil, '"><script>')],
        config={evil: evil},
        command=evil,
    )
    assert not page.all("script")
    assert page.all("img")[0]["alt"] == '"><script>'
    assert page.text.count(evil) >= 8


def test_values_that_are_not_finite_are_said_not_to_be_computed(tmp_path):
    page = _write(tmp_path, metrics={"psnr": {"value": math.nan}, "ssim": {"value": None}})
    assert "not computed: the value is nan" in page.text
    assert "not computed: the value is None" in page.text


def test_what_is_missing_leaves_its_section_out(tmp_path):
    page = _write(tmp_path, curves=tmp_path / "absent.csv", figures=[])
    assert not page.all("h2")
    assert not page.all("a")
    assert not page.all("img")


def test_a_run_without_logged_rows_has_no_curves(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,g_image\n")
    assert not _write(tmp_path, curves=tmp_path / "metrics.csv").all("img")


def test_no_patient_and_no_place_appears(tmp_path):
    page = _write(
        tmp_path,
        summary=f"In /data/Jane_Roe, see {tmp_path}/steps/7 and https://doi.org/1/2 (and/or).",
        metrics={"psnr": {"value": None, "reason": "C:\\Jane\\x.nii is broken"}},
        figures=[Figure("f", "from '/scans/Jane/1.nii', ~/Jane or file:///Jane", PIXELS)],
        config={
            "data_dir": "/home/Jane Roe/scans",
            "raw": pathlib.Path("/Jane Roe"),
            "r": [tmp_path],
        },
        environment={"python": "/home/jane/bin/python"},
        data={
            "dataset": "skin",
            "source": "/Jane",
            "skipped": ["Jane.jpg"],
            "options": {"raw_dir": "Jane"},
            "splits": {"train": {"subjects": ["Jane"], "num_examples": 2}},
        },
        command=f"python -m train.drai --data_dir='/home/Jane Roe' --run_dir={tmp_path} /x/Jane",
    )
    text = page.text.lower()
    assert "jane" not in text
    assert str(tmp_path).lower() not in text
    for kept in (
        "[path], see steps/7 and https://doi.org/1/2 (and/or).",
        "2 examples of 1 subjects",
        "python -m train.drai --data_dir=data_dir --run_dir=run_dir [path]",
    ):
        assert kept in text


def test_same_input_gives_the_same_bytes_and_leaves_no_other_file(tmp_path):
    _full(tmp_path)
    first = (tmp_path / "report.html").read_bytes()
    _full(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "report.html"}


def test_a_report_that_fails_leaves_the_old_one(tmp_path):
    _write(tmp_path, title="old")
    with pytest.raises(ValueError, match="Figure 'f': expected uint8"):
        _write(tmp_path, figures=[Figure("f", "", PIXELS / 255.0)])
    with pytest.raises(ValueError, match="Figure 'g': expected the bytes of a PNG"):
        _write(tmp_path, figures=[Figure("g", "", b"GIF89a")])
    assert "old" in (tmp_path / "report.html").read_text()


def test_a_folder_that_is_absent_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such-run"):
        _write(tmp_path / "no-such-run")


def test_parts_of_a_metric_are_folded_under_it_without_paths(tmp_path):
    page = _write(
        tmp_path,
        metrics={
            "dice": {"value": 0.8, "per_class": {"liver": 0.9, "spleen": None, "/scans/Jane": 0.5}},
            "psnr": {"value": 25.0},
        },
    )
    assert len(page.all("details")) == 1 and "open" not in page.all("details")[0]
    assert "3 parts" in page.text
    for text in ("liver", "0.9", "spleen", "not computed", "[path]"):
        assert text in page.text
    assert "Jane" not in page.text
