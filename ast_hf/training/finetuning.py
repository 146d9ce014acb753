"""Fine-tuning by a recipe: prepare, train, finish, and publish."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..inputs.own_augmentation import SpectrogramFunction, WaveformFunction
from ..recipe.recipe import Recipe
from ..reports.run_results import Report
from ..stopping import stop_signals
from ..versions import TRAINING_MODULES, check_modules
from .checkpoints.folder_lock import FolderLock
from .checkpoints.resuming import check_resumable
from .finishing import finish
from .own_code import Callback
from .preparing import prepare
from .run_checks import check_hub_request


def finetune(
    recipe: Recipe,
    output_dir: str | Path,
    *,
    resume_from_checkpoint: str | bool | None = None,
    watch: str | None = None,
    push_to_hub: bool = False,
    hub_model_id: str | None = None,
    overwrite: bool = False,
    augment: WaveformFunction | None = None,
    augment_spectrogram: SpectrogramFunction | None = None,
    callbacks: Sequence[Callback] | None = None,
) -> Report:
    """Train, evaluate and save by a recipe.

    Args:
        recipe: data, model and training of the run.
        output_dir: folder of the result and its training checkpoints, `checkpoint-N`.
        resume_from_checkpoint: True to resume from the newest intact checkpoint in `output_dir`; `"auto"` for
            the same, or a fresh start without one; `"hub"` for the newest one on the Hub; or a checkpoint
            folder.
        watch: as for `prepare`.
        push_to_hub: publish the finished folder on the Hub. A failed push is a warning (W701).
        hub_model_id: its name there, `user/name`; the folder's name under your account when None.
        overwrite: as for `prepare`.
        augment: as for `prepare`.
        augment_spectrogram: as for `prepare`.
        callbacks: as for `prepare`.

    Returns:
        The report. The folder holds the model, the feature extractor, README.md (card), curves.png,
        results.json and recipe.yaml; with `adapter.rank` also the adapter alone, in `adapter/`.

    Raises:
        AstHfError: before the first training step, for problems of the recipe, the data or the base, and E306
            without an intact checkpoint to resume from, or for a fresh start in a folder with a checkpoint or
            a model; later, E401 if a file cannot be written, E403 if another process or a worker is lost, and
            E501 if the loss is not finite. E402 if another run uses the folder. E108 without the extra `train`.
        RunStopped: for SIGTERM, SIGHUP and SIGINT, once the current step is saved. A KeyboardInterrupt.
    """
    check_modules("training", *TRAINING_MODULES)
    with stop_signals() as stopping, FolderLock(output_dir):
        stopping.begin()
        check_resumable(resume_from_checkpoint, Path(output_dir), overwrite=overwrite)
        check_hub_request(recipe, resume_from_checkpoint, named=push_to_hub or hub_model_id is not None)
        run = prepare(
            recipe,
            output_dir,
            watch=watch,
            overwrite=overwrite,
            resume_from_checkpoint=resume_from_checkpoint,
            augment=augment,
            augment_spectrogram=augment_spectrogram,
            callbacks=callbacks,
            push_to_hub=push_to_hub,
            hub_model_id=hub_model_id,
        )
        run.trainer.train(resume_from_checkpoint=resume_from_checkpoint)
        report = finish(run)
        if run.trainer.args.push_to_hub:
            stopping.text = "after the results were written, before they were published"
            stopping.command = run.trainer.publishing_command()
            stopping.stop_now()
            pushed = run.trainer.push_to_hub(commit_message="Fine-tuned with ast_hf")
            report.published = pushed and pushed.url
            report.unpublished = run.trainer.unpublished
        return report
