"""Fixed inputs, and what a model or a feature extractor returns for them."""

import numpy as np
import torch


def clips():
    """Return a second of a tone, and noise that is shorter than the model's input; 16 kHz."""
    noise = np.random.default_rng(7).standard_normal(4_800)
    tone = np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000)
    return [0.3 * tone.astype(np.float32), 0.1 * noise.astype(np.float32)]


def features(feature_extractor):
    """Return the features of both clips, shape (2, frames, bins)."""
    return feature_extractor(clips(), sampling_rate=16_000, return_tensors="pt")["input_values"]


def logits(model, values=None):
    """Return the logits of `values`, or of fixed noise, as lists; the model's mode does not change."""
    if values is None:
        shape = (2, model.config.max_length, model.config.num_mel_bins)
        values = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    training = model.training
    model.eval()
    with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        result = model(values.to(model.device, model.dtype)).logits.float().cpu()
    model.train(training)
    return result.tolist()
