"""What quantisation costs: agreement of a trained checkpoint, quantised by torchao as it is loaded, with itself.

    python -m benchmarks.quantisation --checkpoint FOLDER --clips TABLE           # five minutes on one core
    python -m benchmarks.quantisation --checkpoint FOLDER --clips TABLE --quick   # 40 clips; stores nothing

TABLE is a CSV with the columns `path` (from its folder), `label` and `split`: `test` for clips that the checkpoint was
not trained on.
Agreement is the share of clips whose best label is that of the float32 model. One thread; the variants take turns; a
ratio is that of the medians of their CPU times for one clip. Products in fp8 need a GPU: they are emulated here, and
not timed.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ast_hf import ASTFeatureExtractor, ASTForAudioClassification, load_audio
from ast_hf.training import float8

from .inference_speed import alternate
from .machine import machine
from .transfer import line, neutral, write

RESULTS = Path(__file__).parent / "results" / "quantisation.json"
ROUNDS = 20
#: Clips of a batch, where time is not measured. The scales of activations in fp8 are those of a batch.
BATCH = 16
QUICK_CLIPS = 40
#: Left out of the quantised layers. Those of the blocks are called `dense` as well.
CLASSIFIER = "classifier.dense"
PRODUCTS = "`precision: fp8` of training, emulated"

_SECTION = """
## What does quantisation cost?

A trained checkpoint ({name}, {width} wide, {blocks} blocks), quantised by torchao while it is loaded
(`from_pretrained(..., quantization_config=TorchAoConfig(...))`), with and without `classifier.dense`. Agreement: the
share of clips whose best label is that of the float32 model, of {clips} clips, and of the {held_out} that it was not
trained on, with the number that changed. Difference: the largest of a logit; their standard deviation is {spread:.1f}.
Speed and size against float32, without compilation, one thread; torchao's kernels are made for GPUs.

| quantised | agreement | held out | correct, held out | difference of logits | speed | bytes of the weights |
|---|---|---|---|---|---|---|
{rows}

Dynamic fp8 at inference (`Float8DynamicActivationFloat8WeightConfig`) needs a GPU and is not measured. The last row
rounds weights and activations to fp8, one scale for each tensor, in all blocks but the last.

Run `{command}`; `make bench STORED=1` shows the stored results. Measured on {machine}, with torch {versions[torch]},
transformers {versions[transformers]} and torchao {versions[torchao]}.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all variants and store the results."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = read_options(words)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    stored: dict[str, Any] = {
        "command": f"python -m benchmarks.quantisation {shlex.join(neutral(words))}",
        "machine": machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "torchao")},
        "name": options.checkpoint.name,
    }
    stored |= measure(options.checkpoint, options.clips, QUICK_CLIPS if options.quick else None)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "results.json" if options.quick else RESULTS
        write(place, stored)
        print(section(place))


def read_options(words: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantisation")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder of a trained checkpoint")
    parser.add_argument("--clips", type=Path, required=True, help="CSV with columns path, label and split")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CLIPS} clips; stores nothing")
    return parser.parse_args(words)


@torch.inference_mode()
def measure(checkpoint: Path, table: Path, limit: int | None = None) -> dict[str, Any]:
    """Return agreement, accuracy, differences, times and sizes of all variants of a checkpoint."""
    rows = read_clips(table, limit)
    extractor = ASTFeatureExtractor.from_pretrained(checkpoint)
    clips = [load_audio(table.parent / row["path"], extractor.sampling_rate) for row in rows]
    values = extractor(clips, extractor.sampling_rate, return_tensors="pt", truncation=True)["input_values"]
    plain = ASTForAudioClassification.from_pretrained(checkpoint).eval()
    models = {"nothing (float32)": plain, **quantised(checkpoint), PRODUCTS: rounded(plain)}
    logits = {}
    for name, model in models.items():
        logits[name] = torch.cat([run(model, batch) for batch in values.split(BATCH)])
        print(name, flush=True)
    exact = logits["nothing (float32)"]
    held_out = torch.tensor([row["split"] == "test" for row in rows])
    truth = torch.tensor([plain.config.label2id[row["label"]] for row in rows])
    timed = {name: partial(run, model, values[:1]) for name, model in models.items() if name != PRODUCTS}
    return {
        "width": plain.config.hidden_size,
        "blocks": plain.config.num_hidden_layers,
        "clips": len(rows),
        "held_out": int(held_out.sum()),
        "spread": float(exact.std()),
        "variants": {name: compare(found, exact, truth, held_out) for name, found in logits.items()},
        "seconds": alternate(timed, ROUNDS),
        "bytes": {name: weight_bytes(model) for name, model in models.items()},
    }


def read_clips(table: Path, limit: int | None) -> list[dict[str, str]]:
    """Return the rows of a table of clips, or `limit` of them from all over it."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return rows if limit is None else rows[:: max(len(rows) // limit, 1)]


def run(model: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """Return the logits of clips in float32."""
    return model(values).logits.float()


def quantised(checkpoint: Path) -> dict[str, nn.Module]:
    """Return the checkpoint as each configuration of torchao loads it."""
    from torchao import quantization
    from transformers import TorchAoConfig

    kinds: dict[str, Callable[[], Any]] = {
        "int8 weights": quantization.Int8WeightOnlyConfig,
        "int8 weights and activations (dynamic)": quantization.Int8DynamicActivationInt8WeightConfig,
        "fp8 weights": quantization.Float8WeightOnlyConfig,
    }
    return {
        f"{name}{also}": ASTForAudioClassification.from_pretrained(
            checkpoint, quantization_config=TorchAoConfig(kind(), modules_to_not_convert=left_out)
        ).eval()
        for name, kind in kinds.items()
        for also, left_out in (("", [CLASSIFIER]), (", classifier too", None))
    }


def rounded(model: ASTForAudioClassification) -> nn.Module:
    """Return a copy with the products in fp8 that training has, emulated."""
    copied = copy.deepcopy(model)
    before = float8.EMULATED
    float8.EMULATED = True
    try:
        float8.use_float8(copied)
    finally:
        float8.EMULATED = before
    return copied


def compare(
    found: torch.Tensor, exact: torch.Tensor, truth: torch.Tensor, held_out: torch.Tensor
) -> dict[str, float]:
    """Return how far logits `(clips, labels)` agree with the exact ones; `held_out` is True for unseen clips."""
    best = found.argmax(1)
    agrees = best == exact.argmax(1)
    return {
        "agreement": float(agrees.double().mean()),
        "held_out": float(agrees[held_out].double().mean()),
        "changed": int((~agrees[held_out]).sum()),
        "accuracy": float((best == truth)[held_out].double().mean()),
        "gap": float((found - exact).abs().max()),
    }


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's weights; those of torchao are tensors of several parts."""
    return sum(_bytes(parameter.data) for parameter in model.parameters())


def _bytes(tensor: torch.Tensor) -> int:
    if type(tensor) is torch.Tensor:
        return tensor.numel() * tensor.element_size()
    names, _ = tensor.__tensor_flatten__()
    return sum(_bytes(getattr(tensor, name)) for name in names)


def section(path: Path = RESULTS) -> str:
    """Return the stored comparison, or an empty string without one."""
    if not path.exists():
        return ""
    stored = json.loads(path.read_text(encoding="utf-8"))
    first = next(iter(stored["variants"]))
    rows = []
    for name, values in stored["variants"].items():
        spent = stored["seconds"].get(name)
        cells = [name, f"{values['agreement']:.2%}", f"{values['held_out']:.2%} ({values['changed']})"]
        cells += [f"{values['accuracy']:.2%}", f"{values['gap']:.3f}"]
        cells += ["-" if spent is None else f"{stored['seconds'][first] / spent:.2f}x"]
        cells += [f"{stored['bytes'][name] / stored['bytes'][first]:.2f}"]
        rows.append(line(cells))
    return _SECTION.format(**stored, rows="\n".join(rows))


if __name__ == "__main__":
    main()
