"""Ensemble of AST classifiers that averages their probabilities (AST paper, section 3.1).

All members share one input, as long as the longest member's, which is cut and normalised for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from .configuration_ast import FIELD_RULES, ASTConfig
from .configuration_ensemble import MEMBER, ASTEnsembleConfig
from .errors import AstHfError, error, shortlist, shown
from .feature_extraction_ast import ASTFeatureExtractor
from .label_order import label_columns, label_differences, model_labels
from .losses import classification_loss
from .modeling_ast import ASTForAudioClassification, check_input
from .task import Task
from .weights.checkpoints import hub_arguments, pinned_revision
from .weights.integrity import check_folder, require_classifier

#: Fields of the feature extractor that must be equal for all members; length, mean and std may differ.
_SHARED_FIELDS = ("sampling_rate", "num_mel_bins", "do_normalize", "return_attention_mask")
#: Sizes of the ensemble that are those of its largest member.
_SIZES = ("max_length", "num_mel_bins", "patch_size")
#: Arguments of `from_pretrained` that change a single model, and are ambiguous for an ensemble.
_SINGLE_MODEL_ARGUMENTS = (*FIELD_RULES, "id2label", "label2id", "num_labels", "problem_type", "state_dict")


def mean_logits(logits: torch.Tensor, problem_type: str | None) -> torch.Tensor:
    """Return logits whose sigmoid (multi-label) or softmax is the mean of the members' probabilities.

    From `(members, clips, labels)`, divided by each member's temperature, to `(clips, labels)`. Numerically
    stable for all finite logits.
    """
    if problem_type == Task.MULTI_LABEL:
        present = nn.functional.logsigmoid(logits)
        absent = nn.functional.logsigmoid(-logits)
        return present.logsumexp(0) - absent.logsumexp(0)
    return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))


class MemberInput(NamedTuple):
    """Map from the ensemble's input and label order to a member's.

    Attributes:
        frames: length of the member's input.
        scale: factor that, with `shift`, turns member 1's normalisation into this member's. The result is
            exact, as padding comes before normalisation.
        shift: see `scale`.
        columns: the member's index of each of the ensemble's labels; None if the order is the same.
    """

    frames: int
    scale: float
    shift: float
    columns: list[int] | None

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        config: ASTConfig,
        extractor: ASTFeatureExtractor,
        first: ASTFeatureExtractor,
    ) -> MemberInput:
        """Return the map from the ensemble's labels and the first member's normalisation to a member's."""
        columns = label_columns(labels, config.label2id)
        scale = 1.0
        shift = 0.0
        if first.do_normalize:
            scale = first.std / extractor.std
            shift = (first.mean - extractor.mean) / (2 * extractor.std)
        return cls(config.max_length, scale, shift, None if columns == sorted(columns) else columns)

    def convert(self, input_values: torch.Tensor) -> torch.Tensor:
        """Return the member's input, `(batch, frames, mel)`, cut and normalised from the ensemble's."""
        member_values = input_values[:, : self.frames]
        if (self.scale, self.shift) == (1.0, 0.0):
            return member_values
        return member_values.float() * self.scale + self.shift

    def reorder(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the member's logits `(batch, labels)` in the order of the ensemble's labels."""
        return logits if self.columns is None else logits[:, self.columns]


class ASTEnsembleForAudioClassification(PreTrainedModel):
    """Ensemble of `ASTForAudioClassification` models, with the same interface as one of them.

    It is loaded, saved, used in pipelines and as a teacher like a single model. Members may differ in size,
    strides, input length, normalisation and order of labels. A saved ensemble contains each member as a
    complete checkpoint, which transformers loads with `subfolder="member-1"`.

    Args:
        config: the ensemble's configuration, with the members' names.
        members: the models, in the order of the names.
        extractors: their feature extractors.

    Raises:
        AstConfigError: E301, E302 or E303 for members that do not fit together; the message names the member
            and the field.
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
        labels = model_labels(config)
        self.member_inputs = [
            MemberInput.of(labels, member.config, extractor, extractors[0])
            for member, extractor in zip(members, extractors, strict=True)
        ]
        config.dtype = self.dtype
        self.eval()

    @classmethod
    def from_members(
        cls, sources: Sequence[str | PathLike], *, problem_type: str | None = None, **kwargs: Any
    ) -> ASTEnsembleForAudioClassification:
        """Build an ensemble from checkpoints.

        Args:
            sources: folders or names on the Hub. The first one decides the order of the labels, mean and std.
            problem_type: problem type of checkpoints that have none.
            **kwargs: as for `from_pretrained`. `subfolder`, `revision` and the like apply to all checkpoints.

        Raises:
            AstHfError: as the class and `ASTForAudioClassification.from_pretrained`, with the member's name.
        """
        names = [f"{MEMBER}{number}" for number in range(1, len(sources) + 1)]
        subfolder = kwargs.pop("subfolder", "") or ""
        pairs = [_load(source, name, kwargs, subfolder) for source, name in zip(sources, names, strict=True)]
        members = [member for member, _ in pairs]
        extractors = [extractor for _, extractor in pairs]
        configs = [member.config for member in members]
        candidates = [problem_type, *(config.problem_type for config in configs)]
        problem_type = next((candidate for candidate in candidates if candidate), None)
        for config in configs:
            config.problem_type = config.problem_type or problem_type
        sizes = {name: max(getattr(config, name) for config in configs) for name in _SIZES} if configs else {}
        labels = configs[0].id2label if configs else None
        ensemble = ASTEnsembleConfig(members=names, id2label=labels, problem_type=problem_type, **sizes)
        return cls(ensemble, members, extractors)

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
        """Load an ensemble, with the checks of `ASTForAudioClassification.from_pretrained` for each member.

        Args:
            pretrained_model_name_or_path: a folder, or a name on the Hub. All files are of the same commit.
            config: an `ASTEnsembleConfig` to use instead of the file.
            subfolder: folder of the ensemble's config.json.
            output_loading_info: also return a dict of missing and unexpected tensors, always empty.
            **kwargs: as for one model (`revision`, `token`, `cache_dir`, `local_files_only`, `dtype`,
                `attn_implementation`, ...); passed to each member.

        Raises:
            AstHfError: E305 and E306 for incomplete or damaged members, and as the class; the message names
                the member. E108 for fields of a single model.
        """
        source = pretrained_model_name_or_path
        ambiguous = sorted(kwargs.keys() & {*_SINGLE_MODEL_ARGUMENTS})
        if ambiguous:
            what = "can be changed for a single model only, not for an ensemble"
            fix = "change the members, and build the ensemble from them again"
            raise error("E108", where=ambiguous[0], what=what, fix=fix)
        check_folder(source, subfolder=subfolder)
        kwargs["revision"] = pinned_revision(source, {**kwargs, "subfolder": subfolder})
        if not isinstance(config, ASTEnsembleConfig):
            config = ASTEnsembleConfig.from_pretrained(
                config or source, subfolder=subfolder, **hub_arguments(kwargs)
            )
        config.validate()
        kwargs.setdefault("attn_implementation", config._attn_implementation)
        pairs = [_load(source, name, kwargs, str(Path(subfolder, name))) for name in config.members]
        model = cls(config, [member for member, _ in pairs], [extractor for _, extractor in pairs])
        model.name_or_path = model.config.name_or_path = str(source)
        info: dict[str, Any] = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}
        return (model, {**info, "error_msgs": []}) if output_loading_info else model

    def save_pretrained(
        self, save_directory: str | PathLike, *, max_shard_size: int | str = "50GB", **kwargs: Any
    ) -> None:
        """Write both configuration files, and each member into its folder; raise E108 for other arguments."""
        if kwargs:
            fix = "leave it out; `ast-hf push` publishes a saved ensemble"
            raise error("E108", where=next(iter(kwargs)), what="is not an argument for an ensemble", fix=fix)
        folder = Path(save_directory)
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(folder)
        self.feature_extractor.save_pretrained(folder)
        names = self.config.members or []
        for name, member, extractor in zip(names, self.members, self.extractors, strict=True):
            member.save_pretrained(folder / name, max_shard_size=max_shard_size)
            extractor.save_pretrained(folder / name)

    def get_audio_embedding(self, *_: Any, **__: Any) -> Any:
        """Raise E108: the embeddings of the members are not comparable, and their mean means nothing."""
        what = "is for single models: each member of an ensemble has an embedding of its own"
        fix = "call ensemble.members[0].get_audio_embedding(audio, feature_extractor=ensemble.extractors[0])"
        raise error("E108", where="get_audio_embedding", what=what, fix=fix)

    @property
    def feature_extractor(self) -> ASTFeatureExtractor:
        """Feature extractor of the ensemble: the length of its longest member, member 1's mean and std."""
        fields = {**self.extractors[0].to_dict(), "max_length": self.config.max_length}
        return ASTFeatureExtractor.from_dict(fields)

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Score clips with all members, and compute the loss if `labels` are passed.

        Args:
            input_values: features from the ensemble's extractor, `(batch, max_length, num_mel_bins)`. A
                member with a shorter input length gets the first frames.
            labels: as for `ASTForAudioClassification`.
            attention_mask: 1 on real frames, `(batch, frames)`, as the extractor returns.

        Returns:
            `logits` `(batch, num_labels)`, always float32: their softmax (sigmoid for multi-label) is the
            mean of the members' probabilities, each at its own temperature. `loss` if labels were passed.

        Raises:
            AstInputError: E304 for an input or mask that does not fit.
            AstDataError: E208 for labels that do not fit.
        """
        check_input(self.config, input_values)
        if attention_mask is not None and attention_mask.shape != input_values.shape[:2]:
            what = f"has shape {tuple(attention_mask.shape)}, but the input {tuple(input_values.shape)}"
            fix = "give a mask over frames, (batch, frames)"
            raise error("E304", where="attention_mask", what=what, fix=fix)
        parts = [self._logits_of(number, input_values, attention_mask) for number in range(len(self.members))]
        logits = mean_logits(torch.stack(parts), self.config.problem_type)
        loss = None if labels is None else classification_loss(logits, labels, self.config.problem_type)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _logits_of(self, number: int, input_values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return a member's logits at its temperature, float32, in the order of the ensemble's labels."""
        member = self.members[number]
        member_input = self.member_inputs[number]
        values = member_input.convert(input_values).to(member.device, member.dtype)
        member_mask = None if mask is None else mask[:, : member_input.frames].to(member.device)
        logits = member(values, attention_mask=member_mask).logits.float().to(input_values.device)
        return member_input.reorder(logits) / (member.config.temperature or 1.0)


#: model_type -> (configuration class, model class) of the audio classifiers of this package.
KINDS: dict[str, tuple[Any, Any]] = {
    ASTConfig.model_type: (ASTConfig, ASTForAudioClassification),
    ASTEnsembleConfig.model_type: (ASTEnsembleConfig, ASTEnsembleForAudioClassification),
}


def classes_for(source: str | PathLike) -> tuple[Any, Any]:
    """Return the configuration and model class for a folder or Hub name, by its `model_type`.

    Raises E305 for another architecture, E306 for a config.json that is damaged.
    """
    stored, _ = ASTConfig.get_config_dict(source)
    kind = stored.get("model_type", ASTConfig.model_type)
    if str(kind) not in KINDS:
        what = f"is a {shown(kind)} checkpoint, not an AST"
        fix = "name an AST; `ast-hf convert` makes one of an image transformer"
        raise error("E305", where=repr(str(source)), what=what, fix=fix)
    return KINDS[kind]


def _load(
    source: str | PathLike, name: str, arguments: dict[str, Any], subfolder: str
) -> tuple[ASTForAudioClassification, ASTFeatureExtractor]:
    """Load a member and its extractor; errors name the member. Raise E305 if the classifier is missing."""
    try:
        member, info = ASTForAudioClassification.from_pretrained(
            source, subfolder=subfolder, output_loading_info=True, **arguments
        )
        extractor = ASTFeatureExtractor.from_pretrained(
            source, subfolder=subfolder, **hub_arguments(arguments)
        )
    except AstHfError as problem:
        where = f"{name} ({str(source)!r}): {problem.where}"
        parts = {"what": problem.what, "fix": problem.fix, "detail": problem.detail}
        raise error(problem.code, where=where, **parts) from problem
    require_classifier(info, f"{name} ({str(source)!r})")
    return member, extractor


# ---------------------------------------------------------------- compatibility of members


def check_together(
    config: ASTEnsembleConfig,
    members: Sequence[ASTForAudioClassification],
    extractors: Sequence[ASTFeatureExtractor],
) -> None:
    """Raise E301 to E304 unless all members can share one input and one list of labels; see the class."""
    names = config.members or []
    if not len(names) == len(members) == len(extractors):
        what = f"has {len(names)} names for {len(members)} models and {len(extractors)} extractors"
        fix = "use from_members or from_pretrained"
        raise error("E302", where="ASTEnsembleConfig.members", what=what, fix=fix)
    for name, member, extractor in zip(names, members, extractors, strict=True):
        title = f"{name} ({member.name_or_path})" if member.name_or_path else name
        _check_labels(config, member.config, title, names[0])
        _check_extractor(extractor, extractors[0], member.config, title, names[0])
    for field in _SIZES:
        largest = max(getattr(member.config, field) for member in members)
        if getattr(config, field) != largest:
            where = f"ASTEnsembleConfig.{field}"
            what = f"{getattr(config, field)}, but the largest of the members is {largest}"
            raise error("E302", where=where, what=what, fix=f"set {field} to {largest}")


def _check_labels(config: ASTEnsembleConfig, member: ASTConfig, name: str, first: str) -> None:
    """Raise E303 unless a member has the ensemble's labels, in any order, and its problem type."""
    fix = "build ensembles of models with the same labels and task"
    missing, surplus = label_differences(config.label2id, member.label2id)
    if missing or surplus:
        what = f"differ from the labels of {first}: only one of them has {shortlist(surplus + missing)}"
        raise error("E303", where=f"{name}: id2label", what=what, fix=fix)
    if member.problem_type not in (None, config.problem_type):
        what = f"{member.problem_type!r}, but {config.problem_type!r} in {first}"
        raise error("E303", where=f"{name}: problem_type", what=what, fix=fix)


def _check_extractor(
    extractor: ASTFeatureExtractor, first: ASTFeatureExtractor, config: ASTConfig, name: str, first_name: str
) -> None:
    """Raise E304 unless an extractor fits its model, and E301 unless it fits the extractor of member 1."""
    for field in ("max_length", "num_mel_bins"):
        extracted = getattr(extractor, field)
        expected = getattr(config, field)
        if extracted != expected:
            what = f"{extracted} in preprocessor_config.json, but {expected} in config.json"
            raise error("E304", where=f"{name}: {field}", what=what, fix="make the two files agree")
    for field in _SHARED_FIELDS:
        value = getattr(extractor, field)
        shared = getattr(first, field)
        if value != shared:
            what = f"{value!r}, but {shared!r} in {first_name}: all members share one input"
            fix = "build ensembles of models whose extractors agree in it"
            raise error("E301", where=f"{name}: {field}", what=what, fix=fix)
