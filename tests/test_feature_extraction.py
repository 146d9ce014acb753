"""`ASTFeatureExtractor`: equal inputs give equal bits, options take effect, invalid input is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from transformers.models.audio_spectrogram_transformer import ASTFeatureExtractor as StockFeatureExtractor
from transformers.utils import TensorType

from ast_hf import AstConfigError, ASTFeatureExtractor, AstHfError, AstHfWarning, AstInputError
from ast_hf.audio import as_waveform

EXTRACTOR = ASTFeatureExtractor()
RNG = np.random.default_rng(0)
#: Multiples of 2^-7 in [-1, 1): every accepted type below holds them exactly.
CLIP = (RNG.integers(-128, 128, 2_000) / 128).astype(np.float32)
OTHER = (RNG.integers(-128, 128, 1_500) / 128).astype(np.float32)
INT16 = (CLIP * 2**15).astype(np.int16)
SPECTROGRAM = RNG.normal(-4, 4, (30, 128)).astype(np.float32)


def extract(clips: Any, **options: Any) -> Any:
    """Return features as numpy, padded to the longest clip by default."""
    options = {"sampling_rate": 16_000, "return_tensors": "np", "padding": "longest", **options}
    return EXTRACTOR(clips, **options)["input_values"]


def changed(array: np.ndarray, index: int, value: float) -> np.ndarray:
    array = array.copy()
    array[index] = value
    return array


# Kinds of waveforms: accepted, refused, and accepted with a warning.

#: case, clip, the float32 clips that it equals bit for bit
ACCEPTED = [
    ("int16", INT16, [CLIP]),
    ("int16", torch.from_numpy(INT16), [CLIP]),
    ("list-of-int16", [INT16], [CLIP]),
    ("list-of-int16", [OTHER, INT16], [OTHER, CLIP]),
    ("other-integers-and-booleans", (CLIP.astype(np.float64) * 2**31).astype(np.int32), [CLIP]),
    ("other-integers-and-booleans", (CLIP * 128 + 128).astype(np.uint8), [CLIP]),
    ("float16", CLIP.astype(np.float16), [CLIP]),
    ("byte-order-strides-and-types", CLIP.astype(">f4"), [CLIP]),
    ("byte-order-strides-and-types", INT16.astype(">i2"), [CLIP]),
    ("byte-order-strides-and-types", CLIP[::-1].copy()[::-1], [CLIP]),
    ("byte-order-strides-and-types", np.repeat(CLIP, 3)[::3], [CLIP]),
    ("byte-order-strides-and-types", np.broadcast_to(CLIP, (2, 2_000))[1], [CLIP]),
    ("byte-order-strides-and-types", CLIP.astype(np.float64), [CLIP]),
    ("byte-order-strides-and-types", CLIP.astype(np.longdouble), [CLIP]),
    ("nested-lists", [[CLIP.tolist()]], [CLIP]),
    ("nested-lists", [[CLIP.tolist()], [OTHER]], [CLIP, OTHER]),
    ("tensor-or-sequence", torch.from_numpy(CLIP), [CLIP]),
    ("tensor-or-sequence", CLIP.tolist(), [CLIP]),
    ("tensor-or-sequence", tuple(CLIP), [CLIP]),
    ("kind-of-tensor", torch.from_numpy(CLIP).requires_grad_(), [CLIP]),
    ("kind-of-tensor", torch.from_numpy(CLIP).bfloat16(), [CLIP]),
    ("kind-of-tensor", torch.from_numpy(CLIP).double(), [CLIP]),
    ("list-of-mixed-types", [torch.from_numpy(CLIP), torch.from_numpy(CLIP)], [CLIP, CLIP]),
    ("list-of-mixed-types", [torch.from_numpy(CLIP), torch.from_numpy(OTHER)], [CLIP, OTHER]),
    ("list-of-mixed-types", [CLIP.tolist(), torch.from_numpy(OTHER), INT16], [CLIP, OTHER, CLIP]),
    ("list-of-mixed-types", (CLIP, OTHER), [CLIP, OTHER]),
]

#: case, clip, code; the clip is tried alone, as the first and as the last of a list
REFUSED_CLIPS = [
    ("empty-clip", np.zeros(0, np.float32), "E101"),
    ("empty-clip", torch.zeros(0), "E101"),
    ("none", None, "E102"),
    ("one-sample", np.ones(1, np.float32), "E103"),
    ("shorter-than-25-ms", CLIP[:240], "E103"),
    ("shorter-than-25-ms", CLIP[:399], "E103"),
    ("shorter-than-15-ms", CLIP[:2], "E103"),
    ("shorter-than-15-ms", CLIP[:239], "E103"),
    ("nan", changed(CLIP, 5, np.nan), "E104"),
    ("infinity", changed(CLIP, 5, np.inf), "E104"),
    ("infinity", changed(CLIP, 5, -np.inf), "E104"),
    ("other-integers-and-booleans", CLIP > 0, "E102"),
    ("other-integers-and-booleans", torch.from_numpy(CLIP > 0), "E102"),
    ("other-integers-and-booleans", CLIP.astype(np.int64), "E102"),
    ("byte-order-strides-and-types", CLIP.astype(object), "E102"),
    ("byte-order-strides-and-types", CLIP.astype(complex), "E102"),
    ("far-too-loud", changed(CLIP, 5, 1e30), "E104"),
    ("far-too-loud", changed(CLIP.astype(np.float64), 5, 1e300), "E104"),
    ("nested-lists", [[CLIP.tolist(), CLIP.tolist()]], "E106"),
    ("kind-of-tensor", torch.empty(2_000, device="meta"), "E102"),
    ("kind-of-tensor", torch.from_numpy(CLIP).to_sparse(), "E102"),
    ("not-samples", "clip.wav", "E102"),
    ("not-samples", Path("clip.wav"), "E102"),
    ("not-samples", b"RIFF", "E102"),
    ("not-samples", {"array": CLIP, "sampling_rate": 16_000}, "E102"),
    ("not-samples", (value for value in CLIP), "E102"),
]

#: case, clips, options of the call, code, where, part of the advice
REFUSED_CALLS = [
    ("empty-batch", [], {}, "E101", "batch", "at least one"),
    ("empty-batch", np.zeros((0, 2_000)), {}, "E101", "batch", "at least one"),
    ("channels-last", np.stack([CLIP, CLIP], axis=1), {}, "E106", "batch", "'last' for (time, channels)"),
    (
        "channels-last",
        torch.from_numpy(np.stack([CLIP, CLIP], axis=1)),
        {},
        "E106",
        "batch",
        "channels='last'",
    ),
    ("channel-axis-in-a-list", [np.stack([CLIP, CLIP])], {}, "E106", "clip 0", "mix its channels"),
    ("channel-axis-in-a-list", [CLIP, np.stack([CLIP, CLIP])], {}, "E106", "clip 1", "channels='first'"),
    ("channel-axis-in-a-list", np.zeros((2, 2, 2_000)), {}, "E106", "clip 0", "channels='first'"),
    ("channel-axis-in-a-list", np.zeros((1, 2, 1, 2_000)), {}, "E106", "batch", "list of 1-D clips"),
    (
        "other-sampling-rate",
        CLIP,
        {"sampling_rate": 44_100},
        "E107",
        "sampling_rate",
        "load_audio(clip, 16000, source_rate=44100)",
    ),
    ("sampling-rate-as-text", CLIP, {"sampling_rate": "16000"}, "E102", "sampling_rate", "whole number"),
    ("bad-item-of-a-list", [CLIP, None], {}, "E102", "clip 1", "load_audio"),
    ("bad-item-of-a-list", [CLIP, CLIP, []], {}, "E101", "clip 2", "remove it"),
    ("call-option", CLIP, {"paddding": True}, "E108", "paddding", "did you mean 'padding'"),
    ("call-option", CLIP, {"trunction": True}, "E108", "trunction", "did you mean 'truncation'"),
    ("call-option", CLIP, {"padding": "long"}, "E108", "padding", "'longest'"),
    ("call-option", CLIP, {"max_length": 0}, "E108", "max_length", "frames"),
    ("call-option", CLIP, {"max_length": "10"}, "E108", "max_length", "frames"),
    ("call-option", CLIP, {"truncation": "longest_first"}, "E108", "truncation", ""),
    ("call-option", CLIP, {"do_normalize": "no"}, "E108", "do_normalize", ""),
    ("call-option", CLIP, {"return_tensors": "tf"}, "E108", "return_tensors", "'pt', 'np'"),
    ("call-option", CLIP, {"channels": "left"}, "E108", "channels", "'first'"),
    ("call-option", CLIP, {"device": "bogus"}, "E108", "device", ""),
    ("call-option", [CLIP, OTHER], {"padding": False}, "E108", "padding", "'longest'"),
    ("attention-mask", CLIP, {"return_attention_mask": "yes"}, "E108", "return_attention_mask", ""),
]

#: case, fields, the field that the message names, part of the message
REFUSED_FIELDS = [
    ("field-std", {"std": 0}, "std", "above 0"),
    ("field-std", {"std": -1.0}, "std", "above 0"),
    ("field-std", {"std": float("nan")}, "std", "above 0"),
    ("field-max-length", {"max_length": 0}, "max_length", "at least 1"),
    ("field-max-length", {"max_length": -5}, "max_length", "at least 1"),
    ("field-num-mel-bins", {"num_mel_bins": 0}, "num_mel_bins", "at least 1"),
    ("field-num-mel-bins", {"num_mel_bins": -1}, "num_mel_bins", "at least 1"),
    ("field-num-mel-bins", {"num_mel_bins": 1000}, "num_mel_bins", "at most"),
    ("field-num-mel-bins", {"num_mel_bins": 257}, "num_mel_bins", "257 filters over 256"),
    ("field-of-the-wrong-type", {"sampling_rate": 0}, "sampling_rate", "whole number"),
    ("field-of-the-wrong-type", {"sampling_rate": "1024"}, "sampling_rate", "whole number"),
    ("field-of-the-wrong-type", {"sampling_rate": 1.5}, "sampling_rate", "whole number"),
    ("field-of-the-wrong-type", {"mean": None}, "mean", "finite"),
    ("field-unknown-or-fixed", {"num_mel_bin": 64}, "num_mel_bin", "did you mean 'num_mel_bins'"),
    ("field-unknown-or-fixed", {"xyzzy": 64}, "xyzzy", "use one of"),
    ("field-unknown-or-fixed", {"feature_size": 7}, "feature_size", "has to be 1"),
    ("field-unknown-or-fixed", {"padding_value": -99}, "padding_value", "has to be 0.0"),
    ("field-unknown-or-fixed", {"padding_side": "left"}, "padding_side", "'right'"),
]

#: case, fields, clip, options of the call, shapes of the result, codes of the warnings
OUTCOMES = [
    ("two-axes-as-batch", {}, np.stack([CLIP, CLIP]), {}, {"input_values": (2, 1024, 128)}, ["W211"]),
    (
        "two-axes-as-batch",
        {},
        torch.from_numpy(np.stack([CLIP, CLIP])),
        {},
        {"input_values": (2, 1024, 128)},
        ["W211"],
    ),
    ("two-axes-as-batch", {}, np.stack([CLIP] * 3), {}, {"input_values": (3, 1024, 128)}, []),
    ("channels-last", {}, CLIP[:, None], {}, {"input_values": (1, 1024, 128)}, []),
    ("channel-axis-in-a-list", {}, [CLIP[None], CLIP[:, None]], {}, {"input_values": (2, 1024, 128)}, []),
    ("no-sampling-rate", {}, CLIP, {"sampling_rate": None}, {"input_values": (1, 1024, 128)}, ["W212"]),
    ("longer-than-the-model", {}, np.tile(CLIP, 480), {}, {"input_values": (1, 1024, 128)}, ["W201"]),
    ("far-too-loud", {}, 20 * CLIP, {}, {"input_values": (1, 1024, 128)}, ["W202"]),
    ("silence", {}, np.zeros(2_000), {}, {"input_values": (1, 1024, 128)}, ["W203"]),
    ("silence", {}, np.full(2_000, 0.3), {}, {"input_values": (1, 1024, 128)}, ["W203"]),
    ("call-option", {}, np.tile(CLIP, 100), {"truncation": False}, {"input_values": (1, 1248, 128)}, []),
    ("call-option", {}, np.tile(CLIP, 100), {"max_length": 2048}, {"input_values": (1, 2048, 128)}, []),
    (
        "attention-mask",
        {},
        CLIP,
        {"return_attention_mask": True},
        {"input_values": (1, 1024, 128), "attention_mask": (1, 1024)},
        ["W213"],
    ),
    (
        "attention-mask",
        {"return_attention_mask": True},
        CLIP,
        {},
        {"input_values": (1, 1024, 128), "attention_mask": (1, 1024)},
        ["W213"],
    ),
    (
        "rate-of-the-extractor",
        {"sampling_rate": 8_000},
        np.tile(CLIP, 4),
        {"padding": False},
        {"input_values": (1, 98, 128)},
        [],
    ),
    (
        "rate-of-the-extractor",
        {"sampling_rate": 16_000},
        np.tile(CLIP, 8),
        {"padding": False},
        {"input_values": (1, 98, 128)},
        [],
    ),
]

TABLES = (ACCEPTED, REFUSED_CLIPS, REFUSED_CALLS, REFUSED_FIELDS, OUTCOMES)

#: Kinds of input and of misuse; the tables above have at least one row for each.
CASES = {
    "empty-clip",
    "empty-batch",
    "none",
    "one-sample",
    "shorter-than-25-ms",
    "shorter-than-15-ms",
    "nan",
    "infinity",
    "int16",
    "list-of-int16",
    "other-integers-and-booleans",
    "float16",
    "byte-order-strides-and-types",
    "two-axes-as-batch",
    "channels-last",
    "channel-axis-in-a-list",
    "no-sampling-rate",
    "other-sampling-rate",
    "sampling-rate-as-text",
    "longer-than-the-model",
    "far-too-loud",
    "silence",
    "nested-lists",
    "bad-item-of-a-list",
    "tensor-or-sequence",
    "kind-of-tensor",
    "list-of-mixed-types",
    "not-samples",
    "call-option",
    "attention-mask",
    "field-std",
    "field-max-length",
    "field-num-mel-bins",
    "rate-of-the-extractor",
    "field-of-the-wrong-type",
    "field-unknown-or-fixed",
}


def ids(table: list) -> list[str]:
    return [row[0] for row in table]


def assert_clear(problem: AstHfError, code: str, where: str) -> None:
    text = str(problem)
    assert (problem.code, problem.where) == (code, where)
    assert text.startswith(f"[AST-{code}] {where}: ")
    assert "Fix: " in text
    assert len(text) <= 300
    assert "\n" not in text


def test_every_case_is_in_a_table() -> None:
    assert {row[0] for table in TABLES for row in table} == CASES


@pytest.mark.parametrize(("case", "clips", "same"), ACCEPTED, ids=ids(ACCEPTED))
def test_accepted_inputs_give_equal_features(case: str, clips: Any, same: list[np.ndarray]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(extract(clips), extract(same))


@pytest.mark.parametrize("position", ["alone", "first", "last"])
@pytest.mark.parametrize(("case", "clip", "code"), REFUSED_CLIPS, ids=ids(REFUSED_CLIPS))
def test_invalid_clips_are_refused(case: str, clip: Any, code: str, position: str) -> None:
    clips = {"alone": clip, "first": [clip, CLIP], "last": [CLIP, CLIP, clip]}[position]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", AstHfWarning)
        with pytest.raises(AstInputError) as caught:
            extract(clips)
    assert_clear(caught.value, code, "clip 2" if position == "last" else "clip 0")


@pytest.mark.parametrize(
    ("case", "clips", "options", "code", "where", "advice"), REFUSED_CALLS, ids=ids(REFUSED_CALLS)
)
def test_invalid_call_arguments_are_refused(
    case: str, clips: Any, options: dict, code: str, where: str, advice: str
) -> None:
    with pytest.raises(AstInputError) as caught:
        extract(clips, **options)
    assert_clear(caught.value, code, where)
    assert advice in caught.value.fix


@pytest.mark.parametrize(("case", "fields", "field", "part"), REFUSED_FIELDS, ids=ids(REFUSED_FIELDS))
def test_invalid_fields_are_refused(case: str, fields: dict, field: str, part: str) -> None:
    with pytest.raises(AstConfigError) as caught:
        ASTFeatureExtractor(**fields)
    assert_clear(caught.value, "E301", f"ASTFeatureExtractor.{field}")
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("case", "fields", "clip", "options", "shapes", "codes"), OUTCOMES, ids=ids(OUTCOMES)
)
def test_shapes_and_warnings_of_unusual_calls(
    case: str, fields: dict, clip: Any, options: dict, shapes: dict, codes: list[str], unwarned: None
) -> None:
    extractor = ASTFeatureExtractor(**fields)
    options = {"sampling_rate": extractor.sampling_rate, **options}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        features = extractor(clip, return_tensors="np", **options)
    assert {name: value.shape for name, value in features.items()} == shapes
    assert np.isfinite(features["input_values"]).all()
    assert [str(warning.message)[5:9] for warning in caught] == codes
    assert all(warning.category is AstHfWarning and warning.filename == __file__ for warning in caught)


@pytest.mark.parametrize(
    ("clip", "text"),
    [
        (
            changed(changed(CLIP, 5, np.nan), 9, np.inf),
            "2 samples are NaN, infinite or above 1e+12, the first at 5",
        ),
        (CLIP[:399], "too short, 399 samples. Fix: give at least 400 samples (25 ms at 16000 Hz)"),
        ({"array": CLIP}, "is a dict. Fix: pass samples; `ast_hf.load_audio` reads files and dicts"),
    ],
)
def test_messages_name_the_observed_values(clip: Any, text: str) -> None:
    with pytest.raises(AstInputError) as caught:
        extract([CLIP, clip])
    assert text in str(caught.value)


def test_fields_are_checked_again_before_each_call() -> None:
    extractor = ASTFeatureExtractor()
    extractor.std = 0.0
    with pytest.raises(AstConfigError, match=r"AST-E301.*\.std"):
        extractor(CLIP, 16_000)


@settings(max_examples=150, deadline=None)
@given(
    arrays(
        np.float32,
        st.integers(0, 2000),
        elements=st.floats(width=32) | st.floats(-1, 1, width=32),
        fill=st.sampled_from([np.float32(value) for value in (0.0, 0.5, 1e-30)]),
    )
)
@example(np.full(400, 1e12, np.float32))
@example(np.full(2000, 1e-45, np.float32))
def test_any_float32_array_is_finite_features_or_a_code(clip: np.ndarray) -> None:
    sound = len(clip) >= 400 and bool((np.abs(clip) <= 1e12).all())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstHfWarning)
        if not sound:
            with pytest.raises(AstInputError, match=r"AST-E10[134]"):
                extract(clip)
            return
        features = EXTRACTOR(clip, 16_000, return_tensors="np", return_attention_mask=True)
    assert features["input_values"].shape == (1, 1024, 128)
    assert np.isfinite(features["input_values"]).all()
    assert features["attention_mask"].sum() == 1 + (len(clip) - 400) // 160


# Equalities: batches, order, samples of every type.


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(400, 4000), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_batch_is_single_bit_for_bit_in_any_order(lengths: list[int], random: Any) -> None:
    clips = [
        np.random.default_rng(n).standard_normal(length).astype(np.float32)
        for n, length in enumerate(lengths)
    ]
    single = [extract(clip, padding="max_length", max_length=30)[0] for clip in clips]
    order = random.sample(range(len(clips)), len(clips))
    batch = extract([clips[index] for index in order], padding="max_length", max_length=30)
    for row, index in zip(batch, order, strict=True):
        np.testing.assert_array_equal(row, single[index])


def test_two_dimensional_array_of_many_clips_is_a_batch() -> None:
    clips = RNG.standard_normal((9, 800)).astype(np.float32)
    np.testing.assert_array_equal(extract(clips), extract(list(clips)))
    np.testing.assert_array_equal(extract(torch.from_numpy(clips)), extract(list(clips)))


@pytest.mark.parametrize(
    ("samples", "floats"),
    [
        (
            np.array([-32768, -1, 0, 16384, 32767], np.int16),
            [-1.0, -0.000030517578125, 0.0, 0.5, 0.999969482421875],
        ),
        (np.array([-(2**31), 0, 2**30, 2**31 - 1], np.int32), [-1.0, 0.0, 0.5, 1.0]),
        (np.array([16_777_217, 16_777_219], np.int32), [0.0078125, 0.0078125018626451492]),
        (np.array([0, 127, 128, 192, 255], np.uint8), [-1.0, -0.0078125, 0.0, 0.5, 0.9921875]),
        (np.array([0.1, -2.5], np.float64), [0.10000000149011612, -2.5]),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_samples_are_scaled_exactly(kind: Any, samples: np.ndarray, floats: list[float]) -> None:
    waveform = as_waveform(kind(samples), "clip 0")
    assert waveform.dtype == torch.float32
    assert waveform.tolist() == floats


def test_python_numbers_are_not_scaled() -> None:
    assert as_waveform([0, 1, -1], "clip 0").tolist() == [0.0, 1.0, -1.0]


def test_float16_differs_by_its_rounding_only() -> None:
    clip = (0.1 * RNG.standard_normal(2_000)).astype(np.float32)
    np.testing.assert_allclose(extract(clip.astype(np.float16)), extract(clip), atol=5e-3)


@pytest.mark.parametrize(
    "clip",
    [CLIP, CLIP.astype(np.float64), INT16, torch.from_numpy(CLIP.copy()), CLIP.tolist(), CLIP[::-1]],
    ids=["float32", "float64", "int16", "torch", "list", "view"],
)
@pytest.mark.parametrize("options", [{}, {"padding": False}, {"max_length": 3, "truncation": True}])
def test_input_is_never_modified(clip: Any, options: dict) -> None:
    before = np.asarray(clip).copy()
    extract(clip, **options)[:] = 99.0
    np.testing.assert_array_equal(np.asarray(clip), before)


@pytest.mark.parametrize("normalize", [True, False])
def test_input_spectrogram_is_never_modified(normalize: bool) -> None:
    before = SPECTROGRAM.copy()
    extract(SPECTROGRAM, input_is_spectrogram=True, do_normalize=normalize)[:] = 99.0
    np.testing.assert_array_equal(SPECTROGRAM, before)


# Options of a call.


def test_padding_is_zero_before_normalisation() -> None:
    padded = extract(CLIP, padding="max_length")
    assert padded.shape == (1, 1024, 128)
    np.testing.assert_allclose(padded[0, 11:], 0.46703236, atol=1e-6)
    np.testing.assert_array_equal(padded[0, :11], extract(CLIP)[0])
    assert not extract(CLIP, padding="max_length", do_normalize=False)[0, 11:].any()


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        ({"padding": "max_length"}, 1024),
        ({"padding": "max_length", "max_length": 20}, 20),
        ({"padding": "longest"}, 11),
        ({"padding": True}, 11),
        ({"padding": "longest", "max_length": 9, "truncation": True}, 9),
        ({"padding": "longest", "max_length": 9, "truncation": False}, 11),
        ({"padding": "max_length", "max_length": 9, "truncation": False}, 11),
        ({"padding": "max_length", "max_length": 9, "truncation": True}, 9),
    ],
)
def test_length_of_a_batch(options: dict, frames: int) -> None:
    batch = extract([CLIP, OTHER], **options)
    assert batch.shape == (2, frames, 128)
    np.testing.assert_array_equal(batch[0, : min(frames, 11)], extract(CLIP)[0][:frames])


@pytest.mark.parametrize("padding", [False, "do_not_pad"])
def test_without_padding_clips_keep_their_lengths(padding: Any) -> None:
    features = extract([CLIP, OTHER], padding=padding, return_tensors=None)
    assert [feature.shape for feature in features] == [(11, 128), (7, 128)]
    np.testing.assert_array_equal(features[1], extract(OTHER)[0])


def test_truncated_seconds_are_warned_of_once_per_extractor() -> None:
    long = np.tile(CLIP, 96)
    extractor = ASTFeatureExtractor()
    with pytest.warns(AstHfWarning) as caught:
        cut = extractor([CLIP, long, long], 16_000, "np", padding=True)["input_values"][:2]
    assert [str(warning.message) for warning in caught] == [
        "[AST-W201] clip 1: only the first 1024 of 1198 frames are used, 1.74 s are dropped; further clips are cut "
        "without a warning."
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(extractor(long, 16_000, "np")["input_values"], cut[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(extract(long, truncation=True), cut[1:])
        np.testing.assert_array_equal(extract(long, truncation=False)[:, :1024], cut[1:])


@pytest.mark.parametrize("no", [False, np.False_])
def test_truncation_false_keeps_all_frames(no: Any) -> None:
    assert extract(CLIP, max_length=5, truncation=no).shape == (1, 11, 128)


@pytest.mark.parametrize("return_tensors", ["np", "pt", None])
def test_attention_mask_marks_real_frames(return_tensors: str | None) -> None:
    features = EXTRACTOR([CLIP, OTHER], 16_000, return_tensors, max_length=12, return_attention_mask=True)
    masks = [np.asarray(mask) for mask in features["attention_mask"]]
    assert [mask.tolist() for mask in masks] == [[1] * 11 + [0], [1] * 7 + [0] * 5]
    assert {mask.dtype for mask in masks} == {np.dtype(np.int64)}
    assert "attention_mask" not in EXTRACTOR(CLIP, 16_000, return_attention_mask=False)


def test_do_normalize_false_gives_raw_values() -> None:
    raw, normalised = extract(CLIP, do_normalize=False), extract(CLIP)
    np.testing.assert_allclose((raw + 4.2677393) / 9.1379948, normalised, atol=1e-6)
    np.testing.assert_array_equal(
        ASTFeatureExtractor(do_normalize=False)(CLIP, 16_000, "np", padding=True)["input_values"], raw
    )


def test_return_tensors() -> None:
    as_np, as_pt, as_list = (EXTRACTOR(CLIP, 16_000, kind)["input_values"] for kind in ("np", "pt", None))
    assert isinstance(as_np, np.ndarray)
    assert isinstance(as_pt, torch.Tensor)
    assert isinstance(as_list, list)
    assert as_np.dtype == as_list[0].dtype == np.float32
    np.testing.assert_array_equal(as_np, as_pt.numpy())
    np.testing.assert_array_equal(as_np[0], as_list[0])
    np.testing.assert_array_equal(as_np, EXTRACTOR(CLIP, 16_000, TensorType.NUMPY)["input_values"])


def test_device() -> None:
    features = EXTRACTOR(CLIP, 16_000, "pt", device="cpu", return_attention_mask=True)
    assert {value.device.type for value in features.values()} == {"cpu"}
    np.testing.assert_array_equal(features["input_values"], EXTRACTOR(CLIP, 16_000, "pt")["input_values"])


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_channels(kind: Any) -> None:
    left, right = CLIP, np.roll(CLIP, 7)
    first, last = kind(np.stack([left, right])), kind(np.stack([left, right], axis=1))
    mean = extract((left + right) / 2)
    np.testing.assert_array_equal(extract(first, channels="first"), mean)
    np.testing.assert_array_equal(extract(last, channels="last"), mean)
    np.testing.assert_array_equal(extract(first, channels="batch"), extract([left, right]))
    np.testing.assert_array_equal(extract(kind(CLIP[:, None]), channels="last"), extract(CLIP))


SPECTROGRAM_KINDS = {
    "numpy": SPECTROGRAM,
    "float64": SPECTROGRAM.astype(np.float64),
    "torch": torch.from_numpy(SPECTROGRAM),
    "list of one": [SPECTROGRAM],
    "three-dimensional": SPECTROGRAM[None],
    "nested list": [SPECTROGRAM.tolist()],
    "read-only": np.broadcast_to(SPECTROGRAM, (1, 30, 128))[0],
    "negative stride": SPECTROGRAM[::-1].copy()[::-1],
    "big-endian": SPECTROGRAM.astype(">f4"),
}


@pytest.mark.parametrize("kind", SPECTROGRAM_KINDS)
def test_spectrograms_are_only_padded_and_normalised(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = extract(
            SPECTROGRAM_KINDS[kind], input_is_spectrogram=True, padding="max_length", max_length=31
        )
    np.testing.assert_allclose(result[0, :30], (SPECTROGRAM + 4.2677393) / 9.1379948, atol=1e-6)
    np.testing.assert_allclose(result[0, 30], 0.46703236, atol=1e-6)


def test_spectrogram_of_a_clip_gives_the_features_of_the_clip() -> None:
    raw = extract(CLIP, do_normalize=False, padding=False)
    np.testing.assert_array_equal(extract(raw, input_is_spectrogram=True, sampling_rate=None), extract(CLIP))


@pytest.mark.parametrize(
    ("clip", "code"),
    [
        (SPECTROGRAM[:, :5], "E106"),
        (SPECTROGRAM[:0], "E106"),
        (SPECTROGRAM[0], "E106"),
        (changed(SPECTROGRAM, 3, np.nan), "E104"),
        (None, "E102"),
        ("spectrogram.npy", "E102"),
        (SPECTROGRAM.astype(object), "E102"),
    ],
    ids=["bins", "empty", "1-D", "NaN", "None", "path", "object"],
)
def test_invalid_spectrograms_are_refused(clip: Any, code: str) -> None:
    with pytest.raises(AstInputError) as caught:
        extract([SPECTROGRAM, clip], input_is_spectrogram=True)
    assert_clear(caught.value, code, "clip 1")


def test_missing_rate_is_warned_of_once_and_defaults_to_that_of_the_extractor(unwarned: None) -> None:
    extractor = ASTFeatureExtractor()
    with pytest.warns(AstHfWarning, match=r"W212\] sampling_rate: is missing, and 16000 Hz is assumed"):
        features = extractor(CLIP, return_tensors="np", padding=True)
    np.testing.assert_array_equal(features["input_values"], extract(CLIP))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ASTFeatureExtractor()([CLIP, OTHER], return_tensors="np")
    with pytest.raises(AstInputError, match="AST-E107"):
        extractor(CLIP, sampling_rate=8_000)


def test_strict_extractor_refuses_a_missing_rate() -> None:
    with pytest.raises(AstInputError, match=r"AST-E107\] sampling_rate: is missing.*sampling_rate=16000"):
        ASTFeatureExtractor(strict=True)(CLIP)


# Files.

FIELDS: dict[str, Any] = {
    "num_mel_bins": 64,
    "max_length": 100,
    "mean": -5.5,
    "std": 3.25,
    "return_attention_mask": True,
}


def test_saved_file_has_exactly_these_fields(tmp_path: Path) -> None:
    ASTFeatureExtractor(strict=False, **FIELDS).save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["preprocessor_config.json"]
    assert json.loads((tmp_path / "preprocessor_config.json").read_text()) == {
        "feature_extractor_type": "ASTFeatureExtractor",
        "feature_size": 1,
        "sampling_rate": 16_000,
        "num_mel_bins": 64,
        "max_length": 100,
        "padding_side": "right",
        "padding_value": 0.0,
        "do_normalize": True,
        "mean": -5.5,
        "std": 3.25,
        "return_attention_mask": True,
    }


def test_save_and_load(tmp_path: Path) -> None:
    saved = ASTFeatureExtractor(**FIELDS)
    saved.save_pretrained(tmp_path)
    loaded = ASTFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.to_dict() == saved.to_dict()
    assert loaded.strict is False
    for name, value in saved(CLIP, 16_000, "np").items():
        np.testing.assert_array_equal(loaded(CLIP, 16_000, "np")[name], value)


def test_numbers_of_numpy_can_be_saved(tmp_path: Path) -> None:
    ASTFeatureExtractor(max_length=np.int64(64), mean=np.float64(-5.5)).save_pretrained(tmp_path)
    assert ASTFeatureExtractor.from_pretrained(tmp_path).max_length == 64


@pytest.mark.parametrize(
    ("writer", "reader"),
    [(StockFeatureExtractor, ASTFeatureExtractor), (ASTFeatureExtractor, StockFeatureExtractor)],
)
def test_files_are_read_by_stock_and_by_us(writer: Any, reader: Any, tmp_path: Path) -> None:
    writer(**FIELDS).save_pretrained(tmp_path)
    loaded, direct = reader.from_pretrained(tmp_path), reader(**FIELDS)
    assert type(loaded) is reader
    features = loaded(CLIP, sampling_rate=16_000, return_tensors="np")["input_values"]
    assert features.shape == (1, 100, 64)
    np.testing.assert_array_equal(
        features, direct(CLIP, sampling_rate=16_000, return_tensors="np")["input_values"]
    )
    written = writer(**FIELDS)(CLIP, sampling_rate=16_000, return_tensors="np")["input_values"]
    np.testing.assert_allclose(features, written, atol=5e-4)


def test_fields_can_be_replaced_while_loading(tmp_path: Path) -> None:
    ASTFeatureExtractor().save_pretrained(tmp_path)
    loaded = ASTFeatureExtractor.from_pretrained(tmp_path, max_length=7, strict=False)
    assert (loaded.max_length, loaded.strict) == (7, False)
    with pytest.raises(AstConfigError, match=r"AST-E301.*did you mean 'max_length'"):
        ASTFeatureExtractor.from_pretrained(tmp_path, max_lenght=7)


def test_fields_that_the_file_leaves_out_can_be_given_while_loading(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"feature_extractor_type": "ASTFeatureExtractor"})
    )
    loaded = ASTFeatureExtractor.from_pretrained(tmp_path, max_length=7, num_mel_bins=64)
    assert (loaded.max_length, loaded.num_mel_bins) == (7, 64)


@pytest.mark.parametrize(
    ("field", "value"), [("std", 0), ("max_length", "1024"), ("num_mel_bin", 64), ("mean", None)]
)
def test_broken_files_are_refused(field: str, value: Any, tmp_path: Path) -> None:
    content = {**ASTFeatureExtractor().to_dict(), field: value}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(AstConfigError, match=f"AST-E301.*{field}"):
        ASTFeatureExtractor.from_pretrained(tmp_path)


def test_foreign_fields_of_a_file_are_dropped(tmp_path: Path) -> None:
    content = {**ASTFeatureExtractor().to_dict(), "some_other_tool": {"version": 3}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    assert ASTFeatureExtractor.from_pretrained(tmp_path).to_dict() == ASTFeatureExtractor().to_dict()
