"""A page that compares several runs: tables beside a paper's, and their pictures."""

import functools
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tfdisent import files, privacy
from tfdisent.report import page


class Section(NamedTuple):
    """A section of the page.

    Attributes:
        heading: heading of the section.
        lines: cells of a table, headings first, as from `tables.comparison`; or empty.
        notes: what a reader has to know of the table or the figures.
        figures: shown below the notes.
    """

    heading: str
    lines: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    figures: Sequence[page.Figure] = ()


def write_comparison(
    path: str | os.PathLike,
    *,
    title: str,
    summary: str,
    sections: Sequence[Section],
    environment: Mapping[str, Any] | None = None,
    command: str = "",
) -> pathlib.Path:
    """Writes one HTML file that holds everything, whole or not at all, without paths of this machine.

    Args:
        path: where to write the file; its folder must exist.
        title: title of the page.
        summary: what was compared; a blank line begins a new paragraph.
        sections: in the order of the page.
        environment: versions and hardware.
        command: the command that makes the page again.

    Returns:
        The path.
    """
    path = pathlib.Path(path)
    private = functools.partial(privacy.without_paths, inside=path.parent)
    text = page.template("comparison.html.jinja").render(
        title=private(title),
        summary=[private(part) for part in re.split(r"\n\s*\n", summary.strip()) if part],
        sections=[
            {
                "heading": private(section.heading),
                "lines": [[private(cell) for cell in line] for line in section.lines],
                "notes": [private(note) for note in section.notes],
                "figures": [page.picture(figure, private) for figure in section.figures],
            }
            for section in sections
        ],
        environment=page.flat(environment or {}, private),
        command=privacy.public_command(command, path.parent),
    )
    return files.write_text(path, text)
