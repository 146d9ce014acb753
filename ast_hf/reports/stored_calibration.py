"""Calibration that is stored with a checkpoint: its record in results.json, and its section of the card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..files import plain_values, write_json, write_text
from .evaluation_results import Calibration
from .markdown import label_names, plain, plain_table

#: Headline of the section, which is replaced as a whole.
_HEAD = "## Calibration"
_SECTION = re.compile(rf"^{_HEAD}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
#: Headline before which the section is inserted, as in the templates of the cards.
_NEXT = re.compile(r"^## Labels$", re.MULTILINE)
_STOCK = "The pipeline of transformers alone does not: there, `logits / {:.6g}` gives the same scores."
#: Line of the card's snippet for transformers alone that makes scores of logits.
_SNIPPET = re.compile(r"^scores = (?:logits|\(logits / [\d.e+-]+\))\.", re.MULTILINE)
#: Labels whose thresholds the card lists.
_MAX_LABELS = 50


def calibration_record(
    calibration: Calibration, thresholds: Sequence[float] | None, source: str
) -> dict[str, Any]:
    """Return a fitted calibration as results.json stores it.

    Args:
        calibration: result of the fit.
        thresholds: of the labels in the checkpoint's order; None for single-label.
        source: the data set; of a path, the last part is stored.

    Returns:
        `temperature`, `thresholds`, `fitted_on` (split), `source`, the values `before` and `after` by split and
        name, and `in_results`, whether the results beside it were measured with it. In results.json that were measured
        with other values than 1 and 0.5 it also has these, `measured_with`.
    """
    return plain_values(
        {
            "temperature": calibration.temperature,
            "thresholds": None if thresholds is None else list(thresholds),
            "fitted_on": calibration.fitted_on,
            "source": Path(source).resolve().name if Path(source).exists() else source,
            "before": calibration.before,
            "after": calibration.after,
            "in_results": False,
        }
    )


def kept_record(config: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record of a calibration that a finished run keeps; None if its config.json holds none.

    Its results are measured again, with it. `config` is the content of config.json; `results` is that of the earlier
    results.json, which has the record if the values are still those.
    """
    values = {name: config.get(name) for name in ("temperature", "thresholds")}
    if not any(value is not None for value in values.values()):
        return None
    record = results.get("calibration") or {}
    if any(record.get(name) != value for name, value in values.items()):
        record = {}
    return {**record, **values, "in_results": True}


def note_calibration(folder: Path, record: dict[str, Any], labels: Sequence[str]) -> None:
    """Write a calibration into the results.json and the README.md of a checkpoint, if it has them.

    In README.md, the section about calibration is replaced, or inserted before that of the labels, and the snippet for
    transformers alone divides by the temperature. All else stays. `labels` are in the order of the thresholds.
    """
    results = folder / "results.json"
    content: Any = None
    with suppress(OSError, ValueError):  # none, or a file that no run wrote
        content = json.loads(results.read_text(encoding="utf-8"))
    if isinstance(content, dict) and "recipe" in content:
        record = _beside(content, record)
        write_json(results, {**content, "calibration": record})
    with suppress(OSError, UnicodeDecodeError):
        text = (folder / "README.md").read_text(encoding="utf-8")
        text = _SNIPPET.sub(lambda _: f"scores = {divided_logits(record['temperature'])}.", text, count=1)
        write_text(folder / "README.md", with_section(text, calibration_text(record, labels)))


def _beside(results: Mapping[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as it is beside these results, which may be measured with an earlier calibration."""
    names = ("temperature", "thresholds")
    earlier = results.get("calibration") or {}
    used = earlier.get("measured_with")
    if earlier.get("in_results"):
        used = {name: earlier.get(name) for name in names}
    if used is None:
        return record
    if all(used[name] == record[name] for name in names):
        return {**record, "in_results": True}
    return {**record, "measured_with": used}


def divided_logits(temperature: float | None) -> str:
    """Return Python for logits divided by a temperature, which transformers drops from a configuration."""
    return "logits" if temperature in (None, 1.0) else f"(logits / {temperature:.6g})"


def with_section(card: str, text: str) -> str:
    """Return a card with `text` as its section about calibration."""
    section = f"{_HEAD}\n\n{text}\n\n"
    if _SECTION.search(card):
        return f"{_SECTION.sub(lambda _: section, card, count=1).rstrip()}\n"
    if found := _NEXT.search(card):
        return card[: found.start()] + section + card[found.start() :]
    return f"{card.rstrip()}\n\n{section.rstrip()}\n"


def calibration_text(
    record: Mapping[str, Any] | None, labels: Sequence[str], *, is_ensemble: bool = False
) -> str:
    """Return the section of a card, without its headline; empty without a calibration.

    `labels` are in the order of the thresholds. Text from users is escaped. transformers alone loads no ensemble, so
    that its section does not speak of it.
    """
    if not record:
        return ""
    stock = "" if is_ensemble else _STOCK.format(record["temperature"] or 1.0)
    parts = [_stored_text(record, labels, stock)]
    if record.get("before"):
        parts.append(_effect_table(record["before"], record["after"]))
    if record.get("in_results"):
        parts.append("The results above are measured with these values.")
    else:
        parts.append(
            f"The results above, and those in the metadata, were measured before, {_measured_with(record)}."
        )
    return "\n\n".join(parts)


def _measured_with(record: Mapping[str, Any]) -> str:
    """Return the values that the results beside a record were measured with, in words."""
    earlier = record.get("measured_with") or {}
    text = f"with a temperature of {earlier.get('temperature') or 1.0:.4g}"
    if record["thresholds"] is None:
        return text
    return f"{text} and {'other thresholds' if earlier.get('thresholds') else 'thresholds of 0.5'}"


def _stored_text(record: Mapping[str, Any], labels: Sequence[str], stock: str) -> str:
    temperature = record["temperature"] or 1.0
    place = ""
    if record.get("fitted_on"):
        place = f", fitted on the split {plain(record['fitted_on'])} of {plain(record['source'])}"
    thresholds = record["thresholds"]
    text = f"`config.json` holds a temperature of {temperature:.4g}{place}: `ast_hf` divides logits by it."
    if thresholds is None:
        return f"{text} It changes scores, not which label is best. {stock}".rstrip()
    listed = zip(label_names(labels)[:_MAX_LABELS], thresholds, strict=False)
    names = ", ".join(f"{label} {value:.3g}" for label, value in listed)
    more = f" and {len(labels) - _MAX_LABELS} more" if len(labels) > _MAX_LABELS else ""
    return (
        f"{text} {stock}{' ' if stock else ''}It also holds the score from which each label counts as present, which "
        f'`classifier(..., threshold="fitted")` of `ast_hf` uses: {names}{more}.'
    )


def _effect_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return each value without and with the calibration, by split."""
    names = list(next(iter(before.values())))
    rows = [
        [
            split,
            title,
            *("-" if values[split][name] is None else f"{values[split][name]:.4f}" for name in names),
        ]
        for split in before
        for title, values in (("before", before), ("after", after))
    ]
    return plain_table(["split", "", *names], rows)
