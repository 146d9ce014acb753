"""Knowledge distillation: a student learns a teacher's answers beside the labels.

The teacher is any audio classifier of transformers, which hears every training clip as the student does, or a file of
logits that it left behind. Its labels are the student's, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional as F

from ..audio import resample
from ..data.reading import is_multi_label
from ..data.splits import label_names
from ..errors import AstHfError, error, shortlist
from ..evaluation.stored_logits import load_logits, logits_of
from ..feature_extraction_ast import ASTFeatureExtractor
from ..log_mel import num_frames, num_samples
from ..recipe.distillation import DistillationOptions
from ..weights.integrity import check_folder

SINGLE_LABEL, MULTI_LABEL = "single_label_classification", "multi_label_classification"

#: Tensors that only training uses, so that a teacher may be without them.
_FOR_TRAINING = frozenset({"masked_spec_embed"})


def _chosen(logits: torch.Tensor) -> torch.Tensor:
    return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()


#: (problem type, whether the targets are hard) -> what a teacher's logits are for the student.
_TARGETS: dict[tuple[str, bool], Callable[[torch.Tensor], torch.Tensor]] = {
    (SINGLE_LABEL, False): lambda logits: logits.softmax(dim=-1),
    (SINGLE_LABEL, True): _chosen,
    (MULTI_LABEL, False): torch.sigmoid,
}

#: problem type -> loss of logits and targets. The divergence from a hard target is its cross-entropy.
_LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    SINGLE_LABEL: lambda logits, targets: F.kl_div(logits.log_softmax(dim=-1), targets, reduction="batchmean"),
    MULTI_LABEL: F.binary_cross_entropy_with_logits,
}


def teacher_targets(
    logits: torch.Tensor, problem_type: str, *, temperature: float = 1.0, hard: bool = False
) -> torch.Tensor:
    """What the student is to answer, from a teacher's logits `(..., labels)`: probabilities of the same shape.

    For `"single_label_classification"` the softmax, or 1 for the teacher's choice (`hard`); for
    `"multi_label_classification"` the sigmoid of each label. Logits are divided by the temperature first.
    """
    return _TARGETS[problem_type, hard](logits.float() / temperature)


def distillation_loss(
    logits: torch.Tensor, targets: torch.Tensor, problem_type: str, *, temperature: float = 1.0
) -> torch.Tensor:
    """Mean over a batch of how far a student is from `teacher_targets`.

    Args:
        logits: the student's, `(batch, labels)`.
        targets: probabilities of the same shape.
        problem_type: `"single_label_classification"`: Kullback-Leibler divergence of the student from the targets;
            `"multi_label_classification"`: binary cross-entropy.
        temperature: what the student's logits are divided by, as the teacher's were. The loss is multiplied by its
            square, so that the gradient keeps its size (Hinton et al., section 2).
    """
    return _LOSSES[problem_type](logits.float() / temperature, targets.to(logits.device)) * temperature**2


class TeacherView:
    """What a model needs to hear a clip: its own features of the waveform that the student gets.

    Called with a waveform `(time,)` float32 and the clips that it is a mix of (which do not matter here), it gives the
    model's inputs with a batch dimension of 1. A data loader's workers do this.

    Args:
        extractor: the teacher's feature extractor.
        sampling_rate: of the waveforms, in Hz; they are resampled to the teacher's.
    """

    def __init__(self, extractor: Any, sampling_rate: int) -> None:
        self.extractor, self.sampling_rate = extractor, sampling_rate

    def __call__(self, waveform: np.ndarray, parts: Sequence[tuple[int, float]]) -> dict[str, torch.Tensor]:
        rate = self.extractor.sampling_rate
        heard = resample(waveform, self.sampling_rate, rate)
        return dict(self.extractor(heard, sampling_rate=rate, return_tensors="pt"))


class StoredView:
    """The stored answer for a clip, or for a mix of clips the mix of their answers, by the shares of their labels.

    Args:
        targets: probabilities, `(clips, labels)`.
    """

    def __init__(self, targets: torch.Tensor) -> None:
        self.targets = targets

    def __call__(self, waveform: np.ndarray, parts: Sequence[tuple[int, float]]) -> dict[str, torch.Tensor]:
        return {"targets": torch.stack([share * self.targets[clip] for clip, share in parts]).sum(dim=0)}


class Distillation:
    """A teacher, ready to teach.

    Args:
        options: weight, temperature, kind of targets.
        problem_type: the student's.
        view: gives `ClipInputs` what the teacher needs of a clip.
        model: the teacher, None where its answers are stored.
        columns: the place of each of the student's labels among the model's.
    """

    def __init__(
        self,
        options: DistillationOptions,
        problem_type: str,
        view: TeacherView | StoredView,
        model: torch.nn.Module | None = None,
        columns: Sequence[int] = (),
    ) -> None:
        self.options, self.problem_type, self.view = options, problem_type, view
        self.model, self.columns = model, list(columns)

    def to(self, device: torch.device) -> Distillation:
        """Move the teacher's weights."""
        if self.model is not None:
            self.model.to(device)
        return self

    def loss(self, of_labels: torch.Tensor, logits: torch.Tensor, given: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        """The loss to train on.

        Args:
            of_labels: the loss that the labels make.
            logits: the student's, `(batch, labels)`.
            given: what `view` gave for each clip.

        Raises:
            AstRunError: E501 when the teacher's answer is not finite.
        """
        targets, weight = self.targets(given), self.options.weight
        of_teacher = distillation_loss(logits, targets, self.problem_type, temperature=self.options.temperature)
        return (1 - weight) * of_labels + weight * of_teacher

    @torch.no_grad()
    def targets(self, given: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        """What the student is to answer, `(batch, labels)`; raises E501 when the teacher's answer is not finite."""
        if self.model is None:
            return torch.stack([features["targets"] for features in given])
        logits, options = self._answers(self.model, given), self.options
        if not torch.isfinite(logits).all():
            fix = "use another teacher, or train in float32"
            raise error("E501", where="distillation", what="the teacher's answer is NaN or infinite", fix=fix)
        return teacher_targets(logits, self.problem_type, temperature=options.temperature, hard=options.hard)

    def _answers(self, model: torch.nn.Module, given: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        """A model's logits. Only clips of one length share a batch: no answer depends on the padding of another."""
        groups: dict[tuple, list[int]] = {}
        for clip, features in enumerate(given):
            groups.setdefault(tuple(value.shape for value in features.values()), []).append(clip)
        answers: dict[int, torch.Tensor] = {}
        for clips in groups.values():
            batch = {name: torch.cat([given[clip][name] for clip in clips]) for name in given[0]}
            logits = model(**{name: _as(value, model) for name, value in batch.items()}).logits
            answers.update(zip(clips, logits.float()[:, self.columns], strict=True))
        return torch.stack([answers[clip] for clip in range(len(given))])


def _as(value: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """On a model's device, numbers in its type (DeepSpeed hands them over in the student's), masks as they are."""
    return value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)


def build_distillation(
    options: DistillationOptions, train: Dataset, extractor: ASTFeatureExtractor
) -> Distillation | None:
    """The teacher of a run, or None where there is none or it has no weight. Draws no random numbers.

    Args:
        options: what is asked for.
        train: the split to train on, as `load_audio_dataset` gives it; its labels are the student's.
        extractor: the student's.

    Raises:
        AstConfigError: E307 for options that the data contradict and for a teacher of other labels or another problem
            type, or that hears less than the student; E305 and E306 for a broken teacher or file.
        AstDataError: E208 for stored logits of other labels or other clips.
    """
    if not options.source or not options.weight:
        return None
    problem_type = MULTI_LABEL if is_multi_label(train) else SINGLE_LABEL
    for name in ("temperature", "hard"):
        if problem_type == MULTI_LABEL and getattr(options, name) != getattr(DistillationOptions(), name):
            what = "is for clips of one label; these may have several, each with a probability of its own"
            raise error("E307", where=f"distillation.{name}", what=what, fix="leave it out")
    if options.source == "logits":
        return _with_logits(options, problem_type, train)
    return _with_model(options, problem_type, train, extractor)


def _with_logits(options: DistillationOptions, problem_type: str, train: Dataset) -> Distillation:
    path = str(options.logits)
    stored = load_logits(path, labels=label_names(train))
    _check_problem_type(stored.problem_type, problem_type, f"distillation.logits: {path!r}")
    logits = logits_of(stored, train, repr(path))
    broken = (~logits.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if broken:
        what = f"holds NaN or infinite logits, first of clip {broken[0]} of the training split"
        raise error("E306", where=repr(path), what=what, fix="make it again, of a model in float32")
    targets = teacher_targets(logits, problem_type, temperature=options.temperature, hard=options.hard)
    return Distillation(options, problem_type, StoredView(targets))


def _with_model(
    options: DistillationOptions, problem_type: str, train: Dataset, extractor: ASTFeatureExtractor
) -> Distillation:
    from transformers import AutoConfig, AutoFeatureExtractor

    name = str(options.teacher)
    check_folder(name)
    config, hearing = _read(AutoConfig, name), _read(AutoFeatureExtractor, name)
    _check_problem_type(config.problem_type or problem_type, problem_type, f"distillation.teacher: {name!r}")
    columns = _columns(label_names(train), config.id2label, name)
    _check_hearing(hearing, extractor, name)
    view = TeacherView(hearing, extractor.sampling_rate)
    return Distillation(options, problem_type, view, _load(name), columns)


def _read(kind: Any, name: str, **arguments: Any) -> Any:
    """`kind.from_pretrained`, with one form of error for what is not an audio classifier."""
    try:
        return kind.from_pretrained(name, **arguments)
    except AstHfError:
        raise
    except (OSError, ValueError) as problem:
        if isinstance(problem.__cause__, AstHfError):
            raise problem.__cause__ from None
        what = f"cannot be read as an audio classifier ({' '.join(str(problem).split())[:160]})"
        fix = "name a folder with config.json, preprocessor_config.json and weights, or such a model on the Hub"
        raise error("E306", where=f"distillation.teacher: {name!r}", what=what, fix=fix) from problem


def _load(name: str) -> Any:
    """The teacher in float32, in evaluation mode and without gradients; raises E305 where it is partly random."""
    from transformers import AutoModelForAudioClassification

    with torch.random.fork_rng(devices=[]):
        loading = {"output_loading_info": True, "dtype": torch.float32}
        model, info = _read(AutoModelForAudioClassification, name, **loading)
    fresh = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
    lost = sorted(key for key in fresh if key.rpartition(".")[2] not in _FOR_TRAINING)
    if lost:
        what = f"has no {shortlist(lost)}, which would be random"
        fix = "name a checkpoint that was trained to classify audio"
        raise error("E305", where=f"distillation.teacher: {name!r}", what=what, fix=fix)
    return model.eval().requires_grad_(False)


def _check_problem_type(teacher: str, student: str, where: str) -> None:
    if teacher != student:
        what = f"the teacher is for {teacher!r}, these clips for {student!r}"
        raise error("E307", where=where, what=what, fix="use a teacher of the same kind")


def _columns(labels: list[str], id2label: dict[int, str], name: str) -> list[int]:
    """Where each of the student's labels stands among the teacher's; raises E307 unless both have the same names."""
    own = {label: index for index, label in id2label.items()}
    missing, surplus = [label for label in labels if label not in own], [label for label in own if label not in labels]
    parts = [f"{text} {shortlist(names)}" for text, names in (("lacks", missing), ("also has", surplus)) if names]
    if parts:
        fix = "use a teacher trained on these labels, or give its config.json (id2label) the names that the data have"
        raise error("E307", where=f"distillation.teacher: {name!r}", what=" and ".join(parts), fix=fix)
    return [own[label] for label in labels]


def _check_hearing(teacher: Any, student: ASTFeatureExtractor, name: str) -> None:
    """Raise E307 for a teacher that would be cut off what the student hears; some hear any length."""
    samples = (
        num_samples(teacher.max_length, teacher.sampling_rate)
        if isinstance(teacher, ASTFeatureExtractor)
        else getattr(teacher, "n_samples", None)  # Whisper's
    )
    heard = num_samples(student.max_length, student.sampling_rate) / student.sampling_rate
    if samples is None or samples / teacher.sampling_rate >= heard:
        return
    seconds = samples / teacher.sampling_rate
    what = f"hears {seconds:.3f} s, the student {heard:.3f} s"
    most = num_frames(int(seconds * student.sampling_rate), student.sampling_rate)
    fix = f"set model.config.max_length to {most} or less, or use a teacher of longer clips"
    raise error("E307", where=f"distillation.teacher: {name!r}", what=what, fix=fix)
