"""Data that cannot be learnt from (errors), and data that will disappoint (remarks)."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import error
from ..printing import printable
from .data_summary import DataSummary
from .input_choices import is_cropped
from .split_choices import LEAST_GROUPS, held_out_share, tests, watches

#: Fewest clips of a class: two to train, one to watch and one to test.
LEAST_CLIPS = 4
#: Largest share of the clips that may be left out because they cannot be read.
UNREADABLE_SHARE = 0.1
#: Clips of the typical class below which any result is weak.
FEW_CLIPS = 20
#: Values of the group that are held out below which a result depends on which ones these are.
FEW_HELD_OUT = 3
#: Validation clips below which the best weights are chosen by chance.
FEW_WATCHED = 30


def check_learnable(summary: DataSummary) -> None:
    """Raise E209 for data that no recipe can learn from."""
    where = f"split {summary.train_split!r}"
    names = list(summary.labels)
    if len(names) < 2 and not summary.unlabelled:
        what = f"has one class ({', '.join(names)}), which leaves nothing to classify"
        raise error("E209", where=where, what=what, fix="add clips of at least one more class")
    rare = [name for name, count in summary.labels.items() if count < LEAST_CLIPS]
    if rare:
        few = ", ".join(f"{name!r} has {summary.labels[name]}" for name in rare[:5])
        more = f" and {len(rare) - 5} more classes" if len(rare) > 5 else ""
        fix = f"add clips, at least {LEAST_CLIPS} of each class and better 20"
        if len(rare) < len(names) - 1:
            fix += ", or leave these classes out with --drop_labels"
        raise error("E209", where=where, what=f"too few clips: {few}{more}", fix=fix)
    if summary.unreadable > UNREADABLE_SHARE * summary.train_clips:
        what = f"{summary.unreadable} of {summary.train_clips} clips cannot be read, the first: {summary.first_unreadable}"
        raise error("E209", where=where, what=what, fix="repair or remove them; ast-hf stats lists all")


def find_remarks(summary: DataSummary) -> Iterator[str]:
    """Yield what will disappoint, one sentence or two each."""
    if summary.typical_class < FEW_CLIPS:
        yield f"A typical class has {summary.typical_class} clips. Expect a weak model; more clips help more than any setting."
    if summary.imbalance >= 10:
        rarest = min(summary.labels, key=lambda name: summary.labels[name])
        yield f"{printable(rarest)!r} has {summary.smallest_class} clips, the largest class {summary.imbalance:.0f} times as many. Look at the results per class."
    yield from _remarks_on_groups(summary)
    if not watches(summary):
        yield "Too few clips to hold some out. Cross-validate with --folds 5."
    elif not tests(summary):
        yield "There is no test split: the result on the validation split is a little too good, since the best weights are chosen there."
    if is_cropped(summary):
        yield "Recordings are longer than the model's window. If a label holds for a part only, give start and end in seconds."
    if summary.unreadable:
        yield f"{summary.unreadable} clips cannot be read and are left out, the first: {summary.first_unreadable}."


def _remarks_on_groups(summary: DataSummary) -> Iterator[str]:
    share = held_out_share(summary)
    if not share or summary.windowed:
        return
    if summary.group is None:
        yield "No column of speakers, recordings or other sources was found. If some clips have one source, a random split overstates the accuracy: add such a column."
    elif summary.groups < LEAST_GROUPS:
        yield f"Column {summary.group!r} has {summary.groups} values, too few to hold some out: the split is random, and overstates the accuracy on new ones."
    elif summary.groups * share < FEW_HELD_OUT:
        yield f"About {max(1, round(summary.groups * share))} of {summary.groups} values of {summary.group!r} are held out: the result depends on which."
