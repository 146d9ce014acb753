"""`ast-hf info`: describe a checkpoint, or the environment."""

from __future__ import annotations

import argparse

from .console import show


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "checkpoint", nargs="?", help="folder or Hub name; without it, the environment is described"
    )


def run(options: argparse.Namespace) -> None:
    """Print names and values in two columns."""
    from .checkpoint_description import describe_checkpoint
    from .environment_description import describe_environment

    lines = describe_checkpoint(options.checkpoint) if options.checkpoint else describe_environment()
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        show(f"{name:{width}}  {value}")
