"""Signals stop a run after its current step, and only while it lasts."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ROOT
from transformers import Trainer, TrainerCallback, TrainingArguments

from ast_hf import AstConfigError
from ast_hf.cli import main
from ast_hf.commands.finetune import continuing_command
from ast_hf.stopping import SIGNALS, defer_stop, protect_worker, stop_signals
from ast_hf.training import ASTTrainer, RunStopped, finetune, finish, prepare
from ast_hf.training.checkpoints.sealing import checkpoints, find_corruption
from training.runs import VARIED, checkpoint_digest, recipe

if TYPE_CHECKING:
    from hub_server import Hub

PRINT = "ast_hf.commands.finetune.print_results"
CODES = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130}


class Send(TrainerCallback):
    """Callback that signals this process at an event of a step."""

    def __init__(self, number: int, step: int, event: str = "on_step_begin") -> None:
        self.number, self.step = number, step
        setattr(self, event, self.send)

    def send(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def unchanged_handlers() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def names(root: Path) -> list[str]:
    return [path.name for path in checkpoints(root)]


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
@pytest.mark.parametrize("event", ["on_step_begin", "on_pre_optimizer_step", "on_step_end", "on_evaluate"])
def test_the_step_is_finished_and_saved(
    clips: Path, tmp_path: Path, number: signal.Signals, event: str
) -> None:
    """Also without save_strategy. Signalled in an evaluation, the run finishes that."""
    options = {"data": {"validation_fraction": 0.25}}
    plan = recipe(clips, options, save_strategy="no", eval_strategy="steps", eval_steps=2, max_steps=6)
    trainer = prepare(plan, tmp_path).trainer
    trainer.add_callback(Send(number, 2, event))
    with pytest.raises(RunStopped) as caught:
        trainer.train()
    step = 2 if event in ("on_step_end", "on_evaluate") else 3
    assert (caught.value.signal, caught.value.exit_code) == (number, CODES[number])
    assert (
        str(caught.value) == f"stopped by {number.name} after step {step} of 6; checkpoint-{step} is complete"
    )
    assert names(tmp_path) == [f"checkpoint-{step}"]
    assert find_corruption(tmp_path / f"checkpoint-{step}") is None


def test_a_stopped_run_continues_to_the_same_state(clips: Path, tmp_path: Path) -> None:
    options = {**VARIED, "averaging_decay": None, "averaging_epochs": [1, 2]}
    plan = recipe(clips, options, logging_strategy="epoch", save_total_limit=1, gradient_accumulation_steps=2)
    whole = prepare(plan, tmp_path / "whole").trainer
    whole.train()
    for step in range(4):
        stopped = prepare(plan, tmp_path / "stopped").trainer
        stopped.add_callback(Send(signal.SIGTERM, step, "on_substep_end"))
        with contextlib.suppress(RunStopped):
            stopped.train(resume_from_checkpoint="auto" if step else None)
    last = names(tmp_path / "whole")
    assert last == names(tmp_path / "stopped") == ["checkpoint-4"]
    assert checkpoint_digest(tmp_path / "whole" / last[0]) == checkpoint_digest(
        tmp_path / "stopped" / last[0]
    )
    logged = [
        [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        for trainer in (whole, stopped)
    ]
    assert logged[0] == logged[1]


def test_a_checkpoint_is_not_written_twice(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    real = Trainer._save_checkpoint
    monkeypatch.setattr(
        Trainer, "_save_checkpoint", lambda self, *a: (saved.append(self.state.global_step), real(self, *a))
    )
    trainer = prepare(recipe(clips, save_strategy="steps", save_steps=1), tmp_path).trainer
    trainer.add_callback(Send(signal.SIGTERM, 2, "on_step_end"))
    with pytest.raises(RunStopped):
        trainer.train()
    assert saved == [1, 2]


def test_interim_checkpoints_do_not_replace_regular_ones(clips: Path, tmp_path: Path) -> None:
    """The next regular one removes them, and so do the results."""
    plan = recipe(clips, save_total_limit=1, num_train_epochs=3)
    trainer = prepare(plan, tmp_path).trainer
    trainer.add_callback(Send(signal.SIGTERM, 4, "on_step_end"))
    with pytest.raises(RunStopped):
        trainer.train()
    assert names(tmp_path) == ["checkpoint-3", "checkpoint-4"]
    finetune(plan, tmp_path, resume_from_checkpoint="auto")
    assert names(tmp_path) == ["checkpoint-9"]


def test_a_run_without_checkpoints_can_be_finished_later(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signalled while it is evaluated; nothing is trained again, and nothing is left over."""
    plan = recipe(clips, {**VARIED}, save_strategy="no", max_steps=4)
    whole = finetune(plan, tmp_path / "whole")
    real = ASTTrainer.predict
    monkeypatch.setattr(ASTTrainer, "predict", lambda *_, **__: os.kill(os.getpid(), signal.SIGHUP))
    with pytest.raises(RunStopped, match="after the last step, before the results were complete"):
        finetune(plan, tmp_path / "out")
    assert names(tmp_path / "out") == ["checkpoint-4"]
    assert not {"results.json", "README.md"} & {path.name for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(ASTTrainer, "predict", real)
    monkeypatch.setattr(ASTTrainer, "training_step", lambda *_, **__: pytest.fail("trained"))
    again = finetune(plan, tmp_path / "out", resume_from_checkpoint="auto")
    assert again.results == whole.results
    assert names(tmp_path / "out") == []


def test_files_of_the_result_are_completed(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ast_hf.training import finishing

    real = finishing.write_outputs

    def signalled(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        real(*args)

    monkeypatch.setattr(finishing, "write_outputs", signalled)
    finetune(recipe(clips, max_steps=1), tmp_path)
    assert (tmp_path / "results.json").exists()


def test_before_the_first_step_it_stops_at_once(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ast_hf.training import preparing

    monkeypatch.setattr(preparing, "read_splits", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(RunStopped, match="stopped by SIGTERM before the first step; nothing was saved"):
        finetune(recipe(clips), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_complete_run_ends_well(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A signal after the results are written stops nothing: the same command would train again."""
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe(clips, max_steps=1, save_strategy="no").to_yaml())
    for output, name in (("a", "ast_hf.training.finishing.write_outputs"), ("b", PRINT)):
        real = resolve_name(name)

        def signalled(*args: Any, real: Any = real) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(name, signalled)
            words = ["finetune", str(file), "--output", str(tmp_path / output), "--data", str(clips)]
            assert main(words) == 0
        assert "Trained on" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["finishing.write_outputs", "sealed_trainer.push_folder"])
def test_a_push_that_is_stopped_names_its_own_command(
    clips: Path, tmp_path: Path, name: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = resolve_name(f"ast_hf.training.{name}")

    def signalled(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **kwargs)

    monkeypatch.setattr(f"ast_hf.training.{name}", signalled)
    folder = tmp_path / "out"
    plan = recipe(clips, max_steps=1, save_strategy="no")
    with pytest.raises(RunStopped, match="before they were published") as caught:
        finetune(plan, folder, push_to_hub=True, hub_model_id="user/tones")
    assert caught.value.command == f"ast-hf push {folder} user/tones"
    assert (folder / "results.json").exists()


def test_a_second_interrupt_raises_at_once() -> None:
    with stop_signals() as watch:
        watch.is_deferring = True
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)  # of the same launcher
        assert watch.received == signal.SIGTERM
        time.sleep(0.6)
        with pytest.raises(RunStopped, match="at once") as caught:
            os.kill(os.getpid(), signal.SIGINT)
        assert caught.value.exit_code == 130
        with pytest.raises(RunStopped, match="SIGTERM"):
            watch.stop_now()


def test_blocks_share_one_state_and_restore_handlers() -> None:
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as outer, stop_signals() as inner:
            assert outer is inner
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            defer_stop()
            os.kill(os.getpid(), signal.SIGHUP)
            assert outer.received is None
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(RunStopped):
                outer.stop_now()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, earlier)


def test_other_threads_change_no_handlers(clips: Path, tmp_path: Path) -> None:
    states = []

    def train() -> None:
        trainer = prepare(recipe(clips, max_steps=1), tmp_path).trainer
        trainer.train()
        states.append(trainer.state.global_step)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert states == [1]


def test_a_stopped_program_ends_with_its_code() -> None:
    """Without a traceback, if it catches nothing; `except KeyboardInterrupt` catches it."""
    code = "from ast_hf.training import RunStopped\nraise RunStopped(15, 'now')"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (result.returncode, result.stderr) == (143, b"")
    with pytest.raises(KeyboardInterrupt):
        raise RunStopped(signal.SIGINT)


def test_workers_leave_signals_to_their_parent() -> None:
    """A signal of another process is ignored; one of the parent, as `terminate` sends it, ends the worker."""
    pid = os.fork()
    if not pid:
        protect_worker(None, 0)
        time.sleep(30)
        os._exit(1)
    time.sleep(0.2)
    for number in CODES:
        subprocess.run(["kill", f"-{int(number)}", str(pid)], check=True)
    time.sleep(0.1)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_loaders_protect_their_workers(clips: Path, tmp_path: Path) -> None:
    run = prepare(recipe(clips, dataloader_num_workers=1), tmp_path)
    loaders = run.trainer.get_train_dataloader(), run.trainer.get_eval_dataloader(run.evaluation["test"])
    for loader in loaders:
        inner = getattr(loader, "base_dataloader", loader)
        assert inner.worker_init_fn.func is protect_worker
    assert loaders[0].worker_init_fn.args[0] is not None  # transformers' own seeds the worker


def test_jit_checkpoints_are_what_every_run_has(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(
        AstConfigError, match=r"E307.*enable_jit_checkpoint: has no effect.*always saves first"
    ):
        recipe(clips, enable_jit_checkpoint=True)
    model = prepare(recipe(clips), tmp_path / "a").trainer.model
    arguments = TrainingArguments(str(tmp_path / "b"), enable_jit_checkpoint=True, use_cpu=True)
    trainer = ASTTrainer(model=model, args=arguments)
    assert "JITCheckpointCallback" not in {type(each).__name__ for each in trainer.callback_handler.callbacks}


#: words of a command line -> the words that continue it
WORDS = {
    "r.yaml --output o": "r.yaml --output o --resume auto",
    "r.yaml --resume --output o": "r.yaml --output o --resume auto",
    "r.yaml --resume hub --output o": "r.yaml --output o --resume auto",
    "r.yaml --resume-from-checkpoint=o/checkpoint-4 --output o": "r.yaml --output o --resume auto",
    "r.yaml --output o --resume_from_checkpoint o/c --set a=1": "r.yaml --output o --set a=1 --resume auto",
}


@pytest.mark.parametrize(("words", "expected"), WORDS.items())
def test_continuing_command(words: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/nowhere/ast-hf"])
    assert continuing_command(words.split()) == f"/nowhere/ast-hf {expected}"


def test_continuing_command_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/ast_hf/__main__.py"])
    command = continuing_command(["r.yaml", "--output", "a  b;c"])
    assert command == f"{sys.executable} -m ast_hf r.yaml --output 'a  b;c' --resume auto"


def test_a_complete_checkpoint_of_the_last_step_trains_nothing(clips: Path, tmp_path: Path) -> None:
    """transformers trains one more step if the last one is within an epoch."""
    plan = recipe(clips, save_strategy="steps", save_steps=4, max_steps=4)
    run = prepare(plan, tmp_path)
    run.trainer.train()
    again = prepare(plan, tmp_path)
    again.trainer.train(resume_from_checkpoint="auto")
    assert again.trainer.state.global_step == 4
    finish(again)


@pytest.mark.long
@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)],
    ids=lambda number: number.name,
)
def test_the_example_answers_signals_as_the_command_does(
    clips: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """It saves, prints the command that continues, and this command continues."""
    plan = recipe(clips, save_strategy="steps", save_steps=2, max_steps=200_000)
    (tmp_path / "recipe.yaml").write_text(plan.to_yaml())
    output = tmp_path / "out put"
    words = [
        sys.executable,
        str(ROOT / "examples" / "finetune.py"),
        "--recipe",
        str(tmp_path / "recipe.yaml"),
    ]
    words += ["--output_dir", str(output), "--data", str(clips)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not checkpoints(output) and program.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    program.send_signal(number)
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 128 + number, errors
    last = checkpoints(output)[-1]
    assert find_corruption(last) is None
    assert f"stopped by {number.name} after step {last.name.split('-')[1]} of 200000" in errors
    command = shlex.join([*words, "--resume", "auto"])
    assert errors.rstrip().endswith(f"continue with: {command}")
    assert "Traceback" not in errors
    assert "Writing model shards" not in errors  # as in a log of the command
