"""Broken checkpoints: each is refused with its file or tensor named, none becomes a partly random model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForAudioClassification, pipeline

from ast_hf import AstConfigError, ASTForAudioClassification, AstHfError, ASTModel

WEIGHTS, CONFIG = "model.safetensors", "config.json"
BACKBONE = "audio_spectrogram_transformer."
QUERY = BACKBONE + "encoder.layer.1.attention.attention.query.weight"
POSITIONS = BACKBONE + "embeddings.position_embeddings"

Tensors = dict[str, torch.Tensor]


def tensors(change: Callable[[Tensors], Tensors | None]) -> Callable[[Path], None]:
    """Rewrites the weights; `change` edits the dict or returns another."""

    def spoil(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        save_file(change(state) or state, folder / WEIGHTS, metadata={"format": "pt"})

    return spoil


def content(change: Callable[[bytes], bytes], name: str = WEIGHTS) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return spoil


def config(**fields: object) -> Callable[[Path], None]:
    return content(lambda old: json.dumps({**json.loads(old), **fields}).encode(), CONFIG)


def without(part: str) -> Callable[[Path], None]:
    return tensors(lambda state: {name: tensor for name, tensor in state.items() if part not in name})


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 98765\n"

#: id -> what is done to a good checkpoint, code, names that the message has to hold.
BROKEN: list[tuple[str, Callable[[Path], None], str, list[str]]] = [
    (
        "D19-module-prefix",
        tensors(lambda t: {f"module.{name}": v for name, v in t.items()}),
        "E305",
        [WEIGHTS, "module."],
    ),
    ("D19-other-names", tensors(lambda t: {f"net.{name}": v for name, v in t.items()}), "E305", ["tensors"]),
    ("D19-some-prefixed", tensors(lambda t: {"module.x": t.pop(QUERY), **t}), "E305", [QUERY]),
    ("D20-fewer-layers", config(num_hidden_layers=1), "E305", ["num_hidden_layers", "1", "2 layers"]),
    ("D20-more-layers", config(num_hidden_layers=3), "E305", ["num_hidden_layers", "3", "2 layers"]),
    ("D21-narrow-tensor", tensors(lambda t: t.update({QUERY: torch.ones(24, 12)})), "E305", [QUERY, "(24, 12)"]),
    ("D21-other-length", config(max_length=128), "E305", [POSITIONS, "23", "47"]),
    ("D21-other-width", config(hidden_size=48), "E305", ["hidden_size", "48", "24"]),
    ("D21-other-mlp", config(intermediate_size=96), "E305", ["intermediate_size", "96", "48"]),
    ("D21-other-patch", config(patch_size=8), "E305", ["patch_size", "8", "16"]),
    ("D21-other-bias", config(qkv_bias=False), "E305", [".bias"]),
    ("D22-cut-in-half", content(lambda old: old[: len(old) // 2]), "E306", [WEIGHTS, "bytes"]),
    ("D22-last-byte-cut", content(lambda old: old[:-1]), "E306", [WEIGHTS]),
    ("D22-cut-in-header", content(lambda old: old[:100]), "E306", [WEIGHTS]),
    ("D22-empty", content(lambda old: b""), "E306", [WEIGHTS]),
    ("D22-padded", content(lambda old: old + bytes(64)), "E306", [WEIGHTS]),
    ("D22-huge-header", content(lambda old: (2**60).to_bytes(8, "little") + old[8:]), "E306", [WEIGHTS]),
    ("D22-header-nonsense", content(lambda old: old[:8] + b"\xff" * 200 + old[208:]), "E306", [WEIGHTS]),
    ("D22-html", content(lambda old: b"<!DOCTYPE html><html>not found</html>"), "E306", [WEIGHTS]),
    ("D22-lfs-pointer", content(lambda old: LFS), "E306", [WEIGHTS, "git lfs pull"]),
    ("D22-no-weights", removed(WEIGHTS), "E306", ["no weights", WEIGHTS]),
    ("D22-no-tensors", tensors(lambda t: {"x": torch.zeros(1)}), "E305", ["tensors"]),
    ("D23-nan", tensors(lambda t: t[QUERY].__setitem__((3, 3), torch.nan)), "E306", [QUERY, "NaN"]),
    ("D23-infinity", tensors(lambda t: t[POSITIONS].__setitem__((0, 5, 5), torch.inf)), "E306", [POSITIONS]),
    (
        "D23-nan-in-head",
        tensors(lambda t: t["classifier.dense.bias"].__setitem__(0, torch.nan)),
        "E306",
        ["classifier"],
    ),
    ("D24-no-config", removed(CONFIG), "E306", [CONFIG]),
    ("D25-cut-config", content(lambda old: old[:80], CONFIG), "E306", [CONFIG]),
    ("D25-empty-config", content(lambda old: b"", CONFIG), "E306", [CONFIG]),
    ("D25-list-config", content(lambda old: b"[1, 2]", CONFIG), "E306", [CONFIG, "list"]),
    ("D25-binary-config", content(lambda old: b"\xff\xfe" + old, CONFIG), "E306", [CONFIG]),
    ("missing-tensor", without(QUERY), "E305", [QUERY]),
    ("missing-layer-0", without("layer.0."), "E305", ["layer"]),
    ("extra-tensor", tensors(lambda t: t.update({BACKBONE + "extra.weight": torch.ones(3)})), "E305", ["extra.weight"]),
    (
        "extra-layer",
        tensors(lambda t: t.update({QUERY.replace(".1.", ".2."): torch.ones(24, 24)})),
        "E305",
        ["3 layers"],
    ),
]
cases = pytest.mark.parametrize(("spoil", "code", "names"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the good checkpoint, to be spoilt."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def assert_explains(error: AstHfError, folder: Path, code: str, names: list[str]) -> None:
    message = str(error)
    assert error.code == code, message
    assert [name for name in names if name not in message] == [], message
    assert str(folder) in message
    assert "Fix: " in message
    assert len(message.replace(str(folder), "checkpoint")) <= 300
    assert "\n" not in message


def test_the_unspoilt_copy_loads(folder: Path) -> None:
    loaded, info = ASTForAudioClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    state = load_file(folder / WEIGHTS)
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())


@cases
def test_broken_checkpoint_is_refused(spoil: Callable, code: str, names: list[str], folder: Path) -> None:
    spoil(folder)
    with pytest.raises(AstConfigError) as caught:
        ASTForAudioClassification.from_pretrained(folder)
    assert_explains(caught.value, folder, code, names)


@pytest.mark.parametrize("name", ["D19-module-prefix", "D20-more-layers", "D22-cut-in-half", "missing-tensor"])
def test_base_model_refuses_too(name: str, folder: Path) -> None:
    (spoil, code, _) = next(row[1:] for row in BROKEN if row[0] == name)
    spoil(folder)
    with pytest.raises(AstConfigError) as caught:
        ASTModel.from_pretrained(folder)
    assert_explains(caught.value, folder, code, [])


@pytest.mark.parametrize("load", [AutoModelForAudioClassification.from_pretrained, None], ids=["auto", "pipeline"])
@pytest.mark.parametrize("name", ["D20-fewer-layers", "D22-cut-in-half", "missing-tensor", "extra-tensor", "D23-nan"])
def test_auto_class_and_pipeline_refuse_too(name: str, load: Callable | None, folder: Path) -> None:
    (spoil, code, names) = next(row[1:] for row in BROKEN if row[0] == name)
    spoil(folder)
    with pytest.raises(AstConfigError if load else AstHfError) as caught:
        load(folder) if load else pipeline("audio-classification", model=str(folder))
    assert_explains(caught.value, folder, code, names)


def test_asking_to_ignore_mismatches_does_not_give_a_random_backbone(folder: Path) -> None:
    config(max_length=128)(folder)
    with pytest.raises(AstConfigError, match=r"E305.*position_embeddings"):
        ASTForAudioClassification.from_pretrained(folder, ignore_mismatched_sizes=True)


def test_weights_in_several_files(folder: Path) -> None:
    whole = ASTForAudioClassification.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    whole.save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    loaded = ASTForAudioClassification.from_pretrained(folder)
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    with pytest.raises(AstConfigError, match=shards[1].name) as cut:
        ASTForAudioClassification.from_pretrained(folder)
    shards[1].unlink()
    with pytest.raises(AstConfigError, match=shards[1].name) as missing:
        ASTForAudioClassification.from_pretrained(folder)
    assert (cut.value.code, missing.value.code) == ("E306", "E306")


def test_subfolder_is_judged_as_well(folder: Path) -> None:
    assert ASTForAudioClassification.from_pretrained(folder.parent, subfolder=folder.name).num_labels == 3
    content(lambda old: old[:-1])(folder)
    with pytest.raises(AstConfigError, match="E306"):
        ASTForAudioClassification.from_pretrained(folder.parent, subfolder=folder.name)
