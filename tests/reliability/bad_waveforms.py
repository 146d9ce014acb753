"""Table A: waveforms and calls of the feature extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .cases import Case


def _ours(waveform: Any) -> Any:
    from ast_hf import ASTFeatureExtractor

    return ASTFeatureExtractor()(waveform, sampling_rate=16_000, return_tensors="np")["input_values"]


def _stock(waveform: Any) -> Any:
    from transformers.models.audio_spectrogram_transformer import (
        feature_extraction_audio_spectrogram_transformer,
    )

    extractor = feature_extraction_audio_spectrogram_transformer.ASTFeatureExtractor()
    return extractor(waveform, sampling_rate=16_000, return_tensors="np")["input_values"]


def _empty(folder: Path) -> np.ndarray:
    return np.zeros(0, np.float32)


CASES = [Case("A1", "empty array", _empty, _ours, "E101", _stock)]
