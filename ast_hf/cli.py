"""`ast-hf demo | new | finetune | evaluate | classify | push | stats | split | convert | merge | info`.

Modules of commands import heavy libraries inside the functions that need them, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from .commands import classify, convert, demo, evaluate, finetune, info, merge, new, push, split, stats
from .commands.console import (
    EXIT_DATA,
    EXIT_IN_USE,
    EXIT_INTERRUPTED,
    EXIT_STOPPED,
    EXIT_UNPUBLISHED,
    CommandParser,
    ShowVersion,
    complain,
    escape_unprintable,
    expected_error,
)

#: Errors with an exit code of their own. After those of the account and of the connection, the same command may
#: succeed.
_EXIT_CODES = {"E402": EXIT_IN_USE, "E403": EXIT_STOPPED, "E701": EXIT_UNPUBLISHED, "E704": EXIT_UNPUBLISHED}

#: Name of a command -> functions that add its options and run it, and its description.
_COMMANDS: dict[
    str, tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int | None], str]
] = {
    "demo": (
        demo.add_options,
        demo.run,
        "train on the repository's instrument recordings and show the result",
    ),
    "new": (new.add_options, new.run, "look at your labelled audio and write a recipe for it"),
    "finetune": (finetune.add_options, finetune.run, "train by a recipe on your own labelled audio"),
    "classify": (classify.add_options, classify.run, "print the labels of audio files"),
    "push": (push.add_options, push.run, "publish a model's folder on the Hub"),
    "evaluate": (
        evaluate.add_options,
        evaluate.run,
        "measure checkpoints, ensembles and averages on labelled audio",
    ),
    "stats": (
        stats.add_options,
        stats.run,
        "summarise a data set: labels, durations, damaged files, mean and std",
    ),
    "split": (
        split.add_options,
        split.run,
        "hold out validation and test clips by speaker or recording, and write a table",
    ),
    "convert": (
        convert.add_options,
        convert.run,
        "make a checkpoint from original, timm or image transformer weights",
    ),
    "merge": (merge.add_options, merge.run, "add an adapter (LoRA) to its base: a plain checkpoint"),
    "info": (info.add_options, info.run, "describe a checkpoint, or this environment and its problems"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line, without the program's name; None for those of this process.

    Returns:
        The exit code. 0 for success. 65 for bad input and for files that cannot be written; the message says
        what to do. 71 if a process of the run stopped or was lost; the message has the command that continues.
        73 if another run uses the output folder. 75 if only the request to the Hub failed; the message has the
        command that finishes it. 143 after SIGTERM, 129 after SIGHUP and 130 after SIGINT (Ctrl-C): a training
        is saved after its current step, `classify --output` has noted all finished recordings, and the message
        has the command that continues.
    """
    escape_unprintable()
    options = build_parser().parse_args(arguments)
    options.words = sys.argv[1:] if arguments is None else list(arguments)
    from .hub.time_limits import limited_process

    try:
        command: Callable[[argparse.Namespace], int | None] = options.command
        with limited_process(complain):
            return command(options) or 0
    except KeyboardInterrupt as problem:
        complain(": ".join(["interrupted", *problem.args]))
        return EXIT_INTERRUPTED
    except Exception as problem:
        message = expected_error(problem)
        if message is None:
            raise
        complain(message)
        return _EXIT_CODES.get(getattr(message, "code", ""), EXIT_DATA)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and their options."""
    parser = argparse.ArgumentParser(
        prog="ast-hf", description="Adapt, train and run the Audio Spectrogram Transformer (AST)."
    )
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)
    for name, (add_options, command, text) in _COMMANDS.items():
        command_parser = commands.add_parser(name, help=text, description=text)
        add_options(command_parser)
        command_parser.set_defaults(command=command)
    return parser
