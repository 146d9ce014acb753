"""Two real processes: the same clips, losses, weights and files as one, and all stop if one fails. torchrun runs this
file with one of `TASKS`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from conftest import ROOT, TINY
from safetensors.torch import load_file
from transformers import TrainingArguments

from ast_hf import AstConfigError
from ast_hf.inputs.sampling import BalancedSampler, EpochSampler, clip_weights
from ast_hf.modeling_ast import ASTPreTrainedModel
from ast_hf.training import finish, prepare
from ast_hf.training.checkpoints.sealing import checkpoints, find_corruption, read_manifest
from training.runs import VARIED, Stop, checkpoint_digest, digest, poison, recipe, sound, torchrun

#: clips of each class; 9 test clips are not divisible by 2
SIZES = {"train": (16, 8), "test": (5, 4)}
#: no dropout, so that one process with full batches computes the same as two with half batches
EXACT = {**VARIED, "model": {"config": TINY}}
EPOCHS = 2


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return label folders of noise and tones. Read only."""
    root = tmp_path_factory.mktemp("sounds")
    for split, counts in SIZES.items():
        for kind, count in zip(("noise", "tone"), counts, strict=True):
            (root / split / kind).mkdir(parents=True)
            for number in range(count):
                soundfile.write(
                    root / split / kind / f"{number}.wav", sound(kind, number + 50 * len(split)), 16_000
                )
    return root


def plan(source: Path, options: dict[str, Any], batch: int, **training: Any) -> Any:
    """Return a recipe with three steps of 8 clips per epoch."""
    fixed = {"features": {"mean": -5.0, "std": 4.0}, "threads": 1}
    steps = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": None, "logging_steps": 1}
    sizes = {
        "per_device_train_batch_size": batch,
        "per_device_eval_batch_size": 2,
        "num_train_epochs": EPOCHS,
    }
    return recipe(source, {**options, **fixed}, **{**steps, "logging_strategy": "steps", **sizes, **training})


# ---------------------------------------------------------------- what runs in each of the two


def watch_rows(trainer: Any) -> list[list[int]]:
    """Record step and rows of every training batch of this process."""
    seen = []
    compute = trainer.compute_loss

    def watched(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if model.training:
            seen.append([trainer.state.global_step, *inputs["row"].tolist()])
        return compute(model, inputs, *args, **kwargs)

    trainer.compute_loss = watched
    return seen


def watch_keys(trainer: Any) -> list[int]:
    """Record the keys of the training clips that this process reads."""
    seen = []

    class Watched(type(trainer.train_dataset)):  # type: ignore[misc]
        def __getitem__(self, key: int) -> dict[str, Any]:
            seen.append(key)
            return super().__getitem__(key)

    trainer.train_dataset.__class__ = Watched
    return seen


def watch_evaluation(trainer: Any) -> list[int]:
    """Record the number of clips that each evaluation counts."""
    seen = []
    compute = trainer.compute_metrics

    def watched(prediction: Any) -> dict[str, float]:
        seen.append(len(prediction.label_ids))
        return compute(prediction)

    trainer.compute_metrics = watched
    return seen


def watch_writes(root: Path) -> list[str]:
    """Record the files in a folder that Python code of this process opens for writing."""
    seen: list[str] = []

    def audit(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            path = str(arguments[0])
            if path.startswith(str(root)):
                seen.append(Path(path).relative_to(root).as_posix())

    sys.addaudithook(audit)
    return seen


def dealt(sampler: EpochSampler, batch: int) -> list[list[int]]:
    """Return the keys of two epochs that this process gets from a sampler."""
    loader = torch.utils.data.DataLoader(AnyKey(), batch_size=batch, sampler=sampler)
    loader = Accelerator(cpu=True).prepare(loader)
    epochs = []
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        epochs.append([int(key) for batch in loader for key in batch])
    return epochs


class AnyKey(torch.utils.data.Dataset):
    """Dictionary that has every key."""

    def __getitem__(self, key: int) -> int:
        return key


#: 24 clips; the last class has 2.
RARE = clip_weights([0] * 12 + [1] * 10 + [2] * 2)


def stream_and_resume(source: Path, root: Path, report: dict[str, Any]) -> None:
    """Train five steps of 8 clips from a stream; then three, and resume for the other two."""
    options = {**VARIED, "data": {"source": str(source), "streaming": True}, "averaging_decay": None}
    streamed = plan(source, options, 4, max_steps=5, num_train_epochs=1, save_steps=3)
    run = prepare(streamed, root / "streamed")
    report["streamed rows"] = watch_rows(run.trainer)
    report["streamed clips"] = watch_evaluation(run.trainer)
    run.trainer.train()
    report["streamed"] = finish(run).results
    report["streamed weights"] = digest(run.trainer.model.state_dict())
    broken = prepare(streamed, root / "stopped").trainer
    broken.add_callback(Stop(step=3))
    broken.train()
    resumed = prepare(streamed, root / "stopped").trainer
    resumed.train(resume_from_checkpoint=True)
    report["resumed weights"] = digest(resumed.model.state_dict())


def train_balanced(source: Path, root: Path, report: dict[str, Any]) -> None:
    balanced = plan(source, {**EXACT, "sampling": "balanced"}, 4, save_strategy="no")
    trainer = prepare(balanced, root / "balanced").trainer
    report["drawn rows"] = watch_rows(trainer)
    report["drawn keys"] = watch_keys(trainer)
    trainer.train()


def train_and_resume(source: Path, root: Path, outcome: dict[str, Any]) -> None:
    writes = watch_writes(root)
    run = prepare(plan(source, EXACT, 4), root / "exact")
    outcome["rows"] = watch_rows(run.trainer)
    outcome["evaluated"] = watch_evaluation(run.trainer)
    run.trainer.train()
    report = finish(run)
    arguments = run.trainer.args
    outcome.update(
        world=arguments.world_size,
        rank=arguments.process_index,
        device=str(arguments.device),
        mode=str(arguments.parallel_mode),
    )
    outcome.update(
        results=report.results, averaged=digest(run.trainer.model.state_dict()), writes=list(writes)
    )
    outcome["ragged"] = dealt(EpochSampler(26, 7), 4)
    outcome["balanced"] = dealt(BalancedSampler(RARE, 7), 4)

    varied = plan(source, VARIED, 4)
    prepare(varied, root / "unbroken").trainer.train()
    broken = prepare(varied, root / "broken").trainer
    broken.add_callback(Stop(step=4))
    broken.train()
    resumed = prepare(varied, root / "broken").trainer
    outcome["resumed rows"] = watch_rows(resumed)
    resumed.train(resume_from_checkpoint="auto")
    train_balanced(source, root, outcome)
    stream_and_resume(source, root, outcome)


def break_one(source: Path, root: Path, outcome: dict[str, Any]) -> None:
    run = prepare(plan(source, EXACT, 4), root / "poisoned")
    if run.trainer.args.process_index == 1:
        poison(run.trainer.model, 3, float("nan"))
    run.trainer.train()


def nothing_to_resume(source: Path, root: Path, outcome: dict[str, Any]) -> None:
    prepare(plan(source, EXACT, 4), root / "empty").trainer.train(resume_from_checkpoint=True)


TASKS = {"train": train_and_resume, "break": break_one, "nothing": nothing_to_resume}


def main(task: str, source: str, root: str) -> None:
    outcome: dict[str, Any] = {}
    TASKS[task](Path(source), Path(root), outcome)
    Path(root, f"outcome-{os.environ['RANK']}.json").write_text(json.dumps(outcome))


# ---------------------------------------------------------------- two against one


@pytest.fixture(scope="session")
def two(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Return the output folder of two processes, and the report of each."""
    root = tmp_path_factory.mktemp("two")
    result = torchrun("-m", __name__, "train", str(sounds), str(root))
    assert result.returncode == 0, result.stderr[-4000:]
    return root, [json.loads((root / f"outcome-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="session")
def one(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the same run in one process, with the same 8 clips in each step."""
    root = tmp_path_factory.mktemp("one")
    run = prepare(plan(sounds, EXACT, 8), root)
    rows = watch_rows(run.trainer)
    run.trainer.train()
    return root, {"rows": rows, "results": finish(run).results}


@pytest.mark.long
def test_the_run_has_two_processes(two: Any) -> None:
    root, reports = two
    assert [(part["world"], part["rank"], part["device"][:3]) for part in reports] == [
        (2, 0, "cpu"),
        (2, 1, "cpu"),
    ]
    assert {part["mode"] for part in reports} == {"ParallelMode.DISTRIBUTED"}
    for folder in checkpoints(root / "exact"):
        assert read_manifest(folder).processes == 2
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= read_manifest(folder).files.keys()
        assert find_corruption(folder) is None


def test_every_clip_once_an_epoch_on_one_of_the_two(two: Any) -> None:
    _, reports = two
    for epoch in range(EPOCHS):
        seen = [row for part in reports for step, *rows in part["rows"] if step // 3 == epoch for row in rows]
        assert sorted(seen) == list(range(24))
    orders = [
        [row for step, *rows in reports[0]["rows"] if step // 3 == epoch for row in rows]
        for epoch in range(EPOCHS)
    ]
    assert orders[0] != orders[1]


def test_a_step_has_the_clips_that_one_process_would_take(two: Any, one: Any) -> None:
    _, (first, second) = two
    together = [
        [step, *rows, *others]
        for (step, *rows), (_, *others) in zip(first["rows"], second["rows"], strict=True)
    ]
    assert together == one[1]["rows"]


def test_clips_that_do_not_divide(two: Any) -> None:
    """26 clips in batches of two times 4: all are used, and the epoch's first clips fill up the last step."""
    for epoch in range(EPOCHS):
        counts = Counter(key for part in two[1] for key in part["ragged"][epoch])
        order = EpochSampler(26, 7)
        order.set_epoch(epoch)
        keys = list(order)
        assert counts == Counter(keys) + Counter(keys[:6])


def test_balanced_draws_of_one_process_are_dealt_out_to_two(two: Any) -> None:
    for epoch in range(EPOCHS):
        sampler = BalancedSampler(RARE, 7)
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        parts = [part["balanced"][epoch] for part in two[1]]
        assert len({*parts[0], *parts[1]}) == 24  # a clip that is drawn twice has another key each time
        assert sorted(parts[0] + parts[1]) == sorted(drawn)
        assert len({key % 24 for key in drawn}) < 24


def test_balanced_training_of_two_takes_the_draws_of_one(two: Any, tmp_path: Path) -> None:
    """Each step uses the next 8 draws, 4 per process."""
    sampler = BalancedSampler(clip_weights([0] * 16 + [1] * 8), TrainingArguments(str(tmp_path)).seed)
    keys: list[list[int]] = [[], []]
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for position, key in enumerate(sampler):
            keys[position // 4 % 2].append(key)
    assert [part["drawn keys"] for part in two[1]] == keys
    assert len({*keys[0], *keys[1]}) == EPOCHS * 24  # a clip that is drawn twice has another key each time
    for part, own_keys in zip(two[1], keys, strict=True):
        assert [row for _, *rows in part["drawn rows"] for row in rows] == [key % 24 for key in own_keys]


def test_a_stream_is_dealt_out_to_two_without_repeats(two: Any) -> None:
    parts = [[row for _, *rows in part["streamed rows"] for row in rows] for part in two[1]]
    assert [len(part) for part in parts] == [20, 20]
    first = sorted(parts[0][:12] + parts[1][:12])
    assert first == list(range(24))
    assert {*parts[0][12:]}.isdisjoint(parts[1][12:])  # of the second pass, 8 clips each
    assert len({*parts[0][12:], *parts[1][12:]}) == 16


def test_a_stream_is_evaluated_once_by_two(two: Any, sounds: Path, tmp_path: Path) -> None:
    """9 clips in batches of 4: the metrics equal those of one process on the saved folder."""
    root, (first, second) = two
    assert first["streamed clips"] == second["streamed clips"] == [9]
    assert first["streamed"] == second["streamed"]
    run = prepare(plan(sounds, {**EXACT, "averaging_decay": None}, 8), tmp_path)
    run.trainer.model.load_state_dict(load_file(root / "streamed" / "model.safetensors"))
    alone = run.trainer.evaluate(run.evaluation["test"])
    assert first["streamed"]["test"]["accuracy"] == alone["eval_accuracy"]
    assert first["streamed"]["test"]["loss"] == pytest.approx(alone["eval_loss"], rel=1e-4)


def test_two_processes_resume_a_stream(two: Any) -> None:
    _, (first, second) = two
    assert first["resumed weights"] == first["streamed weights"] == second["streamed weights"]


def history(root: Path) -> list[float]:
    state = json.loads((root / "checkpoint-6" / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def test_losses_and_weights_are_those_of_one_process(two: Any, one: Any) -> None:
    """Sums over 4 and 4 clips instead of 8, in float32."""
    assert history(two[0] / "exact") == pytest.approx(history(one[0]), rel=1e-4)
    for name in ("model.safetensors", "average.safetensors"):
        ours, theirs = (load_file(root / "checkpoint-6" / name) for root in (two[0] / "exact", one[0]))
        assert ours.keys() == theirs.keys()
        assert max(float((ours[key] - theirs[key]).abs().max()) for key in ours) < 2e-4


def test_metrics_are_those_of_one_process(two: Any, one: Any) -> None:
    for report in two[1]:
        assert report["evaluated"] == [9]  # clips; with 2 processes of 2 the last batch is filled up
        assert report["results"]["test"]["accuracy"] == one[1]["results"]["test"]["accuracy"]
        assert report["results"]["test"]["loss"] == pytest.approx(one[1]["results"]["test"]["loss"], rel=1e-4)
    assert two[1][0]["results"] == two[1][1]["results"]


def test_both_end_with_the_same_average(two: Any) -> None:
    root, reports = two
    assert reports[0]["averaged"] == reports[1]["averaged"]
    saved = digest(load_file(root / "exact" / "model.safetensors"))
    assert saved == digest(load_file(root / "exact" / "checkpoint-6" / "average.safetensors"))
    assert saved != digest(load_file(root / "exact" / "checkpoint-6" / "model.safetensors"))


def test_files_are_written_once_by_the_first(two: Any) -> None:
    root, (first, second) = two
    finished = {"results.json", "recipe.yaml", "README.md", "curves.png", "training_args.json", "config.json"}
    places = [Path(re.sub(r"\.(\w+)\.\d+\.part(\.\w+)$", r"\1\2", name)) for name in first["writes"]]
    folders = ("exact", "exact/.partial/model")  # the model's files are staged
    written = Counter(path.name for path in places if str(path.parent) in folders and path.name in finished)
    assert written == dict.fromkeys(finished, 2)  # written once, and opened again to sync it
    assert [name for name in second["writes"] if "rng_state_1" not in name] == []
    assert json.loads((root / "exact" / "results.json").read_text())["baseline"]["test"] > 0.5


def test_resumed_run_of_two_equals_an_unbroken_one(two: Any) -> None:
    root, reports = two
    assert [step for step, *_ in reports[0]["resumed rows"]] == [4, 5]
    last = [checkpoint_digest(root / name / "checkpoint-6") for name in ("unbroken", "broken")]
    assert last[0] == last[1]
    for rank in (0, 1):
        files = [root / name / "checkpoint-6" / f"rng_state_{rank}.pth" for name in ("unbroken", "broken")]
        states = [torch.load(file, weights_only=False)["cpu"] for file in files]
        assert torch.equal(*states)


# ---------------------------------------------------------------- the script, and what ends it


@pytest.mark.slow
def test_the_script_under_torchrun(sounds: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    training = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "disable_tqdm": True,
        "learning_rate": 2e-3,
    }
    file.write_text(yaml.safe_dump({"model": {"config": TINY}, "training": training, "threads": 1}))
    arguments = ["--recipe", str(file), "--data", str(sounds), "--output_dir", str(tmp_path / "out")]
    script = "examples/finetune.py"
    result = torchrun(script, *arguments, "--resume", "auto", "--set", "training.use_cpu=true")
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout.count("24 training clips") == 1
    assert (
        len(re.findall(r"^test: accuracy \d\.\d+ \(logistic regression: ", result.stdout, re.MULTILINE)) == 1
    )
    assert result.stderr.count("[AST-W402]") == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "model.safetensors",
        "README.md",
        "results.json",
    }
    manifest = read_manifest(tmp_path / "out" / "checkpoint-3")
    assert (manifest.step, manifest.processes) == (3, 2)


@pytest.mark.slow
def test_a_broken_loss_on_one_ends_both(sounds: Path, tmp_path: Path) -> None:
    # Shorter than the half hour after which a process stops waiting for the others.
    result = torchrun("-m", __name__, "break", str(sounds), str(tmp_path), timeout=600)
    assert result.returncode != 0
    sampler = EpochSampler(24, TrainingArguments(str(tmp_path)).seed)
    # counted from 1; of the third step, the half of the second process
    rows = [key % 24 + 1 for key in sampler][20:24]
    assert re.search(rf"AST-E501\] step 3: loss is nan on the clips {re.escape(str(rows))}", result.stderr)
    assert [folder.name for folder in checkpoints(tmp_path / "poisoned")] == ["checkpoint-2"]
    assert find_corruption(tmp_path / "poisoned" / "checkpoint-2") is None
    assert not list(tmp_path.glob("outcome-*"))


@pytest.mark.slow
def test_a_missing_checkpoint_ends_both_processes(sounds: Path, tmp_path: Path) -> None:
    result = torchrun("-m", __name__, "nothing", str(sounds), str(tmp_path), timeout=600)
    assert result.returncode != 0
    assert "AST-E306" in result.stderr
    assert np.all([not path.is_dir() for path in tmp_path.glob("empty/*")])


# ---------------------------------------------------------------- what accelerate is given

CONFIGS = {"multi_gpu": "MULTI_GPU", "fsdp2": "FSDP", "deepspeed_zero2": "DEEPSPEED"}


@pytest.mark.parametrize(("name", "kind"), CONFIGS.items())
def test_accelerate_reads_the_config(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    monkeypatch.chdir(ROOT)
    file = f"examples/distributed/{name}.yaml"
    config = load_config_from_file(file)
    assert (config.distributed_type, config.num_processes, config.num_machines) == (kind, 4, 1)
    options = vars(launch_command_parser().parse_args(["--config_file", file, "examples/finetune.py"]))
    assert config.fsdp_config.keys() | config.deepspeed_config.keys() <= options.keys()
    if kind == "DEEPSPEED":
        settings = json.loads(Path(config.deepspeed_config["deepspeed_config_file"]).read_text())
        assert settings["zero_optimization"]["stage"] == 2
    if kind == "FSDP":
        assert (
            config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"] in ASTPreTrainedModel._no_split_modules
        )


def test_every_config_is_tested() -> None:
    assert {path.stem for path in (ROOT / "examples" / "distributed").glob("*.yaml")} == CONFIGS.keys()


def test_slurm_script_has_valid_syntax() -> None:
    script = ROOT / "examples" / "distributed" / "slurm.sh"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize(
    "options", [{"averaging_decay": 0.9}, {"model": {"factored_positions": True}}], ids=str
)
def test_options_that_need_whole_weights_are_refused_with_sharded_ones(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    plugin = SimpleNamespace(activation_checkpointing=False)  # set by accelerate under FSDP
    monkeypatch.setattr(AcceleratorState, "fsdp_plugin", plugin, raising=False)
    with pytest.raises(AstConfigError, match=r"E307.*(averaging_decay|factored_positions).*FSDP"):
        prepare(plan(sounds, options, 4), tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("ast_hf.training.trainer.is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(AstConfigError, match=r"E307.*(averaging_decay|factored_positions).*ZeRO-3"):
        prepare(plan(sounds, options, 4), tmp_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
