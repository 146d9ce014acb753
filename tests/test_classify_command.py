"""`ast-hf classify` in this process: files, folders and patterns to text and files, with bad ones among them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow.parquet
import pytest
import soundfile
import torch
from conftest import TINY

from ast_hf import (
    ASTAudioClassificationPipeline,
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    cli,
)
from ast_hf.batch.journal import NAME, Journal
from ast_hf.commands import classification_output
from ast_hf.inference import progress

RATE = 16_000
#: Kind of results -> options.
KINDS = {
    "labels": (),
    "windows": ("--aggregate", "none"),
    "events": ("--timeline", "--threshold", "0.1"),
}
#: Formats that keep labels of clips; the others need times.
UNTIMED = ("text", "json", "csv", "parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of six recordings, some of them longer than the model's window (0.655 s). Read only."""
    random = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("recordings")
    for name, seconds in {
        **{"b.wav": 0.5, "A.WAV": 2.0, "day 1/x.flac": 1.5, "day 1/x.wav": 3.0},
        **{"day 1/deep/\N{MUSICAL NOTE} y.ogg": 1.0, "z.aiff": 0.7},
    }.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * random.standard_normal(int(seconds * RATE)), RATE)
    return root


NAMES = ["A.WAV", "b.wav", "day 1/deep/\N{MUSICAL NOTE} y.ogg", "day 1/x.flac", "day 1/x.wav", "z.aiff"]


@pytest.fixture
def classify(
    tiny_checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable:
    """Return a function that runs the command in the folder: exit code, stdout and stderr."""
    monkeypatch.chdir(folder)

    def run(*words: object, model: Path = tiny_checkpoint) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["classify", str(model), *map(str, words)])
        return code, *capsys.readouterr()

    return run


def files_in(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_folder_as_text(classify: Callable) -> None:
    code, out, err = classify(".", "./b.wav")
    assert code == 0
    assert list(dict.fromkeys(line.split("\t")[0] for line in out.splitlines())) == NAMES
    assert err == "6 recordings: 6 classified (0.1 min of audio)\n"


def test_a_faster_copy_has_the_same_scores(classify: Callable) -> None:
    plain = classify("b.wav", "--format", "csv")[1].splitlines()
    copied = classify("b.wav", "--format", "csv", "--precision", "float32")[1].splitlines()
    for before, after in zip(csv.DictReader(plain), csv.DictReader(copied), strict=True):
        assert before.pop("label") == after.pop("label")
        assert float(before["score"]) == pytest.approx(float(after["score"]), abs=1e-5)


def test_one_good_recording_has_no_last_line(classify: Callable) -> None:
    assert classify("b.wav")[2] == ""


@pytest.mark.parametrize("format", ["json", "csv", "parquet", "audacity", "raven", "webvtt", "rttm"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_holds_every_recording(
    kind: str, format: str, classify: Callable, tmp_path: Path
) -> None:
    code, out, err = classify(".", *KINDS[kind], "--format", format, "--output", tmp_path / "out")
    if kind == "labels" and format not in UNTIMED:
        assert (code, (tmp_path / "out").exists()) == (65, False)
        assert "AST-E108" in err
        return
    assert code == 0
    assert out == ""
    files = files_in(tmp_path / "out")
    assert NAME not in files
    if format == "parquet":
        table = pyarrow.parquet.read_table(tmp_path / "out" / "results.parquet").to_pydict()
        assert list(dict.fromkeys(table["file"])) == NAMES
    elif len(files) == 1:
        (text,) = (content.decode() for content in files.values())
        places = [text.replace("%20", " ").index(name) for name in NAMES]
        assert places == sorted(places)
    else:
        stems = {re.sub(r"\.(labels|selections)?\.?(txt|vtt)$", "", name) for name in files}
        assert stems == {"A", "b", "day 1/deep/\N{MUSICAL NOTE} y", "day 1/x.flac", "day 1/x.wav", "z"}


@pytest.mark.parametrize("format", ["text", "json", "csv", "audacity", "raven", "webvtt", "rttm"])
@pytest.mark.parametrize("kind", ["windows", "events"])
def test_the_terminal_gets_what_a_file_gets(
    kind: str, format: str, classify: Callable, tmp_path: Path
) -> None:
    code, out, _ = classify("A.WAV", *KINDS[kind], "--format", format)
    assert code == 0
    assert out
    if format != "text":
        classify("A.WAV", *KINDS[kind], "--format", format, "--output", tmp_path)
        assert [content.decode() for content in files_in(tmp_path).values()] == [out]


def test_results_that_are_empty(classify: Callable, tmp_path: Path) -> None:
    assert classify(".", "--timeline", "--threshold", "1", "--output", tmp_path)[0] == 0
    assert pandas.read_csv(tmp_path / "results.csv")["file"].tolist() == NAMES
    code, out, _ = classify("A.WAV", "--timeline", "--threshold", "1", "--format", "json")
    assert (code, json.loads(out)) == (0, [{"file": "A.WAV", "events": []}])
    code, out, err = classify("A.WAV", "--threshold", "1")
    assert (code, out) == (0, "")
    assert "A.WAV: no labels" in err


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--hop_seconds 0", "E108.*hop_seconds"),
        ("--hop_seconds 0.7", "E108.*hop_seconds"),
        ("--window_seconds 0.3 --hop_seconds 0.4", "E108.*hop_seconds"),
        ("--window_seconds 99", "E108.*window_seconds"),
        ("--threshold fitted", "E108.*threshold"),
        ("--threshold nan", "E108.*threshold"),
        ("--threshold 1.5", "E108.*threshold"),
        ("--threshold often", "E108.*threshold"),
        ("--timeline --threshold fitted", "E108.*threshold"),
        ("--timeline --threshold 0.2 --low_threshold 0.3", "E108.*low_threshold.*above"),
        ("--timeline --min_seconds -1", "E108.*min_seconds"),
        ("--timeline --column_weight 2", "E108.*column_weight"),
        ("--timeline --top_k 2", "E108.*--top_k.*no effect on a timeline"),
        ("--timeline --aggregate max", "E108.*--aggregate"),
        ("--low_threshold 0.1", "E108.*--low_threshold.*add --timeline"),
        ("--method boxes", "E108.*--method.*add --timeline"),
        ("--picture x.png", "E108.*--picture.*add --timeline"),
        ("--resume", "E108.*--resume.*needs --output"),
        ("--format parquet", "E108.*--format.*add --output"),
        ("--format raven --timeline", "E108.*--format.*a file for each"),
        ("--format audacity", "E108.*format.*needs times"),
        ("--format text --output OUT", "E108.*--format"),
        ("--output=", "E108.*--output.*empty"),
        ("--timeline --picture FILE/x", "E401"),
        ("--output FILE", "E401"),
        ("--output FILE/below", "E401"),
    ],
)
def test_wrong_options_are_found_before_any_work(
    words: str, text: str, classify: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ASTAudioClassificationPipeline, "classify_recording", None)
    (tmp_path / "file").touch()
    places = {"OUT": str(tmp_path / "out"), "FILE": str(tmp_path / "file")}
    options = [re.sub("OUT|FILE", lambda match: places[match[0]], word) for word in words.split()]
    if "--output" not in words and "--format" not in words and "--resume" not in words:
        options += ["--output", str(tmp_path / "out")]
    code, out, err = classify("A.WAV", "b.wav", *options)
    assert (code, out) == (65, "")
    assert re.search(text, err), err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "words",
    ["--hop_second_s 1", "--hop nan", "--min_seconds inf", "--batch_size 0", "--format xml", "--top_k 0"],
)
def test_misspelt_options_are_reported_with_the_usage(words: str, classify: Callable) -> None:
    with pytest.raises(SystemExit) as caught:
        classify("b.wav", *words.split())
    assert caught.value.code == 2


def test_a_name_that_begins_with_a_hyphen(classify: Callable, tmp_path: Path, monkeypatch: Any) -> None:
    soundfile.write(tmp_path / "-x.wav", np.ones(8_000) / 9, RATE)
    monkeypatch.chdir(tmp_path)
    assert classify("--", "-x.wav")[1].startswith("-x.wav\t")
    assert classify("*.wav")[1].startswith("-x.wav\t")


@pytest.mark.parametrize("format", ["csv", "json"])
def test_numbers_of_a_regression_are_text_only(format: str, classify: Callable, tmp_path: Path) -> None:
    model = tmp_path / "model"
    ASTForAudioClassification(ASTConfig(**TINY, num_labels=2, problem_type="regression")).save_pretrained(
        model
    )
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(model)
    assert classify("b.wav", model=model)[0] == 0
    code, _, err = classify("b.wav", "--format", format, model=model)
    assert code == 65
    assert "AST-E108" in err


# ---------------------------------------------------------------- bad recordings


@pytest.fixture
def mixed(folder: Path, tmp_path: Path) -> Path:
    """Return a folder of recordings of which most are bad."""
    root = tmp_path / "mixed"
    root.mkdir()
    noise = 0.1 * np.random.default_rng(0).standard_normal(20 * RATE)
    good = (folder / "b.wav").read_bytes()
    (root / "a.wav").write_bytes(good)
    (root / "cut.wav").write_bytes(good[: len(good) // 2])
    (root / "empty.wav").touch()
    (root / "text.wav").write_text("no audio\n" * 9)
    (root / "folder.wav").mkdir()
    os.mkfifo(root / "pipe.wav")
    (root / "gone.wav").symlink_to(root / "nothing")
    soundfile.write(root / "nan.wav", np.where(np.arange(8_000) == 7, np.nan, noise[:8_000]), RATE, "FLOAT")
    soundfile.write(root / "partly.flac", noise, RATE)
    content = (root / "partly.flac").read_bytes()
    (root / "partly.flac").write_bytes(content[: len(content) * 3 // 4])
    (root / os.fsdecode(b"z\xe9.wav")).write_bytes(good)
    return root


@pytest.mark.parametrize("action", ["default", "error", "ignore"])
def test_bad_recordings_are_reported_and_the_others_classified(
    action: Any, classify: Callable, mixed: Path, tmp_path: Path
) -> None:
    with warnings.catch_warnings():  # as PYTHONWARNINGS does
        warnings.simplefilter(action)
        code, _, err = classify(mixed, "--output", tmp_path / "out")
    assert code == 65
    problems = {
        **{"cut.wav": "E202", "empty.wav": "E201", "gone.wav": "E206", "nan.wav": "E104"},
        **{"partly.flac": "W217", "pipe.wav": "E206", "text.wav": "E201"},
    }
    lines = err.splitlines()
    for line, (name, code) in zip(lines, problems.items(), strict=False):
        assert code in line
        assert f"{mixed}/{name}" in line
    assert lines[7:] == [
        f"Results: {tmp_path}/out/results.csv",
        "9 recordings: 2 classified (0.3 min of audio), 1 only in part, 6 not; --resume tries these again",
    ]
    files = pandas.read_csv(tmp_path / "out" / "results.csv")["file"].unique().tolist()
    assert files == [f"{mixed}/a.wav", f"{mixed}/partly.flac", f"{mixed}/z\\udce9.wav"]
    (mixed / "partly.flac").unlink()
    code, _, err = classify(mixed, "--output", tmp_path / "out", "--resume")
    assert code == 65
    assert "8 recordings: 2 classified (0.0 min of audio), 6 not" in err


def test_words_without_recordings_among_others(classify: Callable) -> None:
    code, out, err = classify("none.wav", "A.WAV", "*.mp3", "", "b.wav")
    assert code == 65
    assert list(dict.fromkeys(line.split("\t")[0] for line in out.splitlines())) == ["A.WAV", "b.wav"]
    assert [re.search(r"E\d+", line)[0] for line in err.splitlines()[:3]] == ["E206"] * 3  # type: ignore[index]
    assert err.splitlines()[3].startswith("5 recordings: 2 classified")
    code, out, err = classify("*.mp3")
    assert (code, out, err.count("\n")) == (65, "", 1)


def test_recordings_shorter_than_a_chosen_window(classify: Callable) -> None:
    code, out, err = classify(".", "--window_seconds", "0.6", "--hop_seconds", "0.3", "--aggregate", "max")
    assert code == 65
    assert "[AST-E103] 'b.wav'" in err
    assert len(out.splitlines()) == 15  # three labels of five recordings


def test_a_recording_that_is_removed_meanwhile(
    classify: Callable, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("1.wav", "2.wav", "3.wav"):
        (tmp_path / name).write_bytes((folder / "b.wav").read_bytes())
    real = ASTAudioClassificationPipeline.classify_recording

    def call(self: Any, name: str, **given: Any) -> Any:
        (tmp_path / "2.wav").unlink(missing_ok=True)
        return real(self, name, **given)

    monkeypatch.setattr(ASTAudioClassificationPipeline, "classify_recording", call)
    code, out, err = classify(tmp_path)
    assert code == 65
    assert "AST-E206" in err
    assert list(dict.fromkeys(Path(line.split("\t")[0]).name for line in out.splitlines())) == [
        "1.wav",
        "3.wav",
    ]


# ---------------------------------------------------------------- interruptions


def interrupted(monkeypatch: pytest.MonkeyPatch, count: int, number: int) -> None:
    """Let a signal arrive while the recording after the first `count` is classified."""
    real = ASTAudioClassificationPipeline.classify_recording
    calls: list[str] = []

    def call(self: Any, name: str, **given: Any) -> Any:
        calls.append(name)
        if len(calls) == count + 1:
            os.kill(os.getpid(), number)
        return real(self, name, **given)

    monkeypatch.setattr(ASTAudioClassificationPipeline, "classify_recording", call)


@pytest.mark.parametrize(("count", "format"), [(0, "csv"), (2, "json"), (3, "parquet"), (5, "raven")])
def test_an_interrupted_batch_ends_with_the_same_bytes(
    count: int, format: str, classify: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [".", *KINDS["events"], "--format", format, "--output"]
    assert classify(*words, tmp_path / "whole")[0] == 0
    with monkeypatch.context() as patch:
        interrupted(patch, count, signal.SIGTERM)
        assert classify(*words, tmp_path / "parts")[0] == 143
    assert list(files_in(tmp_path / "parts")) == [NAME]
    if count:
        assert "AST-E306" in classify(*words, tmp_path / "parts")[2]
    with monkeypatch.context() as patch:
        interrupted(patch, 5 - count, signal.SIGTERM)  # in the last recording
        assert classify(*words, tmp_path / "parts", "--resume")[0] == 143
    assert classify(*words, tmp_path / "parts", "--resume")[0] == 0
    assert files_in(tmp_path / "parts") == files_in(tmp_path / "whole")


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_ends_with_the_command_that_continues(
    number: int, name: str, classify: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, 2, number)
    handler = signal.getsignal(number)
    code, _, err = classify("--output", tmp_path / "new folder", "--", "A.WAV", "b.wav", "z.aiff")
    assert code == 128 + number
    last = err.splitlines()[-1]
    assert last.startswith(f"stopped by {name} after 2 of 3 recordings; continue with: ")
    assert re.search(r" classify --resume \S+ --output '.*new folder' -- A\.WAV b\.wav z\.aiff$", last)
    assert signal.getsignal(number) is handler


def test_a_signal_without_output(classify: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(monkeypatch, 1, signal.SIGINT)
    code, out, err = classify("A.WAV", "b.wav")
    assert (code, len(out.splitlines())) == (130, 3)
    assert err.splitlines()[-1] == "stopped by SIGINT after 1 of 2 recordings"


def test_recordings_that_changed_came_or_went_meanwhile(
    classify: Callable, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "in"
    place.mkdir()
    for name in ("1.wav", "2.wav", "3.wav", "4.wav"):
        (place / name).write_bytes((folder / "b.wav").read_bytes())
    with monkeypatch.context() as patch:
        interrupted(patch, 3, signal.SIGTERM)
        assert classify(place, "--output", tmp_path / "parts")[0] == 143
    (place / "1.wav").write_bytes((folder / "A.WAV").read_bytes())
    (place / "2.wav").unlink()
    (place / "0.wav").write_bytes((folder / "z.aiff").read_bytes())
    assert classify(place, "--output", tmp_path / "parts", "--resume")[0] == 0
    assert classify(place, "--output", tmp_path / "whole")[0] == 0
    assert files_in(tmp_path / "parts") == files_in(tmp_path / "whole")


def test_another_model_or_another_batch_size(
    classify: Callable, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupted(patch, 2, signal.SIGTERM)
        classify(".", "--output", tmp_path / "out")
    other = tmp_path / "model"
    model = ASTForAudioClassification.from_pretrained(tiny_checkpoint)
    extractor = ASTFeatureExtractor.from_pretrained(tiny_checkpoint)
    with torch.no_grad():
        model.classifier.dense.bias[0] += 1e-3
    model.save_pretrained(other)
    extractor.save_pretrained(other)
    code, _, err = classify(".", "--output", tmp_path / "out", "--resume", model=other)
    assert code == 65
    assert "AST-E306" in err
    assert "started with model" in err
    ASTForAudioClassification.from_pretrained(tiny_checkpoint).save_pretrained(other)
    extractor.mean = -5.0
    extractor.save_pretrained(other)
    assert "started with model" in classify(".", "--output", tmp_path / "out", "--resume", model=other)[2]
    extractor = ASTFeatureExtractor.from_pretrained(tiny_checkpoint)
    extractor.save_pretrained(other)  # a copy in another place
    words = (".", "--output", tmp_path / "out", "--resume", "--batch_size", "2")
    assert classify(*words, model=other)[0] == 0


def test_nothing_to_resume(classify: Callable, tmp_path: Path) -> None:
    assert classify(".", "--output", tmp_path / "out", "--resume")[0] == 0
    files = files_in(tmp_path / "out")
    assert classify(".", "--output", tmp_path / "out", "--resume")[0] == 0
    assert classify(".", "--output", tmp_path / "out")[0] == 0
    assert files_in(tmp_path / "out") == files


def test_two_processes(classify: Callable, tmp_path: Path) -> None:
    with Journal(tmp_path / "out", {}, resume=False):
        code, _, err = classify(".", "--output", tmp_path / "out", "--resume")
    assert code == 73
    assert "AST-E402" in err


def test_a_disk_that_fills_up(classify: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        real = Journal.add
        added: list[str] = []

        def add(self: Journal, entry: Any) -> None:
            added.append(entry.name)
            if len(added) == 3:
                self._file.close()
                self._file = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
            real(self, entry)

        patch.setattr(Journal, "add", add)
        code, _, err = classify(".", "--output", tmp_path / "out")
    assert code == 65
    assert re.search("AST-E401.*No space left.*run the same command with --resume", err)
    assert classify(".", "--output", tmp_path / "out", "--resume")[0] == 0
    assert classify(".", "--output", tmp_path / "whole")[0] == 0
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")


# ---------------------------------------------------------------- places


@pytest.mark.parametrize("format", ["csv", "audacity", "raven", "webvtt"])
def test_results_beside_the_recordings_are_not_read(
    format: str, classify: Callable, folder: Path, tmp_path: Path
) -> None:
    for name in ("1.wav", "2.wav"):
        (tmp_path / name).write_bytes((folder / "b.wav").read_bytes())
    words = [*KINDS["events"], "--format", format, "--output", tmp_path]
    assert classify(tmp_path, *words)[0] == 0
    files = files_in(tmp_path)
    assert len(files) == (3 if format == "csv" else 4)
    for word in (tmp_path, tmp_path / "*", tmp_path / "**"):
        assert classify(word, *words)[0] == 0
        assert files_in(tmp_path) == files


def test_pictures_of_several_recordings(classify: Callable, tmp_path: Path, folder: Path) -> None:
    words = ("day 1/x.*", *KINDS["events"], "--picture", tmp_path / "pictures")
    assert classify(*words)[0] == 0
    assert set(files_in(tmp_path / "pictures")) == {"x.wav.png", "x.flac.png"}


def test_a_picture_that_is_no_png(classify: Callable, tmp_path: Path) -> None:
    code, out, err = classify("b.wav", "--timeline", "--picture", tmp_path / "x.jpg")
    assert (code, out) == (65, "")
    assert "AST-E108" in err


def test_pictures_of_a_continued_batch(
    classify: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    real = classification_output.Pictures.draw

    def draw(self: Any, entry: Any) -> None:
        drawn.append(entry.name)
        real(self, entry)

    monkeypatch.setattr(classification_output.Pictures, "draw", draw)
    words = ("b.wav", "z.aiff", *KINDS["events"], "--output", tmp_path / "out", "--picture", tmp_path / "png")
    with monkeypatch.context() as patch:
        interrupted(patch, 1, signal.SIGTERM)
        assert classify(*words)[0] == 143
    assert classify(*words, "--resume")[0] == 0
    assert drawn == ["b.wav", "z.aiff"]
    assert set(files_in(tmp_path / "png")) == {"b.png", "z.png"}


# ---------------------------------------------------------------- bars


class Terminal(io.StringIO):
    """Stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("is_terminal", [True, False])
def test_bars_are_for_terminals(
    is_terminal: bool, classify: Callable, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    stream = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(progress, "_DELAY", 0.0)
    assert classify(".", "none.wav")[0] == 65
    text = stream.getvalue()
    assert text.endswith("7 recordings: 6 classified (0.1 min of audio), 1 not\n")
    assert ("/7 [" in text) is is_terminal
    assert ("'day 1/x.wav'" in text) is is_terminal  # the seconds of one recording
    assert text.count("AST-E206") == 1


def test_open_files_do_not_pile_up(classify: Callable, mixed: Path) -> None:
    handles = Path("/proc/self/fd")
    if not handles.is_dir():
        pytest.skip("only Linux lists the open files of a process")
    classify(mixed)
    before = len(list(handles.iterdir()))
    classify(mixed)
    assert len(list(handles.iterdir())) == before


def test_the_pipeline_gives_the_same_scores(classify: Callable, tiny_checkpoint: Path) -> None:
    from transformers import pipeline

    code, out, _ = classify("day 1/x.wav", "--format", "json", "--batch_size", "3")
    expected = pipeline("audio-classification", model=str(tiny_checkpoint))("day 1/x.wav", top_k=3)
    (result,) = json.loads(out)
    for row, other in zip(result["scores"], expected, strict=True):
        assert row["label"] == other["label"]
        assert row["score"] == pytest.approx(other["score"], abs=1e-5)
    assert code == 0


def test_a_timeline_without_events_is_said(capsys: pytest.CaptureFixture) -> None:
    from ast_hf.batch.journal import Entry
    from ast_hf.commands.classification_output import report

    report(Entry("quiet.wav", None, [], 3.0, None), "events", is_text=True)
    assert capsys.readouterr() == ("", "quiet.wav: no events\n")
