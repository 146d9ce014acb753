"""Pictures hide nothing: no text lies over another one or over a bar, and nothing is outside of the picture."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from ast_hf.configuration_ast import ASTConfig
from ast_hf.feature_extraction_ast import ASTFeatureExtractor
from ast_hf.reports.curves import curves_figure, folds_figure
from ast_hf.reports.epoch_metrics import Curve
from ast_hf.reports.fold_results import CrossValidation, Fold
from ast_hf.reports.picture_style import shortened, text_inches, wrapped
from ast_hf.reports.pictures import confusion_figure, precision_recall_figure
from ast_hf.reports.run_results import Report
from ast_hf.reports.search_picture import rates_figure
from ast_hf.reports.search_results import SearchResult, Trial
from ast_hf.training import Recipe

#: Pixels by which boxes of text may touch: they include the space around the letters.
TOLERANCE = 1.5
SLOW = pytest.mark.slow
LONG = "recordings of the second season, microphone 4 (WWWWWWWWWWWW)"


def drawn_texts(figure: Figure, renderer: Any) -> list[Text]:
    """Draw a figure, and return the texts with content that were drawn."""
    texts = []
    draw = Text.draw

    def note(text: Text, *args: Any, **kwargs: Any) -> None:
        texts.append(text)
        draw(text, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note)
        figure.draw(renderer)
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def overlaps(first: Any, second: Any) -> bool:
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    return width > TOLERANCE and height > TOLERANCE


def check(figure: Figure) -> None:
    """Fail if texts or legends overlap, cover bars or lines, or leave the picture."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [(text.get_text(), text.get_window_extent(renderer)) for text in drawn_texts(figure, renderer)]
    legends = [legend.get_window_extent(renderer) for legend in figure.findobj(Legend)]
    panels = [axes.get_window_extent(renderer) for axes in figure.axes]
    frame = figure.bbox
    for name, box in [*texts, *(("legend", legend) for legend in legends)]:
        assert box.x0 >= frame.x0 - TOLERANCE, name
        assert box.x1 <= frame.x1 + TOLERANCE, name
        assert box.y0 >= frame.y0 - TOLERANCE, name
        assert box.y1 <= frame.y1 + TOLERANCE, name
    for (name, box), (other, second) in itertools.combinations(texts, 2):
        assert not overlaps(box, second), (name, other)
    for legend, panel in itertools.product(legends, panels):
        assert not overlaps(legend, panel), "a legend lies over its axes"
    for axes in figure.axes:
        bars = [bar.get_window_extent(renderer) for container in axes.containers for bar in container]
        for (name, box), bar in itertools.product(texts, bars):
            assert not overlaps(box, bar), f"{name!r} lies over a bar"


def report(splits: dict[str, tuple[float, float | None, float | None]], **changes: Any) -> Report:
    """Return a report; `splits` are the values of the model, the baseline and chance by split."""
    values: dict[str, Any] = {
        "recipe": Recipe(name="words"),
        "settings": {},
        "folder": Path("outputs/words"),
        "config": ASTConfig(num_labels=2),
        "extractor": ASTFeatureExtractor(),
        "metric": "accuracy",
        "results": {name: {"accuracy": model} for name, (model, _, _) in splits.items()},
        "baseline": {name: value for name, (_, value, _) in splits.items() if value is not None},
        "chance": {name: value for name, (_, _, value) in splits.items() if value is not None},
        "clips": {name: 100 * number for number, name in enumerate(splits, start=1)},
        "training_clips": 300,
        "parameters": 1,
        "trained_parameters": 1,
        "epochs": 30.0,
        "seconds": 1.0,
        "clips_per_second": 1.0,
        "hardware": "CPU",
    }
    return Report(**{**values, **changes})


def run_log(epochs: int) -> list[dict[str, Any]]:
    """Return a log with a training loss, and loss and accuracy of the validation and a watched split."""
    log: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        place = {"epoch": float(epoch), "step": 4 * epoch}
        log.append({"loss": 2.0 / epoch, **place})
        log.append({"eval_loss": 2.5 / epoch, "eval_accuracy": 1 - 0.5 / epoch, "eval_samples": 12, **place})
        log.append({"test_loss": 2.6 / epoch, "test_accuracy": 1 - 0.6 / epoch, **place})
    return log


def curves_of(log: list[dict[str, Any]], names: tuple[str, ...] = ("validation", "test")) -> dict[str, Curve]:
    found = {}
    for name, prefix in zip(names, ("eval", "test"), strict=True):
        curve = Curve.from_log(log, prefix, "accuracy")
        assert curve is not None
        found[name] = curve
    return found


FULL: dict[str, tuple[float, float | None, float | None]] = {"test": (0.5, 0.9, 0.1)}
CASES = {
    "model wins": FULL | {"test": (0.95, 0.85, 0.02)},
    "baseline wins": FULL,
    "zero": {"test": (0.0, 0.0, 0.0)},
    "one": {"test": (1.0, 1.0, 1.0)},
    "no baseline": {"test": (0.5, None, 0.1)},
    "model only": {"test": (0.5, None, None)},
    "undefined": {"test": (math.nan, 0.4, 0.2)},
    "baseline of one split": {"validation": (0.5, None, 0.1), "test": (0.6, 0.7, 0.1)},
    "long names": {LONG: (0.5, 0.9, 0.1), f"{LONG} 2": (1.0, 0.9, 0.1)},
    "three": dict.fromkeys(("train", "validation", "test"), (0.5, 0.9, 0.1)),
    "six": {f"{LONG} {number}": (number / 5, 0.9, 0.1) for number in range(6)},
    "no splits": {},
}


@pytest.mark.parametrize("splits", CASES.values(), ids=CASES)
@pytest.mark.parametrize("epochs", [1, pytest.param(30, marks=SLOW)])
def test_curves(splits: dict, epochs: int) -> None:
    log = run_log(epochs)
    check(curves_figure(log, report(splits, watched=curves_of(log))))


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": Recipe(name=f"{LONG} {LONG} {LONG} {LONG}")},
        {"recipe": Recipe(name="$x \\frac{1}{2 \x1b[2J \n W" * 20)},
        {"recipe": Recipe(name="W" * 300)},
        {"recipe": Recipe(name="")},
        {"metric": "mAP", "results": {"test": {"mAP": 0.3}}, "baseline": {}, "chance": {}},
        {"epochs": None},
        {"watched": {}},
        {"watched": {}, "results": {}, "baseline": {}, "chance": {}, "clips": {}},
    ],
)
def test_curves_of_other_runs(changes: dict) -> None:
    log = run_log(300)
    check(curves_figure(log, report(**{"splits": FULL, "watched": curves_of(log), **changes})))


def test_curves_without_a_log() -> None:
    check(curves_figure([], report(FULL)))
    check(curves_figure([{"loss": math.nan, "epoch": 1.0, "step": 1}], report(FULL)))


def panel(figure: Figure, title: str) -> Any:
    return next(axes for axes in figure.axes if title in axes.get_title())


def test_the_metric_is_drawn_over_epochs_and_the_kept_evaluation_is_marked() -> None:
    log = run_log(3)
    kept = SimpleNamespace(epoch=2.0, step=8, split="validation", metric="accuracy", value=0.75)
    known = report(FULL, watched=curves_of(log))
    known.kept = kept  # type: ignore[assignment]
    figure = curves_figure(log, known)
    check(figure)
    metric = panel(figure, "while training")
    lines = {line.get_label(): line for line in metric.lines}
    assert list(lines["validation (12 clips)"].get_xdata()) == [1, 2, 3]
    assert lines["validation (12 clips)"].get_ydata() == pytest.approx([0.5, 0.75, 1 - 0.5 / 3])
    assert list(lines["weights kept (epoch 2)"].get_xdata()) == [2, 2]
    assert list(lines["logistic regression baseline, test"].get_ydata()) == [0.9, 0.9]
    losses = {line.get_label() for line in panel(figure, "Loss").lines}
    assert {"training loss", "validation loss", "test loss"} <= losses
    assert figure.get_suptitle() == "words: test (100 clips)"


def test_titles_write_metrics_as_everywhere_else() -> None:
    log = [{"eval_mAP": 0.5, "eval_loss": 1.0, "eval_samples": 12, "epoch": 1.0, "step": 4}]
    curve = Curve.from_log(log, "eval", "mAP")
    assert curve is not None
    changes = {"metric": "mAP", "results": {"test": {"mAP": 0.3}}, "baseline": {}, "chance": {}}
    figure = curves_figure(log, report(FULL, watched={"validation": curve}, **changes))
    assert panel(figure, "while training").get_title() == "mAP while training"


@pytest.mark.parametrize("name", ["words", LONG, "$x \\frac{1}{2"])
def test_the_picture_of_rates_names_recipe_and_split(name: str) -> None:
    trials = [Trial({"training.learning_rate": rate}, 10, rate * 100, 1.0, 1.0) for rate in (1e-3, 2e-3)]
    result = SearchResult(Recipe(name=name), trials[1].options, trials, "mAP", 12, 0.0, Path())
    figure = rates_figure(result)
    check(figure)
    if name == "words":
        assert figure.get_suptitle() == "words: mAP on validation (12 clips)"


def test_curves_of_a_stream_are_over_steps() -> None:
    log = run_log(3)
    figure = curves_figure(log, report(FULL, watched=curves_of(log), epochs=None))
    assert list(panel(figure, "while training").lines[0].get_xdata()) == [4, 8, 12]


def test_methods_differ_without_colours() -> None:
    """The bars of the methods have different hatches, and the lines of the splits different styles."""
    log = run_log(3)
    figure = curves_figure(log, report(FULL, watched=curves_of(log)))
    hatches = [container[0].get_hatch() for container in panel(figure, "After").containers]
    assert len(set(hatches)) == 3
    styles = [line.get_linestyle() for line in panel(figure, "while training").lines[:2]]
    assert len(set(styles)) == len(styles)


@pytest.mark.parametrize("classes", [2, pytest.param(20, marks=SLOW), pytest.param(60, marks=SLOW)])
@pytest.mark.parametrize(
    "name", ["c{}", "class {} with a name that is much longer than most WWWWWWW", "$x^{}"]
)
def test_pictures_of_an_evaluation(classes: int, name: str) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(classes, size=4 * classes)
    scores = random.random((len(truth), classes)) + 0.5 * np.eye(classes)[truth]
    labels = [name.replace("{}", str(index)) for index in range(classes)]
    of = {"model": f"outputs/{LONG}", "split": LONG}
    texts = confusion_figure(scores.argmax(axis=1), truth, labels, **of)
    check_cells(texts)
    check(precision_recall_figure(scores, np.eye(classes, dtype=bool)[truth], labels, **of))


def check_cells(figure: Figure) -> None:
    """As `check`, for a picture without bars whose numbers are within their cells."""
    check(figure)
    assert "Confusion: outputs/recordings" in figure.get_suptitle().replace("\n", " ")


def test_precision_and_recall_of_special_scores() -> None:
    """All right, all wrong, a class without a clip, and clips of several labels."""
    tags = np.array([[True, False, False], [True, True, False], [False, True, False]])
    for scores in (tags.astype(float), 1.0 - tags, np.zeros(tags.shape)):
        check(precision_recall_figure(scores, tags, ["a", "b", "never"], model="m", split="test"))


def test_folds() -> None:
    def fold(number: int, values: list[float], baseline: float | None) -> Fold:
        curve = Curve([float(epoch) for epoch in range(1, len(values) + 1)], values)
        return Fold(str(number), f"fold-{number}", 80, 320, curve, {}, baseline, baseline, 1.0, "accuracy")

    for values, baselines in (([0.5], [None]), ([0.0, 1.0], [0.0]), ([1.0] * 300, [0.85])):
        for baseline in baselines:
            folds = [fold(number, values, baseline) for number in range(1, 6)]
            recipe = Recipe(name=LONG)
            check(folds_figure(CrossValidation(recipe, Path("f"), "column 'fold'", folds)))
            figure = folds_figure(CrossValidation(replace(recipe, name="esc"), Path("f"), "column", folds))
            assert figure.get_suptitle() == "esc: 5 test folds (400 clips)"


def test_names_fit() -> None:
    for text in ("short", "W" * 500, "two words " * 40, "狗" * 80, ""):
        assert text_inches(shortened(text, 1.0, 8), 8) <= 1.0
        lines = wrapped(text, 3.0, 12).split("\n")
        assert len(lines) <= 2
        assert max(text_inches(line, 12) for line in lines) <= 3.0
    assert shortened("short", 1.0) == "short"
    assert shortened("recordings of autumn, microphone 1", 1.0).endswith("1")
    assert shortened("recordings of autumn, microphone 2", 1.0).endswith("2")
    assert "…" in shortened("W" * 50, 1.0)
    assert wrapped("one two", 3.0, 12) == "one two"
