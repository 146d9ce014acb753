"""Several AST classifiers as one model: the mean of their probabilities (AST paper, section 3.1).

One input serves all members: it is as long as the longest hears, and is normalised anew for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from .configuration_ast import FIELD_RULES, ASTConfig
from .configuration_ensemble import MEMBER, ASTEnsembleConfig
from .errors import AstHfError, error
from .feature_extraction_ast import ASTFeatureExtractor
from .losses import classification_loss
from .modeling_ast import ASTForAudioClassification, check_input
from .weights.checkpoints import HUB_ARGUMENTS, pinned_revision
from .weights.integrity import check_folder

#: Fields of the feature extractor that one input cannot have twice. Length, mean and std may differ.
_SAME = ("sampling_rate", "num_mel_bins", "do_normalize", "return_attention_mask")
#: Sizes that the ensemble has of its largest member.
_SIZES = ("max_length", "num_mel_bins", "patch_size")
#: Arguments of `from_pretrained` that would change one model, and say nothing of several.
_OF_ONE_MODEL = (*FIELD_RULES, "id2label", "label2id", "num_labels", "problem_type", "state_dict")


def mean_logits(logits: torch.Tensor, problem_type: str | None) -> torch.Tensor:
    """Logits whose sigmoid (multi-label) or softmax is the mean of the members'; stable for all finite ones.

    Args:
        logits: `(members, clips, labels)`, divided by each member's temperature.
        problem_type: of all of them.

    Returns:
        `(clips, labels)`.
    """
    if problem_type == "multi_label_classification":
        present, absent = nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)
        return present.logsumexp(0) - absent.logsumexp(0)
    return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))


class Hearing(NamedTuple):
    """How a member hears the common input, and where the common labels stand among its own.

    Attributes:
        frames: how many it takes.
        scale: with `shift`, from member 1's normalisation to its own, exactly: padding came before either.
        shift: see `scale`.
        columns: its index of each label; None when the order is the same.
    """

    frames: int
    scale: float
    shift: float
    columns: list[int] | None

    @classmethod
    def of(
        cls, config: ASTEnsembleConfig, own: ASTConfig, first: ASTFeatureExtractor, extractor: ASTFeatureExtractor
    ) -> Hearing:
        """For a member of configuration `own` whose extractor is `extractor`; `first` is member 1's."""
        columns = [own.label2id[config.id2label[index]] for index in range(config.num_labels)]
        scale, shift = first.std / extractor.std, (first.mean - extractor.mean) / (2 * extractor.std)
        if not first.do_normalize:
            scale, shift = 1.0, 0.0
        return cls(own.max_length, scale, shift, None if columns == sorted(columns) else columns)

    def hear(self, input_values: torch.Tensor) -> torch.Tensor:
        """The member's own input, `(batch, frames, mel)`."""
        heard = input_values[:, : self.frames]
        return heard if (self.scale, self.shift) == (1.0, 0.0) else heard.float() * self.scale + self.shift


class ASTEnsembleForAudioClassification(PreTrainedModel):
    """An ensemble of `ASTForAudioClassification`, used like one: loaded, saved, in pipelines, as a teacher.

    Members may differ in size, strides, input length, normalisation and the order of their labels. A folder of it holds
    each member as a plain checkpoint of its own, which transformers loads with `subfolder="member-1"`.

    Args:
        config: names the members.
        members: the models, in that order.
        extractors: their feature extractors.

    Raises:
        AstConfigError: E301, E302 or E303 for members that do not belong together, naming the member and the field.
        AstInputError: E304 for a member whose extractor does not fit it.
    """

    config: ASTEnsembleConfig
    config_class = ASTEnsembleConfig
    main_input_name = "input_values"
    input_modalities = ("audio",)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(
        self,
        config: ASTEnsembleConfig,
        members: Sequence[ASTForAudioClassification] = (),
        extractors: Sequence[ASTFeatureExtractor] = (),
    ) -> None:
        config.validate()
        check_together(config, members, extractors)
        super().__init__(config)
        self.num_labels = config.num_labels
        self.members = nn.ModuleList(members)
        self.extractors = list(extractors)
        self.hearings = [
            Hearing.of(config, member.config, extractors[0], extractor)
            for member, extractor in zip(members, extractors, strict=True)
        ]
        config.dtype = self.dtype
        self.eval()

    @classmethod
    def from_members(
        cls, sources: Sequence[str | PathLike], *, problem_type: str | None = None, **kwargs: Any
    ) -> ASTEnsembleForAudioClassification:
        """Make an ensemble of checkpoints.

        Args:
            sources: folders or names on the Hub; the first gives the order of labels, and mean and std.
            problem_type: of checkpoints that do not tell theirs.
            **kwargs: as for `from_pretrained`; where files are has to be the same for all.

        Raises:
            AstHfError: as the class, and as `ASTForAudioClassification.from_pretrained`, naming the member.
        """
        names = [f"{MEMBER}{number}" for number in range(1, len(sources) + 1)]
        loaded = [_load(source, name, kwargs) for name, source in zip(names, sources, strict=True)]
        members, extractors = [member for member, _ in loaded], [extractor for _, extractor in loaded]
        configs = [member.config for member in members]
        kinds = [problem_type, *(config.problem_type for config in configs)]
        kind = next((kind for kind in kinds if kind), None)
        for config in configs:
            config.problem_type = config.problem_type or kind
        sizes = {name: max(getattr(config, name) for config in configs) for name in _SIZES} if configs else {}
        labels = configs[0].id2label if configs else None
        return cls(ASTEnsembleConfig(members=names, id2label=labels, problem_type=kind, **sizes), members, extractors)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike,
        *,
        config: Any = None,
        subfolder: str = "",
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load all members, each checked as `ASTForAudioClassification.from_pretrained` checks it.

        Args:
            pretrained_model_name_or_path: a folder, or a name on the Hub. All of it is read from one commit.
            config: an `ASTEnsembleConfig` in place of the file's.
            subfolder: where the ensemble's config.json lies.
            output_loading_info: also return what was missing, which is nothing.
            **kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, `dtype`, `attn_implementation`, ... as for
                one model; given to each member.

        Raises:
            AstHfError: E305 and E306 for members that are not whole, and as the class; the member is named. E108 for
                fields of one model.
        """
        source = pretrained_model_name_or_path
        refused = sorted(kwargs.keys() & {*_OF_ONE_MODEL})
        if refused:
            fix = "change the members, and make the ensemble of them again"
            raise error("E108", where=refused[0], what="is a matter of one model, not of an ensemble", fix=fix)
        check_folder(source, subfolder=subfolder)
        kwargs["revision"] = pinned_revision(source, {**kwargs, "subfolder": subfolder})
        if not isinstance(config, ASTEnsembleConfig):
            config = ASTEnsembleConfig.from_pretrained(config or source, subfolder=subfolder, **_hub(kwargs))
        config.validate()
        kwargs.setdefault("attn_implementation", config._attn_implementation)
        loaded = [_load(source, name, kwargs, subfolder=str(Path(subfolder, name))) for name in config.members]
        model = cls(config, [member for member, _ in loaded], [extractor for _, extractor in loaded])
        model.name_or_path = model.config.name_or_path = str(source)
        nothing: dict[str, Any] = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}
        return (model, {**nothing, "error_msgs": []}) if output_loading_info else model

    def save_pretrained(
        self, save_directory: str | PathLike, *, max_shard_size: int | str = "50GB", **kwargs: Any
    ) -> None:
        """Write the ensemble's two configuration files, and each member into a folder of its own, nothing else.

        Raises:
            AstInputError: E108 for other arguments.
        """
        if kwargs:
            fix = "leave it out; `ast-hf push` publishes what was saved"
            raise error("E108", where=next(iter(kwargs)), what="is no argument for an ensemble", fix=fix)
        folder = Path(save_directory)
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(folder)
        self.feature_extractor.save_pretrained(folder)
        for name, member, extractor in zip(self.config.members or [], self.members, self.extractors, strict=True):
            member.save_pretrained(folder / name, max_shard_size=max_shard_size)
            extractor.save_pretrained(folder / name)

    @property
    def feature_extractor(self) -> ASTFeatureExtractor:
        """The one for all: as long as the longest member hears, with member 1's mean and std."""
        return ASTFeatureExtractor.from_dict({**self.extractors[0].to_dict(), "max_length": self.config.max_length})

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Score clips with all members, and compute the loss when labels are given.

        Args:
            input_values: what the ensemble's own extractor gives, `(batch, max_length, num_mel_bins)`. A member that
                takes fewer frames hears the first of them.
            labels: as for `ASTForAudioClassification`.
            attention_mask: 1 on real frames, `(batch, frames)`, as the extractor returns it.

        Returns:
            `logits` `(batch, num_labels)`, float32 whatever the members compute in: their softmax, for multi-label
            their sigmoid, is the mean of the members' probabilities, each at its own temperature. `loss` with labels.

        Raises:
            AstInputError: E304 for inputs, AstDataError: E208 for labels that do not fit.
        """
        check_input(self.config, input_values)
        if attention_mask is not None and attention_mask.shape != input_values.shape[:2]:
            what = f"has shape {tuple(attention_mask.shape)}, the input {tuple(input_values.shape)}"
            raise error("E304", where="attention_mask", what=what, fix="give a mask over frames, (batch, frames)")
        parts = [self._logits_of(number, input_values, attention_mask) for number in range(len(self.members))]
        logits = mean_logits(torch.stack(parts), self.config.problem_type)
        loss = None if labels is None else classification_loss(logits, labels, self.config.problem_type)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _logits_of(self, number: int, input_values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """A member's logits at its temperature, float32, in the order of the common labels."""
        member, hearing = self.members[number], self.hearings[number]
        heard = hearing.hear(input_values).to(member.device, member.dtype)
        seen = None if mask is None else mask[:, : hearing.frames].to(member.device)
        logits = member(heard, attention_mask=seen).logits.float().to(input_values.device)
        return (logits if hearing.columns is None else logits[:, hearing.columns]) / (member.config.temperature or 1.0)


#: model_type -> how the configuration and the weights of what classifies audio here are read.
KINDS: dict[str, tuple[Any, Any]] = {
    ASTConfig.model_type: (ASTConfig, ASTForAudioClassification),
    ASTEnsembleConfig.model_type: (ASTEnsembleConfig, ASTEnsembleForAudioClassification),
}


def classes_for(source: str | PathLike) -> tuple[Any, Any]:
    """Configuration and model class for a folder or a name on the Hub; those of one model for what is neither."""
    stored, _ = PreTrainedConfig.get_config_dict(source)
    return KINDS.get(stored.get("model_type", ""), KINDS[ASTConfig.model_type])


def _hub(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: arguments[name] for name in HUB_ARGUMENTS if name in arguments}


def _load(
    source: str | PathLike, name: str, arguments: dict[str, Any], *, subfolder: str = ""
) -> tuple[ASTForAudioClassification, ASTFeatureExtractor]:
    """A member and its extractor, nothing of it random; errors name it."""
    try:
        member, info = ASTForAudioClassification.from_pretrained(
            source, subfolder=subfolder, output_loading_info=True, **arguments
        )
        extractor = ASTFeatureExtractor.from_pretrained(source, subfolder=subfolder, **_hub(arguments))
    except AstHfError as problem:
        where = f"{name} ({str(source)!r}): {problem.where}"
        raise error(problem.code, where=where, what=problem.what, fix=problem.fix) from problem
    if info["missing_keys"] or info["mismatched_keys"]:
        fix = "name checkpoints that were trained to classify"
        raise error("E305", where=f"{name} ({str(source)!r})", what="has no classifier", fix=fix)
    return member, extractor


# ---------------------------------------------------------------- what belongs together


def check_together(
    config: ASTEnsembleConfig,
    members: Sequence[ASTForAudioClassification],
    extractors: Sequence[ASTFeatureExtractor],
) -> None:
    """Raise what the class says unless one input and one list of labels serve all members."""
    names = config.members or []
    if not len(names) == len(members) == len(extractors):
        what = f"names {len(names)}, but there are {len(members)} models and {len(extractors)} extractors"
        raise error("E302", where="ASTEnsembleConfig.members", what=what, fix="use from_members or from_pretrained")
    for name, member, extractor in zip(names, members, extractors, strict=True):
        told = f"{name} ({member.name_or_path})" if member.name_or_path else name
        _check_labels(config, member.config, told, names[0])
        _check_extractor(extractor, extractors[0], member.config, told, names[0])
    for field in _SIZES:
        largest = max(getattr(member.config, field) for member in members)
        if getattr(config, field) != largest:
            what = f"{getattr(config, field)}, but the largest of the members is {largest}"
            raise error("E302", where=f"ASTEnsembleConfig.{field}", what=what, fix=f"set {field} to {largest}")


def _check_labels(config: ASTEnsembleConfig, own: ASTConfig, name: str, first: str) -> None:
    fix = "make ensembles of what has the same labels and task"
    wanted = config.label2id
    strange = [*(label for label in own.label2id if label not in wanted), *(wanted.keys() - own.label2id.keys())]
    if strange:
        what = f"are other labels than those of {first}: {strange[0]!r} is only in one of them"
        raise error("E303", where=f"{name}: id2label", what=what, fix=fix)
    if own.problem_type not in (None, config.problem_type):
        what = f"{own.problem_type!r}, but {config.problem_type!r} in {first}"
        raise error("E303", where=f"{name}: problem_type", what=what, fix=fix)


def _check_extractor(
    extractor: ASTFeatureExtractor, first: ASTFeatureExtractor, own: ASTConfig, name: str, first_name: str
) -> None:
    for field in ("max_length", "num_mel_bins"):
        if getattr(extractor, field) != getattr(own, field):
            what = f"{getattr(extractor, field)} in preprocessor_config.json, but {getattr(own, field)} in config.json"
            raise error("E304", where=f"{name}: {field}", what=what, fix="make the two files agree")
    for field in _SAME:
        if getattr(extractor, field) != getattr(first, field):
            what = f"{getattr(extractor, field)!r}, but {getattr(first, field)!r} in {first_name}: one input serves all"
            raise error("E301", where=f"{name}: {field}", what=what, fix="make ensembles of what hears the same way")
