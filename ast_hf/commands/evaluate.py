"""`ast-hf evaluate`: measure checkpoints, ensembles and averages on labelled audio, or timelines on recordings."""

from __future__ import annotations

import argparse

from .console import (
    add_json_option,
    add_precision_option,
    print_json,
    print_verdict,
    quiet_transformers,
    require_train,
    show,
    whole,
)
from .data_options import DATA_HELP, add_reading_options, reading_arguments
from .timeline_options import add_timeline_options, check_no_timeline_options, run_timelines


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("checkpoints", nargs="+", help="folders or Hub names; several are also an ensemble")
    parser.add_argument("data", help=DATA_HELP)
    parser.add_argument("--split", default="test", help="split to evaluate on (default: %(default)s)")
    parser.add_argument(
        "--output", default="outputs/evaluation", help="folder of the result (default: %(default)s)"
    )
    parser.add_argument(
        "--average", action="store_true", help="also evaluate and save the mean of the weights"
    )
    parser.add_argument("--ensemble", action="store_true", help="also save the ensemble, to push or load it")
    parser.add_argument(
        "--fit-on",
        metavar="SPLIT",
        help="fit temperature and thresholds (with --timeline: its rules) on another split",
    )
    parser.add_argument("--store", action="store_true", help="write the fitted values into config.json")
    parser.add_argument("--save-logits", metavar="FILE", help="write the logits, as .safetensors")
    parser.add_argument(
        "--batch_size", type=whole(1), help="clips per batch (default: 8 on a CPU, 64 on a GPU)"
    )
    add_precision_option(parser)
    add_json_option(parser)
    add_reading_options(parser)
    add_timeline_options(parser)


def run(options: argparse.Namespace) -> int | None:
    """Evaluate, and print the table of results; return 65 if a recording could not be read."""
    require_train("evaluate", "scipy" if options.timeline else "sklearn")
    quiet_transformers()
    if options.timeline:
        return run_timelines(options)
    check_no_timeline_options(options)
    from ..evaluation.evaluate import evaluate_checkpoints

    evaluation = evaluate_checkpoints(
        options.checkpoints,
        options.data,
        output_dir=options.output,
        split=options.split,
        average=options.average,
        ensemble=options.ensemble,
        fit_on=options.fit_on,
        store=options.store,
        save_logits=options.save_logits,
        batch_size=options.batch_size,
        precision=options.precision,
        **reading_arguments(options),
    )
    if options.json:
        print_json(options, {**evaluation.to_dict(), "folder": options.output})
    else:
        print_verdict(evaluation.verdict)
        show(f"\n{evaluation.table()}")
    return None
