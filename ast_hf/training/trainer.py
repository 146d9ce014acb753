"""transformers' Trainer with what AST training needs: keyed sampling, weight averaging, no step on a broken loss, and
checkpoints that are whole or not there.
"""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from ..errors import AstHfError, error
from ..losses import classification_loss
from ..modeling_ast import ASTForAudioClassification, ASTPreTrainedModel
from .adapters import ADAPTER_FOLDER, ADAPTER_WEIGHTS, Adapter
from .averaging import AVERAGE_FILE, WeightAverage
from .inputs import ClipInputs, EpochSampler, collate
from .optimization import Optimization, milestone_schedule, original_adam, parameter_groups
from .recipe import PatchoutOptions
from .sampling import sampler_for
from .sealing import STATE_FILE, checkpoint_folder, clear, publish, resume_folder, staging_folder, writing

#: Parameters that weight decay leaves alone beside biases and LayerNorms: they are no weights of a product.
_NO_DECAY = ("cls_token", "distillation_token", "position_embeddings")

#: In a training checkpoint, beside the weights.
FACTORS_FILE = "position_factors.safetensors"


class ASTTrainer(Trainer):
    """Trainer for `ClipInputs`.

    Args:
        average: the weight average that evaluation and the final model use; None for none.
        optimization: optimizer and learning rates beyond `TrainingArguments`.
        sampling: `"shuffled"` or `"balanced"`, see `sampling`.
        patchout: what training steps leave out, and over how many epochs it grows.
        adapter: the adapter that is in the model. Saved folders hold the plain model with the adapter added to its
            weights, and the adapter alone in `adapter/`.
        **kwargs: as for transformers' `Trainer`.

    Raises:
        AstConfigError: E307 for FSDP with what needs whole weights in one process: an average, factored positions, an
            adapter.
        AstRunError: E501 when a loss is not finite, at that step, naming the clips, before anything is saved; E401 when
            a checkpoint cannot be written.

    A checkpoint is written into a hidden folder, sealed by a manifest and renamed (see `sealing`). Of several processes
    each writes its own part; the main one seals, renames and removes old ones while the others wait.
    """

    def __init__(
        self,
        *,
        average: WeightAverage | None = None,
        optimization: Optimization | None = None,
        sampling: str = "shuffled",
        patchout: PatchoutOptions | None = None,
        adapter: Adapter | None = None,
        **kwargs: Any,
    ) -> None:
        self.average, self.sampling, self.adapter = average, sampling, adapter
        self.optimization = optimization or Optimization()
        self.card: Any = None
        self._staged = False
        super().__init__(data_collator=collate, **kwargs)
        self._check_sharding()
        self.remove_callback(ProgressCallback)
        self._epochs = TellEpoch()
        self.add_callback(self._epochs)
        if not self.args.disable_tqdm:
            self.add_callback(LossProgress)
        if self.average is not None:
            self.add_callback(AverageWeights(self.average))
        if patchout is not None and patchout.full():
            self.add_callback(GrowPatchout(patchout, self.model))

    def _check_sharding(self) -> None:
        whole = {
            "averaging_decay, averaging_epochs": self.average is not None,
            "model.factored_positions": bool(self._factors),
            "adapter.rank": self.adapter is not None,
        }
        for option, wanted in whole.items():
            if wanted and self.is_fsdp_enabled:
                what = "needs whole weights, and FSDP spreads them over the processes"
                raise error("E307", where=option, what=what, fix="leave it out, or train with DDP")

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train, from the start or from a checkpoint on.

        Args:
            resume_from_checkpoint: True for the newest checkpoint that verifies; `"auto"` for the same, or a fresh
                start where there is none; or a checkpoint folder.
            *args: as for transformers' `Trainer`.
            **kwargs: the same.

        Raises:
            AstConfigError: E306 when there is no whole checkpoint to go on from.
        """
        return super().train(self._agreed(resume_from_checkpoint), *args, **kwargs)

    def _agreed(self, wanted: str | bool | None) -> str | None:
        """The main process looks, since one alone may tidy the folder up, and all have to go on from the same step."""
        answer: list[Any] = [None, None]
        if self.is_world_process_zero():
            try:
                answer[0] = resume_folder(wanted, Path(self.args.output_dir), self.args.world_size)
            except AstHfError as problem:
                answer[1] = problem
        broadcast_object_list(answer)
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if isinstance(dataset, ClipInputs):
            self._epochs.sampler = sampler_for(self.sampling, dataset, self.args.seed)
            return self._epochs.sampler
        return super()._get_train_sampler(train_dataset)

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
        rows = inputs.pop("row", None)
        result = super().compute_loss(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if model.training and not torch.isfinite(loss):
            what = f"loss is {float(loss.detach())} on {self._names(rows)}"
            fix = "listen to those clips; lower the learning rate or train in float32 if they are sound"
            raise error("E501", where=f"step {self.state.global_step + 1}", what=what, fix=fix)
        return result

    def _names(self, rows: torch.Tensor | None) -> str:
        """The clips of a batch by row number, and the first ones by file."""
        if rows is None or not isinstance(self.train_dataset, ClipInputs):
            return "the clips of this batch"
        files = [Path(self.train_dataset.split[row]["audio"]["path"] or "embedded").name for row in rows.tolist()[:3]]
        return f"the clips {rows.tolist()} ({', '.join(files)}{', ...' if len(rows) > 3 else ''})"

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """Evaluate the averaged weights, when there are any. Every clip counts once, in the loss too."""
        average = self.average
        with average.applied(self.model) if average is not None and average.steps else nullcontext():
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        whole = output.predictions is not None and output.label_ids is not None
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
        text = json.dumps(shown, indent=2, sort_keys=True, default=str)
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

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing: transformers would upload its pickled arguments, which hold the Hub token. The end is pushed."""

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


def _refuse_adapter(folder: Path) -> None:
    if (folder / ADAPTER_FOLDER).exists():
        what = "was trained with an adapter, and the recipe has none"
        raise error("E306", where=repr(str(folder)), what=what, fix="resume with the recipe the run began with")


def _require(folder: Path, name: str, does: str) -> None:
    """Raise E306 unless a training checkpoint has a file that the recipe needs."""
    if not (folder / name).exists():
        what = f"has no {name}, but the recipe {does}"
        raise error("E306", where=repr(str(folder)), what=what, fix="resume with the recipe the run began with")


class TellEpoch(TrainerCallback):
    """Tells the sampler which epoch begins.

    accelerate does so through as many wrappers as it knows of. It knows of one less than there are when a run of
    several processes is resumed in the middle of an epoch (1.15: `DataLoaderShard.set_epoch`), and of none of those of
    several processes before 1.8: the first epoch's order would come again.
    """

    sampler: EpochSampler | None = None

    def on_epoch_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Count whole epochs; the sum of fractions may be a hair below one."""
        if self.sampler is not None:
            self.sampler.set_epoch(math.floor(state.epoch + 1e-9))


class AverageWeights(TrainerCallback):
    """Feeds the average after each step and each epoch, and leaves the averaged weights in the model at the end."""

    def __init__(self, average: WeightAverage) -> None:
        self.average = average

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Take the step's weights in."""
        self.average.after_step(model)

    def on_epoch_end(self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Take the epoch's weights in, for averages over epochs."""
        self.average.after_epoch(model, round(state.epoch))

    def on_train_end(self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """What is evaluated and saved from now on is the average."""
        self.average.copy_to(model)


class GrowPatchout(TrainerCallback):
    """Sets how much patchout leaves out in each epoch."""

    def __init__(self, options: PatchoutOptions, model: nn.Module) -> None:
        self.options, self.model = options, model

    def on_epoch_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Grow evenly over the ramp, whole epochs at a time."""
        self.model.base_model.patchout = self.options.in_epoch(math.floor(state.epoch + 1e-9))


class LossProgress(ProgressCallback):
    """The Trainer's progress bar with loss and metric beside it, instead of a line of text for each."""

    _SHOWN = ("loss", "eval_loss", "eval_accuracy", "eval_mAP", "learning_rate")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Show the newest numbers."""
        if state.is_world_process_zero and self.training_bar is not None and logs:
            shown = {name: f"{float(logs[name]):.3g}" for name in self._SHOWN if name in logs}
            self.training_bar.set_postfix(shown)
