"""Progress of long work: a bar on a terminal and in a notebook, and a few lines in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm
from tqdm.std import tqdm as plain_tqdm

#: Seconds after which a line of a log is followed by the next one (issue 18, item 9).
SECONDS = 30.0
#: Share of the work that is also worth a line, and the seconds that such lines are apart at least.
SHARE = 0.1
SHORTEST = 5.0
#: A line of a log, with and without a known end.
_LINE = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_ENDLESS = "{desc}: {n_fmt} {unit} [{elapsed}, {rate_fmt}{postfix}]"


def progress_bar(iterable: Any = None, **settings: Any) -> Any:
    """Return a bar of tqdm, or its replacement for a log.

    Args:
        iterable: what to go through and count; None to count with `update`.
        settings: of `tqdm`. `disable=True` shows nothing; None and False show a bar on a terminal and in a notebook,
            and lines elsewhere.
    """
    settings["disable"] = bool(settings.get("disable"))
    return (tqdm if _shows_bars(settings.get("file")) else LogLines)(iterable, **settings)


def _shows_bars(file: Any) -> bool:
    """Return True for a terminal and for a notebook, whose bars are not text."""
    is_notebook = any(kind.__module__ == "tqdm.notebook" for kind in tqdm.__mro__)
    stream = sys.stderr if file is None else file
    return is_notebook or bool(getattr(stream, "isatty", lambda: False)())


class LogLines(plain_tqdm):
    """Progress as lines of text, few enough for the log of a job.

    The next line comes after `SECONDS`. If the bar would stay after its end (`leave`), it also comes with each further
    `SHARE` of the work, but not within `SHORTEST` seconds of the last line, and the last line comes at the end.
    """

    disable: bool

    def __init__(self, iterable: Any = None, **settings: Any) -> None:
        total = settings.get("total")
        is_endless = total is None and not hasattr(iterable, "__len__")
        settings["bar_format"] = _ENDLESS if is_endless else _LINE
        settings.pop("dynamic_ncols", None)
        self._shown_n = settings.get("initial", 0)
        self._shown_at: float | None = None  # before the start, nothing is shown
        super().__init__(iterable, **settings)
        self._shown_at = self.start_t if not self.disable else None

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Write a line if one is due."""
        if self._shown_at is not None and self._is_due():
            self._write()
        return True

    def clear(self, nolock: bool = False) -> None:
        """Leave the lines where they are."""

    def close(self) -> None:
        """Write the last line of a bar that stays after its end."""
        if self.disable:
            return
        if self.leave and self.n != self._shown_n:
            self._write()
        self.disable = True
        self._decr_instances(self)

    def _is_due(self) -> bool:
        waited = self._time() - self._shown_at
        if waited >= SECONDS:
            return True
        step = SHARE * (self.total or float("inf"))
        return bool(self.leave) and waited >= SHORTEST and self.n - self._shown_n >= step

    def _write(self) -> None:
        self.fp.write(f"{self}\n")
        self.fp.flush()
        self._shown_at = self._time()
        self._shown_n = self.n
