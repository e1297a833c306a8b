"""Pictures that compare methods: bars with error bars, in the style of `figures`, uint8 (height, width, 3) on white."""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfdisent.report.figures import FAINT, INK, PALETTE

MAX_NUMBERS = 32  # bars that get their number written over them; with more, the numbers would overlap


def bars(
    names: Sequence[str],
    values: np.ndarray,
    stds: np.ndarray | None = None,
    reference: np.ndarray | None = None,
    *,
    groups: Sequence[str] | None = None,
    reference_name: str = "paper",
    axis: str = "",
) -> np.ndarray:
    """Returns one bar for each method, or one for each method in each group, with its number and error bar.

    Args:
        names: M names of methods.
        values: (M,), or (M, G) with groups; for NaN the word "none" is written in the place of the bar.
        stds: half the lengths of the error bars, of the same shape; NaN draws no error bar.
        reference: values to compare with, of the same shape, drawn as diamonds; NaN draws none.
        groups: G names of what the methods are compared in, written along the horizontal axis in place of the methods.
        reference_name: what the diamonds are, for the legend.
        axis: what the values are, for the vertical axis, which begins at 0.

    Raises:
        ValueError: there is no bar, shapes differ, or a standard deviation is negative.
    """
    values, stds, reference = _checked(names, values, stds, reference, groups)
    num_methods, num_groups = values.shape
    width = 0.62 if groups is None else 0.8 / num_methods
    words = names if groups is None else groups
    figure = Figure((max(5.0, 1.6 + 0.6 * values.size), 4.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shown = []  # in the legend
    for m, name in enumerate(names):
        x = np.arange(num_groups) + (m - (num_methods - 1) / 2) * width if groups is not None else np.array([m])
        drawn = np.isfinite(values[m])
        drawing = axes.bar(
            x[drawn],
            values[m][drawn],
            0.92 * width,
            yerr=stds[m][drawn],
            color=PALETTE[m % len(PALETTE)],
            # Hatching distinguishes bars of the same colour.
            hatch=("", "//", "..")[m // len(PALETTE) % 3],
            edgecolor="white",
            linewidth=0,
            error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 3},
            label=str(name),
        )
        shown += [drawing] if groups is not None else []  # otherwise the name stands below the bar
        diamonds = axes.scatter(
            x,
            reference[m],
            s=34,
            color="white",
            marker="D",
            edgecolor=INK,
            zorder=3,
            label=reference_name,
        )
        _write_numbers(axes, x, values[m], stds[m], reference[m], values.size)
    if np.isfinite(reference).any():
        shown.append(diamonds)
    axes.set_xticks(range(len(words)), [str(word) for word in words], fontsize=11)
    axes.tick_params(axis="x", length=0, rotation=20 if groups is None and len(words) > 4 else 0)
    axes.set_xlim(-0.6, len(words) - 0.4)
    _dress(axes, axis)
    if shown:
        figure.legend(
            handles=shown,
            loc="outside upper center",
            ncols=min(4, len(shown)),
            frameon=False,
            fontsize=11,
        )
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def _checked(names, values, stds, reference, groups) -> list[np.ndarray]:
    """Values, standard deviations and references as (M, G) floats, NaN where there are none."""
    shape = (len(names),) if groups is None else (len(names), len(groups))
    if 0 in shape:
        raise ValueError(f"Expected at least one bar, received names {list(names)} and {groups=}.")
    arrays = []
    for name, array in (("values", values), ("stds", stds), ("reference", reference)):
        array = np.full(shape, np.nan) if array is None else np.asarray(array, float)
        if array.shape != shape:
            raise ValueError(f"Expected {name} of shape {shape}, one for each bar, received {array.shape}.")
        arrays.append(array.reshape(len(names), -1))
    if (arrays[1] < 0).any():
        raise ValueError(f"Expected stds of at least 0, received {np.nanmin(arrays[1])}.")
    return arrays


def _write_numbers(axes, x, values, stds, reference, count: int) -> None:
    """Writes each bar's number above its error bar and diamond, or below them where the bar points down."""
    if count > MAX_NUMBERS:
        return
    for at, value, std, other in zip(x, values, stds, reference, strict=True):
        side = -1 if value < 0 else 1
        ends = np.nan_to_num([value + side * np.nan_to_num(std), other]) * side
        text = "none"
        if np.isfinite(value):
            text = f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"
        axes.annotate(
            text,
            (at, side * ends.max()),
            (0, 6 * side if ends[1] == ends.max() > 0 else 3 * side),  # a diamond reaches further
            textcoords="offset points",
            ha="center",
            va="bottom" if side > 0 else "top",
            fontsize=9,
            color=INK if np.isfinite(value) else FAINT,
        )


def _dress(axes, label: str) -> None:
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_ylabel(label, fontsize=11, color=INK)
    axes.margins(y=0.12)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    axes.tick_params(axis="y", labelsize=9, colors=FAINT, length=2)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color("#cccccc")
