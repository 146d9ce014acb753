"""Token embeddings: patches, position embeddings for inputs of any length, and token masks.

Shapes in comments: B clips, T frames (or patches along time), M mel bins, F patches along frequency, N tokens
(class, distillation, patches frequency-major), C hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .configuration_ast import ASTConfig, Geometry
from .errors import error
from .log_mel import frames_to_seconds
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
        image = image.to(self.projection.weight.dtype)  # features are float32, weights may be half precision
        return self.projection(image).flatten(2).transpose(1, 2)  # (B, patches, C)


class FactoredPositions(nn.Module):
    """Position embeddings as one vector per row of patches plus one per column.

    From PaSST (arXiv 2110.05069, section 3.1). State dicts and files hold the table of sums, one per patch.

    Args:
        table: position embeddings `(1, 2 + F * T, C)` that the factors start from.
        grid: patches along (frequency, time), (F, T).
    """

    def __init__(self, table: torch.Tensor, grid: tuple[int, int]) -> None:
        super().__init__()
        self.special = nn.Parameter(torch.empty_like(table[:, :2]))
        self.frequency = nn.Parameter(table.new_empty(1, grid[0], 1, table.shape[-1]))
        self.time = nn.Parameter(table.new_empty(1, 1, grid[1], table.shape[-1]))
        self.set_table(table)

    def forward(self) -> torch.Tensor:
        """Return the table of sums, `(1, 2 + F * T, C)`."""
        return torch.cat((self.special, (self.frequency + self.time).flatten(1, 2)), dim=1)

    @torch.no_grad()
    def set_table(self, table: torch.Tensor) -> None:
        """Set the factors to the least-squares fit of a table: means over each axis, overall mean once."""
        patches = table[:, 2:].unflatten(1, (self.frequency.shape[1], self.time.shape[2]))
        self.special.copy_(table[:, :2])
        self.frequency.copy_(patches.mean(dim=2, keepdim=True))
        self.time.copy_(patches.mean(dim=1, keepdim=True) - patches.mean(dim=(1, 2), keepdim=True))

    @torch.no_grad()
    def resize(self, grid: tuple[int, int], *, method: str, cut: str) -> None:
        """Adapt the factors to another patch grid, each axis as `resize_positions` adapts a table."""
        self.frequency = _parameter_like(
            self.frequency, resize_axis(self.frequency, 1, grid[0], method=method)
        )
        self.time = _parameter_like(self.time, resize_axis(self.time, 2, grid[1], cut=cut, method=method))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        table = self()
        destination[prefix.removesuffix(".")] = table if keep_vars else table.detach()

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        metadata: Any,
        strict: bool,
        missing: Any,
        unexpected: Any,
        errors: Any,
    ) -> None:
        """Report tensors under this name as unexpected: `ASTEmbeddings` loads the table by `set_table`."""
        unexpected.extend(name for name in state_dict if name.startswith(prefix))


class ASTEmbeddings(nn.Module):
    """Class token, distillation token and patches, each with a learned position embedding."""

    def __init__(self, config: ASTConfig) -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position_embeddings = nn.Parameter(torch.zeros(1, config.num_tokens, config.hidden_size))
        self.patch_embeddings = ASTPatchEmbeddings(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_values: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """Return the tokens `(B, N, C)` of features `(B, T, M)`; see `positions_for` for `counts`."""
        patches = self.patch_embeddings(input_values)
        special = torch.cat((self.cls_token, self.distillation_token), dim=1).expand(patches.shape[0], -1, -1)
        positions = self.positions_for(self.config.grid_for(input_values.shape[1])[1], counts)
        return self.dropout(torch.cat((special, patches), dim=1) + positions)  # (B, N, C)

    @torch.no_grad()
    def resize(self, new: Geometry, *, method: str, cut: str, kernel_method: str) -> None:
        """Adapt positions and patch projection to another geometry; see `ASTPreTrainedModel.resize_input`."""
        old = self.config.geometry
        projection = self.patch_embeddings.projection
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
        self,
        state_dict: Any,
        prefix: str,
        metadata: Any,
        strict: bool,
        missing: Any,
        unexpected: Any,
        errors: Any,
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)
        if self.factored is None:
            return
        name = f"{prefix}position_embeddings"
        if name in unexpected:  # not a parameter of factored positions, but they are set from it
            unexpected.remove(name)
        table = state_dict.get(name)
        shape = self.factored().shape
        if table is None:
            missing.append(name)
        elif table.shape != shape:
            sizes = f"{tuple(table.shape)} in the file, {tuple(shape)} in the model"
            errors.append(f"size mismatch for {name}: {sizes}")
        else:
            self.factored.set_table(table)

    @property
    def factored(self) -> FactoredPositions | None:
        """The factors, or None if the positions are a table."""
        return self.position_embeddings if isinstance(self.position_embeddings, FactoredPositions) else None

    def factor_positions(self) -> None:
        """Replace the table of positions by factors; no-op if already done."""
        if self.factored is None:
            table = self.position_embeddings
            del self.position_embeddings
            factored = FactoredPositions(table, self.config.patch_grid)
            self.position_embeddings = factored.requires_grad_(table.requires_grad)

    def position_table(self) -> torch.Tensor:
        """Return the position embeddings of an input of `max_length` frames, `(1, 2 + F * T, C)`."""
        return self.position_embeddings if self.factored is None else self.factored()

    def positions_for(self, length: int, counts: torch.Tensor | None = None) -> torch.Tensor:
        """Return the position embeddings of an input of any length.

        A shorter input than the model was built for gets a part of the positions (`position_cut`), a longer
        one stretched positions. Each clip gets the positions that it would have without padding.

        Args:
            length: patches along time.
            counts: int64 `(B,)`, real patches along time of each clip; None if no padding is masked.

        Returns:
            `(1, 2 + F * length, C)`, or `(B, 2 + F * length, C)` where the positions differ between clips.
        """
        table = self.position_table()
        grid = self.config.patch_grid
        cut = self.config.position_cut
        prefix = cut == "start" and length <= grid[1]  # all clips share the first positions
        if length == grid[1] and (prefix or counts is None):
            return table
        if prefix or counts is None:
            sampling = cached_sampling(grid[1], length, cut, table.device)
        else:
            sampling = sample_axis(grid[1], counts, length, cut)
        patches = take(table[:, 2:].unflatten(1, grid), sampling, dim=2).flatten(1, 2)
        return torch.cat((table[:, :2].expand(patches.shape[0], -1, -1), patches), dim=1)


def token_mask(config: ASTConfig, attention_mask: torch.Tensor, batch: int, frames: int) -> torch.Tensor:
    """Return a mask over tokens from a 0/1 mask over frames or tokens.

    A patch is visible if all of its frames are real. The first column of patches is always visible, so that
    each clip has a patch. Raises E304 for a mask of any other shape or type.

    Args:
        config: the model's.
        attention_mask: `(batch, frames)` or `(batch, tokens)`, 1 on real frames or visible tokens.
        batch: number of clips.
        frames: length of the input.

    Returns:
        Bool `(batch, tokens)`, True on tokens that may be attended to.
    """
    rows, columns = config.grid_for(frames)
    tokens = rows * columns + 2
    is_tensor = isinstance(attention_mask, torch.Tensor)
    shape = tuple(attention_mask.shape) if is_tensor else type(attention_mask).__name__
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
    """Return the number of patches along time up to the last visible one, int64 `(batch,)`, at least 1.

    `visible` is the result of `token_mask`, `grid` the patches along (frequency, time).
    """
    columns = visible[:, 2:].unflatten(1, grid).any(dim=1)  # (B, T)
    return (columns * torch.arange(1, grid[1] + 1, device=columns.device)).amax(dim=1).clamp(min=1)


def column_means(config: ASTConfig, tokens: torch.Tensor, frames: int) -> torch.Tensor:
    """Return the mean over frequency of the patch tokens of each time column.

    Args:
        config: configuration of the model that made the tokens.
        tokens: `(batch, 2 + patches, hidden)`, for example `last_hidden_state`.
        frames: log-mel frames of the input.

    Returns:
        `(batch, columns, hidden)`. Column `i` covers the frames from `i * time_stride` to `i * time_stride +
        patch_size`.
    """
    return tokens[:, 2:].unflatten(1, config.grid_for(frames)).mean(dim=1)


def column_times(config: ASTConfig, frames: int) -> list[tuple[float, float]]:
    """Return start and end of each time column of an input, in seconds from its beginning."""
    firsts = [index * config.time_stride for index in range(config.grid_for(frames)[1])]
    return [(frames_to_seconds(first), frames_to_seconds(first + config.patch_size)) for first in firsts]
