"""Each augmentation alone: off is the identity; on is bounded, seeded and leaves its input unchanged."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ast_hf import AstConfigError
from ast_hf.inputs.augmentation import (
    Augmentation,
    change_speed,
    mix_style,
    shift,
    shift_bins,
    smooth_gain,
    stretch,
)

RATE, LIMIT = 16_000, 12_000

WAVEFORM_OPTIONS = [
    {"speed": 1.25},
    {"delay_seconds": 0.1},
    {"advance_seconds": 0.1},
    {"delay_seconds": 0.1, "advance_seconds": 0.1},
    {"random_crop": True},
    {"gain_db": 6.0},
]
SPECTROGRAM_OPTIONS = [
    {"equalizer_db": 3.0},
    {"time_stretch": 1.5},
    {"mel_shift": 3},
    {"frequency_masks": 2, "frequency_mask_width": 12},
    {"time_masks": 2, "time_mask_width": 20},
]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def raw() -> torch.Tensor:
    """Return 64 frames of 32 bins without a zero."""
    return torch.rand(64, 32, generator=torch.Generator().manual_seed(0)) + 0.5


def vary(augmentation: Augmentation, raw: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Apply all augmentations of a spectrogram."""
    return augmentation.mask(augmentation.vary_spectrogram(raw, random), random)


@pytest.mark.parametrize("length", [500, LIMIT, 16_000])
def test_off_is_the_identity(tone: np.ndarray, raw: torch.Tensor, length: int) -> None:
    off = Augmentation()
    np.testing.assert_array_equal(
        off.vary_waveform(tone[:length], RATE, LIMIT, generator()), tone[:length][:LIMIT]
    )
    assert torch.equal(off.vary_spectrogram(raw, generator()), raw)
    assert torch.equal(off.mask(raw.clone(), generator()), raw)
    assert not off.softens_labels


@pytest.mark.parametrize("options", WAVEFORM_OPTIONS, ids=str)
def test_waveform_option(tone: np.ndarray, options: dict) -> None:
    before = tone.copy()
    tone.setflags(write=False)
    first, again, other = (
        Augmentation(**options).vary_waveform(tone, RATE, LIMIT, generator(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, before[:LIMIT])
    assert first.dtype == np.float32
    assert len(first) <= LIMIT
    np.testing.assert_array_equal(tone, before)


@pytest.mark.parametrize("options", SPECTROGRAM_OPTIONS, ids=str)
def test_spectrogram_option(raw: torch.Tensor, options: dict) -> None:
    before = raw.clone()
    first, again, other = (vary(Augmentation(**options), raw, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)
    assert first.shape != before.shape or not torch.equal(first, before)
    assert (first.shape[1], first.dtype) == (raw.shape[1], torch.float32)
    assert torch.equal(raw, before)


@pytest.mark.parametrize(("factor", "frequency"), [(2.0, 880.0), (0.5, 220.0), (1.25, 550.0)])
def test_speed_moves_pitch_and_length(tone: np.ndarray, factor: float, frequency: float) -> None:
    faster = change_speed(tone, RATE, factor)
    peak = np.abs(np.fft.rfft(faster * np.hanning(len(faster)), 16 * RATE)).argmax() / 16
    assert peak == pytest.approx(frequency, abs=0.5)
    assert len(faster) == pytest.approx(len(tone) / factor, abs=1)


def test_speed_is_log_uniform_on_both_sides(tone: np.ndarray) -> None:
    varied = Augmentation(speed=2.0)
    random = generator()
    octaves = [
        math.log2(1000 / len(varied.vary_waveform(tone[:1000], RATE, LIMIT, random))) for _ in range(400)
    ]
    assert -1.002 <= min(octaves) < -0.95
    assert 0.95 < max(octaves) <= 1.002
    assert np.mean(octaves) == pytest.approx(0.0, abs=0.1)  # a uniform factor would have 0.26


@pytest.mark.parametrize(
    ("samples", "expected"),
    [(2, [0, 0, 1, 2, 3, 4, 5]), (0, [1, 2, 3, 4, 5]), (-1, [2, 3, 4, 5]), (-2, [3, 4, 5]), (-4, [3, 4, 5])],
)
def test_shift_by_hand(samples: int, expected: list[float]) -> None:
    shifted = shift(np.array([1, 2, 3, 4, 5], np.float32), samples)
    assert shifted.dtype == np.float32
    assert shifted.tolist() == expected


@pytest.mark.parametrize(
    ("options", "lowest", "highest"),
    [
        ({"delay_seconds": 0.05}, 0, 800),
        ({"advance_seconds": 0.05}, -800, 0),
        ({"delay_seconds": 0.02, "advance_seconds": 0.05}, -800, 320),
        ({"advance_seconds": 0.5}, -2000, 0),
    ],
)
def test_shift_bounds(options: dict, lowest: int, highest: int) -> None:
    clip = np.arange(1, 4001, dtype=np.float32)
    shifts = []
    random = generator()
    for _ in range(600):
        moved = Augmentation(**options).vary_waveform(clip, RATE, LIMIT, random)
        silence = int((moved == 0).sum())
        np.testing.assert_array_equal(moved[silence:], clip[len(clip) - (len(moved) - silence) :])
        assert not moved[:silence].any()
        shifts.append(len(moved) - len(clip))
    assert (min(shifts), max(shifts)) == (pytest.approx(lowest, abs=40), pytest.approx(highest, abs=40))
    assert lowest <= min(shifts) <= max(shifts) <= highest


def test_gain_stays_within_its_bounds() -> None:
    random = generator()
    varied = Augmentation(gain_db=6.0)
    clip = np.full(100, 0.25, np.float32)
    gains = [20 * np.log10(varied.vary_waveform(clip, RATE, LIMIT, random) / 0.25) for _ in range(300)]
    assert max(np.ptp(gain) for gain in gains) < 1e-5  # one gain per clip
    values = [float(gain[0]) for gain in gains]
    assert -6.001 <= min(values) < -5.7
    assert 5.7 < max(values) <= 6.001


def test_random_crop_takes_every_start() -> None:
    clip = np.arange(110, dtype=np.float32)
    random = generator()
    crops = [Augmentation(random_crop=True).vary_waveform(clip, RATE, 100, random) for _ in range(300)]
    assert {len(crop) for crop in crops} == {100}
    assert {int(crop[0]) for crop in crops} == set(range(11))
    assert all((np.diff(crop) == 1).all() for crop in crops)


@pytest.mark.parametrize("seed", range(20))
def test_never_longer_than_the_model_input(tone: np.ndarray, seed: int) -> None:
    varied = Augmentation(
        speed=3.0, delay_seconds=2.0, advance_seconds=0.5, random_crop=bool(seed % 2), gain_db=3.0
    )
    assert 0 < len(varied.vary_waveform(tone, RATE, 5000, generator(seed))) <= 5000


def masked(options: dict, axis: int, random: np.random.Generator) -> list[int]:
    """Return the masked rows (0) or columns (1) of a spectrogram of ones."""
    result = Augmentation(**options).mask(torch.ones(64, 32), random)
    zero = result == 0.0
    assert ((result == 1.0) | zero).all()
    lines = zero.all(dim=1 - axis)
    assert torch.equal(zero, lines[:, None].expand_as(zero) if axis == 0 else lines.expand_as(zero))
    return lines.nonzero().flatten().tolist()


def runs(lines: list[int]) -> int:
    return sum(line - 1 not in lines for line in lines)


@pytest.mark.parametrize(("axis", "name", "size"), [(0, "time", 64), (1, "frequency", 32)])
def test_one_mask_is_one_run_of_lines(axis: int, name: str, size: int) -> None:
    random = generator()
    options = {f"{name}_masks": 1, f"{name}_mask_width": 5}
    masks = [masked(options, axis, random) for _ in range(800)]
    assert {len(lines) for lines in masks} == {0, 1, 2, 3, 4}
    assert max(runs(lines) for lines in masks) == 1
    assert {line for lines in masks for line in lines} == set(range(size))  # padding and both edges too


@pytest.mark.parametrize(("axis", "name"), [(0, "time"), (1, "frequency")])
def test_number_and_width_of_masks(axis: int, name: str) -> None:
    random = generator()
    three = [runs(masked({f"{name}_masks": 3, f"{name}_mask_width": 4}, axis, random)) for _ in range(200)]
    assert max(three) == 3
    assert masked({f"{name}_masks": 3, f"{name}_mask_width": 0}, axis, random) == []
    widths = [len(masked({f"{name}_masks": 1, f"{name}_mask_width": 200}, axis, random)) for _ in range(50)]
    assert max(widths) == (64, 32)[axis]


def test_equalizer_changes_all_frames_alike() -> None:
    random = generator()
    gains = []
    for _ in range(600):
        result = Augmentation(equalizer_db=3.0).vary_spectrogram(torch.zeros(40, 32), random)
        assert torch.equal(result, result[:1].expand(40, -1))
        gains.append(result[0])
    edges = torch.stack(gains)[:, [0, -1]]  # 3 dB are 0.69 in natural logarithms of energy
    assert edges.std().item() == pytest.approx(0.6908, rel=0.08)
    assert edges.mean().item() == pytest.approx(0.0, abs=0.06)


def test_equalizer_is_smooth() -> None:
    random = generator()
    gains = torch.stack([smooth_gain(128, 3.0, random) for _ in range(200)])
    assert gains.shape == (200, 128)
    assert (gains.diff(dim=1).std() / gains.std()).item() < 0.1  # white noise has 1.41


def test_stretch_is_linear_between_frames() -> None:
    ramp = torch.arange(5.0)[:, None].expand(5, 3)
    assert stretch(ramp, 2.0)[:, 0].tolist() == [0.0, 2.0]
    assert stretch(ramp, 0.5)[:, 0].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0]
    assert torch.equal(stretch(ramp, 1.0), ramp)
    assert len(stretch(ramp[:1], 4.0)) == 1


def test_stretch_keeps_pitch() -> None:
    raw = torch.zeros(20, 8)
    raw[:, 3] = 1.0
    for factor in (0.5, 1.3, 2.0):
        assert stretch(raw, factor).argmax(dim=1).unique().tolist() == [3]


def test_shifted_bins_repeat_the_edge() -> None:
    row = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert shift_bins(row, 1).tolist() == [[1.0, 1.0, 2.0, 3.0]]
    assert shift_bins(row, -2).tolist() == [[3.0, 4.0, 4.0, 4.0]]
    assert shift_bins(row, 0).tolist() == row.tolist()


def test_mix_style_takes_over_mean_and_spread_of_each_bin() -> None:
    generator = torch.Generator().manual_seed(0)
    raw = 3.0 * torch.randn(200, 4, generator=generator) - 5.0
    other = torch.tensor([1.0, 2.0, 0.5, 1.0]) * torch.randn(90, 4, generator=generator) + torch.arange(4.0)
    assert torch.allclose(mix_style(raw, other, 1.0), raw, atol=1e-5)
    taken = mix_style(raw, other, 0.0)
    assert torch.allclose(taken.mean(dim=0), other.mean(dim=0), atol=1e-4)
    assert torch.allclose(taken.std(dim=0, correction=0), other.std(dim=0, correction=0), rtol=0.02)
    half = mix_style(raw, other, 0.5)
    assert torch.allclose(half.mean(dim=0), (raw.mean(dim=0) + other.mean(dim=0)) / 2, atol=1e-4)
    assert torch.isfinite(mix_style(torch.full((5, 4), -15.9), other, 0.3)).all()


def test_noise_is_uniform_up_to_its_level(raw: torch.Tensor) -> None:
    """Noise is x + U[0, 1) * u / 10, with u uniform in [0, 1) for the clip."""
    levels = []
    for seed in range(200):
        added = Augmentation(noise=0.1).disturb(raw, generator(seed)) - raw
        assert added.min() + 1e-6 >= 0
        assert added.max() < 0.1 + 1e-6
        levels.append(float(added.max()))
        assert added.mean() == pytest.approx(levels[-1] / 2, rel=0.15)
    assert min(levels) < 0.01 < 0.09 < max(levels)


def test_roll_wraps_around_the_whole_spectrogram(raw: torch.Tensor) -> None:
    shifts = set()
    for seed in range(400):
        rolled = Augmentation(roll_frames=10).disturb(raw, generator(seed))
        (shift,) = [frames for frames in range(-12, 13) if torch.equal(rolled, raw.roll(frames, 0))]
        shifts.add(shift)
    assert shifts == set(range(-10, 10))


def test_disturb_is_off_by_default(raw: torch.Tensor) -> None:
    random = generator()
    assert torch.equal(Augmentation().disturb(raw, random), raw)
    assert random.random() == generator().random()  # nothing was drawn


def test_mel_jitter_draws_both_ends_from_16_values() -> None:
    varied = Augmentation(mel_low_jitter_hz=30.0, mel_high_jitter_hz=1500.0)
    random = generator()
    drawn = [varied.mel_range(RATE, random) for _ in range(600)]
    lows, highs = (set(ends) for ends in zip(*drawn, strict=True))
    assert sorted(lows) == pytest.approx([20.0 + 2 * step for step in range(16)])
    assert sorted(highs) == pytest.approx([6500.0 + 100 * step for step in range(16)])
    assert len(set(drawn)) > 200  # the two ends are drawn independently: 256 pairs
    assert [varied.mel_range(RATE, generator(3)) for _ in range(2)] == [
        varied.mel_range(RATE, generator(3))
    ] * 2


@pytest.mark.parametrize(
    ("options", "lows", "highs"),
    [
        ({"mel_low_jitter_hz": 15.0}, (20.0, 35.0), (8000.0, 8000.0)),
        ({"mel_high_jitter_hz": 15.0}, (20.0, 20.0), (7985.0, 8000.0)),
    ],
    ids=str,
)
def test_mel_jitter_of_one_end(options: dict, lows: tuple, highs: tuple) -> None:
    random = generator()
    drawn = [Augmentation(**options).mel_range(RATE, random) for _ in range(200)]
    for values, bounds in zip(zip(*drawn, strict=True), (lows, highs), strict=True):
        assert (min(values), max(values)) == pytest.approx(bounds)


def test_mel_jitter_is_off_by_default() -> None:
    random = generator()
    assert Augmentation().mel_range(RATE, random) is None
    assert random.random() == generator().random()  # nothing was drawn


def test_mel_jitter_keeps_at_least_half_of_the_frequencies() -> None:
    Augmentation(mel_high_jitter_hz=3980.0).check(16_000)
    with pytest.raises(AstConfigError, match=r"E307.*mel jitter.*2980 Hz of the 8000 Hz"):
        Augmentation(mel_high_jitter_hz=5000.0).check(16_000)
    with pytest.raises(AstConfigError, match="E307"):
        Augmentation(mel_low_jitter_hz=2000.0).check(8_000)
