"""Low-rank adapters (LoRA, arXiv 2106.09685) through peft: which layers get one, and how it is kept apart in files.

The adapter goes into the model, not around it: what is trained, evaluated and saved stays an AST. Files hold both the
plain model with the adapter added to its weights, and the adapter alone as peft reads it.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.dataclasses import validated_field
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ..errors import error
from ..files import as_open_writes
from ..hub.publishing import ADAPTER_WEIGHTS
from ..modeling_ast import ASTForAudioClassification
from ..strict_options import each_one_of, in_range, not_negative, strict_options
from ..weights.names import KERNEL, POSITIONS

#: Where the adapter lies inside a run's folder and inside its training checkpoints.
ADAPTER_FOLDER = "adapter"
#: What we note in the header of an adapter's weights beside them.
BASE_DIGEST = "base_sha256"

#: Layers of a block that can have an adapter -> their names in checkpoints.
TARGETS = {
    "query": "attention.attention.query",
    "key": "attention.attention.key",
    "value": "attention.attention.value",
    "attention.output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}
#: Trained as a whole and stored with the adapter, since it belongs to the labels.
_HEAD = "classifier"
_NAME = "default"  # peft's, of the only adapter of a model


@strict_options("adapter")
@dataclass(kw_only=True)
class AdapterOptions:
    """Options of LoRA: a product of two thin matrices is added to each layer in `targets`.

    Only these products and the classifier are trained. Query and value are the pair that the paper finds best
    (section 7.1). Its authors train a base-sized encoder with rank 8 and alpha 16 (github.com/microsoft/LoRA,
    `examples/NLU/roberta_base_mnli.sh`).

    Attributes:
        rank: inner size of the products, at most the width of the model; 0 for no adapter.
        alpha: products are multiplied by `alpha / rank`; 0.001..10,000.
        dropout: share of the inputs of a product that training steps leave out, in 0..0.999.
        targets: layers of every block, out of `query`, `key`, `value`, `attention.output`, `intermediate`,
            `output`.
    """

    rank: int = validated_field(not_negative, default=0)
    alpha: float = validated_field(in_range(1e-3, 1e4), default=16.0)
    dropout: float = validated_field(in_range(0.0, 0.999), default=0.0)
    targets: list[str] = validated_field(each_one_of(TARGETS), default_factory=lambda: ["query", "value"])

    def check(self, where: str) -> None:
        """Raise E307 for an adapter without layers, and for options that need one."""
        if self.rank and not self.targets:
            place = f"{where}: adapter.targets"
            fix = f"use some of {', '.join(TARGETS)}"
            raise error("E307", where=place, what="is empty", fix=fix, detail="missing")
        if not self.rank and self != AdapterOptions():
            place = f"{where}: adapter.rank"
            what = "is 0, so no adapter is trained, but other options of adapter are set"
            raise error("E307", where=place, what=what, fix="give a rank, such as 8", detail="missing")


class Adapter:
    """A LoRA adapter inside a model.

    Args:
        model: gets the adapter, in place, at its start without effect; the rest, the classifier aside, is frozen.
        options: with a rank above 0.
        base: name or folder of the checkpoint that the model came from, for the adapter's files. Of an absolute path
            only the last part is told, as `./name`, which is no name on the Hub.
        revision: of the base on the Hub, None for `main`.

    Raises:
        AstConfigError: E307 for a rank above the model's width.
    """

    def __init__(
        self, model: ASTForAudioClassification, options: AdapterOptions, base: str, revision: str | None = None
    ) -> None:
        from peft import LoraConfig

        width = model.config.hidden_size
        if options.rank > width:
            what = f"{options.rank} is more than the rank of any weight of a model {width} wide"
            raise error("E307", where="adapter.rank", what=what, fix=f"give at most {width}, such as 8")
        self.base_digest = backbone_digest(model)
        layers = "|".join(TARGETS[name] for name in options.targets).replace(".", r"\.")
        config = LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,  # type: ignore[arg-type]  # a number that is divided by the rank
            lora_dropout=options.dropout,
            target_modules=rf".*encoder\.layer\.\d+\.(?:{layers})",
            modules_to_save=[_HEAD],
        )
        self._model, self._adapted, self._config = model, inserted(model, config), config
        self.base = f"./{Path(base).name}" if Path(base).is_absolute() else base
        config.base_model_name_or_path, config.revision = self.base, revision

    def save(self, folder: Path, extractor: Any = None) -> None:
        """Write what peft reads (configuration and weights, the classifier among them), and what `ast-hf merge` needs:
        the model's configuration, which has the labels, and the feature extractor's.
        """
        from peft import get_peft_model_state_dict

        folder.mkdir(parents=True, exist_ok=True)
        state = get_peft_model_state_dict(self._adapted, save_embedding_layers=False)
        tensors = {name: tensor.detach().contiguous() for name, tensor in state.items()}
        save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt", BASE_DIGEST: self.base_digest})
        as_open_writes(folder / ADAPTER_WEIGHTS)
        config = copy.copy(self._config)
        config.inference_mode = True  # as peft writes it: whoever loads the adapter trains it only when asked to
        config.save_pretrained(str(folder))
        self._model.config.save_pretrained(folder)
        if extractor is not None:
            extractor.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; raises E306 when it was trained on another base."""
        check_base(folder / ADAPTER_WEIGHTS, self.base_digest, "start from the base that the run began with")
        fill(self._adapted, load_file(folder / ADAPTER_WEIGHTS), str(folder))

    @torch.no_grad()
    def plain_state(self) -> dict[str, torch.Tensor]:
        """State dict of the plain model: the products added to the weights that they stand beside. The model stays."""
        from peft.tuners.lora import LoraLayer

        products = {
            f"{name}.weight": layer.get_delta_weight(_NAME)  # type: ignore[attr-defined]  # of Linear
            for name, layer in self._model.named_modules()
            if isinstance(layer, LoraLayer)
        }
        state = {
            name.replace(".base_layer.", ".").replace(f".modules_to_save.{_NAME}.", "."): tensor
            for name, tensor in self._model.state_dict().items()
            if ".lora_" not in name and ".original_module." not in name
        }
        sums = {name: (state[name] + product).to(state[name].dtype) for name, product in products.items()}
        return {**state, **sums}

    def merge(self) -> None:
        """Make the model a plain one, in place, with the weights of `plain_state`."""
        self._adapted.merge_and_unload()


def inserted(model: ASTForAudioClassification, config: Any) -> Any:
    """The model inside peft's; the adapter goes into the model itself."""
    from peft import get_peft_model

    config.base_model_name_or_path = None  # peft sets it, and warns when it was another
    with warnings.catch_warnings():  # peft asks for a property that transformers renamed
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, config)


def fill(adapted: Any, state: dict[str, torch.Tensor], where: str) -> None:
    """Give an adapter its weights; raises E305 unless they are just what it takes."""
    from peft import set_peft_model_state_dict
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

    fix = "check that adapter_config.json and the base belong to these weights"
    try:
        result: Any = set_peft_model_state_dict(adapted, state)
    except RuntimeError as problem:  # torch's, for shapes that do not fit
        what = f"does not fit the base ({' '.join(str(problem).split())[-160:]})"
        raise error("E305", where=repr(where), what=what, fix=fix) from problem
    parts = (PEFT_TYPE_TO_PREFIX_MAPPING[adapted.peft_config[_NAME].peft_type], f".modules_to_save.{_NAME}.")
    missing = [name for name in result.missing_keys if any(part in name for part in parts)]
    for names, what in ((missing, "lacks"), (result.unexpected_keys, "holds, and the model has no place for,")):
        if names:
            raise error("E305", where=repr(where), what=f"{what} {len(names)} tensors, first {names[0]}", fix=fix)


def backbone_digest(model: ASTForAudioClassification) -> str:
    """SHA-256 of a model's backbone in float32, hexadecimal; patch kernel and positions are left out, since these alone
    change with the size of the input.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.base_model.state_dict().items()):
        if name not in (KERNEL, POSITIONS):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()


def check_base(weights: Path, digest: str, fix: str) -> bool:
    """Raise E306 when an adapter's weights name another base; returns whether they name one at all."""
    with safe_open(weights, framework="pt") as stored:
        trained_on = (stored.metadata() or {}).get(BASE_DIGEST)
    if trained_on not in (None, digest):
        what = "was trained beside other weights than those of this base"
        raise error("E306", where=repr(str(weights.parent)), what=what, fix=fix)
    return trained_on is not None
