"""Splits of a data set in a form to compare."""

from __future__ import annotations

from pathlib import Path

from ast_hf.data.splits import label_names


def contents(splits: dict) -> dict[str, dict]:
    """Return split -> file name -> label name, or names."""
    description: dict[str, dict] = {}
    for split, rows in splits.items():
        names = label_names(rows)
        description[split] = {
            Path(row["audio"]["path"]).name: [names[index] for index in row["labels"]]
            if "labels" in row
            else names[row["label"]]
            for row in rows
        }
    return description
