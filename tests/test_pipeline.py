"""`pipeline("audio-classification")`: every kind of input, scores computed by hand from extractor and model, errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile
import soxr
import torch
from datasets import Audio, Dataset
from operators import note_passes
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from ast_hf import (
    ASTAudioClassificationPipeline,
    AstDataError,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AstHfError,
    AstInputError,
    feature_extraction_ast,
    window_features,
)

RATE = 16_000
LABELS = {"cat", "dog", "owl"}

#: file name -> soundfile's subtype, and tolerance of the scores against those of the samples.
FORMATS = {
    "clip.wav": ("PCM_16", 2e-3),
    "clip24.wav": ("PCM_24", 1e-4),
    "float.wav": ("FLOAT", 1e-6),
    "clip.flac": ("PCM_24", 1e-4),
    "clip.aiff": ("PCM_24", 1e-4),
    "clip.ogg": ("VORBIS", 0.05),
    "clip.mp3": ("MPEG_LAYER_III", 0.05),
}

Scores = list[dict[str, Any]]


@pytest.fixture(scope="module")
def checkpoint(lively_checkpoint: Path) -> Path:
    return lively_checkpoint


@pytest.fixture(scope="module")
def classify(checkpoint: Path) -> ASTAudioClassificationPipeline:
    return pipeline("audio-classification", model=str(checkpoint))


@pytest.fixture
def clip(tone: np.ndarray) -> np.ndarray:
    """Return 0.6 s of the tone: shorter than the model's 64 frames, so that nothing is cut."""
    return tone[:9_600]


def by_label(scores: Scores) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in scores}


def assert_same(scores: Scores, expected: Scores, tolerance: float = 1e-6) -> None:
    left, right = by_label(scores), by_label(expected)
    assert left.keys() == right.keys() == LABELS
    assert max(abs(left[label] - right[label]) for label in left) <= tolerance


def by_hand(
    folder: Path, waveform: np.ndarray, activation: Callable = lambda logits: logits.softmax(-1)
) -> dict:
    extractor = ASTFeatureExtractor.from_pretrained(folder)
    model = ASTForAudioClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        scores = activation(model(**extractor(waveform, sampling_rate=RATE, return_tensors="pt")).logits)[0]
    return {model.config.id2label[index]: score for index, score in enumerate(scores.tolist())}


def test_scores_are_those_of_extractor_and_model(classify: Any, clip: np.ndarray, checkpoint: Path) -> None:
    assert type(classify) is ASTAudioClassificationPipeline
    scores = classify(clip, sampling_rate=RATE)
    assert by_label(scores) == pytest.approx(by_hand(checkpoint, clip), abs=1e-6)
    assert [entry["score"] for entry in scores] == sorted((entry["score"] for entry in scores), reverse=True)
    assert sum(entry["score"] for entry in scores) == pytest.approx(1.0, abs=1e-5)
    assert max(entry["score"] for entry in scores) - min(entry["score"] for entry in scores) > 0.01


@pytest.mark.parametrize("name", FORMATS)
def test_audio_files_give_the_scores_of_their_samples(
    name: str, classify: Any, clip: np.ndarray, tmp_path: Path
) -> None:
    subtype, tolerance = FORMATS[name]
    soundfile.write(tmp_path / name, clip, RATE, subtype=subtype)
    assert_same(classify(str(tmp_path / name)), classify(clip, sampling_rate=RATE), tolerance)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates(rate: int, classify: Any, clip: np.ndarray, tmp_path: Path) -> None:
    resampled = soxr.resample(clip, RATE, rate)
    soundfile.write(tmp_path / "clip.wav", resampled, rate, subtype="FLOAT")
    there_and_back = soxr.resample(resampled, rate, RATE)
    expected = classify(there_and_back, sampling_rate=RATE)
    assert_same(classify(tmp_path / "clip.wav"), expected, 1e-3)
    assert_same(classify(resampled, sampling_rate=rate), expected, 1e-3)


def test_every_kind_of_input_gives_the_same_scores(classify: Any, clip: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, clip, RATE, subtype="FLOAT")
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, np.stack([1.5 * clip, 0.5 * clip], axis=1), RATE, subtype="FLOAT")
    expected = classify(clip, sampling_rate=RATE)
    kinds = {
        "str": str(path),
        "Path": path,
        "bytes": path.read_bytes(),
        "stereo": stereo,
        "array dict": {"array": clip, "sampling_rate": RATE},
        "raw dict": {"raw": clip, "sampling_rate": RATE},
        "path dict": {"path": str(path), "bytes": None},
        "bytes dict": {"path": "clip.wav", "bytes": path.read_bytes()},
        "float64": {"array": clip.astype(np.float64), "sampling_rate": RATE},
        "tensor": {"array": torch.from_numpy(clip), "sampling_rate": RATE},
        "channels": {"array": np.stack([clip, clip]), "sampling_rate": RATE},
    }
    for kind, source in kinds.items():
        keys = list(source) if isinstance(source, dict) else None
        assert_same(classify(source), expected)
        assert keys is None or list(cast(dict, source)) == keys, kind


def test_lists_generators_and_batches(classify: Any, tone: np.ndarray) -> None:
    clips = [tone[:length] for length in (9_600, 8_000, 6_400, 4_800, 3_200)]
    single = [classify(clip, sampling_rate=RATE) for clip in clips]
    assert not np.allclose(single[0][0]["score"], single[4][0]["score"], atol=1e-4)

    def stream() -> Iterator[dict[str, Any]]:
        yield from ({"array": clip, "sampling_rate": RATE} for clip in clips)

    for answers in (
        classify(clips, sampling_rate=RATE),
        classify(clips, sampling_rate=RATE, batch_size=2),
        classify(list(stream()), batch_size=5),
        list(classify(stream())),
        list(classify(stream(), batch_size=3)),
    ):
        assert len(answers) == 5
        for answer, expected in zip(answers, single, strict=True):
            assert_same(answer, expected)


def test_on_a_gpu_the_features_of_a_batch_are_computed_there_at_once(
    classify: Any, tone: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [{"array": tone[start : start + 9_000], "sampling_rate": RATE} for start in (0, 2_000, 5_000)]
    expected = classify(clips)
    batches = note_passes(monkeypatch)
    for module in (window_features, feature_extraction_ast):
        monkeypatch.setattr(module, "is_batched", lambda device: True)
    for workers in (0, 1):  # a reader only reads
        batches.clear()
        answers = classify(clips, batch_size=2, num_workers=workers)
        for scores, others in zip(answers, expected, strict=True):
            assert_same(scores, others, tolerance=1e-4)
        assert batches == [2, 1]


def test_short_clips_are_not_padded_where_padding_is_masked(tone: np.ndarray, checkpoint: Path) -> None:
    model = ASTForAudioClassification.from_pretrained(checkpoint)
    extractor = ASTFeatureExtractor.from_pretrained(checkpoint, return_attention_mask=True)
    masked = ASTAudioClassificationPipeline(model=model, feature_extractor=extractor)
    clips = [{"raw": tone[:length], "sampling_rate": 16_000} for length in (400, 4_000, 7_000, 10_480)]
    shapes = []

    def note(_: Any, __: Any, given: dict[str, torch.Tensor]) -> None:
        shapes.append(given["input_values"].shape[1])

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    results = masked(clips, batch_size=2)
    hook.remove()
    assert shapes == [16, 23, 42, 64]
    for scores, given in zip(results, clips, strict=True):
        inputs = extractor(given["raw"], 16_000, return_tensors="pt", truncation=True)
        assert inputs["input_values"].shape[1] == 64
        expected = model(**inputs).logits.softmax(dim=-1)[0]
        for label, score in by_label(scores).items():
            assert score == pytest.approx(float(expected[model.config.label2id[label]]), abs=1e-6)
    timeline = masked(clips[2], return_timestamps=True, threshold=0.2, column_weight=0.5)
    assert all(0.0 <= event["start"] < event["end"] <= 7_000 / 16_000 for event in timeline)


def test_rows_of_datasets_are_accepted(classify: Any, clip: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, clip, RATE, subtype="FLOAT")
    dataset = Dataset.from_dict({"audio": [str(path)] * 3, "n": [0, 1, 2]}).cast_column(
        "audio", Audio(decode=False)
    )
    expected = classify(clip, sampling_rate=RATE)
    for answers in (
        list(classify(KeyDataset(dataset, "audio"), batch_size=2)),
        [classify(row["audio"]) for row in dataset],
        classify(list(dataset["audio"])),
    ):
        assert len(answers) == 3
        for answer in answers:
            assert_same(answer, expected)


def test_top_k(classify: Any, clip: np.ndarray) -> None:
    everything = classify(clip, sampling_rate=RATE, top_k=None)
    assert len(everything) == 3
    for count, length in ((1, 1), (2, 2), (3, 3), (50, 3)):
        assert classify(clip, sampling_rate=RATE, top_k=count) == everything[:length]


ACTIVATIONS: dict[str, Callable] = {
    "softmax": lambda logits: logits.softmax(-1),
    "sigmoid": torch.sigmoid,
    "none": lambda logits: logits,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_function_to_apply(name: str, classify: Any, clip: np.ndarray, checkpoint: Path) -> None:
    scores = classify(clip, sampling_rate=RATE, function_to_apply=name)
    assert by_label(scores) == pytest.approx(by_hand(checkpoint, clip, ACTIVATIONS[name]), abs=1e-6)


@pytest.mark.parametrize(
    ("problem_type", "activation"),
    [
        ("multi_label_classification", "sigmoid"),
        ("single_label_classification", "softmax"),
        ("regression", "none"),
    ],
)
def test_activation_follows_the_problem_type(
    problem_type: str, activation: str, clip: np.ndarray, checkpoint: Path
) -> None:
    classify = pipeline("audio-classification", model=str(checkpoint))
    classify.model.config.problem_type = problem_type
    again = ASTAudioClassificationPipeline(model=classify.model, feature_extractor=classify.feature_extractor)
    expected = by_hand(checkpoint, clip, ACTIVATIONS[activation])
    assert by_label(again(clip, sampling_rate=RATE)) == pytest.approx(expected, abs=1e-6)


def adjusted(checkpoint: Path, kind: str = "multi", **fields: Any) -> ASTAudioClassificationPipeline:
    """Return a pipeline of the checkpoint with other fields in its config."""
    fields["problem_type"] = f"{kind}_label_classification"
    model = ASTForAudioClassification.from_pretrained(checkpoint, **fields)
    extractor = ASTFeatureExtractor.from_pretrained(checkpoint)
    return ASTAudioClassificationPipeline(model=model, feature_extractor=extractor)


@pytest.mark.parametrize(("kind", "name"), [("single", "softmax"), ("multi", "sigmoid")])
def test_temperature_divides_logits(kind: str, name: str, clip: np.ndarray, checkpoint: Path) -> None:
    classify = adjusted(checkpoint, kind, temperature=2.5)
    expected = by_hand(checkpoint, clip, lambda logits: ACTIVATIONS[name](logits / 2.5))
    assert by_label(classify(clip, sampling_rate=RATE)) == pytest.approx(expected, abs=1e-6)
    raw = classify(clip, sampling_rate=RATE, function_to_apply="none")
    assert by_label(raw) == pytest.approx(by_hand(checkpoint, clip, ACTIVATIONS["none"]), abs=1e-5)


def test_threshold_leaves_out_lower_scores(classify: Any, clip: np.ndarray) -> None:
    scores = classify(clip, sampling_rate=RATE)
    assert classify(clip, sampling_rate=RATE, threshold=scores[1]["score"]) == scores[:2]  # at least
    assert classify(clip, sampling_rate=RATE, threshold=scores[1]["score"] + 1e-6) == scores[:1]
    assert classify(clip, sampling_rate=RATE, threshold=scores[1]["score"], top_k=1) == scores[:1]
    assert classify(clip, sampling_rate=RATE, threshold=1) == []
    assert classify(clip, sampling_rate=RATE, threshold=0.0) == scores
    assert classify([clip, clip], sampling_rate=RATE, threshold=1.0, batch_size=2) == [[], []]


def test_fitted_thresholds_apply_per_label(clip: np.ndarray, checkpoint: Path) -> None:
    scores = by_hand(checkpoint, clip, lambda logits: torch.sigmoid(logits / 2.0))
    cat, dog, owl = (scores[name] for name in ("cat", "dog", "owl"))
    fitted: dict[str, Any] = {"thresholds": [cat + 1e-4, dog - 1e-4, owl - 1e-4], "temperature": 2.0}
    answer = adjusted(checkpoint, **fitted)(clip, sampling_rate=RATE, threshold="fitted")
    assert by_label(answer) == pytest.approx({"dog": dog, "owl": owl}, abs=1e-6)
    assert len(adjusted(checkpoint, **fitted)(clip, sampling_rate=RATE)) == 3
    with pytest.raises(AstInputError, match=r"E108.*softmax"):
        adjusted(checkpoint, **fitted)(
            clip, sampling_rate=RATE, threshold="fitted", function_to_apply="softmax"
        )


def test_thresholds_that_were_never_fitted_are_refused(clip: np.ndarray, checkpoint: Path) -> None:
    with pytest.raises(AstInputError, match=r"E108.*none are stored.*--fit-on"):
        adjusted(checkpoint)(clip, sampling_rate=RATE, threshold="fitted")


def test_half_precision_model(clip: np.ndarray, checkpoint: Path, classify: Any) -> None:
    half = pipeline("audio-classification", model=str(checkpoint), dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16
    assert_same(half(clip, sampling_rate=RATE), classify(clip, sampling_rate=RATE), 0.05)


def text_file(folder: Path) -> Path:
    path = folder / "notes.wav"
    path.write_text("not audio at all, but long enough to look like something" * 10)
    return path


def cut_file(folder: Path) -> Path:
    path = folder / "cut.wav"
    soundfile.write(path, np.zeros(8_000), RATE)
    path.write_bytes(path.read_bytes()[:-9_000])
    return path


def short_file(folder: Path) -> Path:
    path = folder / "short.wav"
    soundfile.write(path, np.full(200, 0.1), RATE)
    return path


#: id -> input (made in a folder), keyword arguments, class, code, text of the message.
BAD_CALLS: list[tuple[str, Callable[[Path], Any], dict[str, Any], type, str, str]] = [
    ("text", text_file, {}, AstDataError, "E201", "notes.wav"),
    ("cut", cut_file, {}, AstDataError, "E202", "cut.wav"),
    ("too-short", short_file, {}, AstInputError, "E103", "short.wav"),
    (
        "too-short-dict",
        lambda f: {"path": str(short_file(f)), "bytes": None},
        {},
        AstInputError,
        "E103",
        "short.wav",
    ),
    ("missing", lambda folder: folder / "none.wav", {}, AstDataError, "E206", "none.wav"),
    ("folder", lambda folder: folder, {}, AstDataError, "E206", "directory"),
    ("in-a-list", lambda f: [short_file(f).parent / "none.wav"], {}, AstDataError, "E206", "none.wav"),
    (
        "url",
        lambda folder: "https://example.com/a.wav",
        {},
        AstInputError,
        "E703",
        "https://example.com/a.wav",
    ),
    (
        "dict-without-rate",
        lambda folder: {"array": np.zeros(9_600)},
        {},
        AstInputError,
        "E107",
        "sampling_rate",
    ),
    ("dict-without-audio", lambda folder: {"label": 1}, {}, AstInputError, "E102", "label"),
    (
        "nan",
        lambda f: {"array": np.full(9_600, np.nan), "sampling_rate": RATE},
        {},
        AstInputError,
        "E104",
        "NaN",
    ),
    (
        "empty-array",
        lambda folder: {"array": np.zeros(0), "sampling_rate": RATE},
        {},
        AstInputError,
        "E101",
        "samples",
    ),
    ("empty-list", lambda folder: [], {}, AstInputError, "E101", "list"),
    ("number", lambda folder: 3, {"sampling_rate": RATE}, AstInputError, "E102", "int"),
    ("none", lambda folder: None, {"sampling_rate": RATE}, AstInputError, "E102", "NoneType"),
    ("unknown-argument", short_file, {"topk": 1}, AstInputError, "E108", "did you mean 'top_k'?"),
    ("top-k-0", short_file, {"top_k": 0}, AstInputError, "E108", "top_k"),
    ("top-k-text", short_file, {"top_k": "2"}, AstInputError, "E108", "top_k"),
    ("threshold-text", short_file, {"threshold": "fited"}, AstInputError, "E108", "'fited'"),
    ("threshold-over-1", short_file, {"threshold": 1.5}, AstInputError, "E108", "1.5"),
    ("threshold-bool", short_file, {"threshold": True}, AstInputError, "E108", "True"),
    ("threshold-nan", short_file, {"threshold": float("nan")}, AstInputError, "E108", "nan"),
    ("threshold-single-label", short_file, {"threshold": "fitted"}, AstInputError, "E108", "single_label"),
    (
        "activation",
        short_file,
        {"function_to_apply": "softmacks"},
        AstInputError,
        "E108",
        "did you mean 'softmax'?",
    ),
]


@pytest.mark.parametrize(
    ("make", "arguments", "kind", "code", "text"),
    [row[1:] for row in BAD_CALLS],
    ids=[row[0] for row in BAD_CALLS],
)
def test_bad_call_is_refused(
    make: Callable, arguments: dict, kind: type, code: str, text: str, classify: Any, tmp_path: Path
) -> None:
    with pytest.raises(AstHfError) as caught:
        classify(make(tmp_path), **arguments)
    message = str(caught.value)
    assert caught.value.code == code, message
    assert isinstance(caught.value, kind)
    assert text in message
    assert "Fix: " in message
    assert len(message.replace(str(tmp_path), "")) <= 300


def test_unknown_argument_is_refused_at_construction_too(checkpoint: Path) -> None:
    with pytest.raises(AstInputError, match=r"E108.*did you mean 'top_k'"):
        pipeline("audio-classification", model=str(checkpoint), topk=1)


@pytest.mark.parametrize("field", ["max_length", "num_mel_bins"])
def test_extractor_that_does_not_fit_is_refused(field: str, checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    file = folder / "preprocessor_config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, field: 48}))
    with pytest.raises(AstInputError, match=rf"E304.*{field}") as caught:
        pipeline("audio-classification", model=str(folder))
    for text in ("48 in preprocessor_config.json", "config.json of", str(content[field]), "Fix: "):
        assert text in str(caught.value)
