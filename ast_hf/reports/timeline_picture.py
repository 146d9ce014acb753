"""Picture of a recording: waveform, log-mel spectrogram, and events on one time axis.

Recordings of any length are drawn in bounded memory: they are read in blocks, and summed up in at most
`MAX_COLUMNS` columns of time.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import error
from ..log_mel import LOG_FLOOR
from ..timelines.events import Event, as_event
from .overview import MEL_BINS, Overview, summarise
from .picture_style import shortened
from .pictures import save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Maximum number of classes with a row of their own.
MAX_ROWS = 20

#: Seconds between ticks, and the largest number of ticks.
_TICKS = (
    *(
        0.001,
        0.002,
        0.005,
        0.01,
        0.02,
        0.05,
        0.1,
        0.2,
        0.5,
        1,
        2,
        5,
        10,
        15,
        30,
        60,
        120,
        300,
        600,
        900,
        1_800,
        3_600,
    ),
    *(7_200, 10_800, 21_600, 43_200, 86_400),
)
_MAX_TICKS = 12

#: Frequencies that are marked, in Hz.
_FREQUENCIES = (100, 500, 1_000, 2_000, 4_000, 8_000, 16_000)

#: Decibels below the loudest part of the spectrogram that are still distinguished.
_DYNAMIC_RANGE = 70.0

#: Energy of digital silence in dB: `log_mel` is limited there.
_FLOOR = 10.0 * np.log10(LOG_FLOOR)

#: Inches: width of the picture, heights of waveform, spectrogram, row of events, and of title and axis.
_WIDTH, _WAVEFORM, _SPECTROGRAM, _ROW, _MARGINS = 12.0, 1.1, 2.2, 0.3, 1.0
_DPI = 120

#: Opacity of an event with the score 0. One with the score 1 is opaque.
_FAINTEST = 0.25

#: Share of the time axis from which on an event has room for its score.
_NUMBERED = 0.035

_INK = "#333333"
_GREY = "#777777"


class ScoreCurve(NamedTuple):
    """Scores over time.

    Attributes:
        times: seconds of each step, `(steps,)`, ascending.
        scores: in [0, 1], `(steps, classes)`.
        labels: names of the classes.
    """

    times: np.ndarray
    scores: np.ndarray
    labels: Sequence[str]


def draw_timeline(
    source: Any,
    events: Sequence[Event | Mapping[str, Any]],
    path: str | PathLike,
    *,
    title: str | None = None,
    curve: ScoreCurve | None = None,
    sampling_rate: int = 16_000,
) -> None:
    """Write a PNG with waveform, log-mel spectrogram and events of a recording on one time axis.

    Each class has a row, in the order of their first events. The opacity of an event is its score. Of more than
    20 classes, those whose events last longest in total are drawn, and the others are counted below. Where the
    recording cannot be read to its end, the part before is drawn, and the picture says so.

    Args:
        source: the recording, anything that `load_audio` reads, of any length.
        events: its events, each an `Event`, or `{"label", "score", "start", "end"}` as the pipeline returns it.
        path: the picture's file, ending in `.png`.
        title: title, by default the name of the file.
        curve: scores that are drawn under the events of their class.
        sampling_rate: rate in Hz of the spectrogram, the one that the model takes.

    Raises:
        AstInputError: E108 for a file that does not end in .png, and where matplotlib is not installed.
        AstDataError: E201-E207 for a recording that cannot be read at all.
        AstRunError: E401 if the picture cannot be written.
    """
    file = Path(path)
    _check_picture(file)
    overview = summarise(source, sampling_rate)
    rows = _rows([as_event(event) for event in events])
    if title is None:
        title = Path(source).name if isinstance(source, (str, PathLike)) else "recording"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        save_picture(_figure(overview, rows, title, curve), file)


def check_picture(path: str | PathLike) -> None:
    """Raise E108 if `draw_timeline` cannot write this file: it is not a PNG, or matplotlib is not installed."""
    _check_picture(Path(path))


def _check_picture(path: Path) -> None:
    if path.suffix.lower() != ".png":
        raise error("E108", where="picture", what=f"{str(path)!r} is not a PNG", fix="end the name in .png")
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as problem:
        what = f"needs matplotlib ({problem})"
        fix = 'pip install "ast_hf[explain]"'
        raise error("E108", where="picture", what=what, fix=fix) from problem


def _rows(events: Sequence[Event]) -> dict[str, list[Event]]:
    """Return label -> events by start, labels by their first event."""
    rows: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(events):
        rows[event.label].append(event)
    return dict(rows)


def _figure(
    overview: Overview, rows: Mapping[str, list[Event]], title: str, curve: ScoreCurve | None
) -> Figure:
    from matplotlib.figure import Figure

    shown = _longest(rows)
    lines = 0.1 + _ROW * max(len(shown), 1) * (1.6 if curve else 1.0)
    size = (_WIDTH, _WAVEFORM + _SPECTROGRAM + lines + _MARGINS)
    figure = Figure(figsize=size, layout="constrained", dpi=_DPI)
    waveform, spectrogram, timeline = figure.subplots(
        3, 1, sharex=True, height_ratios=[_WAVEFORM, _SPECTROGRAM, lines]
    )
    last = max((event.end for events in rows.values() for event in events), default=0.0)
    span = max(overview.seconds, last)
    _draw_waveform(waveform, overview)
    _draw_spectrogram(spectrogram, overview)
    _draw_events(timeline, shown, span, curve)
    for axes in (waveform, spectrogram, timeline):
        axes.tick_params(labelsize=8, colors=_INK)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    _mark_time(timeline, span)
    _mark_unread(waveform, overview)
    figure.suptitle(shortened(title, 9.5, 11), fontsize=11, color=_INK, x=0.01, ha="left")
    if _has_scores(shown):
        figure.text(0.995, 0.993, "opacity and number: score", fontsize=8, color=_GREY, ha="right", va="top")
    if len(shown) < len(rows):
        _name_others(timeline, [label for label in rows if label not in shown])
    return figure


def _longest(rows: Mapping[str, list[Event]]) -> dict[str, list[Event]]:
    """Return the rows whose events last longest in total, at most `MAX_ROWS`, in their order."""
    lengths = {label: sum(event.end - event.start for event in events) for label, events in rows.items()}
    kept = sorted(lengths, key=lambda label: -lengths[label])[:MAX_ROWS]
    return {label: events for label, events in rows.items() if label in kept}


def _draw_waveform(axes: Axes, overview: Overview) -> None:
    low, high = overview.envelope.T
    times = np.minimum(np.arange(len(low) + 1) * overview.envelope_step, overview.seconds)
    axes.stairs(high, times, baseline=low, fill=True, color="#4c72b0", linewidth=0.3)
    peak = float(max(-low.min(), high.max())) or 1.0
    axes.set_ylim(-1.05 * peak, 1.05 * peak)
    axes.set_yticks([-peak, 0.0, peak], [f"{-peak:.2g}", "0", f"{peak:.2g}"])
    axes.set_ylabel("amplitude", fontsize=8, color=_INK)


def _draw_spectrogram(axes: Axes, overview: Overview) -> None:
    # the first and last column are repeated: frames of 25 ms have their centre within the recording
    levels = np.pad(overview.mel, ((1, 2), (0, 0)), "edge")
    loudest = max(float(levels.max()), _FLOOR + _DYNAMIC_RANGE)  # or silence would look loud
    start = overview.mel_start - overview.mel_step
    axes.imshow(
        levels.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=loudest - _DYNAMIC_RANGE,
        vmax=loudest,
        extent=(start, start + len(levels) * overview.mel_step, 0.0, MEL_BINS),
        interpolation="nearest",
    )
    top = overview.mel_position(overview.rate / 2)
    marks = [hertz for hertz in _FREQUENCIES if overview.mel_position(hertz) <= top]
    names = [f"{hertz / 1_000:g} k" if hertz >= 1_000 else str(hertz) for hertz in marks]
    axes.set_yticks([min(overview.mel_position(hertz), MEL_BINS) for hertz in marks], names)
    axes.set_ylim(0.0, MEL_BINS)
    axes.set_ylabel("Hz", fontsize=8, color=_INK)


def _draw_events(axes: Axes, rows: Mapping[str, list[Event]], span: float, curve: ScoreCurve | None) -> None:
    """Draw a row of bars for each class, from the top down."""
    from matplotlib import colormaps

    numbered = _has_scores(rows)
    palette = colormaps["tab10"]
    places = range(len(rows) - 1, -1, -1)
    bottom, height = (0.48, 0.44) if curve else (0.16, 0.68)
    for place, (label, events) in zip(places, rows.items(), strict=True):
        colour = palette((len(rows) - 1 - place) % 10)
        bars = _bars(events, span)
        _draw_bars(axes, [bar for bar, _ in bars], (place + bottom, height), colour, span)
        for bar, count in bars:
            if numbered and count == 1 and (bar.end - bar.start) / span > _NUMBERED:
                _write_score(axes, bar, place + bottom + height / 2)
        if curve:
            _draw_curve(axes, curve, label, place + 0.06, colour, span)
        if place:
            axes.axhline(place, color="#dddddd", linewidth=0.6, zorder=0)
    axes.set_ylim(0.0, max(len(rows), 1))
    axes.set_yticks([place + 0.5 for place in places], [shortened(label, 2.0) for label in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    if not rows:
        axes.text(0.5, 0.5, "no events", transform=axes.transAxes, ha="center", va="center", color=_GREY)


def _has_scores(rows: Mapping[str, list[Event]]) -> bool:
    """Return True unless all events have the score 1, as those of persons have."""
    return any(event.score < 1 for events in rows.values() for event in events)


def _draw_bars(
    axes: Axes, bars: Sequence[Event], band: tuple[float, float], colour: Any, span: float
) -> None:
    """Draw the events of a class; an outline keeps those visible that are shorter than a pixel."""
    opacities = [_FAINTEST + (1 - _FAINTEST) * min(max(bar.score, 0.0), 1.0) for bar in bars]
    faces = [(*colour[:3], opacity) for opacity in opacities]
    dark = (*(0.65 * part for part in colour[:3]), 1.0)
    is_wide = [bar.end - bar.start > 6 * _pixel(span) for bar in bars]
    outlines = [dark if wide else face for wide, face in zip(is_wide, faces, strict=True)]
    spans = [(bar.start, bar.end - bar.start) for bar in bars]
    axes.broken_barh(spans, band, facecolors=faces, edgecolors=outlines, linewidth=0.7)


def _pixel(span: float) -> float:
    """Return the seconds of a pixel, roughly."""
    return span / (_WIDTH * _DPI)


def _write_score(axes: Axes, bar: Event, middle: float) -> None:
    shade = "white" if bar.score > 0.45 else _INK
    place = ((bar.start + bar.end) / 2, middle)
    axes.text(*place, f"{bar.score:.2f}", ha="center", va="center_baseline", fontsize=7, color=shade)


def _bars(events: Sequence[Event], span: float) -> list[tuple[Event, int]]:
    """Return what is drawn, with its number of events: those too small to tell apart are one, with the best score."""
    pixel = _pixel(span)
    bars: list[tuple[Event, int]] = []
    for event in events:
        last, count = bars[-1] if bars else (event, 0)
        if count and event.start - last.end < pixel and event.end - event.start < 2 * pixel:
            end = max(last.end, event.end)
            bars[-1] = (last._replace(end=end, score=max(last.score, event.score)), count + 1)
        else:
            bars.append((event, 1))
    return bars


def _draw_curve(axes: Axes, curve: ScoreCurve, label: str, bottom: float, colour: Any, span: float) -> None:
    """Draw the scores of a class as a filled line of height 0.36; of several steps in a pixel the highest."""
    if label not in curve.labels:
        return
    scores = np.asarray(curve.scores)[:, list(curve.labels).index(label)]
    times = np.asarray(curve.times)
    step = max(1, len(scores) // int(_WIDTH * _DPI))
    if step > 1:
        count = len(scores) // step
        scores = scores[: count * step].reshape(count, step).max(axis=1)
        times = times[: count * step : step]
    axes.fill_between(times, bottom, bottom + 0.36 * scores, color=colour, alpha=0.35, linewidth=0)
    axes.plot([0.0, span], [bottom, bottom], color="#bbbbbb", linewidth=0.5)


def _mark_time(axes: Axes, span: float) -> None:
    """Set the range and the ticks of the time axis: seconds, or minutes and hours for long recordings."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    step = next((step for step in _TICKS if span / step <= _MAX_TICKS), 86_400 * (1 + span // 864_000))
    axes.set_xlim(0.0, span)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    if span <= 120:
        axes.set_xlabel("seconds", fontsize=8, color=_INK)
        return
    with_hours = span >= 3_600
    axes.xaxis.set_major_formatter(FuncFormatter(lambda second, _: _clock(second, with_hours)))
    axes.set_xlabel("hours:minutes:seconds" if with_hours else "minutes:seconds", fontsize=8, color=_INK)


def _clock(second: float, with_hours: bool) -> str:
    minutes, seconds = divmod(round(second), 60)
    if not with_hours:
        return f"{minutes}:{seconds:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _mark_unread(axes: Axes, overview: Overview) -> None:
    if overview.is_complete:
        return
    text = f"not readable after {overview.seconds:,.1f} s"
    axes.text(0.995, 0.94, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, color="#c0392b")


def _name_others(axes: Axes, others: Sequence[str]) -> None:
    """Write which classes have no row."""
    names = ", ".join(shortened(label, 1.4) for label in others[:4])
    more = f", … ({len(others)} classes)" if len(others) > 4 else ""
    text = f"not drawn, with less time: {names}{more}"
    axes.annotate(
        text, (0.0, 0.0), xycoords="axes fraction", xytext=(0, -32), textcoords="offset points", fontsize=8,
        color=_GREY, annotation_clip=False,
    )  # fmt: skip
