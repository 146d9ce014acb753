"""Patchout: a training step keeps the requested tokens, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import TINY
from operators import Operators
from torch._dynamo.testing import CompileCounterWithBackend

from ast_hf import ASTConfig, AstConfigError, ASTForAudioClassification
from ast_hf.patchout import Patchout
from ast_hf.training.compilation import compile_blocks

GRID = (3, 7)

#: seed -> tokens that earlier versions drew with time=3, frequency=1, unstructured=2.
DRAWN = {0: [0, 1, 4, 6, 8, 11, 12, 15], 1: [0, 1, 2, 3, 4, 8, 17, 18]}


@pytest.fixture
def model() -> ASTForAudioClassification:
    torch.manual_seed(0)
    return ASTForAudioClassification(ASTConfig(**TINY, num_labels=3))


def clips(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 64, 32, generator=torch.Generator().manual_seed(1))


def seen(model: ASTForAudioClassification, **arguments: torch.Tensor) -> int:
    return model(clips(), output_hidden_states=True, **arguments).hidden_states[0].shape[1]


def test_structured_patchout_drops_rows_and_columns() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        tokens = Patchout(time=3, frequency=1).kept_tokens(GRID)
        assert tokens[:2].tolist() == [0, 1]
        assert torch.equal(tokens, tokens.sort().values)
        rows, columns = (tokens[2:] - 2) // 7, (tokens[2:] - 2) % 7
        assert (len(rows.unique()), len(columns.unique()), len(tokens)) == (2, 4, 2 + 2 * 4)


@pytest.mark.parametrize("seed", DRAWN)
def test_a_seed_draws_the_tokens_of_earlier_versions(seed: int) -> None:
    torch.manual_seed(seed)
    assert Patchout(time=3, frequency=1, unstructured=2).kept_tokens(GRID).tolist() == DRAWN[seed]


def test_unstructured_patchout_drops_single_patches() -> None:
    counts = torch.zeros(23)
    for seed in range(400):
        torch.manual_seed(seed)
        tokens = Patchout(unstructured=6).kept_tokens(GRID)
        assert len(tokens) == len(tokens.unique()) == 17
        counts[tokens] += 1
    assert counts[:2].tolist() == [400, 400]
    assert (counts[2:] / 400 - 15 / 21).abs().max() < 0.1


def test_zero_patchout_and_evaluation_keep_all_patches(model: ASTForAudioClassification) -> None:
    assert torch.equal(Patchout().kept_tokens(GRID), torch.arange(23))
    expected = model.eval()(clips()).logits
    model.base_model.patchout = Patchout(time=4, frequency=1, unstructured=2)
    assert torch.equal(model(clips()).logits, expected)
    assert seen(model) == 23
    assert seen(model.train()) == 2 + 2 * 3 - 2


def test_kept_patches_keep_their_positions(model: ASTForAudioClassification) -> None:
    embedded = model.eval()(clips(), output_hidden_states=True).hidden_states[0]
    model.base_model.patchout = Patchout(time=3)
    model.train()
    torch.manual_seed(5)
    part = model(clips(), output_hidden_states=True).hidden_states[0]
    torch.manual_seed(5)
    tokens = Patchout(time=3).kept_tokens(GRID)
    assert torch.equal(part, embedded[:, tokens])


def test_masks_drop_the_same_patches(model: ASTForAudioClassification) -> None:
    model.base_model.patchout = Patchout(unstructured=10)
    mask = (torch.arange(64) < 40).long().repeat(2, 1)
    loud = clips()
    loud[:, 40:] = 50.0
    torch.manual_seed(2)
    expected = model.train()(clips(), attention_mask=mask).logits
    torch.manual_seed(2)
    assert (model(loud, attention_mask=mask).logits - expected).abs().max() <= 1e-6


def test_checkpoints_do_not_store_patchout(model: ASTForAudioClassification) -> None:
    names = set(model.state_dict())
    config = model.config.to_dict()
    model.base_model.patchout = Patchout(time=3)
    assert set(model.state_dict()) == names
    assert model.config.to_dict() == config
    assert copy.deepcopy(model).base_model.patchout == Patchout(time=3)


@pytest.mark.parametrize(
    ("patchout", "name"),
    [(Patchout(time=7), "time"), (Patchout(frequency=3), "frequency"), (Patchout(2, 1, 10), "unstructured")],
)
def test_dropping_every_patch_is_refused(
    patchout: Patchout, name: str, model: ASTForAudioClassification
) -> None:
    model.base_model.patchout = patchout
    with pytest.raises(AstConfigError, match=rf"E302.*patchout\.{name}"):
        model.train()(clips())


def test_scaled_multiplies_each_count() -> None:
    assert Patchout(40, 4, 10).scaled(0.5) == Patchout(20, 2, 5)
    assert not Patchout(40, 4).scaled(0.0)
    assert Patchout(40, 4).scaled(1.0) == Patchout(40, 4)


# ---------------------------------------------------------------- on an accelerator, and compiled


@pytest.mark.parametrize("patchout", [Patchout(), Patchout(time=3, frequency=1, unstructured=2)])
def test_a_training_step_does_not_wait_for_an_accelerator(patchout: Patchout) -> None:
    """Tensors without values stand for those on another device: they cannot be read, and copies to them are counted."""
    with torch.device("meta"):
        model = ASTForAudioClassification(ASTConfig(**TINY, num_labels=3)).train()
        values = torch.empty(2, 64, 32)
        labels = torch.zeros(2, dtype=torch.long)
    model.base_model.patchout = patchout
    with Operators() as operators:
        model(values, labels=labels).loss.backward()
    assert operators.reads + operators.copies == []


def test_compiled_blocks_serve_all_values_of_a_ramp(model: ASTForAudioClassification) -> None:
    names = list(model.state_dict())
    counter = CompileCounterWithBackend("eager")
    torch.compiler.reset()
    compile_blocks(model.train(), backend=counter, dynamic=True)
    for epoch in range(10):
        for batch in (clips(3), clips(2)):  # the last batch of an epoch is smaller
            model.base_model.patchout = Patchout(time=6).scaled(epoch / 9)
            torch.manual_seed(epoch)
            kept = copy.deepcopy(model)  # not compiled
            expected = kept(batch).logits
            torch.manual_seed(epoch)
            logits = model(batch).logits
            assert (logits - expected).abs().max() <= 1e-6
            logits.sum().backward()
    assert counter.frame_count == 2  # all blocks but the last, and the last
    assert list(model.state_dict()) == names
