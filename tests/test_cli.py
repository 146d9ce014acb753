"""The commands, in this process: their output, and their errors for bad input."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from conftest import ROOT, TINY, run_fresh
from hub_server import Hub
from huggingface_hub import HfApi
from tqdm.auto import tqdm

import ast_hf
from ast_hf import cli
from ast_hf.commands import finetune, info
from ast_hf.errors import error


@pytest.fixture
def clips(tmp_path: Path, tone: np.ndarray) -> Path:
    """Return label folders of tones and noise, six clips each, with a test split."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for number in range(count):
            for label, waveform in (("tone", tone), ("noise", 0.1 * random.standard_normal(16_000))):
                folder = tmp_path / "clips" / split / label
                folder.mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / f"{number}.wav", waveform, 16_000)
    return tmp_path / "clips"


def test_classify_prints_labels_and_reports_bad_files(
    tiny_checkpoint: Path, tmp_path: Path, tone: np.ndarray, capsys: pytest.CaptureFixture
) -> None:
    good = tmp_path / "good.flac"
    soundfile.write(good, tone, 16_000)
    code = cli.main(
        ["classify", str(tiny_checkpoint), str(tmp_path / "missing.wav"), str(good), "--top_k", "2"]
    )
    printed = capsys.readouterr()
    assert code == 65
    assert "AST-E206" in printed.err
    assert "missing.wav" in printed.err
    names, scores, labels = zip(*(line.split("\t") for line in printed.out.splitlines()), strict=True)
    assert names == (str(good), str(good))
    assert all(0 <= float(score) <= 1 for score in scores)
    assert set(labels) < {"cat", "dog", "owl"}


def test_info_describes_a_checkpoint(tiny_checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["info", str(tiny_checkpoint)]) == 0
    printed = capsys.readouterr().out
    for fact in ("2 layers, 24 wide, 3 heads", "3 x 7 = 21, 23 tokens", "0.64 s", "3: cat, dog, owl"):
        assert fact in printed


def test_info_describes_the_environment(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["info"]) == 0
    printed = capsys.readouterr().out
    for name in ("torch", "transformers", "libsndfile", "torchvision"):
        assert name in printed


def test_finetune_trains_by_a_recipe(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = tmp_path / "recipe.yaml"
    training = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "disable_tqdm": True}
    recipe.write_text(yaml.safe_dump({"model": {"config": TINY}, "training": training}))
    output = tmp_path / "out"
    assert cli.main(["finetune", str(recipe), "--data", str(clips), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "logistic regression baseline" in printed
    assert re.search(
        r"Trained on 12 clips, 2 epochs, in \d+ s: [\d.]+ clips/s\.\nTrained .*\nEvaluated on 6 test\.\n",
        printed,
    )
    assert (output / "model.safetensors").exists()
    again = [
        "finetune",
        str(recipe),
        "--data",
        str(clips),
        "--output",
        str(output),
        "--resume",
        str(output / "checkpoint-6"),
    ]
    assert cli.main([*again, "--set", "training.num_train_epochs=3"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["finetune", "missing.yaml", "--output", "out"], 65, "AST-E307"),
        (["classify", "/nowhere/at-all", "a.wav"], 65, "AST-E306"),
        (["info", "/nowhere/at-all"], 65, "AST-E306"),
        (["demo"], 65, "clone of the repository"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_wrong_arguments_exit_with_a_fix(
    arguments: list[str], code: int, text: str, capsys: pytest.CaptureFixture, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == code
    assert text in capsys.readouterr().err


@pytest.mark.slow
def test_demo_runs_on_other_recordings(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    from ast_hf.commands.demo import run_demo

    recipe = tmp_path / "recipe.yaml"
    training = {"num_train_epochs": 1, "per_device_train_batch_size": 4, "disable_tqdm": True}
    recipe.write_text(yaml.safe_dump({"model": {"config": TINY}, "training": training}))
    monkeypatch.chdir(tmp_path)
    run_demo(str(recipe), [f"data.source={clips}", "data.eval_splits=[test]"], "out")
    printed = capfd.readouterr().out
    assert "fresh process" in printed
    assert "0.wav (noise) ->" in printed
    assert "0.wav (tone) ->" in printed


def test_stats_lists_unreadable_clips_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("low", "high"):
        (tmp_path / "data" / label).mkdir(parents=True)
        samples = 0.3 * np.sin(np.arange(8000) / (9 if label == "low" else 2))
        soundfile.write(tmp_path / "data" / label / "1.wav", samples, 16_000)
    report = tmp_path / "report.json"
    assert cli.main(["stats", str(tmp_path / "data"), "--json", str(report)]) == 0
    assert "train: 2 clips" in capsys.readouterr().out
    assert json.loads(report.read_text())["splits"]["train"]["labels"] == {"high": 1, "low": 1}
    (tmp_path / "data" / "low" / "2.wav").write_bytes(b"no audio at all")
    assert cli.main(["stats", str(tmp_path / "data")]) == 65
    printed = capsys.readouterr()
    assert "train: 3 clips" in printed.out
    assert "E201" in printed.err
    assert "2.wav" in printed.err


def test_evaluate_writes_and_prints(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("cat", "owl"):
        (tmp_path / "data" / "test" / label).mkdir(parents=True)
        soundfile.write(
            tmp_path / "data" / "test" / label / "1.wav", 0.3 * np.sin(np.arange(8000) / 5), 16_000
        )
    arguments = ["evaluate", str(tiny_checkpoint), str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    assert "accuracy" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "results.json").read_text())["clips"] == 2
    assert cli.main([*arguments, "--split", "tset"]) == 65
    assert "'test'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["{}", "[]", "no JSON", '{"recipe": null}'], ids=["no recipe", "a list", "not JSON", "no name"]
)
def test_demo_refuses_to_overwrite_the_results_of_something_else(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ast_hf.commands.demo import run_demo

    monkeypatch.chdir(ROOT)
    results = tmp_path / "results.json"
    results.write_text(content)
    assert cli.main(["demo", "--quick", "--output", str(tmp_path)]) == 65
    assert f"[AST-E306] {str(results)!r}: is not from a run of ast_hf" in capsys.readouterr().err
    with pytest.raises(ast_hf.AstHfError) as caught:
        run_demo("examples/recipes/instruments.yaml", [], str(tmp_path))
    assert caught.value.detail == "exists"
    assert results.read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.long
@pytest.mark.parametrize("command", ["stats", "evaluate", "classify", "info"])
def test_commands_other_than_training_do_not_import_the_trainer(
    command: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    for label in ("cat", "owl"):
        (tmp_path / "data" / "test" / label).mkdir(parents=True)
        soundfile.write(
            tmp_path / "data" / "test" / label / "1.wav", 0.3 * np.sin(np.arange(8000) / 5), 16_000
        )
    data = str(tmp_path / "data")
    arguments = {
        "stats": ["stats", data, "--split", "test"],
        "evaluate": ["evaluate", str(tiny_checkpoint), data, "--output", str(tmp_path / "out")],
        "classify": ["classify", str(tiny_checkpoint), f"{data}/test/cat/1.wav"],
        "info": ["info", str(tiny_checkpoint)],
    }
    printed = run_fresh(
        "import sys\n"
        "from ast_hf import cli\n"
        f"code = cli.main({arguments[command]!r})\n"
        "training = [name for name in sys.modules if name.startswith('ast_hf.training')]\n"
        "print(code, 'ast_hf.training.trainer' in sys.modules, training)"
    )
    assert printed.splitlines()[-1] == "0 False []"


def test_scripts_take_the_options_of_finetune() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output_dir")
    finetune.add_run_options(parser)
    arguments = [
        "--output_dir",
        "o",
        "--data",
        "my clips",
        "--vit",
        "a/b",
        "--set",
        "training.fp16=true",
        "--resume",
    ]
    options = parser.parse_args(arguments)
    assert (options.output_dir, options.resume, options.overwrite) == ("o", True, False)
    changes = ['data.source="my clips"', 'model.vit="a/b"', "training.fp16=true"]
    assert finetune.recipe_overrides(options) == changes
    command = cli.build_parser().parse_args(["finetune", "r.yaml", "--output", *arguments[1:]])
    assert finetune.recipe_overrides(command) == changes


# Names that do not exist


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with `outputs/demo` and `table/metadata.csv`."""
    for name in ("outputs/demo", "table"):
        (tmp_path / "work" / name).mkdir(parents=True)
    (tmp_path / "work" / "table" / "metadata.csv").touch()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


NOT_HERE = "there is no such file or folder here, and on the Hub names are user/name. Fix: "
KNOWN = "or one of audioset-balanced, audioset-full, esc50, speech-commands."


def taken(folder: str) -> str:
    return f"is taken for a path, since a folder {folder!r} is here, and it holds nothing of that name. Fix: "


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats", "nope"], f"[AST-E206] 'nope': {NOT_HERE}check the path, or give user/name, {KNOWN}"),
        (["stats", "tabel"], f"[AST-E206] 'tabel': {NOT_HERE}did you mean 'table'?"),
        (["stats", "esc5"], f"[AST-E206] 'esc5': {NOT_HERE}did you mean 'esc50'?"),
        (
            ["stats", "table/metadata", "--streaming"],
            f"[AST-E206] 'table/metadata': {taken('table')}did you mean 'table/metadata.csv'?",
        ),
        (["stats", "a/b/c"], f"[AST-E206] 'a/b/c': {NOT_HERE}check the path, or give user/name, {KNOWN}"),
        (["classify", "nope", "x.flac"], f"[AST-E306] 'nope': {NOT_HERE}check the path, or give user/name."),
        (
            ["classify", "outputs/dmo", "x.flac"],
            f"[AST-E306] 'outputs/dmo': {taken('outputs')}did you mean 'outputs/demo'?",
        ),
        (
            ["info", "outputs/dmo"],
            f"[AST-E306] 'outputs/dmo': {taken('outputs')}did you mean 'outputs/demo'?",
        ),
        (["evaluate", "output", "table"], f"[AST-E306] 'output': {NOT_HERE}did you mean 'outputs'?"),
        (["convert", "output", "new"], f"[AST-E306] 'output': {NOT_HERE}did you mean 'outputs'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_misspelt_path_is_refused_without_a_hub_request(
    arguments: list[str], message: str, work: Path, data_hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 65
    assert capsys.readouterr().err == message + "\n"
    assert data_hub.log == []


@pytest.mark.parametrize("option", ["base", "vit", "distillation.teacher"])
def test_a_misspelt_path_in_a_recipe_is_refused_without_a_hub_request(
    option: str, clips: Path, work: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = work / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"training": {"num_train_epochs": 1, "disable_tqdm": True}}))
    flags = ["--set", f"{option}=outputs/dmo"] if "." in option else [f"--{option}", "outputs/dmo"]
    start = [f"--set=model.config={json.dumps(TINY if option == 'distillation.teacher' else {})}"]
    arguments = ["finetune", str(recipe), "--data", str(clips), "--output", "out", *flags, *start]
    assert cli.main(arguments) == 65
    assert (
        f"[AST-E306] 'outputs/dmo': {taken('outputs')}did you mean 'outputs/demo'?" in capsys.readouterr().err
    )
    assert hub.log == []


def test_names_of_known_and_cached_data_sets_are_accepted(
    work: Path, data_hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ast_hf.training import load_audio_dataset

    with pytest.raises(
        ast_hf.AstDataError, match=r"Fix: read it by load_audio_dataset\(\*\*find_data_set\('esc50'\)\)"
    ):
        load_audio_dataset("esc50")
    assert data_hub.log == []
    (work / "user" / "noise").mkdir(parents=True)
    (work / "user" / "sound").mkdir()
    (tmp_path / "datasets-cache" / "user___sounds").mkdir(parents=True)
    assert cli.main(["stats", "user/sounds"]) == 65
    assert "AST-E702" in capsys.readouterr().err  # the Hub was reached
    assert cli.main(["stats", "user/noises"]) == 65
    assert f"'user/noises': {taken('user')}" in capsys.readouterr().err


# Errors of the Hub, with their codes


def test_hub_errors_from_transformers_get_a_code(
    tiny_checkpoint: Path, tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    HfApi().create_repo("user/empty")
    broken = Path(shutil.copytree(tiny_checkpoint, tmp_path / "broken"))
    (broken / "preprocessor_config.json").unlink()
    cases = {
        "user/nothing": "[AST-E702] 'user/nothing': is not on the Hub, or the token may not see it (",
        "user/empty": "[AST-E702] 'user/empty': does not hold the requested file, or cannot be reached (",
        str(
            broken
        ): f"[AST-E306] {str(broken)!r}: has no preprocessor_config.json, since the feature extractor was never ",
    }
    for name, start in cases.items():
        assert cli.main(["classify", name, "x.flac"]) == 65
        stderr = capsys.readouterr().err
        assert stderr.startswith(start)
        assert stderr.count("\n") == 1


def test_offline_and_not_in_the_cache(capsys: pytest.CaptureFixture[str], waits: list[float]) -> None:
    assert cli.main(["stats", "user/nothing"]) == 75
    message = "is not in the cache, and HF_HUB_OFFLINE forbids to reach the Hub. Fix: unset it."
    assert capsys.readouterr().err == f"[AST-E704] data set 'user/nothing': {message}\n"
    assert waits == []  # no retry
    assert cli.main(["classify", "user/nothing", "x.flac"]) == 75
    start = "[AST-E704] the Hub: cannot be reached, since HF_HUB_OFFLINE is set, and the cache has no copy ("
    assert capsys.readouterr().err.startswith(start)


# Errors and progress bars


@pytest.fixture
def doing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable], None]:
    """Replace the function of `ast-hf info`."""

    def replace(act: Callable[[argparse.Namespace], Any]) -> None:
        monkeypatch.setitem(cli._COMMANDS, "info", (info.add_options, act, "does something else"))

    return replace


@pytest.mark.parametrize(
    ("problem", "code", "line"),
    [
        (
            error("E203", where="a.wav", what="is broken", fix="drop it"),
            65,
            "[AST-E203] a.wav: is broken. Fix: drop it.",
        ),
        (KeyboardInterrupt("go on"), 130, "interrupted: go on"),
        (PermissionError(13, "Permission\ndenied", "out"), 65, "[Errno 13] Permission denied: 'out'"),
    ],
    ids=["error", "interrupted", "local"],
)
def test_an_error_after_a_progress_bar_starts_a_new_line(
    problem: BaseException, code: int, line: str, doing: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(_: argparse.Namespace) -> None:
        bars = [tqdm(total=5, unit="clip"), tqdm(total=3, leave=False)]
        for bar in bars:
            bar.update(1)
        raise problem

    doing(act)
    assert cli.main(["info"]) == code
    printed = capsys.readouterr().err
    assert "1/5" in printed
    assert re.split(r"[\r\n]", printed)[-2] == line


def test_bugs_keep_their_traceback(doing: Callable) -> None:
    def act(_: argparse.Namespace) -> None:
        raise TypeError("a bug")

    doing(act)
    with pytest.raises(TypeError, match="a bug"):
        cli.main(["info"])


# Options


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        ("classify c a.wav --top-k 2", "top_k", 2),
        ("classify c a.wav --top_k=2", "top_k", 2),
        ("evaluate c d --fit_on in_ner-part", "fit_on", "in_ner-part"),
        ("evaluate c d --fit-on=in_ner-part", "fit_on", "in_ner-part"),
        ("evaluate c d --save_logits a_b-c.safetensors", "save_logits", "a_b-c.safetensors"),
        ("evaluate c d --batch-size 3", "batch_size", 3),
        ("evaluate c d --audio-column wav_file", "audio_column", "wav_file"),
        ("evaluate c d --batch 3", "batch_size", 3),
        ("stats d --num-mel 64", "num_mel_bins", 64),
        ("stats d --clip-boundaries false", "clip_boundaries", "false"),
        ("finetune r --output o --push-to-hub", "push_to_hub", True),
        ("finetune r --output o --hub-model-id=user/a_b-c", "hub_model_id", "user/a_b-c"),
        ("finetune r --output o --resume-from-checkpoint auto", "resume", "auto"),
        ("finetune r --output o --set data.test_fold=3 --set a-b=_", "set", ["data.test_fold=3", "a-b=_"]),
        ("push f user/x --create_pr --message=--dry_run", "message", "--dry_run"),
        ("push f user/x --dry_run", "dry_run", ""),
        ("convert s d --data-set esc50 --multi-label --mean -4.2", "mean", -4.2),
        ("info -- --top-k", "checkpoint", "--top-k"),
    ],
)
def test_options_accept_hyphens_and_underscores(arguments: str, name: str, value: Any) -> None:
    assert getattr(cli.build_parser().parse_args(arguments.split()), name) == value


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        (
            "stats d --splitt test",
            "ast-hf stats: error: there is no option --splitt: did you mean '--split'?",
        ),
        (
            "evaluate c d --batchsize=3",
            "ast-hf evaluate: error: there is no option --batchsize: did you mean '--batch_size'?",
        ),
        ("info --zzz", "ast-hf info: error: there is no option --zzz: use one of --help, --json"),
        ("info a b", "ast-hf info: error: too many arguments: b"),
        (
            "merge a b --l-abels x",
            "ast-hf merge: error: there is no option --l-abels: did you mean '--labels'?",
        ),
    ],
)
def test_an_unknown_option_prints_the_usage_of_its_command(
    arguments: str, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments.split())
    printed = capsys.readouterr().err
    assert caught.value.code == 2
    assert printed.startswith(f"usage: ast-hf {arguments.split()[0]} ")
    assert printed.endswith(f"\n{last}\n")


def test_an_ambiguous_option_prefix_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["finetune", "r", "--output", "o", "--re", "auto"])
    assert "ambiguous option: --re could match --resume, --resume_from_checkpoint" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"ast-hf {ast_hf.__version__}\n"
