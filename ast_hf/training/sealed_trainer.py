"""transformers' Trainer with checkpoints that are written atomically, resumed and pushed."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import nn
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import HubStrategy

from ..continuing import continuation
from ..errors import AstHfError, AstHfWarning, AstRunError, error, warning_text
from ..files import write_json, write_text
from ..hub.access import PUBLISHING
from ..hub.publishing import Pushed, finishing_command, push_folder
from ..metrics.loss_course import LossCourse
from ..recipe.options import WATCHDOG_SECONDS
from ..reports.emissions import EMISSIONS_FILE
from ..stopping import RunStopped, StopSignals, is_handling_signals, protect_worker, stop_signals
from ..writing_failures import cannot_write, explained, is_writing_failure
from .checkpoints.folder_lock import FolderLock, ensure_lock
from .checkpoints.hub import CheckpointPushes, HubPlace, download_checkpoint
from .checkpoints.resuming import resume_folder
from .checkpoints.run_options import check_options, save_options
from .checkpoints.sealing import (
    REFUGE,
    STATE_FILE,
    checkpoint_folder,
    checkpoints,
    clear,
    commit,
    find_corruption,
    remove_checkpoints,
    rotate,
    staged_save,
    staging_folder,
)
from .checkpoints.watched_files import WatchedFiles
from .disk_space import checkpoint_bytes
from .run_failures import is_of_a_log, lost_process
from .watchdog import Watchdog, can_watch

#: In a training checkpoint: seconds, clips and losses of the run so far, and the loss that is not logged yet.
EFFORT_FILE = "effort.json"
#: Beside the sealed files of a training checkpoint: a callback ended the training here, before its full length.
END_FILE = "end.json"
#: Seconds that a stopped run waits for the push of its checkpoint; Kubernetes kills after 30.
_PUSH_SECONDS = 15


class SealedTrainer(Trainer):
    """Trainer with sealed checkpoints (see `checkpoints.sealing`), and with pushes that cannot stop training.

    A checkpoint is written into a hidden folder, sealed by a manifest and renamed. In a distributed run each
    process writes its own part; the main one seals, renames and removes old ones while the others wait.
    With `push_to_hub`, sealed checkpoints are pushed by `hub_strategy`, in the background.

    One run at a time uses an output folder (`checkpoints.folder_lock`). SIGTERM, SIGHUP and SIGINT stop a run
    after the current step, with a sealed checkpoint of it (`stopping`). `enable_jit_checkpoint` has no further
    effect: its own handler would go on as if the training were complete.

    Args:
        decided: as for `ASTTrainer`.
        overwrite: as for `ASTTrainer`.
        watchdog_seconds: as for `ASTTrainer`.
        **kwargs: as for transformers' `Trainer`.

    Attributes:
        card: model card of the finished run, written as README.md; None before the run is evaluated.
        changes: the options that were changed while resuming, one sentence each.
        clips_trained: clips that all processes have trained on, before a resumption too.
        loss_course: the training loss so far, before a resumption too; in a distributed run, of this process's clips.
        was_resumed: the last training continued from a checkpoint; or it was asked to, found none, and may not replace
            a finished model by another.
        seconds_before: wall time of the run before it was resumed; None if its checkpoint does not store it.
        resumed_step: step of the checkpoint that the run was resumed from; None without one.
        finished: True once `finish` has saved the weights; evaluation in half precision may round them later.
        unpublished: the command that completes the final push, if that failed.
        newest_checkpoint: the last one that this run wrote or was resumed from; None before.
        folder_lock: lock of the output folder, of a run that is prepared and not finished; None otherwise.
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
        self.loss_course = LossCourse()
        self.was_resumed = False
        self.seconds_before: float | None = 0.0
        self.resumed_step: int | None = None
        self.finished = False
        self.unpublished: str | None = None
        self.folder_lock: FolderLock | None = None
        self.newest_checkpoint: Path | None = None
        self._started_at = time.monotonic()
        self._trained_batches = 0
        self._is_staging = False
        self._refuge: Path | None = None  # folder of the checkpoint that is written, if not the output folder
        self._checkpoint_pushes: CheckpointPushes | None = None
        self._watch = StopSignals()
        self._watched_files: WatchedFiles | None = None
        self._unlogged: dict[str, float] = {}
        self._saved_step = -1
        self._is_interim = False
        self._is_save_postponed = False
        self._has_ended = False
        arguments = kwargs.get("args")
        if arguments is not None and getattr(arguments, "enable_jit_checkpoint", False):
            arguments.enable_jit_checkpoint = False
        super().__init__(**kwargs)
        self._place = _PlaceInEpoch(self._begin_steps)
        self.add_callback(self._place)

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
            AstRunError: E701 and E704 if a checkpoint cannot be downloaded; E402 if another run uses the
                output folder.
            RunStopped: for SIGTERM, SIGHUP and SIGINT, once the current step is saved.
        """
        is_part = is_handling_signals()
        with stop_signals() as watch, FolderLock(self.args.output_dir):
            self._watch = watch
            watch.begin()
            try:
                result = self._train_locked(resume_from_checkpoint, *args, **kwargs)
                if not is_part and self._agree_on_signal():  # after the last step
                    self.seal_end()
            except BaseException:
                self.release_folder()
                raise
        return result

    def _train_locked(self, resume_from_checkpoint: str | bool | None, *args: Any, **kwargs: Any) -> Any:
        folder = self._resolve_checkpoint(resume_from_checkpoint)
        self.was_resumed = folder is not None or (bool(resume_from_checkpoint) and not self.overwrite)
        self.finished = False
        self._started_at = time.monotonic()
        self._trained_batches = 0
        self.seconds_before = 0.0
        self.resumed_step = None
        self.clips_trained = 0
        self.loss_course = LossCourse()
        self._unlogged = {}
        self._saved_step = -1
        self._has_ended = False
        self.reset_parts()
        if folder is not None:
            is_explicit = resume_from_checkpoint not in (True, "auto", "hub")
            self._continue_from(Path(folder), is_explicit=is_explicit)
        elif self.is_world_process_zero():  # emissions of an earlier run are not part of this one's
            emissions = Path(self.args.output_dir) / EMISSIONS_FILE
            with explained(emissions):
                emissions.unlink(missing_ok=True)
        self.newest_checkpoint = None if folder is None else Path(folder)
        self._start_watchdog()
        try:
            output = super().train(folder, *args, **kwargs)
        except Exception as problem:
            failure = self.explain_end(problem)
            if failure is None:
                raise
            raise failure from problem
        self._set_busy(False)
        return output

    def explain_end(self, problem: Exception) -> AstHfError | None:
        """Return the error to raise for an exception of another library that ends a run; None for a bug.

        These are a lost process (E403), and a log that cannot be written (E401). Logs are written between
        steps, so that a checkpoint of the last step is written first.
        """
        if isinstance(problem, AstHfError):
            return None
        if self.args.world_size > 1:
            failure = lost_process(problem, self.state.global_step + 1)
            if failure is not None:
                return failure
        if not (is_writing_failure(problem) or is_of_a_log(problem)):
            return None
        where = getattr(problem, "filename", None) or Path(self.args.output_dir) / "runs"
        failure = cannot_write(where, problem)
        kept = ""
        if is_of_a_log(problem) and self.state.global_step and self.args.world_size == 1:
            try:
                if self._saved_step != self.state.global_step:
                    self._save_interim(self.model_wrapped)
            except AstHfError as second:
                return second
            kept = f"checkpoint-{self.state.global_step} has all steps so far"
        return cannot_write(where, failure, kept=kept, then=continuation())

    def _start_watchdog(self) -> None:
        """Watch the other processes of the run, until this one ends."""
        if self.watchdog is None and self.watchdog_seconds and can_watch():
            limit = float(self.args.ddp_timeout)
            self.watchdog = Watchdog(min(self.watchdog_seconds, limit), limit, Path(self.args.output_dir))
            self.add_callback(self.watchdog)
            self.watchdog.start()
        self._set_busy(True)

    def _set_busy(self, is_busy: bool) -> None:
        """Set whether the other processes need this one, so that they end if it does."""
        if self.watchdog is not None:
            self.watchdog.is_busy = is_busy

    def _continue_from(self, checkpoint: Path, *, is_explicit: bool) -> None:
        """Compare the checkpoint's options with this run's, and read how much was trained."""
        self._watched_files = self._watched_files or WatchedFiles(
            checkpoint
        )  # the main process has verified it
        effort = _read_effort(checkpoint)
        self.seconds_before = effort.get("seconds")
        self.clips_trained = int(effort.get("clips", 0))
        self._unlogged = effort.get("unlogged", {})
        if "loss_course" in effort:
            self.loss_course = LossCourse.from_dict(effort["loss_course"])
        if self.decided is not None:
            self.changes = check_options(checkpoint, self.decided, is_explicit=is_explicit)
        self._has_ended = not self.changes and (checkpoint / END_FILE).exists()
        state = checkpoint / STATE_FILE
        if state.exists() and not self.args.ignore_data_skip:
            self.resumed_step = TrainerState.load_from_json(str(state)).global_step
            self._trained_batches = self.resumed_step * self.args.gradient_accumulation_steps
        self._check_watched()

    def _check_watched(self) -> None:
        """Raise E306 if a file of the checkpoint that is being loaded is gone or was replaced."""
        if self._watched_files is not None:
            self._watched_files.check()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._check_watched()
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._check_watched()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        self._check_watched()
        super()._load_optimizer_and_scheduler(checkpoint)
        self._check_watched()
        watched = self._watched_files
        if (
            watched is not None
            and watched.step
            and not self.is_deepspeed_enabled
            and _lacks_state(self.optimizer)
        ):
            raise watched.failure("its optimizer has no state")

    def _load_scaler(self, checkpoint: str | None) -> None:
        super()._load_scaler(checkpoint)
        self._check_watched()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        self._check_watched()
        super()._load_rng_state(checkpoint)
        self._check_watched()
        self._watched_files = None  # everything is loaded

    def _begin_steps(self) -> None:
        """Defer signals to the ends of steps, and continue from the step and the sum of losses of a checkpoint."""
        watched = self._watched_files
        step = self.state.global_step
        if watched is not None and watched.step not in (None, step):
            raise watched.failure(f"its state is of step {step}, not {watched.step}")
        if self._unlogged:
            self._tr_loss += self._unlogged["loss"]
            self._globalstep_last_logged = self._initial_global_step = int(self._unlogged["step"])
        self._place.is_epoch_over = False
        self._is_save_postponed = False
        self._saved_step = step if watched is not None else -1
        self._watch.is_deferring = True

    def _load_best_model(self) -> None:
        """Load the best checkpoint's model.

        Raises:
            AstConfigError: E306 if a file of it is missing or damaged; transformers would keep the last weights.
        """
        best = WatchedFiles(Path(self.state.best_model_checkpoint))
        reason = best.find_corruption()
        if reason is not None:
            raise best.failure(f"is the best checkpoint, and {reason}")
        self._load_best_from(best.folder)
        best.check()

    def _load_best_from(self, folder: Path) -> None:
        """Load the model of the best checkpoint, `folder`."""
        super()._load_best_model()

    def _resolve_checkpoint(self, request: str | bool | None) -> str | None:
        """Resolve the checkpoint on the main process and broadcast it.

        Only one process may clean up the folder, and all must resume from the same step.
        """
        outcome: list[Any] = [None, None]  # folder, error
        self._watched_files = None
        if self.is_world_process_zero():
            root = Path(self.args.output_dir)
            try:
                if request == "hub":
                    with_best = self.args.load_best_model_at_end
                    request = str(download_checkpoint(root, self._hub_place(), with_best=with_best))
                outcome[0] = self._find_intact(request, root)
            except AstHfError as problem:
                outcome[1] = problem
        broadcast_object_list(outcome)
        folder, failure = outcome
        if failure is not None:
            raise failure
        return folder

    def _find_intact(self, request: str | bool | None, root: Path) -> str | None:
        """Return the checkpoint to resume from, and verify the very files that are watched from here on.

        One that was changed since it was found is left for the next intact one, before anything is loaded.
        """
        reason = None
        for _ in range(3):
            folder = resume_folder(request, root, self.args.world_size, overwrite=self.overwrite)
            if folder is None:
                return None
            watched = WatchedFiles(Path(folder))
            reason = watched.find_corruption()
            if reason is None:
                self._watched_files = watched
                return folder
        raise watched.failure(reason or "")

    # ---------------------------------------------------------------- stopping

    def _get_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """Return a loader whose workers leave signals to this process."""
        loader = super()._get_dataloader(*args, **kwargs)
        for each in (loader, getattr(loader, "base_dataloader", loader)):
            each.worker_init_fn = partial(protect_worker, getattr(each, "worker_init_fn", None))
        return loader

    @property
    def is_over(self) -> bool:
        """True after the last step, and where a callback ended a run whose results were begun."""
        return self._has_ended or self.state.global_step >= self.state.max_steps

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Train an epoch; none of it if all steps are done. transformers would resume with one step more."""
        if self.is_over:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, model: nn.Module, *args: Any, **kwargs: Any
    ) -> None:
        """Log, evaluate and save what is due, then stop if a signal arrived.

        It is called after each step, and again after the last one of an epoch, once the average over epochs and
        the evaluation of the watched clips are made. A checkpoint of that step is written the second time only.
        """
        is_last = float(self.state.epoch or 0).is_integer() or self.state.global_step >= self.state.max_steps
        if self._place.is_epoch_over:
            self.control.should_save = self.control.should_save or self._is_save_postponed
            self._is_save_postponed = False
        elif is_last and self.control.should_save:
            self.control.should_save = False
            self._is_save_postponed = True
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, *args, **kwargs)
        is_ending = self.control.should_training_stop or self.control.should_epoch_stop
        if self._place.is_epoch_over or not (is_last or is_ending):
            self._stop_if_signalled(model)

    def _stop_if_signalled(self, model: nn.Module) -> None:
        """Save and raise `RunStopped` if a process of the run received a signal, unless the training ends anyway."""
        received = 0 if self.control.should_training_stop else self._agree_on_signal()
        if not received:
            return
        if self._saved_step != self.state.global_step:
            self._save_interim(model)
        if self._checkpoint_pushes is not None:
            self._checkpoint_pushes.finish(timeout=_PUSH_SECONDS)
        step = self.state.global_step
        raise RunStopped(
            received, f"after step {step} of {self.state.max_steps}; checkpoint-{step} is complete"
        )

    def _agree_on_signal(self) -> int:
        """Return the signal that any process received, or 0, so that all stop after the same step."""
        received = self._watch.received or 0
        if self.args.world_size > 1:
            numbers = torch.tensor([received], device=self.args.device)
            torch.distributed.all_reduce(numbers, torch.distributed.ReduceOp.MAX)
            received = int(numbers)
        return received

    def _save_interim(self, model: nn.Module) -> None:
        """Save a checkpoint that `save_strategy` did not ask for; `discard_interim` removes it."""
        self._is_interim = True
        try:
            self._save_checkpoint(model, None)
        finally:
            self._is_interim = False

    def shared(self, value: Any) -> Any:
        """Return the main process's value, on every process; all of them must call it."""
        values = [value]
        if self.args.world_size > 1:
            broadcast_object_list(values)
        return values[0]

    def seal_end(self, *, is_complete: bool = False) -> None:
        """Save a checkpoint of the last step if there is none, so that the run can be finished later.

        From then on, signals stop the run at once: the same command with `--resume auto` makes the results
        without training again. If the output folder has no room for it, it is in the temporary folder, and a
        single process continues without one: the model alone is smaller.

        Args:
            is_complete: the results are made now. A run that a callback ended before its full length does not
                train on from this checkpoint.

        Raises:
            RunStopped: if a signal arrived since the last step.
        """
        self._set_busy(True)
        self._has_ended = is_complete
        ensure_lock(self.args.output_dir)
        if self._saved_step != self.state.global_step and self.optimizer is not None:
            with suppress(AstHfError) if self.args.world_size == 1 else nullcontext():
                self._save_interim(self.model_wrapped)
        self._mark_end()
        self._watch.text = "after the last step, before the results were complete"
        received = self._agree_on_signal()
        if received:
            raise RunStopped(received, self._watch.text)
        self._watch.stop_now()

    def _mark_end(self) -> None:
        """Note in the checkpoint of the present step that a callback ended the training there."""
        checkpoint = self.end_checkpoint
        is_early = self._has_ended and self.state.global_step < self.state.max_steps
        if is_early and checkpoint is not None and self.is_world_process_zero():
            with suppress(AstHfError):  # no room: the run would train on
                write_json(checkpoint / END_FILE, {"step": self.state.global_step})

    @property
    def end_checkpoint(self) -> Path | None:
        """Checkpoint of the present step, which has everything trained so far; None if there is none."""
        return self.newest_checkpoint if self._saved_step == self.state.global_step else None

    def release_folder(self) -> None:
        """Release the lock that a prepared run holds, once all its files are written."""
        if self.folder_lock is not None:
            self.folder_lock.release()

    def discard_interim(self) -> None:
        """Remove the checkpoints that `save_strategy` did not ask for, once the results are complete."""
        self._set_busy(False)
        if not self.is_world_process_zero():
            return
        root = Path(self.args.output_dir)
        interim = _interim_checkpoints(root)
        places = [path.resolve().parent for path in (*interim, self.newest_checkpoint) if path is not None]
        try:
            remove_checkpoints(root, interim)
        except OSError:  # a full disk has no room for the staging folder
            for path in interim:
                shutil.rmtree(path, ignore_errors=True)
        self._rotate_last(root)
        for place in places:
            if place.name.startswith(REFUGE):
                shutil.rmtree(place, ignore_errors=True)

    # ---------------------------------------------------------------- saving

    def reset_parts(self) -> None:
        """Forget the state of a subclass, before a run from the start."""

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
        is_linked = find_corruption(link) is None
        self.newest_checkpoint = link if is_linked else checkpoint
        resumed = "auto" if is_linked else str(checkpoint)
        what = f"{problem.what}; this one was saved as {str(checkpoint)!r}"
        fix = f"{problem.fix.partition(', then ')[0]}, then {continuation(resumed)}"
        return error("E401", where=problem.where, what=what, fix=fix, detail=problem.detail)

    def _save_in_refuge(self, model: nn.Module, trial: Any) -> Path | None:
        """Save a checkpoint in a new temporary folder, and return it; None if that fails too."""
        try:
            self._refuge = Path(tempfile.mkdtemp(prefix=REFUGE))
            self._save_sealed(model, trial)
            return checkpoint_folder(self._refuge, self.state.global_step)
        except (OSError, AstRunError):
            if self._refuge is not None:
                shutil.rmtree(self._refuge, ignore_errors=True)
            return None
        finally:
            self._refuge = None

    def _save_sealed(self, model: nn.Module, trial: Any) -> None:
        root = Path(self._get_output_dir(trial))
        target = checkpoint_folder(root, self.state.global_step)
        unlogged = self._unlogged_loss()
        if self.args.should_save:
            ensure_lock(root)
            clear(root)
        self.accelerator.wait_for_everyone()
        needed = checkpoint_bytes(self.model, self.args, copies=0)
        with staged_save(root, target.name, cleans_up=self.args.should_save, needed=needed):
            self._is_staging = True
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._is_staging = False
            self._locate_best(root)
            if self.args.should_save:
                self._save_run_state(staging_folder(root) / target.name, unlogged)
            self.accelerator.wait_for_everyone()  # until every process has written its random state
            if self.args.should_save:
                best = self.state.best_model_checkpoint
                commit(
                    root,
                    self.state.global_step,
                    processes=self.args.world_size,
                    limit=None if self._is_interim else self.args.save_total_limit,
                    keep=None if best is None else Path(best),
                    surplus=_interim_checkpoints(root),
                )
        self._saved_step = self.state.global_step
        self.newest_checkpoint = target
        if self.is_world_process_zero() and self._refuge is None:
            self._push_sealed(target)
        self.accelerator.wait_for_everyone()

    def _rotate_last(self, root: Path) -> None:
        """Remove surplus checkpoints that a kill between the last save and its rotation left."""
        best = self.state.best_model_checkpoint
        keep = None if best is None else Path(best)
        with suppress(OSError):
            rotate(root, checkpoint_folder(root, self.state.global_step), self.args.save_total_limit, keep)

    def _unlogged_loss(self) -> dict[str, float]:
        """Return the sum of losses since the last log, and its step; a resumed run logs the mean of all."""
        total = self._tr_loss.detach().clone().float()
        if self.args.world_size > 1:
            torch.distributed.all_reduce(total)
            total /= self.args.world_size
        return {"loss": float(total), "step": self._globalstep_last_logged}

    def _locate_best(self, root: Path) -> None:
        """Set the final path of the best checkpoint; the Trainer sets its path in the hidden folder."""
        if not self.state.best_global_step:
            return
        best = checkpoint_folder(root, self.state.best_global_step)
        if best.exists() or self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(best)

    def _save_run_state(self, folder: Path, unlogged: dict[str, float]) -> None:
        """Write effort, options and parts, and rewrite the Trainer's state with the path of `_locate_best`."""
        self.state.save_to_json(str(folder / STATE_FILE))
        effort: dict[str, Any] = {
            "clips": self.clips_trained,
            "unlogged": unlogged,
            "interim": self._is_interim,
            "loss_course": self.loss_course.to_dict(),
        }
        if self.seconds_before is not None:
            effort["seconds"] = self.seconds_before + time.monotonic() - self._started_at
        write_json(folder / EFFORT_FILE, effort)
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
        try:
            return self._publish_folder(place, commit_message or "End of training")
        finally:
            self.release_folder()

    def publishing_command(self) -> str:
        """Return the command line that publishes the finished folder."""
        return _push_command(self.args.output_dir, self._hub_place())

    def _publish_folder(self, place: HubPlace, message: str) -> Pushed | None:
        folder = self.args.output_dir
        name = place.repo_id
        options: dict[str, Any] = {"private": place.private, "revision": place.revision}
        try:
            if "/" not in name:
                name = place._replace(revision=None).create(PUBLISHING).repo_id
            pushed = push_folder(folder, name, commit_message=message, token=place.token, **options)
        except AstHfError as problem:
            self.unpublished = _push_command(folder, place._replace(repo_id=name))
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
        if self._is_interim and self.is_over:  # of `seal_end`
            return
        if self._checkpoint_pushes is None:
            self._checkpoint_pushes = CheckpointPushes(
                self._hub_place(), self.args.hub_strategy.value, every=self.args.hub_always_push
            )
        self._checkpoint_pushes.push(checkpoint)

    def _finish_current_push(self) -> None:
        """Wait for the push in the background; after a signal only for a while."""
        if self._checkpoint_pushes is None:
            return
        while not self._checkpoint_pushes.finish(timeout=1):
            if self._watch.received:
                self._checkpoint_pushes.finish(timeout=_PUSH_SECONDS)
                return


class _PlaceInEpoch(TrainerCallback):
    """Place of a run: `is_epoch_over` is True between the last step of an epoch and the next epoch."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self.begin = begin
        self.is_epoch_over = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin the steps."""
        self.begin()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin an epoch."""
        self.is_epoch_over = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End an epoch."""
        self.is_epoch_over = True


def _push_command(folder: str, place: HubPlace) -> str:
    name = place.repo_id if "/" in place.repo_id else f"USER/{place.repo_id}"
    return finishing_command(folder, name, private=place.private, revision=place.revision)


def _lacks_state(optimizer: Any) -> bool:
    """Return True for an optimizer without state; SGD without momentum never has any."""
    has_none_ever = isinstance(getattr(optimizer, "optimizer", optimizer), torch.optim.SGD) and not any(
        group["momentum"] for group in optimizer.param_groups
    )
    return not optimizer.state and not has_none_ever


def _interim_checkpoints(root: Path) -> list[Path]:
    """Return the checkpoints that `save_strategy` did not ask for."""
    return [path for path in checkpoints(root) if _read_effort(path).get("interim")]


def _read_effort(checkpoint: Path) -> dict[str, Any]:
    """Return what `_save_run_state` wrote; empty for a checkpoint of plain transformers."""
    file = checkpoint / EFFORT_FILE
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
