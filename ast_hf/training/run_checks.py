"""Checks of a run before its clips are read: output folder, samples of the card, windows, and publishing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from ..audio import load_audio
from ..containment import is_outside
from ..data.long_clips import cut_window
from ..errors import AstHfError, error
from ..feature_extraction_ast import ASTFeatureExtractor
from ..hub.access import check_account, check_name
from ..recipe.recipe import Recipe
from .run_facts import (
    check_base_name,
)


def check_outside_clips(source: Any, output_dir: str | Path) -> None:
    """Raise E307 for a result in the folder of clips: its samples would be read as clips."""
    if not isinstance(source, str) or not Path(source).is_dir():
        return
    output = Path(output_dir).absolute()
    if Path(source).absolute() in (output, *output.parents):
        what = f"is in the folder of the clips, {source!r}"
        fix = "name a folder outside of it"
        raise error("E307", where=f"output {str(output_dir)!r}", what=what, fix=fix, detail="conflict")


def check_samples(samples: list[str]) -> None:
    """Read the samples of the card, to raise their errors before anything is trained."""
    for sample in samples:
        if ".." in Path(sample).parts or is_outside(sample, Path(sample).parent):
            what = "is a link or a path that leads elsewhere, and would be published"
            fix = "copy the recording here; if it is yours, give its absolute path without links and .."
            raise error("E206", where=f"card.samples: {sample!r}", what=what, fix=fix)
        try:
            load_audio(sample)
        except AstHfError as problem:
            where = f"card.samples: {problem.where}"
            fix = f"{problem.fix}; paths are relative to the current directory"
            raise error(
                problem.code, where=where, what=problem.what, fix=fix, detail=problem.detail
            ) from problem


def check_window(seconds: float | None, extractor: ASTFeatureExtractor) -> None:
    """Raise E307 for windows longer than the model's input: labels of what is cut off would be wrong."""
    problem = None if seconds is None else cut_window(seconds, extractor.max_length, extractor.sampling_rate)
    if problem is not None:
        what, fix = problem
        fix += " (model.config.max_length)"
        raise error("E307", where="data.window_seconds", what=what, fix=fix, detail="conflict")


def check_publishing(recipe: Recipe, arguments: TrainingArguments, output_dir: str | Path) -> None:
    """Raise the errors of a push that show before training: names of base and model (E307, E702), account (E701)."""
    if arguments.push_to_hub:
        check_base_name(recipe.model, recipe.card)
        check_account(arguments.hub_token)
        check_name(arguments.hub_model_id or Path(output_dir).absolute().name)


def check_hub_request(recipe: Recipe, resume: str | bool | None, *, named: bool) -> None:
    """Raise E307 for a run to be resumed from the Hub that neither the call (`named`) nor the recipe names."""
    if resume == "hub" and not (named or "hub_model_id" in recipe.training):
        fix = "give hub_model_id, user/name"
        raise error("E307", where="resume", what="hub does not name a run", fix=fix, detail="missing")
