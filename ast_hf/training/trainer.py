"""transformers' Trainer with what AST training needs: keyed sampling, weight averaging, no step on a broken loss, and
checkpoints that are whole or not there.
"""

from __future__ import annotations

import json
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_callback import ProgressCallback, TrainerState
from transformers.trainer_utils import HubStrategy

from ..adapters.lora import ADAPTER_FOLDER, Adapter
from ..errors import AstHfError, AstHfWarning, error, refuse, warning_text
from ..feature_extraction_ast import ASTFeatureExtractor
from ..files import write_json
from ..hub.publishing import ADAPTER_WEIGHTS, Pushed, finishing_command, open_repository, push_folder
from ..inputs.clips import ClipInputs, Collator, collate
from ..inputs.sampling import sampler_for
from ..inputs.streams import Passes, StreamedClipInputs
from ..inputs.waveform_transforms import without_folders
from ..losses import classification_loss
from ..modeling_ast import ASTForAudioClassification, ASTPreTrainedModel
from ..recipe.optimization import Optimization
from ..recipe.options import PatchoutOptions, groups_by_length
from ..reports.emissions import EMISSIONS_FILE
from ..reports.epoch_metrics import WATCHED_PREFIX
from .averaging import AVERAGE_FILE, WeightAverage
from .callbacks import AfterEachEpoch, AverageWeights, FindBest, GrowPatchout, TellEpoch
from .checkpoints.continuity import check_same_run, keep_run
from .checkpoints.hub import CheckpointPushes, HubPlace, download_checkpoint
from .checkpoints.resuming import resume_folder
from .checkpoints.sealing import STATE_FILE, checkpoint_folder, clear, publish, staging_folder, writing
from .distillation import Distillation
from .optimization import milestone_schedule, original_adam, parameter_groups
from .progress import LossProgress

#: Parameters that weight decay leaves alone beside biases and LayerNorms: they are no weights of a product.
_NO_DECAY = ("cls_token", "distillation_token", "position_embeddings")

#: What `predict` measures beside the metrics.
_SPEEDS = ("_runtime", "_per_second", "_preparation_time")

#: In a training checkpoint, beside the weights.
FACTORS_FILE = "position_factors.safetensors"
#: The same: seconds and clips that the run has taken until then.
EFFORT_FILE = "effort.json"


#: `TrainingArguments.dataloader_...` that a loader of a stream takes. Workers that live on are refused (see `recipe`);
#: the last clips are not dropped, since they are in a batch with the next pass's first ones.
_LOADER_OPTIONS = ("num_workers", "pin_memory", "prefetch_factor", "multiprocessing_context", "in_order")


class ASTTrainer(Trainer):
    """Trainer for `ClipInputs`, and for `StreamedClipInputs`, with which `TrainingArguments.max_steps` is needed.

    A stream to train on is read by each process for itself, pass after pass; its `rank` and `world_size` are those of
    the process. One to evaluate on is read by the main process, which deals out the batches: `rank=0, world_size=1`.

    Args:
        average: the weight average that evaluation and the final model use; None for none.
        optimization: optimizer and learning rates beyond `TrainingArguments`.
        sampling: `"shuffled"` or `"balanced"`, see `sampling`.
        patchout: what training steps leave out, and over how many epochs it grows.
        adapter: the adapter that is in the model. Saved folders hold the plain model with the adapter added to its
            weights, and the adapter alone in `adapter/`.
        watched: clips to evaluate after each epoch too. What they say is logged as `test_...` and steers nothing: the
            best checkpoint and whatever else callbacks do goes by `eval_dataset` alone.
        distillation: the teacher; training clips need its view (`ClipInputs`). It is never trained nor saved.
        decided: what `continuity.deciding` tells of the run. Checkpoints keep it; going on from one of a run with other
            options is refused (E306), unless it was named (W406).
        overwrite: a fresh start may write over a finished model, or a README.md, in the output folder.
        **kwargs: as for transformers' `Trainer`.

    Attributes:
        changes: with which other options the run went on, in words; none for one that was not resumed so.
        clips_trained: clips that all processes together have trained on, before a resumption too.
        seconds_before: what a run had taken when it wrote the checkpoint that it was resumed from; None where the
            checkpoint does not tell.
        finished: whether `finish` has saved the weights, before an evaluation in half precision changes them.
        unpublished: the command that finishes the push at the end, when that failed.

    Raises:
        AstInputError: E108 for a stream that would be dealt out twice, or not at all.
        AstConfigError: E307 for FSDP and ZeRO-3 with what needs whole weights in one process: an average, factored
            positions, an adapter.
        AstRunError: E501 when a loss is not finite, at that step, naming the clips, before anything is saved; E401 when
            a checkpoint cannot be written.

    A checkpoint is written into a hidden folder, sealed by a manifest and renamed (see `sealing`). Of several processes
    each writes its own part; the main one seals, renames and removes old ones while the others wait.

    Evaluating changes nothing about training: the weights are those of a run that does not evaluate.

    With `push_to_hub`, sealed checkpoints are sent as `hub_strategy` says, in the background; nothing that the Hub does
    stops training.
    """

    def __init__(
        self,
        *,
        average: WeightAverage | None = None,
        optimization: Optimization | None = None,
        sampling: str = "shuffled",
        patchout: PatchoutOptions | None = None,
        adapter: Adapter | None = None,
        watched: ClipInputs | None = None,
        distillation: Distillation | None = None,
        decided: dict[str, Any] | None = None,
        overwrite: bool = False,
        **kwargs: Any,
    ) -> None:
        self.average, self.sampling, self.adapter, self.watched = average, sampling, adapter, watched
        self.optimization = optimization or Optimization()
        self.decided, self.overwrite = decided, overwrite
        self.changes: list[str] = []
        self.card: Any = None
        self.unpublished: str | None = None
        self._pushes: CheckpointPushes | None = None
        self._staged = False
        self._trained_batches = self.clips_trained = 0
        self.seconds_before: float | None = 0.0
        self.finished, self._began = False, time.monotonic()
        self._sizes: list[int] = []
        _use_one_gpu(kwargs.get("args"))
        super().__init__(data_collator=collate, **kwargs)
        self.model_accepts_loss_kwargs = False  # `_share` weighs the batches of a step, by clips
        if isinstance(self.processing_class, ASTFeatureExtractor):
            self.data_collator = Collator(self.processing_class, self.model.config.patch_size)
        self._check_sharding()
        self.distillation = None if distillation is None else distillation.to(self.args.device)
        self._check_place("train_dataset", self.train_dataset, self.args.process_index, self.args.world_size)
        self._check_place("eval_dataset", self.eval_dataset, 0, 1)
        self.remove_callback(ProgressCallback)
        self._epochs = TellEpoch()
        self.add_callback(self._epochs)
        self.add_callback(FindBest)
        if not self.args.disable_tqdm:
            self.add_callback(LossProgress)
        if self.average is not None:
            self.add_callback(AverageWeights(self.average))
        if patchout is not None and patchout.full():
            self.add_callback(GrowPatchout(patchout, self.model))
        if watched is not None:
            self.add_callback(AfterEachEpoch(self._watch))

    def _check_sharding(self) -> None:
        whole = {
            "averaging_decay, averaging_epochs": self.average is not None,
            "model.factored_positions": bool(self._factors),
            "adapter.rank": self.adapter is not None,
        }
        spreads = {"FSDP": self.is_fsdp_enabled, "DeepSpeed's ZeRO-3": is_deepspeed_zero3_enabled()}
        for name in (name for name, spread in spreads.items() if spread):
            what, fix = f"needs whole weights, and {name} spreads them", "leave it out, or train with DDP"
            refuse("E307", {(option, what, fix): wanted for option, wanted in whole.items()})

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train, from the start or from a checkpoint on.

        Args:
            resume_from_checkpoint: True for the newest checkpoint that verifies; `"auto"` for the same, or a fresh
                start where there is none; `"hub"` for the newest that a run sent to the Hub; or a checkpoint folder.
            *args: as for transformers' `Trainer`.
            **kwargs: the same.

        Raises:
            AstConfigError: E306 when there is no whole checkpoint to go on from, when it is of a run with other options
                and was not named, and for a fresh start in a folder that holds a model.
            AstRunError: E701 and E704 when one cannot be downloaded.
        """
        folder = self._agreed(resume_from_checkpoint)
        self.finished, self._began = False, time.monotonic()
        self.seconds_before, self.clips_trained = (0.0, 0) if folder is None else _effort(Path(folder))
        if folder is not None and self.decided is not None:
            named = resume_from_checkpoint not in (True, "auto", "hub")
            self.changes = check_same_run(Path(folder), self.decided, named=named)
        if folder is None and self.is_world_process_zero():  # of an earlier run, whose energy is not this one's
            (Path(self.args.output_dir) / EMISSIONS_FILE).unlink(missing_ok=True)
        self._trained_batches = 0 if folder is None or self.args.ignore_data_skip else self._batches_before(folder)
        return super().train(folder, *args, **kwargs)

    def _batches_before(self, folder: str) -> int:
        """Batches of each process that a checkpoint has seen."""
        state = Path(folder) / STATE_FILE
        steps = TrainerState.load_from_json(str(state)).global_step if state.exists() else 0
        return steps * self.args.gradient_accumulation_steps

    def _agreed(self, wanted: str | bool | None) -> str | None:
        """The main process looks, since one alone may tidy the folder up, and all have to go on from the same step."""
        answer: list[Any] = [None, None]
        if self.is_world_process_zero():
            try:
                if wanted == "hub":
                    wanted = str(self._downloaded())
                answer[0] = resume_folder(
                    wanted, Path(self.args.output_dir), self.args.world_size, overwrite=self.overwrite
                )
            except AstHfError as problem:
                answer[1] = problem
        broadcast_object_list(answer)
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        """Batches to train on. Those of a stream have no end, and each process reads its own: accelerate would let the
        main process read and send them.
        """
        if not isinstance(self.train_dataset, StreamedClipInputs):
            return super().get_train_dataloader()
        passes = Passes(self.train_dataset, self._train_batch_size, self._trained_batches)
        options = {name: getattr(self.args, f"dataloader_{name}", None) for name in _LOADER_OPTIONS}
        given = {name: value for name, value in options.items() if value is not None}
        loader: Any = torch.utils.data.DataLoader(
            passes, self._train_batch_size, collate_fn=self.data_collator, **given
        )
        device = self.accelerator.device
        return prepare_data_loader(loader, device, 1, 0, put_on_device=True, dispatch_batches=False)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> torch.utils.data.DataLoader:
        """As the Trainer's; raises E108 for a stream that has been dealt out already."""
        self._check_place("eval_dataset", eval_dataset, 0, 1)
        return super().get_eval_dataloader(eval_dataset)

    def _check_place(self, where: str, inputs: Any, rank: int, world_size: int) -> None:
        if isinstance(inputs, StreamedClipInputs) and (inputs.rank, inputs.world_size) != (rank, world_size):
            what = f"is the part of reader {inputs.rank} of {inputs.world_size}"
            raise error("E108", where=where, what=what, fix=f"make it with rank={rank}, world_size={world_size}")

    def _downloaded(self) -> Path:
        return download_checkpoint(
            Path(self.args.output_dir), self._place(), with_best=self.args.load_best_model_at_end
        )

    def _place(self) -> HubPlace:
        """Where this run publishes: what it was told, or its folder's name."""
        args = self.args
        name = self.hub_model_id or args.hub_model_id or Path(args.output_dir).absolute().name
        return HubPlace(name, args.hub_revision, args.hub_private_repo, args.hub_token)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if isinstance(dataset, ClipInputs):
            grouped = groups_by_length(self.args.to_dict())
            if grouped and not dataset.extractor.return_attention_mask:
                what = "groups clips by length, and all are padded to the same"
                fix = "set return_attention_mask on their feature extractor"
                raise error("E307", where="train_sampling_strategy", what=what, fix=fix)
            step = self.get_total_train_batch_size(self.args) if grouped else None
            self._epochs.sampler = sampler_for(self.sampling, dataset, self.args.seed, step)
            return self._epochs.sampler
        return super()._get_train_sampler(train_dataset)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """Clips in their order, however those to train on are grouped."""
        if isinstance(eval_dataset, ClipInputs):
            return torch.utils.data.SequentialSampler(eval_dataset)
        return super()._get_eval_sampler(eval_dataset)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """All weights of products; not biases, LayerNorms, special tokens and positions."""
        names = super().get_decay_parameter_names(model)
        return [name for name in names if not any(part in name for part in _NO_DECAY)]

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The optimizer of `optimization`, or the one that `TrainingArguments` ask for."""
        if self.optimizer is None:
            self.optimizer: torch.optim.Optimizer | None = self._own_optimizer()
        return super().create_optimizer(*args, **kwargs)

    def _own_optimizer(self) -> torch.optim.Optimizer | None:
        options, args = self.optimization, self.args
        if options.optimizer == "adam":
            betas = (args.adam_beta1, args.adam_beta2)
            return original_adam(self.model, args.learning_rate, betas, args.weight_decay)
        if options.layer_decay == 1.0:
            return None
        kind, settings = self.get_optimizer_cls_and_kwargs(args, self.model)
        decayed = self.get_decay_parameter_names(self.model)
        groups = parameter_groups(self.model, decayed, args.learning_rate, args.weight_decay, options.layer_decay)
        return kind(groups, **settings)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of `optimization.milestones`, or the one that `TrainingArguments` ask for."""
        if self.optimization.milestones and self.lr_scheduler is None:
            per_epoch = round(num_training_steps / self.args.num_train_epochs)
            warmup = self.args.get_warmup_steps(num_training_steps)
            chosen = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler: Any = milestone_schedule(chosen, self.optimization, per_epoch, warmup)
        return super().create_scheduler(num_training_steps, optimizer)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The model's loss; stops the run when it is not finite, since every later step and save would be spoilt."""
        rows, heard = inputs.pop("row", None), inputs.pop("teacher", None)
        if heard is None:
            result = super().compute_loss(model, inputs, *args, **kwargs)
        else:
            result = self._taught_loss(model, inputs, heard, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if model.training and rows is not None:
            self.clips_trained += len(rows) * self.args.world_size
            loss = loss * self._share(len(rows))
            result = (loss, *result[1:]) if isinstance(result, tuple) else loss
        if model.training and not torch.isfinite(loss):
            what = f"loss is {float(loss.detach())} on {self._names(rows)}"
            fix = "listen to those clips; lower the learning rate or train in float32 if they are sound"
            raise error("E501", where=f"step {self.state.global_step + 1}", what=what, fix=fix)
        return result

    def _taught_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        heard: list[dict[str, torch.Tensor]],
        return_outputs: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The labels' loss and the teacher's, whose model runs in the precision of the run."""
        assert self.distillation is not None, "clips come with a teacher's view, but there is no teacher"
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        with self.accelerator.autocast():
            loss = self.distillation.loss(loss, outputs.logits, heard)
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The batches of a step, as the Trainer's, and how many clips each has."""
        batches, items = super().get_batch_samples(*args, **kwargs)
        self._sizes = [len(batch["row"]) for batch in batches if "row" in batch]
        return batches, items

    def _share(self, clips: int) -> float:
        """What makes the loss of a step the mean over its clips: the Trainer takes the mean of its batches, and the
        last one of an epoch may be smaller.
        """
        return clips * len(self._sizes) / sum(self._sizes) if self._sizes else 1.0

    def _names(self, rows: torch.Tensor | None) -> str:
        """The clips of a batch by row number, from 1, and the first ones by file; a stream cannot be asked for these
        again.
        """
        if rows is None:
            return "the clips of this batch"
        told = [row + 1 for row in rows.tolist()]
        if not isinstance(self.train_dataset, ClipInputs):
            return f"the clips {told}"
        files = [Path(self.train_dataset.split[row]["audio"]["path"] or "embedded").name for row in rows.tolist()[:3]]
        return f"the clips {told} ({', '.join(files)}{', ...' if len(rows) > 3 else ''})"

    def _watch(self) -> None:
        """Evaluate `watched` and log what it says. `evaluate` would tell it to the callbacks that steer."""
        metrics, due = self.predict(self.watched, metric_key_prefix=WATCHED_PREFIX).metrics, self.control.should_log
        self.log({name: value for name, value in metrics.items() if not name.endswith(_SPEEDS)})
        self.control.should_log = due  # any log counts as that of the epoch's loss, which is still to come

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """Evaluate the averaged weights, when there are any. Every clip counts once, in the loss too. Loading clips
        draws from torch's random numbers, which are put back: dropout goes on as if there had been no evaluation.
        """
        average = self.average
        applied = average.applied(self.model) if average is not None and average.steps else nullcontext()
        with torch.random.fork_rng(devices=()), applied:
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        whole = output.predictions is not None and output.label_ids is not None
        if whole:
            output.metrics[f"{metric_key_prefix}_samples"] = len(output.predictions)
        if self.args.world_size > 1 and whole and isinstance(self.model, ASTForAudioClassification):
            output.metrics[f"{metric_key_prefix}_loss"] = self._loss_of(output.predictions, output.label_ids)
        return output

    def _loss_of(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """The loss of all clips. Several processes fill the last batch up with clips that come twice: transformers
        drops these from logits and labels, and cannot from the mean loss of that batch.
        """
        kind = self.model.loss_kind or self.model.config.problem_type
        return classification_loss(torch.from_numpy(logits), torch.from_numpy(labels), kind).item()

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write `self.card` as README.md; without one there is nothing measured yet, and no card is made up."""
        if self.card is not None and self.is_world_process_zero():
            self.card.save(Path(self.args.output_dir) / "README.md")

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the model; the arguments as JSON, since the pickle that transformers writes holds the Hub token."""
        if self.adapter is not None:
            state_dict = self.adapter.plain_state()
        self._check_finite(state_dict)
        super()._save(output_dir, state_dict)
        if not self.args.should_save:  # every process comes here, since gathering weights takes all of them
            return
        folder = Path(output_dir or self.args.output_dir)
        (folder / "training_args.bin").unlink(missing_ok=True)
        shown = {name: value for name, value in self.args.to_dict().items() if not name.endswith(("_dir", "_token"))}
        text = json.dumps(without_folders(shown), indent=2, sort_keys=True, default=str)
        (folder / "training_args.json").write_text(text + "\n", encoding="utf-8")
        if self.adapter is not None:
            self.adapter.save(folder / ADAPTER_FOLDER, self.processing_class)

    def merge_adapter(self) -> None:
        """Make the model a plain one, when it has an adapter: the adapter is saved first, alone."""
        if self.adapter is not None:
            self._check_finite(None)
            if self.is_world_process_zero():
                self.adapter.save(Path(self.args.output_dir) / ADAPTER_FOLDER, self.processing_class)
            self.adapter.merge()
            self.adapter = None

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository, so that what is wrong with it shows at the start. Training does not need it."""
        if not self.is_world_process_zero():
            return
        place = self._place()
        place = place._replace(token=token or place.token, private=place.private if private is None else private)
        self.hub_model_id = place.repo_id
        try:
            repo_id, revision, private, token = place
            self.hub_model_id = open_repository(repo_id, private=private, revision=revision, token=token)
        except AstHfError as problem:
            what = f"cannot be published yet; training goes on, and the result stays in its folder. {problem}"
            warnings.warn(warning_text("W701", where=repr(place.repo_id), what=what), AstHfWarning, stacklevel=2)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Pushed | None:
        """Save the model, unless `finish` has, and publish its folder, see `sharing.push_folder`. All processes have
        to call it.

        Args:
            commit_message: first line of the commit.
            blocking: has to be True; a push in the background would end with the process.
            token: as for `push_folder`, instead of `hub_token`.
            revision: the same, instead of `hub_revision`.
            private: the same, instead of `hub_private_repo`.
            **kwargs: none.

        Returns:
            What was pushed; None in other processes than the first, and when it failed: that is told as W701, with the
            command that finishes it, which `unpublished` then is. The folder is complete whatever happened.

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
        return self._pushed(commit_message or "End of training", token, revision, private)

    def _pushed(self, message: str, token: str | None, revision: str | None, private: bool | None) -> Pushed | None:
        place, folder = self._place(), self.args.output_dir
        options: dict[str, Any] = {
            "private": place.private if private is None else private,
            "revision": revision or place.revision,
        }
        name = place.repo_id
        try:
            if "/" not in name:
                name = open_repository(name, private=options["private"], token=token or place.token)
            done = push_folder(folder, name, commit_message=message, token=token or place.token, **options)
            self.hub_model_id, self.unpublished = done.repo_id, None
            return done
        except AstHfError as problem:
            self.unpublished = finishing_command(folder, name if "/" in name else f"USER/{name}", **options)
            what = f"is complete, and not published. {problem}"
            if self.unpublished not in what:
                what += f" Then run `{self.unpublished}`"
            warnings.warn(warning_text("W701", where=repr(folder), what=what), AstHfWarning, stacklevel=3)
            return None

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing yet: what transformers would upload here is not sealed, and has the pickled arguments with the token.
        `_save_checkpoint` sends what is sealed.
        """

    def _push_sealed(self, checkpoint: Path) -> None:
        if not self.args.push_to_hub or self.args.hub_strategy == HubStrategy.END:
            return
        if self._pushes is None:
            strategy, every = self.args.hub_strategy.value, self.args.hub_always_push
            self._pushes = CheckpointPushes(self._place(), strategy, every=every)
        self._pushes.push(checkpoint)

    def _finish_current_push(self) -> None:
        if self._pushes is not None:
            self._pushes.finish()

    @property
    def _factors(self) -> dict[str, nn.Parameter]:
        """The factors of factored positions: weights files hold their sums, which do not give them back exactly."""
        factored = self.model.base_model.embeddings.factored if isinstance(self.model, ASTPreTrainedModel) else None
        return {} if factored is None else dict(factored.named_parameters())

    def _check_finite(self, state_dict: dict[str, torch.Tensor] | None) -> None:
        """A gradient can break the weights in the very last step, after a loss that was finite. Weights that were
        gathered from several processes for saving come as `state_dict`.
        """
        for name, parameter in (dict(self.model.named_parameters()) if state_dict is None else state_dict).items():
            if not torch.isfinite(parameter).all():
                what = f"{name} became NaN or infinite, nothing is saved"
                fix = "lower the learning rate, clip gradients (max_grad_norm), or train in float32"
                raise error("E501", where=f"step {self.state.global_step}", what=what, fix=fix)

    def _get_output_dir(self, trial: Any) -> str:
        """The folder of the checkpoints; while one is written, the hidden folder inside it."""
        folder = super()._get_output_dir(trial)
        return str(staging_folder(Path(folder))) if self._staged else folder

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint that counts only when it is whole; the older ones stay until then.

        Raises:
            AstRunError: E401 when a file cannot be written.
        """
        root = Path(self._get_output_dir(trial))
        target = checkpoint_folder(root, self.state.global_step)
        if self.args.should_save:
            clear(root)
        self.accelerator.wait_for_everyone()
        with writing(root, target.name, tidies=self.args.should_save):
            self._staged = True
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._staged = False
            self._note_best(root)
            if self.args.should_save:
                self._save_own_parts(staging_folder(root) / target.name)
            self.accelerator.wait_for_everyone()  # from here on every process has written its random state
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

    def _note_best(self, root: Path) -> None:
        """Name the best checkpoint by the place that it has, or will have; the Trainer looks where it writes."""
        if not self.state.best_global_step:
            return
        best = checkpoint_folder(root, self.state.best_global_step)
        if best.exists() or self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(best)

    def _save_own_parts(self, folder: Path) -> None:
        """What the Trainer does not know of, and its state again, with the names of `_note_best`."""
        self.state.save_to_json(str(folder / STATE_FILE))
        if self.seconds_before is not None:
            seconds = self.seconds_before + time.monotonic() - self._began
            write_json(folder / EFFORT_FILE, {"seconds": seconds, "clips": self.clips_trained})
        if self.decided is not None:
            keep_run(folder, self.decided, self.changes)
        if self.average is not None:
            self.average.save(folder)
        if self._factors:
            save_file({name: factor.detach() for name, factor in self._factors.items()}, folder / FACTORS_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        if self.adapter is None:
            _refuse_adapter(folder)
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._load_adapter(folder)
        if self._factors:
            _require(folder, FACTORS_FILE, "factors positions")
            stored = load_file(folder / FACTORS_FILE)
            for name, factor in self._factors.items():
                factor.data.copy_(stored[name])
        if self.average is None:
            return
        _require(folder, AVERAGE_FILE, "averages weights")
        self.average.load(folder, self.model)

    def _load_adapter(self, folder: Path) -> None:
        """The adapter alone: sums of it and the base do not give both back exactly, and the base is there."""
        _require(folder, f"{ADAPTER_FOLDER}/{ADAPTER_WEIGHTS}", "has an adapter")
        assert self.adapter is not None
        self.adapter.load(folder / ADAPTER_FOLDER)

    def _load_best_model(self) -> None:
        if self.adapter is None:
            super()._load_best_model()
        else:
            self._load_adapter(Path(self.state.best_model_checkpoint))


def _use_one_gpu(args: TrainingArguments | None) -> None:
    """One process trains on one GPU: transformers would spread its batches, as many times as large, over all that there
    are (`nn.DataParallel`), and the loss would be a vector.
    """
    if args is None or args.n_gpu <= 1:
        return
    what = f"of {args.n_gpu} GPUs this process uses one; to use all: torchrun --nproc_per_node {args.n_gpu} "
    what += "examples/finetune.py ..., or hide the others with CUDA_VISIBLE_DEVICES"
    warnings.warn(warning_text("W407", where="training", what=what), AstHfWarning, stacklevel=4)
    args._n_gpu = 1


def _refuse_adapter(folder: Path) -> None:
    if (folder / ADAPTER_FOLDER).exists():
        what = "was trained with an adapter, and the recipe has none"
        raise error("E306", where=repr(str(folder)), what=what, fix="resume with the recipe the run began with")


def _require(folder: Path, name: str, does: str) -> None:
    """Raise E306 unless a training checkpoint has a file that the recipe needs."""
    if not (folder / name).exists():
        what = f"has no {name}, but the recipe {does}"
        raise error("E306", where=repr(str(folder)), what=what, fix="resume with the recipe the run began with")


def _effort(checkpoint: Path) -> tuple[float | None, int]:
    """Seconds and clips of a run until it wrote a checkpoint; no seconds where another program wrote it."""
    file = checkpoint / EFFORT_FILE
    if not file.is_file():
        return None, 0
    found = json.loads(file.read_text(encoding="utf-8"))
    return float(found["seconds"]), int(found["clips"])
