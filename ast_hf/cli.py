"""`ast-hf demo | new | finetune | evaluate | classify | push | stats | split | convert | ...`.

Modules of commands import heavy libraries inside the functions that need them, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress

from .commands import (
    classify,
    completion,
    convert,
    demo,
    evaluate,
    finetune,
    info,
    merge,
    new,
    options,
    push,
    split,
    stats,
)
from .commands.console import (
    EXIT_DATA,
    EXIT_IN_USE,
    EXIT_INTERRUPTED,
    EXIT_NO_READER,
    EXIT_STOPPED,
    EXIT_UNPUBLISHED,
    STDOUT,
    CommandParser,
    ShowVersion,
    complain,
    escape_unprintable,
    expected_error,
)
from .errors import did_you_mean
from .printing import visible

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
    "options": (options.add_options, options.run, "list the options of a recipe with meaning and default"),
    "completion": (completion.add_options, completion.run, "let a shell complete commands and options"),
    "info": (info.add_options, info.run, "describe a checkpoint, or this environment and its problems"),
}


#: Commands of a first hour in their order -> what each is for. `DATA` is a folder or table of labelled clips.
FIRST_HOUR = {
    "ast-hf stats DATA": "see what the clips are: labels, lengths, damaged files",
    "ast-hf new DATA --output recipe.yaml": "write a recipe that fits them",
    "ast-hf finetune recipe.yaml --output outputs/mine --dry-run": "see what a run would do, and how long it takes",
    "ast-hf finetune recipe.yaml --output outputs/mine": "train, and compare with a simple baseline",
    "ast-hf evaluate outputs/mine DATA": "measure the model on clips held out of training",
    "ast-hf classify outputs/mine FILES": "label your own recordings",
    "ast-hf push outputs/mine user/name": "share the model on the Hub",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line, without the program's name; None for those of this process.

    Returns:
        The exit code. 0 for success. 65 for bad input and for files that cannot be written; the message says
        what to do. 71 if a process of the run stopped or was lost; the message has the command that continues.
        73 if another run uses the output folder. 75 if only the request to the Hub failed; the message has the
        command that finishes it. 141 if what read
        the output has left (`| head`). 143 after SIGTERM, 129 after SIGHUP and 130 after SIGINT (Ctrl-C): a training
        is saved after its current step, `classify --output` has noted all finished recordings, and the message
        has the command that continues.
    """
    escape_unprintable()
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else list(arguments))
        except SystemExit:  # after --help
            sys.stdout.flush()
            raise
    except BrokenPipeError:
        _drop_output()
        return EXIT_NO_READER


def _run(words: list[str]) -> int:
    """Return the exit code of a command; exit after `--help` and for wrong options."""
    parser = build_parser()
    completion.complete(parser)
    if words in ([], ["help"]):
        print(first_hour(), flush=True)
        return 0
    if words[0] == "help":
        words = [*words[1:2], "--help"]
    _check_command(parser, words[0])
    options = parser.parse_args(words)
    options.words = words
    from .hub.time_limits import limited_process

    try:
        command: Callable[[argparse.Namespace], int | None] = options.command
        with limited_process(complain), _free_stdout(options):
            code = command(options) or 0
        sys.stdout.flush()  # a reader that left, such as `head`, is found here instead of at the end of Python
        return code
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as problem:
        complain(": ".join(["interrupted", *problem.args]))
        return EXIT_INTERRUPTED
    except Exception as problem:
        message = expected_error(problem)
        if message is None:
            raise
        complain(message)
        return _EXIT_CODES.get(getattr(message, "code", ""), EXIT_DATA)


def _drop_output() -> None:
    """Let Python drop what is left for a reader that has gone, instead of failing once more at its end."""
    with suppress(OSError, ValueError):  # a stream of a test has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _free_stdout(options: argparse.Namespace) -> Iterator[None]:
    """With `--json`, send what else is printed to standard error: standard output is for the document."""
    if getattr(options, "json", None) not in (True, STDOUT):
        yield
        return
    options.results = sys.stdout
    with redirect_stdout(sys.stderr):
        yield


def first_hour() -> str:
    """Return the commands of a first hour, one line each."""
    width = max(map(len, FIRST_HOUR))
    lines = [f"  {command:{width}}  {text}" for command, text in FIRST_HOUR.items()]
    return "\n".join(
        [
            "Adapt, train and run the Audio Spectrogram Transformer (AST) on your own labelled audio. A first hour:",
            "",
            *lines,
            "",
            "All commands: ast-hf --help. Options of one: ast-hf COMMAND --help. Options of a recipe: ast-hf options.",
        ]
    )


def _check_command(parser: argparse.ArgumentParser, word: str) -> None:
    """Exit with the usage for a command that does not exist, and name the one that it resembles."""
    if not word.startswith("-") and word not in _COMMANDS:
        parser.error(f"there is no command {visible(word)!r}: {did_you_mean(word, _COMMANDS)}")


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
