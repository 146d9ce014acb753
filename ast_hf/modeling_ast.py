"""The Audio Spectrogram Transformer: patches -> transformer blocks -> pooled token -> class scores.

Modules are named exactly as the tensors in checkpoints on the Hub (`audio_spectrogram_transformer.encoder.layer.0.
attention.attention.query.weight`, ...), so that loading and saving rename nothing. Shapes in comments: B clips,
T frames, M mel bins, N tokens (class, distillation, patches frequency-major), C hidden size, L labels.
"""

from __future__ import annotations

import math
import warnings
from os import PathLike
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import can_return_tuple

from .checkpoints import check_folder, check_loaded
from .configuration_ast import ASTConfig
from .errors import AstHfWarning, error, warning_text
from .losses import classification_loss


class ASTPatchEmbeddings(nn.Module):
    """Overlapping square patches of the spectrogram, each projected to one token (AST paper, section 2.1)."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.projection = nn.Conv2d(
            1, config.hidden_size, config.patch_size, stride=(config.frequency_stride, config.time_stride)
        )

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        image = input_values.transpose(1, 2).unsqueeze(1)  # (B, T, M) -> (B, 1, M, T)
        return self.projection(image).flatten(2).transpose(1, 2)  # (B, patches, C)


class ASTEmbeddings(nn.Module):
    """Class token, distillation token and patches, plus one learned position for each."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position_embeddings = nn.Parameter(torch.zeros(1, config.num_tokens, config.hidden_size))
        self.patch_embeddings = ASTPatchEmbeddings(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embeddings(input_values)
        special = torch.cat((self.cls_token, self.distillation_token), dim=1).expand(len(patches), -1, -1)
        return self.dropout(torch.cat((special, patches), dim=1) + self.position_embeddings)  # (B, N, C)


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,  # (B, heads, N, C / heads), as are key and value
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention written out, the one implementation that can also return its weights."""
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = nn.functional.dropout(weights, p=dropout, training=module.training) @ value
    return mixed.transpose(1, 2), weights  # (B, N, heads, C / heads), (B, heads, N, N)


class ASTSelfAttention(nn.Module):
    """Multi-head self-attention up to, but without, its output projection."""

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
        query, key, value = (
            part(hidden).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention)
        dropout = self.dropout if self.training else 0.0
        mixed, weights = attend(self, query, key, value, attention_mask, scaling=self.scaling, dropout=dropout)
        return mixed.flatten(2), weights


class ASTDense(nn.Module):
    """A linear layer that checkpoints know by the name `dense`."""

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
        hidden = hidden + self.dropout(attended)
        widened = self.activation(self.intermediate(self.layernorm_after(hidden)))
        return hidden + self.dropout(self.output(widened)), weights


class ASTEncoder(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(ASTLayer(config) for _ in range(config.num_hidden_layers))

    def forward(
        self, hidden: torch.Tensor, attention_mask: torch.Tensor | None, implementation: str
    ) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        """All hidden states (the input first) and the attention weights of each block."""
        states, attentions = [hidden], []
        for layer in self.layer:
            hidden, weights = layer(hidden, attention_mask, implementation)
            states.append(hidden)
            attentions.append(weights)
        return states, attentions


class ASTPreTrainedModel(PreTrainedModel):
    """What both models share: initialisation, strict loading, and what transformers asks about them."""

    config: ASTConfig
    config_class = ASTConfig
    base_model_prefix = "audio_spectrogram_transformer"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["ASTEmbeddings", "ASTLayer"]  # noqa: RUF012 (read by transformers as a class attribute)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def __init__(self, config: ASTConfig, *args: Any, **kwargs: Any) -> None:
        config.validate()  # fields may have been set since the config was built
        super().__init__(config, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As timm 0.4.5 starts a ViT: truncated normal for linear layers, tokens, positions; torch's for patches."""
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
        """Load a checkpoint of ours, of transformers, or of the Hub; never a partly random model.

        As `PreTrainedModel.from_pretrained`, with two differences: every backbone tensor has to be there, in shape and
        finite; and only a classifier may be new, when the checkpoint has none or one for another number of labels,
        which is said in one warning (W303).

        Raises:
            AstConfigError: E305 for missing, unexpected or misshapen tensors (named), E306 for broken files.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        if kwargs.get("state_dict") is None:
            check_folder(pretrained_model_name_or_path, subfolder=kwargs.get("subfolder", ""))
        kwargs |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
        model, info = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        fresh = check_loaded(model, info, str(pretrained_model_name_or_path))
        if fresh:
            text = f"has no classifier for {model.config.num_labels} labels; {', '.join(fresh)} start at random"
            warnings.warn(warning_text("W303", where=str(pretrained_model_name_or_path), what=text), AstHfWarning, 2)
        return (model, info) if wants_info else model


class ASTModel(ASTPreTrainedModel):
    """AST without a head: hidden states of all tokens; the mean of the special tokens as the clip's embedding."""

    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]  # noqa: RUF012 (a head is no concern of the base model)

    def __init__(self, config: ASTConfig) -> None:
        super().__init__(config)
        self.embeddings = ASTEmbeddings(config)
        self.encoder = ASTEncoder(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The patch projection."""
        return self.embeddings.patch_embeddings

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        """Run the transformer.

        Args:
            input_values: normalised log-mel spectrograms, `(batch, max_length, num_mel_bins)`.
            attention_mask: 1 on what is real: over frames `(batch, max_length)`, as the feature extractor returns, or
                over tokens `(batch, tokens)`. A patch is seen when all of its frames are real; the special tokens
                always are. None: every frame is seen, padding too, as published weights were trained.
            output_attentions: also return the attention weights (computed by the eager implementation for this call).
            output_hidden_states: also return the embeddings and every block's output, before the last LayerNorm.

        Returns:
            `last_hidden_state` `(batch, tokens, hidden_size)` after the last LayerNorm, `pooler_output`
            `(batch, hidden_size)`: the mean of its class and distillation tokens (AST paper, section 2.2).

        Raises:
            AstInputError: E304 when the input does not fit the model.
        """
        check_input(self.config, input_values)
        want_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        want_states = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        implementation = "eager" if want_attentions else self.config._attn_implementation or "eager"
        embedded = self.embeddings(input_values)
        mask = self._attention_mask(attention_mask, embedded, implementation)
        states, attentions = self.encoder(embedded, mask, implementation)
        last = self.layernorm(states[-1])
        return BaseModelOutputWithPooling(
            last_hidden_state=last,
            pooler_output=(last[:, 0] + last[:, 1]) / 2,
            hidden_states=tuple(states) if want_states else None,
            attentions=tuple(attentions) if want_attentions else None,
        )

    def _attention_mask(
        self, attention_mask: torch.Tensor | None, embedded: torch.Tensor, implementation: str
    ) -> torch.Tensor | None:
        """The mask in the form that the attention implementation takes, from one over frames or tokens."""
        if attention_mask is None:
            return None
        tokens = token_mask(self.config, attention_mask, len(embedded))
        if implementation == "eager":  # additive, and also right when another implementation is configured
            lowest = torch.finfo(embedded.dtype).min
            return torch.where(tokens[:, None, None, :], 0.0, lowest).to(embedded.dtype)
        return create_bidirectional_mask(config=self.config, inputs_embeds=embedded, attention_mask=tokens)


class ASTClassificationHead(nn.Module):
    """LayerNorm and a linear layer."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.head_eps)
        self.dense = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.dense(self.layernorm(pooled))


class ASTForAudioClassification(ASTPreTrainedModel):
    """AST with a classification head: tags (multi-label), one class of many (single-label), or regression."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.audio_spectrogram_transformer = ASTModel(config)
        self.classifier = ASTClassificationHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Score clips, and compute the loss when labels are given.

        Args:
            input_values: as for `ASTModel`, and so are `attention_mask` and the two `output_*` flags.
            labels: class indices `(batch,)`, class probabilities `(batch, num_labels)` (mixup, distillation),
                0/1 tags `(batch, num_labels)`, or numbers; see `ast_hf.losses` for which loss they get.

        Returns:
            `logits` `(batch, num_labels)`, `loss` (a scalar) with labels, and what was asked for.

        Raises:
            AstInputError: E304 for inputs, AstDataError: E208 for labels that do not fit the model.
        """
        outputs = self.audio_spectrogram_transformer(
            input_values,
            attention_mask=attention_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        logits = self.classifier(outputs.pooler_output)
        return SequenceClassifierOutput(
            loss=None if labels is None else classification_loss(logits, labels, self.config.problem_type),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def check_input(config: ASTConfig, input_values: Any) -> None:
    """Raise E304 unless `input_values` is a floating-point `(batch >= 1, max_length, num_mel_bins)` tensor."""
    wanted = (config.max_length, config.num_mel_bins)
    if not isinstance(input_values, torch.Tensor) or not input_values.is_floating_point():
        kind = input_values.dtype if isinstance(input_values, torch.Tensor) else type(input_values).__name__
        fix = "pass what ASTFeatureExtractor returns with return_tensors='pt'"
        raise error("E304", where="input_values", what=f"is {kind}, not a float tensor", fix=fix)
    shape = tuple(input_values.shape)
    if len(shape) == 3 and shape[0] > 0 and shape[1:] == wanted:
        return
    what = f"has shape {shape}, the model takes (batch, max_length={wanted[0]}, num_mel_bins={wanted[1]})"
    fix = "extract with the checkpoint's own ASTFeatureExtractor"
    if shape[1:] == wanted[::-1]:
        fix = "swap the last two axes: time comes before mel bins"
    elif len(shape) == 2:
        fix = "add the batch axis: input_values[None]"
    raise error("E304", where="input_values", what=what, fix=fix)


def token_mask(config: ASTConfig, attention_mask: torch.Tensor, batch: int) -> torch.Tensor:
    """Bool `(batch, tokens)`, True on what may be attended to, from a 0/1 mask over frames or over tokens.

    A patch is real when all of its frames are; the first patch column always is, so that no clip is left without one.
    """
    shape = tuple(attention_mask.shape) if isinstance(attention_mask, torch.Tensor) else type(attention_mask).__name__
    if shape == (batch, config.max_length):
        columns = attention_mask.bool().unfold(1, config.patch_size, config.time_stride).all(dim=-1)
        columns = torch.cat((columns.new_ones(batch, 1), columns[:, 1:]), dim=1)
        patches = columns.repeat(1, config.patch_grid[0])  # frequency-major, like the patches
        return torch.cat((patches.new_ones(batch, 2), patches), dim=1)
    if shape == (batch, config.num_tokens):
        return attention_mask.bool()
    what = f"is {shape}, expected frames ({batch}, {config.max_length}) or tokens ({batch}, {config.num_tokens})"
    raise error("E304", where="attention_mask", what=what, fix="pass the feature extractor's attention_mask")
