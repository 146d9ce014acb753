"""Files of a checkpoint that are damaged: JSON, pickles, and shapes that contradict config.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file

from ast_hf import ASTConfig, AstConfigError, ASTForAudioClassification, ASTModel, cli
from ast_hf.json_files import read_json
from ast_hf.weights.pickles import as_state_dict, read_pickle
from ast_hf.weights.shapes import backbone_shapes, head_shapes


@pytest.mark.parametrize("fields", [{}, {"qkv_bias": False}, {"patch_size": 8, "num_hidden_layers": 3}])
def test_shapes_are_those_of_the_model(fields: dict[str, Any]) -> None:
    config = ASTConfig(**{**TINY, **fields}, num_labels=5)
    with torch.device("meta"):
        base = ASTModel(config).state_dict()
        head = ASTForAudioClassification(config).classifier.state_dict(prefix="classifier.")
    assert list(backbone_shapes(config).items()) == [(name, tuple(part.shape)) for name, part in base.items()]
    assert head_shapes(24, 5) == {name: tuple(part.shape) for name, part in head.items()}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b"[1]", "holds a list"),
        (b"null", "holds null"),
        (b"[" * 10**5, "nested too deeply"),
        (b'{"a": 1, "a": 2}', "names 'a' twice"),
        (b'\xef\xbb\xbf{"a": 1}', "byte order mark"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": 1} x', "is not JSON"),
        (b'{"a": ' + b"9" * 10**4 + b"}", "is not JSON"),
    ],
)
def test_damaged_json_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(AstConfigError, match=reason) as caught:
        read_json(tmp_path / "x.json")
    assert (caught.value.code, caught.value.detail) == ("E306", "unreadable")


def test_json_of_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": {"b": [1, 2.5, null]}}')
    assert read_json(tmp_path / "x.json") == {"a": {"b": [1, 2.5, None]}}


@pytest.mark.parametrize("is_checked", [True, False])
def test_checksums_of_archives(is_checked: bool, tmp_path: Path) -> None:
    """A flipped byte is found, unless `torch.save` was asked to leave checksums out."""
    path = tmp_path / "x.pth"
    torch.serialization.set_crc32_options(is_checked)
    try:
        torch.save({"a": torch.arange(100.0)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(as_state_dict(read_pickle(path), path)["a"], torch.arange(100.0))
    data = path.read_bytes()
    place = data.index(torch.arange(100.0).numpy().tobytes()) + 40
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    if is_checked:
        with pytest.raises(AstConfigError, match=r"E306.*checksum of 'x/data/0' differs"):
            read_pickle(path)
    else:
        assert not torch.equal(as_state_dict(read_pickle(path), path)["a"], torch.arange(100.0))


def test_tensors_of_a_pickle_are_copies(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(3)}, path)
    read = as_state_dict(read_pickle(path), path)["a"]
    path.write_bytes(b"")
    assert torch.equal(read, torch.zeros(3))


def test_views_that_share_a_storage_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save({"whole": whole, "row": whole[1], "same": whole, "wide": whole[:, :1].expand(3, 4)}, path)
    state = as_state_dict(read_pickle(path), path)
    assert torch.equal(state["wide"], torch.tensor([[0.0] * 4, [4.0] * 4, [8.0] * 4]))


def test_fields_that_load_code_are_ignored_in_files_and_taken_from_calls(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    fields = json.loads((folder / "config.json").read_text())
    fields |= {"attn_implementation": "attacker/kernel", "auto_map": {"AutoConfig": "evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(fields))
    plain = ASTForAudioClassification.from_pretrained(tiny_checkpoint)
    model = ASTForAudioClassification.from_pretrained(folder)
    assert model.config._attn_implementation == plain.config._attn_implementation
    assert not hasattr(model.config, "auto_map")
    eager = ASTForAudioClassification.from_pretrained(folder, attn_implementation="eager")
    assert eager.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "x", "y", "--batch_size", "0"],
        ["classify", "x", "y", "--top_k", "-1"],
        ["convert", "x", "y", "--std", "nan"],
        ["convert", "x", "y", "--num_attention_heads", "0"],
    ],
)
def test_numbers_out_of_range_are_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert words[-2].lstrip("-") in capsys.readouterr().err


def test_a_checkpoint_without_a_classifier_is_not_classified_with(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(
        {name: state[name] for name in state if "classifier" not in name}, folder / "pytorch_model.bin"
    )
    assert cli.main(["classify", str(folder), "x.wav"]) == 65
    assert "[AST-E305]" in capsys.readouterr().err
