"""Options, completion and the first page of the command line."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from conftest import ROOT, run_fresh

from ast_hf import cli
from ast_hf.commands.recipe_options import recipe_options


def names(printed: str) -> list[str]:
    return re.findall(r"^  ([\w.]+)  \(", printed, re.MULTILINE)


def test_the_stored_options_are_those_of_the_classes() -> None:
    from ast_hf.recipe.option_reference import options_document

    path = ROOT / "ast_hf" / "recipe" / "options.json"
    assert json.loads(path.read_text(encoding="utf-8")) == options_document(), "run `make reference`"


def test_every_argument_of_transformers_is_listed_with_our_default() -> None:
    from transformers import TrainingArguments

    from ast_hf.recipe.arguments import DEFAULTS

    listed = {option["name"].removeprefix("training."): option for option in recipe_options()["training"]}
    assert listed.keys() == {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    assert all(option["meaning"] for option in listed.values())
    for name, value in DEFAULTS.items():
        if name != "dataloader_pin_memory":
            assert listed[name]["default"] == repr(value).replace("'", '"')
    assert "not allowed" in listed["output_dir"]["meaning"]


@pytest.mark.parametrize(
    ("words", "first", "count"),
    [
        (["averaging_decay"], "averaging_decay", 1),
        (["data.source"], "data.source", 1),
        (["patchout"], "patchout.time", 4),
        (["LEARNING", "block"], "optimization.layer_decay", None),
        (["learning rate"], "optimization.milestones", None),
    ],
)
def test_options_are_found(
    words: list[str], first: str, count: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["options", *words]) == 0
    found = names(capsys.readouterr().out)
    assert first in found
    assert count is None or len(found) == count


def test_all_options_are_printed_and_one_json_document_holds_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["options"]) == 0
    printed = names(capsys.readouterr().out)
    assert cli.main(["options", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [option["name"] for option in document] == printed
    assert {"data.validation_fraction", "training.learning_rate", "card.license"} < set(printed)
    assert all(option.keys() == {"name", "type", "default", "meaning"} for option in document)


def test_an_option_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["options", "data.sorce"]) == 65
    assert "did you mean 'data.source'?" in capsys.readouterr().err


def test_options_need_no_heavy_library() -> None:
    printed = run_fresh(
        "import sys\nfrom ast_hf import cli\ncli.main(['options', 'learning'])\n"
        "print('imported:', *sorted({'torch', 'transformers', 'numpy', 'datasets'} & sys.modules.keys()))"
    )
    assert printed.splitlines()[-1] == "imported:"


needs_new = pytest.mark.skipif("new" not in cli._COMMANDS, reason="`ast-hf new` is not there yet")


@needs_new
@pytest.mark.parametrize("words", [[], ["help"]])
def test_the_first_page_names_commands_that_exist(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  ast-hf ")]
    assert [line[1] for line in lines] == [
        "stats",
        "new",
        "finetune",
        "finetune",
        "evaluate",
        "classify",
        "push",
    ]
    missing = {line[1] for line in lines} - cli._COMMANDS.keys()
    assert missing == set()


@needs_new
def test_the_first_page_has_options_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    parser = cli.build_parser()
    for command in cli.FIRST_HOUR:
        assert parser.parse_args(command.replace("FILES", "a.wav").split()[1:]).command


@pytest.mark.parametrize("words", [["help", "stats"], ["stats", "-h"], ["-h"]])
def test_help_in_places(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ast-hf")


@pytest.mark.parametrize(
    ("word", "advice"),
    [("finetun", "did you mean 'finetune'?"), ("clasify", "did you mean 'classify'?"), ("x", "use one of ")],
)
def test_a_misspelt_command(word: str, advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([word])
    assert end.value.code == 2
    assert f"there is no command {word!r}: {advice}" in capsys.readouterr().err


def test_a_wrong_number_is_named_below_a_short_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "a", "b", "--batch_size", "0"])
    usage, *_, last = capsys.readouterr().err.splitlines()
    assert usage == "usage: ast-hf evaluate CHECKPOINTS ... DATA [OPTION ...]"
    assert last == "ast-hf evaluate: error: argument --batch_size: 0 is below 1"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ast-hf fin", ["finetune"]),
        ("ast-hf finetune r --set data.window_l", ["data.window_labels="]),
        ("ast-hf finetune r --set training.learning_r", ["training.learning_rate="]),
        ("ast-hf classify c --format web", ["webvtt"]),
        ("ast-hf evaluate --batch_", ["--batch_size"]),
        ("ast-hf options patch", ["patchout"]),
    ],
)
def test_a_shell_completes(line: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    argcomplete = pytest.importorskip("argcomplete")
    finder = argcomplete.CompletionFinder(cli.build_parser(), always_complete_options="long")
    *words, prefix = line.split(" ")
    found = finder._get_completions(words, prefix, "", None)
    assert [word.strip() for word in found] == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("argcomplete")
    assert cli.main(["completion", shell]) == 0
    assert "ast-hf" in capsys.readouterr().out


def test_an_output_without_a_reader_ends_quietly() -> None:
    printed = run_fresh(
        "import subprocess, sys\n"
        "command = f'{sys.executable} -m ast_hf options | head -1; exit ${{PIPESTATUS[0]}}'\n"
        "done = subprocess.run(['bash', '-c', command], capture_output=True, text=True)\n"
        "print(done.returncode in (0, 141), repr(done.stderr))"
    )
    assert printed.splitlines()[-1] == "True ''"


def test_json_has_null_for_numbers_that_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    from argparse import Namespace

    from ast_hf.commands.console import print_json

    content: dict[str, Any] = {"a": float("nan"), "b": [1.5, float("-inf")], "c": (1, None)}
    print_json(Namespace(), content)
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None], "c": [1, None]}
