"""Broken checkpoints: each is refused, naming the file or tensor; none loads as a partly random model."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hub_server import Hub
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from transformers import AutoModelForAudioClassification, pipeline

from ast_hf import (
    AstConfigError,
    ASTEnsembleForAudioClassification,
    ASTForAudioClassification,
    AstHfError,
    ASTModel,
)
from ast_hf.adapters.lora import Adapter, AdapterOptions
from ast_hf.files import write_whole
from ast_hf.training.averaging import WeightAverage
from ast_hf.weights.paths import near_path

WEIGHTS, CONFIG = "model.safetensors", "config.json"
BACKBONE = "audio_spectrogram_transformer."
QUERY = BACKBONE + "encoder.layer.1.attention.attention.query.weight"
POSITIONS = BACKBONE + "embeddings.position_embeddings"

Tensors = dict[str, torch.Tensor]


def tensors(change: Callable[[Tensors], Tensors | None]) -> Callable[[Path], None]:
    """Return a function that rewrites the weights; `change` edits the dict or returns another."""

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

#: id -> damage to a good checkpoint, code, names in the message.
BROKEN: list[tuple[str, Callable[[Path], None], str, list[str]]] = [
    (
        "module-prefix",
        tensors(lambda t: {f"module.{name}": v for name, v in t.items()}),
        "E305",
        [WEIGHTS, "module."],
    ),
    ("other-names", tensors(lambda t: {f"net.{name}": v for name, v in t.items()}), "E305", ["tensors"]),
    ("some-prefixed", tensors(lambda t: {"module.x": t.pop(QUERY), **t}), "E305", [QUERY]),
    ("fewer-layers", config(num_hidden_layers=1), "E305", ["num_hidden_layers", "1", "2 layers"]),
    ("more-layers", config(num_hidden_layers=3), "E305", ["num_hidden_layers", "3", "2 layers"]),
    ("narrow-tensor", tensors(lambda t: t.update({QUERY: torch.ones(24, 12)})), "E305", [QUERY, "(24, 12)"]),
    ("other-length", config(max_length=128), "E305", [POSITIONS, "23", "47"]),
    ("other-width", config(hidden_size=48), "E305", ["hidden_size", "48", "24"]),
    ("other-mlp", config(intermediate_size=96), "E305", ["intermediate_size", "96", "48"]),
    ("other-patch", config(patch_size=8), "E305", ["patch_size", "8", "16"]),
    ("other-bias", config(qkv_bias=False), "E305", [".bias"]),
    ("cut-in-half", content(lambda old: old[: len(old) // 2]), "E306", [WEIGHTS, "bytes"]),
    ("last-byte-cut", content(lambda old: old[:-1]), "E306", [WEIGHTS]),
    ("cut-in-header", content(lambda old: old[:100]), "E306", [WEIGHTS]),
    ("empty", content(lambda old: b""), "E306", [WEIGHTS]),
    ("padded", content(lambda old: old + bytes(64)), "E306", [WEIGHTS]),
    ("huge-header", content(lambda old: (2**60).to_bytes(8, "little") + old[8:]), "E306", [WEIGHTS]),
    ("header-nonsense", content(lambda old: old[:8] + b"\xff" * 200 + old[208:]), "E306", [WEIGHTS]),
    ("html", content(lambda old: b"<!DOCTYPE html><html>not found</html>"), "E306", [WEIGHTS]),
    ("lfs-pointer", content(lambda old: LFS), "E306", [WEIGHTS, "git lfs pull"]),
    ("no-weights", removed(WEIGHTS), "E306", ["no weights", WEIGHTS]),
    ("no-tensors", tensors(lambda t: {"x": torch.zeros(1)}), "E305", ["tensors"]),
    ("nan", tensors(lambda t: t[QUERY].__setitem__((3, 3), torch.nan)), "E306", [QUERY, "NaN"]),
    ("infinity", tensors(lambda t: t[POSITIONS].__setitem__((0, 5, 5), torch.inf)), "E306", [POSITIONS]),
    (
        "nan-in-head",
        tensors(lambda t: t["classifier.dense.bias"].__setitem__(0, torch.nan)),
        "E306",
        ["classifier"],
    ),
    ("no-config", removed(CONFIG), "E306", [CONFIG]),
    ("cut-config", content(lambda old: old[:80], CONFIG), "E306", [CONFIG]),
    ("empty-config", content(lambda old: b"", CONFIG), "E306", [CONFIG]),
    ("list-config", content(lambda old: b"[1, 2]", CONFIG), "E306", [CONFIG, "list"]),
    ("binary-config", content(lambda old: b"\xff\xfe" + old, CONFIG), "E306", [CONFIG]),
    ("missing-tensor", without(QUERY), "E305", [QUERY]),
    ("missing-layer-0", without("layer.0."), "E305", ["layer"]),
    (
        "extra-tensor",
        tensors(lambda t: t.update({BACKBONE + "extra.weight": torch.ones(3)})),
        "E305",
        ["extra.weight"],
    ),
    (
        "extra-layer",
        tensors(lambda t: t.update({QUERY.replace(".1.", ".2."): torch.ones(24, 24)})),
        "E305",
        ["3 layers"],
    ),
]
cases = pytest.mark.parametrize(
    ("spoil", "code", "names"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """Return a copy of the good checkpoint, to be damaged."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def assert_explains(error: AstHfError, folder: Path, code: str, names: list[str]) -> None:
    message = str(error)
    assert error.code == code, message
    assert [name for name in names if name not in message] == [], message
    assert str(folder) in message
    assert "Fix: " in message
    assert len(message.replace(str(folder), "checkpoint")) <= 300
    assert "\n" not in message


def test_an_intact_copy_loads(folder: Path) -> None:
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


@pytest.mark.parametrize("name", ["module-prefix", "more-layers", "cut-in-half", "missing-tensor"])
def test_base_model_refuses_broken_checkpoints(name: str, folder: Path) -> None:
    (spoil, code, _) = next(row[1:] for row in BROKEN if row[0] == name)
    spoil(folder)
    with pytest.raises(AstConfigError) as caught:
        ASTModel.from_pretrained(folder)
    assert_explains(caught.value, folder, code, [])


@pytest.mark.parametrize(
    "load", [AutoModelForAudioClassification.from_pretrained, None], ids=["auto", "pipeline"]
)
@pytest.mark.parametrize("name", ["fewer-layers", "cut-in-half", "missing-tensor", "extra-tensor", "nan"])
def test_auto_class_and_pipeline_refuse_broken_checkpoints(
    name: str, load: Callable | None, folder: Path
) -> None:
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
    model = ASTForAudioClassification.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    loaded = ASTForAudioClassification.from_pretrained(folder)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    with pytest.raises(AstConfigError, match=shards[1].name) as cut:
        ASTForAudioClassification.from_pretrained(folder)
    shards[1].unlink()
    with pytest.raises(AstConfigError, match=shards[1].name) as missing:
        ASTForAudioClassification.from_pretrained(folder)
    assert (cut.value.code, missing.value.code) == ("E306", "E306")


def test_broken_subfolders_are_refused(folder: Path) -> None:
    assert ASTForAudioClassification.from_pretrained(folder.parent, subfolder=folder.name).num_labels == 3
    content(lambda old: old[:-1])(folder)
    with pytest.raises(AstConfigError, match="E306"):
        ASTForAudioClassification.from_pretrained(folder.parent, subfolder=folder.name)


# Names that do not exist


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with `outputs/demo`, `outputs/pets/model` and `clips.csv`."""
    for name in ("outputs/demo", "outputs/pets/model"):
        (tmp_path / "work" / name).mkdir(parents=True)
    (tmp_path / "work" / "clips.csv").touch()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


NOT_HERE = "there is no such file or folder here, and on the Hub names are user/name"
TAKEN = "is taken for a path, since a folder 'outputs' is here, and it holds nothing of that name"


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("nope", NOT_HERE, "check the path, or give user/name."),
        ("output", NOT_HERE, "did you mean 'outputs'?"),
        ("outputs/dmo", TAKEN, "did you mean 'outputs/demo'?"),
        ("outputs/dmo/", TAKEN, "did you mean 'outputs/demo'?"),
        ("outputs/pet/model", NOT_HERE, "did you mean 'outputs/pets/model'?"),
        ("a/b/c", NOT_HERE, "check the path, or give user/name."),
        ("./outputs/dmo", "does not exist", "did you mean 'outputs/demo'?"),
        ("/nowhere/at-all", "does not exist", "give a checkpoint's folder or its Hub name."),
        ("clips.csv", "is not a folder", "give a checkpoint's folder or its Hub name."),
    ],
)
@pytest.mark.parametrize(
    "load",
    [
        ASTForAudioClassification.from_pretrained,
        ASTModel.from_vit,
        ASTEnsembleForAudioClassification.from_pretrained,
        lambda name: ASTEnsembleForAudioClassification.from_members([name]),
    ],
    ids=["checkpoint", "vit", "ensemble", "member"],
)
def test_a_misspelt_folder_is_not_looked_up_on_the_hub(
    load: Callable, name: str, what: str, fix: str, elsewhere: Path, hub: Hub
) -> None:
    with pytest.raises(AstConfigError) as caught:
        load(name)
    assert caught.value.code == "E306"
    assert str(caught.value).endswith(f"{name!r}: {what}. Fix: {fix}")
    assert hub.log == []


def publish(checkpoint: Path) -> None:
    """Publish a checkpoint on the Hub as user/pets."""
    HfApi().create_repo("user/pets")
    HfApi().upload_folder(folder_path=checkpoint, repo_id="user/pets")


def test_a_hub_name_whose_user_is_a_local_folder(elsewhere: Path, tiny_checkpoint: Path, hub: Hub) -> None:
    publish(tiny_checkpoint)
    (elsewhere / "user" / "quite-another").mkdir(parents=True)
    # no similar name in that folder: the Hub gets a request
    ASTForAudioClassification.from_pretrained("user/pets")
    (elsewhere / "user" / "cat").mkdir()
    (elsewhere / "user" / "pet").mkdir()
    assert ASTForAudioClassification.from_pretrained("user/pets").num_labels == 3  # it was downloaded before
    requests = len(hub.log)
    with pytest.raises(
        AstConfigError, match=r"E306.*'user/cats': is taken for a path, since a folder 'user' is here"
    ):
        ASTForAudioClassification.from_pretrained("user/cats")
    assert len(hub.log) == requests


def test_cached_names_are_looked_up_in_the_given_cache_dir(
    elsewhere: Path, tiny_checkpoint: Path, hub: Hub
) -> None:
    publish(tiny_checkpoint)
    ASTForAudioClassification.from_pretrained("user/pets", cache_dir=elsewhere / "cache")
    (elsewhere / "user" / "pet").mkdir(parents=True)
    assert (
        ASTForAudioClassification.from_pretrained("user/pets", cache_dir=elsewhere / "cache").num_labels == 3
    )


def test_near_path_suggests_misspelt_paths(elsewhere: Path) -> None:
    (elsewhere / ".hidden").touch()
    assert near_path("outptus/demo") == "outputs/demo"
    assert near_path("outptus/dmo") == "outputs"  # the part of the path that exists
    assert near_path("hidden") is None
    assert near_path("clips.cvs") == "clips.csv"


# File modes


@pytest.fixture(params=[(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)], ids=lambda pair: oct(pair[0]))
def mode(request: pytest.FixtureRequest) -> Iterator[int]:
    """Return the mode of a new file under the current umask."""
    before = os.umask(request.param[0])
    yield request.param[1]
    os.umask(before)


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_weights_have_the_file_mode_of_the_config(tiny_checkpoint: Path, mode: int, tmp_path: Path) -> None:
    model = ASTForAudioClassification.from_pretrained(tiny_checkpoint)
    for name, size in (("whole", "5GB"), ("shards", "20KB")):
        model.save_pretrained(tmp_path / name, max_shard_size=size)
        assert modes(tmp_path / name) == {mode}
    assert len(list((tmp_path / "shards").iterdir())) > 3  # only config, shards and their index
    assert {path.name for path in (tmp_path / "whole").iterdir()} == {CONFIG, WEIGHTS}
    ensemble = ASTEnsembleForAudioClassification.from_members([tiny_checkpoint])
    ensemble.save_pretrained(tmp_path / "ensemble")
    assert modes(tmp_path / "ensemble") == {mode}


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_averages_adapters_and_stored_logits_have_the_default_file_mode(
    mode: int, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    Adapter(ASTForAudioClassification.from_pretrained(tiny_checkpoint), AdapterOptions(rank=2), "base").save(
        tmp_path
    )
    average = WeightAverage(0.9)
    average.update(torch.nn.Linear(2, 2))
    average.save(tmp_path)
    write_whole(tmp_path / "logits.safetensors", lambda part: save_file({"logits": torch.ones(2)}, part))
    assert modes(tmp_path) == {mode}
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (removed(WEIGHTS), "missing"),
        (removed(CONFIG), "missing"),
        (content(lambda old: old[:100]), "unreadable"),
        (content(lambda old: LFS), "unreadable"),
        (content(lambda old: b"[1, 2]", CONFIG), "unreadable"),
        (tensors(lambda t: t[QUERY].__setitem__((3, 3), torch.nan)), "not_finite"),
        (config(model_type="ast-ensemble", members=["member-1"]), "missing"),
    ],
    ids=["no weights", "no config", "truncated", "git-lfs", "config is a list", "NaN", "no member"],
)
def test_detail_of_e306(
    change: Callable[[Path], None], detail: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "broken"))
    change(folder)
    with pytest.raises(AstHfError) as caught:
        ASTForAudioClassification.from_pretrained(folder)
    reason = caught.value.__cause__ if isinstance(caught.value.__cause__, AstHfError) else caught.value
    assert (reason.code, reason.detail) == ("E306", detail)
