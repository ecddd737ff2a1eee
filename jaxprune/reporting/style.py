"""The look of the figures: colours, labels and files."""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxprune.files import write_atomically
from jaxprune.reporting.fonts import families

# Okabe and Ito's palette, without its yellow, which is too light for lines.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#B8B8B8"
GOOD, BAD, UNCLEAR = "#0072B2", "#D55E00", "#8A8A8A"  # changes for the better, for the worse, and not clear
WIDTH = 9.2  # inches, of a figure on the page

_RC: Any = {
    "text.parse_math": False,  # names of groups are text, also those with dollar signs
    "text.usetex": False,  # whatever the reader's own settings are
    "svg.fonttype": "none",  # text stays text: it can be searched and edited, and any script is drawn by the browser
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
}


def save_figure(name: str, make: Callable[[], Figure | None], folder: Path) -> bool:
    """Draws a figure in the house style as SVG and PNG.

    Args:
      name: What the files are called; it also makes the identifiers in the SVG reproducible.
      make: Draws it, or returns None where there is nothing to show.
      folder: Where the files go.

    Returns:
      Whether there was something to show.
    """
    fonts = {"font.family": families(), "svg.hashsalt": name}
    with mpl.rc_context(_RC | fonts), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # said once, in words, by the run
        figure = make()
        if figure is None:
            return False
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, not again for each format
        of_kinds: dict[str, Any] = {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 150}}
        for kind, options in of_kinds.items():
            content = io.BytesIO()
            figure.savefig(content, format=kind, **options)
            write_atomically(folder / f"{name}.{kind}", content.getvalue())
    return True


def label_ends(axes: Axes, x: float, heights: Sequence[float], labels: Sequence[str], colours: Sequence[str]) -> None:
    """Label the right ends of lines, without overlaps."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.062
    order = np.array([i for i in np.argsort(heights) if labels[i] and np.isfinite(heights[i])], int)
    placed = np.array(heights, float)[order]
    for _ in range(200):  # push neighbours apart, evenly, until none overlap
        moved = False
        for i in range(len(placed) - 1):
            lack = gap - (placed[i + 1] - placed[i])
            if lack > 1e-9:
                placed[i] -= lack / 2
                placed[i + 1] += lack / 2
                moved = True
        if not moved:
            break
    for at, i in zip(placed, order, strict=True):
        axes.annotate(
            str(labels[i]), (x, heights[i]), xytext=(1.03, at), textcoords=("axes fraction", "data"), va="center",
            color="#666666" if colours[i] == GREY else colours[i], fontsize=9, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colours[i], "lw": 0.6, "shrinkA": 1, "shrinkB": 2},
        )  # fmt: skip


def label_offset(x: np.ndarray, y: np.ndarray, point: int) -> tuple[int, int]:
    """The offset in typographic points of a point's name."""
    aside, above = np.abs(x - x[point]) / max(np.ptp(x), 1e-12), (y - y[point]) / max(np.ptp(y), 1e-12)
    near = (aside < 0.3) & (above >= 0) & (above < 0.12) & (np.arange(len(x)) != point)
    return (7, -11) if np.any(near) else (7, 4)
