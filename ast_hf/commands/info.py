"""`ast-hf info`: describe a checkpoint, or the environment."""

from __future__ import annotations

import argparse

from .console import add_json_option, print_json, show


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "checkpoint", nargs="?", help="folder or Hub name; without it, the environment is described"
    )
    add_json_option(parser)


def run(options: argparse.Namespace) -> None:
    """Print names and values in two columns."""
    from .checkpoint_description import describe_checkpoint
    from .environment_description import describe_environment

    lines = describe_checkpoint(options.checkpoint) if options.checkpoint else describe_environment()
    if options.json:
        print_json(options, _as_dict(lines))
        return
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        show(f"{name:{width}}  {value}")


def _as_dict(lines: list[tuple[str, str]]) -> dict[str, object]:
    """Return the values by name; a line without a name is a further value of the one above, which becomes a list."""
    values: dict[str, list[str]] = {}
    last = ""
    for name, value in lines:
        last = name or last
        values.setdefault(last, []).append(value)
    return {name: entries[0] if len(entries) == 1 else entries for name, entries in values.items()}
