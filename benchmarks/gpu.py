"""AST-base on one GPU: training, inference, features, attention and whole programs, against stock transformers.

    python -m benchmarks.gpu            # under eight minutes of one GPU
    python -m benchmarks.gpu --cpu      # tiny sizes on the CPU, to try the program; stores nothing

Weights are random and inputs are noise of 10.24 s, which changes no speed. Stock and ours take turns. A rate is the
batch size divided by the median time of a step, with the GPU synchronised at both ends; reading is in the rows of whole
programs only. Every part is printed and stored once it is known. A part does not begin after its share of the time.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from .machine import machine

RESULTS = Path(__file__).parent / "results" / "gpu.json"
RATE = 16_000
#: Seconds after which no further part begins.
LIMIT = 420.0
#: Classes of the clips that the programs read.
_CLASSES = 5


@dataclass(frozen=True)
class Sizes:
    """Sizes of a run of this benchmark.

    Attributes:
        fields: fields of `ASTConfig` besides strides; the others have the values of AST-base.
        batch: clips of a batch.
        dropped: columns of patches that patchout drops.
        clips: clips of the programs.
        readers: processes that read clips for training.
        rounds: turns of each side.
        compiles: compile, too.
    """

    fields: dict[str, Any]
    batch: int
    dropped: int
    clips: int
    readers: int
    rounds: int
    compiles: bool


FULL = Sizes({"num_labels": 527, "max_length": 1024, "num_mel_bins": 128}, 32, 40, 4096, 12, 7, True)
_TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
TINY = Sizes({**_TINY, "num_labels": 5, "max_length": 128, "num_mel_bins": 32}, 4, 2, 12, 1, 2, False)


@dataclass(frozen=True)
class Target:
    """Least clips per second on an H100 and an H200, of the issue that this benchmark is for."""

    h100: float
    h200: float

    def on(self, gpu: str) -> float | None:
        """Return that of a GPU by its name; None for another one."""
        if "H200" in gpu:
            return self.h200
        return self.h100 if "H100" in gpu else None


TARGETS = {
    "training, compiled": Target(555, 590),
    "training, patchout 40, batches of 64, compiled": Target(1000, 1080),
    "training, stride 16, batches of 128, compiled": Target(1500, 1620),
    "inference, samples to scores": Target(1500, 1500),
    "inference, samples to scores, compiled": Target(1800, 1800),
}


@dataclass
class Bench:
    """Device, sizes and results of a run.

    Attributes:
        device: where everything runs.
        sizes: see `Sizes`.
        place: file of the results; None stores nothing.
        rates: clips per second by row.
        facts: other results by name.
        failures: why a part has no result.
        began: clock at the start.
    """

    device: torch.device
    sizes: Sizes
    place: Path | None
    rates: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    def run(self, name: str, part: Callable[[Bench], None]) -> None:
        """Run a part, and store what it found, or why it found nothing."""
        if time.perf_counter() - self.began > LIMIT:
            self.failures[name] = f"not begun after {LIMIT:.0f} s"
            return
        try:
            part(self)
        except Exception as problem:  # the other parts are measured all the same
            self.failures[name] = f"{type(problem).__name__}: {str(problem)[:200]}"
            print(f"{name}: {self.failures[name]}", file=sys.stderr, flush=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.store()

    def note(self, name: str, clips_per_second: float) -> None:
        """Note and print a rate."""
        self.rates[name] = clips_per_second
        print(
            f"[{time.perf_counter() - self.began:4.0f} s] {name}: {clips_per_second:.0f} clips/s", flush=True
        )

    def fact(self, name: str, value: Any) -> None:
        """Note and print another result."""
        self.facts[name] = value
        print(f"[{time.perf_counter() - self.began:4.0f} s] {name}: {value}", flush=True)

    def medians(self, sides: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
        """Return the median seconds of each side; they take turns, after one turn that is not counted."""
        times: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(self.sizes.rounds + 1):
            for name, side in sides.items():
                self.wait()
                start = time.perf_counter()
                side()
                self.wait()
                if turn:
                    times[name].append(time.perf_counter() - start)
        return {name: statistics.median(each) for name, each in times.items()}

    def wait(self) -> None:
        """Wait until the GPU has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def autocast(self) -> Any:
        """Return a block of bfloat16 arithmetic."""
        return torch.autocast(self.device.type, torch.bfloat16)

    def to_dict(self) -> dict[str, Any]:
        """Return the results as they are stored."""
        gpu = torch.cuda.get_device_name() if self.device.type == "cuda" else "none"
        return {
            "command": "python -m benchmarks.gpu",
            "gpu": gpu,
            "machine": machine(),
            "versions": {name: version(name) for name in ("torch", "transformers")},
            "seconds": round(time.perf_counter() - self.began, 1),
            "rates": self.rates,
            "facts": self.facts,
            "failures": self.failures,
        }

    def store(self) -> None:
        """Write the results so far."""
        if self.place is not None:
            self.place.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


# ---------------------------------------------------------------- models and inputs


def our_model(bench: Bench, stride: int = 10) -> ASTForAudioClassification:
    """Return a random model of ours on the device."""
    fields = {**bench.sizes.fields, "frequency_stride": stride, "time_stride": stride}
    config = ASTConfig(**fields, problem_type="multi_label_classification")
    return ASTForAudioClassification(config).to(bench.device)


def stock_model(bench: Bench) -> nn.Module:
    """Return a random model of transformers on the device."""
    from transformers.models.audio_spectrogram_transformer import ASTConfig as StockConfig
    from transformers.models.audio_spectrogram_transformer import ASTForAudioClassification as Stock

    config = StockConfig(**bench.sizes.fields, problem_type="multi_label_classification")
    config._attn_implementation = "sdpa"
    return Stock(config).to(bench.device)


def extractor(bench: Bench) -> ASTFeatureExtractor:
    """Return the extractor of the models."""
    fields = bench.sizes.fields
    return ASTFeatureExtractor(max_length=fields["max_length"], num_mel_bins=fields["num_mel_bins"])


def spectrograms(bench: Bench, count: int) -> torch.Tensor:
    """Return noise as model inputs."""
    fields = bench.sizes.fields
    return torch.randn(count, fields["max_length"], fields["num_mel_bins"], device=bench.device)


def waveforms(bench: Bench, count: int) -> list[torch.Tensor]:
    """Return noise as samples on the CPU, as long as the model's input."""
    samples = int(bench.sizes.fields["max_length"] * 0.01 * RATE)
    return list(torch.randn(count, samples, generator=torch.Generator().manual_seed(0)).mul_(0.1))


def compile_blocks(model: ASTForAudioClassification) -> ASTForAudioClassification:
    """Compile the transformer blocks in place, as `training.torch_compile` of a recipe does."""
    for block in model.base_model.encoder.layer:
        block.compile()
    return model


def stepper(bench: Bench, model: nn.Module, count: int) -> Callable[[], Any]:
    """Return a function that makes a training step on a batch: bf16, clipped gradients, fused AdamW."""
    model.train()
    values = spectrograms(bench, count)
    labels = (torch.rand(count, bench.sizes.fields["num_labels"], device=bench.device) < 0.01).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        with bench.autocast():
            loss = model(input_values=values, labels=labels).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


# ---------------------------------------------------------------- parts


def ceilings(bench: Bench) -> None:
    """Measure what the device reaches in a large product, and in copying."""
    size = 8192 if bench.device.type == "cuda" else 256
    factor = torch.randn(size, size, device=bench.device, dtype=torch.bfloat16)
    memory = torch.empty(16 * size * size, dtype=torch.uint8, device=bench.device)
    times = bench.medians({"product": lambda: factor @ factor, "copy": memory.clone})
    bench.fact("bfloat16 products, TFLOP/s", round(2 * size**3 / times["product"] / 1e12, 1))
    bench.fact("copies, TB/s", round(2 * memory.numel() / times["copy"] / 1e12, 2))


def agreement(bench: Bench) -> None:
    """Compare features and scores of the device with those of a CPU in float32."""
    clips = waveforms(bench, 4)
    own = extractor(bench)
    ours = own.batch_features(clips, bench.device).cpu()
    features = own(clips, RATE, return_tensors="pt")["input_values"]
    bench.fact("features, largest difference to the CPU", f"{(ours - features).abs().max():.1e}")
    model = our_model(bench).eval()
    mask = torch.ones(features.shape[:2], dtype=torch.long)
    mask[1:, features.shape[1] // 2 :] = 0
    arguments = {"input_values": features, "attention_mask": mask}
    with torch.inference_mode():
        with bench.autocast():
            scores = model(**{name: each.to(bench.device) for name, each in arguments.items()}).logits.cpu()
        expected = model.cpu()(**arguments).logits
    gap = (scores.float() - expected).abs().max() / expected.std()
    bench.fact("scores of padded clips in bf16, largest difference in standard deviations", f"{gap:.1e}")


def training(bench: Bench) -> None:
    """Measure training steps of stock and of ours, without compilation."""
    count = bench.sizes.batch
    ours = our_model(bench)
    sides = {"stock": stepper(bench, stock_model(bench), count), "ours": stepper(bench, ours, count)}
    times = bench.medians(sides)
    bench.note("stock transformers, training", count / times["stock"])
    bench.note("training", count / times["ours"])


def compiled_training(bench: Bench) -> None:
    """Measure compiled training steps."""
    small = bench.sizes.batch
    model = our_model(bench)
    if bench.sizes.compiles:
        compile_blocks(model)
    step = stepper(bench, model, small)
    bench.note("training, compiled", small / bench.medians({"step": step})["step"])
    model.base_model.patchout = type(model.base_model.patchout)(time=bench.sizes.dropped)
    step = stepper(bench, model, 2 * small)
    name = "training, patchout 40, batches of 64, compiled"
    bench.note(name, 2 * small / bench.medians({"step": step})["step"])


def wide_training(bench: Bench) -> None:
    """Measure compiled training steps with strides of 16."""
    model = our_model(bench, stride=16)
    if bench.sizes.compiles:
        compile_blocks(model)
    count = 4 * bench.sizes.batch
    step = stepper(bench, model, count)
    name = "training, stride 16, batches of 128, compiled"
    bench.note(name, count / bench.medians({"step": step})["step"])


@torch.inference_mode()
def inference(bench: Bench) -> None:
    """Measure samples to scores in bf16 weights, and the share of the features."""
    count = 2 * bench.sizes.batch
    clips = waveforms(bench, count)
    own = extractor(bench)
    ours = our_model(bench).to(torch.bfloat16).eval()
    stock = stock_model(bench).to(torch.bfloat16).eval()
    values = spectrograms(bench, count).to(torch.bfloat16)
    held = [clip.to(bench.device) for clip in clips]

    def whole(model: nn.Module) -> torch.Tensor:
        features = own.batch_features(clips, bench.device)
        return model(input_values=features.to(torch.bfloat16)).logits.float().cpu()

    times = bench.medians(
        {
            "stock": lambda: stock(input_values=values).logits,
            "ours": lambda: ours(input_values=values).logits,
            "whole": lambda: whole(ours),
            "features": lambda: own.batch_features(held, bench.device),
        }
    )
    bench.note("stock transformers, inference, features to scores", count / times["stock"])
    bench.note("inference, features to scores", count / times["ours"])
    bench.note("inference, samples to scores", count / times["whole"])
    bench.fact("features, share of an inference batch", round(times["features"] / times["whole"], 4))
    if bench.sizes.compiles:
        compile_blocks(ours)
    name = "inference, samples to scores, compiled"
    bench.note(name, count / bench.medians({"whole": lambda: whole(ours)})["whole"])


def padding(bench: Bench) -> None:
    """Measure a training step on clips of which most are padded, with and without segments."""
    count = bench.sizes.batch
    model = our_model(bench).train()
    values = spectrograms(bench, count)
    frames = values.shape[1]
    lengths = torch.linspace(frames // 4, frames, count, device=bench.device).long()
    mask = (torch.arange(frames, device=bench.device) < lengths[:, None]).long()

    def step(**arguments: Any) -> None:
        with bench.autocast():
            model(input_values=values, **arguments).logits.sum().backward()
        model.zero_grad()

    keep = model.base_model.encoder.layer[0].register_forward_hook(lambda *_: None)  # a hook needs a mask
    times = bench.medians({"mask": lambda: step(attention_mask=mask), "none": step})
    keep.remove()
    times |= {"segments": bench.medians({"segments": lambda: step(attention_mask=mask)})["segments"]}
    for name, seconds in times.items():
        bench.note(f"forward and backward of padded clips, {name}", count / seconds)


def attention(bench: Bench) -> None:
    """Measure attention of one block by torch's backends, forward and backward, in ms."""
    tokens = 1214 if bench.device.type == "cuda" else 40
    shape = (bench.sizes.batch, 12, tokens, 64)
    states = [
        torch.randn(shape, device=bench.device, dtype=torch.bfloat16, requires_grad=True) for _ in "qkv"
    ]
    gradient = torch.randn(shape, device=bench.device, dtype=torch.bfloat16)
    backends = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "cuDNN": SDPBackend.CUDNN_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
    }
    for name, backend in backends.items():

        def attend(backend: SDPBackend = backend) -> None:
            with sdpa_kernel(backend):
                result = nn.functional.scaled_dot_product_attention(*states)
            torch.autograd.grad(result, states, gradient)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                seconds = bench.medians({name: attend})[name]
        except RuntimeError as problem:
            bench.failures[f"attention, {name}"] = str(problem)[:120]
            continue
        bench.fact(f"attention of a block, {name}, ms", round(1e3 * seconds, 3))


def programs(bench: Bench) -> None:
    """Measure `ast-hf finetune` and `ast-hf evaluate` from files of 16 bits to the end."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table = write_clips(bench, root)
        bench.run("finetune", lambda bench: finetune(bench, root, table))
        bench.run("evaluate", lambda bench: evaluate(bench, root, table))


def write_clips(bench: Bench, root: Path) -> Path:
    """Write clips of noise and a table that names each of them several times; return the table."""
    different = min(bench.sizes.clips, 256)
    samples = int(bench.sizes.fields["max_length"] * 0.01 * RATE)
    random = np.random.default_rng(0)
    for number in range(different):
        soundfile.write(root / f"{number}.wav", random.uniform(-0.1, 0.1, samples), RATE)
    table = root / "clips.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for number in range(bench.sizes.clips):
            clip = number % different
            writer.writerow([f"{clip}.wav", f"class {clip % _CLASSES}", "train"])
        for number in range(different):
            writer.writerow([f"{number}.wav", f"class {number % _CLASSES}", "test"])
    return table


def finetune(bench: Bench, root: Path, table: Path) -> None:
    """Measure the steps of a run with readers, without its start and its last evaluation."""
    from transformers import TrainerCallback

    from ast_hf.training import Recipe, prepare

    class Clock(TrainerCallback):
        """Notes the time of a step after the first ones, and of the last."""

        def __init__(self) -> None:
            self.times: dict[int, float] = {}

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Note the time; only the two that count wait for the GPU."""
            if state.global_step in (first, args.max_steps):
                bench.wait()
                self.times[state.global_step] = time.perf_counter()

    count = bench.sizes.batch
    steps = bench.sizes.clips // count
    first = max(1, steps // 4)
    fields = {name: value for name, value in bench.sizes.fields.items() if name != "num_labels"}
    options = {
        "data": {"source": str(table), "eval_splits": []},
        "features": {"mean": -5.0, "std": 4.5},
        "model": {"config": fields},
        "precision": "bf16",
        "training": {
            "per_device_train_batch_size": count,
            "dataloader_num_workers": bench.sizes.readers,
            "torch_compile": bench.sizes.compiles,
            "max_steps": steps,
            "save_strategy": "no",
            "disable_tqdm": True,
            "use_cpu": bench.device.type == "cpu",
        },
    }
    clock = Clock()
    trainer = prepare(Recipe.from_dict(options, "benchmarks.gpu"), root / "run").trainer
    trainer.add_callback(clock)
    trainer.train()
    seconds = clock.times[steps] - clock.times[first]
    rate = (steps - first) * count / seconds
    bench.note("`ast-hf finetune`, files to weights, compiled", rate)
    share(bench, "finetune, share of the model's own rate", rate, "training, compiled")


def evaluate(bench: Bench, root: Path, table: Path) -> None:
    """Measure `ast-hf evaluate` by the difference between many clips and few."""
    from ast_hf.training import evaluate_checkpoints

    write_model(bench, root / "model")
    seconds = {}
    for split in ("test", "train", "test", "train"):  # the first two read the files into the system's cache
        start = time.perf_counter()
        evaluate_checkpoints([str(root / "model")], str(table), split=split, output_dir=str(root / split))
        seconds[split] = time.perf_counter() - start
    clips = bench.sizes.clips - min(bench.sizes.clips, 256)
    if clips <= 0:  # the tiny sizes
        return
    if seconds["train"] <= seconds["test"]:
        raise RuntimeError(
            f"{seconds['train']:.1f} s for all clips, {seconds['test']:.1f} s for a few of them"
        )
    rate = clips / (seconds["train"] - seconds["test"])
    bench.note("`ast-hf evaluate`, files to scores", rate)
    share(bench, "evaluate, share of the model's own rate", rate, "inference, samples to scores")


def write_model(bench: Bench, folder: Path) -> None:
    """Write a random model of the classes of `write_clips`, so that no other part has to work."""
    fields = {name: value for name, value in bench.sizes.fields.items() if name != "num_labels"}
    names = {number: f"class {number}" for number in range(_CLASSES)}
    config = ASTConfig(**fields, id2label=names, problem_type="single_label_classification")
    ASTForAudioClassification(config).save_pretrained(folder)
    extractor(bench).save_pretrained(folder)


def share(bench: Bench, name: str, rate: float, part: str) -> None:
    """Note the share of a rate in that of another part, if there is one."""
    if part in bench.rates:
        bench.fact(name, round(rate / bench.rates[part], 3))


PARTS: dict[str, Callable[[Bench], None]] = {
    "ceilings": ceilings,
    "agreement": agreement,
    "training": training,
    "inference": inference,
    "compiled training": compiled_training,
    "programs": programs,
    "wide training": wide_training,
    "padding": padding,
    "attention": attention,
}

_SECTION = """
## How fast is AST-base on a GPU?

{gpu}, torch {versions[torch]}, transformers {versions[transformers]}; bf16, random weights, noise of 10.24 s, batches
of 32 in training and 64 in inference unless said. The target is that of the issue. `{command}` took
{seconds:.0f} s; the numbers are in [gpu.json](results/gpu.json).

| | clips/s | target |
|---|---|---|
{rates}

| | |
|---|---|
{facts}
"""


def section(stored: dict[str, Any] | None = None) -> str:
    """Return results, by default the stored ones, as a section of RESULTS.md; empty without."""
    if stored is None:
        if not RESULTS.exists():
            return ""
        stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    rates = []
    for name, rate in stored["rates"].items():
        target = TARGETS[name].on(stored["gpu"]) if name in TARGETS else None
        rates.append(f"| {name} | {rate:,.0f} | {'-' if target is None else f'{target:,.0f}'} |")
    notes = {**stored["facts"], **{f"no result: {name}": why for name, why in stored["failures"].items()}}
    facts = [f"| {name} | {value} |" for name, value in notes.items()]
    return _SECTION.format(**{**stored, "rates": "\n".join(rates), "facts": "\n".join(facts)})


def measure(device: torch.device, sizes: Sizes, place: Path | None) -> Bench:
    """Measure all parts."""
    torch.manual_seed(0)
    bench = Bench(device, sizes, place)
    for name, part in PARTS.items():
        bench.run(name, part)
    return bench


def main() -> None:
    """Measure on the GPU, or try the program on the CPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="tiny sizes on the CPU; stores nothing")
    options = parser.parse_args()
    if not options.cpu and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device: `--cpu` tries the program on the CPU")
    device, sizes, place = ("cpu", TINY, None) if options.cpu else ("cuda", FULL, RESULTS)
    bench = measure(torch.device(device), sizes, place)
    print(section(bench.to_dict()))


if __name__ == "__main__":
    main()
