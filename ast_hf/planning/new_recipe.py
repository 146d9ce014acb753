"""A new recipe for some data: the data are read, a plan is made, a few steps are timed, and the text is written."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from ..data.catalog import find_data_set
from ..data.hub import is_cached
from ..data.reading import load_audio_dataset
from ..data.sources import is_local
from ..errors import error
from ..printing import printable
from .data_summary import DataSummary, summarise_data
from .estimates import Estimate
from .measuring import Measured, measure_run
from .plan import Plan, make_plan
from .recipe_text import recipe_text
from .run_plan import duration
from .split_choices import has_test
from .starts import Start, read_start
from .training_choices import MINUTES

_UNITS = ("seconds", "minutes", "hours")


@dataclass(frozen=True)
class PlannedRecipe:
    """A recipe and what led to it.

    Attributes:
        summary: the data.
        start: the weights to start from.
        plan: the choices.
        text: the recipe, YAML.
        measured: speed on this machine.
        share: steps of the plan, as a share of those of the run that was measured.
        minutes: training time that the plan aims at.
    """

    summary: DataSummary
    start: Start
    plan: Plan
    text: str
    measured: Measured
    share: float
    minutes: float

    @property
    def estimate(self) -> Estimate:
        """What the whole run takes, at most."""
        return self.measured.scaled(self.share)

    def lines(self, path: str) -> Iterator[str]:
        """Yield what was found, chosen and is to be done next, as lines for a terminal."""
        yield from _describe(self.summary)
        yield ""
        yield from _table(self.plan)
        if self.plan.remarks:
            yield ""
            yield from (f"Note: {remark}" for remark in self.plan.remarks)
        yield ""
        time = duration(self.estimate.seconds, _UNITS)
        step = self.measured.seconds_per_step
        limit = "at most " if self.measured.estimate.is_upper_limit else ""
        yield (
            f"Expected: {limit}{self.plan.steps:,} steps of {step:.2g} s, about {time} in all on this machine, "
            "as busy as it is now."
        )
        if self.plan.steps * self.measured.unshared > 60 * (self.minutes + 1):
            unit = "minute" if self.minutes == 1 else "minutes"
            yield f"No shorter training is worth a start, so it takes more than the {self.minutes:g} {unit} aimed at."
        yield f"Wrote {printable(path)}. Next:"
        name = shlex.quote(path)
        output = _output_folder(self.summary.source)
        is_tested = has_test(self.summary) or self.summary.has_validation
        folds = "" if is_tested else " --folds 5"
        yield f"  ast-hf finetune {name} --output {output} --dry-run"
        yield f"  ast-hf finetune {name} --output {output}{folds}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "summary": asdict(self.summary),
            "start": asdict(self.start),
            "choices": [asdict(choice) for choice in self.plan.choices],
            "remarks": self.plan.remarks,
            "recipe": self.plan.values(),
            "steps": self.plan.steps,
            "seconds_per_step": self.measured.seconds_per_step,
            "estimate": self.estimate.to_dict(),
        }


def plan_recipe(
    source: str,
    reading: dict[str, Any] | None = None,
    *,
    base: str | None = None,
    vit: str | None = None,
    minutes: float | None = None,
    starting: float = 0.0,
    command: str = "ast-hf new",
) -> PlannedRecipe:
    """Look at data, and return a recipe for them.

    Args:
        source: folder, table, or name of a data set of the paper whose files are here (`AST_HF_DATA`).
        reading: other options of a recipe's section `data` that read them, such as `label_column`.
        base: AST checkpoint to start from.
        vit: image transformer to start from.
        minutes: training time to aim at on this machine; None for 10.
        starting: seconds that a program needs to start, until it reads the data.
        command: the command that the recipe's heading names.

    Raises:
        AstDataError: as `load_audio_dataset`; E206 for data that have to be downloaded first; E209 for data
            that no recipe can learn from.
        AstConfigError: E306 for a broken base, and errors of loading the start.
    """
    options = dict(reading or {})
    splits = _read(source, options)
    summary = summarise_data(splits, source, options)
    start = read_start(base, vit)
    aim = MINUTES if minutes is None else minutes
    plan = make_plan(summary, start, minutes=aim)
    measured = measure_run(plan.values(), starting)
    epochs = plan.epochs
    plan = make_plan(
        summary, start, seconds_per_step=measured.unshared, minutes=aim, clips=measured.clips or None
    )
    heading = [
        f"Written by `{command}`. Change anything; the reasons are beside the values.",
        *_describe(summary),
    ]
    text = recipe_text(plan, heading)
    return PlannedRecipe(summary, start, plan, text, measured, plan.epochs / epochs, aim)


def _read(source: str, options: dict[str, Any]) -> DatasetDict:
    """Return all splits; raise E206 for a data set on the Hub that is not in the cache."""
    arguments = {**find_data_set(source), **options}
    place = arguments["source"]
    if isinstance(place, str) and not is_local(place) and not is_cached(place):
        what = "is no file or folder here, and a data set on the Hub would have to be downloaded first"
        fix = "check the path; or download it (hf download NAME --repo-type dataset)"
        raise error("E206", where=repr(source), what=what, fix=fix)
    return load_audio_dataset(**arguments, check_files=False)


def _output_folder(source: Any) -> str:
    """Return a folder for the result that is not in the folder of the clips, where it would be read as clips."""
    here = Path.cwd()
    folder = Path(source).resolve() if isinstance(source, str) else None
    if folder is not None and folder.is_dir() and folder in (here, *here.parents):
        return shlex.quote(str(folder.parent / "my_model"))
    return "outputs/my_model"


def _describe(summary: DataSummary) -> Iterator[str]:
    """Yield what the data are like."""
    splits = ", ".join(f"{count:,} {printable(name)}" for name, count in summary.clips.items())
    lengths = summary.lengths
    counts = summary.labels.values()
    several = ", several to a clip" if summary.multi_label else ""
    yield f"Clips: {splits}; {lengths.total / 60:.1f} minutes to train on."
    rates = ", ".join(f"{rate:,} Hz" for rate in list(summary.rates)[:3])
    spread = (
        f"{lengths.shortest:.2f} to {lengths.longest:.2f} s, half of them at least {lengths.median:.2f} s, "
    )
    spread += f"95 % at most {lengths.high:.2f} s"
    is_one = lengths.longest - lengths.shortest < 0.01
    yield f"Lengths: {f'{lengths.median:.2f} s' if is_one else spread}; {rates}."
    each = f"{min(counts):,} to {max(counts):,}" if min(counts) < max(counts) else f"{min(counts):,}"
    yield f"Labels: {len(counts)}{several}, {each} training clips each."
    yield f"Groups: {summary.group_reason or 'none found'}."


def _table(plan: Plan) -> Iterator[str]:
    """Yield the choices that have a reason, one a line."""
    rows = [(choice.option, str(choice.value), choice.reason) for choice in plan.choices if choice.reason]
    first = max(len(option) for option, _, _ in rows)
    second = min(12, max(len(value) for _, value, _ in rows))
    for option, value, reason in rows:
        yield f"{option:{first}}  {value:<{second}}  {reason}"
