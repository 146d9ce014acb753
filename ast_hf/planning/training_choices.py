"""How long to train, in optimizer steps, and how: batch size, learning rate, averaging, stopping."""

from __future__ import annotations

import math

from .choice import Choice
from .data_summary import DataSummary
from .model_choices import shape_of
from .split_choices import watched_clips
from .starts import Start

#: Optimizer steps of a run. Small data sets need as many as large ones: they are seen in more epochs. The demo's 240
#: epochs are 2,640 steps, those of spoken-words.yaml 2,280 on 1,800 clips.
RANDOM_STEPS = 3_000
PRETRAINED_STEPS = 400
#: Fewest steps that are worth a start, whatever the time.
LEAST_STEPS = {"random": 1_000, "vit": 150, "base": 100}
#: Passes over a large data set that a run needs at least.
LEAST_EPOCHS = {"random": 10, "vit": 4, "base": 3}
#: Minutes of training that a plan aims at, if the user names none.
MINUTES = 10.0
#: Largest number of clips in a step.
BATCH = {"random": 32, "vit": 8, "base": 8}
#: Evaluations of a run on the validation split, and how many in a row without a better one end it: half of the run,
#: since the accuracy moves up and down while the learning rate is high, and rises again when it falls.
EVALUATIONS = 24
PATIENCE = 12
#: Standard errors below the best evaluation within which the latest one is kept (Breiman et al. 1984, section 3.4.3).
STANDARD_ERRORS = 1.0
#: Training checkpoints of a run.
CHECKPOINTS = 5
#: Longest memory of the weight average in steps, and its share of a run.
AVERAGED_STEPS = 100
AVERAGED_SHARE = 0.05
#: Learning rates of the classifier of pretrained weights, by hidden size: wide ones keep more. Those of AST-small were
#: chosen on fold 2 of ESC-10, trained on folds 3 to 5.
WIDE = 512
LEARNING_RATES = {"vit": (1e-4, 5e-5), "base": (3e-4, 5e-5)}
LAYER_DECAY = 0.85
#: Rarest class, as a share of the most frequent one, below which clips are drawn by how rare their labels are.
BALANCED_FROM = 5.0


def batch_size(clips: int, start: Start) -> int:
    """Return the clips of a step: a power of two, at most a quarter of the training clips, at least 4."""
    return max(4, min(BATCH[start.kind], 2 ** int(math.log2(max(4, clips / 4)))))


def wanted_steps(clips: int, batch: int, start: Start) -> int:
    """Return the steps of a run that time does not limit."""
    usual = RANDOM_STEPS if start.kind == "random" else PRETRAINED_STEPS
    return max(usual, least_steps(clips, batch, start))


def least_steps(clips: int, batch: int, start: Start) -> int:
    """Return the fewest steps worth a start: those of the start, and some passes over large data."""
    passes = LEAST_EPOCHS[start.kind] * math.ceil(clips / batch)
    return max(LEAST_STEPS[start.kind], min(passes, 20 * LEAST_STEPS[start.kind]))


def limited_steps(wanted: int, least: int, seconds_per_step: float, minutes: float) -> int:
    """Return the steps that fit into the time, but not fewer than the least; rounded to a multiple of 50."""
    affordable = int(60 * minutes / seconds_per_step)
    steps = max(least, min(wanted, affordable))
    return math.ceil(steps / 50) * 50


def epochs_of(steps: int, clips: int, batch: int) -> int:
    """Return the epochs with about so many steps; `--folds` compares epochs."""
    return max(1, round(steps / math.ceil(clips / batch)))


def averaging_decay(steps: int) -> float:
    """Return the decay of the weight average, which reaches over a twentieth of the run, at most 100 steps."""
    return round(1 - 1 / max(2.0, min(AVERAGED_STEPS, AVERAGED_SHARE * steps)), 3)


def choose_training(summary: DataSummary, start: Start, steps: int, batch: int, clips: int) -> list[Choice]:
    """Return the choices of the training's length and its options."""
    epochs = epochs_of(steps, clips, batch)
    reason = f"about {steps:,} steps: these count, and not how often each clip is seen"
    decay = averaging_decay(steps)
    choices = [
        *_choose_sampling(summary),
        *_choose_optimization(start),
        Choice(
            "averaging_decay",
            decay,
            f"the mean of the last {1 / (1 - decay):.0f} steps or so is better than the last one",
        ),
        Choice("training.num_train_epochs", epochs, reason),
        Choice("training.per_device_train_batch_size", batch, f"clips in a step, of about {clips:,}"),
        Choice("training.learning_rate", _learning_rate(summary, start), _rate_reason(start)),
        Choice("training.weight_decay", 0.05),
        Choice("training.adam_beta2", 0.98),
    ]
    return [*choices, *_choose_saving(steps), *_choose_watching(summary)]


def _choose_sampling(summary: DataSummary) -> list[Choice]:
    if summary.imbalance < BALANCED_FROM or summary.unlabelled:
        return []  # balanced sampling never draws a clip without a label
    reason = f"the largest class has {summary.imbalance:.0f} times as many clips as the smallest"
    return [Choice("sampling", "balanced", reason)]


def _choose_optimization(start: Start) -> list[Choice]:
    if start.kind == "random":
        return []
    reason = "lower blocks change more slowly, which keeps what they know"
    return [Choice("optimization.layer_decay", LAYER_DECAY, reason)]


def _learning_rate(summary: DataSummary, start: Start) -> float:
    if start.kind == "random":
        return shape_of(summary).learning_rate
    narrow, wide = LEARNING_RATES[start.kind]
    return wide if start.width >= WIDE else narrow


def _rate_reason(start: Start) -> str:
    if start.kind == "random":
        return "random weights of this width"
    return "of the classifier; pretrained weights need a lower one than random weights"


def _choose_saving(steps: int) -> list[Choice]:
    reason = f"{CHECKPOINTS} times, to continue after a crash; Ctrl-C saves too"
    return [
        Choice("training.save_strategy", "steps"),
        Choice("training.save_steps", steps // CHECKPOINTS, reason),
        Choice("training.save_total_limit", 1),
    ]


def _choose_watching(summary: DataSummary) -> list[Choice]:
    clips = watched_clips(summary)
    if not clips:
        return []
    reason = "evaluations without a better one that end the training"
    error = 100 * math.sqrt(0.25 / clips)
    rule = f"keep the latest weights as good as the best, by chance of up to {error:.1f} points in {clips:,} clips"
    return [
        Choice("stopping.patience", PATIENCE, reason),
        Choice("stopping.standard_errors", STANDARD_ERRORS, rule),
        Choice("stopping.evaluations", EVALUATIONS, "on the validation split, never on a test split"),
    ]
