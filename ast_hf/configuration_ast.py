"""Configuration of the Audio Spectrogram Transformer, and the patch grid that follows from it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from .errors import (
    AstHfError,
    AstHfWarning,
    did_you_mean,
    error,
    nearest,
    not_a_choice,
    shown,
    unreadable,
    warning_text,
    wrong_type,
)
from .json_files import read_json
from .scalars import is_finite_number, plain_scalar
from .task import Task
from .timeline_fields import check_timeline, plain_timeline

#: Arguments that every transformers configuration takes.
_COMMON_ARGUMENTS = frozenset(
    {"architectures", "attn_implementation", "auto_map", "chunk_size_feed_forward", "dtype", "id2label"}
    | {
        "is_encoder_decoder",
        "label2id",
        "name_or_path",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
    }
    | {"problem_type", "return_dict", "tie_last_hidden_states", "torch_dtype", "transformers_version"}
)

#: Part of the time axis of the positions that a clip shorter than `max_length` gets.
POSITION_CUTS = ("start", "centre")


#: Largest sizes, above any model that was published: the widest ViT has 6,144 channels and 56 blocks
#: (arXiv 2302.05442), AudioSet 527 labels. An hour has 360,000 frames.
MAX_LABELS = 100_000
MAX_FRAMES = 360_000
_MAX_WIDTH = 65_536
_MAX_LAYERS = 1_000
_MAX_PATCH = 1_024
_MAX_BINS = 4_096
#: Most parameters, half of those of that ViT: 40 GB in float32.
_MAX_PARAMETERS = 10_000_000_000

#: Names of `dtype`, of which torch can compute with any.
_DTYPES = ("float16", "bfloat16", "float32", "float64")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _count(most: int) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: _is_count(value) and value <= most, f"a whole number in 1..{most:,}")


_COUNT = (_is_count, "a whole number of at least 1")
_PROBABILITY = (lambda value: is_finite_number(value) and 0.0 <= value < 1.0, "a number in [0, 1)")
_POSITIVE = (lambda value: is_finite_number(value) and value > 0.0, "a number above 0")


def _is_share(value: Any) -> bool:
    return is_finite_number(value) and 0.0 <= value <= 1.0


#: field -> (test, requirement for messages). Names and defaults are those of the published configs.
FIELD_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "hidden_size": _count(_MAX_WIDTH),
    "num_hidden_layers": _count(_MAX_LAYERS),
    "num_attention_heads": _count(_MAX_WIDTH),
    "intermediate_size": _count(4 * _MAX_WIDTH),
    "hidden_act": (
        lambda value: isinstance(value, str) and value in ACT2FN,
        "one of transformers' activations, such as 'gelu'",
    ),
    "hidden_dropout_prob": _PROBABILITY,
    "attention_probs_dropout_prob": _PROBABILITY,
    "initializer_range": _POSITIVE,
    "layer_norm_eps": _POSITIVE,
    "classifier_layer_norm_eps": (
        lambda value: value is None or _POSITIVE[0](value),
        "None or a number above 0",
    ),
    "patch_size": _count(_MAX_PATCH),
    "qkv_bias": (lambda value: isinstance(value, bool), "True or False"),
    "frequency_stride": _count(_MAX_BINS),
    "time_stride": _count(MAX_FRAMES),
    "max_length": _count(MAX_FRAMES),
    "num_mel_bins": _count(_MAX_BINS),
    "position_cut": (lambda value: value in POSITION_CUTS, "'start' or 'centre'"),
    "temperature": (lambda value: value is None or _POSITIVE[0](value), "None or a number above 0"),
    "thresholds": (
        lambda value: value is None or (isinstance(value, list) and all(map(_is_share, value))),
        "None or a list of numbers in [0, 1]",
    ),
    "timeline": (lambda value: value is None or isinstance(value, dict), "None or an object of rules"),
}

#: Fields that were fitted to the labels of a checkpoint, and are not valid for other labels.
FITTED_FIELDS = ("temperature", "thresholds", "timeline")


class Geometry(NamedTuple):
    """Size of the input, size of the patches and steps between them, which decide the patch grid."""

    max_length: int = 1024
    num_mel_bins: int = 128
    patch_size: int = 16
    frequency_stride: int = 10
    time_stride: int = 10

    @classmethod
    def of(cls, fields: Any) -> Geometry:
        """Return the geometry of a configuration or of a dict of its fields."""
        if not isinstance(fields, dict):
            fields = {name: getattr(fields, name) for name in cls._fields}
        return cls(**{name: fields[name] for name in cls._fields if name in fields})

    def grid_for(self, frames: int) -> tuple[int, int]:
        """Return the patches along (frequency, time) for `frames` input frames (AST paper, section 2.1)."""
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
    DeiT-base width and depth, 16 x 16 patches every 10 mel bins and 10 frames of a 10.24 s log-mel spectrogram
    (AST paper, section 2.1). The file format is that of transformers' own AST, in both directions.

    Args:
        hidden_size: width of the transformer.
        num_hidden_layers: number of transformer blocks.
        num_attention_heads: heads per block; must divide `hidden_size`.
        intermediate_size: width of the MLP inside a block.
        hidden_act: activation of that MLP.
        hidden_dropout_prob: dropout after the embeddings, attention and MLP, in [0, 1).
        attention_probs_dropout_prob: dropout on the attention weights, in [0, 1).
        initializer_range: standard deviation of the truncated normal distribution of new weights.
        layer_norm_eps: epsilon of the LayerNorms. Published configs have 1e-12; weights of the original
            repository were trained with 1e-6.
        classifier_layer_norm_eps: epsilon of the LayerNorm in the head, `None` for `layer_norm_eps`. The
            original used 1e-5 there.
        patch_size: side of the square patches, in mel bins and frames.
        qkv_bias: give query, key and value a bias.
        frequency_stride: step between patches along the mel axis, in bins.
        time_stride: step between patches along time, in frames.
        max_length: frames of the input spectrogram; a frame is 10 ms.
        num_mel_bins: mel bins of the input spectrogram.
        position_cut: positions of a clip shorter than `max_length`: from the "start" (those that it had when
            it was padded in training) or from the "centre" (as the original initialises a shorter model).
            Longer clips get stretched positions either way. Other tools ignore it and take clips of
            `max_length` only.
        temperature: divisor of the logits before they become scores, above 0; None for 1. `ast-hf evaluate`
            fits and stores it, and the pipeline applies it; the model's logits do not include it. Other tools
            ignore it. transformers drops it when it saves the checkpoint again, since text generation has a
            parameter of that name.
        thresholds: scores in [0, 1], after the temperature, from which each label counts as present, in the
            order of `id2label`; None if not fitted. The pipeline applies them with `threshold="fitted"`.
        timeline: rules by which the pipeline makes events with times, such as `{"threshold": [0.4, 0.6],
            "min_seconds": 0.2}`; None for its defaults. `ast-hf evaluate --timeline --fit-on ... --store` fits
            and stores them. Names and ranges are in `docs/how-to/evaluate-timelines.md`. Other tools ignore them.
        **kwargs: arguments of every transformers configuration (`num_labels`, `id2label`, `label2id`,
            `problem_type`, `dtype`, `attn_implementation`, ...). Anything else is an error (E302).

    Raises:
        AstConfigError: E302 for an invalid field, E303 for an invalid label map; the message names the field,
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
    timeline: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        foreign = _foreign_fields(kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name not in foreign}
        _reject_unknown(kwargs)
        check_dtype(self.dtype, kwargs.get("torch_dtype"))
        if "num_labels" in kwargs:
            kwargs["num_labels"] = plain_scalar(kwargs["num_labels"])
        label2id = self.label2id  # type: ignore[has-type]
        if self.id2label is None and label2id:  # type: ignore[has-type]
            self.id2label = _inverse(label2id)
        check_label_arguments(self.id2label, kwargs.get("num_labels"))
        super().__post_init__(**kwargs)
        _keep_foreign(self, foreign)
        self.validate()

    @classmethod
    def converted(cls, config: Any) -> Any:
        """Return `config` as an instance of this class; transformers' `ASTConfig` is converted.

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
        """Build a configuration from the content of its file; unlike the constructor, keep unknown fields.

        If `num_labels` in `kwargs` differs from the number of labels in the file, generic names replace the
        labels, as in transformers. New labels drop the temperature, the thresholds and the rules of timelines,
        which were fitted to those in the file. Fields that may load code (`attn_implementation`, `auto_map`) are
        ignored in a file. Raises E302 for misspelt keyword arguments, which transformers would ignore.
        """
        if not isinstance(config_dict, dict):
            what = f"contains a {type(config_dict).__name__}, not an object of fields"
            fix = "restore the file from its source"
            raise error("E306", where="config.json", what=what, fix=fix, detail="unreadable")
        names = set(FIELD_RULES) | _COMMON_ARGUMENTS
        fields, foreign = _fields_of_file(config_dict, names)
        kwargs = _label_arguments(kwargs)
        if _replaces_labels(fields.get("id2label"), kwargs):
            fields = {key: value for key, value in fields.items() if key not in FITTED_FIELDS}
        if "id2label" in kwargs:  # the labels of the call replace those of the file
            fields.pop("num_labels", None)
            fields |= {name: kwargs.pop(name) for name in ("id2label", "label2id")}
        elif "num_labels" in kwargs and len(fields.get("id2label") or ()) != kwargs["num_labels"]:
            fields = {key: value for key, value in fields.items() if key not in ("id2label", "label2id")}
        _check_misspelt(kwargs.keys() - names)
        try:
            loaded = super().from_dict(fields, **kwargs)
        except AstHfError:
            raise
        except (
            TypeError,
            ValueError,
            AttributeError,
            KeyError,
        ) as problem:  # of a field of any configuration
            fix = "restore the file from its source"
            what = "holds a field of a wrong type"
            raise unreadable("E302", where="config.json", what=what, problem=problem, fix=fix) from problem
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        _keep_foreign(config, foreign)
        config.validate()
        return loaded

    @classmethod
    def from_json_file(cls, json_file: Any) -> Any:
        """Build a configuration from a file, as `from_dict`; raise E306 unless it is a JSON object."""
        return cls.from_dict(cls._dict_from_json_file(json_file))

    @classmethod
    def _dict_from_json_file(cls, json_file: Any) -> Any:
        content = read_json(Path(json_file))
        other_files = content.get("configuration_files", [])  # of other versions of transformers
        if not isinstance(other_files, list) or not all(isinstance(name, str) for name in other_files):
            fix = "restore the file from its source"
            where = f"{str(json_file)!r}: configuration_files"
            raise error("E306", where=where, what="is not a list of names", fix=fix, detail="unreadable")
        return cls._decode_special_floats(content)

    @property
    def num_labels(self) -> int | None:
        """Number of labels; setting another one gives them generic names. Raises E302 above `MAX_LABELS`."""
        return None if self.id2label is None else len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: Any) -> None:
        check_label_arguments(None, plain_scalar(count))
        PreTrainedConfig.num_labels.fset(self, count)

    def validate(self) -> None:
        """Raise E302 or E303 if a field is invalid, or two fields contradict each other.

        Runs at construction, when a model is built and when one is saved. It first converts numbers to plain
        Python numbers, and sets `label2id` to the inverse of `id2label` (W305 if it was not).
        """
        for field in FIELD_RULES:
            setattr(self, field, plain_field(getattr(self, field)))
        self._align_labels()
        check_sizes(self)
        if self.problem_type is not None and self.problem_type not in list(Task):
            choices = [task.value for task in Task]
            where = "ASTConfig.problem_type"
            raise not_a_choice("E302", where=where, value=self.problem_type, choices=choices)
        check_label_map(self.id2label, self.label2id)
        check_threshold_count(self, "ASTConfig")
        check_timeline(self.timeline, len(self.id2label or ()), "ASTConfig")
        self._warn_of_gaps()

    def _align_labels(self) -> None:
        """Make the keys of `id2label` integers, and `label2id` its inverse; warn (W305) if it was not."""
        if not isinstance(self.id2label, dict):
            return
        check_label_arguments(self.id2label, None)
        self.id2label = {int(key): _label_text(label) for key, label in self.id2label.items()}
        inverse = {label: index for index, label in self.id2label.items()}
        previous = self.label2id  # type: ignore[has-type]
        self.label2id = inverse
        if previous is not None and _with_integers(previous) != inverse:
            what = "does not mirror id2label and is replaced by its inverse"
            text = warning_text("W305", where="ASTConfig.label2id", what=what)
            warnings.warn(text, AstHfWarning, stacklevel=4)

    def _warn_of_gaps(self) -> None:
        """Warn (W301) if patches leave gaps."""
        for stride in _STRIDES.values():
            step = getattr(self, stride)
            if step > self.patch_size:
                text = f"{step} is larger than patch_size={self.patch_size}: patches leave gaps"
                warnings.warn(warning_text("W301", where=stride, what=text), AstHfWarning, stacklevel=2)

    @property
    def geometry(self) -> Geometry:
        """Fields that decide the patch grid."""
        return Geometry.of(self)

    def grid_for(self, frames: int) -> tuple[int, int]:
        """Return the patches along (frequency, time) of an input of `frames` frames."""
        return self.geometry.grid_for(frames)

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Patches along (frequency, time) for an input of `max_length` frames."""
        return self.geometry.grid

    @property
    def num_patches(self) -> int:
        """Number of patches of an input of `max_length` frames."""
        return self.num_tokens - 2

    @property
    def num_tokens(self) -> int:
        """Length of the transformer's sequence: the class and distillation tokens, then the patches."""
        return self.geometry.num_tokens

    @property
    def head_eps(self) -> float:
        """Epsilon of the head's LayerNorm."""
        return (
            self.layer_norm_eps if self.classifier_layer_norm_eps is None else self.classifier_layer_norm_eps
        )


def plain_field(value: Any) -> Any:
    """Return a field's value as stored in JSON: plain numbers, and one number for a pair of equal ones."""
    if isinstance(value, dict):
        return plain_timeline(value)
    if not isinstance(value, (list, tuple)):
        return plain_scalar(value)
    if len(value) == 2 and isinstance(value[0], int) and value[0] == value[1] > 1:
        return value[0]
    return [plain_scalar(entry) for entry in value]


def sizes_of(content: Mapping[str, Any]) -> SimpleNamespace:
    """Return the fields of `FIELD_RULES` in a config.json, defaults included; raise E302 as `ASTConfig`."""
    fields = {name: content.get(name, getattr(ASTConfig, name)) for name in FIELD_RULES}
    config = SimpleNamespace(**{name: plain_field(value) for name, value in fields.items()})
    check_sizes(config)
    return config


def check_sizes(config: Any) -> None:
    """Raise E302 unless every field follows its rule, heads, patches and strides fit, and the model is small.

    `config` has the fields of `FIELD_RULES` as attributes.
    """
    check_fields(config, FIELD_RULES, "ASTConfig")
    if config.hidden_size % config.num_attention_heads:
        what = f"is not a multiple of num_attention_heads={config.num_attention_heads}"
        raise _field_error(
            "hidden_size", config.hidden_size, what, "choose a width that the heads divide evenly"
        )
    for axis, stride in _STRIDES.items():
        length = getattr(config, axis)
        step = getattr(config, stride)
        if length < config.patch_size:
            fix = f"raise {axis} to at least {config.patch_size} or lower patch_size"
            raise _field_error(axis, length, f"is smaller than patch_size={config.patch_size}", fix)
        if step > length:
            fix = f"use {config.patch_size} or less"
            raise _field_error(stride, step, f"is larger than {axis}={length}", fix)
    parameters = _backbone_parameters(config)
    if parameters > _MAX_PARAMETERS:
        what = f"makes a model of {parameters:,} parameters with the other sizes"
        fix = f"stay below {_MAX_PARAMETERS:,}"
        raise _field_error("hidden_size", config.hidden_size, what, fix)


#: Axis of the input -> step between patches along it.
_STRIDES = {"num_mel_bins": "frequency_stride", "max_length": "time_stride"}


def _backbone_parameters(config: Any) -> int:
    """Return the number of weights in matrices and position embeddings; biases and norms are not counted."""
    width = config.hidden_size
    block = 4 * width**2 + 2 * width * config.intermediate_size
    embeddings = (Geometry.of(config).num_tokens + config.patch_size**2) * width
    return config.num_hidden_layers * block + embeddings


def check_dtype(*values: Any) -> None:
    """Raise E302 unless each value is None, a floating-point type of torch, or the name of one."""
    for value in values:
        if value is not None and str(value).removeprefix("torch.") not in _DTYPES:
            choices = did_you_mean(value, _DTYPES)
            raise _field_error("dtype", value, "is not a type that weights are loaded in", choices)


def check_fields(config: Any, fields: Iterable[str], owner: str) -> None:
    """Raise E302 for the first field that breaks its rule; `owner` is the class in the message."""
    for field in fields:
        test, requirement = FIELD_RULES[field]
        value = getattr(config, field)
        if not test(value):
            what = f"{shown(value)} has to be {requirement}"
            raise error("E302", where=f"{owner}.{field}", what=what, fix=f"set {field} to that")


def check_threshold_count(config: Any, owner: str) -> None:
    """Raise E302 unless there is one threshold per label, or none."""
    if config.thresholds is not None and len(config.thresholds) != len(config.id2label):
        what = f"length {len(config.thresholds)}, but there are {len(config.id2label)} labels"
        raise error("E302", where=f"{owner}.thresholds", what=what, fix="give one for each label, or None")


def _field_error(field: str, value: Any, what: str, fix: str) -> Exception:
    return error("E302", where=f"ASTConfig.{field}", what=f"{shown(value)} {what}", fix=fix)


#: Fields of a file that may make transformers load code: kernels of the Hub, classes of a repository.
_CODE_FIELDS = ("attn_implementation", "auto_map", "experts_implementation")


def _fields_of_file(content: Mapping[str, Any], names: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields in a file's content that are in `names`, and the others, without `_CODE_FIELDS`."""
    kept = {key: value for key, value in content.items() if key not in _CODE_FIELDS}
    if kept.get("quantization_config", ...) is None:  # as if it was not there, unlike in transformers
        del kept["quantization_config"]
    check_quantization(kept.get("quantization_config"))
    classes = kept.get("architectures")
    if classes is not None and (
        not isinstance(classes, list) or not all(isinstance(c, str) for c in classes)
    ):
        raise wrong_type(
            "E302", where="config.json: architectures", value=classes, expected="a list of names"
        )
    fields = {key: value for key, value in kept.items() if key in names}
    return fields, {key: value for key, value in kept.items() if key not in names}


def check_quantization(value: Any) -> None:
    """Raise E302 unless a `quantization_config` is None or names a method of transformers."""
    if value is None or not isinstance(value, (dict, list, str, int, float)):  # an object of transformers
        return
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    where = "config.json: quantization_config"
    if not isinstance(value, dict):
        raise wrong_type("E302", where=where, value=value, expected="an object of fields")
    method = value.get("quant_method")
    is_bitsandbytes = value.get("load_in_8bit") or value.get("load_in_4bit")
    if not is_bitsandbytes and (
        not isinstance(method, str) or method not in AUTO_QUANTIZATION_CONFIG_MAPPING
    ):
        choices = AUTO_QUANTIZATION_CONFIG_MAPPING
        raise not_a_choice("E302", where=f"{where}.quant_method", value=method, choices=choices)


def _foreign_fields(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the constructor arguments that are fields of other tools.

    Only the content of a file, recognised by its `model_type`, may contain them. Names that look misspelt are
    left to `_reject_unknown`. Raises E302 for another `model_type` than AST's.
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
            fix = did_you_mean(name, set(FIELD_RULES) | _COMMON_ARGUMENTS)
            raise error("E302", where=f"ASTConfig.{name}", what="is not a recognised field", fix=fix)


def _check_misspelt(names: Iterable[str]) -> None:
    """Raise E302 for misspelt fields in arguments of `from_dict`; warn (W302) about fields of other models.

    Other names are left to transformers (`code_revision`, ...). The warning is for scripts that pass the same
    arguments to any model.
    """
    for name in names:
        where = f"ASTConfig.{name}"
        if near := nearest(name, FIELD_RULES, cutoff=0.85):
            raise error("E302", where=where, what="is not a recognised field", fix=f"did you mean {near!r}?")
        if near := nearest(name, FIELD_RULES, cutoff=0.7):
            text = f"is not a field of AST and has no effect; {near!r} is one"
            warnings.warn(warning_text("W302", where=where, what=text), AstHfWarning, stacklevel=4)


def _label_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return keyword arguments of `from_pretrained` with the labels as `id2label`.

    `label2id` alone is replaced by its inverse. With an `id2label`, `label2id` is None by default.
    """
    kwargs = dict(kwargs)
    if "num_labels" in kwargs:
        kwargs["num_labels"] = plain_scalar(kwargs["num_labels"])
    if kwargs.get("id2label") is None:
        kwargs.pop("id2label", None)
        label2id = kwargs.pop("label2id", None)
        if not label2id:
            return kwargs
        kwargs["id2label"] = _inverse(label2id)
    kwargs.setdefault("label2id", None)
    check_label_arguments(kwargs["id2label"], kwargs.get("num_labels"))
    return kwargs


def _is_index(value: Any) -> bool:
    """Return True for the index of a label, 0 or more, as a number or its decimal digits."""
    text = str(plain_scalar(value))
    return text.isdecimal() and len(text) <= len(str(MAX_LABELS))


def _maps_to_indices(label2id: Any) -> bool:
    if not isinstance(label2id, dict):
        return False
    return all(map(_is_index, label2id.values()))


def _inverse(label2id: Any) -> dict[Any, Any]:
    """Return the `id2label` of a `label2id`; raise E303 if its values are not indices."""
    if not _maps_to_indices(label2id):
        fix = "give a mapping such as {'cat': 0, 'dog': 1}"
        raise _label_error("label2id", "does not map labels to indices", fix)
    return {plain_scalar(index): label for label, index in label2id.items()}


def _with_integers(label2id: Any) -> Any:
    """Return `label2id` with its indices as integers; tutorials write them as text, "3"."""
    if not _maps_to_indices(label2id):
        return label2id
    return {_label_text(label): int(plain_scalar(index)) for label, index in label2id.items()}


def _label_text(label: Any) -> Any:
    """Return a label's name as text: JSON converts names that are numbers to text anyway."""
    return str(plain_scalar(label)) if isinstance(plain_scalar(label), (str, int)) else label


def _keep_foreign(config: ASTConfig, foreign: dict[str, Any]) -> None:
    """Set a file's fields of other tools on `config`; warn (W302) about those that look misspelt."""
    for name, value in foreign.items():
        if near := nearest(name, FIELD_RULES, cutoff=0.85):
            what = f"is not a field of the model and has no effect; did you mean {near!r}?"
            text = warning_text("W302", where=f"config.json: {name}", what=what)
            warnings.warn(text, AstHfWarning, stacklevel=4)
        # Private names may make transformers load code, and are left to it.
        if name == "model_type" or name.startswith("_"):
            continue
        if hasattr(type(config), name):  # a method, or a property that transformers interprets
            text = warning_text(
                "W302", where=f"config.json: {name}", what="has no meaning for AST and is dropped"
            )
            warnings.warn(text, AstHfWarning, stacklevel=4)
        else:
            setattr(config, name, value)


def _label_error(where: str, what: str, fix: str) -> Exception:
    return error("E303", where=f"ASTConfig.{where}", what=what, fix=fix)


def check_label_arguments(id2label: Any, count: Any) -> None:
    """Raise E302 or E303 for label arguments that transformers would silently repair or crash on."""
    test, requirement = _count(MAX_LABELS)
    if count is not None and not test(count):
        raise _field_error("num_labels", count, f"has to be {requirement}", "give the number of labels")
    if id2label is None:
        return
    if not isinstance(id2label, dict):
        fix = "give a mapping such as {0: 'cat', 1: 'dog'}"
        raise _label_error("id2label", f"is of type {type(id2label).__name__}", fix)
    if len(id2label) > MAX_LABELS:
        what = f"has {len(id2label):,} labels, more than {MAX_LABELS:,}"
        raise _label_error("id2label", what, "give fewer")
    for key in id2label:
        if not _is_index(key):
            fix = "use the whole numbers 0, 1, 2, ... as keys"
            raise _label_error("id2label", f"key {shown(key)} is not an index", fix)
    if count is not None and count != len(id2label):
        raise _label_error("num_labels", f"{count} but id2label has {len(id2label)}", "give one of the two")


def _replaces_labels(id2label: Any, arguments: dict[str, Any]) -> bool:
    """Return True if keyword arguments change the number or the names of a file's labels."""
    labels = arguments.get("id2label")
    if isinstance(labels, dict) and isinstance(id2label, dict):
        return {str(key): label for key, label in labels.items()} != {
            str(key): id2label[key] for key in id2label
        }
    return "num_labels" in arguments and len(id2label or ()) != arguments["num_labels"]


def check_label_map(id2label: dict[int, str] | None, label2id: dict[str, int] | None) -> None:
    """Raise E303 unless the indices are consecutive, the names unique, and the two maps agree.

    Raises E302 if there is no label.
    """
    id2label = id2label or {}
    if not id2label:
        raise _field_error("num_labels", 0, "gives no output", "give at least one label")
    if sorted(id2label) != list(range(len(id2label))):
        fix = "number the labels 0, 1, 2, ... without gaps"
        raise _label_error("id2label", f"keys are {sorted(id2label)[:5]}...", fix)
    inverse: dict[str, int] = {}
    for index, label in id2label.items():
        if not isinstance(label, str) or not label:
            raise _label_error("id2label", f"label {index} is {shown(label)}", "give every label a name")
        if label in inverse:
            what = f"{shown(label)} names both {inverse[label]} and {index}"
            raise _label_error("id2label", what, "rename one of them")
        inverse[label] = index
    if label2id is not None and {label: int(index) for label, index in label2id.items()} != inverse:
        fix = "leave label2id out: it follows from id2label"
        raise _label_error("label2id", "does not mirror id2label", fix)
