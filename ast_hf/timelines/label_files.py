"""Results as text of label files: Audacity, Raven Pro, WebVTT and RTTM. Of windows, the best label is written.

Sources: Audacity manual, "Importing and Exporting Labels"; Raven Pro user's manual, "Selection tables"; W3C
WebVTT (https://www.w3.org/TR/webvtt1/); NIST RT-09 evaluation plan, appendix A (RTTM).
"""

from __future__ import annotations

from pathlib import PurePath

from .escapes import encode_spaced, encode_tabbed
from .results import TIME_DECIMALS, Result, Row, labelled_rows, score_text

#: Columns of a Raven selection table. `Annotation` is Raven's own column for labels.
RAVEN_COLUMNS = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
    *("Begin File", "Begin Path", "Annotation", "Score"),
)
RAVEN_HEADER = "\t".join(RAVEN_COLUMNS) + "\n"

#: First line of a WebVTT file.
WEBVTT_HEADER = "WEBVTT\n"


def audacity_text(result: Result) -> str:
    """Return a label track: start, end and label between tabs. Scores are not part of the format."""
    return "".join(
        f"{_fixed(start)}\t{_fixed(end)}\t{encode_tabbed(row.label)}\n" for start, end, row in _timed(result)
    )


def raven_text(result: Result) -> str:
    """Return the selections of a recording, each a box from 0 Hz to the model's highest frequency."""
    path = encode_tabbed(result.name)
    file = encode_tabbed(PurePath(result.name).name)
    band = ("0.0", f"{result.top_hertz:.1f}")
    lines = []
    for number, (start, end, row) in enumerate(_timed(result), 1):
        place = (str(number), "Spectrogram 1", "1", _fixed(start), _fixed(end), *band)
        lines.append("\t".join((*place, file, path, encode_tabbed(row.label), score_text(row.score))))
    return "".join(line + "\n" for line in lines)


def webvtt_text(result: Result) -> str:
    """Return a cue for each event, whose identifier holds the score. Times are in milliseconds."""
    cues = []
    for number, (start, end, row) in enumerate(_timed(result), 1):
        first = round(1_000 * start)
        last = max(round(1_000 * end), first + 1)
        times = f"{_clock(first)} --> {_clock(last)}"
        cues.append(f"\n{number} score={score_text(row.score)}\n{times}\n{_cue_text(row.label)}\n")
    return "".join(cues)


def _clock(milliseconds: int) -> str:
    seconds, thousandths = divmod(milliseconds, 1_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{thousandths:03}"


def _cue_text(label: str) -> str:
    """Return a label with character references for `&`, `<`, `>` and line ends."""
    for char, reference in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\n", "&#10;"), ("\r", "&#13;")):
        label = label.replace(char, reference)
    return label


def rttm_text(result: Result) -> str:
    """Return a line of 10 fields for each event: SPEAKER, file, channel 1, start, duration, label and score.

    Fields are separated by spaces; those in names are written as `%20` (`escapes.py`).
    """
    name = encode_spaced(result.name)
    lines = []
    for start, end, row in _timed(result):
        label = encode_spaced(row.label)
        times = f"{_fixed(start)} {_fixed(end - start)}"
        lines.append(f"SPEAKER {name} 1 {times} <NA> <NA> {label} {score_text(row.score)} <NA>\n")
    return "".join(lines)


def _timed(result: Result) -> list[tuple[float, float, Row]]:
    """Return start, end and row of each event; rows of clips, which have no times, are left out."""
    rows = labelled_rows(result)
    return [(row.start, row.end, row) for row in rows if row.start is not None and row.end is not None]


def _fixed(seconds: float) -> str:
    return f"{seconds:.{TIME_DECIMALS}f}"
