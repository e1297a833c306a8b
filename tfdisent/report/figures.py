"""The pictures of the papers, drawn from arrays: grids of images, maps of codes, curves of losses.

Every function takes arrays and returns one picture, uint8 (height, width, 3) on white. Images are (..., H, W, C) with C
= 1 or 3, float in [-1, 1] or uint8, drawn upright as stored. Grids enlarge them by whole numbers only, each pixel
becoming a square of pixels, so that a reader sees exactly what the model made. `upscale=None` chooses the factor that
brings an image to about 128 pixels.
"""

import csv
import functools
import math
import os
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont

CONTENT = "#1f5fa8"  # the colour of whatever comes from the content code, in every figure
STYLE = "#b3500b"  # the colour of whatever comes from the style code
INK = "#333333"
FAINT = "#8a8a8a"
ERRORS = "inferno"  # Matplotlib's map, whose lightness rises evenly, for colour-blind readers and print in grey
BROKEN_PIXEL = (255, 0, 255)  # NaN or infinite: magenta, so that it cannot pass for an image
# Okabe and Ito's palette, which colour-blind readers can tell apart; the markers are for print in grey.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
PALETTE_NAMES = ("blue", "vermilion", "green", "pink", "orange", "sky blue", "grey", "black")
MARKERS = "o^sDvPX*"


class _Words(NamedTuple):
    """A text that spans columns, above a grid, or rows, beside it."""

    first: int  # column (headings) or row (sides) where the span begins
    last: int
    text: str
    colour: str = INK


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Returns images in [-1, 1] as uint8 in 0..255 of the same shape, the inverse of x / 127.5 - 1.

    Values outside of the range are clipped, NaN becomes 0, and uint8 images are returned as they are.
    """
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    finite = np.nan_to_num(images.astype(np.float64), nan=-1, posinf=1, neginf=-1)
    return np.rint((np.clip(finite, -1, 1) + 1) * 127.5).astype(np.uint8)


def image_grid(images: np.ndarray, columns: int = 8, *, pad: int = 2, upscale: int | None = None) -> np.ndarray:
    """Returns images (N, H, W, C) row by row in a grid, `pad` white pixels around and between them.

    The image in row r, column k begins `pad + r * (H * upscale + pad)` pixels down and `pad + k * (W * upscale + pad)`
    to the right.

    Raises:
        ValueError: there is no image, the shape is not (N, H, W, 1 or 3), or columns < 1.
    """
    images = _rgb(images, 4, "images")
    if columns < 1:
        raise ValueError(f"Expected columns of at least 1, received {columns}.")
    columns = min(columns, len(images))
    cells = {divmod(i, columns): image for i, image in enumerate(images)}
    return _sheet(cells, pad=pad, upscale=upscale)


def condition_grid(
    samples: np.ndarray,
    names: Sequence[str],
    real: np.ndarray | None = None,
    *,
    pad: int = 2,
    upscale: int | None = None,
) -> np.ndarray:
    """Returns generated images, one row for each condition, after a real example (Figs. 10 and 11).

    Args:
        samples: (K, S, H, W, C), S images for each of K conditions.
        names: K names of the conditions, written at the left.
        real: (K, H, W, C), a real image of each condition for the first column.
    """
    samples = _rgb(samples, 5, "samples")
    if len(names) != len(samples):
        raise ValueError(f"Expected a name for each of {len(samples)} rows, received {list(names)}.")
    columns = list(np.swapaxes(samples, 0, 1))
    headings = []
    if real is not None:
        columns.insert(0, _same("real", _rgb(real, 4, "real"), samples[:, 0], "samples[:, 0]"))
        headings = [_Words(0, 0, "real"), _Words(1, samples.shape[1], "generated")]
    return _sheet(
        {(r, k): image for k, column in enumerate(columns) for r, image in enumerate(column)},
        pad=pad,
        upscale=upscale,
        headings=headings,
        sides=[_Words(r, r, str(name)) for r, name in enumerate(names)],
        apart=(0, real is not None),
    )


def hybrid_grid(
    content_images: np.ndarray,
    style_images: np.ndarray,
    hybrids: np.ndarray,
    *,
    pad: int = 2,
    upscale: int | None = None,
) -> np.ndarray:
    """Returns hybrids beside their sources (Figs. 12 and 13): content images at the left, style images on top.

    Args:
        content_images: (N, H, W, C), the first column.
        style_images: (M, H, W, C), the first row; the corner stays blank.
        hybrids: (N, M, H, W, C), `hybrids[n, m]` from content n and style m.
    """
    content, style = (
        _rgb(content_images, 4, "content_images"),
        _rgb(style_images, 4, "style_images"),
    )
    hybrids = _rgb(hybrids, 5, "hybrids")
    if hybrids.shape[:2] != (len(content), len(style)):
        raise ValueError(
            f"Expected hybrids for {len(content)} content and {len(style)} style images, received shape "
            f"{hybrids.shape}."
        )
    cells = {(n + 1, 0): image for n, image in enumerate(content)}
    cells |= {(0, m + 1): image for m, image in enumerate(style)}
    cells |= {(n + 1, m + 1): image for n, row in enumerate(hybrids) for m, image in enumerate(row)}
    return _sheet(
        cells,
        pad=pad,
        upscale=upscale,
        headings=[_Words(1, len(style), "style", STYLE)],
        sides=[_Words(1, len(content), "content", CONTENT)],
        apart=(1, 1),
    )


def interpolation_grid(
    content: np.ndarray,
    style: np.ndarray,
    both: np.ndarray,
    source: np.ndarray | None = None,
    target: np.ndarray | None = None,
    *,
    pad: int = 2,
    upscale: int | None = None,
) -> np.ndarray:
    """Returns interpolations between pairs of images (Fig. 18), three rows for each pair.

    Args:
        content: (P, T, H, W, C), T steps of the content code with the style of the source.
        style: (P, T, H, W, C), T steps of the style code with the content of the source.
        both: (P, T, H, W, C), T steps of both codes.
        source: (P, H, W, C), the real images at the beginning, for a column before the steps.
        target: (P, H, W, C), the real images at the end, for a column after the steps.
    """
    walks = [_rgb(content, 5, "content"), _rgb(style, 5, "style"), _rgb(both, 5, "both")]
    for name, walk in zip(("style", "both"), walks[1:], strict=True):
        _same(name, walk, walks[0], "content")
    columns = list(np.moveaxis(np.stack(walks), 2, 0))  # of (3, P, H, W, C)
    headings = []
    if source is not None:
        columns.insert(0, _column("source", source, walks))
        headings.append(_Words(0, 0, "source"))
    if target is not None:
        headings.append(_Words(len(columns), len(columns), "target"))
        columns.append(_column("target", target, walks))
    sides = [_Words(0, 0, "content", CONTENT), _Words(1, 1, "style", STYLE), _Words(2, 2, "both")]
    blocks = [
        _sheet(
            {(r, k): column[r, pair] for k, column in enumerate(columns) for r in range(3)},
            pad=pad,
            upscale=upscale,
            headings=headings,
            sides=sides,
        )
        for pair in range(walks[0].shape[0])
    ]
    return image_grid(np.stack(blocks), 1, pad=4 * pad, upscale=1)


def retrieval_grid(
    query: np.ndarray,
    by_style: np.ndarray,
    by_content: np.ndarray,
    *,
    columns: int = 3,
    pad: int = 2,
    upscale: int | None = None,
) -> np.ndarray:
    """Returns queries with their nearest images by style to the right and by content below (Figs. 14 and 15).

    Args:
        query: (Q, H, W, C).
        by_style: (Q, top, H, W, C), nearest first.
        by_content: (Q, top, H, W, C), nearest first.
        columns: number of queries side by side.
    """
    query = _rgb(query, 4, "query")
    by_style, by_content = _rgb(by_style, 5, "by_style"), _rgb(by_content, 5, "by_content")
    for name, found in (("by_style", by_style), ("by_content", by_content)):
        _same(name, found[:, 0], query, "query")
    blocks = []
    for image, to_right, below in zip(query, by_style, by_content, strict=True):
        cells = {(0, 0): image}
        cells |= {(0, k + 1): neighbour for k, neighbour in enumerate(to_right)}
        cells |= {(r + 1, 0): neighbour for r, neighbour in enumerate(below)}
        headings = [_Words(0, 0, "query"), _Words(1, len(to_right), "by style", STYLE)]
        sides = [_Words(1, len(below), "by content", CONTENT)]
        blocks.append(_sheet(cells, pad=pad, upscale=upscale, headings=headings, sides=sides, apart=(1, 1)))
    return image_grid(np.stack(blocks), columns, pad=4 * pad, upscale=1)


def pairs_grid(
    left: np.ndarray,
    right: np.ndarray,
    captions: Sequence[str] | None = None,
    *,
    names: tuple[str, str] = ("", ""),
    columns: int = 4,
    pad: int = 2,
    upscale: int | None = None,
) -> np.ndarray:
    """Returns pairs of images side by side: generated ones beside their nearest training images.

    Args:
        left: (N, H, W, C).
        right: (N, H, W, C), `right[n]` is drawn to the right of `left[n]`.
        captions: N short texts, such as distances, written above the pairs; lines break at 18 letters.
        names: what the left and the right image of each pair are, written above them, in the place of captions, which
            then stand below them.
        columns: number of pairs side by side.
    """
    left = _rgb(left, 4, "left")
    right = _same("right", _rgb(right, 4, "right"), left, "left")
    captions = [""] * len(left) if captions is None else [str(text) for text in captions]
    if len(captions) != len(left):
        raise ValueError(f"Expected a caption for each of {len(left)} pairs, received {captions}.")
    blocks = [
        _sheet(
            {(0, 0): one, (0, 1): other},
            pad=pad,
            upscale=upscale,
            headings=_pair_headings(names, textwrap.fill(text, 18)),
        )
        for one, other, text in zip(left, right, captions, strict=True)
    ]
    height = max(len(block) for block in blocks)  # the height of a caption depends on its letters
    above = [((height - len(block), 0), (0, 0), (0, 0)) for block in blocks]
    blocks = [np.pad(block, room, constant_values=255) for block, room in zip(blocks, above, strict=True)]
    return image_grid(np.stack(blocks), columns, pad=4 * pad, upscale=1)


def _pair_headings(names: tuple[str, str], caption: str) -> list[_Words]:
    if not any(names):
        return [_Words(0, 1, caption)] if caption else []
    return [_Words(0, 0, "\n".join(filter(None, (names[0], caption)))), _Words(1, 1, names[1] + "\n" * bool(caption))]


def label_colours(labels: np.ndarray, images: np.ndarray | None = None) -> np.ndarray:
    """Returns label maps in the colours of `PALETTE`, the background black: (N, H, W, 3) in [-1, 1].

    Args:
        labels: (N, H, W), integers, 0 the background; a label has the same colour in every picture.
        images: (N, H, W) in [-1, 1], over which the colours are laid; their background shows as it is.
    """
    palette = [tuple(int(colour[k : k + 2], 16) / 127.5 - 1 for k in (1, 3, 5)) for colour in PALETTE]
    colours = np.array([(-1, -1, -1), *(palette[k % len(palette)] for k in range(labels.max(initial=0)))], float)
    if images is None:
        return colours[labels]
    grey = np.repeat(images[..., None], 3, axis=-1)
    return np.where(labels[..., None] > 0, 0.4 * grey + 0.6 * colours[labels], grey)


def label_legend(names: Sequence[str]) -> str:
    """Returns which colour `label_colours` gives to labels, as "liver blue, spleen vermilion"."""
    return ", ".join(f"{name} {PALETTE_NAMES[k % len(PALETTE_NAMES)]}" for k, name in enumerate(names))


def columns_grid(
    groups: Mapping[str, np.ndarray],
    *,
    names: Sequence[str] = (),
    ends: tuple[str, str] = ("", ""),
    pad: int = 2,
    upscale: int | None = None,
) -> np.ndarray:
    """Returns rows of images under headings: a source in the first group, then what was found or made for it.

    Args:
        groups: {heading: (N, H, W, C) or (N, K, H, W, C)}, one row for each of N, K columns under the heading.
        names: of the N rows, written at the left.
        ends: what is at the left and at the right of an image, as ("R", "L") of a patient, written into each corner.
    """
    if names and len(names) != len(next(iter(groups.values()))):
        raise ValueError(
            f"Expected a name for each of {len(next(iter(groups.values())))} rows, received {list(names)}."
        )
    groups = {
        name: _rgb(images[:, None] if np.ndim(images) == 4 else images, 5, name) for name, images in groups.items()
    }
    first = next(iter(groups.values()))[:, 0]
    cells, headings, column = {}, [], 0
    for name, images in groups.items():
        _same(name, images[:, 0], first, next(iter(groups)))
        for k in range(images.shape[1]):
            cells |= {(row, column + k): image for row, image in enumerate(images[:, k])}
        headings.append(_Words(column, column + images.shape[1] - 1, name))
        column += images.shape[1]
    sides = [_Words(row, row, str(name)) for row, name in enumerate(names)]
    return _sheet(cells, pad=pad, upscale=upscale, headings=headings, sides=sides, apart=(0, 1), ends=ends)


def missing(height: int, width: int) -> np.ndarray:
    """Returns a picture (H, W, 1) in [-1, 1] for an image that does not exist: stripes, which no black image has."""
    rows, columns = np.indices((height, width))
    period = max(4, min(height, width) // 8)
    return np.where((rows + columns) % period < max(1, period // 4), 0.2, 0.75)[..., None]


def error_colours(error: np.ndarray, largest: float) -> np.ndarray:
    """Returns errors (..., H, W, 1) as colours, uint8 (..., H, W, 3), from black for 0 to pale yellow for `largest`."""
    shares = np.clip(np.asarray(error, float)[..., 0] / largest, 0, 1)
    return np.rint(255 * matplotlib.colormaps[ERRORS](shares)[..., :3]).astype(np.uint8)


def with_colour_bar(picture: np.ndarray, label: str, largest: float) -> np.ndarray:
    """Returns a picture with the scale of `error_colours` at its right, and what it measures beside it."""
    height = len(picture)
    font = _font(max(11, min(22, height // 24)))
    bar, margin = max(12, font.size), round(0.8 * font.size)
    ticks = {share: f"{share * largest:.2g}" for share in (0.0, 0.5, 1.0)}
    inner = height - 4 * font.size  # the label and half of a number above and below
    top = height - inner - font.size
    words = [f"\u2265 {ticks[1.0]}", label]
    room = bar + 2 * margin + round(max(font.getlength(word) for word in words))
    sheet = Image.new("RGB", (picture.shape[1] + room, height), "white")
    sheet.paste(Image.fromarray(picture), (0, 0))
    left = picture.shape[1] + margin
    scale = error_colours(np.linspace(largest, 0, inner).reshape(-1, 1, 1), largest).repeat(bar, axis=1)
    sheet.paste(Image.fromarray(scale), (left, top))
    draw = ImageDraw.Draw(sheet)
    draw.text((left, top - font.size), label, INK, font, anchor="ls")
    for share, text in ticks.items():
        text = f"\u2265 {text}" if share == 1 else text
        draw.text((left + bar + margin / 3, top + (1 - share) * inner), text, INK, font, anchor="lm")
    return np.asarray(sheet).copy()


def tsne_figure(
    content_codes: np.ndarray,
    style_codes: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    images: np.ndarray | None = None,
    *,
    seed: int = 0,
    perplexity: float = 30.0,
    max_points: int = 1000,
) -> np.ndarray:
    """Returns t-SNE maps of content and style codes (Fig. 19), coloured by class.

    Args:
        content_codes: (N, c).
        style_codes: (N, z).
        labels: (N,) integers, indices into `names`.
        names: names of the classes.
        images: (N, H, W, C), for a second row of maps: one image in each cell of a lattice, framed in the colour of its
            class.
        seed: seed of the map and of the choice of points; the same seed gives the same picture.
        perplexity: perplexity of t-SNE, lowered to (N - 1) / 3 for few codes.
        max_points: the most codes to draw; of more, some are chosen at random.

    Raises:
        ValueError: there are fewer than 4 codes, numbers of codes, labels and images differ, or codes are not finite.
    """
    labels = np.asarray(labels)
    counts = [len(content_codes), len(style_codes), len(labels)]
    counts += [] if images is None else [len(images)]
    if len(set(counts)) != 1 or counts[0] < 4:
        raise ValueError(
            "Expected the same number, at least 4, of content codes, style codes, labels and images, received "
            f"{counts}."
        )
    if labels.min() < 0 or labels.max() >= len(names):
        raise ValueError(
            f"Expected labels from 0 to {len(names) - 1}, the names being {list(names)}, received {labels.min()} to "
            f"{labels.max()}."
        )
    chosen = np.arange(len(labels))
    if len(labels) > max_points:
        chosen = np.sort(np.random.default_rng(seed).choice(len(labels), max_points, replace=False))
    labels = labels[chosen]
    maps = {
        "content codes": _tsne(np.asarray(content_codes)[chosen], seed, perplexity, "content_codes"),
        "style codes": _tsne(np.asarray(style_codes)[chosen], seed, perplexity, "style_codes"),
    }
    rows = 1 if images is None else 2
    figure = _figure(12, 6.2 * rows + 0.3)
    axes = figure.subplots(rows, 2, squeeze=False)
    for k, (title, points) in enumerate(maps.items()):
        if images is not None:
            _thumbnails(axes[1, k], points, _rgb(np.asarray(images)[chosen], 4, "images"), labels)
        for ax in axes[:, k]:
            ax.set(xlim=(-0.05, 1.08), ylim=(-0.05, 1.08), xticks=[], yticks=[], aspect="equal")
            ax.spines[:].set_color("#cccccc")
        axes[0, k].set_title(title, color=(CONTENT, STYLE)[k], fontsize=15, fontweight="bold")
        for index, name in enumerate(names):
            axes[0, k].scatter(
                *points[labels == index].T,
                s=26,
                color=PALETTE[index % len(PALETTE)],
                marker=MARKERS[(index + index // len(PALETTE)) % len(MARKERS)],
                linewidths=0,
                alpha=0.75,
                label=str(name),
            )
    handles, words = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        words,
        loc="outside upper center",
        ncols=min(8, len(names)),
        frameon=False,
        fontsize=14,
        markerscale=2,
        handletextpad=0.2,
    )
    return _drawn(figure)


def matrix(values: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> np.ndarray:
    """Returns a table of numbers in [0, 1] with cells shaded by value; numbers below 0 are shaded as 0.

    Args:
        values: (R, C); NaN leaves a cell empty.
        rows, columns: the R names of the rows and the C names of the columns.

    Raises:
        ValueError: the numbers of names and of values differ.
    """
    values = np.asarray(values, float)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(
            f"Expected values of shape ({len(rows)}, {len(columns)}), one for each name, received {values.shape}."
        )
    figure = _figure(2.6 + 1.4 * len(columns), 0.8 + 0.36 * len(rows))
    axes = figure.subplots()
    axes.imshow(np.nan_to_num(values), cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if math.isfinite(value):
            axes.text(column, row, f"{value:z.2f}", ha="center", va="center", fontsize=12)
    axes.set_xticks(range(len(columns)), columns, fontsize=13, fontweight="bold")
    axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows], fontsize=12)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    return _drawn(figure)


def read_curves(path: str | os.PathLike) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns (steps, {term: values}) of a metrics.csv, which has a column `step` and one for each loss term.

    Rows are returned in order of steps. If a step is there twice, as after a run that was killed and resumed from its
    last checkpoint, the later row counts. A cell that is empty, cut off or no number is NaN; a row without a step is
    left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no column `step`.
    """
    rows = {}
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, restkey="")
        if "step" not in (reader.fieldnames or ()):
            raise ValueError(
                f"{pathlib.Path(path).name}: expected a column 'step', received the columns {reader.fieldnames}."
            )
        for row in reader:
            if math.isfinite(step := _number(row["step"])):
                rows[step] = row
    steps = np.array(sorted(rows))
    terms = [name for name in reader.fieldnames if name not in ("step", "")]
    return steps, {name: np.array([_number(rows[step][name]) for step in steps]) for name in terms}


def is_judging(term: str) -> bool:
    """Whether a loss term is a discriminator's, by its name."""
    return term.startswith(("d_", "discriminator"))


def loss_curves(metrics_csv: str | os.PathLike, groups: Mapping[str, Sequence[str]] | None = None) -> np.ndarray:
    """Returns one panel for each loss term over the steps: a moving average over faint raw values.

    Args:
        metrics_csv: path of the file, see `read_curves`. Terms without any finite value are left out.
        groups: {heading: terms}, in order. By default terms whose name begins with `d_` or `discriminator` are the
            discriminators' and all others the generator's.

    Raises:
        ValueError: there is no finite value to draw, or a group names a term that the file does not have.
    """
    steps, curves = read_curves(metrics_csv)
    curves = {name: values for name, values in curves.items() if np.isfinite(values).any()}
    if not curves:
        raise ValueError(f"{pathlib.Path(metrics_csv).name}: expected at least one row with a finite value.")
    if groups is None:
        judging = [name for name in curves if is_judging(name)]
        others = [name for name in curves if name not in judging]
        groups = {"Discriminator terms": judging, "Generator and encoder terms": others}
        groups = {heading: names for heading, names in groups.items() if names}
    if unknown := {name for names in groups.values() for name in names} - curves.keys():
        raise ValueError(f"Expected terms among {sorted(curves)}, received {sorted(unknown)}.")

    columns = 4
    heights = [math.ceil(len(names) / columns) for names in groups.values()]
    figure = _figure(12, 1.75 * sum(heights) + 0.4 * len(groups))
    axes = iter(figure.subplots(sum(heights), columns, squeeze=False).ravel())
    for (heading, names), height in zip(groups.items(), heights, strict=True):
        panels = [next(axes) for _ in range(height * columns)]
        # The layout leaves room for the height of a title but not for its width; the line break leaves room for the
        # term's name.
        panels[0].set_title(heading + "\n", x=0, ha="left", fontsize=14, fontweight="bold", color=INK)
        for ax, name in zip(panels, names, strict=False):
            _curve(ax, steps, curves[name], name)
        for ax in panels[len(names) :]:
            ax.set_axis_off()
    return _drawn(figure)


def _number(text: str | None) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _curve(ax, steps: np.ndarray, values: np.ndarray, name: str) -> None:
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    smooth = _moving_average(values, max(1, len(values) // 25))
    ax.plot(steps, values, color="#9db8d6", linewidth=0.7)
    # A single row would be an invisible line.
    ax.plot(steps, smooth, color=PALETTE[0], linewidth=1.6, marker="o" if len(steps) == 1 else None)
    low, high = np.percentile(values, [1, 99])
    low, high = min(low, smooth.min()), max(high, smooth.max())
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    ax.set_ylim(low - margin, high + margin)
    ax.set_title(name, loc="left", fontsize=10.5, color=INK)
    ax.set_title(f"{smooth[-1]:.3g}", loc="right", fontsize=10.5, color=PALETTE[0])
    ax.tick_params(labelsize=9, colors=FAINT, length=2)
    ax.locator_params(nbins=3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#cccccc")
    ax.set_xlabel("step", fontsize=9, color=FAINT, labelpad=1)


def _moving_average(values: np.ndarray, half: int) -> np.ndarray:
    """The mean of each value and up to `half` values on either side, fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


def _tsne(codes: np.ndarray, seed: int, perplexity: float, name: str) -> np.ndarray:
    """Returns a map (N, 2) of codes (N, d), its longer side from 0 to 1."""
    from sklearn.manifold import TSNE  # takes seconds to import, and only this function needs it
    from threadpoolctl import threadpool_limits

    codes = codes.reshape(len(codes), -1).astype(np.float64)
    if not np.isfinite(codes).all():
        raise ValueError(f"Expected finite {name}, received NaN or infinite values.")
    # From the principal components the map starts in the same way each time, but it needs two of them.
    spread = np.linalg.matrix_rank(codes - codes.mean(axis=0)) >= 2
    tsne = TSNE(
        perplexity=min(perplexity, (len(codes) - 1) / 3),
        init="pca" if spread else "random",
        random_state=seed,
    )
    with threadpool_limits(1):  # threads sum in any order, and t-SNE magnifies the rounding
        points = tsne.fit_transform(codes)
    low, high = points.min(axis=0), points.max(axis=0)
    return 0.5 + (points - (low + high) / 2) / max((high - low).max(), 1e-12)


def _thumbnails(ax, points: np.ndarray, images: np.ndarray, labels: np.ndarray) -> None:
    """Fills a lattice: each cell shows the image whose point is nearest to the cell's middle."""
    side = 1 / 14
    cells = {}
    for index, point in enumerate(points):
        corner = np.floor(point / side) * side
        distance = np.abs(point - corner - side / 2).max()
        cells[tuple(corner)] = min(cells.get(tuple(corner), (2.0, -1)), (distance, index))
    for (x, y), (_, index) in cells.items():
        left, right, bottom, top = (
            x + 0.05 * side,
            x + 0.95 * side,
            y + 0.05 * side,
            y + 0.95 * side,
        )
        ax.imshow(images[index], extent=(left, right, bottom, top))
        frame = Rectangle((left, bottom), right - left, top - bottom, fill=False, linewidth=1.8)
        frame.set_edgecolor(PALETTE[labels[index] % len(PALETTE)])
        ax.add_patch(frame)


def _figure(width: float, height: float) -> Figure:
    # A Figure of its own, without pyplot, keeps no state and needs no display.
    figure = Figure((width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _drawn(figure: Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _rgb(images: np.ndarray, rank: int, name: str) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != rank or images.shape[-1] not in (1, 3) or 0 in images.shape:
        axes = {4: "(N, H, W, 1 or 3)", 5: "(N, M, H, W, 1 or 3)"}[rank]
        raise ValueError(f"Expected {name} of shape {axes}, none 0, received {images.shape}.")
    rgb = np.broadcast_to(to_uint8(images), (*images.shape[:-1], 3)).copy()
    rgb[~np.isfinite(images).all(axis=-1)] = BROKEN_PIXEL
    return rgb


def _same(name: str, images: np.ndarray, others: np.ndarray, other_name: str) -> np.ndarray:
    if images.shape != others.shape:
        raise ValueError(f"Expected {name} of shape {others.shape}, that of {other_name}, received {images.shape}.")
    return images


def _column(name: str, images: np.ndarray, walks: Sequence[np.ndarray]) -> np.ndarray:
    images = _same(name, _rgb(images, 4, name), walks[0][:, 0], "content[:, 0]")
    return np.stack([images] * len(walks))


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    fonts = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), size)


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """A text whose lines go on below where they are wider than this, one at least for each of its words."""
    lines = []
    for given in text.split("\n"):
        line, *words = given.split() or [""]
        for word in words:
            longer = f"{line} {word}"
            if font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return "\n".join(lines)


def _sheet(
    cells: Mapping[tuple[int, int], np.ndarray],
    *,
    pad: int,
    upscale: int | None,
    headings: Sequence[_Words] = (),
    sides: Sequence[_Words] = (),
    apart: tuple[int, int] = (0, 0),
    ends: tuple[str, str] = ("", ""),
) -> np.ndarray:
    """Lays out images of one size by (row, column), with texts above the columns and beside the rows.

    `apart` says whether there is a gap after the first row and after the first column, which hold the sources. `ends`
    are letters for the upper corners of each image.
    """
    height, width = next(iter(cells.values())).shape[:2]
    upscale = upscale or max(1, round(128 / max(height, width)))
    height, width = height * upscale, width * upscale
    font = _font(max(11, round(0.17 * max(height, width))))
    sides = [word._replace(text=textwrap.fill(word.text, 18)) for word in sides]
    room = [(word.last - word.first + 1) * (width + pad) - pad for word in headings]
    headings = [word._replace(text=_wrapped(word.text, w, font)) for word, w in zip(headings, room, strict=True)]
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    size = {word: ruler.multiline_textbbox((0, 0), word.text, font=font)[2:] for word in (*headings, *sides)}
    # A text that spans rows is turned to run along them; a text for one row is horizontal.
    turned = {word for word in sides if word.first != word.last}
    margin = round(0.5 * font.size)
    top = max((size[word][1] + margin for word in headings), default=0)
    left = max((size[word][word in turned] + 2 * margin for word in sides), default=0)

    gap = 4 * pad + 4
    rows, columns = (1 + max(index[axis] for index in cells) for axis in (0, 1))
    y = [top + pad + r * (height + pad) + gap * (apart[0] and r > 0) for r in range(rows)]
    x = [left + pad + k * (width + pad) + gap * (apart[1] and k > 0) for k in range(columns)]
    sheet = Image.new("RGB", (x[-1] + width + pad, y[-1] + height + pad), "white")
    for (r, k), image in cells.items():
        enlarged = image.repeat(upscale, axis=0).repeat(upscale, axis=1)
        sheet.paste(Image.fromarray(enlarged), (x[k], y[r]))

    draw = ImageDraw.Draw(sheet)
    small = _font(max(9, round(0.1 * max(height, width))))
    for r, k in (place for place, image in cells.items() if any(ends) and image.min() < 255):  # none on a blank
        for letter, across, anchor in zip(ends, (x[k] + 3, x[k] + width - 3), ("lt", "rt"), strict=True):
            draw.text((across, y[r] + 3), letter, "#ffd75e", small, anchor=anchor, stroke_width=1, stroke_fill="black")
    for word in headings:
        centre = (x[word.first] + x[word.last] + width) / 2
        draw.multiline_text((centre, top - margin / 2), word.text, word.colour, font, anchor="md", align="center")
    for word in sides:
        centre = (y[word.first] + y[word.last] + height) / 2
        if word in turned:
            across, along = size[word]
            label = Image.new("RGB", (across, along), "white")
            ImageDraw.Draw(label).text((0, 0), word.text, word.colour, font)
            sheet.paste(label.rotate(90, expand=True), (margin, round(centre - across / 2)))
        else:
            position = (left - margin, centre)
            draw.multiline_text(position, word.text, word.colour, font, anchor="rm", align="right")
    return np.asarray(sheet).copy()
