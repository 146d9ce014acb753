"""Errors and warnings of the package: one class tree, one table of codes, one form of message.

A message names the place, the problem there, and the fix:

    [AST-E103] clip 2: too short, 240 samples. Fix: give at least 400 samples (25 ms at 16000 Hz).

`docs/reference/errors.md` explains each code; a test holds that page and `CODES` together.
"""

from __future__ import annotations

import difflib
import re
import reprlib
import textwrap
import warnings
from collections.abc import Iterable, Sequence

from .printing import visible

_MESSAGE = re.compile(r"\[AST-(\w+)\] (.*?): (.*)\. Fix: (.*?)\.?\s*$", re.DOTALL)


class AstHfError(Exception):
    """Base class of all errors that `ast_hf` raises on purpose.

    Attributes:
        code: one of `CODES`, for example `"E103"`.
        where: the file, row, clip index or field with the problem.
        what: the problem.
        fix: what the user can do about it.
        detail: the case, one of `DETAILS[code]`. `""` for a code without cases, and for an error that a data
            loader's worker raised, since only its text reaches the main process.
    """

    def __init__(self, code: str, where: str = "", what: str = "", fix: str = "", detail: str = "") -> None:
        # a data loader's worker rebuilds errors from their text alone: a traceback that ends with the message
        if match := _MESSAGE.search(code.rstrip().rpartition("\n")[2]):
            code, where, what, fix = match.groups()
        self.code = code
        self.where = _one_line(where, _MAX_TEXT)
        self.what = _one_line(what, _MAX_TEXT)
        self.fix = _one_line(fix)
        self.detail = detail
        end = "" if self.fix.endswith("?") else "."
        super().__init__(f"[AST-{code}] {self.where}: {self.what}. Fix: {self.fix}{end}")

    def __reduce__(self) -> tuple:
        return type(self), (self.code, self.where, self.what, self.fix, self.detail)


#: Maximum number of characters of a place and of a problem: values of any size are quoted in them.
_MAX_TEXT = 2_000


def _one_line(text: str, limit: int | None = None) -> str:
    """Return text as one line that a terminal shows and does not execute, cut after `limit` characters."""
    line = visible(" ".join(text.split()))
    return line if limit is None or len(line) <= limit else line[:limit] + " ..."


class AstInputError(AstHfError, ValueError):
    """A waveform, an array or an argument of a call."""


class AstDataError(AstHfError, ValueError):
    """A file, a row or a label of a data set."""


class AstConfigError(AstHfError, ValueError):
    """A field of a configuration, a recipe or a checkpoint."""


class AstRunError(AstHfError, RuntimeError):
    """A training run that cannot continue without harm."""


class AstHfWarning(UserWarning):
    """A possible mistake; the result is still well defined."""


#: code -> (class, meaning). The numbers are stable: scripts may match on them.
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
    "E210": (AstDataError, "more unusable clips than may be skipped"),
    "E301": (AstConfigError, "feature extractor field"),
    "E302": (AstConfigError, "model configuration field"),
    "E303": (AstConfigError, "label map"),
    "E304": (AstInputError, "input does not fit the model"),
    "E305": (AstConfigError, "missing, extra or misshapen weights"),
    "E306": (AstConfigError, "broken or incomplete checkpoint"),
    "E307": (AstConfigError, "recipe field"),
    "E401": (AstRunError, "file or folder that cannot be written"),
    "E402": (AstRunError, "output folder in use by another run"),
    "E403": (AstRunError, "run that lost a process before its end"),
    "E501": (AstRunError, "loss is not finite"),
    "E601": (AstRunError, "converted weights do not reproduce their source's logits"),
    "E701": (AstRunError, "not allowed by the Hub"),
    "E702": (AstConfigError, "name that is not on the Hub"),
    "E703": (AstInputError, "URL that cannot be read"),
    "E704": (AstRunError, "the Hub cannot be reached, or failed"),
    "E705": (AstConfigError, "folder that cannot be published"),
    "E706": (AstConfigError, "download that differs from the Hub's file"),
}

#: code -> {detail: meaning}, for codes with cases that a script may want to distinguish.
DETAILS: dict[str, dict[str, str]] = {
    "E306": {
        "missing": "a required file or folder does not exist",
        "unreadable": "a file is damaged, or of another format than its name",
        "not_finite": "weights are NaN or infinite",
        "unsupported": "a kind of checkpoint that this call does not read",
        "mismatch": "a checkpoint of another run, base or model than the one expected",
        "exists": "a result that would be overwritten",
    },
    "E307": {
        "unknown": "an option that does not exist",
        "type": "a value of the wrong type",
        "range": "a number outside its range",
        "choice": "a value that is not one of the valid choices",
        "conflict": "an option that contradicts another one",
        "missing": "a required option, or a recipe that does not exist",
        "unreadable": "a recipe that cannot be parsed",
        "data": "an option that does not fit the data, the base or the teacher",
        "environment": "an option that needs hardware or packages that are not available",
    },
    "E401": {
        "full": "the disk, a quota, or a limit on the size of a file is full, or too small for what will be written",
        "read_only": "the disk is read-only",
        "permission": "this user may not write there",
        "missing": "a folder was removed, or cannot be made there",
        "in_the_way": "a file or folder of that name is in the way",
        "name": "a name that the disk does not allow",
        "open_files": "too many files are open",
        "device": "the disk failed, or its connection",
    },
}

#: code -> meaning.
WARNINGS: dict[str, str] = {
    "W201": "clip truncated to the model's length",
    "W202": "louder than audio should be",
    "W203": "silent clip",
    "W204": "channels that cancel each other",
    "W205": "files or folders that are skipped",
    "W206": "one label that looks like several",
    "W207": "labels that differ only in capitals or spaces",
    "W208": "columns that look like times, labels or splits, and are not read",
    "W209": "labels that look like numbers, ids or missing values",
    "W210": "max_length that counts samples",
    "W211": "two rows that look like stereo",
    "W212": "sampling rate assumed",
    "W213": "attention_mask of one call only",
    "W214": "clips that cannot be used are skipped",
    "W215": "clips shared by splits, or with contradictory labels",
    "W216": "clips outside of the data folder",
    "W217": "recording that is unreadable from some time on",
    "W301": "patches leave gaps",
    "W302": "field of a file that is unknown, missing, or contradicts another",
    "W303": "classifier re-initialised",
    "W304": "card text of a recipe that describes other clips",
    "W305": "label2id that does not mirror id2label",
    "W306": "classifier that does not match the configuration",
    "W307": "task recognised by the labels",
    "W309": "problem_type not set, inferred from the labels",
    "W401": "broken training checkpoint skipped",
    "W402": "nothing to resume from",
    "W403": "training checkpoint that cannot be verified",
    "W404": "resumed with another number of processes",
    "W405": "a newer training checkpoint exists",
    "W406": "resumed with other options",
    "W407": "GPUs that are not used",
    "W408": "bfloat16 on a processor without instructions for it",
    "W409": "decoded clips no longer cached: the memory budget is used",
    "W410": "lock of a run that is gone, taken over",
    "W411": "training loss that stays that of guessing",
    "W501": "emissions that cannot be read",
    "W502": "a stored calibration that is worse on other clips",
    "W701": "not published; training continues",
}


def error(code: str, *, where: str, what: str, fix: str, detail: str = "") -> AstHfError:
    """Return the error of `code` for the caller to raise.

    The arguments are the attributes of `AstHfError`; `detail` is required for the codes in `DETAILS`.
    """
    return CODES[code][0](code, where, what, fix, detail)


def not_a_choice(code: str, *, where: str, value: object, choices: Iterable[str]) -> AstHfError:
    """Return the error for a value that is not in `choices`; its fix names the nearest choice."""
    fix = did_you_mean(value, choices)
    what = f"{shown(value)} is not a valid choice"
    return error(code, where=where, what=what, fix=fix, detail=_detail(code, "choice"))


def wrong_type(code: str, *, where: str, value: object, expected: str) -> AstHfError:
    """Return the error for a value of the wrong type; `expected` is a type with its article, `"a number"`."""
    what = f"{shown(value)} is not {expected}"
    return error(code, where=where, what=what, fix=f"give {expected}", detail=_detail(code, "type"))


def unreadable(
    code: str, *, where: str, problem: object, fix: str, what: str = "cannot be read"
) -> AstHfError:
    """Return the error for a file that another library cannot read; `problem` is that library's exception."""
    text = f"{what} ({short_reason(problem) or type(problem).__name__})"
    return error(code, where=where, what=text, fix=fix, detail=_detail(code, "unreadable"))


#: Values in messages: longer texts, lists and numbers are cut in their middle or at their end.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120


def shown(value: object) -> str:
    """Return `repr(value)`, cut if it is long or deeply nested."""
    return _SHORT.repr(value)


def short_reason(problem: object, limit: int = 120) -> str:
    """Return the text of another library's exception on one line of at most `limit` characters."""
    return " ".join(str(problem).split())[:limit]


def _detail(code: str, detail: str) -> str:
    return detail if detail in DETAILS.get(code, {}) else ""


def warning_text(code: str, *, where: str, what: str) -> str:
    """Return the one-line text for `warnings.warn(..., AstHfWarning)`."""
    assert code in WARNINGS, code
    end = "" if what.endswith((".", "?")) else "."
    return _one_line(f"[AST-{code}] {where}: {what}{end}")


_warned: set[str] = set()


def warn_once(code: str, *, where: str, what: str, stacklevel: int = 2) -> None:
    """Warn once per process and code, for warnings that would otherwise be repeated for every clip."""
    if code not in _warned:
        _warned.add(code)
        warnings.warn(warning_text(code, where=where, what=what), AstHfWarning, stacklevel=stacklevel + 1)


def shortlist(names: Sequence[object], limit: int = 5) -> str:
    """Return the first `limit` names, quoted, and the number of the others: `"'a', 'b' and 3 more"`."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(repr, names[:limit])) + more


def nearest(name: object, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the choice that is most similar to `name`, or None if all are below the `cutoff` (0 to 1)."""
    return next(iter(difflib.get_close_matches(str(name)[:100], sorted(choices), n=1, cutoff=cutoff)), None)


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """Return `"did you mean 'max_length'?"`, or a list of the choices if none is similar."""
    near = nearest(name, choices)
    if near:
        return f"did you mean {near!r}?"
    return f"use one of {textwrap.shorten(', '.join(sorted(choices)), 200)}"
