"""Draws positions.png: `python docs/concepts/draw_positions.py`. Needs the extra `train` (matplotlib).

A model is resized whose position embeddings are their own row and column; the values after that show where each new
position comes from.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from ast_hf import ASTConfig, ASTModel

SMALL = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
IMAGE = {"max_length": 246, "num_mel_bins": 246}  # 24 x 24 patches
TEN_SECONDS = {"max_length": 1024}  # 12 x 101 patches

#: title, size of the source, size of the target, arguments of `resize_input`
PANELS = (
    ("an image transformer's own grid, 24 x 24", IMAGE, IMAGE, {}),
    (
        "for 10.24 s, 12 x 101: rows cut, columns stretched",
        IMAGE,
        {"max_length": 1024, "num_mel_bins": 128},
        {},
    ),
    ("for 1.28 s, 12 x 12: both cut at the centre", IMAGE, {"max_length": 128, "num_mel_bins": 128}, {}),
    ("an AudioSet model's grid, 12 x 101", TEN_SECONDS, TEN_SECONDS, {}),
    ("resized to 5.12 s: the centre, 12 x 50", TEN_SECONDS, {"max_length": 512}, {}),
    (
        "a 5.12 s clip in forward: the start, 12 x 50",
        TEN_SECONDS,
        {"max_length": 512},
        {"position_cut": "start"},
    ),
    ("resized to 12 s: stretched, 12 x 119", TEN_SECONDS, {"max_length": 1200}, {}),
    (
        "stride 16 by the same rule: the centre, 8 x 64",
        TEN_SECONDS,
        {"frequency_stride": 16, "time_stride": 16},
        {},
    ),
    (
        'stride 16, position_method="stretch": 8 x 64',
        TEN_SECONDS,
        {"frequency_stride": 16, "time_stride": 16},
        {"position_method": "stretch"},
    ),
)


def colours(source: dict[str, int], target: dict[str, int], options: dict[str, str]) -> torch.Tensor:
    """(frequency, time, 3): red is the old column, green the old row, each as a share of the old grid."""
    model = ASTModel(ASTConfig(**SMALL, **source))
    rows, columns = model.config.patch_grid
    with torch.no_grad():
        table = model.embeddings.position_embeddings
        table[0, 2:, 0] = torch.arange(columns).repeat(rows) / (columns - 1)
        table[0, 2:, 1] = torch.arange(rows).repeat_interleave(columns) / (rows - 1)
    model.resize_input(**target, **options)
    moved = model.embeddings.position_embeddings.detach()[0, 2:, :2].unflatten(0, model.config.patch_grid)
    return torch.cat((moved, torch.full_like(moved[..., :1], 0.45)), dim=-1).clamp(0, 1)


def main() -> None:
    """Write the picture."""
    figure, axes = plt.subplots(3, 3, figsize=(12, 4.4), layout="constrained")
    for axis, (title, source, target, options) in zip(axes.flat, PANELS, strict=True):
        axis.imshow(colours(source, target, options), origin="lower", aspect="equal", interpolation="nearest")
        axis.set_title(title, fontsize=8)
        axis.set_xlim(-0.5, 118.5)
        axis.set_ylim(-0.5, 23.5)
        axis.tick_params(labelsize=6)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.supxlabel("patch along time", fontsize=8)
    figure.supylabel("patch along frequency", fontsize=8)
    figure.suptitle("Where each position comes from: red is the old column, green the old row", fontsize=9)
    figure.savefig(Path(__file__).with_name("positions.png"), dpi=110)


if __name__ == "__main__":
    main()
