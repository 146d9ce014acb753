"""transformers' Trainer with checkpoints that are written atomically, resumed and pushed."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from torch import nn
from transformers import Trainer
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import HubStrategy, SaveStrategy

from ..errors import AstHfError, AstHfWarning, AstRunError, error, short_reason, warning_text
from ..files import write_json, write_text
from ..hub.access import PUBLISHING
from ..hub.publishing import Pushed, finishing_command, push_folder
from ..recipe.options import WATCHDOG_SECONDS
from ..reports.emissions import EMISSIONS_FILE
from ..writing_failures import cannot_write, explained, is_writing_failure
from .checkpoints.hub import CheckpointPushes, HubPlace, download_checkpoint
from .checkpoints.resuming import resume_folder
from .checkpoints.run_options import check_options, save_options
from .checkpoints.sealing import (
    STATE_FILE,
    checkpoint_folder,
    clear,
    commit,
    find_corruption,
    remove,
    staged_save,
    staging_folder,
)
from .continuing import continuation
from .disk_space import checkpoint_bytes
from .watchdog import Watchdog, can_watch

#: In a training checkpoint: seconds and clips of the run so far.
EFFORT_FILE = "effort.json"
#: Beginning of the name of a temporary folder with a checkpoint that the output folder has no room for.
_REFUGE = "ast_hf-checkpoint-"
#: Messages of gloo, NCCL and torch's store about a process that ended.
_LOST_PROCESS = re.compile(
    r"Dist(?:Backend|Network|Store)Error|gloo|ncclRemoteError|Connection (?:closed|reset) by peer",
    re.IGNORECASE,
)


class SealedTrainer(Trainer):
    """Trainer with sealed checkpoints (see `checkpoints.sealing`), and with pushes that cannot stop training.

    A checkpoint is written into a hidden folder, sealed by a manifest and renamed. In a distributed run each
    process writes its own part; the main one seals, renames and removes old ones while the others wait.
    With `push_to_hub`, sealed checkpoints are pushed by `hub_strategy`, in the background.

    Args:
        decided: as for `ASTTrainer`.
        overwrite: as for `ASTTrainer`.
        watchdog_seconds: as for `ASTTrainer`.
        **kwargs: as for transformers' `Trainer`.

    Attributes:
        card: model card of the finished run, written as README.md; None before the run is evaluated.
        changes: the options that were changed while resuming, one sentence each.
        clips_trained: clips that all processes have trained on, before a resumption too.
        seconds_before: wall time of the run before it was resumed; None if its checkpoint does not store it.
        finished: True once `finish` has saved the weights; evaluation in half precision may round them later.
        unpublished: the command that completes the final push, if that failed.
    """

    def __init__(
        self,
        *,
        decided: dict[str, Any] | None = None,
        overwrite: bool = False,
        watchdog_seconds: float | None = WATCHDOG_SECONDS,
        **kwargs: Any,
    ) -> None:
        self.watchdog_seconds = watchdog_seconds
        self.watchdog: Watchdog | None = None
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
        self._sealed: Path | None = None  # newest checkpoint of this run
        self._is_extra = False  # `seal_now` writes a checkpoint outside of the plan of saves
        self._is_extra_kept = False
        self._refuge: Path | None = None  # folder for a checkpoint that the output folder has no room for
        self._checkpoint_pushes: CheckpointPushes | None = None
        super().__init__(**kwargs)

    # ---------------------------------------------------------------- resuming

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train from the start or from a checkpoint.

        Args:
            resume_from_checkpoint: True for the newest intact checkpoint; `"auto"` for the same, or a fresh
                start without one; `"hub"` for the newest one on the Hub; or a checkpoint folder.
            *args: as for transformers' `Trainer`.
            **kwargs: as for transformers' `Trainer`.

        Raises:
            AstConfigError: E306 if there is no intact checkpoint to resume from, if it was trained with other
                options and is not named here, and for a fresh start in a folder that holds a model.
            AstRunError: E701 and E704 if a checkpoint cannot be downloaded.
        """
        folder = self._resolve_checkpoint(resume_from_checkpoint)
        self.finished = False
        self._started_at = time.monotonic()
        self._trained_batches = 0
        self.seconds_before = 0.0
        self.clips_trained = 0
        if folder is not None:
            is_explicit = resume_from_checkpoint not in (True, "auto", "hub")
            self._continue_from(Path(folder), is_explicit=is_explicit)
        elif self.is_world_process_zero():  # emissions of an earlier run are not part of this one's
            emissions = Path(self.args.output_dir) / EMISSIONS_FILE
            with explained(emissions):
                emissions.unlink(missing_ok=True)
        self._sealed = None if folder is None else Path(folder)
        self._start_watchdog()
        try:
            output = super().train(folder, *args, **kwargs)
            self._set_busy(False)
            return output
        except Exception as problem:
            failure = self.explain_end(problem)
            if failure is None:
                raise
            raise failure from problem

    def _start_watchdog(self) -> None:
        """Watch the other processes of the run, until this one ends."""
        if self.watchdog is None and self.watchdog_seconds and can_watch():
            self.watchdog = Watchdog(
                self.watchdog_seconds, float(self.args.ddp_timeout), Path(self.args.output_dir)
            )
            self.add_callback(self.watchdog)
            self.watchdog.start()
        self._set_busy(True)

    def _set_busy(self, is_busy: bool) -> None:
        """Set whether the other processes need this one, so that they end if it does."""
        if self.watchdog is not None:
            self.watchdog.is_busy = is_busy

    def explain_end(self, problem: Exception) -> AstHfError | None:
        """Return the error to raise for an exception of another library that ends a run; None for a bug.

        These are a lost process (E403), and a log that cannot be written (E401). Logs are written between
        steps, so that a checkpoint of the last step is written first.
        """
        if self.args.world_size > 1 and _LOST_PROCESS.search(f"{type(problem).__name__}: {problem}"):
            what = f"the connection to another process is lost ({short_reason(problem)})"
            fix = f"look for its own message, then {continuation()}"
            return error("E403", where=f"step {self.state.global_step + 1}", what=what, fix=fix)
        if isinstance(problem, AstHfError) or not (is_writing_failure(problem) or _is_of_a_log(problem)):
            return None
        where = getattr(problem, "filename", None) or Path(self.args.output_dir) / "runs"
        failure = cannot_write(where, problem)
        is_alone = self.args.world_size == 1
        if not (is_alone and self.state.global_step and _is_of_a_log(problem)):
            return cannot_write(where, failure, then=continuation())
        try:
            kept = f"{self.seal_now().name} has all steps so far"
        except AstHfError as second:
            return second
        return cannot_write(where, failure, kept=kept, then=continuation())

    def _continue_from(self, checkpoint: Path, *, is_explicit: bool) -> None:
        """Compare the checkpoint's options with this run's, and read how much was trained."""
        self.seconds_before, self.clips_trained = _read_effort(checkpoint)
        if self.decided is not None:
            self.changes = check_options(checkpoint, self.decided, is_explicit=is_explicit)
        state = checkpoint / STATE_FILE
        if state.exists() and not self.args.ignore_data_skip:
            steps = TrainerState.load_from_json(str(state)).global_step
            self._trained_batches = steps * self.args.gradient_accumulation_steps

    def _resolve_checkpoint(self, request: str | bool | None) -> str | None:
        """Resolve the checkpoint on the main process and broadcast it.

        Only one process may clean up the folder, and all must resume from the same step.
        """
        outcome: list[Any] = [None, None]  # folder, error
        if self.is_world_process_zero():
            root = Path(self.args.output_dir)
            try:
                if request == "hub":
                    with_best = self.args.load_best_model_at_end
                    request = str(download_checkpoint(root, self._hub_place(), with_best=with_best))
                outcome[0] = resume_folder(request, root, self.args.world_size, overwrite=self.overwrite)
            except AstHfError as problem:
                outcome[1] = problem
        broadcast_object_list(outcome)
        folder, failure = outcome
        if failure is not None:
            raise failure
        return folder

    def _init_training_state(self, max_steps: int, steps_per_epoch: int, epochs: int, *args: Any) -> Any:
        """Return the epochs and batches to skip; all for a checkpoint of the last step.

        transformers (5.24) trains a step more if that step is within an epoch.
        """
        skipped = super()._init_training_state(max_steps, steps_per_epoch, epochs, *args)
        return (epochs, 0) if self.state.global_step >= max_steps else skipped

    # ---------------------------------------------------------------- saving

    def save_parts(self, folder: Path) -> None:
        """Write the state of a subclass into a checkpoint; called on the main process only."""

    def _get_output_dir(self, trial: Any) -> str:
        """Return the folder of the checkpoints; while one is written, the hidden folder inside it."""
        folder = super()._get_output_dir(trial) if self._refuge is None else str(self._refuge)
        return str(staging_folder(Path(folder))) if self._is_staging else folder

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint atomically; older ones stay until it is complete.

        If its disk is full or read-only, it is written into the temporary folder instead, and the run ends.

        Raises:
            AstRunError: E401 if a file cannot be written.
        """
        try:
            self._save_sealed(model, trial)
        except AstRunError as problem:
            target = checkpoint_folder(Path(self.args.output_dir), self.state.global_step)
            has_it = self._refuge is not None or find_corruption(target) is None
            if problem.code != "E401" or has_it or self.args.world_size > 1:
                raise
            raise self._save_elsewhere(model, trial, problem) from problem

    def _save_elsewhere(self, model: nn.Module, trial: Any, problem: AstRunError) -> AstHfError:
        """Save a checkpoint in the temporary folder, and link it into the output folder.

        Returns the error to raise: `problem`, with the place of the checkpoint if that was saved.
        """
        checkpoint = self._save_in_refuge(model, trial)
        if checkpoint is None:
            return problem
        link = checkpoint_folder(Path(self.args.output_dir), self.state.global_step)
        with suppress(OSError):  # a link needs no room on most disks
            link.symlink_to(checkpoint)
        resumed = "auto" if find_corruption(link) is None else str(checkpoint)
        what = f"{problem.what}; this one was saved as {str(checkpoint)!r}"
        fix = f"{problem.fix.partition(', then ')[0]}, then {continuation(resumed)}"
        return error("E401", where=problem.where, what=what, fix=fix, detail=problem.detail)

    def _save_in_refuge(self, model: nn.Module, trial: Any) -> Path | None:
        """Save a checkpoint in a new temporary folder, and return it; None if that fails too."""
        try:
            self._refuge = Path(tempfile.mkdtemp(prefix=_REFUGE))
            self._save_sealed(model, trial)
            return checkpoint_folder(self._refuge, self.state.global_step)
        except (OSError, AstRunError):
            if self._refuge is not None:
                shutil.rmtree(self._refuge, ignore_errors=True)
            return None
        finally:
            self._refuge = None

    def seal_now(self) -> Path:
        """Write a sealed checkpoint of the present step, unless there is one, and return it.

        Every process of a distributed run must call it, between two steps.

        Raises:
            AstRunError: E401 if a file cannot be written.
        """
        target = checkpoint_folder(Path(self.args.output_dir), self.state.global_step)
        if self._sealed != target:
            self._is_extra = True
            try:
                self._save_checkpoint(self.model, None)
            finally:
                self._is_extra = False
            self._is_extra_kept = True
        return target

    @contextmanager
    def finishing(self) -> Iterator[Path]:
        """Keep a checkpoint of the last step while this block evaluates and saves the trained model.

        Yields the checkpoint. If only this block needed it, it is removed at the end, and kept after an
        exception. Every process of a distributed run must enter it.
        """
        self._set_busy(True)
        sealed = self.seal_now()
        yield sealed
        self._set_busy(False)
        if self.args.should_save and (self._is_extra_kept or self.args.save_strategy == SaveStrategy.NO):
            _remove_checkpoint(sealed)
        self._is_extra_kept = False

    def _save_sealed(self, model: nn.Module, trial: Any) -> None:
        root = Path(self._get_output_dir(trial))
        target = checkpoint_folder(root, self.state.global_step)
        if self.args.should_save:
            clear(root)
        self.accelerator.wait_for_everyone()
        needed = checkpoint_bytes(self.model, self.args, averages=False)
        with staged_save(root, target.name, cleans_up=self.args.should_save, needed=needed):
            self._is_staging = True
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._is_staging = False
            self._locate_best(root)
            if self.args.should_save:
                self._save_run_state(staging_folder(root) / target.name)
            self.accelerator.wait_for_everyone()  # until every process has written its random state
            if self.args.should_save:
                best = self.state.best_model_checkpoint
                keep = None if best is None else Path(best)
                limit = None if self._is_extra else self.args.save_total_limit
                commit(root, self.state.global_step, processes=self.args.world_size, limit=limit, keep=keep)
        self._sealed = target
        if self.is_world_process_zero() and self._refuge is None and not self._is_extra:
            self._push_sealed(target)
        self.accelerator.wait_for_everyone()

    def _locate_best(self, root: Path) -> None:
        """Set the final path of the best checkpoint; the Trainer sets its path in the hidden folder."""
        if not self.state.best_global_step:
            return
        best = checkpoint_folder(root, self.state.best_global_step)
        if best.exists() or self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(best)

    def _save_run_state(self, folder: Path) -> None:
        """Write effort, options and parts, and rewrite the Trainer's state with the path of `_locate_best`."""
        self.state.save_to_json(str(folder / STATE_FILE))
        if self.seconds_before is not None:
            seconds = self.seconds_before + time.monotonic() - self._started_at
            write_json(folder / EFFORT_FILE, {"seconds": seconds, "clips": self.clips_trained})
        if self.decided is not None:
            save_options(folder, self.decided, self.changes)
        self.save_parts(folder)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write `self.card` as README.md, or nothing before the run is evaluated."""
        if self.card is not None and self.is_world_process_zero():
            write_text(Path(self.args.output_dir) / "README.md", str(self.card))

    # ---------------------------------------------------------------- publishing

    def _hub_place(
        self, *, token: str | None = None, revision: str | None = None, private: bool | None = None
    ) -> HubPlace:
        """Return the repository of this run, `hub_model_id` or named after its folder; arguments go first."""
        args = self.args
        name = self.hub_model_id or args.hub_model_id or Path(args.output_dir).absolute().name
        private = args.hub_private_repo if private is None else private
        return HubPlace(name, revision or args.hub_revision, private, token or args.hub_token)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository before training, to warn early (W701) of problems with it."""
        if not self.is_world_process_zero():
            return
        place = self._hub_place(token=token, private=private)
        self.hub_model_id = place.repo_id
        try:
            self.hub_model_id = place.create().repo_id
        except AstHfError as problem:
            what = (
                f"cannot be published yet; training continues, and its result stays in the folder. {problem}"
            )
            warnings.warn(
                warning_text("W701", where=repr(place.repo_id), what=what), AstHfWarning, stacklevel=2
            )

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Pushed | None:
        """Save the model unless `finish` has, and publish its folder (`hub.publishing.push_folder`).

        All processes of a distributed run must call it.

        Args:
            commit_message: first line of the commit.
            blocking: must be True: a push in the background would end with the process.
            token: as for `push_folder`, instead of `hub_token`.
            revision: as for `push_folder`, instead of `hub_revision`.
            private: as for `push_folder`, instead of `hub_private_repo`.
            **kwargs: none are allowed.

        Returns:
            The result of the push; None on all but the main process, and if it failed. A failure is a warning
            (W701) with the command that completes the push, which is also in `unpublished`.

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
        place = self._hub_place(token=token, revision=revision, private=private)
        return self._publish_folder(place, commit_message or "End of training")

    def _publish_folder(self, place: HubPlace, message: str) -> Pushed | None:
        folder = self.args.output_dir
        name = place.repo_id
        options: dict[str, Any] = {"private": place.private, "revision": place.revision}
        try:
            if "/" not in name:
                name = place._replace(revision=None).create(PUBLISHING).repo_id
            pushed = push_folder(folder, name, commit_message=message, token=place.token, **options)
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
        """Do nothing: `_save_checkpoint` pushes the sealed checkpoint, and without the Hub token."""

    def _push_sealed(self, checkpoint: Path) -> None:
        if not self.args.push_to_hub or self.args.hub_strategy == HubStrategy.END:
            return
        if self._checkpoint_pushes is None:
            self._checkpoint_pushes = CheckpointPushes(
                self._hub_place(), self.args.hub_strategy.value, every=self.args.hub_always_push
            )
        self._checkpoint_pushes.push(checkpoint)

    def _finish_current_push(self) -> None:
        if self._checkpoint_pushes is not None:
            self._checkpoint_pushes.finish()


def _remove_checkpoint(checkpoint: Path) -> None:
    """Remove a checkpoint that is not needed any more; of one in a temporary folder the link and the folder."""
    refuge = checkpoint.resolve().parent
    try:
        remove(checkpoint)
    except OSError:  # a full disk has no room for the staging folder
        shutil.rmtree(checkpoint, ignore_errors=True)
    if refuge.name.startswith(_REFUGE):
        shutil.rmtree(refuge, ignore_errors=True)


def _is_of_a_log(problem: BaseException) -> bool:
    """Return True for an OSError that a callback raised: TensorBoard, codecarbon or another tracker."""
    return isinstance(problem, OSError) and passes_through(problem, "call_event")


def passes_through(problem: BaseException, function: str) -> bool:
    """Return True if an exception was raised in a function of that name, or in one that it called."""
    return any(frame.f_code.co_name == function for frame, _ in traceback.walk_tb(problem.__traceback__))


def _read_effort(checkpoint: Path) -> tuple[float | None, int]:
    """Return the seconds and clips of a run until a checkpoint; plain transformers stores neither."""
    file = checkpoint / EFFORT_FILE
    if not file.is_file():
        return None, 0
    effort = json.loads(file.read_text(encoding="utf-8"))
    return float(effort["seconds"]), int(effort["clips"])
