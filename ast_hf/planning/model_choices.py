"""Size of a model that starts from random weights."""

from __future__ import annotations

from typing import NamedTuple

from .choice import Choice
from .data_summary import DataSummary
from .starts import Start


class Shape(NamedTuple):
    """Sizes of a transformer, and the spread of its initial weights.

    0.02 suits wide models (AST paper); narrow ones learn faster from larger weights (instruments.yaml,
    spoken-words.yaml).
    """

    width: int
    blocks: int
    heads: int
    initializer_range: float
    learning_rate: float


#: The demo's shape (instruments.yaml), and that of spoken-words.yaml.
SMALL = Shape(64, 3, 2, 0.06, 1.5e-3)
LARGE = Shape(192, 4, 3, 0.04, 1e-3)
#: Width up to which bf16 does not make a step faster.
NARROW = 64
#: Training clips from which each shape is chosen: 64 for 300 words, 192 for 1,800 (benchmarks/RESULTS.md, "The first
#: hour"). A wider model takes several times as long.
SHAPES = {0: SMALL, 1_000: LARGE}


def shape_of(summary: DataSummary) -> Shape:
    """Return the shape for so many training clips."""
    clips = summary.train_clips
    return next(shape for least, shape in reversed(SHAPES.items()) if clips >= least)


def choose_model(summary: DataSummary, start: Start) -> list[Choice]:
    """Return the choices of the sizes of the transformer, none for weights that bring theirs."""
    if start.kind != "random":
        return []
    shape = shape_of(summary)
    reason = f"for {summary.train_clips:,} training clips; a wider model needs more, or pretrained weights"
    return [
        Choice("model.config.hidden_size", shape.width, reason),
        Choice("model.config.num_hidden_layers", shape.blocks),
        Choice("model.config.num_attention_heads", shape.heads),
        Choice("model.config.intermediate_size", 4 * shape.width),
        Choice("model.config.hidden_dropout_prob", 0.1, "every clip is seen many times"),
        Choice("model.config.layer_norm_eps", 1e-6),
        Choice(
            "model.config.initializer_range",
            shape.initializer_range,
            "narrow models learn faster from more than 0.02",
        ),
    ]
