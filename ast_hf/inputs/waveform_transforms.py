"""Transforms of the library audiomentations, by name: built strictly, tried before training, drawn by key.

The library draws from Python's and NumPy's global generators. They are seeded from the clip's own generator around each
clip and left as they were found, so that a clip varies the same whatever was drawn before it, in any process.
"""

from __future__ import annotations

import inspect
import random as python_random
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import AstHfError, did_you_mean, error

#: The noise that transforms are tried on: a second of it, with this standard deviation.
_TRIAL_LEVEL = 0.1

#: What brings the packages that some transforms need beside audiomentations.
_INSTALL_FURTHER = 'pip install "audiomentations[extras]"'


class Transform(NamedTuple):
    """A way to change samples."""

    name: str
    call: Callable[[np.ndarray, int], np.ndarray]  # (float32 samples `(time,)`, sampling rate in Hz) -> the same


def build_transforms(entries: list[Any], where: str) -> list[Transform]:
    """Transforms of audiomentations from mappings of a name to arguments, those inside `OneOf` and the like as well.

    Args:
        entries: `[{"Reverse": {"p": 0.5}}, ...]`; None for arguments means none.
        where: the option that the entries come from, for messages.

    Raises:
        AstConfigError: E307 for an unknown name or argument, for one that is missing or impossible, and where the
            package is not installed.
    """
    if not entries:
        return []
    try:
        import audiomentations
    except ImportError as problem:
        fix = 'pip install "ast_hf[augment]"'
        raise error("E307", where=where, what=f"needs audiomentations ({problem})", fix=fix) from problem
    known = {name: kind for name, kind in vars(audiomentations).items() if inspect.isclass(kind)}
    return [_build(entry, known, where) for entry in entries]


def _build(entry: Any, known: dict[str, type], where: str) -> Transform:
    if not isinstance(entry, dict) or len(entry) != 1:
        fix = "write each as its name and its arguments, such as {AddGaussianSNR: {p: 0.5}}"
        raise error("E307", where=where, what=f"{entry!r} is no transform", fix=fix)
    ((name, arguments),) = entry.items()
    if name not in known:
        what = f"{name!r} is no transform of audiomentations"
        raise error("E307", where=where, what=what, fix=did_you_mean(name, known))
    place = f"{where}: {name}"
    values = _checked_arguments({} if arguments is None else arguments, known[name], place)
    if "transforms" in values:
        parts = values["transforms"]
        if not isinstance(parts, tuple) or not parts:
            raise error("E307", where=place, what="has no list of transforms", fix="give transforms: [{Name: {}}, ...]")
        values["transforms"] = [_build(part, known, place).call for part in parts]
    try:
        return Transform(name, known[name](**values))
    except Exception as problem:  # whatever its constructor objects to
        fix = "see its page in audiomentations' documentation"
        raise error("E307", where=place, what=f"cannot be made ({_said(problem)})", fix=fix) from problem


def _checked_arguments(arguments: Any, kind: type, where: str) -> dict[str, Any]:
    """Arguments that a transform has, and all that it needs; lists as tuples, which the library asks for."""
    if not isinstance(arguments, dict):
        fix = "write them as {argument: value}"
        raise error("E307", where=where, what=f"{arguments!r} is no set of arguments", fix=fix)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(kind).parameters
    parameters = {name: parameter for name, parameter in signature.items() if parameter.kind in named}
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    for name in [*arguments, *needed]:
        if name not in parameters:
            fix = did_you_mean(name, parameters) if parameters else "leave it out"
            raise error("E307", where=f"{where}.{name}", what="is no argument", fix=fix)
        if "Callable" in str(parameters[name].annotation):
            fix = "leave it out, or vary clips in a subclass of Augmentation"
            raise error("E307", where=f"{where}.{name}", what="takes a function, which has no name here", fix=fix)
        if name not in arguments:
            asked = "a file or folder of sounds" if name.endswith("_path") else "it"
            raise error("E307", where=where, what=f"needs {name}", fix=f"give {asked} as {name}")
        if name.endswith("_path"):
            _check_paths(arguments[name], f"{where}.{name}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}


def _check_paths(value: Any, where: str) -> None:
    for path in value if isinstance(value, list) else [value]:
        if not isinstance(path, str) or not Path(path).exists():
            fix = "give a file or folder of sounds"
            raise error("E307", where=where, what=f"{path!r} does not exist", fix=fix)


def try_transforms(transforms: list[Transform], sampling_rate: int, where: str) -> None:
    """Run each transform, and each one inside it, on a second of noise with probability 1.

    Raises:
        AstConfigError: E307 for one that fails, or that does not repeat itself from the same global generators: its
            draws could not be keyed.
    """
    noise = np.random.default_rng(0).standard_normal(sampling_rate) * _TRIAL_LEVEL
    for transform in transforms:
        for part in _parts(transform.call):
            name = type(part).__name__
            with _surely(part):
                try:
                    first, again = (_run(Transform(name, part), noise.astype(np.float32), sampling_rate) for _ in "ab")
                except AstHfError as problem:
                    place = f"{where}: {name}"
                    raise error("E307", where=place, what=problem.what, fix=problem.fix) from problem
            if not np.array_equal(first, again):
                what = "gives another result each time from the same seed: a run could not be repeated or resumed"
                raise error("E307", where=f"{where}: {name}", what=what, fix="leave it out")


def _parts(transform: Any) -> Iterator[Any]:
    """What a composition is made of, and itself."""
    for part in getattr(transform, "transforms", ()):
        yield from _parts(part)
    yield transform


@contextmanager
def _surely(transform: Any) -> Iterator[None]:
    """Probability 1 for a while."""
    usual = transform.p
    transform.p = 1.0
    try:
        yield
    finally:
        transform.p = usual


def apply_transforms(
    transforms: list[Transform], waveform: np.ndarray, sampling_rate: int, random: np.random.Generator
) -> np.ndarray:
    """Changed copy of float32 samples `(time,)` at `sampling_rate` Hz, of any length; draws are keyed by `random`.

    Raises:
        AstHfError: E307, naming the transform, when it fails; E104 when it gives NaN or infinity, E106 when it gives
            anything else than samples `(time,)`.
    """
    waveform = waveform.copy()
    for transform in transforms:
        waveform = _run(transform, waveform, sampling_rate, seed=int(random.integers(2**32)))
    return waveform


def _run(transform: Transform, waveform: np.ndarray, sampling_rate: int, *, seed: int = 0) -> np.ndarray:
    with seeded_globals(seed):
        try:
            varied = transform.call(waveform, sampling_rate)
        except Exception as problem:  # whatever it objects to in this clip
            install = f"{_INSTALL_FURTHER}, or leave it out"
            fix = install if isinstance(problem, ImportError) else "change its arguments or leave it out"
            raise error("E307", where=transform.name, what=f"fails ({_said(problem)})", fix=fix) from problem
    if not isinstance(varied, np.ndarray) or varied.ndim != 1 or not len(varied):
        what = f"gives {f'an array of shape {varied.shape}' if isinstance(varied, np.ndarray) else type(varied)}"
        raise error("E106", where=transform.name, what=what, fix="use transforms that keep a clip mono and not empty")
    if not np.isfinite(varied).all():
        fix = "change its arguments or leave it out"
        raise error("E104", where=transform.name, what="gives NaN or infinite samples", fix=fix)
    return varied.astype(np.float32, copy=False)


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Python's and NumPy's global generators start from `seed`, and are afterwards as they were."""
    python, numpy = python_random.getstate(), np.random.get_state(legacy=False)
    python_random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        python_random.setstate(python)
        np.random.set_state(numpy)


def without_folders(entries: Any) -> Any:
    """Entries as they may be published: of absolute paths only the last part."""
    if isinstance(entries, dict):
        return {name: without_folders(value) for name, value in entries.items()}
    if isinstance(entries, list):
        return [without_folders(value) for value in entries]
    return Path(entries).name if isinstance(entries, str) and Path(entries).is_absolute() else entries


def _said(problem: Exception) -> str:
    """An exception of another library in one line; of an assertion that says nothing, what it asserts."""
    asserted = traceback.extract_tb(problem.__traceback__)[-1].line
    return f"{type(problem).__name__}: {str(problem) or asserted}"
