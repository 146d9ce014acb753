"""What a run found out before training, in its output folder: a resumed run does not find it out again."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ..errors import AstRunError
from ..files import write_json
from ..versions import result_versions

#: Hidden file in the output folder; it is not part of the result.
PREPARED_FILE = ".prepared.json"


class PreparedFile:
    """Results of preparing a run, by name, each under the conditions that it depends on.

    A file that cannot be read or written, or was damaged, only costs the time to find the results out again.
    Results of other versions of the packages are not returned.

    Args:
        folder: output folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / PREPARED_FILE
        self._kept: dict[str, dict[str, Any]] = {}

    def read(self, name: str, conditions: Any) -> Any:
        """Return the result of this name under the same conditions (plain values), None if there is none."""
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))[name]
            key = _digest(conditions)
            is_same = stored["key"] == key and stored["seal"] == _digest([key, stored["result"]])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return stored["result"] if is_same else None

    def keep(self, name: str, conditions: Any, result: Any) -> None:
        """Keep a result, plain values, for `write`."""
        key = _digest(conditions)
        self._kept[name] = {"key": key, "result": result, "seal": _digest([key, result])}

    def write(self) -> None:
        """Write what was kept, if anything was."""
        if self._kept:
            with suppress(AstRunError):  # it only saves time
                write_json(self.path, self._kept)


class WhenTrainingStarts(TrainerCallback):
    """Calls functions on the main process when the output folder is known to be the run's own.

    Args:
        calls: functions without arguments.
    """

    def __init__(self, *calls: Any) -> None:
        self.calls = calls

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            for call in self.calls:
                call()


def _digest(values: Any) -> str:
    text = json.dumps([values, result_versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
