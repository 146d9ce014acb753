"""A run's own numbers as the model card (README.md) of its checkpoint. What is not known is left out.

A card is made of results.json alone, so that both say the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml

from .run_results import amount

#: How a card names what was measured.
_METHODS = {
    "model": "AST (this model)",
    "baseline": "logistic regression on mean and spread of log-mel bands",
    "chance": "most frequent class",
}

#: Metrics as results name them -> as cards do, and what a reader needs to know of each; in the order of the table.
_METRICS = {
    "accuracy": ("accuracy", "share of clips whose best label is theirs"),
    "mAP": ("mAP", "mean average precision of the labels, each against the rest"),
    "mAUC": ("mAUC", "mean area under the ROC curve of the labels, each against the rest"),
    "d_prime": ("d-prime", "separation that belongs to mAUC, in standard deviations"),
    "ECE": ("ECE", "expected calibration error, 15 bins"),
    "NLL": ("NLL", "negative log likelihood, in nats"),
}
#: Metrics for which less is better are no scores, and stay out of the Hub's list of results.
_SCORES = ("accuracy", "mAP", "mAUC", "d_prime")

#: What a run started from, in words.
_STARTS = {"base": "from `{base}`", "vit": "from the image transformer `{vit}`", "random": "from random weights"}

#: What a model that was trained without padding says of itself.
_LENGTHS = (
    " Shorter clips are not padded: the model was trained on clips of their own length, with an attention mask. "
    "`ast_hf` keeps to that in its pipeline; transformers' own AST has no mask, and lets it hear padding, which it "
    "does not know."
)

#: Most labels listed by name, and most rows of the table of classes: of more, the worst and the best.
_MAX_LABELS = _MAX_ROWS = 50

_MODEL_USE = """\
# {name}

An [Audio Spectrogram Transformer](https://arxiv.org/abs/2104.01778) for {task}, trained with `ast_hf` {start}.
{description}
## Use

```python
import soundfile
from transformers import pipeline

classifier = pipeline("audio-classification", model="{model_id}")
waveform, rate = soundfile.read("clip.wav", dtype="float32")  # mono, {rate:,} Hz
print(classifier({{"raw": waveform, "sampling_rate": rate}}))
```

With `ast_hf`, files of any format, rate and number of channels:

```python
import ast_hf
from transformers import pipeline

classifier = pipeline("audio-classification", model="{model_id}")
print(classifier("clip.wav"))
```
"""

_ADAPTER_USE = """\
# {name}, the adapter alone

What a LoRA adapter changes of an [Audio Spectrogram Transformer](https://arxiv.org/abs/2104.01778) {start}, for \
{task}, trained with `ast_hf`. Adapter and classifier are here, and the rest is the base's.
{description}
## Use

`ast-hf merge "{model_id}" my_model` adds it to the base: a plain checkpoint, for `ast_hf` and transformers. With peft:

```python
from ast_hf import ASTConfig, ASTForAudioClassification
from peft import PeftModel

config = ASTConfig.from_pretrained("{model_id}")
base = ASTForAudioClassification.from_pretrained("{base}", config=config)
model = PeftModel.from_pretrained(base, "{model_id}").eval()
```
"""

#: What both say of the run.
_ABOUT = """
## Input

Mono audio at {rate:,} Hz; the first {seconds:.2f} s ({frames} frames of 10 ms, {bins} mel bins) are heard. \
{normalised}{lengths}

## Results

{results}

## Labels

{labels}

## Training data

{data}

## Training

{amount}, {took}. {parameters:,} parameters, {trained}. \
{shape}
{changes}{emissions}
<details><summary>Every setting, as a recipe: <code>ast-hf finetune recipe.yaml --data DATA {again}\
--output FOLDER</code> trains by it again</summary>

{fence}yaml
{recipe}{fence}

</details>

## Limits

{limits}

## Versions

{versions}

## Citation

```bibtex
@inproceedings{{gong2021ast,
  title = {{AST: Audio Spectrogram Transformer}},
  author = {{Gong, Yuan and Chung, Yu-An and Glass, James}},
  booktitle = {{Proc. Interspeech}},
  year = {{2021}},
  url = {{https://arxiv.org/abs/2104.01778}}
}}

@software{{ast_hf,
  title = {{ast\\_hf}},
  author = {{{{The ast\\_hf authors}}}},
  version = {{{own_version}}}
}}
```
"""

_Results = dict[str, Any]


def write_card(results: _Results, model_id: str, *, pictures: str = "") -> ModelCard:
    """The card of a finished run.

    Args:
        results: what its results.json holds.
        model_id: the folder or Hub name that the card's snippets load.
        pictures: what stands before the names of the pictures, where they do not lie beside the card.
    """
    return _card(_MODEL_USE, _head(results), results, model_id, pictures)


def write_adapter_card(results: _Results, model_id: str, base: str) -> ModelCard:
    """The card of a run's adapter alone.

    Args:
        results: what its results.json holds.
        model_id: the folder or Hub name of the adapter.
        base: the same of the model that it changes.
    """
    head = _head(results)
    head.library_name, head.tags = "peft", [*(head.tags or []), "lora"]
    return _card(_ADAPTER_USE, head, {**results, "pictures": {}}, model_id, "", base=base)


def _card(use: str, head: ModelCardData, results: _Results, model_id: str, pictures: str, **more: str) -> ModelCard:
    """A card of a head, how to use the model, and what the run says of itself."""
    parts = _parts(results, pictures)
    text = (use + _ABOUT).format(model_id=model_id, **parts, **more)
    return ModelCard(f"---\n{head.to_yaml()}\n---\n\n{text}", ignore_metadata_errors=False)


#: Signs with a meaning in Markdown, HTML or to the Hub's pages: links, code, emphasis, tables, formulas, entities,
#: names of users.
_SIGNS = re.compile(r"([\\`*_\[\]<>|#~$&@])")
#: What makes a list, a rule or a headline of a line that begins with it.
_STARTS_BLOCK = re.compile(r"^((?:\d+(?=[.)](?:\s|$)))?)([-+=.)])")
#: Of an address what makes it a link without any sign.
_LINKS = re.compile(r"(?i)\b(https?|ftp)(:)(?=//)|\b(www)(\.)")
#: Signs that cannot be seen: control characters, and those that turn the direction of text.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def one_line(text: object) -> str:
    """Text as one line of signs that can be seen."""
    return _UNSEEN.sub("", " ".join(str(text).split()))


def plain(text: object) -> str:
    """Text as one line without meaning to Markdown or HTML."""
    signs = _STARTS_BLOCK.sub(r"\1\\\2", _SIGNS.sub(r"\\\1", one_line(text)))
    return _LINKS.sub(lambda found: "\\".join(part for part in found.groups() if part), signs)


# ---------------------------------------------------------------- the head, for the Hub


def _head(results: _Results) -> ModelCardData:
    card = results["recipe"]["card"]
    co2 = _co2(results)
    more: dict[str, Any] = {} if co2 is None else {"co2_eq_emissions": co2}
    return ModelCardData(
        language=card["language"] or None,
        license=card["license"],
        library_name="transformers",
        pipeline_tag="audio-classification",
        base_model=results["base_model"],
        datasets=results["data_sets"] or None,
        tags=["audio-spectrogram-transformer", "ast_hf", "generated_from_trainer"],
        metrics=[name for name in _SCORES if name in _measured(results)] or None,
        model_name=one_line(results["recipe"]["name"]),
        eval_results=_eval_results(results) or None,
        **more,
    )


def _measured(results: _Results) -> list[str]:
    """Metrics that a split has a number for."""
    return [name for name in _METRICS if any(split.get(name) is not None for split in results["results"].values())]


def _data_name(results: _Results) -> str:
    """What the data are called: by their name on the Hub, or as the recipe calls them."""
    return (results["data_sets"] or [", ".join(_sources(results["recipe"]["data"]["source"]))])[0]


def _sources(source: Any) -> list[str]:
    """The folders, tables or the name that a recipe's `data.source` holds."""
    parts = source.values() if isinstance(source, dict) else source if isinstance(source, list) else None
    return [str(source)] if parts is None else [name for part in parts for name in _sources(part)]


def _eval_results(results: _Results) -> list[EvalResult]:
    """The model-index entries: every metric of every split."""
    return [
        EvalResult(
            task_type="audio-classification",
            task_name="Audio classification",
            dataset_type=_data_name(results) if results["data_sets"] else "audiofolder",
            dataset_name=one_line(_data_name(results)),
            dataset_split=split,
            metric_type=name,
            metric_name=_METRICS[name][0],
            metric_value=round(values[name], 4),
        )
        for split, values in results["results"].items()
        for name in _METRICS
        if values.get(name) is not None
    ]


def eval_results_files(results: _Results) -> dict[str, str]:
    """The scores in the Hub's newer form, by path in the repository: a file for each split, an entry for each score.

    Only of data that have one name on the Hub, since an entry without a data set is none.
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
                notes=f"{_METRICS[name][0]}, split {split}, {results['clips'][split]} clips",
            )
            for name in _SCORES
            if values.get(name) is not None
        ]
        name = re.sub(r"[^\w.-]+", "-", f"{data_set.rpartition('/')[2]}-{split}")
        files[f".eval_results/{name}.yaml"] = yaml.safe_dump(
            eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True
        )
    return files


def _co2(results: _Results) -> dict[str, Any] | None:
    """Emissions as the Hub asks for them; None where they, or the country that decides them, are not known."""
    found = results["emissions"]
    if found is None or found["co2_grams"] is None:
        return None
    told = {
        "emissions": round(found["co2_grams"], 4),
        "source": found["source"],
        "training_type": "pre-training" if _start(results) == "random" else "fine-tuning",
        "geographical_location": found["country"],
        "hardware_used": found["hardware"],
    }
    return {name: value for name, value in told.items() if value}


# ---------------------------------------------------------------- the body, for people


def _parts(results: _Results, pictures: str) -> dict[str, Any]:
    """What the places of the templates stand for."""
    recipe, features = results["recipe"], results["features"]
    whole = {**recipe, "training": {**results["settings"], **recipe["training"]}}
    text = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)
    return {
        "name": plain(recipe["name"]),
        "task": "tagging" if results["problem_type"] == "multi_label_classification" else "classification",
        "start": _STARTS[_start(results)].format(
            **{name: _code(results["base_model"] or recipe["model"][name]) for name in ("base", "vit")}
        ),
        "description": _paragraph(recipe["card"]["description"]),
        "rate": features["sampling_rate"],
        "seconds": features["max_length"] / 100,
        "frames": features["max_length"],
        "bins": features["num_mel_bins"],
        "normalised": _normalised(features),
        "lengths": _LENGTHS if features["return_attention_mask"] else "",
        "results": _told_results(results, pictures),
        "labels": listed(map(plain, results["labels"])),
        "data": _told_data(results),
        "amount": amount(results["training_clips"], results["epochs"]),
        "took": _took(results),
        "hardware": plain(results["hardware"]),
        "parameters": results["parameters"],
        "trained": _trained(results),
        "shape": _shape(results),
        "changes": _told_changes(results),
        "emissions": _told_emissions(results),
        "recipe": text,
        "again": _again(results),
        "fence": _fence(text),
        "limits": _limits(results),
        "versions": ", ".join(f"{name} {version}" for name, version in results["versions"].items()) + ".",
        "own_version": results["versions"]["ast_hf"],
    }


def _start(results: _Results) -> str:
    """As `ModelOptions.start`."""
    model = results["recipe"]["model"]
    return next((name for name in ("base", "vit") if model[name] is not None), "random")


def _again(results: _Results) -> str:
    """What the command has to be told of the start: of a folder the recipe has the last part of its path."""
    start = _start(results)
    return "" if start == "random" or results["base_model"] else f"--{start} {start.upper()} "


def _code(text: str | None) -> str:
    """Text inside backticks, which therefore has none."""
    return one_line(text).replace("`", "'")


def _paragraph(text: str | None) -> str:
    """A paragraph of its own, or nothing."""
    return f"\n{plain(text)}\n" if text and one_line(text) else ""


def _took(results: _Results) -> str:
    """How long the training took on what; where the time is not known, on what."""
    hardware = plain(results["hardware"])
    if not results["seconds"]:
        return f"on {hardware}"
    return f"{_duration(results['seconds'])} on {hardware} ({results['clips_per_second']:.3g} clips per second)"


def _duration(seconds: float) -> str:
    return next(f"{seconds / unit:.1f} {name}" for name, unit in _UNITS.items() if seconds >= unit or unit == 1)


#: What a duration is told in, in seconds.
_UNITS = {"hours": 3600, "minutes": 60, "seconds": 1}


def _normalised(features: dict[str, Any]) -> str:
    if not features["do_normalize"]:
        return "Raw log-mel values are not normalised."
    return f"Raw log-mel values are normalised as (x {-features['mean']:+.4f}) / (2 * {features['std']:.4f})."


def _told_results(results: _Results, pictures: str) -> str:
    """Tables and pictures; of classes and answers those of the first split."""
    if not results["results"]:
        return "Nothing was evaluated."
    first = next(iter(results["results"]))
    clips = ", ".join(f"{count} in {plain(name)}" for name, count in results["clips"].items())
    parts = [results_table(results), f"Clips: {clips}.", metrics_table(results)]
    parts += _picture(results, pictures, "curves", "Loss per epoch and results")
    parts += [f"By label, on {plain(first)}{_which(results['classes'][first])}:", classes_table(results, first)]
    parts += _picture(results, pictures, "confusion", "Which labels are taken for which")
    return "\n\n".join(parts)


def _picture(results: _Results, place: str, name: str, text: str) -> list[str]:
    """A picture, where there is one."""
    return [f"![{text}]({place}{results['pictures'][name]})"] if name in results["pictures"] else []


def results_table(results: _Results) -> str:
    """The main metric: splits as columns, methods as rows, in Markdown."""
    metric, splits = results["metric"], list(results["results"])
    model = {name: values[metric] for name, values in results["results"].items()}
    found = {"model": model, "baseline": results["baseline"], "chance": results["chance"]}
    rows = [[_METHODS[method], *map(_number, values.values())] for method, values in found.items() if values]
    return _table([_METRICS[metric][0], *splits], rows)


def metrics_table(results: _Results) -> str:
    """All metrics of the model, with what they are."""
    splits = results["results"]
    rows = [
        [_METRICS[name][0], *(_number(values.get(name)) for values in splits.values()), _METRICS[name][1]]
        for name in _measured(results)
    ]
    return _table(["this model", *splits, "what it is"], rows)


def classes_table(results: _Results, split: str) -> str:
    """Each label on one split; of more than 50 the worst and the best by AP."""
    rows = _shown(results["classes"][split])
    columns = [name for name in rows[0] if name != "label"]
    trained = results["training_labels"]
    head = ["label", *(["trained on"] if trained else []), *columns]
    return _table(
        head,
        [
            [
                row["label"],
                *([str(trained[row["label"]])] if trained else []),
                *(str(row[name]) if name == "clips" else _number(row[name]) for name in columns),
            ]
            for row in rows
        ],
    )


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(rows) <= _MAX_ROWS:
        return rows
    ranked = sorted((row for row in rows if row["AP"] is not None), key=lambda row: row["AP"])
    return ranked if len(ranked) <= _MAX_ROWS else ranked[: _MAX_ROWS // 2] + ranked[-_MAX_ROWS // 2 :]


def _which(rows: list[dict[str, Any]]) -> str:
    shown, known = len(_shown(rows)), sum(row["AP"] is not None for row in rows)
    if shown == len(rows):
        return ""
    half = f", the worst and the best {shown // 2} of {len(rows)} by AP"
    return f", the {known} of {len(rows)} labels that have clips there" if shown == known else half


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(map(plain, row)) + " |" for row in [head, *rows]]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def listed(names: Iterable[str]) -> str:
    """Names of labels, escaped, as a sentence; of more than 50 the first."""
    names = list(names)
    more = f" and {len(names) - _MAX_LABELS} more, in config.json" if len(names) > _MAX_LABELS else ""
    return ", ".join(names[:_MAX_LABELS]) + more + "."


def _told_data(results: _Results) -> str:
    """Where the clips came from, as far as that is known, and how many of them each split has."""
    source, names = results["recipe"]["data"]["source"], results["data_sets"]
    origin = [f"[{plain(name)}](https://huggingface.co/datasets/{name})" for name in names] or [
        f"`{_code(name)}`" for name in _sources(source)
    ]
    held_out = ", ".join(f"{count} clips in {plain(name)}" for name, count in results["clips"].items())
    told = f"{', '.join(origin)}: {results['training_clips']} training clips"
    told += f"; evaluated on {held_out}." if held_out else "."
    counts = results["training_labels"].values()
    return told + (f" Training clips of a label: {min(counts)} to {max(counts)}." if counts else "")


def _trained(results: _Results) -> str:
    """How many weights learned; an adapter's are not among those of the checkpoint."""
    count, rank = results["trained_parameters"], results["recipe"]["adapter"]["rank"]
    if rank:
        return f"of which a LoRA adapter of rank {rank} and the classifier trained {count:,} (`adapter/`, for peft)"
    return "all trained" if count == results["parameters"] else f"{count:,} trained"


def _shape(results: _Results) -> str:
    return (
        "{num_hidden_layers} layers, {hidden_size} wide, {num_attention_heads} heads; patches of {patch_size} x "
        "{patch_size} with strides of {frequency_stride} mel bins and {time_stride} frames."
    ).format(**results["model"])


def _told_changes(results: _Results) -> str:
    """A paragraph, or nothing: the recipe below it is not that of the whole run then."""
    if not results["changes"]:
        return ""
    told = " ".join(f"{plain(change)}." for change in results["changes"])
    return f"\nIt was interrupted, and went on with other options than it began with: {told}\n"


def _told_emissions(results: _Results) -> str:
    """A paragraph, or an empty line."""
    found = results["emissions"]
    if found is None:
        return ""
    grams = "" if found["co2_grams"] is None else f", {found['co2_grams']:.3g} g of CO2 equivalents"
    country = f" with the electricity of {plain(found['country'])}" if found["country"] else ""
    return f"\nIt took {found['energy_kwh']:.3g} kWh{grams}{country} ({plain(found['source'])}).\n"


def _limits(results: _Results) -> str:
    """What follows from how the model was made, and what its maker says."""
    own = results["recipe"]["card"]["limits"]
    seconds, count = results["features"]["max_length"] / 100, len(results["labels"])
    single = results["problem_type"] != "multi_label_classification"
    closed = (
        f"one of its {count} labels, also to a sound that is none of them" if single else f"its {count} labels alone"
    )
    lines = [f"It answers with {closed}.", f"It hears the first {seconds:.2f} s of a clip."]
    lines += ["The numbers above say how it does on clips like those that it was evaluated on, and on no others."]
    lines += [plain(own)] if own and one_line(own) else []
    return "\n".join(f"- {line}" for line in lines)


def _fence(text: str) -> str:
    """More backticks than the text has in a row, so that it cannot end its own block."""
    return "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
