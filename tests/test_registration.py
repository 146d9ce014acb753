"""Changes that `import ast_hf` makes in transformers, each tested in a fresh process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, run_fresh
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

#: Functions for the fresh processes; the first call imports transformers.
PRELUDE = """
import json, sys
import numpy as np

FOLDERS = {folders!r}
AUDIO = {{"array": np.load({clip!r}), "sampling_rate": 16_000}}

def owner(thing):
    return type(thing).__module__.split(".")[0]

def providers(folder):
    "Return the package of what the Auto classes and the pipeline return."
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, pipeline
    pipe = pipeline("audio-classification", model=folder)
    return {{
        "AutoConfig": owner(AutoConfig.from_pretrained(folder)),
        "AutoModel": owner(AutoModel.from_pretrained(folder)),
        "AutoModelForAudioClassification": owner(AutoModelForAudioClassification.from_pretrained(folder)),
        "AutoFeatureExtractor": owner(AutoFeatureExtractor.from_pretrained(folder)),
        "pipeline": owner(pipe),
        "its model": owner(pipe.model),
        "its extractor": owner(pipe.feature_extractor),
    }}

def common_providers():
    first, second = (providers(FOLDERS[name]) for name in ("ours", "stock"))
    assert first == second, (first, second)
    return first

def logits(folder):
    import torch
    from transformers import AutoModelForAudioClassification
    model = AutoModelForAudioClassification.from_pretrained(folder).eval()
    values = torch.linspace(-1, 1, 64 * 32).sin().reshape(1, 64, 32)
    with torch.no_grad():
        return model(values).logits[0].tolist()

def scores(folder):
    from transformers import pipeline
    answer = pipeline("audio-classification", model=folder)(dict(AUDIO))
    return {{entry["label"]: entry["score"] for entry in answer}}

def wav2vec2():
    from transformers import pipeline
    pipe = pipeline("audio-classification", model=FOLDERS["wav2vec2"])
    kind = type(pipe).__module__ + "." + type(pipe).__qualname__
    return [kind, owner(pipe.model), pipe(dict(AUDIO)), pipe(dict(AUDIO), top_k=1, unknown_argument=1)]

def report(**values):
    print("REPORT" + json.dumps(values))
"""
ENTRIES = (
    "AutoConfig",
    "AutoModel",
    "AutoModelForAudioClassification",
    "AutoFeatureExtractor",
    "pipeline",
    "its model",
    "its extractor",
)
ALL_OURS, ALL_STOCK = dict.fromkeys(ENTRIES, "ast_hf"), dict.fromkeys(ENTRIES, "transformers")
STOCK_PIPELINE = "transformers.pipelines.audio_classification.AudioClassificationPipeline"


@pytest.fixture(scope="module")
def folders(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return checkpoints of an AST saved by us, of one saved by transformers, and of another model."""
    root = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(3)
    stock = ASTForAudioClassification(ASTConfig(**TINY, num_labels=3))
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.normal_(std=0.3)
    stock.save_pretrained(root / "stock")
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(root / "stock")
    layers = {
        "conv_dim": (8, 8),
        "conv_kernel": (10, 3),
        "conv_stride": (5, 2),
        "num_conv_pos_embeddings": 16,
    }
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = Wav2Vec2Config(
        **layers, **sizes, num_conv_pos_embedding_groups=2, classifier_proj_size=8, num_labels=3
    )
    Wav2Vec2ForSequenceClassification(config).save_pretrained(root / "wav2vec2")
    Wav2Vec2FeatureExtractor().save_pretrained(root / "wav2vec2")
    return {"ours": str(tiny_checkpoint), "stock": str(root / "stock"), "wav2vec2": str(root / "wav2vec2")}


@pytest.fixture
def fresh(folders: dict[str, str], tone: np.ndarray, tmp_path: Path) -> Any:
    """Return a function that runs code after the prelude in a fresh process and returns its report."""
    np.save(tmp_path / "clip.npy", tone[:9_600])
    prelude = PRELUDE.format(folders=folders, clip=str(tmp_path / "clip.npy"))

    def run(code: str) -> dict[str, Any]:
        output = run_fresh(prelude + code)
        return json.loads(output[output.index("REPORT") + len("REPORT") :])

    return run


@pytest.mark.long
def test_import_does_not_import_transformers_and_can_be_undone(fresh: Any) -> None:
    seen = fresh("""
import ast_hf
modules = sorted(name for name in sys.modules if name.startswith("ast_hf"))
loaded = [name for name in ("transformers", "torch", "datasets", "soundfile") if name in sys.modules]
ast_hf.unregister()
without = providers(FOLDERS["ours"])
ast_hf.register()
report(modules=modules, loaded=loaded, without=without, again=common_providers(), public=dir(ast_hf))
""")
    assert seen["loaded"] == []
    assert len(seen["modules"]) <= 4, seen["modules"]
    assert seen["without"] == ALL_STOCK
    assert seen["again"] == ALL_OURS
    assert {"ASTConfig", "ASTForAudioClassification", "register", "unregister"} <= set(seen["public"])


@pytest.mark.long
def test_transformers_imported_first(fresh: Any) -> None:
    seen = fresh("""
before = common_providers()
numbers = {name: [logits(folder), scores(folder)] for name, folder in FOLDERS.items() if name != "wav2vec2"}
other = wav2vec2()
import ast_hf
imported = common_providers()
own_numbers = {name: [logits(folder), scores(folder)] for name, folder in FOLDERS.items() if name != "wav2vec2"}
own_other = wav2vec2()
ast_hf.unregister()
ast_hf.unregister()
taken_back, other_after = common_providers(), wav2vec2()
ast_hf.register()
ast_hf.register()
again = common_providers()
ast_hf.unregister()
report(before=before, numbers=numbers, other=other, imported=imported, own_numbers=own_numbers, own_other=own_other,
       taken_back=taken_back, other_after=other_after, again=again, finally_=providers(FOLDERS["ours"]))
""")
    assert (seen["before"], seen["taken_back"], seen["finally_"]) == (ALL_STOCK, ALL_STOCK, ALL_STOCK)
    assert (seen["imported"], seen["again"]) == (ALL_OURS, ALL_OURS)
    for name in ("ours", "stock"):
        (logits, scores), (own_logits, own_scores) = seen["numbers"][name], seen["own_numbers"][name]
        assert own_logits == pytest.approx(logits, abs=1e-5)
        assert own_scores == pytest.approx(scores, abs=1e-4)
    assert max(seen["numbers"]["stock"][0]) - min(seen["numbers"]["stock"][0]) > 0.1
    assert seen["other"][:2] == [STOCK_PIPELINE, "transformers"]
    assert seen["own_other"] == seen["other_after"] == seen["other"]


@pytest.mark.long
def test_our_model_is_imported_first(fresh: Any, tmp_path: Path) -> None:
    target = tmp_path / "saved"
    seen = fresh(f"""
from ast_hf import ASTForAudioClassification
import ast_hf
imported = common_providers()
other = wav2vec2()
from transformers import ASTConfig, AutoConfig, AutoModel, pipeline
pipe = pipeline("audio-classification", model=FOLDERS["ours"])
pipe.save_pretrained({str(target)!r})
sizes = dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=12)
kinds = [owner(AutoModel.from_config(kind(**sizes))) for kind in (ast_hf.ASTConfig, ASTConfig)]
report(imported=imported, other=other, kinds=kinds, saved=providers({str(target)!r}),
       made=owner(AutoConfig.for_model("audio-spectrogram-transformer")))
""")
    assert (seen["imported"], seen["saved"]) == (ALL_OURS, ALL_OURS)
    assert seen["other"][:2] == [STOCK_PIPELINE, "transformers"]
    assert seen["kinds"] == ["ast_hf", "ast_hf"]  # transformers' own configuration is converted
    assert seen["made"] == "ast_hf"
    files = sorted(target.glob("*.json"))
    assert {"config.json", "preprocessor_config.json"} <= {file.name for file in files}
    for file in files:
        assert (
            not {"auto_map", "custom_pipelines", "trust_remote_code"} & json.loads(file.read_text()).keys()
        ), file
    assert list(target.glob("*.py")) == []


@pytest.mark.long
def test_another_model_is_imported_first(fresh: Any) -> None:
    seen = fresh(
        "import ast_hf\nfrom transformers import ViTModel\nreport(imported=common_providers(), other=wav2vec2()[0])"
    )
    assert seen == {"imported": ALL_OURS, "other": STOCK_PIPELINE}


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_any_order_of_imports_works_with_any_hash_seed(seed: str) -> None:
    code = "from transformers import pipeline; from ast_hf import ASTConfig; import ast_hf.modeling_ast; print('fine')"
    assert run_fresh(code, env={"PYTHONHASHSEED": seed}).strip() == "fine"
