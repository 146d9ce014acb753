"""LoRA: the trained parameters; equal logits of an adapter on its base and merged into it."""

from __future__ import annotations

import json
import re
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
import transformers
from accelerate.state import AcceleratorState
from conftest import largest_gap, randomise, run_fresh
from hub_server import Hub
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from ast_hf import (
    ASTConfig,
    AstConfigError,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AstRunError,
    cli,
    push_folder,
)
from ast_hf.adapters.lora import TARGETS, Adapter, backbone_digest
from ast_hf.training import AdapterOptions, Recipe, Report, finetune, merge_adapter, prepare
from training.runs import VARIED, Stop, digest, optimizer_digest, recipe

pytestmark = pytest.mark.filterwarnings("ignore:.*W303", "ignore:.*gradient_checkpointing")
BLOCK = r"audio_spectrogram_transformer\.encoder\.layer\.[01]\."
STATISTICS = {"features": {"mean": -5.0, "std": 4.0}}


@pytest.fixture(scope="module")
def base(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint with three labels whose weights all differ from their initial values. Read only."""
    folder = tmp_path_factory.mktemp("base") / "private"
    randomise(ASTForAudioClassification.from_pretrained(tiny_checkpoint)).save_pretrained(folder)
    ASTFeatureExtractor.from_pretrained(tiny_checkpoint).save_pretrained(folder)
    return folder


def plan(clips: Path, base: Path, options: dict[str, Any] | None = None, **training: Any) -> Recipe:
    values = {
        "model": {"base": str(base), "config": {}},
        "adapter": {"rank": 4},
        **STATISTICS,
        **(options or {}),
    }
    return recipe(clips, values, **{"learning_rate": 1e-2, **training})


@pytest.fixture(scope="module")
def adapted(clips: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return a finished run of six steps. Read only."""
    return finetune(plan(clips, base), tmp_path_factory.mktemp("adapted"))


def spectrograms(bins: int = 32) -> torch.Tensor:
    return torch.randn(3, 64, bins, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(spectrograms()).logits


# ---------------------------------------------------------------- what is trained


def test_only_low_rank_updates_and_the_classifier_change(adapted: Report, base: Path) -> None:
    before, after = load_file(base / "model.safetensors"), load_file(adapted.folder / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    layers = {name for name in changed if not name.startswith("classifier.")}
    assert changed - layers == {f"classifier.{part}" for part in ("layernorm.weight", "layernorm.bias")} | {
        f"classifier.dense.{part}" for part in ("weight", "bias")
    }
    assert len(layers) == 2 * 2  # blocks, query and value
    for name in layers:
        assert re.fullmatch(BLOCK + r"attention\.attention\.(query|value)\.weight", name)
        sizes = torch.linalg.svdvals((after[name] - before[name]).double())
        assert sizes[3] > 1e-5 > 1e-6 > sizes[4]  # of 24: the rank is four


@pytest.mark.parametrize("target", TARGETS)
def test_targets_are_the_layers_of_that_name(target: str) -> None:
    model = ASTForAudioClassification(small())
    Adapter(model, AdapterOptions(rank=2, targets=[target]), "base")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    layers = {name.partition(".lora_")[0] for name in trained if not name.startswith("classifier.")}
    assert len(layers) == 2
    assert all(re.fullmatch(BLOCK + re.escape(TARGETS[target]), name) for name in layers)


def small(**fields: Any) -> ASTConfig:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    return ASTConfig(**sizes, patch_size=16, num_mel_bins=32, max_length=64, num_labels=3, **fields)


def test_training_starts_at_the_base(clips: Path, base: Path, tmp_path: Path) -> None:
    run = prepare(plan(clips, base), tmp_path)
    plain = ASTForAudioClassification.from_pretrained(base)
    pooled = [model.base_model.eval()(spectrograms()).pooler_output for model in (run.trainer.model, plain)]
    assert torch.equal(*pooled)


def test_rank_zero_trains_no_adapter(clips: Path, base: Path, tmp_path: Path) -> None:
    trainer = prepare(plan(clips, base, {"adapter": {"rank": 0}}), tmp_path).trainer
    assert trainer.adapter is None
    assert all(
        parameter.requires_grad and "lora" not in name for name, parameter in trainer.model.named_parameters()
    )
    trainer.save_model(str(tmp_path))
    assert not (tmp_path / "adapter").exists()


def test_alpha_and_dropout_scale_and_drop() -> None:
    terms = []
    for alpha in (8.0, 2.0):
        model = randomise(ASTForAudioClassification(small()))
        adapter = Adapter(model, AdapterOptions(rank=4, alpha=alpha, dropout=0.5), "base")
        before = {name.replace(".base_layer", ""): part.clone() for name, part in model.state_dict().items()}
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                torch.nn.init.normal_(parameter)
        name = "audio_spectrogram_transformer.encoder.layer.1.attention.attention.value.weight"
        terms.append(adapter.plain_state()[name] - before[name])
        first, second = (model.train()(spectrograms()).logits for _ in range(2))
        assert largest_gap(first, second) > 1e-3  # dropout
    assert torch.allclose(terms[0], 4 * terms[1], atol=1e-5)


@pytest.mark.parametrize("targets", [["query", "value"], list(TARGETS)], ids=len)
def test_number_of_trained_parameters(adapted: Report, targets: list[str]) -> None:
    """Rank 4 on 24 x 24 is 4 * 48 numbers, on 24 x 48 it is 4 * 72, in two blocks; the head is 2 * 24 + 24 * 2 + 2."""
    expected = {2: 2 * (2 * 192) + 98, 6: 2 * (4 * 192 + 2 * 288) + 98}[len(targets)]
    model = ASTForAudioClassification.from_pretrained(adapted.folder)
    Adapter(model, AdapterOptions(rank=4, targets=targets), "base")
    assert model.num_parameters(only_trainable=True) == expected
    if len(targets) == 2:
        assert adapted.trained_parameters == expected == 866
        assert json.loads((adapted.folder / "results.json").read_text())["trained_parameters"] == 866
        assert (
            "of which 866 were trained: a LoRA adapter of rank 4 ("
            in (adapted.folder / "README.md").read_text()
        )


def test_gradient_checkpointing_reaches_the_adapter() -> None:
    model = randomise(ASTForAudioClassification(small()))
    Adapter(model, AdapterOptions(rank=2), "base")
    model.train().gradient_checkpointing_enable()
    model(spectrograms(), labels=torch.tensor([0, 1, 2])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_layer_decay_applies_to_adapters(clips: Path, base: Path, tmp_path: Path) -> None:
    trainer = prepare(plan(clips, base, {"optimization": {"layer_decay": 0.5}}), tmp_path).trainer
    rates = {id(p): group["lr"] for group in trainer.create_optimizer().param_groups for p in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        if parameter.requires_grad:
            depth = 0 if name.startswith("classifier") else 2 - int(name.split(".")[3])
            assert rates.pop(id(parameter)) == pytest.approx(1e-2 * 0.5**depth), name
    assert not rates


# ---------------------------------------------------------------- what the folder holds


@pytest.mark.slow
def test_folder_is_a_plain_checkpoint_for_stock_transformers(adapted: Report, tmp_path: Path) -> None:
    torch.save(spectrograms(), tmp_path / "input.pt")
    printed = run_fresh(
        "import json, sys, torch\n"
        "from transformers import AutoFeatureExtractor, AutoModelForAudioClassification as Auto\n"
        f"model, info = Auto.from_pretrained({str(adapted.folder)!r}, output_loading_info=True)\n"
        f"AutoFeatureExtractor.from_pretrained({str(adapted.folder)!r})\n"
        f"logits = model.eval()(torch.load({str(tmp_path / 'input.pt')!r})).logits.tolist()\n"
        "wrong = [name for names in (info['missing_keys'], info['unexpected_keys']) for name in names]\n"
        "print(json.dumps([logits, wrong, 'ast_hf' in sys.modules, model.config.id2label]))",
        timeout=600,
    )
    answer, wrong, ours, labels = json.loads(printed.splitlines()[-1])
    assert (wrong, ours, labels) == ([], False, {"0": "noise", "1": "tone"})
    expected = logits(ASTForAudioClassification.from_pretrained(adapted.folder))
    assert largest_gap(torch.tensor(answer), expected) <= 1e-5


def test_peft_reads_the_adapter(adapted: Report, base: Path) -> None:
    folder = adapted.folder / "adapter"
    start = ASTForAudioClassification.from_pretrained(base, config=ASTConfig.from_pretrained(folder))
    before = logits(start)
    after = logits(peft.PeftModel.from_pretrained(start, str(folder)))
    assert largest_gap(after, before) > 0.1
    assert largest_gap(after, logits(ASTForAudioClassification.from_pretrained(adapted.folder))) <= 1e-5


def test_results_are_those_of_the_merged_folder(adapted: Report, clips: Path) -> None:
    from transformers import pipeline

    classifier = pipeline("audio-classification", model=str(adapted.folder))
    files = sorted((clips / "test").rglob("*.wav"))
    right = sum(classifier(str(file), top_k=1)[0]["label"] == file.parent.name for file in files)
    assert adapted.results["test"]["accuracy"] == right / len(files)


def test_a_pushed_adapter_is_merged_from_the_hub(
    hub: Hub,
    base: Path,
    clips: Path,
    tmp_path: Path,
) -> None:
    """Base, merged model and adapter are three repositories; base and adapter give the merged model again."""
    card = {"base_model": "user/base"}
    report = finetune(plan(clips, base, {"card": card}), tmp_path / "run")
    home = shutil.copytree(base, tmp_path / "base")
    (home / "README.md").write_text(
        "---\nlibrary_name: transformers\npipeline_tag: audio-classification\n---\n# Base\n"
    )
    push_folder(home, "user/base")
    push_folder(report.folder, "user/merged")
    push_folder(report.folder / "adapter", "user/lora")
    assert set(hub.files("user/lora")) == {
        *(
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
            "config.json",
            "preprocessor_config.json",
        )
    }
    assert not [name for name in hub.files("user/merged") if "adapter" in name]
    adapter_card = ModelCard(hub.files("user/lora")["README.md"].content.decode())
    assert (adapter_card.data.library_name, adapter_card.data.base_model) == ("peft", "user/base")
    assert 'ast-hf merge "user/lora" my_model' in adapter_card.text

    merge_adapter("user/lora", tmp_path / "again")
    expected = logits(ASTForAudioClassification.from_pretrained("user/merged"))
    assert (
        largest_gap(logits(ASTForAudioClassification.from_pretrained(tmp_path / "again")), expected) <= 1e-5
    )
    snippet = re.search(r"```python\n(.*?)```", adapter_card.text, re.DOTALL)
    assert snippet is not None
    names: dict[str, Any] = {}
    exec(snippet[1], names)  # as on the page
    assert largest_gap(logits(names["model"]), expected) <= 1e-5


@pytest.mark.parametrize("change", ["base", "card", "weights"])
def test_incomplete_adapters_are_not_pushed(hub: Hub, adapted: Report, tmp_path: Path, change: str) -> None:
    folder = shutil.copytree(adapted.folder / "adapter", tmp_path / "adapter")
    settings = json.loads((folder / "adapter_config.json").read_text())
    if change != "base":  # which is a local folder
        (folder / "adapter_config.json").write_text(
            json.dumps({**settings, "base_model_name_or_path": "user/base"})
        )
    if change == "card":
        (folder / "README.md").write_text("# Adapter\n")
    if change == "weights":
        (folder / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(AstConfigError) as caught:
        push_folder(folder, "user/lora")
    errors = {
        "base": ("E705", "./private"),
        "card": ("E705", "library_name"),
        "weights": ("E306", "adapter_model"),
    }
    assert caught.value.code == errors[change][0]
    assert errors[change][1] in str(caught.value)
    assert hub.log == []


def test_adapter_files_hold_no_local_paths(adapted: Report, base: Path) -> None:
    config = json.loads((adapted.folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "./private"
    for path in adapted.folder.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".md", ".yaml"):
            assert str(base.parent) not in path.read_text(encoding="utf-8"), path


def test_training_checkpoint_is_plain_and_has_the_adapter(adapted: Report, base: Path) -> None:
    folder = next(adapted.folder.glob("checkpoint-6"))
    assert digest(load_file(folder / "model.safetensors")) == digest(
        load_file(adapted.folder / "model.safetensors")
    )
    assert logits(ASTForAudioClassification.from_pretrained(folder)).shape == (3, 2)
    names = {entry["name"] for entry in json.loads((folder / "manifest.json").read_text())["files"]}
    assert "adapter/adapter_model.safetensors" in names


def test_adapter_alone_is_refused_as_a_checkpoint(adapted: Report, capsys: pytest.CaptureFixture) -> None:
    folder = adapted.folder / "adapter"
    with pytest.raises(AstConfigError, match=r"E306.*adapter, not a whole model.*ast-hf merge"):
        ASTForAudioClassification.from_pretrained(folder)
    assert cli.main(["classify", str(folder), "clip.wav"]) == 65
    assert "ast-hf merge" in capsys.readouterr().err


# ---------------------------------------------------------------- going on

BUSY = {
    "augmentation": VARIED["augmentation"],
    "averaging_decay": 0.9,
    "optimization": {"layer_decay": 0.8},
    "patchout": {"time": 2, "unstructured": 1, "ramp_epochs": 1},
    "adapter": {"rank": 4, "dropout": 0.2, "targets": ["key", "output"]},
}


def everything(folder: Path) -> dict[str, Any]:
    """Return digests of the content of a training checkpoint."""
    weights = {path.name: digest(load_file(path)) for path in folder.rglob("*.safetensors")}
    return {**weights, "optimizer": optimizer_digest(folder)}


def test_resumed_run_equals_an_unbroken_one(clips: Path, base: Path, tmp_path: Path) -> None:
    busy = plan(clips, base, BUSY, save_strategy="steps", save_steps=2)
    unbroken = finetune(busy, tmp_path / "whole")
    broken = prepare(busy, tmp_path / "broken").trainer
    broken.add_callback(Stop(step=4))  # in the middle of the second epoch
    broken.train()
    report = finetune(busy, tmp_path / "broken", resume_from_checkpoint="auto")
    assert report.results == unbroken.results
    last = everything(tmp_path / "whole" / "checkpoint-6")
    assert len(last) == 4
    assert last == everything(tmp_path / "broken" / "checkpoint-6")
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        ended = [digest(load_file(tmp_path / run / name)) for run in ("whole", "broken")]
        assert ended[0] == ended[1] != last[Path(name).name]  # the final checkpoint has the average


def test_best_adapter_is_loaded_at_the_end(clips: Path, base: Path, tmp_path: Path) -> None:
    """The highest loss counts as the best; it comes first, so the last weights are not the best."""
    best = {"eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "loss"}
    options = {"data": {"validation_fraction": 0.25}}
    run = plan(clips, base, options, greater_is_better=True, save_total_limit=None, **best)
    trainer = prepare(run, tmp_path).trainer
    trainer.train()
    chosen = Path(trainer.state.best_model_checkpoint)
    weights = {path: digest(load_file(path / "model.safetensors")) for path in tmp_path.glob("checkpoint-*")}
    assert chosen != max(weights, key=lambda path: int(path.name.split("-")[1]))
    assert digest(trainer.adapter.plain_state()) == weights[chosen]
    assert len({str(value) for value in weights.values()}) == 2


def test_resuming_with_another_base_is_refused(
    adapted: Report, clips: Path, base: Path, tmp_path: Path
) -> None:
    checkpoint = str(adapted.folder / "checkpoint-6")
    other = tmp_path / "other"
    shutil.copytree(base, other)
    randomise(ASTForAudioClassification.from_pretrained(base), seed=2).save_pretrained(other)
    cases = {
        "on other weights": plan(clips, other),
        "the recipe has none": plan(clips, base, {"adapter": {"rank": 0}}),
        "does not fit": plan(clips, base, {"adapter": {"rank": 3}}),
        "lacks 4 tensors": plan(clips, base, {"adapter": {"rank": 4, "targets": ["query", "value", "key"]}}),
        "4 tensors that the model has no place for": plan(
            clips, base, {"adapter": {"rank": 4, "targets": ["query"]}}
        ),
    }
    for message, changed in cases.items():
        with pytest.raises(AstConfigError, match=rf"E30[56].*{message}"):
            prepare(changed, tmp_path / "out").trainer.train(resume_from_checkpoint=checkpoint)
    plain = tmp_path / "checkpoint-6"
    shutil.copytree(checkpoint, plain)
    shutil.rmtree(plain / "adapter")
    (plain / "manifest.json").unlink()
    with (
        pytest.warns(UserWarning, match="W403"),
        pytest.raises(AstConfigError, match=r"E306.*has an adapter"),
    ):
        prepare(plan(clips, base), tmp_path / "out").trainer.train(resume_from_checkpoint=str(plain))


def test_broken_adapter_is_never_saved(clips: Path, base: Path, tmp_path: Path) -> None:
    trainer = prepare(plan(clips, base), tmp_path).trainer
    with torch.no_grad():
        next(part for name, part in trainer.model.named_parameters() if "lora_B" in name)[0, 0] = torch.nan
    for save in (partial(trainer.merge_adapter, tmp_path), trainer.save_model):
        with pytest.raises(AstRunError, match=r"E501.*nothing is saved"):
            save()
        assert not list(tmp_path.rglob("*.safetensors"))


# ---------------------------------------------------------------- what is refused

BASE = {"base": "somewhere"}
#: mistake -> (sections of a recipe, part of the message)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown layer": ({"adapter": {"rank": 4, "targets": ["query", "valeu"]}}, "did you mean 'value'"),
    "no layer": ({"adapter": {"rank": 4, "targets": []}}, "adapter.targets: is empty"),
    "one layer without a list": (
        {"adapter": {"rank": 4, "targets": "query"}},
        "'query' is not a list of strings",
    ),
    "option misspelt": ({"adapter": {"rnk": 4}}, "did you mean 'rank'"),
    "negative rank": ({"adapter": {"rank": -1}}, "rank: -1 is negative"),
    "dropout of everything": ({"adapter": {"rank": 4, "dropout": 1.0}}, "dropout: 1.0 is outside"),
    "alpha zero": ({"adapter": {"rank": 4, "alpha": 0}}, "alpha: 0 is outside"),
    "options of no adapter": ({"adapter": {"alpha": 32}}, "adapter.rank: is 0"),
    "random start": ({"model": {}}, "model.base: is not set"),
    "image transformer": ({"model": {"vit": "somewhere"}}, "ast-hf convert"),
    "factored positions": ({"model": {**BASE, "factored_positions": True}}, "model.factored_positions"),
    "linear probe": ({"optimization": {"frozen": "backbone"}}, "optimization.frozen"),
    "reentrant checkpointing": (
        {
            "training": {
                "gradient_checkpointing": True,
                "gradient_checkpointing_kwargs": {"use_reentrant": True},
            }
        },
        "gradient",
    ),
}


@pytest.mark.parametrize(("sections", "message"), REFUSED.values(), ids=REFUSED)
def test_invalid_adapter_recipes_are_refused(sections: dict[str, Any], message: str) -> None:
    values = {"model": BASE, "adapter": {"rank": 4}}
    Recipe.from_dict(values)
    with pytest.raises(AstConfigError, match=rf"E307.*{re.escape(message)}"):
        Recipe.from_dict({**values, **sections})


def test_sharded_weights_are_refused(
    clips: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = SimpleNamespace(activation_checkpointing=False)  # set by accelerate under FSDP
    monkeypatch.setattr(AcceleratorState, "fsdp_plugin", plugin, raising=False)
    with pytest.raises(AstConfigError, match=r"E307.*adapter\.rank.*FSDP"):
        prepare(plan(clips, base), tmp_path)


def test_rank_above_the_width_is_refused() -> None:
    with pytest.raises(AstConfigError, match=r"E307.*25 is more.*24"):
        Adapter(ASTForAudioClassification(small()), AdapterOptions(rank=25), "base")


def test_same_recipe_with_and_without_adapter_reads_back() -> None:
    for adapter in (AdapterOptions(), AdapterOptions(rank=4, alpha=32.0, targets=["output", "key"])):
        written = Recipe.from_dict({"model": BASE, "adapter": vars(adapter)})
        assert Recipe.from_dict(written.to_dict()).adapter == adapter


# ---------------------------------------------------------------- merging


def test_merge_equals_the_checkpoint_of_the_run(
    adapted: Report, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["merge", str(adapted.folder / "adapter"), str(tmp_path / "plain")]
    assert cli.main(command) == 65  # the adapter does not store the folder of its base
    assert "--base" in capsys.readouterr().err
    assert cli.main([*command, "--base", str(base)]) == 0
    assert "largest difference" in capsys.readouterr().out
    for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
        assert (tmp_path / "plain" / name).read_bytes() == (adapted.folder / name).read_bytes(), name
    assert cli.main([*command, "--base", str(base)]) == 65  # exists already
    assert "is not empty" in capsys.readouterr().err


def test_merge_of_an_adapter_for_another_size_of_input(clips: Path, base: Path, tmp_path: Path) -> None:
    sized = {"model": {"base": str(base), "config": {"max_length": 48, "time_stride": 10}}}
    report = finetune(plan(clips, base, sized, num_train_epochs=1), tmp_path / "run")
    merge_adapter(report.folder / "adapter", tmp_path / "plain", base=str(base))
    for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
        assert (tmp_path / "plain" / name).read_bytes() == (report.folder / name).read_bytes(), name


STOCK = {"query": "q_proj", "attention.output.dense": "o_proj", "intermediate.dense": "fc1"}
#: arguments for peft on our AST; `STOCK` has transformers 5's names of the same layers.
PLAIN: dict[str, dict[str, Any]] = {
    "list": {"r": 4, "target_modules": ["query", "intermediate.dense"]},
    "patterns": {
        "r": 4,
        "target_modules": ["query", "attention.output.dense"],
        "rank_pattern": {"query": 2},
        "alpha_pattern": {"attention.output.dense": 32},
        "use_rslora": True,
        "layers_to_transform": [1],
    },
    "every linear layer": {"r": 2, "target_modules": "all-linear"},
    "dora": {"r": 2, "target_modules": ["query"], "use_dora": True},
}


def under_stock_names(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the same arguments with transformers 5's module names."""
    renamed = dict(arguments)
    if isinstance(arguments["target_modules"], list):
        renamed["target_modules"] = [STOCK[name] for name in arguments["target_modules"]]
    for field in ("rank_pattern", "alpha_pattern"):
        renamed[field] = {STOCK[name]: value for name, value in arguments.get(field, {}).items()}
    return renamed


def of_plain_peft(
    base: Path, folder: Path, arguments: dict[str, Any], *, stock: bool, **fields: Any
) -> torch.Tensor:
    """Write an adapter with random weights with peft alone; return its logits."""
    kind = transformers.ASTForAudioClassification if stock else ASTForAudioClassification
    model = kind.from_pretrained(base, ignore_mismatched_sizes=True, **fields)
    config = peft.LoraConfig(
        modules_to_save=["classifier"], **(under_stock_names(arguments) if stock else arguments)
    )
    wrapped = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(0)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    wrapped.save_pretrained(str(folder))
    return logits(wrapped)


@pytest.mark.parametrize("stock", [False, True], ids=["our names", "names of transformers 5"])
@pytest.mark.parametrize("arguments", PLAIN.values(), ids=PLAIN)
def test_merge_of_an_adapter_from_plain_peft(
    base: Path, tmp_path: Path, arguments: dict[str, Any], stock: bool
) -> None:
    expected = of_plain_peft(base, tmp_path / "adapter", arguments, stock=stock)
    merge_adapter(tmp_path / "adapter", tmp_path / "plain")  # peft stored the path of the base
    model, info = ASTForAudioClassification.from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    scale = max(1.0, expected.abs().max().item())
    assert largest_gap(logits(model), expected) <= 1e-5 * scale
    assert largest_gap(logits(ASTForAudioClassification.from_pretrained(base)), expected) > 0.1
    assert model.config.id2label == {0: "cat", 1: "dog", 2: "owl"}
    assert ASTFeatureExtractor.from_pretrained(tmp_path / "plain").max_length == 64


def test_labels_missing_from_the_adapter_have_to_be_given(base: Path, tmp_path: Path) -> None:
    fields = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}, "num_labels": 2}
    expected = of_plain_peft(base, tmp_path / "adapter", PLAIN["list"], stock=False, **fields)
    with pytest.raises(AstConfigError, match=r"E303.*2 outputs.*--labels"):
        merge_adapter(tmp_path / "adapter", tmp_path / "plain")
    assert not (tmp_path / "plain").exists()
    for names, multi_label, kind in (("x\ny", None, "single"), ("x\ny", True, "multi")):
        (tmp_path / "labels.txt").write_text(names)
        plain = tmp_path / kind
        merge_adapter(tmp_path / "adapter", plain, labels=tmp_path / "labels.txt", multi_label=multi_label)
        model = ASTForAudioClassification.from_pretrained(plain)
        assert model.config.id2label == {0: "x", 1: "y"}
        assert model.config.problem_type == f"{kind}_label_classification"
        assert largest_gap(logits(model), expected) <= 1e-4


def test_half_precision_base_is_merged_in_float32(base: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    ASTForAudioClassification.from_pretrained(base).to(torch.bfloat16).save_pretrained(half)
    ASTFeatureExtractor.from_pretrained(base).save_pretrained(half)
    of_plain_peft(half, tmp_path / "adapter", PLAIN["list"], stock=False, dtype=torch.float32)
    merge_adapter(tmp_path / "adapter", tmp_path / "plain")
    assert {part.dtype for part in load_file(tmp_path / "plain" / "model.safetensors").values()} == {
        torch.float32
    }


def spoil(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def lose_one(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[next(name for name in tensors if "lora_B" in name)]


def add_one(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name in tensors if ".layer.0." in name and "lora_B" in name)
    tensors[name.replace(".layer.0.", ".layer.7.")] = tensors[name].clone()


def cut_one(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name in tensors if "lora_B" in name)
    tensors[name] = tensors[name][:, :2].contiguous()


@pytest.mark.parametrize(
    ("change", "message"), [(lose_one, "lacks 1 tensors"), (add_one, "holds"), (cut_one, "does not fit")]
)
def test_broken_adapters_are_refused(
    adapted: Report, base: Path, tmp_path: Path, change: Any, message: str
) -> None:
    shutil.copytree(adapted.folder / "adapter", tmp_path / "adapter")
    spoil(tmp_path / "adapter", change)
    with pytest.raises(AstConfigError, match=rf"E305.*{message}"):
        merge_adapter(tmp_path / "adapter", tmp_path / "plain", base=str(base))
    assert {path.name for path in tmp_path.iterdir()} == {"adapter"}


def test_merge_with_another_base_is_refused(adapted: Report, base: Path, tmp_path: Path) -> None:
    with pytest.raises(AstConfigError, match=r"E306.*other weights"):
        merge_adapter(adapted.folder / "adapter", tmp_path / "plain", base=str(adapted.folder))
    with pytest.raises(AstConfigError, match=r"E306.*complete checkpoint already.*adapter"):
        merge_adapter(adapted.folder, tmp_path / "plain")
    with pytest.raises(AstConfigError, match=r"E306.*holds no adapter"):
        merge_adapter(base, tmp_path / "plain")
    with pytest.raises(AstConfigError, match=r"E306.*does not exist"):
        merge_adapter(tmp_path / "nowhere", tmp_path / "plain")


@pytest.fixture(scope="module")
def plain_adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an adapter of plain peft, which names its base and has no digest of it. Read only."""
    folder = tmp_path_factory.mktemp("peft") / "adapter"
    of_plain_peft(base, folder, PLAIN["list"], stock=False)
    return folder


def other_base(folder: Path, base: Path, **sizes: int) -> Path:
    """Write a checkpoint like `base` with other weights, and with other sizes."""
    config = ASTForAudioClassification.from_pretrained(base).config
    config.update(sizes)
    torch.manual_seed(7)
    ASTForAudioClassification(config).save_pretrained(folder)
    ASTFeatureExtractor.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "sizes",
    [{}, {"hidden_size": 48, "intermediate_size": 96}, {"num_hidden_layers": 1}],
    ids=["other weights", "wider", "fewer layers"],
)
def test_an_adapter_of_plain_peft_is_not_merged_into_another_base(
    plain_adapter: Path,
    base: Path,
    tmp_path: Path,
    sizes: dict[str, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = other_base(tmp_path / "other", base, **sizes)
    capsys.readouterr()
    assert cli.main(["merge", str(plain_adapter), str(tmp_path / "plain"), "--base", str(other)]) == 65
    message = r"^\[AST-E306\].* was trained on .*private', whose weights are not those of .*other'.*--base"
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "plain").exists()


def test_a_copy_of_the_base_is_accepted_and_a_missing_base_is_named(
    plain_adapter: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(base, tmp_path / "copy")
    wide = other_base(tmp_path / "wide", base, hidden_size=48, intermediate_size=96)
    capsys.readouterr()
    assert cli.main(["merge", str(plain_adapter), str(tmp_path / "a"), "--base", str(tmp_path / "copy")]) == 0
    printed = capsys.readouterr()
    assert "no digest" not in printed.out
    assert printed.err == ""
    moved = tmp_path / "moved"
    shutil.copytree(plain_adapter, moved)
    config = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": "/elsewhere/model"})
    )
    assert cli.main(["merge", str(moved), str(tmp_path / "b")]) == 65
    assert re.search(r"AST-E306\].*/elsewhere/model.*--base", capsys.readouterr().err)
    assert (
        cli.main(["merge", str(moved), str(tmp_path / "b"), "--base", str(tmp_path / "copy"), "--json"]) == 0
    )
    printed = capsys.readouterr()
    assert "AST-W302" in printed.err
    assert "/elsewhere/model" in printed.err
    assert cli.main(["merge", str(moved), str(tmp_path / "c"), "--base", str(wide)]) == 65
    assert re.search(r"AST-E305\].*does not fit the base.*/elsewhere/model", capsys.readouterr().err)
    assert json.loads(printed.out)["folder"] == str(tmp_path / "b")


def test_digest_ignores_the_input_size(base: Path) -> None:
    expected = backbone_digest(ASTForAudioClassification.from_pretrained(base))
    sized = ASTForAudioClassification.from_pretrained(base, max_length=48, patch_size=8)
    assert backbone_digest(sized) == expected
    with torch.no_grad():
        sized.base_model.layernorm.bias[3] += 1e-6
    assert backbone_digest(sized) != expected
