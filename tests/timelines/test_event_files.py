"""Files of results: written byte for byte as documented, read back as they were, and refused row by row."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ast_hf.errors import AstDataError, AstInputError
from ast_hf.timelines.escapes import decode, encode_spaced, encode_tabbed
from ast_hf.timelines.events import Event
from ast_hf.timelines.formats import FORMATS, events_text, results_text, write_events, write_results
from ast_hf.timelines.label_reading import read_audacity
from ast_hf.timelines.reading import read_events, recording_stem
from ast_hf.timelines.results import Result
from ast_hf.timelines.rows import events_by_recording
from ast_hf.timelines.table_reading import read_raven

EVENTS = [Event(36_000.5, 36_001.0, "owl", 0.5), Event(3.2, 4.1, "dog bark", 0.931234567)]

#: Format -> its text for `EVENTS` of the recording `night 1/a.wav`.
TEXTS = {
    "json": """[
  {"file": "night 1/a.wav", "events": [
    {"label": "dog bark", "score": 0.931235, "start": 3.2, "end": 4.1},
    {"label": "owl", "score": 0.5, "start": 36000.5, "end": 36001.0}
  ]}
]
""",
    "csv": """file,start,end,label,score
night 1/a.wav,3.2,4.1,dog bark,0.931235
night 1/a.wav,36000.5,36001.0,owl,0.5
""",
    "audacity": "3.200000\t4.100000\tdog bark\n36000.500000\t36001.000000\towl\n",
    "raven": "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tBegin File\t"
    "Begin Path\tAnnotation\tScore\n"
    "1\tSpectrogram 1\t1\t3.200000\t4.100000\t0.0\t8000.0\ta.wav\tnight 1/a.wav\tdog bark\t0.931235\n"
    "2\tSpectrogram 1\t1\t36000.500000\t36001.000000\t0.0\t8000.0\ta.wav\tnight 1/a.wav\towl\t0.5\n",
    "webvtt": """WEBVTT

1 score=0.931235
00:00:03.200 --> 00:00:04.100
dog bark

2 score=0.5
10:00:00.500 --> 10:00:01.000
owl
""",
    "rttm": "SPEAKER night%201/a.wav 1 3.200000 0.900000 <NA> <NA> dog%20bark 0.931235 <NA>\n"
    "SPEAKER night%201/a.wav 1 36000.500000 0.500000 <NA> <NA> owl 0.5 <NA>\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_of_each_format(name: str) -> None:
    assert events_text([("night 1/a.wav", EVENTS)], name) == TEXTS[name]


def test_every_text_format_has_a_literal() -> None:
    assert {name for name, format in FORMATS.items() if format.record} == TEXTS.keys()


def test_a_file_is_its_header_records_and_footer() -> None:
    """A batch appends the records of recordings as they are done."""
    results = [Result(name, "events", EVENTS) for name in ("a", "b")]
    for name, format in FORMATS.items():
        if format.record and not format.per_recording:
            text = (
                format.header("events") + format.separator.join(map(format.record, results)) + format.footer
            )
            assert text == results_text(results, name)


# ---------------------------------------------------------------- kinds of results

SCORES = [{"score": 0.75, "label": "a"}, {"score": 1e-7, "label": "=b"}]
WINDOWS = [{"start": 5.12, "end": 10.24, "scores": SCORES}, {"start": 0, "end": 5.12, "scores": SCORES[::-1]}]


def test_scores_of_clips() -> None:
    result = Result("a.wav", "clips", SCORES)
    assert results_text([result], "csv", "clips") == "file,label,score\na.wav,a,0.75\na.wav,'=b,1e-07\n"
    assert json.loads(results_text([result], "json", "clips")) == [{"file": "a.wav", "scores": SCORES}]


def test_scores_of_windows() -> None:
    result = Result("a.wav", "windows", WINDOWS)
    assert results_text([result], "csv", "windows").splitlines()[1:] == [
        "a.wav,0.0,5.12,'=b,1e-07",
        "a.wav,0.0,5.12,a,0.75",
        "a.wav,5.12,10.24,a,0.75",
        "a.wav,5.12,10.24,'=b,1e-07",
    ]
    assert json.loads(results_text([result], "json", "windows")) == [
        {"file": "a.wav", "windows": WINDOWS[::-1]}
    ]


def test_label_files_have_the_best_label_of_each_window() -> None:
    text = results_text([Result("a.wav", "windows", WINDOWS)], "audacity", "windows")
    assert text == "0.000000\t5.120000\ta\n5.120000\t10.240000\ta\n"


@pytest.mark.parametrize("name", ["audacity", "raven", "webvtt", "rttm"])
def test_label_files_cannot_hold_scores_of_clips(name: str) -> None:
    with pytest.raises(AstInputError, match=r"E108.*have none.*use json, csv, parquet"):
        results_text([], name, "clips")


@pytest.mark.parametrize(("name", "kind"), [("xlsx", "events"), ("json", "event"), ("parquet", "events")])
def test_unknown_formats(name: str, kind: str) -> None:
    with pytest.raises(AstInputError, match="E108"):
        results_text([], name, kind)


def test_one_recording_per_label_file_and_one_kind_per_file() -> None:
    with pytest.raises(AstInputError, match=r"E108.*one recording"):
        events_text([("a", []), ("b", [])], "audacity")
    with pytest.raises(AstInputError, match=r"E108.*one file per kind"):
        results_text([Result("a", "clips", SCORES)], "csv", "events")


@pytest.mark.parametrize(
    "event",
    [
        *(Event(-0.1, 1, "a"), Event(2, 1, "a"), Event(1, 1, "a"), Event(0, math.inf, "a")),
        *(Event(math.nan, 1, "a"), Event(0, 1, ""), Event(0, 1, " ")),
        *(Event(0, 1, "a", 1.5), Event(0, 1, "a", math.nan)),
        *(
            {"label": "a", "score": 0.5},
            {"start": 0, "end": 1, "score": 0.5},
            {"start": 0, "end": 1, "label": "a"},
        ),
        (0, 1, "a"),
    ],
)
def test_events_that_no_file_can_hold(event: Any) -> None:
    with pytest.raises(AstInputError, match=r"E108.*'a.wav', number 2"):
        events_text([("a.wav", [Event(0, 1, "a"), event])], "csv")


# ---------------------------------------------------------------- round trips

#: Text without halves of characters, NUL and carriage returns, which text files do not keep; never blank.
TEXT = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=12)
    | st.text(st.sampled_from(list("\t\n %09Aa,;\"'=+-&<>\\|#\x85\u2028🐕ש")), min_size=1, max_size=12)
    | st.sampled_from(
        ["-->", "a --> b", "=1+1", "'=1", "''", "%0A", "<NA>", "NA", "[", "ä\u200b", "50%", "1,5"]
    )
).filter(str.strip)
TIMES = st.tuples(st.integers(0, 10**11), st.integers(1_000, 10**9))


@st.composite
def event_lists(draw: st.DrawFn) -> list[Event]:
    """Return events in microseconds, at least a millisecond long, with scores of 6 digits, sorted."""
    drawn = draw(st.lists(st.tuples(TIMES, TEXT, st.integers(0, 10**6)), max_size=4))
    return sorted(
        Event(round(start / 1e6, 6), round((start + length) / 1e6, 6), label, score / 1e6)
        for (start, length), label, score in drawn
    )


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(events=event_lists(), recording=TEXT)
def test_events_come_back(tmp_path: Path, name: str, events: list[Event], recording: str) -> None:
    path = tmp_path / f"a{FORMATS[name].suffix}"
    write_events(path, [(recording, events)], name)
    found = events_by_recording(read_events(path))
    named = name in ("json", "csv", "parquet", "raven", "rttm")
    # a label track without events does not name its recording
    expected = {recording.strip() if named else None: [expected_event(event, name) for event in events]}
    if not events and name not in ("json", "csv", "parquet"):
        expected = {}
    assert {key.strip() if key else key: value for key, value in found.items()} == expected


def expected_event(event: Event, name: str) -> Event:
    """Return an event as a format keeps it."""
    label = event.label.strip()
    if name == "audacity":
        return event._replace(label=label, score=1.0)
    if name == "webvtt":
        first = round(1_000 * event.start)
        last = max(round(1_000 * event.end), first + 1)
        return Event(round(first / 1_000, 3), round(last / 1_000, 3), label, event.score)
    return event._replace(label=label)


@given(text=TEXT)
def test_codes_are_undone(text: str) -> None:
    assert decode(encode_tabbed(text)) == text
    assert decode(encode_spaced(text)) == text
    assert len((encode_tabbed(text) + "|").splitlines()) == 1
    assert not set("\t\n") & set(encode_tabbed(text))
    assert len(encode_spaced(text).split()) == 1


def test_codes_leave_other_text_alone() -> None:
    assert encode_tabbed("50% of C:\\temp, 100%") == "50% of C:\\temp, 100%"
    assert decode("%41%zz%2") == "%41%zz%2"


def test_files_are_the_same_for_noise_in_the_seventh_digit() -> None:
    noisy = [
        event._replace(score=event.score * (1 + 1e-8), start=event.start + 1e-9) for event in EVENTS[::-1]
    ]
    assert events_text([("a", noisy)], "csv") == events_text([("a", EVENTS)], "csv")


def test_recordings_without_events_are_in_tables(tmp_path: Path) -> None:
    for name in ("json", "csv", "parquet"):
        path = tmp_path / f"a{FORMATS[name].suffix}"
        write_events(path, [("a.wav", []), ("b.wav", EVENTS[:1]), ("c.wav", [])], name)
        assert events_by_recording(read_events(path)) == {"a.wav": [], "b.wav": EVENTS[:1], "c.wav": []}
        write_events(path, [], name)
        assert read_events(path) == []


def test_names_that_are_not_unicode_are_escaped(tmp_path: Path) -> None:
    for name, format in FORMATS.items():
        path = tmp_path / f"a{format.suffix}"
        write_events(path, [("caf\udce9.wav", [*EVENTS, Event(0, 1, "half\ud83d")])], name)
        assert rb"half\ud83d" in path.read_bytes()
        assert name in ("audacity", "webvtt") or rb"caf\udce9.wav" in path.read_bytes()


# ---------------------------------------------------------------- reading of others' files


def rows(tmp_path: Path, name: str, content: str | bytes, **options: Any) -> list[tuple]:
    """Return (recording, start, end, label, score) of each row of a file."""
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(row.recording, *(row.event or ())) for row in read_events(path, **options)]


DOG = [("a.wav", 1.5, 2.0, "dog", 1.0)]

#: Tables of one event with the columns of tools and data sets.
TABLES = {
    "plain.csv": "path,start,end,label\na.wav,1.5,2,dog\n",
    "dcase.tsv": "filename\tonset\toffset\tevent_label\na.wav\t1.5\t2\tdog\n",
    "nemo.jsonl": '{"audio_filepath": "a.wav", "offset": 1.5, "duration": 0.5, "label": "dog"}\n',
    "list.json": '[{"file_name": "a.wav", "start": 1.5, "end": 2, "label": "dog"}]',
    "one.json": '{"file": "a.wav", "events": [{"start": 1.5, "end": 2.0, "label": "dog", "score": 1}]}',
    "titles.csv": "File,Start (s),End (s),Label,Confidence\na.wav,1.5,2,dog,1\n",
    "excel.csv": "\ufeffsep=;\r\nfile;start;end;label\r\na.wav;1.5;2;dog\r\n",
    "duration.csv": "file,begin_time,duration_s,category\na.wav,1.5,.5,dog\n",
    "quoted.csv": '"file" ,"start", "end","label"\n"a.wav","1.5", "2" ," dog "\n\n',
    "spaces.csv": " file , start , end , label \n a.wav , 1.5 , 2 , dog \n",
    "pandas.csv": ",file,start,end,label\n0,a.wav,1.5,2.0,dog\n",
    "kaleidoscope.csv": "IN FILE,OFFSET,DURATION,common_name\na.wav,1.5,0.5,dog\n",
    "excel_with_columns_beside.csv": "file,start,end,label,,\na.wav,1.5,2,dog,,\n,,,,,\n",
    "table.txt": "file\tstart\tend\tlabel\na.wav\t1.5\t2\tdog\n",
    "named.json": '[{"file": "a.wav", "start": "1.5", "end": 2, "label": "dog", "score": null}]',
    "a.rttm": ";; by hand\nSPKR-INFO a 1 <NA> <NA> <NA> unknown x <NA>\nSPEAKER a.wav 1 1.5 0.5 <NA> <NA> dog <NA>\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_others(tmp_path: Path, name: str) -> None:
    assert rows(tmp_path, name, TABLES[name]) == DOG


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    table = "clip,from,to,label,call\nx,0,1,wren,song\n"
    columns = {"file": "clip", "start": "from", "end": "to", "label": "call"}
    assert rows(tmp_path, "a.csv", table, columns=columns) == [("x", 0.0, 1.0, "song", 1.0)]
    with pytest.raises(AstDataError, match=r"E208.*none is 'cal'.*did you mean 'call'"):
        rows(tmp_path, "a.csv", table, columns={"label": "cal"})
    with pytest.raises(AstInputError, match=r"E108.*did you mean 'label'"):
        rows(tmp_path, "a.csv", table, columns={"lable": "call"})


def test_a_row_with_a_name_only_is_a_recording_without_events(tmp_path: Path) -> None:
    table = "filename\tonset\toffset\tevent_label\na.wav\t\t\t\nb.wav\t0\t1\tdog\n"
    assert rows(tmp_path, "a.tsv", table) == [("a.wav",), ("b.wav", 0.0, 1.0, "dog", 1.0)]


RAVEN = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\tTags\r\n"
    "1\tWaveform 1\t1\t0.5\t1.25\t0\t8000\twren\tloud\r\n"
    "1\tSpectrogram 1\t1\t0.5\t1.25\t500\t4000\twren\tloud\r\n"
    "2\tSpectrogram 1\t1\t2\t3\t500\t4000\tjay\t\r\n"
)


def test_raven_counts_a_selection_of_two_views_once(tmp_path: Path) -> None:
    expected = [(None, 0.5, 1.25, "wren", 1.0), (None, 2.0, 3.0, "jay", 1.0)]
    table = RAVEN.replace("\tTags", "\tComment")
    assert rows(tmp_path, "a.txt", table) == expected
    path = tmp_path / "a.txt"
    assert [row.event.label for row in read_raven(path) if row.event] == ["wren", "jay"]
    path.write_text(table.replace("jay\t", "jay\tquiet"))
    assert [row.event.label for row in read_raven(path, "Comment") if row.event] == ["loud", "quiet"]


def test_raven_counts_from_the_first_of_several_files(tmp_path: Path) -> None:
    table = (
        "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tAnnotation\n"
        "1\t10\t11.5\ta.wav\t10\twren\n2\t70\t71.5\tb.wav\t10.0\twren\n"
    )
    assert rows(tmp_path, "a.txt", table) == [
        ("a.wav", 10.0, 11.5, "wren", 1.0),
        ("b.wav", 10.0, 11.5, "wren", 1.0),
    ]


def test_audacity_with_frequencies_and_points(tmp_path: Path) -> None:
    track = "0.5\t1.5\tdog\n\\\t1000.0\t2000.0\n1.0\t1.0\tclick\n"
    with pytest.raises(AstDataError, match=r"E208.*line 3.*marks a point, 1 s.*point_seconds"):
        rows(tmp_path, "a.txt", track)
    read = rows(tmp_path, "a.txt", track, point_seconds=0.25)
    assert read == [(None, 0.5, 1.5, "dog", 1.0), (None, 0.875, 1.125, "click", 1.0)]
    assert read_audacity(tmp_path / "a.txt", 4.0)[1].event == Event(0.0, 4.0, "click")


def test_recordings_without_a_name_have_none(tmp_path: Path) -> None:
    event = {"start": 0, "end": 1, "label": "a"}
    for number, content in enumerate(({"file": None, "events": [event]}, {"file": None, **event})):
        assert rows(tmp_path, f"{number}.json", json.dumps([content])) == [(None, 0.0, 1.0, "a", 1.0)]


def test_an_empty_label_track_has_no_events(tmp_path: Path) -> None:
    for name in ("a.txt", "a.rttm"):
        assert rows(tmp_path, name, "\n") == []
    assert rows(tmp_path, "a.vtt", "WEBVTT") == []


def test_webvtt_of_others(tmp_path: Path) -> None:
    text = (
        "\ufeffWEBVTT - captions\r\n\r\nNOTE by hand\r\n\r\nSTYLE\r\n::cue { color: red }\r\n\r\n"
        "00:01.500 --> 00:02.000 align:start line:0\r\n<v Anna>dog</v>\r\n&amp; cat\r\n\r\n"
        "intro\r\n100:00:00.000 --> 100:00:01.000\r\nend"
    )
    assert rows(tmp_path, "a.vtt", text) == [
        (None, 1.5, 2.0, "dog & cat", 1.0),
        (None, 360_000.0, 360_001.0, "end", 1.0),
    ]


@pytest.mark.parametrize("head", ["WEBVTT\n", "WEBVTT\nKind: captions\n", "WEBVTT\n\n", "WEBVTT\n\na\nb\n"])
@pytest.mark.parametrize("space", [" ", "", "\t"])
def test_webvtt_cues_without_an_empty_line_before(tmp_path: Path, head: str, space: str) -> None:
    """The parser of W3C takes each line with an arrow for the beginning of a cue."""
    arrow = f"{space}-->{space}"
    text = f"{head}00:01.000{arrow}00:02.000\ndog\n00:03.000{arrow}00:04.000\ncat"
    assert rows(tmp_path, "a.vtt", text) == [(None, 1.0, 2.0, "dog", 1.0), (None, 3.0, 4.0, "cat", 1.0)]


def test_parquet_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "label=cat" / "a.parquet"  # no column of the file, though pyarrow can read it as one
    path.parent.mkdir()

    def write(*columns: Any, names: tuple[str, ...] = ("start", "end", "label")) -> None:
        parquet.write_table(pyarrow.table(list(columns), names=names), path)

    start, end, dog = pyarrow.array([Decimal("1.50")]), pyarrow.array([2.0]), pyarrow.array(["dog"])
    write(start, end, dog.dictionary_encode())
    assert [row.event for row in read_events(path)] == [Event(1.5, 2.0, "dog")]
    monkeypatch.setattr("ast_hf.timelines.table_reading._MAX_ROWS", 0)
    with pytest.raises(AstDataError, match=r"E208.*has 1 rows, the limit is 0"):
        read_events(path)
    monkeypatch.undo()
    write(start, end, names=("start", "end"))
    with pytest.raises(AstDataError, match=r"E208.*none is the label"):
        read_events(path)
    write(start, end, dog, dog, names=("start", "end", "label", "label"))
    with pytest.raises(AstDataError, match=r"E208.*'label' more than once"):
        read_events(path)
    not_utf8 = pyarrow.Array.from_buffers(pyarrow.string(), 1, pyarrow.array([b"d\xff"]).buffers())
    write(start, end, not_utf8)
    with pytest.raises(AstDataError, match=r"E208.*cannot be read"):
        read_events(path)


#: Name and content of a bad file -> text of the error.
BAD = {
    (
        "a.csv",
        "start,end,label\n0,1,a\nx,1,a\n",
    ): r"a.csv row 2: has the start 'x', which is not a finite number",
    (
        "b.csv",
        'start;end;label\n"1,5";2;a\n',
    ): r"row 1: has the start '1,5'.*write a point for the decimal comma, 1.5",
    (
        "c.csv",
        "start,end,label\n0:01,0:02,a\n",
    ): r"row 1: has the start '0:01'.*give seconds, not hours and minutes",
    ("d.csv", "start,end,label\n1,1,a\n"): r"row 1: ends at 1.0 s, not after its start at 1.0 s",
    ("e.csv", "start,end,label\n-1,1,a\n"): r"row 1: has a negative start, -1 s",
    ("f.csv", "start,end,label\nnan,1,a\n"): r"row 1: has the start 'nan'",
    ("g.csv", "start,end,label\n0,inf,a\n"): r"row 1: has the end 'inf'",
    ("h.csv", "start,end,label\n0,1,\n"): r"row 1: has no label",
    ("i.csv", "start,end,label\n,1,a\n"): r"row 1: has no start",
    ("j.csv", "start,end,label\n0,1\n"): r"row 1: has no label",
    ("k.csv", "start,end,label\n0,1,a,b\n"): r"row 1: has 1 fields more",
    ("l.csv", "start,end,label,score\n0,1,a,50\n"): r"row 1: has the score 50, outside 0..1",
    ("m.csv", "start,end,label,score\n0,1,a,high\n"): r"row 1: has the score 'high'",
    ("n.csv", ""): r"is empty",
    ("o.csv", "0,1,a\n2,3,b\n"): r"has no head line",
    ("p.csv", "a.wav,1,a\n"): r"has no head line: its first line names the file 'a.wav'",
    (
        "q.csv",
        "start_ms,end_ms,label\n0,1,a\n",
    ): r"has the columns start_ms, end_ms, label, none is the start or end",
    ("r.csv", "start,end\n0,1\n"): r"none is the label of an event",
    ("s.csv", "start,label\n0,a\n"): r"none is the end of an event",
    (
        "t.csv",
        "start,end,label\n0,1,\xe4\n".encode("latin-1"),
    ): r"is not UTF-8.*line 2.*save the table as UTF-8",
    ("u.csv", "start,end,label\n0,1,a\n".encode("utf-16")): r"is not UTF-8",
    ("v.csv", 'start,end,label\n0,1,"a\n2,3,b\n'): r"row 1 .*a quote that is not closed",
    ("w.csv", "start,end,label\n1_0,11,a\n"): r"row 1: has the start '1_0'",
    ("x.csv", "start,end,label\n٣,4,a\n"): r"row 1: has the start '٣'",
    ("a.json", ""): r"is empty",
    ("b.json", "[1]"): r"row 1: is a int, not an object",
    ("c.json", '[{"start": 0, "end": 1}]'): r"row 1: has the columns start, end, none is the label",
    ("d.json", '[{"start": true, "end": 2, "label": "a"}]'): r"row 1: has the start True",
    ("e.json", '[{"start": 0, "end": 1e999, "label": "a"}]'): r"row 1: has the end inf",
    (
        "f.json",
        '[{"start": 0, "end": 1, "label": ["a", "b"]}]',
    ): r"row 1: has the label .*one row for each label",
    (
        "g.json",
        '[{"file": "a", "events": [{"start": 2, "end": 1, "label": "a"}]}]',
    ): r"row 1 event 1: ends at 1",
    ("h.json", '[{"file": "a", "windows": []}]'): r"row 1: holds scores of windows or clips",
    ("i.json", "{"): r"is not JSON",
    ("k.json", f'[{{"start": {"1" * 400}, "end": 2, "label": "a"}}]'): r"row 1: has the start 1111",
    ("l.json", '[{"file": {}, "start": 0, "end": 1, "label": "a"}]'): r"row 1: has the recording {}",
    ("d.rttm", "hello\n"): r"line 1: begins with 'hello', which is no type of RTTM",
    ("e.rttm", "speaker a 1 0 1 <NA> <NA> x <NA> <NA>\n"): r"line 1: begins with 'speaker'",
    ("j.json", '[{"file": "a", "events": {}}]'): r"row 1: has events that are not a list",
    ("a.txt", "0.5\t1.0\ta\n1,5\t2,0\tb\n"): r"a.txt line 2: has the start '1,5'.*decimal comma, 1.5",
    ("b.txt", "0,5\t1,0\ta\n"): r"line 1: has the start '0,5'",
    ("c.txt", "0.5\t1.0\n"): r"line 1: has no label",
    ("d.txt", "0.5\n"): r"line 1: has no tab",
    ("e.txt", "2\t1\ta\n"): r"line 1: ends at 1.0 s, not after its start at 2.0 s",
    ("f.txt", "hello world\n"): r"has the columns hello world, none is",
    ("g.txt", RAVEN.replace("1.25", "x")): r"line 2: has the end 'x'",
    ("h.txt", RAVEN.replace("Species", "A").replace("Tags", "B")): r"none is the label",
    ("a.rttm", "SPEAKER a b.wav 1 0 1 <NA> <NA> x <NA> <NA>\n"): r"line 1: has 11 fields, not 10.*%20",
    ("b.rttm", "SPEAKER a 1 0 0 <NA> <NA> x <NA> <NA>\n"): r"line 1: ends at 0",
    ("c.rttm", "SPEAKER a 1 0 1 <NA> <NA> <NA> <NA> <NA>\n"): r"line 1: has no label",
    ("a.vtt", ""): r"does not begin with WEBVTT",
    ("b.vtt", "WEBVTT\n\n00:00:01,500 --> 00:00:02,000\na\n"): r"line 3: has the times",
    ("c.vtt", "WEBVTT\n\n00:02.000 --> 00:01.000\na\n"): r"line 3: ends at 1",
    ("d.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n\n"): r"line 3: has no label",
    ("a.parquet", "PAR1"): r"cannot be read",
    ("a.xlsx", "x"): r"is not a file of events",
}


@pytest.mark.parametrize("bad", BAD, ids=[name for name, _ in BAD])
def test_bad_files(tmp_path: Path, bad: tuple[str, str | bytes]) -> None:
    with pytest.raises(AstDataError, match=rf"E208.*{BAD[bad]}") as caught:
        rows(tmp_path, *bad)
    assert bad[0] in caught.value.where
    assert caught.value.fix


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(AstDataError, match=r"E206.*does not exist"):
        read_events(tmp_path / "none.csv")
    with pytest.raises(AstDataError, match=r"E206.*is a folder"):
        read_events(tmp_path)


def test_recordings_of_label_files() -> None:
    for name in (
        "a.1.Table.1.selections.txt",
        "a.1.selections.txt",
        "a.1.labels.txt",
        "a.1.txt",
        "a.1.vtt",
        "a.1.CSV",
    ):
        assert recording_stem(Path("folder") / name) == "a.1"


def test_a_file_that_cannot_be_written_is_e401(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("csv", "parquet"):
        with pytest.raises(RuntimeError, match="E401"):
            write_results(tmp_path / "file" / "a", [], name)
