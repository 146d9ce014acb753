"""Recordings of a batch, its journal, and the names of its files: without a model."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ast_hf import AstHfError, AstHfWarning
from ast_hf.batch import journal as journal_module
from ast_hf.batch.inputs import find_recordings
from ast_hf.batch.journal import NAME, Entry, Journal, stamp_of
from ast_hf.batch.result_files import check_results, file_names, write_files
from ast_hf.batch.runner import Batch, classify_batch

SETTINGS = {"model": "abc", "threshold": 0.5}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with files that have names and no content."""
    for name in (
        *("b.wav", "A.WAV", "a[1].wav", "a1.wav", "notes.txt", "-x.wav", "b.labels.txt", "results.csv"),
        *("day 1/c.flac", "day 1/deep/d.ogg", "day 2/e.mp3", "empty/readme.md", "new\nline\t🎵.wav"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["b.wav", "a1.wav"], ["b.wav", "a1.wav"]),
        (["b.wav", "./b.wav", "day 1/../b.wav", "b.wav"], ["b.wav"]),
        (["day 1"], ["day 1/c.flac", "day 1/deep/d.ogg"]),
        (["day 2/", "day 1/c.flac", "day 1"], ["day 2/e.mp3", "day 1/c.flac", "day 1/deep/d.ogg"]),
        (["a[1].wav"], ["a[1].wav"]),
        (["[a]1.wav"], ["a1.wav"]),
        (["?.wav"], ["b.wav"]),
        (["*.wav"], ["-x.wav", "a1.wav", "a[1].wav", "b.wav", "new\nline\t🎵.wav"]),
        (["b*"], ["b.wav"]),
        (["*.txt"], ["b.labels.txt", "notes.txt"]),
        (["day*"], ["day 1/c.flac", "day 1/deep/d.ogg", "day 2/e.mp3"]),
        (["**/*.ogg"], ["day 1/deep/d.ogg"]),
        (["day 1/**"], ["day 1/c.flac", "day 1/deep/d.ogg"]),
        (["missing.wav", "b.wav"], ["missing.wav", "b.wav"]),
        (["-x.wav"], ["-x.wav"]),
        (["https://example.org/a.wav?x=[1]"], ["https://example.org/a.wav?x=[1]"]),
    ],
)
def test_recordings_are_found_in_the_order_of_the_words(
    words: list[str], names: list[str], tree: Path
) -> None:
    found = find_recordings(words)
    assert found.names == names
    assert not found.problems


def test_a_folder_has_its_audio_files_only(tree: Path) -> None:
    names = find_recordings(["."]).names
    assert names == [
        *("-x.wav", "A.WAV", "a1.wav", "a[1].wav", "b.wav", "day 1/c.flac", "day 1/deep/d.ogg"),
        *("day 2/e.mp3", "new\nline\t🎵.wav"),
    ]


@pytest.mark.parametrize(
    ("word", "code"),
    [("empty", "E209"), ("*.xyz", "E206"), ("day 1/*.wav", "E206"), ("", "E206"), ("emp*", "E209")],
)
def test_words_without_recordings(word: str, code: str, tree: Path) -> None:
    with pytest.raises(AstHfError, match=code):
        find_recordings([word])
    found = find_recordings(["a1.wav", word, "b.wav"])
    assert found.names == ["a1.wav", word, "b.wav"]
    assert [problem.code for problem in found.problems.values()] == [code]


def test_names_that_no_disk_allows_are_left_to_the_reader(tree: Path) -> None:
    words = ["x" * 5_000, "a\0b.wav", "b.wav/below.wav"]
    assert find_recordings(words).names == words


def test_links_are_followed_once(tree: Path) -> None:
    (tree / "day 2" / "up").symlink_to(tree / "day 2")
    (tree / "day 2" / "gone.wav").symlink_to(tree / "nothing")
    with pytest.warns(AstHfWarning, match=r"W205.*day 2.*read already"):
        assert find_recordings(["day 2"]).names == ["day 2/e.mp3", "day 2/gone.wav"]


def test_a_folder_that_cannot_be_listed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rights of a file do not stop root, who runs many tests."""
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "deep":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_recordings(["day 1"])
    assert found.names == ["day 1/c.flac", "day 1/deep"]
    assert [(name, problem.code) for name, problem in found.problems.items()] == [("day 1/deep", "E206")]
    with pytest.raises(AstHfError, match=r"E206.*Permission denied"):
        find_recordings(["day 1/deep"])


# ---------------------------------------------------------------- names of files


@pytest.mark.parametrize(
    ("recordings", "names"),
    [
        (["in/x.wav"], ["x.vtt"]),
        (["in/x.wav", "in/sub/x.wav"], ["x.vtt", "sub/x.vtt"]),
        (["in/x.wav", "in/x.flac", "in/y.wav"], ["x.wav.vtt", "x.flac.vtt", "y.vtt"]),
        (["x.wav", "x.wav.wav"], ["x.vtt", "x.wav.wav.vtt"]),
        (["x.wav", "x"], ["x.wav.vtt", "x.vtt"]),
        (["x", "y.1", "y.2"], ["x.vtt", "y.1.vtt", "y.2.vtt"]),
        (["a/../b/x.wav", "./b/y.wav"], ["x.vtt", "y.vtt"]),
        ([], []),
    ],
)
def test_names_of_files(recordings: list[str], names: list[str]) -> None:
    assert file_names(recordings, ".vtt") == names


PARTS = st.text(st.sampled_from("ab.é🎵"), min_size=1, max_size=90).filter(lambda part: part.strip("."))


@given(st.lists(st.lists(PARTS, min_size=1, max_size=2).map("/".join), unique=True, max_size=8))
def test_names_of_files_differ_and_fit_a_disk(recordings: list[str]) -> None:
    names = file_names(recordings, ".selections.txt")
    assert len(set(names)) == len(recordings)
    assert all(len(os.fsencode(Path(name).name)) <= 255 for name in names)
    assert all(name.endswith(".selections.txt") for name in names)


def entry(name: str, score: float = 0.5, **changes: Any) -> Entry:
    content = [{"score": score, "label": "cat", "start": 0.0, "end": 1.5}]
    return Entry(name, stamp_of(name), content, 1.5, None)._replace(**changes)


def test_files_of_results(tmp_path: Path) -> None:
    bad = entry("in/bad.wav", content=None, problem="it is bad")
    (tmp_path / "bad.labels.txt").write_text("old")
    (tmp_path / "other.labels.txt").write_text("of the user")
    (tmp_path / ".good.labels.123.part.txt").write_text("of a process that was killed")
    paths = write_files([entry("in/good.wav"), bad], tmp_path, "audacity", "events", 8_000.0)
    assert paths == [tmp_path / "good.labels.txt"]
    assert {path.name for path in tmp_path.iterdir()} == {"good.labels.txt", "other.labels.txt"}
    assert paths[0].read_text() == "0.000000\t1.500000\tcat\n"


def test_names_that_are_long_or_not_unicode(tmp_path: Path) -> None:
    names = ["in/" + "🎵" * 62 + ".wav", os.fsdecode(b"in/bytes\xe9.wav")]
    paths = write_files([*map(entry, names)], tmp_path, "raven", "events", 8_000.0)
    assert all(path.is_file() for path in paths)
    assert os.fsencode(paths[1].name) == b"bytes\xe9.selections.txt"


@pytest.mark.parametrize("format", ["csv", "raven"])
def test_places_that_cannot_be_written(format: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "results.csv").mkdir(parents=True)
    check_results(tmp_path / "new" / "folder", format)
    assert not (tmp_path / "new").exists()
    places = ["file", "file/below", "folder"] if format == "csv" else ["file", "file/below"]
    for place in places:
        with pytest.raises(AstHfError, match="E401"):
            check_results(tmp_path / place, format)


# ---------------------------------------------------------------- the journal


def lines_of(folder: Path) -> list[bytes]:
    return (folder / NAME).read_bytes().splitlines(keepends=True)


def write_journal(folder: Path, names: list[str]) -> bytes:
    with Journal(folder, SETTINGS, resume=False) as journal:
        for name in names:
            journal.add(entry(name))
    return (folder / NAME).read_bytes()


@pytest.fixture
def recordings(tmp_path: Path) -> list[str]:
    names = [str(tmp_path / f"{number} é\n.wav") for number in range(3)]
    for name in names:
        Path(name).write_bytes(b"1234")
    return names


def test_a_journal_is_continued(tmp_path: Path, recordings: list[str]) -> None:
    write_journal(tmp_path, recordings[:2])
    with Journal(tmp_path, SETTINGS, resume=True) as journal:
        assert [journal.finished(name) for name in recordings] == [*map(entry, recordings[:2]), None]
        journal.add(entry(recordings[2]))
        journal.finish(is_complete=True)
    assert not (tmp_path / NAME).exists()


def test_a_journal_that_is_cut_anywhere(tmp_path: Path, recordings: list[str]) -> None:
    """As after a kill, or on a full disk: whole lines count."""
    content = write_journal(tmp_path, recordings)
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for size in {*range(0, len(content), 7), *ends, *(end - 1 for end in ends)}:
        (tmp_path / NAME).write_bytes(content[:size])
        with Journal(tmp_path, SETTINGS, resume=True) as journal:
            whole = max(sum(end <= size for end in ends) - 1, 0)
            assert [journal.finished(name) is not None for name in recordings] == [
                number < whole for number in range(3)
            ]
        assert lines_of(tmp_path) == content.splitlines(keepends=True)[: whole + 1]


def test_files_that_changed_or_failed_are_classified_again(tmp_path: Path, recordings: list[str]) -> None:
    with Journal(tmp_path, SETTINGS, resume=False) as journal:
        journal.add(entry(recordings[0]))
        journal.add(entry(recordings[1], problem="half of it is damaged"))
        journal.add(entry(recordings[2]))
    Path(recordings[0]).write_bytes(b"12345")
    Path(recordings[2]).unlink()
    with Journal(tmp_path, SETTINGS, resume=True) as journal:
        assert [journal.finished(name) for name in recordings] == [None, None, None]


def test_unfinished_work_is_not_overwritten(tmp_path: Path, recordings: list[str]) -> None:
    content = write_journal(tmp_path, recordings)
    with pytest.raises(AstHfError, match=r"E306.*not finished.*--resume"):
        Journal(tmp_path, SETTINGS, resume=False)
    assert (tmp_path / NAME).read_bytes() == content


def test_a_finished_journal_and_one_without_work_are_overwritten(
    tmp_path: Path, recordings: list[str]
) -> None:
    write_journal(tmp_path, [])
    with Journal(tmp_path, SETTINGS, resume=False) as journal:
        journal.add(entry(recordings[0], content=None, problem="bad"))
        journal.finish(is_complete=False)
    with Journal(tmp_path, SETTINGS, resume=True) as journal:
        assert journal.finished(recordings[0]) is None
    write_journal(tmp_path, recordings[:1])
    assert len(lines_of(tmp_path)) == 2


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({**SETTINGS, "model": "xyz"}, "was started with model 'abc', and this command has 'xyz'"),
        ({"model": "abc"}, "was started with threshold 0.5, and this command has None"),
        ({**SETTINGS, "hop_seconds": 1.0}, "was started with hop_seconds None, and this command has 1.0"),
    ],
)
def test_other_settings(settings: dict, text: str, tmp_path: Path, recordings: list[str]) -> None:
    content = write_journal(tmp_path, recordings)
    with pytest.raises(AstHfError, match="E306") as caught:
        Journal(tmp_path, settings, resume=True)
    assert text in str(caught.value)
    assert caught.value.detail == "mismatch"
    assert (tmp_path / NAME).read_bytes() == content


def test_other_versions(tmp_path: Path, recordings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_journal(tmp_path, recordings)
    monkeypatch.setattr(journal_module, "result_versions", lambda: {"torch": "1.0"})
    with pytest.raises(AstHfError, match=r"E306.*was started with torch '.*', and this command has '1\.0'"):
        Journal(tmp_path, SETTINGS, resume=True)


def replaced(number: int, line: bytes) -> Callable[[list[bytes]], None]:
    return lambda lines: lines.__setitem__(number, line)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (replaced(0, b"\x00\xff\n"), "line 1"),
        (replaced(0, b"[]\n"), "does not begin with settings"),
        (replaced(0, b'{"settings": 3}\n'), "does not begin with settings"),
        (replaced(2, b"\n"), "line 3"),
        (replaced(2, b"5\n"), "line 3"),
        (replaced(2, b'{"name": "x"}\n'), "line 3"),
        (replaced(2, b"[" * 100_000 + b"\n"), "line 3"),
        (replaced(2, b'{"name": 3, "stamp": null, "content": 7, "seconds": 0, "problem": 1}\n'), "line 3"),
        (lambda lines: lines.__setitem__(2, lines[2][:-40] + b"\n"), "line 3"),
    ],
)
def test_a_damaged_journal(
    change: Callable[[list[bytes]], None], place: str, tmp_path: Path, recordings: list[str]
) -> None:
    write_journal(tmp_path, recordings)
    lines = lines_of(tmp_path)
    change(lines)
    (tmp_path / NAME).write_bytes(b"".join(lines))
    with pytest.raises(AstHfError, match=f"E306.*{place}") as caught:
        Journal(tmp_path, SETTINGS, resume=True)
    assert caught.value.detail == "unreadable"


def test_one_process_at_a_time(tmp_path: Path, recordings: list[str]) -> None:
    with Journal(tmp_path, SETTINGS, resume=False) as journal:
        journal.add(entry(recordings[0]))
        for resume in (False, True):
            with pytest.raises(AstHfError, match="E402"):
                Journal(tmp_path, SETTINGS, resume=resume)
    Journal(tmp_path, SETTINGS, resume=True).__exit__(None, None, None)


def test_a_journal_that_is_removed_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that finishes removes its journal, which another one may have opened."""
    real = journal_module.lock
    calls: list[int] = []

    def lock(handle: int) -> bool | None:
        if not calls:
            (tmp_path / NAME).unlink()
        calls.append(handle)
        return real(handle)

    monkeypatch.setattr(journal_module, "lock", lock)
    write_journal(tmp_path, [])
    assert len(calls) == 2
    assert len(lines_of(tmp_path)) == 1


def test_a_full_disk(tmp_path: Path, recordings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path, SETTINGS, resume=False) as journal:

        def fsync(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(AstHfError, match="E401") as caught:
            journal.add(entry(recordings[0]))
        assert caught.value.detail == "full"


# ---------------------------------------------------------------- the loop


class Classifier:
    """Pipeline of which only `classify_recording` is there."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.calls: list[str] = []

    def classify_recording(self, name: str, **_: Any) -> Any:
        self.calls.append(name)
        return self.answers[name], type("Recording", (), {"seconds": 1.0, "warning": None})


def test_entries_come_in_order_and_are_noted(tmp_path: Path, recordings: list[str]) -> None:
    scores = [{"score": 0.5, "label": "cat"}]
    classifier = Classifier(dict.fromkeys(recordings, scores))
    problem = AstHfError("E206", "'x'", "matches nothing", "check it")
    batch = Batch([recordings[1], "x", *recordings[::2]], {}, "clips", problems={"x": problem})
    finished: list[str] = []

    def run(count: int) -> list[Entry]:
        with Journal(tmp_path, SETTINGS, resume=True) as journal:
            loop = classify_batch(classifier, batch, journal, lambda entry: finished.append(entry.name))
            return [entry for entry, _ in zip(loop, range(count), strict=False)]

    assert [entry.name for entry in run(2)] == [recordings[1], "x"]
    entries = run(4)
    assert [entry.name for entry in entries] == list(batch.recordings)
    assert [entry.content for entry in entries] == [scores, None, scores, scores]
    assert entries[1].problem == str(problem)
    assert sorted(finished) == sorted(classifier.calls)
    assert len([json.loads(line) for line in lines_of(tmp_path)]) == 4


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["clips", "windows"])
def test_scores_that_are_no_numbers_are_a_problem_of_their_recording(kind: str, score: float) -> None:
    scores = [{"score": score, "label": "cat"}]
    content = scores if kind == "clips" else [{"start": 0.0, "end": 1.0, "scores": scores}]
    (only,) = classify_batch(Classifier({"x": content}), Batch(["x"], {}, kind))
    assert only.content is None
    assert "E104" in str(only.problem)
