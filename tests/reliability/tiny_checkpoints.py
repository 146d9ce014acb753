"""A tiny checkpoint to damage, and what a user does with it, with and without our package."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS, CONFIG, EXTRACTOR, PICKLE = (
    "model.safetensors",
    "config.json",
    "preprocessor_config.json",
    "pytorch_model.bin",
)
QUERY = "audio_spectrogram_transformer.encoder.layer.1.attention.attention.query.weight"
#: 2 layers, 24 wide, 3 x 7 patches of a 64-frame, 32-bin spectrogram.
SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "frequency_stride": 8,
    "time_stride": 8,
    "num_mel_bins": 32,
    "max_length": 64,
}
#: Tests find it where hostile code would have been run.
MARKER = "executed"

Change = Callable[[Path], Any]


def write_checkpoint(folder: Path) -> Path:
    """Write a checkpoint of three labels with its extractor; return the folder."""
    import torch

    from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    torch.manual_seed(0)
    labels = {0: "cat", 1: "dog", 2: "owl"}
    config = ASTConfig(**SIZES, id2label=labels, problem_type="single_label_classification")
    ASTForAudioClassification(config).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
    return folder


def changed(*changes: Change) -> Change:
    """Return a `prepare` that writes a checkpoint and damages it."""

    def prepare(folder: Path) -> Path:
        checkpoint = write_checkpoint(folder / "checkpoint")
        for change in changes:
            change(checkpoint)
        return checkpoint

    return prepare


def fields(name: str = CONFIG, without: tuple[str, ...] = (), **values: Any) -> Change:
    """Return a change of fields of a JSON file."""

    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        kept = {key: value for key, value in content.items() if key not in without}
        (folder / name).write_text(json.dumps({**kept, **values}), encoding="utf-8")

    return change


def content(name: str, data: bytes | Callable[[bytes], bytes]) -> Change:
    """Return a change of a file's bytes."""

    def change(folder: Path) -> None:
        path = folder / name
        path.write_bytes(data if isinstance(data, bytes) else data(path.read_bytes()))

    return change


def tensors(edit: Callable[[dict[str, Any]], Any]) -> Change:
    """Return a change of the tensors in the safetensors file; `edit` returns a dict or changes its argument."""

    def change(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        state = load_file(folder / WEIGHTS)
        save_file(edit(state) or state, folder / WEIGHTS, metadata={"format": "pt"})

    return change


def pickled(edit: Callable[[dict[str, Any]], Any] = lambda state: state, **options: Any) -> Change:
    """Return a change of the safetensors file into a pickle; `edit` returns what is stored."""

    def change(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file

        state = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        torch.save(edit(state), folder / PICKLE, **options)

    return change


def noise() -> np.ndarray:
    """Return a second of noise, 16 kHz."""
    return (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)


def ours(folder: Path) -> Any:
    """Load with our classes, and return the logits of a clip."""
    from ast_hf import ASTFeatureExtractor, ASTForAudioClassification

    model = ASTForAudioClassification.from_pretrained(folder)
    extractor = ASTFeatureExtractor.from_pretrained(folder)
    inputs = extractor(noise(), sampling_rate=extractor.sampling_rate, return_tensors="pt")
    values = inputs["input_values"][:, : model.config.max_length].to(
        model.dtype
    )  # an extractor may give more
    return model(input_values=values, return_dict=True).logits.detach().float().numpy()


def stock(folder: Path) -> Any:
    """Load with transformers' classes, and return the logits of a clip."""
    from transformers.models import audio_spectrogram_transformer as package

    model = package.ASTForAudioClassification.from_pretrained(folder)
    extractor = package.ASTFeatureExtractor.from_pretrained(folder)
    inputs = extractor(noise(), sampling_rate=extractor.sampling_rate, return_tensors="pt")
    values = inputs["input_values"][:, : model.config.max_length].to(
        model.dtype
    )  # an extractor may give more
    return model(input_values=values, return_dict=True).logits.detach().float().numpy()


def auto(folder: Path) -> Any:
    """Load with the Auto class, and return the number of labels."""
    from transformers import AutoModelForAudioClassification

    import ast_hf  # noqa: F401

    return AutoModelForAudioClassification.from_pretrained(folder).config.num_labels


class CommandError(Exception):
    """A command that ended with an exit code other than 0; `code` is that of the error it printed."""

    def __init__(self, printed: str) -> None:
        super().__init__(printed)
        found = re.findall(r"\[AST-(E\d{3})\]", printed)
        self.code = found[-1] if found else ""


def command(*words: str) -> Callable[[Path], Any]:
    """Return a call of the command line; `"{}"` in a word is the folder. It answers questions with yes."""

    def call(folder: Path) -> Any:
        import sys

        from ast_hf import cli

        printed = io.StringIO()
        sys.stdin = io.StringIO("y\n" * 5)
        with contextlib.redirect_stderr(printed):
            code = cli.main([word.format(folder) for word in words])
        if code:
            raise CommandError(printed.getvalue())
        return "nothing executed" if not list(folder.glob(f"**/{MARKER}")) else "executed"

    return call


def wav(folder: Path) -> None:
    """Write `noise.wav` into the checkpoint's folder."""
    import soundfile

    soundfile.write(folder / "noise.wav", noise(), 16_000)


#: `ast-hf classify` and `ast-hf info` of the checkpoint.
classify = command("classify", "{}", "{}/noise.wav")
info = command("info", "{}")


def is_finite(logits: Any) -> bool:
    """Return True for the logits of three labels without NaN."""
    return logits.shape == (1, 3) and bool(np.isfinite(logits).all())


def is_quiet(outcome: Any) -> bool:
    """Return True if nothing was executed."""
    return outcome == "nothing executed"
