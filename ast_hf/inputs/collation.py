"""Batches of clips: tensors stacked, and clips of different lengths padded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..feature_extraction_ast import ASTFeatureExtractor
from ..log_mel import num_frames
from ..losses import check_class_indices
from .sample_batches import compute_features, join_samples

#: Frames of which an input's length is a multiple on a GPU, so that there are few lengths: 16 of those up to 10.24 s.
#: cuDNN takes about 30 ms to plan attention for each length it meets, and compilation seconds.
BUCKET_FRAMES = 64


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
        bucket: frames of which the padded length is a multiple, up to the extractor's `max_length`. With more than
            1, a batch without padding has no `attention_mask`.
    """

    extractor: ASTFeatureExtractor
    patch_size: int
    num_labels: int | None = None
    bucket: int = 1

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch of stacked tensors; `attention_mask` is 0 on padding.

        Raises:
            AstDataError: E208 for a class index outside of `num_labels`: here it is on the CPU still.
        """
        if "samples" in items[0]:
            batch = self._joined(items)
        else:
            batch = self._padded(items) if "attention_mask" in items[0] else collate(items)
        labels = batch.get("labels")
        if self.num_labels is not None and labels is not None and not labels.is_floating_point():
            check_class_indices(labels, self.num_labels)
        return batch

    def _joined(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch of samples; it has no `frames` if no clip needs an `attention_mask`."""
        batch = join_samples(items)
        lengths = batch["frames"].tolist()
        if self.extractor.return_attention_mask and self._is_full(lengths):
            del batch["frames"]
        return batch

    def _is_full(self, lengths: list[int]) -> bool:
        """Return True for clips without padding that need no `attention_mask`."""
        return self.bucket > 1 and min(lengths) == self._frames(max(lengths))

    def _padded(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch of clips that are padded to the longest one."""
        lengths = [len(item["attention_mask"]) for item in items]
        frames = self._frames(max(lengths))
        silence = self.extractor.normalize(0.0) if self.extractor.do_normalize else 0.0
        padding = {"input_values": silence, "attention_mask": 0}
        padded = [{name: _pad(item[name], frames, padding.get(name)) for name in item} for item in items]
        batch = collate(padded)
        if self._is_full(lengths):
            del batch["attention_mask"]
        return batch

    def with_features(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch with the features of its samples, computed on its device; other batches as they are."""
        if "samples" not in batch:
            return batch
        extractor = self.extractor
        frames = extractor.max_length
        if extractor.return_attention_mask:
            longest = num_frames(batch["samples"].shape[1], extractor.sampling_rate)
            frames = self._frames(min(longest, frames))
        return compute_features(batch, extractor, frames)

    def _frames(self, longest: int) -> int:
        """Return the length of an input whose longest clip has so many frames."""
        rounded = -(-longest // self.bucket) * self.bucket
        return max(self.patch_size, longest, min(rounded, self.extractor.max_length))


def _pad(field: torch.Tensor, frames: int, value: float | None) -> torch.Tensor:
    """Return a field padded to `frames` with `value`, None for fields without frames."""
    if value is None or len(field) == frames:
        return field
    return torch.cat((field, field.new_full((frames - len(field), *field.shape[1:]), value)))
