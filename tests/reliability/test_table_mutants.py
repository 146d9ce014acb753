"""A seeded fuzzer of tables: no mutant of a valid table crashes, hangs, or loses a row without a word.

A row is lost if its line stands unchanged below an unchanged head line, and the table is accepted without it.
"""

from __future__ import annotations

import json
import random
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from pyarrow import parquet

from ast_hf import AstHfError
from ast_hf.data.splits import label_names
from ast_hf.training import load_audio_dataset

from .cases import FULL, record

#: Mutants of each format of text, and of Parquet; seconds that one may take.
TEXTS = 9_400 if FULL else 550
PARQUETS = 3_000 if FULL else 250
BATCHES = 5
SECONDS = 10.0

ROWS = [
    {"path": f"clips/{number}.wav", "label": label, "split": split, "note": note}
    for number, (label, split, note) in enumerate(
        [
            ("cat", "train", ""),
            ("dog", "train", "calm, then loud"),
            ("a b", "test", 'says "no"'),
            ("öl", "train", "x"),
            ("cat", "test", "1.5"),
            ("dog", "train", "two\nlines"),
            ("cat", "train", "[1, 2]"),
            ("öl", "test", "end"),
        ]
    )
]
COLUMNS = tuple(ROWS[0])

#: What a bad export, merge or copy inserts.
TOKENS = [
    *(
        b'"',
        b'""',
        b"'",
        b",",
        b";",
        b"\t",
        b"|",
        b"\n",
        b"\r",
        b"\r\n",
        b"\0",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xc3",
        b"\xe2\x80\xa8",
        b"\x85",
        b"nan",
        b"null",
        b"NaN",
        b"-1",
        b"#",
        b"\x1b[0m",
    ),
    *(b'"\n"', b',"', b'",', b"1e999", b"\\ud800", b"true", b"=1+1", b" "),
]


def _separated(separator: str) -> bytes:
    def cell(text: str) -> str:
        quoted = '"' + text.replace('"', '""') + '"'
        return quoted if any(mark in text for mark in (separator, '"', "\n")) else text

    lines = [separator.join(COLUMNS), *(separator.join(cell(row[name]) for name in COLUMNS) for row in ROWS)]
    return ("\n".join(lines) + "\n").encode()


def _lines_of_json() -> list[str]:
    return [json.dumps(row, ensure_ascii=False) for row in ROWS]


FORMATS: dict[str, bytes] = {
    "commas.csv": _separated(","),
    "semicolons.csv": _separated(";"),
    "tabs.tsv": _separated("\t"),
    "lines.jsonl": ("\n".join(_lines_of_json()) + "\n").encode(),
    "list.json": ("[\n" + ",\n".join(_lines_of_json()) + "\n]\n").encode(),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "clips").mkdir()
    for row in ROWS:
        soundfile.write(tmp_path / row["path"], np.full(800, 0.25), 16_000)
    return tmp_path


def _flip(content: bytearray, draw: random.Random) -> None:
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def _insert(content: bytearray, draw: random.Random) -> None:
    place = draw.randrange(len(content) + 1)
    content[place:place] = draw.choice(TOKENS)


def _replace(content: bytearray, draw: random.Random) -> None:
    place = draw.randrange(len(content))
    content[place : place + draw.randrange(1, 4)] = draw.choice(TOKENS)


def _delete(content: bytearray, draw: random.Random) -> None:
    place = draw.randrange(len(content))
    del content[place : place + draw.choice([1, 1, 2, 5, 40])]


def _cut(content: bytearray, draw: random.Random) -> None:
    del content[draw.randrange(len(content)) :]


def _repeat(content: bytearray, draw: random.Random) -> None:
    place = draw.randrange(len(content))
    part = content[place : place + draw.randrange(1, 60)]
    content[place:place] = part


def _move_lines(content: bytearray, draw: random.Random) -> None:
    lines = content.split(b"\n")
    draw.shuffle(lines)
    content[:] = b"\n".join(lines)


def _join_lines(content: bytearray, draw: random.Random) -> None:
    places = [place for place, byte in enumerate(content) if byte == ord("\n")]
    if places:
        del content[draw.choice(places)]


def _quote_at_edges(content: bytearray, draw: random.Random) -> None:
    """Insert two quotes next to separators or line ends, where they open and close a cell."""
    edges = [place for place, byte in enumerate(content) if byte in b",;\t\n"]
    for place in sorted(draw.sample(edges, min(2, len(edges))), reverse=True):
        content[place + draw.randrange(2) : place + 1] = (
            b'"' if draw.random() < 0.5 else content[place : place + 1] + b'"'
        )


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    *(_flip, _insert, _insert, _replace, _delete, _cut, _repeat, _move_lines, _join_lines, _quote_at_edges)
]


def mutant(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        if changed:
            draw.choice(MUTATIONS)(changed, draw)
    return bytes(changed)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"no answer after {seconds:g} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def read(path: Path) -> Counter[tuple[str, str]] | None:
    """Return (path, label) of all rows, None for a table that is refused with an error of ours."""
    refusal = None
    with warnings.catch_warnings(), limited(SECONDS):
        warnings.simplefilter("ignore")
        try:
            splits = load_audio_dataset(path)
        except AstHfError as problem:
            refusal = problem
    if refusal is not None:
        assert refusal.code in ("E107", "E206", "E208", "E209"), refusal
        assert len(str(refusal)) < 2_000
        return None
    rows = Counter[tuple[str, str]]()
    for part in splits.values():
        names = label_names(part)
        for row in part:
            labels = row["labels"] if "labels" in row else [row["label"]]
            rows.update((Path(row["audio"]["path"]).name, names[index]) for index in labels)
    return rows


def unchanged(content: bytes, original: bytes, *, has_head: bool) -> Counter[tuple[str, str]]:
    """Return (path, label) of the rows whose lines stand unchanged in a mutant; none if its head line does not."""
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    originals = original.split(b"\n")
    if has_head and next((line for line in lines if line.strip()), b"") != originals[0]:
        return Counter()
    counts = Counter(lines)
    names = {
        f"{Path(row['path']).name}": row["label"] for row in ROWS if "\n" not in row["note"] or not has_head
    }
    standing = Counter[tuple[str, str]]()
    for name, label in names.items():
        line = next(line for line in originals if f"clips/{name}".encode() in line)
        standing[name, label] = counts[line] + counts[line.rstrip(b",")] * (
            not has_head and line.endswith(b",")
        )
    return +standing


@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("name", FORMATS)
def test_no_row_of_a_mutant_is_lost(folder: Path, name: str, batch: int) -> None:
    original = FORMATS[name]
    path = folder / name
    path.write_bytes(original)
    assert read(path) == Counter((Path(row["path"]).name, row["label"]) for row in ROWS)
    accepted = 0
    for number in range(batch, TEXTS, BATCHES):
        content = mutant(original, random.Random(f"{name} {number}"))
        path.write_bytes(content)
        try:
            rows = read(path)
            if rows is None:
                continue
            accepted += 1
            lost = unchanged(content, original, has_head=not name.endswith(("jsonl", "json"))) - rows
            assert not lost, f"lost {dict(lost)}"
            assert not any("\n" in label or not label for _, label in rows), rows
        except Exception as problem:
            raise AssertionError(f"{name} mutant {number}: {content!r}") from problem
    record(f"mutants of {name}, batch {batch}", mutants=len(range(batch, TEXTS, BATCHES)), accepted=accepted)


def _parquet(path: Path) -> bytes:
    columns: dict[str, Any] = {column: [row[column] for row in ROWS] for column in COLUMNS}
    parquet.write_table(pa.table(columns), path, compression="snappy")
    return path.read_bytes()


@pytest.mark.parametrize("batch", range(BATCHES))
def test_mutants_of_parquet_are_read_in_full_or_refused(folder: Path, batch: int) -> None:
    path = folder / "x.parquet"
    original = _parquet(path)
    accepted = 0
    for number in range(batch, PARQUETS, BATCHES):
        path = folder / f"{number}.parquet"
        path.write_bytes(mutant(original, random.Random(f"parquet {number}")))
        try:
            rows = read(path)
            if rows is not None:
                accepted += 1
                assert sum(rows.values()) == parquet.read_metadata(path).num_rows
        except Exception as problem:
            raise AssertionError(f"mutant {number} of Parquet") from problem
        path.unlink()
    record(
        f"mutants of Parquet, batch {batch}", mutants=len(range(batch, PARQUETS, BATCHES)), accepted=accepted
    )
