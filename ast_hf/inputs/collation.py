"""Batches of model inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..feature_extraction_ast import ASTFeatureExtractor


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: every tensor stacked; what a teacher needs stays a list, as its clips may differ in length."""
    columns = {name: [item[name] for item in items] for name in items[0]}
    return {name: column if name == "teacher" else torch.stack(column) for name, column in columns.items()}


@dataclass(frozen=True)
class Collator:
    """A batch of clips of any lengths: as long as the longest of them, and at least one patch.

    Attributes:
        extractor: padding is raw 0.0 before it normalises.
        patch_size: frames of a patch.
    """

    extractor: ASTFeatureExtractor
    patch_size: int

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Every field stacked; `attention_mask` is 0 on padding."""
        if "attention_mask" not in items[0]:
            return collate(items)
        frames = max(self.patch_size, *(len(item["attention_mask"]) for item in items))
        padding = self.extractor.normalize(0.0) if self.extractor.do_normalize else 0.0
        fill = {"input_values": padding, "attention_mask": 0}
        return collate([{name: _filled(item[name], frames, fill.get(name)) for name in item} for item in items])


def _filled(field: torch.Tensor, frames: int, value: float | None) -> torch.Tensor:
    """A field made `frames` long; None for those that have no frames."""
    if value is None or len(field) == frames:
        return field
    return torch.cat((field, field.new_full((frames - len(field), *field.shape[1:]), value)))
