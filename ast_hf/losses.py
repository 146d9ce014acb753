"""Which loss the labels ask for. Nothing here reads or writes a config: one batch never decides for the next."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .errors import did_you_mean, error

MULTI_LABEL = "multi_label_classification"

#: Class index that cross-entropy skips (torch's default).
IGNORED = -100


def infer_problem_type(problem_type: str | None, num_labels: int, labels: torch.Tensor) -> str:
    """The problem type to use: the configured one, else regression for one output, else by the labels' dtype."""
    if problem_type is not None:
        return problem_type
    if num_labels == 1:
        return "regression"
    return MULTI_LABEL if labels.is_floating_point() else "single_label_classification"


def classification_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    problem_type: str | None,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Mean loss of a batch.

    Args:
        logits: `(batch, num_labels)`, any float dtype; the loss is computed in float32, or float64 for float64.
        labels: for `"single_label_classification"` int indices `(batch,)` or probabilities `(batch, num_labels)`
            (cross-entropy either way); for `"multi_label_classification"` 0..1 tags `(batch, num_labels)` (binary
            cross-entropy); for `"regression"` numbers, `(batch,)` or `(batch, num_labels)` (mean squared error).
        problem_type: the config's, or None to go by `infer_problem_type`; or `"sigmoid_per_class"`, binary
            cross-entropy for what cross-entropy takes.
        num_items_in_batch: entries of `labels` that count in all batches of an optimizer step, as transformers'
            Trainer counts them where it accumulates gradients. The loss is then this batch's share of their mean.

    Raises:
        AstDataError: E208 when labels do not fit the logits, naming the shapes or the offending index.
    """
    kind = infer_problem_type(problem_type, logits.shape[-1], labels)
    labels = labels.to(logits.device)
    if kind not in _LOSSES:
        choices = did_you_mean(kind, [name for name in _LOSSES if "_classification" in name or name == "regression"])
        raise error("E302", where="config.problem_type", what=f"{kind!r} is not a problem type", fix=choices)
    loss = _LOSSES[kind](logits if logits.dtype == torch.float64 else logits.float(), labels)
    if num_items_in_batch is None:
        return loss
    counted = (labels != IGNORED).sum()
    items = num_items_in_batch.to(loss.device) if isinstance(num_items_in_batch, torch.Tensor) else num_items_in_batch
    return torch.where(counted > 0, loss * counted, 0.0) / items


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if labels.is_floating_point():
        _require_shape(labels, logits.shape, "class probabilities")
        return F.cross_entropy(logits, labels.to(logits.dtype))
    labels = labels.flatten()
    _require_shape(labels, logits.shape[:1], "class indices")
    if not torch.compiler.is_compiling() and labels.device.type == "cpu":
        _require_range(labels, logits.shape[-1])
    return F.cross_entropy(logits, labels.long(), ignore_index=IGNORED)


def _binary_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    _require_shape(labels, logits.shape, "0/1 tags")
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def _mean_squared_error(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if logits.shape[-1] == 1:
        labels = labels.reshape(-1, 1)
    _require_shape(labels, logits.shape, "target values")
    return F.mse_loss(logits, labels.to(logits.dtype))


def _sigmoid_per_class(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy for clips of one class, as the original trains Speech Commands (`egs/speechcommands`)."""
    if not labels.is_floating_point():
        labels = labels.flatten()
        _require_shape(labels, logits.shape[:1], "class indices")
        if not torch.compiler.is_compiling() and labels.device.type == "cpu":
            _require_range(labels, logits.shape[-1])
        labels = F.one_hot(labels.long(), logits.shape[-1])
    return _binary_cross_entropy(logits, labels)


_LOSSES = {
    "single_label_classification": _cross_entropy,
    "multi_label_classification": _binary_cross_entropy,
    "regression": _mean_squared_error,
    "sigmoid_per_class": _sigmoid_per_class,  # asked for by a recipe; no problem type
}


def _require_shape(labels: torch.Tensor, shape: tuple[int, ...], meaning: str) -> None:
    if labels.shape != shape:
        what = f"have shape {tuple(labels.shape)}, {meaning} for these logits have {tuple(shape)}"
        fix = "set config.problem_type to what the labels are, and give them that shape"
        raise error("E208", where="labels", what=what, fix=fix)


def _require_range(labels: torch.Tensor, num_labels: int) -> None:
    """A label out of range is a device assert on CUDA and an index error without a row elsewhere: name the row."""
    bad = (labels != IGNORED) & ((labels < 0) | (labels >= num_labels))
    if bad.any():
        row = int(bad.nonzero()[0])
        what = f"{int(labels[row])} is outside 0..{num_labels - 1}"
        raise error("E208", where=f"labels[{row}]", what=what, fix="map labels to indices with config.label2id")
    if (labels == IGNORED).all():
        raise error("E208", where="labels", what=f"are all {IGNORED} (ignored)", fix="give at least one real label")
