"""fp8 products of a run, by torchao: in place, so that weights, their names and files stay as they are."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import nn
from transformers import TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.integrations.fsdp import is_fsdp_enabled

from ..errors import AstHfError, error
from ..modeling_ast import ASTForAudioClassification
from ..recipe.precision import FLOAT8, chosen_precision

#: Set by tests: operands are rounded to fp8 and multiplied in float32, on any device.
EMULATED = False

#: Lowest compute capability with fp8 products: NVIDIA's Ada and Hopper.
_CAPABILITY = (8, 9)
#: `torch._scaled_mm` takes matrices whose sides are multiples of this.
_MULTIPLE = 16


def check_float8(precision: str | None, arguments: TrainingArguments) -> None:
    """Raise E307 if a run asks for fp8 and this machine, its packages or the way it is run do not have it.

    Args:
        precision: that of the run; others than `"fp8"` pass.
        arguments: of the run.
    """
    if precision != FLOAT8:
        return
    if arguments.fsdp or arguments.deepspeed or is_fsdp_enabled() or is_deepspeed_zero3_enabled():
        what = "needs whole weights, and FSDP and DeepSpeed spread them"
        raise _refused(what, "use bf16, or train with DDP", "conflict")
    if not EMULATED:
        _check_device(arguments.device)
    if find_spec("torchao") is None:
        raise _refused("needs torchao", 'pip install "ast_hf[torchao]"', "environment")


def _check_device(device: torch.device) -> None:
    """Raise E307 for a device without fp8 products."""
    needed = (
        f"needs an NVIDIA GPU of compute capability {_CAPABILITY[0]}.{_CAPABILITY[1]} or above (Ada, Hopper)"
    )
    fix = "use bf16"
    if device.type != "cuda" or torch.version.cuda is None:
        raise _refused(f"{needed}, and this run is on {device.type}", fix, "environment")
    capability = torch.cuda.get_device_capability(device)
    if capability < _CAPABILITY:
        found = f"{torch.cuda.get_device_name(device)} has {capability[0]}.{capability[1]}"
        raise _refused(f"{needed}, and {found}", fix, "environment")


def use_float8(model: ASTForAudioClassification) -> int:
    """Compute the linear layers of the blocks in fp8, forward and backward, and return how many they are.

    Each operand is scaled by its largest value, which torchao calls tensorwise dynamic scaling. Weights and their
    gradients stay in float32. What is left out, and computed in bfloat16: the last block, most of which is not computed
    at all (`last_block`); everything outside the blocks, so `classifier.dense`; layers with a side that is no multiple
    of 16.

    Raises:
        AstConfigError: E307 if no layer is left.
    """
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    blocks = model.base_model.encoder.layer[:-1]
    count = sum(_fits(module) for module in blocks.modules())
    if not count:
        what = f"has no layer to work on: {len(blocks)} blocks before the last, of a width that 16 does not divide"
        what = what if len(blocks) else "leaves out the last block, and the model has no other"
        raise _refused(what, "use bf16, or another width or depth", "conflict")
    # the number of tokens of a batch need not be a multiple of 16: the product of a weight's gradient pads them
    config = Float8LinearConfig(pad_inner_dim=True, emulate=EMULATED)
    convert_to_float8_training(blocks, module_filter_fn=lambda module, _: _fits(module), config=config)
    return count


def run_precision(arguments: TrainingArguments, model: nn.Module) -> str:
    """Return the precision of a run: `"float32"`, `"bf16"`, `"fp16"` or `"fp8"`."""
    is_float8 = any(type(module).__name__ == "Float8Linear" for module in model.modules())
    return FLOAT8 if is_float8 else chosen_precision(arguments)


def _fits(module: nn.Module) -> bool:
    return type(module) is nn.Linear and not any(side % _MULTIPLE for side in module.weight.shape)


def _refused(what: str, fix: str, detail: str) -> AstHfError:
    return error("E307", where="precision", what=f"{FLOAT8!r} {what}", fix=fix, detail=detail)
