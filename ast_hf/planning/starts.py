"""Where a run starts, as far as the choices depend on it: random weights, an image transformer, or an AST."""

from __future__ import annotations

from dataclasses import dataclass

from ..configuration_ast import ASTConfig
from ..feature_extraction_ast import ASTFeatureExtractor
from ..weights.image_transformers import read_image_transformer
from ..weights.integrity import check_folder


@dataclass(frozen=True)
class Start:
    """The weights that a run starts from.

    Attributes:
        kind: `"random"`, `"vit"` or `"base"`.
        name: folder or name on the Hub; empty for random weights.
        width: hidden size of its weights, 0 for random ones.
        max_length: frames of the base's input.
        time_stride: frames from patch to patch of the base.
        patch_size: side of the patches of the base.
        sampling_rate: of the base, in Hz.
    """

    kind: str = "random"
    name: str = ""
    width: int = 0
    max_length: int = 0
    time_stride: int = 16
    patch_size: int = 16
    sampling_rate: int = 16_000


def read_start(base: str | None, vit: str | None) -> Start:
    """Return the start that the options `--base` and `--vit` name.

    Raises:
        AstConfigError: E305 and E306 for weights that are broken or of another architecture.
    """
    if vit is not None:
        return Start("vit", vit, width=read_image_transformer(vit).fields["hidden_size"])
    if base is None:
        return Start()
    check_folder(base, classifier=False)
    config = ASTConfig.from_pretrained(base)
    extractor = ASTFeatureExtractor.from_pretrained(base)
    return Start(
        kind="base",
        name=base,
        width=config.hidden_size,
        max_length=config.max_length,
        time_stride=config.time_stride,
        patch_size=config.patch_size,
        sampling_rate=extractor.sampling_rate,
    )
