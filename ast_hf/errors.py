"""Every error and warning of the package: one class tree, one table of codes, one line of text.

A message names the place, what was seen there, and what to do:

    [AST-E103] clip 2: too short, 240 samples. Fix: give at least 400 samples (25 ms at 16000 Hz).

`docs/reference/errors.md` explains each code; a test holds that page and `CODES` together.
"""

from __future__ import annotations

import difflib
import re
import textwrap
import warnings
from collections.abc import Iterable, Mapping

_MESSAGE = re.compile(r"\[AST-(\w+)\] (.*?): (.*)\. Fix: (.*?)\.?\s*$", re.DOTALL)


class AstHfError(Exception):
    """Base of all errors raised on purpose by `ast_hf`.

    Attributes:
        code: one of `CODES`, for example `"E103"`.
        where: file, row, clip index or field the error is about.
        what: what was observed there.
        fix: what the user can do about it.
    """

    def __init__(self, code: str, where: str = "", what: str = "", fix: str = "") -> None:
        if told := _MESSAGE.search(code):  # a data loader's worker rebuilds errors from their text alone
            code, where, what, fix = told.groups()
        where, what, fix = (" ".join(text.split()) for text in (where, what, fix))
        self.code, self.where, self.what, self.fix = code, where, what, fix
        super().__init__(f"[AST-{code}] {where}: {what}. Fix: {fix if fix.endswith('?') else fix + '.'}")

    def __reduce__(self) -> tuple:
        return type(self), (self.code, self.where, self.what, self.fix)


class AstInputError(AstHfError, ValueError):
    """A waveform, an array or an argument of a call."""


class AstDataError(AstHfError, ValueError):
    """A file, a row or a label of a data set."""


class AstConfigError(AstHfError, ValueError):
    """A field of a configuration, a recipe or a checkpoint."""


class AstRunError(AstHfError, RuntimeError):
    """A training run that cannot go on without doing harm."""


class AstHfWarning(UserWarning):
    """Something a careful user would want to know; the result is still well defined."""


#: code -> (class, what the code stands for). The numbers are stable: scripts may match on them.
CODES: dict[str, tuple[type[AstHfError], str]] = {
    "E101": (AstInputError, "empty clip"),
    "E102": (AstInputError, "wrong type of input"),
    "E103": (AstInputError, "clip shorter than one analysis frame"),
    "E104": (AstInputError, "not finite, or far outside any audio range"),
    "E106": (AstInputError, "ambiguous or impossible shape"),
    "E107": (AstInputError, "sampling rate missing or wrong"),
    "E108": (AstInputError, "unknown or impossible argument"),
    "E201": (AstDataError, "not an audio file"),
    "E202": (AstDataError, "truncated audio"),
    "E203": (AstDataError, "corrupt audio stream"),
    "E204": (AstDataError, "impossible audio header"),
    "E205": (AstDataError, "audio format not supported"),
    "E206": (AstDataError, "path problem"),
    "E207": (AstDataError, "audio over the size limit"),
    "E208": (AstDataError, "label or column problem"),
    "E209": (AstDataError, "empty set, or too few classes"),
    "E301": (AstConfigError, "feature extractor field"),
    "E302": (AstConfigError, "model configuration field"),
    "E303": (AstConfigError, "label map"),
    "E304": (AstInputError, "input does not fit the model"),
    "E305": (AstConfigError, "missing, extra or misshapen weights"),
    "E306": (AstConfigError, "broken or incomplete checkpoint"),
    "E307": (AstConfigError, "recipe field"),
    "E401": (AstRunError, "training checkpoint cannot be written"),
    "E501": (AstRunError, "loss is not finite"),
    "E601": (AstRunError, "converted weights do not answer as their source"),
    "E701": (AstRunError, "not allowed by the Hub"),
    "E702": (AstConfigError, "name that is not on the Hub"),
    "E703": (AstInputError, "URL that is not read"),
    "E704": (AstRunError, "the Hub cannot be reached, or does not do it"),
    "E705": (AstConfigError, "folder not fit to be published"),
}

#: code -> what the warning stands for.
WARNINGS: dict[str, str] = {
    "W201": "clip truncated to the model's length",
    "W202": "louder than audio should be",
    "W203": "silent clip",
    "W204": "channels that cancel each other",
    "W205": "files or folders that are left out",
    "W206": "labels that look like several",
    "W207": "labels that differ only in capitals or spaces",
    "W210": "max_length that counts samples",
    "W211": "two rows that look like stereo",
    "W212": "sampling rate assumed",
    "W213": "attention_mask of one call only",
    "W301": "patches leave gaps",
    "W302": "unknown field kept from a file",
    "W303": "classifier re-initialised",
    "W304": "what a recipe says of other clips",
    "W305": "label2id that does not mirror id2label",
    "W306": "classifier that the configuration does not describe",
    "W307": "task recognised by the labels",
    "W309": "labels of a task that the configuration does not name",
    "W401": "broken training checkpoint skipped",
    "W402": "nothing to resume from",
    "W403": "training checkpoint that cannot be verified",
    "W404": "resumed by another number of processes",
    "W405": "a newer training checkpoint is here",
    "W406": "resumed with other options",
    "W407": "GPUs that are not used",
    "W408": "bfloat16 that the processor has no instructions for",
    "W501": "emissions that cannot be read",
    "W502": "a stored calibration that is worse on other clips",
    "W701": "not published; training goes on",
}


def error(code: str, *, where: str, what: str, fix: str) -> AstHfError:
    """Build the error of `code` (see `CODES`), to be raised by the caller."""
    return CODES[code][0](code, where, what, fix)


def refuse(code: str, cases: Mapping[tuple[str, str, str], object]) -> None:
    """Raise `code` for the first case that is true.

    Args:
        code: of `CODES`.
        cases: `(where, what, fix)` -> whether it is so.
    """
    for (where, what, fix), wrong in cases.items():
        if wrong:
            raise error(code, where=where, what=what, fix=fix)


def warning_text(code: str, *, where: str, what: str) -> str:
    """One line for `warnings.warn(..., AstHfWarning)`."""
    assert code in WARNINGS, code
    return " ".join(f"[AST-{code}] {where}: {what}.".split())


_warned: set[str] = set()


def warn_once(code: str, *, where: str, what: str, stacklevel: int = 2) -> None:
    """Warn once per process and code, for what would otherwise be repeated with every clip."""
    if code not in _warned:
        _warned.add(code)
        warnings.warn(warning_text(code, where=where, what=what), AstHfWarning, stacklevel=stacklevel + 1)


def nearest(name: object, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The choice that `name` is most likely a misspelling of, if any is near."""
    return next(iter(difflib.get_close_matches(str(name), sorted(choices), n=1, cutoff=cutoff)), None)


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """`"did you mean 'max_length'?"`, or all the known names when nothing is near."""
    near = nearest(name, choices)
    return f"did you mean {near!r}?" if near else f"use one of {textwrap.shorten(', '.join(sorted(choices)), 200)}"
