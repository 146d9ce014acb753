"""Compiled transformer blocks of a run: in place, so that the model keeps its names, and sees what callbacks set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DynamoBackend
from transformers import TrainerCallback, TrainingArguments

from ..modeling_ast import ASTPreTrainedModel


class CompileBlocks(TrainerCallback):
    """Compiles the transformer blocks at the start of training. What depends on the epoch, as patchout, stays outside.

    Args:
        options: arguments of `torch.compile`.
        varies: the number of patches changes from step to step; one graph then serves all numbers.
    """

    def __init__(self, options: dict[str, Any], *, varies: bool) -> None:
        self.options = {**options, "dynamic": True} if varies else options

    def on_train_begin(
        self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        compile_blocks(model, **self.options)


def take_compile_options(accelerator: Accelerator) -> dict[str, Any]:
    """Return the arguments of `torch.compile` that accelerate would use, and switch its compilation off; {} for none.

    They come from `training.torch_compile` or from `accelerate launch`. accelerate compiles a wrapper of the model,
    or a copy of it, which does not see a later change of `patchout`.
    """
    plugin = accelerator.state.dynamo_plugin
    if plugin.backend == DynamoBackend.NO:
        return {}
    options = plugin.to_kwargs()
    plugin.backend = DynamoBackend.NO
    return options


def compile_blocks(
    model: ASTPreTrainedModel, *, backend: str | Callable = "inductor", **options: Any
) -> None:
    """Compile each transformer block in place; parameters, hooks and gradient checkpointing stay as they are.

    All blocks but the last share a graph. Evaluation uses the compiled blocks, too.

    Args:
        model: the model.
        backend: as for `torch.compile`.
        **options: further arguments of `torch.compile`.
    """
    for block in model.base_model.encoder.layer:
        block.compile(backend=backend, **options)
