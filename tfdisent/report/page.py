"""One page for one run: words, numbers and pictures in a single file that opens anywhere."""

import base64
import functools
import io
import os
import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

from tfdisent.report import figures as pictures
from tfdisent.report import tables

# What of a data set's manifest may leave the machine: no subject names, no paths, no file names.
_PUBLIC = (
    "dataset",
    "version",
    "description",
    "homepage",
    "image_shape",
    "image_dtype",
    "modalities",
    "labels",
    "condition_names",
    "domains",
    "factor_names",
    "seed",
    "citation",
    "licence",
)
_ABSOLUTE_PATH = re.compile(
    r"""(?<![^\s"'`=(\[{>|,;:])  # not inside a word, a ratio or a tag
    (?: ~?/(?!/) | [A-Za-z]:[\\/] | \\\\ | file: )  # POSIX, Windows, network share, address
    [^\s"'`,;)\]}<>|]+""",
    re.VERBOSE,
)


class Figure(NamedTuple):
    """A picture for a report.

    Attributes:
        name: the heading; figures in a row with the same name share it.
        caption: what to look for.
        image: (H, W, 3) uint8, or the bytes of a PNG file.
        source: the figure that it mirrors, e.g. "paper Fig. 12/13".
        alt: for readers who cannot see it; by default the name.
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
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    command: str = "",
    name: str = "report.html",
) -> pathlib.Path:
    """Writes a report into a run folder: one file, pictures inside, that loads nothing else.

    What is not given leaves its section out. The same input gives the same bytes. The file appears
    whole or not at all. Absolute paths in any text become `[path]`, or relative when they lie in
    the run folder, and those of the command's flags the flag's name in capitals, because folders
    of medical images carry patients' names.

    Args:
        run_dir: the folder of the run; it must exist.
        title: of the page.
        summary: what was trained, on what, for how long, and what came out; a blank line begins a
            new paragraph.
        metrics: the content of metrics.json, see `tables.metric_table`.
        figures: in the order of the page.
        paper: the paper's numbers for the column beside the run's, see `tables.paper_column`.
        curves: path of metrics.csv, see `figures.read_curves`.
        config: settings of the system and the training; may be nested.
        environment: versions and hardware.
        data: the manifest of the prepared data; of it, only what names nobody is shown.
        command: continues the run.
        name: of the file.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: there is no such run folder.
        ValueError: a figure is neither an RGB array nor a PNG file.
    """
    run_dir = pathlib.Path(run_dir)
    if not run_dir.is_dir():
        raise FileNotFoundError(f"Expected the folder of a run, received {run_dir}, which is none.")
    private = functools.partial(without_paths, run_dir=run_dir)
    rows = [row._replace(**_texts(row._asdict(), private)) for row in tables.metric_table(metrics, paper)]
    page = template("report.html.jinja").render(
        title=private(title),
        summary=[private(part) for part in re.split(r"\n\s*\n", summary.strip()) if part],
        rows=rows,
        paper=paper,
        sections=_sections(figures, private),
        curves=_curves(curves, private),
        config=flat(config or {}, private),
        environment=flat(environment or {}, private),
        data=flat(data_summary(data or {}), private),
        command=without_private_flags(command, private),
    )
    return write_whole(run_dir / name, page)


def write_whole(path: pathlib.Path, text: str) -> pathlib.Path:
    """Writes a file that is there whole or not at all; returns its path."""
    half = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        half.write_text(text, encoding="utf-8")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    return path


def data_summary(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a report may say of a manifest: what and how many, but not whose."""
    summary = {name: manifest[name] for name in _PUBLIC if manifest.get(name) not in (None, "", (), [], {})}
    for name, split in (manifest.get("splits") or {}).items():
        subjects = split.get("subjects")
        count = subjects if isinstance(subjects, int) else len(subjects or ())
        labels = ", ".join(f"{label} {n}" for label, n in (split.get("label_counts") or {}).items())
        text = f"{split.get('num_examples')} examples of {count} subjects"
        summary[f"{name} split"] = f"{text}: {labels}" if labels else text
    if skipped := manifest.get("skipped"):
        summary["skipped"] = skipped if isinstance(skipped, int) else len(skipped)
    return summary


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
    """Returns what the templates show of a figure; `private` takes paths out of texts."""
    png = figure.image if isinstance(figure.image, bytes) else _png(figure)
    try:
        width, height = Image.open(io.BytesIO(png), formats=["PNG"]).size
    except OSError as error:
        raise ValueError(f"Figure {figure.name!r}: expected the bytes of a PNG file.") from error
    return {
        "source": private(figure.source),
        "caption": private(figure.caption),
        "alt": private(figure.alt or figure.name),
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
        "One panel for each term: a moving average over the faint raw values, and its last value "
        "beside the name. Look for terms that settle; a discriminator term that falls to zero "
        "means that the generator has lost. Each panel has its own scale, which leaves out the "
        "highest and lowest 1 % of the raw values.",
        pictures.loss_curves(path),
    )
    return picture(figure, private)


def flat(settings: Mapping[str, Any], private, prefix: str = "") -> list[tuple[str, str]]:
    """Returns settings as (name, text), nested ones with dots."""
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


def _texts(fields: Mapping[str, Any], private) -> dict[str, Any]:
    return {name: private(v) if isinstance(v, str) else v for name, v in fields.items()}


def without_paths(text: str, run_dir: pathlib.Path) -> str:
    """Returns a text without absolute paths; those in the run folder become relative to it."""
    text = str(text)
    # A whole value may be a path with spaces in it, which a pattern would cut short.
    if "\n" not in text and _is_absolute(text):
        return _relative(text, run_dir) or "[path]"
    return _ABSOLUTE_PATH.sub(lambda path: _relative(path[0], run_dir) or "[path]", text)


def _is_absolute(text: str) -> bool:
    windows, posix = pathlib.PureWindowsPath(text), pathlib.PurePosixPath(text)
    return posix.is_absolute() or windows.is_absolute() or text.startswith("~/")


def _relative(path: str, run_dir: pathlib.Path) -> str | None:
    for root in (run_dir.absolute(), run_dir.resolve()):
        if pathlib.Path(path).is_relative_to(root):
            return str(pathlib.Path(path).relative_to(root))
    return None


def without_private_flags(command: str, private) -> str:
    """Returns a command whose absolute paths are the names of their flags, e.g. DATA_DIR."""
    try:
        words = shlex.split(command)
    except ValueError:  # an unpaired quote: no command, but words all the same
        return private(command)
    shown = []
    for word in words:
        flag, equals, value = word.partition("=")
        if equals and flag.startswith("-") and private(value) != value:
            word = f"{flag}={flag.lstrip('-').upper()}"
        shown.append(word if _is_plain(word := private(word)) else shlex.quote(word))
    return " ".join(shown)


def _is_plain(word: str) -> bool:
    return word == "[path]" or shlex.quote(word) == word
