"""Plan of a run: what it will do, as plain values and as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from ..data.long_clips import CutSound
from ..printing import printable
from .estimates import Estimate
from .extent import Extent
from .rate_curve import describe_rates, sparkline

#: Labels, unusable clips and groups that are printed; JSON has all.
_LISTED_LABELS = 20
_LISTED_GROUPS = 8


@dataclass(frozen=True)
class SplitPlan:
    """A split of a run.

    Attributes:
        uses: what it is for, in words.
        clips: number of clips; None for a stream.
        sound: its seconds, and those that the model does not use (`CutSound`, and `random_crop`); None if unknown.
        groups: values of `data.validation_group` in it.
    """

    uses: list[str]
    clips: int | None
    sound: dict[str, Any] | None
    groups: list[str]

    def __str__(self) -> str:
        uses = f" ({', '.join(self.uses) or 'held out, and not evaluated'})"
        if self.clips is None:
            return f"a stream: clips, seconds and unreadable clips are not known before they are read{uses}"
        if self.sound is None:
            return f"{self.clips} clips{uses}"
        sound = {name: value for name, value in self.sound.items() if name != "random_crop"}
        cut = CutSound(**sound)
        text = f"{self.clips} clips, {cut.seconds:.1f} s{uses}; {cut}"
        if cut.cut_clips and self.sound["random_crop"]:
            text += " in an epoch; random_crop takes another part each time, so that training uses all in the long run"
        return text


@dataclass
class RunPlan:
    """What a run would do.

    Attributes:
        output: folder of the result.
        source: of the clips.
        start: what the weights start from, in words.
        task: problem type of the model.
        splits: split -> `SplitPlan`.
        labels: label -> split -> number of its clips.
        unusable: clips that cannot be used and are left out (`data.on_error: skip`).
        findings: what the check of all clips found, as `data_check` of results.json.
        extent: steps, epochs, evaluations and checkpoints.
        continues_from: the checkpoint that the run would continue from; None for a start from step 0.
        steps_done: its step.
        learning_rates: (step, learning rate) at points of the run.
        batch_size: clips of a batch in each process.
        accumulation: batches of a step.
        processes: number of processes.
        device: that the run computes on.
        precision: of its arithmetic.
        features_on: where the features of training clips are computed, "cpu" or "gpu".
        parameters: of the model.
        trained_parameters: that are trained.
        window: seconds of the model's input.
        measures_statistics: the run decodes all training clips first, to measure mean and std.
        writes: what it writes, in words.
        overwrites: files of the output folder that it replaces.
        publishes_to: name on the Hub that the result is pushed to; None for no push.
        settings: arguments of training that the weights depend on.
        changes: options that differ from those that the run began with.
        estimate: time, memory and disk; None if it was not measured.
        stopping: what the evaluations while training decide, in words; `""` for nothing.
        stores: what `data.store` has of each split, and what the run would write there, in words.
    """

    output: str
    source: Any
    start: str
    task: str
    splits: dict[str, SplitPlan]
    labels: dict[str, dict[str, int]]
    unusable: list[dict[str, Any]]
    findings: dict[str, Any]
    extent: Extent
    continues_from: str | None
    steps_done: int
    learning_rates: list[tuple[int, float]]
    batch_size: int
    accumulation: int
    processes: int
    device: str
    precision: str
    features_on: str
    parameters: int
    trained_parameters: int
    window: float
    measures_statistics: bool
    writes: list[str]
    overwrites: list[str]
    publishes_to: str | None
    settings: dict[str, Any]
    changes: list[str] = field(default_factory=list)
    estimate: Estimate | None = None
    stopping: str = ""
    stores: list[str] = field(default_factory=list)

    @property
    def steps_left(self) -> int:
        """Steps that are still to be trained."""
        return self.extent.steps - self.steps_done

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = asdict(self)
        values["estimate"] = None if self.estimate is None else self.estimate.to_dict()
        return values

    def lines(self) -> Iterator[str]:
        """Yield the plan as lines of text."""
        yield f"Plan of {printable(self.output)}: nothing was written or trained."
        yield from self._data_lines()
        yield from self._training_lines()
        yield from self._cost_lines()
        yield from self._output_lines()

    def _data_lines(self) -> Iterator[str]:
        yield f"\nData: {printable(str(self.source))}"
        for name, split in self.splits.items():
            yield f"  {printable(name)}: {split}"
            if split.groups:
                more = (
                    f" and {len(split.groups) - _LISTED_GROUPS} more"
                    if len(split.groups) > _LISTED_GROUPS
                    else ""
                )
                listed = ", ".join(map(printable, split.groups[:_LISTED_GROUPS]))
                yield f"    groups: {listed}{more}"
        if self.unusable:
            yield f"  left out, since they cannot be used: {len(self.unusable)}"
        yield f"  classes: {len(self.labels)} ({self.task})"
        for label, counts in list(self.labels.items())[:_LISTED_LABELS]:
            numbers = ", ".join(f"{count} {printable(split)}" for split, count in counts.items())
            yield f"    {printable(label)}: {numbers or 'not counted'}"
        if len(self.labels) > _LISTED_LABELS:
            yield f"    ... and {len(self.labels) - _LISTED_LABELS} more"

    def _training_lines(self) -> Iterator[str]:
        extent = self.extent
        clips = self.batch_size * self.accumulation * self.processes
        batches = f", in {self.accumulation} batches" if self.accumulation > 1 else ""
        plural = "" if extent.epochs == 1 else "s"
        epochs = "passes unknown" if extent.epochs is None else f"{extent.epochs:g} epoch{plural}"
        limit = "at most " if extent.may_stop_early else ""
        yield f"\nTraining: {limit}{extent.steps} steps, {epochs}; {clips} clips a step{batches}"
        if self.continues_from is not None:
            yield f"  continues from {printable(self.continues_from)}, with {self.steps_left} steps to go"
        yield f"  start: {printable(self.start)}"
        yield (
            f"  model: {self.parameters:,} parameters, {self.trained_parameters:,} of them trained; "
            f"input of {self.window:g} s"
        )
        processes = f", {self.processes} processes" if self.processes > 1 else ""
        features = ", features on the GPU" if self.features_on == "gpu" else ""
        yield f"  precision: {self.precision} on {self.device}{processes}{features}"
        yield f"  learning rate: {sparkline(self.learning_rates)}  {describe_rates(self.learning_rates)}"
        watched = " on validation" if extent.evaluations else ""
        yield f"  evaluations while training: {extent.evaluations}{watched}{self.stopping}"
        for change in self.changes:
            yield f"  changed since the run began: {change}"

    def _cost_lines(self) -> Iterator[str]:
        if self.measures_statistics:
            yield "  mean and std of the training clips are measured first; a dry run does not measure them"
        if self.estimate is None:
            return
        limit = "at most about" if self.estimate.is_upper_limit else "about"
        yield f"\nOn this machine, as busy as it is now: {limit} {duration(self.estimate.seconds)}"
        parts = {name: seconds for name, seconds in self.estimate.parts.items() if seconds >= 0.5}
        yield "  " + ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items())
        device = ""
        if self.estimate.device_bytes is not None:
            device = f", GPU memory {self.estimate.device_bytes / 1e9:.2f} GB"
        yield (
            f"  memory {self.estimate.memory_bytes / 1e9:.2f} GB{device}, "
            f"disk {self.estimate.disk_bytes / 1e6:,.1f} MB at most"
        )

    def _output_lines(self) -> Iterator[str]:
        yield f"\nWould write into {printable(self.output)}: " + "; ".join(self.writes)
        for store in self.stores:
            yield f"  data.store: {printable(store)}"
        if self.overwrites:
            yield f"  would replace: {', '.join(map(printable, self.overwrites))}"
        if self.publishes_to is not None:
            yield (
                f"  would publish {printable(self.publishes_to)} on the Hub: a token is there and the name is valid; "
                "the Hub was not asked"
            )


@dataclass
class FoldsPlan:
    """What a cross-validation would do.

    Attributes:
        output: folder of the results.
        origin: where the folds are from, in words.
        sizes: fold -> number of clips tested and trained on.
        finished: folds that are finished.
        first: plan of the first fold that is not; None if all are.
    """

    output: str
    origin: str
    sizes: dict[str, tuple[int, int]]
    finished: list[str]
    first: RunPlan | None

    @property
    def seconds(self) -> float | None:
        """Seconds of all folds that are not finished; None if nothing was measured."""
        if self.first is None:
            return 0.0
        if self.first.estimate is None:
            return None
        return self.first.estimate.seconds * (len(self.sizes) - len(self.finished))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "output": self.output,
            "origin": self.origin,
            "folds": {
                name: {"clips": tested, "training_clips": trained}
                for name, (tested, trained) in self.sizes.items()
            },
            "finished": self.finished,
            "seconds": self.seconds,
            "first": None if self.first is None else self.first.to_dict(),
        }

    def lines(self) -> Iterator[str]:
        """Yield the plan as lines of text."""
        yield f"{len(self.sizes)} folds: {self.origin}"
        for name, (tested, trained) in self.sizes.items():
            state = "finished" if name in self.finished else f"{tested} clips tested, {trained} trained on"
            yield f"  fold {printable(name)}: {state}"
        if self.first is None:
            return
        if self.seconds is not None:
            yield f"All folds that are not finished: about {duration(self.seconds)}. The first of them:\n"
        yield from self.first.lines()


def duration(seconds: float, units: tuple[str, str, str] = ("s", "min", "h")) -> str:
    """Return seconds in words, in the first unit that suits."""
    if seconds < 90:
        return f"{seconds:.0f} {units[0]}"
    if seconds < 5400:
        return f"{seconds / 60:.0f} {units[1]}"
    return f"{seconds / 3600:.1f} {units[2]}"
