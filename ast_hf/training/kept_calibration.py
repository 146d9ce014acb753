"""What was fitted to a finished model (temperature, thresholds, rules of timelines), kept when its run is resumed."""

from __future__ import annotations

import filecmp
import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..adapters.lora import ADAPTER_FOLDER
from ..configuration_ast import FITTED_FIELDS
from ..files import write_text
from ..reports.stored_calibration import kept_record

_CONFIG = "config.json"
_RESULTS = "results.json"
#: Fields of config.json that may differ between two savings of one model.
_FREE_FIELDS = (*FITTED_FIELDS, "transformers_version")


@dataclass(frozen=True)
class Kept:
    """Fields of config.json that are kept, and the record of the calibration among them, see `kept_record`."""

    fields: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] | None = None


def keep_fitted(folder: Path, staged: Path) -> Kept:
    """Copy the fitted fields of a finished model to the newly saved one, if it is the same model.

    The same are weights and extractor byte for byte, and config.json in all other fields. A retrained model has other
    weights, so that nothing is kept.

    Args:
        folder: the finished model.
        staged: the newly saved one, whose config.json is changed, with that of its adapter.
    """
    old = _read_json(folder / _CONFIG)
    new = _read_json(staged / _CONFIG)
    fields = {name: old[name] for name in FITTED_FIELDS if old.get(name) is not None}
    if not fields or not _is_same_model(folder, staged, old, new):
        return Kept()
    for path in (staged / _CONFIG, staged / ADAPTER_FOLDER / _CONFIG):
        if path.is_file():
            content = {**_read_json(path), **fields}
            write_text(path, json.dumps(dict(sorted(content.items())), indent=2) + "\n")
    return Kept(fields, kept_record(old, _read_json(folder / _RESULTS)))


def _is_same_model(folder: Path, staged: Path, old: dict[str, Any], new: dict[str, Any]) -> bool:
    if _without_free(old) != _without_free(new):
        return False
    names = [path.name for path in staged.iterdir() if path.suffix == ".safetensors"]
    names.append("preprocessor_config.json")
    pairs = [(folder / name, staged / name) for name in names]
    return len(names) > 1 and all(
        one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False) for one, other in pairs
    )


def _without_free(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in _FREE_FIELDS}


def _read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty if there is none, or no object."""
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}
