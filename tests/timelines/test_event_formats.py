"""Files of results, read by other people's readers: pandas, pyarrow, webvtt-py, pyannote and crowsetta."""

from __future__ import annotations

import csv
import html
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ast_hf.timelines.events import Event
from ast_hf.timelines.formats import FORMATS, write_events, write_results
from ast_hf.timelines.reading import read_events
from ast_hf.timelines.results import Result

pandas = pytest.importorskip("pandas")

#: Labels that break files which are written without care.
LABELS = (
    *(
        'say "hi"',
        "a, b; c",
        "tab\there",
        "two\nlines",
        "a --> b",
        "R&B <live>",
        "dog 🐕",
        "כלב (right to left)",
    ),
    *("'quoted'", "50% rain", "%20", "back\\slash", "#1", "a|b", "1,5", " x ".strip()),
)
EVENTS = [
    Event(round(0.3 * number, 6), round(0.3 * number + 0.2, 6), label, number / 32)
    for number, label in enumerate(LABELS)
] + [Event(36_000.123456, 36_001.0, "after ten hours", 1.0)]
NAME = "night 1/ä, 'b'.wav"


def written(folder: Path, name: str) -> Path:
    path = folder / f"a{FORMATS[name].suffix}"
    write_events(path, [(NAME, EVENTS)], name)
    return path


def frame(table: object) -> list[tuple]:
    """Return the rows of a data frame as events; the columns are those of ours."""
    return [(row.file, Event(row.start, row.end, row.label, row.score)) for row in table.itertuples()]  # type: ignore[attr-defined]


def test_csv_by_pandas(tmp_path: Path) -> None:
    assert frame(pandas.read_csv(written(tmp_path, "csv"))) == [(NAME, event) for event in EVENTS]


def test_csv_by_pythons_csv(tmp_path: Path) -> None:
    with written(tmp_path, "csv").open(newline="") as file:
        rows = list(csv.reader(file, strict=True))
    assert rows[0] == ["file", "start", "end", "label", "score"]
    assert [row[3] for row in rows[1:]] == [event.label for event in EVENTS]
    assert [(float(row[1]), float(row[2])) for row in rows[1:]] == [event[:2] for event in EVENTS]


def test_formulas_are_text_in_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_events(
        path, [("=cmd.wav", [Event(0, 1, "=SUM(A1)"), Event(1, 2, "-dog"), Event(2, 3, "-1")])], "csv"
    )
    table = pandas.read_csv(path)
    assert table.label.tolist() == ["'=SUM(A1)", "'-dog", "-1"]
    assert set(table.file) == {"'=cmd.wav"}


def test_parquet_by_pyarrow(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(written(tmp_path, "parquet"))
    assert {field.name: str(field.type) for field in table.schema} == {
        **{"file": "string", "start": "double", "end": "double", "label": "string", "score": "double"}
    }
    assert frame(table.to_pandas()) == [(NAME, event) for event in EVENTS]


def test_parquet_of_each_kind(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    scores = [{"score": 0.75, "label": "a"}]
    write_results(
        tmp_path / "a.parquet", [Result("a", "clips", scores), Result("b", "clips", [])], "parquet", "clips"
    )
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == [
        {"file": "a", "label": "a", "score": 0.75},
        {"file": "b", "label": None, "score": None},
    ]
    windows = [{"start": 0, "end": 1.5, "scores": scores}]
    write_results(tmp_path / "b.parquet", [Result("a", "windows", windows)], "parquet", "windows")
    assert parquet.read_table(tmp_path / "b.parquet").to_pylist() == [
        {"file": "a", "start": 0.0, "end": 1.5, "label": "a", "score": 0.75}
    ]


def test_json_by_pandas(tmp_path: Path) -> None:
    table = pandas.read_json(written(tmp_path, "json"), precise_float=True)
    assert table.file.tolist() == [NAME]
    assert [Event(**event) for event in table.events[0]] == EVENTS


def test_audacity_by_pandas(tmp_path: Path) -> None:
    """Audacity splits lines at tabs, and has no quotes."""
    path = written(tmp_path, "audacity")
    table = pandas.read_csv(path, sep="\t", header=None, quoting=csv.QUOTE_NONE, dtype={2: str})
    assert list(zip(table[0], table[1], strict=True)) == [event[:2] for event in EVENTS]
    assert_labels_with_codes(table[2].tolist())


def assert_labels_with_codes(labels: list[str]) -> None:
    """Check labels of a file where tabs and line ends are percent codes."""
    special = {"tab\there", "two\nlines", "%20"}
    for label, event in zip(labels, EVENTS, strict=True):
        assert (unquote(label) if event.label in special else label) == event.label


def test_raven_by_pandas(tmp_path: Path) -> None:
    table = pandas.read_csv(
        written(tmp_path, "raven"), sep="\t", quoting=csv.QUOTE_NONE, dtype={"Annotation": str}
    )
    assert table["Selection"].tolist() == list(range(1, len(EVENTS) + 1))
    assert list(zip(table["Begin Time (s)"], table["End Time (s)"], strict=True)) == [
        event[:2] for event in EVENTS
    ]
    assert set(table["Begin Path"]) == {NAME}
    assert set(table["Begin File"]) == {NAME.split("/")[1]}
    assert table["Score"].tolist() == [event.score for event in EVENTS]
    assert_labels_with_codes(table["Annotation"].tolist())


def test_raven_and_audacity_by_crowsetta(tmp_path: Path) -> None:
    formats = pytest.importorskip(
        "crowsetta", reason="crowsetta is in the extra dev, for Python 3.11 on"
    ).formats
    events = [event for event in EVENTS if event.label in ("dog 🐕", "50% rain", "after ten hours")]
    for name in ("raven", "audacity"):
        write_events(tmp_path / f"{name}.txt", [("a.wav", events)], name)
    boxes = formats.bbox.Raven.from_file(tmp_path / "raven.txt").to_bbox()
    assert [(box.onset, box.offset, box.label) for box in boxes] == [event[:3] for event in events]
    assert {(box.low_freq, box.high_freq) for box in boxes} == {(0.0, 8_000.0)}
    track = formats.seq.AudSeq.from_file(tmp_path / "audacity.txt")
    assert list(zip(track.start_times, track.end_times, track.labels, strict=True)) == [
        event[:3] for event in events
    ]


def test_files_of_raven_and_audacity_that_crowsetta_ships() -> None:
    crowsetta = pytest.importorskip("crowsetta", reason="crowsetta is in the extra dev, for Python 3.11 on")
    folder = Path(crowsetta.__file__).parent / "examples"
    raven = folder / "Recording_1_Segment_02.Table.1.selections.txt"
    boxes = crowsetta.formats.bbox.Raven.from_file(raven, annot_col="Species").to_bbox()
    spinetail = folder / "spinetail.txt"
    boxes_of_audacity = crowsetta.formats.bbox.AudBBox.from_file(spinetail).to_bbox()
    for path, expected in ((raven, boxes), (spinetail, boxes_of_audacity)):
        found = [row.event[:3] for row in read_events(path) if row.event]
        assert found == [(box.onset, box.offset, box.label) for box in expected]
        assert len(found) > 5


def test_webvtt_by_webvtt_py(tmp_path: Path) -> None:
    webvtt = pytest.importorskip("webvtt", reason="webvtt-py is in the extra dev")
    cues = list(webvtt.read(written(tmp_path, "webvtt")))
    assert [html.unescape(cue.raw_text) for cue in cues] == [event.label for event in EVENTS]
    assert [cue.identifier.split("=")[1] for cue in cues] == [repr(event.score) for event in EVENTS]
    for cue, event in zip(cues, EVENTS, strict=True):
        times = [webvtt.models.Timestamp.from_string(time).in_milliseconds() for time in (cue.start, cue.end)]
        assert times == [round(1_000 * event.start), round(1_000 * event.end)]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    label=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
        str.strip
    )
)
def test_any_label_is_one_cue(tmp_path: Path, label: str) -> None:
    webvtt = pytest.importorskip("webvtt", reason="webvtt-py is in the extra dev")
    path = tmp_path / "a.vtt"
    write_events(path, [("a.wav", [Event(0, 1, label), Event(1, 2, "next")])], "webvtt")
    cues = list(webvtt.from_string(path.read_bytes().decode()))
    assert len(cues) == 2
    assert cues[1].text == "next"


def test_rttm_by_pyannote(tmp_path: Path) -> None:
    """pyannote takes codes as part of the names, so that two names differ exactly if they do for us."""
    util = pytest.importorskip(
        "pyannote.database.util", reason="pyannote is in the extra dev, for Python 3.11 on"
    )
    annotations = util.load_rttm(written(tmp_path, "rttm"))
    assert [unquote(name) for name in annotations] == [NAME]
    found = [
        (round(segment.start, 6), round(segment.end, 6), unquote(label))
        for segment, _, label in next(iter(annotations.values())).itertracks(yield_label=True)
    ]
    assert found == [event[:3] for event in EVENTS]


def test_rttm_of_pyannote(tmp_path: Path) -> None:
    core = pytest.importorskip("pyannote.core", reason="pyannote is in the extra dev, for Python 3.11 on")
    annotation = core.Annotation(uri="a.wav")
    annotation[core.Segment(0.5, 1.25)] = "dog"
    annotation[core.Segment(36_000, 36_001)] = "owl"
    (tmp_path / "a.rttm").write_text(annotation.to_rttm())
    assert [(row.recording, row.event) for row in read_events(tmp_path / "a.rttm")] == [
        ("a.wav", Event(0.5, 1.25, "dog")),
        ("a.wav", Event(36_000.0, 36_001.0, "owl")),
    ]


def test_tables_without_events_have_columns(tmp_path: Path) -> None:
    for name, head in (("csv", 5), ("raven", 11)):
        path = tmp_path / f"a{FORMATS[name].suffix}"
        write_events(path, [("a.wav", [])], name)
        table = pandas.read_csv(path, sep="," if name == "csv" else "\t")
        assert len(table.columns) == head
        assert len(table.dropna()) == 0
