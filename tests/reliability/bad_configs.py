"""Table D, first half: config.json and preprocessor_config.json."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from .cases import Case
from .tiny_checkpoints import (
    CONFIG,
    EXTRACTOR,
    MARKER,
    Change,
    auto,
    changed,
    classify,
    command,
    content,
    fields,
    info,
    is_finite,
    is_quiet,
    ours,
    stock,
    wav,
)

_LABELS = ("id2label", "label2id")
_DEEP = b"[" * 100_000 + b"]" * 100_000
_NOT_JSON: dict[str, tuple[str, bytes]] = {
    "empty": ("empty", b""),
    "list": ("a list", b"[1, 2]"),
    "null": ("null", b"null"),
    "number": ("a number", b"5"),
    "text": ("a text", b'"x"'),
    "nan": ("NaN", b"NaN"),
    "deep": ("100,000 nested lists", _DEEP),
    "deep-objects": ("5,000 nested objects", b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
    "utf8": ("invalid UTF-8", b'{"a": "\xff"}'),
    "cut": ("cut off", b'{"hidden_size": 24, "num_'),
    "digits": ("a number of 10,000 digits", b'{"hidden_size": ' + b"9" * 10_000 + b"}"),
}


def _row(id: str, title: str, change: Change, right: Any, call: Any = ours, other: Any = stock) -> Case:
    return Case(id, title, changed(wav, change), call, right, other, seconds=10.0, megabytes=200.0)


def _folder_instead(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def _built(values: dict[str, Any], package: str) -> Any:
    """Build a configuration and a model of it on no device; return its name for label 0."""
    import torch
    from transformers.models import audio_spectrogram_transformer

    import ast_hf

    source: Any = ast_hf if package == "ours" else audio_spectrogram_transformer
    config = source.ASTConfig(**values)
    with torch.device("meta"):
        source.ASTForAudioClassification(config)
    return config.id2label[0]


def _arguments(id: str, title: str, right: Any, **values: Any) -> Case:
    calls = [functools.partial(_built, package=package) for package in ("ours", "stock")]
    return Case(id, title, lambda _: values, calls[0], right, calls[1], seconds=10.0, megabytes=200.0)


def _hostile_code(folder: Path) -> None:
    """Make config.json name a class in a Python file that leaves a marker."""
    text = f"import pathlib\npathlib.Path({str(folder / MARKER)!r}).touch()\n"
    (folder / "evil.py").write_text(f"{text}class Evil:\n    pass\n", encoding="utf-8")
    names = ("AutoConfig", "AutoModelForAudioClassification", "AutoModel", "AutoFeatureExtractor")
    fields(auto_map=dict.fromkeys(names, "evil.Evil"))(folder)


def _hostile_kind(folder: Path) -> None:
    _hostile_code(folder)
    fields(model_type="evil")(folder)


def _byte_order_mark(old: bytes) -> bytes:
    return b"\xef\xbb\xbf" + old


def _twice(old: bytes) -> bytes:
    return old.replace(b"{", b'{"hidden_size": 24,', 1)


_CONFIG_ROWS: list[tuple[str, str, dict[str, Any], Any]] = [
    ("D1-frames", "max_length 10^9", {"max_length": 10**9}, "E302"),
    ("D1-bins", "num_mel_bins 10^9", {"num_mel_bins": 10**9}, "E302"),
    ("D2-patch0", "patch_size 0", {"patch_size": 0}, "E302|E305"),
    ("D2-list", "patch_size [16, 8]", {"patch_size": [16, 8]}, "E302|E305"),
    ("D3-stride0", "time_stride 0", {"time_stride": 0}, "E302"),
    ("D4-stride", "time_stride 1000", {"time_stride": 1000}, "E302"),
    ("D7-layers", "a million layers", {"num_hidden_layers": 10**6}, "E302|E305"),
    ("D7-mlp", "intermediate_size 10^9", {"intermediate_size": 10**9}, "E302|E305"),
    ("D9-text", "hidden_size as text", {"hidden_size": "24"}, "E302|E305"),
    ("D9-null", "hidden_size null", {"hidden_size": None}, "E302|E305"),
    ("D9-huge", "layer_norm_eps with 400 digits", {"layer_norm_eps": 10**400}, "E302"),
    ("D12-list", "id2label is a list", {"id2label": ["a", "b", "c"]}, "E303"),
    (
        "D12-key",
        "id2label with a key of 5,000 digits",
        {"id2label": {"9" * 5000: "a", "1": "b", "2": "c"}},
        "E303",
    ),
    ("D14-task", "problem_type 5", {"problem_type": 5}, "E302"),
    ("D26", "hidden_size 10^7", {"hidden_size": 10**7}, "E302|E305"),
    ("D26-16000", "hidden_size 16,000", {"hidden_size": 16_000, "num_attention_heads": 10}, "E305"),
    ("D31-dtype", "dtype float99", {"dtype": "float99"}, "E302"),
    ("D31-function", "dtype cos", {"dtype": "cos"}, "E302"),
    ("D31-int", "dtype int8", {"dtype": "int8"}, "E302"),
    ("D31-list", "dtype is a list", {"dtype": ["float32"]}, "E302"),
    ("D32-list", "quantization_config is a list", {"quantization_config": [1]}, "E302"),
    (
        "D32-method",
        "quantization_config of no method",
        {"quantization_config": {"quant_method": "z"}},
        "E302",
    ),
    ("D32-empty", "quantization_config {}", {"quantization_config": {}}, "E302"),
    ("D32-null", "quantization_config null", {"quantization_config": None}, is_finite),
    (
        "D32-type",
        "load_in_4bit is a text",
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": "yes"}},
        "E302",
    ),
    (
        "D32-big",
        "quantised, hidden_size 16,000",
        {"quantization_config": {"quant_method": "fp8"}, "hidden_size": 16_000, "num_attention_heads": 10},
        "E305",
    ),
    ("D33-kernel", "attn_implementation of the Hub", {"attn_implementation": "attacker/evil"}, is_finite),
    ("D33-private", "_attn_implementation of the Hub", {"_attn_implementation": "attacker/evil"}, is_finite),
    ("D33-list", "attn_implementation is a list", {"attn_implementation": [1]}, is_finite),
    ("D34-method", "a field with the name of a method", {"save_pretrained": 1, "validate": 2}, "W302"),
    ("D34-rope", "rope_scaling 5", {"rope_scaling": 5, "rope_theta": 1}, "W302"),
    ("D34-classes", "architectures 5", {"architectures": 5}, "E302"),
    ("D35-kind", "model_type wav2vec2", {"model_type": "wav2vec2"}, "E305"),
    ("D35-kind-list", "model_type is a list", {"model_type": ["a"]}, "E305"),
]
_EXTRACTOR_ROWS: list[tuple[str, str, dict[str, Any], Any]] = [
    ("D28-rate", "sampling_rate 8,000 with AudioSet's mean", {"sampling_rate": 8000}, "W302"),
    ("D28-rate-huge", "sampling_rate 10^9", {"sampling_rate": 10**9}, "E301"),
    ("D28-bins-huge", "num_mel_bins 10^9", {"num_mel_bins": 10**9}, "E301"),
    ("D28-frames-huge", "max_length 10^9", {"max_length": 10**9}, "E301"),
    ("D28-mean", "mean with 400 digits", {"mean": 10**400}, "E301"),
    ("D28-std", "std 0", {"std": 0}, "E301"),
    ("D28-private", "fields with the names of methods", {"_extract": 3, "__call__": 5, "_pad": 1}, is_finite),
    ("D28-unnamed", "a field without a name", {"": 3}, is_finite),
    ("D28-std-text", "std is a text", {"std": "4.5"}, "E301"),
]

CASES = [
    *(_row(id, title, fields(**values), right) for id, title, values, right in _CONFIG_ROWS),
    *(_row(id, title, fields(EXTRACTOR, **values), right) for id, title, values, right in _EXTRACTOR_ROWS),
    _row("D28-mean-missing", "no mean and std", fields(EXTRACTOR, without=("mean", "std")), "W302"),
    *(
        _row(f"D25-{key}", f"config.json: {title}", content(CONFIG, data), "E306")
        for key, (title, data) in _NOT_JSON.items()
    ),
    *(
        _row(f"D29-{key}", f"preprocessor_config.json: {title}", content(EXTRACTOR, data), "E306")
        for key, (title, data) in _NOT_JSON.items()
    ),
    *(
        _row(f"D25-info-{key}", f"config.json, `info`: {title}", content(CONFIG, data), "E306", info, None)
        for key, (title, data) in _NOT_JSON.items()
    ),
    _row("D24", "config.json missing", lambda folder: (folder / CONFIG).unlink(), "E306"),
    _row("D24-info", "config.json missing, `info`", lambda f: (f / CONFIG).unlink(), "E306", info, None),
    _row("D25-folder", "config.json is a folder", _folder_instead(CONFIG), "E306"),
    _row("D25-mark", "config.json with a byte order mark", content(CONFIG, _byte_order_mark), "E306"),
    _row("D25-twice", "config.json names a field twice", content(CONFIG, _twice), "E306"),
    _row("D25-more", "config.json with text behind it", content(CONFIG, lambda old: old + b"} x"), "E306"),
    _row("D29", "preprocessor_config.json missing", lambda folder: (folder / EXTRACTOR).unlink(), "E306"),
    _row("D29-folder", "preprocessor_config.json is a folder", _folder_instead(EXTRACTOR), "E306"),
    _row("D11-labels", "num_labels 10^9", fields(without=_LABELS, num_labels=10**9), "E302"),
    _row(
        "D11-auto",
        "num_labels 10^9, Auto class",
        fields(without=_LABELS, num_labels=10**9),
        "E302",
        auto,
        None,
    ),
    _row("D11-more", "num_labels 30,000 of 3", fields(without=_LABELS, num_labels=30_000), "E305"),
    _row("D11-text", "num_labels is a text", fields(without=_LABELS, num_labels="x"), "E302"),
    _row(
        "D11-info", "num_labels 10^9, `info`", fields(without=_LABELS, num_labels=10**9), "E302", info, None
    ),
    _row(
        "D27",
        "extractor of 128 frames, model of 64",
        fields(EXTRACTOR, max_length=128),
        "E304",
        classify,
        None,
    ),
    _row("D27-bins", "extractor of 40 bins", fields(EXTRACTOR, num_mel_bins=40), "E304", classify, None),
    _row(
        "D35-classify",
        "model_type wav2vec2, `classify`",
        fields(model_type="wav2vec2"),
        "E305",
        classify,
        None,
    ),
    _row("H3", "auto_map of an AST, `classify`, answered with yes", _hostile_code, is_quiet, classify, None),
    _row("H3-kind", "auto_map of an unknown kind, `classify`", _hostile_kind, "E305|E306", classify, None),
    _row("H3-info", "auto_map of an unknown kind, `info`", _hostile_kind, "E305|E306", info, None),
    _row(
        "H3-convert",
        "auto_map of an unknown kind, `convert`",
        _hostile_kind,
        "E305|E306",
        command("convert", "{}", "{}-out"),
        None,
    ),
    _arguments("D11-argument", "ASTConfig(num_labels=10**9)", "E302", num_labels=10**9),
    _arguments("D7-argument", "ASTConfig of 10^6 layers", "E302", num_hidden_layers=10**6),
    _arguments("D26-argument", "ASTConfig 65,536 wide", "E302", hidden_size=65_536),
    _arguments(
        "D12-names", "ASTConfig(label2id=...) alone", lambda name: name == "a", label2id={"a": 0, "b": 1}
    ),
]
