"""`ast-hf convert`: make a checkpoint from original, timm or image transformer weights."""

from __future__ import annotations

import argparse

from .console import (
    add_json_option,
    add_label_options,
    finite,
    print_json,
    quiet_transformers,
    show,
    step_parts,
    whole,
)

_SIZES = {
    "max_length": "frames of the input",
    "num_mel_bins": "mel bins of the input",
    "frequency_stride": "step between patches along frequency",
    "time_stride": "step between patches along time",
    "num_attention_heads": "heads, if the width does not determine them",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "source", help="a .pth of the original repository or timm; or folder or Hub name of a ViT"
    )
    parser.add_argument("destination", help="folder to create")
    add_label_options(parser)
    parser.add_argument(
        "--data_set", help="audioset, esc50 or speech_commands_v2: names, statistics, length, task"
    )
    parser.add_argument("--mean", type=finite, help="mean of the training data's raw log-mel values")
    parser.add_argument("--std", type=finite, help="their standard deviation")
    for name, text in _SIZES.items():
        parser.add_argument(f"--{name}", type=whole(1), metavar="N", help=text)
    add_json_option(parser)


def run(options: argparse.Namespace) -> None:
    """Convert the weights, and print each step."""
    from ..conversion.convert import ConversionOptions, convert

    quiet_transformers()
    names = ("labels", "data_set", "multi_label", "mean", "std", *_SIZES)
    settings = ConversionOptions(**{name: getattr(options, name) for name in names})
    steps: list[str] = []
    convert(options.source, options.destination, settings, tell=steps.append if options.json else show)
    if options.json:
        print_json(options, {"folder": options.destination, **dict(map(step_parts, steps))})
