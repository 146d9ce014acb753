"""Progress of a run: remaining time, clips per second, and the curves' legend."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.axes
import pytest

from ast_hf.commands.console import print_results
from ast_hf.progress import progress_bar
from ast_hf.reports.curves import draw_curves
from ast_hf.reports.epoch_metrics import Curve
from ast_hf.training import Report, finish, prepare
from ast_hf.training.progress import LossProgress
from training.runs import Stop, recipe


class Bar:
    """Progress bar that took 2 s for 6 steps from the tenth on, and records its postfix."""

    def __init__(self, rate: float | None) -> None:
        self.format_dict = {"rate": rate, "n": 16, "initial": 10, "elapsed": 2.0}
        self.postfix: dict[str, str] = {}

    def set_postfix(self, postfix: dict[str, str], refresh: bool = True) -> None:
        self.postfix = dict(postfix)

    def update(self, steps: int) -> None:
        pass


@pytest.mark.parametrize(("rate", "speed"), [(5.0, "80"), (None, "48")])
def test_clips_per_second_by_hand(rate: float | None, speed: str) -> None:
    """4 clips in 2 accumulated batches on 2 processes: 16 in each step."""
    arguments = SimpleNamespace(train_batch_size=4, gradient_accumulation_steps=2, world_size=2)
    state = SimpleNamespace(is_world_process_zero=True, global_step=16)
    progress = LossProgress()
    progress.training_bar = Bar(rate)
    progress.current_step = 15
    progress._postfix = {"loss": "1.2"}
    progress.on_step_end(arguments, state, None)
    assert progress.training_bar.postfix == {"loss": "1.2", "clips/s": speed}


@pytest.fixture(scope="module")
def watched(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, str, Any]:
    """Return a run that watched its test split, its output on stderr, and its history."""
    import contextlib
    import io

    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        plan = recipe(clips, disable_tqdm=False, num_train_epochs=3, logging_steps=1)
        run = prepare(plan, tmp_path_factory.mktemp("watched"))
        run.trainer.eval_dataset = run.evaluation["test"]
        run.trainer.args.eval_strategy = type(run.trainer.args.eval_strategy)("epoch")
        run.trainer.train()
        history = list(run.trainer.state.log_history)
        return finish(run), stderr.getvalue(), history


def test_bars_show_the_remaining_time_and_the_rate(watched: tuple) -> None:
    lines = watched[1].splitlines()
    training = [line for line in lines if line.startswith("training:")]
    assert re.search(
        r"training: 100%.* 9/9 \[\d\d:\d\d<00:00, .*(step/s|s/step), .*clips/s=[\d.e+]+", training[-1]
    )
    assert re.search(r"eval_accuracy=[01]", training[-1])
    evaluating = [line for line in lines if line.startswith("evaluating:")]
    assert re.search(r"evaluating: 100%.* 8/8 \[.*clip/s\]", evaluating[-1])
    assert len(training) == 1  # in a log, the bars of a short run are its end


def test_a_resumed_bar_starts_at_the_resumed_step(
    clips: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = recipe(clips, disable_tqdm=False)
    starts = []

    def spy(**settings: Any) -> Any:
        starts.extend([settings["initial"]] if "initial" in settings else [])
        return progress_bar(**settings)

    broken = prepare(plan, tmp_path).trainer
    broken.add_callback(Stop(epoch=1))
    broken.train()
    capsys.readouterr()
    monkeypatch.setattr("ast_hf.training.progress.progress_bar", spy)
    prepare(plan, tmp_path).trainer.train(resume_from_checkpoint=True)
    last = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("training:"))
    assert " 6/6 " in last
    assert starts == [3]


def test_results_hold_the_rate_and_watched_splits(watched: tuple) -> None:
    report, _, history = watched
    stored = json.loads((report.folder / "results.json").read_text())
    values = [entry["eval_accuracy"] for entry in history if "eval_accuracy" in entry]
    assert stored["clips_per_second"] == pytest.approx(72 / stored["seconds"])  # 3 epochs of 24 clips
    assert list(stored["watched"]) == ["test"]
    assert (stored["watched"]["test"]["epochs"], stored["watched"]["test"]["values"]) == (
        [1.0, 2.0, 3.0],
        values,
    )


def test_summary(watched: tuple, capsys: pytest.CaptureFixture) -> None:
    curve = Curve([1.0, 2.0, 3.0], [0.25, 0.75, 0.5])
    report = replace(watched[0], seconds=8.0, clips_per_second=9.0, watched={"validation": curve})
    print_results(report)
    printed = capsys.readouterr().out
    assert "Trained on 24 clips, 3 epochs, in 8 s: 9 clips/s.\n" in printed
    assert (
        "accuracy on validation while training: 0.500 at the final epoch (3), 0.750 at the best epoch (2)"
        in printed
    )
    assert f"Curves: {report.folder / 'curves.png'}" in printed
    print_results(replace(report, watched={}))
    assert "while training" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "legend", "first"),
    [
        ({}, ["training loss", "test loss"], 1 / 3),
        ({"watched": {"a$b": Curve([1.0], [0.5])}}, ["training loss", r"a\$b loss"], 1 / 3),
        ({"epochs": None}, ["training loss", "test loss"], 1),
    ],
)
def test_curves_have_a_legend_of_watched_splits(
    watched: tuple, tmp_path: Path, monkeypatch: Any, changes: dict, legend: list[str], first: float
) -> None:
    drawn = []
    plot = matplotlib.axes.Axes.plot

    def spy(axes: Any, x: Any, y: Any, label: str, **style: Any) -> Any:
        drawn.append((label, x[0]))
        return plot(axes, x, y, label=label, **style)

    monkeypatch.setattr(matplotlib.axes.Axes, "plot", spy)
    history = [{"loss": 1.0, "epoch": 1 / 3, "step": 1}, {"eval_loss": 1.0, "epoch": 1.0, "step": 3}]
    draw_curves(history, replace(watched[0], **changes), tmp_path / "curves.png")
    assert [label for label, _ in drawn][:2] == legend
    assert drawn[0][1] == first
