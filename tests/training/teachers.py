"""Teachers for distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conftest import TINY, randomise

from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

LABELS = ["noise", "tone"]


def names(labels: list[str]) -> dict[str, Any]:
    """Return the label maps of a config."""
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: index for index, name in enumerate(labels)},
    }


def ast_teacher(folder: Path, labels: list[str] = LABELS, max_length: int = 64, **fields: Any) -> str:
    """Save a wider model with other features, and logits that differ between clips."""
    sizes = {**TINY, "hidden_size": 36, "num_mel_bins": 40, "max_length": max_length}
    randomise(ASTForAudioClassification(ASTConfig(**sizes, **names(labels), **fields))).save_pretrained(
        folder
    )
    ASTFeatureExtractor(num_mel_bins=40, max_length=max_length, mean=-7.0, std=2.0).save_pretrained(folder)
    return str(folder)
