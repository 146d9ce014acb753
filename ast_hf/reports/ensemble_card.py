"""An evaluation's own numbers as the model card (README.md) of the ensemble that it saved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..configuration_ast import ASTConfig
from ..configuration_ensemble import ASTEnsembleConfig
from ..feature_extraction_ast import ASTFeatureExtractor
from .model_card import listed, one_line, plain

if TYPE_CHECKING:
    from .evaluation_results import Evaluation

_BODY = """\
# {name}

An ensemble of {count} [Audio Spectrogram Transformers](https://arxiv.org/abs/2104.01778) for {task}: the mean of \
their probabilities (section 3.1 of the paper), made with `ast_hf`.

## Use

The whole needs `ast_hf`; transformers alone does not know ensembles.

```python
import ast_hf
from transformers import pipeline

classifier = pipeline("audio-classification", model="{model_id}")
print(classifier("clip.wav"))
```

Each member is a plain AST checkpoint, which transformers loads by itself:

```python
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

model = AutoModelForAudioClassification.from_pretrained("{model_id}", subfolder="{first}")
extractor = AutoFeatureExtractor.from_pretrained("{model_id}", subfolder="{first}")
```

## Input

Mono audio at {rate:,} Hz; the first {seconds:.2f} s ({frames} frames of 10 ms, {bins} mel bins) are heard, by members \
that take less only as much as they take.

## Results

On {clips:,} clips of the split {split} of {source}:

{results}

## Members

{members}

## Labels

{labels}

## Versions

{versions}
"""


def write_ensemble_card(evaluation: Evaluation, metrics: dict[str, float], folder: Path) -> ModelCard:
    """The card of the ensemble in `folder`, whose metrics on the evaluated split are `metrics`."""
    members = evaluation.checkpoints
    published = [name for name in members if not Path(name).exists()]  # the Hub takes names of the Hub only
    data = ModelCardData(
        library_name="ast_hf",
        pipeline_tag="audio-classification",
        base_model=published or None,
        tags=["audio-spectrogram-transformer", "ast_hf", "ensemble"],
        metrics=list(_shown(metrics)),
        model_name=one_line(_short(str(folder))),
        eval_results=_eval_results(evaluation, metrics),
    )
    body = _body(evaluation, metrics, folder)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}", ignore_metadata_errors=False)


def _short(name: str) -> str:
    """The last part of a local path, and the whole of another name."""
    return Path(name).resolve().name if Path(name).exists() else name


def _shown(metrics: dict[str, float]) -> dict[str, float]:
    """Without the numbers of classes, and without what is not defined."""
    return {name: value for name, value in metrics.items() if not name.endswith("_classes") and math.isfinite(value)}


def _eval_results(evaluation: Evaluation, metrics: dict[str, float]) -> list[EvalResult]:
    """The model-index entries, one per metric."""
    source = evaluation.source
    return [
        EvalResult(
            task_type="audio-classification",
            dataset_type="audiofolder" if Path(source).exists() else source,
            dataset_name=one_line(_short(source)),
            dataset_split=evaluation.split,
            metric_type=name,
            metric_value=round(value, 4),
        )
        for name, value in _shown(metrics).items()
    ]


def _body(evaluation: Evaluation, metrics: dict[str, float], folder: Path) -> str:
    config, extractor = ASTEnsembleConfig.from_pretrained(folder), ASTFeatureExtractor.from_pretrained(folder)
    names = config.members or []
    measured = dict(zip(names, (evaluation.outcomes[name].metrics for name in evaluation.checkpoints), strict=True))
    return _BODY.format(
        name=plain(_short(str(folder))),
        count=len(names),
        task="tagging" if config.problem_type == "multi_label_classification" else "classification",
        model_id=folder,
        first=names[0],
        rate=extractor.sampling_rate,
        seconds=config.max_length / 100,
        frames=config.max_length,
        bins=config.num_mel_bins,
        clips=evaluation.clips,
        split=plain(evaluation.split),
        source=plain(_short(evaluation.source)),
        results=_results_table({"**ensemble**": metrics, **measured}),
        members=_members_table(folder, dict(zip(names, evaluation.checkpoints, strict=True))),
        labels=listed(plain(config.id2label[index]) for index in range(config.num_labels)),
        versions=", ".join(f"{name} {version}" for name, version in evaluation.versions.items()) + ".",
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _results_table(metrics: dict[str, dict[str, float]]) -> str:
    """Models as rows, metrics as columns."""
    shown = list(_shown(next(iter(metrics.values()))))
    rows = [[name, *(f"{values[metric]:.4f}" for metric in shown)] for name, values in metrics.items()]
    return _table(["model", *shown], rows)


def _members_table(folder: Path, sources: dict[str, str]) -> str:
    """What each member was made of, its size, and what it hears."""
    rows = []
    for name, source in sources.items():
        own = ASTConfig.from_pretrained(folder, subfolder=name)
        stride, seconds = f"{own.frequency_stride} x {own.time_stride}", f"{own.max_length / 100:.2f}"
        temperature = f"{own.temperature or 1.0:.4g}"
        sizes = [str(own.num_hidden_layers), str(own.hidden_size), stride, seconds, temperature]
        rows.append([f"`{name}`", plain(_short(source)), *sizes])
    return _table(["member", "checkpoint", "layers", "width", "stride", "seconds", "temperature"], rows)
