"""Estimates of what a prepared run takes: time, memory and disk."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..inputs.clip_cache import SHARE
from ..inputs.clips import ClipInputs
from ..memory import available_memory
from ..training.building import Inputs, measures_statistics
from ..training.disk_space import checkpoint_bytes, run_bytes, weight_bytes
from ..training.preparing import Run
from .extent import Extent, measure_extent
from .speed import STEPS, Speed, measure_speed

__all__ = ["STEPS", "Estimate", "Speed", "estimate", "measure_speed"]

#: Seconds of a save besides its bytes, and bytes a second that are written, synced and hashed. On the machine of the
#: benchmarks (AMD EPYC, 2 cores, other work beside it) a checkpoint of 257 MB took 1.7 to 2.7 s.
_SECONDS_PER_SAVE = 0.15
_SAVED_PER_SECOND = 120e6
#: Seconds of pictures, card and results at the end of a run, on that machine.
_SECONDS_OF_REPORTS = 3.0
#: Seconds of the baseline's fit for each clip, class and feature (2 x 64): about 100 iterations of L-BFGS.
_SECONDS_PER_FIT = 2.5e-8 * 128
#: Bytes of a decoded sample, float32.
_BYTES_PER_SAMPLE = 4


@dataclass(frozen=True)
class Estimate:
    """What a run takes on this machine.

    Attributes:
        seconds: wall time of the whole run; with early stopping, at most.
        memory_bytes: largest memory of this process.
        disk_bytes: bytes that the output folder needs at its fullest moment.
        parts: seconds by part of the run, for example `"training"`.
        device_bytes: largest memory on a GPU; None without one.
        is_upper_limit: the run may stop early, and then takes less time.
    """

    seconds: float
    memory_bytes: int
    disk_bytes: int
    parts: dict[str, float] = field(default_factory=dict)
    device_bytes: int | None = None
    is_upper_limit: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "seconds": round(self.seconds, 1),
            "is_upper_limit": self.is_upper_limit,
            "memory_bytes": self.memory_bytes,
            "device_bytes": self.device_bytes,
            "disk_bytes": self.disk_bytes,
            "parts": {name: round(value, 2) for name, value in self.parts.items()},
        }


def estimate(
    run: Run,
    speed: Speed,
    *,
    preparing: float = 0.0,
    statistics: bool | None = None,
    share: float = 1.0,
) -> Estimate:
    """Return what a run takes, from its speed.

    It fits the load of the machine while `speed` was measured, and holds as long as the machine is as busy as then.

    Args:
        run: from `prepare`.
        speed: from `measure_speed`.
        preparing: seconds from the start of the program to the prepared run, without measuring mean and std.
        statistics: the run measures mean and std; None to read that from its recipe.
        share: of the steps that are still to be trained, 0..1, for a run that continues.
    """
    extent = measure_extent(run)
    clips = _Clips.of(run)
    measures = measures_statistics(run.recipe.features) if statistics is None else statistics
    reading = replace(speed, seconds_per_decoded_clip=0.0) if run.stores else speed
    parts = {
        "preparing": preparing,
        "data.store": _storing_seconds(run, speed),
        "mean and std": _statistics_seconds(run, reading) if measures else 0.0,
        "training": share * _training_seconds(run, reading, extent, clips, decoded=measures),
        "evaluations": share * _evaluation_seconds(run, reading, extent),
        "checkpoints": share * _saving_seconds(run, extent),
        "final evaluation": _final_seconds(run, reading, clips),
        "baseline": _baseline_seconds(run, speed, clips),
        "reports": _SECONDS_OF_REPORTS,
    }
    return Estimate(
        seconds=sum(parts.values()),
        memory_bytes=_memory_bytes(run, speed, clips),
        disk_bytes=_disk_bytes(run, extent),
        parts=parts,
        device_bytes=speed.device_bytes,
        is_upper_limit=extent.may_stop_early,
    )


@dataclass(frozen=True)
class _Clips:
    """Numbers and decoded bytes of the stored clips of a run, and whether its cache holds them all."""

    evaluated: int
    cached_bytes: int
    are_cached: bool

    @classmethod
    def of(cls, run: Run) -> _Clips:
        evaluated = {id(inputs): inputs for inputs in run.evaluation.values()}
        splits: dict[int, Inputs] = {id(run.train): run.train, **evaluated}
        if run.trainer.eval_dataset is not None:
            splits[id(run.trainer.eval_dataset)] = run.trainer.eval_dataset
        total = sum(map(_decoded_bytes, splits.values()))
        workers = max(run.trainer.args.dataloader_num_workers, 1)
        budget = available_memory() * SHARE
        is_used = run.recipe.data.cache and not run.stores
        cached = int(min(total * workers, budget)) if is_used else 0
        return cls(
            sum(len(inputs) for inputs in evaluated.values() if isinstance(inputs, ClipInputs)),
            cached,
            is_used and total * workers <= budget,
        )


def _decoded_bytes(inputs: Inputs) -> int:
    """Return about how many bytes the decoded clips of a split have; 0 for a stream."""
    if not isinstance(inputs, ClipInputs):
        return 0
    sampled = range(0, len(inputs), max(len(inputs) // 50, 1))
    seconds = [inputs.seconds(clip) for clip in sampled]
    mean = sum(seconds) / len(seconds)
    return int(mean * len(inputs) * inputs.extractor.sampling_rate * _BYTES_PER_SAMPLE)


def _training_seconds(run: Run, speed: Speed, extent: Extent, clips: _Clips, *, decoded: bool) -> float:
    """Return the seconds of all steps with loading; workers load while the step before is computed.

    `decoded` clips are in the cache already, from measuring mean and std.
    """
    arguments = run.trainer.args
    per_step = arguments.train_batch_size * arguments.gradient_accumulation_steps
    passes = extent.epochs or 0.0
    if clips.are_cached:
        passes = 0.0 if decoded and not arguments.dataloader_num_workers else min(passes, 1.0)
    decoding = passes * (extent.clips or 0) / arguments.world_size * speed.seconds_per_decoded_clip
    features = extent.steps * per_step * speed.seconds_per_feature
    computing = max(extent.steps * speed.seconds_per_step - features, 0.0)
    workers = _free_workers(run)
    if workers:
        return max(computing, (features + decoding) / workers)
    return computing + features + decoding


def _free_workers(run: Run) -> int:
    """Return the number of data loader workers that work beside the steps."""
    arguments = run.trainer.args
    cores = os.cpu_count() or 1
    if arguments.device.type == "cpu":
        cores -= torch.get_num_threads()
    return max(min(arguments.dataloader_num_workers, cores), 0)


def _evaluation_seconds(run: Run, speed: Speed, extent: Extent) -> float:
    """Return the seconds of all evaluations while training."""
    counts = {"validation": extent.evaluations, "watched": extent.watched_evaluations}
    inputs = {
        "validation": run.trainer.eval_dataset,
        "watched": None if run.watch is None else run.evaluation[run.watch],
    }
    seconds = 0.0
    for name, split in inputs.items():
        if isinstance(split, ClipInputs) and counts[name]:
            seconds += counts[name] * len(split) * speed.seconds_per_evaluated_clip
            seconds += len(split) * speed.seconds_per_decoded_clip
    return seconds / run.trainer.args.world_size


def _saving_seconds(run: Run, extent: Extent) -> float:
    """Return the seconds of all training checkpoints, and of the finished model."""
    checkpoint, weights = kept_bytes(run)
    saved = extent.saves * checkpoint + weights
    return (extent.saves + 1) * _SECONDS_PER_SAVE + saved / _SAVED_PER_SECOND


def _final_seconds(run: Run, speed: Speed, clips: _Clips) -> float:
    seconds = speed.seconds_per_evaluated_clip + speed.seconds_per_decoded_clip
    return clips.evaluated * seconds / run.trainer.args.world_size


def _storing_seconds(run: Run, speed: Speed) -> float:
    """Return the seconds of writing the clips that `data.store` lacks, on one thread."""
    missing = sum(len(plan.missing) for plan in run.stores)
    return missing * (speed.seconds_per_decoded_clip + speed.seconds_per_feature)


def _statistics_seconds(run: Run, speed: Speed) -> float:
    count = len(run.train) if isinstance(run.train, ClipInputs) else run.recipe.features.statistics_clips or 0
    return count * (speed.seconds_per_decoded_clip + speed.seconds_per_feature)


def _baseline_seconds(run: Run, speed: Speed, clips: _Clips) -> float:
    """Return the seconds of the baseline's features, and of its fit."""
    if not isinstance(run.train, ClipInputs):
        return 0.0
    trained = len(run.train)
    per_clip = speed.seconds_per_feature
    if not clips.are_cached:
        per_clip += speed.seconds_per_decoded_clip
    return (trained + clips.evaluated) * per_clip + trained * run.train.num_labels * _SECONDS_PER_FIT


def _memory_bytes(run: Run, speed: Speed, clips: _Clips) -> int:
    """Return the peak of a step with the cache of clips, and the copies of trained weights that a run keeps."""
    trained = sum(value.nbytes for value in run.trainer.model.parameters() if value.requires_grad)
    return speed.peak_bytes + clips.cached_bytes + run.trainer.weight_copies * trained


def kept_bytes(run: Run) -> tuple[int, int]:
    """Return about how many bytes a training checkpoint and the finished weights of a run have."""
    trainer = run.trainer
    return checkpoint_bytes(trainer.model, trainer.args, copies=trainer.weight_copies), weight_bytes(
        trainer.model
    )


def _disk_bytes(run: Run, extent: Extent) -> int:
    checkpoint, weights = kept_bytes(run)
    return run_bytes(
        checkpoint,
        weights,
        saves=extent.saves,
        limit=run.trainer.args.save_total_limit,
        existing=0,
    )
