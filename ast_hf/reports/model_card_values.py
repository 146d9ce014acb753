"""Values of the template `model_card.md`, from the content of a run's results.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ..log_mel import frames_to_seconds
from ..package_origin import is_public
from ..task import Task
from ..versions import install_command
from .markdown import fence_for, inline_code, label_list, plain, plain_table, version_list
from .run_results import amount
from .stored_calibration import calibration_text, divided_logits
from .titles import METHOD_TITLES, METRICS, detailed_split

#: Maximum number of rows of the table of classes; of more, the worst and the best are shown.
_MAX_ROWS = 50

#: Local paths that the card's command has options of their own for.
_OWN_OPTIONS = ("data.source", "model.base", "model.vit")

#: Share of the sound of a split below which the card says how much the model does not use.
_MOST_USED = 0.95


def card_values(results: dict[str, Any], model_id: str, *, pictures: str = "") -> dict[str, Any]:
    """Return the values of the template, with text from users escaped; arguments as for `write_card`."""
    recipe = results["recipe"]
    return {
        "model_id": model_id,
        "adapter_base": "",
        "name": plain(recipe["name"]),
        "description": _optional_text(recipe["card"]["description"]),
        "limits": _optional_text(recipe["card"]["limits"]),
        "multi_label": results["problem_type"] == Task.MULTI_LABEL,
        "task": "tagging" if results["problem_type"] == Task.MULTI_LABEL else "classification",
        "num_labels": len(results["labels"]),
        "function": "sigmoid()" if results["problem_type"] == Task.MULTI_LABEL else "softmax(-1)",
        "labels": label_list(results["labels"]),
        "versions": version_list(results["versions"]),
        "ast_hf_version": results["versions"]["ast_hf"],
        "divided_logits": divided_logits((results.get("calibration") or {}).get("temperature")),
        "calibration": calibration_text(results.get("calibration"), results["labels"]),
        **package_values((results.get("origins") or {}).get("ast_hf")),
        "warning": _warning(results.get("verdict") or {}),
        **_start_values(results),
        **_input_values(results["features"]),
        **_result_values(results, pictures),
        **_data_values(results),
        **_training_values(results),
        **_emission_values(results["emissions"]),
        **_recipe_values(results),
    }


def start_of(results: dict[str, Any]) -> str:
    """Return the origin of the initial weights, `"base"`, `"vit"` or `"random"`, as `ModelOptions.start`."""
    model = results["recipe"]["model"]
    return next((name for name in ("base", "vit") if model[name] is not None), "random")


def source_names(source: Any) -> list[str]:
    """Return the folders, the tables or the name in a recipe's `data.source`."""
    if isinstance(source, dict):
        return source_names(list(source.values()))
    if isinstance(source, list):
        return [name for part in source for name in source_names(part)]
    return [str(source)]


def evaluated_metrics(results: dict[str, Any]) -> list[str]:
    """Return the metrics that are defined for at least one split."""
    splits = results["results"].values()
    return [name for name in METRICS if any(values.get(name) is not None for values in splits)]


def _optional_text(text: str | None) -> str:
    return plain(text) if text else ""


def _start_values(results: dict[str, Any]) -> dict[str, Any]:
    start = start_of(results)
    if start == "random":
        return {"start": "from random weights", "start_option": _path_options(results)}
    in_recipe = results["recipe"]["model"][start]
    published = results["base_model"]
    name = inline_code(published or in_recipe)
    option = "" if published == in_recipe else f"--{start} {published or start.upper()} "
    return {
        "start": f"from {name}" if start == "base" else f"from the image transformer {name}",
        "start_option": option + _path_options(results),
    }


def _path_options(results: dict[str, Any]) -> str:
    """Return options for the other local paths of the recipe, which stores only their last part."""
    others = [name for name in results.get("local_paths", []) if name not in _OWN_OPTIONS]
    return "".join(f"--set {name}={name.rpartition('.')[2].upper()} " for name in others)


def package_values(origin: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the package's name in a card, with a link if its address is known, and the command that installs it.

    `origin` is that of results.json, see `Origin.to_dict`; None for a result of an older version.
    """
    origin = origin or {}
    url = origin.get("url")
    return {
        "package": f"[`ast_hf`]({url})" if url and is_public(url) else "`ast_hf`",
        "install": inline_code(install_command(origin)),
        "in_clone": not origin.get("requirement"),
    }


def _input_values(features: dict[str, Any]) -> dict[str, Any]:
    normalised = features["do_normalize"]
    return {
        "rate": f"{features['sampling_rate']:,}",
        "frames": features["max_length"],
        "seconds": f"{frames_to_seconds(features['max_length']):.2f}",
        "bins": features["num_mel_bins"],
        "offset": f"{-features['mean']:+.4f}" if normalised else "",
        "std": f"{features['std']:.4f}" if normalised else "",
        "attention_mask": features["return_attention_mask"],
    }


def _result_values(results: dict[str, Any], pictures: str) -> dict[str, Any]:
    """Return tables and pictures; results by class are those of `detailed_split`."""
    splits = list(results["results"])
    if not splits:
        return {"splits": [], "verdict": []}
    all_classes = results["classes"][detailed_split(splits)]
    with_clips = sum(row["AP"] is not None for row in all_classes)
    rows = _select_classes(all_classes)
    class_selection = "all"
    if len(rows) < len(all_classes):
        class_selection = "with clips" if len(rows) == with_clips else "extremes"
    pictures_of_run = {name: pictures + file for name, file in results["pictures"].items()}
    return {
        "splits": [plain(name) for name in splits],
        "detailed_split": plain(detailed_split(splits)),
        "verdict": verdict_lines(results.get("verdict") or {}),
        "clips": ", ".join(f"{count} in {plain(name)}" for name, count in results["clips"].items()),
        "results_table": _results_table(results),
        "metrics_table": _metrics_table(results),
        "classes_table": _classes_table(rows, results["training_labels"]),
        "class_selection": class_selection,
        "class_count": len(rows),
        "has_thresholds": "threshold" in rows[0],
        "has_gaps": any(value is None for row in rows for value in row.values()),
        "curves": pictures_of_run.get("curves"),
        "confusion": pictures_of_run.get("confusion"),
    }


def verdict_lines(verdict: dict[str, Any]) -> list[str]:
    """Return the lines of the verdict; results of older versions have none."""
    if not verdict:
        return []
    advice = [f"To try: {line}" for line in verdict["advice"]]
    return [plain(line) for line in (verdict["headline"], *verdict["lines"], *advice)]


def _warning(verdict: dict[str, Any]) -> str:
    """Return what a reader has to know first: that the baseline wins, or that nothing was learned; empty otherwise."""
    if verdict.get("outcome") == "below":
        return plain(verdict["headline"])
    found = dict(zip(verdict.get("findings") or [], verdict.get("lines") or [], strict=False))
    return plain(next((found[name] for name in ("at-chance", "by-heart") if name in found), ""))


def _results_table(results: dict[str, Any]) -> str:
    """Return the main metric, with methods as rows and splits as columns."""
    metric = results["metric"]
    values = {
        "model": {name: split[metric] for name, split in results["results"].items()},
        "baseline": results["baseline"],
        "chance": results["chance"],
    }
    rows = [
        [title, *map(_format_number, values[method].values())]
        for method, title in METHOD_TITLES.items()
        if values[method]
    ]
    return plain_table([METRICS[metric].title, *results["results"]], rows)


def _metrics_table(results: dict[str, Any]) -> str:
    """Return all metrics of the model, with their meaning."""
    splits = results["results"]
    rows = []
    for name in evaluated_metrics(results):
        numbers = [_format_number(values.get(name)) for values in splits.values()]
        rows.append([METRICS[name].title, *numbers, METRICS[name].meaning])
    return plain_table(["metric", *splits, "meaning"], rows)


def _select_classes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most `_MAX_ROWS` rows: all, or else those with clips, or else the worst and the best by AP."""
    if len(rows) <= _MAX_ROWS:
        return rows
    ranked = sorted((row for row in rows if row["AP"] is not None), key=lambda row: row["AP"])
    return ranked if len(ranked) <= _MAX_ROWS else ranked[: _MAX_ROWS // 2] + ranked[-_MAX_ROWS // 2 :]


def _classes_table(rows: list[dict[str, Any]], training_labels: dict[str, int]) -> str:
    """Return a row for each class: its training clips, if they were counted, and its results."""
    columns = [name for name in rows[0] if name != "label"]
    cells = []
    for row in rows:
        trained = [str(training_labels[row["label"]])] if training_labels else []
        values = [str(row[name]) if name == "clips" else _format_number(row[name]) for name in columns]
        cells.append([row["label"], *trained, *values])
    return plain_table(["label", *(["trained on"] if training_labels else []), *columns], cells)


def _format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _data_values(results: dict[str, Any]) -> dict[str, Any]:
    links = [f"[{plain(name)}](https://huggingface.co/datasets/{name})" for name in results["data_sets"]]
    counts = list(results["training_labels"].values())
    return {
        "origin": ", ".join(links or map(inline_code, source_names(results["recipe"]["data"]["source"]))),
        "training_clips": results["training_clips"],
        "held_out": ", ".join(f"{count} clips in {plain(name)}" for name, count in results["clips"].items()),
        "label_counts": [min(counts), max(counts)] if counts else None,
        "drawn": _drawn(results.get("data_check") or {}, results["recipe"]["data"]),
        **_check_values(results.get("data_check") or {}),
    }


def _drawn(found: dict[str, Any], data: dict[str, Any]) -> str:
    """Return which splits were held out of the training split, and what is in one of them only."""
    counts = found.get("held_out") or {}
    names = ", ".join(f"{plain(name)} ({count} clips)" for name, count in counts.items())
    column = data.get("validation_group")
    pattern = data.get("group_pattern")
    if not names or not (column or pattern):
        return names
    group = f"value of {inline_code(column)}" if column else f"match of {inline_code(pattern)} in their paths"
    return f"{names}, no {group} in two of these or in training"


def _check_values(found: dict[str, Any]) -> dict[str, Any]:
    """Return what the check of all clips found; results of older versions have none."""
    skipped = found.get("skipped") or {}
    used = found.get("used") or {}
    return {
        "skipped": ", ".join(f"{count} in {plain(name)}" for name, count in skipped.items()),
        "shared": found.get("shared", 0),
        "contradictory": found.get("contradictory", 0),
        "unused_sound": _unused_sound(found.get("sound") or {}),
        "unheard": ", ".join(
            f"{1 - share:.0%} in {plain(name)}" for name, share in used.items() if share < _MOST_USED
        ),
    }


def _unused_sound(sound: dict[str, Any]) -> str:
    """Return in words how much of each split's sound the model does not use; empty if it uses all."""
    parts = []
    for name, values in sound.items():
        if not values["cut_clips"]:
            continue
        part = f"{values['unused_seconds']:.1f} s of {values['cut_clips']} of {values['clips']} clips in {plain(name)}"
        if values["random_crop"]:
            part += " (each time another part, so that training uses all of them in the long run)"
        parts.append(part)
    return ", ".join(parts)


def _training_values(results: dict[str, Any]) -> dict[str, Any]:
    return {
        "amount": amount(results["training_clips"], results["epochs"]),
        "duration": _format_duration(results["seconds"]) if results["seconds"] else "",
        "clips_per_second": f"{results['clips_per_second']:.3g}",
        "hardware": plain(results["hardware"]),
        "parameters": f"{results['parameters']:,}",
        "trained_parameters": f"{results['trained_parameters']:,}",
        "adapter_rank": results["recipe"]["adapter"]["rank"],
        "model": results["model"],
        "changes": " ".join(f"{plain(change)}." for change in results["changes"]),
        "own_code": _own_code_text(results.get("own_code") or {}),
        "kept": plain((results.get("kept") or {}).get("text", "")),
    }


def _own_code_text(own_code: dict[str, Any]) -> str:
    """Return the user's code in a run, in words; empty without any."""
    titles = {
        "augment": "the augmentation of waveforms",
        "augment_spectrogram": "the augmentation of spectrograms",
    }
    parts = [f"{title} {inline_code(own_code[name])}" for name, title in titles.items() if name in own_code]
    callbacks = [inline_code(name) for name in own_code.get("callbacks", [])]
    if callbacks:
        parts.append(f"the callback{'s' if len(callbacks) > 1 else ''} {', '.join(callbacks)}")
    return "; ".join(parts)


def _format_duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} seconds"


def _emission_values(emissions: dict[str, Any] | None) -> dict[str, Any]:
    if emissions is None:
        return {"energy": ""}
    return {
        "energy": f"{emissions['energy_kwh']:.3g}",
        "co2_grams": "" if emissions["co2_grams"] is None else f"{emissions['co2_grams']:.3g}",
        "country": plain(emissions["country"]) if emissions["country"] else "",
        "energy_source": plain(emissions["source"]),
    }


def _recipe_values(results: dict[str, Any]) -> dict[str, Any]:
    recipe = results["recipe"]
    complete = {**recipe, "training": {**results["settings"], **recipe["training"]}}
    text = yaml.safe_dump(complete, sort_keys=False, allow_unicode=True)
    return {"recipe": text, "fence": fence_for(text)}
