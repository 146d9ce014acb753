"""Runs that are killed, signalled and doubled end at the bytes of an unbroken run, or are refused."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from reliability.cases import FULL, record
from reliability.runs import (
    STEPS,
    at_step,
    children,
    finetune,
    launch_two,
    losses,
    moments,
    outcome,
    start,
    write_recipe,
)

#: signal -> exit code
CODES = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def unbroken(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """Return the outcome of an unbroken run, and its seconds."""
    root = tmp_path_factory.mktemp("unbroken")
    began = time.monotonic()
    process = start(finetune(recipe, root / "out"), root / "log")
    assert process.wait() == 0, process.text()
    return outcome(root / "out"), time.monotonic() - began


def resumed(recipe: Path, folder: Path, *more: str) -> dict[str, Any]:
    process = start(finetune(recipe, folder, *more), folder.with_suffix(".log"))
    assert process.wait() == 0, process.text()
    return outcome(folder)


@pytest.mark.parametrize("workers", [0, 2])
def test_random_kills(recipe: Path, unbroken: Any, tmp_path: Path, workers: int) -> None:
    """kill -9 of a run and of its data loader workers; the same command then ends at the same bytes."""
    expected, seconds = unbroken
    count = 50 if FULL else 6
    more = ("--set", f"training.dataloader_num_workers={workers}")
    killed = taken_over = 0
    for number, moment in enumerate(moments(4 * count, seconds * (1 + workers / 2), seed=workers)):
        if killed == count:
            break
        folder = tmp_path / f"out-{number}"
        process = start(finetune(recipe, folder, *more), folder.with_suffix(".log"))
        if number:
            time.sleep(moment)
        else:
            process.wait_for_step(1)  # at least one run is killed while it has the lock
        process.send(signal.SIGKILL, group=number % 2 == 0)
        killed += process.wait() == -signal.SIGKILL
        assert resumed(recipe, folder, *more) == expected, (number, moment)
        taken_over += "AST-W410" in folder.with_suffix(".log").read_text()
        shutil.rmtree(folder)
    assert killed == count
    assert 0 < taken_over <= killed
    record(f"random kill -9, {workers} workers", kills=killed, bit_identical=killed)


def test_pairs_in_one_folder(recipe: Path, unbroken: Any, tmp_path: Path) -> None:
    """The second run ends with 73, or comes after the first; the first one's bytes are those of a run alone."""
    expected, seconds = unbroken
    count = 20 if FULL else 3
    refused = 0
    for number, moment in enumerate(moments(count, seconds * 1.2, seed=3)):
        folder = tmp_path / f"out-{number}"
        first = start(finetune(recipe, folder), tmp_path / f"first-{number}")
        time.sleep(moment)
        (tmp_path / f"link-{number}").symlink_to(folder)
        second = start(finetune(recipe, tmp_path / f"link-{number}"), tmp_path / f"second-{number}")
        codes = [first.wait(), second.wait()]
        assert codes in ([0, 73], [0, 0], [73, 0]), first.text() + second.text()
        loser = second if codes[1] else first
        if 73 in codes:
            assert re.search(r"AST-E402\].* is in use by another run, pid \d+ on ", loser.text())
            refused += 1
        assert outcome(folder) == expected, (number, moment, codes)
    assert refused
    record("two runs in one folder", pairs=count, refused=refused, wrong=0)


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_signals(recipe: Path, unbroken: Any, tmp_path: Path, number: signal.Signals) -> None:
    """At random moments; the command in the message is run as it is printed."""
    expected, seconds = unbroken
    count = 4 if FULL else 1
    for attempt, moment in enumerate(moments(count, seconds, seed=int(number))):
        folder = tmp_path / f"out {attempt}"
        process = start(finetune(recipe, folder), tmp_path / f"log-{attempt}")
        time.sleep(moment)
        process.send(number)
        code = process.wait()
        text = process.text()
        if code:
            assert code == CODES[number], text
            assert not (folder / "results.json").exists() or "published" in text
            command = shlex.split(text.strip().splitlines()[-1].split("; continue with: ")[1])
            assert command[-2:] == ["--resume", "auto"]
            again = start(command[1:], tmp_path / f"again-{attempt}")
            assert again.wait() == 0, again.text()
        assert outcome(folder) == expected, (attempt, moment, code)
    record(f"{number.name} at random moments", signals=count, bit_identical=count)


#: what to send in the middle of the training -> options
VARIANTS: dict[str, dict[str, Any]] = {
    "no checkpoints": {"training": {"save_strategy": "no"}},
    "epochs": {"training": {"save_strategy": "epoch"}},
    "average of epochs": {
        "training": {"save_steps": 3},
        "options": {"averaging_decay": None, "averaging_epochs": [2, 4]},
    },
    "best": {
        "training": {
            **{"save_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "loss"},
        },
        "options": {"averaging_decay": None},
    },
    "best weights of an average": {
        "training": {"save_steps": 3, "eval_strategy": "epoch"},
        "options": {"stopping": {"patience": 2}},
    },
    "best weights in memory": {
        "training": {"save_strategy": "no"},
        "options": {"averaging_decay": None, "stopping": {"patience": 2, "metric": "loss"}},
    },
    "logged by epoch": {"training": {"logging_strategy": "epoch"}},
    "adapter": {"options": {"averaging_decay": None, "adapter": {"rank": 2}}},
    "workers": {"training": {"dataloader_num_workers": 2}},
    "stream": {
        "training": {"max_steps": 11, "eval_strategy": "no", "dataloader_num_workers": 1},
        "options": {
            "data": {"streaming": True, "validation_fraction": 0.0},
            "features": {"mean": -5.0, "std": 4.0},
        },
    },
    "max steps": {"training": {"max_steps": 11}},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_signals_after_each_of_some_steps(
    options: dict[str, Any], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """In a group of processes, so that workers get the signal too; three times within one run."""
    sections = dict(options.get("options", {}))
    if "adapter" in sections:
        sections["model"] = {"base": str(tiny_checkpoint)}
    recipe = write_recipe(tmp_path, sections, **options.get("training", {}))
    whole = start(finetune(recipe, tmp_path / "whole"), tmp_path / "whole.log")
    assert whole.wait() == 0, whole.text()
    for attempt in range(3 if FULL else 1):
        folder = tmp_path / f"out-{attempt}"
        for part, number in enumerate(CODES):
            log = tmp_path / f"log-{attempt}-{part}"
            process = start(finetune(recipe, folder), log)
            process.wait_for_step(2 + attempt % 3)
            process.send(number, group=True)
            code = process.wait()
            if not code:
                break
            assert code == CODES[number], process.text()
            assert "Traceback" not in process.text(), process.text()
            assert not (folder / "results.json").exists()
            assert not (folder / "README.md").exists()
        resumed(recipe, folder)
        assert outcome(folder) == outcome(tmp_path / "whole")


def test_signal_while_results_are_made(recipe: Path, unbroken: Any, tmp_path: Path) -> None:
    """After the last step: the same command makes the results without training again."""
    expected, _ = unbroken
    for what in ("predict", "save_model"):
        folder = tmp_path / what

        def stop(what: str = what) -> None:
            from ast_hf.training import ASTTrainer

            real = getattr(ASTTrainer, what)

            def signalled(trainer: Any, *args: Any, **kwargs: Any) -> Any:
                if trainer.state.global_step == STEPS and not trainer.is_in_train:
                    os.kill(os.getpid(), signal.SIGTERM)
                return real(trainer, *args, **kwargs)

            setattr(ASTTrainer, what, signalled)

        process = start(
            finetune(recipe, folder, "--set", "training.save_strategy=no"), tmp_path / "log", stop
        )
        assert process.wait() == 143, process.text()
        assert not (folder / "results.json").exists()
        again = start(finetune(recipe, folder, "--set", "training.save_strategy=no"), tmp_path / "again")
        assert again.wait() == 0, again.text()
        assert "'grad_norm'" not in again.text()
        assert outcome(folder)["weights"] == expected["weights"]
        assert not list(folder.glob("checkpoint-*"))


def test_signal_before_the_first_step(recipe: Path, unbroken: Any, tmp_path: Path) -> None:
    """At once, with nothing that blocks the same command."""

    def slow() -> None:
        from ast_hf.training import preparing

        def forever(*args: Any, **kwargs: Any) -> None:
            print("measuring")
            time.sleep(60)

        preparing.normalization_statistics = forever  # type: ignore[assignment]

    for number, code in CODES.items():
        arguments = [word for word in finetune(recipe, tmp_path / "out") if word not in ("--resume", "auto")]
        process = start(arguments, tmp_path / f"log-{code}", slow)
        process.wait_for_text("measuring")
        process.send(number)
        assert process.wait(20) == code
        assert "before the first step" in process.text()
        assert not (tmp_path / "out").exists()
    again = start(arguments, tmp_path / "again")
    assert again.wait() == 0
    assert outcome(tmp_path / "out") == unbroken[0]


def test_second_interrupt_ends_at_once(recipe: Path, unbroken: Any, tmp_path: Path) -> None:
    """While the checkpoint is written; the one before it stays."""

    def slow() -> None:
        import torch

        def save(*args: Any, real: Any = torch.save, **kwargs: Any) -> None:
            real(*args, **kwargs)
            print("saving")
            time.sleep(1 if "optimizer" in str(args[1]) else 0)

        torch.save = save

    process = start(finetune(recipe, tmp_path / "out"), tmp_path / "log", slow)
    process.wait_for_step(7)
    process.send(signal.SIGINT)
    process.wait_for_text("saving", 4)
    time.sleep(0.6)
    process.send(signal.SIGINT)
    assert process.wait(20) == 130
    assert "at once" in process.text()
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-5"]
    assert resumed(recipe, tmp_path / "out") == unbroken[0]


def test_ignored_signals_stay_ignored(recipe: Path, unbroken: Any, tmp_path: Path) -> None:
    """As nohup does it."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = start(finetune(recipe, tmp_path / "out"), tmp_path / "log", ignore)
    process.wait_for_step(4)
    process.send(signal.SIGHUP)
    assert process.wait() == 0
    assert outcome(tmp_path / "out") == unbroken[0]


def test_folds_are_locked_and_continue(recipe: Path, tmp_path: Path) -> None:
    changes = ["data.validation_fraction=0", "data.random_folds=2", "training.eval_strategy=no"]
    arguments = ["--folds", "2", *(word for change in changes for word in ("--set", change))]
    whole = start(finetune(recipe, tmp_path / "whole", *arguments), tmp_path / "log")
    assert whole.wait() == 0, whole.text()
    first = start(finetune(recipe, tmp_path / "out", *arguments), tmp_path / "first")
    first.wait_for_step(10)
    first.send(signal.SIGSTOP)
    for folder in (tmp_path / "out", tmp_path / "out" / "fold-2"):
        second = start(finetune(recipe, folder, *arguments), tmp_path / f"second-{folder.name}")
        assert second.wait() == 73, second.text()
    first.send(signal.SIGTERM)
    first.send(signal.SIGCONT)
    assert first.wait() == 143, first.text()
    assert not (tmp_path / "out" / "folds.json").exists()
    again = start(finetune(recipe, tmp_path / "out", *arguments), tmp_path / "again")
    assert again.wait() == 0, again.text()
    for fold in ("fold-1", "fold-2"):
        assert outcome(tmp_path / "out" / fold) == outcome(tmp_path / "whole" / fold)


# ---------------------------------------------------------------- two processes


def two(recipe: Path, folder: Path, log: Path) -> Any:
    arguments = ["--recipe", str(recipe), "--output_dir", str(folder), "--resume", "auto"]
    return launch_two([*arguments, "--set", "training.num_train_epochs=12"], log)


@pytest.fixture(scope="module")
def unbroken_two(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("unbroken-two")
    assert two(recipe, root / "out", root / "log").wait(120) == 0, (root / "log").read_text()
    return outcome(root / "out")


@pytest.mark.parametrize("target", ["launcher", "one process", "kill -9"])
def test_two_processes(recipe: Path, unbroken_two: Any, tmp_path: Path, target: str) -> None:
    log = tmp_path / "log"
    launcher = two(recipe, tmp_path / "out", log)
    end = time.monotonic() + 90
    while not at_step(log, 7) and time.monotonic() < end:
        time.sleep(0.01)
    if target == "launcher":
        launcher.send_signal(signal.SIGTERM)
    else:
        number = signal.SIGKILL if target == "kill -9" else signal.SIGTERM
        os.kill(children(launcher.pid)[1], number)
    assert launcher.wait(60) != 0
    text = log.read_text()
    if target != "kill -9":
        assert re.search(r"stopped by SIGTERM after step \d+ of 24; checkpoint-\d+ is complete", text), text
    assert not (tmp_path / "out" / "results.json").exists()
    assert two(recipe, tmp_path / "out", log).wait(120) == 0, log.read_text()
    assert outcome(tmp_path / "out") == unbroken_two
    assert losses(tmp_path / "out") == unbroken_two["losses"]


def test_two_processes_share_one_lock(recipe: Path, unbroken_two: Any, tmp_path: Path) -> None:
    first = two(recipe, tmp_path / "out", tmp_path / "first")
    end = time.monotonic() + 90
    while not at_step(tmp_path / "first", 2) and time.monotonic() < end:
        time.sleep(0.01)
    second = start(finetune(recipe, tmp_path / "out"), tmp_path / "second")
    assert second.wait() == 73, second.text()
    assert first.wait(120) == 0
    assert outcome(tmp_path / "out") == unbroken_two
