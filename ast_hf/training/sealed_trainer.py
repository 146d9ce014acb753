"""transformers' Trainer with checkpoints that are saved whole or not at all, resumed and pushed."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from torch import nn
from transformers import Trainer
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import HubStrategy

from ..errors import AstHfError, AstHfWarning, error, warning_text
from ..files import write_json
from ..hub.publishing import Pushed, finishing_command, open_repository, push_folder
from ..reports.emissions import EMISSIONS_FILE
from .checkpoints.continuity import check_same_run, keep_run
from .checkpoints.hub import CheckpointPushes, HubPlace, download_checkpoint
from .checkpoints.resuming import resume_folder
from .checkpoints.sealing import STATE_FILE, checkpoint_folder, clear, publish, staging_folder, writing

#: In a training checkpoint: seconds and clips that the run has taken until then.
EFFORT_FILE = "effort.json"


class SealedTrainer(Trainer):
    """Trainer with sealed checkpoints (see `checkpoints.sealing`), and with pushes that cannot stop training.

    A checkpoint is written into a hidden folder, sealed by a manifest and renamed. In a distributed run each
    process writes its own part; the main one seals, renames and removes old ones while the others wait.

    With `push_to_hub`, sealed checkpoints are pushed by `hub_strategy`, in the background.

    Args:
        decided: result of `continuity.deciding` for the run. Checkpoints store it. Resuming one with other
            options is an error (E306), or a warning (W406) if that checkpoint was chosen by hand.
        overwrite: a fresh start may overwrite a finished model, or a README.md, in the output folder.
        **kwargs: as for transformers' `Trainer`.

    Attributes:
        card: model card of the finished run, written as README.md; None before it is measured.
        changes: the options that were changed while resuming, one sentence for each change.
        clips_trained: clips that all processes together have trained on, including those before a resumption.
        seconds_before: wall time of the run until the checkpoint that it resumed from; None if that does not
            say.
        finished: whether `finish` has saved the weights, before an evaluation in half precision rounds them.
        unpublished: the command that completes the push at the end, if that failed.
    """

    def __init__(self, *, decided: dict[str, Any] | None = None, overwrite: bool = False, **kwargs: Any) -> None:
        self.decided = decided
        self.overwrite = overwrite
        self.card: Any = None
        self.changes: list[str] = []
        self.clips_trained = 0
        self.seconds_before: float | None = 0.0
        self.finished = False
        self.unpublished: str | None = None
        self._started_at = time.monotonic()
        self._trained_batches = 0
        self._is_staging = False
        self._checkpoint_pushes: CheckpointPushes | None = None
        super().__init__(**kwargs)

    # ---------------------------------------------------------------- resuming

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train from the start or from a checkpoint.

        Args:
            resume_from_checkpoint: True for the newest intact checkpoint; `"auto"` for the same, or a fresh
                start without one; `"hub"` for the newest one that a run pushed to the Hub; or a checkpoint
                folder.
            *args: as for transformers' `Trainer`.
            **kwargs: as for transformers' `Trainer`.

        Raises:
            AstConfigError: E306 if there is no intact checkpoint to resume from, if it is of a run with other
                options and was not chosen by hand, and for a fresh start in a folder that holds a model.
            AstRunError: E701 and E704 if one cannot be downloaded.
        """
        folder = self._resolve_checkpoint(resume_from_checkpoint)
        self.finished = False
        self._started_at = time.monotonic()
        self._trained_batches = 0
        self.seconds_before = 0.0
        self.clips_trained = 0
        if folder is not None:
            is_named = resume_from_checkpoint not in (True, "auto", "hub")
            self._continue_from(Path(folder), is_named=is_named)
        elif self.is_world_process_zero():  # emissions of an earlier run are not part of this one's
            (Path(self.args.output_dir) / EMISSIONS_FILE).unlink(missing_ok=True)
        return super().train(folder, *args, **kwargs)

    def _continue_from(self, checkpoint: Path, *, is_named: bool) -> None:
        """Check that a checkpoint belongs to this run, and read how far the run had come."""
        self.seconds_before, self.clips_trained = _read_effort(checkpoint)
        if self.decided is not None:
            self.changes = check_same_run(checkpoint, self.decided, named=is_named)
        state = checkpoint / STATE_FILE
        if state.exists() and not self.args.ignore_data_skip:
            steps = TrainerState.load_from_json(str(state)).global_step
            self._trained_batches = steps * self.args.gradient_accumulation_steps

    def _resolve_checkpoint(self, request: str | bool | None) -> str | None:
        """Resolve the checkpoint on the main process and broadcast it.

        Only one process may clean up the folder, and all must resume from the same step.
        """
        answer: list[Any] = [None, None]
        if self.is_world_process_zero():
            root = Path(self.args.output_dir)
            try:
                if request == "hub":
                    with_best = self.args.load_best_model_at_end
                    request = str(download_checkpoint(root, self._hub_place(), with_best=with_best))
                answer[0] = resume_folder(request, root, self.args.world_size, overwrite=self.overwrite)
            except AstHfError as problem:
                answer[1] = problem
        broadcast_object_list(answer)
        folder, failure = answer
        if failure is not None:
            raise failure
        return folder

    # ---------------------------------------------------------------- saving

    def save_parts(self, folder: Path) -> None:
        """Write what a subclass needs to resume into a checkpoint; called on the main process only."""

    def _get_output_dir(self, trial: Any) -> str:
        """Return the folder of the checkpoints; while one is written, the hidden folder inside it."""
        folder = super()._get_output_dir(trial)
        return str(staging_folder(Path(folder))) if self._is_staging else folder

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint that counts only once it is complete; the older ones stay until then.

        Raises:
            AstRunError: E401 if a file cannot be written.
        """
        root = Path(self._get_output_dir(trial))
        target = checkpoint_folder(root, self.state.global_step)
        if self.args.should_save:
            clear(root)
        self.accelerator.wait_for_everyone()
        with writing(root, target.name, tidies=self.args.should_save):
            self._is_staging = True
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._is_staging = False
            self._locate_best(root)
            if self.args.should_save:
                self._save_run_state(staging_folder(root) / target.name)
            self.accelerator.wait_for_everyone()  # by now every process has written its random state
            if self.args.should_save:
                best = self.state.best_model_checkpoint
                publish(
                    root,
                    self.state.global_step,
                    processes=self.args.world_size,
                    limit=self.args.save_total_limit,
                    keep=None if best is None else Path(best),
                )
        if self.is_world_process_zero():
            self._push_sealed(target)
        self.accelerator.wait_for_everyone()

    def _locate_best(self, root: Path) -> None:
        """Set the final path of the best checkpoint; the Trainer sets that in the hidden folder."""
        if not self.state.best_global_step:
            return
        best = checkpoint_folder(root, self.state.best_global_step)
        if best.exists() or self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(best)

    def _save_run_state(self, folder: Path) -> None:
        """Write effort, options and parts, and the Trainer's state again, with the path of `_locate_best`."""
        self.state.save_to_json(str(folder / STATE_FILE))
        if self.seconds_before is not None:
            seconds = self.seconds_before + time.monotonic() - self._started_at
            write_json(folder / EFFORT_FILE, {"seconds": seconds, "clips": self.clips_trained})
        if self.decided is not None:
            keep_run(folder, self.decided, self.changes)
        self.save_parts(folder)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write `self.card` as README.md; without one nothing is measured yet, and no file is written."""
        if self.card is not None and self.is_world_process_zero():
            self.card.save(Path(self.args.output_dir) / "README.md")

    # ---------------------------------------------------------------- publishing

    def _hub_place(self) -> HubPlace:
        """Return the repository of this run: `hub_model_id`, or the name of its folder."""
        args = self.args
        name = self.hub_model_id or args.hub_model_id or Path(args.output_dir).absolute().name
        return HubPlace(name, args.hub_revision, args.hub_private_repo, args.hub_token)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository, to report problems with it at the start. Training does not need it."""
        if not self.is_world_process_zero():
            return
        place = self._hub_place()
        self.hub_model_id = place.repo_id
        try:
            self.hub_model_id = open_repository(
                place.repo_id,
                private=place.private if private is None else private,
                revision=place.revision,
                token=token or place.token,
            )
        except AstHfError as problem:
            what = f"cannot be published yet; training continues, and its result stays in the folder. {problem}"
            message = warning_text("W701", where=repr(place.repo_id), what=what)
            warnings.warn(message, AstHfWarning, stacklevel=2)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Pushed | None:
        """Save the model, unless `finish` has, and publish its folder, see `hub.publishing.push_folder`.

        All processes of a distributed run must call it.

        Args:
            commit_message: first line of the commit.
            blocking: must be True; a push in the background would end with the process.
            token: as for `push_folder`, instead of `hub_token`.
            revision: as for `push_folder`, instead of `hub_revision`.
            private: as for `push_folder`, instead of `hub_private_repo`.
            **kwargs: none.

        Returns:
            The result of the push; None on all but the main process, and if it failed. A failure is a warning
            (W701) with the command that completes the push, also in `unpublished`. The folder is complete
            either way.

        Raises:
            AstInputError: E108 for another argument.
        """
        if kwargs or not blocking:
            where = ", ".join(kwargs) or "blocking"
            raise error("E108", where=where, what="has no effect on this push", fix="leave it out")
        if not self.finished:
            self.save_model(_internal_call=True)
        self.create_model_card()
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        return self._publish_folder(commit_message or "End of training", token, revision, private)

    def _publish_folder(
        self, message: str, token: str | None, revision: str | None, private: bool | None
    ) -> Pushed | None:
        place = self._hub_place()
        folder = self.args.output_dir
        name = place.repo_id
        token = token or place.token
        options: dict[str, Any] = {
            "private": place.private if private is None else private,
            "revision": revision or place.revision,
        }
        try:
            if "/" not in name:
                name = open_repository(name, private=options["private"], token=token)
            pushed = push_folder(folder, name, commit_message=message, token=token, **options)
        except AstHfError as problem:
            self.unpublished = finishing_command(folder, name if "/" in name else f"USER/{name}", **options)
            what = f"is complete, but not published. {problem}"
            if self.unpublished not in what:
                what += f" Then run `{self.unpublished}`"
            warnings.warn(warning_text("W701", where=repr(folder), what=what), AstHfWarning, stacklevel=3)
            return None
        self.hub_model_id = pushed.repo_id
        self.unpublished = None
        return pushed

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Do nothing: transformers would upload an unsealed checkpoint, with the Hub token in its arguments.

        `_save_checkpoint` pushes the sealed one.
        """

    def _push_sealed(self, checkpoint: Path) -> None:
        if not self.args.push_to_hub or self.args.hub_strategy == HubStrategy.END:
            return
        if self._checkpoint_pushes is None:
            strategy = self.args.hub_strategy.value
            every = self.args.hub_always_push
            self._checkpoint_pushes = CheckpointPushes(self._hub_place(), strategy, every=every)
        self._checkpoint_pushes.push(checkpoint)

    def _finish_current_push(self) -> None:
        if self._checkpoint_pushes is not None:
            self._checkpoint_pushes.finish()


def _read_effort(checkpoint: Path) -> tuple[float | None, int]:
    """Return the seconds and clips of a run until a checkpoint; no seconds if another program wrote it."""
    file = checkpoint / EFFORT_FILE
    if not file.is_file():
        return None, 0
    effort = json.loads(file.read_text(encoding="utf-8"))
    return float(effort["seconds"]), int(effort["clips"])
