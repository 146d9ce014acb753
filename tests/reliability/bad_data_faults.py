"""Tables C and E: clips of a run that are bad, shared, contradictory or others than before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from .cases import Case

_RATE = 16_000
_TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_mel_bins": 32,
    "max_length": 64,
}


def make_clips(root: Path, sizes: dict[str, int]) -> list[Path]:
    """Write clips of 0.4 s in label folders, `sizes` of each split; return them in order, split by split."""
    files = []
    for split, count in sizes.items():
        for number in range(count):
            random = np.random.default_rng([len(split), number])
            label = ("noise", "tone")[number % 2]
            time = np.arange(6_400) / _RATE
            samples = 0.1 * random.standard_normal(len(time))
            if label == "tone":
                samples = 0.3 * np.sin(2 * np.pi * random.uniform(300, 3_000) * time) + 0.01 * samples
            file = root / split / label / f"{number:05d}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, samples, _RATE)
            files.append(file)
    return files


def recipe(source: Path, data: dict[str, Any] | None = None, **training: Any) -> Any:
    """Return a recipe of a tiny model; `data` are options of that section."""
    from ast_hf.training import Recipe

    return Recipe.from_dict(
        {
            "name": "tones",
            "data": {"source": str(source), **(data or {})},
            "model": {"config": _TINY},
            "threads": 1,
            "training": {
                "num_train_epochs": 1,
                "per_device_train_batch_size": 8,
                "learning_rate": 2e-3,
                "use_cpu": True,
                "disable_tqdm": True,
                **training,
            },
        }
    )


def _small(folder: Path) -> list[Path]:
    return make_clips(folder / "clips", {"train": 16, "test": 8})


def _spoiled(number: int, spoil: Callable[[Path], Any]) -> Callable[[Path], Path]:
    """Return a preparation of 24 clips, of which `spoil` changes one; 0 to 15 are training clips."""

    def prepare(folder: Path) -> Path:
        spoil(_small(folder)[number])
        return folder

    return prepare


def _finetune(folder: Path, **data: Any) -> Any:
    from ast_hf.training import finetune

    return finetune(recipe(folder / "clips", data), folder / "run")


def _finetune_with_statistics(folder: Path) -> Any:
    from ast_hf.training import finetune

    plan = recipe(folder / "clips")
    plan.features.mean = -4.0
    plan.features.std = 4.0
    return finetune(plan, folder / "run")


def _stock_train(folder: Path) -> Any:
    """Train transformers' AST on the clips as its guide to audio classification does, with soundfile."""
    import torch
    from transformers import Trainer, TrainingArguments
    from transformers.models.audio_spectrogram_transformer import (
        ASTConfig,
        ASTForAudioClassification,
        feature_extraction_audio_spectrogram_transformer,
    )

    extractor = feature_extraction_audio_spectrogram_transformer.ASTFeatureExtractor(
        num_mel_bins=32, max_length=64
    )

    class Clips(torch.utils.data.Dataset):
        def __init__(self, split: str) -> None:
            self.files = sorted((folder / "clips" / split).rglob("*.wav"))

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, number: int) -> dict[str, Any]:
            samples, rate = soundfile.read(self.files[number], dtype="float32")
            values = extractor(samples, sampling_rate=rate, return_tensors="pt")["input_values"][0]
            return {"input_values": values, "labels": int(self.files[number].parent.name == "tone")}

    model = ASTForAudioClassification(ASTConfig(**_TINY, num_labels=2))
    arguments = TrainingArguments(
        folder / "stock", num_train_epochs=1, use_cpu=True, disable_tqdm=True, report_to=[]
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=Clips("train"))
    trainer.train()
    trainer.evaluate(Clips("test"))
    return "trained and evaluated"


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _damage(file: Path) -> None:
    soundfile.write(file, np.random.default_rng(0).standard_normal(32_000) / 9, _RATE, format="FLAC")
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = b"\x55" * 200
    file.write_bytes(content)


def _leak(folder: Path) -> Path:
    files = _small(folder)
    shutil.copy(files[0], files[16])
    return folder


def _contradict(folder: Path) -> Path:
    files = _small(folder)
    shutil.copy(files[0], files[1])
    return folder


def _long(folder: Path) -> Path:
    for number, file in enumerate(_small(folder)):
        soundfile.write(file, np.random.default_rng(number).standard_normal(80_000) / 9, _RATE)
    return folder


def _interrupted(change: Callable[[list[Path]], Any]) -> Callable[[Path], Path]:
    """Return a preparation of a run with checkpoints, whose clips `change` then changes."""

    def prepare(folder: Path) -> Path:
        from ast_hf.training import prepare

        files = _small(folder)
        plan = recipe(folder / "clips", num_train_epochs=2, save_strategy="steps", save_steps=1, max_steps=2)
        trainer = prepare(plan, folder / "run").trainer
        trainer.train()
        trainer.release_folder()
        change(files)
        return folder

    return prepare


def _resume(folder: Path) -> Any:
    from ast_hf.training import prepare

    plan = recipe(folder / "clips", num_train_epochs=2, save_strategy="steps", save_steps=1, max_steps=2)
    trainer = prepare(plan, folder / "run").trainer
    trainer.train(resume_from_checkpoint="auto")
    return trainer.changes


def _replace_sound(files: list[Path]) -> None:
    """Write other sound of the same length and time."""
    state = files[3].stat()
    soundfile.write(files[3], np.random.default_rng(99).standard_normal(6_400) / 9, _RATE)
    assert files[3].stat().st_size == state.st_size
    os.utime(files[3], ns=(state.st_atime_ns, state.st_mtime_ns))


def _swap(files: list[Path]) -> None:
    first = files[0].read_bytes()
    files[0].write_bytes(files[2].read_bytes())
    files[2].write_bytes(first)


def _touch(files: list[Path]) -> None:
    for file in files:
        os.utime(file, (1_000_000_000, 1_000_000_000))


CASES = [
    Case("C2-cut", "a training clip cut in half", _spoiled(3, _cut), _finetune, "E202", _stock_train),
    Case(
        "C2-empty",
        "an empty file",
        _spoiled(3, lambda file: file.write_bytes(b"")),
        _finetune,
        "E201",
        _stock_train,
    ),
    Case(
        "C2-short",
        "a clip shorter than a frame",
        _spoiled(3, lambda file: soundfile.write(file, np.zeros(100), _RATE)),
        _finetune,
        "E103",
        _stock_train,
    ),
    Case("C2-test", "a test clip cut in half", _spoiled(20, _cut), _finetune, "E202", _stock_train),
    Case(
        "C2-given", "the same, with mean and std given", _spoiled(20, _cut), _finetune_with_statistics, "E202"
    ),
    Case(
        "C2-inside",
        "a test clip damaged inside, data.check: full",
        _spoiled(20, _damage),
        lambda folder: _finetune(folder, check="full"),
        "E203",
        _stock_train,
    ),
    Case(
        "C3-skip",
        "a bad clip of 24, skipped",
        _spoiled(3, _cut),
        lambda folder: _finetune(folder, on_error="skip", max_skipped_fraction=0.1),
        "W214",
    ),
    Case(
        "C3-many",
        "a bad clip of 24, one of 100 may be skipped",
        _spoiled(3, _cut),
        lambda folder: _finetune(folder, on_error="skip"),
        "E210",
    ),
    Case("C22-content", "a training clip also in test", _leak, _finetune, "W215", _stock_train),
    Case("C22-labels", "a clip with two labels", _contradict, _finetune, "W215", _stock_train),
    Case("C22-long", "clips of 5 s, for a model of 0.6 s", _long, _finetune, "W201", _stock_train),
    Case("E9-sound", "resumed with other sound in a file", _interrupted(_replace_sound), _resume, "E306"),
    Case("E9-swapped", "resumed with two files swapped", _interrupted(_swap), _resume, "E306"),
    Case(
        "E9-renamed",
        "resumed with a renamed file",
        _interrupted(lambda files: files[1].rename(files[1].with_name("00001b.wav"))),
        _resume,
        "E306",
    ),
    Case("E9-gone", "resumed without a clip", _interrupted(lambda files: files[2].unlink()), _resume, "E306"),
    Case(
        "E9-touched",
        "resumed with other file times",
        _interrupted(_touch),
        _resume,
        lambda changes: changes == [],
    ),
]
