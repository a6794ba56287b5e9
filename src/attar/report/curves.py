"""Line charts as SVG text, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from attar.errors import AttarError

# Okabe and Ito's palette: told apart by the colour-blind too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True)
class Line:
    """One curve: its name and its points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def chart(lines: Sequence[Line], x_label: str, y_label: str, logarithmic: bool = False) -> str:
    """The curves in one frame, as an <svg> element.

    Raises:
        AttarError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise AttarError("curves need matplotlib; install it with: pip install 'attar[report]'") from None

    # Text stays text, and equal curves give equal files.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "attar", "font.size": 10}):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        axes = figure.add_subplot(xlabel=x_label, ylabel=y_label, yscale="log" if logarithmic else "linear")
        for number, line in enumerate(lines):
            axes.plot(line.x, line.y, marker=".", color=COLOURS[number % len(COLOURS)], label=line.name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
