"""Soundscapes with known onsets, mixed from ESC-10 clips and pink noise, for `benchmarks.timelines`.

The same seed gives the same mixtures. Nothing is written: they exist while a command runs.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ast_hf import load_audio
from ast_hf.timelines.events import Event

RATE = 16_000
#: Length of a mixture in seconds.
SECONDS = 60.0
#: Clips in a mixture; their places are drawn, so many overlap.
CLIPS = 8
#: Level of a clip's sounds over the noise in dB; each clip draws one.
SNRS = (0.0, 10.0, 20.0, 30.0)
#: Level of the noise in dBFS; each mixture draws one from this range.
NOISE = (-55.0, -40.0)
#: Sounds of a clip are the frames of 25 ms that are at most 30 dB below its loudest.
FRAME = RATE // 40
RANGE = 30.0
#: Sounds of a class less than a second apart are one event; shorter ones than 100 ms are none.
GAP = 1.0
SHORTEST = 0.1
#: Length of the fades where a clip is silenced outside of its events, in samples.
_FADE = RATE // 100
_PEAK = 0.9


class Sound(NamedTuple):
    """Sounds of one clip: samples from the first event to the last, and the events in seconds from there."""

    label: str
    samples: np.ndarray
    events: list[tuple[float, float]]


class Mixture(NamedTuple):
    """One soundscape: samples `(time,)` at RATE, and its events in order, those of a class disjoint."""

    name: str
    samples: np.ndarray
    events: list[Event]


def sounds_of(data: Path, fold: str) -> list[Sound]:
    """Return the sounds of all clips of a fold, in the order of the manifest."""
    with (data / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] == fold]
    return [trimmed(load_audio(data / row["path"], RATE), row["label"]) for row in rows]


def trimmed(samples: np.ndarray, label: str) -> Sound:
    """Return the sounds of a clip by energy, silenced between its events."""
    events = loud_parts(samples)
    gain = np.zeros(len(samples))
    for start, end in events:
        gain[start:end] = 1.0
    ramp = np.ones(_FADE) / _FADE
    faded = samples * np.convolve(gain, ramp, mode="same")
    first = events[0][0]
    cut = faded[first : events[-1][1]]
    times = [((start - first) / RATE, (end - first) / RATE) for start, end in events]
    return Sound(label, cut.astype(np.float32), times)


def loud_parts(samples: np.ndarray) -> list[tuple[int, int]]:
    """Return first and last sample of each event; the loudest part is one however short it is."""
    count = max(len(samples) // FRAME, 1)
    power = np.square(samples[: count * FRAME].reshape(count, -1)).mean(axis=1)
    loud = np.flatnonzero(power >= power.max() * 10 ** (-RANGE / 10))
    parts = joined([(frame * FRAME, (frame + 1) * FRAME) for frame in loud], round(GAP * RATE))
    long = [part for part in parts if part[1] - part[0] >= SHORTEST * RATE]
    return long or [max(parts, key=lambda part: part[1] - part[0])]


def joined(parts: Sequence[tuple[float, float]], gap: float) -> list:
    """Return intervals in order, those less than `gap` apart as one."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(parts):
        if merged and start - merged[-1][1] < gap:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def pink_noise(count: int, generator: np.random.Generator) -> np.ndarray:
    """Return noise whose power falls by 3 dB per octave, with an RMS of 1."""
    spectrum = np.fft.rfft(generator.standard_normal(count))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, count)
    return noise / np.sqrt(np.square(noise).mean())


def mixtures(
    sounds: Sequence[Sound], count: int, seed: int = 0, seconds: float = SECONDS
) -> Iterator[Mixture]:
    """Yield `count` mixtures; each sound is used equally often, or once more than another."""
    generator = np.random.default_rng(seed)
    order = random.Random(seed)
    deck: list[Sound] = []
    for number in range(count):
        chosen = []
        for _ in range(CLIPS):
            deck = deck or order.sample(list(sounds), len(sounds))
            chosen.append(deck.pop())
        yield mix(chosen, generator, f"mixture-{number:03d}", seconds)


def mix(sounds: Sequence[Sound], generator: np.random.Generator, name: str, seconds: float) -> Mixture:
    """Return the mixture of some sounds at places that the generator draws, and noise."""
    length = round(seconds * RATE)
    level = 10 ** (generator.uniform(*NOISE) / 20)
    total = pink_noise(length, generator) * level
    events: list[tuple[str, float, float]] = []
    for sound in sounds:
        samples = sound.samples[:length]
        start = int(generator.integers(0, length - len(samples) + 1))
        gain = level * 10 ** (generator.choice(SNRS) / 20) / loudness(sound)
        total[start : start + len(samples)] += samples * gain
        events += [(sound.label, start / RATE + first, start / RATE + last) for first, last in sound.events]
    total *= min(1.0, _PEAK / np.abs(total).max())
    truth = [
        Event(start, min(end, seconds), label)
        for label in sorted({label for label, _, _ in events})
        for start, end in joined([(start, end) for name, start, end in events if name == label], GAP)
    ]
    return Mixture(name, total.astype(np.float32), sorted(truth))


def loudness(sound: Sound) -> float:
    """Return the RMS of a sound within its events."""
    parts = [sound.samples[round(start * RATE) : round(end * RATE)] for start, end in sound.events]
    return float(np.sqrt(np.square(np.concatenate(parts)).mean()))


def overlap(events: Sequence[Event]) -> float:
    """Return the share of the time with an event in which there are several."""
    edges = sorted([(event.start, 1) for event in events] + [(event.end, -1) for event in events])
    covered = several = last = 0.0
    active = 0
    for time, change in edges:
        covered += (time - last) * (active > 0)
        several += (time - last) * (active > 1)
        active += change
        last = time
    return several / covered if covered else 0.0
