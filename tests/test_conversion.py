"""`ast-hf convert`: weights of the original and of timm become a complete folder, or nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    ASTForAudioClassification as StockClassifier,
)
from transformers import (
    DeiTConfig,
    DeiTModel,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
    pipeline,
)

from ast_hf import ASTFeatureExtractor, ASTForAudioClassification, AstHfError, ASTModel
from ast_hf.cli import main
from ast_hf.conversion import convert as conversion
from ast_hf.conversion.convert import ConversionOptions, convert, infer_geometry, read_label_file
from ast_hf.paper_data_sets import DATA_SETS, class_names, data_set, with_label_count

DATA = Path(__file__).parent / "data"
State = dict[str, torch.Tensor]

#: Options that cannot be inferred from the tensors of the golden checkpoint.
GOLDEN = ConversionOptions(
    max_length=100,
    num_mel_bins=64,
    frequency_stride=10,
    time_stride=12,
    num_attention_heads=3,
    mean=-4.0,
    std=4.5,
)


def golden(name: str) -> torch.Tensor:
    with np.load(DATA / "original_checkpoint.npz") as arrays:
        return torch.from_numpy(arrays[name])


def original_state() -> State:
    """Return a checkpoint as the original repository saves it: DataParallel's prefix, and timm's two image heads."""
    with np.load(DATA / "original_checkpoint.npz") as arrays:
        state = {name[6:]: torch.from_numpy(arrays[name]) for name in arrays if name.startswith("state/")}
    heads = {f"module.v.{head}.weight": torch.zeros(1000, 12) for head in ("head", "head_dist")}
    return {**state, **heads}


def random_original(labels: int, patches: int, width: int = 192) -> State:
    """Return a one-block checkpoint with the original's names and a published width."""
    shapes = {
        "v.cls_token": (1, 1, width),
        "v.dist_token": (1, 1, width),
        "v.pos_embed": (1, patches + 2, width),
        "v.patch_embed.proj.weight": (width, 1, 16, 16),
        "v.patch_embed.proj.bias": (width,),
        "v.blocks.0.attn.qkv.weight": (3 * width, width),
        "v.blocks.0.attn.qkv.bias": (3 * width,),
        "v.blocks.0.attn.proj.weight": (width, width),
        "v.blocks.0.attn.proj.bias": (width,),
        "v.blocks.0.mlp.fc1.weight": (2 * width, width),
        "v.blocks.0.mlp.fc1.bias": (2 * width,),
        "v.blocks.0.mlp.fc2.weight": (width, 2 * width),
        "v.blocks.0.mlp.fc2.bias": (width,),
        "mlp_head.1.weight": (labels, width),
        "mlp_head.1.bias": (labels,),
    }
    norms = ("v.blocks.0.norm1", "v.blocks.0.norm2", "v.norm", "mlp_head.0")
    shapes |= {f"{norm}.{part}": (width,) for norm in norms for part in ("weight", "bias")}
    generator = torch.Generator().manual_seed(1)
    return {f"module.{name}": 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def converted_lines(*arguments: Any) -> list[str]:
    """Convert, and return the printed lines."""
    lines: list[str] = []
    convert(*arguments, tell=lines.append)  # type: ignore[misc]
    return lines


def saved(state: Any, path: Path) -> Path:
    torch.save(state, path)
    return path


# The original's checkpoints


@pytest.mark.long
@pytest.mark.parametrize("form", ["data-parallel", "plain", "wrapped", "safetensors"])
def test_converted_checkpoint_matches_the_original_code(form: str, tmp_path: Path) -> None:
    state: Any = original_state()
    if form == "plain":
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    source = tmp_path / ("model.safetensors" if form == "safetensors" else "model.pth")
    if form == "safetensors":
        save_file(state, source)
    else:
        saved({"epoch": 3, "state_dict": state} if form == "wrapped" else state, source)
    lines = converted_lines(source, tmp_path / "out", GOLDEN)
    model = ASTForAudioClassification.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        logits = model(golden("input")).logits
        stock = StockClassifier.from_pretrained(tmp_path / "out")(golden("input")).logits
    assert (logits - golden("logits")).abs().max() <= 1e-5
    assert (stock - golden("logits")).abs().max() <= 1e-4  # stock's classifier has the encoder's epsilon
    assert (model.config.layer_norm_eps, model.config.classifier_layer_norm_eps) == (1e-6, 1e-5)
    text = "\n".join(lines)
    assert "blocks.N.attn.qkv.weight" in text
    assert "encoder.layer.N.attention.attention.{query,key,value}.weight" in text
    assert "(2 blocks)" in text
    assert text.count("left out") == 2
    assert "head_dist.weight" in text
    assert [line.split()[0] for line in lines[-2:]] == ["checked", "wrote"]


def test_folder_is_complete(tmp_path: Path) -> None:
    source = saved(random_original(labels=527, patches=512), tmp_path / "audioset_16_16_0.4422.pth")
    converted_lines(source, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"]["0"] == "Speech"
    assert config["id2label"]["137"] == "Music"
    assert config["problem_type"] == "multi_label_classification"
    assert (config["max_length"], config["frequency_stride"], config["time_stride"]) == (1024, 16, 16)
    extractor = ASTFeatureExtractor.from_pretrained(tmp_path / "out")
    assert (extractor.mean, extractor.std, extractor.max_length) == (-4.2677393, 4.5689974, 1024)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    scores = pipeline("audio-classification", model=str(tmp_path / "out"))(
        {"array": np.sin(np.arange(16_000) / 5).astype(np.float32), "sampling_rate": 16_000}, top_k=2
    )
    assert len(scores) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audioset_16_16_0.4422.pth", "out"]


#: patches, labels -> frames, strides: the published checkpoints and recipes.
PUBLISHED = [
    (1212, "audioset", (1024, 10)),
    (850, "audioset", (1024, 12)),
    (657, "audioset", (1024, 14)),
    (512, "audioset", (1024, 16)),
    (600, "esc50", (512, 10)),
    (144, "speech_commands_v2", (128, 10)),
]


@pytest.mark.parametrize(("patches", "name", "expected"), PUBLISHED)
def test_geometry_follows_from_the_number_of_patches(
    patches: int, name: str, expected: tuple[int, int]
) -> None:
    for entry in (DATA_SETS[name], None):
        geometry = infer_geometry(patches, 16, entry, ConversionOptions())
        assert (geometry.max_length, geometry.frequency_stride, geometry.time_stride) == (
            *expected,
            expected[1],
        )
        assert (geometry.num_mel_bins, geometry.patch_size) == (128, 16)


@pytest.mark.parametrize(
    ("patches", "wishes", "fragments"),
    [
        (1213, ConversionOptions(), ["1213 patches", "no published geometry", "--max_length"]),
        (1212, ConversionOptions(max_length=512), ["1212", "max_length"]),
        (1212, ConversionOptions(frequency_stride=16), ["1212"]),
        (600, ConversionOptions(num_mel_bins=64), ["600", "num_mel_bins"]),
    ],
)
def test_geometry_that_does_not_fit_is_refused(
    patches: int, wishes: ConversionOptions, fragments: list[str]
) -> None:
    with pytest.raises(AstHfError) as caught:
        infer_geometry(patches, 16, None, wishes)
    assert caught.value.code == "E108"
    assert [part for part in fragments if part not in str(caught.value)] == []


def test_other_strides_and_lengths_can_be_given() -> None:
    wishes = ConversionOptions(max_length=300, num_mel_bins=64, frequency_stride=8, time_stride=20)
    geometry = infer_geometry(7 * 15, 16, None, wishes)
    assert tuple(geometry) == (300, 64, 16, 8, 20)


# Nothing is executed, no partial folder is left


class Trap:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    source = saved({**original_state(), "extra": Trap(tmp_path / "sprung")}, tmp_path / "model.pth")
    with pytest.raises(AstHfError, match=r"E306.*model\.pth.*would run its code"):
        converted_lines(source, tmp_path / "out", GOLDEN)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pth"]


def spoilt(**changes: Any) -> State:
    state = original_state()
    for name, change in changes.items():
        full = next(part for part in state if part.endswith(name.replace("__", ".")))
        if change is None:
            del state[full]
        else:
            state[full] = change
    return state


BAD_STATES: dict[str, tuple[Any, str, list[str]]] = {
    "no tensors": ({"a": 1}, "E306", ["not a state dict"]),
    "a list": ([torch.ones(1)], "E306", ["not a state dict"]),
    "missing": (
        spoilt(blocks__1__attn__proj__weight=None),
        "E305",
        ["encoder.layer.1.attention.output.dense.weight"],
    ),
    "misshapen": (
        spoilt(norm1__weight=torch.ones(11)),
        "E305",
        ["layernorm_before.weight", "(11,)", "(12,)"],
    ),
    "not finite": (spoilt(v__norm__bias=torch.full((12,), torch.nan)), "E306", ["layernorm.bias", "NaN"]),
    "unknown": ({**original_state(), "module.v.odd": torch.ones(1)}, "E305", ["module.v.odd"]),
    "registers": ({**original_state(), "module.v.reg_token": torch.ones(1)}, "E305", ["register tokens"]),
    "no positions": (spoilt(pos_embed=None), "E305", ["position_embeddings"]),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_bad_weights_are_refused_and_nothing_is_written(case: str, tmp_path: Path) -> None:
    content, code, fragments = BAD_STATES[case]
    source = saved(content, tmp_path / "model.pth")
    with pytest.raises(AstHfError) as caught:
        converted_lines(source, tmp_path / "out", GOLDEN)
    message = str(caught.value)
    assert caught.value.code == code
    assert [part for part in fragments if part not in message] == [], message
    assert [path.name for path in tmp_path.iterdir()] == ["model.pth"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"<html>", b"\x80\x04garbage"])
def test_files_without_weights_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(AstHfError, match=r"E306.*model\.pth"):
        converted_lines(tmp_path / "model.pth", tmp_path / "out", GOLDEN)


def test_conversion_with_different_logits_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = lambda *_: golden("logits")[:1] + 1  # noqa: E731
    monkeypatch.setattr(conversion, "original_logits", wrong)
    with pytest.raises(AstHfError, match=r"E601.*logits differ"):
        converted_lines(saved(original_state(), tmp_path / "model.pth"), tmp_path / "out", GOLDEN)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pth"]


def test_conversion_does_not_overwrite_a_folder(tmp_path: Path) -> None:
    source = saved(original_state(), tmp_path / "model.pth")
    (tmp_path / "out").mkdir()
    converted_lines(source, tmp_path / "out", GOLDEN)  # an empty folder is fine
    before = (tmp_path / "out" / "config.json").read_bytes()
    with pytest.raises(AstHfError, match=r"E306.*is not empty"):
        converted_lines(source, tmp_path / "out", GOLDEN)
    assert (tmp_path / "out" / "config.json").read_bytes() == before


# Labels and statistics


def test_statistics_are_never_guessed(tmp_path: Path) -> None:
    source = saved(original_state(), tmp_path / "model.pth")
    wishes = ConversionOptions(**{**vars(GOLDEN), "mean": None})
    with pytest.raises(AstHfError, match=r"E108.*mean, std.*5 labels.*--data_set"):
        converted_lines(source, tmp_path / "out", wishes)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", "cat\ndog, small\nowl\n\nwolf\nseal\n"),
        ("labels.csv", 'index,mid,display_name\n1,/m/1,"dog, small"\n0,/m/0,cat\n2,,owl\n3,,wolf\n4,,seal\n'),
        ("labels.json", '["cat", "dog, small", "owl", "wolf", "seal"]'),
        ("labels.json", '{"1": "dog, small", "0": "cat", "2": "owl", "3": "wolf", "4": "seal"}'),
    ],
)
def test_label_files(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_label_file(tmp_path / name) == ["cat", "dog, small", "owl", "wolf", "seal"]
    wishes = ConversionOptions(**{**vars(GOLDEN), "labels": str(tmp_path / name), "multi_label": True})
    converted_lines(saved(original_state(), tmp_path / "model.pth"), tmp_path / "out", wishes)
    config = ASTForAudioClassification.from_pretrained(tmp_path / "out").config
    assert config.id2label[1] == "dog, small"
    assert config.problem_type == "multi_label_classification"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labels.txt", "cat\ndog\n", "2 names for 5 outputs"),
        ("labels.csv", "number,name\n0,cat\n", "cannot be read"),
        ("labels.json", '{"1": "cat"}', "cannot be read"),
        ("labels.json", "[", "cannot be read"),
    ],
)
def test_bad_label_files(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    wishes = ConversionOptions(**{**vars(GOLDEN), "labels": str(tmp_path / name)})
    with pytest.raises(AstHfError, match=rf"E303.*{message}"):
        converted_lines(saved(original_state(), tmp_path / "model.pth"), tmp_path / "out", wishes)
    with pytest.raises(AstHfError, match=r"E303.*does not exist"):
        read_label_file(tmp_path / "absent.txt")


def test_published_data_sets() -> None:
    for name, entry in DATA_SETS.items():
        names = class_names(name)
        assert len(names) == len(set(names)) == entry.labels
        assert with_label_count(entry.labels) == name
    assert with_label_count(10) is None
    assert (class_names("esc50")[0], class_names("esc50")[49]) == ("dog", "hand_saw")
    assert (class_names("speech_commands_v2")[0], class_names("speech_commands_v2")[34]) == (
        "backward",
        "one",
    )
    assert (class_names("audioset")[1], class_names("audioset")[526]) == (
        "Male speech, man speaking",
        "Field recording",
    )
    with pytest.raises(AstHfError, match=r"E108.*did you mean 'esc50'"):
        data_set("esc-50")


# Image transformers

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
IMAGE_MODELS = {
    "vit": lambda: ViTModel(ViTConfig(**SMALL, image_size=48, patch_size=16)),
    "deit": lambda: DeiTModel(DeiTConfig(**SMALL, image_size=48, patch_size=16)),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**SMALL, image_size=42, patch_size=14, mlp_ratio=2)),
    "mae": lambda: ViTMAEForPreTraining(
        ViTMAEConfig(
            **SMALL, image_size=48, patch_size=16, decoder_hidden_size=24, decoder_num_attention_heads=3
        )
    ),
}


@pytest.mark.parametrize("kind", IMAGE_MODELS)
def test_image_transformer_folders(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = IMAGE_MODELS[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "source")
    lines = converted_lines(
        tmp_path / "source", tmp_path / "out", ConversionOptions(max_length=64, num_mel_bins=32)
    )
    assert "hidden states of an image" in lines[-2]
    loaded = ASTModel.from_pretrained(tmp_path / "out")
    expected = ASTModel.from_vit(tmp_path / "source", max_length=64, num_mel_bins=32)
    assert all(
        torch.equal(tensor, expected.state_dict()[name]) for name, tensor in loaded.state_dict().items()
    )
    extractor = ASTFeatureExtractor.from_pretrained(tmp_path / "out")
    assert (extractor.max_length, extractor.num_mel_bins) == (64, 32)


def timm_state() -> State:
    """Return the state dict of a distilled image transformer with timm's names and LayerScale."""
    state = {name.removeprefix("module.v."): tensor for name, tensor in random_original(2, 9).items()}
    state = {name: tensor for name, tensor in state.items() if "mlp_head" not in name}
    state["patch_embed.proj.weight"] = torch.randn(192, 3, 16, 16) / 16
    return {**state, "blocks.0.ls1.gamma": torch.randn(192), "blocks.0.ls2.gamma": torch.randn(192)}


@pytest.mark.parametrize("form", ["file", "folder"])
def test_timm_weights(form: str, tmp_path: Path) -> None:
    source = tmp_path / "deit.pth"
    if form == "file":
        saved(timm_state(), source)
    else:
        source = tmp_path / "deit"
        source.mkdir()
        (source / "config.json").write_text(json.dumps({"architecture": "deit_tiny_distilled_patch16_224"}))
        save_file(timm_state(), source / "model.safetensors")
    lines = converted_lines(source, tmp_path / "out", ConversionOptions(data_set="speech_commands_v2"))
    config = ASTModel.from_pretrained(tmp_path / "out").config
    assert (config.max_length, config.layer_norm_eps, config.id2label[0]) == (128, 1e-6, "backward")
    assert ASTFeatureExtractor.from_pretrained(tmp_path / "out").mean == -6.845978
    assert not any("AudioSet" in line for line in lines)


# The command


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(saved(original_state(), tmp_path / "model.pth"))
    out = str(tmp_path / "out")
    assert main(["convert", source, out, "--num_attention_heads", "3"]) == 65
    assert "[AST-E108] geometry: 40 patches" in capsys.readouterr().err
    sizes = ["--max_length", "100", "--num_mel_bins", "64", "--frequency_stride", "10", "--time_stride", "12"]
    more = ["--num_attention_heads", "3", "--mean", "-4", "--std", "4.5"]
    assert main(["convert", source, out, *sizes, *more]) == 0
    printed = capsys.readouterr().out
    assert "5 x 8 patches; mean -4.0000, std 4.5000" in printed
    assert printed.splitlines()[-1] == f"wrote      {out}"
    assert main(["convert", str(tmp_path / "absent.pth"), str(tmp_path / "other")]) == 65
    assert "E306" in capsys.readouterr().err
