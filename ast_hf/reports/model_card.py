"""Model card (README.md) of a run's checkpoint, made of its results.json alone.

The text is in `templates/model_card.md`, its values are in `model_card_values.py`; the metadata for the Hub
is here. Unknown values are left out.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml

from .markdown import one_line, render_card
from .model_card_values import card_values, evaluated_metrics, source_names, start_of
from .titles import METRICS, SCORES

_TEMPLATE = "model_card.md"


def write_card(results: dict[str, Any], model_id: str, *, pictures: str = "") -> ModelCard:
    """Return the card of a finished run.

    Args:
        results: the content of its results.json.
        model_id: the folder or Hub name that the card's snippets load.
        pictures: prefix of the pictures' names, if they are not in the card's folder.
    """
    return render_card(_TEMPLATE, _metadata(results), card_values(results, model_id, pictures=pictures))


def write_adapter_card(results: dict[str, Any], model_id: str, base: str) -> ModelCard:
    """Return the card of a run's adapter alone.

    Args:
        results: the content of its results.json.
        model_id: the folder or Hub name of the adapter.
        base: the folder or Hub name of its base.
    """
    metadata = _metadata(results)
    metadata.library_name = "peft"
    metadata.tags = [*(metadata.tags or []), "lora"]
    values = card_values({**results, "pictures": {}}, model_id)
    return render_card(_TEMPLATE, metadata, {**values, "adapter_base": base})


def eval_results_files(results: dict[str, Any]) -> dict[str, str]:
    """Return the scores as the Hub's `.eval_results`: a file for each split, by path in the repository.

    Empty unless the data have exactly one name on the Hub, which each entry needs.
    """
    if len(results["data_sets"]) != 1:
        return {}
    (data_set,) = results["data_sets"]
    files = {}
    for split, values in results["results"].items():
        entries = [
            EvalResultEntry(
                dataset_id=data_set,
                task_id="default",
                value=round(values[name], 4),
                date=results["date"],
                notes=f"{METRICS[name].title}, split {split}, {results['clips'][split]} clips",
            )
            for name in SCORES
            if values.get(name) is not None
        ]
        name = re.sub(r"[^\w.-]+", "-", f"{data_set.rpartition('/')[2]}-{split}")
        content = eval_result_entries_to_yaml(entries)
        files[f".eval_results/{name}.yaml"] = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return files


def _metadata(results: dict[str, Any]) -> ModelCardData:
    """Return the metadata for the Hub."""
    card = results["recipe"]["card"]
    co2 = _co2(results)
    optional: dict[str, Any] = {} if co2 is None else {"co2_eq_emissions": co2}
    return ModelCardData(
        language=card["language"] or None,
        license=card["license"],
        library_name="transformers",
        pipeline_tag="audio-classification",
        base_model=results["base_model"],
        datasets=results["data_sets"] or None,
        tags=["audio-spectrogram-transformer", "ast_hf", "generated_from_trainer"],
        metrics=[name for name in evaluated_metrics(results) if name in SCORES] or None,
        model_name=one_line(results["recipe"]["name"]),
        eval_results=_eval_results(results) or None,
        **optional,
    )


def _eval_results(results: dict[str, Any]) -> list[EvalResult]:
    """Return the entries of the model index: every metric of every split."""
    data_set = next(iter(results["data_sets"]), None)
    name = data_set or ", ".join(source_names(results["recipe"]["data"]["source"]))
    return [
        EvalResult(
            task_type="audio-classification",
            task_name="Audio classification",
            dataset_type=data_set or "audiofolder",
            dataset_name=one_line(name),
            dataset_split=split,
            metric_type=metric,
            metric_name=METRICS[metric].title,
            metric_value=round(values[metric], 4),
        )
        for split, values in results["results"].items()
        for metric in METRICS
        if values.get(metric) is not None
    ]


def _co2(results: dict[str, Any]) -> dict[str, Any] | None:
    """Return the emissions in the Hub's form, or None if they are unknown."""
    emissions = results["emissions"]
    if emissions is None or emissions["co2_grams"] is None:
        return None
    fields = {
        "emissions": round(emissions["co2_grams"], 4),
        "source": emissions["source"],
        "training_type": "pre-training" if start_of(results) == "random" else "fine-tuning",
        "geographical_location": emissions["country"],
        "hardware_used": emissions["hardware"],
    }
    return {name: value for name, value in fields.items() if value}
