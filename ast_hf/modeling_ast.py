"""Audio Spectrogram Transformer: patches -> transformer blocks -> pooled token -> logits.

Modules have the names of the tensors in checkpoints on the Hub, so that loading and saving rename nothing
(`audio_spectrogram_transformer.encoder.layer.0.attention.attention.query.weight`, ...). Shapes in comments:
B clips, T frames, M mel bins, N tokens (class, distillation, patches frequency-major), C hidden size, L
labels.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from .audio_embedding import get_audio_embedding
from .configuration_ast import FITTED_FIELDS, ASTConfig, Geometry
from .downloads import verify_loaded
from .embeddings_ast import ASTEmbeddings, columns_seen, token_mask
from .errors import AstHfWarning, error, nearest, warn_once, warning_text
from .files import apply_default_mode
from .last_block import (
    NUM_SPECIAL,
    SPECIAL_TOKENS,
    can_shorten,
    has_hooks,
    is_plain_linear,
    special_token_attention,
)
from .losses import classification_loss, infer_problem_type
from .padded_attention import SEGMENTS, mask_for, segment_attention, segments, takes_segments
from .patchout import Patchout
from .task import Task
from .weights.checkpoints import HUB_ARGUMENTS, find_checkpoint, quantization_explained
from .weights.geometry import check_choices
from .weights.image_transformers import (
    check_options,
    check_unchanged_parts,
    initial_state,
    read_image_transformer,
)
from .weights.integrity import check_adapter, check_label_count, check_loaded, check_state
from .weights.loading import changed_geometry, load_report_hidden, named_state, state_for
from .weights.names import BACKBONE, HEAD, HEAD_BIAS, hub_name
from .weights.peft_names import own_arguments, own_config

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Arguments of `forward`, for "did you mean".
_FORWARD_ARGUMENTS = ("input_values", "labels", "attention_mask", "output_attentions", "output_hidden_states")


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return softmax attention and its weights; the only implementation that can return weights.

    `query`, `key` and `value` are `(B, heads, N, C / heads)`. `attention_mask` is added to the scores.

    Returns:
        Attended values `(B, N, heads, C / heads)` and weights `(B, heads, N, N)`.
    """
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = nn.functional.dropout(weights, p=dropout, training=module.training) @ value
    return mixed.transpose(1, 2), weights


class ASTSelfAttention(nn.Module):
    """Multi-head self-attention without its output projection."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.config = config
        self.head_size = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_size**-0.5
        self.dropout = config.attention_probs_dropout_prob
        self.is_causal = False  # read by transformers' attention functions
        self.query = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.key = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.value = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)

    def forward(
        self, hidden: torch.Tensor, attention_mask: torch.Tensor | None, implementation: str
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if implementation == SPECIAL_TOKENS:
            projections = (self.query, self.key, self.value)
            return special_token_attention(hidden, attention_mask, projections, self.head_size), None
        query, key, value = (
            part.reshape(*part.shape[:-1], -1, self.head_size) for part in self._projected(hidden)
        )
        if implementation == SEGMENTS:
            return segment_attention(query, key, value, attention_mask), None
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention)
        dropout = self.dropout if self.training else 0.0
        mixed, weights = attend(
            self, query, key, value, attention_mask, scaling=self.scaling, dropout=dropout
        )
        return mixed.flatten(2), weights

    def _projected(self, hidden: torch.Tensor) -> Sequence[torch.Tensor]:
        """Return queries, keys and values, each `(B, N, C)`; under compilation of one product, as they are equal."""
        linears = (self.query, self.key, self.value)
        if not torch.compiler.is_compiling() or not _are_joinable(linears):
            return [linear(hidden) for linear in linears]
        weight = torch.cat([linear.weight for linear in linears])
        bias = None if self.query.bias is None else torch.cat([linear.bias for linear in linears])
        return nn.functional.linear(hidden, weight, bias).chunk(3, dim=-1)


def _are_joinable(linears: Sequence[nn.Linear]) -> bool:
    """Return True if layers of the same input are the same as one: plain ones, all with a bias or none."""
    if not all(is_plain_linear(linear) and not has_hooks(linear) for linear in linears):
        return False
    return len({linear.bias is None for linear in linears}) == 1


class ASTDense(nn.Module):
    """Linear layer under the name `dense`, as in checkpoints."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.dense(hidden)


class ASTAttention(nn.Module):
    """Self-attention and its output projection."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.attention = ASTSelfAttention(config)
        self.output = ASTDense(config.hidden_size, config.hidden_size)

    def forward(
        self, hidden: torch.Tensor, attention_mask: torch.Tensor | None, implementation: str
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        mixed, weights = self.attention(hidden, attention_mask, implementation)
        return self.output(mixed), weights


class ASTLayer(GradientCheckpointingLayer):
    """One pre-norm transformer block, as in ViT."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.attention = ASTAttention(config)
        self.intermediate = ASTDense(config.hidden_size, config.intermediate_size)
        self.output = ASTDense(config.intermediate_size, config.hidden_size)
        self.layernorm_before = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layernorm_after = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.activation = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, hidden: torch.Tensor, attention_mask: torch.Tensor | None, implementation: str
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        attended, weights = self.attention(self.layernorm_before(hidden), attention_mask, implementation)
        if implementation == SPECIAL_TOKENS:
            hidden = hidden[:, :NUM_SPECIAL]
        hidden = hidden + self.dropout(attended)
        widened = self.activation(self.intermediate(self.layernorm_after(hidden)))
        return hidden + self.dropout(self.output(widened)), weights


class ASTEncoder(nn.Module):
    """Stack of transformer blocks."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(ASTLayer(config) for _ in range(config.num_hidden_layers))

    def forward(
        self,
        hidden: torch.Tensor,
        attention_mask: torch.Tensor | None,
        implementation: str,
        *,
        special_mask: torch.Tensor | None = None,
        special_tokens_only: bool = False,
        output_hidden_states: bool = True,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        """Return the hidden states, input first, and each block's attention weights (None unless eager).

        Args:
            hidden: embedded tokens `(B, N, C)`.
            attention_mask: mask in the form that `implementation` takes.
            implementation: name of the attention function.
            special_mask: mask that is added to the scores, for `special_tokens_only`.
            special_tokens_only: compute the last state for the class and distillation token only, `(B, 2, C)`.
            output_hidden_states: return all states; else the last one only, and the others are freed early.
        """
        states = [hidden]
        attentions = []
        for number, layer in enumerate(self.layer, start=1):
            if special_tokens_only and number == len(self.layer):
                hidden, weights = layer(hidden, special_mask, SPECIAL_TOKENS)
            else:
                hidden, weights = layer(hidden, attention_mask, implementation)
            states = [*states, hidden] if output_hidden_states else [hidden]
            attentions.append(weights)
        return states, attentions


class ASTPreTrainedModel(PreTrainedModel):
    """Base class of the models: initialisation, strict loading and transformers' class attributes."""

    config: ASTConfig
    config_class = ASTConfig
    base_model_prefix = "audio_spectrogram_transformer"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["ASTEmbeddings", "ASTLayer"]  # noqa: RUF012 (transformers reads a class attribute)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": ASTLayer, "attentions": ASTSelfAttention}  # noqa: RUF012
    _has_classifier = False  # True in classes whose checkpoints contain a classifier
    is_optimized = False  # True for a copy whose weights are packed for inference
    get_audio_embedding = get_audio_embedding

    def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any) -> None:
        ast_config = ASTConfig.converted(config)
        ast_config.validate()  # fields may have been set after the config was built
        super().__init__(ast_config, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise a module as timm 0.4.5 initialises a ViT.

        Truncated normal for linear layers, tokens and positions; torch's default for the patch projection.
        """
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            bound = 1 / math.sqrt(module.weight[0].numel())
            init.uniform_(module.weight, -bound, bound)
            init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, ASTEmbeddings):
            for parameter in (module.cls_token, module.distillation_token, module.position_embeddings):
                init.trunc_normal_(parameter, std=std)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | PathLike | None, *model_args: Any, **kwargs: Any
    ) -> Any:
        """Load a checkpoint from a folder or the Hub; the backbone is never left partly random.

        Works as `PreTrainedModel.from_pretrained`, with these differences:

        - Every tensor of the backbone must be present, have the right shape and be finite.
        - Only the classifier may be new: if the checkpoint has none, or if `num_labels`, `id2label` or
          `config` request another number of labels. A warning (W303) then names the new tensors.
        - The fields of `Geometry` (`max_length`, `num_mel_bins`, `patch_size`, `frequency_stride`,
          `time_stride`) may be changed, and the weights are adapted (see `resize_input`).
        - `state_dict` may have the names of tensors on the Hub, in transformers 5 or in the original
          repository, and `config` may be transformers' own `ASTConfig`.

        Raises:
            AstConfigError: E305 for missing, unexpected or misshapen tensors, which the message names, and
                for a classifier that does not match config.json. E306 for damaged files. E302 for an invalid
                geometry.
        """
        source = pretrained_model_name_or_path
        return_info = kwargs.pop("output_loading_info", False)
        state: dict[str, torch.Tensor] | None
        if isinstance(kwargs.get("config"), PreTrainedConfig):
            kwargs["config"] = ASTConfig.converted(kwargs["config"])
        if kwargs.get("state_dict") is not None:
            state = named_state(kwargs["state_dict"])
        else:
            checkpoint = find_checkpoint(source, kwargs)
            if checkpoint is not None and cls._has_classifier:
                check_label_count(checkpoint, kwargs)
            state = state_for(checkpoint, source, kwargs, cls.config_class.model_type)
        kwargs |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
        with load_report_hidden():  # `check_loaded` checks the same report, and its errors are more detailed
            if state is None:
                with quantization_explained(source, kwargs):
                    model, info = super().from_pretrained(source, *model_args, **kwargs)
                verify_loaded(source, "config.json", kwargs, with_others=True)
            else:
                kwargs["config"] = kwargs.get("config") or source
                kwargs["state_dict"] = cls._under_own_names(state)
                model, info = super().from_pretrained(None, *model_args, **kwargs)
        if state is not None and source is not None:
            model.name_or_path = model.config.name_or_path = str(source)
        where = "state_dict" if source is None else str(source)
        if not cls._has_classifier:  # the base model ignores a classifier
            info["unexpected_keys"] = {name for name in info["unexpected_keys"] if not name.startswith(HEAD)}
        random = check_loaded(model, info, where)
        if random:
            names = ", ".join(random)
            text = f"has no classifier for {model.config.num_labels} labels; {names} are newly initialised"
            warnings.warn(warning_text("W303", where=where, what=text), AstHfWarning, 2)
        return (model, info) if return_info else model

    def save_pretrained(self, save_directory: str | PathLike, *args: Any, **kwargs: Any) -> None:
        """Save as `PreTrainedModel.save_pretrained`, with the file mode of config.json for the weights.

        A classifier that was replaced by one for another number of labels is saved with generic names (W306).
        Raises E305 for a copy by `optimize_for_inference`, whose weights are packed.
        """
        if self.is_optimized:
            fix = "save the model that it was made of"
            raise error(
                "E305", where=str(save_directory), what="the weights are packed for inference", fix=fix
            )
        super().save_pretrained(save_directory, *args, **kwargs)
        apply_default_mode(*Path(save_directory).glob("model*.safetensors"))

    @functools.wraps(PreTrainedModel.load_adapter)
    def load_adapter(self, *args: Any, **kwargs: Any) -> Any:
        """Load an adapter as `PreTrainedModel.load_adapter`; modules may have their names in transformers 5.

        Raises:
            AstConfigError: E305 for an adapter of another model, which transformers would load in part; E306
                for an adapter with NaN. The model has to be loaded again afterwards.
        """
        arguments = own_arguments(self, *args, **kwargs)
        source = str(arguments.get("peft_model_id") or "adapter_state_dict")
        try:
            with load_report_hidden():
                info = super().load_adapter(**arguments)
        except RuntimeError as problem:  # tensors of other sizes
            what = "has tensors of other sizes than this model's layers"
            fix = "load it into a model with the sizes and labels that it was trained with"
            raise error("E305", where=source, what=what, fix=fix) from problem
        check_adapter(self, info, source, arguments.get("adapter_name") or "default")
        return info

    def add_adapter(self, adapter_config: Any, adapter_name: str | None = None) -> None:
        """Add an adapter as `PreTrainedModel.add_adapter`; layers may have their names in transformers 5."""
        super().add_adapter(own_config(adapter_config, self), adapter_name)

    @classmethod
    def from_vit(
        cls,
        source: Any,
        *,
        frequency_stride: int = 10,
        time_stride: int = 10,
        max_length: int = 1024,
        num_mel_bins: int = 128,
        patch_size: int = 16,
        channel_reduction: str = "sum",
        position_init: str = "adapt",
        kernel_method: str = "flexivit",
        num_attention_heads: int | None = None,
        **fields: Any,
    ) -> Any:
        """Initialise from an image transformer, as the AST paper does from ImageNet weights (section 2.2).

        Reads DeiT with or without distillation, ViT, DINOv2 without registers and MAE, with the tensor names
        of transformers or timm, trained on square images of any size. A model without a distillation token
        gets a copy of its class token and of that token's position. LayerScale is folded exactly into the
        layers before it.

        Args:
            source: a name on the Hub, a folder, a loaded model, or a state dict.
            frequency_stride: step between patches, in mel bins. This and the next four are fields of
                `ASTConfig`.
            time_stride: step between patches, in frames.
            max_length: frames of the input.
            num_mel_bins: mel bins of the input.
            patch_size: side of the patches; the kernel is resampled if the source's patches differ in size.
            channel_reduction: reduction of the three colour channels of the patch kernel, `"sum"` (the
                original's code) or `"mean"` (its paper).
            position_init: `"adapt"`, the original's rule, cuts the centre out of the square grid where the
                spectrogram's grid is smaller, and stretches bilinearly where it is larger. `"nearest"` takes
                nearest neighbours instead. `"reinit"` draws new positions (AST paper, table 4).
            kernel_method: `"flexivit"` or `"bicubic"`, see `resize_input`.
            num_attention_heads: needed only for a state dict of an unusual width.
            **fields: other fields of `ASTConfig`: `num_labels` or `id2label`, `problem_type`, dropouts, ...;
                and `revision`, `token`, `cache_dir`, `subfolder`, ... as for `from_pretrained`.

        Returns:
            A model in float32, or in `dtype` if given. Its classifier is random.

        Raises:
            AstConfigError: E305 for architectures that AST cannot represent (register tokens, SwiGLU,
                relative positions) and for missing tensors, E306 for damaged files, E302 for invalid fields.
            AstInputError: E102 and E108 for invalid arguments.
        """
        check_options(channel_reduction, position_init, kernel_method)
        hub = {name: fields.pop(name) for name in HUB_ARGUMENTS if name in fields}
        vit = read_image_transformer(source, num_attention_heads, hub)
        geometry = Geometry(max_length, num_mel_bins, patch_size, frequency_stride, time_stride)
        for name in fields.keys() & vit.fields.keys() - {"layer_norm_eps"}:
            fix = "leave it out: it follows from the weights"
            raise error("E108", where=name, what="cannot be chosen for existing weights", fix=fix)
        config = ASTConfig(**{**vit.fields, **geometry._asdict(), **fields})
        check_unchanged_parts(vit, config)
        model = cls(config)
        state = initial_state(
            vit, geometry, channel_reduction, position_init, kernel_method, model.config.initializer_range
        )
        check_state(state, model.base_model.state_dict(), vit.name)
        model.base_model.load_state_dict(state)
        if isinstance(source, (str, PathLike)):
            model.name_or_path = model.config.name_or_path = str(source)
        return model.to(model.config.dtype or torch.float32).eval()

    @classmethod
    def _under_own_names(cls, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a state dict with the base model's names under the names of this class."""
        prefixes = {name: "" if name.startswith("classifier.") else BACKBONE for name in state}
        return {f"{prefixes[name]}{name}": tensor for name, tensor in state.items()}

    @torch.no_grad()
    def resize_input(
        self,
        *,
        position_method: str = "adapt",
        position_cut: str = "centre",
        kernel_method: str = "flexivit",
        **sizes: int,
    ) -> Any:
        """Adapt this model in place to another input size, stride or patch size.

        Position embeddings follow the original's rule: along an axis where the patch grid shrinks, its centre
        is cut out; where it grows, it is stretched bilinearly. The patch kernel is resampled if `patch_size`
        changes. Create the optimizer afterwards, since parameters are replaced.

        Args:
            position_method: `"adapt"`, the rule above; `"nearest"`, the same with nearest neighbours;
                `"stretch"`, which also shrinks by interpolation, so that positions keep their place in the
                clip when a stride changes.
            position_cut: part of the time axis that is cut out, `"centre"` or `"start"`.
            kernel_method: `"flexivit"` (pseudo-inverse, arXiv 2212.08013) or `"bicubic"`.
            **sizes: new values for fields of `Geometry`: `max_length`, `num_mel_bins`, `patch_size`,
                `frequency_stride`, `time_stride`.

        Returns:
            The model itself.

        Raises:
            AstConfigError: E302 for an invalid size.
            AstInputError: E108 for an unknown argument or choice.
        """
        check_choices(position_method=position_method, position_cut=position_cut, kernel_method=kernel_method)
        new = changed_geometry(self.config.geometry, sizes)
        self.base_model.embeddings.resize(
            new, method=position_method, cut=position_cut, kernel_method=kernel_method
        )
        for name, value in new._asdict().items():
            setattr(self.config, name, value)
        return self

    def factor_positions(self) -> Any:
        """Train a position for each row and each column of patches instead of one for each patch.

        The new positions start as the least-squares fit to the present ones. `state_dict()` and files contain
        the table of their sums. Create the optimizer afterwards. Returns the model itself.
        """
        self.base_model.embeddings.factor_positions()
        return self


class ASTModel(ASTPreTrainedModel):
    """AST without a classifier: hidden states of all tokens, and the special tokens' mean as embedding."""

    @classmethod
    def _under_own_names(cls, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: state[name] for name in state if not name.startswith("classifier.")}

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        config = self.config  # converted if it was transformers' own
        self.embeddings = ASTEmbeddings(config)
        self.encoder = ASTEncoder(config)
        self.patchout = Patchout()  # set by training, not part of a checkpoint
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.register_load_state_dict_pre_hook(_rename_blocks)
        self.post_init()

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer blocks, under their name in transformers 5."""
        return self.encoder.layer

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "layers":  # torch registers modules without calling a property's setter
            self.encoder.layer = value
        else:
            super().__setattr__(name, value)

    def get_input_embeddings(self) -> nn.Module:
        """Return the patch projection."""
        return self.embeddings.patch_embeddings

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | int | Sequence[int] | None = None,
        special_tokens_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],  # type: ignore[misc]
    ) -> BaseModelOutputWithPooling:
        """Run the transformer.

        Args:
            input_values: normalised log-mel spectrograms, `(batch, max_length, num_mel_bins)`.
            attention_mask: 1 on real frames, `(batch, max_length)`, as the feature extractor returns, or 1 on
                visible tokens, `(batch, tokens)`. A patch is attended to if all of its frames are real;
                special tokens always are. None attends to every frame, padding included, as published weights
                were trained.
            output_attentions: also return the attention weights (computed by the eager implementation for
                this call).
            output_hidden_states: also return the embeddings and every block's output, before the last
                LayerNorm. An index or several return those states only, with None for the others.
            special_tokens_only: the caller reads `pooler_output` only. `last_hidden_state` then may have the class
                and distillation token only, `(batch, 2, hidden_size)`, which saves most of the last block, and tokens
                that `attention_mask` hides may have other values.
            **kwargs: arguments that transformers passes to every model; `return_dict=False` returns a tuple.
                Names that look misspelt give a warning (W302).

        Returns:
            `last_hidden_state` `(batch, tokens, hidden_size)` after the last LayerNorm, `pooler_output`
            `(batch, hidden_size)`: the mean of its class and distillation tokens (AST paper, section 2.2).

        Raises:
            AstInputError: E304 when the input does not fit the model.
        """
        if kwargs:
            _warn_misspelt(kwargs)
        check_input(self.config, input_values)
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        implementation = "eager" if output_attentions else self.config._attn_implementation or "eager"
        embedded, visible = self._embedded(input_values, attention_mask)
        keeps_states = output_hidden_states is not False
        # Both the short cut and segments change other tokens than the special ones.
        reads_special = special_tokens_only and not keeps_states
        shortens = reads_special and self._can_shorten(implementation, output_attentions)
        clips = None
        mask = None
        special_mask = None
        masks_frames = attention_mask is not None and attention_mask.shape[1] == input_values.shape[1]
        if masks_frames and reads_special and self._takes_segments(embedded, implementation):
            clips = segments(visible)
            embedded = clips.sort(embedded)
            mask, visible, implementation = clips.bounds, clips.visible, SEGMENTS
        elif visible is not None:
            mask = mask_for(visible, embedded, self.config, implementation)
        if shortens and visible is not None:
            special_mask = mask_for(visible, embedded, self.config, "eager")
        states, attentions = self.encoder(
            embedded,
            mask,
            implementation,
            special_mask=special_mask,
            special_tokens_only=shortens,
            output_hidden_states=keeps_states,
        )
        last = states[-1]
        if clips is not None and not shortens:
            last = clips.unsort(last)
        last = self.layernorm(last)
        return BaseModelOutputWithPooling(
            last_hidden_state=last,
            pooler_output=(last[:, 0] + last[:, 1]) / 2,
            hidden_states=_select_states(states, output_hidden_states),
            attentions=tuple(attentions) if output_attentions else None,
        )

    def _can_shorten(self, implementation: str, output_attentions: bool) -> bool:
        """Return True if the last block can be computed for the special tokens only."""
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        outer = (self, self.encoder, self.layernorm)
        return not output_attentions and can_shorten(self.encoder.layer[-1], outer, implementation, dropout)

    def _embedded(
        self, input_values: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the tokens `(B, N, C)`, in training those that patchout leaves, and a bool mask over them or None."""
        batch, frames = input_values.shape[:2]
        grid = self.config.grid_for(frames)
        visible = None if attention_mask is None else token_mask(self.config, attention_mask, batch, frames)
        embedded = self.embeddings(input_values, None if visible is None else columns_seen(visible, grid))
        if self.training and self.patchout:
            tokens = self.patchout.kept_tokens(grid, embedded.device)
            embedded = embedded.index_select(1, tokens)
            visible = None if visible is None else visible.index_select(1, tokens)
        return embedded, visible

    def _takes_segments(self, embedded: torch.Tensor, implementation: str) -> bool:
        """Return True if padding that is masked by frames, so that special tokens are visible, needs no mask."""
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        takes = takes_segments(embedded, self.config, implementation, dropout=dropout, modules=self.encoder)
        return takes and _is_own(self.encoder)


def _is_own(encoder: nn.Module) -> bool:
    """Return True if no class of the user's own takes the mask, in whose place `SEGMENTS` passes their bounds."""
    found = Counter(type(module) for module in encoder.modules())
    depth = len(encoder.layer)
    return all(found[kind] == depth for kind in (ASTLayer, ASTAttention, ASTSelfAttention))


def _rename_blocks(_module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename tensors from their names in transformers 5; torch passes a copy of the state dict."""
    for name in [name for name in state_dict if name.startswith(f"{prefix}layers.")]:
        state_dict[prefix + hub_name(name.removeprefix(prefix))] = state_dict.pop(name)


def _select_states(
    states: list[torch.Tensor], selection: bool | int | Sequence[int]
) -> tuple[torch.Tensor | None, ...] | None:
    """Return all states (True), None (False), or those at the valid indices with None for the others."""
    if isinstance(selection, bool):
        return tuple(states) if selection else None
    indices = {selection} if isinstance(selection, int) else set(selection)
    count = len(states)
    return tuple(state if {index, index - count} & indices else None for index, state in enumerate(states))


class ASTClassificationHead(nn.Module):
    """Classifier: LayerNorm and a linear layer."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.head_eps)
        self.dense = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.dense(self.layernorm(pooled))


class ASTForAudioClassification(ASTPreTrainedModel):
    """AST with a classifier, for single-label or multi-label classification, or regression; see `Task`."""

    _has_classifier = True

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        config = self.config  # converted if it was transformers' own
        self.num_labels = config.num_labels
        self.audio_spectrogram_transformer = ASTModel(config)
        self.classifier = ASTClassificationHead(config)
        self.loss_kind: str | None = None  # set by training to use another loss than the problem type's
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | int | Sequence[int] | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],  # type: ignore[misc]
    ) -> SequenceClassifierOutput:
        """Score clips, and compute the loss if `labels` are passed.

        Args:
            input_values: as for `ASTModel`, like `attention_mask`, `output_attentions` and
                `output_hidden_states`.
            labels: class indices `(batch,)`, class probabilities `(batch, num_labels)` (mixup, distillation),
                0/1 tags `(batch, num_labels)`, or numbers; see `ast_hf.losses` for their losses.
            num_items_in_batch: number of labels in all batches of an optimizer step, as counted by
                transformers' Trainer; the loss is then a sum divided by it.
            **kwargs: as for `ASTModel`.

        Returns:
            `logits` `(batch, num_labels)`; `loss`, a scalar, if labels were passed; `hidden_states` and
            `attentions` if requested.

        Raises:
            AstInputError: E304 for an input that does not fit the model.
            AstDataError: E208 for labels that do not fit the model.
        """
        outputs = self.audio_spectrogram_transformer(
            input_values,
            attention_mask=attention_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            special_tokens_only=True,
            **{**kwargs, "return_dict": True},
        )
        logits = self.classifier(outputs.pooler_output)
        return SequenceClassifierOutput(
            loss=None if labels is None else self._loss(logits, labels, num_items_in_batch, kwargs),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, items: Any, kwargs: Mapping[str, Any]
    ) -> torch.Tensor:
        """Return the loss: `self.loss_function` if it was set or overridden, else `classification_loss`."""
        overridden = type(self).loss_function is not PreTrainedModel.loss_function
        if overridden or hasattr(self, "_loss_function"):
            item_count = {} if items is None else {"num_items_in_batch": items}
            return self.loss_function(labels, logits, self.config, **item_count, **kwargs)
        kind = self.loss_kind or self.config.problem_type
        task = infer_problem_type(kind, logits.shape[-1], labels)
        if kind is None and task == Task.MULTI_LABEL and not torch.compiler.is_compiling():
            text = (
                "is not set, and the labels look like tags: the loss uses sigmoid, a pipeline softmax; "
                f"set config.problem_type = {Task.MULTI_LABEL.value!r} before the model is saved"
            )
            warn_once("W309", where="config.problem_type", what=text)
        return classification_loss(logits, labels, task, items)

    def save_pretrained(self, save_directory: str | PathLike, *args: Any, **kwargs: Any) -> None:
        """Save as the base class, with the label count and the bias of a classifier that was replaced."""
        self._describe_classifier()
        dense = getattr(self.classifier, "dense", None)
        if isinstance(dense, nn.Linear) and dense.bias is None:  # other tools require a bias
            state = self.state_dict() if kwargs.get("state_dict") is None else kwargs["state_dict"]
            kwargs["state_dict"] = {**state, HEAD_BIAS: torch.zeros(dense.out_features, dtype=self.dtype)}
        super().save_pretrained(save_directory, *args, **kwargs)

    def _describe_classifier(self) -> None:
        """Set the config's label count to the classifier's, with generic names and a warning (W306)."""
        dense = getattr(self.classifier, "dense", self.classifier)
        outputs = None if dense is self.classifier else getattr(dense, "out_features", None)
        if outputs is None:
            kind = type(dense).__name__
            text = f"is a {kind}, which config.json cannot describe: from_pretrained cannot rebuild it"
            warnings.warn(warning_text("W306", where="classifier", what=text), AstHfWarning, stacklevel=3)
        elif outputs != self.config.num_labels:
            text = (
                f"has {outputs} outputs, but the config has {self.config.num_labels} labels: "
                f"LABEL_0 to LABEL_{outputs - 1} are saved; set config.id2label to name them"
            )
            warnings.warn(warning_text("W306", where="classifier", what=text), AstHfWarning, stacklevel=3)
            self.num_labels = outputs
            self.config.num_labels = outputs
            for field in FITTED_FIELDS:
                setattr(self.config, field, None)


def _warn_misspelt(arguments: Mapping[str, Any]) -> None:
    """Warn (W302) about misspelt arguments of `forward`; other names may be columns that a Trainer passes."""
    for name in arguments:
        if name in TransformersKwargs.__annotations__:
            continue
        if near := nearest(name, _FORWARD_ARGUMENTS, cutoff=0.8):
            text = f"is not an argument of forward and has no effect; did you mean {near!r}?"
            warnings.warn(warning_text("W302", where=name, what=text), AstHfWarning, stacklevel=4)


def check_input(config: ASTConfig, input_values: Any) -> None:
    """Raise E304 unless the input is a float tensor `(batch >= 1, frames >= patch_size, num_mel_bins)`."""
    if not isinstance(input_values, torch.Tensor) or not input_values.is_floating_point():
        kind = input_values.dtype if isinstance(input_values, torch.Tensor) else type(input_values).__name__
        fix = "pass what ASTFeatureExtractor returns with return_tensors='pt'"
        raise error("E304", where="input_values", what=f"is {kind}, not a float tensor", fix=fix)
    shape = tuple(input_values.shape)
    bins = config.num_mel_bins
    if len(shape) == 3 and shape[0] > 0 and shape[1] >= config.patch_size and shape[2] == bins:
        return
    what = f"has shape {shape}, the model takes (batch, frames, num_mel_bins={bins})"
    fix = "extract the features with the checkpoint's ASTFeatureExtractor"
    if shape[1:] == (bins, config.max_length):
        fix = "swap the last two axes: time comes before mel bins"
    elif len(shape) == 2:
        fix = "add the batch axis: input_values[None]"
    elif len(shape) == 3 and shape[2] == bins:
        least = f"one patch ({config.patch_size} frames)"
        what = f"has shape {shape}, the model takes a batch of clips of at least {least}"
        fix = "pad to max_length, the extractor's default"
    raise error("E304", where="input_values", what=what, fix=fix)
