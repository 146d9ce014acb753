"""Search for the learning rate: a short sweep, scored on the validation split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import error
from ..files import write_json
from ..processes import is_main_process
from ..recipe.recipe import Recipe
from ..reports.search_results import SearchResult, Trial, format_option, needed_split
from ..writing_failures import explained
from .trials import Trials, changed, searching

#: Files of the result in the output folder.
RATES_FILE = "find_lr.json"
RATES_PICTURE = "find_lr.png"
#: Rates of the sweep, as multiples of the recipe's.
FACTORS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
#: Share of the run's steps in each round, least number of steps, and how many of the best rates go there.
_ROUNDS = ((0.1, 50, len(FACTORS)), (0.3, 150, 3))
_RATE = "training.learning_rate"


def find_learning_rate(
    recipe: Recipe,
    output_dir: str | Path,
    *,
    rates: Sequence[float] | None = None,
    tell: Callable[[str], None] | None = None,
) -> SearchResult:
    """Train short runs with several learning rates, and choose the one with the best metric on the validation split.

    Each run has a tenth of the recipe's steps (at least 50), with the whole schedule in them: warm-up and decay. The
    three best rates train again from the start for three tenths (at least 150). No run has more steps than the recipe.
    Without a validation split, a fifth of the training split is held out for the search. Other splits are never read.
    The result depends on the recipe's seed alone.

    Args:
        recipe: data, model and training.
        output_dir: folder for find_lr.json and find_lr.png; it stays free for the run itself.
        rates: learning rates to try; None for a tenth to ten times the recipe's.
        tell: called with a line of text for each run, for example `print`.

    Raises:
        AstHfError: as `finetune`, and E307 if the training diverges at every rate.
        RunStopped: for SIGTERM, SIGHUP and SIGINT.
    """
    report = tell if tell is not None and is_main_process() else lambda _: None
    with searching() as stopping:
        trials = Trials(_without_epochs(recipe), stopping, metric=recipe.stopping.metric)
        try:
            tried = [trials.rate * factor for factor in FACTORS] if rates is None else list(rates)
            candidates = [float(f"{rate:.1e}") for rate in sorted(tried)]
            last = _sweep(trials, candidates, report)
        finally:
            trials.close()
    ranked = trials.rank(last)
    if not ranked:
        what = f"gives no finite loss at any of the rates {', '.join(map(format_option, candidates))}"
        raise error("E307", where=_RATE, what=what, fix="try lower ones, or train in float32", detail="range")
    rate = ranked[0].options[_RATE]
    result = SearchResult(
        recipe=changed(recipe, {**needed_split(recipe, trials.held_out), _RATE: rate}),
        options={_RATE: rate},
        trials=trials.done,
        metric=trials.metric,
        clips=trials.clips,
        held_out=trials.held_out,
        folder=Path(output_dir),
        advice=_advice(rate, candidates),
    )
    if is_main_process():
        _write(result)
    return result


def _sweep(trials: Trials, rates: list[float], report: Callable[[str], None]) -> list[Trial]:
    """Train all rounds, and return the trials of the last one."""
    done: list[Trial] = []
    previous = 0
    for share, least, count in _ROUNDS:
        steps = min(trials.steps, max(math.ceil(share * trials.steps), least))
        if steps <= previous:
            break
        if previous:
            rates = sorted(trial.options[_RATE] for trial in trials.rank(done)[:count])
        report(f"{len(rates)} learning rates, {steps} steps each")
        done = []
        for rate in rates:
            trial = trials.train(_options(trials, rate, steps))
            done.append(Trial({_RATE: rate}, trial.steps, trial.value, trial.loss, trial.seconds, trial.end))
            trials.done[-1] = done[-1]
            report(describe(done[-1], trials.metric))
        previous = steps
    return done


def _options(trials: Trials, rate: float, steps: int) -> dict[str, Any]:
    """Return the options of a short run; a warm-up in steps is shortened with the run."""
    options: dict[str, Any] = {_RATE: rate, "training.max_steps": steps}
    warmup = trials.recipe.training.get("warmup_steps", 0.1)
    if warmup >= 1:
        options["training.warmup_steps"] = min(warmup / trials.steps, 0.5)
    return options


def describe(trial: Trial, metric: str) -> str:
    """Return a trial in a line of text."""
    settings = ", ".join(
        f"{name.split('.')[-1]} {format_option(value)}" for name, value in trial.options.items()
    )
    if trial.value is None:
        return f"  {settings}: {trial.end}"
    return f"  {settings}: {metric} {trial.value:.3f}, loss {trial.loss:.3f} ({trial.seconds:.0f} s)"


def _without_epochs(recipe: Recipe) -> Recipe:
    """Return a recipe whose schedule can be shortened: without options that count epochs, and without `stopping`."""
    options: dict[str, Any] = {"averaging_epochs": None, "stopping": {}, "patchout.ramp_epochs": 0}
    if recipe.optimization.milestones:
        options |= {"optimization.milestones": [], "optimization.warmup": "linear"}
    return changed(recipe, options)


def _advice(rate: float, rates: list[float]) -> str:
    if len(rates) < 2 or rate not in (rates[0], rates[-1]):
        return ""
    end = "lowest" if rate == rates[0] else "highest"
    return f"{format_option(rate)} is the {end} rate that was tried: search again around it"


def _write(result: SearchResult) -> None:
    from ..reports.search_picture import draw_rates

    with explained(result.folder):
        result.folder.mkdir(parents=True, exist_ok=True)
        write_json(result.folder / RATES_FILE, result.to_dict())
    draw_rates(result, result.folder / RATES_PICTURE)
