"""Which clips are held out: the test split, the validation split, and by which groups."""

from __future__ import annotations

from .choice import Choice
from .data_summary import DataSummary

#: Share of the training split that is held out to watch the training; of many clips a smaller one is enough.
SMALL_SHARE = 0.15
LARGE_SHARE = 0.1
#: Training clips from which the smaller share is enough: 200 clips, a standard error below 3.5 points.
LARGE_SET = 2_000
#: Share of all clips that becomes the test split.
TEST_SHARE = 0.2
#: Fewest clips that weights are chosen by. The accuracy of 20 has a standard error of up to 11 points; with fewer, the
#: choice is chance, and they are worth more in training.
LEAST_WATCHED = 20
#: Clips of the typical class from which a test split is made. Below, a class would have one clip there, and
#: cross-validation (`--folds`) says more.
TESTED_CLASS = 8
#: Groups needed to hold some of them out, that of `ast_hf.data.grouping`.
LEAST_GROUPS = 4


def choose_splits(summary: DataSummary) -> list[Choice]:
    """Return the choices of the test split, of the validation split, and of what stays together in them."""
    choices = [*_choose_test(summary), *_choose_validation(summary)]
    drawn = test_share(summary) if not summary.folds else 0.0
    if (drawn or validation_share(summary)) and has_groups(summary):
        reason = f"no group is in two splits; {summary.group_reason}"
        choices += [Choice(f"data.{name}", value, reason) for name, value in summary.group_options.items()]
    return choices


def has_groups(summary: DataSummary) -> bool:
    """Return True if there are enough speakers, recordings or other sources to hold some of them out."""
    return bool(summary.group_options) and summary.groups >= LEAST_GROUPS


def watched_clips(summary: DataSummary) -> int:
    """Return about how many clips a run is watched by: those of the validation split, stored or held out."""
    if summary.has_validation:
        return summary.clips["validation"]
    return round(validation_share(summary) * _undivided(summary))


def has_test(summary: DataSummary) -> bool:
    """Return True if a run has a test split."""
    return bool(summary.test_splits or summary.folds) or _makes_test(summary)


def test_share(summary: DataSummary) -> float:
    """Return the share of the training split that becomes the test split, 0 if it is stored or too small."""
    if summary.test_splits:
        return 0.0
    if summary.folds:
        return 1 / len(summary.folds)
    return TEST_SHARE if _makes_test(summary) else 0.0


def validation_share(summary: DataSummary) -> float:
    """Return the share of the training split that becomes the validation split, 0 if it is stored or too small."""
    if summary.has_validation:
        return 0.0
    clips = _undivided(summary)
    share = LARGE_SHARE if clips >= LARGE_SET else SMALL_SHARE
    return share if share * clips >= LEAST_WATCHED and summary.typical_class >= TESTED_CLASS else 0.0


def trained_clips(summary: DataSummary) -> int:
    """Return about how many clips a run trains on, without those held out."""
    held_out = validation_share(summary)
    tested = test_share(summary)
    share = (1 - tested) * (1 - held_out) if summary.folds else 1 - tested - held_out
    return max(1, round(summary.train_clips * share))


def _undivided(summary: DataSummary) -> float:
    """Return the clips of the training split that `data.validation_fraction` is a share of: all but a test fold."""
    tested = test_share(summary) if summary.folds else 0.0
    return summary.train_clips * (1 - tested)


def _makes_test(summary: DataSummary) -> bool:
    return not summary.test_splits and not summary.folds and summary.typical_class >= TESTED_CLASS


def _choose_test(summary: DataSummary) -> list[Choice]:
    if summary.folds and not summary.test_splits:
        first = summary.folds[0]
        value = int(first) if first.isdecimal() else first
        count = len(summary.folds)
        reason = (
            f"one of {count} folds in column {summary.fold_column!r}; --folds {count} tests on each in turn"
        )
        return [Choice("data.test_fold", value, reason)]
    if not _makes_test(summary):
        return []
    count = round(TEST_SHARE * summary.train_clips)
    reason = f"about {count:,} clips to test on at the end; the data have no test split"
    return [Choice("data.test_fraction", TEST_SHARE, reason)]


def _choose_validation(summary: DataSummary) -> list[Choice]:
    if summary.has_validation:
        return []
    share = validation_share(summary)
    if not share:
        few = f"{SMALL_SHARE:.0%} would be {round(SMALL_SHARE * _undivided(summary))} clips"
        if summary.typical_class < TESTED_CLASS:
            few = f"a typical class has {summary.typical_class} clips"
        reason = f"{few}: too few to choose weights by, and worth more in training"
        return [Choice("data.validation_fraction", 0.0, reason)]
    reason = f"about {watched_clips(summary):,} clips to choose the best weights by; the data have no validation split"
    return [Choice("data.validation_fraction", share, reason)]
