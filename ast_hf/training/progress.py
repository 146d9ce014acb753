"""What a run shows while it runs: the time that is left, clips per second, and the newest numbers."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import has_length


class LossProgress(ProgressCallback):
    """The Trainer's progress bar with clips per second, loss and metric beside the time that is left, instead of a line
    of text for each; evaluations are counted in clips.
    """

    _SHOWN = ("loss", "eval_loss", "eval_accuracy", "eval_mAP", "test_accuracy", "test_mAP", "learning_rate")
    _shown: dict[str, str]
    prediction_bar: Any

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin where a resumed run does: the time that is left follows from the steps of this one."""
        self.current_step, self._shown = state.global_step, {}
        if state.is_world_process_zero:
            self.training_bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="training", unit="step", dynamic_ncols=True
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count, and show the clips of all processes in a second."""
        if state.is_world_process_zero:
            seen = self.training_bar.format_dict  # its rate is a moving one, after some steps
            rate = seen["rate"] or (seen["n"] - seen["initial"]) / max(seen["elapsed"], 1e-9)
            clips = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            self._shown["clips/s"] = f"{rate * clips:.3g}"
            self.training_bar.set_postfix(self._shown, refresh=False)
        super().on_step_end(args, state, control, **kwargs)

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        """Count clips; a stream has no number of them, and no time that is left."""
        if not state.is_world_process_zero:
            return
        if self.prediction_bar is None:
            total = len(eval_dataloader.dataset) if has_length(eval_dataloader) else None
            leave = self.training_bar is None
            self.prediction_bar = tqdm(total=total, desc="evaluating", unit="clip", leave=leave, dynamic_ncols=True)
        bar, step = self.prediction_bar, args.eval_batch_size * args.world_size
        bar.update(step if bar.total is None else min(step, bar.total - bar.n))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Show the newest numbers."""
        if state.is_world_process_zero and self.training_bar is not None and logs:
            self._shown |= {name: f"{float(logs[name]):.3g}" for name in self._SHOWN if name in logs}
            self.training_bar.set_postfix(self._shown)
