"""`ast-hf merge`: add an adapter to its base."""

from __future__ import annotations

import argparse

from .console import add_label_options, quiet_transformers


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


def run(options: argparse.Namespace) -> None:
    """Merge the adapter, and print each step."""
    from ..adapters.merging import merge_adapter

    quiet_transformers()
    merge_adapter(
        options.adapter,
        options.destination,
        base=options.base,
        labels=options.labels,
        multi_label=options.multi_label,
        tell=print,
    )
