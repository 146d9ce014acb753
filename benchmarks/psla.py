"""A small PSLA, the model that AST was built to beat: an EfficientNet on the spectrogram, with multi-head attention
pooling over time (Gong, Chung & Glass 2021, arXiv 2102.01243, section 4.2).

The backbone is transformers' EfficientNet in the sizes of B0 (Tan & Le 2019, arXiv 1905.11946, table 1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import EfficientNetConfig, EfficientNetModel
from transformers.modeling_outputs import SequenceClassifierOutput

#: Sizes of EfficientNet-B0 with one input channel; transformers' defaults are those of B7, and its momentum 0.99
#: is meant as a share of the past, but torch takes it as that of the newest batch: 0.1 is torch's own default.
BACKBONE: dict[str, Any] = {
    "num_channels": 1,
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "hidden_dim": 1280,
    "dropout_rate": 0.2,
    "batch_norm_momentum": 0.1,
}
HEADS = 4  # PSLA, section 4.2


class AttentionPooling(nn.Module):
    """Attention pooling over time with independent heads: `(batch, channels, time)` -> logits `(batch, num_labels)`.

    PSLA multiplies and adds probabilities; here the votes of the heads are logits, for cross-entropy.
    """

    def __init__(self, channels: int, num_labels: int) -> None:
        super().__init__()
        self.attention = nn.Conv1d(channels, HEADS * num_labels, 1)
        self.votes = nn.Conv1d(channels, HEADS * num_labels, 1)
        self.share = nn.Parameter(torch.full((HEADS,), 1.0 / HEADS))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        weights = self.attention(features).sigmoid()
        weights = weights / weights.sum(dim=-1, keepdim=True)
        pooled = (weights * self.votes(features)).sum(dim=-1)
        return torch.einsum("bhl,h->bl", pooled.unflatten(1, (HEADS, -1)), self.share)


class PSLA(nn.Module):
    """Spectrogram `(batch, frames, mel)` -> loss and logits, with the signature of an AST."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.backbone = EfficientNetModel(EfficientNetConfig(**BACKBONE))
        self.head = AttentionPooling(BACKBONE["hidden_dim"], num_labels)
        self.apply(fresh)

    def forward(
        self, input_values: torch.Tensor, labels: torch.Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        grid = self.backbone(input_values.unsqueeze(1)).last_hidden_state
        logits = self.head(grid.mean(dim=-1))  # over frequency
        loss = None if labels is None else F.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def fresh(module: nn.Module) -> None:
    """Draw random weights that keep the signal's variance (He et al. 2015, arXiv 1502.01852), and reset batch norms.

    transformers draws all of them around 0 with a standard deviation of 0.02: the signal then vanishes after three
    blocks, and nothing is learnt.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    if isinstance(module, nn.BatchNorm2d):
        module.reset_parameters()
