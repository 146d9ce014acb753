"""`ast-hf completion`: the line that makes a shell complete commands, options, files and recipe options."""

from __future__ import annotations

import argparse
import os
from typing import Any

#: Shells whose script argcomplete makes -> the line for the file that such a shell reads at its start.
SHELLS = {
    "bash": 'eval "$(ast-hf completion bash)"  # in ~/.bashrc',
    "zsh": 'eval "$(ast-hf completion zsh)"  # in ~/.zshrc, below compinit',
    "fish": "ast-hf completion fish | source  # in ~/.config/fish/config.fish",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    lines = "; ".join(SHELLS.values())
    parser.add_argument("shell", choices=tuple(SHELLS), help=f"its script is printed. To use it: {lines}")


def run(options: argparse.Namespace) -> None:
    """Print the script of a shell."""
    import argcomplete

    print(argcomplete.shellcode(["ast-hf"], shell=options.shell))


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for completions, and end the process; do nothing for any other call."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    argcomplete.autocomplete(parser, always_complete_options="long")


def recipe_changes(prefix: str, **_: Any) -> list[str]:
    """Return the recipe options that begin with `prefix`, as `--set` takes them."""
    from .recipe_options import recipe_options

    if "=" in prefix:
        return []
    return [f"{option['name']}=" for entries in recipe_options().values() for option in entries]


def recipe_sections(prefix: str, **_: Any) -> list[str]:
    """Return the sections of a recipe, and the options that begin with `prefix` once it has a dot."""
    from .recipe_options import recipe_options

    every = recipe_options()
    if "." in prefix:
        return [option["name"] for entries in every.values() for option in entries]
    return [name for name in every if name]
