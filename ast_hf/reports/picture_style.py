"""Style of all pictures: colours that differ in greyscale, names that fit, and headings."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..printing import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

#: Colours of Okabe and Ito (2008), told apart with any kind of colour blindness; of different lightness.
BLUE = "#0072B2"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
SKY = "#56B4E9"
GREY = "#999999"
PALE = "#CCCCCC"
INK = "#222222"
#: Font sizes in points of headings, titles of panels, and names.
HEADING_SIZE = 12
TITLE_SIZE = 10
NAME_SIZE = 8
#: Maximum number of points of a line that are marked.
_MARKED_POINTS = 40
#: Maximum number of lines of a heading.
_MAX_LINES = 2
#: Maximum number of characters of a name that are measured.
_LONGEST = 300


def without_formulas(text: str) -> str:
    """Return text with escaped control characters and dollar signs, with which matplotlib marks formulas."""
    return printable(text).replace("$", r"\$")


def text_inches(text: str, size: float) -> float:
    """Return the width in inches of a line of text in matplotlib's default font of this size in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    with warnings.catch_warnings():  # names in scripts that the font lacks are drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)
    return width / 72


def shortened(text: str, inches: float, size: float = NAME_SIZE, *, tail: float = 0.4) -> str:
    """Return a name of at most this width, for an axis or a legend; what is left out becomes an ellipsis.

    `tail` is the share of what is kept that is the end of the name: names of splits often differ there.
    """
    name = printable(text)[:_LONGEST]
    if text_inches(name, size) <= inches:
        return without_formulas(name)

    def cut(count: int) -> str:
        end = round(tail * count)
        return f"{name[: count - end]}…{name[len(name) - end :]}"

    kept = len(name)
    low = 0
    while low + 1 < kept:  # the widest that fits lies in [low, kept)
        middle = (low + kept) // 2
        if text_inches(cut(middle), size) <= inches:
            low = middle
        else:
            kept = middle
    return without_formulas(cut(low))


def wrapped(text: str, inches: float, size: float) -> str:
    """Return text in at most two lines of this width, broken at spaces; a longer rest is cut off."""
    words = printable(text).split(" ")
    lines = [""]
    for number, word in enumerate(words):
        longer = f"{lines[-1]} {word}".lstrip()
        if text_inches(longer, size) <= inches:
            lines[-1] = longer
        elif len(lines) < _MAX_LINES and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = " ".join([lines[-1], *words[number:]]).lstrip()
            break
    return "\n".join(shortened(line, inches, size, tail=0.0) for line in lines)


def write_heading(figure: Figure, text: str) -> None:
    """Write the heading of a picture; constrained layout makes room for it."""
    inches = figure.get_figwidth() * 0.96
    figure.suptitle(wrapped(text, inches, HEADING_SIZE), fontsize=HEADING_SIZE, color=INK)


def write_legend(part: Figure | SubFigure, axes: Axes, columns: int = 1) -> None:
    """Write the legend of axes below them, so that it covers nothing."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        part.legend(
            handles, names, loc="outside lower center", ncols=columns, fontsize=NAME_SIZE, frameon=False
        )


def clips_text(name: str, clips: int | None) -> str:
    """Return a split's name with its number of clips, if that is known."""
    if clips is None:
        return name
    return f"{name} ({clips:,} clip{'s' if clips != 1 else ''})"


def is_sparse(points: Sequence[float]) -> bool:
    """Return True for few points, which a line shows only with markers; one point has no line at all."""
    return len(points) <= _MARKED_POINTS
