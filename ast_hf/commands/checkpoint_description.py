"""Description of a checkpoint for its users: size, input and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..printing import printable

if TYPE_CHECKING:
    from ..configuration_ensemble import ASTEnsembleConfig
    from ..feature_extraction_ast import ASTFeatureExtractor

#: Name and value.
Line = tuple[str, str]

#: Labels that are listed by name.
_MAX_LABELS = 10


def describe_checkpoint(source: str) -> list[Line]:
    """Return size, input and labels of a checkpoint or an ensemble, from its configuration files.

    `source` is a folder or Hub name. Raises the errors of `check_folder`.
    """
    from ..configuration_ast import ASTConfig
    from ..feature_extraction_ast import ASTFeatureExtractor
    from ..modeling_ensemble import classes_for
    from ..weights.integrity import check_folder

    check_folder(source)
    config_class, _ = classes_for(source)
    config = config_class.from_pretrained(source)
    extractor = ASTFeatureExtractor.from_pretrained(source)
    if config_class is not ASTConfig:
        return [
            ("ensemble", printable(source)),
            *_describe_members(source, config),
            *_describe_input_and_labels(config, extractor),
        ]
    frequency, time = config.patch_grid
    size = f"{config.num_hidden_layers} layers, {config.hidden_size} wide, {config.num_attention_heads} heads"
    patches = (
        f"{config.patch_size} x {config.patch_size}, stride {config.frequency_stride} x {config.time_stride}: "
        f"{frequency} x {time} = {config.num_patches}, {config.num_tokens} tokens"
    )
    return [
        ("checkpoint", printable(source)),
        ("model", size),
        ("parameters", f"{_count_parameters(config):,}"),
        ("patches", patches),
        *_describe_input_and_labels(config, extractor),
    ]


def _describe_input_and_labels(config: Any, extractor: ASTFeatureExtractor) -> list[Line]:
    from ..label_order import model_labels
    from ..log_mel import frames_to_seconds
    from ..task import Task

    labels = model_labels(config)
    names = ", ".join(map(printable, labels[:_MAX_LABELS])) + (", ..." if len(labels) > _MAX_LABELS else "")
    features = (
        f"{config.max_length} frames x {config.num_mel_bins} mel bins, "
        f"mean {extractor.mean:.4f}, std {extractor.std:.4f}"
    )
    return [
        (
            "input",
            f"{extractor.sampling_rate} Hz mono, the first {frames_to_seconds(config.max_length):.2f} s",
        ),
        ("features", features),
        ("task", Task.of_config(config) or "not set (scores are softmax)"),
        ("labels", f"{config.num_labels}: {names}"),
    ]


def _describe_members(source: str, config: ASTEnsembleConfig) -> list[Line]:
    from ..configuration_ast import ASTConfig

    members = {name: ASTConfig.from_pretrained(source, subfolder=name) for name in config.members or []}
    lines = [(printable(name), _describe_member(member)) for name, member in members.items()]
    return [*lines, ("parameters", f"{sum(map(_count_parameters, members.values())):,}")]


def _describe_member(config: Any) -> str:
    from ..log_mel import frames_to_seconds

    stride = f"stride {config.frequency_stride} x {config.time_stride}"
    seconds = frames_to_seconds(config.max_length)
    return f"{config.num_hidden_layers} layers, {config.hidden_size} wide, {stride}, {seconds:.2f} s"


def _count_parameters(config: object) -> int:
    import torch

    from ..modeling_ast import ASTForAudioClassification

    with torch.device("meta"):
        return ASTForAudioClassification(config).num_parameters()
