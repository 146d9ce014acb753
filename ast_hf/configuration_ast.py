"""Sizes, strides and lengths of an Audio Spectrogram Transformer, and the patch grid that follows from them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from .errors import AstHfWarning, did_you_mean, error, nearest, warning_text
from .scalars import plain_scalar

#: Keyword arguments that every transformers configuration takes beside its own fields.
_COMMON_ARGUMENTS = frozenset(
    {"architectures", "attn_implementation", "auto_map", "chunk_size_feed_forward", "dtype", "id2label"}
    | {"is_encoder_decoder", "label2id", "name_or_path", "num_labels", "output_attentions", "output_hidden_states"}
    | {"problem_type", "return_dict", "tie_last_hidden_states", "torch_dtype", "transformers_version"}
)

#: Where the time axis of the positions is cut for a clip shorter than `max_length`.
POSITION_CUTS = ("start", "centre")

PROBLEM_TYPES = (None, "single_label_classification", "multi_label_classification", "regression")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_COUNT = (_is_count, "a whole number of at least 1")
_PROBABILITY = (lambda value: _is_number(value) and 0.0 <= value < 1.0, "a number in [0, 1)")
_POSITIVE = (lambda value: _is_number(value) and value > 0.0, "a number above 0")


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0.0 <= value <= 1.0


#: field -> (test, what it has to be). The model's own fields; names and defaults are those of the published configs.
FIELD_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "hidden_size": _COUNT,
    "num_hidden_layers": _COUNT,
    "num_attention_heads": _COUNT,
    "intermediate_size": _COUNT,
    "hidden_act": (
        lambda value: isinstance(value, str) and value in ACT2FN,
        "one of transformers' activations, such as 'gelu'",
    ),
    "hidden_dropout_prob": _PROBABILITY,
    "attention_probs_dropout_prob": _PROBABILITY,
    "initializer_range": _POSITIVE,
    "layer_norm_eps": _POSITIVE,
    "classifier_layer_norm_eps": (lambda value: value is None or _POSITIVE[0](value), "None or a number above 0"),
    "patch_size": _COUNT,
    "qkv_bias": (lambda value: isinstance(value, bool), "True or False"),
    "frequency_stride": _COUNT,
    "time_stride": _COUNT,
    "max_length": _COUNT,
    "num_mel_bins": _COUNT,
    "position_cut": (lambda value: value in POSITION_CUTS, "'start' or 'centre'"),
    "temperature": (lambda value: value is None or _POSITIVE[0](value), "None or a number above 0"),
    "thresholds": (
        lambda value: value is None or (isinstance(value, list) and all(map(_is_share, value))),
        "None or a list of numbers in [0, 1]",
    ),
}

#: Fields that were fitted to the labels of a checkpoint, and say nothing about others.
FITTED_FIELDS = ("temperature", "thresholds")


class Geometry(NamedTuple):
    """What decides how many patches there are: the size of the input, of the patches, and the steps between them."""

    max_length: int = 1024
    num_mel_bins: int = 128
    patch_size: int = 16
    frequency_stride: int = 10
    time_stride: int = 10

    @classmethod
    def of(cls, fields: Any) -> Geometry:
        """The geometry that a configuration, or a mapping of its fields, describes."""
        if not isinstance(fields, dict):
            fields = {name: getattr(fields, name) for name in cls._fields}
        return cls(**{name: fields[name] for name in cls._fields if name in fields})

    def grid_for(self, frames: int) -> tuple[int, int]:
        """Patches along (frequency, time) for a spectrogram of `frames` frames (AST paper, section 2.1)."""
        return (
            (self.num_mel_bins - self.patch_size) // self.frequency_stride + 1,
            (frames - self.patch_size) // self.time_stride + 1,
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along (frequency, time) for an input of `max_length` frames."""
        return self.grid_for(self.max_length)

    @property
    def num_tokens(self) -> int:
        """Length of the transformer's sequence: the class and distillation tokens, then the patches."""
        return self.grid[0] * self.grid[1] + 2


class ASTConfig(PreTrainedConfig):
    """Configuration of `ASTModel` and `ASTForAudioClassification`.

    The defaults are those of the AudioSet models
    ([MIT/ast-finetuned-audioset-10-10-0.4593](https://huggingface.co/MIT/ast-finetuned-audioset-10-10-0.4593)):
    DeiT-base width and depth, 16 x 16 patches every 10 mel bins and every 10 frames of a 10.24 s log-mel spectrogram
    (AST paper, section 2.1). The file format is that of transformers' own AST: either side reads what the other wrote.

    Args:
        hidden_size: width of the transformer.
        num_hidden_layers: number of transformer blocks.
        num_attention_heads: heads per block; must divide `hidden_size`.
        intermediate_size: width of the MLP inside a block.
        hidden_act: activation of that MLP.
        hidden_dropout_prob: dropout after the embeddings, attention and MLP, in [0, 1).
        attention_probs_dropout_prob: dropout on the attention weights, in [0, 1).
        initializer_range: standard deviation of the truncated normal that new weights are drawn from.
        layer_norm_eps: epsilon of the LayerNorms. 1e-12 is what published configs say; weights of the original
            repository were trained with 1e-6.
        classifier_layer_norm_eps: epsilon of the LayerNorm in the head, `None` for `layer_norm_eps`. The original
            used 1e-5 there.
        patch_size: side of the square patches, in mel bins and frames.
        qkv_bias: whether query, key and value have a bias.
        frequency_stride: step between patches along the mel axis, in bins.
        time_stride: step between patches along time, in frames.
        max_length: frames of the input spectrogram; a frame is 10 ms.
        num_mel_bins: mel bins of the input spectrogram.
        position_cut: which positions a clip shorter than `max_length` gets, those from the "start" (what it had when it
            was padded in training) or those of the "centre" (as the original starts a shorter model). Longer clips
            get stretched ones either way. Not known to other tools, which take clips of `max_length` only.
        temperature: what logits are divided by before they become scores, above 0; None for 1. Fitted and stored by
            `ast-hf evaluate`, used by the pipeline; no part of the model. Other tools ignore it, and transformers drops
            it where it saves the checkpoint again, since text generation has a parameter of that name.
        thresholds: the score, in [0, 1] and after the temperature, from which on each label counts as present, in the
            order of `id2label`; None when none were fitted. What the pipeline's `threshold="fitted"` uses.
        **kwargs: what every transformers configuration takes (`num_labels`, `id2label`, `label2id`, `problem_type`,
            `dtype`, `attn_implementation`, ...). Anything else is an error (E302).

    Raises:
        AstConfigError: E302 for an impossible field, E303 for an impossible label map; the message names the field,
            its value and the fix.

    Example:
        >>> ASTConfig().patch_grid, ASTConfig().num_tokens
        ((12, 101), 1214)
    """

    model_type = "audio-spectrogram-transformer"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    classifier_layer_norm_eps: float | None = None
    patch_size: int = 16
    qkv_bias: bool = True
    frequency_stride: int = 10
    time_stride: int = 10
    max_length: int = 1024
    num_mel_bins: int = 128
    position_cut: str = "start"
    temperature: float | None = None
    thresholds: list[float] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        foreign = _foreign_fields(kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name not in foreign}
        _reject_unknown(kwargs)
        if "num_labels" in kwargs:
            kwargs["num_labels"] = plain_scalar(kwargs["num_labels"])
        numbering = self.label2id  # type: ignore[has-type]
        if self.id2label is None and numbering:  # type: ignore[has-type]
            self.id2label = _inverse(numbering)
        check_label_arguments(self.id2label, kwargs.get("num_labels"))
        super().__post_init__(**kwargs)
        _keep_foreign(self, foreign)
        self.validate()

    @classmethod
    def converted(cls, config: Any) -> Any:
        """Return `config` as this class: itself, or the same fields of transformers' own `ASTConfig`.

        Raises:
            AstConfigError: E302 for the configuration of another architecture.
        """
        if isinstance(config, cls):
            return config
        kind = getattr(config, "model_type", type(config).__name__)
        if kind != cls.model_type:
            what = f"is a {kind!r} configuration ({type(config).__name__})"
            raise error("E302", where="config", what=what, fix=f"give an ASTConfig ({cls.model_type!r})")
        converted = cls.from_dict(config.to_dict())
        converted.name_or_path = config.name_or_path
        if config._attn_implementation is not None:
            converted._attn_implementation = config._attn_implementation
        return converted

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read a configuration file's content; unlike the constructor it keeps fields that it does not know.

        `num_labels` among `kwargs` that differs from the file's labels replaces them by generic names, as transformers
        does; a temperature and thresholds, which were fitted to the file's labels, are then left out, as with another
        `id2label`. Raises E302 for misspelt keyword arguments, where transformers would ignore them.
        """
        if not isinstance(config_dict, dict):
            raise error(
                "E306",
                where="config.json",
                what=f"holds a {type(config_dict).__name__}, not an object of fields",
                fix="restore the file from its source",
            )
        own = set(FIELD_RULES) | _COMMON_ARGUMENTS
        known = {key: value for key, value in config_dict.items() if key in own}
        foreign = {key: value for key, value in config_dict.items() if key not in own}
        kwargs = _label_arguments(kwargs)
        if _replaces_labels(known.get("id2label"), kwargs):
            known = {key: value for key, value in known.items() if key not in FITTED_FIELDS}
        if "id2label" in kwargs:  # names of the call replace those of the file, which then say nothing
            known.pop("num_labels", None)
            known |= {name: kwargs.pop(name) for name in ("id2label", "label2id")}
        elif "num_labels" in kwargs and len(known.get("id2label") or ()) != kwargs["num_labels"]:
            known = {key: value for key, value in known.items() if key not in ("id2label", "label2id")}
        for name in kwargs.keys() - own:  # the others are transformers' own (code_revision, ...)
            if near := nearest(name, FIELD_RULES, cutoff=0.85):
                raise error("E302", where=f"ASTConfig.{name}", what="is no field", fix=f"did you mean {near!r}?")
            if near := nearest(name, FIELD_RULES, cutoff=0.7):  # fields of other models, which scripts pass to any
                text = f"is no field of AST and has no effect; {near!r} is one"
                warnings.warn(warning_text("W302", where=f"ASTConfig.{name}", what=text), AstHfWarning, stacklevel=3)
        loaded = super().from_dict(known, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        _keep_foreign(config, foreign)
        config.validate()
        return loaded

    def validate(self) -> None:
        """Raise E302 or E303 when a field, or a pair of fields, makes no model.

        Runs at construction, when a model is built and when one is saved. Numbers become plain Python numbers first,
        and `label2id` follows `id2label` (W305).
        """
        for field in FIELD_RULES:
            setattr(self, field, _plain_field(getattr(self, field)))
        self._align_labels()
        for field, (test, requirement) in FIELD_RULES.items():
            if not test(getattr(self, field)):
                raise _field_error(field, getattr(self, field), f"has to be {requirement}", f"set {field} to that")
        if self.problem_type not in PROBLEM_TYPES:
            choices = did_you_mean(self.problem_type, [choice for choice in PROBLEM_TYPES if choice])
            raise _field_error("problem_type", self.problem_type, "is not a problem type", choices)
        check_label_map(self.id2label, self.label2id)
        if self.thresholds is not None and len(self.thresholds) != len(self.id2label):
            what = f"are {len(self.thresholds)}, but there are {len(self.id2label)} labels"
            raise error("E302", where="ASTConfig.thresholds", what=what, fix="give one for each label, or None")
        self._validate_geometry()

    def _align_labels(self) -> None:
        """Number `id2label` with integers, and make `label2id` its mirror; warn (W305) where it was not."""
        if not isinstance(self.id2label, dict):
            return
        check_label_arguments(self.id2label, None)
        self.id2label = {int(key): _label_text(label) for key, label in self.id2label.items()}
        mirror = {label: index for index, label in self.id2label.items()}
        given = self.label2id  # type: ignore[has-type]
        self.label2id = mirror
        if given is not None and _as_numbering(given) != mirror:
            text = "does not mirror id2label and is replaced by what does"
            warnings.warn(warning_text("W305", where="ASTConfig.label2id", what=text), AstHfWarning, stacklevel=4)

    def _validate_geometry(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise _field_error(
                "hidden_size",
                self.hidden_size,
                f"is not a multiple of num_attention_heads={self.num_attention_heads}",
                "choose a width that the heads divide evenly",
            )
        for axis, stride in (("num_mel_bins", "frequency_stride"), ("max_length", "time_stride")):
            length, step = getattr(self, axis), getattr(self, stride)
            if length < self.patch_size:
                fix = f"raise {axis} to at least {self.patch_size} or lower patch_size"
                raise _field_error(axis, length, f"is smaller than patch_size={self.patch_size}", fix)
            if step > length:
                raise _field_error(stride, step, f"is larger than {axis}={length}", f"use {self.patch_size} or less")
            if step > self.patch_size:
                text = f"{step} is larger than patch_size={self.patch_size}: patches leave gaps that no patch sees"
                warnings.warn(warning_text("W301", where=stride, what=text), AstHfWarning, stacklevel=2)

    @property
    def geometry(self) -> Geometry:
        """The fields that decide the patch grid."""
        return Geometry.of(self)

    def grid_for(self, frames: int) -> tuple[int, int]:
        """Patches along (frequency, time) for a spectrogram of `frames` frames."""
        return self.geometry.grid_for(frames)

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Patches along (frequency, time) for an input of `max_length` frames."""
        return self.geometry.grid

    @property
    def num_patches(self) -> int:
        """Patches of one input."""
        return self.num_tokens - 2

    @property
    def num_tokens(self) -> int:
        """Length of the transformer's sequence: the class and distillation tokens, then the patches."""
        return self.geometry.num_tokens

    @property
    def head_eps(self) -> float:
        """Epsilon of the head's LayerNorm."""
        own = self.classifier_layer_norm_eps
        return self.layer_norm_eps if own is None else own


def _plain_field(value: Any) -> Any:
    """Return a field as JSON holds it: plain numbers, and one number for a pair of equal ones (`patch_size`)."""
    if isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], int) and value[0] == value[1] > 1:
        return value[0]
    if isinstance(value, (list, tuple)):
        return [plain_scalar(entry) for entry in value]
    return plain_scalar(value)


def _field_error(field: str, value: Any, what: str, fix: str) -> Exception:
    return error("E302", where=f"ASTConfig.{field}", what=f"{value!r} {what}", fix=fix)


def _foreign_fields(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the constructor arguments that are no fields of ours, where `model_type` marks them as a file's content.

    A file may hold fields of other tools. Names that look misspelt are left to `_reject_unknown`, and so is every
    unknown name without `model_type`. Raises E302 for the type of another architecture.
    """
    if "model_type" not in kwargs:
        return {}
    kind = kwargs["model_type"]
    if kind != ASTConfig.model_type:
        fix = f"leave it out, or give {ASTConfig.model_type!r}"
        raise _field_error("model_type", kind, "is another architecture", fix)
    fields = set(FIELD_RULES) | _COMMON_ARGUMENTS
    return {
        name: value
        for name, value in kwargs.items()
        if name == "model_type" or (name not in fields and nearest(name, fields, cutoff=0.85) is None)
    }


def _reject_unknown(kwargs: dict[str, Any]) -> None:
    for name in kwargs:
        if name not in _COMMON_ARGUMENTS and name not in FIELD_RULES and not name.startswith("_"):
            fields = set(FIELD_RULES) | _COMMON_ARGUMENTS
            raise error("E302", where=f"ASTConfig.{name}", what="is no field", fix=did_you_mean(name, fields))


def _label_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return keyword arguments of `from_pretrained` with the labels as a configuration holds them.

    `id2label` alone decides the names and their number. `label2id` alone stands for its inverse.
    """
    kwargs = dict(kwargs)
    if "num_labels" in kwargs:
        kwargs["num_labels"] = plain_scalar(kwargs["num_labels"])
    if kwargs.get("id2label") is None:
        kwargs.pop("id2label", None)
        numbering = kwargs.pop("label2id", None)
        if not numbering:
            return kwargs
        kwargs["id2label"] = _inverse(numbering)
    kwargs.setdefault("label2id", None)
    check_label_arguments(kwargs["id2label"], kwargs.get("num_labels"))
    return kwargs


def _is_numbering(label2id: Any) -> bool:
    return isinstance(label2id, dict) and all(str(plain_scalar(index)).isdecimal() for index in label2id.values())


def _inverse(label2id: Any) -> dict[Any, Any]:
    """Return the `id2label` of a `label2id`; raise E303 for what does not number labels."""
    if not _is_numbering(label2id):
        raise _label_error("label2id", "does not number its labels", "give a mapping such as {'cat': 0, 'dog': 1}")
    return {plain_scalar(index): label for label, index in label2id.items()}


def _as_numbering(label2id: Any) -> Any:
    """Return `label2id` with whole numbers for texts such as "3", as tutorials write them."""
    if not _is_numbering(label2id):
        return label2id
    return {_label_text(label): int(plain_scalar(index)) for label, index in label2id.items()}


def _label_text(label: Any) -> Any:
    """Return a label's name as text: JSON turns names that are numbers into text anyway."""
    return str(plain_scalar(label)) if isinstance(plain_scalar(label), (str, int)) else label


def _keep_foreign(config: ASTConfig, foreign: dict[str, Any]) -> None:
    """Attach the fields of somebody's file that are not ours, and warn about those that look misspelt."""
    for name, value in foreign.items():
        near = nearest(name, FIELD_RULES, cutoff=0.85)
        if near:
            text = f"is no field of the model and has no effect; did the file mean {near!r}?"
            warnings.warn(warning_text("W302", where=f"config.json: {name}", what=text), AstHfWarning, stacklevel=4)
        # The names that load code are transformers' to judge, not plain data to carry along.
        if name != "model_type" and not name.startswith("_"):
            setattr(config, name, value)


def _label_error(where: str, what: str, fix: str) -> Exception:
    return error("E303", where=f"ASTConfig.{where}", what=what, fix=fix)


def check_label_arguments(id2label: Any, count: Any) -> None:
    """What transformers' base class would quietly repair or crash on: bad keys, contradicting counts."""
    if count is not None and not _is_count(count):
        raise _field_error("num_labels", count, "has to be a whole number of at least 1", "give the number of labels")
    if id2label is None:
        return
    if not isinstance(id2label, dict):
        raise _label_error("id2label", f"is a {type(id2label).__name__}", "give a mapping such as {0: 'cat', 1: 'dog'}")
    for key in id2label:
        if not str(key).isdecimal():
            raise _label_error("id2label", f"key {key!r} is no index", "use the whole numbers 0, 1, 2, ... as keys")
    if count is not None and count != len(id2label):
        raise _label_error("num_labels", f"{count} but id2label names {len(id2label)}", "give one of the two")


def _replaces_labels(id2label: Any, arguments: dict[str, Any]) -> bool:
    """Whether keyword arguments give a file's labels another number or other names."""
    named = arguments.get("id2label")
    if isinstance(named, dict) and isinstance(id2label, dict):
        return {str(key): name for key, name in named.items()} != {str(key): name for key, name in id2label.items()}
    return "num_labels" in arguments and len(id2label or ()) != arguments["num_labels"]


def check_label_map(id2label: dict[int, str] | None, label2id: dict[str, int] | None) -> None:
    """Raise E303 unless labels are numbered in a row, named once each, and the two maps agree; E302 for none."""
    id2label = id2label or {}
    if not id2label:
        raise _field_error("num_labels", 0, "gives no output", "give at least one label")
    if sorted(id2label) != list(range(len(id2label))):
        raise _label_error("id2label", f"keys are {sorted(id2label)[:5]}...", "number the labels 0, 1, 2, ... in a row")
    seen: dict[str, int] = {}
    for index, label in id2label.items():
        if not isinstance(label, str) or not label:
            raise _label_error("id2label", f"label {index} is {label!r}", "give every label a name")
        if label in seen:
            raise _label_error("id2label", f"{label!r} names both {seen[label]} and {index}", "rename one of them")
        seen[label] = index
    if label2id is not None and {label: int(index) for label, index in label2id.items()} != seen:
        raise _label_error("label2id", "does not mirror id2label", "leave label2id out: it follows from id2label")
