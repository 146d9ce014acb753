"""Mean and std that a run has measured, in its output folder: a resumed run does not measure them again."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_json
from ..versions import result_versions
from .checkpoints.run_options import plain_options

MEASURED_FILE = "measured_statistics.json"


@dataclass
class MeasuredStatistics:
    """Statistics stored in an output folder under the options, the clips and the versions of the run.

    Attributes:
        folder: output folder.
        options: result of `collect_options`, with the sound of the clips.
    """

    folder: Path
    options: dict[str, Any]

    @property
    def _key(self) -> str:
        text = json.dumps([plain_options(self.options), result_versions()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def read(self) -> tuple[float, float] | None:
        """Return mean and std, or None if they were not measured on these clips in this way."""
        try:
            stored = json.loads((self.folder / MEASURED_FILE).read_text(encoding="utf-8"))
            return (float(stored["mean"]), float(stored["std"])) if stored["run"] == self._key else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, mean: float, std: float) -> None:
        """Store mean and std; a folder that cannot be written is left alone, and measured again."""
        with suppress(OSError):
            write_json(self.folder / MEASURED_FILE, {"run": self._key, "mean": mean, "std": std})
