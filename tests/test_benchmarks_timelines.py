"""The benchmarks of long audio: mixtures have true onsets, systems the same scores, pages match measurements."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification
from ast_hf.metrics.psds import is_psds_available
from ast_hf.timelines.windows import window_starts
from benchmarks import long_audio, timelines, timelines_page, timelines_systems
from benchmarks.timelines_mixtures import RATE, Sound, loud_parts, mixtures, overlap, sounds_of, trimmed
from benchmarks.timelines_scores import Scorer
from benchmarks.timelines_systems import SYSTEMS, Settings, curve_of

SECONDS = 4.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with eight clips in place of ESC-10: tones of two classes, with silence around them."""
    folder = tmp_path_factory.mktemp("esc10")
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "fold"))
        for clip in range(8):
            tone = 0.3 * np.sin(2 * np.pi * (300, 2000)[clip % 2] * np.arange(RATE // 2) / RATE)
            soundfile.write(folder / f"{clip}.wav", np.pad(tone, (RATE // 4, RATE // 4)), RATE)
            rows.writerow((f"{clip}.wav", ("low", "high")[clip % 2], 1 + clip // 4))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an untrained checkpoint of two classes."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_mel_bins=16,
        max_length=128, frequency_stride=16, time_stride=16, id2label={0: "low", 1: "high"},
        problem_type="single_label_classification",
    )  # fmt: skip
    ASTForAudioClassification(config).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=16, max_length=128).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def stage(data: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> timelines.Stage:
    scorer = Scorer(checkpoint, tmp_path_factory.mktemp("scores"))
    return timelines.Stage(scorer, "1", sounds_of(data, "1"), 2, seconds=SECONDS)


def test_events_are_the_loud_parts_of_a_clip() -> None:
    samples = np.zeros(3 * RATE, np.float32)
    samples[RATE : RATE + 8000] = 0.5
    assert loud_parts(samples) == [(RATE, RATE + 8000)]
    samples[2 * RATE + 8000 : 2 * RATE + 12_000] = 0.5  # a second after the end of the first
    assert len(loud_parts(samples)) == 2
    samples[2 * RATE - 4000 : 2 * RATE] = 0.4  # closes the pause
    assert loud_parts(samples) == [(RATE, 2 * RATE + 12_000)]


def test_a_clip_is_silent_between_its_events() -> None:
    samples = np.full(4 * RATE, 0.001, np.float32)
    samples[RATE : RATE + 8000] = samples[3 * RATE : 3 * RATE + 8000] = 0.5
    sound = trimmed(samples, "x")
    assert sound.events == [(0.0, 0.5), (2.0, 2.5)]
    assert not sound.samples[RATE : 2 * RATE - 200].any()


def test_mixtures_are_those_of_the_seed_and_hold_their_events(data: Path) -> None:
    sounds = sounds_of(data, "2")
    first, again, other = (list(mixtures(sounds, 2, seed, SECONDS)) for seed in (0, 0, 1))
    assert all(
        np.array_equal(a.samples, b.samples) and a.events == b.events
        for a, b in zip(first, again, strict=True)
    )
    assert not np.array_equal(first[0].samples, other[0].samples)
    for mixture in first:
        assert len(mixture.samples) == SECONDS * RATE
        assert np.abs(mixture.samples).max() <= 0.901
        assert all(0 <= event.start < event.end <= SECONDS for event in mixture.events)
        for label in ("low", "high"):
            own = [event for event in mixture.events if event.label == label]
            assert all(b.start - a.end >= 1.0 for a, b in itertools.pairwise(own))


def test_the_sound_is_where_the_event_says() -> None:
    tone = np.sin(np.arange(RATE) * 0.7).astype(np.float32)
    mixture = next(mixtures([Sound("x", tone, [(0.0, 1.0)])], 1, 3, 60.0))
    carrier = np.exp(-0.7j * np.arange(len(mixture.samples)))
    tones = np.abs((mixture.samples * carrier).reshape(-1, RATE // 10).mean(axis=1))
    middles = (np.arange(len(tones)) + 0.5) / 10
    inside = np.any([(middles > e.start + 0.1) & (middles < e.end - 0.1) for e in mixture.events], axis=0)
    outside = ~np.any([(middles > e.start - 0.1) & (middles < e.end + 0.1) for e in mixture.events], axis=0)
    assert inside.sum() > 20
    assert np.quantile(tones[inside], 0.3) > 3 * tones[outside].max()  # pauses are in events


def test_overlap_is_a_share_of_the_time_with_a_sound() -> None:
    from ast_hf.timelines.events import Event

    assert overlap([Event(0, 2, "a"), Event(1, 3, "b"), Event(9, 10, "a")]) == pytest.approx(1 / 4)
    assert overlap([]) == 0.0


@pytest.mark.parametrize("curve", ["fixed", "centres", "faded"])
@pytest.mark.parametrize("window", [0.5, None])
def test_curves_cover_the_recording(stage: timelines.Stage, curve: str, window: float | None) -> None:
    settings = Settings(timelines_systems._PLAIN, window, curve)
    for times, scores in stage.curves(settings).values():
        assert times[0] == 0.0
        assert times[-1] == pytest.approx(SECONDS)
        assert (np.diff(times) > 0).all()
        assert scores.shape == (len(times) - 1, 2)


def test_windows_side_by_side_are_every_fourth_of_the_overlapping_ones(stage: timelines.Stage) -> None:
    mixture = stage.mixtures[0]
    scored = stage._scorer.score(mixture, f"fold1-{mixture.name}", 0.5)
    fixed = curve_of(scored, Settings(timelines_systems._PLAIN, 0.5, "fixed"))
    assert np.array_equal(fixed.scores, scored.scores[::4])
    assert window_starts(len(mixture.samples), scored.plan) == scored.starts.tolist()
    assert np.allclose(scored.columns.sum(axis=-1), 1.0, atol=1e-4)


def test_stored_scores_are_used_again(stage: timelines.Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = stage.mixtures[0]
    name = f"fold1-{mixture.name}"
    first = stage._scorer.score(mixture, name, 0.5)
    monkeypatch.setattr(Scorer, "_scores", None)
    again = stage._scorer.score(mixture, name, 0.5)
    assert np.array_equal(first.scores, again.scores)
    assert np.array_equal(first.levels, again.levels)


def test_the_median_filter_removes_a_single_window(stage: timelines.Stage) -> None:
    mixture = stage.mixtures[0]
    scored = stage._scorer.score(mixture, f"fold1-{mixture.name}", 0.5)
    scores = np.zeros_like(scored.scores)
    scores[5] = 1.0
    lone = scored._replace(scores=scores)
    assert curve_of(lone, Settings(timelines_systems._PLAIN, 0.5, "centres", 1)).scores.max() == 1.0
    assert curve_of(lone, Settings(timelines_systems._PLAIN, 0.5, "centres", 3)).scores.max() == 0.0


def test_every_system_has_settings_and_a_name() -> None:
    assert set(timelines_page.NAMES) == set(SYSTEMS)
    assert {timelines.CHOOSING, timelines.REPORTED}.isdisjoint({"3", "4", "5"})
    for settings in SYSTEMS.values():
        assert len(set(settings())) == len(settings()) > 0
    assert all(s.rules.column_weight == 0 for name in timelines_page.BASELINES for s in SYSTEMS[name]())


@pytest.mark.skipif(not is_psds_available(), reason="PSDS needs the extra timelines")
@pytest.mark.parametrize("system", ["fixed", "columns"])
def test_a_system_is_compared(stage: timelines.Stage, system: str) -> None:
    settings = [dataclasses.replace(one, window=0.5) for one in SYSTEMS[system]()[:1]]
    values = timelines.compared(settings, stage, stage)
    assert set(values) == {*timelines_page.METRICS, "tried"}
    for metric in ("event", "event_1s", "segment"):
        assert values[metric]["value"] == pytest.approx(values[metric]["choice"], abs=0.02)
    assert 0 <= values["psds"]["value"] == values["psds"]["choice"] <= 1
    json.dumps(values)


# ---------------------------------------------------------------- the pages


def result(psds: float, event: float) -> dict:
    values = {"psds": psds, "event": event, "event_1s": event, "segment": event}
    return {
        name: {"settings": {"window": 2.0}, "choice": 0.0, "value": value} for name, value in values.items()
    }


def test_the_page_compares_with_the_better_of_the_usual_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systems = {"fixed": result(0.2, 0.1), "median": result(0.1, 0.3), "columns": result(0.25, 0.31)}
    systems["default"] = result(0.25, 0.29)
    assert timelines_page.row("columns", systems["columns"], 0.2)[-1] == "1.25"
    text = timelines_page.verdict(systems)
    assert "(c) misses it with 1.25 times and 0.290 against 0.300" in text
    assert "(d) reaches it with 1.25 times and 0.310 against 0.300" in text
    stored = {
        "command": "c", "mixtures": {"choice": 1, "reported": 2}, "events": 3, "overlap": 0.25, "systems": systems,
        "versions": {"torch": "1", "transformers": "2", "sed_scores_eval": "3"},
    }  # fmt: skip
    monkeypatch.setattr(timelines_page, "RESULTS", tmp_path / "timelines.json")
    assert timelines_page.section() == ""
    timelines_page.RESULTS.write_text(json.dumps(stored))
    assert "| (a) windows side by side, threshold | 2 s | 0.200 |" in timelines_page.section()


def test_a_long_recording_is_measured(tmp_path: Path, checkpoint: Path) -> None:
    path = tmp_path / "tones.flac"
    long_audio.write_recording(path, 20)
    assert soundfile.info(path).duration == 20
    for kind in long_audio.KINDS:
        values = long_audio.measured(kind, path, checkpoint)
        assert 0 < values["seconds"] < 60
        assert values["rss"] > 1e7


def test_a_row_has_shares_of_memory_and_of_time_per_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {
            "kind": "scores",
            "format": "flac",
            "length": name,
            "duration": seconds,
            "seconds": spent,
            "rss": rss,
        }
        for name, seconds, spent, rss in (("1 min", 60, 2.0, 100.0), ("1 h", 3600, 150.0, 110.0))
    ]
    cells = long_audio.table_row("scores", "flac", ["1 min", "1 h", "10 h"], rows, rows[0])
    assert cells[2:] == ["1.00", "1.10", "-", "1.00", "1.25", "-"]
    stored = {
        "command": "c", "machine": "m", "rows": rows, "versions": {"torch": "1", "transformers": "2", "soundfile": "3"},
    }  # fmt: skip
    monkeypatch.setattr(long_audio, "RESULTS", tmp_path / "long_audio.json")
    assert long_audio.section() == ""
    long_audio.RESULTS.write_text(json.dumps(stored))
    assert "| scores (`pipe(file)`) | FLAC | 1.00 | 1.10 | 1.00 | 1.25 |" in long_audio.section()
