"""Losses by problem type.

The config is neither read nor changed here: the labels of one batch cannot decide the loss of the next.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .errors import error, not_a_choice
from .task import Task

#: Class index that cross-entropy skips (torch's default).
IGNORED = -100


def infer_problem_type(problem_type: str | None, num_labels: int, labels: torch.Tensor) -> str:
    """Return the configured problem type, or infer it from the number of outputs and the labels' dtype.

    One output is a regression. With more, floats are multi-label tags and integers are class indices.
    """
    if problem_type is not None:
        return problem_type
    if num_labels == 1:
        return Task.REGRESSION.value
    return Task.MULTI_LABEL.value if labels.is_floating_point() else Task.SINGLE_LABEL.value


def classification_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    problem_type: str | None,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Return the mean loss of a batch.

    Args:
        logits: `(batch, num_labels)`, any float dtype. The loss is computed in float32, or in float64 for
            float64.
        labels: for `"single_label_classification"`, int indices `(batch,)` or probabilities
            `(batch, num_labels)` (cross-entropy); for `"multi_label_classification"`, tags in [0, 1]
            `(batch, num_labels)` (binary cross-entropy); for `"regression"`, numbers `(batch,)` or
            `(batch, num_labels)` (mean squared error).
        problem_type: as in the config, or None for `infer_problem_type`. `"sigmoid_per_class"` takes the
            labels of `"single_label_classification"` and computes binary cross-entropy.
        num_items_in_batch: number of labels in all batches of an optimizer step, as counted by transformers'
            Trainer for gradient accumulation. The loss is then this batch's sum divided by that number.

    Raises:
        AstDataError: E208 if the labels do not fit the logits; the message names the shapes or the wrong
            index.
        AstConfigError: E302 for an unknown problem type.
    """
    kind = infer_problem_type(problem_type, logits.shape[-1], labels)
    labels = labels.to(logits.device)
    if kind not in _LOSSES:
        choices = [task.value for task in Task]
        raise not_a_choice("E302", where="config.problem_type", value=kind, choices=choices)
    loss = _LOSSES[kind](logits if logits.dtype == torch.float64 else logits.float(), labels)
    if num_items_in_batch is None:
        return loss
    counted = (labels != IGNORED).sum()
    if isinstance(num_items_in_batch, torch.Tensor):
        num_items_in_batch = num_items_in_batch.to(loss.device)
    return torch.where(counted > 0, loss * counted, 0.0) / num_items_in_batch


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if labels.is_floating_point():
        _require_shape(labels, logits.shape, "class probabilities")
        return F.cross_entropy(logits, labels.to(logits.dtype))
    return F.cross_entropy(logits, _class_indices(logits, labels), ignore_index=IGNORED)


def _binary_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    _require_shape(labels, logits.shape, "0/1 tags")
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def _mean_squared_error(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if logits.shape[-1] == 1:
        labels = labels.reshape(-1, 1)
    _require_shape(labels, logits.shape, "target values")
    return F.mse_loss(logits, labels.to(logits.dtype))


def _sigmoid_per_class(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return binary cross-entropy with one-hot tags, as the original does in `egs/speechcommands`."""
    if not labels.is_floating_point():
        labels = F.one_hot(_class_indices(logits, labels), logits.shape[-1])
    return _binary_cross_entropy(logits, labels)


_LOSSES = {
    Task.SINGLE_LABEL.value: _cross_entropy,
    Task.MULTI_LABEL.value: _binary_cross_entropy,
    Task.REGRESSION.value: _mean_squared_error,
    "sigmoid_per_class": _sigmoid_per_class,  # a recipe's choice, not a problem type
}


def _class_indices(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return class indices, int64 `(batch,)`; raise E208 if they do not fit (range only on the CPU)."""
    labels = labels.flatten()
    _require_shape(labels, logits.shape[:1], "class indices")
    if not torch.compiler.is_compiling() and labels.device.type == "cpu":
        check_class_indices(labels, logits.shape[-1])
    return labels.long()


def _require_shape(labels: torch.Tensor, shape: tuple[int, ...], meaning: str) -> None:
    if labels.shape != shape:
        what = f"have shape {tuple(labels.shape)}, but {meaning} for these logits have {tuple(shape)}"
        fix = "set config.problem_type to the task of the labels, and give them that shape"
        raise error("E208", where="labels", what=what, fix=fix)


def check_class_indices(labels: torch.Tensor, num_labels: int) -> None:
    """Raise E208 with the row of the first label that is out of range, or if all labels are ignored.

    torch's own error is a device assert on CUDA, and elsewhere an index error without the row. On a GPU the check
    would wait for it, so a batch is checked before it is sent there (`inputs.collation`).

    Args:
        labels: class indices `(batch,)`, integers.
        num_labels: number of outputs.
    """
    invalid = (labels != IGNORED) & ((labels < 0) | (labels >= num_labels))
    if invalid.any():
        row = int(invalid.nonzero()[0])
        what = f"{int(labels[row])} is outside 0..{num_labels - 1}"
        fix = "map labels to indices with config.label2id"
        raise error("E208", where=f"labels[{row}]", what=what, fix=fix)
    if (labels == IGNORED).all():
        what = f"are all {IGNORED} (ignored)"
        raise error("E208", where="labels", what=what, fix="give at least one real label")
