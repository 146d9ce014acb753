"""Table C, tables and labels: what is read of CSV, TSV, JSONL, JSON and Parquet, and what is refused."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
from datasets import ClassLabel, Dataset, Features, List, Value
from pyarrow import parquet

from .cases import Case, Right

LABELS = ("cat", "dog", "dog", "cat", "cat", "dog", "cat", "dog")
Clips = list[tuple[str, Any]]


def _wav() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full(1_600, 0.25), 16_000, format="WAV")
    return file.getvalue()


def clips(folder: Path, count: int = 12) -> Path:
    """Write `0.wav`, `1.wav`, ... of 0.1 s."""
    for number in range(count):
        (folder / f"{number}.wav").write_bytes(_wav())
    return folder


def ours(source: Any, **options: Any) -> Clips:
    """Return (file, label) of each row, and raise for data that cannot be trained on only if reading does."""
    import datasets

    from ast_hf.data.splits import label_names
    from ast_hf.training import load_audio_dataset

    if isinstance(source, Path):
        datasets.config.HF_DATASETS_CACHE = source.parent / "cache"
    rows: Clips = []
    for part in load_audio_dataset(source, **options).values():
        names = label_names(part)
        for row in part:
            label = [names[index] for index in row["labels"]] if "labels" in row else names[row["label"]]
            rows.append((Path(row["audio"]["path"] or "").name, label))
    return rows


def class_order(source: Path) -> list[str]:
    """Return the names of the classes by index."""
    from ast_hf.data.splits import label_names
    from ast_hf.training import load_audio_dataset

    return label_names(load_audio_dataset(source)["train"])


def trained(source: Any) -> Clips:
    """Return the rows of data that pass the checks before training."""
    from ast_hf.data.splits import check_splits
    from ast_hf.training import load_audio_dataset

    splits = load_audio_dataset(source)
    check_splits(splits, "train", [name for name in splits if name != "train"])
    return ours(source)


def stock(source: Any) -> Clips:
    """Return (file, label) as `datasets.load_dataset` reads the file, its labels encoded as classes."""
    import datasets

    kind = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}[
        source.suffix
    ]
    options = {"sep": "\t"} if source.suffix == ".tsv" else {}
    if source.read_bytes().startswith(b"path;"):
        options = {"sep": ";"}
    cache = str(source.parent / "cache")
    table = datasets.load_dataset(kind, data_files=str(source), split="train", cache_dir=cache, **options)
    file, label = table.column_names[:2]
    names = table.class_encode_column(label).features[label].names
    assert names
    return [(Path(str(row[file])).name, row[label]) for row in table]


def text(content: str | bytes, name: str = "x.csv", count: int = 12) -> Callable[[Path], Path]:
    """Return the preparation of a table with a text."""

    def prepare(folder: Path) -> Path:
        path = clips(folder, count) / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return prepare


def rows(cells: Sequence[str], head: str = "path,label", separator: str = ",") -> str:
    """Return a CSV text with a row for each clip."""
    return "\n".join([head, *(f"{number}.wav{separator}{cell}" for number, cell in enumerate(cells))]) + "\n"


def lines(labels: Sequence[Any], key: str = "label") -> str:
    """Return JSON lines with a row for each clip."""
    return "".join(
        json.dumps({"path": f"{number}.wav", key: label}) + "\n" for number, label in enumerate(labels)
    )


def columns(**values: Any) -> Callable[[Path], Path]:
    """Return the preparation of a Parquet file; `path` names the clips unless it is given."""

    def prepare(folder: Path) -> Path:
        path = clips(folder) / "x.parquet"
        parquet.write_table(pa.table({**values}), path)
        return path

    return prepare


def indices(kind: Any, values: list) -> Callable[[Path], Path]:
    """Return the preparation of a Parquet file that declares its classes."""

    def prepare(folder: Path) -> Path:
        path = clips(folder) / "x.parquet"
        features = Features({"path": Value("string"), "label": kind})
        table = pa.table({"path": PATHS[: len(values)], "label": pa.array(values)})
        parquet.write_table(table.cast(features.arrow_schema), path)
        return path

    return prepare


def changed(change: Callable[[bytearray], Any]) -> Callable[[Path], Path]:
    """Return the preparation of a damaged Parquet file."""

    def prepare(folder: Path) -> Path:
        path = columns(path=PATHS, label=list(LABELS[:3]))(folder)
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)
        return path

    return prepare


def _flip(content: bytearray, place: int) -> None:
    content[place] ^= 0xFF


def _halve(content: bytearray) -> None:
    del content[len(content) // 2 :]


def in_memory(make: Callable[[], Any]) -> Callable[[Path], Any]:
    """Return the preparation of a source that is not a path."""
    return lambda folder: make()


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x.csv")
    return folder / "x.csv"


def _linked(folder: Path) -> Path:
    path = text(rows(LABELS))(folder)
    (folder / "1.wav").unlink()
    (folder / "1.wav").symlink_to("../.git/annex/objects/x")
    return path


def _decomposed(folder: Path) -> Path:
    path = text(rows(LABELS[:2]) + "caf\u00e9.wav,cat\n")(folder)
    (folder / "cafe\u0301.wav").write_bytes(_wav())
    return path


def equals(*labels: Any) -> Callable[[Any], bool]:
    """Return the check that the clips 0, 1, ... have these labels."""
    expected = [(f"{number}.wav", label) for number, label in enumerate(labels)]
    return lambda value: value == expected


def has_labels(*labels: Any) -> Callable[[Any], bool]:
    """Return the check of labels alone, for embedded audio without a name."""
    return lambda value: [label for _, label in value] == list(labels)


PATHS = ["0.wav", "1.wav", "2.wav"]
EIGHT = equals(*LABELS)


def _times(first: str, second: str) -> Callable[[Path], Path]:
    return text(f"path,label,{first},{second}\n0.wav,cat,0,0.05\n0.wav,dog,0.05,0.1\n1.wav,cat,0,0.1\n")


_TWO_COLUMNS = (
    '{"path": "0.wav", "label": "a", "labels": ["a", "b"]}\n'
    '{"path": "1.wav", "label": "b", "labels": ["b"]}\n'
)


def _note(*notes: str) -> str:
    return rows([f"{label},{note}" for label, note in zip(LABELS, notes, strict=True)], "path,label,note")


def _section(number: int, *cases: tuple[str, str, Callable[[Path], Any], Right]) -> list[Case]:
    """Return the rows `C<number>-<suffix>`, read by us and by `datasets`."""
    return [
        Case(f"C{number}-{suffix}", title, prepare, ours, right, stock)
        for suffix, title, prepare, right in cases
    ]


_KNOWN = [
    Case("C2", "path in a table without a file", text(rows([*LABELS, *"abcdef"])), ours, "E206", stock),
    Case(
        "C9",
        "class index without a name",
        indices(ClassLabel(names=["x", "y"]), [0, 1, 5]),
        ours,
        "E208",
        stock,
    ),
    Case("C10", "class index -1", indices(ClassLabel(names=["x", "y"]), [0, 1, -1]), ours, "E208", stock),
    Case(
        "C10-list",
        "class index -1 in a list",
        indices(List(ClassLabel(names=["x", "y"])), [[0], [1], [-1]]),
        ours,
        "E208",
        stock,
    ),
    Case("C11", "label null", text(lines(["cat", None, "dog"]), "x.jsonl"), ours, "E208", stock),
    Case(
        "C12",
        "labels 0, 1, ..., 10 as text, in the order of numbers",
        text(rows([str(n % 11) for n in range(12)])),
        class_order,
        lambda value: value == [str(n) for n in range(11)],
    ),
    Case("C14", "no column of labels", text(rows(LABELS, "path,kind")), ours, "E208"),
    Case(
        "C15", "numbers among names", text(lines([0, "dog", 2, "dog", 0, 2]), "x.jsonl"), ours, "W209", stock
    ),
    Case(
        "C16",
        "decimal numbers as labels",
        text(rows(["0.5", "1.25", "3.0", "0.5", "1.25", "3.0"])),
        ours,
        "W209",
        stock,
    ),
    Case("C17", "no column of paths", text("clip,label\na,cat\n"), ours, "E208"),
    Case("C18", "one class", text(rows(["cat", "cat"])), trained, "E209", stock),
    Case(
        "C19",
        "class without a clip to train on",
        text(rows(["cat,train", "dog,train", "owl,test"], "path,label,split")),
        trained,
        "E209",
        stock,
    ),
    Case("C20", "no rows", text("path,label\n"), ours, "E209", stock),
    Case(
        "C20-parquet",
        "no rows in Parquet",
        columns(path=pa.array([], pa.string()), label=pa.array([], pa.string())),
        ours,
        "E209",
        stock,
    ),
]


_QUOTES = _section(
    30,
    ("one", "one quote that is never closed", text(rows(["cat", '"dog', "dog", "cat"])), "E208"),
    ("first", "the same in the first row", text(rows(['"cat', "dog", "dog", "cat"])), "E208"),
    ("last", "the same in the last row", text(rows(["cat", "dog", "dog", '"cat'])), "E208"),
    ("head", "the same in the head line", text(rows(LABELS, 'path,"label')), "E208"),
    ("two", "two of them in a column that is not read", text(_note("x", '"x', "y", '"z', *"wxyz")), "E208"),
    ("closed", "two of them that enclose whole rows", text(_note("x", '"x', "y", 'z"', *"wxyz")), "E208"),
    (
        "tabs",
        "one in a table of tabs",
        text(rows(["cat", '"dog', "dog"], "path\tlabel", "\t"), "x.tsv"),
        "E208",
    ),
    (
        "semicolons",
        "one in a table of semicolons",
        text(rows(["cat", '"dog', "dog"], "path;label", ";")),
        "E208",
    ),
    ("large", "one above 130 kB of rows", text(rows(["cat", '"dog', *["cat"] * 15_000])), "E208"),
    ("after", "text after a closing quote", text(rows(["cat", '"dog"x', "dog"])), "E208"),
    ("line-label", "line break in a label", text(rows(["cat", '"do\ng"'])), "E208"),
    ("line-path", "line break in a path", text('path,label\n"0\n.wav",cat\n1.wav,dog\n'), "E208"),
    ("line-note", "line break in a column that is not read", text(_note("x", '"a\nb"', *"yzwxyz")), EIGHT),
    ("inside", "quote inside a cell without quotes", text(_note('5" disk', *"abcdefg")), EIGHT),
    ("twice", "quotes written twice", text(rows(['"a ""b"""', "dog"])), equals('a "b"', "dog")),
    (
        "space",
        "space after a closing quote",
        text(rows(['"cat" ,x', "dog,y"], "path,label,note")),
        equals("cat", "dog"),
    ),
)

_TEXTS = _section(
    31,
    ("cr", "line ends of old Macs", text(rows(LABELS).replace("\n", "\r")), EIGHT),
    (
        "mixed",
        "mixed line ends",
        text("path,label\r\n0.wav,cat\r1.wav,dog\n2.wav,dog"),
        equals("cat", "dog", "dog"),
    ),
    ("nul", "NUL character", text(rows(["c\0at", "dog"])), "E208"),
    ("utf16", "UTF-16", text(rows(LABELS).encode("utf-16")), "E208"),
    ("utf16-bare", "UTF-16 without its mark", text(rows(LABELS).encode("utf-16-le")), "E208"),
    ("latin1", "Latin-1", text(rows(["t\u00f6n", "dog"]).encode("latin-1")), "E208"),
    ("bom", "mark of UTF-8 at the beginning", text(b"\xef\xbb\xbf" + rows(LABELS).encode()), EIGHT),
    (
        "u2028",
        "line separator of Unicode in a label",
        text(rows(["a\u2028b", "dog"])),
        equals("a\u2028b", "dog"),
    ),
    (
        "u2028-json",
        "the same in JSON lines",
        text('{"path": "0.wav", "label": "a\u2028b"}\n', "x.jsonl"),
        equals("a\u2028b"),
    ),
    ("huge", "cell of 140 kB", text(rows(["cat", "d" * 140_000])), "E208"),
    ("long", "row with more cells than the head line", text(rows(["cat,x", "dog"])), "E208"),
    ("short", "row without a label", text(rows(LABELS) + "8.wav\n"), "E208"),
    ("headless", "no head line", text("0.wav,cat\n1.wav,dog\n"), "E208"),
    ("twice", "a column twice", text(rows(["cat,x", "dog,y"], "path,label,label")), "E208"),
    ("capitals", "other capitals in the head line", text(rows(LABELS, "Path,Label")), "E208"),
    ("comment", "comment above the head line", text("# made today\n" + rows(LABELS)), "E208"),
    ("comment-row", "comment between rows", text(rows(LABELS) + "# checked\n"), "E208"),
    ("pipe", "pipe in place of a table", _pipe, "E206"),
    ("deep", "JSON of 100,000 levels", text("[" * 100_000, "x.json"), "E208"),
    (
        "deep-label",
        "label of 100,000 levels",
        text('{"path": "0.wav", "label": ' + "[" * 100_000, "x.jsonl"),
        "E208",
    ),
    (
        "name-twice",
        "name twice in an object of JSON",
        text('{"path": "0.wav", "label": "a", "label": "b"}\n', "x.jsonl"),
        "E208",
    ),
    (
        "surrogate",
        "half a character in a label",
        text('{"path": "0.wav", "label": "\\ud800"}\n', "x.jsonl"),
        "E208",
    ),
)

_TIMES = _section(
    32,
    ("dcase", "times as onset, offset", _times("onset", "offset"), "W208"),
    ("time", "times as start_time, end_time", _times("start_time", "end_time"), "W208"),
    ("seconds", "times as start_s, end_s", _times("start_s", "end_s"), "W208"),
    ("capitals", "times as Start, End", _times("Start", "End"), "W208"),
    ("camel", "times as startTime, endTime", _times("startTime", "endTime"), "W208"),
    ("raven", "times as Begin Time (s), End Time (s)", _times("Begin Time (s)", "End Time (s)"), "W208"),
    ("ms", "times as start_ms, end_ms", _times("start_ms", "end_ms"), "W208"),
    ("frames", "times as start_frame, end_frame", _times("start_frame", "end_frame"), "W208"),
    ("t", "times as t0, t1", _times("t0", "t1"), "W208"),
    ("from", "times as from, to", _times("from", "to"), "W208"),
    ("praat", "times as xmin, xmax", _times("xmin", "xmax"), "W208"),
    ("duration", "times as onset, duration", _times("onset", "duration"), "W208"),
    ("nemo", "times as offset, duration", _times("offset", "duration"), "W208"),
    ("half", "times as start, duration", _times("start", "duration"), "W208"),
    ("stop", "times as start, stop", _times("start", "stop"), "W208"),
    ("alone", "only an onset", _times("onset", "x"), "W208"),
)

_LISTS = _section(
    33,
    ("pandas", "list written by pandas", text(rows(["\"['cat', 'x']\"", "dog"])), "E208"),
    ("json", "list of JSON in a cell", text(rows(['"[""cat"", ""x""]"', "dog"])), "E208"),
    ("numpy", "list written by NumPy", text(rows(["['cat' 'x']", "dog"])), "E208"),
    ("tuple", "tuple in a cell", text(rows(["\"('cat',)\"", "dog"])), "E208"),
    ("set", "set in a cell", text(rows(['"{cat, x}"', "dog"])), "E208"),
    ("comma", "two names in a cell", text(rows(['"cat,x"', "dog"])), "W206"),
    ("object", "object as a label", text(lines([{"name": "cat"}, {"name": "dog"}]), "x.jsonl"), "E208"),
    ("nested", "list in a list", text(lines([[["cat"]], [["dog"]]]), "x.jsonl"), "E208"),
    ("null", "null in a list", text(lines([["cat", None], ["dog"]]), "x.jsonl"), "E208"),
    ("nan", "NaN in a list", text(lines([["cat", float("nan")], ["dog"]]), "x.jsonl"), "E208"),
    ("list", "lists", text(lines([["cat", "x"], ["dog"]]), "x.jsonl"), equals(["cat", "x"], ["dog"])),
    ("vector", "0/1 vectors", text(lines([[1, 0, 0], [0, 1, 0]]), "x.jsonl"), "E208"),
    ("struct", "struct as a label", columns(path=PATHS, label=[{"name": "a"}] * 3), "E208"),
    ("bytes", "bytes as labels", columns(path=PATHS, label=[b"cat", b"dog", b"cat"]), "E208"),
)

_MISSING = _section(
    34,
    *(
        (f"text-{number}", f"label {name!r} in CSV", text(rows([name, *LABELS[1:]])), "E208")
        for number, name in enumerate(("nan", "NaN", "None", "null", "NA", "N/A", "<NA>"))
    ),
    ("empty", "empty label", text(rows(["", *LABELS[1:]])), "E208"),
    ("space", "label of spaces", text(rows(["  ", *LABELS[1:]])), "E208"),
    ("json-nan", "label NaN", text(lines([float("nan"), "cat", "dog"]), "x.jsonl"), "E208"),
    ("json-true", "label true among names", text(lines([True, "cat", "dog"]), "x.jsonl"), "W209"),
    ("minus", "label -1", text(rows(["-1", *"0101010"])), "W209"),
    ("minus-names", "label -1 among names", text(rows(["-1", *LABELS[1:]])), "W209"),
    ("mark", "label ?", text(rows(["?", *LABELS[1:]])), "W209"),
    ("none", "label none", text(rows(["none", *LABELS[1:]])), "W209"),
    ("ids", "ids as labels", text(rows([f"id{number}" for number in range(8)])), "W209"),
    ("measures", "measurements as labels", text(rows([f"{number / 7:.4f}" for number in range(8)])), "W209"),
    ("files", "names of files as labels", text(rows([f"{number % 2}.wav" for number in range(8)])), "W209"),
    ("accents", "label in two forms of Unicode", text(rows(["caf\u00e9", "cafe\u0301"])), "W207"),
    ("invisible", "invisible character in a label", text(rows(["cat\u200b", "cat"])), "W207"),
    ("split", "nan as a split", text(rows(["cat,train", "dog,nan"], "path,label,split")), "E208"),
    ("time", "true as a time", text('{"path": "0.wav", "label": "x", "start": true}\n', "x.jsonl"), "E208"),
    ("equal", "1 and 1.0", text(rows(["1", "1.0"] * 4)), "W209"),
    ("parquet-null", "null in Parquet", columns(path=PATHS, label=["cat", None, "dog"]), "E208"),
    ("parquet-nan", "NaN in Parquet", columns(path=PATHS, label=[0.0, 1.0, float("nan")]), "E208"),
    ("parquet-nothing", "column of nulls", columns(path=PATHS, label=pa.nulls(3)), "E208"),
    ("two", "label and labels that differ", text(_TWO_COLUMNS, "x.jsonl"), "W208"),
)

_ABC = has_labels(*LABELS[:3])
_PARQUET = _section(
    35,
    ("bytes", "column of bytes", columns(audio=[_wav()] * 3, label=LABELS[:3]), _ABC),
    (
        "large",
        "column of large bytes",
        columns(audio=pa.array([_wav()] * 3, pa.large_binary()), label=LABELS[:3]),
        _ABC,
    ),
    (
        "fixed",
        "column of bytes of one length",
        columns(audio=pa.array([_wav()] * 3, pa.binary(len(_wav()))), label=LABELS[:3]),
        _ABC,
    ),
    ("some", "bytes in some rows", columns(audio=[_wav(), None, _wav()], label=LABELS[:3]), "E208"),
    (
        "struct",
        "bytes and path",
        columns(audio=[{"bytes": _wav(), "path": path} for path in PATHS], label=LABELS[:3]),
        _ABC,
    ),
    ("struct-bytes", "bytes in a struct", columns(audio=[{"bytes": _wav()}] * 3, label=LABELS[:3]), _ABC),
    (
        "struct-path",
        "paths in a struct",
        columns(audio=[{"path": path} for path in PATHS], label=LABELS[:3]),
        _ABC,
    ),
    (
        "struct-more",
        "bytes, path and rate",
        columns(audio=[{"bytes": _wav(), "path": "x", "sampling_rate": 16_000}] * 3, label=LABELS[:3]),
        _ABC,
    ),
    (
        "array",
        "array and rate",
        columns(audio=[{"array": [0.1] * 1_600, "sampling_rate": 16_000}] * 3, label=LABELS[:3]),
        _ABC,
    ),
    (
        "array-int64",
        "whole numbers without a full scale and rate",
        columns(audio=[{"array": [1, 2] * 800, "sampling_rate": 16_000}] * 3, label=LABELS[:3]),
        "E102",
    ),
    (
        "array-null",
        "array and rate, one of them missing",
        columns(audio=[{"array": [0.1] * 1_600, "sampling_rate": 16_000}, None] * 2, label=LABELS[:4]),
        "E208",
    ),
    (
        "array-rate",
        "array with a missing rate",
        columns(
            audio=[{"array": [0.1] * 1_600, "sampling_rate": rate} for rate in (16_000, None)],
            label=LABELS[:2],
        ),
        "E107",
    ),
    ("floats", "lists of floats", columns(audio=[[0.1] * 1_600] * 3, label=LABELS[:3]), "E107"),
    (
        "int16",
        "lists of int16",
        columns(audio=pa.array([[1, 2] * 800] * 3, pa.list_(pa.int16())), label=LABELS[:3]),
        "E107",
    ),
    (
        "dictionary",
        "labels as a dictionary",
        columns(path=PATHS, label=pa.array(LABELS[:3]).dictionary_encode()),
        _ABC,
    ),
    (
        "map",
        "type that datasets lacks",
        columns(path=PATHS, label=pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64()))),
        "E208",
    ),
    ("cut", "half a file", changed(_halve), "E208"),
    ("flipped-head", "flipped byte of the first page", changed(lambda content: _flip(content, 8)), "E208"),
    ("flipped-page", "flipped byte of a page header", changed(lambda content: _flip(content, 20)), "E208"),
    ("flipped-foot", "flipped byte of the footer", changed(lambda content: _flip(content, -100)), "E208"),
    ("lfs", "pointer of git-lfs", text("version https://git-lfs.github.com/spec/v1\n", "x.parquet"), "E208"),
)


def _source(suffix: str, title: str, make: Callable[[], Any]) -> Case:
    return Case(f"C36-{suffix}", title, in_memory(make), ours, "E108")


def _option(suffix: str, **options: Any) -> Case:
    """Return the row of an argument of a wrong type."""
    ((name, value),) = options.items()
    return Case(
        f"C37-{suffix}",
        f"{name}={value!r}",
        text(rows(LABELS)),
        lambda source: ours(source, **options),
        "E108",
    )


_CALLS = [
    _source("none", "None as a source", lambda: None),
    _source("number", "number as a source", lambda: 3),
    _source("bytes", "bytes as a source", lambda: b"x.csv"),
    _source("set", "data set in memory", lambda: Dataset.from_dict({"path": PATHS, "label": [0, 1, 0]})),
    _source("rows", "rows in memory", lambda: [{"path": "0.wav", "label": "cat"}]),
    _source("nothing", "None as a split", lambda: {"train": None}),
    _source("empty", "empty text as a source", lambda: ""),
    _option("classes", class_labels=[0, 1]),
    _option("class-map", class_labels={"cat": 0, "dog": 1}),
    _option("class-null", class_labels=[None]),
    _option("dropped", drop_labels="cat"),
    _option("separator", label_separator=""),
    _option("column", label_column=["label"]),
    _option("root", audio_root=3),
    _option("lists", split_lists=["x"]),
    _option("flag", clip_boundaries="no"),
]

_PATHS = _section(
    38,
    ("link", "link to a missing file", _linked, "E206"),
    ("folder", "folder in place of a file", text("path,label\n.,cat\n1.wav,dog\n"), "E206"),
    ("empty", "empty path", text("path,label\n,cat\n1.wav,dog\n"), "E206"),
    ("url", "URL", text("path,label\nhttps://localhost/0.wav,cat\n1.wav,dog\n"), "E206"),
    ("home", "path with ~", text("path,label\n~/0.wav,cat\n1.wav,dog\n"), "E206"),
    ("case", "other capitals", text("path,label\n0.WAV,cat\n1.wav,dog\n"), "E206"),
    ("long", "path of 5,000 characters", text(f"path,label\n{'x' * 5_000},cat\n1.wav,dog\n"), "E206"),
    ("spaces", "spaces after a path", text('path,label\n"0.wav ",cat\n1.wav,dog\n'), equals("cat", "dog")),
    ("accents", "accents in another form of Unicode", _decomposed, lambda value: len(value) == 3),
    ("list", "list as a path", text('{"path": ["0.wav"], "label": "x"}\n', "x.jsonl"), "E208"),
    (
        "object",
        "object as a path",
        text('{"path": {"path": "0.wav"}, "label": "x"}\n', "x.jsonl"),
        equals("x"),
    ),
    ("null", "null as a path", text('{"path": null, "label": "x"}\n', "x.jsonl"), "E206"),
)

CASES = [*_KNOWN, *_QUOTES, *_TEXTS, *_TIMES, *_LISTS, *_MISSING, *_PARQUET, *_CALLS, *_PATHS]
