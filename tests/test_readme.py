"""README: its Python runs as printed, what it links to is there, and it stays short."""

import pathlib
import re
import textwrap

import keras
import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
# What each of them leaves in the folder it runs in.
LEFT = ("saved_models/drai-skin_phantom/1/saved_model.pb", "drai.keras")


def test_readme_has_at_most_120_lines_and_one_picture():
    assert README.count("\n") <= 120
    assert README.count("![") == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_links_to_is_there(page):
    targets = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for the examples")
@pytest.mark.parametrize("number", range(len(LEFT)))
def test_the_examples_of_readme_run_as_printed(run_python, tmp_path, number):
    code = f"""
import os

if __name__ == "__main__":
    os.chdir({str(tmp_path)!r})
{textwrap.indent(EXAMPLES[number], "    ")}
"""
    run_python(code)
    assert (tmp_path / LEFT[number]).is_file()


def test_readme_has_examples():
    assert len(EXAMPLES) == len(LEFT)
