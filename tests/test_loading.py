"""Checkpoints of every version and file format of transformers load from a folder and by name, without a flag."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from conftest import TINY, largest_gap, randomise
from hub_server import Blob, Commit, Hub, HubServer, Repository, run_python
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import ASTConfig as StockConfig
from transformers import ASTForAudioClassification as StockClassifier
from transformers import ASTModel as StockModel
from transformers import AutoModel, AutoModelForAudioClassification, ViTConfig, ViTModel

from ast_hf import AstConfigError, ASTForAudioClassification, AstHfWarning, ASTModel

WEIGHTS, INDEX, BIN = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
BACKBONE = "audio_spectrogram_transformer."

#: A tensor of each module of a block, in layer 1: name on the Hub -> name in transformers 5.
BOTH_NAMES = {
    "encoder.layer.1.attention.attention.query.weight": "layers.1.attention.q_proj.weight",
    "encoder.layer.1.attention.attention.query.bias": "layers.1.attention.q_proj.bias",
    "encoder.layer.1.attention.attention.key.weight": "layers.1.attention.k_proj.weight",
    "encoder.layer.1.attention.attention.key.bias": "layers.1.attention.k_proj.bias",
    "encoder.layer.1.attention.attention.value.weight": "layers.1.attention.v_proj.weight",
    "encoder.layer.1.attention.attention.value.bias": "layers.1.attention.v_proj.bias",
    "encoder.layer.1.attention.output.dense.weight": "layers.1.attention.o_proj.weight",
    "encoder.layer.1.attention.output.dense.bias": "layers.1.attention.o_proj.bias",
    "encoder.layer.1.intermediate.dense.weight": "layers.1.mlp.fc1.weight",
    "encoder.layer.1.intermediate.dense.bias": "layers.1.mlp.fc1.bias",
    "encoder.layer.1.output.dense.weight": "layers.1.mlp.fc2.weight",
    "encoder.layer.1.output.dense.bias": "layers.1.mlp.fc2.bias",
    "encoder.layer.1.layernorm_before.weight": "layers.1.layernorm_before.weight",
    "encoder.layer.1.layernorm_before.bias": "layers.1.layernorm_before.bias",
    "encoder.layer.1.layernorm_after.weight": "layers.1.layernorm_after.weight",
    "encoder.layer.1.layernorm_after.bias": "layers.1.layernorm_after.bias",
}
#: Tensors with the same name in both.
SHARED_NAMES = {
    "embeddings.cls_token",
    "embeddings.distillation_token",
    "embeddings.position_embeddings",
    "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embeddings.projection.bias",
    "layernorm.weight",
    "layernorm.bias",
}
HEAD_NAMES = {f"classifier.{part}.{kind}" for part in ("layernorm", "dense") for kind in ("weight", "bias")}
HUB_NAMES = SHARED_NAMES | {name.replace("1", layer, 1) for name in BOTH_NAMES for layer in "01"}
V5_NAMES = SHARED_NAMES | {name.replace("1", layer, 1) for name in BOTH_NAMES.values() for layer in "01"}
OURS = (ASTForAudioClassification, ASTModel)


def inputs(frames: int = 64) -> torch.Tensor:
    return torch.randn(2, frames, 32, generator=torch.Generator().manual_seed(2))


def names_in(folder: Path) -> set[str]:
    """Return the tensors of a folder's weights, read by safetensors or torch alone."""
    if (folder / BIN).exists():
        return set(torch.load(folder / BIN, weights_only=True))
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names |= set(file.keys())
    return names


@torch.no_grad()
def assert_answers_as(stock: Any, ours: Any) -> None:
    """Assert equal hidden states, and equal logits if both have a classifier."""
    assert type(ours) in OURS
    assert not ours.training
    if isinstance(stock, StockClassifier) and isinstance(ours, ASTForAudioClassification):
        assert largest_gap(ours(inputs()).logits, stock(inputs()).logits) <= 1e-5
    expected, answer = stock.base_model(inputs()), ours.base_model(inputs())
    assert largest_gap(answer.last_hidden_state, expected.last_hidden_state) <= 1e-5
    assert largest_gap(answer.pooler_output, expected.pooler_output) <= 1e-5


class Saved(NamedTuple):
    """Checkpoint of transformers, and the model that it was written from."""

    folder: Path
    stock: Any
    names: set[str]


FORMATS = ("safetensors", "shards", "bin")
KINDS = [(head, version, file) for head in ("head", "base") for version in ("hub", "v5") for file in FORMATS]
READERS = (ASTForAudioClassification, ASTModel, AutoModelForAudioClassification, AutoModel)


def write(folder: Path, head: str, version: str, file: str) -> Saved:
    """Save a model by transformers alone, under the names on the Hub or those of its version 5."""
    stock = randomise((StockClassifier if head == "head" else StockModel)(StockConfig(**TINY, num_labels=3)))
    size = "20KB" if file == "shards" else "5GB"
    stock.save_pretrained(folder, save_original_format=version == "hub", max_shard_size=size)
    if file == "bin":
        torch.save(load_file(folder / WEIGHTS), folder / BIN)
        (folder / WEIGHTS).unlink()
    names = HUB_NAMES if version == "hub" else V5_NAMES
    return Saved(folder, stock, {BACKBONE + name for name in names} | HEAD_NAMES if head == "head" else names)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], Saved]:
    """Return one checkpoint of every kind. Read only."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {kind: write(root / "-".join(kind), *kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_checkpoint_fixtures_have_the_intended_names_and_files(
    kind: tuple[str, str, str], checkpoints: dict
) -> None:
    folder, _, names = checkpoints[kind]
    assert names_in(folder) == names
    files = {path.name for path in folder.iterdir()} - {"config.json"}
    if kind[2] == "shards":
        assert len(files) > 2
        assert INDEX in files
    else:
        assert files == {WEIGHTS if kind[2] == "safetensors" else BIN}


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_any_checkpoint_of_transformers_loads(
    kind: tuple[str, str, str], reader: Any, checkpoints: dict
) -> None:
    folder, stock, _ = checkpoints[kind]
    new_head = kind[0] == "base" and reader in (ASTForAudioClassification, AutoModelForAudioClassification)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded, info = reader.from_pretrained(folder, output_loading_info=True)
    messages = [str(entry.message) for entry in caught if issubclass(entry.category, AstHfWarning)]
    assert_answers_as(stock, loaded)
    assert set(info["missing_keys"]) == (HEAD_NAMES if new_head else set())
    assert not info["mismatched_keys"]
    assert {name for name in info["unexpected_keys"] if not name.startswith("classifier.")} == set()
    assert [text[:10] for text in messages] == (["[AST-W303]"] if new_head else [])
    assert loaded.name_or_path == loaded.config.name_or_path == str(folder)


@pytest.mark.parametrize("file", FORMATS)
@pytest.mark.parametrize("version", ["hub", "v5"])
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_any_checkpoint_of_transformers_is_adapted(
    reader: Any, version: str, file: str, checkpoints: dict
) -> None:
    folder, stock, _ = checkpoints["head", version, file]
    loaded = reader.from_pretrained(folder, max_length=40)
    assert type(loaded) in OURS
    table = stock.base_model.embeddings.position_embeddings[0, 2:].reshape(3, 7, 24)
    expected = table[:, 1:5].reshape(12, 24)  # the four columns in the middle of seven
    assert torch.equal(loaded.base_model.embeddings.position_embeddings[0, 2:], expected)
    for name, theirs in list(BOTH_NAMES.items())[:4]:
        assert torch.equal(loaded.base_model.state_dict()[name], stock.base_model.state_dict()[theirs]), name
    assert loaded(inputs(40))[0].shape[0] == 2


@pytest.mark.parametrize("arguments", [{}, {"max_length": 40}], ids=["as-is", "adapted"])
@pytest.mark.parametrize("version", ["hub", "v5"])
def test_number_of_labels_of_transformers_checkpoints(
    version: str, arguments: dict, checkpoints: dict
) -> None:
    folder, stock, _ = checkpoints["head", version, "safetensors"]
    with pytest.warns(
        AstHfWarning, match=r"W303.*7 labels; classifier\.dense\.bias, classifier\.dense\.weight"
    ) as caught:
        loaded = ASTForAudioClassification.from_pretrained(folder, num_labels=7, **arguments)
    assert len([entry for entry in caught if issubclass(entry.category, AstHfWarning)]) == 1
    assert loaded.classifier.dense.weight.shape == (7, 24)
    assert 0.01 < loaded.classifier.dense.weight.std() < 0.03
    assert torch.equal(loaded.classifier.layernorm.weight, stock.classifier.layernorm.weight)


@pytest.mark.parametrize("kind", OURS, ids=["head", "base"])
@pytest.mark.parametrize("file", FORMATS)
def test_our_own_checkpoints_load(file: str, kind: Any, tmp_path: Path) -> None:
    written = randomise(kind(kind.config_class(**TINY, num_labels=3)))
    written.save_pretrained(tmp_path, max_shard_size="20KB" if file == "shards" else "5GB")
    if file == "bin":
        torch.save(load_file(tmp_path / WEIGHTS), tmp_path / BIN)
        (tmp_path / WEIGHTS).unlink()
    prefix, head = (BACKBONE, HEAD_NAMES) if kind is ASTForAudioClassification else ("", set())
    assert names_in(tmp_path) == {prefix + name for name in HUB_NAMES} | head
    for reader in (kind, AutoModelForAudioClassification if head else AutoModel):
        loaded = reader.from_pretrained(tmp_path)
        assert type(loaded) is kind
        state = written.state_dict()
        assert [
            name for name, tensor in loaded.state_dict().items() if not torch.equal(tensor, state[name])
        ] == []
        assert torch.equal(loaded(inputs())[0], written(inputs())[0])


@pytest.mark.parametrize("file", FORMATS)
@pytest.mark.parametrize("reader", OURS, ids=["head", "base"])
def test_names_of_version_5_are_saved_as_those_of_the_hub(
    reader: Any, file: str, checkpoints: dict, tmp_path: Path
) -> None:
    folder, stock, _ = checkpoints["head", "v5", file]
    loaded = reader.from_pretrained(folder)
    prefix, head = (BACKBONE, HEAD_NAMES) if reader is ASTForAudioClassification else ("", set())
    expected = {prefix + name for name in HUB_NAMES} | head
    assert set(loaded.state_dict()) == expected
    loaded.save_pretrained(tmp_path)
    assert names_in(tmp_path) == expected
    (StockClassifier if head else StockModel).from_pretrained(tmp_path)
    assert_answers_as(stock, reader.from_pretrained(tmp_path))


def test_a_file_of_half_precision_under_names_of_version_5(tmp_path: Path) -> None:
    stock = randomise(StockClassifier(StockConfig(**TINY, num_labels=3))).to(torch.bfloat16)
    for version in ("hub", "v5"):
        stock.save_pretrained(tmp_path / version, save_original_format=version == "hub")
    for dtype in (None, "auto", torch.float32):
        arguments = {} if dtype is None else {"dtype": dtype}
        hub, renamed = (
            ASTForAudioClassification.from_pretrained(tmp_path / name, **arguments) for name in ("hub", "v5")
        )
        assert renamed.dtype == hub.dtype == (torch.float32 if dtype == torch.float32 else torch.bfloat16)
        state = hub.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in renamed.state_dict().items())


# Broken files under the names of version 5

Tensors = dict[str, torch.Tensor]
Q_PROJ = BACKBONE + "layers.1.attention.q_proj.weight"

#: id -> damage to the tensors, names in the message.
BROKEN: list[tuple[str, Callable[[Tensors], Any], list[str]]] = [
    ("missing-query", lambda t: t.pop(Q_PROJ), ["1.attention.", "weight", "query"]),
    ("missing-mlp", lambda t: t.pop(BACKBONE + "layers.0.mlp.fc2.bias"), ["layer.0.output.dense.bias"]),
    (
        "missing-positions",
        lambda t: t.pop(BACKBONE + "embeddings.position_embeddings"),
        ["position_embeddings"],
    ),
    ("missing-norm", lambda t: t.pop(BACKBONE + "layernorm.weight"), ["layernorm.weight"]),
    (
        "extra-in-block",
        lambda t: t.update({BACKBONE + "layers.1.gate.weight": torch.ones(3)}),
        ["1.gate.weight"],
    ),
    ("extra-outside", lambda t: t.update({BACKBONE + "extra.weight": torch.ones(3)}), ["extra.weight"]),
    ("extra-layer", lambda t: t.update({Q_PROJ.replace("1", "2", 1): torch.ones(24, 24)}), ["layer"]),
    (
        "narrow-query",
        lambda t: t.update({Q_PROJ: torch.ones(24, 12)}),
        ["query.weight", "(24, 12)", "(24, 24)"],
    ),
    (
        "wide-output",
        lambda t: t.update({BACKBONE + "layers.0.attention.o_proj.bias": torch.ones(48)}),
        ["layer.0.attention.output.dense.bias", "(48,)", "(24,)"],
    ),
    (
        "other-positions",
        lambda t: t.update({BACKBONE + "embeddings.position_embeddings": torch.ones(1, 47, 24)}),
        ["position_embeddings", "23", "47"],
    ),
]
broken = pytest.mark.parametrize(
    ("spoil", "names"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)


@pytest.mark.parametrize("arguments", [{}, {"max_length": 40}], ids=["as-is", "adapted"])
@pytest.mark.parametrize("file", ["safetensors", "bin"])
@broken
def test_broken_files_under_names_of_version_5_are_refused(
    spoil: Callable, names: list[str], file: str, arguments: dict, checkpoints: dict, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoints["head", "v5", file].folder, tmp_path / "checkpoint"))
    state = torch.load(folder / BIN, weights_only=True) if file == "bin" else load_file(folder / WEIGHTS)
    spoil(state)
    if file == "bin":
        torch.save(state, folder / BIN)
    else:
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    for reader in (ASTForAudioClassification, AutoModel):
        with pytest.raises(AstConfigError) as caught:
            reader.from_pretrained(folder, **arguments)
        message = str(caught.value)
        assert caught.value.code == "E305", message
        assert [name for name in names if name not in message] == [], message
        assert "Fix: " in message
        assert len(message.replace(str(folder), "checkpoint")) <= 300


def test_a_missing_shard_of_version_5_is_refused(checkpoints: dict, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints["head", "v5", "shards"].folder, tmp_path / "checkpoint"))
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(AstConfigError, match=shard.name) as caught:
        ASTForAudioClassification.from_pretrained(folder)
    assert caught.value.code == "E306"


def test_nan_under_names_of_version_5_is_refused(checkpoints: dict, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints["head", "v5", "safetensors"].folder, tmp_path / "checkpoint"))
    state = load_file(folder / WEIGHTS)
    state[Q_PROJ][3, 3] = torch.nan
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(AstConfigError, match=r"E306.*query\.weight holds NaN"):
        ASTForAudioClassification.from_pretrained(folder)


@pytest.mark.parametrize("arguments", [{}, {"max_length": 128}], ids=["as-is", "adapted"])
@pytest.mark.parametrize("reader", OURS, ids=["head", "base"])
def test_an_image_transformer_is_refused_with_the_way_to_use_it(
    reader: Any, arguments: dict, tmp_path: Path
) -> None:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    ViTModel(ViTConfig(**sizes, image_size=64, patch_size=16)).save_pretrained(tmp_path)
    with pytest.raises(AstConfigError, match=r"E305.*'vit'.*Fix: .*from_vit") as caught:
        reader.from_pretrained(tmp_path, **arguments)
    assert str(tmp_path) in str(caught.value)
    assert type(AutoModel.from_pretrained(tmp_path)) is ViTModel  # not checked here
    started = reader.from_vit(tmp_path, max_length=64, num_mel_bins=32, frequency_stride=8, time_stride=8)
    assert type(started) is reader


# By name, from a Hub on this machine

TOKEN = "hf_" + "NotARealToken"

USE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
import ast_hf
from transformers import AutoModel, AutoModelForAudioClassification

def outputs_of(load, name, **arguments):
    "Return class, grid, name, positions and logits or hidden states of a loaded model, or its error."
    try:
        model = load.from_pretrained(name, **arguments)
    except Exception as problem:
        return {"error": type(problem).__name__, "message": str(problem)}
    config = model.config
    shape = (1, config.max_length, config.num_mel_bins)
    values = torch.linspace(-1, 1, shape[1] * shape[2]).mul(40).sin().reshape(shape)
    with torch.no_grad():
        first = model(values)[0]
    return {
        "class": f"{type(model).__module__}.{type(model).__name__}",
        "grid": list(config.patch_grid),
        "name": model.name_or_path,
        "table": model.base_model.embeddings.position_embeddings.flatten().tolist(),
        "answer": first.flatten().tolist(),
    }

loads = {"head": ast_hf.ASTForAudioClassification, "base": ast_hf.ASTModel,
         "auto": AutoModelForAudioClassification, "auto-base": AutoModel}
answers = [outputs_of(loads[kind], name, **arguments) for kind, name, arguments in json.loads(sys.argv[1])]
print("REPORT" + json.dumps(answers))
"""


def put(hub: Hub, name: str, folder: Path, subfolder: str = "") -> str:
    """Commit the files of a folder; return the hash."""
    files = {
        f"{subfolder}{path.name}": Blob(path.read_bytes(), path.suffix != ".json")
        for path in folder.iterdir()
    }
    commits = hub.repositories.setdefault(name, Repository()).branches.setdefault("main", [])
    oid = f"{len(hub.repositories):020x}{len(commits):020x}"
    commits.append(Commit(oid, "files of a folder", files, tuple(files)))
    return oid


def use(
    hub: Hub, cache: Path, calls: list[tuple[str, str, dict[str, Any]]], **env: str
) -> list[dict[str, Any]]:
    """Return the result of each call, in a fresh process whose Hub is `hub`."""
    result = run_python(hub, cache, "-c", USE, json.dumps(calls), **env)
    assert result.returncode == 0, result.stderr[-4000:] + "\n".join(hub.log)
    return json.loads(result.stdout.rpartition("REPORT")[2])


CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain": ("head", "user/hub", {}),
    "adapted": ("head", "user/hub", {"max_length": 40}),
    "adapted-auto": ("auto", "user/hub", {"max_length": 40}),
    "adapted-base": ("base", "user/hub", {"max_length": 40}),
    "all-sizes": (
        "head",
        "user/hub",
        {"max_length": 96, "num_mel_bins": 64, "patch_size": 8, "time_stride": 4},
    ),
    "first": ("head", "user/hub", {"revision": "FIRST"}),
    "first-adapted": ("head", "user/hub", {"revision": "FIRST", "max_length": 40}),
    "first-adapted-auto": ("auto", "user/hub", {"revision": "FIRST", "max_length": 40}),
    "main": ("head", "user/hub", {"revision": "main", "max_length": 40}),
    "no-revision": ("head", "user/hub", {"revision": "0" * 40, "max_length": 40}),
    "v5": ("head", "user/v5", {}),
    "v5-auto": ("auto", "user/v5", {}),
    "v5-base": ("auto-base", "user/v5", {}),
    "v5-adapted": ("head", "user/v5", {"max_length": 40}),
    "v5-shards": ("head", "user/shards", {}),
    "v5-bin": ("head", "user/bin", {}),
    "hub-bin-adapted": ("auto", "user/hub-bin", {"max_length": 40}),
    "v5-subfolder": ("head", "user/nested", {"subfolder": "inner"}),
    "subfolder-adapted": ("auto", "user/nested", {"subfolder": "inner", "max_length": 40}),
    "from-the-cache": ("head", "user/hub", {"max_length": 40, "local_files_only": True}),
    "not-there": ("head", "user/nothing", {"max_length": 40}),
    "misspelt": ("head", "user/hub", {"max_lenght": 40}),
    "impossible": ("head", "user/hub", {"max_length": 8}),
    "incomplete": ("head", "user/incomplete", {"max_length": 40}),
    "vit": ("head", "user/vit", {"max_length": 40}),
}


@pytest.fixture(scope="module")
def by_name(checkpoints: dict, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Return the result of every call, the Hub's log, and the expected results of both revisions."""
    root = tmp_path_factory.mktemp("hub")
    randomise(StockClassifier(StockConfig(**TINY, num_labels=3)), seed=7).save_pretrained(root / "first")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    ViTModel(ViTConfig(**sizes, image_size=64, patch_size=16)).save_pretrained(root / "vit")
    incomplete = Path(shutil.copytree(checkpoints["head", "v5", "safetensors"].folder, root / "incomplete"))
    state = load_file(incomplete / WEIGHTS)
    save_file(
        {name: state[name] for name in state if name != Q_PROJ},
        incomplete / WEIGHTS,
        metadata={"format": "pt"},
    )
    with HubServer("user", TOKEN) as server:
        first = put(server.hub, "user/hub", root / "first")
        put(server.hub, "user/hub", checkpoints["head", "hub", "safetensors"].folder)
        put(server.hub, "user/v5", checkpoints["head", "v5", "safetensors"].folder)
        put(server.hub, "user/shards", checkpoints["head", "v5", "shards"].folder)
        put(server.hub, "user/bin", checkpoints["head", "v5", "bin"].folder)
        put(server.hub, "user/hub-bin", checkpoints["head", "hub", "bin"].folder)
        put(server.hub, "user/nested", checkpoints["head", "v5", "safetensors"].folder, "inner/")
        put(server.hub, "user/incomplete", incomplete)
        put(server.hub, "user/vit", root / "vit")
        calls = json.loads(json.dumps(list(CALLS.values())).replace("FIRST", first))
        answers = dict(zip(CALLS, use(server.hub, root / "cache", calls), strict=True))
        yield {"answers": answers, "log": server.hub.log, "first": root / "first"}


def expected_of(folder: Path, **arguments: Any) -> dict[str, Any]:
    """Return the results of the uploaded folder, computed in this process."""
    model = ASTForAudioClassification.from_pretrained(folder, **arguments)
    shape = (1, model.config.max_length, model.config.num_mel_bins)
    values = torch.linspace(-1, 1, shape[1] * shape[2]).mul(40).sin().reshape(shape)
    with torch.no_grad():
        answer, hidden = model(values).logits, model.base_model(values).last_hidden_state
    table = model.base_model.embeddings.position_embeddings.detach()
    return {
        "answer": answer.flatten().tolist(),
        "hidden": hidden.flatten().tolist(),
        "table": table.flatten().tolist(),
    }


@pytest.mark.parametrize(
    ("call", "source", "grid"),
    [
        ("plain", ("head", "hub", "safetensors"), [3, 7]),
        ("adapted", ("head", "hub", "safetensors"), [3, 4]),
        ("adapted-auto", ("head", "hub", "safetensors"), [3, 4]),
        ("adapted-base", ("head", "hub", "safetensors"), [3, 4]),
        ("all-sizes", ("head", "hub", "safetensors"), [8, 23]),
        ("first", "first", [3, 7]),
        ("first-adapted", "first", [3, 4]),
        ("first-adapted-auto", "first", [3, 4]),
        ("main", ("head", "hub", "safetensors"), [3, 4]),
        ("v5", ("head", "v5", "safetensors"), [3, 7]),
        ("v5-auto", ("head", "v5", "safetensors"), [3, 7]),
        ("v5-base", ("head", "v5", "safetensors"), [3, 7]),
        ("v5-adapted", ("head", "v5", "safetensors"), [3, 4]),
        ("v5-shards", ("head", "v5", "shards"), [3, 7]),
        ("v5-bin", ("head", "v5", "bin"), [3, 7]),
        ("hub-bin-adapted", ("head", "hub", "bin"), [3, 4]),
        ("v5-subfolder", ("head", "v5", "safetensors"), [3, 7]),
        ("subfolder-adapted", ("head", "v5", "safetensors"), [3, 4]),
        ("from-the-cache", ("head", "hub", "safetensors"), [3, 4]),
    ],
)
def test_checkpoints_load_by_name(
    call: str, source: Any, grid: list[int], by_name: dict, checkpoints: dict
) -> None:
    answer, (kind, name, arguments) = by_name["answers"][call], CALLS[call]
    assert "error" not in answer, answer
    sizes = {
        key: value for key, value in arguments.items() if key.endswith(("length", "bins", "size", "stride"))
    }
    folder = by_name["first"] if source == "first" else checkpoints[source].folder
    expected = expected_of(folder, **sizes)
    base = kind in ("base", "auto-base")
    assert answer["class"] == f"ast_hf.modeling_ast.{'ASTModel' if base else 'ASTForAudioClassification'}"
    assert answer["grid"] == grid
    assert answer["name"] == name
    assert answer["table"] == expected["table"]
    assert answer["answer"] == pytest.approx(expected["hidden" if base else "answer"], abs=1e-5)


def test_revisions_give_different_scores(by_name: dict) -> None:
    answers = by_name["answers"]
    assert answers["first"]["answer"] != pytest.approx(answers["plain"]["answer"], abs=1e-2)
    assert answers["first-adapted"]["answer"] != pytest.approx(answers["adapted"]["answer"], abs=1e-2)


@pytest.mark.parametrize(
    ("call", "error", "names"),
    [
        ("no-revision", "OSError", ["user/hub"]),
        ("not-there", "OSError", ["user/nothing"]),
        ("misspelt", "AstConfigError", ["E302", "max_lenght", "'max_length'"]),
        ("impossible", "AstConfigError", ["E302", "max_length"]),
        ("incomplete", "AstConfigError", ["E305", "1.attention.attention.query.weight", "user/incomplete"]),
        ("vit", "AstConfigError", ["E305", "user/vit", "'vit'", "from_vit"]),
    ],
)
def test_broken_checkpoints_are_refused_by_name(
    call: str, error: str, names: list[str], by_name: dict
) -> None:
    answer = by_name["answers"][call]
    assert answer.get("error") == error, answer
    assert [name for name in names if name not in answer["message"]] == [], answer["message"]


def test_each_file_is_downloaded_once(by_name: dict) -> None:
    """Reading a checkpoint ourselves and by transformers shares the cache."""
    gets = [
        line
        for line in by_name["log"]
        if line.startswith("GET ") and line.endswith(" 200") and "/resolve/" in line
    ]
    weights = [line for line in gets if ".safetensors " in line or ".bin " in line]
    assert weights
    assert sorted(weights) == sorted(set(weights))


def test_one_tensor_under_two_names_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "twice"))
    state = load_file(folder / "model.safetensors")
    name = "audio_spectrogram_transformer.encoder.layer.0.intermediate.dense.bias"
    state["audio_spectrogram_transformer.layers.0.mlp.fc1.bias"] = state[name] + 1
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AstConfigError, match=r"E305.*two names"):
        ASTForAudioClassification.from_pretrained(folder)
