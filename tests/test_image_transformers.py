"""`from_vit`: an AST from an image transformer computes the same as its source, or is refused with the reason."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from conftest import largest_gap, randomise
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from ast_hf import ASTConfig, AstConfigError, ASTForAudioClassification, AstHfError, AstInputError, ASTModel
from ast_hf.weights.image_transformers import read_image_transformer

DATA = Path(__file__).parent / "data"
State = dict[str, torch.Tensor]

#: Every image transformer here: 2 blocks, 24 wide, 3 heads, 8 x 8 patches of 32 x 32 pixels.
SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 32,
    "patch_size": 8,
    "layer_norm_eps": 0.01,  # far from any default, so that it matters
}
DECODER = {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
    "mask_ratio": 0.0,
}


def maker(model: str, config: str, **fixed: Any) -> Callable[..., nn.Module]:
    """Return a function that builds a random model of transformers and takes fields."""
    return lambda **fields: randomise(getattr(hf, model)(getattr(hf, config)(**{**SIZES, **fixed, **fields})))


MLP = {"intermediate_size": 48}
vit = maker("ViTModel", "ViTConfig", **MLP)
deit = maker("DeiTModel", "DeiTConfig", **MLP)
dinov2 = maker("Dinov2Model", "Dinov2Config", mlp_ratio=2)
ARCHITECTURES = {
    "vit": vit,
    "vit-classifier": maker("ViTForImageClassification", "ViTConfig", **MLP, num_labels=7),
    "vit-masked": maker("ViTForMaskedImageModeling", "ViTConfig", **MLP, encoder_stride=8),
    "msn": maker("ViTMSNModel", "ViTMSNConfig", **MLP),
    "deit": deit,
    "deit-classifier": maker("DeiTForImageClassification", "DeiTConfig", **MLP, num_labels=7),
    "deit-teacher": maker("DeiTForImageClassificationWithTeacher", "DeiTConfig", **MLP, num_labels=7),
    "dinov2": dinov2,
    "dinov2-classifier": maker("Dinov2ForImageClassification", "Dinov2Config", mlp_ratio=2, num_labels=7),
    "mae": maker("ViTMAEModel", "ViTMAEConfig", **MLP, mask_ratio=0.0),
    "mae-pretraining": maker("ViTMAEForPreTraining", "ViTMAEConfig", **MLP, **DECODER),
}


class TimmBlock(nn.Module):
    """Transformer block with timm's names and timm's arithmetic."""

    def __init__(self, width: int, heads: int, layer_scale: bool, qkv_bias: bool, eps: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.num_heads = heads
        self.attn.qkv, self.attn.proj = nn.Linear(width, 3 * width, bias=qkv_bias), nn.Linear(width, width)
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        if layer_scale:
            self.ls1, self.ls2 = nn.Module(), nn.Module()
            self.ls1.gamma, self.ls2.gamma = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = hidden.shape
        qkv = self.attn.qkv(self.norm1(hidden)).reshape(batch, tokens, 3, self.attn.num_heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scores = (query @ key.transpose(-1, -2)) / (width / self.attn.num_heads) ** 0.5
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(batch, tokens, width)
        scales = (self.ls1.gamma, self.ls2.gamma) if hasattr(self, "ls1") else (1.0, 1.0)
        hidden = hidden + scales[0] * self.attn.proj(mixed)
        return hidden + scales[1] * self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(hidden))))


class TimmViT(nn.Module):
    """Image transformer as timm loads it: heads and epsilon are attributes, there is no config."""

    def __init__(
        self,
        *,
        distilled: bool = False,
        layer_scale: bool = False,
        qkv_bias: bool = True,
        special_positions: bool = True,
        eps: float = 0.01,
        width: int = 24,
    ) -> None:
        super().__init__()
        specials = 2 if distilled else 1
        self.special_positions = special_positions
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if distilled:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
            self.head_dist = nn.Linear(width, 5)
        self.pos_embed = nn.Parameter(torch.zeros(1, 16 + specials * special_positions, width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, 8, stride=8)
        self.blocks = nn.Sequential(*(TimmBlock(width, 3, layer_scale, qkv_bias, eps) for _ in range(2)))
        self.norm = nn.LayerNorm(width, eps=eps)
        self.head = nn.Linear(width, 5)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
        specials = [self.cls_token] + ([self.dist_token] if hasattr(self, "dist_token") else [])
        specials = [token.expand(len(pixels), -1, -1) for token in specials]
        if self.special_positions:
            return self.norm(self.blocks(torch.cat((*specials, patches), dim=1) + self.pos_embed))
        return self.norm(self.blocks(torch.cat((*specials, patches + self.pos_embed), dim=1)))


def timm(**options: Any) -> TimmViT:
    return randomise(TimmViT(**options))


def square(pixels: int = 32, patch: int = 8) -> dict[str, Any]:
    """Return the options for a spectrogram with the size and patches of an image."""
    strides = {"frequency_stride": patch, "time_stride": patch}
    return {"num_mel_bins": pixels, "max_length": pixels, "patch_size": patch, **strides}


def grey(pixels: int = 32, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one picture for an image transformer (rows are mel bins, columns frames) and for AST (frames, bins)."""
    picture = torch.randn(2, pixels, pixels, generator=torch.Generator().manual_seed(seed))
    return picture[:, None].expand(-1, 3, -1, -1), picture.transpose(1, 2)


@torch.no_grad()
def image_tokens(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Return all tokens of the image transformer, after its last LayerNorm."""
    if isinstance(model, TimmViT):
        return model(pixels)
    if "MAE" in type(model).__name__:  # no patch is masked, and sorted noise keeps their order
        return model.base_model(pixels, noise=torch.arange(16.0).expand(len(pixels), -1)).last_hidden_state
    return model.base_model(pixels).last_hidden_state


@torch.no_grad()
def ast_tokens(model: ASTModel, inputs: torch.Tensor, distilled: bool) -> torch.Tensor:
    """Return AST's tokens, without the masked second special token if the image transformer has only one."""
    if distilled:
        return model(inputs).last_hidden_state
    mask = torch.ones(len(inputs), model.config.num_tokens)
    mask[:, 1] = 0
    hidden = model(inputs, attention_mask=mask).last_hidden_state
    return torch.cat((hidden[:, :1], hidden[:, 2:]), dim=1)


def assert_same_state(left: nn.Module, right: nn.Module) -> None:
    ours, theirs = left.state_dict(), right.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def timm_folder(folder: Path, state: State, name: str = "model.safetensors") -> Path:
    """Write a folder as timm does on the Hub."""
    folder.mkdir(exist_ok=True)
    about = {
        "architecture": "vit_small_patch8_32",
        "num_classes": 5,
        "pretrained_cfg": {"input_size": [3, 32, 32]},
    }
    (folder / "config.json").write_text(json.dumps(about))
    if name.endswith(".bin"):
        torch.save(state, folder / name)
    else:
        save_file(state, folder / name, metadata={"format": "pt"})
    return folder


# The original's ImageNet start

#: frequency_stride, time_stride, num_mel_bins, max_length, grid: deit_init_384.npz, in its order.
GOLDEN = [
    (10, 10, 128, 1024, (12, 101)),
    (10, 10, 128, 512, (12, 50)),
    (10, 10, 128, 128, (12, 12)),
    (16, 16, 128, 1024, (8, 64)),
    (16, 16, 128, 128, (8, 8)),
    (12, 12, 128, 1024, (10, 85)),
    (12, 12, 128, 512, (10, 42)),
    (10, 10, 128, 100, (12, 9)),
    (10, 10, 128, 246, (12, 24)),
    (10, 10, 128, 256, (12, 25)),
    (10, 10, 128, 236, (12, 23)),
    (10, 10, 118, 136, (11, 13)),
    (10, 10, 64, 200, (5, 19)),
    (8, 10, 128, 128, (15, 12)),
    (4, 10, 128, 128, (29, 12)),
    (4, 10, 128, 512, (29, 50)),
    (10, 4, 128, 128, (12, 29)),
]
WITH_LOGITS = (4, 7, 11, 13)

#: Names of timm's tensors in other tools: on the Hub, and in transformers 5.
TO_HUB = [
    (r"^cls_token", "embeddings.cls_token"),
    (r"^dist_token", "embeddings.distillation_token"),
    (r"^pos_embed", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.(query|key|value)\.", r".attention.attention.\1."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
]
TO_V5 = [
    *TO_HUB[:5],
    (r"^blocks\.", "layers."),
    *TO_HUB[6:8],
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.(q|k|v)\w+\.", r".attention.\1_proj."),
]


def under_names(state: State, names: str) -> State:
    """Return timm's state dict under the names of another tool."""
    rules = {"timm": [], "hub": TO_HUB, "v5": TO_V5}[names]
    renamed = {}
    for name, tensor in state.items():
        parts = {name: tensor}
        if rules and ".qkv." in name:
            size = len(tensor) // 3
            thirds = {"query": tensor[:size], "key": tensor[size : 2 * size], "value": tensor[2 * size :]}
            parts = {name.replace("qkv", part): third for part, third in thirds.items()}
        for part, third in parts.items():
            for pattern, replacement in rules:
                part = re.sub(pattern, replacement, part)
            renamed[part] = third
    return renamed


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    """Return arrays as tensors. Read only."""
    with np.load(DATA / "deit_init_384.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file if name != "about"}


@pytest.fixture(scope="module")
def golden_source(golden: dict[str, Any]) -> State:
    return {name.removeprefix("timm/"): tensor for name, tensor in golden.items() if name.startswith("timm/")}


def golden_fields(case: int) -> dict[str, Any]:
    return dict(
        zip(("frequency_stride", "time_stride", "num_mel_bins", "max_length"), GOLDEN[case][:4], strict=True)
    )


@pytest.mark.parametrize("names", ["timm", "hub", "v5"])
@pytest.mark.parametrize("case", range(len(GOLDEN)))
def test_initial_weights_match_the_original(
    case: int, names: str, golden: dict[str, Any], golden_source: State
) -> None:
    source = under_names(golden_source, names)
    ours = ASTModel.from_vit(source, num_attention_heads=3, **golden_fields(case))
    assert ours.config.patch_grid == GOLDEN[case][4]
    kernel, bias = ours.embeddings.patch_embeddings.projection.parameters()
    assert largest_gap(kernel, golden["expected/patch_weight"]) <= 1e-6
    assert torch.equal(bias, golden["expected/patch_bias"])
    positions, expected = (
        ours.embeddings.position_embeddings[..., [0, 4, 7, 11]],
        golden[f"case{case}/position_embeddings"],
    )
    rows, columns = GOLDEN[case][4]
    assert largest_gap(positions, expected) <= (0 if rows <= 24 and columns <= 24 else 5e-5)
    assert torch.equal(ours.embeddings.position_embeddings[:, :2], golden_source["pos_embed"][:, :2])
    copied = under_names(golden_source, "hub")
    state = ours.state_dict()
    changed = {name for name in copied if name not in state or not torch.equal(copied[name], state[name])}
    assert changed == {"embeddings.position_embeddings", "embeddings.patch_embeddings.projection.weight"}
    assert state.keys() == copied.keys()


@pytest.mark.parametrize("names", ["timm", "hub", "v5"])
@pytest.mark.parametrize("case", WITH_LOGITS)
def test_hidden_states_match_the_original(
    case: int, names: str, golden: dict[str, Any], golden_source: State
) -> None:
    source = under_names(golden_source, names)
    fields = {
        "num_labels": 5,
        "classifier_layer_norm_eps": 1e-5,
        "num_attention_heads": 3,
        **golden_fields(case),
    }
    ours = ASTForAudioClassification.from_vit(source, **fields)
    head = {"layernorm": 0, "dense": 1}
    for name, number in head.items():
        for part in ("weight", "bias"):
            getattr(getattr(ours.classifier, name), part).data = golden[f"case{case}/head/{number}.{part}"]
    with torch.no_grad():
        assert largest_gap(ours(golden[f"case{case}/input"]).logits, golden[f"case{case}/logits"]) <= 1e-5
        if f"case{case}/last_hidden_state" in golden:
            hidden = ours.audio_spectrogram_transformer(golden[f"case{case}/input"]).last_hidden_state
            assert largest_gap(hidden, golden[f"case{case}/last_hidden_state"]) <= 1e-5


def test_golden_geometries_are_those_of_the_file() -> None:
    with np.load(DATA / "deit_init_384.npz") as file:
        cases = json.loads(str(file["about"]))["cases"]
    keys = ("frequency_stride", "time_stride", "num_mel_bins", "max_length")
    assert [(*(case[key] for key in keys), (case["f_dim"], case["t_dim"])) for case in cases] == GOLDEN
    assert tuple(case["case"] for case in cases if case["logits"]) == WITH_LOGITS


# The same arithmetic


@pytest.mark.parametrize("form", ["object", "folder", "folder-v5", "state-dict"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_computes_what_the_image_transformer_computes(name: str, form: str, tmp_path: Path) -> None:
    has_config = form != "state-dict"  # tensors alone imply neither heads nor epsilon, and GELU is assumed
    model = ARCHITECTURES[name](hidden_act="relu" if has_config else "gelu")
    options: dict[str, Any] = {} if has_config else {"num_attention_heads": 3, "layer_norm_eps": 0.01}
    source: Any = model if form == "object" else model.state_dict()
    if form.startswith("folder"):
        model.save_pretrained(tmp_path, save_original_format=form == "folder")
        source = tmp_path if form == "folder" else str(tmp_path)
    ours = ASTModel.from_vit(source, **square(), **options)
    assert ours.config.hidden_act == ("relu" if has_config else "gelu")
    pixels, inputs = grey()
    assert largest_gap(ast_tokens(ours, inputs, "deit" in name), image_tokens(model, pixels)) <= 1e-5


TIMM = {
    "plain": {},
    "distilled": {"distilled": True},
    "layer-scale": {"layer_scale": True},
    "no-qkv-bias": {"qkv_bias": False},
    "deit-iii": {"special_positions": False, "layer_scale": True},
    "deit-iii-distilled": {"special_positions": False, "distilled": True},
}


@pytest.mark.parametrize(
    "form", ["object", "state-dict", "data-parallel", "original", "folder", "folder-bin"]
)
@pytest.mark.parametrize("name", TIMM)
def test_computes_what_timm_computes(name: str, form: str, tmp_path: Path) -> None:
    model = timm(**TIMM[name])
    options: dict[str, Any] = {} if form == "object" else {"num_attention_heads": 3, "layer_norm_eps": 0.01}
    source: Any = model if form == "object" else model.state_dict()
    prefix = {"data-parallel": "module.", "original": "module.v."}.get(form)
    if prefix:
        source = {prefix + tensor_name: tensor for tensor_name, tensor in source.items()}
    if form.startswith("folder"):
        weights = "pytorch_model.bin" if form == "folder-bin" else "model.safetensors"
        source = timm_folder(tmp_path, source, weights)
    ours = ASTModel.from_vit(source, **square(), **options)
    assert ours.config.qkv_bias == (name != "no-qkv-bias")
    pixels, inputs = grey()
    assert largest_gap(ast_tokens(ours, inputs, "distilled" in name), image_tokens(model, pixels)) <= 1e-5


@pytest.mark.parametrize(
    ("pixels", "patch"), [(8, 8), (24, 8), (40, 8), (42, 14), (96, 32), (21, 7), (48, 16)]
)
@pytest.mark.parametrize("build", [vit, deit, dinov2], ids=["vit", "deit", "dinov2"])
def test_other_square_grids_and_patch_sizes(build: Callable, pixels: int, patch: int) -> None:
    model = build(image_size=pixels, patch_size=patch)
    ours = ASTModel.from_vit(model, **square(pixels, patch))
    image, inputs = grey(pixels)
    assert largest_gap(ast_tokens(ours, inputs, build is deit), image_tokens(model, image)) <= 1e-5


@pytest.mark.parametrize("old", [8, 14, 5])
def test_larger_patches_match_on_stretched_pictures(old: int) -> None:
    """Patches of 16 x 16 with the stretched content of the smaller ones give the same tokens."""
    model = vit(image_size=3 * old, patch_size=old)
    ours = ASTModel.from_vit(model, **square(48, 16))
    pixels, inputs = grey(3 * old)
    patches = inputs.unflatten(1, (3, old)).unflatten(3, (3, old)).transpose(2, 3).reshape(18, 1, old, old)
    stretched = F.interpolate(patches, size=(16, 16), mode="bilinear", align_corners=False)
    inputs = stretched.reshape(2, 3, 3, 16, 16).transpose(2, 3).reshape(2, 48, 48)
    assert largest_gap(ast_tokens(ours, inputs, False), image_tokens(model, pixels)) <= 1e-4


def summed_kernel(model: nn.Module) -> torch.Tensor:
    red, green, blue = model.embeddings.patch_embeddings.projection.weight.detach().unbind(dim=1)
    return (red + green + blue)[:, None]


def test_smaller_patches_get_the_nearest_kernel() -> None:
    model = vit(image_size=64, patch_size=32)
    ours = ASTModel.from_vit(model, **square(32, 16))
    basis = torch.eye(32 * 32, dtype=torch.float64).view(-1, 1, 32, 32)
    stretched = F.interpolate(basis, size=(16, 16), mode="bilinear", align_corners=False).flatten(1)
    responses = summed_kernel(model).flatten(1).double()  # the responses to the basis
    expected = torch.linalg.lstsq(stretched, responses.T, driver="gelsd").solution.T.reshape(24, 1, 16, 16)
    assert largest_gap(ours.embeddings.patch_embeddings.projection.weight, expected) <= 1e-4


@pytest.mark.parametrize("old", [8, 32])
def test_bicubic_kernels(old: int) -> None:
    model = vit(image_size=2 * old, patch_size=old)
    ours = ASTModel.from_vit(model, **square(32, 16), kernel_method="bicubic")
    expected = F.interpolate(summed_kernel(model), size=(16, 16), mode="bicubic", align_corners=False)
    assert largest_gap(ours.embeddings.patch_embeddings.projection.weight, expected) <= 1e-5


@pytest.mark.parametrize("build", [vit, dinov2, timm], ids=["vit", "dinov2", "timm"])
def test_a_missing_distillation_token_is_a_second_class_token(build: Callable) -> None:
    ours = ASTModel.from_vit(build(), **square())
    embeddings = ours.embeddings
    assert torch.equal(embeddings.distillation_token, embeddings.cls_token)
    assert torch.equal(embeddings.position_embeddings[:, 1], embeddings.position_embeddings[:, 0])
    with torch.no_grad():
        answer = ours(grey()[1])
    assert largest_gap(answer.last_hidden_state[:, 0], answer.last_hidden_state[:, 1]) <= 1e-6
    assert largest_gap(answer.pooler_output, answer.last_hidden_state[:, 0]) <= 1e-6
    embeddings.cls_token.data += 1  # a copy, not the same memory
    assert not torch.equal(embeddings.distillation_token, embeddings.cls_token)


def test_deit_iii_special_tokens_have_no_position() -> None:
    positions = ASTModel.from_vit(timm(special_positions=False), **square()).embeddings.position_embeddings
    assert torch.count_nonzero(positions[:, :2]) == 0
    assert torch.count_nonzero(positions[:, 2:]) == 16 * 24


@pytest.mark.parametrize("name", ["vit", "deit", "dinov2", "mae"])
def test_no_query_key_value_bias(name: str) -> None:
    model = ARCHITECTURES[name](qkv_bias=False)
    ours = ASTModel.from_vit(model, **square())
    assert ours.config.qkv_bias is False
    assert ours.encoder.layer[0].attention.attention.query.bias is None
    pixels, inputs = grey()
    assert largest_gap(ast_tokens(ours, inputs, name == "deit"), image_tokens(model, pixels)) <= 1e-5


# Options


def test_mean_is_a_third_of_the_sum() -> None:
    model = deit()
    summed, mean = (ASTModel.from_vit(model, **square(), channel_reduction=how) for how in ("sum", "mean"))
    kernel = "embeddings.patch_embeddings.projection.weight"
    assert largest_gap(summed.state_dict()[kernel], summed_kernel(model)) <= 1e-6
    assert largest_gap(mean.state_dict()[kernel], summed_kernel(model) / 3) <= 1e-6
    rest = [name for name in summed.state_dict() if name != kernel]
    assert [
        name for name in rest if not torch.equal(summed.state_dict()[name], mean.state_dict()[name])
    ] == []
    assert_same_state(ASTModel.from_vit(model, **square()), summed)  # the default


WIDE: dict[str, Any] = {
    "num_mel_bins": 24,
    "max_length": 96,
    "patch_size": 8,
    "frequency_stride": 8,
    "time_stride": 8,
}  # 3 x 12


def test_nearest_takes_neighbours_where_adapt_blends() -> None:
    model = vit()
    table = model.embeddings.position_embeddings.detach()
    grid = table[0, 1:].unflatten(0, (4, 4))[1:4]  # three of four rows: 4 // 2 - 3 // 2 = 1
    nearest = ASTModel.from_vit(model, **WIDE, position_init="nearest").embeddings.position_embeddings
    assert torch.equal(nearest[0, 2:].unflatten(0, (3, 12)), grid.repeat_interleave(3, dim=1))
    adapted = ASTModel.from_vit(model, **WIDE, position_init="adapt").embeddings.position_embeddings
    expected = F.interpolate(grid.transpose(1, 2), size=12, mode="linear", align_corners=False).transpose(
        1, 2
    )
    assert largest_gap(adapted[0, 2:].unflatten(0, (3, 12)), expected) <= 5e-5
    for positions in (nearest, adapted):
        assert torch.equal(positions[:, :2], table[:, :1].expand(-1, 2, -1))
    assert_same_state(
        ASTModel.from_vit(model, **WIDE), ASTModel.from_vit(model, **WIDE, position_init="adapt")
    )


@pytest.mark.parametrize("std", [0.02, 0.1])
def test_reinit_draws_all_positions_anew(std: float) -> None:
    model = deit(num_hidden_layers=1)
    torch.manual_seed(0)
    options: dict[str, Any] = {"position_init": "reinit", "initializer_range": std}
    first, second = (ASTModel.from_vit(model, **WIDE, **options) for _ in range(2))
    positions = first.embeddings.position_embeddings
    assert positions.shape == (1, 38, 24)
    assert 0.9 * std < positions.std() < 1.1 * std
    assert positions[:, :2].abs().max() < 5 * std  # the special tokens' too: the source's are larger
    assert model.embeddings.position_embeddings[:, :2].abs().max() > 0.5
    assert not torch.equal(positions, second.embeddings.position_embeddings)
    adapted = ASTModel.from_vit(model, **WIDE).state_dict()
    state = first.state_dict()
    changed = {name for name in state if not torch.equal(state[name], adapted[name])}
    assert changed == {"embeddings.position_embeddings"}


def test_defaults_are_those_of_the_paper() -> None:
    config = ASTModel.from_vit(vit(patch_size=16, num_hidden_layers=1)).config
    sizes = (
        config.max_length,
        config.num_mel_bins,
        config.patch_size,
        config.frequency_stride,
        config.time_stride,
    )
    assert sizes == (1024, 128, 16, 10, 10)
    assert config.num_tokens == 1214
    bare = ASTModel.from_vit(vit().state_dict(), num_attention_heads=3, **square()).config
    assert (bare.layer_norm_eps, bare.hidden_act, bare.classifier_layer_norm_eps) == (1e-6, "gelu", None)
    sizes = (
        bare.hidden_size,
        bare.num_hidden_layers,
        bare.intermediate_size,
        bare.num_attention_heads,
        bare.qkv_bias,
    )
    assert sizes == (24, 2, 48, 3, True)


def test_config_fields_are_accepted() -> None:
    fields: dict[str, Any] = {
        "id2label": {0: "cat", 1: "dog", 2: "owl"},
        "problem_type": "multi_label_classification",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.2,
        "layer_norm_eps": 1e-4,
        "classifier_layer_norm_eps": 1e-5,
        "position_cut": "centre",
        "attn_implementation": "eager",
    }
    config = ASTForAudioClassification.from_vit(vit(), **square(), **fields).config
    given_fields = {name: getattr(config, name) for name in fields if name != "attn_implementation"}
    assert {**given_fields, "attn_implementation": config._attn_implementation} == fields
    assert config.label2id == {"cat": 0, "dog": 1, "owl": 2}


def test_a_classifier_is_new_and_the_rest_is_the_base_models() -> None:
    model = vit()
    torch.manual_seed(0)
    ours = ASTForAudioClassification.from_vit(model, **square(), num_labels=40)
    assert ours.num_labels == ours.config.num_labels == 40
    assert ours.classifier.dense.weight.shape == (40, 24)
    assert 0.015 < ours.classifier.dense.weight.std() < 0.025
    assert torch.count_nonzero(ours.classifier.dense.bias) == 0
    assert torch.equal(ours.classifier.layernorm.weight, torch.ones(24))
    assert_same_state(ours.audio_spectrogram_transformer, ASTModel.from_vit(model, **square()))


def test_a_model_is_ready_for_use_and_for_training() -> None:
    model = vit().train().requires_grad_(False)
    ours = ASTForAudioClassification.from_vit(model, **square(), num_labels=3)
    assert not ours.training
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in ours.parameters())
    ours(grey()[1], labels=torch.tensor([0, 2])).loss.backward()
    assert [name for name, parameter in ours.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("width", "heads"), [(192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16), (1536, 24)]
)
def test_heads_of_published_widths_are_inferred(width: int, heads: int) -> None:
    state = {
        "cls_token": torch.zeros(1, 1, width),
        "pos_embed": torch.zeros(1, 2, width),
        "patch_embed.proj.weight": torch.zeros(width, 3, 2, 2),
        "blocks.0.mlp.fc1.weight": torch.zeros(4, width),
    }
    assert read_image_transformer(state).fields["num_attention_heads"] == heads
    assert read_image_transformer(state, num_attention_heads=8).fields["num_attention_heads"] == 8


# Sources


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("build", [deit, dinov2], ids=["deit", "dinov2"])
def test_weights_of_any_precision_become_float32(build: Callable, dtype: torch.dtype, tmp_path: Path) -> None:
    model = build().to(dtype)
    model.save_pretrained(tmp_path)
    for source in (model, tmp_path):
        ours = ASTModel.from_vit(source, **square())
        assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
        assert_same_state(ours, ASTModel.from_vit(build().to(dtype).float(), **square()))


@pytest.mark.parametrize("form", ["object", "state-dict"])
@pytest.mark.parametrize(
    "build", [vit, deit, dinov2, lambda: timm(layer_scale=True)], ids=["vit", "deit", "dinov2", "timm"]
)
def test_the_source_model_is_not_changed(build: Callable, form: str) -> None:
    model = build().train()
    config = model.config.to_dict() if hasattr(model, "config") else None
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    source = model if form == "object" else model.state_dict()
    names = list(source.state_dict() if form == "object" else source)
    ours = ASTModel.from_vit(source, num_attention_heads=3, **square())
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(1)
    assert list(source.state_dict() if form == "object" else source) == names
    assert [
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    ] == []
    assert model.training
    assert config is None or model.config.to_dict() == config


def test_weights_in_several_files(tmp_path: Path) -> None:
    model = dinov2()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert_same_state(ASTModel.from_vit(tmp_path, **square()), ASTModel.from_vit(model, **square()))


def test_a_subfolder(tmp_path: Path) -> None:
    model = vit()
    model.save_pretrained(tmp_path / "encoder")
    ours = ASTModel.from_vit(tmp_path, subfolder="encoder", **square())
    assert_same_state(ours, ASTModel.from_vit(model, **square()))
    assert ours.name_or_path == ours.config.name_or_path == str(tmp_path)


@pytest.mark.parametrize(
    "prefix", ["v.", "vit.", "deit.", "dinov2.", "backbone.", "base_model.", "model.", "module."]
)
def test_prefixes_of_wrappers_are_stripped(prefix: str) -> None:
    state = deit().state_dict()
    wrapped = {prefix + name: tensor for name, tensor in state.items()}
    ours = (ASTModel.from_vit(source, num_attention_heads=3, **square()) for source in (wrapped, state))
    assert_same_state(*ours)


@pytest.mark.parametrize("build", [vit, deit, dinov2], ids=["vit", "deit", "dinov2"])
def test_stock_loads_a_model_made_by_from_vit(build: Callable, tmp_path: Path) -> None:
    ours = ASTForAudioClassification.from_vit(build(hidden_act="relu"), **WIDE, num_labels=4)
    randomise(ours.classifier)
    ours.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stock, info = hf.ASTForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
        again = ASTForAudioClassification.from_pretrained(tmp_path)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    inputs = torch.randn(2, 96, 24, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert largest_gap(stock.eval()(inputs).logits, ours(inputs).logits) <= 1e-5
        assert torch.equal(again(inputs).logits, ours(inputs).logits)
    assert_same_state(again, ours)


# Geometries

TINY_STATE = vit(
    hidden_size=8,
    num_attention_heads=2,
    num_hidden_layers=1,
    intermediate_size=8,
    image_size=12,
    patch_size=4,
).state_dict()


@pytest.mark.parametrize(
    ("sizes", "patches"),
    [
        ((1024, 128, 16, 10, 10), 1212),
        ((512, 128, 16, 10, 10), 600),
        ((128, 128, 16, 10, 10), 144),
        ((1024, 128, 16, 12, 12), 850),
        ((1024, 128, 16, 14, 14), 657),
        ((1024, 128, 16, 16, 16), 512),
        ((1024, 128, 32, 32, 32), 128),
    ],
    ids=str,
)
def test_published_geometries(sizes: tuple[int, ...], patches: int) -> None:
    names = ("max_length", "num_mel_bins", "patch_size", "frequency_stride", "time_stride")
    options: dict[str, Any] = dict(zip(names, sizes, strict=True))
    ours = ASTModel.from_vit(TINY_STATE, num_attention_heads=2, **options)
    assert ours.config.num_tokens == 2 + patches
    assert ours.embeddings.position_embeddings.shape == (1, 2 + patches, 8)
    with torch.no_grad():
        assert ours(torch.randn(1, sizes[0], sizes[1])).last_hidden_state.shape == (1, 2 + patches, 8)


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, int]:
    patch = draw(st.integers(1, 9))
    steps = st.integers(1, patch)
    return {
        "patch_size": patch,
        "frequency_stride": draw(steps),
        "time_stride": draw(steps),
        "num_mel_bins": draw(st.integers(patch, patch + 12)),
        "max_length": draw(st.integers(patch, patch + 25)),
    }


@settings(max_examples=50, deadline=None)
@given(
    geometries(), st.sampled_from(["adapt", "nearest", "reinit"]), st.sampled_from(["flexivit", "bicubic"])
)
@example({**square(3, 3), "max_length": 7}, "adapt", "flexivit")
def test_every_geometry_makes_a_model_that_runs(fields: dict[str, Any], positions: str, kernel: str) -> None:
    options: dict[str, Any] = {"position_init": positions, "kernel_method": kernel, "num_attention_heads": 2}
    ours = ASTModel.from_vit(TINY_STATE, **fields, **options)
    patch, bins, frames = fields["patch_size"], fields["num_mel_bins"], fields["max_length"]
    rows = len(range(0, bins - patch + 1, fields["frequency_stride"]))
    columns = len(range(0, frames - patch + 1, fields["time_stride"]))
    assert ours.config.num_tokens == 2 + rows * columns
    assert {name: getattr(ours.config, name) for name in fields} == fields
    with torch.no_grad():
        hidden = ours(torch.randn(2, frames, bins)).last_hidden_state
    assert hidden.shape == (2, 2 + rows * columns, 8)
    assert torch.isfinite(hidden).all()


# Refusals


def assert_explains(error: AstHfError, code: str, *names: str, leave_out: str = "") -> None:
    message = str(error)
    assert error.code == code, message
    assert [name for name in names if name not in message] == [], message
    assert "Fix: " in message
    assert len(message.replace(leave_out, "") if leave_out else message) <= 300
    assert "\n" not in message


def refused(source: Any, **options: Any) -> AstHfError:
    with pytest.raises((AstConfigError, AstInputError)) as caught:
        ASTModel.from_vit(source, **{**square(), **options})
    return caught.value


def with_tensor(name: str, shape: tuple[int, ...] = (24,)) -> Callable[[], State]:
    return lambda: {**timm().state_dict(), name: torch.ones(shape)}


#: id -> source, text of the message. Heads are passed, so that no other error comes first.
INEXPRESSIBLE: list[tuple[str, Callable[[], Any], list[str]]] = [
    (
        "registers",
        maker("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", num_register_tokens=2),
        ["register tokens", "embeddings.register_tokens"],
    ),
    ("registers-timm", with_tensor("reg_token", (1, 4, 24)), ["register tokens", "reg_token"]),
    ("swiglu", maker("Dinov2Model", "Dinov2Config", use_swiglu_ffn=True), ["SwiGLU", "mlp.gate_proj"]),
    ("swiglu-hub", with_tensor("encoder.layer.0.mlp.weights_in.weight"), ["SwiGLU", "mlp.weights_in"]),
    ("swiglu-timm", with_tensor("blocks.0.mlp.w12.weight"), ["SwiGLU", "mlp.w12"]),
    (
        "qk-norm",
        with_tensor("blocks.0.attn.q_norm.weight"),
        ["normalised queries", "blocks.0.attn.q_norm.weight"],
    ),
    ("pre-norm", with_tensor("norm_pre.weight"), ["LayerNorm before the blocks", "norm_pre.weight"]),
    ("average-pooling", with_tensor("fc_norm.weight"), ["average pooling", "fc_norm.weight"]),
    (
        "relative-positions",
        with_tensor("blocks.0.attn.relative_position_bias_table", (49, 3)),
        ["relative positions", "relative_position_bias_table"],
    ),
    ("beit", maker("BeitModel", "BeitConfig", **MLP), ["lambda_1"]),
    (
        "beit-relative",
        maker("BeitModel", "BeitConfig", **MLP, use_relative_position_bias=True, layer_scale_init_value=0.0),
        ["relative positions"],
    ),
    (
        "beit-absolute",
        maker(
            "BeitModel",
            "BeitConfig",
            **MLP,
            use_absolute_position_embeddings=True,
            layer_scale_init_value=0.0,
        ),
        ["key.bias"],
    ),
    ("no-class-token", maker("IJepaModel", "IJepaConfig", **MLP), ["cls_token"]),
    ("clip", maker("CLIPVisionModel", "CLIPVisionConfig", **MLP), ["class_embedding"]),
    ("no-transformer", lambda: nn.Linear(2, 2), ["Linear", "weight"]),
    ("empty", dict, ["cls_token"]),
    ("nested", lambda: {"model": timm().state_dict()}, ["model"]),
    ("not-weights", lambda: {**timm().state_dict(), "epoch": torch.tensor(3)}, ["epoch"]),
    ("oblong-images", lambda: vit(image_size=(32, 64)), ["33 positions", "square"]),
    (
        "oblong-images-timm",
        lambda: {**timm().state_dict(), "pos_embed": torch.ones(1, 7, 24)},
        ["7 positions"],
    ),
    # 3 x 5 patches and a class token are 16 positions, not 4 x 4 patches without one
    ("oblong-images-of-a-square-number", lambda: vit(image_size=(24, 40)), ["square"]),
    ("oblong-images-distilled", lambda: deit(image_size=(16, 56)), ["square"]),  # 2 x 7 + 2 = 4 x 4
    ("oblong-patches", with_tensor("patch_embed.proj.weight", (24, 3, 8, 4)), ["(24, 3, 8, 4)", "square"]),
    ("video-patches", with_tensor("patch_embed.proj.weight", (24, 3, 2, 8, 8)), ["(24, 3, 2, 8, 8)"]),
    ("ast-state-dict", lambda: ASTForAudioClassification(tiny_ast()).state_dict(), ["classifier"]),
]


def tiny_ast() -> ASTConfig:
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 48}
    return ASTConfig(**sizes, **square())


@pytest.mark.parametrize(
    ("make", "names"), [row[1:] for row in INEXPRESSIBLE], ids=[row[0] for row in INEXPRESSIBLE]
)
def test_architectures_that_ast_cannot_represent_are_refused(
    make: Callable[[], Any], names: list[str]
) -> None:
    assert_explains(refused(make(), num_attention_heads=3), "E305", *names)


@pytest.mark.parametrize("original_format", [True, False])
@pytest.mark.parametrize("name", ["registers", "swiglu", "beit", "no-class-token", "oblong-images"])
def test_unsupported_folders_are_refused(name: str, original_format: bool, tmp_path: Path) -> None:
    make = next(row[1] for row in INEXPRESSIBLE if row[0] == name)
    make().save_pretrained(tmp_path, save_original_format=original_format)
    assert_explains(refused(tmp_path), "E305", str(tmp_path), leave_out=str(tmp_path))


@pytest.mark.parametrize("form", ["object", "folder"])
@pytest.mark.parametrize("build", [ASTForAudioClassification, ASTModel, hf.ASTForAudioClassification])
def test_an_ast_is_refused_as_an_image_transformer(build: type, form: str, tmp_path: Path) -> None:
    model = build(
        tiny_ast() if build is not hf.ASTForAudioClassification else hf.ASTConfig(**tiny_ast().to_dict())
    )
    model.save_pretrained(tmp_path)
    error = refused(model if form == "object" else tmp_path)
    assert_explains(error, "E305", "is an AST already", leave_out=str(tmp_path))
    assert "from_pretrained" in error.fix


# Tensors that are missing, unexpected, of another shape, or not finite

BLOCK = "encoder.layer.0."
#: DINOv2's tensors -> ours, the hardest source: LayerScale goes into other tensors.
DINOV2_BLOCK = {
    "norm1.weight": "layernorm_before.weight",
    "norm1.bias": "layernorm_before.bias",
    "attention.q_proj.weight": "attention.attention.query.weight",
    "attention.q_proj.bias": "attention.attention.query.bias",
    "attention.k_proj.weight": "attention.attention.key.weight",
    "attention.k_proj.bias": "attention.attention.key.bias",
    "attention.v_proj.weight": "attention.attention.value.weight",
    "attention.v_proj.bias": "attention.attention.value.bias",
    "attention.o_proj.weight": "attention.output.dense.weight",
    "attention.o_proj.bias": "attention.output.dense.bias",
    "layer_scale1.lambda1": "layer_scale1",
    "norm2.weight": "layernorm_after.weight",
    "norm2.bias": "layernorm_after.bias",
    "mlp.fc1.weight": "intermediate.dense.weight",
    "mlp.fc1.bias": "intermediate.dense.bias",
    "mlp.fc2.weight": "output.dense.weight",
    "mlp.fc2.bias": "output.dense.bias",
    "layer_scale2.lambda1": "layer_scale2",
}
DINOV2_TOP = [
    "embeddings.cls_token",
    "embeddings.position_embeddings",
    "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embeddings.projection.bias",
    "layernorm.weight",
    "layernorm.bias",
]
DINOV2_NAMES = {name: name for name in DINOV2_TOP} | {
    f"encoder.layer.{n}.{theirs}": f"encoder.layer.{n}.{ours}"
    for n in (0, 1)
    for theirs, ours in DINOV2_BLOCK.items()
}
TIMM_NAMES = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "blocks.1.attn.qkv.weight": "encoder.layer.1.attention.attention.query.weight",
    "blocks.1.attn.qkv.bias": "encoder.layer.1.attention.attention.query.bias",
    "blocks.0.attn.proj.weight": "encoder.layer.0.attention.output.dense.weight",
    "blocks.0.mlp.fc1.weight": "encoder.layer.0.intermediate.dense.weight",
    "norm.bias": "layernorm.bias",
}


def test_names_of_dinov2_are_complete() -> None:
    assert dinov2().state_dict().keys() == {*DINOV2_NAMES, "embeddings.mask_token"}


@pytest.mark.parametrize("name", DINOV2_NAMES)
def test_a_missing_tensor_is_refused(name: str) -> None:
    state = dinov2().state_dict()
    del state[name]
    error = refused(state, num_attention_heads=3)
    assert_explains(error, "E305")
    # as if it had none: then those of key and value are unexpected
    if name == BLOCK + "attention.q_proj.bias":
        name = BLOCK + "attention.k_proj.bias"
    assert name in str(error) or DINOV2_NAMES[name] in str(error)


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_a_tensor_missing_under_timms_names_is_refused(name: str) -> None:
    state = timm().state_dict()
    del state[name]
    assert_explains(refused(state, num_attention_heads=3), "E305", TIMM_NAMES[name])


def test_a_lost_distillation_token_is_refused() -> None:
    state = deit().state_dict()
    del state["embeddings.distillation_token"]
    assert_explains(refused(state, num_attention_heads=3), "E305", "18 positions")


def test_a_lost_block_is_refused() -> None:
    state = {
        name: tensor
        for name, tensor in dinov2(num_hidden_layers=3).state_dict().items()
        if ".layer.1." not in name
    }
    assert_explains(refused(state, num_attention_heads=3), "E305", "encoder.layer.1.")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("encoder.layer.0.norm3.weight", "encoder.layer.0.norm3.weight"),
        ("encoder.layer.2.norm1.weight", "encoder.layer.2."),
        ("encoder.layer.0.attention.extra", "encoder.layer.0.attention.extra"),
        ("extra.weight", "extra.weight"),
        ("embeddings.cls_tokens", "embeddings.cls_tokens"),
        ("classifier.dense.weight", "classifier.dense.weight"),  # a classifier of AST
        ("dinov2.embeddings.cls_token", "embeddings.cls_token"),  # the same tensor under two names
    ],
)
def test_an_extra_tensor_is_refused(name: str, message: str) -> None:
    state = {**dinov2().state_dict(), name: torch.ones(1, 1, 24)}
    assert_explains(refused(state, num_attention_heads=3), "E305", message)


MISSHAPEN = [
    ("embeddings.cls_token", (24,)),
    ("embeddings.cls_token", (2, 1, 24)),
    ("embeddings.cls_token", ()),
    ("embeddings.position_embeddings", (1, 17, 12)),
    ("embeddings.position_embeddings", (2, 17, 24)),
    ("embeddings.position_embeddings", (17, 24)),
    ("embeddings.position_embeddings", (17,)),
    ("embeddings.position_embeddings", (1, 1, 24)),
    ("embeddings.patch_embeddings.projection.weight", (24, 3, 64)),
    ("embeddings.patch_embeddings.projection.weight", (12, 3, 8, 8)),
    ("embeddings.patch_embeddings.projection.bias", (1,)),
    (BLOCK + "norm1.weight", ()),
    (BLOCK + "norm1.bias", (1,)),
    (BLOCK + "attention.q_proj.weight", (24, 12)),
    (BLOCK + "attention.o_proj.weight", (12, 24)),
    (BLOCK + "attention.o_proj.weight", (24, 12)),
    (BLOCK + "attention.o_proj.bias", (12,)),
    (BLOCK + "mlp.fc1.weight", ()),
    (BLOCK + "mlp.fc1.bias", (24,)),
    (BLOCK + "mlp.fc2.weight", (24, 24)),
    (BLOCK + "layer_scale1.lambda1", (12,)),
    (BLOCK + "layer_scale2.lambda1", (24, 24)),
    ("layernorm.weight", (48,)),
]


@pytest.mark.parametrize(("name", "shape"), MISSHAPEN, ids=str)
def test_a_misshapen_tensor_is_refused(name: str, shape: tuple[int, ...]) -> None:
    state = {**dinov2().state_dict(), name: torch.ones(shape)}
    error = refused(state, num_attention_heads=3)
    assert_explains(error, "E305")
    kind = re.search("position|patch", name)  # described in words, since the whole model depends on it
    names = (name, DINOV2_NAMES[name], kind.group() if kind else name)
    assert any(each in str(error) for each in names), str(error)


@pytest.mark.parametrize("shape", [(70, 24), (48, 24), (72, 12), (4, 24), (2, 24), ()], ids=str)
def test_a_misshapen_stack_of_query_key_and_value_is_refused(shape: tuple[int, ...]) -> None:
    state = {**timm().state_dict(), "blocks.1.attn.qkv.weight": torch.ones(shape)}
    error = refused(state, num_attention_heads=3)
    assert_explains(error, "E305")
    assert re.search(
        r"blocks\.1\.attn\.qkv|encoder\.layer\.1\.attention\.attention\.(query|key|value)", str(error)
    )


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    "name", [*DINOV2_TOP[:3], *(BLOCK + name for name in list(DINOV2_BLOCK)[::3]), "layernorm.bias"]
)
def test_nan_and_infinite_weights_are_refused(name: str, value: float) -> None:
    state = dinov2().state_dict()
    state[name] = state[name].clone()
    state[name].view(-1)[-1] = value
    assert_explains(refused(state, num_attention_heads=3), "E306", DINOV2_NAMES[name], "NaN or infinity")


@pytest.mark.parametrize("name", ["layer_scale1", "layer_scale2"])
def test_a_nan_layer_scale_is_refused(name: str) -> None:
    state = dinov2().state_dict()
    state[f"{BLOCK}{name}.lambda1"] = torch.full((24,), torch.nan)
    assert_explains(refused(state, num_attention_heads=3), "E306", BLOCK, "NaN or infinity")


def test_nan_in_unused_tensors_is_ignored() -> None:
    state = {**dinov2().state_dict(), "embeddings.mask_token": torch.full((1, 24), torch.nan)}
    assert_same_state(
        ASTModel.from_vit(state, num_attention_heads=3, **square()),
        ASTModel.from_vit(dinov2().state_dict(), num_attention_heads=3, **square()),
    )


# Arguments


def no_heads() -> nn.Module:
    """A module without a config."""
    model = timm()
    del model.blocks[0].attn.num_heads
    return model


@pytest.mark.parametrize(
    "make",
    [lambda: vit().state_dict(), lambda: timm().state_dict(), no_heads],
    ids=["hub-state-dict", "timm-state-dict", "module"],
)
def test_heads_of_an_unusual_width_have_to_be_given(make: Callable) -> None:
    error = refused(make())
    assert_explains(error, "E108", "24")
    assert (error.where, error.fix) == ("num_attention_heads", "give num_attention_heads")


def test_heads_of_a_timm_folder_have_to_be_given(tmp_path: Path) -> None:
    error = refused(timm_folder(tmp_path, timm().state_dict()))
    assert_explains(error, "E108", "num_attention_heads")


@pytest.mark.parametrize(
    ("options", "code", "names"),
    [
        ({"channel_reduction": "avg"}, "E108", ["channel_reduction", "'avg'", "mean, sum"]),
        ({"channel_reduction": "summ"}, "E108", ["channel_reduction", "did you mean 'sum'"]),
        ({"channel_reduction": None}, "E108", ["channel_reduction", "None"]),
        ({"position_init": "bilinear"}, "E108", ["position_init", "'bilinear'", "adapt, nearest, reinit"]),
        ({"position_init": "neerest"}, "E108", ["position_init", "did you mean 'nearest'"]),
        ({"position_init": "stretch"}, "E108", ["position_init", "'stretch'"]),
        ({"kernel_method": "bicubc"}, "E108", ["kernel_method", "did you mean 'bicubic'"]),
        ({"kernel_method": "nearest"}, "E108", ["kernel_method", "'nearest'"]),
        ({"max_lenght": 64}, "E302", ["max_lenght", "did you mean 'max_length'"]),
        ({"num_lables": 4}, "E302", ["num_lables", "did you mean 'num_labels'"]),
        ({"position_method": "adapt"}, "E302", ["position_method"]),
        ({"patch_size": 0}, "E302", ["patch_size", "0"]),
        ({"patch_size": 64}, "E302", ["patch_size=64"]),
        ({"time_stride": 0}, "E302", ["time_stride"]),
        ({"time_stride": 64}, "E302", ["time_stride", "64"]),
        ({"max_length": 4}, "E302", ["max_length", "4"]),
        ({"num_mel_bins": "128"}, "E302", ["num_mel_bins"]),
        ({"problem_type": "multilabel"}, "E302", ["problem_type"]),
        ({"num_labels": 2, "id2label": {0: "a"}}, "E303", ["num_labels"]),
        ({"num_attention_heads": 4}, "E108", ["num_attention_heads", "is 4", "has 3"]),
        ({"num_attention_heads": 0}, "E108", ["num_attention_heads", "is 0"]),
    ],
    ids=str,
)
def test_misspelt_and_impossible_options_are_refused(
    options: dict[str, Any], code: str, names: list[str]
) -> None:
    assert_explains(refused(vit(), **options), code, *names)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", 24),
        ("hidden_size", 48),
        ("num_hidden_layers", 1),
        ("intermediate_size", 96),
        ("hidden_act", "relu"),
        ("qkv_bias", False),
    ],
)
def test_options_fixed_by_the_weights_are_refused(name: str, value: Any) -> None:
    error = refused(vit(), **{name: value})
    assert_explains(error, "E108", "follows from the weights")
    assert error.where == name


@pytest.mark.parametrize("source", [5, None, [1.0], b"vit"], ids=str)
def test_a_missing_source_is_refused(source: Any) -> None:
    assert_explains(refused(source), "E102", "source", type(source).__name__)


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def rewrite(folder: Path, change: Callable[[State], Any]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


BROKEN: list[tuple[str, Callable[[Path], Any], str, list[str]]] = [
    ("cut", cut, "E306", ["model.safetensors"]),
    (
        "no-tensors",
        lambda folder: (folder / "model.safetensors").write_text("<html>"),
        "E306",
        ["model.safetensors"],
    ),
    ("no-weights", lambda folder: (folder / "model.safetensors").unlink(), "E306", ["no weights"]),
    ("no-config", lambda folder: (folder / "config.json").unlink(), "E306", ["config.json"]),
    ("no-json", lambda folder: (folder / "config.json").write_text("{"), "E306", ["config.json", "JSON"]),
    (
        "lost",
        lambda folder: rewrite(folder, lambda state: state.pop("layernorm.bias")),
        "E305",
        ["layernorm.bias"],
    ),
    (
        "extra",
        lambda folder: rewrite(folder, lambda state: state.update(x=torch.ones(1))),
        "E305",
        ["tensor x"],
    ),
    (
        "nan",
        lambda folder: rewrite(folder, lambda state: state["layernorm.bias"].fill_(torch.nan)),
        "E306",
        ["NaN"],
    ),
]


@pytest.mark.parametrize(
    ("spoil", "code", "names"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
def test_broken_folders_are_refused(spoil: Callable, code: str, names: list[str], tmp_path: Path) -> None:
    vit().save_pretrained(tmp_path)
    assert ASTModel.from_vit(tmp_path, **square()).config.hidden_size == 24
    spoil(tmp_path)
    assert_explains(refused(tmp_path), code, str(tmp_path), *names, leave_out=str(tmp_path))


def test_places_without_a_model_are_refused(tmp_path: Path) -> None:
    assert_explains(refused(tmp_path / "nowhere"), "E306", "does not exist", leave_out=str(tmp_path))
    assert_explains(refused("nobody/no-such-vit"), "E306", "nobody/no-such-vit", "connection")


@pytest.mark.parametrize("heads", [5, -3, 0])
def test_impossible_heads_of_bare_tensors_are_refused(heads: int) -> None:
    assert_explains(refused(vit().state_dict(), num_attention_heads=heads), "E302", "num_attention_heads")


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_dtype_is_honoured(dtype: Any) -> None:
    source = vit()
    model = ASTModel.from_vit(source, dtype=dtype, max_length=64, num_mel_bins=32)
    expected_dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float16
    assert {parameter.dtype for parameter in model.parameters()} == {expected_dtype}
    assert model.config.dtype == expected_dtype
