"""Logits of models on splits, and of the ensemble of several models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ..acceleration import optimize_for_inference
from ..device_features import is_batched
from ..errors import error
from ..feature_extraction_ast import ASTFeatureExtractor
from ..inputs.clips import ClipInputs
from ..inputs.collation import Collator
from ..log_mel import num_samples
from ..modeling_ast import ASTForAudioClassification
from ..modeling_ensemble import ASTEnsembleForAudioClassification, mean_logits
from ..printing import visible
from ..processor import warn_of_slow_bfloat16
from ..progress import progress_bar
from .calibration import Setting
from .members import Member, load_model
from .stored_logits import clip_keys


def chosen_device(device: str | torch.device | None) -> torch.device:
    """Return the device to run on: if None, a GPU if there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


@dataclass(frozen=True)
class Predictor:
    """Runs models on splits.

    Attributes:
        splits: the splits by name.
        batch_size: clips at a time.
        workers: number of processes that decode clips.
        device: where the models run.
        precision: of the arithmetic on a CPU, see `optimize_for_inference`; None for that of the weights.
    """

    splits: dict[str, Dataset]
    batch_size: int
    workers: int
    device: torch.device
    precision: str | None = None

    def logits(self, member: Member) -> dict[str, np.ndarray]:
        """Return a checkpoint's logits on each split, `(clips, labels)`, in the common order of labels."""
        model = load_model(member).to(self.device)
        if self.precision is not None:
            model = optimize_for_inference(model, self.precision)
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
    batch_size: int = 8,
    workers: int = 0,
    text: str = "evaluating",
    name: str = "",
) -> np.ndarray:
    """Return a model's logits on a split, float32 `(clips, labels)`, computed on the model's device.

    The model stays in its mode, training or evaluation; `text` is shown by the progress bar,
    and `name` names the split in messages.

    Raises:
        AstInputError: E104 for logits that are not finite, naming the clip.
    """
    inputs = ClipInputs(split, extractor, cache=False, name=name)
    read = _waveform_batches if is_batched(model.device) else _feature_batches
    warn_of_slow_bfloat16(visible(model.name_or_path) or "the model", model.dtype, model.device)
    was_training = model.training
    parts = []
    model.eval()
    with progress_bar(total=len(split), desc=visible(text, keep=""), unit="clip", leave=False) as bar:
        for batch in read(model, inputs, extractor, batch_size, workers):
            values = batch.pop("input_values").to(model.dtype)
            parts.append(model(input_values=values, return_dict=True, **batch).logits.float().cpu())
            bar.update(len(values))
    model.train(was_training)
    logits = torch.cat(parts).numpy()
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        where = f"{len(broken)} clips, first {clip_keys(split)[broken[0]]!r}"
        raise error("E104", where=where, what="logits are NaN or infinite", fix="load the model in float32")
    return logits


def _feature_batches(
    model: Any, inputs: ClipInputs, extractor: ASTFeatureExtractor, batch_size: int, workers: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of model inputs, whose features the loader computes on the CPU."""
    collate = Collator(extractor, model.config.patch_size)
    for batch in torch.utils.data.DataLoader(inputs, batch_size, collate_fn=collate, num_workers=workers):
        names = [name for name in ("input_values", "attention_mask") if name in batch]
        yield {name: batch[name].to(model.device) for name in names}


def _waveform_batches(
    model: Any, inputs: ClipInputs, extractor: ASTFeatureExtractor, batch_size: int, workers: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of model inputs, whose features a GPU computes; the loader only decodes."""
    if extractor.return_attention_mask:  # clips of different lengths, padded to a patch at least
        yield from _feature_batches(model, inputs, extractor, batch_size, workers)
        return
    clips = _Waveforms(inputs, num_samples(extractor.max_length, extractor.sampling_rate))
    for waveforms in torch.utils.data.DataLoader(clips, batch_size, collate_fn=list, num_workers=workers):
        yield {"input_values": extractor.batch_features(waveforms, model.device)}


@dataclass(frozen=True)
class _Waveforms(torch.utils.data.Dataset):
    """Decoded clips of a split, cut to `longest` samples."""

    inputs: ClipInputs
    longest: int

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, clip: int) -> torch.Tensor:
        return torch.from_numpy(self.inputs.waveform(clip)[: self.longest])


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
