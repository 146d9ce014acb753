"""Options of the best evaluation and of early stopping."""

from __future__ import annotations

from dataclasses import dataclass

from huggingface_hub.dataclasses import validated_field

from ..errors import AstHfError, error
from ..strict_options import in_range, strict_options

#: Metrics in 0..1 whose standard error is about that of a share of independent clips.
_SHARES = ("accuracy", "mAP")


@strict_options("stopping")
@dataclass(kw_only=True)
class StoppingOptions:
    """When training stops, and which evaluation of the validation split gives the weights that are saved.

    The split is `validation`: that of the data, or the clips that `data.validation_fraction` holds out of
    the training split. No other split is looked at. With `averaging_decay` or `averaging_epochs`, the
    averaged weights are evaluated and kept. Without `patience` and `best`, a run has its full length, and
    the last weights are saved.

    Attributes:
        patience: number of evaluations in a row without improvement after which training stops, 1..10,000.
            The weights of the best evaluation are saved. None trains to the end.
        best: save the weights of the best evaluation without `patience` too.
        min_delta: smallest rise of the metric that counts as an improvement for `patience`, 0..1,000. The
            best evaluation is the best one even if it is better by less.
        standard_errors: keep the latest evaluation that is at most so many standard errors of its metric below the
            best one, 0..3, instead of the best one (the rule of Breiman et al. 1984, section 3.4.3, with 1). The
            accuracy of few clips moves by chance, and later weights have seen more. The error is that of a share
            of independent clips. 0 keeps the best one.
        metric: what is compared, a metric of the task or `"loss"`; None for the main one: accuracy, or mAP
            for clips of several labels. Of equal values, the one with the lower loss is better.
        evaluations: at most about how many evaluations a run has, 2..10,000. They are at the ends of epochs,
            evenly spaced. A stream, and a run of fewer than four epochs, has at most ten, evenly spaced in
            steps. With `training.eval_strategy`, that counts instead.
    """

    patience: int | None = validated_field(in_range(1, 10_000), default=None)
    best: bool = False
    min_delta: float = validated_field(in_range(0.0, 1e3), default=0.0)
    standard_errors: float = validated_field(in_range(0.0, 3.0), default=0.0)
    metric: str | None = None
    evaluations: int = validated_field(in_range(2, 10_000), default=50)

    @property
    def is_active(self) -> bool:
        """True if the weights of the best evaluation are kept."""
        return self.best or self.patience is not None

    def check(self, where: str) -> None:
        """Raise E307 for options that have no effect."""
        defaults = StoppingOptions()
        place = f"{where}: stopping"
        if self.min_delta and self.patience is None:
            what = "is set, and stopping.patience is not"
            raise _conflict(f"{place}.min_delta", what, "set stopping.patience, or leave it out")
        if self.standard_errors and self.metric not in (None, *_SHARES):
            what = f"is set, and {self.metric!r} is not a share of the clips, whose error is known"
            fix = f"leave it out, or compare {' or '.join(_SHARES)}"
            raise _conflict(f"{place}.standard_errors", what, fix)
        for name in ("standard_errors", "metric", "evaluations"):
            if not self.is_active and getattr(self, name) != getattr(defaults, name):
                what = "is set, but no evaluation is chosen"
                fix = "set stopping.patience, or stopping.best to true"
                raise _conflict(f"{place}.{name}", what, fix)


def _conflict(where: str, what: str, fix: str) -> AstHfError:
    return error("E307", where=where, what=what, fix=fix, detail="conflict")
