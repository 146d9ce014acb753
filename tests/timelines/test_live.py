"""Live input gives the events of the complete recording, each once, and soon."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import pipeline

from ast_hf import ASTFeatureExtractor, ASTForAudioClassification
from ast_hf.errors import AstInputError
from ast_hf.inference.live import LiveClassifier

from .conftest import RATE, noise_with

HOP = 0.25


@pytest.fixture(scope="module")
def pipe(tone_checkpoint: Path) -> Any:
    """Return the pipeline of a model that was trained on tones."""
    return pipeline("audio-classification", model=str(tone_checkpoint))


@pytest.fixture
def loud_pipe(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a pipeline whose classes follow the loudness of three parts of the spectrum, for many windows."""
    made = pipeline("audio-classification", model=str(tiny_checkpoint))

    def forward(features: Any, **_: Any) -> dict[str, torch.Tensor]:
        bands = features["input_values"].unflatten(2, (2, 16)).mean(dim=3).amax(dim=1)
        quiet = torch.full_like(bands[:, :1], 0.2)
        return {"logits": 12.0 * torch.cat((bands, quiet), dim=1)}

    monkeypatch.setattr(made, "_forward_in_dtype", forward)
    return made


def streamed(live: LiveClassifier, samples: np.ndarray, sizes: Iterator[int]) -> list[dict[str, Any]]:
    """Return the events of samples that come in chunks of some sizes."""
    events = []
    first = 0
    while first < len(samples):
        size = next(sizes)
        events += live.push(samples[first : first + size])
        first += size
    return events + live.close()


def ordered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(events, key=lambda event: (event["start"], event["label"]))


def bursts(seed: int, seconds: float, rate: int = RATE) -> np.ndarray:
    """Return noise with louder parts, some digital silence in it, float32."""
    rng = np.random.default_rng(seed)
    levels = np.full(round(seconds * rate), 1e-3)
    for _ in range(int(seconds)):
        first = rng.integers(0, len(levels))
        levels[first : first + rng.integers(1, rate)] = rng.choice([0.0, 0.02, 0.2])
    return (levels * rng.standard_normal(len(levels))).astype(np.float32)


@pytest.mark.long
@pytest.mark.parametrize(
    "burst",
    [(3.2, 4.1), (2.0, 2.3), (4.05, 5.65), (0.0, 0.9), (0.3, 1.2), (0.85, 1.6), (6.85, 7.7), (6.2, 7.1)],
)
@pytest.mark.parametrize("name", ["low tone", "high tone"])
def test_a_tone_burst_is_found_once_with_its_edges(pipe: Any, name: str, burst: tuple[float, float]) -> None:
    samples = noise_with(8.0, (name, *burst), seed=7)
    (event,) = pipe({"array": samples, "sampling_rate": RATE}, return_timestamps=True, hop_seconds=HOP)
    assert event["label"] == name
    assert event["start"] == pytest.approx(burst[0], abs=HOP)
    assert event["end"] == pytest.approx(burst[1], abs=HOP)
    live = LiveClassifier(pipe, hop_seconds=HOP)
    assert streamed(live, samples, itertools.repeat(1_000)) == [event]


def test_two_tones_at_once_are_two_events(pipe: Any) -> None:
    samples = noise_with(9.0, ("low tone", 2.0, 5.0), ("high tone", 3.5, 6.5))
    live = LiveClassifier(pipe, hop_seconds=HOP)
    events = ordered(streamed(live, samples, itertools.repeat(4_000)))
    assert [event["label"] for event in events] == ["low tone", "high tone"]
    times = [time for event in events for time in (event["start"], event["end"])]
    assert times == pytest.approx([2.0, 5.0, 3.5, 6.5], abs=HOP)


def test_scores_of_columns_count_in_both(pipe: Any) -> None:
    samples = noise_with(5.0, ("low tone", 1.5, 3.1), seed=4)
    rules: dict[str, Any] = {
        "column_weight": 0.4,
        "hop_seconds": 0.5,
        "threshold": 0.2,
        "window_seconds": 0.8,
    }
    events = pipe({"array": samples, "sampling_rate": RATE}, return_timestamps=True, **rules)
    assert ordered(streamed(LiveClassifier(pipe, **rules), samples, itertools.repeat(777))) == events
    assert events


@pytest.mark.parametrize("samples", [np.zeros(5 * RATE, np.float32), noise_with(5.0, level=1e-5)])
def test_silence_gives_no_event(pipe: Any, samples: np.ndarray) -> None:
    assert streamed(LiveClassifier(pipe), samples, itertools.repeat(3_000)) == []


def test_recordings_with_silence_between_give_both_timelines(pipe: Any) -> None:
    first = noise_with(5.0, ("low tone", 1.3, 2.6), seed=1)
    second = noise_with(6.0, ("high tone", 2.1, 3.2), seed=2)
    parts = [ordered(streamed(LiveClassifier(pipe), one, itertools.repeat(9_999))) for one in (first, second)]
    both = np.concatenate((first, np.zeros(2 * RATE, np.float32), second))
    events = ordered(streamed(LiveClassifier(pipe), both, itertools.repeat(9_999)))
    shifted = [dict(one, start=one["start"] + 7.0, end=one["end"] + 7.0) for one in parts[1]]
    assert [event["label"] for event in events] == ["low tone", "high tone"]
    for event, alone in zip(events, parts[0] + shifted, strict=True):
        assert event["start"] == pytest.approx(alone["start"], abs=0.05)
        assert event["end"] == pytest.approx(alone["end"], abs=0.05)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1_000),
    seconds=st.floats(0.0, 12.0),
    sizes=st.lists(st.sampled_from([0, 1, 7, 160, 1_000, 4_097, 16_000, 100_000]), min_size=1, max_size=8),
    rate=st.sampled_from([8_000, 16_000, 22_050, 44_100]),
    rules=st.sampled_from([{}, {"min_seconds": 0.0, "gap_seconds": 1.0}, {"hop_seconds": 0.64}]),
    integers=st.booleans(),
)
def test_chunks_of_any_sizes_give_the_events_of_the_recording(
    loud_pipe: Any, seed: int, seconds: float, sizes: list[int], rate: int, rules: dict, integers: bool
) -> None:
    samples: np.ndarray = bursts(seed, seconds, rate)
    if integers:
        samples = np.round(np.clip(samples, -1, 1) * 32_767).astype(np.int16)
    live = LiveClassifier(loud_pipe, sampling_rate=rate, **rules)
    chunks = itertools.cycle([*sizes, 300])
    events = streamed(live, samples, chunks)
    assert live.seconds == pytest.approx(len(samples) / rate)
    if len(samples) < rate * 0.03:
        assert events == []
        return
    recording = {"array": samples, "sampling_rate": rate}
    assert ordered(events) == loud_pipe(recording, return_timestamps=True, **rules)


def test_events_come_within_the_stated_delay(loud_pipe: Any) -> None:
    for rate in (RATE, 44_100):
        live = LiveClassifier(loud_pipe, hop_seconds=0.1, sampling_rate=rate)
        samples = bursts(5, 40.0, rate)
        delays = []
        for first in range(0, len(samples), rate // 100):
            for event in live.push(samples[first : first + rate // 100]):
                delays.append(live.seconds - event["end"])
        assert len(delays) > 5
        assert max(delays) <= live.delay_seconds + 0.01
        assert max(delays) >= live.delay_seconds - 0.6


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 48_000, 96_000, 192_000])
def test_resampling_is_behind_by_less_than_the_delay_counts(loud_pipe: Any, rate: int) -> None:
    live = LiveClassifier(loud_pipe, sampling_rate=rate)
    behind = []
    for _ in range(3 * 100):
        live.push(np.zeros(rate // 100, np.float32))
        behind.append(live.seconds - (live._cutter.length + live._count) / RATE)
    assert max(behind) <= 0.25


def test_memory_does_not_grow(loud_pipe: Any) -> None:
    live = LiveClassifier(loud_pipe, hop_seconds=0.64, sampling_rate=8_000)
    sizes = []
    count = 0
    for number in range(300):
        count += len(live.push(bursts(number, 2.0, 8_000)))
        tracker = live._builder._tracker
        kept = sum(len(piece) for piece in live._pieces) + sum(len(piece) for piece in live._cutter._pieces)
        sizes.append((kept, len(live._builder.curves._weights), len(tracker._pending) + len(tracker._runs)))
    assert count > 100
    early = np.max(sizes[:30], axis=0)
    late = np.max(sizes[-30:], axis=0)
    assert (late - early <= [0, 1, 3]).all()


def test_single_samples_are_not_cut_again_and_again(loud_pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveClassifier(loud_pipe)
    pushes = []
    cut = live._cutter.push
    monkeypatch.setattr(live._cutter, "push", lambda samples: pushes.append(len(samples)) or cut(samples))
    for sample in bursts(1, 1.2):
        live.push(np.array([sample]))
    assert len(pushes) < 8
    assert len(live._pieces) < 5_000


def test_provisional_events_come_first_and_are_replaced(loud_pipe: Any) -> None:
    samples = 1e-3 * np.random.default_rng(0).standard_normal(5 * RATE)
    samples[2 * RATE : 3 * RATE] *= 200
    live = LiveClassifier(loud_pipe, provisional=True)
    early = None
    final: list[dict[str, Any]] = []
    for first in range(0, len(samples), 800):
        for event in live.push(samples[first : first + 800].astype(np.float32)):
            if "provisional" not in event:
                final.append(event)
            elif early is None and event["label"] != "owl":  # noise is an owl
                early = live.seconds
                assert event["provisional"] is True
                assert event["start"] == pytest.approx(2.0, abs=0.4)
    final += live.close()
    assert {frozenset(event) for event in final} == {frozenset({"label", "score", "start", "end"})}
    assert early is not None
    assert early < 2.0 + live.delay_seconds
    recording = {"array": samples.astype(np.float32), "sampling_rate": RATE}
    assert ordered(final) == loud_pipe(recording, return_timestamps=True)


@pytest.mark.parametrize(
    ("samples", "code"),
    [
        (np.array([0.1, np.nan], np.float32), "E104"),
        (np.array([np.inf]), "E104"),
        (np.array([1e30]), "E104"),
        (np.zeros((2, 2), np.float32), "E106"),
        (np.zeros((1, 2, 3), np.float32), "E106"),
        (np.zeros(4, complex), "E102"),
        ("live.wav", "E102"),
        (None, "E102"),
        ([[0.1], [0.1, 0.2]], "E102"),
        (np.zeros(4, np.int64), "E102"),
    ],
)
def test_a_bad_chunk_is_an_error_and_the_stream_continues(loud_pipe: Any, samples: Any, code: str) -> None:
    live = LiveClassifier(loud_pipe)
    good = bursts(3, 4.0)
    events = live.push(good[:20_000])
    with pytest.raises(AstInputError) as caught:
        live.push(samples)
    assert caught.value.code == code
    events += live.push(good[20_000:]) + live.close()
    assert ordered(events) == loud_pipe({"array": good, "sampling_rate": RATE}, return_timestamps=True)


@pytest.mark.parametrize(
    "chunk",
    [
        np.full(3, 0.25, np.float64),
        [0.25, 0.25, 0.25],
        torch.full((3,), 0.25),
        np.full((3, 1), 0.25),
        np.full((1, 3), 0.25, np.float32),
        np.full(3, 8_192, np.int16),
        np.full(3, 2**29, np.int32),
        np.full(3, 160, np.uint8),
    ],
)
def test_chunks_of_any_type_hold_the_same_samples(loud_pipe: Any, chunk: Any) -> None:
    live = LiveClassifier(loud_pipe)
    live.push(chunk)
    live.push(np.zeros((0, 2), np.int16))
    assert live._pieces[0].tolist() == [0.25] * 3


def test_channels_are_averaged(loud_pipe: Any) -> None:
    live = LiveClassifier(loud_pipe)
    live.push(np.stack((np.full(400, 0.5), np.full(400, 0.25)), axis=1))
    assert live._pieces[0].tolist() == [0.375] * 400


def test_a_chunk_may_be_changed_after_the_call(loud_pipe: Any) -> None:
    """Drivers of sound cards use their buffers again."""
    live = LiveClassifier(loud_pipe)
    buffer = np.full(100, 0.5, np.float32)
    live.push(buffer)
    buffer[:] = 0
    assert live._pieces[0].max() == 0.5


def test_a_closed_stream_takes_no_samples(loud_pipe: Any) -> None:
    live = LiveClassifier(loud_pipe)
    assert live.close() == []
    assert live.close() == []
    with pytest.raises(AstInputError, match=r"E108\] push: comes after the end"):
        live.push(np.zeros(10))
    samples = bursts(2, 3.0)
    with LiveClassifier(loud_pipe) as entered:
        events = entered.push(samples)
    with pytest.raises(AstInputError, match="E108"):
        entered.push(np.zeros(10))
    with pytest.raises(AstInputError, match="E108"), entered:
        pass
    events += entered.close()
    assert ordered(events) == loud_pipe({"array": samples, "sampling_rate": RATE}, return_timestamps=True)
    assert entered.close() == []


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"hop_seconds": 0}, "hop_seconds"),
        ({"hop_seconds": 99.0}, "hop_seconds"),
        ({"window_seconds": 99.0}, "window_seconds"),
        ({"threshold": 0.3, "low_threshold": 0.4}, "low_threshold"),
        ({"treshold": 0.3}, "treshold"),
        ({"aggregate": "mean"}, "aggregate"),
        ({"method": "boxes"}, "method"),
        ({"method": "median"}, "method"),
        ({"sampling_rate": 10}, "sampling_rate"),
        ({"function_to_apply": "none"}, "return_timestamps"),
        ({"feature_extractor": ASTFeatureExtractor()}, "feature_extractor"),
    ],
)
def test_impossible_arguments_are_errors(loud_pipe: Any, arguments: dict[str, Any], where: str) -> None:
    with pytest.raises(AstInputError) as caught:
        LiveClassifier(loud_pipe, **arguments)
    assert caught.value.where == where
    assert caught.value.code in ("E108", "E107")


def test_a_model_may_be_given_in_every_form(tiny_checkpoint: Path) -> None:
    model = ASTForAudioClassification.from_pretrained(tiny_checkpoint)
    extractor = ASTFeatureExtractor.from_pretrained(tiny_checkpoint)
    for given_model, more in (
        (tiny_checkpoint, {}),
        (str(tiny_checkpoint), {}),
        (model, {"feature_extractor": extractor}),
    ):
        assert LiveClassifier(given_model, **more).plan.frames == 64
    for wrong in (model, extractor, None, 3):
        with pytest.raises(AstInputError, match="E108"):
            LiveClassifier(wrong)


def test_windows_that_speak_of_their_middle_give_the_same_events_live(
    pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = {"mean": "centre", "hop_seconds": 0.05, "min_seconds": 0.05, "gap_seconds": 0.0}
    monkeypatch.setattr(pipe.model.config, "timeline", stored)
    samples = noise_with(6.0, ("low tone", 2.0, 3.1), ("high tone", 3.4, 4.4), seed=4)
    events = pipe({"array": samples, "sampling_rate": RATE}, return_timestamps=True)
    assert {event["label"] for event in events} == {"low tone", "high tone"}
    live = LiveClassifier(pipe)
    assert ordered(streamed(live, samples, itertools.repeat(777))) == events
    assert live.delay_seconds < 1.0  # half a window of 1 s, and a few hops
