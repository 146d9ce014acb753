"""Table H: names of files and labels that a terminal, a spreadsheet or a push would obey."""

from __future__ import annotations

import contextlib
import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from .bad_folders import wav
from .cases import Case

#: What is in a name -> the name.
NAMES = {
    "terminal escape": "\x1b[2J\x1b]0;pwn\x07",
    "8-bit terminal escape": "\x9b31mred",
    "text from right to left": "gpj\u202e.exe",
    "isolate": "\u2066a\u2069",
    "zero width": "ca\u200bt",
    "line separator": "a\u2028b",
    "line end": "a\nb",
    "carriage return": "harmless\rharmful",
    "formula of matplotlib": "$\\frac{x$",
    "emoji joined": "\U0001f469\u200d\U0001f4bb",
}


def _checkpoint(folder: Path, labels: list[str]) -> Path:
    from transformers.models.audio_spectrogram_transformer.configuration_audio_spectrogram_transformer import (
        ASTConfig,
    )
    from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import (
        ASTForAudioClassification,
    )

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ASTConfig(
        **sizes, max_length=64, num_mel_bins=32, id2label=dict(enumerate(labels)), label2id={
            label: index for index, label in enumerate(labels)
        },
        problem_type="single_label_classification",
    )  # fmt: skip
    ASTForAudioClassification(config).save_pretrained(folder / "model")
    extractor = {"feature_extractor_type": "ASTFeatureExtractor", "max_length": 64, "num_mel_bins": 32}
    extractor |= {"sampling_rate": 16_000, "mean": -4.27, "std": 4.57, "do_normalize": True}
    (folder / "model" / "preprocessor_config.json").write_text(json.dumps(extractor))
    return folder / "model"


def model_of(name: str) -> Callable[[Path], tuple[Path, Path]]:
    """Return a `prepare` that makes a checkpoint with a label, and a clip of the same name."""

    def prepare(folder: Path) -> tuple[Path, Path]:
        return _checkpoint(folder, [name, "cat"]), wav(folder / f"{name.replace('/', '')}.wav")

    return prepare


def data_of(name: str) -> Callable[[Path], Path]:
    """Return a `prepare` that makes label folders, one of this name."""

    def prepare(folder: Path) -> Path:
        for label in (name, "cat"):
            wav(folder / "set" / label / "1.wav")
        return folder / "set"

    return prepare


def _printed(*arguments: object) -> str:
    from ast_hf import cli

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        cli.main([str(argument) for argument in arguments])
    return out.getvalue()


def classify(value: tuple[Path, Path]) -> str:
    return _printed("classify", *value)


def stock_classify(value: tuple[Path, Path]) -> str:
    """Return what the shortest program with transformers' pipeline prints."""
    from transformers import pipeline

    model, clip = value
    samples, _ = soundfile.read(clip, dtype="float32")
    scores = pipeline("audio-classification", model=str(model))(np.asarray(samples))
    return f"{clip}\t" + " ".join(f"{entry['label']} {entry['score']:.3f}" for entry in scores)


def stats(source: Path) -> str:
    return _printed("stats", source)


def is_visible(printed: Any) -> bool:
    """Return True for printed text without characters that a terminal obeys or hides."""
    unsafe = ("Cc", "Cf", "Cs", "Zl", "Zp")
    text = printed.replace("\x1b[A", "")  # progress bars
    lines = [line for line in text.split("\n") if line.strip()]
    return bool(lines) and not any(
        unicodedata.category(char) in unsafe and char not in "\n\t" for line in lines[-4:] for char in line
    )


def _linked(folder: Path) -> Path:
    root = data_of("dog")(folder)
    wav(folder / "private.wav")
    (root / "cat" / "2.wav").symlink_to(folder / "private.wav")
    return root


def _with_parent(folder: Path) -> Path:
    wav(folder / "private.wav")
    wav(folder / "set" / "1.wav")
    (folder / "set" / "metadata.csv").write_text("file_name,label\n1.wav,cat\n../private.wav,dog\n")
    return folder / "set"


def _secret(folder: Path) -> Path:
    root = data_of("dog")(folder)
    (root / "cat" / "key.wav").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    return root


def read(source: Path) -> Any:
    from ast_hf.training import load_audio_dataset

    return load_audio_dataset(source)


def stock_read(source: Path) -> Any:
    from datasets import load_dataset

    return load_dataset("audiofolder", data_dir=str(source))


def push(source: Path) -> Any:
    from ast_hf.training import push_audio_dataset

    return push_audio_dataset(read(source), "user/clips", token="none")


CASES = [
    *(
        Case(
            f"H20-{number}",
            f"classify, label and file: {kind}",
            model_of(name),
            classify,
            is_visible,
            stock_classify,
        )
        for number, (kind, name) in enumerate(NAMES.items(), start=1)
    ),
    *(
        Case(f"H21-{number}", f"stats, label: {kind}", data_of(name), stats, is_visible)
        for number, (kind, name) in enumerate(NAMES.items(), start=1)
    ),
    Case("H22", "clip that is a link to a private file", _linked, read, "W216", stock_read),
    Case("H22-push", "the same, published", _linked, push, "E705"),
    Case("H23", "path with .. in a table", _with_parent, read, "W216", stock_read),
    Case("H23-push", "the same, published", _with_parent, push, "E705"),
    Case("H24", "clip that is a key, published", _secret, push, "E201"),
]
