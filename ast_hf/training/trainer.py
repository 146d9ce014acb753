"""Trainer for AST: samplers, layer-wise learning rates, distillation, averages, checks of loss and weights."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_callback import ProgressCallback

from ..adapters.lora import ADAPTER_FOLDER, Adapter
from ..device_features import is_batched
from ..errors import AstHfError, AstHfWarning, did_you_mean, error, warning_text
from ..feature_extraction_ast import ASTFeatureExtractor
from ..inputs.clips import ClipInputs
from ..inputs.collation import BUCKET_FRAMES, Collator, collate
from ..inputs.sampling import sampler_for
from ..inputs.streams import Passes, StreamedClipInputs
from ..inputs.waveform_transforms import without_folders
from ..inputs.worker_rows import WorkerRows
from ..losses import classification_loss
from ..metrics.loss_course import LossCourse
from ..modeling_ast import ASTForAudioClassification, ASTPreTrainedModel
from ..recipe.optimization_options import Optimization
from ..recipe.options import PatchoutOptions
from ..recipe.rules import groups_by_length
from ..recipe.stopping_options import StoppingOptions
from ..reports.epoch_metrics import WATCHED_PREFIX
from ..stopping import protect_worker
from ..task import Task
from ..weights.reading import ADAPTER_WEIGHTS
from .averaging import AVERAGE_FILE, WeightAverage
from .best_weights import BEST_FILE, BestWeights
from .callbacks import (
    AfterEachEpoch,
    AverageWeights,
    EndWorkers,
    FindBest,
    GrowPatchout,
    KeepBest,
    SetSamplerEpoch,
)
from .compilation import CompileBlocks, take_compile_options
from .disk_space import CheckSpace
from .distillation import Distillation
from .late_losses import BatchLoss, LateLosses
from .loss_watch import WarnAtChance, is_at_chance, observe
from .optimization import milestone_schedule, original_adam, parameter_groups
from .progress import LossProgress
from .run_failures import lost_worker
from .sealed_trainer import SealedTrainer

#: Parameters without weight decay, besides biases and LayerNorms: not matrix-multiplication weights.
_NO_DECAY = ("cls_token", "distillation_token", "position_embeddings")
#: Suffixes of the speeds that `predict` reports next to the metrics.
_SPEEDS = ("_runtime", "_per_second", "_preparation_time")
#: In a training checkpoint: factors of factored position embeddings.
FACTORS_FILE = "position_factors.safetensors"

#: `TrainingArguments.dataloader_...` for the loader of a stream. Its workers read passes without an end, and stay;
#: `drop_last` does not apply, since the last clips of a pass share a batch with the first ones of the next.
_LOADER_OPTIONS = ("num_workers", "pin_memory", "prefetch_factor", "multiprocessing_context", "in_order")


class ASTTrainer(SealedTrainer):
    """Trainer for `ClipInputs`, and for `StreamedClipInputs`, which need `TrainingArguments.max_steps`.

    A training stream has the `rank` and `world_size` of the process: each process reads its own part, pass
    after pass. An evaluation stream has `rank=0, world_size=1`: the main process reads it and dispatches the
    batches.

    Args:
        average: the weight average that evaluation and the final model use.
        stopping: when to stop, and which evaluation of `eval_dataset` gives the final weights. Without
            `TrainingArguments.eval_strategy`, it plans the evaluations too.
        optimization: optimizer and learning rates beyond `TrainingArguments`.
        sampling: `"shuffled"` or `"balanced"`, see `inputs.sampling`.
        patchout: patches that training steps leave out, and over how many epochs their number grows.
        adapter: the adapter in the model. Saved folders hold the plain model with the adapter added to its
            weights, and the adapter alone in `adapter/`.
        watched: clips to evaluate after each epoch too. Their metrics are logged as `test_...`. Callbacks and
            the choice of the best checkpoint use `eval_dataset` alone.
        distillation: the teacher, neither trained nor saved; training clips need its view (`ClipInputs`).
        decided: the options that affect the weights, from `continuity.collect_options`. Checkpoints store
            them. Resuming with other options is an error (E306), or a warning (W406) if the checkpoint was
            named by the user.
        overwrite: let a fresh start replace a finished model or a README.md in the output folder.
        features_on_gpu: on a GPU, let it compute the features of stored clips, batch by batch. Readers do so where
            something besides masks and a roll changes spectrograms, for a teacher's clips, and for stored features.
        **kwargs: as for transformers' `Trainer`.

    Attributes: see `SealedTrainer`.

    Raises:
        AstInputError: E108 for a stream that would be dispatched twice, or not at all, and for an adapter with
            `model_init`.
        AstConfigError: E307 for FSDP and ZeRO-3 with options that need whole weights in one process: an
            average, factored positions, an adapter.
        AstRunError: E501 if a loss is not finite, naming its step and clips, before anything is saved: at that
            step, on a GPU after the next batch. E401 if a checkpoint cannot be written.

    Evaluation does not affect training: the weights are those of a run that does not evaluate.
    """

    def __init__(
        self,
        *,
        average: WeightAverage | None = None,
        stopping: StoppingOptions | None = None,
        optimization: Optimization | None = None,
        sampling: str = "shuffled",
        patchout: PatchoutOptions | None = None,
        adapter: Adapter | None = None,
        watched: ClipInputs | None = None,
        distillation: Distillation | None = None,
        decided: dict[str, Any] | None = None,
        overwrite: bool = False,
        features_on_gpu: bool = True,
        **kwargs: Any,
    ) -> None:
        self.average = average
        self.features_on_gpu = features_on_gpu
        self.optimization = optimization or Optimization()
        self.sampling = sampling
        self.adapter = adapter
        self.watched = watched
        self._batch_sizes: list[int] = []
        self._loaded: list[ClipInputs] = []
        self._losses = LateLosses(self._read_loss)
        _use_one_gpu(kwargs.get("args"))
        super().__init__(data_collator=collate, decided=decided, overwrite=overwrite, **kwargs)
        self.model_accepts_loss_kwargs = False  # `_share_of_step` weights the batches of a step, by clips
        if isinstance(self.processing_class, ASTFeatureExtractor):
            config = self.model.config
            classes = None if Task.of_config(config) == Task.REGRESSION else config.num_labels
            bucket = BUCKET_FRAMES if is_batched(self.args.device) else 1
            self.data_collator = Collator(self.processing_class, config.patch_size, classes, bucket)
        self.best = self._build_best(stopping)
        self._check_sharding()
        if self.adapter is not None and self.model_init is not None:
            what = "belongs to one model, and model_init makes others"
            fix = "leave out one of the two; ast_hf.training.search makes an adapter for each trial"
            raise error("E108", where="adapter", what=what, fix=fix)
        self.distillation = None if distillation is None else distillation.to(self.args.device)
        self._check_reader("train_dataset", self.train_dataset, self.args.process_index, self.args.world_size)
        self._check_reader("eval_dataset", self.eval_dataset, 0, 1)
        self._epoch_callback = SetSamplerEpoch()
        self._end_workers = EndWorkers()
        self._add_callbacks(patchout)

    def _add_callbacks(self, patchout: PatchoutOptions | None) -> None:
        """Add callbacks in order: the average is updated before the watched clips are evaluated."""
        self.remove_callback(ProgressCallback)
        self.add_callback(self._epoch_callback)
        if self._compile_options:
            varies = self._groups_by_length or bool(patchout and patchout.full())
            self.add_callback(CompileBlocks(self._compile_options, varies=varies))
        self.add_callback(self._end_workers)
        self.add_callback(FindBest)
        self.add_callback(CheckSpace(copies=self.weight_copies))
        self.add_callback(WarnAtChance(self._settled_course))
        if not self.args.disable_tqdm:
            self.add_callback(LossProgress)
        if self.average is not None:
            self.add_callback(AverageWeights(self.average))
        if self.best is not None:
            is_streamed = isinstance(self.train_dataset, StreamedClipInputs)
            self.add_callback(KeepBest(self.best, self.average, is_streamed=is_streamed))
        if patchout is not None and patchout.full():
            self.add_callback(GrowPatchout(patchout))
        if self.watched is not None:
            self.add_callback(AfterEachEpoch(self._evaluate_watched))

    def create_accelerator_and_postprocess(self) -> None:
        """Create accelerate's Accelerator as transformers does, with defaults for the models of this package.

        It does not compile them. Between processes, gradients are views of the buffers that are sent, and a backward
        pass is not searched for unused parameters, of which there are none: without accumulation all passes have one
        graph, unless the arguments ask for that search. Pinned batches are sent without waiting.
        """
        super().create_accelerator_and_postprocess()
        accelerator = self.accelerator
        accelerator.dataloader_config.non_blocking |= self.args.dataloader_pin_memory
        self._compile_options: dict[str, Any] = {}
        if isinstance(self.model, ASTPreTrainedModel):
            self._compile_options = take_compile_options(accelerator)
            accelerator.ddp_handler.gradient_as_bucket_view = True
            if self.args.ddp_find_unused_parameters is None:
                accelerator.ddp_handler.find_unused_parameters = False
            if self.args.ddp_static_graph is None:
                varies = self.args.gradient_accumulation_steps > 1 or self.args.ddp_find_unused_parameters
                accelerator.ddp_handler.static_graph = not varies

    @property
    def _groups_by_length(self) -> bool:
        return groups_by_length(self.args.to_dict())

    @property
    def weight_copies(self) -> int:
        """Number of copies of the trained weights that a run keeps: their average, and the best ones."""
        return (self.average is not None) + (self.best is not None)

    def _build_best(self, options: StoppingOptions | None) -> BestWeights | None:
        """Return the keeper of the best weights; raise E307 without one set of clips to evaluate."""
        if options is None or not options.is_active:
            return None
        if self.eval_dataset is None or isinstance(self.eval_dataset, dict):
            what = "needs one eval_dataset to compare evaluations on"
            raise error("E307", where="stopping", what=what, fix="give one", detail="missing")
        return BestWeights(options, options.metric or self.main_metric())

    def main_metric(self) -> str:
        """Return the metric that evaluations are compared by: of the task, or the loss if only that is measured."""
        task = Task.of_config(self.model.config)
        if self.compute_metrics is None or task in (None, Task.REGRESSION):
            return "loss"
        return task.main_metric

    def _check_sharding(self) -> None:
        """Raise E307 for options that need whole weights while they are spread over processes."""
        if self.is_fsdp_enabled:
            sharding = "FSDP"
        elif is_deepspeed_zero3_enabled():
            sharding = "DeepSpeed's ZeRO-3"
        else:
            return
        options = {
            "averaging_decay, averaging_epochs": self.average is not None,
            "stopping": self.best is not None,
            "model.factored_positions": bool(self._factors),
            "adapter.rank": self.adapter is not None,
        }
        for option, is_set in options.items():
            if is_set:
                what = f"needs whole weights, and {sharding} spreads them"
                fix = "leave it out, or train with DDP"
                raise error("E307", where=option, what=what, fix=fix, detail="conflict")

    # ---------------------------------------------------------------- loading clips

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        """Return the batches to train on, without an end for a stream.

        Each process reads its own part of a stream; accelerate would read all of it on the main process.
        """
        if not isinstance(self.train_dataset, StreamedClipInputs):
            clips: Any = self.train_dataset
            self.train_dataset: Any = self._as_loaded(clips)
            try:
                stored = self._with_limit(super().get_train_dataloader(), clips)
            finally:
                self.train_dataset = clips
            if self.args.dataloader_persistent_workers:
                self._keep_draws(stored)
            return stored
        passes = Passes(self.train_dataset, self._train_batch_size, self._trained_batches)
        options = {name: getattr(self.args, f"dataloader_{name}", None) for name in _LOADER_OPTIONS}
        loader: Any = torch.utils.data.DataLoader(
            passes,
            self._train_batch_size,
            collate_fn=self.data_collator,
            worker_init_fn=partial(protect_worker, None),
            **{name: value for name, value in options.items() if value is not None},
        )
        device = self.accelerator.device
        prepared = prepare_data_loader(
            loader,
            device,
            1,
            0,
            put_on_device=True,
            dispatch_batches=False,
            non_blocking=self.accelerator.non_blocking,
        )
        return self._with_limit(prepared, self.train_dataset)

    def _keep_draws(self, loader: Any) -> None:
        """Let workers that stay change no random draw of the main process: the sampler draws in place of the loader."""
        self._end_workers.loaders = (loader, getattr(loader, "base_dataloader", loader))
        for part in self._end_workers.loaders:
            part.generator = torch.Generator()
        if self._epoch_callback.sampler is not None:
            self._epoch_callback.sampler.draws_as_loader = True

    def get_eval_dataloader(self, eval_dataset: Any = None) -> torch.utils.data.DataLoader:
        """Return the batches to evaluate on; raise E108 for a stream of one process's part."""
        self._check_reader("eval_dataset", eval_dataset, 0, 1)
        clips = self.eval_dataset if eval_dataset is None else eval_dataset
        loaded = None if clips is None else self._as_loaded(clips)
        with self._workers_that_end():
            return self._with_limit(super().get_eval_dataloader(loaded), eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> torch.utils.data.DataLoader:
        """Return the batches to predict on."""
        loaded = self._as_loaded(test_dataset)
        with self._workers_that_end():
            return self._with_limit(super().get_test_dataloader(loaded), test_dataset)

    def _as_loaded(self, clips: Any) -> Any:
        """Return clips as their loader reads them: batches of stored ones may leave their features to the GPU.

        The clips themselves stay as they are, for loaders of the user's own.
        """
        if not self._leaves_features(clips):
            return clips
        loaded = copy.copy(clips)
        loaded.leaves_features = True
        return loaded

    def _leaves_features(self, clips: Any) -> bool:
        """Return True if the run is on a GPU, which computes the features of these clips."""
        if not isinstance(clips, ClipInputs) or not isinstance(self.data_collator, Collator):
            return False
        is_own = clips.extractor is self.data_collator.extractor
        on_gpu = self.features_on_gpu and is_batched(self.args.device)
        return is_own and on_gpu and clips.processor.can_leave_features

    @property
    def features_on(self) -> str:
        """Where the features of training clips are computed, "cpu" or "gpu"."""
        return "gpu" if self._leaves_features(self.train_dataset) else "cpu"

    def _with_features(self, batch: Any) -> Any:
        """Return a batch on its device with the features that its loader left to it."""
        return self.data_collator.with_features(batch) if isinstance(self.data_collator, Collator) else batch

    @contextmanager
    def _workers_that_end(self) -> Iterator[None]:
        """Build a loader of evaluation: transformers would keep one, with its workers, for all splits."""
        stay = self.args.dataloader_persistent_workers
        self.args.dataloader_persistent_workers = False
        try:
            yield
        finally:
            self.args.dataloader_persistent_workers = stay

    def _with_limit(self, loader: Any, inputs: Any) -> Any:
        """Let a loader's workers note their rows, and end (E403) if they give no batch in `ddp_timeout` s."""
        workers = self.args.dataloader_num_workers
        if workers:
            for part in (loader, getattr(loader, "base_dataloader", loader)):  # accelerate wraps it
                part.timeout = self.args.ddp_timeout
            inputs = self.eval_dataset if inputs is None else inputs
            if isinstance(inputs, ClipInputs):
                inputs.worker_rows = WorkerRows(workers)
                self._loaded.append(inputs)
        return loader

    def explain_end(self, problem: Exception) -> AstHfError | None:
        """Return the error of a lost worker, naming its rows; else that of the base class."""
        if self.args.dataloader_num_workers:
            failure = lost_worker(problem, self._loaded, self.state.global_step + 1)
            if failure is not None:
                return failure
        return super().explain_end(problem)

    def _check_reader(self, where: str, inputs: Any, rank: int, world_size: int) -> None:
        """Raise E108 for a stream that was made for another reader."""
        if isinstance(inputs, StreamedClipInputs) and (inputs.rank, inputs.world_size) != (rank, world_size):
            what = f"is the part of reader {inputs.rank} of {inputs.world_size}"
            fix = f"make it with rank={rank}, world_size={world_size}"
            raise error("E108", where=where, what=what, fix=fix)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not isinstance(dataset, ClipInputs):
            return super()._get_train_sampler(train_dataset)
        step_size = None
        if self._groups_by_length:
            if not dataset.extractor.return_attention_mask:
                what = "groups clips by length, but all are padded to the same"
                fix = "set return_attention_mask on their feature extractor"
                raise error("E307", where="train_sampling_strategy", what=what, fix=fix, detail="conflict")
            step_size = self.get_total_train_batch_size(self.args)
        sampler = sampler_for(self.sampling, dataset, self.args.seed, step_size)
        self._epoch_callback.sampler = sampler
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """Return clips in their order, even if the training clips are grouped by length."""
        if isinstance(eval_dataset, ClipInputs):
            return torch.utils.data.SequentialSampler(eval_dataset)
        return super()._get_eval_sampler(eval_dataset)

    # ---------------------------------------------------------------- optimizing

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return the matrix-multiplication weights: no biases, LayerNorms, special tokens or positions."""
        names = super().get_decay_parameter_names(model)
        return [name for name in names if not any(part in name for part in _NO_DECAY)]

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Create the optimizer of `optimization`, or that of `TrainingArguments`."""
        if self.optimizer is None:
            self.optimizer: torch.optim.Optimizer | None = self._create_recipe_optimizer()
        return super().create_optimizer(*args, **kwargs)

    def _create_recipe_optimizer(self) -> torch.optim.Optimizer | None:
        """Return the optimizer of `optimization`, or None for that of `TrainingArguments`."""
        options = self.optimization
        args = self.args
        if options.optimizer == "adam":
            betas = (args.adam_beta1, args.adam_beta2)
            return original_adam(self.model, args.learning_rate, betas, args.weight_decay)
        if options.layer_decay == 1.0:
            return None
        kind, settings = self.get_optimizer_cls_and_kwargs(args, self.model)
        decayed = self.get_decay_parameter_names(self.model)
        groups = parameter_groups(
            self.model, decayed, args.learning_rate, args.weight_decay, options.layer_decay
        )
        return kind(groups, **settings)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Create the schedule of `optimization.milestones`, or that of `TrainingArguments`."""
        if self.optimization.milestones and self.lr_scheduler is None:
            steps_per_epoch = round(num_training_steps / self.args.num_train_epochs)
            warmup_steps = self.args.get_warmup_steps(num_training_steps)
            self.lr_scheduler: Any = milestone_schedule(
                self.optimizer if optimizer is None else optimizer,
                self.optimization,
                steps_per_epoch,
                warmup_steps,
            )
        return super().create_scheduler(num_training_steps, optimizer)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the model's loss. One that is not finite is an error, E501, since it would break all later steps.

        On a GPU the error comes one batch later, but before anything is saved or evaluated.
        """
        inputs = self._with_features(inputs)  # of a batch that did not come by `get_batch_samples`
        rows = inputs.pop("row", None)
        views = inputs.pop("teacher", None)
        labels = inputs.get("labels")
        if views is None:
            result = super().compute_loss(model, inputs, *args, **kwargs)
            label_loss = result[0] if isinstance(result, tuple) else result
        else:
            label_loss, result = self._compute_distilled_loss(model, inputs, views, *args, **kwargs)
        if not model.training:
            return result
        loss = result[0] if isinstance(result, tuple) else result
        if rows is not None:
            self.clips_trained += len(rows) * self.args.world_size
            loss = loss * self._share_of_step(len(rows))
            result = (loss, *result[1:]) if isinstance(result, tuple) else loss
        watched = label_loss if isinstance(self.model, ASTForAudioClassification) else None
        self._losses.add(BatchLoss(self.state.global_step, loss, watched, labels, rows))
        return result

    def _compute_distilled_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        views: list[dict[str, torch.Tensor]],
        return_outputs: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, Any]:
        """Return the loss from labels, and what `compute_loss` returns; the teacher runs in the run's precision."""
        assert self.distillation is not None, "clips come with a teacher's view, but there is no teacher"
        label_loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        with self.accelerator.autocast():
            loss = self.distillation.loss(label_loss, outputs.logits, views)
        return label_loss, (loss, outputs) if return_outputs else loss

    def _read_loss(self, batch: BatchLoss) -> None:
        """Raise E501 if a batch's loss is not finite; else add that from its labels to `loss_course`."""
        if not torch.isfinite(batch.loss):
            what = f"loss is {float(batch.loss)} on {self._describe_clips(batch.rows)}"
            fix = "listen to those clips; lower the learning rate or train in float32 if they are intact"
            raise error("E501", where=f"step {batch.step + 1}", what=what, fix=fix)
        if batch.label_loss is None:
            return
        config = self.model.config
        kind = self.model.loss_kind or config.problem_type
        observe(self.loss_course, batch.step, batch.label_loss, batch.labels, kind, config.num_labels)

    def _settled_course(self) -> LossCourse:
        """Return the training loss so far, that of the last batch included."""
        self._losses.settle()
        return self.loss_course

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        super()._run_epoch(*args, **kwargs)
        self._losses.settle()

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Return the batches of a step, with their features, and store how many clips each has."""
        batches, items = super().get_batch_samples(*args, **kwargs)
        batches = [self._with_features(batch) for batch in batches]
        self._batch_sizes = [len(batch["row"]) for batch in batches if "row" in batch]
        return batches, items

    def _share_of_step(self, clips: int) -> float:
        """Return the factor of a batch that makes the loss of a step the mean over its clips.

        The Trainer takes the mean over batches, and the last batch of an epoch may be smaller.
        """
        return clips * len(self._batch_sizes) / sum(self._batch_sizes) if self._batch_sizes else 1.0

    def _describe_clips(self, rows: torch.Tensor | None) -> str:
        """Return the row numbers of a batch, from 1, and the first three file names of stored clips."""
        if rows is None:
            return "the clips of this batch"
        numbers = [row + 1 for row in rows.tolist()]
        if not isinstance(self.train_dataset, ClipInputs):
            return f"the clips {numbers}"
        split = self.train_dataset.split
        files = [Path(split[row]["audio"]["path"] or "embedded").name for row in rows.tolist()[:3]]
        more = ", ..." if len(rows) > 3 else ""
        return f"the clips {numbers} ({', '.join(files)}{more})"

    # ---------------------------------------------------------------- evaluating

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return loss, logits and labels of a batch, after computing the features that its loader left.

        They take the place of the samples in `inputs`, where `include_for_metrics` reads them.
        """
        batch = self._with_features(inputs)
        if batch is not inputs:
            inputs.clear()
            inputs.update(batch)
        return super().prediction_step(model, inputs, *args, **kwargs)

    def _evaluate_watched(self) -> None:
        """Evaluate `watched` and log its metrics; `evaluate` would pass them to early stopping."""
        metrics = self.predict(self.watched, metric_key_prefix=WATCHED_PREFIX).metrics
        should_log = self.control.should_log
        self.log({name: value for name, value in metrics.items() if not name.endswith(_SPEEDS)})
        self.control.should_log = should_log  # else this replaces the log of the epoch's loss

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate while training; keep the weights if they are the best, and stop if it is time to."""
        metrics = super()._evaluate(*args, **kwargs)
        if self.best is not None:
            self._compare(self.best, metrics)
        return metrics

    def _compare(self, best: BestWeights, metrics: dict[str, float]) -> None:
        """Compare an evaluation with the best one; all processes decide by the numbers of the main one."""
        name = f"eval_{best.metric.removeprefix('eval_')}"
        if name not in metrics:
            fix = did_you_mean(name, metrics)
            raise error(
                "E307", where="stopping.metric", what=f"{name!r} is not measured", fix=fix, detail="choice"
            )
        names = (name, "eval_loss", "eval_samples")
        values = [float(metrics.get(each, math.nan)) for each in names]
        values.append(float(not is_at_chance(self.loss_course, self.state.global_step)))
        if self.args.world_size > 1:
            broadcast_object_list(values)
        value, loss, samples, waits = values
        clips = 0 if math.isnan(samples) else int(samples)
        epoch = float(self.state.epoch or 0)
        step = self.state.global_step
        if best.note(value, loss, step=step, epoch=epoch, clips=clips, waits=bool(waits)):
            with self._averaged():
                best.keep(self.model)
        if best.is_exhausted:
            self.control.should_training_stop = True

    def _averaged(self) -> AbstractContextManager[None]:
        """Return a block in which the model has the averaged weights, if there are any."""
        if self.average is None or not self.average.steps:
            return nullcontext()
        return self.average.applied(self.model)

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """Evaluate the averaged weights, if there are any. Every clip counts once, in the loss too.

        Loading clips draws from torch's generator. Its state is restored for the dropout of training.
        """
        self._losses.settle()
        with torch.random.fork_rng(devices=()), self._averaged():
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if output.predictions is None or output.label_ids is None:
            return output
        output.metrics[f"{metric_key_prefix}_samples"] = len(output.predictions)
        if self.args.world_size > 1 and isinstance(self.model, ASTForAudioClassification):
            loss = self._evaluation_loss(output.predictions, output.label_ids)
            output.metrics[f"{metric_key_prefix}_loss"] = loss
        return output

    def _evaluation_loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Return the loss of a distributed evaluation, each clip counted once.

        The last batch is filled up with repeated clips, which transformers drops from logits and labels, but
        not from the loss.
        """
        kind = self.model.loss_kind or self.model.config.problem_type
        return classification_loss(torch.from_numpy(logits), torch.from_numpy(labels), kind).item()

    # ---------------------------------------------------------------- saving and loading

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint as the base class, once the losses of all steps are known to be finite."""
        self._losses.settle()
        super()._save_checkpoint(model, trial)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the model, and the arguments as JSON: transformers' pickle of them contains the Hub token."""
        if self.adapter is not None:
            state_dict = self.adapter.plain_state()
        self._check_finite(state_dict)
        super()._save(output_dir, state_dict)
        if not self.args.should_save:  # all processes gather weights, one writes
            return
        folder = Path(output_dir or self.args.output_dir)
        (folder / "training_args.bin").unlink(missing_ok=True)
        arguments = {
            name: value
            for name, value in self.args.to_dict().items()
            if not name.endswith(("_dir", "_token"))
        }
        text = json.dumps(without_folders(arguments), indent=2, sort_keys=True, default=str)
        (folder / "training_args.json").write_text(text + "\n", encoding="utf-8")
        if self.adapter is not None:
            self.adapter.save(folder / ADAPTER_FOLDER, self.processing_class)

    def merge_adapter(self, folder: Path) -> None:
        """Save the adapter alone in `folder`, if there is one, and add it to the model's weights."""
        if self.adapter is not None:
            self._check_finite(None)
            if self.is_world_process_zero():
                self.adapter.save(folder, self.processing_class)
            self.adapter.merge()
            self.adapter = None

    @property
    def _factors(self) -> dict[str, nn.Parameter]:
        """Factors of factored positions; saved weights hold only their sums."""
        if not isinstance(self.model, ASTPreTrainedModel):
            return {}
        factored = self.model.base_model.embeddings.factored
        return {} if factored is None else dict(factored.named_parameters())

    def _check_finite(self, state_dict: dict[str, torch.Tensor] | None) -> None:
        """Raise E501 for weights that are not finite; the last step can break them after a finite loss.

        `state_dict` holds the weights if they were gathered from several processes.
        """
        weights = dict(self.model.named_parameters()) if state_dict is None else state_dict
        for name, weight in weights.items():
            if not torch.isfinite(weight).all():
                what = f"{name} is NaN or infinite; nothing is saved"
                fix = "lower the learning rate, clip gradients (max_grad_norm), or train in float32"
                raise error("E501", where=f"step {self.state.global_step}", what=what, fix=fix)

    def reset_parts(self) -> None:
        """Forget the weight average, the best weights and unread losses of an earlier training."""
        self._losses.forget()
        if self.average is not None:
            self.average.reset()
        if self.best is not None:
            self.best.reset()

    @property
    def is_over(self) -> bool:
        """True after the last step, or once `stopping.patience` is exhausted."""
        return super().is_over or (self.best is not None and self.best.is_exhausted)

    def save_parts(self, folder: Path) -> None:
        """Write the weight average and the factors of positions into a checkpoint."""
        if self.average is not None:
            self.average.save(folder)
        if self.best is not None:
            self.best.save(folder)
        if self._factors:
            save_file(
                {name: factor.detach() for name, factor in self._factors.items()}, folder / FACTORS_FILE
            )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        if self.adapter is not None:
            self._load_adapter(self.adapter, folder)
        elif (folder / ADAPTER_FOLDER).exists():
            raise _other_recipe(folder, "was trained with an adapter, but the recipe has none")
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_parts(folder)
        if self.best is not None:
            _require(folder, BEST_FILE, "keeps the best weights")
            self.best.load(folder)
        self._check_watched()

    def _load_parts(self, folder: Path) -> None:
        """Read what `save_parts` wrote."""
        if self._factors:
            _require(folder, FACTORS_FILE, "factors positions")
            stored = load_file(folder / FACTORS_FILE)
            for name, factor in self._factors.items():
                factor.data.copy_(stored[name])
        if self.average is not None:
            _require(folder, AVERAGE_FILE, "averages weights")
            self.average.load(folder, self.model)

    def _load_adapter(self, adapter: Adapter, folder: Path) -> None:
        """Load the adapter alone; the saved sum of base and adapter cannot be split exactly."""
        _require(folder, f"{ADAPTER_FOLDER}/{ADAPTER_WEIGHTS}", "has an adapter")
        adapter.load(folder / ADAPTER_FOLDER)

    def _load_best_from(self, folder: Path) -> None:
        if self.adapter is None:
            super()._load_best_from(folder)
        else:
            self._load_adapter(self.adapter, folder)
        self._load_parts(folder)


def _use_one_gpu(args: TrainingArguments | None) -> None:
    """Train on one GPU per process, with a warning (W407) about the others.

    transformers would spread batches over all GPUs (`nn.DataParallel`): larger batches, and a loss per GPU.
    """
    if args is None or args.n_gpu <= 1:
        return
    what = (
        f"of {args.n_gpu} GPUs this process uses one; to use all: torchrun --nproc_per_node {args.n_gpu} "
        "examples/finetune.py ..., or hide the others with CUDA_VISIBLE_DEVICES"
    )
    warnings.warn(warning_text("W407", where="training", what=what), AstHfWarning, stacklevel=4)
    args._n_gpu = 1


def _require(folder: Path, name: str, does: str) -> None:
    """Raise E306 unless a training checkpoint has a file that the recipe needs."""
    if not (folder / name).exists():
        raise _other_recipe(folder, f"has no {name}, but the recipe {does}")


def _other_recipe(folder: Path, what: str) -> AstHfError:
    fix = "resume with the recipe the run began with"
    return error("E306", where=repr(str(folder)), what=what, fix=fix, detail="mismatch")
