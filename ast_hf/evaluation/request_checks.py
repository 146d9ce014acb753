"""Arguments of an evaluation, checked before any file is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import error, shown
from ..reports.evaluation_results import ENSEMBLE
from ..writing_failures import check_file, check_folder
from .stored_logits import check_name

#: Name of the mean of the checkpoints' weights among the outcomes.
AVERAGE = "average"


@dataclass(frozen=True)
class Request:
    """Arguments of `evaluate_checkpoints` that name models, splits and output files."""

    checkpoints: list[str]
    output_dir: Path
    split: str
    average: bool
    ensemble: bool
    fit_on: str | None
    store: bool
    save_logits: str | Path | None

    @property
    def splits(self) -> list[str]:
        """Names of the splits to run on: the evaluated one, and the one to fit on."""
        return [self.split] if self.fit_on is None else [self.split, self.fit_on]

    @property
    def average_folder(self) -> Path | None:
        """Folder to save the mean of the weights in, or None."""
        return self.output_dir / AVERAGE if self.average else None

    @property
    def ensemble_folder(self) -> Path | None:
        """Folder to save the ensemble in, or None."""
        return self.output_dir / ENSEMBLE if self.ensemble else None


def check_request(request: Request) -> None:
    """Raise E108 for arguments that contradict each other, and for output that would replace a checkpoint.

    Raise E401 for output that cannot be written.
    """
    _check_names(request.checkpoints)
    _check_options(request)
    if request.save_logits is not None:
        check_name(request.save_logits)
    _check_places(request)
    check_folder(request.output_dir)
    if request.save_logits is not None:
        check_file(request.save_logits)


def check_counts(**counts: tuple[object, int]) -> None:
    """Raise E108 unless each value is a whole number of at least its least one, or None."""
    for name, (value, least) in counts.items():
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            fix = f"give a whole number of at least {least}"
            raise error("E108", where=name, what=f"is {shown(value)}", fix=fix)


def _check_names(names: list[str]) -> None:
    if not names:
        raise error("E108", where="checkpoints", what="are missing", fix="name at least one")
    reserved = [*names, ENSEMBLE, AVERAGE]
    for name in names:
        if reserved.count(name) > 1:
            what = f"{name!r} is named twice, or is reserved for a result"
            raise error("E108", where="checkpoints", what=what, fix="give its path")


def _check_options(request: Request) -> None:
    for option in ("average", "ensemble"):
        if getattr(request, option) and len(request.checkpoints) < 2:
            fix = "name two or more, or leave it out"
            raise error("E108", where=option, what="needs several checkpoints", fix=fix)
    if request.fit_on == request.split:
        what = (
            f"{request.fit_on!r} is the evaluated split: results on the clips of the fit are too optimistic"
        )
        raise error("E108", where="fit_on", what=what, fix="fit on a validation split")
    if not request.store:
        return
    if request.fit_on is None:
        raise error("E108", where="store", what="has nothing to store", fix="name a split to fit on")
    for name in request.checkpoints:
        if not Path(name).is_dir():
            what = f"cannot write into {name!r}, which is not a folder"
            raise error("E108", where="store", what=what, fix="download it first")


def _check_places(request: Request) -> None:
    """Raise E108 if a saved model, or results.json, would replace files of a checkpoint."""
    local = [name for name in request.checkpoints if Path(name).is_dir()]
    for option, place in (("average", request.average_folder), ("ensemble", request.ensemble_folder)):
        overwritten = [name for name in local if place is not None and _is_within(name, place)]
        if overwritten:
            what = f"would be written over {overwritten[0]!r}"
            raise error("E108", where=option, what=what, fix="name another output folder")
    for name in local:
        if Path(name).resolve() == request.output_dir.resolve():
            what = f"is {name!r} itself, whose results.json would be lost"
            raise error("E108", where="output_dir", what=what, fix="name another output folder")


def _is_within(name: str, folder: Path) -> bool:
    return Path(name).resolve().is_relative_to(folder.resolve())
