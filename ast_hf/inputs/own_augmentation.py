"""Augmentation by functions of the user: called with keyed randomness, and their results checked."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import AstHfError, error, short_reason
from .waveform_transforms import seeded_globals

#: (samples `(time,)`, sampling rate in Hz, random) -> samples `(time,)`.
WaveformFunction = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
#: (raw log-mel `(frames, mel)`, random) -> raw log-mel `(frames, mel)`.
SpectrogramFunction = Callable[[torch.Tensor, np.random.Generator], torch.Tensor]


@dataclass(frozen=True)
class OwnAugmentation:
    """Functions of the user that change training clips.

    Python's, NumPy's and torch's global generators are seeded from `random` for each call, and restored
    afterwards, so that functions which draw from them repeat their draws in a resumed run, too.

    Attributes:
        augment: changes the waveform: float32 samples `(time,)`, its rate in Hz, a NumPy generator.
        augment_spectrogram: changes the raw log-mel spectrogram: float32 `(frames, mel)` without padding, before
            masks and normalisation, and a NumPy generator.

    Raises:
        AstInputError: E108 for what is no function of these arguments.
    """

    augment: WaveformFunction | None = None
    augment_spectrogram: SpectrogramFunction | None = None

    def __post_init__(self) -> None:
        _check_function("augment", self.augment, ("waveform", "sampling_rate", "random"))
        _check_function("augment_spectrogram", self.augment_spectrogram, ("spectrogram", "random"))

    def __bool__(self) -> bool:
        return self.augment is not None or self.augment_spectrogram is not None

    @property
    def names(self) -> dict[str, str]:
        """Names of the functions, by argument, of those that there are."""
        functions = {"augment": self.augment, "augment_spectrogram": self.augment_spectrogram}
        return {argument: code_name(value) for argument, value in functions.items() if value is not None}

    def vary_waveform(
        self, waveform: np.ndarray, sampling_rate: int, random: np.random.Generator
    ) -> np.ndarray:
        """Return changed samples, float32 `(time,)`; the given ones may be in a cache and stay as they are.

        Raises:
            AstInputError: E108 if the function fails; E104 for NaN or infinity, E106 for anything but samples
                `(time,)` as floats. They name the function.
        """
        if self.augment is None:
            return waveform
        where = f"augment {self.names['augment']}"
        result = _call(self.augment, where, random, waveform.copy(), sampling_rate)
        if isinstance(result, torch.Tensor):
            result = result.detach().cpu().numpy()
        expected = "float samples (time,), at least one"
        if not isinstance(result, np.ndarray):
            raise _wrong_result(where, f"a {type(result).__name__}", expected)
        if result.ndim != 1 or not len(result) or result.dtype.kind != "f":
            raise _wrong_result(where, f"an array of {result.dtype} {result.shape}", expected)
        if not np.isfinite(result).all():
            raise _not_finite(where)
        # a copy: the function may return, and later change, an array of its own
        return np.array(result, dtype=np.float32)

    def vary_spectrogram(self, raw: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """Return a changed spectrogram, float32 `(frames, mel)`; the number of frames may change.

        Raises:
            AstInputError: as `vary_waveform`.
        """
        if self.augment_spectrogram is None:
            return raw
        where = f"augment_spectrogram {self.names['augment_spectrogram']}"
        result = _call(self.augment_spectrogram, where, random, raw.clone())
        if isinstance(result, np.ndarray):
            result = torch.from_numpy(np.ascontiguousarray(result))
        bins = raw.shape[1]
        expected = f"float log-mel (frames, {bins}), at least one frame"
        if not isinstance(result, torch.Tensor):
            raise _wrong_result(where, f"a {type(result).__name__}", expected)
        is_shaped = result.ndim == 2 and len(result) > 0 and result.shape[1] == bins
        if not is_shaped or not result.is_floating_point():
            raise _wrong_result(where, f"a tensor of {result.dtype} {tuple(result.shape)}", expected)
        if not torch.isfinite(result).all():
            raise _not_finite(where)
        return result.detach().to("cpu", torch.float32, copy=True)


def code_name(code: Any) -> str:
    """Return the name of a function, a class or an object's class: how the card and a checkpoint name it."""
    if isinstance(code, functools.partial):
        return code_name(code.func)
    name = getattr(code, "__qualname__", type(code).__qualname__)
    return name.replace("<locals>.", "")


def at_clip(problem: AstHfError, clip: str) -> AstHfError:
    """Return an error of an augmentation that also names the clip."""
    where = f"{clip}, {problem.where}"
    return error(problem.code, where=where, what=problem.what, fix=problem.fix, detail=problem.detail)


def _check_function(where: str, function: Any, arguments: tuple[str, ...]) -> None:
    """Raise E108 unless this is None or can be called with these arguments, by position."""
    if function is None:
        return
    expected = f"give a function {where}({', '.join(arguments)}), see docs/how-to/own-code.md"
    if not callable(function) or inspect.isclass(function):
        kind = f"the class {function.__name__}" if inspect.isclass(function) else type(function).__name__
        raise error("E108", where=where, what=f"is {kind}, no function", fix=expected)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function in C
        return
    try:
        signature.bind(*arguments)
    except TypeError as problem:
        what = f"{code_name(function)}{signature} cannot be called with ({', '.join(arguments)}): {problem}"
        raise error("E108", where=where, what=what, fix=expected) from problem


def _call(function: Callable[..., Any], where: str, random: np.random.Generator, *arguments: Any) -> Any:
    """Call a function with `random` as last argument, and with seeded global generators."""
    seed = int(random.integers(2**32))
    try:
        with seeded_globals(seed), torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)
            return function(*arguments, random)
    except Exception as problem:  # own code raises errors of any kind
        what = f"fails ({type(problem).__name__}: {short_reason(problem, 200)})"
        fix = "correct the function; the traceback above shows the line"
        raise error("E108", where=where, what=what, fix=fix) from problem


def _wrong_result(where: str, result: str, expected: str) -> AstHfError:
    return error("E106", where=where, what=f"returns {result}", fix=f"return {expected}")


def _not_finite(where: str) -> AstHfError:
    fix = "look for divisions by zero and logarithms of zero, as of a silent clip"
    return error("E104", where=where, what="returns NaN or infinity", fix=fix)
