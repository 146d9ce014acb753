"""Progress of a run: time left, clips per second, and the newest metrics."""

from __future__ import annotations

from typing import Any

from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import has_length

from ..progress import progress_bar


class LossProgress(ProgressCallback):
    """The Trainer's progress bar with clips per second, loss and metric; evaluations are counted in clips."""

    _LOGGED = ("loss", "eval_loss", "eval_accuracy", "eval_mAP", "test_accuracy", "test_mAP", "learning_rate")
    _postfix: dict[str, str]
    prediction_bar: Any

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the bar at the step of a resumed run, from which the time left is estimated."""
        self.current_step = state.global_step
        self._postfix = {}
        if state.is_world_process_zero:
            self.training_bar = progress_bar(
                total=state.max_steps,
                initial=state.global_step,
                desc="training",
                unit="step",
                dynamic_ncols=True,
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the step, and show the clips per second of all processes."""
        if state.is_world_process_zero:
            bar = self.training_bar.format_dict
            # tqdm's rate is a moving average, which is missing in the first steps.
            rate = bar["rate"] or (bar["n"] - bar["initial"]) / max(bar["elapsed"], 1e-9)
            clips = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            self._postfix["clips/s"] = f"{rate * clips:.3g}"
            self.training_bar.set_postfix(self._postfix, refresh=False)
        super().on_step_end(args, state, control, **kwargs)

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        """Count clips; a stream has no number of them, so the time left is unknown."""
        if not state.is_world_process_zero:
            return
        if self.prediction_bar is None:
            total = len(eval_dataloader.dataset) if has_length(eval_dataloader) else None
            leave = self.training_bar is None
            self.prediction_bar = progress_bar(
                total=total, desc="evaluating", unit="clip", leave=leave, dynamic_ncols=True
            )
        bar = self.prediction_bar
        clips = args.eval_batch_size * args.world_size
        bar.update(clips if bar.total is None else min(clips, bar.total - bar.n))

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Show the newest metrics."""
        if state.is_world_process_zero and self.training_bar is not None and logs:
            self._postfix |= {name: f"{float(logs[name]):.3g}" for name in self._LOGGED if name in logs}
            self.training_bar.set_postfix(self._postfix)
