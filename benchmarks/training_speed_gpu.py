"""The comparison of `training_speed` on a GPU: AST-base on clips of 10.24 s, one option at a time against bfloat16.

    python -m benchmarks.training_speed_gpu

The time of a step is the median of ten steps after six of warm-up, from the start of the forward pass to the end of
the optimizer step, synchronised with the GPU at both ends; reading and features are not included. Memory is the peak
that torch allocated on the GPU.
"""

from __future__ import annotations

import gc
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from .training_speed import circumstances, row, table

RESULTS = Path(__file__).parent / "results" / "training_speed_gpu.json"

BATCH = 32
STEPS = 16
#: Steps that are left out of the median.
WARM = 6

BF16 = {"bf16": True}
#: name of a variant -> options of the recipe. The others are compared with the first. float32 comes before TF32, whose
#: flag stays set after its run.
VARIANTS: dict[str, dict[str, Any]] = {
    "bf16": {"training": BF16},
    "float32": {"training": {"tf32": False}},
    "float32 in TF32": {"training": {"tf32": True}},
    "fp16": {"training": {"fp16": True}},
    "gradient checkpointing": {"training": {**BF16, "gradient_checkpointing": True}},
    "gradient accumulation": {
        "training": {**BF16, "per_device_train_batch_size": BATCH // 4, "gradient_accumulation_steps": 4}
    },
    "torch.compile": {"training": {**BF16, "torch_compile": True}},
    "attention without SDPA": {"model": {"attn_implementation": "eager"}, "training": BF16},
    "patchout": {"patchout": {"time": 40}, "training": BF16},
    "strides of 16": {"model": {"config": {"frequency_stride": 16, "time_stride": 16}}, "training": BF16},
    "AdamW that is not fused": {"training": {**BF16, "optim": "adamw_torch"}},
}


def main() -> None:
    """Measure one variant after the other; results are stored after each."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device: `python -m benchmarks.training_speed` is for a CPU")
    measured: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in VARIANTS:
            measured[name] = measure(name, Path(folder))
            print(f"{name}: {measured[name][0]:.3f} s, {measured[name][1]:.0f} MB", flush=True)
            store(measured)
    print(section())


def measure(name: str, folder: Path) -> tuple[float, float]:
    """Return the median seconds of a step, and the peak of GPU memory in MB."""
    import torch
    from transformers import TrainerCallback

    from ast_hf.training import prepare

    class Watch(TrainerCallback):
        """Times each step."""

        start = 0.0

        def __init__(self) -> None:
            self.durations: list[float] = []

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Start the clock once the clips are loaded."""
            torch.cuda.synchronize()
            self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Stop the clock after the optimizer step."""
            torch.cuda.synchronize()
            self.durations.append(time.perf_counter() - self.start)

    watch = Watch()
    run = prepare(recipe_of(name, folder), folder / "out")
    run.trainer.add_callback(watch)
    gc.collect()  # a Trainer refers to itself, so the previous model would stay in memory
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run.trainer.train()
    return statistics.median(watch.durations[WARM:]), torch.cuda.max_memory_allocated() / 1e6


def recipe_of(name: str, folder: Path) -> Any:
    """Return the common recipe with the options of one variant."""
    from ast_hf.training import Recipe

    changes = VARIANTS[name]
    fixed = {"max_steps": STEPS, "learning_rate": 1e-5, "save_strategy": "no", "disable_tqdm": True}
    values = {
        "data": {"source": str(table(folder)), "eval_splits": []},
        "features": {"mean": -5.0, "std": 4.5},
        "model": changes.get("model", {}),
        "patchout": changes.get("patchout", {}),
        "training": {
            "per_device_train_batch_size": BATCH,
            "tf32": False,
            **fixed,
            **changes.get("training", {}),
        },
    }
    return Recipe.from_dict(values, "benchmarks.training_speed_gpu")


def store(measured: dict[str, tuple[float, float]]) -> None:
    """Write the results; `times` is the speed-up of a step over the first variant."""
    import torch

    first, _ = next(iter(measured.values()))
    variants = {
        name: {
            "options": VARIANTS[name],
            "seconds": seconds,
            "times": [first / seconds],
            "megabytes": megabytes,
        }
        for name, (seconds, megabytes) in measured.items()
    }
    values = {"command": "python -m benchmarks.training_speed_gpu", "gpu": torch.cuda.get_device_name()}
    values |= {"batch": BATCH, "steps": STEPS - WARM, **circumstances()}
    RESULTS.write_text(json.dumps({**values, "variants": variants}, indent=2) + "\n", encoding="utf-8")


_SECTION = """
### On a GPU

AST-base (12 layers of 768) on 10.24 s, 1,212 patches, batches of {batch}, on one {gpu}: one option at a time, against
bfloat16 with SDPA and fused AdamW. A step takes {milliseconds:.0f} ms, which is {clips:.0f} clips/s if nothing
waits for reading, and {gigabytes:.1f} GB. Speed is the ratio of the times of a step, the median of {steps}. Memory
is the peak that torch allocated.

| option | in a recipe | faster by | memory |
|---|---|---|---|
{rows}

`{command}`, with torch {versions[torch]} and transformers {versions[transformers]}; the numbers are in
[training_speed_gpu.json](results/training_speed_gpu.json).
"""


def section() -> str:
    """Return the stored comparison as a section of RESULTS.md, or an empty string without one."""
    if not RESULTS.exists():
        return ""
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    (_, plain), *others = stored["variants"].items()
    sizes = {"milliseconds": plain["seconds"] * 1e3, "clips": stored["batch"] / plain["seconds"]}
    sizes["gigabytes"] = plain["megabytes"] / 1e3
    rows = "\n".join(row(name, part, plain["megabytes"]) for name, part in others)
    return _SECTION.format(**stored, **sizes, rows=rows)


if __name__ == "__main__":
    main()
