"""Table A: waveforms, and calls and fields of the feature extractor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .cases import Case, Right

RATE = 16_000
CLIP = (0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)
FRAMES = 98


def stock_extractor(**fields: Any) -> Any:
    from transformers.models.audio_spectrogram_transformer import (
        feature_extraction_audio_spectrogram_transformer as stock,
    )

    return stock.ASTFeatureExtractor(**fields)


def our_extractor(**fields: Any) -> Any:
    from ast_hf import ASTFeatureExtractor

    return ASTFeatureExtractor(**fields)


def called(make: Callable[..., Any], clip: Any, **call: Any) -> np.ndarray:
    call.setdefault("sampling_rate", RATE)
    return np.asarray(make()(clip, return_tensors="np", **call)["input_values"])


def features_of(clip: Any) -> np.ndarray:
    """Return the features of a clip by the definition: raw log-mel, padded with 0, normalised."""
    import torch

    from ast_hf.log_mel import log_mel

    raw = log_mel(torch.from_numpy(np.ascontiguousarray(clip, np.float32)), RATE, 128).numpy()[:1024]
    padded = np.zeros((1024, 128), np.float32)
    padded[: len(raw)] = raw
    return (padded + 4.2677393) / (2 * 4.5689974)


def equal(clip: Any, count: int = 1, tolerance: float = 1e-3) -> Right:
    """Return whether features are those of `clip`, `count` times; transformers' own are within 7e-5 of ours."""

    def right(value: Any) -> bool:
        expected = features_of(clip)
        return value.shape == (count, 1024, 128) and bool(np.abs(value - expected).max() < tolerance)

    return right


def nan_at(place: int, value: float = np.nan) -> np.ndarray:
    clip = CLIP.copy()
    clip[place] = value
    return clip


def torch_clip(**how: Any) -> Any:
    import torch

    return torch.from_numpy(CLIP).to(**how)


INT16 = (CLIP * 2**15).astype(np.int16)
INT32 = (CLIP.astype(np.float64) * 2**31).astype(np.int32)
UINT8 = (CLIP * 128 + 128).astype(np.uint8)
AS_UINT8 = ((UINT8.astype(np.float32)) - 128) / 128
HALF = CLIP.astype(np.float16)
#: bfloat16 is the upper half of float32, rounded to even.
_BITS = CLIP.view(np.uint32)
BFLOAT16 = ((_BITS + 0x7FFF + (_BITS >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)

#: id, title, the clips of a call (made late, since some are tensors), right outcome.
CLIPS: list[tuple[str, str, Callable[[], Any], Right]] = [
    ("A1", "empty array", lambda: np.zeros(0, np.float32), "E101"),
    ("A1-list", "empty array in a list", lambda: [CLIP, np.zeros(0, np.float32)], "E101"),
    ("A2", "empty list", list, "E101"),
    ("A3", "None", lambda: None, "E102"),
    ("A4", "one sample", lambda: CLIP[:1], "E103"),
    ("A5", "399 samples", lambda: CLIP[:399], "E103"),
    ("A5-240", "240 samples", lambda: CLIP[:240], "E103"),
    ("A6", "100 samples", lambda: CLIP[:100], "E103"),
    ("A7", "one NaN", lambda: nan_at(7), "E104"),
    ("A7-last", "NaN as the last sample of the second clip", lambda: [CLIP, nan_at(-1)], "E104"),
    ("A8", "infinity", lambda: nan_at(7, np.inf), "E104"),
    ("A8-minus", "minus infinity", lambda: nan_at(7, -np.inf), "E104"),
    ("A9", "int16", lambda: INT16, equal(INT16 / 2.0**15)),
    ("A10", "int16 in a list", lambda: [INT16], equal(INT16 / 2.0**15)),
    ("A11", "int32", lambda: INT32, equal(CLIP)),
    ("A11-uint8", "uint8", lambda: UINT8, equal(AS_UINT8)),
    ("A11-bool", "bool", lambda: CLIP > 0, "E102"),
    ("A11-int64", "int64", lambda: INT16.astype(np.int64), "E102"),
    ("A11-uint16", "uint16", lambda: INT16.astype(np.uint16), "E102"),
    ("A12", "float16", lambda: HALF, equal(HALF)),
    ("A13", "big-endian", lambda: CLIP.astype(">f4"), equal(CLIP)),
    ("A13-stride", "negative stride", lambda: CLIP[::-1], equal(CLIP[::-1])),
    ("A13-object", "dtype object", lambda: np.array([1, "a", None], object), "E102"),
    ("A13-complex", "complex", lambda: CLIP.astype(np.complex64), "E102"),
    ("A13-text", "array of text", lambda: np.array(["a", "b"]), "E102"),
    ("A14", "stereo (2, time)", lambda: np.stack([CLIP, CLIP]), "W211"),
    ("A15", "stereo (time, 2)", lambda: np.stack([CLIP, CLIP], axis=1), "E106"),
    ("A15-one", "mono (time, 1)", lambda: CLIP[:, None], equal(CLIP)),
    ("A16", "list of a stereo clip", lambda: [np.stack([CLIP, CLIP])], "E106"),
    ("A16-4d", "four dimensions", lambda: np.zeros((1, 1, 1, RATE), np.float32), "E106"),
    ("A20", "an hour", lambda: np.tile(CLIP, 3_600), "W201"),
    ("A21", "peak of 1e30", lambda: CLIP * np.float32(1e30), "E104"),
    ("A21-64", "float64 beyond float32", lambda: CLIP.astype(np.float64) * 1e300, "E104"),
    ("A21-loud", "int16 values as float", lambda: INT16.astype(np.float32), "W202"),
    ("A22", "silence", lambda: np.zeros(RATE, np.float32), "W203"),
    ("A22-dc", "a constant", lambda: np.full(RATE, 0.5, np.float32), "W203"),
    ("A23", "clip in three lists", lambda: [[[CLIP.tolist()]]], equal(CLIP)),
    ("A24", "a clip and None", lambda: [CLIP, None], "E102"),
    ("A25", "tensor", torch_clip, equal(CLIP)),
    ("A26", "tensor with a gradient", lambda: torch_clip().requires_grad_(), equal(CLIP)),
    ("A26-bf16", "bfloat16 tensor", lambda: torch_clip().bfloat16(), equal(BFLOAT16)),
    ("A26-meta", "meta tensor", lambda: torch_clip(device="meta"), "E102"),
    ("A26-sparse", "sparse tensor", lambda: torch_clip().to_sparse(), "E102"),
    ("A27", "list of tensors", lambda: [torch_clip(), torch_clip()], equal(CLIP, 2)),
    ("A28", "path", lambda: "dog.wav", "E102"),
    ("A28-bytes", "bytes", lambda: b"RIFF", "E102"),
    ("A28-dict", "dict", lambda: {"array": CLIP}, "E102"),
    ("A28-generator", "generator", lambda: (value for value in CLIP), "E102"),
    ("A28-path", "Path", lambda: Path("dog.wav"), "E102"),
    ("A28-set", "set", lambda: {0.5, 0.25}, "E102"),
]

#: id, title, arguments of a call, right outcome.
CALLS: list[tuple[str, str, dict[str, Any], Right]] = [
    ("A17", "no sampling rate", {"sampling_rate": None}, "W212"),
    ("A18", "another sampling rate", {"sampling_rate": 44_100}, "E107"),
    ("A19", "sampling rate as text", {"sampling_rate": "16000"}, "E102"),
    ("A19-float", "sampling rate of 16000.5", {"sampling_rate": 16_000.5}, "E102"),
    ("A19-nan", "sampling rate NaN", {"sampling_rate": float("nan")}, "E102"),
    ("A29", "misspelt argument", {"paddding": True}, "E108"),
    ("A29-padding", "unknown padding", {"padding": "longst"}, "E108"),
    ("A29-length", "max_length of 0 frames", {"max_length": 0}, "E108"),
    ("A29-tensors", "unknown return_tensors", {"return_tensors": "jax!"}, "E108"),
]

#: id, title, fields of the extractor, right outcome.
FIELDS: list[tuple[str, str, dict[str, Any], Right]] = [
    ("A31", "std 0", {"std": 0.0}, "E301"),
    ("A31-minus", "std -1", {"std": -1.0}, "E301"),
    ("A31-nan", "std NaN", {"std": float("nan")}, "E301"),
    ("A31-mean", "mean infinite", {"mean": float("inf")}, "E301"),
    ("A32", "max_length 0", {"max_length": 0}, "E301"),
    ("A32-minus", "max_length -5", {"max_length": -5}, "E301"),
    ("A32-half", "max_length 10.5", {"max_length": 10.5}, "E301"),
    ("A33", "no mel filters", {"num_mel_bins": 0}, "E301"),
    ("A33-minus", "-1 mel filters", {"num_mel_bins": -1}, "E301"),
    ("A33-many", "1,000 mel filters", {"num_mel_bins": 1_000}, "E301"),
    ("A35", "sampling_rate 0", {"sampling_rate": 0}, "E301"),
    ("A35-text", "max_length as text", {"max_length": "1024"}, "E301"),
    ("A35-none", "mean None", {"mean": None}, "E301"),
    ("A36", "misspelt field", {"max_lenght": 512}, "E301"),
]


def _clip_case(name: str, title: str, make: Callable[[], Any], right: Right) -> Case:
    return Case(
        name,
        title,
        lambda folder: make(),
        lambda clip: called(our_extractor, clip),
        right,
        lambda clip: called(stock_extractor, clip),
    )


def _call_case(name: str, title: str, call: dict[str, Any], right: Right) -> Case:
    def with_call(make: Callable[..., Any]) -> Any:
        return make()(CLIP, **{"sampling_rate": RATE, "return_tensors": "np", **call})["input_values"]

    return Case(
        name, title, lambda folder: our_extractor, with_call, right, lambda _: with_call(stock_extractor)
    )


def _field_case(name: str, title: str, fields: dict[str, Any], right: Right) -> Case:
    return Case(
        name,
        title,
        lambda folder: fields,
        lambda values: called(lambda: our_extractor(**values), CLIP),
        right,
        lambda values: called(lambda: stock_extractor(**values), CLIP),
    )


CASES = [
    *(_clip_case(*row) for row in CLIPS),
    *(_call_case(*row) for row in CALLS),
    *(_field_case(*row) for row in FIELDS),
]
