"""Systems that `benchmarks.learning` compares: how each is built and trained, and what a run stores."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from ast_hf import ASTFeatureExtractor
from ast_hf.training import (
    ASTTrainer,
    ClipInputs,
    Recipe,
    Run,
    baseline_accuracy,
    finish,
    load_audio_dataset,
    load_recipe,
    measure_statistics,
    most_frequent_class,
    prepare,
)

from .psla import PSLA
from .transfer import write_table

RECIPES = Path(__file__).parent.parent / "examples" / "recipes"


@dataclass(frozen=True)
class Corpus:
    """A data set, and the settings that it is trained with.

    Attributes:
        column: column of manifest.csv that decides the split.
        splits: stage -> one mapping for each seed in turn: value of that column -> split. Rows with other values are
            left out. The held-out clips are evaluated after each epoch, without effect on training.
        recipe: file in RECIPES; all systems except the convolutional one and `image` use its model.
        starts_from_vit: start from image weights instead of random ones.
        image_recipe: file in RECIPES of the system `image`, which starts from image weights where the others do not.
        patchout: patchout of the third system.
        epochs: system -> passes over the training clips. The budget is the CPU time of (a), which no other system
            exceeds.
        learning_rates: system -> learning rates to compare on the split of the choice. A recipe has only its own: it
            was chosen on those clips when the recipe was written. (a) with our mel bins has that of (a).
        card: texts about the data for the model card of (b).
    """

    column: str
    splits: dict[str, list[dict[str, str]]]
    recipe: str
    starts_from_vit: bool
    patchout: dict[str, int]
    epochs: dict[str, int]
    learning_rates: dict[str, tuple[float, ...]]
    card: dict[str, Any]
    image_recipe: str | None = None

    @property
    def systems(self) -> list[str]:
        """Names of the systems that are trained on it, in the order of `SYSTEMS`."""
        return [name for name in SYSTEMS if name in self.epochs]


def held_out(fold: int, folds: range = range(1, 6)) -> dict[str, str]:
    """Return the splits that test on one fold of ESC-10 and train on the others."""
    return {str(part): "test" if part == fold else "train" for part in folds}


#: Choices never use the split that the comparison reports. ESC-10's folds are small, so each seed tests on another.
CORPORA = {
    "esc10": Corpus(
        column="fold",
        splits={
            "choice": [held_out(2, range(2, 6))],
            "final": [held_out(1), held_out(3), held_out(4)],
        },
        recipe="small-data.yaml",
        starts_from_vit=True,
        patchout={"time": 16, "frequency": 1},
        epochs={"plain": 3, "narrow": 3, "recipe": 5, "patchout": 5, "psla": 9},
        learning_rates={"plain": (2e-5, 5e-5), "recipe": (5e-5,), "patchout": (5e-5,), "psla": (1e-3, 3e-3)},
        card={
            "description": "Ten kinds of environmental sounds (ESC-10), trained on folds 2 to 5 and tested on fold 1.",
            "limits": "ESC-10 is small: fold 1 has 80 clips, so that 0.05 is four of them.",
        },
    ),
    "arabic_commands": Corpus(
        column="split",
        splits={"choice": [{"train": "train", "val": "test"}], "final": [{"train": "train", "test": "test"}]},
        recipe="spoken-words.yaml",
        starts_from_vit=False,
        patchout={"time": 5, "frequency": 0},
        epochs={"plain": 20, "narrow": 20, "recipe": 40, "patchout": 22, "image": 8, "psla": 18},
        learning_rates={
            "plain": (5e-4, 1e-3),
            "recipe": (1e-3,),
            "patchout": (1e-3,),
            "image": (3e-4,),
            "psla": (1e-3, 3e-3),
        },
        card={
            "description": "Ten spoken commands in Arabic, tested on speakers that were not trained on.",
            "language": ["ar"],
            "limits": "Thirty speakers recorded the words, one word in a second; running speech is not included.",
        },
        image_recipe="words-from-image-weights.yaml",
    ),
}


@dataclass(frozen=True)
class Task:
    """One run: everything that its result depends on."""

    system: str
    corpus: str
    stage: str
    seed: int
    learning_rate: float
    epochs: int
    data: str
    vit: str
    output: str

    @property
    def name(self) -> str:
        """Name of the folder of this run."""
        return f"{self.corpus}-{self.stage}-{self.system}-{self.learning_rate:g}-{self.epochs}-{self.seed}"

    @property
    def folder(self) -> Path:
        """Folder that this run writes to."""
        return Path(self.output) / self.name


def run(task: Task) -> dict[str, Any]:
    """Train one system. Return the accuracy on the held-out clips after every epoch, with the CPU seconds so far."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    set_seed(task.seed)
    trainer, prepared = SYSTEMS[task.system](task)
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    trainer.remove_callback(clock)
    if prepared is not None and task.stage == "final":
        finish(prepared)  # writes results.json, from which `benchmarks.cards` makes a card
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    return {"parameters": parameters, "points": clock.points}


class Started(NamedTuple):
    """A system that is ready to train; `run` is None unless it is one of ours."""

    trainer: Trainer
    run: Run | None = None


class Clock(TrainerCallback):
    """Counts the CPU seconds of training in this process: features, augmentation and optimizer, without evaluation."""

    def __init__(self) -> None:
        self.spent = 0.0
        self.points: list[dict[str, Any]] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._since = time.process_time()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Add the time of a step."""
        now = time.process_time()
        self.spent += now - self._since
        self._since = now

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any
    ) -> None:
        """Record the accuracy, and leave out the time of the evaluation."""
        self._note(state, metrics["eval_accuracy"])

    def on_predict(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any
    ) -> None:
        """Do the same for a watched split."""
        self._note(state, metrics["test_accuracy"])

    def _note(self, state: Any, accuracy: float) -> None:
        self.points.append({"epoch": round(state.epoch, 3), "seconds": self.spent, "accuracy": accuracy})
        self._since = time.process_time()


# ---------------------------------------------------------------- (a) plain fine-tuning


def plain(task: Task, mel_bins: int | None = 128) -> Started:
    """Prepare transformers' stock classes, trained as in its audio-classification example.

    That is AdamW, a linear schedule with a tenth of warm-up, the extractor's own mean and std, and no augmentation
    (the example's random crop would keep all of clips this short). Stock AST cannot start from an image transformer, so
    it gets the same start as ours, converted, with our strides and the clips' length. The number of mel bins is that of
    its extractor by default. Its learning rate was chosen, and it computes in the same precision.
    """
    from transformers.models.audio_spectrogram_transformer import ASTFeatureExtractor as StockExtractor
    from transformers.models.audio_spectrogram_transformer import ASTForAudioClassification as StockModel

    chosen = with_mel_bins(recipe_of(task), mel_bins)
    ours = prepare(chosen, task.folder / "start")
    ours.trainer.model.save_pretrained(task.folder / "start")
    config = ours.trainer.model.config
    extractor = StockExtractor(max_length=config.max_length, num_mel_bins=config.num_mel_bins)
    arguments = {**chosen.training, "lr_scheduler_type": "linear", "weight_decay": 0.0, **_EVERY_EPOCH}
    trainer = Trainer(
        model=StockModel.from_pretrained(task.folder / "start"),
        args=TrainingArguments(str(task.folder), warmup_steps=0.1, remove_unused_columns=False, **arguments),
        train_dataset=StockInputs(ours.train, extractor),
        eval_dataset=StockInputs(ours.evaluation["test"], extractor),
        compute_metrics=accuracy,
    )
    return Started(trainer)


def narrow(task: Task) -> Started:
    """Prepare plain fine-tuning with the mel bins of our recipe."""
    return plain(task, mel_bins=None)


#: For a Trainer without a watched split.
_EVERY_EPOCH = {"eval_strategy": "epoch"}


def with_mel_bins(settings: Recipe, count: int | None) -> Recipe:
    """Return the recipe with another number of mel bins; None keeps its own."""
    config = {**settings.model.config, **({} if count is None else {"num_mel_bins": count})}
    return dataclasses.replace(settings, model=dataclasses.replace(settings.model, config=config))


class StockInputs(torch.utils.data.Dataset):
    """Clips as features of the stock extractor; decoded once, like ours."""

    def __init__(self, clips: ClipInputs, extractor: Any) -> None:
        self.clips = clips
        self.extractor = extractor
        self.labels = list(clips.split["label"])

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, clip: int) -> dict[str, torch.Tensor]:
        features = self.extractor(self.clips.waveform(clip), sampling_rate=16_000, return_tensors="pt")
        return {"input_values": features["input_values"][0], "labels": torch.tensor(self.labels[clip])}


# ---------------------------------------------------------------- (b), (c) our recipe


def recipe(task: Task) -> Started:
    """Prepare the recipe in RECIPES, at its full length."""
    return started(recipe_of(task), task)


def patchout(task: Task) -> Started:
    """Prepare the recipe with patchout: training steps use part of the patches."""
    return started(recipe_of(task, patchout=CORPORA[task.corpus].patchout), task)


def image(task: Task) -> Started:
    """Prepare the recipe for image weights, where the other systems start from random ones."""
    return started(recipe_of(task, from_image=True), task)


def started(settings: Recipe, task: Task) -> Started:
    """Prepare a recipe that evaluates the test clips after each epoch."""
    prepared = prepare(settings, task.folder, watch="test", overwrite=True)
    return Started(prepared.trainer, prepared)


def recipe_of(task: Task, *, from_image: bool = False, **sections: Any) -> Recipe:
    """Return the recipe of a data set with the settings of one run: data, start, budget.

    `from_image` takes that of the system `image`. No clips are held out, and the last epoch counts: all systems have
    the same training clips.
    """
    corpus = CORPORA[task.corpus]
    file = corpus.image_recipe if from_image and corpus.image_recipe else corpus.recipe
    values = load_recipe(RECIPES / file).to_dict() | {"threads": 1} | _UNTIL_THE_END | sections
    values["data"] |= {"source": str(table(task)), "eval_splits": ["test"], **_ALL_CLIPS}
    values["card"] |= corpus.card
    values["model"] |= {"vit": task.vit} if corpus.starts_from_vit or from_image else {}
    values["training"] |= {
        "num_train_epochs": task.epochs,
        "learning_rate": task.learning_rate,
        "seed": task.seed,
        "bf16": True,
        "use_cpu": True,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return Recipe.from_dict(values, "benchmarks.learning")


#: Options of a recipe that would hold clips out, choose an epoch by them, or leave the precision to the machine.
_UNTIL_THE_END: dict[str, Any] = {"stopping": {}, "precision": None}
_ALL_CLIPS: dict[str, Any] = {"validation_fraction": 0.0, "validation_group": None}

# ---------------------------------------------------------------- (d) PSLA in small


def psla(task: Task) -> Started:
    """Prepare a convolutional network from random weights, with the recipe's clips, augmentation and schedule.

    Its weights are not averaged, because batch statistics belong to the weights that produced them.
    """
    settings = recipe_of(task)
    splits = load_audio_dataset(settings.data.source)
    config = settings.model.config
    sizes = {name: config[name] for name in ("max_length", "num_mel_bins") if name in config}
    extractor = ASTFeatureExtractor(**sizes)
    train = ClipInputs(splits["train"], extractor, augmentation=settings.augmentation, seed=task.seed)
    extractor.mean, extractor.std = measure_statistics(train)
    arguments = {**settings.training, "lr_scheduler_type": "cosine", "warmup_steps": 0.1, **_EVERY_EPOCH}
    trainer = ASTTrainer(
        model=PSLA(train.num_labels),
        args=TrainingArguments(
            str(task.folder), remove_unused_columns=False, label_names=["labels"], **arguments
        ),
        train_dataset=train,
        eval_dataset=ClipInputs(splits["test"], extractor),
        compute_metrics=accuracy,
    )
    return Started(trainer)


SYSTEMS: dict[str, Callable[[Task], Started]] = {
    "plain": plain,
    "narrow": narrow,
    "recipe": recipe,
    "patchout": patchout,
    "image": image,
    "psla": psla,
}


# ---------------------------------------------------------------- shared by all


def accuracy(prediction: Any) -> dict[str, float]:
    """Return the share of clips whose top label is correct."""
    return {"accuracy": float(np.mean(prediction.predictions.argmax(axis=-1) == prediction.label_ids))}


def table(task: Task) -> Path:
    """Write the clips of a stage as a table with a split column, for `data.source`, and return its path."""
    corpus = CORPORA[task.corpus]
    splits = corpus.splits[task.stage]
    mapping = splits[task.seed % len(splits)]
    return write_table(Path(task.data) / task.corpus, mapping, task.folder / "clips.csv", corpus.column)


def simple_methods(task: Task) -> dict[str, Any]:
    """Return the number of clips of a task, and the accuracy of logistic regression and of the most frequent class."""
    prepared = prepare(recipe_of(task), task.folder)
    test = prepared.evaluation["test"]
    return {
        "clips": {"train": len(prepared.train), "test": len(test)},
        "baseline": baseline_accuracy(prepared.train, prepared.evaluation)["test"],
        "chance": most_frequent_class(prepared.train.split, {"test": test.split})["test"],
    }
