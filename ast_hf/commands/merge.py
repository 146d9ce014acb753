"""`ast-hf merge`: add an adapter to its base."""

from __future__ import annotations

import argparse

from .console import (
    add_json_option,
    add_label_options,
    print_json,
    quiet_transformers,
    require_train,
    show,
    step_parts,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "adapter", help="folder or Hub name of an adapter (LoRA), for example outputs/my_model/adapter"
    )
    parser.add_argument("destination", help="folder to create")
    parser.add_argument(
        "--base", help="its base, folder or Hub name, if the adapter does not name the right one"
    )
    add_label_options(parser, note="; for adapters of plain peft")
    add_json_option(parser)


def run(options: argparse.Namespace) -> None:
    """Merge the adapter, and print each step."""
    from ..adapters.merging import merge_adapter

    require_train("merge", "peft")
    quiet_transformers()
    steps: list[str] = []
    merge_adapter(
        options.adapter,
        options.destination,
        base=options.base,
        labels=options.labels,
        multi_label=options.multi_label,
        tell=steps.append if options.json else show,
    )
    if options.json:
        print_json(options, {"folder": options.destination, **dict(map(step_parts, steps))})
