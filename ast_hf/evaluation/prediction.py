"""Logits of models on splits, and of the ensemble of several models."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ..acceleration.placement import check_precision, default_batch_size, place
from ..device_features import JoinedClips, is_batched, joined
from ..errors import error
from ..feature_extraction_ast import ASTFeatureExtractor
from ..inputs.clips import ClipInputs
from ..inputs.collation import BUCKET_FRAMES, Collator
from ..log_mel import num_samples
from ..modeling_ast import ASTForAudioClassification
from ..modeling_ensemble import ASTEnsembleForAudioClassification, mean_logits
from ..printing import visible
from ..processor import warn_of_slow_bfloat16
from ..progress import progress_bar
from ..recipe.arguments import default_readers
from .calibration import Setting
from .members import Member, load_model
from .stored_logits import clip_keys


def checked_device(device: str | torch.device | None, precision: str | None = None) -> torch.device:
    """Return the device to run on: if None, a GPU if there is one; raise E302 for a precision that it does not have."""
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    check_precision(precision, chosen)
    return chosen


@dataclass(frozen=True)
class Predictor:
    """Runs models on splits.

    Attributes:
        splits: the splits by name.
        batch_size: clips at a time; None for what fits the device.
        workers: number of processes that decode clips; None for what fits the device.
        device: where the models run.
        precision: of the arithmetic, see `place`.
        precisions: those of the models so far.
    """

    splits: dict[str, Dataset]
    batch_size: int | None
    workers: int | None
    device: torch.device
    precision: str | None = None
    precisions: dict[str, str] = field(default_factory=dict)

    @property
    def arithmetic(self) -> str:
        """Precisions of the models so far, each of them once."""
        return ", ".join(dict.fromkeys(self.precisions.values()))

    def logits(self, member: Member) -> dict[str, np.ndarray]:
        """Return a checkpoint's logits on each split, `(clips, labels)`, in the common order of labels."""
        model, placement = place(load_model(member), self.device, self.precision)
        self.precisions[member.name] = placement.precision
        logits = {}
        for name, split in self.splits.items():
            text = f"{member.name} on {name}"
            model_order = predict_logits(
                model,
                split,
                member.extractor,
                batch_size=self.batch_size,
                workers=self.workers,
                text=text,
                name=name,
            )
            logits[name] = model_order[:, member.columns]
        return logits


@torch.inference_mode()
def predict_logits(
    model: ASTForAudioClassification | ASTEnsembleForAudioClassification,
    split: Dataset,
    extractor: ASTFeatureExtractor,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    text: str = "evaluating",
    name: str = "",
) -> np.ndarray:
    """Return a model's logits on a split, float32 `(clips, labels)`, computed on the model's device.

    A CPU takes 8 clips at a time by default, and decodes them in this process. A GPU takes 64, which other processes
    decode, and nothing waits for it until the end: decoding and computing overlap.

    The model stays in its mode, training or evaluation; `text` is shown by the progress bar,
    and `name` names the split in messages.

    Raises:
        AstInputError: E104 for logits that are not finite, naming the clip.
    """
    inputs = ClipInputs(split, extractor, cache=False, name=name)
    read = _waveform_batches if is_batched(model.device) else _feature_batches
    warn_of_slow_bfloat16(visible(model.name_or_path) or "the model", model.dtype, model.device)
    was_training = model.training
    load = _loader(model.device, len(split), batch_size, workers)
    parts = []
    model.eval()
    with progress_bar(total=len(split), desc=visible(text, keep=""), unit="clip", leave=False) as bar:
        for batch in read(model, inputs, extractor, load):
            values = batch.pop("input_values").to(model.dtype)
            found = model(input_values=values, return_dict=True, **batch).logits.float()
            parts.append(found.to("cpu", non_blocking=found.is_cuda))
            bar.update(len(values))
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)  # the copies are complete
    model.train(was_training)
    logits = torch.cat(parts).numpy()
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        where = f"{len(broken)} clips, first {clip_keys(split)[broken[0]]!r}"
        raise error(
            "E104",
            where=where,
            what="logits are NaN or infinite",
            fix="compute in float32 (--precision float32)",
        )
    return logits


def _loader(
    device: torch.device, clips: int, batch_size: int | None, workers: int | None
) -> functools.partial[Any]:
    """Return what makes a loader of a data set and a function that joins its clips to batches."""
    size = batch_size or default_batch_size(device)
    if workers is None:
        readers = default_readers({"use_cpu": not is_batched(device)})
        workers = min(readers, math.ceil(clips / size))
    return functools.partial(
        torch.utils.data.DataLoader,
        batch_size=size,
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )


def _feature_batches(
    model: Any, inputs: ClipInputs, extractor: ASTFeatureExtractor, load: Callable[..., Any]
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of model inputs, whose features the loader computes on the CPU, or leaves to a GPU."""
    on_gpu = is_batched(model.device)
    collate = Collator(extractor, model.config.patch_size, bucket=BUCKET_FRAMES if on_gpu else 1)
    inputs.leaves_features = on_gpu
    for batch in load(inputs, collate_fn=collate):
        moved = {name: part.to(model.device, non_blocking=part.is_pinned()) for name, part in batch.items()}
        found = collate.with_features(moved)
        yield {name: found[name] for name in ("input_values", "attention_mask") if name in found}


def _waveform_batches(
    model: Any, inputs: ClipInputs, extractor: ASTFeatureExtractor, load: Callable[..., Any]
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of model inputs, whose features a GPU computes; the loader only decodes and joins clips."""
    if extractor.return_attention_mask:  # clips of different lengths, padded to a patch at least
        yield from _feature_batches(model, inputs, extractor, load)
        return
    batch: JoinedClips
    clips = _Waveforms(inputs, num_samples(extractor.max_length, extractor.sampling_rate))
    for batch in load(clips, collate_fn=joined):
        samples = batch.samples.to(model.device, non_blocking=batch.samples.is_pinned())
        yield {"input_values": extractor.joined_features(samples, batch.lengths)}


@dataclass(frozen=True)
class _Waveforms(torch.utils.data.Dataset):
    """Decoded clips of a split, cut to `longest` samples."""

    inputs: ClipInputs
    longest: int

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, clip: int) -> np.ndarray:
        return self.inputs.waveform(clip)[: self.longest]


def ensemble_logits(
    logits: dict[str, np.ndarray], problem_type: str, settings: dict[str, Setting] | None = None
) -> np.ndarray:
    """Return logits whose scores are the mean of the models' scores: float64, `(clips, labels)`.

    Args:
        logits: by model, `(clips, labels)`, labels in the same order.
        problem_type: a `Task`: sigmoid for multi-label, else softmax.
        settings: by model, with its temperature; 1 for models without an entry.
    """
    temperatures = {name: (settings or {}).get(name, Setting()).temperature for name in logits}
    parts = [np.asarray(values, dtype=np.float64) / temperatures[name] for name, values in logits.items()]
    return mean_logits(torch.from_numpy(np.stack(parts)), problem_type).numpy()
