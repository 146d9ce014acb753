"""`ast-hf classify`: print the labels of audio files."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..errors import AstHfError, error, short_reason
from ..printing import printable
from .console import complain, quiet_transformers


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("checkpoint", help="folder or Hub name")
    parser.add_argument("files", nargs="+", help="audio files: WAV, FLAC, OGG, MP3, AIFF, ...")
    parser.add_argument("--top_k", type=int, default=3, help="labels per file (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Print the best labels of each file; a bad file is reported, and the others are still classified."""
    from tqdm.auto import tqdm

    quiet_transformers()
    classifier = _load_classifier(options.checkpoint)
    problems = []
    for file in tqdm(options.files, unit="file", disable=len(options.files) < 5 or None):
        try:
            scores = classifier(file, top_k=options.top_k)
        except AstHfError as problem:
            problems.append(problem)
            continue
        best = "  ".join(f"{printable(entry['label'])} {entry['score']:.3f}" for entry in scores)
        tqdm.write(f"{printable(file)}\t{best}", file=sys.stdout)
    if problems:
        for earlier in problems[:-1]:
            complain(earlier)
        raise problems[-1]


def _load_classifier(checkpoint: str) -> Any:
    """Return the pipeline of a checkpoint; raise E306 unless it is an audio classifier."""
    from transformers import pipeline

    from ..feature_extraction_ast import missing_extractor
    from ..weights.integrity import check_folder

    check_folder(checkpoint)
    if missing := missing_extractor(checkpoint):
        raise missing
    try:
        return pipeline("audio-classification", model=checkpoint)
    except AstHfError:
        raise
    except ValueError as problem:
        what = f"cannot be read as an audio classifier ({short_reason(problem, limit=160)})"
        fix = "name a folder with config.json, preprocessor_config.json and weights, or such files on the Hub"
        raise error("E306", where=repr(checkpoint), what=what, fix=fix, detail="unsupported") from problem
