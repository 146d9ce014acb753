"""Any array: finite features of the right shape that are not all padding, or an error with a code."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from ast_hf import ASTFeatureExtractor, AstHfError, load_audio

from .cases import FULL

RATE = 16_000
EXTRACTOR = ASTFeatureExtractor(max_length=64, num_mel_bins=32)
PADDING = (0.0 - EXTRACTOR.mean) / (2 * EXTRACTOR.std)

SPECIAL = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-45,
    1e-20,
    7.9,
    1e4,
    1e30,
    3.4e38,
    float("nan"),
    float("inf"),
    float("-inf"),
)
DTYPES = ("f2", "f4", "f8", ">f4", "i1", "i2", "i4", "i8", "u1", "u2", "?", "c8")


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Draw an array of any dtype, length, shape, order and kind, with special values at some places."""
    length = draw(st.integers(0, 2_000) | st.sampled_from([399, 400, 401, 15_999, 16_000]))
    channels = draw(st.sampled_from([None, None, None, 0, 1, 2, 9]))
    shape = (length,) if channels is None else draw(st.permutations((length, channels)))
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    values = random.normal(size=shape) * draw(st.sampled_from([1e-3, 0.1, 0.3, 100.0]))
    for _ in range(draw(st.integers(0, 2)) if values.size else 0):
        values.flat[draw(st.integers(0, values.size - 1))] = draw(st.sampled_from(SPECIAL))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = (values * (100 if dtype.kind in "iu" else 1)).astype(dtype)
    step = draw(st.sampled_from([1, 1, 2, -1]))
    array = array[::step]
    kind = draw(st.sampled_from(["array", "list", "tensor", "read only", "batch"]))
    if kind == "tensor" and dtype.kind in "fiu" and dtype.byteorder != ">" and dtype != np.uint16:
        return torch.from_numpy(array.copy())
    if kind == "list":
        return array.tolist()
    array.setflags(write=kind != "read only")
    return [array, array] if kind == "batch" else array


LIMITS = settings(
    max_examples=50_000 if FULL else 600,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


@LIMITS
@seed(0)
@given(arrays())
def test_features_are_finite_or_refused(clip: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            values = EXTRACTOR(clip, sampling_rate=RATE, return_tensors="np")["input_values"]
        except AstHfError:
            return
    assert values.shape[1:] == (64, 32)
    assert np.isfinite(values).all()
    assert (np.abs(values - PADDING).max(axis=(1, 2)) > 1e-4).all(), "all padding"


@LIMITS
@seed(0)
@given(arrays(), st.sampled_from([1_000, 8_000, 16_000, 44_100]))
def test_load_audio_is_finite_or_refused(clip: Any, rate: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            waveform = load_audio(clip, RATE, source_rate=rate)
        except AstHfError:
            return
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert len(waveform) > 0
    assert np.isfinite(waveform).all()


@settings(LIMITS, max_examples=2_000 if FULL else 60)
@seed(0)
@given(
    st.integers(400, 20_000),
    st.integers(0, 1 << 30),
    st.sampled_from(["f8", ">f4", "strided", "list", "tensor"]),
)
def test_features_depend_on_values_alone(length: int, key: int, kind: str) -> None:
    clip = (np.random.default_rng(key).normal(size=length) * 0.1).astype(np.float32)
    before = clip.copy()
    same: Any = {
        "f8": clip.astype("f8"),
        ">f4": clip.astype(">f4"),
        "strided": np.repeat(clip, 2)[::2],
        "list": clip.tolist(),
        "tensor": torch.from_numpy(clip),
    }[kind]
    alone, other = (
        EXTRACTOR(given, sampling_rate=RATE, return_tensors="np")["input_values"] for given in (clip, same)
    )
    np.testing.assert_array_equal(alone, other)
    np.testing.assert_array_equal(clip, before)
