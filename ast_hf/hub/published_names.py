"""Names in a model card's metadata (base, data sets): names on the Hub, and no folders of this machine."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import error

_MODEL = r"\w[\w.-]*/[\w.-]+"
#: Old data sets have no user: `https://huggingface.co/datasets/glue`.
_DATA_SET = r"\w[\w.-]*(/[\w.-]+)?"
_FIX = (
    "write its name there, `base_model: user/name` (push it first if it is yours; "
    "card.base_model in a recipe sets it)"
)


def is_hub_name(name: object) -> bool:
    """Return True for `user/name` of a model, unless that is a file or folder here."""
    return re.fullmatch(_MODEL, str(name)) is not None and not Path(str(name)).exists()


def check_names(metadata: Any, folder: Path) -> None:
    """Raise E705 for a card whose base or data sets are on this machine only: it would lead others nowhere.

    Args:
        metadata: of the card, with `get`.
        folder: of the model. If a run trained it from a folder, the card has to name the base.
    """
    where = f"{str(folder / 'README.md')!r}: "
    bases = _entries(metadata.get("base_model"))
    model, named, chosen = _start(folder / "results.json")
    loaded_by_name = named if named == model and chosen is None else None
    for name in bases:
        if name != loaded_by_name and not is_hub_name(name):
            kind = "which is a folder here" if Path(name).exists() else "which is not a model on the Hub"
            what = f"is {name!r}, {kind}: nobody else could find the base"
            raise error("E705", where=f"{where}base_model", what=what, fix=_FIX)
    start = None if bases or named else model
    if start is not None:
        what = (
            f"is missing, and the model was trained from {start!r}, a folder: nobody else could find the base"
        )
        raise error("E705", where=f"{where}base_model", what=what, fix=_FIX)
    for name in _entries(metadata.get("datasets")):
        has_folder = "/" in name and Path(name).exists()
        if has_folder or re.fullmatch(_DATA_SET, name) is None:
            what = f"has {name!r}, which is not a data set on the Hub"
            fix = "write its name there, user/name, or leave it out (card.data_sets in a recipe sets it)"
            raise error("E705", where=f"{where}datasets", what=what, fix=fix)


def _entries(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(entry) for entry in value] if isinstance(value, list) else [str(value)]


def _start(path: Path) -> tuple[str | None, str | None, str | None]:
    """Return what a run started from, its name on the Hub, and `card.base_model`, from its results.json.

    Nothing is known without results of a run. The first two are equal if the start was loaded by name, whatever
    folder may be called like that by now.
    """
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # no results of a run
        results = json.loads(path.read_text(encoding="utf-8"))
        model = results["recipe"]["model"]
        chosen = (results["recipe"].get("card") or {}).get("base_model")
        return model.get("base") or model.get("vit"), results.get("base_model"), chosen
    return None, None, None
