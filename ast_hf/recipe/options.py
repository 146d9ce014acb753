"""A training run as one strict, readable file: what is not an option is an error, never ignored."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..adapters.lora import AdapterOptions
from ..configuration_ast import Geometry
from ..errors import AstHfWarning, did_you_mean, error, refuse, warning_text
from ..inputs.augmentation import Augmentation
from ..inputs.sampling import SAMPLINGS, STRATEGIES
from ..inputs.waveform_transforms import build_transforms, without_folders
from ..patchout import Patchout
from .arguments import check_training, spelled
from .distillation import DistillationOptions
from .optimization import FREEZABLE, OPTIMIZERS, WARMUPS, Optimization

#: Which loss a recipe may ask for.
LOSSES = ("task", "binary_cross_entropy")


@dataclass(kw_only=True)
class DataOptions:
    """Where the clips come from; see `ast_hf.training.load_audio_dataset`.

    Attributes:
        source: folder, table or name on the Hub; a list of folders and tables, or those of each split
            (`{train: [a.csv, b.csv], test: c.csv}`); or `audioset-balanced`, `audioset-full`, `esc50`,
            `speech-commands`, which are looked for in the folder that the environment variable AST_HF_DATA names, then
            on the Hub.
        train_split: split to train on.
        eval_splits: splits to report on after training; None for all the others.
        validation_fraction: share of the training split to hold out and watch while training, in [0, 1).
        validation_group: column (speaker, recording) whose values must not stand on both sides of that split.
        audio_column: column of the audio, None to find it.
        label_column: column of the labels, None to find it.
        split_column: column that names each row's split.
        label_separator: separates the labels of one clip in a multi-label table.
        class_labels: file of the classes in their order, CSV (index,mid,display_name) or text.
        drop_labels: labels to leave out, and with them the clips that have no other.
        audio_root: folder that a table's paths are relative to, None for the table's own. A name alone is also looked
            for in the folders below it, with or without its suffix.
        split_lists: split -> text file of the paths in it, one a line.
        clip_boundaries: read columns `start` and `end` as seconds within the file; false drops such columns.
        config_name: configuration of a data set on the Hub, where it has several.
        merge_splits: split -> the splits on the Hub that it is made of, None for those that there are.
        test_fold: the fold that is the test split; all others are trained on.
        fold_column: column of the folds.
        random_folds: where there is no such column: so many folds of `train_split`, drawn with the seed; `test_fold`
            counts them from 1. Stratified by label where clips have one; clips of one `validation_group` stay together.
        cache: keep decoded waveforms in memory; those of a stream never are.
        streaming: read the clips while training, as a stream, instead of downloading them all. Needs
            `training.max_steps`, and `features.mean` and `std` or `features.statistics_clips`.
    """

    source: str | list[str] | dict[str, Any] = ""
    train_split: str = "train"
    eval_splits: list[str] | None = None
    validation_fraction: float = 0.0
    validation_group: str | None = None
    audio_column: str | None = None
    label_column: str | None = None
    split_column: str = "split"
    label_separator: str | None = None
    class_labels: str | None = None
    drop_labels: list[str] = field(default_factory=list)
    audio_root: str | None = None
    split_lists: dict[str, Any] = field(default_factory=dict)
    clip_boundaries: bool = True
    config_name: str | None = None
    merge_splits: dict[str, Any] | None = None
    test_fold: int | str | None = None
    fold_column: str = "fold"
    random_folds: int | None = None
    cache: bool = True
    streaming: bool = False


@dataclass(kw_only=True)
class ModelOptions:
    """Which model is trained.

    Attributes:
        base: AST checkpoint to start from, a folder or a name on the Hub.
        vit: image transformer to start from instead (see `ASTForAudioClassification.from_vit`). Without either, the
            start is random.
        revision: branch, tag or commit of the start on the Hub; None for `main`.
        factored_positions: train one position for each row and one for each column of patches (PaSST) instead of one
            for each patch. The saved checkpoint is plain either way.
        config: fields of `ASTConfig` for a random start; with a base, sizes of the input to adapt it to; with an image
            transformer, arguments of `from_vit`.
        attn_implementation: how attention is computed while training: `"sdpa"` (None stands for it), `"eager"`,
            `"flash_attention_2"` (a GPU, `bf16` or `fp16`, and the package flash-attn), or what else transformers
            knows. No part of the checkpoint.
    """

    base: str | None = None
    vit: str | None = None
    revision: str | None = None
    factored_positions: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    attn_implementation: str | None = None

    @property
    def start(self) -> str:
        """`"base"`, `"vit"` or `"random"`."""
        return "base" if self.base is not None else "random" if self.vit is None else "vit"

    @property
    def pinned(self) -> dict[str, str]:
        """The argument of `from_pretrained` that names the revision, where one is named."""
        return {} if self.revision is None else {"revision": self.revision}


@dataclass(kw_only=True)
class FeatureOptions:
    """How waveforms become features.

    Attributes:
        sampling_rate: in Hz; None for the base's own, or 16,000 for a random start.
        mean: of raw log-mel values; None measures it on the training split.
        std: the same.
        statistics_clips: of a stream, the clips that they are measured on, the first ones of its first pass. Without a
            number a stream, which would have to be read to its end, is not measured at all.
    """

    sampling_rate: int | None = None
    mean: float | None = None
    std: float | None = None
    statistics_clips: int | None = None


@dataclass(kw_only=True)
class PatchoutOptions:
    """Patches that training steps leave out (PaSST, arXiv 2110.05069, section 3.2); see `ast_hf.patchout.Patchout`.

    Attributes:
        time: columns of the grid of patches.
        frequency: rows of it.
        unstructured: single patches out of those that are left.
        ramp_epochs: over so many epochs the numbers grow from 0 to those above.
    """

    time: int = 0
    frequency: int = 0
    unstructured: int = 0
    ramp_epochs: int = 0

    def full(self) -> Patchout:
        """What is left out once it has grown."""
        return Patchout(self.time, self.frequency, self.unstructured)

    def in_epoch(self, epoch: int) -> Patchout:
        """What is left out in an epoch, counted from 0."""
        return self.full().scaled(1.0 if epoch >= self.ramp_epochs else epoch / self.ramp_epochs)


@dataclass(kw_only=True)
class CardOptions:
    """What a run cannot know of itself, for its model card. What is not given is left out there.

    Attributes:
        license: of the weights, as the Hub names it (`mit`, `cc-by-4.0`).
        data_sets: names on the Hub of what was trained on; that of `data.source` is known.
        base_model: name on the Hub of what was started from, where `model.base` or `model.vit` is a folder.
        language: codes such as `en`, where speech decides.
        description: what the model is for, in a sentence or two.
        limits: what it must not be used for, or is known to get wrong.
        samples: your own recordings (FLAC, Ogg or WAV) to try the model with on its page; they are published with it.
    """

    license: str | None = None
    data_sets: list[str] = field(default_factory=list)
    base_model: str | None = None
    language: list[str] = field(default_factory=list)
    description: str | None = None
    limits: str | None = None
    samples: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Recipe:
    """Everything that decides a training run.

    Attributes:
        name: short name, for the model card.
        data: where the clips come from.
        features: how waveforms become features.
        model: what is trained.
        augmentation: how training clips vary.
        patchout: which patches are left out in training.
        adapter: LoRA beside frozen weights, instead of training all of them.
        distillation: which teacher is learnt from, and how.
        optimization: what `training` cannot say about optimizer and learning rates.
        sampling: `"shuffled"`, every clip once per epoch, or `"balanced"`, rare classes as often as common ones.
        loss: `"task"`, cross-entropy for one label, binary cross-entropy for several; or `"binary_cross_entropy"` for
            clips of one label too, as the original trains Speech Commands.
        averaging_decay: decay of the weight average that is evaluated and saved, None for the plain weights.
        averaging_epochs: first and last epoch (from 1) after which the weights go into a plain mean, instead of
            `averaging_decay`; the original's weight averaging (`traintest.py`, line 340).
        threads: CPU threads of a single operation, None for torch's choice. Small models are fastest on 1: with more,
            threads wait for each other longer than they compute.
        training: any argument of transformers' `TrainingArguments`.
        card: what the model card says beside what was measured; it changes no weight.
    """

    name: str = "ast"
    data: DataOptions = field(default_factory=DataOptions)
    features: FeatureOptions = field(default_factory=FeatureOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    augmentation: Augmentation = field(default_factory=Augmentation)
    patchout: PatchoutOptions = field(default_factory=PatchoutOptions)
    adapter: AdapterOptions = field(default_factory=AdapterOptions)
    distillation: DistillationOptions = field(default_factory=DistillationOptions)
    optimization: Optimization = field(default_factory=Optimization)
    sampling: str = "shuffled"
    loss: str = "task"
    averaging_decay: float | None = None
    averaging_epochs: list[int] | None = None
    threads: int | None = None
    training: dict[str, Any] = field(default_factory=dict)
    card: CardOptions = field(default_factory=CardOptions)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "recipe") -> Recipe:
        """Build a recipe from nested plain values. Raises E307 naming the option, its value and the fix."""
        recipe = _build(cls, values, where)
        _check_data(recipe.data, where)
        recipe.training = spelled(recipe.training)
        check_training(recipe.training, where)
        _check_model(recipe.model, where)
        _check_averaging(recipe, where)
        _check_optimization(recipe, where)
        _check_adapter(recipe, where)
        _check_distillation(recipe, where)
        build_transforms(recipe.augmentation.audiomentations, f"{where}: augmentation.audiomentations")
        _check_grouping(recipe, where)
        _check_card(recipe.card, f"{where}: card")
        if recipe.data.streaming:
            check_streaming(recipe, where)
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, fit to be published: `from_dict` reads them back to an equal recipe, but that tokens and
        the paths of `card.samples` are left out, and of absolute paths only the last part is told.
        """
        values = dataclasses.asdict(self)
        told = {name: value for name, value in self.training.items() if not name.endswith("_token")}
        values["training"] = without_folders(told)
        values["augmentation"]["audiomentations"] = without_folders(self.augmentation.audiomentations)
        for section, option in LOCAL_PATHS:
            values[section][option] = without_folders(values[section][option])
        values["card"]["samples"] = []
        return values

    def to_yaml(self) -> str:
        """The recipe as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


#: Options that may be paths: (section, option).
LOCAL_PATHS = (
    ("data", "source"),
    ("data", "class_labels"),
    ("data", "audio_root"),
    ("data", "split_lists"),
    ("model", "base"),
    ("model", "vit"),
    ("distillation", "teacher"),
    ("distillation", "logits"),
)


def load_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe from YAML.

    Args:
        path: the file.
        overrides: changes such as `"training.learning_rate=1e-4"`; the value is YAML. Where they name other clips than
            the file does, what its `card` says of those is left out, with a warning (W304).

    Raises:
        AstConfigError: E307 for unknown options and impossible values.
    """
    path = Path(path)
    if not path.is_file():
        raise error("E307", where=repr(str(path)), what="does not exist", fix="give the path of a recipe (YAML)")
    try:
        values = _read_yaml(path.read_text(encoding="utf-8"), repr(str(path))) or {}
    except UnicodeDecodeError as problem:
        what = f"is not UTF-8 ({problem.reason} at byte {problem.start})"
        raise error("E307", where=repr(str(path)), what=what, fix="save the file as UTF-8") from problem
    if not isinstance(values, dict):
        raise error("E307", where=repr(str(path)), what="holds no options", fix="write option: value lines")
    written = copy.deepcopy(values)
    for change in overrides:
        _override(values, change)
    recipe = Recipe.from_dict(values, str(path))
    return recipe if _same_clips(written, values) else _without_card(recipe, written, str(path))


def _same_clips(written: dict[str, Any], values: dict[str, Any]) -> bool:
    """Whether a recipe that names its clips is still about these, wherever they lie."""
    old, new = (part.get("data", {}).get("source") for part in (written, values))
    return not old or str(without_folders(old)) in (str(new), Path(str(new)).name)


def _without_card(recipe: Recipe, written: dict[str, Any], where: str) -> Recipe:
    """A recipe whose clips were replaced, without what its file says of the ones it was written for."""
    usual, said = CardOptions(), written.get("card", {})
    gone = [name for name in said if name != "base_model" and getattr(recipe.card, name) == said[name]]
    if not gone:
        return recipe
    what = f"is about other clips than {recipe.data.source!r}; left out: {', '.join(gone)}"
    warnings.warn(warning_text("W304", where=f"{where}: card", what=what), AstHfWarning, stacklevel=3)
    return dataclasses.replace(
        recipe, card=dataclasses.replace(recipe.card, **{name: getattr(usual, name) for name in gone})
    )


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number, as whoever writes it means it, and refuses an option given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """As SafeLoader, which would silently take the last of several."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+0123456789.")
)


def _read_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as problem:
        what = f"is not YAML ({' '.join(str(problem).split())[:120]})"
        raise error("E307", where=where, what=what, fix="correct it; strings with signs need quotes") from problem


def _override(values: dict[str, Any], change: str) -> None:
    name, separator, value = change.partition("=")
    if not separator:
        raise error("E307", where=repr(change), what="sets nothing", fix="write it as option=value")
    *sections, last = name.strip().split(".")
    target = values
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise error("E307", where=repr(change), what=f"{section} has no options", fix="check the name")
    target[last] = _read_yaml(value, repr(change))


def _build(cls: Any, values: Any, where: str) -> Any:
    """An options dataclass from a mapping, its parts built the same way."""
    if not isinstance(values, dict):
        raise error("E307", where=where, what=f"is {values!r}, not a set of options", fix="write option: value lines")
    fields = {entry.name: entry for entry in dataclasses.fields(cls)}
    arguments = {}
    for name, value in values.items():
        place = f"{where}: {name}"
        if name not in fields:
            raise error("E307", where=place, what="is no option", fix=did_you_mean(name, fields))
        part = fields[name].default_factory
        if dataclasses.is_dataclass(part):
            arguments[name] = _build(part, value, place)
        else:
            arguments[name] = _checked(value, str(fields[name].type), place)
    return cls(**arguments)


#: annotation -> what values it takes, None for those that allow it.
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "bool": (bool,),
    "int": (int,),
    "int | None": (int, type(None)),
    "int | str | None": (int, str, type(None)),
    "float": (float, int),
    "float | None": (float, int, type(None)),
    "list[str] | None": (list, type(None)),
    "list[int]": (list,),
    "list[str]": (list,),
    "list[int] | None": (list, type(None)),
    "list[dict[str, Any]]": (list,),
    "dict[str, Any]": (dict,),
    "dict[str, Any] | None": (dict, type(None)),
    "str | list[str] | dict[str, Any]": (str, list, dict),
}


#: annotation -> what it is called in messages, where its own name is of no help in YAML.
_SAID = {
    "list[dict[str, Any]]": "list of {name: {argument: value}}",
    "dict[str, Any] | None": "mapping",
    "str | list[str] | dict[str, Any]": "path or name, list of paths, or mapping from splits to paths",
}


def _checked(value: Any, annotation: str, where: str) -> Any:
    kinds, entries = _KINDS[annotation], value if isinstance(value, list) else ()
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        kind = _SAID.get(annotation, annotation)
        raise error("E307", where=where, what=f"{value!r} is no {kind}", fix=f"give a {kind}")
    if annotation.startswith("list[int]") and any(type(entry) is not int for entry in entries):
        raise error("E307", where=where, what=f"{value!r} is no list of whole numbers", fix="give whole numbers")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = _BOUNDS.get(where.rpartition(" ")[2], (0.0, math.inf))
        if not low <= value <= high or math.isinf(value):
            what = f"{value!r} is outside {low:g}..{high:g}"
            raise error("E307", where=where, what=what, fix="give a value in that range")
    return value


#: option -> smallest and largest value; the others are 0 or more.
_BOUNDS = {
    "mean": (-1e3, 1e3),
    "std": (1e-6, 1e3),
    "speed": (1.0, 4.0),
    "time_stretch": (1.0, 4.0),
    "mixstyle_probability": (0.0, 1.0),
    "mixstyle_alpha": (1e-3, 1e3),
    "mixup_probability": (0.0, 1.0),
    "mixup_alpha": (1e-3, 1e3),
    "label_smoothing": (0.0, 0.999),
    "validation_fraction": (0.0, 0.9),
    "averaging_decay": (1e-6, 1 - 1e-6),
    "milestone_factor": (1e-6, 1.0),
    "layer_decay": (1e-3, 1.0),
    "alpha": (1e-3, 1e4),
    "dropout": (0.0, 0.999),
    "sampling_rate": (1_000, 384_000),
    "threads": (1, 1024),
    "random_folds": (2, 1000),
    "weight": (0.0, 1.0),
    "temperature": (1e-2, 1e2),
}


def _check_data(options: DataOptions, where: str) -> None:
    """Raise E307 for paths and splits that are none, in the options that hold several."""
    held: dict[str, Any] = {
        "source": options.source,
        "drop_labels": options.drop_labels,
        "split_lists": list(options.split_lists.values()),
        "merge_splits": options.merge_splits or {},
    }
    for name, value in held.items():
        parts = list(value.values()) if isinstance(value, dict) else [value]
        texts = [text for part in parts for text in (part if isinstance(part, list) else [part])]
        if odd := [text for text in texts if not isinstance(text, str)]:
            place = f"{where}: data.{name}"
            raise error("E307", where=place, what=f"{odd[0]!r} is no text", fix="give names or paths, in quotes")


def _check_averaging(recipe: Recipe, where: str) -> None:
    decay, epochs = recipe.averaging_decay, recipe.averaging_epochs
    if decay is not None and epochs is not None:
        what = "is set, and so is averaging_decay"
        raise error("E307", where=f"{where}: averaging_epochs", what=what, fix="use one of the two")
    if epochs is not None and not (len(epochs) == 2 and 1 <= epochs[0] <= epochs[1]):
        what = f"{epochs!r} is no first and last epoch"
        raise error("E307", where=f"{where}: averaging_epochs", what=what, fix="give two epochs, such as [6, 25]")
    if epochs is not None and recipe.training.get("max_steps", -1) > 0:
        what = "count epochs, but training.max_steps counts steps"
        raise error("E307", where=f"{where}: averaging_epochs", what=what, fix="give training.num_train_epochs")
    if epochs is not None and epochs[1] > recipe.training.get("num_train_epochs", 3):
        what = f"{epochs!r} ends after the run, which has {recipe.training.get('num_train_epochs', 3)} epochs"
        raise error("E307", where=f"{where}: averaging_epochs", what=what, fix="end with the last epoch")
    if (decay is not None or epochs is not None) and recipe.training.get("load_best_model_at_end"):
        what = "does not combine with averaging_decay or averaging_epochs: the best checkpoint holds plain weights"
        raise error("E307", where=f"{where}: training.load_best_model_at_end", what=what, fix="use one of the two")


#: option -> what it may be.
_CHOICES = {
    "optimization.optimizer": OPTIMIZERS,
    "optimization.warmup": WARMUPS,
    "optimization.frozen": FREEZABLE,
    "sampling": SAMPLINGS,
    "loss": LOSSES,
}


def _check_optimization(recipe: Recipe, where: str) -> None:
    for option, choices in _CHOICES.items():
        value: Any = functools.reduce(getattr, option.split("."), recipe)
        if value not in choices:
            fix = did_you_mean(value, choices)
            raise error("E307", where=f"{where}: {option}", what=f"{value!r} is no choice", fix=fix)
    options, place = recipe.optimization, f"{where}: optimization"
    if options.milestones and "lr_scheduler_type" in recipe.training:
        what = "is set, and so is training.lr_scheduler_type"
        raise error("E307", where=f"{place}.milestones", what=what, fix="use one of the two")
    if options.milestones and recipe.training.get("max_steps", -1) > 0:
        what = "count epochs, but training.max_steps counts steps"
        raise error("E307", where=f"{place}.milestones", what=what, fix="give training.num_train_epochs")
    if options.warmup == "staircase" and not options.milestones:
        what = "'staircase' goes with milestones only"
        raise error("E307", where=f"{place}.warmup", what=what, fix="give milestones, or warm up linearly")
    if options.layer_decay != 1.0 and options.frozen == "backbone":
        what = "slows the lower layers, which optimization.frozen takes out of training"
        raise error("E307", where=f"{place}.layer_decay", what=what, fix="use one of the two")
    if options.optimizer == "adam" and (options.layer_decay != 1.0 or "optim" in recipe.training):
        what = "'adam' is the original's, with one learning rate for all layers"
        fix = "leave layer_decay and training.optim out, or use training.optim alone"
        raise error("E307", where=f"{place}.optimizer", what=what, fix=fix)


def _refuse(cases: dict[tuple[str, str, str], object], place: str) -> None:
    """Raise E307 for the first case that is true; their options get the place before them."""
    refuse("E307", {(place + option, what, fix): wrong for (option, what, fix), wrong in cases.items()})


def _check_adapter(recipe: Recipe, where: str) -> None:
    recipe.adapter.check(where)
    if not recipe.adapter.rank:
        return
    model, training = recipe.model, recipe.training
    reentrant = (training.get("gradient_checkpointing_kwargs") or {}).get("use_reentrant")
    cases: dict[tuple[str, str, str], object] = {
        ("model.vit", "is no AST that an adapter could name as its base", "run ast-hf convert on it first"): model.vit,
        ("model.base", "is not set, and frozen random weights learn nothing", "name a checkpoint"): model.base is None,
        (
            "model.factored_positions",
            "trains positions, which an adapter freezes",
            "leave model.factored_positions out, or adapter",
        ): model.factored_positions,
        ("optimization.frozen", "freezes what adapter.rank adapts", "leave optimization.frozen out, or adapter"): (
            recipe.optimization.frozen != "nothing"
        ),
        (
            "training.gradient_checkpointing_kwargs",
            "(use_reentrant) gives the layers of a frozen backbone no gradient",
            "leave it out: transformers' own choice works",
        ): reentrant,
    }
    _refuse(cases, f"{where}: ")


def _check_distillation(recipe: Recipe, where: str) -> None:
    """Raise E307 for what a teacher does not go with, as far as that can be told without the data."""
    options, usual = recipe.distillation, DistillationOptions()
    changed = [name for name in ("weight", "temperature", "hard") if getattr(options, name) != getattr(usual, name)]
    cases: dict[tuple[str, str, str], object] = {
        ("logits", "is set, and so is teacher", "use one of the two"): options.source == "teacher"
        and options.logits is not None,
        (changed[0] if changed else "", "is set, but there is no teacher", "name a teacher, or a file of logits"): bool(
            changed and not options.source
        ),
        ("temperature", "softens probabilities, but hard takes the teacher's choice", "leave one of them out"): (
            options.hard and options.temperature != usual.temperature
        ),
        (
            "logits",
            "were made of the start of each clip, and augmentation.random_crop takes another part",
            "leave random_crop out, or name the model itself as teacher",
        ): options.source == "logits" and recipe.augmentation.random_crop,
        (
            options.source,
            f"teaches with the loss of the task, not with {recipe.loss!r}",
            "leave loss out",
        ): bool(options.source) and recipe.loss != "task",
    }
    _refuse(cases, f"{where}: distillation.")


def groups_by_length(training: dict[str, Any]) -> bool:
    """Whether clips of equal length share a batch, so that none is padded to the model's length."""
    return training.get("train_sampling_strategy") == "group_by_length"


def _check_grouping(recipe: Recipe, where: str) -> None:
    """Raise E307 for another order of the clips than ours, and for what needs clips that are padded to one length."""
    place = f"{where}: training.train_sampling_strategy"
    chosen = recipe.training.get("train_sampling_strategy", "random")
    if chosen not in STRATEGIES:
        fix = f"use {' or '.join(map(repr, STRATEGIES))}"
        raise error("E307", where=place, what=f"{chosen!r} is no choice here", fix=fix)
    if not groups_by_length(recipe.training):
        return
    if recipe.sampling != "shuffled":
        what = f"is {chosen!r}, and sampling is {recipe.sampling!r}"
        raise error("E307", where=place, what=what, fix="use one of the two")
    if recipe.patchout.time or recipe.patchout.unstructured:
        what = f"is {chosen!r}, and patchout.time and unstructured count patches of the full length"
        raise error("E307", where=place, what=what, fix="use one of the two, or patchout.frequency alone")


def check_streaming(recipe: Recipe, where: str = "recipe") -> None:
    """Raise E307 for what a stream cannot do: it is not counted before it is read, and has no end."""
    options, training = recipe.data, recipe.training
    held_out = bool(options.validation_fraction or options.validation_group)
    unmeasured = None in (recipe.features.mean, recipe.features.std) and not recipe.features.statistics_clips
    dealt = training.get("accelerator_config") or {}
    batches = "training.accelerator_config"
    cases: dict[tuple[str, str, str], object] = {
        ("training.max_steps", "is missing, and a stream does not tell its length", "say how many steps to train"): (
            training.get("max_steps", -1) <= 0
        ),
        ("data.validation_fraction", "cannot hold out clips of a stream", "give a validation split"): held_out,
        (
            "features.mean, features.std",
            "are not given, and measuring them would read the whole stream",
            "give both, or set features.statistics_clips to measure them on that many clips",
        ): unmeasured,
        ("sampling", f"is {recipe.sampling!r}, which has to know all labels", "shuffle"): recipe.sampling != "shuffled",
        ("training.train_sampling_strategy", "groups clips by length, which a stream does not tell", "leave it out"): (
            groups_by_length(training)
        ),
        ("averaging_epochs", "counts epochs, and a stream does not tell their end", "use averaging_decay"): (
            recipe.averaging_epochs is not None
        ),
        ("optimization.milestones", "count epochs, and a stream does not tell their end", "use lr_scheduler_type"): (
            bool(recipe.optimization.milestones)
        ),
        ("patchout.ramp_epochs", "counts epochs, and a stream does not tell their end", "leave it out"): (
            bool(recipe.patchout.ramp_epochs)
        ),
        (
            "distillation",
            "teaches on stored clips only",
            "leave it out, or leave data.streaming out",
        ): recipe.distillation.source,
        (batches, "deals out batches, but each process reads its own part of the stream", "leave these out"): (
            not isinstance(dealt, dict) or bool(dealt.get("split_batches") or dealt.get("dispatch_batches"))
        ),
        **{
            (f"training.{name}", "is 'epoch', and a stream does not tell its end", "use 'steps'"): (
                training.get(name) == "epoch"
            )
            for name in ("eval_strategy", "save_strategy", "logging_strategy")
        },
    }
    _refuse(cases, f"{where}: ")


def _check_model(options: ModelOptions, where: str) -> None:
    """Raise E307 for a start that contradicts another option."""
    start = options.base or options.vit
    if options.revision is not None and (start is None or Path(start).exists()):
        what = f"is {options.revision!r}, but the start is not on the Hub"
        raise error(
            "E307", where=f"{where}: model.revision", what=what, fix="leave it out, or name a start by user/name"
        )
    if options.base is None:
        return
    if options.vit is not None:
        what = f"is {options.vit!r}, and model.base is {options.base!r}"
        raise error("E307", where=f"{where}: model.vit", what=what, fix="start from one of the two")
    for name in options.config:
        if name not in Geometry._fields:
            what = f"is set, but the base {options.base!r} brings its own"
            fix = f"leave it out; with a base only {', '.join(Geometry._fields)} can be changed"
            raise error("E307", where=f"{where}: model.config.{name}", what=what, fix=fix)


#: Names as the Hub writes them: of a licence, of a language, and `user/name` of anything that lies there.
_LICENSE, _LANGUAGE = re.compile(r"[a-z0-9][a-z0-9.-]*"), re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
_ON_HUB = re.compile(r"[\w.-]+/[\w.-]+")
SAMPLE_FORMATS = (".flac", ".ogg", ".wav")


def _check_card(options: CardOptions, where: str) -> None:
    """Raise E307 for what the Hub would refuse, before a model is trained for it; samples must be there."""
    named: dict[str, list[Any]] = {"license": [options.license], "language": options.language}
    named |= {"data_sets": options.data_sets, "base_model": [options.base_model]}
    forms = {
        "license": (_LICENSE, "give the Hub's name of it, such as mit or cc-by-4.0"),
        "language": (_LANGUAGE, "give codes, such as [en]"),
        "data_sets": (_ON_HUB, "give names on the Hub, such as user/name"),
        "base_model": (_ON_HUB, "give its name on the Hub, such as user/name"),
    }
    for option, (form, fix) in forms.items():
        for value in named[option]:
            if value is not None and not form.fullmatch(str(value)):
                raise error("E307", where=f"{where}.{option}", what=f"{value!r} is no such name", fix=fix)
    names = [Path(sample).name for sample in options.samples]
    for name, sample in zip(names, options.samples, strict=True):
        place = f"{where}.samples: {sample!r}"
        if Path(sample).suffix.lower() not in SAMPLE_FORMATS:
            raise error("E307", where=place, what="is no FLAC, Ogg or WAV file", fix="convert it")
        if names.count(name) > 1:
            raise error("E307", where=place, what="has the name of another sample", fix="rename one of them")
