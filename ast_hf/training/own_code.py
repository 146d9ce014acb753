"""Code of the user in a run: augmentation and callbacks, checked, and named in checkpoints and results."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from ..errors import error, short_reason
from ..inputs.own_augmentation import OwnAugmentation, SpectrogramFunction, WaveformFunction, code_name

#: A callback, or its class, of which an object is made.
Callback: TypeAlias = TrainerCallback | type[TrainerCallback]


class OwnCode(NamedTuple):
    """Functions and callbacks of the user; a recipe cannot hold them."""

    augmentation: OwnAugmentation = OwnAugmentation()
    callbacks: tuple[Callback, ...] = ()

    @property
    def names(self) -> dict[str, Any]:
        """Names by argument of `finetune`, of what there is: for results.json, the card and checkpoints."""
        names: dict[str, Any] = dict(self.augmentation.names)
        if self.callbacks:
            names["callbacks"] = [code_name(callback) for callback in self.callbacks]
        return names

    def copied(self) -> OwnCode:
        """Return the same code with a copy of each callback, so that a fold does not see the state of others.

        Raises:
            AstInputError: E108 for a callback that cannot be copied.
        """
        return self._replace(callbacks=tuple(map(_copied, self.callbacks)))


def own_code(
    augment: WaveformFunction | None,
    augment_spectrogram: SpectrogramFunction | None,
    callbacks: Sequence[Callback] | None,
) -> OwnCode:
    """Return the code that was passed to a run; raise E108 for what is no function or no callback."""
    if callbacks is not None and (isinstance(callbacks, TrainerCallback) or not _is_list(callbacks)):
        what = f"is {type(callbacks).__name__}, no list"
        raise error("E108", where="callbacks", what=what, fix="give a list of callbacks")
    for callback in callbacks or ():
        is_class = inspect.isclass(callback) and issubclass(callback, TrainerCallback)
        if not is_class and not isinstance(callback, TrainerCallback):
            what = f"{code_name(callback)} is no transformers.TrainerCallback"
            fix = "derive its class from TrainerCallback, see docs/how-to/own-code.md"
            raise error("E108", where="callbacks", what=what, fix=fix)
    return OwnCode(OwnAugmentation(augment, augment_spectrogram), tuple(callbacks or ()))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def check_workers(augmentation: OwnAugmentation, arguments: TrainingArguments) -> None:
    """Raise E108 for functions that the data loader's workers cannot receive.

    Forked workers have them already. Those of other start methods (macOS, Windows, Python 3.14) unpickle them.
    """
    context = getattr(arguments, "dataloader_multiprocessing_context", None)
    method = context or multiprocessing.get_start_method(allow_none=True)
    method = method or multiprocessing.get_all_start_methods()[0]
    if not arguments.dataloader_num_workers or method == "fork":
        return
    for argument in augmentation.names:
        try:
            pickle.dumps(getattr(augmentation, argument))
        except Exception as problem:  # of pickle or of the object's own code
            name = augmentation.names[argument]
            what = f"{name} cannot be sent to workers ({short_reason(problem)})"
            fix = "define it at the top of a module, or set training.dataloader_num_workers to 0"
            raise error("E108", where=argument, what=what, fix=fix) from problem


def check_early_stopping(callbacks: Sequence[Callback], arguments: TrainingArguments) -> None:
    """Raise E307 for transformers' `EarlyStoppingCallback` without the arguments that it asserts."""
    is_used = any(
        callback is EarlyStoppingCallback or isinstance(callback, EarlyStoppingCallback)
        for callback in callbacks
    )
    if not is_used:
        return
    if arguments.metric_for_best_model is None or arguments.eval_strategy == IntervalStrategy.NO:
        what = "EarlyStoppingCallback needs training.eval_strategy and training.metric_for_best_model"
        fix = "set them, or use stopping.patience of the recipe instead"
        raise error("E307", where="callbacks", what=what, fix=fix, detail="missing")


def _copied(callback: Callback) -> Callback:
    if inspect.isclass(callback):
        return callback
    try:
        return copy.deepcopy(callback)
    except Exception as problem:  # of the callback's own attributes
        what = f"{code_name(callback)} cannot be copied for each fold ({short_reason(problem)})"
        raise error("E108", where="callbacks", what=what, fix="give its class instead") from problem
