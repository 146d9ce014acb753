"""`ast-hf new`: look at the data, and write a recipe for them."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path

from ..errors import error
from .console import (
    add_json_option,
    finite,
    print_json,
    quiet_transformers,
    require_train,
    show,
)
from .data_options import DATA_HELP, add_reading_options, reading_arguments
from .finetune import program_began


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("data", help=DATA_HELP)
    parser.add_argument("--base", help="AST checkpoint to start from, folder or Hub name")
    parser.add_argument("--vit", help="image transformer to start from instead, folder or Hub name")
    parser.add_argument("--output", default="recipe.yaml", help="the recipe to write (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=finite, help="training time to aim at on this machine (default: 10)"
    )
    parser.add_argument("--drop_labels", nargs="+", metavar="LABEL", help="labels to leave out")
    parser.add_argument("--overwrite", action="store_true", help="replace the recipe if it exists")
    add_json_option(parser)
    add_reading_options(parser)


def run(options: argparse.Namespace) -> None:
    """Write the recipe; print the choices, their reasons, the expected time and the next commands."""
    from ..files import write_text
    from ..planning.new_recipe import plan_recipe
    from ..writing_failures import check_file

    starting = time.monotonic() - program_began()
    require_train("new")
    quiet_transformers()
    _check(options)
    check_file(options.output)
    reading = reading_arguments(options)
    if options.drop_labels:
        reading["drop_labels"] = options.drop_labels
    planned = plan_recipe(
        options.data,
        reading,
        base=options.base,
        vit=options.vit,
        minutes=options.minutes,
        starting=starting,
        command=f"ast-hf {shlex.join(options.words)}",
    )
    output = Path(options.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, planned.text)
    if options.json:
        print_json(options, {**planned.to_dict(), "output": options.output})
        return
    for line in planned.lines(options.output):
        show(line)


def _check(options: argparse.Namespace) -> None:
    """Raise E108 for options that contradict each other, and E401 for a recipe that exists."""
    if options.base and options.vit:
        raise error("E108", where="--vit", what="is given, and so is --base", fix="start from one of the two")
    if options.minutes is not None and options.minutes <= 0:
        raise error("E108", where="--minutes", what=f"is {options.minutes:g}", fix="give a time above 0")
    if Path(options.output).exists() and not options.overwrite:
        fix = "name another file with --output, or replace it with --overwrite"
        raise error("E306", where=options.output, what="exists", fix=fix, detail="exists")
