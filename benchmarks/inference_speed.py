"""Speed of inference on a CPU against transformers' AST, onnxruntime and OpenVINO, side by side.

    python -m benchmarks.inference_speed                                # nine minutes on one core
    python -m benchmarks.inference_speed --quick                        # one round, stores nothing: three minutes
    python -m benchmarks.inference_speed --checkpoint FOLDER --clips FOLDER_OR_TABLE   # adds a trained checkpoint

One process with one thread. The variants of a table take turns; a ratio is that of the medians of their CPU times.
Weights of the base model are random, which does not change its speed. Agreement needs a trained checkpoint and clips:
the share of clips whose best label is that of the float32 model. Peers that are not installed (`pip install
ast_hf[bench]`) are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn
from transformers import pipeline
from transformers.models.audio_spectrogram_transformer import ASTForAudioClassification as Stock

from ast_hf import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    load_audio,
    optimize_for_inference,
)

from .inference_speed_page import PICTURE, RESULTS, draw, section
from .machine import has_bfloat16, machine
from .transfer import neutral, write

#: Frames of the inputs: 1, 2.5, 5 and 10.24 s.
LENGTHS = (100, 250, 500, 1024)
ROUNDS = 5
QUICK_ROUNDS = 1
#: Seconds of the recording that is classified from beginning to end.
RECORDING = 600
QUICK_RECORDING = 60
#: Tokens that each block merges, for the curve of token merging.
MERGED = (4, 8, 16, 24)
#: The demo's model (instruments.yaml).
DEMO = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 256,
    "num_mel_bins": 64,
    "frequency_stride": 16,
    "time_stride": 16,
    "max_length": 304,
}

#: Multiplications and additions of AST-base for a clip of 10 s: 206.3e9 in linear layers, 54.3e9 in attention, 0.5e9 in
#: the patches.
GIGA_OPERATIONS = 261.1

Variants = Mapping[str, Callable[[], Any]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every table, and store the results after each."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = read_options(words)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    command = f"python -m benchmarks.inference_speed {shlex.join(neutral(_without_store(words)))}".strip()
    measured = ("torch", "transformers", "openvino", "onnxruntime")
    versions = {name: version(name) for name in measured if find_spec(name)}
    stored: dict[str, Any] = {
        "command": command,
        "machine": machine(),
        "versions": versions,
        "rounds": rounds,
    }
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(), threadpool_limits(limits=1):
        place = options.store or (Path(folder) / "results.json" if options.quick else RESULTS)
        base = Base(Path(folder))
        steps: dict[str, Callable[[], Any]] = {
            "base": lambda: base_table(base, rounds),
            "lengths": lambda: length_table(base, rounds),
            "recordings": lambda: recording_table(
                base, QUICK_RECORDING if options.quick else RECORDING, rounds
            ),
        }
        steps["start"] = lambda: start_table(rounds)
        if options.checkpoint:
            steps["trained"] = lambda: trained_table(options.checkpoint, options.clips, rounds)
        for name, step in steps.items():
            stored[name] = step()
            write(place, stored)
            print(f"{name}: {json.dumps(stored[name])}", flush=True)
        draw(stored["base"], Path(folder) / "speed.png" if options.quick else PICTURE)
        print(section(place))


def read_options(words: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference_speed")
    parser.add_argument("--quick", action="store_true", help="one round; stores nothing")
    parser.add_argument("--checkpoint", type=Path, help="folder of a trained checkpoint")
    parser.add_argument("--clips", type=Path, help="CSV with a column `path`: clips to classify with it")
    parser.add_argument("--store", type=Path, help="file of the results")
    options = parser.parse_args(words)
    if bool(options.checkpoint) != bool(options.clips):
        parser.error("--checkpoint and --clips go together")
    return options


def _without_store(words: list[str]) -> list[str]:
    """Return the words of a command without the place of its results."""
    return words[: words.index("--store")] if "--store" in words else words


class Base:
    """AST-base with random weights, ours and transformers'."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.own = ASTForAudioClassification(ASTConfig(num_labels=527)).eval()
        self.own.save_pretrained(folder / "base")
        self.stock = Stock.from_pretrained(folder / "base").eval()
        self.folder = folder


def logits(model: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """Return the logits of a model of transformers or of ours."""
    return model(values).logits


def first_output(run: Callable[[Any], Any], given: Any) -> torch.Tensor:
    """Return the first output of another runtime as a tensor."""
    return torch.from_numpy(np.asarray(run(given)[0]))


def alternate(variants: Variants, rounds: int) -> dict[str, float]:
    """Return the median CPU time of each variant in seconds; they take turns, after a turn that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            begun = time.process_time()
            run()
            if number:
                times[name].append(time.process_time() - begun)
    return {name: statistics.median(values) for name, values in times.items()}


def base_table(base: Base, rounds: int) -> dict[str, Any]:
    """Measure a clip of 10 s: ours in each precision, transformers and the peers."""
    values = features(1024)
    variants: dict[str, Callable[[], torch.Tensor]] = {
        "transformers sdpa float32": partial(logits, base.stock, values)
    }
    if has_bfloat16():
        half = Stock.from_pretrained(base.folder / "base", dtype=torch.bfloat16).eval()
        variants["transformers sdpa bfloat16"] = partial(logits, half, values.bfloat16())
    variants["ast_hf, as it is loaded"] = partial(logits, base.own, values)
    for precision in (*float_precisions(), "int8"):
        fast = optimize_for_inference(base.own, precision)
        variants[f"ast_hf {precision}"] = partial(logits, fast, values)
    for merged in (32, 64):
        fast = optimize_for_inference(base.own, merge_tokens=merged)
        variants[f"ast_hf float32, {merged} tokens merged in a block"] = partial(logits, fast, values)
    variants |= peers(base, values)
    exact = variants["transformers sdpa float32"]()
    limits = {name: GIGA_OPERATIONS / speed for name, speed in product_speeds(base, rounds).items()}
    gaps = {name: float((run().float() - exact).abs().max()) for name, run in variants.items()}
    return {
        "seconds": alternate(variants, rounds),
        "gaps": gaps,
        "spread": float(exact.std()),
        "limits": limits,
    }


def product_speeds(base: Base, rounds: int) -> dict[str, float]:
    """Return the speed of the first product of an MLP on this machine in 1e9 operations a second, by precision."""
    runs = {}
    for name in float_precisions():
        block = optimize_for_inference(base.own, name).audio_spectrogram_transformer.encoder.layer[0]
        tokens = torch.randn(base.own.config.num_tokens, base.own.config.hidden_size)
        runs[name] = partial(block.intermediate, tokens.to(getattr(torch, name)))
    config = base.own.config
    operations = 2e-9 * config.num_tokens * config.hidden_size * config.intermediate_size
    return {name: operations / seconds for name, seconds in alternate(runs, 4 * rounds).items()}


def peers(base: Base, values: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """Return the runs of transformers' model in other runtimes that are installed."""
    model = Logits(base.stock).eval()
    found: dict[str, Callable[[], torch.Tensor]] = {}
    if find_spec("openvino"):
        import openvino

        graph = openvino.convert_model(model, example_input=values)
        hints = {"float32": "f32", "bfloat16": "bf16"}
        for name, hint in ((name, hints[name]) for name in float_precisions()):
            settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": hint}
            compiled = openvino.Core().compile_model(graph, "CPU", settings)
            found[f"OpenVINO {name}"] = partial(first_output, compiled, values.numpy())
    if find_spec("onnxruntime") and find_spec("onnxscript"):
        found |= onnx_runs(model, values, base.folder)
    return found


class Logits(nn.Module):
    """Model whose output is a tensor of logits, for export."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        return self.model(input_values).logits


def onnx_runs(model: nn.Module, values: torch.Tensor, folder: Path) -> dict[str, Callable[[], torch.Tensor]]:
    """Return the runs of onnxruntime, in float32 and with dynamic int8."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    paths = {"float32": str(folder / "base.onnx"), "int8": str(folder / "int8.onnx")}
    torch.onnx.export(model, (values,), paths["float32"], dynamo=True, external_data=False, verbose=False)
    quantize_dynamic(paths["float32"], paths["int8"], weight_type=QuantType.QInt8, per_channel=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    runs: dict[str, Callable[[], torch.Tensor]] = {}
    for name, path in paths.items():
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        given = {session.get_inputs()[0].name: values.numpy()}
        runs[f"onnxruntime {name}"] = partial(first_output, partial(session.run, None), given)
    return runs


def length_table(base: Base, rounds: int) -> dict[str, Any]:
    """Measure clips of 1 to 10 s without padding, against transformers, which pads them to 10 s."""
    padded = features(1024)
    fast = {name: optimize_for_inference(base.own, name) for name in float_precisions()}
    variants: dict[str, Callable[[], Any]] = {"transformers, padded": partial(logits, base.stock, padded)}
    for frames in LENGTHS:
        values = features(frames)
        variants[f"ast_hf as loaded, {frames}"] = partial(logits, base.own, values)
        for name, model in fast.items():
            variants[f"ast_hf {name}, {frames}"] = partial(logits, model, values)
    return {"seconds": alternate(variants, rounds)}


def recording_table(base: Base, seconds: int, rounds: int) -> dict[str, Any]:
    """Measure a recording from samples to scores, in windows without overlap: seconds of audio for one of CPU time."""
    sound = np.random.default_rng(0).standard_normal(16_000 * seconds).astype(np.float32) * 0.1
    demo = ASTForAudioClassification(ASTConfig(num_labels=10, **DEMO)).eval()
    extractors = {
        "demo": ASTFeatureExtractor(max_length=DEMO["max_length"], num_mel_bins=DEMO["num_mel_bins"]),
        "AST-base": ASTFeatureExtractor(),
    }
    parts = {"demo": sound, "AST-base": sound[: len(sound) // 5]}
    runs = {}
    for name, model in {"demo": demo, "AST-base": optimize_for_inference(base.own)}.items():
        classify = pipeline("audio-classification", model=model, feature_extractor=extractors[name])
        runs[name] = partial(_classified, classify, parts[name])
    spent = alternate(runs, rounds)
    rates = {name: len(parts[name]) / 16_000 / spent[name] for name in runs}
    return {"times_real_time": rates, "seconds": seconds, "rounds": rounds}


def _classified(classify: Callable[[Any], Any], samples: np.ndarray) -> Any:
    return classify({"raw": samples, "sampling_rate": 16_000})  # the pipeline takes what is in it


def start_table(rounds: int) -> dict[str, float]:
    """Return the median CPU time of fresh processes in seconds: imports, and `ast-hf --help`."""
    commands = {
        "import torch": ["-c", "import torch"],
        "import ast_hf": ["-c", "import ast_hf"],
        "ast-hf --help": ["-m", "ast_hf", "--help"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, words in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {name: statistics.median(values) for name, values in times.items()}


def trained_table(checkpoint: Path, table: Path, rounds: int) -> dict[str, Any]:
    """Measure the agreement of a trained checkpoint with its float32 scores, and its speed on one clip."""
    import csv

    model = ASTForAudioClassification.from_pretrained(checkpoint).eval()
    extractor = ASTFeatureExtractor.from_pretrained(checkpoint)
    with table.open(encoding="utf-8", newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    clips = [load_audio(path, extractor.sampling_rate) for path in paths]
    inputs = [
        extractor(clip, extractor.sampling_rate, return_tensors="pt", truncation=True) for clip in clips
    ]
    values = [each["input_values"] for each in inputs]
    models = {
        "float32": model,
        **{f"ast_hf {name}": optimize_for_inference(model, name) for name in (*float_precisions(), "int8")},
    }
    models |= {
        f"{count} tokens merged": optimize_for_inference(model, merge_tokens=count) for count in MERGED
    }
    found = {
        name: torch.cat([logits(each, value).float() for value in values]) for name, each in models.items()
    }
    exact = found["float32"]
    return {
        "clips": len(clips),
        "tokens": model.config.num_tokens,
        "agreement": {
            name: float((scores.argmax(1) == exact.argmax(1)).float().mean())
            for name, scores in found.items()
        },
        "gaps": {name: float((scores - exact).abs().max()) for name, scores in found.items()},
        "seconds": alternate(
            {name: partial(logits, each, values[0]) for name, each in models.items()}, rounds
        ),
    }


def float_precisions() -> tuple[str, ...]:
    """Return float32, and bfloat16 where the processor has it; elsewhere it is several times as slow."""
    return ("float32", "bfloat16") if has_bfloat16() else ("float32",)


def features(frames: int) -> torch.Tensor:
    """Return random features of one clip, float32 `(1, frames, 128)`."""
    return torch.randn(1, frames, 128, generator=torch.Generator().manual_seed(0))


if __name__ == "__main__":
    main()
