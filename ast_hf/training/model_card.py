"""A run's own numbers as the model card (README.md) of its checkpoint. What is not known is left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import EvalResult, ModelCard, ModelCardData

if TYPE_CHECKING:
    from .finetune import Report

#: How a card names what was measured.
_METHODS = {
    "model": "AST (this model)",
    "baseline": "logistic regression on mean and spread of log-mel bands",
    "chance": "most frequent class",
}

#: What a run started from, in words.
_STARTS = {"base": "from `{base}`", "vit": "from the image transformer `{vit}`", "random": "from random weights"}

#: What a model that was trained without padding says of itself.
_LENGTHS = (
    " Shorter clips are not padded: the model was trained on clips of their own length, with an attention mask. "
    "`ast_hf` keeps to that in its pipeline; transformers' own AST has no mask, and lets it hear padding, which it "
    "does not know."
)

#: Most labels listed by name in a card.
_MAX_LABELS = 50

_BODY = """\
# {name}

An [Audio Spectrogram Transformer](https://arxiv.org/abs/2104.01778) for {task}, trained with `ast_hf` {start}.

## Use

```python
import ast_hf  # optional: reads files of any format and rate without ffmpeg
from transformers import pipeline

classifier = pipeline("audio-classification", model="{model_id}")
print(classifier("clip.wav"))
```

The checkpoint is a plain AST checkpoint: it also loads in transformers without `ast_hf`.

## Input

Mono audio at {rate:,} Hz; the first {seconds:.2f} s ({frames} frames of 10 ms, {bins} mel bins) are heard. \
Raw log-mel values are normalised as (x {offset:+.4f}) / (2 * {std:.4f}).{lengths}

## Results

{table}

{clips}

![Loss per epoch and results]({picture})

## Labels

{labels}

## Training

{amount}, {minutes:.1f} minutes on {hardware} ({speed:.3g} clips per second), {parameters:,} parameters, {trained}.

{fence}yaml
{recipe}{fence}

## Versions

{versions}
"""


def write_card(report: Report, model_id: str) -> ModelCard:
    """The card of a finished run; `model_id` is the folder or Hub name its snippet loads."""
    base = report.recipe.model.base or report.recipe.model.vit
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="audio-classification",
        base_model=None if base is None or Path(base).exists() else base,  # the Hub takes names of the Hub only
        tags=["audio-spectrogram-transformer", "ast_hf", "generated_from_trainer"],
        metrics=[report.metric],
        model_name=plain(report.recipe.name),
        eval_results=_eval_results(report),
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_body(report, model_id)}", ignore_metadata_errors=False)


def plain(text: str) -> str:
    """Text as one line without meaning to Markdown or HTML."""
    one_line = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", one_line)


def _eval_results(report: Report) -> list[EvalResult]:
    """The model-index entries, one per split."""
    return [
        EvalResult(
            task_type="audio-classification",
            dataset_type="audiofolder",
            dataset_name=plain(report.recipe.name),
            dataset_split=split,
            metric_type=report.metric,
            metric_value=round(values[report.metric], 4),
        )
        for split, values in report.results.items()
    ]


def _body(report: Report, model_id: str) -> str:
    extractor, config, recipe = report.extractor, report.config, report.recipe.to_yaml()
    model = report.recipe.to_dict()["model"]
    labels = [plain(config.id2label[index]) for index in range(config.num_labels)]
    more = f" and {len(labels) - _MAX_LABELS} more" if len(labels) > _MAX_LABELS else ""
    return _BODY.format(
        name=plain(report.recipe.name),
        task="tagging" if config.problem_type == "multi_label_classification" else "classification",
        start=_STARTS[report.recipe.model.start].format(**model),
        model_id=model_id,
        rate=extractor.sampling_rate,
        seconds=config.max_length / 100,
        frames=config.max_length,
        bins=config.num_mel_bins,
        offset=-extractor.mean,
        std=extractor.std,
        lengths=_LENGTHS if extractor.return_attention_mask else "",
        table=results_table(report),
        clips="Clips: " + ", ".join(f"{count} in {plain(name)}" for name, count in report.clips.items()) + ".",
        picture=report.picture,
        labels=", ".join(labels[:_MAX_LABELS]) + more + ".",
        amount=report.amount,
        minutes=report.seconds / 60,
        speed=report.clips_per_second,
        hardware=report.hardware,
        parameters=report.parameters,
        trained=_trained(report),
        recipe=recipe,
        fence=_fence(recipe),
        versions=", ".join(f"{name} {version}" for name, version in report.versions.items()) + ".",
    )


def _trained(report: Report) -> str:
    """How many weights learned; an adapter's are not among those of the checkpoint."""
    if report.recipe.adapter.rank:
        rank, count = report.recipe.adapter.rank, report.trained_parameters
        return f"of which a LoRA adapter of rank {rank} and the classifier trained {count:,} (`adapter/`, for peft)"
    return "all trained" if report.trained_parameters == report.parameters else f"{report.trained_parameters:,} trained"


def _fence(text: str) -> str:
    """More backticks than the text has in a row, so that it cannot end its own block."""
    return "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))


def results_table(report: Report) -> str:
    """Splits as columns, methods as rows, in Markdown."""
    splits = list(report.results)
    rows = [(_METHODS[method], values) for method, values in report.by_method().items()]
    lines = [f"| {report.metric} | " + " | ".join(map(plain, splits)) + " |", "|---" * (len(splits) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{values[split]:.3f}" for split in splits) + " |" for name, values in rows]
    return "\n".join(lines)
