"""Figures. The only module that imports matplotlib.

All figures share one style: horizontal names in a meaningful order, colours that colour-blind people can distinguish
(Okabe and Ito, 2008; darkened for contrast on white), and the same bytes for the same numbers.
"""

import os
import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from redarte.evaluation import metrics
from redarte.images.decoding import ImageArray
from redarte.images.folders import display_name
from redarte.runtime import outputs
from redarte.runtime.console import quiet

if TYPE_CHECKING:
    from redarte.evaluation.comparison import Curve

# The user's matplotlib settings (backend of a notebook, matplotlibrc) would change the figures.
os.environ["MPLBACKEND"] = "agg"
os.environ["MATPLOTLIBRC"] = os.devnull
with quiet():
    import matplotlib
    from matplotlib import font_manager
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#C4500A", "#00795A", "#8A8A8A"  # those of the pages
_DPI = 110
_MAX_NAME = 40  # characters
_MARK = "\N{LEFT-TO-RIGHT MARK}"
_MAX_ANNOTATED = 12  # artists, for the counts to be written into the confusion matrix

matplotlib.rcdefaults()
matplotlib.rcParams["text.parse_math"] = False  # a $ in a name is not math
# Only the fonts of matplotlib itself: those of the machine would draw other bytes.
font_manager.fontManager.ttflist = [
    font for font in font_manager.fontManager.ttflist if font.fname.startswith(matplotlib.get_data_path())
]


def labels(artists: Sequence[str]) -> list[str]:
    """Returns the artists' names for figures; their numbers, as in the report, where the font lacks the letters."""
    drawable = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    names = [name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…" for name in map(display_name, artists)]
    return [
        _isolated(name) if all(ord(sign) in drawable for sign in name) else f"No. {number}"
        for number, name in enumerate(names, start=1)
    ]


def _isolated(name: str) -> str:
    """Encloses an Arabic or Hebrew name in marks, so that the text beside it keeps its direction."""
    right_to_left = any(unicodedata.bidirectional(sign) in ("R", "AL") for sign in name)
    return f"{_MARK}{name}{_MARK}" if right_to_left else name


def curves(path: Path, histories: dict[str, "Curve"], published: dict[str, tuple[float, float]]) -> None:
    """Draws the accuracy after every epoch, one panel for each model: the study's figures 16 to 18.

    Args:
        histories: title of a model -> its curves "train" and "val".
        published: title of a model -> the study's accuracy and validation accuracy, drawn as lines.
    """
    figure = Figure(figsize=(1.4 + 3.2 * len(histories), 3.8), layout="constrained")
    panels = figure.subplots(1, len(histories), sharey=True)
    for panel, (name, curve) in zip(panels, histories.items(), strict=True):
        for split, colour, style in (("train", BLUE, "-"), ("val", ORANGE, "--")):
            epochs, values = zip(*curve[split], strict=True)
            panel.plot(epochs, values, style, color=colour, marker="o", markersize=3, label=split)
        for value, colour in zip(published.get(name, ()), (BLUE, ORANGE), strict=False):
            panel.axhline(value, color=colour, linewidth=1.4, linestyle=":")
        panel.set_title(name)
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[0].set_ylim(0, 1)
    panels[0].set_ylabel("accuracy")
    if published:
        panels[0].plot([], [], ":", color=GREY, label="published")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    _save(figure, path, panels)


def confusion(path: Path, counts: np.ndarray, order: np.ndarray, artists: Sequence[str], title: str) -> None:
    """Draws the confusion matrix: rows are the truth, columns the predictions.

    Columns have the artists' numbers, because fifty vertical names cannot be read.

    Args:
        counts: (artists, artists), from `metrics.confusion`.
        order: (shown artists,), int64: the artists to show.
    """
    shares = metrics.normalise_rows(counts)
    if len(order) < len(artists):
        title = f"{title}\nthe {len(order)} of {len(artists)} artists that are confused most often"
    small = len(order) <= _MAX_ANNOTATED
    side = max(3.2, (0.5 if small else 0.2) * len(order))
    figure = Figure(figsize=(side + 3.6, side + 1.1), layout="constrained")
    panel = figure.subplots()
    shown = panel.imshow(shares[np.ix_(order, order)], cmap="Blues", vmin=0, vmax=1)
    if small:
        for y, row in enumerate(order):
            for x, column in enumerate(order):
                if counts[row, column]:
                    ink = "w" if shares[row, column] > 0.6 else "k"
                    panel.text(x, y, str(counts[row, column]), ha="center", va="center", color=ink)
    size = 9 if small else 7
    numbers = order + 1  # as in `labels`, and in the report
    names = [f"{artists[artist]}  {number}" for artist, number in zip(order, numbers, strict=True)]
    panel.set_yticks(range(len(order)), names, fontsize=size)
    panel.set_xticks(range(len(order)), [str(number) for number in numbers], fontsize=size - 1)
    # Thin lines between the cells help to find the name of a cell.
    edges = np.arange(0.5, len(order) - 1)
    limits = (-0.5, len(order) - 0.5)
    panel.hlines(edges, *limits, color="#DDE3EA", linewidth=0.5)
    panel.vlines(edges, *limits, color="#DDE3EA", linewidth=0.5)
    panel.set_ylabel("true artist")
    panel.set_xlabel("predicted artist (numbers as on the left)")
    panel.set_title(title, fontsize=10)
    figure.colorbar(shown, ax=panel, label="share of the artist's test images", fraction=0.04)
    _save(figure, path, [])


def recalls(
    path: Path, recall: np.ndarray, images: np.ndarray, artists: Sequence[str], accuracy: float, most: int
) -> None:
    """Draws each artist's recall in descending order; the best and the worst if there are more than `most`.

    Args:
        recall: (artists,), NaN for an artist without images.
        images: (artists,), each artist's number of test images.
    """
    tested = np.flatnonzero(images)
    order = tested[np.lexsort((tested, -images[tested], -recall[tested]))]
    hidden = max(0, len(order) - most)
    if hidden:
        order = np.concatenate([order[: most // 2], order[-most // 2 :]])
    figure = Figure(figsize=(7.5, max(2.6, 0.24 * len(order) + 1.2)), layout="constrained")
    panel = figure.subplots()
    panel.barh(range(len(order)), recall[order], color=BLUE, height=0.7)
    for y, artist in enumerate(order):
        text = f"{round(recall[artist] * images[artist])} of {images[artist]}"
        # On white, so that the dashed line does not cross it.
        background = {"facecolor": "w", "edgecolor": "none", "pad": 0.5}
        panel.text(recall[artist] + 0.01, y, text, va="center", fontsize=8, bbox=background)
    panel.axvline(accuracy, color=ORANGE, linewidth=1, linestyle="--", label=f"all images: {accuracy:.2f}")
    if hidden:
        panel.axhline(most // 2 - 0.5, color=GREY, linewidth=1)
        gap = {"facecolor": "w", "edgecolor": GREY, "boxstyle": "round"}
        between = f"{hidden} more artists"
        panel.text(0.2, most // 2 - 0.5, between, va="center", fontsize=8, bbox=gap)
    panel.set_yticks(range(len(order)), [artists[artist] for artist in order], fontsize=8)
    panel.set_xlim(0, 1.12)
    panel.set_xticks(np.linspace(0, 1, 6))
    panel.set_ylim(len(order) - 0.4, -0.6)
    panel.set_xlabel("recall: share of the artist's test images that are predicted correctly")
    figure.legend(loc="outside upper right", frameon=False, fontsize=8)
    _save(figure, path, [panel])


def confused_pairs(path: Path, pairs: Sequence[tuple[str, str, int]]) -> None:
    """Draws the most confused pairs of artists.

    Args:
        pairs: (label, label, errors in either direction), in descending order.
    """
    figure = Figure(figsize=(7.5, max(1.8, 0.32 * len(pairs) + 1.0)), layout="constrained")
    panel = figure.subplots()
    if not pairs:
        _text_only(panel, "Every test image is predicted correctly.")
    elif pairs[0][2] == 1:
        once = "\n".join(f"{one} – {other}" for one, other, _ in pairs)
        _text_only(panel, f"No two artists are confused more than once. Once each:\n{once}")
    else:
        panel.barh(range(len(pairs)), [count for _, _, count in pairs], color=ORANGE, height=0.65)
        names = [f"{one} – {other}" for one, other, _ in pairs]
        panel.set_yticks(range(len(pairs)), names, fontsize=8)
        panel.invert_yaxis()
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_xlabel("test images of one artist predicted as the other, both directions")
    _save(figure, path, [panel])


def gallery(path: Path, images: Sequence[ImageArray], captions: Sequence[str], empty: str) -> None:
    """Draws images, up to four in a row, each with its caption below.

    Args:
        images: (height, width, 3), uint8, each.
    """
    columns = min(4, max(1, len(images)))
    rows = max(1, -(-len(images) // columns))
    tallest = max((image.shape[0] / image.shape[1] for image in images), default=0.4)
    width = 10 if not images else 2.5 * columns  # inches
    figure = Figure(figsize=(width, rows * (2.5 * min(tallest, 1.4) + 0.5)), layout="constrained")
    if not images:
        _text_only(figure.subplots(), empty)
        _save(figure, path, [])
        return
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, image, caption in zip(panels, images, captions, strict=False):
        panel.imshow(image)
        text = "\n".join(textwrap.fill(line, 40) for line in caption.splitlines())
        panel.text(0.5, -0.03, text, fontsize=8, ha="center", va="top", transform=panel.transAxes)
    _save(figure, path, [])


def table_one(path: Path, rows: dict[str, dict[str, tuple[float | None, float]]], title: str) -> None:
    """Draws our results, beside the study's Table I where they can be compared, as dots on a line for each model.

    Args:
        rows: title of a model -> measure -> (published, or None where the study has none; ours).
    """
    colours = dict(zip(next(iter(rows.values())), (BLUE, ORANGE, GREEN), strict=True))
    figure = Figure(figsize=(7.5, 1.4 + 0.6 * len(rows)), layout="constrained")
    panel = figure.subplots()
    for y, measures in enumerate(rows.values()):
        for offset, (measure, (published, ours)) in zip((-0.22, 0, 0.22), measures.items(), strict=True):
            if published is not None:
                panel.plot([published, ours], [y + offset] * 2, color=colours[measure], linewidth=1, alpha=0.5)
                panel.plot(published, y + offset, "o", markerfacecolor="w", markeredgecolor=colours[measure])
            panel.plot(ours, y + offset, "o", color=colours[measure])
    for measure, colour in colours.items():
        panel.plot([], [], "o", color=colour, label=measure)
    if any(published is not None for measures in rows.values() for published, _ in measures.values()):
        panel.plot([], [], "o", markerfacecolor="w", markeredgecolor=GREY, label="published (hollow)")
    panel.set_yticks(range(len(rows)), list(rows))
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xlim(0, 1.02)
    panel.set_title(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    _save(figure, path, [panel])


def _text_only(panel: Axes, sentence: str) -> None:
    panel.set_axis_off()
    panel.text(0.5, 0.5, sentence, ha="center", va="center", transform=panel.transAxes)


def _save(figure: Figure, path: Path, panels: Sequence[Axes]) -> None:
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
        panel.set_axisbelow(True)
    with outputs.atomic_file(path) as partial:
        # Without metadata, which contains the version of matplotlib.
        figure.savefig(partial, dpi=_DPI, bbox_inches="tight", pad_inches=0.1, metadata={"Software": None})
