"""The question of `training_speed` on a GPU: AST-base on clips of 10.24 s, one option at a time against bfloat16.

    python -m benchmarks.training_speed_gpu

A step's time is the median of ten after six to warm up, from the start of the forward pass to the end of the
optimizer's step, with the GPU waited for on both sides; reading and features are not in it. Memory is the most that
torch had allocated on the GPU.
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

BATCH, STEPS, WARM = 32, 16, 6

BF16 = {"bf16": True}
#: what is tried -> options of the recipe. The first is what the others are compared with. float32 comes before TF32,
#: whose flag outlives the run that sets it.
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
    """Measure one after the other; what is known is stored after each."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device: `python -m benchmarks.training_speed` is for a CPU")
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in VARIANTS:
            found[name] = measure(name, Path(folder))
            print(f"{name}: {found[name][0]:.3f} s, {found[name][1]:.0f} MB", flush=True)
            store(found)
    print(section())


def measure(name: str, folder: Path) -> tuple[float, float]:
    """Median seconds of a step, and MB of GPU memory."""
    import torch
    from transformers import TrainerCallback

    from ast_hf.training import prepare

    class Watch(TrainerCallback):
        """Times each step."""

        start = 0.0

        def __init__(self) -> None:
            self.taken: list[float] = []

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """The clips are there."""
            torch.cuda.synchronize()
            self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """The weights have changed."""
            torch.cuda.synchronize()
            self.taken.append(time.perf_counter() - self.start)

    watch, run = Watch(), prepare(recipe_of(name, folder), folder / "out")
    run.trainer.add_callback(watch)
    gc.collect()  # a Trainer refers to itself, so that the model before would still be there
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run.trainer.train()
    return statistics.median(watch.taken[WARM:]), torch.cuda.max_memory_allocated() / 1e6


def recipe_of(name: str, folder: Path) -> Any:
    """The common recipe with one change."""
    from ast_hf.training import Recipe

    changes = VARIANTS[name]
    fixed = {"max_steps": STEPS, "learning_rate": 1e-5, "save_strategy": "no", "disable_tqdm": True}
    values = {
        "data": {"source": str(table(folder)), "eval_splits": []},
        "features": {"mean": -5.0, "std": 4.5},
        "model": changes.get("model", {}),
        "patchout": changes.get("patchout", {}),
        "training": {"per_device_train_batch_size": BATCH, "tf32": False, **fixed, **changes.get("training", {})},
    }
    return Recipe.from_dict(values, "benchmarks.training_speed_gpu")


def store(found: dict[str, tuple[float, float]]) -> None:
    """Write the results; `times` is how often a step fits into the time of the first variant's."""
    import torch

    first, _ = next(iter(found.values()))
    variants = {
        name: {"options": VARIANTS[name], "seconds": seconds, "times": [first / seconds], "megabytes": megabytes}
        for name, (seconds, megabytes) in found.items()
    }
    values = {"command": "python -m benchmarks.training_speed_gpu", "gpu": torch.cuda.get_device_name()}
    values |= {"batch": BATCH, "steps": STEPS - WARM, **circumstances()}
    RESULTS.write_text(json.dumps({**values, "variants": variants}, indent=2) + "\n", encoding="utf-8")


_SECTION = """
### On a GPU

AST-base (12 layers of 768) on 10.24 s, 1,212 patches, batches of {batch}, on one {gpu}: one option at a time against
bfloat16 with SDPA and fused AdamW. A step takes {milliseconds:.0f} ms, {clips:.0f} clips/s when nothing waits for
reading, and {gigabytes:.1f} GB. Speed is the ratio of the time of a step, the median of {steps}. Memory is the most
that torch had allocated.

| option | in a recipe | faster by | memory |
|---|---|---|---|
{rows}

`{command}`, with torch {versions[torch]} and transformers {versions[transformers]}; the numbers are in
[training_speed_gpu.json](results/training_speed_gpu.json).
"""


def section() -> str:
    """The stored comparison as a section of RESULTS.md; nothing where there is none."""
    if not RESULTS.exists():
        return ""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    (_, plain), *others = found["variants"].items()
    sizes = {"milliseconds": plain["seconds"] * 1e3, "clips": found["batch"] / plain["seconds"]}
    sizes["gigabytes"] = plain["megabytes"] / 1e3
    rows = "\n".join(row(name, part, plain["megabytes"]) for name, part in others)
    return _SECTION.format(**found, **sizes, rows=rows)


if __name__ == "__main__":
    main()
