"""Data that cannot be learnt from (errors), and data that will disappoint (remarks)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import error
from ..printing import printable
from .augmentation_choices import is_excerpt
from .data_summary import DataSummary
from .input_choices import CROP_WINDOW, LONGEST_WINDOW, is_cropped
from .split_choices import has_groups, has_test, test_share, validation_share
from .starts import Start

#: Fewest clips of a class: two to train, one to watch and one to test.
LEAST_CLIPS = 4
#: Characters that separate labels in one cell.
SEPARATORS = (";", "|", ",")
#: Largest share of the clips that may be left out because they cannot be read.
UNREADABLE_SHARE = 0.1
#: Clips of the typical class below which any result is weak.
FEW_CLIPS = 20
#: Clips of the largest class, as a multiple of those of the smallest, from which the average over clips hides the
#: rare classes.
UNEVEN = 10
#: Excerpts below which AST from random weights may not be better than logistic regression. With 320 of ESC-10 the
#: accuracy is 0.800, and 0.762, too close to call (benchmarks/RESULTS.md, "The first hour").
FEW_EXCERPTS = 1_000
#: Clips to test on below which the accuracy is known to no better than 15 points (95 % interval).
FEW_TESTED = 40
#: Sources that are held out below which a result depends on which ones these are.
FEW_HELD_OUT = 3


def check_learnable(summary: DataSummary) -> None:
    """Raise E209 for data that no recipe can learn from."""
    where = f"split {summary.train_split!r}"
    names = list(summary.labels)
    if len(names) < 2 and not summary.unlabelled:
        what = f"has {len(names)} class ({', '.join(names)}), which leaves nothing to classify"
        raise error("E209", where=where, what=what, fix="add clips of at least one more class")
    rare = [name for name, count in summary.labels.items() if count < LEAST_CLIPS]
    if rare:
        few = ", ".join(f"{name!r} has {summary.labels[name]}" for name in rare[:5])
        more = f" and {len(rare) - 5} more classes" if len(rare) > 5 else ""
        fix = f"add clips, at least {LEAST_CLIPS} of each class and better {FEW_CLIPS}"
        if len(rare) < len(names) - 1:
            fix += ", or leave these classes out with --drop_labels"
        if mark := next((mark for mark in SEPARATORS if any(mark in name for name in rare)), None):
            fix += f"; if these are several labels in one cell, add --label_separator '{mark}'"
        raise error("E209", where=where, what=f"too few clips: {few}{more}", fix=fix)
    clips = sum(summary.clips.values())
    if summary.unreadable > UNREADABLE_SHARE * clips:
        what = f"{summary.unreadable} of {clips} clips cannot be read, the first: "
        what += summary.first_unreadable
        raise error("E209", where=where, what=what, fix="repair or remove them; ast-hf stats lists all")


def find_remarks(summary: DataSummary, start: Start) -> Iterator[str]:
    """Yield what will disappoint, a sentence or two each."""
    if start.kind == "random" and is_excerpt(summary) and summary.train_clips < FEW_EXCERPTS:
        yield (
            "Few excerpts of several seconds, from random weights: logistic regression may be as good. "
            "Pretrained weights are much better for sounds of many kinds (--base or --vit)."
        )
    yield from _remarks_on_classes(summary)
    yield from _remarks_on_groups(summary)
    if not has_test(summary) and not summary.has_validation:
        yield "There are too few clips to hold some out: cross-validate with --folds 5 to know how good it is."
    elif not has_test(summary):
        yield (
            "There is no test split. The result on the validation split is a little too good, since the best "
            "weights are chosen there."
        )
    tested = round(test_share(summary) * summary.train_clips)
    if 0 < tested < FEW_TESTED:
        folds = len(summary.folds) or 5
        yield f"About {tested} clips to test on say little: --folds {folds} tests on every clip once, {folds} runs."
    if is_cropped(summary):
        yield (
            "Recordings are longer than the model's window, and a random part of each is taken to have its label. "
            f"Results are those of the first {CROP_WINDOW} s of each, while `ast-hf classify` looks at all of it. "
            "If a label holds for a part only, give its start and end in seconds."
        )
    elif not summary.windowed and summary.lengths.high > LONGEST_WINDOW:
        yield (
            f"More than one clip in 20 is longer than the model's window of {LONGEST_WINDOW} s, and results are those "
            f"of the beginning. Cut clips of up to {summary.lengths.longest:.0f} s into pieces if their sound may be "
            "anywhere."
        )
    if summary.has_times and not summary.windowed:
        yield (
            "Every start and end is a clip of its own. To find such sounds in recordings, with their times, "
            "add --window_seconds 1."
        )
    if summary.unreadable:
        yield f"{unreadable_clips(summary)} and will be left out, the first: {summary.first_unreadable}."


def unreadable_clips(summary: DataSummary) -> str:
    """Return how many clips cannot be read, in words."""
    return (
        "1 clip cannot be read" if summary.unreadable == 1 else f"{summary.unreadable:,} clips cannot be read"
    )


def _remarks_on_classes(summary: DataSummary) -> Iterator[str]:
    if example := _crossed_folders(summary.labels):
        yield (
            f"Labels are folders in folders, such as {printable(example)!r}, and the same inner names are in many of "
            "the outer folders. If one of the two is a speaker or a recording and no label, list the clips in a table "
            "with the columns path, label and speaker, and give that."
        )
    if summary.typical_class < FEW_CLIPS:
        yield (
            f"A typical class has {summary.typical_class} training clips. Expect a weak model; "
            "more clips help more than any setting."
        )
    if summary.imbalance >= UNEVEN:
        rarest = min(summary.labels, key=lambda name: summary.labels[name])
        yield (
            f"{printable(rarest)!r} has {summary.smallest_class} training clips, the largest class "
            f"{summary.imbalance:.0f} times as many. Look at the results per class, not at the accuracy alone."
        )


def _crossed_folders(labels: Iterable[str]) -> str | None:
    """Return a label such as `yes/ann` if inner names are in one and a half outer ones or more, and the reverse."""
    pairs = [label.rpartition("/") for label in labels]
    outer = {first for first, _, _ in pairs}
    inner = {last for _, _, last in pairs}
    is_crossed = "" not in outer and 2 * len(pairs) >= 3 * max(len(outer), len(inner))
    return "".join(pairs[0]) if is_crossed else None


def _remarks_on_groups(summary: DataSummary) -> Iterator[str]:
    if summary.divided_groups and not summary.test_splits:
        yield (
            f"{summary.divided_groups} of {summary.groups} groups are in several folds, which overstates the accuracy "
            f"on new ones. ({summary.group_reason})"
        )
    share = min(share for share in (test_share(summary), validation_share(summary), 1.0) if share)
    if share == 1.0 or summary.windowed:
        return
    if not summary.group_options:
        yield (
            "No column and no part of the names shows which clips have one speaker, recording or other source. "
            "If some do, a random split overstates the accuracy: add such a column."
        )
    elif not has_groups(summary):
        yield (
            f"There are {summary.groups} groups of clips, too few to hold some out. The split is random, "
            "and overstates the accuracy on new ones."
        )
    elif summary.groups * share < FEW_HELD_OUT:
        count = max(1, round(summary.groups * share))
        verb = "is" if count == 1 else "are"
        yield f"{count} of {summary.groups} groups {verb} held out: the result depends on which."
