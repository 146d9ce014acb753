"""Options of a training run, by section: names, types, defaults, valid values and meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub.dataclasses import validated_field

from ..adapters.lora import AdapterOptions
from ..configuration_ast import Geometry
from ..errors import error
from ..inputs.augmentation import Augmentation
from ..inputs.sampling import SAMPLINGS
from ..inputs.stored_clips import STORE_DTYPES
from ..patchout import Patchout
from ..strict_options import Check, in_range, not_negative, one_of, strict_options
from ..timeline_fields import WINDOW_LABELS
from .distillation_options import DistillationOptions
from .optimization_options import Optimization
from .stopping_options import StoppingOptions

#: Valid values of `loss`.
LOSSES = ("task", "binary_cross_entropy")

#: Valid values of `precision`.
PRECISIONS = ("auto", "float32", "bf16", "fp16", "fp8")

#: Valid values of `data.check` and of `data.on_error`.
CHECKS = ("headers", "full")
ON_ERROR = ("raise", "skip")
#: Default of `watchdog_seconds`: longer than a garbage collection or a stalled network disk, and much shorter than
#: the 1,800 s of torch's collectives.
WATCHDOG_SECONDS = 300.0

#: Suffixes of audio files that a browser plays, valid for `card.samples`.
SAMPLE_FORMATS = (".flac", ".ogg", ".wav")


# Validators of single options


def _check_paths(value: Any) -> None:
    """Raise E307 for a mapping from splits to anything but strings and lists of strings."""
    for part in value.values() if isinstance(value, dict) else ():
        for text in part if isinstance(part, list) else [part]:
            if not isinstance(text, str):
                what = f"{text!r} is not a string"
                raise error("E307", where="", what=what, fix="give names or paths, in quotes", detail="type")


def _check_files(value: dict[str, Any]) -> None:
    """Raise E307 for a mapping from splits to anything but one string each."""
    for path in value.values():
        if not isinstance(path, str):
            what = f"{path!r} is not a string"
            raise error(
                "E307", where="", what=what, fix="give one path for each split, in quotes", detail="type"
            )


def _check_epochs(value: list[int] | None) -> None:
    """Raise E307 unless a list is a first and a last epoch, counted from 1."""
    if value is not None and not (len(value) == 2 and 1 <= value[0] <= value[1]):
        what = f"{value!r} is not a first and a last epoch"
        raise error("E307", where="", what=what, fix="give two epochs, such as [6, 25]", detail="range")


def _check_samples(samples: list[str]) -> None:
    """Raise E307 for files that a browser does not play, and for two of the same name."""
    names = [Path(sample).name for sample in samples]
    for sample, name in zip(samples, names, strict=True):
        if Path(sample).suffix.lower() not in SAMPLE_FORMATS:
            what = f"{sample!r} is not a FLAC, Ogg or WAV file"
            raise error("E307", where="", what=what, fix="convert it", detail="choice")
        if names.count(name) > 1:
            what = f"{sample!r} has the name of another sample"
            raise error("E307", where="", what=what, fix="rename one of them", detail="conflict")


def _hub_names(pattern: str, fix: str) -> Check:
    """Return a validator for names that the Hub accepts: one, or a list of them."""

    def check(value: str | list[str] | None) -> None:
        for name in value if isinstance(value, list) else [value]:
            if name is not None and not re.fullmatch(pattern, name):
                raise error("E307", where="", what=f"{name!r} is not a valid name", fix=fix, detail="choice")

    return check


def _check_pattern(value: str | None) -> None:
    """Raise E307 for a text that is not a regular expression."""
    try:
        re.compile(value or "")
    except re.error as problem:
        what = f"{value!r} is not a regular expression ({problem})"
        raise error(
            "E307", where="", what=what, fix=r"write brackets of names as \[ and \(", detail="choice"
        ) from None


#: `user/name` of a model or data set.
_REPOSITORY = r"[\w.-]+/[\w.-]+"
_LICENSE = r"[a-z0-9][a-z0-9.-]*"
_LANGUAGE = r"[a-z]{2,3}(-[A-Za-z0-9]+)*"


# Sections


@strict_options("data")
@dataclass(kw_only=True)
class DataOptions:
    """Source of the clips, and the options of `ast_hf.training.load_audio_dataset` that read it.

    Attributes:
        source: folder, table or name on the Hub; a list of folders and tables, or a mapping from splits to
            them (`{train: [a.csv, b.csv], test: c.csv}`); or `audioset-balanced`, `audioset-full`, `esc50` or
            `speech-commands`, read from the folder in the environment variable AST_HF_DATA, else from the
            Hub.
        train_split: split to train on.
        eval_splits: splits to evaluate after training; None for all except `train_split`.
        validation_fraction: share of the training split to hold out and evaluate while training, in 0..0.9. Data
            that have a split `validation` keep it, and nothing is held out.
        test_fraction: share of the training split to hold out as the split `test`, which is reported on, in
            0..0.9; drawn before `validation_fraction`, which is then a share of the same clips. Both keep every
            label in training and its share in each split, as far as groups allow. Data that have a split `test`
            keep it, and nothing is held out.
        validation_group: column (speaker, recording) whose values must not be in two of these splits.
        group_pattern: regular expression that finds the speaker or recording in the path of each clip, in place of
            `validation_group`: what is in its parentheses stays together. `"([^/_]+)_nohash_"` finds the speakers
            of Speech Commands. `ast-hf split` and `ast-hf new` look for one.
        audio_column: column of the audio; None to detect it.
        label_column: column of the labels; None to detect it.
        split_column: column with the split of each row.
        label_separator: separator of the labels of one clip in a multi-label table; None if each clip has one
            label, or a list of them.
        class_labels: file with the classes in order, CSV (index,mid,display_name) or text; None for the order
            of the data, or sorted if it has none, numbers by value.
        drop_labels: labels to leave out. Clips without another label are left out too.
        audio_root: folder that the paths in a table are relative to; None for the table's folder. A name
            without a folder is also searched for in the folders below it, with or without its suffix.
        split_lists: split -> text file with the paths of its clips, one per line.
        clip_boundaries: read the columns `start` and `end` as seconds within the file; false ignores these
            columns.
        window_seconds: read each row of a table (or of Audacity's or Raven's label files beside recordings) as a
            label with times, and cut the recordings into windows of this length in seconds, with the labels
            that are in each, as multi-label clips. None: a row is a clip.
        window_hop_seconds: seconds from window to window, above 0 and at most `window_seconds`; None for
            `window_seconds`. One more window, aligned to the end, covers the rest of a recording.
        empty_windows: share of the windows without a label that every split keeps, in 0..1, at even distances over
            its recordings; null for 1.
        min_overlap: share of a sound, or of the window if that is shorter, that must be in a window for its
            label to count there, in 0..1; null for 0, any overlap.
        window_labels: `"overlap"` for the labels of the sounds in a window, the default; `"centre"` for those at
            its middle. Scores of windows then follow sounds that are shorter than a window, and the model's
            timelines use that. Sounds of one label less than 20 ms apart are shortened to leave such a gap.
        recordings: table of all recordings (path and, if any, split or fold), also of those without labels;
            None if the labels name all.
        config_name: configuration of a data set on the Hub that has several.
        merge_splits: split -> splits on the Hub that it is made of; None for the splits as they are.
        test_fold: fold that becomes the split `test`; the others become `train`. None for no folds.
        fold_column: column of the folds.
        random_folds: number of random folds of `train_split`, 2..1000, for data without a column of folds.
            They are drawn with the seed, and `test_fold` counts them from 1. Single-label clips are
            stratified; clips of the same `validation_group` or `group_pattern` stay in one fold.
        check: `"headers"` reads the header of every clip before training; `"full"` decodes all clips.
        on_error: `"raise"` stops before training if a clip cannot be used; `"skip"` leaves such clips out of
            all splits. It decodes all clips first, so that none is found later.
        max_skipped_fraction: share of all clips that may be skipped, in 0..1; more stop the run (E210).
        cache: cache decoded waveforms, up to a quarter of the available memory; not those of a stream.
        store: folder for features of the clips on disk, or their samples where augmentation changes waveforms. The
            first run writes it; later epochs, processes and runs read it instead of decoding. Clips are found by
            content, so one folder serves several recipes, splits and folds; it can be removed at any time.
        store_dtype: of stored features: `"float32"`, which gives the same weights to the bit, or `"float16"`, half
            the size; raw log-mel values are then rounded by at most 0.004 (4.3e-4 of the model's input, with
            AudioSet's std). Samples are kept exactly.
        streaming: read the clips while training, instead of downloading all of them first. Needs
            `training.max_steps`, and `features.mean` and `std` or `features.statistics_clips`.
    """

    source: str | list[str] | dict[str, Any] = validated_field(
        _check_paths,
        default="",
        metadata={"expected": "a path or name, a list of paths, or a mapping from splits to paths"},
    )
    train_split: str = "train"
    eval_splits: list[str] | None = None
    validation_fraction: float = validated_field(in_range(0.0, 0.9), default=0.0)
    test_fraction: float = validated_field(in_range(0.0, 0.9), default=0.0)
    validation_group: str | None = None
    group_pattern: str | None = validated_field(_check_pattern, default=None)
    audio_column: str | None = None
    label_column: str | None = None
    split_column: str = "split"
    label_separator: str | None = None
    class_labels: str | None = None
    drop_labels: list[str] = field(default_factory=list)
    audio_root: str | None = None
    split_lists: dict[str, Any] = validated_field(_check_files, default_factory=dict)
    clip_boundaries: bool = True
    window_seconds: float | None = validated_field(in_range(0.025, 86_400.0), default=None)
    window_hop_seconds: float | None = validated_field(in_range(1e-3, 86_400.0), default=None)
    empty_windows: float | None = validated_field(in_range(0.0, 1.0), default=None)
    min_overlap: float | None = validated_field(in_range(0.0, 1.0), default=None)
    window_labels: str | None = validated_field(one_of(WINDOW_LABELS), default=None)
    recordings: str | None = None
    config_name: str | None = None
    merge_splits: dict[str, Any] | None = validated_field(_check_paths, default=None)
    test_fold: int | str | None = validated_field(not_negative, default=None)
    fold_column: str = "fold"
    random_folds: int | None = validated_field(in_range(2, 1000), default=None)
    check: str = validated_field(one_of(CHECKS), default="headers")
    on_error: str = validated_field(one_of(ON_ERROR), default="raise")
    max_skipped_fraction: float = validated_field(in_range(0.0, 1.0), default=0.01)
    cache: bool = True
    store: str | None = None
    store_dtype: str = validated_field(one_of(STORE_DTYPES), default="float32")
    streaming: bool = False


@strict_options("model")
@dataclass(kw_only=True)
class ModelOptions:
    """Model to train, and the weights it starts from.

    Attributes:
        base: AST checkpoint to start from, a folder or a name on the Hub.
        vit: image transformer to start from instead (see `ASTForAudioClassification.from_vit`). Without
            `base` and `vit`, the weights start at random.
        revision: branch, tag or commit of the start on the Hub; None for `main`.
        factored_positions: train one position embedding per row and one per column of patches (PaSST),
            instead of one per patch. The saved checkpoint has one per patch either way.
        config: fields of `ASTConfig` for a random start; with `base`, sizes of the input to adapt it to; with
            `vit`, arguments of `from_vit`.
        attn_implementation: attention of transformers to train with: `"sdpa"` (the default), `"eager"`,
            `"flash_attention_2"` (needs a GPU, `bf16` or `fp16`, and the package flash-attn) or another. Not
            part of the checkpoint.
    """

    base: str | None = None
    vit: str | None = None
    revision: str | None = None
    factored_positions: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    attn_implementation: str | None = None

    @property
    def start(self) -> str:
        """Kind of the weights to start from: `"base"`, `"vit"` or `"random"`."""
        if self.base is not None:
            return "base"
        return "random" if self.vit is None else "vit"

    @property
    def pinned(self) -> dict[str, str]:
        """The argument `revision` of `from_pretrained`; empty without one."""
        return {} if self.revision is None else {"revision": self.revision}

    def check(self, where: str) -> None:
        """Raise E307 for options that contradict each other."""
        start = self.base or self.vit
        if self.revision is not None and (start is None or Path(start).exists()):
            place = f"{where}: model.revision"
            what = f"is {self.revision!r}, but the start is not on the Hub"
            fix = "leave it out, or name a start by user/name"
            raise error("E307", where=place, what=what, fix=fix, detail="conflict")
        if self.base is None:
            return
        if self.vit is not None:
            place = f"{where}: model.vit"
            what = f"is {self.vit!r}, and model.base is {self.base!r}"
            raise error("E307", where=place, what=what, fix="start from one of the two", detail="conflict")
        for name in self.config:
            if name not in Geometry._fields:
                place = f"{where}: model.config.{name}"
                what = f"is set, but the base {self.base!r} brings its own"
                fix = f"leave it out; with a base only {', '.join(Geometry._fields)} can be changed"
                raise error("E307", where=place, what=what, fix=fix, detail="conflict")


@strict_options("features")
@dataclass(kw_only=True)
class FeatureOptions:
    """Sampling rate of the model, and mean and std of its log-mel features.

    Attributes:
        sampling_rate: in Hz, 1,000..384,000; None for that of the base, or 16,000 for a random start.
        mean: mean of the log-mel values before normalisation, -1,000..1,000; None measures it on the training
            split.
        std: standard deviation of these values, 1e-6..1,000; None measures it too.
        statistics_clips: number of clips of a stream to measure them on, from the start of its first pass;
            None measures nothing, since the whole stream would have to be read.
        gpu: on a GPU, let it compute the features of stored clips, batch by batch, which takes the readers less time.
            Readers compute them anyway for a stream, a teacher or `data.store`, and where the augmentation changes
            spectrograms in other ways than by masks and `roll_frames`. Without effect on a CPU.
    """

    sampling_rate: int | None = validated_field(in_range(1_000, 384_000), default=None)
    mean: float | None = validated_field(in_range(-1e3, 1e3), default=None)
    std: float | None = validated_field(in_range(1e-6, 1e3), default=None)
    statistics_clips: int | None = validated_field(not_negative, default=None)
    gpu: bool = True


@strict_options("patchout")
@dataclass(kw_only=True)
class PatchoutOptions:
    """Patches to leave out of training steps (PaSST, arXiv 2110.05069, section 3.2), see `ast_hf.patchout`.

    Attributes:
        time: number of columns of the grid of patches to leave out.
        frequency: number of rows to leave out.
        unstructured: number of single patches to leave out of the remaining ones.
        ramp_epochs: number of epochs over which these numbers grow from 0 to their full values.
    """

    time: int = validated_field(not_negative, default=0)
    frequency: int = validated_field(not_negative, default=0)
    unstructured: int = validated_field(not_negative, default=0)
    ramp_epochs: int = validated_field(not_negative, default=0)

    def full(self) -> Patchout:
        """Return the patchout after the ramp."""
        return Patchout(self.time, self.frequency, self.unstructured)

    def in_epoch(self, epoch: int) -> Patchout:
        """Return the patchout of an epoch, counted from 0."""
        return self.full().scaled(1.0 if epoch >= self.ramp_epochs else epoch / self.ramp_epochs)


@strict_options("card")
@dataclass(kw_only=True)
class CardOptions:
    """Facts for the model card that a run cannot measure. Empty ones are left out of the card.

    Attributes:
        license: licence of the weights, by the Hub's name (`mit`, `cc-by-4.0`).
        data_sets: names on the Hub of the training data; `data.source` is added if it is one.
        base_model: name on the Hub of the start, if `model.base` or `model.vit` is a folder.
        language: codes (`en`) of the languages that the labels depend on.
        description: purpose of the model, in a sentence or two.
        limits: uses that it is not fit for, and typical errors.
        samples: recordings (FLAC, Ogg or WAV) that are published with the model, to try it on its page.
    """

    license: str | None = validated_field(
        _hub_names(_LICENSE, "give the Hub's name of the licence, such as mit or cc-by-4.0"), default=None
    )
    data_sets: list[str] = validated_field(
        _hub_names(_REPOSITORY, "give names on the Hub, such as user/name"), default_factory=list
    )
    base_model: str | None = validated_field(
        _hub_names(_REPOSITORY, "give its name on the Hub, such as user/name"), default=None
    )
    language: list[str] = validated_field(
        _hub_names(_LANGUAGE, "give codes, such as [en]"), default_factory=list
    )
    description: str | None = None
    limits: str | None = None
    samples: list[str] = validated_field(_check_samples, default_factory=list)


@strict_options()
@dataclass(kw_only=True)
class RecipeOptions:
    """All options of a training run.

    Attributes:
        name: short name, for the model card.
        data: source of the clips.
        features: sampling rate of the model, and mean and std of its log-mel features.
        model: model to train, and the weights it starts from.
        augmentation: random changes of training clips.
        patchout: patches that training steps leave out.
        adapter: LoRA on frozen weights, instead of training all of them.
        distillation: teacher to learn from.
        optimization: options of optimizer and learning rates that `training` lacks.
        sampling: `"shuffled"` for every clip once per epoch, or `"balanced"` to draw rare classes as often as
            common ones.
        loss: `"task"` for cross-entropy on single-label data and binary cross-entropy on multi-label data; or
            `"binary_cross_entropy"` for both, as the original trains Speech Commands.
        precision: arithmetic of the run: `"float32"`, `"bf16"`, `"fp16"` (GPUs only), `"fp8"` (GPUs of compute
            capability 8.9 and above, with the extra `torchao`: bf16, with the products of the transformer blocks in
            8 bits), or `"auto"` for bf16 where the GPU or the processor has instructions for it, else float32.
            Weights and files are float32 in any case. A resumed run keeps what it began with. None for
            `training.bf16` and `training.fp16`; without these and `training.tf32`, as `"auto"` on a GPU, and float32
            on a CPU.
        averaging_decay: decay per step of the weight average that is evaluated and saved, in 1e-6..0.999999;
            None for the weights themselves.
        averaging_epochs: first and last epoch, counted from 1, of a plain mean of the weights after each
            epoch, instead of `averaging_decay`; the original's weight averaging (`traintest.py`, line 340).
        stopping: when training stops, and which evaluation gives the weights that are saved.
        threads: CPU threads of a single operation, 1..1024; None for torch's default. Small models are
            fastest with 1, since several threads mostly wait for each other.
        watchdog_seconds: in a run of several processes, seconds without a sign of life of one of them after
            which the others end (E403), 1..86,400; None to wait for ever. Long work is no silence: the sign
            comes from a thread. A smaller `training.ddp_timeout` (1,800) counts instead; processes that all
            live, but finish no step in that time, end too.
        training: arguments of transformers' `TrainingArguments`.
        card: facts for the model card. No weight depends on them.
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
    sampling: str = validated_field(one_of(SAMPLINGS), default="shuffled")
    loss: str = validated_field(one_of(LOSSES), default="task")
    precision: str | None = validated_field(one_of(PRECISIONS), default=None)
    averaging_decay: float | None = validated_field(in_range(1e-6, 1 - 1e-6), default=None)
    averaging_epochs: list[int] | None = validated_field(_check_epochs, default=None)
    stopping: StoppingOptions = field(default_factory=StoppingOptions)
    threads: int | None = validated_field(in_range(1, 1024), default=None)
    watchdog_seconds: float | None = validated_field(in_range(1.0, 86_400.0), default=WATCHDOG_SECONDS)
    training: dict[str, Any] = field(default_factory=dict)
    card: CardOptions = field(default_factory=CardOptions)
