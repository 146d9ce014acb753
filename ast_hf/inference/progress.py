"""Progress bar of a long recording: seconds of audio done."""

from __future__ import annotations

from typing import Any

#: Seconds until the bar is shown: short recordings have none.
_DELAY = 2.0


class ReadingBar:
    """Progress bar of one recording on a terminal; quiet elsewhere, and where transformers' bars are turned off.

    Args:
        name: of the recording.
        rate: of the samples that are counted, in Hz.
    """

    def __init__(self, name: str, rate: int) -> None:
        self.name = name
        self.rate = rate
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` samples are done."""
        if self._bar is None:
            self._bar = self._open(total)
        self._bar.update(round(done / self.rate) - self._bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def _open(self, total: int) -> Any:
        from tqdm.auto import tqdm
        from transformers.utils.logging import is_progress_bar_enabled

        hidden = None if is_progress_bar_enabled() else True  # None hides it in a file or a pipe
        seconds = round(total / self.rate)
        return tqdm(total=seconds, desc=self.name, unit="s", delay=_DELAY, leave=False, disable=hidden)
