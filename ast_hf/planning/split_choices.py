"""Which clips are held out: the test split, the validation split, and by which group."""

from __future__ import annotations

from .choice import Choice
from .data_summary import DataSummary

#: Share of the training split that is held out to watch the training. A fifth of 300 clips is 60, which shows
#: differences of about 10 points; of more clips a smaller share does the same.
SMALL_SHARE = 0.2
LARGE_SHARE = 0.1
#: Training clips from which the smaller share is enough: 200 clips, a standard error below 3.5 points.
LARGE_SET = 2_000
#: Share of all clips that becomes the test split.
TEST_SHARE = 0.2
#: Clips of the typical class from which clips are held out to watch, and from which a test split is made as well.
#: Below, a class would have one or two clips there, and cross-validation (`--folds`) says more.
WATCHED_CLASS = 8
TESTED_CLASS = 15
#: Groups needed to hold some of them out.
LEAST_GROUPS = 4


def choose_splits(summary: DataSummary) -> list[Choice]:
    """Return the choices of the test split and of the validation split."""
    return [*_choose_test(summary), *_choose_validation(summary)]


def watches(summary: DataSummary) -> bool:
    """Return True if a run has clips that it can watch: a validation split, or enough clips to hold some out."""
    return summary.has_validation or summary.typical_class >= WATCHED_CLASS


def usable_group(summary: DataSummary) -> str | None:
    """Return the column by whose values clips are held out, None without one of enough values."""
    return summary.group if summary.groups >= LEAST_GROUPS else None


def tests(summary: DataSummary) -> bool:
    """Return True if a run has a test split."""
    return bool(summary.test_splits or summary.folds) or _makes_test(summary)


def _makes_test(summary: DataSummary) -> bool:
    return not summary.has_validation and summary.typical_class >= TESTED_CLASS


def held_out_share(summary: DataSummary) -> float:
    """Return the share of the training split that becomes the validation split, 0 if it is stored or too small."""
    if summary.has_validation or not watches(summary):
        return 0.0
    return LARGE_SHARE if summary.train_clips >= LARGE_SET else SMALL_SHARE


def _choose_test(summary: DataSummary) -> list[Choice]:
    if summary.test_splits:
        return []
    if summary.folds:
        first = summary.folds[0]
        value = int(first) if first.isdecimal() else first
        reason = f"column {summary.fold_column!r} has {len(summary.folds)} folds; --folds {len(summary.folds)} tests on each in turn"
        return [Choice("data.test_fold", value, reason)]
    if not _makes_test(summary):
        return []
    reason = "the data have no test split; these clips are never trained on, and no setting is chosen by them"
    return [Choice("data.test_fraction", TEST_SHARE, reason)]


def _choose_validation(summary: DataSummary) -> list[Choice]:
    share = held_out_share(summary)
    if not share:
        return []
    count = round(share * summary.train_clips)
    reason = f"about {count} clips to choose the best weights by; the data have no validation split"
    choices = [Choice("data.validation_fraction", share, reason)]
    group = usable_group(summary)
    if group is not None:
        choices.append(Choice("data.validation_group", group, f"{summary.group_reason}: none on both sides"))
    return choices
