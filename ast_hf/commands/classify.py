"""`ast-hf classify`: print the labels of audio files."""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any

from ..errors import AstHfError, error, short_reason
from ..printing import printable
from .console import complain, quiet_transformers, whole


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("checkpoint", help="folder or Hub name")
    parser.add_argument("files", nargs="+", help="audio files: WAV, FLAC, OGG, MP3, AIFF, M4A, WebM, ...")
    parser.add_argument("--top_k", type=whole(1), default=3, help="labels per file (default: %(default)s)")


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
    """Return the pipeline of a checkpoint; raise E305 or E306 unless it is an AST or ensemble with a classifier.

    No code of the checkpoint is run, and no question asked.
    """
    from transformers import pipeline

    from ..feature_extraction_ast import ASTFeatureExtractor
    from ..modeling_ensemble import classes_for
    from ..weights.integrity import check_folder, require_classifier

    check_folder(checkpoint)
    _, model_class = classes_for(checkpoint)
    try:
        extractor = ASTFeatureExtractor.from_pretrained(checkpoint)
        with warnings.catch_warnings():  # W303: the error below says it
            warnings.filterwarnings("ignore", r"\[AST-W303\]")
            model, info = model_class.from_pretrained(checkpoint, dtype="auto", output_loading_info=True)
        require_classifier(info, repr(checkpoint))
        return pipeline(
            "audio-classification", model=model, feature_extractor=extractor, trust_remote_code=False
        )
    except AstHfError:
        raise
    except ValueError as problem:
        what = f"cannot be read as an audio classifier ({short_reason(problem, limit=160)})"
        fix = "name a folder with config.json, preprocessor_config.json and weights, or such files on the Hub"
        raise error("E306", where=repr(checkpoint), what=what, fix=fix, detail="unsupported") from problem
