"""The pass over a whole batch, as a GPU computes it, here on the CPU: against clip by clip, and its operators."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from operators import Operators
from test_log_mel import SIGNALS, TWO_STD, kaldi_fbank

from ast_hf import ASTFeatureExtractor, device_features, feature_extraction_ast
from ast_hf.errors import AstHfError
from ast_hf.log_mel import log_mel, log_mel_batch

RANDOM = np.random.default_rng(11)


def noise(samples: int) -> np.ndarray:
    return (0.1 * RANDOM.standard_normal(samples)).astype(np.float32)


@pytest.fixture
def one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the CPU as a GPU."""
    monkeypatch.setattr(feature_extraction_ast, "is_batched", lambda device: True)


def by_clip(clips: list[np.ndarray], **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ASTFeatureExtractor()(clips, 16_000, return_tensors="np", **options)["input_values"]


def assert_agrees(result: np.ndarray, expected: np.ndarray) -> None:
    """Raise unless normalised features agree to 1e-4, but for a few in a million near a zero of the spectrum.

    The float32 of `log_mel` has these, against float64, too.
    """
    difference = np.abs(result - expected)
    assert difference.max() <= 3e-4
    assert (difference > 1e-4).mean() <= 1e-5
    assert difference.mean() <= 1e-6


@pytest.mark.parametrize("name", SIGNALS)
def test_a_batch_agrees_with_clip_by_clip_and_with_kaldi(name: str) -> None:
    waveform = torch.from_numpy(SIGNALS[name].astype(np.float32))
    batch = log_mel_batch(torch.stack([waveform, waveform.flip(0)]), 16_000, 128)
    for values, clip in zip(batch, (waveform, waveform.flip(0)), strict=True):
        # Between the harmonics of a tone, the float32 of `log_mel` differs from float64 by up to 5e-4.
        tolerance = 5e-4 if "tone" in name or "harmonic" in name else 1e-4
        assert (values - log_mel(clip, 16_000, 128)).abs().max() / TWO_STD <= tolerance
        assert np.abs(values.numpy() - kaldi_fbank(clip.numpy())).max() / TWO_STD <= 1e-6


@pytest.mark.parametrize(("rate", "bins"), [(8_000, 64), (22_050, 128), (48_000, 80)])
def test_other_rates_agree(rate: int, bins: int) -> None:
    waveform = torch.from_numpy(noise(rate // 2))
    batch = log_mel_batch(waveform[None], rate, bins)[0].numpy()
    assert_agrees(batch / TWO_STD, log_mel(waveform, rate, bins).numpy() / TWO_STD)


LENGTHS = [400, 401, 559, 560, 2_800, 16_000, 77_777, 160_000, 170_000]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "longest"},
        {"padding": "longest", "pad_to_multiple_of": 7},
        {"do_normalize": False},
        {"max_length": 50, "truncation": True},
        {"truncation": False},
    ],
)
def test_lengths_padding_and_cuts_agree_with_clip_by_clip(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [noise(length) for length in LENGTHS]
    expected = by_clip(clips, **options)
    monkeypatch.setattr(feature_extraction_ast, "is_batched", lambda device: True)
    result = by_clip(clips, **options)
    assert result.shape == expected.shape
    scale = TWO_STD if options.get("do_normalize") is False else 1.0
    assert_agrees(result / scale, expected / scale)
    padding = expected == expected[0, -1, 0]
    assert padding.mean() > 0.1
    assert np.array_equal(result[padding], expected[padding])


def test_clips_without_padding_agree_with_clip_by_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [noise(length) for length in LENGTHS]
    extractor = ASTFeatureExtractor()
    expected = extractor(clips, 16_000, padding=False, truncation=True, return_attention_mask=False)
    monkeypatch.setattr(feature_extraction_ast, "is_batched", lambda device: True)
    result = extractor(clips, 16_000, padding=False, truncation=True, return_attention_mask=False)
    assert [row.shape for row in result["input_values"]] == [row.shape for row in expected["input_values"]]
    assert_agrees(np.concatenate(result["input_values"]), np.concatenate(expected["input_values"]))


@pytest.mark.parametrize("lengths", [[16_000] * 32, [16_000 + 800 * index for index in range(32)]])
def test_a_batch_takes_at_most_20_operators_and_one_copy_to_the_host(lengths: list[int]) -> None:
    batch = device_features.padded(
        [torch.from_numpy(noise(length)) for length in lengths], torch.device("cpu")
    )
    frames = [1 + (length - 400) // 160 for length in lengths]
    device_features.log_mel_padded(batch[:1], frames[:1], 16_000, 128)  # makes the filters
    with Operators() as operators:
        device_features.log_mel_padded(batch, frames, 16_000, 128)
        device_features.extremes(batch)
    assert sum(operators.counts.values()) <= 20, operators.counts
    assert not [name for name in operators.counts if "_local_scalar_dense" in name or "nonzero" in name]


def test_a_call_reads_no_value_before_the_last_operator(one_pass: None) -> None:
    """`.tolist()` and `.item()` of a tensor on a GPU wait for it; the levels are read once, at the end."""
    clips = list(torch.from_numpy(np.stack([noise(16_000) for _ in range(6)])))
    extractor = ASTFeatureExtractor()
    extractor(clips, 16_000, return_tensors="pt")
    with Operators() as operators:
        extractor(clips, 16_000, return_tensors="pt")
    assert not [name for name in operators.counts if "_local_scalar_dense" in name]
    assert sum(operators.counts.values()) <= 30, operators.counts


@pytest.fixture
def low_precision() -> Iterator[None]:
    """Allow bfloat16 factors in products of float32 matrices."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def test_settings_that_shorten_factors_change_no_bit(low_precision: None) -> None:
    waveforms = torch.from_numpy(np.stack([noise(32_000)] * 2))
    with torch.autocast("cpu", torch.bfloat16):
        result = log_mel_batch(waveforms, 16_000, 128)
    torch.set_float32_matmul_precision("highest")
    assert result.dtype == torch.float32
    assert torch.equal(result, log_mel_batch(waveforms, 16_000, 128))


def test_passes_stay_within_their_size() -> None:
    def groups(*lengths: int) -> list[list[int]]:
        return [list(group) for group in device_features.passes([torch.empty(length) for length in lengths])]

    most = device_features.MOST_SAMPLES
    assert groups(400) == [[0]]
    assert groups(*[160_000] * 65) == [list(range(65))]
    assert groups(*[164_080] * 65) == [list(range(64)), [64]]
    assert groups(400, most + 1, 400) == [[0], [1], [2]]


def test_several_passes_agree_with_one(one_pass: None, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [noise(length) for length in (16_000, 20_000, 400, 33_333, 8_000)]
    expected = by_clip(clips)
    monkeypatch.setattr(device_features, "MOST_SAMPLES", 40_000)
    np.testing.assert_allclose(by_clip(clips), expected, atol=1e-6)


def test_levels_are_checked_after_the_pass_in_order(one_pass: None) -> None:
    clips = [noise(16_000) for _ in range(6)]
    clips[1] = np.full(8_000, 0.25, np.float32)
    clips[3] = 100 * noise(20_000)
    extractor = ASTFeatureExtractor()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        extractor(clips, 16_000)
    assert [str(warning.message)[:17] for warning in caught] == ["[AST-W203] clip 1", "[AST-W202] clip 3"]
    clips[4][5] = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AstHfError, match=r"E104\] clip 4.*1 samples.*first at 5"):
            extractor(clips, 16_000)


def test_the_first_of_two_faulty_clips_is_named(one_pass: None) -> None:
    clips = [noise(16_000) for _ in range(4)]
    clips[1][5] = np.nan
    clips[3] = noise(10)
    with pytest.raises(AstHfError, match=r"E104\] clip 1"):
        ASTFeatureExtractor()(clips, 16_000)
    clips[1][5] = 0.0
    with pytest.raises(AstHfError, match=r"E103\] clip 3"):
        ASTFeatureExtractor()(clips, 16_000)


def test_a_subclass_normalises_both_ways_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubled(ASTFeatureExtractor):
        def normalize(self, input_values: Any) -> Any:
            return 2 * super().normalize(input_values)

    clip = noise(16_000)
    expected = 2 * by_clip([clip])
    np.testing.assert_allclose(
        Doubled()(clip, 16_000, return_tensors="np")["input_values"], expected, atol=1e-6
    )
    monkeypatch.setattr(feature_extraction_ast, "is_batched", lambda device: True)
    np.testing.assert_allclose(
        Doubled()(clip, 16_000, return_tensors="np")["input_values"], expected, atol=2e-4
    )


def sixteen_bits(samples: int) -> np.ndarray:
    """Return samples as they are decoded from 16 bits, the largest and the smallest among them."""
    values = RANDOM.integers(-32_768, 32_768, samples).astype(np.float32) / np.float32(32_768)
    values[:3] = (-1.0, 32_767 / 32_768, 0.0)
    return values


def test_clips_of_16_bits_travel_as_int16_and_arrive_to_the_bit() -> None:
    clips = [sixteen_bits(length) for length in (16_000, 20_000, 400)]
    batch = device_features.joined(clips)
    assert batch.samples.dtype == torch.int16
    assert batch.lengths == [16_000, 20_000, 400]
    for row, clip in zip(device_features.as_float32(batch.samples), clips, strict=True):
        assert row[: len(clip)].numpy().tobytes() == clip.tobytes()


@pytest.mark.parametrize("value", [1.0, -1.5, 0.1, -0.0, np.nan, np.inf, 1e30, 0.5 / 32_768])
def test_one_sample_that_int16_cannot_hold_keeps_the_batch_in_float32(value: float) -> None:
    clips = [sixteen_bits(800), sixteen_bits(900), sixteen_bits(700)]
    clips[1][500] = value
    batch = device_features.joined(clips)
    assert batch.samples.dtype == torch.float32
    for row, clip in zip(device_features.as_float32(batch.samples), clips, strict=True):
        assert row[: len(clip)].numpy().tobytes() == clip.tobytes()


@pytest.mark.parametrize("most", [device_features.MOST_SAMPLES, 40_000])
def test_joined_clips_have_the_features_of_a_list_to_the_bit(
    one_pass: None, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(device_features, "MOST_SAMPLES", most)
    clips = [sixteen_bits(length) for length in (16_000, 20_000, 400, 170_000, 8_000)]
    extractor = ASTFeatureExtractor()
    clips[3] = clips[3][: 1_023 * 160 + 400]
    expected = extractor.batch_features([torch.from_numpy(clip) for clip in clips], torch.device("cpu"))
    assert torch.equal(extractor.joined_features(*device_features.joined(clips)), expected)


def test_a_batch_of_joined_clips_is_computed_without_a_look_at_a_value(one_pass: None) -> None:
    extractor = ASTFeatureExtractor()
    counts = []
    for count in (1, 8):
        batch = device_features.joined([sixteen_bits(16_000 + 100 * clip) for clip in range(count)])
        extractor.joined_features(*batch)
        with Operators() as operators:
            extractor.joined_features(*batch)
        counts.append(sum(operators.counts.values()))
        assert not [name for name in operators.counts if "_local_scalar_dense" in name]
    assert counts[1] <= counts[0] + 4, counts
    assert counts[1] <= 30, counts
