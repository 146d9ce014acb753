"""A tiny model that was trained, in seconds, to hear tones in noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

RATE = 16_000
#: Class -> frequency in Hz.
TONES = {"low tone": 500.0, "high tone": 2_500.0}


def noise_with(
    seconds: float, *tones: tuple[str, float, float], seed: int = 0, level: float = 0.01
) -> np.ndarray:
    """Return noise with tones, each (class, start, end) in seconds, float32 at 16 kHz."""
    samples = level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    for name, start, end in tones:
        first = round(start * RATE)
        last = min(round(end * RATE), len(samples))
        samples[first:last] += 0.1 * np.sin(2 * np.pi * TONES[name] * np.arange(last - first) / RATE)
    return samples.astype(np.float32)


def _examples(count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return windows of a second with tones of random times, and the tags of those that last 60 ms in them."""
    rng = np.random.default_rng(0)
    clips = []
    tags = np.zeros((count, len(TONES)), np.float32)
    for number in range(count):
        tones = []
        for index, name in enumerate(TONES):
            start = rng.uniform(-1.2, 1.0)
            end = start + rng.uniform(0.1, 1.5)
            first = max(start, 0.0)
            last = min(end, 1.0)
            if rng.random() < 0.6 and last - first > 0.01:
                tones.append((name, first, last))
                tags[number, index] = last - first > 0.06
        clips.append(noise_with(1.0, *tones, seed=number + 1, level=float(rng.uniform(0.005, 0.02))))
    return clips, tags


@pytest.fixture(scope="session")
def tone_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a multi-label model for windows of a second. Read only."""
    import torch

    from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    folder = tmp_path_factory.mktemp("tones")
    clips, tags = _examples(384)
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=98, mean=-3.2, std=1.6)
    features = extractor(clips, sampling_rate=RATE, return_tensors="pt")["input_values"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ASTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            patch_size=16,
            frequency_stride=8,
            time_stride=8,
            num_mel_bins=32,
            max_length=98,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            id2label=dict(enumerate(TONES)),
            problem_type="multi_label_classification",
        )
        model = ASTForAudioClassification(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=240)
        for step in range(240):
            rows = torch.arange(step * 32, (step + 1) * 32) % len(clips)
            loss = model(features[rows], labels=torch.from_numpy(tags)[rows]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval().save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder
