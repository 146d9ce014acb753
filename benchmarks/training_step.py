"""Training step of AST-base: time and memory against stock transformers in float32 with SDPA.

    python -m benchmarks.training_step            # 4 minutes of one core
    python -m benchmarks.training_step --quick    # under 2 minutes; stores nothing

Both sides have the same random weights and the same clip of 10.24 s (noise, 527 tags). A step is the forward and the
backward pass and fused AdamW. The sides alternate on one thread; time is CPU time. Memory is the growth of a fresh
process from before it makes the model to the peak of a step, with gradients and optimizer state.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .machine import has_bfloat16, machine
from .storing import store

RESULTS = Path(__file__).parent / "results" / "training_step.json"
ROUNDS = 5
QUICK_ROUNDS = 1
#: Clips of the step whose memory is measured.
BATCH = 4
QUICK_BATCH = 2
#: Fields of the configuration; the others have the values of AST-base by default.
SIZES: dict[str, Any] = {"num_labels": 527, "max_length": 1024, "num_mel_bins": 128}


@dataclass(frozen=True)
class Side:
    """A way to make a training step.

    Attributes:
        what: the row's text.
        target: least ratio of speed, or largest of memory; None for none.
        bf16: compute in bfloat16 by autocast, as `precision: bf16`.
        time: columns of patches that patchout drops.
        stride: of patches along both axes; those of the paper have 10.
        checkpointing: recompute activations in the backward pass.
        is_stock: transformers' model instead of ours.
        is_timed: measured for speed; else for memory.
    """

    what: str
    target: float | None = None
    bf16: bool = False
    time: int = 0
    stride: int = 10
    checkpointing: bool = False
    is_stock: bool = False
    is_timed: bool = True


#: 50 of 101 columns with a stride of 10, 32 of 64 with 16.
SIDES: dict[str, Side] = {
    "stock": Side("stock transformers, float32, SDPA", is_stock=True),
    "float32": Side("float32"),
    "bf16": Side("bf16", 1.8, bf16=True),
    "patchout": Side("50 % structured patchout, float32", 2.3, time=50),
    "patchout bf16": Side("50 % structured patchout, bf16", 3.4, bf16=True, time=50),
    "stride 16": Side("50 % structured patchout, bf16, strides of 16", 4.0, bf16=True, time=32, stride=16),
    "stock, stride 16": Side("stock transformers, float32, strides of 16", stride=16, is_stock=True),
    "memory": Side(
        "50 % structured patchout, gradient checkpointing", 0.6, time=50, checkpointing=True, is_timed=False
    ),
}


@dataclass
class Stepper:
    """A model with its optimizer; calling it makes a training step as a side of `SIDES`, and returns the logits."""

    model: Any
    values: Any
    labels: Any
    optimizer: Any = field(init=False)

    def __post_init__(self) -> None:
        import torch

        self.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0, fused=True)
        for parameter in self.model.parameters():  # the optimizer's state is there before the first step
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def __call__(self, side: Side) -> Any:
        import torch

        if not side.is_stock:
            base = self.model.base_model
            base.patchout = replace(base.patchout, time=side.time)
        with torch.autocast("cpu", torch.bfloat16) if side.bf16 else nullcontext():
            outputs = self.model(self.values, labels=self.labels)
        outputs.loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return outputs.logits.detach().float()


def stepper(side: Side, batch: int = 1) -> Stepper:
    """Return a random model of a side on a batch of noise; the weights are the same for the same strides."""
    import torch

    torch.manual_seed(0)
    strides = {"frequency_stride": side.stride, "time_stride": side.stride}
    fields = {**SIZES, **strides, "problem_type": "multi_label_classification"}
    model = _stock(fields) if side.is_stock else _ours(fields)
    if side.checkpointing:
        model.gradient_checkpointing_enable()
    shape = (batch, fields["max_length"], fields["num_mel_bins"])
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    classes = fields["num_labels"]
    labels = (torch.arange(batch * classes).reshape(batch, classes) % 200 == 0).float()
    return Stepper(model, values, labels)


def _stock(fields: dict[str, Any]) -> Any:
    from transformers import ASTConfig, ASTForAudioClassification

    config = ASTConfig(**fields)
    config._attn_implementation = "sdpa"
    return ASTForAudioClassification(config)


def _ours(fields: dict[str, Any]) -> Any:
    from ast_hf import ASTConfig, ASTForAudioClassification

    return ASTForAudioClassification(ASTConfig(**fields))


def seconds(rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the CPU time of each side's steps, after one that is not counted, and differences of logits to stock."""
    stock = stepper(SIDES["stock"])
    ours = stepper(SIDES["float32"])
    ours.model.load_state_dict(stock.model.state_dict())
    wide = {name: stepper(SIDES[name]) for name in ("stride 16", "stock, stride 16")}
    timed = {name: side for name, side in SIDES.items() if side.is_timed and _is_possible(side)}
    makers = {"stock": stock, **wide}
    times: dict[str, list[float]] = {name: [] for name in timed}
    logits: dict[str, Any] = {}
    for number in range(rounds + 1):
        for name, side in timed.items():
            began = time.process_time()
            logits[name] = makers.get(name, ours)(side)
            times[name].append(time.process_time() - began)
            print(f"{'warm-up' if number == 0 else number}: {name} {times[name][-1]:.2f} s", flush=True)
    equal = [name for name in logits if name in ("float32", "bf16")]
    gaps: dict[str, float] = {name: float((logits[name] - logits["stock"]).abs().max()) for name in equal}
    return {name: parts[1:] for name, parts in times.items()}, gaps


def _is_possible(side: Side) -> bool:
    """Return False for bfloat16 on a processor without its instructions, where a step takes minutes."""
    return not side.bf16 or has_bfloat16()


def megabytes(name: str, batch: int) -> float:
    """Return by how many MB this process grows while it makes a model and a training step."""
    import torch

    torch.set_num_threads(1)
    _stock({"num_hidden_layers": 1})  # imports what the sides need
    _ours({"num_hidden_layers": 1})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stepper(SIDES[name], batch)(SIDES[name])
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def measure(rounds: int, batch: int) -> dict[str, Any]:
    """Return all measurements of this machine."""
    import torch

    torch.set_num_threads(1)
    # first, since a process begins with the largest memory of the one that starts it
    memory = {name: float(_own_process(name, batch)) for name in ("stock", "memory")}
    times, gaps = seconds(rounds)
    return {
        "command": "python -m benchmarks.training_step",
        "machine": machine(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "rounds": rounds,
        "batch": batch,
        "seconds": times,
        "differences": gaps,
        "megabytes": memory,
    }


def _own_process(name: str, batch: int) -> str:
    command = [sys.executable, "-m", "benchmarks.training_step", "--memory", name, "--batch", str(batch)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]


_SECTION = """
## How much faster is a training step of AST-base?

Forward and backward pass and fused AdamW on one clip of 10.24 s, one CPU thread, against stock transformers in float32
with SDPA and the same weights. Speed is the ratio of CPU times, for each of {rounds} alternating rounds: the median,
with the quartiles in brackets. Memory is the growth of a process that makes the model and a step on {batch} clips; with
fewer, the 1.4 GB of weights, gradients and optimizer state weigh more. Both sides classify by two tokens; ours computes
the last block for them alone.

| ours | stock's strides | faster by | at least | largest difference of logits |
|---|---|---|---|---|
{rows}

| ours | memory | at most |
|---|---|---|
{memory}

`{command}`, with torch {versions[torch]} and transformers {versions[transformers]} on {machine}; the numbers of every
round are in [training_step.json](results/training_step.json).
"""


def section(stored: dict[str, Any] | None = None) -> str:
    """Return a comparison, by default the stored one, as a section of RESULTS.md; empty without one."""
    if stored is None:
        if not RESULTS.exists():
            return ""
        stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    pairs = [(name, "stock") for name, side in SIDES.items() if side.is_timed and not side.is_stock]
    pairs.append(("stride 16", "stock, stride 16"))
    rows = [_row(name, against, stored) for name, against in pairs if name in stored["seconds"]]
    share = stored["megabytes"]["memory"] / stored["megabytes"]["stock"]
    memory = f"| {SIDES['memory'].what} | {share:.2f}x | {SIDES['memory'].target}x |"
    return _SECTION.format(**{**stored, "rows": "\n".join(rows), "memory": memory})


def _row(name: str, against: str, stored: dict[str, Any]) -> str:
    """Return the row of a side against one of stock's."""
    pairs = zip(stored["seconds"][against], stored["seconds"][name], strict=True)
    ratios = [stock / ours for stock, ours in pairs]
    faster = f"{statistics.median(ratios):.2f}x"
    if len(ratios) > 1:
        low, _, high = statistics.quantiles(ratios, n=4)
        faster += f" ({low:.2f}-{high:.2f})"
    target = SIDES[name].target if against == "stock" else None
    least = "-" if target is None else f"{target}x"
    gap = stored["differences"].get(name)
    difference = "other patches" if gap is None else f"{gap:.1e}"
    return f"| {SIDES[name].what} | {SIDES[against].stride} | {faster} | {least} | {difference} |"


def main() -> None:
    """Measure and store, or print the memory of one side in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--store", type=Path, help="file of the results")
    parser.add_argument("--memory", choices=SIDES)
    parser.add_argument("--batch", type=int, default=BATCH)
    options = parser.parse_args()
    if options.memory:
        print(megabytes(options.memory, options.batch))
        return
    stored = measure(QUICK_ROUNDS, QUICK_BATCH) if options.quick else measure(ROUNDS, options.batch)
    store(stored, options.store or (None if options.quick else RESULTS))
    print(section(stored))


if __name__ == "__main__":
    main()
