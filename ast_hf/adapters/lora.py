"""Low-rank adapters (LoRA, arXiv 2106.09685) through peft: options, insertion into a model, and files.

The adapter is inserted into the model instead of wrapping it, so the model that is trained, evaluated and
saved is still an AST. Two kinds of files are written: the plain model with the adapter merged into its
weights, and the adapter alone as peft reads it.
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

from ..errors import error, short_reason
from ..files import apply_default_mode
from ..modeling_ast import ASTForAudioClassification
from ..strict_options import each_one_of, in_range, not_negative, strict_options
from ..weights.names import KERNEL, POSITIONS
from ..weights.reading import ADAPTER_WEIGHTS

#: Folder of the adapter inside a run's folder and inside its training checkpoints.
ADAPTER_FOLDER = "adapter"
#: Key of the base's digest in the metadata of an adapter's weights.
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
#: Module that is trained in full and stored with the adapter, since it depends on the labels.
_HEAD = "classifier"
#: peft's name of the only adapter of a model.
_NAME = "default"


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
        model: changed in place. The adapter starts without effect; all other weights but the classifier are
            frozen.
        options: with a rank above 0.
        base: name or folder of the checkpoint that the model came from, for the adapter's files. An absolute
            path is stored as `./` and its last part, which is not a name on the Hub.
        revision: of the base on the Hub, None for `main`.

    Attributes:
        base: as stored in the adapter's files.
        base_digest: SHA-256 of the base's backbone, see `backbone_digest`.

    Raises:
        AstConfigError: E307 for a rank above the model's width.
    """

    def __init__(
        self,
        model: ASTForAudioClassification,
        options: AdapterOptions,
        base: str,
        revision: str | None = None,
    ) -> None:
        from peft import LoraConfig

        width = model.config.hidden_size
        if options.rank > width:
            what = f"{options.rank} is more than the rank of any weight of a model {width} wide"
            fix = f"give at most {width}, such as 8"
            raise error("E307", where="adapter.rank", what=what, fix=fix, detail="data")
        self.base_digest = backbone_digest(model)
        layers = "|".join(TARGETS[name] for name in options.targets).replace(".", r"\.")
        config = LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,  # type: ignore[arg-type]  # a number that is divided by the rank
            lora_dropout=options.dropout,
            target_modules=rf".*encoder\.layer\.\d+\.(?:{layers})",
            modules_to_save=[_HEAD],
        )
        self._model = model
        self._adapted = insert_adapter(model, config)
        self._config = config
        self.base = f"./{Path(base).name}" if Path(base).is_absolute() else base
        config.base_model_name_or_path = self.base
        config.revision = revision

    def save(self, folder: Path, extractor: Any = None) -> None:
        """Write the adapter's configuration and weights, classifier included, as peft reads them.

        `ast-hf merge` also needs the model's configuration, which has the labels, and the extractor's.
        """
        from peft import get_peft_model_state_dict

        folder.mkdir(parents=True, exist_ok=True)
        state = get_peft_model_state_dict(self._adapted, save_embedding_layers=False)
        tensors = {name: tensor.detach().contiguous() for name, tensor in state.items()}
        save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt", BASE_DIGEST: self.base_digest})
        apply_default_mode(folder / ADAPTER_WEIGHTS)
        config = copy.copy(self._config)
        config.inference_mode = True  # as peft writes it: a loaded adapter is trained on request only
        config.save_pretrained(str(folder))
        self._model.config.save_pretrained(folder)
        if extractor is not None:
            extractor.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        """Load the weights that `save` wrote; raise E306 if they were trained on another base."""
        check_base(folder / ADAPTER_WEIGHTS, self.base_digest, "start from the base that the run began with")
        load_adapter_state(self._adapted, load_file(folder / ADAPTER_WEIGHTS), str(folder))

    @torch.no_grad()
    def plain_state(self) -> dict[str, torch.Tensor]:
        """Return the state dict of the plain model, with the products added; the model is unchanged."""
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
        """Turn the model into a plain one, in place, with the weights of `plain_state`."""
        self._adapted.merge_and_unload()


def insert_adapter(model: ASTForAudioClassification, config: Any) -> Any:
    """Insert an adapter into the model, in place, and return peft's wrapper around it."""
    from peft import get_peft_model

    config.base_model_name_or_path = None  # peft sets it, and warns if it was another
    with warnings.catch_warnings():  # peft reads a property that transformers renamed
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, config)


def load_adapter_state(adapted: Any, state: dict[str, torch.Tensor], where: str) -> None:
    """Load an adapter's weights, as peft stores them, into the wrapper from `insert_adapter`.

    Raises E305 unless names and shapes are exactly those of the adapter; `where` is its folder in the message.
    """
    from peft import set_peft_model_state_dict
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

    fix = "check that adapter_config.json and the base belong to these weights"
    try:
        result: Any = set_peft_model_state_dict(adapted, state)
    except RuntimeError as problem:  # torch's, for wrong shapes; the end of its text names them
        what = f"does not fit the base ({short_reason(problem, limit=10_000)[-160:]})"
        raise error("E305", where=repr(where), what=what, fix=fix) from problem
    parts = (PEFT_TYPE_TO_PREFIX_MAPPING[adapted.peft_config[_NAME].peft_type], f".modules_to_save.{_NAME}.")
    missing = [name for name in result.missing_keys if any(part in name for part in parts)]
    if missing:
        what = f"lacks {len(missing)} tensors, first {missing[0]}"
        raise error("E305", where=repr(where), what=what, fix=fix)
    if extra := result.unexpected_keys:
        what = f"holds {len(extra)} tensors that the model has no place for, first {extra[0]}"
        raise error("E305", where=repr(where), what=what, fix=fix)


def backbone_digest(model: ASTForAudioClassification) -> str:
    """Return the SHA-256 of a model's backbone in float32, hexadecimal.

    Patch kernel and positions are left out, since only these change with the size of the input.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.base_model.state_dict().items()):
        if name not in (KERNEL, POSITIONS):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()


def check_base(weights: Path, digest: str, fix: str) -> bool:
    """Raise E306 if an adapter was trained on another base than that of `digest`; False if unknown."""
    with safe_open(weights, framework="pt") as stored:
        trained_on = (stored.metadata() or {}).get(BASE_DIGEST)
    if trained_on not in (None, digest):
        what = "was trained on other weights than those of this base"
        raise error("E306", where=repr(str(weights.parent)), what=what, fix=fix, detail="mismatch")
    return trained_on is not None
