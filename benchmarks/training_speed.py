"""Gain of each option that makes training faster or smaller: one option at a time, against the same plain run.

    python -m benchmarks.training_speed

A small AST trains on 64 recordings of `examples/data/instruments`, 0.26 to 3 s long, in batches of 8, on one CPU
thread. The runs alternate. After an epoch of warm-up, the CPU time of the steps of the second epoch is measured
(forward, backward, optimizer; not the reading of clips). Memory is the growth of a fresh process in its first two
steps.
"""

from __future__ import annotations

import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "training_speed.json"
DATA = Path(__file__).parent.parent / "examples" / "data" / "instruments"

CLIPS = 64
ROUNDS = 5

#: 12 x 29 patches of 128 mel bins and 3.04 s, with the paper's stride.
MODEL = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "num_mel_bins": 128,
    "max_length": 304,
}
TRAINING = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-4,
    "save_strategy": "no",
}

#: name of a variant -> options of the recipe. The others are compared with the first.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bf16": {"training": {"bf16": True}},
    "gradient checkpointing": {"training": {"gradient_checkpointing": True}},
    "gradient accumulation": {
        "training": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    },
    "torch.compile": {"training": {"torch_compile": True}},
    "attention without SDPA": {"model": {"attn_implementation": "eager"}},
    "patchout": {"patchout": {"time": 14}},
    "clips grouped by length": {"training": {"train_sampling_strategy": "group_by_length"}},
    "AdamW that is not fused": {"training": {"optim": "adamw_torch"}},
}


def main() -> None:
    """Measure all variants and store the numbers; `--memory NAME` measures the memory of one, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        if sys.argv[1:2] == ["--memory"]:
            print(memory(sys.argv[2], Path(folder)))
        else:
            measure(Path(folder))


def measure(folder: Path) -> None:
    """Measure memory first, then speed round by round; results are stored after each round."""
    megabytes = {name: float(own_process("--memory", name)) for name in VARIANTS}
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in range(ROUNDS):
        for name, times in seconds.items():
            times.append(step_seconds(name, folder))
            print(f"round {number + 1}: {name} {times[-1]:.2f} s", flush=True)
        store(seconds, megabytes)
    print(section())


def store(seconds: dict[str, list[float]], megabytes: dict[str, float]) -> None:
    """Write the results; `times` is the speed-up over the plain run in each round."""
    variants = {
        name: {
            "options": VARIANTS[name],
            "seconds": durations,
            "times": [plain / duration for plain, duration in zip(seconds["plain"], durations, strict=True)],
            "megabytes": megabytes[name],
        }
        for name, durations in seconds.items()
    }
    values = {
        "command": "python -m benchmarks.training_speed",
        "clips": CLIPS,
        "model": MODEL,
        **circumstances(),
    }
    values["rounds"] = len(seconds["plain"])
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**values, "variants": variants}, indent=2) + "\n", encoding="utf-8")


def circumstances() -> dict[str, Any]:
    """Return the machine and the versions that the numbers depend on."""
    import platform

    import torch
    import transformers

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"machine": platform.machine(), "versions": versions}


def own_process(*arguments: str) -> str:
    """Return the last word that this module prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training_speed", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]


def recipe_of(name: str, folder: Path, **training: Any) -> Any:
    """Return the plain recipe with the options of one variant."""
    from ast_hf.training import Recipe

    changes = VARIANTS[name]
    values = {
        "data": {"source": str(table(folder)), "eval_splits": []},
        "features": {"mean": -5.0, "std": 4.5},
        "model": {"config": MODEL, **changes.get("model", {})},
        "patchout": changes.get("patchout", {}),
        "threads": 1,
        "training": {
            **TRAINING,
            "disable_tqdm": True,
            "use_cpu": True,
            **changes.get("training", {}),
            **training,
        },
    }
    return Recipe.from_dict(values, "benchmarks.training_speed")


def table(folder: Path) -> Path:
    """Write a table of CLIPS training clips, evenly spaced in the manifest, and return its path."""
    path = folder / "clips.csv"
    if not path.exists():
        with (DATA / "manifest.csv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
        chosen = rows[:: len(rows) // CLIPS][:CLIPS]
        lines = ["path,label", *(f"{(DATA / row['path']).resolve()},{row['label']}" for row in chosen)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def step_seconds(name: str, folder: Path) -> float:
    """Return the CPU time of the training steps of the second epoch."""
    from transformers import TrainerCallback

    from ast_hf.training import prepare

    class Watch(TrainerCallback):
        """Adds up the CPU time within the steps."""

        start = total = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Start the clock once the clips are loaded."""
            self.start = time.process_time()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Stop the clock after the optimizer step."""
            self.total += time.process_time() - self.start if state.epoch > 1 else 0.0

    watch = Watch()
    run = prepare(recipe_of(name, folder), folder / "out")
    run.trainer.add_callback(watch)
    run.trainer.train()
    return watch.total


def memory(name: str, folder: Path) -> float:
    """Return by how many MB this process grows while it trains for two steps."""
    from ast_hf.training import prepare

    run = prepare(recipe_of(name, folder, max_steps=2), folder / "out")
    # fills the cache of decoded clips, which should not count
    [run.train[clip] for clip in range(len(run.train))]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run.trainer.train()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


_SECTION = """
## What makes training faster?

One option at a time, against the same plain run (float32, SDPA, fused AdamW, every clip padded to 3.04 s): {layers}
layers of {width}, 348 patches, batches of 8 of {clips} recordings of 0.26 to 3 s, one CPU thread. Speed is the ratio
of the CPU time of the steps, for each of {rounds} rounds of alternating runs: the median, with the quartiles in
brackets. Memory is the growth of the process while it trains for two steps.

| option | in a recipe | faster by | memory |
|---|---|---|---|
{rows}

`{command}` (`make bench-training-speed`), with
torch {versions[torch]} and transformers {versions[transformers]} on {machine}; the numbers of every round are in
[training_speed.json](results/training_speed.json).
"""


def section() -> str:
    """Return the stored comparison as a section of RESULTS.md, or an empty string without one."""
    if not RESULTS.exists():
        return ""
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    model = stored["model"]
    plain = stored["variants"]["plain"]["megabytes"]
    rows = [row(name, part, plain) for name, part in stored["variants"].items() if name != "plain"]
    shape = {"layers": model["num_hidden_layers"], "width": model["hidden_size"]}
    return _SECTION.format(**stored, **shape, rows="\n".join(rows))


def row(name: str, part: dict[str, Any], plain: float) -> str:
    """Return the row of one option."""
    settings = [
        f"`{group}.{option}: {json.dumps(value)}`"
        for group, options in part["options"].items()
        for option, value in options.items()
    ]
    times = part["times"]
    share = part["megabytes"] / plain
    faster = f"{statistics.median(times):.2f}x"
    if len(times) > 1:
        low, _, high = statistics.quantiles(times, n=4)
        faster += f" ({low:.2f}-{high:.2f})"
    return f"| {name} | {', '.join(settings)} | {faster} | {share:.2f}x |"


if __name__ == "__main__":
    main()
