"""The picture of a timeline: the same for any sizes of blocks, bounded for any length, and complete."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_hf.errors import AstDataError, AstInputError, AstRunError, error
from ast_hf.log_mel import log_mel
from ast_hf.reports import overview, timeline_picture
from ast_hf.reports.timeline_picture import MAX_ROWS, ScoreCurve, check_picture, draw_timeline
from ast_hf.timelines.events import Event

figure = pytest.importorskip("matplotlib.figure", reason="matplotlib is in the extras train and explain")

NOISE = np.random.default_rng(0).normal(size=16_000 * 40).astype(np.float32) / 8
SOURCE = {"array": NOISE[: 16_000 * 10], "sampling_rate": 16_000}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list to which figures are added in place of being written."""
    figures: list[Any] = []
    monkeypatch.setattr(timeline_picture, "save_picture", lambda figure, path: figures.append(figure))
    return figures


def summary(samples: np.ndarray, sizes: list[int], patch: pytest.MonkeyPatch) -> overview.Overview:
    """Return the overview of samples that are read in blocks of these sizes, repeated."""

    def blocks(source: Any, rate: int) -> Iterator[np.ndarray]:
        first = 0
        while first < len(samples):
            for size in sizes:
                if first < len(samples):
                    yield samples[first : first + size]
                first += size

    patch.setattr(overview, "audio_blocks", blocks)
    return overview.summarise(None, 16_000)


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 16_000 * 40), sizes=st.lists(st.integers(1_000, 200_000), min_size=1, max_size=4)
)
def test_overview_is_that_of_the_whole_recording(length: int, sizes: list[int]) -> None:
    samples = NOISE[:length]
    with pytest.MonkeyPatch.context() as patch:
        found = summary(samples, sizes, patch)
    step = round(found.envelope_step * 16_000)
    starts = range(0, length, step)
    parts = [samples[start : start + step] for start in starts]
    assert found.envelope.tolist() == [[part.min(), part.max()] for part in parts]
    if length >= 400:
        frames = np.exp(log_mel(torch.from_numpy(samples), 16_000, 128).double().numpy())
        width = round(found.mel_step * 100)
        means = [frames[first : first + width].mean(axis=0) for first in range(0, len(frames), width)]
        np.testing.assert_allclose(found.mel, 10 * np.log10(means), atol=1e-4)
    assert len(found.mel) <= overview.MAX_COLUMNS + 1
    assert len(found.envelope) <= 2 * overview.MAX_COLUMNS + 1
    assert found.seconds == length / 16_000


def test_columns_are_bounded_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day at one hundredth of the rate: columns are joined as for hours, without the arithmetic."""
    monkeypatch.setattr(
        overview, "log_mel", lambda samples, rate, bins: torch.zeros(len(samples) // 160 - 1, bins)
    )
    found = summary(np.zeros(13_824_000, np.float32), [1_000_000], monkeypatch)
    assert overview.MAX_COLUMNS / 2 <= len(found.mel) <= overview.MAX_COLUMNS + 1
    assert overview.MAX_COLUMNS <= len(found.envelope) <= 2 * overview.MAX_COLUMNS + 1


def test_frequencies_have_their_place() -> None:
    time = np.arange(16_000) / 16_000
    for hertz in (200, 1_000, 4_000, 7_000):
        tone = {"array": np.sin(2 * np.pi * hertz * time).astype(np.float32), "sampling_rate": 16_000}
        found = overview.summarise(tone, 16_000)
        assert found.mel.mean(axis=0).argmax() + 0.5 == pytest.approx(found.mel_position(hertz), abs=1.0)


def test_panels_share_the_time_axis(drawn: list[Any]) -> None:
    draw_timeline(SOURCE, [Event(3.2, 4.1, "dog", 0.9), Event(1, 2, "owl", 0.4), Event(8, 9, "dog")], "a.png")
    waveform, spectrogram, timeline = drawn[0].axes
    assert waveform.get_xlim() == spectrogram.get_xlim() == timeline.get_xlim() == (0.0, 10.0)
    assert [label.get_text() for label in timeline.get_yticklabels()] == ["owl", "dog"]
    bars = [path.get_extents() for row in timeline.collections for path in row.get_paths()]
    assert [(bar.x0, bar.x1) for bar in bars] == [(1, 2), (3.2, 4.1), (8, 9)]
    assert bars[0].y0 > 1 > bars[1].y1
    assert [face[3] for row in timeline.collections for face in row.get_facecolor()] == pytest.approx(
        [0.55, 0.925, 1.0]
    )
    assert [text.get_text() for text in timeline.texts] == ["0.40", "0.90", "1.00"]


def test_of_many_classes_the_longest_are_drawn_and_the_others_said(drawn: list[Any]) -> None:
    starts = [number / 8 for number in range(40)]
    events = [Event(start, start + (1 if start % 0.25 else 0.5), f"c{8 * start:g}") for start in starts]
    draw_timeline(SOURCE, events, "a.png")
    timeline = drawn[0].axes[2]
    names = [label.get_text() for label in timeline.get_yticklabels()]
    assert names == [f"c{number}" for number in range(1, 41, 2)]
    assert len(names) == MAX_ROWS
    assert timeline.texts[-1].get_text() == "not drawn, with less time: c0, c2, c4, c6, … (20 classes)"


def test_no_events(drawn: list[Any]) -> None:
    draw_timeline(SOURCE, [], "a.png")
    assert [text.get_text() for text in drawn[0].axes[2].texts] == ["no events"]


def test_labels_and_titles_of_others(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Formulas, line ends and long names are shown as they are written, or cut; missing glyphs are no warning."""
    labels = ["$x", "two\nlines", "\x1b[2J", "狗 🐕", "כלב", "long " * 40, "$$\\frac{1}{"]
    events = [Event(number, number + 0.5, label) for number, label in enumerate(labels)]
    draw_timeline(SOURCE, events, tmp_path / "a.png", title="$ title \\frac " * 40)
    assert not recwarn.list


def test_thousands_of_events_are_few_bars(drawn: list[Any]) -> None:
    events = [Event(number / 1_000, number / 1_000 + 0.0005, "click", 0.5) for number in range(9_000)]
    draw_timeline(SOURCE, [*events, Event(9.5, 9.9, "click", 0.7).as_dict()], "a.png")
    (shape,) = drawn[0].axes[2].collections  # one for each class: thousands of them take minutes
    bars = [path.get_extents() for path in shape.get_paths()]
    assert [(bar.x0, bar.x1) for bar in bars] == [(0, pytest.approx(8.9995)), (9.5, 9.9)]
    assert shape.get_facecolor()[:, 3].tolist() == pytest.approx([0.625, 0.775])


def test_touching_events_stay_apart(drawn: list[Any]) -> None:
    draw_timeline(SOURCE, [Event(number, number + 1, "song") for number in range(5)], "a.png")
    (shape,) = drawn[0].axes[2].collections
    assert len(shape.get_paths()) == 5


def test_score_curves_are_under_their_events(drawn: list[Any]) -> None:
    curve = ScoreCurve(np.arange(10_000) / 1_000, np.full((10_000, 2), 0.5), ["owl", "dog"])
    draw_timeline(SOURCE, [Event(1, 2, "dog", 0.5), Event(3, 4, "other", 0.5)], "a.png", curve=curve)
    bar, filled, _ = [shape.get_paths()[0].get_extents() for shape in drawn[0].axes[2].collections]
    assert filled.y1 == pytest.approx(1.06 + 0.18)
    assert filled.y1 < bar.y0
    assert (filled.x0, filled.x1) == (0.0, pytest.approx(10.0, abs=0.02))


#: Seconds of a recording -> name and second tick of its time axis.
AXES = {
    0.005: ("seconds", None),
    90: ("seconds", None),
    600: ("minutes:seconds", "1:00"),
    7_200: ("hours:minutes:seconds", "0:10:00"),
    864_000: ("hours:minutes:seconds", "24:00:00"),
}


@pytest.mark.parametrize("seconds", AXES)
def test_time_axis(drawn: list[Any], monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    unit, tick = AXES[seconds]
    silent = overview.summarise({"array": np.zeros(16_000, np.float32), "sampling_rate": 16_000}, 16_000)
    monkeypatch.setattr(timeline_picture, "summarise", lambda source, rate: silent._replace(seconds=seconds))
    draw_timeline(SOURCE, [], "a.png")
    axis = drawn[0].axes[2].xaxis
    assert axis.get_label_text() == unit
    ticks = [place for place in axis.get_ticklocs() if 0 <= place <= seconds]
    assert 4 <= len(ticks) <= 14
    if tick:
        assert axis.get_major_formatter()(ticks[1]) == tick


def test_the_part_before_damage_is_drawn(drawn: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def blocks(source: Any, rate: int) -> Iterator[np.ndarray]:
        yield NOISE[: 16_000 * 3]
        raise error("E203", where="a.wav", what="is damaged", fix="copy it again")

    monkeypatch.setattr(overview, "audio_blocks", blocks)
    draw_timeline("a.wav", [Event(1, 2, "dog")], "a.png")
    assert drawn[0].axes[0].texts[0].get_text() == "not readable after 3.0 s"
    assert drawn[0].axes[0].get_xlim() == (0.0, 3.0)


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AstInputError, match=r"E108.*end the name in \.png"):
        draw_timeline(SOURCE, [], tmp_path / "a.pdf")
    with pytest.raises(AstDataError, match="E206"):
        draw_timeline(tmp_path / "none.wav", [], tmp_path / "a.png")
    (tmp_path / "file").touch()
    with pytest.raises(AstRunError, match="E401"):
        draw_timeline(SOURCE, [], tmp_path / "file" / "a.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(AstInputError, match=r'E108.*needs matplotlib.*pip install "ast_hf\[explain\]"'):
        check_picture(tmp_path / "a.png")


def test_a_png_is_written(tmp_path: Path) -> None:
    draw_timeline(SOURCE, [Event(1, 2, "dog", 0.5)], tmp_path / "new" / "a.png")
    content = (tmp_path / "new" / "a.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") == 1_440
