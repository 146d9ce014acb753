"""Any input size: every grid, clips of any length, masked padding, resized and factored position embeddings."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, largest_gap, randomise
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F
from transformers import ASTConfig as StockConfig
from transformers import ASTForAudioClassification as StockClassifier
from transformers import ASTModel as StockModel
from transformers import AutoModel, AutoModelForAudioClassification

from ast_hf import (
    ASTConfig,
    AstConfigError,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AstHfError,
    AstHfWarning,
    AstInputError,
    ASTModel,
)

BACKBONE = "audio_spectrogram_transformer."
POSITIONS, KERNEL = "embeddings.position_embeddings", "embeddings.patch_embeddings.projection.weight"
IMPLEMENTATIONS = ("eager", "sdpa", "flex_attention")
CUTS = ("start", "centre")


def tiny_config(**fields: Any) -> ASTConfig:
    return ASTConfig(**{**TINY, "num_labels": 3, **fields})


def classifier(**fields: Any) -> ASTForAudioClassification:
    return randomise(ASTForAudioClassification(tiny_config(**fields)))


def noise(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def table_of(model: Any) -> torch.Tensor:
    """Return the plain position table, `(1, tokens, hidden)`."""
    return model.base_model.state_dict()[POSITIONS]


def patches_of(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return the position embeddings of the patches as `(F, T, C)`."""
    return table[0, 2:].reshape(*grid, -1)


def snapshot(model: Any) -> dict[str, Any]:
    """Return everything of a model that a resize may change."""
    projection = model.base_model.embeddings.patch_embeddings.projection
    return {
        "config": model.config.to_dict(),
        "state": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "parameters": {name: id(parameter) for name, parameter in model.named_parameters()},
        "convolution": (projection.kernel_size, projection.stride),
    }


def assert_same(model: Any, before: dict[str, Any]) -> None:
    after = snapshot(model)
    assert all(torch.equal(tensor, after["state"][name]) for name, tensor in before["state"].items())
    assert {**after, "state": None} == {**before, "state": None}


def stocks(model: Any, folder: Path) -> Any:
    """Return the same model in transformers' own class, through a saved file."""
    model.save_pretrained(folder)
    reader = StockModel if isinstance(model, ASTModel) else StockClassifier
    stock, info = reader.from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(stock).__module__.startswith("transformers.")
    return stock.eval()


def answer(model: Any, values: torch.Tensor, **arguments: Any) -> torch.Tensor:
    """Return the logits, or the hidden states of a model without a classifier."""
    with torch.no_grad():
        outputs = model(values, **arguments)
    return outputs.logits if "logits" in outputs else outputs.last_hidden_state


pytestmark = pytest.mark.usefixtures("flex_attention_uncompiled")


@pytest.fixture(scope="module")
def model() -> ASTForAudioClassification:
    """Return a tiny model. Read only."""
    return classifier()


@pytest.fixture(scope="module")
def folder(model: ASTForAudioClassification, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of `model`. Read only."""
    path = tmp_path_factory.mktemp("any-size")
    model.save_pretrained(path)
    return path


# Grids of all sizes that the paper's recipes and the published models use

#: Frames -> stride -> patches along time, and mel bins -> stride -> patches along frequency.
COLUMNS = {
    98: {10: 9, 12: 7, 14: 6, 16: 6},
    128: {10: 12, 12: 10, 14: 9, 16: 8},
    512: {10: 50, 12: 42, 14: 36, 16: 32},
    998: {10: 99, 12: 82, 14: 71, 16: 62},
    1024: {10: 101, 12: 85, 14: 73, 16: 64},
    3000: {10: 299, 12: 249, 14: 214, 16: 187},
}
ROWS = {64: {10: 5, 12: 5, 14: 4, 16: 4}, 128: {10: 12, 12: 10, 14: 9, 16: 8}}
#: (frames, bins, stride) -> tokens; those of 1024 frames are the paper's 1212, 850, 657 and 512 patches and two more.
TOKENS = {
    (1024, 128, 10): 1214,
    (1024, 128, 12): 852,
    (1024, 128, 14): 659,
    (1024, 128, 16): 514,
    (998, 128, 10): 1190,
    (3000, 128, 10): 3590,
    (3000, 64, 16): 750,
    (512, 128, 10): 602,
    (128, 128, 10): 146,
    (98, 64, 16): 26,
}
SIZES = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}
GRIDS = [(frames, bins) for frames in COLUMNS for bins in ROWS]


def sized(size: str, stride: int, frames: int, bins: int) -> dict[str, int]:
    width, heads = SIZES[size]
    return {
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 1,
        "frequency_stride": stride,
        "time_stride": stride,
        "max_length": frames,
        "num_mel_bins": bins,
    }


def assert_grid(model: ASTModel, stride: int, frames: int, bins: int) -> int:
    """Assert the grid of config and position table; return the number of tokens."""
    rows, columns = ROWS[bins][stride], COLUMNS[frames][stride]
    tokens = TOKENS.get((frames, bins, stride), rows * columns + 2)
    assert model.config.patch_grid == (rows, columns)
    assert (model.config.num_tokens, model.config.num_patches) == (tokens, tokens - 2)
    assert table_of(model).shape == (1, tokens, model.config.hidden_size)
    return tokens


@pytest.mark.parametrize("stride", [10, 12, 14, 16])
def test_grid_of_every_size_and_a_forward_of_the_tiny_model(stride: int) -> None:
    for frames, bins in GRIDS:
        ours = ASTModel(ASTConfig(**sized("tiny", stride, frames, bins))).eval()
        tokens = assert_grid(ours, stride, frames, bins)
        hidden = answer(ours, noise(1, frames, bins))
        assert hidden.shape == (1, tokens, 192)
        assert torch.isfinite(hidden).all()


@pytest.mark.parametrize("stride", [10, 12, 14, 16])
@pytest.mark.parametrize("size", ["small", "base"])
def test_grid_of_every_size_of_the_larger_models(size: str, stride: int) -> None:
    for frames, bins in GRIDS:
        with torch.device("meta"):
            ours = ASTModel(ASTConfig(**sized(size, stride, frames, bins)))
            tokens = assert_grid(ours, stride, frames, bins)
            assert answer(ours, torch.empty(2, frames, bins)).shape == (2, tokens, SIZES[size][0])


@pytest.mark.parametrize(
    ("size", "stride", "frames", "bins"),
    [("tiny", 12, 128, 64), ("tiny", 14, 98, 128), ("small", 16, 998, 128), ("base", 10, 512, 64)],
)
def test_every_size_matches_stock(size: str, stride: int, frames: int, bins: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = ASTModel(ASTConfig(**sized(size, stride, frames, bins))).eval()
    values = noise(1, frames, bins)
    assert largest_gap(answer(ours, values), answer(stocks(ours, tmp_path), values)) <= 1e-5


def test_grid_with_a_stride_of_its_own_for_each_axis() -> None:
    fields = {**sized("tiny", 16, 998, 128), "hidden_size": 12, "time_stride": 10}
    ours = ASTModel(ASTConfig(**fields)).eval()
    assert ours.config.patch_grid == (8, 99)
    assert answer(ours, noise(1, 998, 128)).shape == (1, 794, 12)


# Clips of another length than `max_length`

#: Frames -> patches along time, for patches of 16 frames every 8.
SHORTER = {16: 1, 17: 1, 23: 1, 24: 2, 31: 2, 32: 3, 40: 4, 47: 4, 48: 5, 56: 6, 63: 6}
LONGER = {72: 8, 79: 8, 80: 9, 100: 11, 128: 15, 200: 24, 313: 38}
#: Patches along time -> first kept position of seven, `int(7 / 2) - int(n / 2)` in the original's code.
FIRST_KEPT = {"start": dict.fromkeys(range(1, 8), 0), "centre": {1: 3, 2: 2, 3: 2, 4: 1, 5: 1, 6: 0, 7: 0}}


@torch.no_grad()
def positions_only(**fields: Any) -> ASTForAudioClassification:
    """Return a model whose tokens are their position embeddings: patch (f, t) has 100 f + t in all channels."""
    ours = classifier(**fields)
    embeddings = ours.base_model.embeddings
    for parameter in (
        embeddings.cls_token,
        embeddings.distillation_token,
        *embeddings.patch_embeddings.parameters(),
    ):
        parameter.zero_()
    rows, columns = ours.config.patch_grid
    numbers = (100 * torch.arange(rows)[:, None] + torch.arange(columns)).flatten()
    embeddings.position_embeddings.copy_(torch.cat((torch.tensor([-1, -2]), numbers))[None, :, None])
    return ours


def tokens_of(model: Any, frames: int, **arguments: Any) -> torch.Tensor:
    """Return the tokens before the first block for one clip of noise."""
    with torch.no_grad():
        return model(noise(1, frames, 32), output_hidden_states=True, **arguments).hidden_states[0]


@pytest.mark.parametrize("cut", CUTS)
def test_a_shorter_clip_gets_the_positions_that_a_cut_keeps(cut: str) -> None:
    ours = positions_only(position_cut=cut)
    for frames, columns in SHORTER.items():
        tokens = tokens_of(ours, frames)
        first = FIRST_KEPT[cut][columns]
        expected = [-1, -2] + [100 * row + first + step for row in range(3) for step in range(columns)]
        assert tokens.shape == (1, len(expected), 24)
        assert torch.equal(
            tokens, torch.tensor(expected, dtype=torch.float32)[None, :, None].expand_as(tokens)
        ), frames


@pytest.mark.parametrize("cut", CUTS)
def test_a_longer_clip_gets_stretched_positions(cut: str) -> None:
    ours = positions_only(position_cut=cut)
    for frames, columns in LONGER.items():
        places = F.interpolate(torch.arange(7.0)[None, None], columns, mode="linear", align_corners=False)[
            0, 0
        ]
        expected = torch.cat((torch.tensor([-1.0, -2.0]), *(100 * row + places for row in range(3))))
        tokens = tokens_of(ours, frames)
        assert largest_gap(tokens, expected[None, :, None].expand(1, -1, 24)) <= 1e-4, frames


def test_a_cut_of_an_even_number_of_positions() -> None:
    ours = positions_only(position_cut="centre", max_length=72)  # eight along time
    first_positions = {frames: tokens_of(ours, frames)[0, 2, 0].item() for frames in (16, 24, 32, 40, 64)}
    assert first_positions == {16: 4, 24: 3, 32: 3, 40: 2, 64: 1}


@pytest.mark.parametrize("cut", CUTS)
def test_any_length_matches_a_model_resized_to_it(cut: str) -> None:
    ours = classifier(position_cut=cut)
    for frames in (*SHORTER, 64, 71, *LONGER):
        resized = copy.deepcopy(ours).resize_input(max_length=frames, position_cut=cut)
        values = noise(2, frames, 32)
        assert resized.config.max_length == frames
        assert largest_gap(answer(ours, values), answer(resized, values)) <= 1e-6, frames
    assert ours.config.max_length == 64  # inputs of other lengths changed nothing


def test_the_two_cuts_give_different_logits() -> None:
    start, centre = classifier(position_cut="start"), classifier(position_cut="centre")
    assert largest_gap(answer(start, noise(1, 40, 32)), answer(centre, noise(1, 40, 32))) > 1e-3
    for frames in (64, 128):
        assert torch.equal(answer(start, noise(1, frames, 32)), answer(centre, noise(1, frames, 32)))


@pytest.mark.parametrize("cut", CUTS)
def test_the_configured_length_matches_stock(cut: str, tmp_path: Path) -> None:
    ours = classifier(position_cut=cut)
    stock = stocks(ours, tmp_path)
    assert largest_gap(answer(ours, noise(2, 64, 32)), answer(stock, noise(2, 64, 32))) <= 1e-5
    padded = noise(2, 64, 32)
    # padding without a mask, as the published weights were trained
    padded[0, 20:], padded[1, 51:] = 0.467, 0.467
    assert largest_gap(answer(ours, padded), answer(stock, padded)) <= 1e-5


def test_gradient_of_a_cut_reaches_the_kept_positions_only() -> None:
    for cut, positions in (("start", [0, 1]), ("centre", [2, 3])):
        ours = classifier(position_cut=cut)
        ours(noise(2, 24, 32), labels=torch.tensor([0, 2])).loss.backward()
        gradient = ours.base_model.embeddings.position_embeddings.grad
        reached = patches_of(gradient, (3, 7)).abs().amax(dim=-1) > 0
        assert [row.nonzero().flatten().tolist() for row in reached] == [positions] * 3
        assert (gradient[0, :2].abs().amax(dim=-1) > 0).all()


def test_gradient_of_a_stretch_reaches_all_positions_by_their_share() -> None:
    ours = classifier()
    states = ours(noise(1, 128, 32), output_hidden_states=True).hidden_states[0]
    states.sum().backward()
    gradient = patches_of(ours.base_model.embeddings.position_embeddings.grad, (3, 7))
    assert (gradient > 0).all()
    assert largest_gap(gradient.sum(dim=1), torch.full((3, 24), 15.0)) <= 1e-4  # the shares of 15 columns


@pytest.mark.parametrize("frames", [56, 136], ids=["cut", "stretch"])
@pytest.mark.parametrize("cut", CUTS)
def test_training_works_after_inference_mode(cut: str, frames: int) -> None:
    ours = classifier(position_cut=cut, max_length=104)  # a grid that no other test has
    with torch.inference_mode():
        expected = ours(noise(1, frames, 32)).logits
    logits = ours(noise(1, frames, 32)).logits
    logits.sum().backward()
    assert largest_gap(logits.detach(), expected.clone()) <= 1e-6
    assert ours.base_model.embeddings.position_embeddings.grad.abs().max() > 0


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("cut", CUTS)
def test_bfloat16_stays_close_at_any_length(cut: str, masked: bool) -> None:
    ours = classifier(position_cut=cut)
    half = copy.deepcopy(ours).to(torch.bfloat16)
    for frames in (24, 40, 64, 100, 200):
        mask = frame_mask([frames, 20], frames) if masked else None
        values = noise(2, frames, 32)
        expected = answer(ours, noise(2, frames, 32), attention_mask=mask)
        logits = answer(half, values.to(torch.bfloat16), attention_mask=mask)
        assert logits.dtype == torch.bfloat16
        assert largest_gap(logits, expected) <= 0.05 * expected.abs().max(), frames


@pytest.mark.slow
def test_one_graph_that_compiles_serves_many_lengths() -> None:
    """One graph for the first length, one for shorter and one for longer ones: torch stops compiling after eight."""
    torch._dynamo.reset()
    ours = classifier(num_hidden_layers=1)
    lengths = (24, 32, 40, 48, 56, 120, 128)
    # values cached here must not matter
    expected = [answer(ours, noise(2, frames, 32)) for frames in lengths]
    backend = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(ours, fullgraph=True, backend=backend)
    for frames, logits in zip(lengths, expected, strict=True):
        assert largest_gap(answer(compiled, noise(2, frames, 32)), logits) <= 1e-5
    assert backend.frame_count <= 4


@pytest.mark.long
def test_masked_clips_of_any_length_and_the_other_cut_compile() -> None:
    torch._dynamo.reset()
    ours = classifier(position_cut="centre", num_hidden_layers=1)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for frames, mask in ((32, None), (120, frame_mask([20, 120], 120))):
        expected = answer(ours, noise(2, frames, 32), attention_mask=mask)
        assert largest_gap(answer(compiled, noise(2, frames, 32), attention_mask=mask), expected) <= 1e-5


@pytest.mark.parametrize("frames", [0, 1, 15])
def test_less_than_a_patch_is_refused(frames: int, model: ASTForAudioClassification) -> None:
    for part in (model, model.base_model):
        with pytest.raises(
            AstInputError, match=rf"E304.*\(1, {frames}, 32\).*one patch \(16 frames\).*Fix: "
        ) as caught:
            part(noise(1, frames, 32))
        assert caught.value.code == "E304"


# Masks: padding has no influence


def frame_mask(lengths: list[int], frames: int) -> torch.Tensor:
    """Return a mask (clips, frames): 1 on the first frames of each clip."""
    return (torch.arange(frames) < torch.tensor(lengths)[:, None]).long()


def clip_of(length: int, seed: int) -> torch.Tensor:
    """Return noise of `length` frames, padded to one patch by masked frames."""
    clip = torch.full((max(length, 16), 32), 0.467)
    clip[:length] = noise(length, 32, seed=seed)
    return clip


def batch_of(clips: list[torch.Tensor], frames: int, padding: float, seed: int = 0) -> torch.Tensor:
    """Return a batch of clips; the frames after their ends are noise around `padding`."""
    batch = padding * (1 + 0.1 * noise(len(clips), frames, 32, seed=seed))
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    return batch


MASKED_MODELS: dict[tuple[str, str], ASTForAudioClassification] = {}


def masked_model(implementation: str, cut: str) -> ASTForAudioClassification:
    key = (implementation, cut)
    if key not in MASKED_MODELS:
        MASKED_MODELS[key] = classifier(attn_implementation=implementation, position_cut=cut)
    return MASKED_MODELS[key]


@pytest.mark.long
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 160), min_size=1, max_size=4),
    beyond=st.integers(1, 400),
    padding=st.floats(-100, 100, width=32),
)
@example(lengths=[64, 24, 39, 16], beyond=64, padding=50.0)
@example(lengths=[150, 7, 65], beyond=1, padding=-100.0)
@example(lengths=[3], beyond=400, padding=0.0)
def test_masked_logits_do_not_depend_on_the_batch(
    implementation: str, cut: str, lengths: list[int], beyond: int, padding: float
) -> None:
    ours = masked_model(implementation, cut)
    clips = [clip_of(length, seed) for seed, length in enumerate(lengths)]
    alone = torch.cat([answer(ours, clip[None]) for clip in clips])
    longest = max(map(len, clips))
    for frames in {longest, max(longest, 64), max(longest, 64) + beyond}:
        logits = answer(ours, batch_of(clips, frames, padding), attention_mask=frame_mask(lengths, frames))
        assert largest_gap(logits, alone) <= 1e-5, (frames, lengths)


@pytest.mark.parametrize("cut", CUTS)
def test_positions_of_masked_clips_are_those_they_have_alone(cut: str) -> None:
    ours = positions_only(position_cut=cut)
    lengths = {5: 1, 40: 4, 71: 7, 100: 11}  # frames -> patches along time
    with torch.no_grad():
        batch = ours(
            noise(4, 160, 32), attention_mask=frame_mask(list(lengths), 160), output_hidden_states=True
        )
    for row, (frames, columns) in zip(batch.hidden_states[0], lengths.items(), strict=True):
        alone = tokens_of(ours, max(frames, 16))[0]
        assert torch.equal(row[:2], alone[:2])
        assert (
            largest_gap(patches_of(row[None], (3, 19))[:, :columns], patches_of(alone[None], (3, columns)))
            == 0
        )


def test_without_a_mask_padding_changes_the_logits(model: ASTForAudioClassification) -> None:
    clip = clip_of(40, 0)
    for frames in (64, 100):
        padded = answer(model, batch_of([clip], frames, 50.0))
        assert largest_gap(padded, answer(model, clip[None])) > 1e-2
    louder = clip.clone()
    louder[39] = 50.0
    masked = answer(model, batch_of([louder], 64, 0.0), attention_mask=frame_mask([40], 64))
    assert largest_gap(masked, answer(model, clip[None])) > 1e-2


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_masked_recordings_do_not_depend_on_padding(implementation: str, cut: str) -> None:
    ours = masked_model(implementation, cut)
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=64)
    random = np.random.default_rng(0)
    samples = {1_500: 7, 5_600: 33, 8_000: 48, 10_500: 64, 17_777: 109}  # at 16 kHz -> frames
    clips = [random.uniform(-0.5, 0.5, count).astype(np.float32) for count in samples]

    def extract(chosen: list[np.ndarray], **how: Any) -> Any:
        return extractor(chosen, sampling_rate=16_000, return_tensors="pt", truncation=False, **how)

    alone = []
    for clip, frames in zip(clips, samples.values(), strict=True):
        features = extract([clip], padding="max_length", max_length=16)  # one patch for the shortest
        assert set(features) == {"input_values"}
        assert features["input_values"].shape == (1, max(frames, 16), 32)
        alone.append(answer(ours, features["input_values"]))
    for chosen in (slice(0, 5), slice(0, 4), slice(1, 3)):
        for how in (
            {"padding": "longest"},
            {"padding": "max_length"},
            {"padding": "max_length", "max_length": 300},
        ):
            features = extract(clips[chosen], return_attention_mask=True, **how)
            assert features["attention_mask"].sum(dim=1).tolist() == list(samples.values())[chosen]
            logits = answer(ours, features["input_values"], attention_mask=features["attention_mask"])
            assert largest_gap(logits, torch.cat(alone[chosen])) <= 1e-5, how


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_token_masks_work_at_any_length(implementation: str, cut: str) -> None:
    ours = masked_model(implementation, cut)
    for frames, columns in ((48, 5), (64, 7), (120, 14)):
        seen = (4, 2)  # patches along time: 40 and 24 frames
        tokens = torch.tensor([[1, 1] + 3 * ([1] * real + [0] * (columns - real)) for real in seen])
        values = noise(2, frames, 32)
        logits = answer(ours, values, attention_mask=tokens)
        assert largest_gap(logits, answer(ours, values, attention_mask=frame_mask([40, 24], frames))) <= 1e-6
        for clip, length in enumerate((40, 24)):
            assert largest_gap(logits[[clip]], answer(ours, values[[clip], :length])) <= 1e-5


def test_token_masks_match_stock_at_the_configured_length(
    model: ASTForAudioClassification, tmp_path: Path
) -> None:
    stock = stocks(model, tmp_path)
    stock.set_attn_implementation("eager")
    tokens = torch.tensor([[1, 1] + 3 * [1, 1, 0, 0, 0, 0, 0], [1, 1] + [1] * 7 + [0] * 14])
    expected = answer(stock, noise(2, 64, 32), attention_mask=tokens)
    assert largest_gap(answer(model, noise(2, 64, 32), attention_mask=tokens), expected) <= 1e-5


@pytest.mark.parametrize("shape", [(2, 63), (2, 65), (2, 23), (2, 41), (1, 100), (2, 100, 1)])
def test_masks_of_another_length_are_refused(
    shape: tuple[int, ...], model: ASTForAudioClassification
) -> None:
    with pytest.raises(AstInputError, match=r"E304.*attention_mask.*\(2, 100\).*\(2, 35\)"):
        model(noise(2, 100, 32), attention_mask=torch.ones(shape))


# Another geometry for trained weights: resize_input and from_pretrained

#: New sizes -> their grid, for TINY's 3 x 7.
CHANGES: list[tuple[dict[str, int], tuple[int, int]]] = [
    ({"max_length": 40}, (3, 4)),
    ({"max_length": 16}, (3, 1)),
    ({"max_length": 128}, (3, 15)),
    ({"num_mel_bins": 24}, (2, 7)),
    ({"num_mel_bins": 64}, (7, 7)),
    ({"patch_size": 8}, (4, 8)),
    ({"patch_size": 24}, (2, 6)),
    ({"frequency_stride": 16}, (2, 7)),
    ({"frequency_stride": 3}, (6, 7)),
    ({"time_stride": 16}, (3, 4)),
    ({"time_stride": 5}, (3, 10)),
    ({"time_stride": 7}, (3, 7)),
    (
        {"max_length": 128, "num_mel_bins": 64, "patch_size": 8, "frequency_stride": 4, "time_stride": 4},
        (15, 31),
    ),
    ({"max_length": 100, "num_mel_bins": 24, "time_stride": 12}, (2, 8)),
]
changes = pytest.mark.parametrize(("sizes", "grid"), CHANGES, ids=[str(sizes)[1:-1] for sizes, _ in CHANGES])
GEOMETRY = ("max_length", "num_mel_bins", "patch_size", "frequency_stride", "time_stride")


def input_for(config: ASTConfig) -> torch.Tensor:
    return noise(2, config.max_length, config.num_mel_bins)


@pytest.mark.parametrize("kind", [ASTForAudioClassification, ASTModel], ids=["head", "base"])
@changes
def test_resize_input(sizes: dict[str, int], grid: tuple[int, int], kind: type) -> None:
    ours = randomise(kind(tiny_config()))
    before = snapshot(ours)
    config = ours.config
    embeddings = ours.base_model.embeddings
    assert ours.resize_input(**sizes) is ours
    assert ours.config is config
    assert ours.base_model.embeddings is embeddings
    assert {name: getattr(config, name) for name in GEOMETRY} == {
        name: {**TINY, **sizes}[name] for name in GEOMETRY
    }
    assert config.patch_grid == grid
    side = sizes.get("patch_size", 16)
    prefix = "" if kind is ASTModel else BACKBONE
    shapes = {prefix + POSITIONS: (1, grid[0] * grid[1] + 2, 24), prefix + KERNEL: (24, 1, side, side)}
    for name, tensor in ours.state_dict().items():
        if name in shapes:
            assert tensor.shape == shapes[name]
        else:
            assert torch.equal(tensor, before["state"][name]), name
    # the special tokens'
    assert torch.equal(table_of(ours)[:, :2], before["state"][prefix + POSITIONS][:, :2])
    rebuilt = kind(tiny_config(**sizes)).eval()
    rebuilt.load_state_dict(ours.state_dict(), strict=True)
    assert largest_gap(answer(ours, input_for(config)), answer(rebuilt, input_for(config))) <= 1e-6


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.float16], ids=["float64", "bf16", "fp16"]
)
def test_resized_parameters_keep_dtype_and_requires_grad(dtype: torch.dtype) -> None:
    ours = classifier().to(dtype)
    frozen = {BACKBONE + POSITIONS, "classifier.dense.bias"}
    for name, parameter in ours.named_parameters():
        parameter.requires_grad_(name not in frozen)
    ours.resize_input(max_length=128, patch_size=8)
    assert {parameter.dtype for parameter in ours.parameters()} == {dtype}
    assert {name for name, parameter in ours.named_parameters() if not parameter.requires_grad} == frozen
    assert all(parameter.is_leaf for parameter in ours.parameters())
    assert table_of(ours).shape == (1, 4 * 16 + 2, 24)


def test_a_resized_model_trains() -> None:
    ours = classifier().train()
    ours.resize_input(max_length=128, patch_size=8, time_stride=6)
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        loss = ours(input_for(ours.config), labels=torch.tensor([0, 2])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None for parameter in ours.parameters())
    assert losses[-1] < losses[0] - 0.01


def test_resizing_to_the_same_geometry_changes_nothing(model: ASTForAudioClassification) -> None:
    for sizes in ({}, {"max_length": 64}, {"max_length": 64, "patch_size": 16, "time_stride": 8}):
        ours = copy.deepcopy(model)
        ours.resize_input(**sizes, position_method="stretch")
        assert all(
            torch.equal(tensor, ours.state_dict()[name]) for name, tensor in model.state_dict().items()
        )
        assert ours.config.to_dict() == model.config.to_dict()


@pytest.fixture(scope="module")
def audioset_table() -> torch.Tensor:
    return noise(1, 1214, 12)


def audioset(table: torch.Tensor) -> ASTModel:
    """Return a model with the published models' 12 x 101 patches and that table."""
    ours = ASTModel(
        ASTConfig(hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=24)
    )
    ours.load_state_dict({**ours.state_dict(), POSITIONS: table})
    return ours


@pytest.mark.parametrize(
    ("arguments", "rows", "columns"),
    [
        ({"max_length": 512}, slice(0, 12), slice(25, 75)),
        ({"max_length": 512, "position_cut": "start"}, slice(0, 12), slice(0, 50)),
        ({"max_length": 98}, slice(0, 12), slice(46, 55)),
        ({"max_length": 128}, slice(0, 12), slice(44, 56)),
        ({"max_length": 998}, slice(0, 12), slice(1, 100)),
        ({"num_mel_bins": 64}, slice(4, 9), slice(0, 101)),
        (
            {"num_mel_bins": 64, "position_cut": "start"},
            slice(4, 9),
            slice(0, 101),
        ),  # mel is cut at the centre
        ({"frequency_stride": 16, "time_stride": 16}, slice(2, 10), slice(18, 82)),
        ({"num_mel_bins": 64, "max_length": 128, "position_method": "nearest"}, slice(4, 9), slice(44, 56)),
    ],
)
def test_a_cut_is_a_slice_of_the_table(
    arguments: dict[str, Any], rows: slice, columns: slice, audioset_table: torch.Tensor
) -> None:
    ours = audioset(audioset_table).resize_input(**arguments)
    expected = patches_of(audioset_table, (12, 101))[rows, columns]
    assert torch.equal(patches_of(table_of(ours), ours.config.patch_grid), expected)
    assert torch.equal(table_of(ours)[:, :2], audioset_table[:, :2])


def test_a_cut_does_not_depend_on_intermediate_sizes(audioset_table: torch.Tensor) -> None:
    for cut, columns in (("start", slice(0, 9)), ("centre", slice(46, 55))):
        ours = audioset(audioset_table)
        for sizes in ({"max_length": 512}, {"num_mel_bins": 64}, {"max_length": 98}):
            ours.resize_input(**sizes, position_cut=cut)
        assert torch.equal(
            patches_of(table_of(ours), (5, 9)), patches_of(audioset_table, (12, 101))[4:9, columns]
        )


def test_nearest_neighbours_repeat_each_position_at_twice_the_length(audioset_table: torch.Tensor) -> None:
    doubled = audioset(audioset_table).resize_input(max_length=2034, position_method="nearest")
    patches, expected = patches_of(table_of(doubled), (12, 202)), patches_of(audioset_table, (12, 101))
    assert torch.equal(patches[:, ::2], expected)
    assert torch.equal(patches[:, 1::2], expected)


@pytest.mark.parametrize(
    ("sizes", "grid"),
    [({"max_length": 3000}, (12, 299)), ({"frequency_stride": 5, "time_stride": 5}, (23, 202))],
)
def test_a_stretch_matches_bilinear_interpolation_of_torch(
    sizes: dict[str, int], grid: tuple[int, int], audioset_table: torch.Tensor
) -> None:
    ours = audioset(audioset_table).resize_input(**sizes)
    image = patches_of(audioset_table, (12, 101)).permute(2, 0, 1)[None]
    expected = F.interpolate(image, grid, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
    assert largest_gap(patches_of(table_of(ours), grid), expected) <= 1e-4


def test_a_larger_patch_kernel_on_stretched_patches_matches_the_old_kernel() -> None:
    ours = classifier()
    kernel = ours.base_model.state_dict()[KERNEL].clone()
    patches = noise(5, 1, 16, 16)
    stretched = F.interpolate(patches, (24, 24), mode="bilinear", align_corners=False)
    ours.resize_input(patch_size=24)
    expected = F.conv2d(patches, kernel)
    assert largest_gap(F.conv2d(stretched, ours.base_model.state_dict()[KERNEL]), expected) <= 1e-3


def test_a_smaller_patch_kernel_is_the_least_squares_solution() -> None:
    """Solve the least squares problem of the FlexiViT paper (section 3.4) with another routine."""
    ours = classifier()
    kernel = ours.base_model.state_dict()[KERNEL].double().flatten(1)  # (24, 256)
    pixels = torch.eye(256, dtype=torch.float64).reshape(256, 1, 16, 16)
    shrink = F.interpolate(pixels, (8, 8), mode="bilinear", align_corners=False).flatten(1)  # (256, 64)
    expected = torch.linalg.lstsq(shrink, kernel.T).solution.T
    ours.resize_input(patch_size=8)
    assert largest_gap(ours.base_model.state_dict()[KERNEL].flatten(1), expected) <= 1e-5


def test_a_bicubic_patch_kernel() -> None:
    ours = classifier()
    expected = F.interpolate(
        ours.base_model.state_dict()[KERNEL], (8, 8), mode="bicubic", align_corners=False
    )
    ours.resize_input(patch_size=8, kernel_method="bicubic")
    assert largest_gap(ours.base_model.state_dict()[KERNEL], expected) <= 1e-6


REFUSED_SIZES: list[tuple[dict[str, Any], str]] = [
    ({"max_length": 15}, "max_length"),
    ({"max_length": 0}, "max_length"),
    ({"max_length": -64}, "max_length"),
    ({"max_length": "128"}, "max_length"),
    ({"max_length": 128.0}, "max_length"),
    ({"max_length": True}, "max_length"),
    ({"max_length": None}, "max_length"),
    ({"num_mel_bins": 8}, "num_mel_bins"),
    ({"patch_size": 0}, "patch_size"),
    ({"patch_size": 33}, "patch_size"),
    ({"time_stride": 0}, "time_stride"),
    ({"time_stride": 65}, "time_stride"),
    ({"frequency_stride": 33}, "frequency_stride"),
    ({"max_length": 128, "frequency_stride": -1}, "frequency_stride"),
]
refused_sizes = pytest.mark.parametrize(
    ("sizes", "name"), REFUSED_SIZES, ids=[str(row[0])[1:-1] for row in REFUSED_SIZES]
)


def assert_explains(error: AstHfError, code: str, name: str) -> None:
    message = str(error)
    assert error.code == code, message
    assert name in message
    assert "Fix: " in message
    assert len(message) <= 300


@refused_sizes
def test_an_impossible_size_is_refused_before_anything_changes(sizes: dict[str, Any], name: str) -> None:
    ours = classifier()
    before = snapshot(ours)
    with pytest.raises(AstConfigError) as caught:
        ours.resize_input(**sizes)
    assert_explains(caught.value, "E302", name)
    assert_same(ours, before)


@refused_sizes
def test_from_pretrained_refuses_an_impossible_size(sizes: dict[str, Any], name: str, folder: Path) -> None:
    for load in (ASTForAudioClassification, ASTModel, AutoModelForAudioClassification, AutoModel):
        with pytest.raises(AstConfigError) as caught:
            load.from_pretrained(folder, **sizes)
        assert_explains(caught.value, "E302", name)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"max_lenght": 128}, ["max_lenght", "'max_length'"]),
        ({"max_length": 128, "num_mel_bin": 64}, ["num_mel_bin", "'num_mel_bins'"]),
        ({"hidden_size": 48}, ["hidden_size"]),
        ({"num_labels": 5}, ["num_labels"]),
        ({"max_length": 128, "position_method": "linear"}, ["position_method", "'linear'"]),
        ({"max_length": 128, "position_cut": "center"}, ["position_cut", "'center'", "'centre'"]),
        ({"patch_size": 8, "kernel_method": "flexvit"}, ["kernel_method", "'flexvit'", "'flexivit'"]),
        ({"max_length": 128, "position_method": None}, ["position_method"]),
    ],
    ids=lambda value: next(reversed(value)) if isinstance(value, dict) else "",
)
def test_an_unknown_argument_is_refused_before_anything_changes(
    arguments: dict[str, Any], names: list[str]
) -> None:
    ours = classifier()
    before = snapshot(ours)
    with pytest.raises(AstInputError) as caught:
        ours.resize_input(**arguments)
    for name in names:
        assert_explains(caught.value, "E108", name)
    assert_same(ours, before)


@pytest.mark.parametrize(
    "load",
    [ASTForAudioClassification, ASTModel, AutoModelForAudioClassification, AutoModel],
    ids=lambda x: x.__name__,
)
def test_from_pretrained_refuses_a_misspelt_size(load: Any, folder: Path) -> None:
    for arguments in ({"max_lenght": 128}, {"max_length": 128, "time_strid": 4}, {"frequency_strides": 4}):
        with pytest.raises(
            AstConfigError, match=r"did you mean '(max_length|time_stride|frequency_stride)'"
        ) as caught:
            load.from_pretrained(folder, **arguments)
        assert_explains(caught.value, "E302", list(arguments)[-1])


def by_keywords(load: Any) -> Callable[[Path, dict[str, int]], Any]:
    return lambda folder, sizes: load.from_pretrained(folder, **sizes)


def by_config(load: Any) -> Callable[[Path, dict[str, int]], Any]:
    return lambda folder, sizes: load.from_pretrained(
        folder, config=ASTConfig.from_pretrained(folder, **sizes)
    )


LOADERS: dict[str, Callable[[Path, dict[str, int]], Any]] = {
    "head": by_keywords(ASTForAudioClassification),
    "base": by_keywords(ASTModel),
    "auto-head": by_keywords(AutoModelForAudioClassification),
    "auto-base": by_keywords(AutoModel),
    "head-config": by_config(ASTForAudioClassification),
    "base-config": by_config(ASTModel),
    "auto-config": by_config(AutoModelForAudioClassification),
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@changes
def test_from_pretrained_adapts_the_weights(
    sizes: dict[str, int],
    grid: tuple[int, int],
    load: Callable,
    folder: Path,
    model: ASTForAudioClassification,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstHfWarning)
        loaded = load(folder, sizes)
    assert type(loaded) in (ASTForAudioClassification, ASTModel)
    assert not loaded.training
    assert loaded.config.patch_grid == grid
    assert {name: getattr(loaded.config, name) for name in GEOMETRY} == {
        name: {**TINY, **sizes}[name] for name in GEOMETRY
    }
    assert {type(parameter) for parameter in loaded.parameters()} == {torch.nn.Parameter}
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    resized = copy.deepcopy(model).resize_input(**sizes)
    expected = (resized if type(loaded) is ASTForAudioClassification else resized.base_model).state_dict()
    state = loaded.state_dict()
    assert state.keys() == expected.keys()
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []
    assert torch.isfinite(answer(loaded, input_for(loaded.config))).all()


@pytest.mark.parametrize("kind", [ASTForAudioClassification, ASTModel], ids=["head", "base"])
@pytest.mark.parametrize("sizes", [CHANGES[0][0], CHANGES[5][0], CHANGES[12][0]], ids=["cut", "patch", "all"])
def test_an_adapted_model_saved_again_loads_in_stock(
    sizes: dict[str, int], kind: Any, folder: Path, tmp_path: Path
) -> None:
    adapted = kind.from_pretrained(folder, **sizes)
    stock = stocks(adapted, tmp_path)
    assert {name: getattr(stock.config, name) for name in sizes} == sizes
    values = input_for(adapted.config)
    assert largest_gap(answer(adapted, values), answer(stock, values)) <= 1e-5
    again = kind.from_pretrained(tmp_path)  # its own geometry now
    assert torch.equal(answer(again, values), answer(adapted, values))


def test_from_pretrained_cuts_the_centre_of_a_published_grid(
    audioset_table: torch.Tensor, tmp_path: Path
) -> None:
    audioset(audioset_table).save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, max_length=128, num_mel_bins=64)
    expected = patches_of(audioset_table, (12, 101))[4:9, 44:56]
    assert torch.equal(patches_of(table_of(loaded), (5, 12)), expected)


@pytest.mark.parametrize(
    "load", [ASTForAudioClassification, AutoModelForAudioClassification], ids=["own", "auto"]
)
def test_labels_and_geometry_change_together(
    load: Any, folder: Path, model: ASTForAudioClassification
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = load.from_pretrained(folder, num_labels=7, max_length=40)
    texts = [str(entry.message) for entry in caught if issubclass(entry.category, AstHfWarning)]
    assert len(texts) == 1
    assert "W303" in texts[0]
    assert "7 labels; classifier.dense.bias, classifier.dense.weight are newly initialised" in texts[0]
    assert loaded.classifier.dense.weight.shape == (7, 24)
    assert torch.equal(patches_of(table_of(loaded), (3, 4)), patches_of(table_of(model), (3, 7))[:, 1:5])
    layer_norm = model.state_dict()["classifier.layernorm.weight"]
    assert torch.equal(loaded.classifier.layernorm.weight, layer_norm)
    assert answer(loaded, noise(1, 40, 32)).shape == (1, 7)


def test_a_new_head_on_a_base_checkpoint_of_another_geometry(
    model: ASTForAudioClassification, tmp_path: Path
) -> None:
    model.base_model.save_pretrained(tmp_path)
    with pytest.warns(AstHfWarning, match="W303") as caught:
        loaded = ASTForAudioClassification.from_pretrained(tmp_path, num_labels=5, time_stride=16)
    assert len([entry for entry in caught if issubclass(entry.category, AstHfWarning)]) == 1
    assert loaded.config.patch_grid == (3, 4)
    assert loaded.classifier.dense.weight.std() > 0.01
    assert torch.equal(patches_of(table_of(loaded), (3, 4)), patches_of(table_of(model), (3, 7))[:, 1:5])


def test_loading_info_of_an_adapted_model(folder: Path) -> None:
    loaded, info = ASTForAudioClassification.from_pretrained(folder, max_length=40, output_loading_info=True)
    assert loaded.config.max_length == 40
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with pytest.warns(AstHfWarning, match="W303"):
        _, info = ASTForAudioClassification.from_pretrained(
            folder, max_length=40, num_labels=2, output_loading_info=True
        )
    assert {entry[0] for entry in info["mismatched_keys"]} == {
        "classifier.dense.weight",
        "classifier.dense.bias",
    }


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16], ids=["file-float32", "file-bf16"])
@pytest.mark.parametrize("requested", [None, "auto", torch.float32, torch.bfloat16], ids=str)
def test_dtype_is_the_same_with_another_geometry(stored: torch.dtype, requested: Any, tmp_path: Path) -> None:
    classifier().to(stored).save_pretrained(tmp_path)
    arguments = {} if requested is None else {"dtype": requested}
    plain = ASTForAudioClassification.from_pretrained(tmp_path, **arguments)
    adapted = ASTForAudioClassification.from_pretrained(tmp_path, max_length=40, **arguments)
    dtypes = {name: parameter.dtype for name, parameter in plain.named_parameters()}
    assert {name: parameter.dtype for name, parameter in adapted.named_parameters()} == dtypes
    assert adapted.dtype == (requested if isinstance(requested, torch.dtype) else stored)
    assert adapted.config.dtype == plain.config.dtype


def test_other_arguments_are_kept_with_a_new_geometry(folder: Path) -> None:
    loaded = ASTForAudioClassification.from_pretrained(
        folder, max_length=40, attn_implementation="eager", hidden_dropout_prob=0.25, position_cut="centre"
    )
    assert loaded.config._attn_implementation == "eager"
    assert (loaded.config.hidden_dropout_prob, loaded.config.position_cut) == (0.25, "centre")
    assert loaded.base_model.embeddings.dropout.p == 0.25
    assert loaded.name_or_path == loaded.config.name_or_path == str(folder)
    nested = ASTForAudioClassification.from_pretrained(folder.parent, subfolder=folder.name, max_length=40)
    assert torch.equal(table_of(nested), table_of(loaded))


# Factored positions


def outer_sums(grid: tuple[int, int], width: int = 24, seed: int = 5) -> torch.Tensor:
    """Return a table `(1, 2 + F * T, width)`: sums of one embedding per row and one per column."""
    rows, columns, special = (noise(1, count, width, seed=seed + n) for n, count in enumerate((*grid, 2)))
    patches = (rows[:, :, None] + columns[:, None]).reshape(1, -1, width)
    return torch.cat((special, patches), dim=1)


def is_outer_sum(table: torch.Tensor, grid: tuple[int, int]) -> bool:
    patches = patches_of(table, grid)
    mixed = patches - patches[:, :1] - patches[:1] + patches[:1, :1]
    return mixed.abs().max().item() <= 1e-5


def with_table(model: Any, table: torch.Tensor) -> Any:
    with torch.no_grad():
        model.base_model.embeddings.position_embeddings.copy_(table)
    return model


@pytest.fixture
def factored() -> ASTForAudioClassification:
    return classifier().factor_positions()


@pytest.mark.parametrize("kind", [ASTForAudioClassification, ASTModel], ids=["head", "base"])
def test_files_of_a_factored_model_hold_the_plain_names(kind: Any, tmp_path: Path) -> None:
    plain = randomise(kind(tiny_config()))
    names = {name: tensor.shape for name, tensor in plain.state_dict().items()}
    ours = copy.deepcopy(plain)
    assert ours.factor_positions() is ours
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == names
    assert not any(tensor.requires_grad for tensor in ours.state_dict().values())
    ours.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(names)
    values = noise(2, 64, 32)
    for load in (kind, AutoModelForAudioClassification if kind is ASTForAudioClassification else AutoModel):
        loaded, info = load.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(info[part] for part in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert {name: parameter.shape for name, parameter in loaded.named_parameters()} == names
        assert torch.equal(answer(loaded, values), answer(ours, values))
    assert largest_gap(answer(stocks(ours, tmp_path / "stock"), values), answer(ours, values)) <= 1e-5


@pytest.mark.parametrize("grid", [(3, 7), (3, 1), (1, 7)])
def test_outer_sums_are_reproduced(grid: tuple[int, int]) -> None:
    sizes = {(3, 7): {}, (3, 1): {"max_length": 16}, (1, 7): {"num_mel_bins": 16}}[grid]
    table = outer_sums(grid)
    plain = with_table(classifier(**sizes), table)
    ours = copy.deepcopy(plain).factor_positions()
    assert largest_gap(table_of(ours), table) <= 1e-6
    assert largest_gap(answer(ours, input_for(ours.config)), answer(plain, input_for(ours.config))) <= 1e-5


def test_factors_start_at_the_nearest_outer_sum(model: ASTForAudioClassification) -> None:
    """Least squares over all rows and columns: the residual has zero mean along either axis."""
    ours = copy.deepcopy(model).factor_positions()
    remainder = patches_of(table_of(model), (3, 7)) - patches_of(table_of(ours), (3, 7))
    assert is_outer_sum(table_of(ours), (3, 7))
    assert not is_outer_sum(table_of(model), (3, 7))
    assert remainder.abs().max() > 0.1
    assert max(remainder.mean(dim=axis).abs().max().item() for axis in (0, 1)) <= 1e-6
    assert torch.equal(table_of(ours)[:, :2], table_of(model)[:, :2])


def test_training_changes_the_factors_only(factored: ASTForAudioClassification) -> None:
    prefix = BACKBONE + POSITIONS
    names = {name for name, _ in factored.named_parameters() if name.startswith(prefix)}
    assert len(names) == 3
    assert sum(dict(factored.named_parameters())[name].numel() for name in names) == (2 + 3 + 7) * 24
    for name, parameter in factored.named_parameters():
        parameter.requires_grad_(name in names)
    before = {name: tensor.clone() for name, tensor in factored.state_dict().items()}
    start = {name: parameter.detach().clone() for name, parameter in factored.named_parameters()}
    optimizer = torch.optim.SGD([p for p in factored.parameters() if p.requires_grad], lr=0.5)
    losses = []
    for _ in range(5):
        loss = factored(noise(2, 64, 32), labels=torch.tensor([0, 2])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    moved = {
        name for name, parameter in factored.named_parameters() if not torch.equal(parameter, start[name])
    }
    assert moved == names
    after = factored.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == {prefix}
    assert is_outer_sum(table_of(factored), (3, 7))


@pytest.mark.parametrize("strict", [True, False])
def test_a_plain_state_dict_loads_into_a_factored_model(
    strict: bool, factored: ASTForAudioClassification
) -> None:
    plain = with_table(randomise(ASTForAudioClassification(tiny_config()), seed=9), outer_sums((3, 7)))
    assert (
        str(factored.load_state_dict(plain.state_dict(), strict=strict)) == "<All keys matched successfully>"
    )
    assert largest_gap(table_of(factored), table_of(plain)) <= 1e-6
    assert largest_gap(answer(factored, noise(2, 64, 32)), answer(plain, noise(2, 64, 32))) <= 1e-5
    back = ASTForAudioClassification(tiny_config()).eval()
    back.load_state_dict(factored.state_dict(), strict=True)
    assert torch.equal(answer(back, noise(2, 64, 32)), answer(factored, noise(2, 64, 32)))


@pytest.mark.parametrize("kind", [ASTForAudioClassification, ASTModel], ids=["head", "base"])
def test_a_table_that_is_missing_or_misshapen_is_an_error(kind: Any) -> None:
    ours = randomise(kind(tiny_config())).factor_positions()
    name = POSITIONS if kind is ASTModel else BACKBONE + POSITIONS
    state = ours.state_dict()
    without = {key: tensor for key, tensor in state.items() if key != name}
    with pytest.raises(RuntimeError, match=rf"Missing key.*{name}"):
        ours.load_state_dict(without)
    assert ours.load_state_dict(without, strict=False).missing_keys == [name]
    for shape in ((1, 22, 24), (1, 24, 24), (1, 23, 12), (23, 24), (2, 23, 24), (1, 3, 7, 24)):
        with pytest.raises(RuntimeError, match=name) as caught:
            ours.load_state_dict({**state, name: torch.zeros(shape)})
        assert "Missing key" not in str(caught.value)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*position_embeddings\.time"):
        ours.load_state_dict({**state, f"{name}.time": torch.zeros(1, 1, 7, 24)})
    assert largest_gap(table_of(ours), state[name]) <= 1e-6


@pytest.mark.parametrize(
    "arguments",
    [
        *(sizes for sizes, _ in CHANGES),
        {"max_length": 40, "position_cut": "start"},
        {"max_length": 40, "num_mel_bins": 24, "position_method": "stretch"},
        {"max_length": 150, "num_mel_bins": 64, "position_method": "nearest"},
    ],
    ids=str,
)
def test_a_factored_model_is_resized_as_the_plain_one(arguments: dict[str, Any]) -> None:
    ours = classifier().factor_positions()
    plain = with_table(classifier(), table_of(ours))
    frozen = next(name for name, _ in ours.named_parameters() if name.endswith("position_embeddings.time"))
    ours.get_parameter(frozen).requires_grad_(False)
    ours.resize_input(**arguments)
    plain.resize_input(**arguments)
    assert ours.config.to_dict() == plain.config.to_dict()
    assert largest_gap(table_of(ours), table_of(plain)) <= 1e-6
    assert largest_gap(answer(ours, input_for(ours.config)), answer(plain, input_for(ours.config))) <= 1e-5
    assert len([name for name, _ in ours.named_parameters() if POSITIONS in name]) == 3  # still factors
    assert [name for name, parameter in ours.named_parameters() if not parameter.requires_grad] == [frozen]


@pytest.mark.parametrize("cut", CUTS)
def test_a_factored_model_accepts_any_length(cut: str, tmp_path: Path) -> None:
    ours = classifier(position_cut=cut).factor_positions()
    ours.save_pretrained(tmp_path)
    plain = ASTForAudioClassification.from_pretrained(tmp_path)
    assert plain.config.position_cut == cut
    for frames in (16, 40, 64, 71, 100, 200):
        values = noise(2, frames, 32)
        mask = frame_mask([frames, 16], frames)
        assert largest_gap(answer(ours, values), answer(plain, values)) <= 1e-6, frames
        masked = answer(ours, values, attention_mask=mask)
        assert largest_gap(masked, answer(plain, values, attention_mask=mask)) <= 1e-6, frames
        assert largest_gap(masked[[1]], answer(plain, values[[1], :16])) <= 1e-5, frames


@pytest.mark.parametrize(("frames", "share"), [(40, 4), (64, 7), (128, 15)], ids=["cut", "whole", "stretch"])
def test_gradients_of_the_factors(frames: int, share: int, factored: ASTForAudioClassification) -> None:
    factored(noise(1, frames, 32), output_hidden_states=True).hidden_states[0].sum().backward()
    gradients = {
        name.rpartition(".")[2]: p.grad for name, p in factored.named_parameters() if POSITIONS in name
    }
    assert largest_gap(gradients["special"], torch.ones(1, 2, 24)) <= 1e-6
    assert largest_gap(gradients["frequency"], torch.full((1, 3, 1, 24), float(share))) <= 1e-4
    assert largest_gap(gradients["time"].sum(dim=2), torch.full((1, 1, 24), 3.0 * share)) <= 1e-4


def test_a_copy_of_a_factored_model_is_independent(factored: ASTForAudioClassification) -> None:
    twin = copy.deepcopy(factored)
    expected = answer(factored, noise(2, 64, 32))
    assert torch.equal(answer(twin, noise(2, 64, 32)), expected)
    with torch.no_grad():
        twin.get_parameter(f"{BACKBONE}{POSITIONS}.time").add_(1.0)
    assert largest_gap(table_of(twin)[:, 2:], table_of(factored)[:, 2:] + 1) <= 1e-5
    assert torch.equal(answer(factored, noise(2, 64, 32)), expected)


def test_factoring_twice_changes_nothing(factored: ASTForAudioClassification) -> None:
    before = snapshot(factored)
    factored.factor_positions()
    assert_same(factored, before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["float64", "bf16"])
def test_factors_keep_the_dtype(dtype: torch.dtype) -> None:
    for ours in (classifier().to(dtype).factor_positions(), classifier().factor_positions().to(dtype)):
        assert {parameter.dtype for parameter in ours.parameters()} == {dtype}
        assert {tensor.dtype for tensor in ours.state_dict().values()} == {dtype}
        ours.resize_input(max_length=128)
        assert {parameter.dtype for parameter in ours.parameters()} == {dtype}
        assert answer(ours, noise(1, 128, 32).to(dtype)).dtype == dtype


def test_stock_configs_keep_position_cut(tmp_path: Path) -> None:
    """`position_cut` is a field of ours only; transformers keeps its value."""
    classifier(position_cut="centre").save_pretrained(tmp_path)
    assert StockConfig.from_pretrained(tmp_path).position_cut == "centre"
    assert ASTConfig.from_pretrained(tmp_path).position_cut == "centre"
