"""`ast-hf evaluate --timeline`: references, baselines, files, fitting, storing, and what cannot be read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import TINY, randomise, run_fresh
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, AstHfError, cli
from ast_hf.evaluation.timeline_fitting import THRESHOLDS, Criterion, fit_rules, hysteresis_spans
from ast_hf.evaluation.timeline_scoring import TimelineModel, ranked
from ast_hf.evaluation.timelines import RULES, evaluate_timelines
from ast_hf.inference.pipeline import ASTAudioClassificationPipeline
from ast_hf.metrics.psds import is_psds_available
from ast_hf.metrics.timelines import event_counts
from ast_hf.timelines.builder import ScoreCurve, curve_events
from ast_hf.timelines.events import Event
from ast_hf.timelines.rules import MEANS, TimelineRules
from ast_hf.timelines.windows import plan_windows, window_starts

LABELS = ["cat", "dog", "owl"]
RATE = 16_000
SINGLE, MULTI = "single_label_classification", "multi_label_classification"
#: Recording -> split, seconds, (start, end, label) of its sounds.
RECORDINGS: dict[str, tuple[str, float, list[tuple[float, float, str]]]] = {
    "a": ("test", 6.0, [(1.0, 2.0, "cat"), (3.0, 4.5, "dog")]),
    "b": ("test", 5.0, [(0.5, 1.5, "cat")]),
    "quiet": ("test", 4.0, []),
    "c": ("validation", 6.0, [(1.0, 2.0, "cat"), (2.5, 3.0, "dog"), (4.0, 5.0, "cat")]),
}


def make_checkpoint(folder: Path, kind: str = MULTI, **fields: Any) -> Path:
    config = ASTConfig(**TINY, id2label=dict(enumerate(LABELS)), problem_type=kind, **fields)
    randomise(ASTForAudioClassification(config)).save_pretrained(folder)
    sizes = {"num_mel_bins": TINY["num_mel_bins"], "max_length": TINY["max_length"]}
    ASTFeatureExtractor(**sizes).save_pretrained(folder)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of recordings, whose sounds are noise, with labels.csv and recordings.csv."""
    folder = tmp_path_factory.mktemp("recordings")
    generator = np.random.default_rng(0)
    for name, (_, seconds, sounds) in RECORDINGS.items():
        samples = np.zeros(int(seconds * RATE), np.float32)
        for start, end, _ in sounds:
            place = slice(int(start * RATE), int(end * RATE))
            samples[place] = generator.uniform(-0.5, 0.5, place.stop - place.start)
        soundfile.write(folder / f"{name}.wav", samples, RATE)
    write_labels(folder / "labels.csv")
    write_rows(
        folder / "recordings.csv", [("path", "split")] + [(f"{n}.wav", r[0]) for n, r in RECORDINGS.items()]
    )
    return folder


def write_rows(path: Path, rows: list[tuple]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def write_labels(path: Path, *more: tuple[Any, ...]) -> Path:
    rows = [
        (f"{name}.wav", start, end, label, split)
        for name, (split, _, sounds) in RECORDINGS.items()
        for start, end, label in sounds
    ]
    return write_rows(path, [("path", "start", "end", "label", "split"), *rows, *more])


def curve_of(name: str, scores: dict[str, tuple[float, float]], delay: float = 0.0) -> ScoreCurve:
    """Return curves with one score within a label's sounds and another one outside, in steps of 0.05 s."""
    _, seconds, sounds = RECORDINGS[name]
    times = np.arange(round(seconds / 0.05) + 1) * 0.05
    values = np.zeros((len(times) - 1, len(LABELS)))
    middles = times[:-1] + 0.025
    for index, label in enumerate(LABELS):
        inside, outside = scores.get(label, (0.0, 0.0))
        values[:, index] = outside
        for start, end, other in sounds:
            if other == label:
                values[(middles > start + delay) & (middles < end + delay), index] = inside
    return ScoreCurve(times, values)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, float]]:
    """Replace the model by one that hears cats and dogs: label -> score within its sounds, and outside."""
    scores = {"cat": (0.9, 0.1), "dog": (0.3, 0.05)}
    monkeypatch.setattr(
        TimelineModel, "curve", lambda self, source, rules: curve_of(Path(source).stem, scores)
    )
    return scores


def evaluate(checkpoint: Path, data: Path, tmp_path: Path, **options: Any) -> Any:
    """Evaluate on the recordings; `options` are arguments, and rules by their names."""
    arguments: dict[str, Any] = {"recordings": data / "recordings.csv", "output_dir": tmp_path / "out"}
    rules = {name: options.pop(name) for name in RULES if name in options}
    return evaluate_timelines(
        str(checkpoint), data / "labels.csv", **{**arguments, "rules": rules, **options}
    )


# Scores, baselines, files


def test_scores_beside_the_baselines(checkpoint: Path, data: Path, tmp_path: Path, heard: Any) -> None:
    """Cats are found, the dog's score is below the threshold, the owl is not in the reference."""
    evaluation = evaluate(checkpoint, data, tmp_path)
    events, segments = evaluation.main.events, evaluation.main.segments
    assert [list(map(int, row)) for row in events] == [[2, 0, 0], [2, 0, 0], [2, 1, 0]]
    # cat: 1 s of a, and 0.5-1.5 s of b, which is in two segments; dog: 3-4.5 s, in two
    assert [list(map(int, row)) for row in segments] == [[3, 0, 0], [3, 0, 0], [3, 2, 0]]
    assert events.micro == pytest.approx(4 / 5)
    assert events.macro == pytest.approx(0.5)
    assert (evaluation.recordings, evaluation.seconds) == (3, pytest.approx(15.0))
    always = evaluation.outcomes["always on"]
    assert always.segments.micro == pytest.approx(2 * 5 / (30 + 5))  # 15 segments of cat and of dog
    assert always.events.micro == 0
    nothing = evaluation.outcomes["nothing"]
    assert (nothing.segments.micro, nothing.events.macro) == (0, 0)
    assert evaluation.without_reference == ["owl"]


@pytest.mark.skipif(not is_psds_available(), reason="sed_scores_eval is not installed (extra `timelines`)")
def test_psds_beside_the_baselines(checkpoint: Path, data: Path, tmp_path: Path, heard: Any) -> None:
    evaluation = evaluate(checkpoint, data, tmp_path)
    assert evaluation.main.psds == pytest.approx(1.0)  # each sound scores more than anything else
    assert (evaluation.outcomes["always on"].psds, evaluation.outcomes["nothing"].psds) == (0.0, 0.0)
    heard["dog"] = (0.3, 0.3)
    assert evaluate(checkpoint, data, tmp_path).main.psds < 0.9


def test_without_the_library_psds_is_left_out(
    checkpoint: Path, data: Path, tmp_path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ast_hf.evaluation.timelines.is_psds_available", lambda: False)
    evaluation = evaluate(checkpoint, data, tmp_path)
    assert evaluation.main.psds is None
    assert "ast_hf[timelines]" in evaluation.table()
    assert json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]["nothing"]["psds"] is None


def test_files(checkpoint: Path, data: Path, tmp_path: Path, heard: Any) -> None:
    evaluation = evaluate(checkpoint, data, tmp_path)
    folder = tmp_path / "out"
    results = json.loads((folder / "results.json").read_text())
    assert results["metrics"][str(checkpoint)]["event_micro"] == pytest.approx(0.8)
    assert (results["recordings"], results["split"], results["without_reference"]) == (3, "test", ["owl"])
    assert results["definitions"]["collar_seconds"] == 0.2
    assert (results["device"], results["precision"]) == ("cpu", "float32")
    rows = list(csv.DictReader((folder / "per_class.csv").open(encoding="utf-8")))
    assert [row["label"] for row in rows] == LABELS
    assert [(row["events"], row["correct_events"], row["event_f1"]) for row in rows] == [
        *[("2", "2", "1.0"), ("1", "0", "0.0")],
        ("0", "0", ""),  # without reference: no F1, not 0
    ]
    text = (folder / "events.csv").read_text()
    assert "a.wav" in text
    assert str(data) not in text
    table = evaluation.table()
    for words in ("always on", "nothing", "event F1", "not in the reference, and have no F1: 1"):
        assert words in table
    assert "owl" not in table


@pytest.mark.parametrize("format", ["json", "parquet"])
def test_formats_of_predicted_events(
    format: str, checkpoint: Path, data: Path, tmp_path: Path, heard: Any
) -> None:
    evaluate(checkpoint, data, tmp_path, format=format)
    assert (tmp_path / "out" / f"events.{format}").stat().st_size > 0


def test_collar_and_segments_are_options(checkpoint: Path, data: Path, tmp_path: Path, heard: Any) -> None:
    evaluation = evaluate(checkpoint, data, tmp_path, segment_seconds=0.5, collar_seconds=0.0)
    assert evaluation.main.segments.reference[0] == 4
    assert (evaluation.segment_seconds, evaluation.collar_seconds) == (0.5, 0.0)


# The pipeline's events


@pytest.mark.parametrize("kind", [MULTI, SINGLE])
@pytest.mark.parametrize("column_weight", [None, 0.5])
def test_the_events_are_those_of_the_pipeline(
    kind: str, column_weight: float | None, data: Path, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "model", kind)
    rules: dict[str, Any] = {"threshold": 0.4, "window_seconds": 0.5, "hop_seconds": 0.1, "min_seconds": 0.0}
    rules["column_weight"] = column_weight
    evaluate(folder, data, tmp_path, **rules, format="json")
    pipe = ASTAudioClassificationPipeline(
        model=ASTForAudioClassification.from_pretrained(folder),
        feature_extractor=ASTFeatureExtractor.from_pretrained(folder),
    )
    written = json.loads((tmp_path / "out" / "events.json").read_text())
    found = 0
    for entry in written:
        name = next(value for value in entry.values() if isinstance(value, str))
        expected = pipe(str(data / name), return_timestamps=True, **rules)
        assert len(entry["events"]) == len(expected)
        found += len(expected)
        for ours, theirs in zip(entry["events"], expected, strict=True):
            assert ours["label"] == theirs["label"]
            assert (ours["start"], ours["end"]) == pytest.approx((theirs["start"], theirs["end"]), abs=2e-6)
            assert ours["score"] == pytest.approx(theirs["score"], rel=1e-4)
    assert found > 0


# Fitting


def test_fit_on_another_split(checkpoint: Path, data: Path, tmp_path: Path, heard: Any) -> None:
    """The dog's threshold falls below its score; the owl, which is not there, keeps the given one."""
    evaluation = evaluate(checkpoint, data, tmp_path, fit_on="validation")
    cat, dog, owl = evaluation.rules["threshold"]
    assert (cat, owl) == (0.5, 0.5)  # 0.5 is as good as all others between 0.1 and 0.9, and the plainest
    assert dog == 0.3
    assert evaluation.fit.unfitted == ["owl"]
    assert (evaluation.fit.before, evaluation.fit.after) == (0.5, 1.0)
    assert evaluation.outcomes["before the fit"].events.macro == 0.5
    assert evaluation.main.events.macro == 1.0
    assert "validation" in evaluation.table()
    assert ASTConfig.from_pretrained(checkpoint).timeline is None


def test_the_fit_keeps_columns_if_they_are_better(
    checkpoint: Path, data: Path, tmp_path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With columns the model hears dogs at the right time, without them half a second late."""
    scores = {"cat": (0.9, 0.1), "dog": (0.9, 0.05)}
    assert evaluate(checkpoint, data, tmp_path, fit_on="validation").rules["column_weight"] == 0.0  # equal

    def curve(self: TimelineModel, source: str, rules: TimelineRules) -> ScoreCurve:
        return curve_of(Path(source).stem, scores, delay=0.0 if rules.column_weight else 0.5)

    monkeypatch.setattr(TimelineModel, "curve", curve)
    evaluation = evaluate(checkpoint, data, tmp_path, fit_on="validation", store=True)
    assert evaluation.rules["column_weight"] == 1.0
    assert evaluation.main.events.macro == 1.0
    assert (evaluation.fit.before, evaluation.fit.after) == (0.0, 1.0)
    assert evaluate(checkpoint, data, tmp_path / "again").main.events.macro == 1.0
    given = evaluate(checkpoint, data, tmp_path / "given", fit_on="validation", column_weight=0.0)
    assert given.rules["column_weight"] == 0.0
    assert given.main.events.macro < 1.0


def test_stored_rules_are_those_of_the_next_evaluation_and_of_the_pipeline(
    checkpoint: Path, data: Path, tmp_path: Path, heard: Any
) -> None:
    first = evaluate(checkpoint, data, tmp_path, fit_on="validation", store=True)
    config = ASTConfig.from_pretrained(checkpoint)
    assert config.timeline == first.rules
    assert config.temperature is None
    again = evaluate(checkpoint, data, tmp_path / "again")
    assert again.rules == first.rules
    assert again.main.events.macro == 1.0
    other = evaluate(checkpoint, data, tmp_path / "other", threshold=0.5)
    assert other.main.events.macro == 0.5
    explicit = evaluate(checkpoint, data, tmp_path / "explicit", threshold="fitted")
    assert explicit.rules == first.rules
    ASTForAudioClassification.from_pretrained(checkpoint).save_pretrained(tmp_path / "copy")
    assert ASTConfig.from_pretrained(tmp_path / "copy").timeline == first.rules


@pytest.mark.slow
def test_stock_transformers_loads_stored_rules(
    checkpoint: Path, data: Path, tmp_path: Path, heard: Any
) -> None:
    evaluate(checkpoint, data, tmp_path, fit_on="validation", store=True)
    printed = run_fresh(
        "import transformers\n"
        f"model = transformers.ASTForAudioClassification.from_pretrained({str(checkpoint)!r})\n"
        "print(type(model).__module__, model.config.timeline['threshold'])"
    )
    assert printed.split(" ", 1) == [
        "transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer",
        "[0.5, 0.3, 0.5]\n",
    ]


@pytest.mark.parametrize("seed", range(2))
def test_the_mean_of_windows_is_fitted_too(
    seed: int, checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model runs once for each recording, and no other mean has a higher F1 on the fitted split."""
    calls: list[str] = []
    generator = np.random.default_rng(seed)

    def windows(self: Any, source: Any, **options: Any) -> Any:
        calls.append(Path(source).stem)
        _, seconds, sounds = RECORDINGS[Path(source).stem]
        for start in window_starts(int(seconds * RATE), plan):
            scores = np.full(3, 0.02) + generator.uniform(0, 0.3, 3)
            for first, end, label in sounds:
                shared = min(end, (start + plan.samples) / RATE) - max(first, start / RATE)
                scores[LABELS.index(label)] += max(shared, 0.0) / (plan.samples / RATE) * 0.6
            yield start, plan.samples, scores, np.zeros(plan.samples // 160 + 2)

    plan = plan_windows(TINY["max_length"], RATE, overlap=0.75)
    monkeypatch.setattr(ASTAudioClassificationPipeline, "scored_windows", windows)
    evaluation = evaluate(checkpoint, data, tmp_path, fit_on="validation")
    assert sorted(calls) == sorted(RECORDINGS)
    assert evaluation.rules["mean"] in MEANS
    assert evaluation.fit.after >= evaluation.fit.before


def test_given_rules_are_not_fitted(checkpoint: Path, data: Path, tmp_path: Path, heard: Any) -> None:
    given = {"low_threshold": 0.4, "min_seconds": 0.33, "gap_seconds": 0.44}
    rules = evaluate(checkpoint, data, tmp_path, fit_on="validation", **given).rules
    assert (rules["min_seconds"], rules["gap_seconds"]) == (0.33, 0.44)
    ratios = np.array(rules["low_threshold"]) / np.array(rules["threshold"])
    assert ratios == pytest.approx([0.8] * 3, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"fit_on": "test"}, "fit_on"),
        ({"fit_on": "TEST"}, "fit_on"),
        ({"fit_on": "validation", "split": "val"}, "fit_on"),
        ({"store": True}, "store"),
        ({"fit_on": "validation", "threshold": 0.4}, "threshold"),
        ({"fit_on": "validation", "fit_target": "psds"}, "fit_target"),
        ({"segment_seconds": 0.0}, "segment_seconds"),
        ({"collar_seconds": -1.0}, "collar_seconds"),
        ({"format": "raven"}, "format"),
        ({"batch_size": 0}, "batch_size"),
        ({"hop_seconds": 0.0}, "hop_seconds"),
        ({"window_seconds": 100.0}, "window_seconds"),
        ({"window_seconds": 0.5, "hop_seconds": 0.6}, "hop_seconds"),
        ({"threshold": 0.3, "low_threshold": 0.4}, "low_threshold"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": "fitted"}, "threshold"),
        ({"method": "median"}, "method"),
        ({"min_seconds": -1.0}, "min_seconds"),
        ({"rules": {"treshold": 0.4}}, "treshold.*'threshold'"),
    ],
)
def test_arguments_that_are_impossible(
    options: dict[str, Any], name: str, checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(AstHfError, match=name) as caught:
        evaluate(checkpoint, data, tmp_path, **options)
    assert caught.value.code == "E108"
    assert not (tmp_path / "out" / "results.json").exists()


def drawn_curves(seed: int, steps: int = 120) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    times = np.arange(steps + 1) * 0.05
    curves = {}
    reference = {}
    for name in ("x", "y"):
        noise = np.convolve(generator.random(steps + 4), np.ones(5) / 5, "valid")
        scores = np.round(np.stack((noise, noise[::-1] ** 2), axis=1), 2)
        curves[name] = ScoreCurve(times, scores)
        edges = np.sort(generator.choice(np.arange(1, steps), 4, replace=False)) * 0.05
        rows = [Event(edges[0], edges[1], "cat"), Event(edges[2], edges[3], "dog")]
        reference[name] = (float(times[-1]), rows)
    return reference, curves


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(THRESHOLDS),
    st.sampled_from((0.0, 0.3, 0.7, 1.0)),
    st.sampled_from((0.0, 0.1, 0.35)),
    st.sampled_from((0.0, 0.1, 0.35)),
)
def test_events_of_the_fit_are_those_of_timelines(
    seed: int, threshold: float, ratio: float, least: float, gap: float
) -> None:
    _, curves = drawn_curves(seed)
    rules = TimelineRules(
        threshold=threshold, low_threshold=threshold * ratio, min_seconds=least, gap_seconds=gap
    )
    expected = curve_events(curves["x"], ["cat", "dog"], rules)
    for index, label in enumerate(("cat", "dog")):
        column = curves["x"].scores[:, index]
        found = hysteresis_spans(curves["x"].times, column, threshold, threshold * ratio, least, gap)
        rows = [(event.start, event.end) for event in expected if event.label == label]
        assert found == pytest.approx(np.array(rows).reshape(-1, 2))


@pytest.mark.parametrize("method", ["hysteresis", "boxes"])
@pytest.mark.parametrize("target", ["event", "segment"])
def test_a_fit_is_never_worse_and_repeats(method: str, target: str) -> None:
    """The reported F1 is that of the fitted rules through the functions of the evaluation."""
    reference, curves = drawn_curves(3)
    criterion = Criterion(target, collar_seconds=0.5)
    labels = ["cat", "dog"]
    rules = TimelineRules(method=method)
    first = fit_rules(reference, curves, labels, [0, 1], rules, criterion)
    assert first.after >= first.before
    assert first == fit_rules(reference, curves, labels, [0, 1], rules, criterion)
    if target == "event":
        found = {name: curve_events(curve, labels, first.rules) for name, curve in curves.items()}
        assert event_counts(reference, found, labels, collar_seconds=0.5).macro == pytest.approx(first.after)
    assert (first.rules.method, first.unfitted) == (method, [])


def test_curves_of_some_classes_only() -> None:
    reference, curves = drawn_curves(3)
    one = {name: ScoreCurve(curve.times, curve.scores[:, [1]]) for name, curve in curves.items()}
    dogs = {name: (seconds, [rows[1]]) for name, (seconds, rows) in reference.items()}
    rules = TimelineRules(threshold=(0.25, 0.5, 0.75))
    fitted = fit_rules(dogs, one, ["cat", "dog", "owl"], [1], rules, Criterion())
    assert (fitted.rules.threshold[0], fitted.rules.threshold[2]) == (0.25, 0.75)  # type: ignore[index]
    assert fitted.unfitted == ["cat", "owl"]


@pytest.mark.parametrize("method", ["hysteresis", "boxes"])
def test_ranked_curves_above_a_threshold_are_the_events_of_that_threshold(method: str) -> None:
    _, curves = drawn_curves(5)
    rules = TimelineRules(method=method, min_seconds=0.0, gap_seconds=0.0)
    ranking = ranked(curves, rules, [0, 1], 2)
    for threshold in (0.3, 0.45, 0.6):
        for name, curve in curves.items():
            events = curve_events(curve, ["cat", "dog"], rules.replace(threshold=threshold))
            for index, label in enumerate(("cat", "dog")):
                active = ranking[name][1][:, index] >= threshold
                expected = np.zeros(len(active), bool)
                for event in events:
                    if event.label == label:
                        first, end = np.searchsorted(curve.times, (event.start, event.end))
                        expected[first:end] = True
                assert (active == expected).all()


# Bad data


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("a.wav", 5.0, 5.5, "dgo", "test"), ["dgo", "did you mean 'dog'"]),
        (("a.wav", 5.0, 7.0, "dog", "test"), ["7 s", "a.wav", "6 s"]),
        (("a.wav", 3.5, 5.0, "dog", "test"), ["overlaps"]),
        (("a.wav", -1.0, 0.5, "dog", "test"), ["-1"]),
    ],
)
def test_bad_rows(row: tuple, words: list[str], checkpoint: Path, data: Path, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.csv", row)
    with pytest.raises(AstHfError) as caught:
        evaluate_timelines(str(checkpoint), labels, output_dir=tmp_path / "out", audio_root=data)
    assert caught.value.code == "E208"
    for word in words:
        assert word in str(caught.value)


def test_several_unknown_labels_are_named(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    more = [("a.wav", 5.0, 5.2, "cats", "test"), ("b.wav", 3.0, 3.2, "siren", "test")]
    labels = write_labels(tmp_path / "labels.csv", *more)
    arguments: dict[str, Any] = {"output_dir": tmp_path / "out", "audio_root": data}
    with pytest.raises(AstHfError, match=r"cats.*siren") as caught:
        evaluate_timelines(str(checkpoint), labels, **arguments)
    assert "drop_labels" in str(caught.value)


def test_overlaps_are_merged_if_asked(checkpoint: Path, data: Path, tmp_path: Path, heard: Any) -> None:
    labels = write_labels(tmp_path / "labels.csv", ("a.wav", 1.5, 2.5, "cat", "test"))
    arguments: dict[str, Any] = {"output_dir": tmp_path / "out", "audio_root": data}
    evaluation = evaluate_timelines(str(checkpoint), labels, merge_overlaps=True, **arguments)
    assert evaluation.main.events.reference[0] == 2


def test_a_split_that_is_missing_or_empty(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(AstHfError, match="split 'night'") as caught:
        evaluate(checkpoint, data, tmp_path, split="night")
    assert caught.value.code == "E209"
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(AstHfError) as caught:
        evaluate_timelines(str(checkpoint), empty, output_dir=tmp_path / "out")
    assert caught.value.code == "E209"


def test_a_split_without_any_sound(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    labels = write_rows(tmp_path / "l.csv", [("path", "start", "end", "label"), ("quiet.wav", "", "", "")])
    with pytest.raises(AstHfError, match="no labelled sound") as caught:
        evaluate_timelines(
            str(checkpoint), labels, output_dir=tmp_path / "out", split="train", audio_root=data
        )
    assert caught.value.code == "E209"


@pytest.mark.parametrize("how", ["error", "short"])
def test_a_recording_that_cannot_be_read_is_named_and_left_out(
    how: str, checkpoint: Path, data: Path, tmp_path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events before the damage stay in the file; the scores are those of the other recordings."""
    whole = TimelineModel.curve

    def damaged(self: TimelineModel, source: str, rules: TimelineRules) -> ScoreCurve:
        if Path(source).stem != "a":
            return whole(self, source, rules)
        if how == "error":
            raise AstHfError("E203", repr(source), "is damaged", "replace it")
        times, scores = whole(self, source, rules)
        return ScoreCurve(times[:61], scores[:60])

    monkeypatch.setattr(TimelineModel, "curve", damaged)
    evaluation = evaluate(checkpoint, data, tmp_path)
    (reason,) = evaluation.unread.values()
    assert list(evaluation.unread) == ["a.wav"]
    assert ("E203" if how == "error" else "from 3.0 s on, of 6.0 s") in reason
    assert evaluation.recordings == 2
    assert evaluation.main.events.reference.tolist() == [1, 0, 0]
    assert ("a.wav" in (tmp_path / "out" / "events.csv").read_text()) == (how == "short")
    assert "a.wav" in evaluation.table()
    swapped = evaluate(checkpoint, data, tmp_path, split="validation", fit_on="test")
    assert (list(swapped.fit.unread), swapped.fit.recordings, swapped.unread) == (["a.wav"], 2, {})
    assert "not in the fit: a.wav" in swapped.table()


def test_if_no_recording_can_be_read_the_first_reason_is_given(
    checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(self: TimelineModel, source: str, rules: TimelineRules) -> ScoreCurve:
        raise AstHfError("E203", repr(source), "is damaged", "replace it")

    monkeypatch.setattr(TimelineModel, "curve", damaged)
    with pytest.raises(AstHfError, match="is damaged") as caught:
        evaluate(checkpoint, data, tmp_path)
    assert caught.value.code == "E209"


def test_a_file_that_is_no_audio_is_an_error_before_the_work(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"not audio at all" * 100)
    labels = write_rows(
        tmp_path / "l.csv", [("path", "start", "end", "label", "split"), (bad.name, 0.1, 0.2, "cat", "test")]
    )
    with pytest.raises(AstHfError, match=r"bad\.wav"):
        evaluate_timelines(str(checkpoint), labels, output_dir=tmp_path / "out")


# The command


def test_the_command(
    checkpoint: Path, data: Path, tmp_path: Path, heard: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "evaluate",
        str(checkpoint),
        str(data / "labels.csv"),
        "--timeline",
        "--output",
        str(tmp_path / "o"),
    ]
    words += ["--recordings", str(data / "recordings.csv"), "--fit-on", "validation", "--store"]
    assert cli.main([*words, "--fit-target", "segment", "--hop-seconds", "0.1"]) == 0
    printed = capsys.readouterr().out
    for text in (
        "segment F1",
        "event F1",
        "PSDS1",
        "always on",
        "cat",
        "segment F1 (macro) 0.5000 -> 1.0000",
    ):
        assert text in printed
    assert ASTConfig.from_pretrained(checkpoint).timeline["hop_seconds"] == 0.1
    assert cli.main([*words[:6], "--threshold", "fitted", "--split", "validation"]) == 0
    assert cli.main([*words[:6], "--precision", "int8"]) == 0
    assert "computed on cpu in int8" in capsys.readouterr().out


def test_the_command_ends_with_65_if_a_recording_is_damaged(
    checkpoint: Path,
    data: Path,
    tmp_path: Path,
    heard: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = TimelineModel.curve
    monkeypatch.setattr(
        TimelineModel,
        "curve",
        lambda self, source, rules: ScoreCurve(*(part[:-20] for part in whole(self, source, rules))),
    )
    words = [
        "evaluate",
        str(checkpoint),
        str(data / "labels.csv"),
        "--timeline",
        "--output",
        str(tmp_path / "o"),
    ]
    assert cli.main(words) == 65
    assert "no recording that can be evaluated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--threshold", "0.5"], "--threshold"),
        (["--merge-overlaps"], "--merge_overlaps"),
        (["--timeline", "--average"], "--average"),
        (["--timeline", "--save-logits", "x.safetensors"], "--save_logits"),
        (["--timeline", "--clip_boundaries", "true"], "--clip_boundaries"),
        (["--timeline", "--window_hop_seconds", "1"], "--window_hop_seconds"),
    ],
)
def test_options_that_do_not_belong_together(
    words: list[str], name: str, checkpoint: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", str(checkpoint), str(data / "labels.csv"), *words]) == 65
    printed = capsys.readouterr().err
    assert "E108" in printed
    assert name in printed


def test_two_checkpoints(checkpoint: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(checkpoint), str(checkpoint), str(data / "labels.csv"), "--timeline"]
    assert cli.main(words) == 65
    assert "checkpoints" in capsys.readouterr().err


def test_a_threshold_that_is_no_number_is_said_in_words(capsys: pytest.CaptureFixture) -> None:
    from ast_hf.cli import main

    with pytest.raises(SystemExit):
        main(["evaluate", "model", "data", "--timeline", "--threshold", "x"])
    assert "'x' is neither a number in (0, 1] nor fitted" in capsys.readouterr().err
