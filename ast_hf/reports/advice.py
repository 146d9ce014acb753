"""Advice of a verdict: what to try next, each with the option or the command that does it."""

from __future__ import annotations

import math

from .verdict_facts import Learning

FIND_RATE = "search the learning rate (--find-lr)"
CHECK_LABELS = "compare some clips with their labels (ast-hf stats DATA lists silent and contradictory ones)"
STOP = "keep the best evaluation on the validation split (--set stopping.patience=5)"
HOLD_OUT = "hold clips out for a test (--set data.test_fraction=0.2)"
CROSS_VALIDATE = "cross-validate, so that every clip is tested once (--folds 5)"
MORE_TEST_CLIPS = "evaluate more clips"
BALANCE = "draw rare labels more often (--set sampling=balanced)"
AUGMENT = "augment the clips (--set augmentation.mixup_probability=0.5)"
#: A recipe for a random start has sizes that a base or image transformer brings itself: E307.
TRAINED_WEIGHTS = (
    "start from trained weights, with a new recipe (ast-hf new DATA --vit facebook/dinov2-small)"
)
MORE_CLIPS = "add training clips, from other speakers or recordings"
MORE_RARE_CLIPS = "add training clips of the labels that have the fewest"

#: Learning rates outside of which the rate is the first suspect: the recipes of this package have 1e-5 to 2e-3.
_USUAL_RATES = (3e-6, 1e-2)


def longer(learning: Learning, factor: int) -> str:
    """Return the option that trains `factor` times as long, or that stops later."""
    if learning.stopped_by is not None:
        return f"stop later (--set stopping.patience={factor * learning.stopped_by})"
    if learning.epochs is None or learning.has_max_steps:
        return f"train longer (--set training.max_steps={factor * learning.steps})"
    epochs = max(math.ceil(factor * learning.epochs), 1)
    return f"train longer (--set training.num_train_epochs={epochs})"


def more_data(learning: Learning) -> str:
    """Return advice against a fit of the training clips alone."""
    if not learning.is_augmented:
        return AUGMENT
    return TRAINED_WEIGHTS if learning.is_random else MORE_CLIPS


def other_splits(learning: Learning) -> str:
    """Return how to hold out clips that are not like the training clips."""
    if learning.group is not None:
        return "listen to test clips, and add training clips like them"
    if learning.holds_out:
        return "hold out whole speakers or recordings (--set data.validation_group=COLUMN)"
    return "split by speaker or recording (ast-hf split DATA --output table.csv)"


def general_advice(learning: Learning) -> list[str]:
    """Return what to try for a result at or below the baseline that no finding explains."""
    start = [TRAINED_WEIGHTS] if learning.is_random else []
    if is_unusual(learning.learning_rate):
        return [FIND_RATE, *start, longer(learning, 2)]
    return [*start, FIND_RATE, longer(learning, 2)]


def is_unusual(learning_rate: float) -> bool:
    """Return True for a learning rate that hardly any model is trained with."""
    low, high = _USUAL_RATES
    return not low <= learning_rate <= high
