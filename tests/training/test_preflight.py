"""Clips that cannot be used are known before the first step, all at once; they stop the run or are skipped."""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from ast_hf import AstConfigError, AstDataError, AstHfError, AstHfWarning, AstInputError
from ast_hf.cli import main
from ast_hf.data.audit import describe_data
from ast_hf.data.clip_digests import PIECE, WHOLE_FILE, digest_clip
from ast_hf.evaluation.evaluate import evaluate_checkpoints
from ast_hf.inputs.clip_checks import BadClip, check_headers, decode_all, refuse, remembered_checks
from ast_hf.training import (
    ASTTrainer,
    ClipInputs,
    Recipe,
    Report,
    cross_validate,
    finetune,
    load_audio_dataset,
    measure_statistics,
    prepare,
)
from ast_hf.training.checkpoints.folder_lock import LOCK_FILE
from ast_hf.training.checkpoints.run_options import RUN_FILE
from ast_hf.training.prepared_file import PREPARED_FILE, PreparedFile
from training.runs import Stop, digest, recipe, sound

#: Any quarter of the clips may be bad.
SKIP = {"on_error": "skip", "max_skipped_fraction": 0.25}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_flac(path: Path) -> None:
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(9_000), 16_000, format="FLAC")
    cut(path)


def impossible_rate(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[24:28] = bytes(4)
    path.write_bytes(content)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def not_finite(path: Path) -> None:
    samples = np.zeros(8_000)
    samples[4_000] = np.nan
    soundfile.write(path, samples, 16_000, subtype="FLOAT")


def damaged_inside(path: Path) -> None:
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(80_000), 16_000, format="FLAC")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = b"\x55" * 200
    path.write_bytes(content)


#: Ways to spoil a clip that its header betrays -> (code, part of the message).
IN_HEADER: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "missing": (Path.unlink, "E206", "does not exist"),
    "directory": (directory, "E206", "is a directory"),
    "pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "E206", "not a regular file"),
    "empty": (lambda path: path.write_bytes(b""), "E201", "is empty"),
    "text": (lambda path: path.write_text("no audio\n" * 99), "E201", "does not look like audio"),
    "cut": (cut, "E202", "is cut off"),
    "cut FLAC": (cut_flac, "E202", "is cut off"),
    "header alone": (lambda path: path.write_bytes(path.read_bytes()[:44]), "E202", "is cut off"),
    "no rate": (impossible_rate, "E204", "impossible header"),
    "12 channels": (
        lambda path: soundfile.write(path, np.zeros((3_000, 12)), 16_000),
        "E204",
        "declares 12 channels",
    ),
    "short": (lambda path: soundfile.write(path, np.zeros(399), 16_000), "E103", "too short, 399 samples"),
}
#: Ways that only decoding shows.
INSIDE: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "damaged": (damaged_inside, "E203", "cannot be decoded"),
    "NaN": (not_finite, "E104", "NaN or infinite"),
}


@pytest.fixture
def table(clips: Path, tmp_path: Path) -> Path:
    """Return the table of a copy of the clips, which it names in the order of the folders."""
    root = tmp_path / "data"
    shutil.copytree(clips, root)
    files = sorted(root.rglob("*.wav"))
    rows = [f"{file.relative_to(root)},{file.parent.name},{file.parts[-3]}\n" for file in files]
    (root / "clips.csv").write_text("path,label,split\n" + "".join(rows))
    return root / "clips.csv"


def files_of(table: Path, split: str) -> list[Path]:
    return sorted((table.parent / split).rglob("*.wav"))


def spoil(table: Path, ways: dict[str, tuple[Callable[[Path], Any], str, str]]) -> dict[Path, str]:
    """Spoil every third file of the training split, one in each way; return file -> code."""
    files = files_of(table, "train")[1::2][: len(ways)]
    for file, (way, _, _) in zip(files, ways.values(), strict=True):
        way(file)
    return {file: code for file, (_, code, _) in zip(files, ways.values(), strict=True)}


def weights(folder: Path) -> dict[str, str]:
    return digest(load_file(folder / "model.safetensors"))


# ---------------------------------------------------------------- what is found


@pytest.mark.parametrize(("way", "code", "what"), IN_HEADER.values(), ids=IN_HEADER)
def test_a_header_betrays(
    table: Path, way: Callable[[Path], Any], code: str, what: str, tmp_path: Path
) -> None:
    """Also in the test split, which is read after training: its split, row and file are named."""
    file = files_of(table, "test")[2]
    way(file)
    with pytest.raises(AstHfError, match=rf"{code}.*test row 3, '{file}'.*{re.escape(what)}"):
        prepare(recipe(table), tmp_path / "run")


@pytest.mark.parametrize(("way", "code", "what"), INSIDE.values(), ids=INSIDE)
def test_decoding_betrays(
    table: Path, way: Callable[[Path], Any], code: str, what: str, tmp_path: Path
) -> None:
    file = files_of(table, "test")[2]
    way(file)
    prepare(recipe(table), tmp_path / "run")
    with pytest.raises(AstHfError, match=rf"{code}.*test row 3, '{file}'.*{re.escape(what)}"):
        prepare(recipe(table, {"data": {"check": "full"}}), tmp_path / "run")


def test_all_bad_clips_are_named_at_once(table: Path, tmp_path: Path) -> None:
    bad = spoil(table, IN_HEADER)
    with pytest.raises(AstHfError) as raised:
        prepare(recipe(table), tmp_path / "run")
    message = str(raised.value)
    assert "11 of 32 clips cannot be used" in message
    assert message.count("train row") == 9
    listed = (tmp_path / "run" / "unreadable_clips.jsonl").read_text().splitlines()
    assert {Path(row["path"]): row["code"] for row in map(json.loads, listed)} == bad
    assert "unreadable_clips.jsonl' lists all" in message


def test_boundaries_outside_of_a_file_are_found(table: Path, tmp_path: Path) -> None:
    lines = table.read_text().splitlines()
    lines = [lines[0] + ",start,end", *(f"{line},0.0,0.2" for line in lines[1:])]
    lines[6] = lines[6].replace("0.0,0.2", "0.1,7.0")
    table.write_text("\n".join(lines))
    with pytest.raises(AstDataError, match=r"E208.*row \d+, '.*so 0\.1 s to 7 s is not completely in it"):
        prepare(recipe(table), tmp_path / "run")


def test_splits_that_are_not_used_are_not_checked(table: Path, tmp_path: Path) -> None:
    cut(files_of(table, "test")[0])
    prepare(recipe(table, {"data": {"eval_splits": []}}), tmp_path / "run")


def test_a_suspicious_header_alone_is_no_error(tmp_path: Path) -> None:
    """A header check must not refuse what training reads: a WAV from a pipe declares no size."""
    soundfile.write(tmp_path / "a.wav", sound("noise", 1), 16_000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(content)
    (tmp_path / "x.csv").write_text("path,label\na.wav,x\na.wav,y\n")
    check = check_headers("train", load_audio_dataset(tmp_path / "x.csv")["train"], 16_000)
    assert not check.bad
    assert check.clips[0].seconds == pytest.approx(0.325, abs=1e-3)


def test_embedded_audio_is_checked(table: Path) -> None:
    split = load_audio_dataset(table)["test"]
    contents = [Path(row["audio"]["path"]).read_bytes() for row in split]
    contents[2] = contents[2][:100]
    audio = [{"bytes": content, "path": f"{number}.wav"} for number, content in enumerate(contents)]
    embedded = split.remove_columns("audio").add_column("audio", audio)
    check = check_headers("test", embedded, 16_000)
    assert [(clip.row, clip.path, clip.code) for clip in check.bad] == [(3, "2.wav", "E202")]


def test_checks_are_remembered_until_a_file_changes(table: Path) -> None:
    split = load_audio_dataset(table)["test"]
    file = files_of(table, "test")[2]
    with remembered_checks():
        before = check_headers("test", split, 16_000)
        assert check_headers("test", split, 16_000) == before
        state = file.stat()
        content = bytearray(file.read_bytes())
        content[-2:] = b"\x01\x02"
        file.write_bytes(content)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
        after = check_headers("test", split, 16_000)
    changed = [one.digest != other.digest for one, other in zip(before.clips, after.clips, strict=True)]
    assert changed == [number == 2 for number in range(8)]


def test_the_command_decodes_all_clips(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged_inside(files_of(table, "test")[0])
    (tmp_path / "r.yaml").write_text(recipe(table).to_yaml())
    command = ["finetune", str(tmp_path / "r.yaml"), "--data", str(table), "--output", str(tmp_path / "run")]
    assert main([*command, "--check", "full"]) == 65
    printed = capsys.readouterr().err.strip().splitlines()
    assert re.match(r"\[AST-E203\] test row 1, ", printed[-1])
    assert "checking" not in "".join(printed)  # no progress bar in a file


def test_folds_and_evaluation_check_first(table: Path, tmp_path: Path, trained: Report) -> None:
    cut(files_of(table, "train")[3])
    cut(files_of(table, "test")[3])
    with pytest.raises(AstDataError, match=r"E202.*fold 1: train row"):
        cross_validate(recipe(table), tmp_path / "folds", folds=2)
    assert not list((tmp_path / "folds").glob("fold-*"))
    with pytest.raises(AstDataError, match=r"E202.*test row 4, "):
        evaluate_checkpoints([str(trained.folder)], str(table), output_dir=tmp_path / "evaluation")


# ---------------------------------------------------------------- skipping


@pytest.mark.long
def test_skipping_equals_data_without_the_bad_clips(table: Path, tmp_path: Path) -> None:
    """Also with held-out clips, which are drawn from the clips that remain."""
    options = {"data": {**SKIP, "validation_fraction": 0.25}}
    ways = dict([*list(IN_HEADER.items())[:5], *INSIDE.items()])
    bad = spoil(table, ways)
    cut(files_of(table, "test")[0])
    with pytest.warns(AstHfWarning, match=r"W214.*8 clips .* \(train 7 of 24, test 1 of 8\).*first is train"):
        report = finetune(recipe(table, options), tmp_path / "skipped")

    names = [str(file.relative_to(table.parent)) for file in (*bad, files_of(table, "test")[0])]
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if line.split(",")[0] not in names))
    plain = finetune(recipe(table, {"data": {"validation_fraction": 0.25}}), tmp_path / "plain")
    assert weights(report.folder) == weights(plain.folder)
    assert report.results == plain.results

    rows = [json.loads(row) for row in (report.folder / "skipped_clips.jsonl").read_text().splitlines()]
    assert [row.keys() for row in rows] == [{"split", "row", "path", "code", "what"}] * 8
    assert {Path(row["path"]): row["code"] for row in rows if row["split"] == "train"} == bad
    stored = json.loads((report.folder / "results.json").read_text())["data_check"]
    assert stored["skipped"] == {"train": 7, "test": 1}
    assert str(tmp_path) not in json.dumps(stored["skipped_clips"])
    assert "left out: 7 in train, 1 in test." in ModelCard.load(report.folder / "README.md").text


def test_too_many_bad_clips_stop_the_run(table: Path, tmp_path: Path) -> None:
    cut(files_of(table, "train")[0])
    allowed = {"data": {"on_error": "skip"}}
    message = r"E210.*1 of 32 clips cannot be used \(3\.12%\).*allows 1\.00%: train row 1, '.*' is cut off"
    with pytest.raises(AstDataError, match=message.replace("'.*' is", "'.*': is")):
        prepare(recipe(table, allowed), tmp_path / "run")


def test_a_class_that_is_skipped_completely_is_an_error(table: Path, tmp_path: Path) -> None:
    for file in (table.parent / "train" / "noise").glob("*.wav"):
        cut(file)
    with pytest.raises(AstDataError, match=r"E209.*has no clip of noise"), pytest.warns(AstHfWarning):
        prepare(recipe(table, {"data": {"on_error": "skip", "max_skipped_fraction": 1.0}}), tmp_path / "run")


@pytest.mark.long
def test_a_resumed_run_decodes_nothing_again(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither to find bad clips nor to measure: the output folder has what the first start found."""
    plan = recipe(table, {"data": {**SKIP, "cache": False}})
    cut(files_of(table, "train")[0])
    damaged_inside(files_of(table, "train")[1])
    with pytest.warns(AstHfWarning, match="W214"):
        unbroken = finetune(plan, tmp_path / "unbroken")
    with pytest.warns(AstHfWarning, match="W214"):
        begun = prepare(plan, tmp_path / "run").trainer
    begun.add_callback(Stop(epoch=1))
    begun.train()

    monkeypatch.setattr("ast_hf.training.preflight.decode_all", None)
    monkeypatch.setattr("ast_hf.training.building.measure_statistics", None)
    with pytest.warns(AstHfWarning, match="W214.*2 clips"):
        resumed = finetune(plan, tmp_path / "run", resume_from_checkpoint="auto")
    assert weights(resumed.folder) == weights(unbroken.folder)

    damaged_inside(files_of(table, "train")[2])  # other clips are decoded again
    with pytest.raises(TypeError, match="NoneType"):
        prepare(plan, tmp_path / "run")


def test_a_stream_cannot_be_checked_first(table: Path) -> None:
    stream: dict[str, Any] = {"features": {"mean": -4.0, "std": 4.0}}
    for option, value in (("check", "full"), ("on_error", "skip")):
        with pytest.raises(AstConfigError, match=rf"E307.*data\.{option}.*before training"):
            recipe(table, {**stream, "data": {"streaming": True, option: value}}, max_steps=2)


def test_a_bad_clip_of_a_stream_is_named(table: Path, tmp_path: Path) -> None:
    cut(files_of(table, "train")[5])
    options = {"features": {"mean": -4.0, "std": 4.0}, "data": {"streaming": True, "eval_splits": []}}
    plan = recipe(table, options, max_steps=6)
    with pytest.raises(AstDataError, match=r"E202.*train row \d+, '.*\.wav'.*is cut off"):
        finetune(plan, tmp_path / "run")


# ---------------------------------------------------------------- suspicious clips


def test_shared_and_contradictory_clips_are_warned_of(table: Path, tmp_path: Path) -> None:
    train = files_of(table, "train")
    shutil.copy(train[0], files_of(table, "test")[0])  # same content in two splits
    lines = table.read_text().splitlines()
    lines += ["train/noise/1.wav,tone,train", "train/noise/2.wav,noise,test"]
    table.write_text("\n".join(lines))
    with pytest.warns(AstHfWarning) as caught:
        report = finetune(recipe(table), tmp_path / "run")
    texts = [str(warning.message) for warning in caught if "W215" in str(warning.message)]
    assert len(texts) == 2
    assert "in several splits inflate the results on them: 2, the first is" in texts[0]
    assert re.search(
        r"several times have different labels: 1, .*train row 2 .* \('noise'\) = train row 25 .* \('tone'\)",
        texts[1],
    )
    assert (report.data_check["shared"], report.data_check["contradictory"]) == (2, 1)
    card = ModelCard.load(report.folder / "README.md").text
    assert "in several splits, which inflates the results: 2." in card
    assert "several times with different labels: 1." in card


def test_clips_longer_than_the_model_hears_are_warned_of(table: Path, tmp_path: Path) -> None:
    for file in files_of(table, "test"):
        soundfile.write(file, np.random.default_rng(len(str(file))).standard_normal(80_000) / 9, 16_000)
    message = r"W201.*split 'test': 34\.9 s of 8 of 8 clips are not used \(87%\).* 0\.64 s.*test row 1 '.*', 5\.00 s"
    with pytest.warns(AstHfWarning, match=message):
        report = finetune(recipe(table), tmp_path / "run")
    used = report.data_check["used"]
    assert used["train"] == 1.0
    assert used["test"] == pytest.approx(0.64 / 5, abs=0.001)
    assert report.data_check["sound"]["test"] == {
        **{"clips": 8, "seconds": 40.0, "cut_clips": 8, "unused_seconds": 34.88, "window": 0.64},
        "random_crop": False,
    }
    assert report.data_check["sound"]["train"]["cut_clips"] == 0
    card = ModelCard.load(report.folder / "README.md").text
    assert "Of the sound in the clips above this leaves out 87% in test." in card
    assert "Longer than the model's input, and not used: 34.9 s of 8 of 8 clips in test." in card


@pytest.mark.parametrize(("seconds", "is_cut"), [(0.73, False), (0.74, True), (1.29, True)])
def test_statistics_and_training_agree_on_long_clips(
    table: Path, tmp_path: Path, seconds: float, is_cut: bool
) -> None:
    """A cut of less than 0.1 s is not worth a word; the model's input is 0.64 s."""
    file = files_of(table, "train")[4]
    soundfile.write(file, 0.1 * np.random.default_rng(0).standard_normal(round(16_000 * seconds)), 16_000)
    report = describe_data(load_audio_dataset(table), num_mel_bins=32, max_length=64)
    assert [finding.row for finding in report.splits["train"].long] == [5] * is_cut
    lines = "\n".join(report.lines())
    said = f"an input of 0.64 s: {seconds - 0.64:.1f} s of 1 of 24 clips are not used"
    assert (said in lines) == is_cut
    assert report.splits["train"].cut[0]["cut_clips"] == is_cut
    assert "an input of 0.64 s: no sound is left out" in lines  # of the test split, and of what is not cut
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare(recipe(table), tmp_path / "run")
    texts = [str(warning.message) for warning in caught if "W201" in str(warning.message)]
    assert len(texts) == is_cut
    for text in texts:
        assert f"'train': {seconds - 0.64:.1f} s of 1 of 24 clips are not used" in text


@pytest.mark.parametrize("options", [{"validation_fraction": 0.5}, {"random_folds": 2, "test_fold": 1}])
def test_clips_that_are_held_out_and_trained_on_are_warned_of(
    table: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Copies of one clip come to both sides of a random split."""
    files = files_of(table, "train")
    for file in files[:8]:
        shutil.copy(files[8], file)
    with pytest.warns(
        AstHfWarning, match=r"W215.*in several splits.*: 1, .*train row \d+ .*\(held out\), train row"
    ):
        run = prepare(recipe(table, {"data": options}), tmp_path / "run")
    assert (run.findings["shared"], run.findings["contradictory"]) == (1, 0)


def test_evaluation_warns_as_training(table: Path, tmp_path: Path, trained: Report) -> None:
    train, test = files_of(table, "train"), files_of(table, "test")
    soundfile.write(train[0], np.random.default_rng(0).standard_normal(80_000) / 9, 16_000)
    shutil.copy(train[0], test[7])
    with pytest.warns(AstHfWarning) as caught:
        evaluate_checkpoints(
            [str(trained.folder)], str(table), output_dir=tmp_path / "evaluation", fit_on="train"
        )
    texts = [str(warning.message) for warning in caught if re.search("W2(01|15)", str(warning.message))]
    assert [re.search(r"AST-(W\d+)\] (.*?):", text).groups() for text in texts] == [
        ("W215", "data"),
        ("W215", "data"),
        ("W201", "split 'test'"),
        ("W201", "split 'train'"),
    ]


def test_silent_clips_are_not_repetitions(table: Path, tmp_path: Path) -> None:
    for file in (*files_of(table, "train")[::12], files_of(table, "test")[0]):
        soundfile.write(file, np.zeros(8_000), 16_000)
    with pytest.warns(AstHfWarning, match="W203"):
        findings = prepare(recipe(table), tmp_path / "run").findings
    assert (findings["shared"], findings["contradictory"]) == (0, 0)
    assert describe_data(load_audio_dataset(table)).duplicates == []


def test_random_crops_hear_all_of_a_clip(table: Path, tmp_path: Path) -> None:
    for number, file in enumerate(files_of(table, "train")):
        soundfile.write(file, np.random.default_rng(number).standard_normal(80_000) / 9, 16_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstHfWarning)
        run = prepare(recipe(table, {"augmentation": {"random_crop": True}}), tmp_path / "run")
    assert run.findings["used"] == {"test": 1.0}
    assert run.findings["sound"]["train"]["random_crop"]
    assert run.findings["sound"]["train"]["cut_clips"] == 24


def test_levels_are_warned_of_by_row_and_file(table: Path) -> None:
    files = files_of(table, "train")
    soundfile.write(files[2], np.zeros(8_000), 16_000)
    soundfile.write(files[4], 1e3 * sound("noise", 1), 16_000, subtype="FLOAT")
    inputs = prepare_inputs(table)
    with pytest.warns(AstHfWarning) as caught:
        measure_statistics(inputs)
    texts = sorted(str(warning.message) for warning in caught)
    assert len(texts) == 2
    assert texts[0].startswith(f"[AST-W202] train row 5, '{files[4]}': peaks at")
    assert texts[1].startswith(f"[AST-W203] train row 3, '{files[2]}': has no signal")


def test_many_silent_clips_are_counted(table: Path) -> None:
    for file in files_of(table, "train")[:13]:
        soundfile.write(file, np.zeros(8_000), 16_000)
    with pytest.warns(AstHfWarning, match="W203.*3 more clips like these") as caught:
        measure_statistics(prepare_inputs(table))
    assert len(caught) == 11


def test_samples_outside_of_any_range_are_named(table: Path) -> None:
    file = files_of(table, "train")[2]
    soundfile.write(file, np.full(8_000, 1e13), 16_000, subtype="FLOAT")
    with pytest.raises(AstInputError, match=rf"E104.*train row 3, '{file}'"):
        measure_statistics(prepare_inputs(table))
    check = check_headers("train", load_audio_dataset(table)["train"], 16_000)
    decode_all("train", load_audio_dataset(table)["train"], 16_000, check)
    assert [(clip.row, clip.code) for clip in check.bad] == [(3, "E104")]
    unreadable = describe_data(load_audio_dataset(table)).splits["train"].unreadable
    assert [(finding.row, finding.code) for finding in unreadable] == [(3, "E104")]


def prepare_inputs(table: Path) -> ClipInputs:
    from ast_hf import ASTFeatureExtractor

    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=64)
    return ClipInputs(load_audio_dataset(table)["train"], extractor, name="train")


# ---------------------------------------------------------------- other sound


@pytest.fixture
def begun(table: Path, tmp_path: Path) -> Path:
    """Return the folder of a run that was interrupted after its first epoch."""
    trainer = prepare(recipe(table), tmp_path / "run").trainer
    trainer.add_callback(Stop(epoch=1))
    trainer.train()
    return tmp_path / "run"


def change(file: Path) -> None:
    """Change samples in the middle of a file, which keeps its size and its time."""
    state = file.stat()
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20] = bytes(20)
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)


def trainer_of(plan: Recipe, folder: Path) -> ASTTrainer:
    return prepare(plan, folder).trainer


def test_other_sound_of_the_same_name_is_refused(begun: Path, table: Path) -> None:
    changed = files_of(table, "train")[5]
    change(changed)
    trainer = trainer_of(recipe(table), begun)
    with pytest.raises(
        AstConfigError, match=rf"E306.*content, name, start or end of train row 6, '{changed.name}' changed"
    ) as raised:
        trainer.train(resume_from_checkpoint="auto")
    assert raised.value.detail == "mismatch"


def test_a_named_checkpoint_resumes_with_other_sound(begun: Path, table: Path) -> None:
    for file in files_of(table, "train")[:5]:
        change(file)
    with pytest.warns(AstHfWarning, match=r"W406.*train row 1, .*row 3, '.*' and 2 more changed"):
        trainer_of(recipe(table), begun).train(resume_from_checkpoint=str(begun / "checkpoint-3"))


def test_a_copied_or_moved_data_set_resumes(begun: Path, table: Path, tmp_path: Path) -> None:
    """Times and folders are not part of a clip. The test split does not affect the weights."""
    change(files_of(table, "test")[0])
    shutil.copytree(table.parent, tmp_path / "moved", copy_function=shutil.copyfile)
    shutil.rmtree(table.parent)
    trainer = trainer_of(recipe(tmp_path / "moved" / table.name), begun)
    trainer.train(resume_from_checkpoint="auto")
    assert trainer.changes == []


def test_renamed_and_swapped_clips_are_refused(begun: Path, table: Path) -> None:
    first, second = files_of(table, "train")[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.raises(AstConfigError, match=r"E306.*train row 1, '0\.wav', train row 2, '1\.wav' changed"):
        trainer_of(recipe(table), begun).train(resume_from_checkpoint="auto")


def test_a_checkpoint_of_an_older_version_resumes(begun: Path, table: Path) -> None:
    file = begun / "checkpoint-3" / RUN_FILE
    stored = json.loads(file.read_text())
    stored["decided"] = {name: value for name, value in stored["decided"].items() if "sound of" not in name}
    from ast_hf.training.checkpoints.run_options import check_options

    file.write_text(json.dumps(stored))
    change(files_of(table, "train")[5])
    decided = trainer_of(recipe(table), begun).decided
    assert decided is not None
    assert check_options(begun / "checkpoint-3", decided, is_explicit=False) == []


def test_validation_clips_count_if_they_choose_the_checkpoint(table: Path, tmp_path: Path) -> None:
    table.write_text(table.read_text().replace(",test", ",validation"))
    best = {"eval_strategy": "epoch", "load_best_model_at_end": True, "save_strategy": "epoch"}
    for training, expected in ((best, {"train", "validation"}), ({}, {"train"})):
        decided = prepare(recipe(table, {}, **training), tmp_path / "run").trainer.decided
        assert decided is not None
        assert {name.removeprefix("sound of ") for name in decided if "sound of" in name} == expected


def test_digests_of_large_files_see_their_length_and_most_of_their_content(tmp_path: Path) -> None:
    content = bytearray(np.random.default_rng(0).bytes(WHOLE_FILE + 5 * PIECE))
    file = tmp_path / "a.wav"

    def digests(changed: bytes | bytearray, **bounds: float) -> tuple[bytes, bytes]:
        file.write_bytes(changed)
        embedded = digest_clip({"audio": {"bytes": changed, "path": "a.wav"}, **bounds})
        assert digest_clip({"audio": {"bytes": None, "path": str(file)}, **bounds}) == embedded
        return embedded

    sound_digest, identity = digests(content)
    spoiled = content.copy()
    spoiled[len(content) // 2 : len(content) // 2 + 2 * PIECE] = bytes(2 * PIECE)
    for other in (digests(spoiled), digests(content[:-1]), digests(content, start=0.0, end=1.0)):
        assert other[0] != sound_digest
    (tmp_path / "b.wav").write_bytes(content)
    renamed = digest_clip({"audio": {"path": str(tmp_path / "b.wav")}})
    assert renamed.sound == sound_digest
    assert renamed.identity != identity


@pytest.mark.parametrize("has_statistics", [False, True])
def test_an_edit_anywhere_in_a_large_file_is_seen_if_statistics_are_measured(
    table: Path, tmp_path: Path, has_statistics: bool
) -> None:
    """With given statistics, files are read in pieces: an edit between them is not seen."""
    file = files_of(table, "train")[4]
    soundfile.write(file, 0.1 * np.random.default_rng(0).standard_normal(4_000_000), 16_000)
    features = {"features": {"mean": -4.0, "std": 4.0}} if has_statistics else {}
    identities = []
    for _ in range(2):
        decided = prepare(recipe(table, features), tmp_path / "run").trainer.decided
        assert decided is not None
        identities.append(decided["sound of train"].identities[4])
        content = bytearray(file.read_bytes())
        place = (len(content) - PIECE) // 31 * 5 + PIECE + 1_000  # between the sixth piece and the seventh
        content[place : place + 20] = bytes(20)
        file.write_bytes(content)
    assert (identities[0] == identities[1]) == has_statistics


def test_what_a_validation_split_decides_is_compared(table: Path, tmp_path: Path) -> None:
    """Its clips and their labels, if they choose the best checkpoint or the learning rate."""
    table.write_text(table.read_text().replace(",test", ",validation"))
    best = {"eval_strategy": "epoch", "load_best_model_at_end": True, "save_strategy": "epoch"}
    plateau = {"eval_strategy": "epoch", "lr_scheduler_type": "reduce_lr_on_plateau"}
    for training in (best, plateau):
        decided = prepare(recipe(table, {}, **training), tmp_path / "run").trainer.decided
        assert decided is not None
        assert {"sound of validation", "labels of validation"} <= decided.keys()


def test_measured_statistics_belong_to_their_options(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    run = prepare(recipe(table, max_steps=1), folder)
    assert [path.name for path in folder.iterdir()] == [LOCK_FILE]  # no more before it is known to be allowed
    run.trainer.train()
    extractor = run.trainer.processing_class
    monkeypatch.setattr("ast_hf.training.building.measure_statistics", None)
    again = prepare(recipe(table, max_steps=1), folder).trainer.processing_class
    assert (again.mean, again.std) == (extractor.mean, extractor.std)
    for plan in (replace(recipe(table, max_steps=1), sampling="balanced"), recipe(table, max_steps=2)):
        with pytest.raises(TypeError, match="NoneType"):
            prepare(plan, folder)
    change(files_of(table, "train")[3])
    with pytest.raises(TypeError, match="NoneType"):
        prepare(recipe(table, max_steps=1), folder)


@pytest.mark.parametrize(("old", "new"), [("-3", "-4"), ("{", ""), ("result", "resolt")])
def test_a_damaged_file_of_preparations_is_not_used(tmp_path: Path, old: str, new: str) -> None:
    prepared = PreparedFile(tmp_path)
    prepared.keep("mean and std", {"a": 1}, [-3.25, 4.5])
    assert prepared.read("mean and std", {"a": 1}) is None
    prepared.write()
    assert prepared.read("mean and std", {"a": 1}) == [-3.25, 4.5]
    assert prepared.read("mean and std", {"a": 2}) is None
    file = tmp_path / PREPARED_FILE
    file.write_text(file.read_text().replace(old, new, 1))
    assert prepared.read("mean and std", {"a": 1}) is None


def test_missing_files_of_a_table_name_the_option_of_their_folder(tmp_path: Path) -> None:
    clips = [
        BadClip("train", row, f"{row}.wav", "E206", "does not exist", "check the path") for row in (1, 2)
    ]
    assert "audio_root" in str(refuse(clips, 2, tmp_path))
