"""`ast-hf merge`: add an adapter to its base."""

from __future__ import annotations

import argparse

from .console import quiet_transformers


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("adapter", help="folder or Hub name of an adapter (LoRA), for example outputs/my_model/adapter")
    parser.add_argument("destination", help="folder to create")
    parser.add_argument("--base", help="its base, folder or Hub name, if the adapter does not name the right one")
    parser.add_argument("--labels", help="file of class names (text, CSV or JSON), for adapters of plain peft")
    parser.add_argument("--multi_label", action="store_true", default=None, help="clips may have several labels")


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
