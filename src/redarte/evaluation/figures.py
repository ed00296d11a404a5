"""Numbers -> pictures. The only module that imports matplotlib.

One style for all: names horizontal and sorted by something that matters, colours that the colour-blind can
tell apart (Okabe and Ito, 2008), the same bytes for the same numbers.
"""

import os
import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from redarte.evaluation import metrics
from redarte.evaluation.curves import Curve
from redarte.pictures.images import Picture, display_name
from redarte.runtime import outputs
from redarte.runtime.console import quiet

# What a person's machine says of figures is for the person's own: a notebook's backend, a matplotlibrc, other fonts.
os.environ["MPLBACKEND"] = "agg"
os.environ["MATPLOTLIBRC"] = os.devnull
with quiet():
    import matplotlib
    from matplotlib import font_manager
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"
_DPI = 110
_LONGEST = 40  # characters of a name
_MARK = "\N{LEFT-TO-RIGHT MARK}"
_ANNOTATED = 12  # up to so many artists the counts are written into the confusion picture

matplotlib.rcdefaults()
matplotlib.rcParams["text.parse_math"] = False  # a $ in a name is one
# Only the fonts that matplotlib brings: those of the machine would draw other bytes.
font_manager.fontManager.ttflist = [
    font for font in font_manager.fontManager.ttflist if font.fname.startswith(matplotlib.get_data_path())
]


def labels(artists: Sequence[str]) -> list[str]:
    """What artists are called in figures: their names, or, where the font has no such letters, their numbers.

    The report has the numbers beside the names.
    """
    drawable = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    names = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in map(display_name, artists)]
    return [
        _closed(name) if all(ord(sign) in drawable for sign in name) else f"No. {number}"
        for number, name in enumerate(names, start=1)
    ]


def _closed(name: str) -> str:
    """An Arabic or a Hebrew name between marks that keep what stands beside it where it stands."""
    right_to_left = any(unicodedata.bidirectional(sign) in ("R", "AL") for sign in name)
    return f"{_MARK}{name}{_MARK}" if right_to_left else name


def curves(path: Path, histories: dict[str, Curve], published: dict[str, tuple[float, float]]) -> None:
    """Accuracy after every epoch, a panel a network: the study's figures 16 to 18.

    Args:
        histories: network's name -> its curves "train" and "val".
        published: the study's accuracy and val accuracy of those that it has, drawn as lines.
    """
    figure = Figure(figsize=(1.4 + 3.2 * len(histories), 3.8), layout="constrained")
    panels = figure.subplots(1, len(histories), sharey=True)
    for panel, (name, curve) in zip(panels, histories.items(), strict=True):
        for split, colour, style in (("train", BLUE, "-"), ("val", ORANGE, "--")):
            epochs, values = zip(*curve[split], strict=True)
            panel.plot(epochs, values, style, color=colour, marker="o", markersize=3, label=split)
        for value, colour in zip(published.get(name, ()), (BLUE, ORANGE), strict=False):
            panel.axhline(value, color=colour, linewidth=0.8, linestyle=":")
        panel.set_title(name)
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[0].set_ylim(0, 1)
    panels[0].set_ylabel("accuracy")
    panels[0].plot([], [], ":", color=GREY, label="published")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    _save(figure, path, panels)


def confusion(path: Path, counts: np.ndarray, artists: Sequence[str], title: str) -> None:
    """The confusion matrix, best recognised first: rows are the true artists, columns the predictions.

    Columns carry the rows' numbers, because fifty names on their sides cannot be read. Of more than MOST_SHOWN only
    those are shown that are most often taken for each other.

    Args:
        counts: (artists, artists), pictures; artists without any have an empty row, at the end.
        artists: their labels.
    """
    shares, order = metrics.shares_of_rows(counts), metrics.most_confused(counts)
    if len(order) < len(artists):
        title = f"{title}\nthe {len(order)} of {len(artists)} artists that are most often taken for each other"
    small = len(order) <= _ANNOTATED
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
    numbers = range(1, len(order) + 1)
    names = [f"{artists[artist]}  {number}" for artist, number in zip(order, numbers, strict=True)]
    panel.set_yticks(range(len(order)), names, fontsize=size)
    panel.set_xticks(range(len(order)), [str(number) for number in numbers], fontsize=size - 1)
    # Thin lines between the cells lead the eye from a far cell to its name.
    edges = np.arange(0.5, len(order) - 1)
    panel.set_xticks(edges, minor=True)
    panel.set_yticks(edges, minor=True)
    panel.grid(which="minor", color="#DDE3EA", linewidth=0.5)
    panel.tick_params(which="minor", length=0)
    panel.set_ylabel("painted by")
    panel.set_xlabel("taken for (numbers as on the left)")
    panel.set_title(title, fontsize=10)
    figure.colorbar(shown, ax=panel, label="share of the artist's test pictures", fraction=0.04)
    _save(figure, path, [])


def recalls(path: Path, recall: np.ndarray, pictures: np.ndarray, artists: Sequence[str], accuracy: float) -> None:
    """How many of each artist's pictures were recognised, best first; the best and the worst of more than MOST_SHOWN.

    Args:
        recall: (artists,), NaN for an artist without pictures.
        pictures: (artists,), each artist's pictures.
        artists: their labels.
    """
    tested = np.flatnonzero(pictures)
    order = tested[np.lexsort((tested, -pictures[tested], -recall[tested]))]
    left_out = max(0, len(order) - metrics.MOST_SHOWN)
    if left_out:
        order = np.concatenate([order[: metrics.MOST_SHOWN // 2], order[-metrics.MOST_SHOWN // 2 :]])
    figure = Figure(figsize=(7.5, max(2.6, 0.24 * len(order) + 1.2)), layout="constrained")
    panel = figure.subplots()
    panel.barh(range(len(order)), recall[order], color=BLUE, height=0.7)
    for y, artist in enumerate(order):
        text = f"{round(recall[artist] * pictures[artist])} of {pictures[artist]}"
        # On white, so that the dashed line does not run through it.
        behind = {"facecolor": "w", "edgecolor": "none", "pad": 0.5}
        panel.text(recall[artist] + 0.01, y, text, va="center", fontsize=8, bbox=behind)
    panel.axvline(accuracy, color=ORANGE, linewidth=1, linestyle="--", label=f"all pictures: {accuracy:.2f}")
    if left_out:
        panel.axhline(metrics.MOST_SHOWN // 2 - 0.5, color=GREY, linewidth=1)
        gap = {"facecolor": "w", "edgecolor": GREY, "boxstyle": "round"}
        between = f"{left_out} artists are between"
        panel.text(0.2, metrics.MOST_SHOWN // 2 - 0.5, between, va="center", fontsize=8, bbox=gap)
    panel.set_yticks(range(len(order)), [artists[artist] for artist in order], fontsize=8)
    panel.set_xlim(0, 1.12)
    panel.set_xticks(np.linspace(0, 1, 6))
    panel.set_ylim(len(order) - 0.4, -0.6)
    panel.set_xlabel("share of the artist's test pictures that are recognised")
    figure.legend(loc="outside upper right", frameon=False, fontsize=8)
    _save(figure, path, [panel])


def confused_pairs(path: Path, pairs: Sequence[tuple[str, str, int]]) -> None:
    """The artists most often taken for each other: (label of one, of the other, pictures either way)."""
    figure = Figure(figsize=(7.5, max(1.8, 0.32 * len(pairs) + 1.0)), layout="constrained")
    panel = figure.subplots()
    if not pairs:
        _say_only(panel, "No test picture was taken for another artist's.")
    else:
        panel.barh(range(len(pairs)), [count for _, _, count in pairs], color=ORANGE, height=0.65)
        names = [f"{one} – {other}" for one, other, _ in pairs]
        panel.set_yticks(range(len(pairs)), names, fontsize=8)
        panel.invert_yaxis()
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_xlabel("test pictures of the one taken for the other, both ways")
    _save(figure, path, [panel])


def gallery(path: Path, pictures: Sequence[Picture], captions: Sequence[str], empty: str) -> None:
    """Pictures four in a row, each with its caption below; a sentence where there are none."""
    columns = 4
    rows = max(1, -(-len(pictures) // columns))
    tallest = max((picture.shape[0] / picture.shape[1] for picture in pictures), default=0.4)
    figure = Figure(figsize=(10, rows * (10 / columns * min(tallest, 1.4) + 0.5)), layout="constrained")
    if not pictures:
        _say_only(figure.subplots(), empty)
        _save(figure, path, [])
        return
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, picture, caption in zip(panels, pictures, captions, strict=False):
        panel.imshow(picture)
        text = "\n".join(textwrap.fill(line, 40) for line in caption.splitlines())
        panel.text(0.5, -0.03, text, fontsize=8, ha="center", va="top", transform=panel.transAxes)
    _save(figure, path, [])


def table_one(path: Path, rows: dict[str, dict[str, tuple[float | None, float]]], title: str) -> None:
    """The study's Table I beside ours, as dots on a line for each network.

    Args:
        rows: network's name -> measure -> (published, or None where the study gives none; ours).
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
    panel.plot([], [], "o", markerfacecolor="w", markeredgecolor=GREY, label="published (hollow)")
    panel.set_yticks(range(len(rows)), list(rows))
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xlim(0, 1.02)
    panel.set_title(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    _save(figure, path, [panel])


def _say_only(panel: Axes, sentence: str) -> None:
    panel.set_axis_off()
    panel.text(0.5, 0.5, sentence, ha="center", va="center", transform=panel.transAxes)


def _save(figure: Figure, path: Path, panels: Sequence[Axes]) -> None:
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
        panel.set_axisbelow(True)
    with outputs.atomic_file(path) as partial:
        # Without metadata: the version of matplotlib would be written into it.
        figure.savefig(partial, dpi=_DPI, bbox_inches="tight", pad_inches=0.1, metadata={"Software": None})
