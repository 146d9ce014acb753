"""From frames to tokens: patches, their positions for any length, and which of them are real.

Shapes in comments: B clips, T frames (or patches along time), M mel bins, F patches along frequency, N tokens (class,
distillation, patches frequency-major), C hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .configuration_ast import ASTConfig, Geometry
from .errors import error
from .weights.geometry import cached_sampling, resize_axis, resize_kernel, resize_positions, sample_axis, take


def _parameter_like(old: nn.Parameter, values: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(values.clone(), requires_grad=old.requires_grad)


class ASTPatchEmbeddings(nn.Module):
    """Overlapping square patches of the spectrogram, each projected to one token (AST paper, section 2.1)."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.projection = nn.Conv2d(
            1, config.hidden_size, config.patch_size, stride=(config.frequency_stride, config.time_stride)
        )

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        image = input_values.transpose(1, 2).unsqueeze(1)  # (B, T, M) -> (B, 1, M, T)
        image = image.to(self.projection.weight.dtype)  # features are float32, whatever the model is in
        return self.projection(image).flatten(2).transpose(1, 2)  # (B, patches, C)


class FactoredPositions(nn.Module):
    """A position for each row of patches plus one for each column, instead of one for each patch (PaSST,
    arXiv 2110.05069, section 3.1). A way of training: in files it is the plain table of their sums.

    Args:
        table: `(1, 2 + F * T, C)`; the factors start as its means over time and over frequency.
        grid: (F, T).
    """

    def __init__(self, table: torch.Tensor, grid: tuple[int, int]) -> None:
        super().__init__()
        self.special = nn.Parameter(torch.empty_like(table[:, :2]))
        self.frequency = nn.Parameter(table.new_empty(1, grid[0], 1, table.shape[-1]))
        self.time = nn.Parameter(table.new_empty(1, 1, grid[1], table.shape[-1]))
        self.set_table(table)

    def forward(self) -> torch.Tensor:
        """The plain table."""
        return torch.cat((self.special, (self.frequency + self.time).flatten(1, 2)), dim=1)

    @torch.no_grad()
    def set_table(self, table: torch.Tensor) -> None:
        """The sums nearest to a plain table: means over either axis, the overall mean counted once."""
        patches = table[:, 2:].unflatten(1, (self.frequency.shape[1], self.time.shape[2]))
        self.special.copy_(table[:, :2])
        self.frequency.copy_(patches.mean(dim=2, keepdim=True))
        self.time.copy_(patches.mean(dim=1, keepdim=True) - patches.mean(dim=(1, 2), keepdim=True))

    @torch.no_grad()
    def resize(self, grid: tuple[int, int], *, method: str, cut: str) -> None:
        """Adapt to another grid: axis by axis, as the plain table is."""
        frequency = resize_axis(self.frequency, 1, grid[0], method=method)
        self.frequency = _parameter_like(self.frequency, frequency)
        self.time = _parameter_like(self.time, resize_axis(self.time, 2, grid[1], cut=cut, method=method))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        table = self()
        destination[prefix.removesuffix(".")] = table if keep_vars else table.detach()

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, metadata: Any, strict: bool, missing: Any, unexpected: Any, errors: Any
    ) -> None:
        """Files hold nothing below this module's name: `ASTEmbeddings` is given the table and hands it over."""
        unexpected.extend(name for name in state_dict if name.startswith(prefix))


class ASTEmbeddings(nn.Module):
    """Class token, distillation token and patches, plus one learned position for each."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position_embeddings = nn.Parameter(torch.zeros(1, config.num_tokens, config.hidden_size))
        self.patch_embeddings = ASTPatchEmbeddings(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_values: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """Embed a batch; `counts` `(B,)` are the patches along time that each clip has, where padding is masked."""
        patches = self.patch_embeddings(input_values)
        special = torch.cat((self.cls_token, self.distillation_token), dim=1).expand(patches.shape[0], -1, -1)
        positions = self.positions_for(self.config.grid_for(input_values.shape[1])[1], counts)
        return self.dropout(torch.cat((special, patches), dim=1) + positions)  # (B, N, C)

    @torch.no_grad()
    def resize(self, new: Geometry, *, method: str, cut: str, kernel_method: str) -> None:
        """Adapt positions and patch projection to another geometry; see `ASTPreTrainedModel.resize_input`."""
        old, projection = self.config.geometry, self.patch_embeddings.projection
        if self.factored is not None:
            self.factored.resize(new.grid, method=method, cut=cut)
        else:
            table = resize_positions(self.position_embeddings, old.grid, new.grid, method=method, cut=cut)
            self.position_embeddings = _parameter_like(self.position_embeddings, table)
        kernel = resize_kernel(projection.weight, new.patch_size, kernel_method)
        projection.weight = _parameter_like(projection.weight, kernel)
        projection.kernel_size = (new.patch_size, new.patch_size)
        projection.stride = (new.frequency_stride, new.time_stride)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, metadata: Any, strict: bool, missing: Any, unexpected: Any, errors: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)
        if self.factored is None:
            return
        name = f"{prefix}position_embeddings"
        if name in unexpected:  # there is no parameter of that name, but it is what the factors are made of
            unexpected.remove(name)
        table, wanted = state_dict.get(name), self.factored().shape
        if table is None:
            missing.append(name)
        elif table.shape != wanted:
            errors.append(f"size mismatch for {name}: {tuple(table.shape)} in the file, {tuple(wanted)} in the model")
        else:
            self.factored.set_table(table)

    @property
    def factored(self) -> FactoredPositions | None:
        """The factors of the positions, where they are trained so."""
        return self.position_embeddings if isinstance(self.position_embeddings, FactoredPositions) else None

    def factor_positions(self) -> None:
        """Hold the positions as factors from now on."""
        if self.factored is None:
            table = self.position_embeddings
            del self.position_embeddings
            factored = FactoredPositions(table, self.config.patch_grid)
            self.position_embeddings = factored.requires_grad_(table.requires_grad)

    def position_table(self) -> torch.Tensor:
        """The positions of an input of `max_length` frames, `(1, 2 + F * T, C)`."""
        return self.position_embeddings if self.factored is None else self.factored()

    def positions_for(self, length: int, counts: torch.Tensor | None = None) -> torch.Tensor:
        """The positions of `length` patches along time: cut where that is fewer than the model was built for
        (`position_cut`), stretched where it is more. Each clip gets those that it would have without its padding.
        """
        table, grid, cut = self.position_table(), self.config.patch_grid, self.config.position_cut
        prefix = cut == "start" and length <= grid[1]  # then all clips share the first positions
        if length == grid[1] and (prefix or counts is None):
            return table
        if prefix or counts is None:
            sampling = cached_sampling(grid[1], length, cut, table.device)
        else:
            sampling = sample_axis(grid[1], counts, length, cut)
        patches = take(table[:, 2:].unflatten(1, grid), sampling, dim=2).flatten(1, 2)
        return torch.cat((table[:, :2].expand(patches.shape[0], -1, -1), patches), dim=1)


def token_mask(config: ASTConfig, attention_mask: torch.Tensor, batch: int, frames: int) -> torch.Tensor:
    """Bool `(batch, tokens)`, True on what may be attended to, from a 0/1 mask over frames or over tokens.

    A patch is real when all of its frames are; the first patch column always is, so that no clip is left without one.
    """
    rows, columns = config.grid_for(frames)
    tokens = rows * columns + 2
    shape = tuple(attention_mask.shape) if isinstance(attention_mask, torch.Tensor) else type(attention_mask).__name__
    if shape == (batch, frames):
        real = attention_mask.bool().unfold(1, config.patch_size, config.time_stride).all(dim=-1)
        real = torch.cat((real.new_ones(batch, 1), real[:, 1:]), dim=1)
        patches = real.repeat(1, rows)  # frequency-major, like the patches
        return torch.cat((patches.new_ones(batch, 2), patches), dim=1)
    if shape == (batch, tokens):
        return attention_mask.bool()
    what = f"is {shape}, expected frames ({batch}, {frames}) or tokens ({batch}, {tokens})"
    raise error("E304", where="attention_mask", what=what, fix="pass the feature extractor's attention_mask")


def columns_seen(visible: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Int64 `(batch,)`: patches along time up to the last visible one, from a mask over tokens; at least 1."""
    seen = visible[:, 2:].unflatten(1, grid).any(dim=1)  # (B, T)
    return (seen * torch.arange(1, grid[1] + 1, device=seen.device)).amax(dim=1).clamp(min=1)
