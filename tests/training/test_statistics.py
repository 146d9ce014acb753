"""Reports on data sets, against the same numbers computed in another way on synthetic clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ast_hf import AstDataError, ASTFeatureExtractor, load_audio
from ast_hf.data.audit import DataReport, clipped_share, describe_data
from ast_hf.running_moments import Moments
from ast_hf.training import ClipInputs, load_audio_dataset, measure_statistics

RANDOM = np.random.default_rng(5)


def test_moments_are_those_of_all_values_together() -> None:
    parts = [RANDOM.normal(level, 2.0, (count, 4)) for level, count in ((-3, 5), (9, 1), (0, 300), (4, 7))]
    moments = Moments()
    for part in parts:
        moments.add(part)
    moments.add(np.zeros((0, 4)))
    together = np.concatenate([part.ravel() for part in parts])
    assert moments.count == 4 * 313
    assert (moments.mean, moments.std) == pytest.approx((together.mean(), together.std()), rel=1e-12)


def test_moments_far_from_zero() -> None:
    """Plain sums of squares would give 0 or 16; the standard deviation of 0 and 1 is 0.5."""
    moments = Moments()
    for value in (1e9, 1e9 + 1) * 500:
        moments.add(np.array([value]))
    assert moments.std == pytest.approx(0.5, rel=1e-6)
    assert moments.mean == 1e9 + 0.5
    assert Moments().std == 0.0


def test_equal_values_have_no_spread(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(9_000), 16_000)
    (tmp_path / "x.csv").write_text("path,label\na.wav,x\na.wav,y\n")
    train = load_audio_dataset(tmp_path / "x.csv")["train"]
    with pytest.raises(AstDataError, match=r"E209.*silent"):
        measure_statistics(ClipInputs(train, ASTFeatureExtractor(num_mel_bins=32, max_length=64)))


def test_measured_statistics_weigh_frames_and_leave_padding_out(tmp_path: Path) -> None:
    """Uses clips of 10 frames and of 300, cut to 64; mean and std are over the 74 frames."""
    clips = [RANDOM.uniform(-0.5, 0.5, 400 + 9 * 160), RANDOM.uniform(-0.01, 0.01, 400 + 299 * 160)]
    for name, samples in zip("ab", clips, strict=True):
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000, subtype="FLOAT")
    (tmp_path / "x.csv").write_text("path,label\na.wav,x\nb.wav,y\n")
    splits = load_audio_dataset(tmp_path / "x.csv")
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=64)
    raw = [
        extractor(
            load_audio(tmp_path / f"{name}.wav"), 16_000, padding=False, truncation=True, do_normalize=False
        )
        for name in "ab"
    ]
    frames = np.concatenate([np.asarray(one["input_values"][0], np.float64) for one in raw])
    assert frames.shape == (74, 32)
    expected = pytest.approx((frames.mean(), frames.std()), rel=1e-6)
    assert measure_statistics(ClipInputs(splits["train"], extractor)) == expected
    for rows in (splits, load_audio_dataset(tmp_path / "x.csv", streaming=True)):
        report = describe_data(rows, num_mel_bins=32, max_length=64)
        assert (report.mean, report.std) == expected


CLIPPED = {
    "silence": ([0.0] * 4, 0.0),
    "one peak": ([0.5, 1.0, 0.5, 0.0], 0.0),
    "flat top": ([0.5, 1.0, 1.0, 0.0], 0.5),
    "largest of 16 bits": ([32767 / 32768] * 3 + [0.0], 0.75),
    "just below": ([32766 / 32768] * 4, 0.0),
    "both ends": ([1.0, -1.0, 1.0, -1.0], 0.0),
    "bottom": ([-1.0, -1.0, 0.0, 1.2], 0.5),
    "beyond": ([1.2, 1.5, -2.0, -3.0], 1.0),
}


@pytest.mark.parametrize(("samples", "share"), CLIPPED.values(), ids=CLIPPED)
def test_clipped_share(samples: list[float], share: float) -> None:
    assert clipped_share(np.array(samples, np.float32)) == share


def noise(seed: int, count: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, (count, channels))


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Return a table of clips of all kinds, in `train` by default."""
    loud = np.clip(noise(2, 16_000) * 4, -1, 1)
    soundfile.write(tmp_path / "mono.wav", noise(0, 16_000), 16_000)
    soundfile.write(tmp_path / "stereo.flac", noise(1, 88_200, 2), 44_100)
    soundfile.write(tmp_path / "loud.wav", loud, 16_000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(8_000), 8_000)
    soundfile.write(tmp_path / "silent too.wav", np.zeros(8_000), 8_000)
    soundfile.write(tmp_path / "short.wav", noise(3, 300), 16_000)
    (tmp_path / "text.wav").write_text("not audio at all, and long enough to be looked at")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "mono.wav").read_bytes()[:20_000])
    soundfile.write(
        tmp_path / "copy.flac", soundfile.read(tmp_path / "mono.wav")[0], 16_000, subtype="PCM_16"
    )
    lines = [
        ("mono.wav", "cat", "train"), ("stereo.flac", "dog", "train"), ("loud.wav", "dog", "train"),
        ("silent.wav", "cat", "train"), ("short.wav", "cat", "train"), ("text.wav", "cat", "train"),
        ("none.wav", "dog", "train"), ("copy.flac", "cat", "test"), ("silent too.wav", "owl", "test"),
        ("cut.wav", "dog", "test"), ("stereo.flac", "dog", "test"),
    ]  # fmt: skip
    (tmp_path / "x.csv").write_text("path,label,split\n" + "\n".join(map(",".join, lines)) + "\n")
    return tmp_path


@pytest.fixture(params=[False, True], ids=["stored", "streamed"])
def report(messy: Path, request: pytest.FixtureRequest) -> DataReport:
    return describe_data(load_audio_dataset(messy / "x.csv", check_files=False, streaming=request.param))


def test_labels_lengths_rates_channels(report: DataReport) -> None:
    train, test = report.splits["train"], report.splits["test"]
    assert (train.clips, test.clips) == (7, 4)
    assert train.labels == {"cat": 4, "dog": 3, "owl": 0}
    assert test.labels == {"cat": 1, "dog": 2, "owl": 1}
    assert train.seconds == {"min": 1.0, "median": 1.0, "max": 2.0, "total": 5.0}
    assert train.rates == {"16000": 2, "44100": 1, "8000": 1}
    assert train.channels == {"1": 3, "2": 1}


def test_clips_to_look_at(report: DataReport) -> None:
    train, test = report.splits["train"], report.splits["test"]
    assert [(clip.row, Path(clip.path).name) for clip in train.clipped] == [(3, "loud.wav")]
    assert [(clip.row, Path(clip.path).name) for clip in train.silent] == [(4, "silent.wav")]
    assert [(clip.row, clip.code) for clip in train.unreadable] == [(5, "E103"), (6, "E201"), (7, "E206")]
    assert [(clip.row, clip.code) for clip in test.unreadable] == [(3, "E202")]
    assert len(report.unreadable) == 4


def test_duplicates_across_splits(report: DataReport) -> None:
    """Finds the same file, and the same samples in another file; not silence, and not within a split."""
    duplicates = {
        duplicate.kind: [(split, row, Path(path).name) for split, row, path in duplicate.clips]
        for duplicate in report.duplicates
    }
    assert duplicates == {
        "path": [("train", 2, "stereo.flac"), ("test", 4, "stereo.flac")],
        "content": [("train", 1, "mono.wav"), ("test", 1, "copy.flac")],
    }


def test_report_as_json_and_as_text(report: DataReport) -> None:
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["mean"] == report.mean
    assert plain["splits"]["test"]["unreadable"][0]["row"] == 3
    text = "\n".join(report.lines())
    for part in (
        "mean -",
        "train: 7 clips",
        "2 x 16000 Hz",
        "unreadable (3)",
        "row 7 ",
        "none.wav: does not exist",
        "same audio in several splits (1)",
    ):
        assert part in text


def test_long_lists_are_cut_in_the_text(tmp_path: Path) -> None:
    rows = "".join(f"none{number}.wav,x\n" for number in range(14))
    (tmp_path / "x.csv").write_text("path,label\n" + rows)
    report = describe_data(load_audio_dataset(tmp_path / "x.csv", check_files=False))
    assert (report.mean, report.std, len(report.unreadable)) == (None, None, 14)
    text = list(report.lines())
    assert text[-1].strip() == "... and 4 more"
    assert sum("none" in line for line in text) == 10


PARTS = {
    "disjoint": ("a.wav,x,0,0.5,train\na.wav,x,0.5,1,test\n", []),
    "overlapping": ("a.wav,x,0,0.6,train\na.wav,x,0.5,1,test\n", [["train", "test"]]),
    "one within the other": ("a.wav,x,0.2,0.4,test\na.wav,x,,,train\n", [["train", "test"]]),
    "same split": ("a.wav,x,0,0.6,train\na.wav,x,0.5,1,train\n", []),
    "two places": (
        "a.wav,x,0,0.2,train\na.wav,x,0.1,0.2,test\na.wav,x,0.5,0.8,train\na.wav,x,0.6,0.9,test\n",
        [["train", "test"], ["train", "test"]],
    ),
}


@pytest.mark.parametrize(("rows", "expected"), PARTS.values(), ids=PARTS)
def test_parts_of_one_file_are_duplicates_where_they_overlap(
    tmp_path: Path, rows: str, expected: list
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(0, 16_000), 16_000)
    (tmp_path / "x.csv").write_text("path,label,start,end,split\n" + rows)
    report = describe_data(load_audio_dataset(tmp_path / "x.csv"))
    splits = [[split for split, _, _ in duplicate.clips] for duplicate in report.duplicates]
    assert splits == expected
    assert report.splits["train"].clips > 0
    assert [split.repeated for split in report.splits.values()] == [[]] * len(report.splits)


#: rows of path, label, start, end, split -> duplicates reported for `train`
REPEATED = {
    "the same file": ("a.wav,x,,,train\nb.wav,x,,,train\na.wav,x,,,train\n", [("path", [1, 3], False)]),
    "the same stretch": ("a.wav,x,0.1,0.5,train\na.wav,x,0.1,0.5,train\n", [("path", [1, 2], False)]),
    "a stretch from the beginning": ("a.wav,x,0,0.5,train\na.wav,x,,0.5,train\n", [("path", [1, 2], False)]),
    "other stretches": ("a.wav,x,0,0.6,train\na.wav,x,0.3,0.9,train\na.wav,x,0,0.7,train\n", []),
    "contradicting": ("a.wav,x,,,train\na.wav,y,,,train\na.wav,x,,,train\n", [("path", [1, 2, 3], True)]),
    "the same audio": ("a.wav,x,,,train\ncopy.flac,y,,,train\n", [("content", [1, 2], True)]),
    "both": (
        "a.wav,x,,,train\na.wav,x,,,train\ncopy.flac,x,,,train\n",
        [("path", [1, 2], False), ("content", [1, 2, 3], False)],
    ),
    "in another split too": (
        "a.wav,x,,,train\nb.wav,y,,,train\na.wav,y,,,test\na.wav,x,,,train\n",
        [("path", [1, 3], False)],
    ),
    "silence of two files": ("silent.wav,x,,,train\nsilent too.wav,x,,,train\n", []),
    "silence of one file": ("silent.wav,x,,,train\nsilent.wav,x,,,train\n", [("path", [1, 2], False)]),
}


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Return a few clips; `copy.flac` is `a.wav` in another format."""
    for number, name in enumerate("ab"):
        soundfile.write(tmp_path / f"{name}.wav", noise(number, 16_000), 16_000)
    soundfile.write(tmp_path / "copy.flac", soundfile.read(tmp_path / "a.wav")[0], 16_000, subtype="PCM_16")
    for name in ("silent", "silent too"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(8_000), 16_000)
    return tmp_path


def described(folder: Path, rows: str, **reading: Any) -> DataReport:
    (folder / "x.csv").write_text("path,label,start,end,split\n" + rows)
    return describe_data(load_audio_dataset(folder / "x.csv", **reading))


@pytest.mark.parametrize("streaming", [False, True], ids=["stored", "streamed"])
@pytest.mark.parametrize(("rows", "expected"), REPEATED.values(), ids=REPEATED)
def test_clips_repeated_within_a_split(few: Path, rows: str, expected: list, streaming: bool) -> None:
    report = described(few, rows, streaming=streaming)
    repeated = report.splits["train"].repeated
    assert [(one.kind, [row for row, _ in one.clips], one.contradictory) for one in repeated] == expected
    across = [[(split, row) for split, row, _ in one.clips] for one in report.duplicates]
    assert across == ([[("train", 1), ("train", 3), ("test", 1)]] if "test" in rows else [])


def test_repeated_clips_of_several_labels(few: Path) -> None:
    """The order of a clip's labels does not matter."""
    rows = "a.wav,x;y,,,train\nb.wav,x,,,train\na.wav,y;x,,,train\nb.wav,x;y,,,train\n"
    repeated = described(few, rows, label_separator=";").splits["train"].repeated
    assert [(one.labels, one.contradictory) for one in repeated] == [
        ([["x", "y"], ["x", "y"]], False),
        ([["x"], ["x", "y"]], True),
    ]


def test_repeated_clips_in_the_text(few: Path) -> None:
    """Contradictions come first, with their labels."""
    report = described(few, "a.wav,x,,,train\n" * 6 + "b.wav,x,,,train\nb.wav,y,,,train\n")
    lines = [line.replace(f"{few.resolve()}/", "").strip() for line in report.lines()]
    start = lines.index("same file several times, 1 of them with labels that contradict each other (2)")
    assert lines[start + 1 : start + 3] == [
        "row 7 b.wav (x)  =  row 8 b.wav (y)",
        "row 1 a.wav  =  row 2 a.wav  =  row 3 a.wav  =  row 4 a.wav  and 2 more",
    ]
    plain = json.loads(json.dumps(report.to_dict()))["splits"]["train"]["repeated"][1]
    assert (plain["kind"], plain["labels"], plain["contradictory"]) == ("path", [["x"], ["y"]], True)


def test_split_folders_of_one_split_show_their_common_clips(tmp_path: Path) -> None:
    """`valid` and `eval` are both the validation split."""
    for folder in ("train/x", "valid/y", "eval/y"):
        (tmp_path / folder).mkdir(parents=True)
        soundfile.write(tmp_path / folder / "1.wav", noise(len(folder) > 7, 16_000), 16_000)
    soundfile.write(
        tmp_path / "eval" / "y" / "1.wav", soundfile.read(tmp_path / "valid" / "y" / "1.wav")[0], 16_000
    )
    (same,) = describe_data(load_audio_dataset(tmp_path)).splits["validation"].repeated
    names = [Path(path).parts[-3] for _, path in same.clips]
    assert (same.kind, names) == ("content", ["eval", "valid"])


def test_the_same_numbers_at_another_rate_are_another_sound(tmp_path: Path) -> None:
    for name, rate in (("a", 16_000), ("b", 8_000)):
        soundfile.write(tmp_path / f"{name}.wav", noise(0, 16_000), rate)
    (tmp_path / "x.csv").write_text("path,label,split\na.wav,x,train\nb.wav,x,test\n")
    assert describe_data(load_audio_dataset(tmp_path / "x.csv")).duplicates == []


def test_other_training_split(messy: Path) -> None:
    splits = load_audio_dataset(messy / "x.csv", check_files=False)
    test = describe_data({"test": splits["test"]}, train_split="test")
    assert test.mean is not None
    with pytest.raises(AstDataError, match=r"E209.*'tset'.*train, test"):
        describe_data(splits, train_split="tset")


def test_embedded_audio_is_described(messy: Path) -> None:
    """Embedded audio has no path; its content is compared."""
    import datasets
    from datasets import ClassLabel, Dataset, Features, Value

    stored = {"bytes": Value("binary"), "path": Value("string")}
    features = Features({"audio": stored, "label": ClassLabel(names=["x"])})
    content = (messy / "mono.wav").read_bytes()
    rows = {
        "audio": [{"bytes": content, "path": "0.wav"}, {"bytes": b"no audio", "path": "1.wav"}],
        "label": [0, 0],
    }
    part = Dataset.from_dict(rows, features=features).cast_column("audio", datasets.Audio(decode=False))
    report = describe_data({"train": part, "test": part})
    assert [clip.code for clip in report.splits["train"].unreadable] == ["E201"]
    assert [duplicate.kind for duplicate in report.duplicates] == ["content"]
