"""Knowledge distillation: a student learns a teacher's outputs in addition to the labels.

The teacher is any audio classifier of transformers, which gets the student's augmented clips, or a file of its
logits. It must have the student's labels, by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional as F

from ..audio import resample
from ..data.splits import label_names, split_task
from ..errors import AstHfError, error, shortlist, unreadable
from ..evaluation.stored_logits import load_logits, logits_of
from ..feature_extraction_ast import ASTFeatureExtractor, check_fits
from ..label_order import label_columns, label_differences
from ..log_mel import num_frames, num_samples
from ..recipe.distillation_options import DistillationOptions
from ..task import Task
from ..weights.integrity import check_folder

#: Tensors that only training uses: a teacher may lack them.
_FOR_TRAINING = frozenset({"masked_spec_embed"})


def teacher_targets(
    logits: torch.Tensor, problem_type: str, *, temperature: float = 1.0, hard: bool = False
) -> torch.Tensor:
    """Return the student's targets, probabilities of the shape of a teacher's logits `(..., labels)`.

    `"single_label_classification"`: softmax, or 1 for the best label (`hard`); `"multi_label_classification"`:
    sigmoid. Logits are divided by the temperature first.
    """
    scaled = logits.float() / temperature
    if problem_type == Task.MULTI_LABEL:
        return torch.sigmoid(scaled)
    if hard:
        return F.one_hot(scaled.argmax(dim=-1), scaled.shape[-1]).float()
    return scaled.softmax(dim=-1)


def distillation_loss(
    logits: torch.Tensor, targets: torch.Tensor, problem_type: str, *, temperature: float = 1.0
) -> torch.Tensor:
    """Return the mean distance of a student from `teacher_targets` over a batch.

    Args:
        logits: the student's, `(batch, labels)`.
        targets: probabilities of the same shape.
        problem_type: `"single_label_classification"` for the Kullback-Leibler divergence (the cross-entropy
            for hard targets), `"multi_label_classification"` for binary cross-entropy.
        temperature: divides the student's logits, as it does the teacher's. The loss is multiplied by its
            square, which keeps the size of the gradient (Hinton et al., section 2).
    """
    scaled = logits.float() / temperature
    targets = targets.to(logits.device)
    if problem_type == Task.MULTI_LABEL:
        loss = F.binary_cross_entropy_with_logits(scaled, targets)
    else:
        loss = F.kl_div(scaled.log_softmax(dim=-1), targets, reduction="batchmean")
    return loss * temperature**2


@dataclass(eq=False)
class TeacherView:
    """Turns the student's waveforms into the inputs of a teacher model.

    Called with a waveform `(time,)` float32 and the clips of its mix (unused here), it returns the model's
    inputs with a batch dimension of 1. It runs in the workers of the data loader.

    Attributes:
        extractor: the teacher's feature extractor.
        sampling_rate: of the waveforms, in Hz; they are resampled to the teacher's.
    """

    extractor: Any
    sampling_rate: int

    def __call__(self, waveform: np.ndarray, parts: Sequence[tuple[int, float]]) -> dict[str, torch.Tensor]:
        rate = self.extractor.sampling_rate
        resampled = resample(waveform, self.sampling_rate, rate)
        return dict(self.extractor(resampled, sampling_rate=rate, return_tensors="pt"))


@dataclass(eq=False)
class StoredView:
    """Looks up stored targets `(clips, labels)`: those of a clip, or the weighted sum of a mix of clips."""

    targets: torch.Tensor

    def __call__(self, waveform: np.ndarray, parts: Sequence[tuple[int, float]]) -> dict[str, torch.Tensor]:
        return {"targets": torch.stack([share * self.targets[clip] for clip, share in parts]).sum(dim=0)}


@dataclass(eq=False)
class Distillation:
    """A teacher, and the loss of a student that learns from it.

    Attributes:
        options: weight, temperature, kind of targets.
        problem_type: the student's.
        view: returns the teacher's inputs, or its stored targets, for a clip of `ClipInputs`.
        model: the teacher; None if its outputs are stored.
        columns: index of each of the student's labels among the teacher's.
    """

    options: DistillationOptions
    problem_type: str
    view: TeacherView | StoredView
    model: torch.nn.Module | None = None
    columns: list[int] = field(default_factory=list)

    def to(self, device: torch.device) -> Distillation:
        """Move the teacher to a device, and return self."""
        if self.model is not None:
            self.model.to(device)
        return self

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change when the teacher's weights or its stored targets do."""
        tensors = {"targets": self.view.targets} if isinstance(self.view, StoredView) else {}
        if self.model is not None:
            tensors = self.model.state_dict()
        hasher = hashlib.sha256()
        for name, tensor in sorted(tensors.items()):
            hasher.update(name.encode())
            hasher.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return hasher.hexdigest()[:16]

    def loss(
        self, label_loss: torch.Tensor, logits: torch.Tensor, views: list[dict[str, torch.Tensor]]
    ) -> torch.Tensor:
        """Return the weighted sum of the loss from the labels and that from the teacher.

        Args:
            label_loss: the loss from the labels.
            logits: the student's, `(batch, labels)`.
            views: the result of `view` for each clip.

        Raises:
            AstRunError: E501 if an output of the teacher is not finite.
        """
        weight = self.options.weight
        temperature = self.options.temperature
        teacher_loss = distillation_loss(
            logits, self.targets(views), self.problem_type, temperature=temperature
        )
        return (1 - weight) * label_loss + weight * teacher_loss

    @torch.no_grad()
    def targets(self, views: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        """Return the student's targets, `(batch, labels)`; raise E501 if one is not finite."""
        if self.model is None:
            return torch.stack([features["targets"] for features in views])
        logits = self._teacher_logits(self.model, views)
        if not torch.isfinite(logits).all():
            fix = "use another teacher, or train in float32"
            raise error(
                "E501", where="distillation", what="the teacher's logits are NaN or infinite", fix=fix
            )
        options = self.options
        return teacher_targets(logits, self.problem_type, temperature=options.temperature, hard=options.hard)

    def _teacher_logits(self, model: torch.nn.Module, views: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        """Return the teacher's logits. Only clips of one length are batched: padding cannot change them."""
        groups: dict[tuple, list[int]] = {}
        for clip, features in enumerate(views):
            groups.setdefault(tuple(value.shape for value in features.values()), []).append(clip)
        rows: dict[int, torch.Tensor] = {}
        for clips in groups.values():
            batch = {name: torch.cat([views[clip][name] for clip in clips]) for name in views[0]}
            logits = model(**{name: _convert(value, model) for name, value in batch.items()}).logits
            rows.update(zip(clips, logits.float()[:, self.columns], strict=True))
        return torch.stack([rows[clip] for clip in range(len(views))])


def _convert(value: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """Return a tensor on a model's device; floats get its dtype, since DeepSpeed cast them to the student's."""
    return value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)


def build_distillation(
    options: DistillationOptions, train: Dataset, extractor: ASTFeatureExtractor
) -> Distillation | None:
    """Return the teacher of a run, or None without one and for weight 0. Draws no random numbers.

    Args:
        options: section `distillation` of the recipe.
        train: the split to train on, from `load_audio_dataset`; its labels are the student's.
        extractor: the student's.

    Raises:
        AstConfigError: E307 for options that do not fit the data, and for a teacher with other labels,
            another problem type or a shorter input than the student; E305 and E306 for a broken teacher or
            file.
        AstDataError: E208 for stored logits of other labels or other clips.
    """
    if not options.source or not options.weight:
        return None
    labels = label_names(train)
    task = split_task(train)
    for name in ("temperature", "hard"):
        if task is Task.MULTI_LABEL and getattr(options, name) != getattr(DistillationOptions(), name):
            what = "is for single-label clips; these are multi-label"
            raise error("E307", where=f"distillation.{name}", what=what, fix="leave it out", detail="data")
    if options.source == "logits":
        return _build_from_logits(options, task, labels, train)
    return _build_from_model(options, task, labels, extractor)


def _build_from_logits(
    options: DistillationOptions, task: Task, labels: list[str], train: Dataset
) -> Distillation:
    path = str(options.logits)
    stored = load_logits(path, labels=labels)
    _check_problem_type(stored.problem_type, task, f"distillation.logits: {path!r}")
    logits = logits_of(stored, train, repr(path))
    broken = (~logits.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if broken:
        what = f"holds NaN or infinite logits, first of clip {broken[0]} of the training split"
        fix = "make it again, of a model in float32"
        raise error("E306", where=repr(path), what=what, fix=fix, detail="not_finite")
    targets = teacher_targets(logits, task, temperature=options.temperature, hard=options.hard)
    return Distillation(options, task, StoredView(targets))


def _build_from_model(
    options: DistillationOptions, task: Task, labels: list[str], extractor: ASTFeatureExtractor
) -> Distillation:
    from transformers import AutoConfig, AutoFeatureExtractor

    name = str(options.teacher)
    check_folder(name)
    config = _from_pretrained(AutoConfig, name)
    teacher_extractor = _from_pretrained(AutoFeatureExtractor, name)
    _check_problem_type(config.problem_type or task, task, f"distillation.teacher: {name!r}")
    columns = _match_labels(labels, config.id2label, name)
    check_fits(teacher_extractor, config, repr(name))
    _check_input_length(teacher_extractor, extractor, name)
    view = TeacherView(teacher_extractor, extractor.sampling_rate)
    return Distillation(options, task, view, _load_teacher(name), columns)


def _from_pretrained(kind: Any, name: str, **arguments: Any) -> Any:
    """Return `kind.from_pretrained(name)`; raise E306 for anything but an audio classifier."""
    try:
        return kind.from_pretrained(name, trust_remote_code=False, **arguments)
    except AstHfError:
        raise
    except (OSError, ValueError) as problem:
        if isinstance(problem.__cause__, AstHfError):
            raise problem.__cause__ from None
        where = f"distillation.teacher: {name!r}"
        fix = "name a folder or Hub model with config.json, preprocessor_config.json and weights"
        what = "cannot be read as an audio classifier"
        raise unreadable("E306", where=where, problem=problem, fix=fix, what=what) from problem


def _load_teacher(name: str) -> Any:
    """Load the teacher in float32, without gradients; raise E305 if part of it would be random."""
    from transformers import AutoModelForAudioClassification

    with torch.random.fork_rng(devices=[]):
        model, loading = _from_pretrained(
            AutoModelForAudioClassification, name, output_loading_info=True, dtype=torch.float32
        )
    random_keys = {*loading["missing_keys"], *(entry[0] for entry in loading["mismatched_keys"])}
    missing = sorted(key for key in random_keys if key.rpartition(".")[2] not in _FOR_TRAINING)
    if missing:
        what = f"has no {shortlist(missing)}, which would be random"
        fix = "name a checkpoint that was trained to classify audio"
        raise error("E305", where=f"distillation.teacher: {name!r}", what=what, fix=fix)
    return model.eval().requires_grad_(False)


def _check_problem_type(teacher: str, student: Task, where: str) -> None:
    if teacher != student:
        what = f"the teacher is for {str(teacher)!r}, these clips for {student.value!r}"
        raise error("E307", where=where, what=what, fix="use a teacher of the same kind", detail="data")


def _match_labels(labels: list[str], id2label: dict[int, str], name: str) -> list[int]:
    """Return the index of each label among the teacher's; raise E307 unless they are the same."""
    label2id = {label: index for index, label in id2label.items()}
    missing, surplus = label_differences(labels, label2id)
    differences = {"lacks": missing, "also has": surplus}
    what = " and ".join(f"{verb} {shortlist(names)}" for verb, names in differences.items() if names)
    if what:
        fix = "use a teacher trained on these labels, or put their names into its config.json (id2label)"
        raise error("E307", where=f"distillation.teacher: {name!r}", what=what, fix=fix, detail="data")
    return label_columns(labels, label2id)


def _check_input_length(teacher: Any, student: ASTFeatureExtractor, name: str) -> None:
    """Raise E307 for a teacher with a shorter input than the student; some teachers take any length."""
    samples = getattr(teacher, "n_samples", None)  # Whisper's
    if isinstance(teacher, ASTFeatureExtractor):
        samples = num_samples(teacher.max_length, teacher.sampling_rate)
    student_seconds = num_samples(student.max_length, student.sampling_rate) / student.sampling_rate
    if samples is None or samples / teacher.sampling_rate >= student_seconds:
        return
    seconds = samples / teacher.sampling_rate
    frames = num_frames(int(seconds * student.sampling_rate), student.sampling_rate)
    what = f"takes {seconds:.3f} s, the student {student_seconds:.3f} s"
    fix = f"set model.config.max_length to {frames} or less, or use a teacher of longer clips"
    raise error("E307", where=f"distillation.teacher: {name!r}", what=what, fix=fix, detail="data")
