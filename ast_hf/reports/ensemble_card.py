"""Model card (README.md) of an ensemble; its text is in `templates/ensemble_card.md`."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..configuration_ast import ASTConfig
from ..configuration_ensemble import ASTEnsembleConfig
from ..feature_extraction_ast import ASTFeatureExtractor
from ..label_order import model_labels
from ..log_mel import frames_to_seconds
from ..package_origin import package_origin
from ..task import Task
from .evaluation_results import ENSEMBLE
from .markdown import inline_code, label_list, one_line, plain, render_card, table, version_list
from .model_card_values import package_values, start_of, verdict_lines
from .stored_calibration import calibration_text
from .titles import METRICS, SCORES

if TYPE_CHECKING:
    from .evaluation_results import Evaluation


def write_ensemble_card(
    evaluation: Evaluation, folder: Path, calibration: dict[str, Any] | None = None
) -> ModelCard:
    """Return the card of the ensemble in `folder`; `calibration` is the record of a stored one."""
    metrics = evaluation.outcomes[ENSEMBLE].metrics
    bases = [base for name in evaluation.checkpoints for base in _bases(name)]
    metadata = ModelCardData(
        library_name="ast_hf",
        pipeline_tag="audio-classification",
        base_model=list(dict.fromkeys(bases)) or None,
        tags=["audio-spectrogram-transformer", "ast_hf", "ensemble"],
        metrics=[name for name in _select_metrics(metrics) if name in SCORES],
        model_name=one_line(_short_name(str(folder))),
        eval_results=_eval_results(evaluation, metrics),
    )
    values = ensemble_card_values(evaluation, metrics, folder, calibration)
    return render_card("ensemble_card.md", metadata, values)


def _bases(name: str) -> list[str]:
    """Return what the Hub's page of an ensemble names as the base of a member.

    That is the member itself if it is on the Hub. Of a folder, whose weights the ensemble contains, it is the start of
    its run: a name on the Hub, or `./` and the folder's name, which `ast-hf push` refuses until it is corrected.
    """
    if not Path(name).exists():
        return [name]
    with suppress(OSError, ValueError, KeyError, TypeError):  # no results of a run
        results = json.loads((Path(name) / "results.json").read_text(encoding="utf-8"))
        start = start_of(results)
        if start != "random":
            return [results["base_model"] or f"./{Path(results['recipe']['model'][start]).name}"]
    return []


def ensemble_card_values(
    evaluation: Evaluation,
    metrics: dict[str, float],
    folder: Path,
    calibration: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the values of the template, with text from users escaped."""
    config = ASTEnsembleConfig.from_pretrained(folder)
    extractor = ASTFeatureExtractor.from_pretrained(folder)
    names = config.members or []
    sources = dict(zip(names, evaluation.checkpoints, strict=True))
    member_metrics = {name: evaluation.outcomes[source].as_member for name, source in sources.items()}
    return {
        "name": plain(_short_name(str(folder))),
        "count": len(names),
        "task": "tagging" if config.problem_type == Task.MULTI_LABEL else "classification",
        "model_id": str(folder),
        "first_member": names[0],
        "rate": f"{extractor.sampling_rate:,}",
        "seconds": f"{frames_to_seconds(config.max_length):.2f}",
        "frames": config.max_length,
        "bins": config.num_mel_bins,
        "clips": f"{evaluation.clips:,}",
        "split": plain(evaluation.split),
        "source": plain(_short_name(evaluation.source)),
        "verdict": verdict_lines({} if evaluation.verdict is None else evaluation.verdict.to_dict()),
        "results_table": _results_table({"**ensemble**": metrics, **member_metrics}),
        "members_table": _members_table(folder, sources),
        "labels": label_list(model_labels(config)),
        "calibration": calibration_text(calibration, model_labels(config), is_ensemble=True),
        **package_values(package_origin("ast_hf").to_dict()),
        "versions": version_list(evaluation.versions),
    }


def _short_name(name: str) -> str:
    """Return the last part of a local path, and any other name unchanged."""
    return Path(name).resolve().name if Path(name).exists() else name


def _select_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """Return the finite metrics, without the numbers of classes."""
    return {
        name: value
        for name, value in metrics.items()
        if math.isfinite(value) and not name.endswith("_classes")
    }


def _eval_results(evaluation: Evaluation, metrics: dict[str, float]) -> list[EvalResult]:
    """Return the entries of the model index, one per metric."""
    source = evaluation.source
    return [
        EvalResult(
            task_type="audio-classification",
            dataset_type="audiofolder" if Path(source).exists() else source,
            dataset_name=one_line(_short_name(source)),
            dataset_split=evaluation.split,
            metric_type=name,
            metric_value=round(value, 4),
        )
        for name, value in _select_metrics(metrics).items()
    ]


def _results_table(metrics: dict[str, dict[str, float]]) -> str:
    columns = [name for name in METRICS if name in next(iter(metrics.values()))]
    rows = [
        [name, *(_format_number(values[column]) for column in columns)] for name, values in metrics.items()
    ]
    return table(["model", *(METRICS[column].title for column in columns)], rows)


def _format_number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"


def _members_table(folder: Path, sources: dict[str, str]) -> str:
    """Return the origin, size, input length and temperature of each member."""
    rows = []
    for name, source in sources.items():
        config = ASTConfig.from_pretrained(folder, subfolder=name)
        rows.append(
            [
                inline_code(name),
                plain(_short_name(source)),
                str(config.num_hidden_layers),
                str(config.hidden_size),
                f"{config.frequency_stride} x {config.time_stride}",
                f"{frames_to_seconds(config.max_length):.2f}",
                f"{config.temperature or 1.0:.4g}",
            ]
        )
    return table(["member", "checkpoint", "layers", "width", "stride", "seconds", "temperature"], rows)
