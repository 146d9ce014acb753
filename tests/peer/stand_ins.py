"""Replacements of modules that transformers' tests import but its source distribution lacks."""

from __future__ import annotations

import sys
import unittest
from types import ModuleType
from typing import Any

import numpy as np
import pytest


class ExportTesterMixin:
    """Mixin without tests: exporting is tested in tests/test_drop_in.py."""


class GenerationTesterMixin:
    """Mixin without tests: AST generates nothing."""


#: Fields of every configuration, with other values than the defaults.
config_common_kwargs = {
    "architectures": ["NamedByNobody"],
    "chunk_size_feed_forward": 3,
    "dtype": "float16",
    "id2label": {0: "hum", 1: "click", 2: "hiss"},
    "is_encoder_decoder": True,
    "label2id": {"hum": 0, "click": 1, "hiss": 2},
    "output_attentions": True,
    "output_hidden_states": True,
    "problem_type": "regression",
    "return_dict": False,
}


class AudioClassificationPipelineTests(unittest.TestCase):
    """`pipeline("audio-classification")` on arrays: the form of the results, alone and in a batch."""

    def get_test_pipeline(
        self, model: Any, tokenizer: Any = None, feature_extractor: Any = None, **kwargs: Any
    ) -> Any:
        """Return the pipeline under test, and for it two arrays and one with its rate, as `datasets` has it."""
        from transformers import pipeline

        answer = pipeline(
            "audio-classification",
            model=model,
            feature_extractor=feature_extractor,
            dtype=kwargs.get("dtype", "float32"),
        )
        noise = np.random.default_rng(13)
        short, long = (noise.uniform(-0.5, 0.5, length).astype(np.float32) for length in (4_000, 20_000))
        rate = feature_extractor.sampling_rate
        return answer, [short, long, {"raw": short, "sampling_rate": rate}]

    def run_pipeline_test(self, pipeline: Any, examples: list[Any]) -> None:
        """Check the results for each example alone, to all of them as a list, and in batches."""
        labels = set(pipeline.model.config.id2label.values())
        alone = [pipeline(example) for example in examples]
        for answer in alone:
            self._check(answer, labels, count=min(5, len(labels)))
        self._same(alone[0], alone[2])
        assert [entry["score"] for entry in alone[0]] != [entry["score"] for entry in alone[1]]
        for answers in (pipeline(examples), pipeline(examples, batch_size=2)):
            assert len(answers) == len(examples)
            for answer, expected in zip(answers, alone, strict=True):
                self._same(answer, expected)
        best = pipeline(examples[1], top_k=1)
        self._check(best, labels, count=1)
        assert best[0]["label"] == alone[1][0]["label"]
        every = pipeline(examples[1], top_k=None)
        assert {entry["label"] for entry in every} == labels
        logits = pipeline(examples[1], function_to_apply="none")
        odds = np.exp([entry["score"] for entry in logits])
        softmax = [entry["score"] for entry in pipeline(examples[1], function_to_apply="softmax")]
        np.testing.assert_allclose(softmax, odds / odds.sum(), atol=2e-3)
        with pytest.raises(ValueError, match="sampling"):
            pipeline({"raw": examples[0]})

    def _check(self, answer: list[dict[str, Any]], labels: set[str], count: int) -> None:
        assert len(answer) == count
        for entry in answer:
            assert set(entry) == {"score", "label"}
            assert isinstance(entry["score"], float)
            assert entry["label"] in labels
        scores = [entry["score"] for entry in answer]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)

    def _same(self, answer: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
        assert len(answer) == len(expected)
        scores = {entry["label"]: entry["score"] for entry in expected}
        for entry in answer:
            assert abs(entry["score"] - scores[entry["label"]]) <= 2e-3


_MODULES: dict[str, dict[str, Any]] = {
    "tests.exporters.test_export": {"ExportTesterMixin": ExportTesterMixin},
    "tests.generation.test_utils": {"GenerationTesterMixin": GenerationTesterMixin},
    "tests.utils.test_configuration_utils": {"config_common_kwargs": config_common_kwargs},
    "tests.pipelines.test_pipelines_audio_classification": {
        "AudioClassificationPipelineTests": AudioClassificationPipelineTests
    },
}


for _name, _members in _MODULES.items():
    _package = _name.rpartition(".")[0]
    sys.modules.setdefault(_package, ModuleType(_package))
    sys.modules[_name] = ModuleType(_name)
    vars(sys.modules[_name]).update(_members)
