"""`ast-hf stats`: summarise a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..errors import error
from ..files import write_text
from ..writing_failures import check_file
from .console import STDOUT, add_json_file_option, print_json, quiet_transformers, show, whole
from .data_options import DATA_HELP, add_reading_options, reading_arguments

#: Frames of the input of published models, and of other common inputs: 1.28, 2.56, 5.12 and 10.24 s.
DEFAULT_LENGTH = 1024
COMMON_LENGTHS = (128, 256, 512, DEFAULT_LENGTH)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("data", nargs="?", help=DATA_HELP)
    parser.set_defaults(usage_error=parser.error)
    parser.add_argument(
        "--split", default="train", help="split to measure mean and std on (default: %(default)s)"
    )
    parser.add_argument("--sampling_rate", type=whole(1), default=16_000, help="in Hz (default: %(default)s)")
    parser.add_argument("--num_mel_bins", type=whole(1), default=128, help="default: %(default)s")
    parser.add_argument(
        "--max_length",
        type=whole(1),
        help="frames of 10 ms of the model's input (default: 1024, and what inputs of common lengths would leave out)",
    )
    add_json_file_option(parser)
    parser.add_argument(
        "--streaming", action="store_true", help="read a data set on the Hub without storing it"
    )
    add_reading_options(parser)


def run(options: argparse.Namespace) -> None:
    """Print the report on a data set; raise an error for files that cannot be read."""
    from ..data.audit import describe_data
    from ..data.catalog import find_data_set
    from ..data.option_spelling import AUDIO_ROOT, NO_BOUNDARIES
    from ..data.reading import load_audio_dataset

    quiet_transformers()
    if options.data is None and options.json not in (None, STDOUT):
        options.data = options.json  # of `--json DATA`: without DATA there is nothing to report
        options.json = STDOUT
    if options.data is None:
        options.usage_error("the following arguments are required: data")
    file = None if options.json in (None, STDOUT) else Path(options.json)
    if file is not None:
        check_file(options.json, makes_folder=False)
    arguments = {**find_data_set(options.data), **reading_arguments(options)}
    if options.streaming:
        arguments["streaming"] = True
    report = describe_data(
        load_audio_dataset(**arguments, check_files=False),
        options.sampling_rate,
        train_split=options.split,
        num_mel_bins=options.num_mel_bins,
        max_length=options.max_length or DEFAULT_LENGTH,
        windows=None if options.max_length else COMMON_LENGTHS,
    )
    if options.json == STDOUT:
        print_json(options, report.to_dict())
    else:
        for line in report.lines():
            show(line)
    if file is not None:
        write_text(file, json.dumps(report.to_dict(), indent=2) + "\n")
    if report.unreadable:
        split, first = next(
            (name, part.unreadable[0]) for name, part in report.splits.items() if part.unreadable
        )
        what = f"{len(report.unreadable)} files cannot be read, the first is {first.path!r}: {first.what}"
        fix = "repair or remove them"
        if first.code == "E206":
            fix += f", {AUDIO_ROOT}"
        if any(finding.code == "E208" for finding in report.unreadable):
            fix += f"; correct start and end, or {NO_BOUNDARIES}"
        raise error(first.code or "E201", where=f"{split} row {first.row}", what=what, fix=fix)
