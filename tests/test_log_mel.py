"""The front end against Kaldi's definition, written out in float64, and against transformers' own extractor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.models.audio_spectrogram_transformer import ASTFeatureExtractor as StockFeatureExtractor

from ast_hf import ASTFeatureExtractor
from ast_hf.log_mel import frame_lengths, log_mel, mel_filters, num_frames, num_samples

MEAN, TWO_STD = -4.2677393, 9.1379948
TIME = np.arange(32_000) / 16_000


def kaldi_filters(
    rate: int, bins: int, fft_length: int, ends: tuple[float, float] | None = None
) -> np.ndarray:
    def mel(hertz: float) -> float:
        return 1127.0 * np.log(1.0 + hertz / 700.0)

    low, high = map(mel, ends or (20.0, rate / 2))
    step = (high - low) / (bins + 1)
    filters = np.zeros((bins, fft_length // 2))
    for row in range(bins):
        left, centre, right = low + row * step, low + (row + 1) * step, low + (row + 2) * step
        for column in range(fft_length // 2):
            point = mel(column * rate / fft_length)
            if left < point <= centre:
                filters[row, column] = (point - left) / (centre - left)
            elif centre < point < right:
                filters[row, column] = (right - point) / (right - centre)
    return filters


def kaldi_fbank(waveform: np.ndarray, rate: int = 16_000, bins: int = 128) -> np.ndarray:
    """Compute frame by frame, in the order of Kaldi's `feature-window.cc` and `feature-fbank.cc`."""
    samples = np.asarray(waveform, dtype=np.float64)
    frame = rate * 25 // 1000
    hop = rate * 10 // 1000
    fft_length = 1
    while fft_length < frame:
        fft_length *= 2
    filters = kaldi_filters(rate, bins, fft_length)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / (frame - 1))
    rows = []
    for start in range(0, len(samples) - frame + 1, hop):
        piece = samples[start : start + frame]
        piece = piece - piece.mean()
        piece = piece - 0.97 * np.concatenate([piece[:1], piece[:-1]])
        padded = np.concatenate([piece * window, np.zeros(fft_length - frame)])
        power = np.abs(np.fft.fft(padded))[: fft_length // 2] ** 2
        rows.append(np.log(np.maximum(filters @ power, 1.1920929e-7)))
    return np.array(rows)


def noise(seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(len(TIME))


SIGNALS = {
    "noise": 0.1 * noise(),
    "tone + DC": 0.5 * np.sin(2 * np.pi * 440 * TIME) + 0.3,
    "silence + burst": np.where((TIME > 0.5) & (TIME < 0.6), 0.5 * noise(), 0.0),
    "quiet noise + DC": 1e-3 * noise(3) + 0.3,
    "quiet tone + DC": 1e-3 * np.sin(2 * np.pi * 1000 * TIME) + 0.3,
    "harmonic, 16 bit": np.round(
        32767 * sum(0.2 / k * np.sin(2 * np.pi * 220 * k * TIME) for k in range(1, 9))
    )
    / 32768,
}


GOLDEN = [-5.83605, -4.37404, -2.12181, 2.90189, 6.14378]


def ours(waveform: np.ndarray) -> np.ndarray:
    return ASTFeatureExtractor()(waveform, 16_000, return_tensors="np", padding=False)["input_values"][0]


@pytest.mark.parametrize("name", SIGNALS)
def test_agrees_with_kaldi_in_float64(name: str) -> None:
    waveform = SIGNALS[name].astype(np.float32)
    expected = (kaldi_fbank(waveform) - MEAN) / TWO_STD
    difference = np.abs(ours(waveform) - expected)
    assert expected.shape == (198, 128)
    assert difference.max() <= 5e-4
    assert difference.mean() <= 1e-5


@pytest.mark.parametrize("name", SIGNALS)
def test_agrees_with_stock_extractor(name: str) -> None:
    waveform = SIGNALS[name].astype(np.float32)
    stock = StockFeatureExtractor()(waveform, sampling_rate=16_000, return_tensors="np")["input_values"]
    difference = np.abs(ASTFeatureExtractor()(waveform, 16_000, return_tensors="np")["input_values"] - stock)
    assert stock.shape == (1, 1024, 128)
    assert difference.max() <= 5e-4
    assert difference.mean() <= 1e-5


@pytest.mark.parametrize(
    ("rate", "bins"), [(8_000, 64), (11_025, 64), (22_050, 128), (44_100, 128), (48_000, 80)]
)
def test_other_rates_agree_with_kaldi(rate: int, bins: int) -> None:
    waveform = (0.1 * noise() + 0.05).astype(np.float32)[: rate // 2]
    expected = kaldi_fbank(waveform, rate, bins)
    result = log_mel(torch.from_numpy(waveform), rate, bins).numpy()
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() <= 5e-4 * TWO_STD


@pytest.mark.parametrize(
    ("rate", "lengths"),
    [
        (16_000, (400, 160, 512)),
        (1_000, (25, 10, 32)),
        (8_000, (200, 80, 256)),
        (22_050, (551, 220, 1024)),
        (44_100, (1102, 441, 2048)),
        (48_000, (1200, 480, 2048)),
    ],
)
def test_frames_are_25_ms_every_10_ms(rate: int, lengths: tuple[int, int, int]) -> None:
    assert frame_lengths(rate) == lengths


@pytest.mark.parametrize(
    ("samples", "rate", "frames"),
    [
        (0, 16_000, 0),
        (1, 16_000, 0),
        (399, 16_000, 0),
        (400, 16_000, 1),
        (559, 16_000, 1),
        (560, 16_000, 2),
        (16_000, 16_000, 98),
        (160_000, 16_000, 998),
        (8_000, 8_000, 98),
        (44_100, 44_100, 98),
        (22_050, 22_050, 98),
    ],
)
def test_count_of_whole_frames(samples: int, rate: int, frames: int) -> None:
    assert num_frames(samples, rate) == frames


@pytest.mark.parametrize(("frames", "samples"), [(1, 400), (2, 560), (998, 159_920), (1024, 164_080)])
def test_num_samples_is_the_fewest_for_a_number_of_frames(frames: int, samples: int) -> None:
    assert num_samples(frames, 16_000) == samples
    assert log_mel(torch.zeros(samples), 16_000, 4).shape == (frames, 4)


def test_filters_match_kaldi() -> None:
    filters = mel_filters(16_000, 128)
    assert filters.shape == (257, 128)
    np.testing.assert_allclose(filters[:256].T, kaldi_filters(16_000, 128, 512), atol=1e-12)


@pytest.mark.parametrize("ends", [(30.0, 7000.0), (20.0, 4000.0), (0.0, 8000.0)])
def test_filters_over_another_range_match_kaldi(ends: tuple[float, float]) -> None:
    filters = mel_filters(16_000, 64, ends)
    np.testing.assert_allclose(filters[:256].T, kaldi_filters(16_000, 64, 512, ends), atol=1e-12)


def test_the_default_range_changes_no_bit() -> None:
    waveform = torch.from_numpy(SIGNALS["noise"]).float()
    assert torch.equal(log_mel(waveform, 16_000, 128, (20.0, 8000.0)), log_mel(waveform, 16_000, 128))


@pytest.mark.parametrize(
    ("ends", "peak"), [((20.0, 8000.0), 96), ((20.0, 7000.0), 101), ((420.0, 8000.0), 89)]
)
def test_a_tone_moves_with_the_range(ends: tuple[float, float], peak: int) -> None:
    """4 kHz is 2146.06 mel; 20, 420, 7000 and 8000 Hz are 31.75, 529.69, 2702.43 and 2840.02; 129 steps."""
    tone = torch.from_numpy(np.sin(2 * np.pi * 4000 * TIME)).float()
    result = log_mel(tone, 16_000, 128, ends)
    assert result.shape == (198, 128)
    assert result.argmax(dim=1).unique().tolist() == [peak]


def test_golden_values() -> None:
    """Literals computed once with the float64 reference, so that it and the front end cannot drift together."""
    waveform = ((np.arange(1200) ** 2 % 4001 - 2000) / 8192).astype(np.float32)
    result = log_mel(torch.from_numpy(waveform), 16_000, 128)
    assert result.shape == (6, 128)
    places = [(0, 0), (0, 20), (2, 64), (3, 100), (5, 127)]
    np.testing.assert_allclose([float(result[place]) for place in places], GOLDEN, atol=1e-3)


def test_digital_silence_is_the_floor() -> None:
    silence = torch.zeros(16_000)
    np.testing.assert_allclose(log_mel(silence, 16_000, 128), -15.942385, atol=1e-6)
    with pytest.warns(UserWarning, match="W203"):
        np.testing.assert_allclose(ours(silence.numpy()), -1.2775937, atol=1e-6)


@pytest.mark.parametrize("hops", [1, 2, 7, 50])
def test_shift_by_whole_hops_shifts_rows(hops: int) -> None:
    waveform = torch.from_numpy(SIGNALS["tone + DC"] + SIGNALS["noise"]).float()
    assert torch.equal(log_mel(waveform, 16_000, 128)[hops:], log_mel(waveform[160 * hops :], 16_000, 128))


@pytest.mark.parametrize("gain", [0.25, 0.3, 3.0])
def test_gain_adds_its_logarithm(gain: float) -> None:
    waveform = SIGNALS["noise"].astype(np.float32)
    plain, louder = ours(waveform), ours((gain * waveform).astype(np.float32))
    above = np.minimum(plain, louder) > -1.0
    assert above.mean() > 0.9
    np.testing.assert_allclose((louder - plain)[above], 2 * np.log(gain) / TWO_STD, atol=1e-4)


@pytest.mark.parametrize("frames", [1, 15, 16, 511, 513, 1024, 1025, 1040, 2100])
def test_frames_do_not_depend_on_those_after_them_nor_on_gradients(frames: int) -> None:
    """Clips are computed in blocks, whose buffers keep samples of earlier clips."""
    waveform = torch.randn(num_samples(3000, 16_000), generator=torch.Generator().manual_seed(0))
    whole = log_mel(waveform, 16_000, 128)
    part = log_mel(waveform[: num_samples(frames, 16_000)].requires_grad_(), 16_000, 128)
    assert part.shape == (frames, 128)
    assert torch.allclose(part, whole[:frames], atol=1e-4)
