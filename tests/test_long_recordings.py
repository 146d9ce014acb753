"""Recordings longer than the model's input: all of a recording counts, in any batches and blocks."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from transformers import pipeline

from ast_hf import (
    ASTAudioClassificationPipeline,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AstHfError,
    AstHfWarning,
    AstInputError,
    load_audio,
)

RATE = 16_000
#: Samples of the tiny model's window: 64 frames, 400 + 63 * 160.
WINDOW = 10_480


@pytest.fixture(scope="module")
def checkpoint(lively_checkpoint: Path) -> Path:
    return lively_checkpoint


@pytest.fixture(scope="module")
def classify(checkpoint: Path) -> ASTAudioClassificationPipeline:
    return pipeline("audio-classification", model=str(checkpoint))


@pytest.fixture(scope="module")
def recording() -> np.ndarray:
    """Return 4.3 s in which the pitch rises."""
    time = np.arange(int(4.3 * RATE)) / RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * (300 + 400 * time) * time) + 0.02 * noise).astype(np.float32)


def by_label(entries: list[dict[str, Any]]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in entries}


def by_hand(folder: Path, samples: np.ndarray, starts: list[int], length: int, frames: int) -> np.ndarray:
    """Return the scores `(windows, 3)` of windows, each extracted and classified alone."""
    extractor = ASTFeatureExtractor.from_pretrained(folder)
    model = ASTForAudioClassification.from_pretrained(folder).eval()
    rows = []
    for start in starts:
        clip = samples[start : start + length]
        values = extractor(clip, RATE, "pt", max_length=frames)["input_values"]
        with torch.no_grad():
            rows.append(model(values).logits.softmax(-1)[0].numpy())
    return np.array(rows)


def assert_scores(entries: list[dict[str, Any]], expected: np.ndarray, tolerance: float = 1e-5) -> None:
    scores = by_label(entries)
    assert [scores[label] for label in ("cat", "dog", "owl")] == pytest.approx(
        expected.tolist(), abs=tolerance
    )


#: Windows of 4.3 s (68,800 samples) by hand: seven of a 10,480-sample window, the last one aligned to the end.
STARTS = [0, 10_480, 20_960, 31_440, 41_920, 52_400, 58_320]


def test_default_is_the_mean_of_windows_that_cover_all(
    classify: Any, recording: Any, checkpoint: Path
) -> None:
    expected = by_hand(checkpoint, recording, STARTS, WINDOW, 64)
    assert np.ptp(expected, axis=0).max() > 0.01
    assert_scores(classify(recording, sampling_rate=RATE), expected.mean(axis=0))
    assert_scores(classify(recording, sampling_rate=RATE, aggregate="max"), expected.max(axis=0))


def test_each_window_is_returned(classify: Any, recording: Any, checkpoint: Path) -> None:
    windows = classify(recording, sampling_rate=RATE, aggregate="none", hop_seconds=0.5)
    assert [window["start"] for window in windows] == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 3.645]
    assert {round(window["end"] - window["start"], 6) for window in windows} == {0.655}
    starts = [round(window["start"] * RATE) for window in windows]
    for window, row in zip(windows, by_hand(checkpoint, recording, starts, WINDOW, 64), strict=True):
        assert_scores(window["scores"], row)
    best = classify(recording, sampling_rate=RATE, aggregate="none", hop_seconds=0.5, top_k=1, threshold=0.0)
    assert [each["scores"] for each in best] == [window["scores"][:1] for window in windows]


def test_shorter_windows_are_not_padded(classify: Any, recording: Any, checkpoint: Path) -> None:
    starts = [*range(0, 64_001, 4_800), 64_000]
    expected = by_hand(checkpoint, recording, sorted(set(starts) - {67_200}), 4_800, 28)
    got = classify(recording, sampling_rate=RATE, window_seconds=0.3)
    assert_scores(got, expected.mean(axis=0))
    padded = by_hand(checkpoint, recording, STARTS, WINDOW, 64).mean(axis=0)
    assert abs(got[0]["score"] - padded.max()) > 1e-3


def test_scores_do_not_depend_on_batches_blocks_or_the_kind_of_source(
    classify: Any, recording: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, recording, RATE, subtype="FLOAT")
    sources = [recording[:9_000], recording, recording[:30_000], recording[20_000:]]
    expected = [by_label(classify(source, sampling_rate=RATE)) for source in sources]
    for batch in (1, 3, 16):
        answers = classify(sources, sampling_rate=RATE, batch_size=batch)
        for answer, wanted in zip(answers, expected, strict=True):
            assert by_label(answer) == pytest.approx(wanted, abs=1e-5)
    for block in (1_000, 10_480, 11_111):
        monkeypatch.setattr("ast_hf.audio._STREAMED_BLOCK", block)
        for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
            assert by_label(classify(source)) == pytest.approx(expected[1], abs=1e-6)


def test_workers_read_short_clips_and_leave_long_ones(classify: Any, recording: Any, tmp_path: Path) -> None:
    paths = []
    for number, length in enumerate((5_000, 68_800, 10_480, 10_700)):
        paths.append(str(tmp_path / f"{number}.wav"))
        soundfile.write(paths[-1], recording[:length], RATE, subtype="FLOAT")
    expected = [classify(path) for path in paths]
    assert classify(paths, num_workers=2, batch_size=3) == [
        [{"score": pytest.approx(entry["score"], abs=1e-5), "label": entry["label"]} for entry in each]
        for each in expected
    ]


@pytest.mark.parametrize(
    ("kind", "rate"),
    [("flac", 8_000), ("flac", 16_000), ("flac", 44_100), ("mp3", 16_000), ("ogg", 16_000)]
    + [(kind, 16_000) for kind in ("wav", "rf64", "w64", "aiff", "au")],
)
def test_cut_file_keeps_all_but_the_last_seconds(
    kind: str, rate: int, classify: Any, recording: Any, tmp_path: Path
) -> None:
    path = tmp_path / f"cut.{kind}"
    soundfile.write(path, soxr.resample(np.tile(recording, 5), RATE, rate), rate, format=kind.upper())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(AstHfWarning, match=r"W217.*E202"):
        windows = classify(path, aggregate="none")
    assert 5.0 < windows[-1]["end"] < 13.0  # of about 10.75 s
    with pytest.raises(AstHfError, match="E202"):
        load_audio(path)


@pytest.mark.parametrize("length", [400, 5_000, WINDOW - 1, WINDOW, WINDOW + 159])
def test_clip_no_longer_than_the_window_is_the_clip_of_before(
    length: int, classify: Any, recording: Any, checkpoint: Path
) -> None:
    clip = recording[:length]
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstHfWarning)
        answer = classify(clip, sampling_rate=RATE)
        assert classify(clip, sampling_rate=RATE, aggregate="max") == answer
    assert_scores(answer, by_hand(checkpoint, clip, [0], length, 64)[0], 1e-7)
    assert len(classify(clip, sampling_rate=RATE, aggregate="none")) == 1


def test_one_sample_more_is_a_second_window(classify: Any, recording: Any, checkpoint: Path) -> None:
    expected = by_hand(checkpoint, recording, [0, 160], WINDOW, 64).mean(axis=0)
    assert_scores(classify(recording[: WINDOW + 160], sampling_rate=RATE), expected)


def test_length_is_kept_for_data_sets_and_lists(classify: Any, recording: Any) -> None:
    class Clips(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            return {"array": recording[: 20_000 * (index + 1)], "sampling_rate": RATE}

    results = classify(Clips())
    assert len(results) == 3
    assert len(list(results)) == 3

    def stream() -> Iterator[Any]:
        for index in range(3):
            yield {"array": recording[: 20_000 * (index + 1)], "sampling_rate": RATE}

    assert list(classify(stream(), batch_size=2)) == [
        [{**entry, "score": pytest.approx(entry["score"], abs=1e-5)} for entry in each] for each in results
    ]


def test_recording_that_becomes_unreadable_keeps_what_was_before(
    classify: Any, recording: Any, tmp_path: Path
) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, np.tile(recording, 10), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(AstHfWarning, match=r"W217.*cut\.flac.*only its first [12]\d\.\d s.*E202"):
        entries = classify(path)
    assert sum(entry["score"] for entry in entries) == pytest.approx(1.0, abs=1e-5)


def test_nan_in_a_later_block_keeps_what_was_before(
    classify: Any, recording: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ast_hf.audio._STREAMED_BLOCK", 8_000)
    hole = recording.copy()
    hole[60_000] = np.nan
    soundfile.write(tmp_path / "hole.wav", hole, RATE, subtype="FLOAT")
    with pytest.warns(AstHfWarning, match=r"W217.*hole\.wav.*first 3\.5 s.*E104"):
        partly = classify(tmp_path / "hole.wav")
    assert by_label(partly) == pytest.approx(
        by_label(classify(recording[:56_000], sampling_rate=RATE)), abs=1e-6
    )


#: id -> arguments, code, text of the message.
BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("hop-0", {"hop_seconds": 0}, "E108", "hop_seconds"),
    ("hop-negative", {"hop_seconds": -1.0}, "E108", "hop_seconds"),
    ("hop-nan", {"hop_seconds": float("nan")}, "E108", "hop_seconds"),
    ("hop-text", {"hop_seconds": "1"}, "E108", "hop_seconds"),
    ("hop-bool", {"hop_seconds": True}, "E108", "hop_seconds"),
    ("hop-tiny", {"hop_seconds": 1e-6}, "E108", "hop_seconds"),
    ("hop-above-window", {"hop_seconds": 0.7}, "E108", "hop_seconds"),
    ("hop-above-chosen-window", {"window_seconds": 0.3, "hop_seconds": 0.31}, "E108", "hop_seconds"),
    ("window-0", {"window_seconds": 0.0}, "E108", "window_seconds"),
    ("window-inf", {"window_seconds": float("inf")}, "E108", "window_seconds"),
    ("window-above-model", {"window_seconds": 2.0}, "E108", "window_seconds"),
    ("window-below-patch", {"window_seconds": 0.1}, "E108", "window_seconds"),
    ("window-above-clip", {"window_seconds": 0.64}, "E103", "window_seconds"),
    ("aggregate", {"aggregate": "median"}, "E108", "aggregate"),
    ("aggregate-misspelt", {"agregate": "max"}, "E108", "did you mean 'aggregate'"),
    ("timestamps-word", {"return_timestamps": "word"}, "E108", "return_timestamps"),
    ("both", {"return_timestamps": True, "aggregate": "max"}, "E108", "aggregate"),
    ("rule-without-timeline", {"min_seconds": 1.0}, "E108", "return_timestamps=True"),
    ("crossed", {"return_timestamps": True, "threshold": 0.3, "low_threshold": 0.4}, "E108", "low_threshold"),
    ("logits", {"return_timestamps": True, "function_to_apply": "none"}, "E108", "return_timestamps"),
    ("labels", {"return_timestamps": True, "threshold": {"cat": 0.5}}, "E108", "'dog'"),
    ("unfitted", {"return_timestamps": True, "threshold": "fitted"}, "E108", "threshold"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_argument_is_refused(
    arguments: dict, code: str, text: str, classify: Any, recording: Any
) -> None:
    with pytest.raises(AstInputError) as caught:
        classify(recording[:9_000], sampling_rate=RATE, **arguments)
    assert caught.value.code == code
    assert text in str(caught.value)


def test_arguments_of_the_constructor_are_those_of_a_call(checkpoint: Path, recording: Any) -> None:
    made = pipeline("audio-classification", model=str(checkpoint), hop_seconds=0.5, aggregate="none")
    assert len(made(recording, sampling_rate=RATE)) == 9
    assert len(made(recording, sampling_rate=RATE, hop_seconds=0.65)) == 7
    assert len(made(recording, sampling_rate=RATE, aggregate="mean")) == 3


def test_subclass_with_its_own_preprocess_has_one_window(checkpoint: Path, recording: Any) -> None:
    class Own(ASTAudioClassificationPipeline):
        def preprocess(self, inputs: Any, sampling_rate: int | None = None) -> Any:
            return self.feature_extractor(inputs[:5_000], RATE, "pt")

    plain = pipeline("audio-classification", model=str(checkpoint))
    own = Own(model=plain.model, feature_extractor=plain.feature_extractor)
    assert own(recording) == plain(recording[:5_000], sampling_rate=RATE)


def test_windows_are_scored_while_the_recording_is_read(classify: Any, recording: Any) -> None:
    scored = classify.scored_windows(
        {"array": recording, "sampling_rate": RATE}, hop_seconds=0.5, batch_size=1
    )
    first = next(scored)
    assert (first.start, first.length, first.scores.shape) == (0, WINDOW, (3,))
    assert [each.start for each in scored] == [8_000, 16_000, 24_000, 32_000, 40_000, 48_000, 56_000, 58_320]


def test_chosen_window_that_is_the_models_takes_clips_of_that_length(classify: Any, recording: Any) -> None:
    clip = recording[:10_240]  # 0.64 s are 64 steps of 10 ms, and 64 frames last 0.655 s
    expected = classify(clip, sampling_rate=RATE)
    assert classify(clip, sampling_rate=RATE, window_seconds=0.64) == expected


@pytest.mark.parametrize(
    "per_label", [np.array([0.2, 0.3, 0.4]), torch.tensor([0.2, 0.3, 0.4]), (0.2, 0.3, 0.4)]
)
def test_numbers_of_numpy_and_torch_are_numbers(classify: Any, recording: Any, per_label: Any) -> None:
    source = {"array": recording, "sampling_rate": RATE}
    expected = classify(source, return_timestamps=True, threshold=[0.2, 0.3, 0.4], hop_seconds=0.25)
    arguments = {"return_timestamps": np.True_, "hop_seconds": np.float32(0.25)}
    assert expected
    assert classify(source, threshold=per_label, **arguments) == expected
    assert classify(source, threshold=np.float32(0.25)) == classify(source, threshold=0.25)


def test_columns_of_parts_at_the_ends_are_at_their_times(classify: Any, recording: Any) -> None:
    source = {"array": recording, "sampling_rate": RATE}
    arguments = {"return_timestamps": True, "column_weight": 0.5, "hop_seconds": 0.2}
    windows = list(classify.scored_windows(source, **arguments))
    assert [window.length for window in windows[:4]] == [880, 4_080, 7_280, WINDOW]
    for window in (*windows[:4], *windows[-4:]):
        assert -0.2 < window.columns.times[0, 0] <= 0.1
        assert window.length / RATE - 0.1 < window.columns.times[-1, 1] < window.length / RATE + 0.2
        assert len(window.columns.scores) == len(window.columns.times)


def test_timeline_is_a_list_of_events(classify: Any, recording: Any) -> None:
    padded = np.concatenate([np.zeros(24_000, np.float32), recording, np.zeros(24_000, np.float32)])
    events = classify(padded, sampling_rate=RATE, return_timestamps=True, threshold=0.4)
    assert [event.keys() for event in events] == [{"label", "score", "start", "end"}] * len(events)
    (event,) = events
    assert event["label"] == "dog"
    assert event["start"] == pytest.approx(1.5, abs=0.17)  # a hop
    assert event["end"] == pytest.approx(5.8, abs=0.17)
    assert 0.4 <= event["score"] <= 1.0
