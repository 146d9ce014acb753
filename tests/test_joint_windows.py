"""Windows whose features a GPU computes together, here on the CPU: against window by window, and their operators."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from operators import Operators
from transformers import pipeline

from ast_hf import (
    ASTAudioClassificationPipeline,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    feature_extraction_ast,
    window_features,
)
from ast_hf.errors import AstHfError
from ast_hf.timelines.windows import Window, plan_windows
from ast_hf.window_features import WindowSamples, is_joint, stacked_features, window_samples

RATE = 16_000


@pytest.fixture(scope="module")
def classify(lively_checkpoint: Path) -> ASTAudioClassificationPipeline:
    return pipeline("audio-classification", model=str(lively_checkpoint))


def rising(seconds: float, seed: int = 0) -> dict[str, Any]:
    """Return a recording in which the pitch rises."""
    time = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).standard_normal(len(time))
    array = (0.3 * np.sin(2 * np.pi * (300 + 400 * time) * time) + 0.02 * noise).astype(np.float32)
    return {"array": array, "sampling_rate": RATE}


@pytest.fixture
def joint(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that treats the CPU as a GPU from then on."""

    def start() -> None:
        for module in (window_features, feature_extraction_ast):
            monkeypatch.setattr(module, "is_batched", lambda device: True)

    return start


def approximately(results: Any) -> Any:
    """Return results in which numbers may differ by 1e-4."""
    if isinstance(results, list):
        return [approximately(each) for each in results]
    if isinstance(results, dict):
        return {name: approximately(value) for name, value in results.items()}
    return pytest.approx(results, abs=1e-4) if isinstance(results, float) else results


def by_name(results: Any) -> Any:
    """Return results with labels in order of their names: close scores may change places."""
    if isinstance(results, list):
        parts = [by_name(each) for each in results]
        return sorted(parts, key=lambda each: each["label"]) if _is_scores(parts) else parts
    if isinstance(results, dict):
        return {name: by_name(value) for name, value in results.items()}
    return results


def _is_scores(parts: list[Any]) -> bool:
    return all(isinstance(each, dict) and each.keys() == {"label", "score"} for each in parts)


OPTIONS: dict[str, dict[str, Any]] = {
    "mean": {},
    "windows": {"aggregate": "none", "hop_seconds": 0.25},
    "short windows": {"window_seconds": 0.3, "aggregate": "none"},
    "timeline": {"return_timestamps": True, "threshold": 0.4},
    "columns": {"return_timestamps": True, "threshold": 0.4, "column_weight": 0.5},
}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", OPTIONS)
def test_results_are_those_of_window_by_window(
    name: str, workers: int, classify: Any, joint: Callable[[], None]
) -> None:
    inputs = [rising(0.5), rising(2.3, 1), rising(0.4, 2), rising(1.4, 3)]
    expected = classify(inputs, batch_size=3, **OPTIONS[name])
    joint()
    for size in (1, 3, 64):
        found = classify(inputs, batch_size=size, num_workers=workers, **OPTIONS[name])
        assert by_name(found) == approximately(by_name(expected))


def test_masks_and_subclasses_of_the_extractor_agree_too(
    lively_checkpoint: Path, joint: Callable[[], None]
) -> None:
    class Doubled(ASTFeatureExtractor):
        def normalize(self, input_values: Any) -> Any:
            return 2 * super().normalize(input_values)

    class Called(ASTFeatureExtractor):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    model = ASTForAudioClassification.from_pretrained(lively_checkpoint)
    inputs = [rising(0.5), rising(2.3, 1)]
    pipes = [
        ASTAudioClassificationPipeline(
            model=model, feature_extractor=kind.from_pretrained(lively_checkpoint, **fields)
        )
        for kind, fields in (
            (ASTFeatureExtractor, {"return_attention_mask": True}),
            (Doubled, {}),
            (Called, {}),
        )
    ]
    expected = [pipe(inputs, batch_size=4) for pipe in pipes]
    joint()
    for pipe, scores in zip(pipes, expected, strict=True):
        assert by_name(pipe(inputs, batch_size=4)) == approximately(by_name(scores))
    assert [is_joint(pipe.feature_extractor, pipe.device) for pipe in pipes] == [True, True, False]


def test_a_subclass_with_its_own_preprocess_reads_its_inputs(
    lively_checkpoint: Path, joint: Callable[[], None]
) -> None:
    class Own(ASTAudioClassificationPipeline):
        def preprocess(self, inputs: Any, sampling_rate: int | None = None) -> Any:
            return self.feature_extractor(inputs["array"][:5_000], RATE, "pt")

    plain = pipeline("audio-classification", model=str(lively_checkpoint))
    own = Own(model=plain.model, feature_extractor=plain.feature_extractor)
    expected = own([rising(1.0), rising(1.0, 1)], batch_size=2)
    joint()
    assert by_name(own([rising(1.0), rising(1.0, 1)], batch_size=2)) == approximately(by_name(expected))


def outcome(classify: Any, inputs: Any, **options: Any) -> tuple[list[str], str]:
    """Return the warnings of a call, and its error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            classify(inputs, **options)
            problem = ""
        except AstHfError as error:
            problem = str(error)
    return [str(warning.message) for warning in caught], problem


def test_errors_and_warnings_are_those_of_window_by_window(
    classify: Any, joint: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They name recording and start, and the first one is raised, also if a later one of its batch is worse."""
    monkeypatch.setattr("ast_hf.audio._STREAMED_BLOCK", 8_000)
    infinite, late, short, loud, silent = (rising(2.3, seed) for seed in range(5))
    infinite["array"][3_000] = np.inf
    late["array"][30_000] = 1e15
    short["array"] = short["array"][:100]
    loud["array"] *= 100
    silent["array"] = np.zeros(9_000, np.float32)
    part = {
        "array": np.concatenate([np.zeros(20_000, np.float32), loud["array"][:20_000] / 100]),
        **{"sampling_rate": RATE},
    }
    cases = [
        [rising(2.0), infinite, short],
        [rising(2.0), late, infinite],
        [short],
        [rising(0.5), short, infinite],
        [loud, silent, part],
        [silent, rising(1.0), silent],
    ]
    expected = [outcome(classify, case, batch_size=64) for case in cases]
    assert [bool(problem) for _, problem in expected] == [True, True, True, True, False, False]
    assert ["W202" in "".join(found) for found, _ in expected] == [False, False, False, False, True, False]
    assert ["".join(found).count("W203") for found, _ in expected][4:] == [1, 2]
    joint()
    for size in (1, 64):
        assert [outcome(classify, case, batch_size=size) for case in cases] == expected


def test_a_batch_of_windows_takes_the_operators_of_one(joint: Callable[[], None]) -> None:
    extractor = ASTFeatureExtractor()
    plan = plan_windows(extractor.max_length, RATE)
    joint()
    array = rising(12.0)["array"]
    windows = [
        window_samples(extractor, Window(start, array[start : start + plan.samples]), plan, "x")
        for start in range(0, 8_000, 1_000)
    ]
    counts = []
    stacked_features(windows[:1], extractor, torch.device("cpu"))  # makes the filters
    for count in (1, 8):
        with Operators() as operators:
            values = stacked_features(windows[:count], extractor, torch.device("cpu"))["input_values"]
        assert values.shape == (count, 1024, 128)
        assert not [name for name in operators.counts if "_local_scalar_dense" in name]
        counts.append(sum(operators.counts.values()))
    assert counts[1] <= counts[0] + 4
    assert counts[1] <= 30


def test_samples_of_a_window_are_a_copy() -> None:
    """A decoder may use its block again before the features are computed."""
    extractor = ASTFeatureExtractor()
    plan = plan_windows(extractor.max_length, RATE)
    array = rising(1.0)["array"]
    window = window_samples(extractor, Window(0, array, is_last=True), plan, "x")
    assert isinstance(window, WindowSamples)
    before = window.samples.clone()
    array[:] = 0.0
    assert torch.equal(window.samples, before)


def test_embeddings_are_those_of_window_by_window(lively_checkpoint: Path, joint: Callable[[], None]) -> None:
    model = ASTForAudioClassification.from_pretrained(lively_checkpoint)
    extractor = ASTFeatureExtractor.from_pretrained(lively_checkpoint)
    expected = model.get_audio_embedding(rising(2.3), feature_extractor=extractor, batch_size=3)
    joint()
    found = model.get_audio_embedding(rising(2.3), feature_extractor=extractor, batch_size=3)
    for name in ("embedding", "windows", "columns"):
        assert torch.allclose(found[name], expected[name], atol=1e-3)
