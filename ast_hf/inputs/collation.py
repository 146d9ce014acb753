"""Batches of clips: tensors stacked, and clips of different lengths padded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..feature_extraction_ast import ASTFeatureExtractor
from ..losses import check_class_indices


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch of stacked tensors; `teacher` stays a list, since its clips may differ in length."""
    columns = {name: [item[name] for item in items] for name in items[0]}
    return {name: column if name == "teacher" else torch.stack(column) for name, column in columns.items()}


@dataclass(frozen=True)
class Collator:
    """Batches clips of any lengths: pads them to the longest one, and to one patch at least.

    Attributes:
        extractor: normalises the padding, raw 0.0, like the clips.
        patch_size: frames of a patch.
        num_labels: number of classes that class indices are checked against; None checks nothing.
    """

    extractor: ASTFeatureExtractor
    patch_size: int
    num_labels: int | None = None

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch of stacked tensors; `attention_mask` is 0 on padding.

        Raises:
            AstDataError: E208 for a class index outside of `num_labels`: here it is on the CPU still.
        """
        batch = self._padded(items) if "attention_mask" in items[0] else collate(items)
        labels = batch.get("labels")
        if self.num_labels is not None and labels is not None and not labels.is_floating_point():
            check_class_indices(labels, self.num_labels)
        return batch

    def _padded(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch of clips that are padded to the longest one."""
        frames = max(self.patch_size, *(len(item["attention_mask"]) for item in items))
        silence = self.extractor.normalize(0.0) if self.extractor.do_normalize else 0.0
        padding = {"input_values": silence, "attention_mask": 0}
        padded = [{name: _pad(item[name], frames, padding.get(name)) for name in item} for item in items]
        return collate(padded)


def _pad(field: torch.Tensor, frames: int, value: float | None) -> torch.Tensor:
    """Return a field padded to `frames` with `value`, None for fields without frames."""
    if value is None or len(field) == frames:
        return field
    return torch.cat((field, field.new_full((frames - len(field), *field.shape[1:]), value)))
