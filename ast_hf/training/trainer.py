"""transformers' Trainer with what AST training needs: keyed sampling, weight averaging, no step on a broken loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..errors import error
from ..modeling_ast import ASTPreTrainedModel
from .averaging import AVERAGE_FILE, WeightAverage
from .inputs import ClipInputs, EpochSampler, collate

#: Parameters that weight decay leaves alone beside biases and LayerNorms: they are no weights of a product.
_NO_DECAY = ("cls_token", "distillation_token", "position_embeddings")

#: In a training checkpoint, beside the weights.
FACTORS_FILE = "position_factors.safetensors"


class ASTTrainer(Trainer):
    """Trainer for `ClipInputs`.

    Args:
        averaging_decay: decay of the weight average that evaluation and the final model use; None for none.
        **kwargs: as for transformers' `Trainer`.

    Raises:
        AstRunError: E501 when a loss is not finite, at that step, naming the clips, before anything is saved.
    """

    def __init__(self, *, averaging_decay: float | None = None, **kwargs: Any) -> None:
        self.average = WeightAverage(averaging_decay) if averaging_decay is not None else None
        self.card: Any = None
        super().__init__(data_collator=collate, **kwargs)
        self.remove_callback(ProgressCallback)
        if not self.args.disable_tqdm:
            self.add_callback(LossProgress)
        if self.average is not None:
            self.add_callback(AverageWeights(self.average))

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if isinstance(dataset, ClipInputs):
            return EpochSampler(len(dataset), self.args.seed)
        return super()._get_train_sampler(train_dataset)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """All weights of products; not biases, LayerNorms, special tokens and positions."""
        names = super().get_decay_parameter_names(model)
        return [name for name in names if not any(part in name for part in _NO_DECAY)]

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

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate the averaged weights, when there are any."""
        if self.average is None or not self.average.steps:
            return super().evaluation_loop(*args, **kwargs)
        with self.average.applied(self.model):
            return super().evaluation_loop(*args, **kwargs)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write `self.card` as README.md; without one there is nothing measured yet, and no card is made up."""
        if self.card is not None and self.is_world_process_zero():
            self.card.save(Path(self.args.output_dir) / "README.md")

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the model; the arguments as JSON, since the pickle that transformers writes holds the Hub token."""
        self._check_finite()
        super()._save(output_dir, state_dict)
        folder = Path(output_dir or self.args.output_dir)
        (folder / "training_args.bin").unlink(missing_ok=True)
        shown = {name: value for name, value in self.args.to_dict().items() if not name.endswith(("_dir", "_token"))}
        text = json.dumps(shown, indent=2, sort_keys=True, default=str)
        (folder / "training_args.json").write_text(text + "\n", encoding="utf-8")

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing: transformers would upload its pickled arguments, which hold the Hub token. The end is pushed."""

    @property
    def _factors(self) -> dict[str, nn.Parameter]:
        """The factors of factored positions: weights files hold their sums, which do not give them back exactly."""
        factored = self.model.base_model.embeddings.factored if isinstance(self.model, ASTPreTrainedModel) else None
        return {} if factored is None else dict(factored.named_parameters())

    def _check_finite(self) -> None:
        """A gradient can break the weights in the very last step, after a loss that was finite."""
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                what = f"{name} became NaN or infinite, nothing is saved"
                fix = "lower the learning rate, clip gradients (max_grad_norm), or train in float32"
                raise error("E501", where=f"step {self.state.global_step}", what=what, fix=fix)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.average is not None and self.args.should_save:
            self.average.save(folder)
        if self._factors and self.args.should_save:
            save_file({name: factor.detach() for name, factor in self._factors.items()}, folder / FACTORS_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        folder = Path(resume_from_checkpoint)
        if self._factors:
            _require(folder, FACTORS_FILE, "factors positions")
            stored = load_file(folder / FACTORS_FILE)
            for name, factor in self._factors.items():
                factor.data.copy_(stored[name])
        if self.average is None:
            return
        _require(folder, AVERAGE_FILE, "averages weights")
        state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        self.average.load(folder, self.model, steps=state["global_step"])


def _require(folder: Path, name: str, does: str) -> None:
    """Raise E306 unless a training checkpoint has a file that the recipe needs."""
    if not (folder / name).exists():
        what = f"has no {name}, but the recipe {does}"
        raise error("E306", where=repr(str(folder)), what=what, fix="resume with the recipe the run began with")


class AverageWeights(TrainerCallback):
    """Feeds the average after each optimizer step, and leaves the averaged weights in the model at the end."""

    def __init__(self, average: WeightAverage) -> None:
        self.average = average

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Take the step's weights in."""
        self.average.update(model)

    def on_train_end(self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """What is evaluated and saved from now on is the average."""
        self.average.copy_to(model)


class LossProgress(ProgressCallback):
    """The Trainer's progress bar with loss and metric beside it, instead of a line of text for each."""

    _SHOWN = ("loss", "eval_loss", "eval_accuracy", "eval_mAP", "learning_rate")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Show the newest numbers."""
        if state.is_world_process_zero and self.training_bar is not None and logs:
            shown = {name: f"{float(logs[name]):.3g}" for name in self._SHOWN if name in logs}
            self.training_bar.set_postfix(shown)
