"""Stand-in for audiomentations: classes of the blog recipe with the same arguments. They change only the volume."""

import random

import numpy as np


class _Louder:
    def __init__(self, p=0.5, **settings):
        self.p, self.settings = p, settings

    def __call__(self, samples, sample_rate):
        if random.random() >= self.p:
            return samples
        return np.asarray(samples * random.uniform(0.8, 1.25), dtype=np.float32)


class AddGaussianSNR(_Louder): ...


class ClippingDistortion(_Louder): ...


class Gain(_Louder): ...


class GainTransition(_Louder): ...


class PitchShift(_Louder): ...


class TimeStretch(_Louder): ...


class Compose:
    def __init__(self, transforms, p=1.0, shuffle=False):
        self.transforms, self.p, self.shuffle = transforms, p, shuffle

    def __call__(self, samples, sample_rate):
        if random.random() >= self.p:
            return samples
        for transform in (
            random.sample(self.transforms, len(self.transforms)) if self.shuffle else self.transforms
        ):
            samples = transform(samples, sample_rate)
        return samples
