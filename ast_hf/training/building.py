"""Parts of a run, each built from its section of a recipe: feature extractor, inputs, model, adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from datasets import Dataset, IterableDataset
from transformers import TrainingArguments

from ..adapters.lora import Adapter, AdapterOptions
from ..configuration_ast import ASTConfig
from ..errors import did_you_mean, error, short_reason
from ..feature_extraction_ast import ASTFeatureExtractor
from ..inputs.augmentation import Augmentation
from ..inputs.clips import ClipInputs
from ..inputs.normalization import measure_statistics
from ..inputs.own_augmentation import OwnAugmentation
from ..inputs.streams import StreamedClipInputs
from ..modeling_ast import ASTForAudioClassification
from ..recipe.arguments import check_best, check_metric
from ..recipe.options import CardOptions, FeatureOptions, ModelOptions
from ..recipe.stopping_options import StoppingOptions
from ..task import Task
from ..weights.integrity import check_folder
from .optimization import freeze
from .splits import Split, Splits

Inputs: TypeAlias = ClipInputs | StreamedClipInputs

#: Sampling rate of a random start in Hz, that of every published AST.
SAMPLING_RATE = 16_000

#: A recipe's loss -> `loss_kind` of the model, None for the loss of its task.
_LOSS_KINDS = {"task": None, "binary_cross_entropy": "sigmoid_per_class"}


class RunInputs(NamedTuple):
    """Model inputs of a run's `Splits`; training clips are augmented."""

    train: Inputs
    validation: Inputs | None
    evaluation: dict[str, Inputs]


def build_extractor(
    model: ModelOptions, features: FeatureOptions, *, is_length_grouped: bool = False
) -> ASTFeatureExtractor:
    """Return the feature extractor of the base, or a new one, with the input sizes of `model.config`.

    Mean and std are set later, see `normalization_statistics`. A model trained on batches of clips of one
    length (`is_length_grouped`) never sees padding: its extractor returns an attention mask, for inference
    too.

    Raises:
        AstConfigError: E307 for another sampling rate than that of the base; E306 for a broken base.
    """
    sizes: dict[str, Any] = {
        name: model.config[name] for name in ("max_length", "num_mel_bins") if name in model.config
    }
    if is_length_grouped:
        sizes["return_attention_mask"] = True
    if model.base is not None:
        return _load_base_extractor(model.base, features.sampling_rate, **model.pinned, **sizes)
    return ASTFeatureExtractor(sampling_rate=features.sampling_rate or SAMPLING_RATE, **sizes)


def _load_base_extractor(base: str, sampling_rate: int | None, **arguments: Any) -> ASTFeatureExtractor:
    """Return the feature extractor of a base; raise E307 if the recipe has another sampling rate."""
    check_folder(base, classifier=False)
    extractor = ASTFeatureExtractor.from_pretrained(base, **arguments)
    if sampling_rate not in (None, extractor.sampling_rate):
        what = f"{sampling_rate} Hz, but the base {base!r} takes {extractor.sampling_rate} Hz"
        fix = "leave it out: clips are resampled"
        raise error("E307", where="features.sampling_rate", what=what, fix=fix, detail="data")
    return extractor


def check_evaluation(
    splits: Splits,
    watch: str | None,
    extractor: ASTFeatureExtractor,
    arguments: TrainingArguments,
    stopping: StoppingOptions,
) -> None:
    """Check that the evaluations of a run are possible; `watch` names a split to evaluate after each epoch.

    Raises:
        AstDataError: E209 for a watched split that is not one of the evaluated ones.
        AstConfigError: E307 without a validation split, for a best evaluation chosen by a metric that is not
            computed, and for streams with an attention mask in several processes: accelerate joins the
            batches of a stream, which must have one length.
    """
    check_best(arguments, splits.task)
    _check_stopping(splits, stopping)
    if watch not in (None, *splits.evaluation):
        what = "is not one of the evaluated splits"
        raise error("E209", where=f"split {watch!r}", what=what, fix=did_you_mean(watch, splits.evaluation))
    if splits.validation is None and arguments.eval_strategy != "no":
        what = f"{arguments.eval_strategy.value!r} has nothing to evaluate on while training"
        fix = "set data.validation_fraction, or add a validation split"
        raise error("E307", where="training.eval_strategy", what=what, fix=fix, detail="data")
    evaluated = (splits.validation, *splits.evaluation.values())
    is_streamed = any(isinstance(split, IterableDataset) for split in evaluated)
    if is_streamed and arguments.world_size > 1 and extractor.return_attention_mask:
        what = "masks padding (return_attention_mask), so several processes cannot evaluate a stream"
        fix = "set data.eval_splits to [], leave eval_strategy out, and evaluate afterwards"
        raise error("E307", where="model.base", what=what, fix=fix, detail="conflict")


def _check_stopping(splits: Splits, stopping: StoppingOptions) -> None:
    """Raise E307 for a best evaluation without a validation split, or by a metric that is not computed."""
    if not stopping.is_active:
        return
    if stopping.metric is not None:
        check_metric("stopping.metric", stopping.metric, splits.task)
    if splits.validation is None:
        option = "patience" if stopping.patience is not None else "best"
        what = "compares evaluations on a validation split, and there is none"
        fix = "hold clips out with data.validation_fraction=0.15, or add a validation split"
        off = "null" if option == "patience" else "false"
        fix += f"; or train the full length with stopping.{option}={off}"
        raise error("E307", where=f"stopping.{option}", what=what, fix=fix, detail="data")


def build_inputs(
    splits: Splits,
    extractor: ASTFeatureExtractor,
    augmentation: Augmentation,
    arguments: TrainingArguments,
    *,
    cache: bool = True,
    teacher: Any = None,
    own: OwnAugmentation | None = None,
) -> RunInputs:
    """Return the model inputs of all splits.

    Training clips get `augmentation`, the user's `own`, and the view of a `teacher` (see `Distillation`).
    `cache` keeps decoded waveforms of stored clips in memory. `arguments` give the seed, and the rank of this
    process.

    Raises:
        AstConfigError: E307 if all training clips are in an incomplete batch, which is left out.
    """
    seed = arguments.seed
    own = own or OwnAugmentation()
    train: Inputs
    if isinstance(splits.train, Dataset):
        train = ClipInputs(
            splits.train,
            extractor,
            augmentation=augmentation,
            seed=seed,
            cache=cache,
            teacher=teacher,
            name=splits.train_name,
            augment=own.augment,
            augment_spectrogram=own.augment_spectrogram,
        )
    else:
        train = StreamedClipInputs(
            splits.train,
            extractor,
            augmentation=augmentation,
            seed=seed,
            rank=arguments.process_index,
            world_size=arguments.world_size,
            name=splits.train_name,
            augment=own.augment,
            augment_spectrogram=own.augment_spectrogram,
        )

    _check_batches(train, arguments)

    def plain(name: str, split: Split) -> Inputs:
        if isinstance(split, Dataset):
            return ClipInputs(split, extractor, cache=cache, name=name)
        return StreamedClipInputs(split, extractor, rank=0, world_size=1, name=name)

    evaluation = {name: plain(name, split) for name, split in splits.evaluation.items()}
    if splits.validation is None:
        validation = None
    elif splits.evaluation.get("validation") is splits.validation:
        validation = evaluation["validation"]  # one cache for both
    else:
        validation = plain("validation", splits.validation)
    return RunInputs(train, validation, evaluation)


def _check_batches(train: Inputs, arguments: TrainingArguments) -> None:
    """Raise E307 for fewer clips than a batch has, if incomplete batches are left out."""
    size = arguments.train_batch_size * arguments.world_size
    if arguments.dataloader_drop_last and isinstance(train, ClipInputs) and len(train) < size:
        what = (
            f"leaves out incomplete batches, and the {len(train)} training clips are fewer than one of {size}"
        )
        fix = "leave it out, or lower training.per_device_train_batch_size"
        raise error("E307", where="training.dataloader_drop_last", what=what, fix=fix, detail="data")


def measures_statistics(options: FeatureOptions) -> bool:
    """Return True if a run measures mean or std, for which it decodes all training clips before step 1."""
    return options.mean is None or options.std is None


def normalization_statistics(
    options: FeatureOptions,
    train: Inputs,
    *,
    disable_tqdm: bool,
    measured: Sequence[float] | None = None,
) -> tuple[float, float]:
    """Return mean and std of raw log-mel values: those of the recipe, or measured on the training clips.

    `measured` are those that an earlier start of the run has measured, on the same clips in the same way.
    """
    if options.mean is not None and options.std is not None:
        return options.mean, options.std
    if measured is not None:
        mean, std = measured
        return mean, std
    if isinstance(train, StreamedClipInputs):
        # every process measures the same clips, not its part of the stream
        train = StreamedClipInputs(
            train.split,
            train.extractor,
            augmentation=train.augmentation,
            seed=train.seed,
            rank=0,
            world_size=1,
            name=train.name,
        )
    mean, std = measure_statistics(train, clips=options.statistics_clips, disable_tqdm=disable_tqdm)
    return mean if options.mean is None else options.mean, std if options.std is None else options.std


def build_model(
    options: ModelOptions, labels: list[str], task: Task, *, loss: str = "task", frozen: str = "nothing"
) -> ASTForAudioClassification:
    """Return the model to train, with an output for each label; `loss` and `frozen` are options of a recipe.

    Raises:
        AstConfigError: E307 for an attention implementation that cannot be used here; errors of loading the
            start.
    """
    outputs: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: index for index, name in enumerate(labels)},
        "problem_type": task.value,
        "temperature": None,  # the calibration of a base does not hold after training
        "thresholds": None,
        "timeline": None,
    }
    model = _build_start(options, outputs)
    freeze(model, frozen)
    try:
        if options.attn_implementation is not None:
            model.set_attn_implementation(options.attn_implementation)
    except (ImportError, ValueError) as problem:
        where = "model.attn_implementation"
        what = f"{options.attn_implementation!r} cannot be used ({short_reason(problem, 160)})"
        fix = "leave it out for 'sdpa'"
        raise error("E307", where=where, what=what, fix=fix, detail="environment") from problem
    model.loss_kind = _LOSS_KINDS[loss]
    return model.factor_positions() if options.factored_positions else model


def _build_start(options: ModelOptions, outputs: dict[str, Any]) -> ASTForAudioClassification:
    if options.base is not None:
        # weights are float32 whatever dtype the base has: bf16 and fp16 are for the arithmetic
        return ASTForAudioClassification.from_pretrained(
            options.base,
            num_labels=len(outputs["id2label"]),
            dtype=torch.float32,
            **options.pinned,
            **outputs,
            **options.config,
        )
    if options.vit is not None:
        arguments = {**options.pinned, **options.config, **outputs}
        return ASTForAudioClassification.from_vit(options.vit, **arguments)
    return ASTForAudioClassification(ASTConfig(**{**options.config, **outputs}))


def build_adapter(
    model: ASTForAudioClassification, options: AdapterOptions, start: ModelOptions, card: CardOptions
) -> Adapter | None:
    """Put an adapter into a model, or return None for rank 0.

    The card's name of the base, or else the recipe's, is stored with the adapter.
    """
    if not options.rank:
        return None
    return Adapter(model, options, str(card.base_model or start.base), start.revision)
