"""Search for options of a recipe with optuna: whole runs, scored on the validation split."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from ..errors import AstConfigError, AstHfError, error
from ..files import write_json
from ..processes import is_main_process
from ..recipe.recipe import Recipe
from ..reports.search_results import SearchResult, Trial, needed_split
from ..writing_failures import explained
from .best_weights import is_lower_better
from .learning_rates import describe
from .trials import Trials, changed, searching

#: File of the result in the output folder.
SEARCH_FILE = "search.json"
#: Trials that train to their end before others are compared with them.
_STARTUP_TRIALS = 5
#: Options that cannot be searched, by their beginning -> reason.
_FIXED = {
    "data.": "changes the clips that trials are compared on",
    "stopping.": "changes how trials are compared",
    "card.": "has no effect on the weights",
    "name": "has no effect on the weights",
    "training.save_": "has no effect on the weights",
    "training.logging_": "has no effect on the weights",
    "training.eval_": "changes how trials are compared",
    "training.seed": "is luck, which does not repeat on other clips",
}

#: Values of an option: a range `(low, high)`, or a list of choices.
Space = Mapping[str, tuple[float, float] | list[Any]]


def search(
    recipe: Recipe,
    output_dir: str | Path,
    *,
    trials: int = 20,
    space: Space | None = None,
    tell: Callable[[str], None] | None = None,
) -> SearchResult:
    """Train a recipe with several settings that optuna proposes, and choose the best on the validation split.

    A trial is a whole run, with the early stopping of the recipe. Its score is that of its best evaluation. After five
    trials, one that is below the median of the earlier ones at the same evaluation ends early. After the first trial,
    settings that contradict each other, such as a width that the heads do not divide, are left out. Without a
    validation split, a fifth of the training split is held out for the search. Other splits are never read. The result
    depends on the recipe's seed alone. Needs the extra: `pip install "ast_hf[search]"`.

    Args:
        recipe: data, model and training.
        output_dir: folder for search.json; it stays free for the run itself.
        trials: number of trials, at least 1. The first one is the recipe as it is, where its values are in `space`.
        space: option of the recipe -> range `(low, high)`, drawn on a log scale if the ends differ by a factor of ten
            or more, or a list of choices. None searches `training.learning_rate` from a tenth to ten times the
            recipe's, `training.weight_decay` from 0.001 to 0.3 and, for pretrained weights, `optimization.layer_decay`
            from 0.6 to 1.
        tell: called with a line of text for each trial, for example `print`.

    Raises:
        AstHfError: as `finetune`, and E307 without optuna, for an option that cannot be searched, and if no trial has a
            finite loss.
        RunStopped: for SIGTERM, SIGHUP and SIGINT.
    """
    optuna = _import_optuna()
    report = tell if tell is not None and is_main_process() else lambda _: None
    if trials < 1:
        raise error("E307", where="trials", what=f"is {trials}", fix="give 1 or more", detail="range")
    compared = recipe
    if not (recipe.stopping.is_active or recipe.training.get("load_best_model_at_end")):
        compared = changed(recipe, {"stopping": {"best": True}})
    space = default_space(recipe) if space is None else dict(space)
    _check_space(recipe, space)
    with searching() as stopping:
        runs = Trials(compared, stopping)
        try:
            study = _Study(optuna, runs, space, report)
            for _ in range(trials):
                study.run_trial()
        finally:
            runs.close()
    ranked = runs.rank([trial for trial in runs.done if trial.end == "complete"])
    if not ranked:
        fix = "search lower learning rates, or train in float32"
        raise error("E307", where="space", what="has no trial with a finite loss", fix=fix, detail="range")
    best = ranked[0]
    result = SearchResult(
        recipe=changed(recipe, {**needed_split(recipe, runs.held_out), **best.options}),
        options=best.options,
        trials=runs.done,
        metric=runs.metric,
        clips=runs.clips,
        held_out=runs.held_out,
        folder=Path(output_dir),
    )
    if is_main_process():
        with explained(result.folder):
            result.folder.mkdir(parents=True, exist_ok=True)
            write_json(result.folder / SEARCH_FILE, result.to_dict())
    return result


class _Study:
    """An optuna study whose trials are runs of `Trials`."""

    def __init__(self, optuna: Any, runs: Trials, space: Space, report: Callable[[str], None]) -> None:
        self.optuna = optuna
        self.runs = runs
        self.space = space
        self.report = report
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = runs.recipe.training.get("seed", TrainingArguments.seed)
        self.study = optuna.create_study(
            direction="minimize" if is_lower_better(runs.metric) else "maximize",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=3),
        )
        start = _values_of(runs.recipe, space)
        if start:
            self.study.enqueue_trial(start)

    def run_trial(self) -> None:
        """Train with the settings that optuna asks for, and tell it the score."""
        trial = self.study.ask()
        options = {name: _suggest(trial, name, values) for name, values in self.space.items()}
        states = self.optuna.trial.TrialState
        begun = time.monotonic()
        try:
            done = self.runs.train(options, [_Prune(trial, self.runs.metric, self.optuna.TrialPruned)])
        except AstConfigError as problem:
            if not self.runs.done:  # nothing is lost
                raise
            self.report(f"  refused: {problem}")
            done = Trial(options, 0, None, None, time.monotonic() - begun, "refused")
            self.runs.done.append(done)
        except self.optuna.TrialPruned:
            done = Trial(options, 0, None, None, time.monotonic() - begun, "pruned")
            self.runs.done.append(done)
        if done.end == "pruned":
            self.study.tell(trial, state=states.PRUNED)
        elif done.value is None:
            self.study.tell(trial, state=states.FAIL)
        else:
            self.study.tell(trial, done.value)
        self.report(describe(done, self.runs.metric))


class _Prune(TrainerCallback):
    """Reports each evaluation to optuna, and ends a trial that optuna gives up."""

    def __init__(self, trial: Any, metric: str, pruned: type[Exception]) -> None:
        self.trial = trial
        self.metric = metric
        self.pruned = pruned
        self.count = 0

    def on_evaluate(
        self, args: TrainingArguments, state: Any, control: Any, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Report the metric, by the number of the evaluation."""
        value = float(metrics[f"eval_{self.metric.removeprefix('eval_')}"])
        if math.isfinite(value):
            self.trial.report(value, self.count)
            self.count += 1
            if self.trial.should_prune():
                raise self.pruned


def default_space(recipe: Recipe) -> dict[str, tuple[float, float] | list[Any]]:
    """Return the options that `search` varies by default, see there."""
    rate = float(recipe.training.get("learning_rate", TrainingArguments.learning_rate))
    space: dict[str, tuple[float, float] | list[Any]] = {
        "training.learning_rate": (rate / 10, rate * 10),
        "training.weight_decay": (0.001, 0.3),
    }
    options = recipe.optimization
    is_layered = options.optimizer == "training" and options.frozen == "nothing" and not recipe.adapter.rank
    if recipe.model.start != "random" and is_layered:
        space["optimization.layer_decay"] = (0.6, 1.0)
    return space


def _check_space(recipe: Recipe, space: Space) -> None:
    """Raise E307 for options that cannot be searched, values that they cannot have, and empty ranges."""
    if not space:
        raise error("E307", where="space", what="has no options", fix="name one", detail="missing")
    for name, values in space.items():
        for beginning, reason in _FIXED.items():
            if name.startswith(beginning):
                raise error(
                    "E307", where=f"space: {name}", what=reason, fix="leave it out", detail="conflict"
                )
        _check_values(name, values)
        for value in values:
            try:
                changed(recipe, {name: value})
            except AstHfError as problem:
                where = f"space: {name}"
                raise error(
                    problem.code, where=where, what=problem.what, fix=problem.fix, detail=problem.detail
                ) from problem


def _check_values(name: str, values: Any) -> None:
    """Raise E307 for what is no range of two numbers, the lower one first, and no list of choices."""
    if isinstance(values, tuple):
        is_good = len(values) == 2 and all(map(_is_number, values)) and values[0] < values[1]
        what = f"{'..'.join(map(str, values))} is no range from a lower to a higher number"
    else:
        is_good = isinstance(values, list) and bool(values)
        what = f"{values!r} is neither a range nor a list of choices"
    if not is_good:
        fix = "give a range, as 1e-5..1e-3, or choices, as [16,32]; in Python (1e-5, 1e-3) or [16, 32]"
        raise error("E307", where=f"space: {name}", what=what, fix=fix, detail="range")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _suggest(trial: Any, name: str, values: tuple[float, float] | list[Any]) -> Any:
    """Return optuna's value of an option, floats with three digits."""
    if isinstance(values, list):  # by number: optuna stores no lists
        return values[trial.suggest_categorical(name, list(range(len(values))))]
    low, high = values
    is_log = low > 0 and high / low >= 10
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=is_log)
    return float(f"{trial.suggest_float(name, low, high, log=is_log):.3g}")


def _values_of(recipe: Recipe, space: Space) -> dict[str, Any]:
    """Return the recipe's own values of the searched options, as far as they are set and in the space."""
    found: dict[str, Any] = {}
    for name, values in space.items():
        value: Any = recipe
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
        if isinstance(values, list):
            if value in values:
                found[name] = values.index(value)
        elif _is_number(value) and values[0] <= value <= values[1]:
            found[name] = value
    return found


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as problem:
        fix = 'pip install "ast_hf[search]"'
        raise error("E307", where="search", what="needs optuna", fix=fix, detail="environment") from problem
    return optuna
