"""PSDS: the score of timelines over all thresholds, through `sed_scores_eval`. Needs the extra `timelines`."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import error
from ..timelines.events import Event
from .timelines import DECIMALS, Reference, check_reference

#: Recording -> (times `(steps + 1,)` in seconds, scores `(steps, classes)`).
Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]

#: Numbers that `sed_scores_eval` may hold at once for one class and recording: 0.8 GB in float64.
_MAX_CELLS = 100_000_000
#: Fewest thresholds of a class, however long the recording.
_FEWEST_LEVELS = 50


class PsdsCriteria(NamedTuple):
    """Criteria of a PSDS (Bilen et al. 2020, arXiv 1910.08440, section 4). The defaults are PSDS1.

    The values are those of DCASE 2021 to 2024, task 4, scenario 1, which needs exact times. Cross triggers do not
    count in it (`alpha_ct` 0, and so `cttc` none).

    Attributes:
        dtc: share of a detection that has to be in reference events, else it is a false positive.
        gtc: share of a reference event that detections have to cover.
        alpha_st: weight of the standard deviation over classes, subtracted from the mean rate of hits.
        max_efpr: false positives per hour up to which the curve is integrated.
    """

    dtc: float = 0.7
    gtc: float = 0.7
    alpha_st: float = 1.0
    max_efpr: float = 100.0


class Psds(NamedTuple):
    """PSDS over the classes with reference events, and of each such class alone, in [0, 1].

    `exact` is False if long recordings made the scores be rounded to fewer thresholds; the value is then a lower
    bound.
    """

    value: float
    classes: dict[str, float]
    exact: bool


class _WritableTable(pd.DataFrame):
    """Table whose arrays can be written to: the library's compiled code refuses those of pandas 3."""

    @property
    def _constructor(self) -> Any:
        return _WritableTable

    def to_numpy(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """Return a copy."""
        return super().to_numpy(*args, **{**kwargs, "copy": True})


def is_psds_available() -> bool:
    """Return True if `sed_scores_eval` is installed and can be imported."""
    return isinstance(_library(), ModuleType)


def psds(
    reference: Reference, curves: Curves, labels: Sequence[str], criteria: PsdsCriteria | None = None
) -> Psds:
    """Return the PSDS of score curves, whose detections are the steps above a threshold, for all thresholds.

    Only classes with reference events count: the others have no rate of hits. Events of one label that touch count
    as one, since the curve of detections cannot tell them apart.

    Args:
        reference: recording -> (seconds, events).
        curves: recording -> (times `(steps + 1,)` in seconds, scores `(steps, classes)` in the order of `labels`).
        labels: names of the classes.
        criteria: PSDS1 by default.

    Raises:
        AstInputError: E108 without `sed_scores_eval`, E106 for curves of another shape, E104 for scores that are
            not finite.
        AstDataError: E208 as `check_reference`, and for other recordings in `curves` than in `reference`.
    """
    check_reference(reference, labels)
    _check_curves(reference, curves, labels)
    criteria = criteria or PsdsCriteria()
    present = [label for label in labels if any(event.label == label for event in _events(reference))]
    if not present:
        return Psds(math.nan, {}, exact=True)
    library = _import_library()
    columns = {list(labels).index(label): f"c{number}" for number, label in enumerate(present)}
    names = dict(zip(present, columns.values(), strict=True))
    truth = {name: _joined(events, names) for name, (_, events) in reference.items()}
    scores, exact = _level_frames(curves, columns, truth, library)
    value, classes, *_ = library.intersection_based.psds(
        scores,
        truth,
        {name: float(seconds) for name, (seconds, _) in reference.items()},
        dtc_threshold=criteria.dtc,
        gtc_threshold=criteria.gtc,
        alpha_st=criteria.alpha_st,
        max_efpr=criteria.max_efpr,
    )
    by_label = {label: float(classes[column]) for label, column in names.items()}
    return Psds(float(value), by_label, exact)


def _events(reference: Reference) -> list[Event]:
    return [event for _, events in reference.values() for event in events]


def _check_curves(reference: Reference, curves: Curves, labels: Sequence[str]) -> None:
    """Raise E208 for recordings of one of the two only, E106 for impossible shapes, E104 for bad numbers."""
    for name in sorted(reference.keys() ^ curves.keys()):
        what = f"has {'no scores' if name in reference else 'scores, but no reference'}"
        raise error("E208", where=repr(name), what=what, fix="give both for the same recordings")
    for name, (times, scores) in curves.items():
        fits = np.ndim(times) == 1 and np.shape(scores) == (len(times) - 1, len(labels)) and len(times) > 1
        if not fits:
            what = f"has times {np.shape(times)} and scores {np.shape(scores)}"
            fix = f"give times (steps + 1,) and scores (steps, {len(labels)})"
            raise error("E106", where=repr(name), what=what, fix=fix)
        if not np.all(np.diff(times) > 0):
            raise error("E104", where=repr(name), what="has times that do not rise", fix="sort the steps")
        if not np.isfinite(scores).all():
            raise error("E104", where=repr(name), what="has scores that are not finite", fix="use float32")


def _joined(events: Sequence[Event], columns: Mapping[str, str]) -> list[tuple[float, float, str]]:
    """Return events as the library's tuples; those of one label that touch become one."""
    rows: list[tuple[float, float, str]] = []
    for event in sorted(events, key=lambda event: (event.label, event.start)):
        column = columns[event.label]
        start = float(event.start)
        if rows and rows[-1][2] == column and round(start - rows[-1][1], DECIMALS) <= 0:
            start = rows.pop()[0]
        rows.append((start, float(event.end), column))
    return rows


def _level_frames(
    curves: Curves,
    columns: Mapping[int, str],
    truth: Mapping[str, Sequence[tuple[float, float, str]]],
    library: Any,
) -> tuple[dict[str, Any], bool]:
    """Return the library's table of scores of each recording, and whether no score was rounded."""
    rounded = {}
    exact = True
    for index, column in columns.items():
        levels = np.unique(np.concatenate([scores[:, index] for _, scores in curves.values()]))
        most = min(_most_levels(curves[name][1][:, index], column, truth[name]) for name in curves)
        if len(levels) > most:
            above = (len(levels) - 1) * np.linspace(0, 1, most) ** 2  # denser at high scores, which decide
            levels = levels[np.unique(len(levels) - 1 - above.astype(int))]
            exact = False
        rounded[index] = levels
    frames = {}
    for name, (times, scores) in curves.items():
        floored = np.stack([_floored(scores[:, index], levels) for index, levels in rounded.items()], axis=1)
        starts = np.flatnonzero(np.append(True, (floored[1:] != floored[:-1]).any(axis=1)))
        edges = np.append(np.asarray(times, dtype=np.float64)[starts], float(times[-1]))
        table = library.base_modules.scores.create_score_dataframe(
            floored[starts], edges, list(columns.values())
        )
        frames[name] = _WritableTable(table)
    return frames, exact


def _floored(scores: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return for each score the highest level that is not above it; the lowest level is never above one."""
    return levels[np.searchsorted(levels, scores, side="right") - 1].astype(np.float64)


def _most_levels(scores: np.ndarray, column: str, truth: Sequence[tuple[float, float, str]]) -> int:
    """Return how many thresholds of a class fit into the memory for a recording: `sys.maxsize` if all do.

    The library holds, for each threshold, starts and ends of all peaks of the curve, and their overlaps with all
    reference events.
    """
    events = sum(row[2] == column for row in truth)
    if not events:
        return sys.maxsize
    peaks = 1 + int(np.sum((scores[1:-1] >= scores[:-2]) & (scores[1:-1] > scores[2:])))
    cells = len(scores) + 4 * peaks * (events + 1)
    if len(np.unique(scores)) * cells <= _MAX_CELLS:
        return sys.maxsize
    return max(_MAX_CELLS // cells, _FEWEST_LEVELS)


def _import_library() -> ModuleType:
    """Import `sed_scores_eval`; raise E108 if it is not installed, or cannot be imported."""
    library = _library()
    if not is_psds_available() or isinstance(library, str):
        fix = 'install it: pip install "ast_hf[timelines]" (it compiles: a C++ compiler is needed)'
        raise error("E108", where="psds", what=f"needs sed_scores_eval: {library}", fix=fix)
    return library


@functools.cache
def _library() -> ModuleType | str:
    """Return `sed_scores_eval`, or the reason why it cannot be imported: also a part of another numpy.

    Its dependency `dcase_util` 0.2 imports `pkg_resources` without use, which setuptools 82 removed: an empty
    module takes its place during the import.
    """
    missing = find_spec("pkg_resources") is None
    if missing:
        sys.modules["pkg_resources"] = ModuleType("pkg_resources")
    try:
        import sed_scores_eval
    except (ImportError, ValueError, AttributeError) as problem:
        return str(problem) or type(problem).__name__
    finally:
        if missing:
            del sys.modules["pkg_resources"]
    library: ModuleType = sed_scores_eval
    return library
