"""Segment F1, event F1 and PSDS of timelines: by hand, and as `sed_scores_eval` computes them."""

from __future__ import annotations

import builtins
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_hf.errors import AstHfError
from ast_hf.metrics import psds as psds_module
from ast_hf.metrics.psds import PsdsCriteria, is_psds_available, psds
from ast_hf.metrics.timelines import event_counts, segment_counts
from ast_hf.timelines.events import Event

needs_library = pytest.mark.skipif(
    not is_psds_available(), reason="sed_scores_eval is not installed (extra `timelines`)"
)
LABELS = ["cat", "dog"]


def events(*rows: tuple[float, float, str]) -> list[Event]:
    return [Event(*row) for row in rows]


def counts(values: Any) -> list[list[int]]:
    return [list(map(int, row)) for row in values]


# By hand


def test_segments_by_hand() -> None:
    """4.5 s are five segments: cat is in 0, 1 and 4, and found in 1 and 2; dog is in none, and found in 0."""
    reference = {"a": (4.5, events((0.2, 1.1, "cat"), (4.4, 4.5, "cat")))}
    found = {"a": events((1.0, 3.0, "cat"), (0.0, 0.1, "dog"))}
    result = segment_counts(reference, found, LABELS)
    assert counts(result) == [[1, 0], [2, 1], [3, 0]]
    assert result.f1[0] == pytest.approx(2 / 5)
    assert math.isnan(result.f1[1])
    assert result.micro == pytest.approx(2 / 6)
    assert result.macro == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("row", "active"),
    [
        ((1.0, 2.0), [1]),
        ((0.9999999, 2.0000001), [1]),  # rounding does not reach into the neighbours
        ((0.999, 2.001), [0, 1, 2]),
        ((2.9, 3.0), [2]),
        ((0.0, 4.0), [0, 1, 2, 3]),
    ],
)
def test_borders_of_segments(row: tuple[float, float], active: list[int]) -> None:
    found = {"a": events((*row, "cat"))}
    for segment in range(4):
        reference = {"a": (4.0, events((segment, segment + 1, "cat")))}
        hits = segment_counts(reference, found, LABELS).hits[0]
        assert hits == (segment in active), segment


def test_length_of_segments() -> None:
    reference = {"a": (1.0, events((0.0, 0.1, "cat")))}
    found = {"a": events((0.0, 1.0, "cat"))}
    assert counts(segment_counts(reference, found, LABELS, segment_seconds=0.1)) == [[1, 0], [10, 0], [1, 0]]


@pytest.mark.parametrize(
    ("found", "hits"),
    [
        ((1.0, 2.0), 1),
        ((1.2, 2.2), 1),  # on the collar
        ((0.8, 1.8), 1),
        ((1.21, 2.0), 0),
        ((1.0, 2.21), 0),
        ((1.0, 1.79), 0),
    ],
)
def test_collar_of_an_event(found: tuple[float, float], hits: int) -> None:
    reference = {"a": (9.0, events((1.0, 2.0, "cat")))}
    assert event_counts(reference, {"a": events((*found, "cat"))}, LABELS).hits[0] == hits


def test_offset_of_a_long_event_has_a_fifth_of_its_length() -> None:
    reference = {"a": (30.0, events((10.0, 20.0, "cat")))}
    for end, hits in ((22.0, 1), (18.0, 1), (22.1, 0), (17.9, 0)):
        assert event_counts(reference, {"a": events((10.0, end, "cat"))}, LABELS).hits[0] == hits
    found = {"a": events((10.0, 20.5, "cat"))}
    assert event_counts(reference, found, LABELS, offset_share=0.0).hits[0] == 0
    assert event_counts(reference, found, LABELS, offset_share=0.0, collar_seconds=0.5).hits[0] == 1


def test_each_event_is_matched_once_and_as_many_as_possible_are() -> None:
    """The first of two found events fits both, the second one only the first reference event."""
    reference = {"a": (9.0, events((1.0, 1.1, "cat"), (1.3, 1.4, "cat")))}
    found = {"a": events((1.15, 1.25, "cat"), (0.9, 1.0, "cat"))}
    assert counts(event_counts(reference, found, LABELS)) == [[2, 0], [2, 0], [2, 0]]
    twice = {"a": events((1.0, 1.1, "cat"), (1.01, 1.11, "cat"))}
    one = {"a": (9.0, events((1.0, 1.1, "cat")))}
    assert counts(event_counts(one, twice, LABELS)) == [[1, 0], [2, 0], [1, 0]]


def test_another_label_or_recording_is_no_hit() -> None:
    reference = {"a": (9.0, events((1.0, 2.0, "cat"))), "b": (9.0, [])}
    assert event_counts(reference, {"a": events((1.0, 2.0, "dog")), "b": []}, LABELS).hits.sum() == 0
    assert event_counts(reference, {"a": [], "b": events((1.0, 2.0, "cat"))}, LABELS).hits.sum() == 0


@pytest.mark.parametrize("count", [segment_counts, event_counts])
def test_perfect_and_empty_predictions(count: Any) -> None:
    rows = events((0.5, 1.5, "cat"), (1.5, 2.0, "cat"), (0.7, 0.9, "dog"))
    reference = {"a": (3.0, rows)}
    assert (count(reference, {"a": rows}, LABELS).micro, count(reference, {"a": rows}, LABELS).macro) == (
        1,
        1,
    )
    assert (count(reference, {"a": []}, LABELS).micro, count(reference, {"a": []}, LABELS).macro) == (0, 0)
    assert math.isnan(count({"a": (3.0, [])}, {"a": rows}, LABELS).micro)
    assert math.isnan(count({"a": (3.0, [])}, {"a": rows}, LABELS).macro)


# Bad input


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(0.0, 1.0, "dgo")], ["dgo", "did you mean 'dog'"]),
        ([(0.0, 3.5, "dog")], ["ends after the recording of 3.000 s"]),
        ([(-0.5, 1.0, "dog")], ["starts before 0 s"]),
        ([(1.0, 1.0, "dog")], ["does not start before it ends"]),
        ([(2.0, 1.0, "dog")], ["does not start before it ends"]),
        ([(math.nan, 1.0, "dog")], ["has no times"]),
        ([(0.0, math.inf, "dog")], ["has no times"]),
        ([(0.0, 2.0, "dog"), (1.0, 3.0, "dog")], ["overlap", "0.000-2.000", "1.000-3.000"]),
        ([(0.0, 1.0, "dog"), (0.0, 1.0, "dog")], ["overlap"]),
    ],
)
@pytest.mark.parametrize("count", [segment_counts, event_counts])
def test_bad_references(count: Any, rows: list[tuple[float, float, str]], words: list[str]) -> None:
    with pytest.raises(AstHfError) as caught:
        count({"field.wav": (3.0, events(*rows))}, {"field.wav": []}, LABELS)
    assert caught.value.code == "E208"
    for word in ["field.wav", *words]:
        assert word in str(caught.value)


def test_good_references() -> None:
    """Labels may overlap each other, touch, and end a frame after the recording."""
    rows = events((0.0, 2.0, "dog"), (1.0, 3.0, "cat"), (2.0, 3.005, "dog"))
    assert segment_counts({"a": (3.0, rows)}, {"a": rows}, LABELS).micro == 1


@pytest.mark.parametrize(
    ("found", "words"),
    [({}, "has no prediction"), ({"a": [], "b": []}, "no reference"), ({"a": events((0, 1, "owl"))}, "owl")],
)
def test_predictions_that_do_not_fit(found: Any, words: str) -> None:
    with pytest.raises(AstHfError, match=words) as caught:
        event_counts({"a": (3.0, [])}, found, LABELS)
    assert caught.value.code == "E208"


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "1", True, None])
def test_bad_segments(value: Any) -> None:
    with pytest.raises(AstHfError, match="segment_seconds") as caught:
        segment_counts({"a": (3.0, [])}, {"a": []}, LABELS, segment_seconds=value)
    assert caught.value.code == "E108"


@pytest.mark.parametrize("name", ["collar_seconds", "offset_share"])
@pytest.mark.parametrize("value", [-0.1, math.nan, "1", True])
def test_bad_collars(name: str, value: Any) -> None:
    with pytest.raises(AstHfError, match=name):
        event_counts({"a": (3.0, [])}, {"a": []}, LABELS, **{name: value})


# As sed_scores_eval


def drawn(
    seed: int, recordings: int = 3, steps: int = 60, noise: float = 0.7, held: int = 1
) -> tuple[Any, Any]:
    """Return a reference and curves on a grid of 0.1 s, with events between and on the grid's steps.

    The curves are noise that stays the same for `held` steps, with 0.3 more within an event.
    """
    generator = np.random.default_rng(seed)
    reference = {}
    curves = {}
    for recording in range(recordings):
        times = np.arange(steps + 1) / 10
        scores = np.round(np.repeat(generator.random((steps // held, 2)) * noise, held, axis=0), 2)
        rows = []
        for index, label in enumerate(LABELS):
            start = 0.2
            while start < steps / 10 - 1.5:
                end = start + float(np.round(generator.uniform(0.2, 1.0), generator.integers(1, 3)))
                rows.append(Event(start, end, label))
                scores[(times[:-1] >= start - 0.05) & (times[:-1] < end), index] += 0.3
                start = end + float(np.round(generator.uniform(0.1, 1.0), 2))
        reference[f"r{recording}"] = (steps / 10, rows)
        curves[f"r{recording}"] = (times, scores)
    return reference, curves


def detections(curves: Any, threshold: float) -> dict[str, list[Event]]:
    """Return the runs of steps that score above the threshold, as `sed_scores_eval` makes events."""
    found: dict[str, list[Event]] = {}
    for name, (times, scores) in curves.items():
        found[name] = []
        for index, label in enumerate(LABELS):
            above = np.concatenate(([0], scores[:, index] > threshold, [0])).astype(int)
            edges = times[np.flatnonzero(np.diff(above))].reshape(-1, 2)
            found[name] += [Event(float(start), float(end), label) for start, end in edges]
    return found


def library_inputs(reference: Any, curves: Any) -> tuple[Any, Any, Any, Any]:
    library = psds_module._import_library()
    truth = {name: [(e.start, e.end, e.label) for e in rows] for name, (_, rows) in reference.items()}
    tables = {
        name: psds_module._WritableTable(
            library.base_modules.scores.create_score_dataframe(scores, times, LABELS)
        )
        for name, (times, scores) in curves.items()
    }
    return library, tables, truth, {name: seconds for name, (seconds, _) in reference.items()}


@needs_library
@pytest.mark.parametrize("seed", range(4))
def test_segment_and_event_f1_are_those_of_sed_scores_eval(seed: int) -> None:
    reference, curves = drawn(seed)
    library, tables, truth, seconds = library_inputs(reference, curves)
    for threshold in (0.305, 0.505, 0.705):
        found = detections(curves, threshold)
        segments = segment_counts(reference, found, LABELS)
        values, *_, statistics = library.segment_based.fscore(
            tables, truth, seconds, threshold, segment_length=1.0
        )
        collared = event_counts(reference, found, LABELS)
        hits, *_, collar_statistics = library.collar_based.fscore(
            tables, truth, threshold, onset_collar=0.2, offset_collar=0.2, offset_collar_rate=0.2
        )
        for index, label in enumerate(LABELS):
            for ours, theirs in ((segments, statistics), (collared, collar_statistics)):
                row = theirs[label]
                assert ours.hits[index] == row["tps"]
                assert ours.predicted[index] == row["tps"] + row["fps"]
                assert ours.reference[index] == row["n_ref"]
            assert segments.f1[index] == pytest.approx(values[label])
            assert collared.f1[index] == pytest.approx(hits[label])
        assert segments.macro == pytest.approx(values["macro_average"])
        assert segments.micro == pytest.approx(values["micro_average"])
        assert collared.macro == pytest.approx(hits["macro_average"])
        assert collared.micro == pytest.approx(hits["micro_average"])


@needs_library
@pytest.mark.parametrize("seed", range(2))
def test_psds_is_that_of_sed_scores_eval(seed: int) -> None:
    reference, curves = drawn(seed, steps=600, noise=0.5, held=20)
    library, tables, truth, seconds = library_inputs(reference, curves)
    value, classes, *_ = library.intersection_based.psds(
        tables, truth, seconds, dtc_threshold=0.7, gtc_threshold=0.7, alpha_st=1.0, max_efpr=100.0
    )
    ours = psds(reference, curves, LABELS)
    assert ours.exact
    assert ours.value == pytest.approx(value, abs=1e-12)
    assert ours.classes == pytest.approx({label: classes[label] for label in LABELS}, abs=1e-12)
    assert 0 < ours.value < 1


@needs_library
def test_psds_of_perfect_silent_and_wrong_curves() -> None:
    reference = {"a": (4.0, events((1.0, 2.0, "cat")))}
    times = np.arange(5.0)
    perfect = np.array([[0.1, 0], [0.9, 0], [0.1, 0], [0.1, 0]])
    assert psds(reference, {"a": (times, perfect)}, LABELS).value == pytest.approx(1.0)
    assert psds(reference, {"a": (times, np.zeros((4, 2)))}, LABELS).value == 0
    late = np.roll(perfect, 1, axis=0)
    assert psds(reference, {"a": (times, late)}, LABELS).value == 0


@needs_library
def test_psds_by_hand() -> None:
    """Half of the events before any false positive, the others after one in 36 s, 100 an hour: 0.5 of the area."""
    reference = {"a": (72.0, events((1.0, 2.0, "cat"), (3.0, 4.0, "cat")))}
    scores = np.zeros((72, 2))
    scores[[1, 10, 3], 0] = (0.9, 0.8, 0.7)  # a hit, a false positive (50 an hour), a hit
    result = psds(reference, {"a": (np.arange(73.0), scores)}, LABELS)
    assert result.value == pytest.approx(0.5 * 0.5 + 0.5 * 1.0)


@needs_library
def test_psds_subtracts_the_spread_over_classes() -> None:
    reference = {"a": (4.0, events((1.0, 2.0, "cat"), (1.0, 2.0, "dog")))}
    scores = np.array([[0.0, 0], [0.9, 0], [0, 0], [0, 0]])
    curves = {"a": (np.arange(5.0), scores)}
    assert psds(reference, curves, LABELS).value == pytest.approx(0.5 - 0.5)
    assert psds(reference, curves, LABELS, PsdsCriteria(alpha_st=0.0)).value == pytest.approx(0.5)


@needs_library
def test_psds_leaves_out_classes_without_reference_and_joins_events_that_touch() -> None:
    reference = {"a": (4.0, events((1.0, 2.0, "cat"), (2.0, 3.0, "cat")))}
    scores = np.array([[0.0, 0.9], [0.9, 0], [0.9, 0], [0, 0.3]])
    result = psds(reference, {"a": (np.arange(5.0), scores)}, LABELS)
    assert (result.value, result.classes) == (pytest.approx(1.0), {"cat": pytest.approx(1.0)})
    empty = psds({"a": (4.0, [])}, {"a": (np.arange(5.0), scores)}, LABELS)
    assert math.isnan(empty.value)


@needs_library
def test_psds_of_long_recordings_is_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, curves = drawn(0, recordings=2, steps=600, noise=0.4, held=20)
    exact = psds(reference, curves, LABELS)
    monkeypatch.setattr(psds_module, "_MAX_CELLS", 1)
    bound = psds(reference, curves, LABELS)
    assert (exact.exact, bound.exact) == (True, False)
    assert 0.5 * exact.value < bound.value <= exact.value + 1e-12


@needs_library
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_psds_is_that_of_any_rising_function_of_the_scores(seed: int, power: int) -> None:
    reference, curves = drawn(seed, recordings=1, steps=200, noise=0.4, held=20)
    raised = {name: (times, 0.1 + scores**power / 2) for name, (times, scores) in curves.items()}
    assert psds(reference, raised, LABELS).value == pytest.approx(psds(reference, curves, LABELS).value)


BAD_CURVES = [
    ({"a": (np.arange(4.0), np.zeros((4, 2)))}, "E106"),
    ({"a": (np.arange(5.0), np.zeros((4, 3)))}, "E106"),
    ({"a": (np.arange(1.0), np.zeros((0, 2)))}, "E106"),
    ({"a": (np.array([0.0, 1, 1, 2, 3]), np.zeros((4, 2)))}, "E104"),
    ({"a": (np.arange(5.0), np.full((4, 2), np.nan))}, "E104"),
    ({}, "E208"),
    ({"a": (np.arange(5.0), np.zeros((4, 2))), "b": (np.arange(5.0), np.zeros((4, 2)))}, "E208"),
]


@pytest.mark.parametrize(("curves", "code"), BAD_CURVES)
def test_curves_that_do_not_fit(curves: Any, code: str) -> None:
    with pytest.raises(AstHfError) as caught:
        psds({"a": (4.0, events((1.0, 2.0, "cat")))}, curves, LABELS)
    assert caught.value.code == code


def test_psds_without_the_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psds_module, "is_psds_available", lambda: False)
    reference = {"a": (4.0, events((1.0, 2.0, "cat")))}
    with pytest.raises(AstHfError, match=r"ast_hf\[timelines\]") as caught:
        psds(reference, {"a": (np.arange(5.0), np.zeros((4, 2)))}, LABELS)
    assert caught.value.code == "E108"


@pytest.mark.parametrize(
    "problem", [ImportError("No module named 'x'"), ValueError("numpy.dtype size changed")]
)
def test_a_library_that_cannot_be_imported_is_like_none(
    problem: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def fail(name: str, *arguments: Any) -> Any:
        if name == "sed_scores_eval":
            raise problem
        return original(name, *arguments)

    psds_module._library.cache_clear()
    monkeypatch.setattr(builtins, "__import__", fail)
    try:
        assert not is_psds_available()
        with pytest.raises(AstHfError, match=str(problem)):
            psds_module._import_library()
    finally:
        psds_module._library.cache_clear()


@pytest.mark.slow
def test_in_an_environment_with_sed_scores_eval(tmp_path: Path) -> None:
    """It compiles, and brings 20 packages (numba, librosa), so it gets an environment of its own."""
    tomllib = pytest.importorskip("tomllib")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "ours.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    pins = str(ROOT / "constraints-timelines.txt")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", pins, *extras["timelines"]], check=True)
    result = subprocess.run(
        [python, "-m", "pytest", "-rs", "-p", "no:cacheprovider", str(Path(__file__))],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stdout[-4000:]
    assert "skipped" not in result.stdout
