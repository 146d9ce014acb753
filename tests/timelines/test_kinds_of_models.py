"""Edges of events by kind of model: a softmax that changes at half a window, a sigmoid that fires at any touch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from torch import nn

from ast_hf import ASTAudioClassificationPipeline, ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

RATE = 16_000
LABELS = {0: "noise", 1: "tone"}


class Loudness(nn.Module):
    """Model whose logits follow the share of a window's frames that are loud."""

    def __init__(self, model: ASTForAudioClassification, half: float) -> None:
        super().__init__()
        self.half = half
        self.model = model

    def forward(self, input_values: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        share = (input_values.amax(dim=-1) > 0.35).float().mean(dim=1)
        return {"logits": torch.stack([(self.half - share) * 30, (share - self.half) * 30], dim=1)}


def pipe(kind: str, half: float) -> ASTAudioClassificationPipeline:
    """Return a pipeline of 1-s windows whose model fires if a share of more than `half` of a window is loud."""
    config = ASTConfig(
        **{**TINY, "max_length": 98}, id2label=LABELS, problem_type=f"{kind}_label_classification"
    )
    model = ASTForAudioClassification(config)
    loudness = Loudness(model, half)
    model.forward = loudness.forward
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=98)
    return ASTAudioClassificationPipeline(model=model, feature_extractor=extractor)


def recording(start: float, end: float, seconds: float = 8.0) -> np.ndarray:
    samples = 0.001 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    first, last = round(start * RATE), round(end * RATE)
    samples[first:last] += 0.3 * np.sin(2 * np.pi * 1_000 * np.arange(last - first) / RATE)
    return samples.astype(np.float32)


@pytest.mark.parametrize(("kind", "half"), [("single", 0.5), ("single", 0.4), ("multi", 0.1)])
@pytest.mark.parametrize("hop", [0.25, 0.125])
@pytest.mark.parametrize("burst", [(3.2, 4.1), (2.73, 3.63), (1.6, 3.1), (2.0, 5.5)])
def test_a_burst_is_found_once_with_edges_within_a_hop(
    kind: str, half: float, hop: float, burst: tuple[float, float]
) -> None:
    events = pipe(kind, half)(recording(*burst), sampling_rate=RATE, return_timestamps=True, hop_seconds=hop)
    (event,) = [event for event in events if event["label"] == "tone"]
    assert abs(event["start"] - burst[0]) <= hop
    assert abs(event["end"] - burst[1]) <= hop
