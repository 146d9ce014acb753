"""Trials: runs of a recipe with changed options, scored on the validation split. They never read a test split."""

from __future__ import annotations

import copy
import dataclasses
import gc
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainerCallback

from ..errors import AstHfError, did_you_mean, error
from ..inputs.clip_checks import remembered_checks
from ..recipe.recipe import Recipe
from ..recipe.stopping_options import StoppingOptions
from ..reports.search_results import Trial
from ..stopping import RunStopped, StopSignals, stop_signals
from .best_weights import is_lower_better
from .preparing import Run, prepare
from .trainer import ASTTrainer

#: Share of the training split that a search holds out if there is no validation split.
HELD_OUT = 0.2
#: Arguments of training that trials do not have: they write nothing, and choose by themselves.
_LEFT_OUT = (
    *("save_strategy", "save_steps", "save_total_limit", "load_best_model_at_end", "report_to", "run_name"),
    *("push_to_hub", "hub_model_id", "hub_strategy", "hub_revision", "hub_private_repo", "hub_always_push"),
)
#: Sections of a recipe that the measured mean and std depend on.
_MEASURED_BY = ("data", "features", "model", "augmentation")


class Trials:
    """Trials of one recipe. Use it as a context: its folder is removed at the end.

    Args:
        recipe: what the trials change.
        stopping: signals of the search.
        metric: name of the metric that trials are compared by; None for that of `stopping`, or of the task.

    Attributes:
        recipe: the recipe of the trials: without evaluation splits, and with a validation split.
        held_out: share of the training split that is held out for the search alone; 0.0 if the recipe or its data
            have a validation split.
        steps: optimizer steps of the full length.
        clips: number of clips of the validation split; 0 for a stream.
        rate: learning rate of the recipe.
        done: the trials so far.
    """

    def __init__(self, recipe: Recipe, stopping: StopSignals, metric: str | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ast_hf-trials-")
        self._stopping = stopping
        self._count = 0
        self.done: list[Trial] = []
        self.held_out = 0.0
        self.recipe = _for_trials(recipe)
        try:
            run = self._prepare(_unwatched(self.recipe))
            if run.trainer.eval_dataset is None:
                self.held_out = HELD_OUT
                self.recipe = changed(self.recipe, {"data.validation_fraction": HELD_OUT})
                run = self._prepare(_unwatched(self.recipe))
        except BaseException:
            self.close()
            raise
        trainer = run.trainer
        self.steps = planned_steps(trainer)
        validation: Any = trainer.eval_dataset
        self.clips = len(validation) if hasattr(validation, "__len__") else 0
        self.metric = metric or recipe.stopping.metric or trainer.main_metric()
        self.rate = float(trainer.args.learning_rate)
        extractor: Any = trainer.processing_class
        self._statistics = (float(extractor.mean), float(extractor.std))

    def close(self) -> None:
        """Remove the folder of the trials."""
        self._folder.cleanup()

    def _prepare(self, recipe: Recipe) -> Run:
        self._count += 1
        run = prepare(recipe, Path(self._folder.name) / str(self._count))
        run.trainer.remove_callback(PrinterCallback)
        run.trainer.add_callback(_StopAtOnce(self._stopping))
        return run

    def train(self, options: dict[str, Any], callbacks: Sequence[TrainerCallback] = ()) -> Trial:
        """Train the recipe with some options changed, and return its score; `done` gets it too.

        With `stopping`, the score is that of the best evaluation, else that of the last weights.
        """
        recipe = changed(self.recipe, options)
        if all(getattr(recipe, name) == getattr(self.recipe, name) for name in _MEASURED_BY):
            mean, std = self._statistics
            recipe = changed(recipe, {"features.mean": mean, "features.std": std})
        begun = time.monotonic()
        run = self._prepare(recipe)
        trainer = run.trainer
        for callback in callbacks:
            trainer.add_callback(callback)
        try:
            value, loss, end = self._score(trainer)
            steps = trainer.state.global_step
        finally:
            del run, trainer
            gc.collect()  # a Trainer refers to itself, so its model would stay on the GPU
        trial = Trial(options, steps, value, loss, time.monotonic() - begun, end)
        self.done.append(trial)
        return trial

    def _score(self, trainer: ASTTrainer) -> tuple[float | None, float | None, str]:
        try:
            trainer.train()
        except AstHfError as problem:
            if problem.code != "E501":
                raise
            return None, None, "diverged"
        if trainer.best is not None:
            record = trainer.best.record
            return record.value, record.loss, "complete"
        metrics = trainer.evaluate()
        value = float(metrics[f"eval_{self.metric.removeprefix('eval_')}"])
        if not math.isfinite(value):
            return None, None, "diverged"
        return value, float(metrics["eval_loss"]), "complete"

    def rank(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials that have a score, the best first; of equal ones the earlier."""
        sign = 1.0 if is_lower_better(self.metric) else -1.0
        scored = [trial for trial in trials if trial.value is not None]
        return sorted(scored, key=lambda trial: (sign * (trial.value or 0.0), trial.loss or 0.0))


class _StopAtOnce(TrainerCallback):
    """Lets a signal end a trial within a step: there is nothing to save."""

    def __init__(self, stopping: StopSignals) -> None:
        self.stopping = stopping

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the deferral that a run begins with."""
        self.stopping.stop_now()


@contextmanager
def searching() -> Iterator[StopSignals]:
    """Stop a search at once for a signal; nothing of it is kept."""
    text = "during the search; nothing was saved"
    with stop_signals() as stopping, remembered_checks():  # trials have the same clips
        stopping.begin()
        stopping.text = text
        try:
            yield stopping
        except RunStopped as problem:
            raise RunStopped(problem.signal, text) from None


def planned_steps(trainer: ASTTrainer) -> int:
    """Return the number of optimizer steps of a prepared run."""
    args = trainer.args
    if args.max_steps > 0:
        return args.max_steps
    batches = len(trainer.get_train_dataloader())
    return math.ceil(max(math.ceil(batches / args.gradient_accumulation_steps), 1) * args.num_train_epochs)


def changed(recipe: Recipe, options: dict[str, Any]) -> Recipe:
    """Return a recipe with other values of some options, by names such as `training.learning_rate`.

    Raises:
        AstConfigError: E307 for an option that does not exist, a bad value, and contradictions.
    """
    values = dataclasses.asdict(recipe)
    for name, value in options.items():
        *sections, last = name.split(".")
        target = values
        for section in sections:
            if section not in target:
                fix = did_you_mean(section, target)
                raise error("E307", where=name, what="is not an option", fix=fix, detail="unknown")
            target = target[section]
            if not isinstance(target, dict):
                raise error(
                    "E307", where=name, what="is not an option", fix="check the name", detail="unknown"
                )
        target[last] = value
    return Recipe.from_dict(values)


def _for_trials(recipe: Recipe) -> Recipe:
    """Return a recipe whose runs evaluate the validation split alone, and write nothing that stays."""
    values = copy.deepcopy(dataclasses.asdict(recipe))
    values["data"]["eval_splits"] = []
    values["card"] = {}
    has_best = bool(values["training"].get("load_best_model_at_end"))
    values["training"] = {name: value for name, value in values["training"].items() if name not in _LEFT_OUT}
    values["training"] |= {"save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    if has_best:
        values["training"].pop("metric_for_best_model", None)
        values["stopping"] = dataclasses.asdict(StoppingOptions(best=True))
    return Recipe.from_dict(values)


def _unwatched(recipe: Recipe) -> Recipe:
    """Return a recipe that can be prepared without a validation split."""
    watching = ("eval_strategy", "lr_scheduler_type")
    training = {name: value for name, value in recipe.training.items() if name not in watching}
    return changed(recipe, {"training": training, "stopping": {}})
