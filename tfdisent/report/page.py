"""One page for one run: words, numbers and pictures in a single file that opens anywhere."""

import base64
import functools
import io
import itertools
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

from tfdisent import files, privacy
from tfdisent.report import figures as pictures
from tfdisent.report import tables

SHARES = 5  # steps at which shares of the gradient are shown
WON = 0.02  # a discriminator's loss below which it tells everything apart


class Figure(NamedTuple):
    """A picture for a report.

    Attributes:
        name: the heading; consecutive figures of the same name share it.
        caption: what to look for.
        image: (H, W, 3) uint8, or the bytes of a PNG file.
        source: the figure of a paper that it corresponds to, e.g. "paper Fig. 12/13".
        alt: a description for readers who cannot see it; by default the name and the caption.
    """

    name: str
    caption: str
    image: np.ndarray | bytes
    source: str = ""
    alt: str = ""


def write_report(
    run_dir: str | os.PathLike,
    *,
    title: str,
    summary: str,
    metrics: Mapping[str, Mapping],
    figures: Sequence[Figure] = (),
    paper: tables.Column | None = None,
    curves: str | os.PathLike | None = None,
    gradients: str | os.PathLike | None = None,
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    command: str = "",
    name: str = "report.html",
) -> pathlib.Path:
    """Writes a report into a run folder: one file, pictures inside, that loads nothing else.

    What is not given leaves its section out. The same input gives the same bytes. The file appears whole or not at all.
    What texts may say is decided in `tfdisent.privacy`: absolute paths become `[path]`, or relative if they lie in the
    run folder, and folders in the command become the names of their flags.

    Args:
        run_dir: the folder of the run; it must exist.
        title: title of the page.
        summary: what was trained, on what, for how long, and what came out; a blank line begins a new paragraph.
        metrics: the content of metrics.json, see `tables.metric_table`.
        figures: in the order of the page.
        paper: the paper's numbers for the column beside the run's, see `tables.paper_column`.
        curves: path of metrics.csv, see `figures.read_curves`.
        gradients: path of gradients.csv, likewise; of each term its share of the gradient.
        config: settings of the system and the training; may be nested.
        environment: versions and hardware.
        data: the manifest of the prepared data; shown as `tfdisent.privacy.data_summary` gives it.
        command: the command that continues the run.
        name: file name of the page.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: there is no such run folder.
        ValueError: a figure is neither an RGB array nor a PNG file.
    """
    run_dir = pathlib.Path(run_dir)
    if not run_dir.is_dir():
        raise FileNotFoundError(f"Expected the folder of a run, received {run_dir}, which is no folder.")
    private = functools.partial(privacy.without_paths, inside=run_dir)
    summary = f"{summary}\n\n{who_has_won(curves)}"
    rows = [_without_paths(row, private) for row in tables.metric_table(metrics, paper)]
    page = template("report.html.jinja").render(
        title=private(title),
        summary=[private(part) for part in re.split(r"\n\s*\n", summary.strip()) if part],
        groups=[(group, list(members)) for group, members in itertools.groupby(rows, lambda row: row.group)],
        paper=paper,
        sections=_sections(figures, private),
        curves=_curves(curves, private),
        gradients=_gradients(gradients, private),
        config=flat(config or {}, private),
        environment=flat(environment or {}, private),
        data=flat(privacy.data_summary(data or {}), private),
        command=privacy.public_command(command, run_dir),
    )
    return files.write_text(run_dir / name, page)


@functools.cache
def template(name: str) -> jinja2.Template:
    """Returns a page's template by its file's name."""
    loader = jinja2.FileSystemLoader(pathlib.Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _sections(figures: Sequence[Figure], private) -> list[tuple[str, list[dict]]]:
    sections = []
    for figure in figures:
        name = private(figure.name)
        if not sections or sections[-1][0] != name:
            sections.append((name, []))
        sections[-1][1].append(picture(figure, private))
    return sections


def picture(figure: Figure, private) -> dict:
    """Returns what the templates show of a figure; `private` removes paths from texts."""
    png = figure.image if isinstance(figure.image, bytes) else _png(figure)
    try:
        width, height = Image.open(io.BytesIO(png), formats=["PNG"]).size
    except OSError as error:
        raise ValueError(f"Figure {figure.name!r}: expected the bytes of a PNG file.") from error
    return {
        "source": private(figure.source),
        "caption": private(figure.caption),
        "alt": private(figure.alt or ": ".join(filter(None, (figure.name, figure.caption)))),
        "width": width,
        "height": height,
        "data": base64.b64encode(png).decode("ascii"),
    }


def _png(figure: Figure) -> bytes:
    image = np.asarray(figure.image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"Figure {figure.name!r}: expected uint8 of shape (H, W, 3), received {image.dtype} of shape {image.shape}."
        )
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _curves(path, private) -> dict | None:
    if path is None or not pathlib.Path(path).exists():
        return None
    _, terms = pictures.read_curves(path)
    if not any(np.isfinite(values).any() for values in terms.values()):
        return None  # a run that has not logged yet
    figure = Figure(
        "Loss curves",
        "One panel for each loss term: a moving average over the faint raw values, with its last value beside the "
        "name. Terms should settle. A discriminator term that falls to zero means that the generator no longer fools "
        "the discriminator. Each panel has its own scale, which leaves out the highest and lowest 1 % of the raw "
        "values.",
        pictures.loss_curves(path),
    )
    return picture(figure, private)


def _gradients(path, private) -> list[list[str]]:
    """The terms' shares of the gradient as cells, headings first, at up to `SHARES` steps; [] where there are none."""
    if path is None or not pathlib.Path(path).exists():
        return []
    steps, terms = pictures.read_curves(path)
    if not len(steps):
        return []
    shown = np.unique(np.linspace(0, len(steps) - 1, SHARES).round().astype(int))
    lines = [["Loss term", *(f"step {steps[k]:.0f}" for k in shown)]]
    for name in sorted(terms, key=lambda name: (pictures.is_judging(name), name)):
        lines.append([private(name), *(f"{100 * terms[name][k]:.3g} %" for k in shown)])
    return lines


def who_has_won(curves: str | os.PathLike | None) -> str:
    """A sentence on the discriminators that tell everything apart at the end of training; "" where there are none.

    Of a term d_x near 0 whose counterpart g_x is not: the generator learns nothing from it any more.
    """
    if curves is None or not pathlib.Path(curves).exists():
        return ""
    _, terms = pictures.read_curves(curves)
    last = {}
    for name, values in terms.items():
        finite = values[np.isfinite(values)]
        if len(finite):
            last[name] = float(finite[-max(1, len(finite) // 20) :].mean())
    won = [
        f"{name} is {value:.2g} and g_{name[2:]} {last[f'g_{name[2:]}']:.2g}"
        for name, value in last.items()
        if name.startswith("d_") and 0 <= value < WON and last.get(f"g_{name[2:]}", 0) > 10 * WON
    ]
    if not won:
        return ""
    return f"A discriminator has won, so that its term no longer teaches the generator: at the end {'; '.join(won)}."


def flat(settings: Mapping[str, Any], private, prefix: str = "") -> list[tuple[str, str]]:
    """Returns settings as (name, text); the names of nested settings are joined by dots."""
    lines = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            lines += flat(value, private, f"{prefix}{name}.")
        else:
            lines.append((private(f"{prefix}{name}"), private(_plain(value))))
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    return str(value)


def _without_paths(row: tables.Row | tables.Part, private) -> tables.Row | tables.Part:
    texts = {name: private(value) for name, value in row._asdict().items() if isinstance(value, str)}
    if isinstance(row, tables.Row):
        texts["parts"] = tuple(_without_paths(part, private) for part in row.parts)
    return row._replace(**texts)
