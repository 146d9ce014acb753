"""Transforms of the library audiomentations by name, checked before training, with keyed draws.

The library draws from Python's and NumPy's global generators. They are seeded from each clip's generator and
restored afterwards, so that the result does not depend on the process or on previous draws.
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

#: Standard deviation of the second of noise that transforms are tested on.
_TRIAL_LEVEL = 0.1


class Transform(NamedTuple):
    """A transform of audiomentations: name, and function of float32 samples `(time,)` and rate in Hz."""

    name: str
    call: Callable[[np.ndarray, int], np.ndarray]


def build_transforms(entries: list[Any], where: str) -> list[Transform]:
    """Return the transforms of entries that map a name to arguments, also inside `OneOf` and `SomeOf`.

    Args:
        entries: `[{"Reverse": {"p": 0.5}}, ...]`; None means no arguments.
        where: the option with these entries, for messages.

    Raises:
        AstConfigError: E307 for an unknown name, for an argument that is unknown, missing or impossible, and
            if the package is not installed.
    """
    if not entries:
        return []
    try:
        import audiomentations
    except ImportError as problem:
        what = f"needs audiomentations ({problem})"
        fix = 'pip install "ast_hf[augment]"'
        raise error("E307", where=where, what=what, fix=fix, detail="environment") from problem
    classes = {name: kind for name, kind in vars(audiomentations).items() if inspect.isclass(kind)}
    return [_build(entry, classes, where) for entry in entries]


def _build(entry: Any, classes: dict[str, type], where: str) -> Transform:
    """Return the transform of one entry; `classes` are those of audiomentations by name."""
    if not isinstance(entry, dict) or len(entry) != 1:
        fix = "write its name and its arguments, such as {AddGaussianSNR: {p: 0.5}}"
        raise error("E307", where=where, what=f"{entry!r} is not a transform", fix=fix, detail="type")
    ((name, arguments),) = entry.items()
    if name not in classes:
        what = f"{name!r} is not a transform of audiomentations"
        raise error("E307", where=where, what=what, fix=did_you_mean(name, classes), detail="choice")
    place = f"{where}: {name}"
    values = _check_arguments({} if arguments is None else arguments, classes[name], place)
    if "transforms" in values:
        parts = values["transforms"]
        if not isinstance(parts, tuple) or not parts:
            fix = "give transforms: [{Name: {}}, ...]"
            raise error("E307", where=place, what="has no list of transforms", fix=fix, detail="type")
        values["transforms"] = [_build(part, classes, place).call for part in parts]
    try:
        return Transform(name, classes[name](**values))
    except Exception as problem:  # constructors raise errors of any kind
        what = f"cannot be created ({_describe(problem)})"
        fix = "see its page in audiomentations' documentation"
        raise error("E307", where=place, what=what, fix=fix, detail="range") from problem


def _check_arguments(arguments: Any, kind: type, where: str) -> dict[str, Any]:
    """Return the arguments of a transform, with tuples for lists; raise E307 for impossible ones."""
    if not isinstance(arguments, dict):
        what = f"{arguments!r} is not a mapping of arguments"
        raise error("E307", where=where, what=what, fix="write them as {argument: value}", detail="type")
    keyword_kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(kind).parameters
    parameters = {name: parameter for name, parameter in signature.items() if parameter.kind in keyword_kinds}
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    for name in [*arguments, *required]:
        if name not in parameters:
            fix = did_you_mean(name, parameters) if parameters else "leave it out"
            raise error("E307", where=f"{where}.{name}", what="is not an argument", fix=fix, detail="unknown")
        if "Callable" in str(parameters[name].annotation):
            fix = "leave it out, or vary clips in a subclass of Augmentation"
            what = "takes a function, which cannot be written as text"
            raise error("E307", where=f"{where}.{name}", what=what, fix=fix, detail="type")
        if name not in arguments:
            value = "a file or folder of sounds" if name.endswith("_path") else "a value"
            fix = f"give {value} as {name}"
            raise error("E307", where=where, what=f"needs {name}", fix=fix, detail="missing")
        if name.endswith("_path"):
            _check_paths(arguments[name], f"{where}.{name}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}


def _check_paths(value: Any, where: str) -> None:
    for path in value if isinstance(value, list) else [value]:
        if not isinstance(path, str) or not Path(path).exists():
            fix = "give a file or folder of sounds"
            raise error("E307", where=where, what=f"{path!r} does not exist", fix=fix, detail="environment")


def try_transforms(transforms: list[Transform], sampling_rate: int, where: str) -> None:
    """Run each transform, and each one inside it, on a second of noise with probability 1.

    Raises:
        AstConfigError: E307 for a transform that fails, or that gives different results for the same seed,
            since its draws cannot be keyed.
    """
    noise = np.random.default_rng(0).standard_normal(sampling_rate) * _TRIAL_LEVEL
    for transform in transforms:
        for part in _parts(transform.call):
            _try_transform(part, noise.astype(np.float32), sampling_rate, f"{where}: {type(part).__name__}")


def _try_transform(part: Any, noise: np.ndarray, sampling_rate: int, where: str) -> None:
    transform = Transform(type(part).__name__, part)
    with _always_applied(part):
        try:
            first = _run(transform, noise, sampling_rate)
            second = _run(transform, noise, sampling_rate)
        except AstHfError as problem:
            detail = problem.detail or "data"
            raise error("E307", where=where, what=problem.what, fix=problem.fix, detail=detail) from problem
    if not np.array_equal(first, second):
        what = "gives another result each time from the same seed: a run could not be repeated"
        raise error("E307", where=where, what=what, fix="leave it out", detail="conflict")


def _parts(transform: Any) -> Iterator[Any]:
    """Yield the transforms inside a composition, then the composition."""
    for part in getattr(transform, "transforms", ()):
        yield from _parts(part)
    yield transform


@contextmanager
def _always_applied(transform: Any) -> Iterator[None]:
    """Set the probability of a transform to 1 temporarily."""
    probability = transform.p
    transform.p = 1.0
    try:
        yield
    finally:
        transform.p = probability


def apply_transforms(
    transforms: list[Transform], waveform: np.ndarray, sampling_rate: int, random: np.random.Generator
) -> np.ndarray:
    """Return a changed copy of float32 samples `(time,)` at `sampling_rate` Hz; draws are keyed by `random`.

    Raises:
        AstHfError: E307 if a transform fails, E104 if it returns NaN or infinity, E106 if it returns anything
            but samples `(time,)`; they name the transform.
    """
    waveform = waveform.copy()
    for transform in transforms:
        waveform = _run(transform, waveform, sampling_rate, seed=int(random.integers(2**32)))
    return waveform


def _run(transform: Transform, waveform: np.ndarray, sampling_rate: int, *, seed: int = 0) -> np.ndarray:
    with seeded_globals(seed):
        try:
            varied = transform.call(waveform, sampling_rate)
        except Exception as problem:  # transforms raise errors of any kind
            raise _failed(transform, problem) from problem
    if not isinstance(varied, np.ndarray):
        raise _not_a_clip(transform, str(type(varied)))
    if varied.ndim != 1 or not len(varied):
        raise _not_a_clip(transform, f"an array of shape {varied.shape}")
    if not np.isfinite(varied).all():
        fix = "change its arguments or leave it out"
        raise error("E104", where=transform.name, what="gives NaN or infinite samples", fix=fix)
    return varied.astype(np.float32, copy=False)


def _failed(transform: Transform, problem: Exception) -> AstHfError:
    what = f"fails ({_describe(problem)})"
    if isinstance(problem, ImportError):
        fix = 'pip install "audiomentations[extras]", or leave it out'
        return error("E307", where=transform.name, what=what, fix=fix, detail="environment")
    fix = "change its arguments or leave it out"
    return error("E307", where=transform.name, what=what, fix=fix, detail="data")


def _not_a_clip(transform: Transform, result: str) -> AstHfError:
    fix = "use transforms that keep a clip mono and not empty"
    return error("E106", where=transform.name, what=f"gives {result}", fix=fix)


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed Python's and NumPy's global generators, and restore them afterwards."""
    python_state = python_random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    python_random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        python_random.setstate(python_state)
        np.random.set_state(numpy_state)


def without_folders(entries: Any) -> Any:
    """Return nested values with absolute paths cut to their last part, for publishing."""
    if isinstance(entries, dict):
        return {name: without_folders(value) for name, value in entries.items()}
    if isinstance(entries, list):
        return [without_folders(value) for value in entries]
    return Path(entries).name if isinstance(entries, str) and Path(entries).is_absolute() else entries


def _describe(problem: Exception) -> str:
    """Return another library's exception as text, the asserted expression for one without a message."""
    asserted = traceback.extract_tb(problem.__traceback__)[-1].line
    return f"{type(problem).__name__}: {str(problem) or asserted}"
