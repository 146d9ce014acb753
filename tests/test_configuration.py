"""`ASTConfig`: the patch grid, the file format shared with transformers, and invalid configurations."""

from __future__ import annotations

import copy
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, run_fresh
from transformers import ASTConfig as StockConfig
from transformers import PreTrainedModel

from ast_hf import (
    ASTConfig,
    AstConfigError,
    ASTEnsembleConfig,
    ASTForAudioClassification,
    AstHfError,
    AstHfWarning,
    ASTModel,
)
from ast_hf.timeline_fields import LOWEST_DB, TIMELINE_FIELDS
from ast_hf.timeline_fields import MEANS as TIMELINE_MEANS
from ast_hf.timeline_fields import METHODS as TIMELINE_METHODS
from ast_hf.timelines import rules as timeline_rules
from ast_hf.timelines.rules import TimelineRules, rule_names

#: (mel bins, frames, stride) -> (grid, patches): the original's settings, patch 16.
GRIDS = [
    ((128, 1024, 10), ((12, 101), 1212)),
    ((128, 1024, 12), ((10, 85), 850)),
    ((128, 1024, 14), ((9, 73), 657)),
    ((128, 1024, 16), ((8, 64), 512)),
    ((128, 512, 10), ((12, 50), 600)),
    ((128, 128, 10), ((12, 12), 144)),
    ((16, 16, 10), ((1, 1), 1)),
]

#: id -> field values in addition to TINY (64 frames, 32 bins, 3 heads of 24), code, names in the message.
BAD_FIELDS: list[tuple[str, dict[str, Any], str, list[str]]] = [
    ("patch-over-bins", {"patch_size": 64, "max_length": 64}, "E302", ["num_mel_bins", "patch_size"]),
    ("frames-under-patch", {"max_length": 8}, "E302", ["max_length", "patch_size", "8"]),
    ("frames-0", {"max_length": 0}, "E302", ["max_length", "0"]),
    ("frames-negative", {"max_length": -64}, "E302", ["max_length", "-64"]),
    ("bins-0", {"num_mel_bins": 0}, "E302", ["num_mel_bins", "0"]),
    ("bins-negative", {"num_mel_bins": -1}, "E302", ["num_mel_bins", "-1"]),
    ("patch-0", {"patch_size": 0}, "E302", ["patch_size", "0"]),
    ("patch-negative", {"patch_size": -1}, "E302", ["patch_size", "-1"]),
    ("patch-list", {"patch_size": [16, 8]}, "E302", ["patch_size", "[16, 8]"]),
    ("patch-float", {"patch_size": 16.0}, "E302", ["patch_size", "16.0"]),
    ("patch-bool", {"patch_size": True}, "E302", ["patch_size", "True"]),
    ("time-stride-0", {"time_stride": 0}, "E302", ["time_stride", "0"]),
    ("frequency-stride-negative", {"frequency_stride": -10}, "E302", ["frequency_stride", "-10"]),
    ("time-stride-over-axis", {"time_stride": 1000}, "E302", ["time_stride", "1000", "max_length"]),
    (
        "frequency-stride-over-axis",
        {"frequency_stride": 33},
        "E302",
        ["frequency_stride", "33", "num_mel_bins"],
    ),
    (
        "heads-do-not-divide",
        {"hidden_size": 30, "num_attention_heads": 4},
        "E302",
        ["hidden_size", "heads=4"],
    ),
    ("heads-0", {"num_attention_heads": 0}, "E302", ["num_attention_heads", "0"]),
    ("heads-negative", {"num_attention_heads": -4}, "E302", ["num_attention_heads", "-4"]),
    ("heads-over-width", {"num_attention_heads": 64}, "E302", ["hidden_size", "num_attention_heads=64"]),
    ("width-0", {"hidden_size": 0}, "E302", ["hidden_size", "0"]),
    ("width-negative", {"hidden_size": -32}, "E302", ["hidden_size", "-32"]),
    ("layers-0", {"num_hidden_layers": 0}, "E302", ["num_hidden_layers", "0"]),
    ("layers-negative", {"num_hidden_layers": -1}, "E302", ["num_hidden_layers", "-1"]),
    ("mlp-0", {"intermediate_size": 0}, "E302", ["intermediate_size", "0"]),
    ("activation", {"hidden_act": "nope"}, "E302", ["hidden_act", "'nope'", "'gelu'"]),
    ("activation-list", {"hidden_act": ["gelu"]}, "E302", ["hidden_act", "'gelu'"]),
    ("dropout-over-1", {"hidden_dropout_prob": 1.5}, "E302", ["hidden_dropout_prob", "1.5"]),
    ("dropout-1", {"attention_probs_dropout_prob": 1.0}, "E302", ["attention_probs_dropout_prob", "1.0"]),
    ("dropout-text", {"hidden_dropout_prob": "0.1"}, "E302", ["hidden_dropout_prob", "'0.1'"]),
    ("bias-number", {"qkv_bias": 1}, "E302", ["qkv_bias"]),
    ("range-0", {"initializer_range": 0.0}, "E302", ["initializer_range"]),
    ("eps-0", {"layer_norm_eps": 0.0}, "E302", ["layer_norm_eps", "0.0"]),
    ("eps-negative", {"layer_norm_eps": -1.0}, "E302", ["layer_norm_eps", "-1.0"]),
    ("eps-nan", {"layer_norm_eps": math.nan}, "E302", ["layer_norm_eps", "nan"]),
    ("head-eps-0", {"classifier_layer_norm_eps": 0}, "E302", ["classifier_layer_norm_eps"]),
    ("duplicate-label", {"id2label": {0: "cat", 1: "cat"}}, "E303", ["id2label", "'cat'"]),
    ("ids-from-1", {"id2label": {1: "cat", 2: "dog"}}, "E303", ["id2label", "[1, 2]"]),
    ("ids-gap", {"id2label": {0: "cat", 2: "dog"}}, "E303", ["id2label", "[0, 2]"]),
    ("empty-label", {"id2label": {0: "cat", 1: ""}}, "E303", ["id2label", "label 1"]),
    ("label-fraction", {"id2label": {0: "cat", 1: 0.5}}, "E303", ["id2label", "label 1", "0.5"]),
    ("temperature-0", {"temperature": 0.0}, "E302", ["temperature", "0.0"]),
    ("temperature-negative", {"temperature": -1}, "E302", ["temperature", "-1"]),
    ("temperature-infinite", {"temperature": math.inf}, "E302", ["temperature", "inf"]),
    ("temperature-text", {"temperature": "1"}, "E302", ["temperature", "'1'"]),
    ("timeline-list", {"timeline": [0.5]}, "E302", ["timeline", "an object of rules"]),
    ("timeline-name", {"timeline": {"treshold": 0.5}}, "E302", ["timeline.treshold", "'threshold'"]),
    ("timeline-threshold-0", {"timeline": {"threshold": 0.0}}, "E302", ["timeline.threshold", "(0, 1]"]),
    ("timeline-threshold-text", {"timeline": {"threshold": "0.5"}}, "E302", ["timeline.threshold", "'0.5'"]),
    ("timeline-too-few", {"timeline": {"threshold": [0.5]}}, "E302", ["timeline.threshold", "2 labels"]),
    ("timeline-low-over-1", {"timeline": {"low_threshold": [0.5, 1.5]}}, "E302", ["low_threshold", "1.5"]),
    (
        "timeline-crossed",
        {"timeline": {"threshold": [0.5, 0.4], "low_threshold": 0.45}},
        "E302",
        ["timeline.low_threshold", "0.45 of label 1", "0.4"],
    ),
    ("timeline-min", {"timeline": {"min_seconds": -1}}, "E302", ["timeline.min_seconds", "-1"]),
    ("timeline-gap", {"timeline": {"gap_seconds": math.nan}}, "E302", ["timeline.gap_seconds", "nan"]),
    ("timeline-silence", {"timeline": {"silence_db": 3.0}}, "E302", ["timeline.silence_db", "3.0"]),
    ("timeline-method", {"timeline": {"method": "median"}}, "E302", ["timeline.method", "hysteresis"]),
    ("timeline-window", {"timeline": {"window_seconds": 0}}, "E302", ["timeline.window_seconds", "0"]),
    (
        "timeline-hop",
        {"timeline": {"window_seconds": 1.0, "hop_seconds": 2.0}},
        "E302",
        ["timeline.hop_seconds", "above window_seconds"],
    ),
    ("timeline-bool", {"timeline": {"column_weight": True}}, "E302", ["timeline.column_weight", "True"]),
    ("thresholds-number", {"thresholds": 0.5}, "E302", ["thresholds", "0.5"]),
    ("thresholds-over-1", {"thresholds": [0.5, 1.5]}, "E302", ["thresholds", "1.5"]),
    ("thresholds-below-0", {"thresholds": [-0.1, 0.5]}, "E302", ["thresholds", "-0.1"]),
    ("thresholds-text", {"thresholds": ["0.5", 0.5]}, "E302", ["thresholds", "'0.5'"]),
    ("thresholds-too-few", {"thresholds": [0.5]}, "E302", ["thresholds", "length 1", "2 labels"]),
    ("thresholds-too-many", {"thresholds": [0.5, 0.5, 0.5]}, "E302", ["thresholds", "length 3", "2 labels"]),
    ("key-text", {"id2label": {"x": "cat", "y": "dog"}}, "E303", ["id2label", "'x'"]),
    ("list", {"id2label": ["cat", "dog"]}, "E303", ["id2label"]),
    ("problem-type", {"problem_type": "wat"}, "E302", ["problem_type", "'wat'"]),
    (
        "problem-near",
        {"problem_type": "multi_label_clasification"},
        "E302",
        ["did you mean 'multi_label_classification'?"],
    ),
]

#: The same for values that are only arguments, not fields of a file or attributes.
BAD_ARGUMENTS: list[tuple[str, dict[str, Any], str, list[str]]] = [
    ("label2id-swapped", {"label2id": {0: "a", 1: "b"}}, "E303", ["label2id"]),
    ("labels-0", {"num_labels": 0}, "E302", ["num_labels", "0"]),
    ("labels-negative", {"num_labels": -1}, "E302", ["num_labels", "-1"]),
    ("labels-contradict", {"num_labels": 3, "id2label": {0: "a", 1: "b"}}, "E303", ["num_labels", "3", "2"]),
    ("misspelt", {"max_lenght": 2048}, "E302", ["max_lenght", "did you mean 'max_length'?"]),
    ("misspelt-common", {"num_label": 2}, "E302", ["num_label", "did you mean 'num_labels'?"]),
    ("unknown", {"zzz": 1}, "E302", ["zzz", "use one of"]),
]


def cases(*tables: list[tuple]) -> Any:
    rows = [row for table in tables for row in table]
    return pytest.mark.parametrize(
        ("values", "code", "names"), [row[1:] for row in rows], ids=[row[0] for row in rows]
    )


def assert_explains(error: AstConfigError, code: str, names: list[str]) -> None:
    """Assert one line with the code, the names and a fix."""
    message = str(error)
    assert error.code == code, message
    assert message.startswith(f"[AST-{code}] ASTConfig.")
    assert [name for name in names if name not in message] == []
    assert "Fix: " in message
    assert len(message) <= 300
    assert "\n" not in message


def write_config(folder: Path, **fields: Any) -> Path:
    content = {"model_type": "audio-spectrogram-transformer", **TINY, **fields}
    (folder / "config.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(("sizes", "expected"), GRIDS, ids=[f"{b}x{f}-stride{s}" for (b, f, s), _ in GRIDS])
def test_grid(sizes: tuple[int, int, int], expected: tuple) -> None:
    bins, frames, stride = sizes
    config = ASTConfig(num_mel_bins=bins, max_length=frames, frequency_stride=stride, time_stride=stride)
    assert (config.patch_grid, config.num_patches) == expected
    assert config.num_tokens == expected[1] + 2


def test_grid_with_different_strides_and_for_other_lengths() -> None:
    config = ASTConfig(num_mel_bins=64, max_length=100, frequency_stride=10, time_stride=12)
    assert config.patch_grid == (5, 8)
    assert (config.grid_for(16), config.grid_for(27), config.grid_for(28)) == ((5, 1), (5, 1), (5, 2))


def test_defaults_equal_stock() -> None:
    ours, stock = ASTConfig().to_dict(), StockConfig().to_dict()
    assert ours.pop("classifier_layer_norm_eps") is None
    assert ours.pop("position_cut") == "start"
    assert (ours.pop("temperature"), ours.pop("thresholds"), ours.pop("timeline")) == (None, None, None)
    assert ours == stock


def test_head_eps_defaults_to_that_of_the_encoder() -> None:
    assert ASTConfig(layer_norm_eps=1e-6).head_eps == 1e-6
    assert ASTConfig(layer_norm_eps=1e-6, classifier_layer_norm_eps=1e-5).head_eps == 1e-5


CHANGED = {
    **TINY,
    "layer_norm_eps": 1e-6,
    "qkv_bias": False,
    "hidden_dropout_prob": 0.1,
    "problem_type": "multi_label_classification",
    "id2label": {0: "cat", 1: "dog", 2: "owl"},
    "label2id": {"cat": 0, "dog": 1, "owl": 2},
}


@pytest.mark.parametrize("writer", [ASTConfig, StockConfig], ids=["ours", "stock"])
@pytest.mark.parametrize("reader", [ASTConfig, StockConfig], ids=["read-by-ours", "read-by-stock"])
def test_files_round_trip_between_ours_and_stock(writer: Any, reader: Any, tmp_path: Path) -> None:
    writer(**CHANGED).save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = reader.from_pretrained(tmp_path)
    assert {name: getattr(config, name) for name in CHANGED} == CHANGED
    assert config.num_labels == 3
    assert type(config) is reader


def test_classifier_eps_survives_the_file(tmp_path: Path) -> None:
    ASTConfig(**TINY, classifier_layer_norm_eps=1e-5).save_pretrained(tmp_path)
    assert ASTConfig.from_pretrained(tmp_path).classifier_layer_norm_eps == 1e-5
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["max_length"] == 64
    assert saved["model_type"] == "audio-spectrogram-transformer"
    assert not {"auto_map", "custom_pipelines"} & saved.keys()


FITTED = {
    **TINY,
    "id2label": {0: "cat", 1: "dog", 2: "owl"},
    "temperature": 1.5,
    "thresholds": [0.0, 0.25, 1.0],
    "timeline": {
        "threshold": [0.25, 0.5, 1.0],
        "low_threshold": None,
        "min_seconds": 0.2,
        "hop_seconds": 0.1,
    },
}


def test_temperature_and_thresholds_survive_the_file(tmp_path: Path) -> None:
    ASTForAudioClassification(ASTConfig(**FITTED)).save_pretrained(tmp_path)
    config = ASTForAudioClassification.from_pretrained(tmp_path).config
    assert (config.temperature, config.thresholds) == (1.5, [0.0, 0.25, 1.0])
    assert config.timeline == FITTED["timeline"]


def test_rules_of_timelines_are_stored_as_plain_values() -> None:
    rules = {"threshold": np.array([0.25, 0.5], np.float64), "min_seconds": torch.tensor(0.5)}
    config = ASTConfig(**{**TINY, "num_labels": 2, "timeline": rules})
    assert config.timeline == {"threshold": [0.25, 0.5], "min_seconds": 0.5}
    assert json.loads(config.to_json_string())["timeline"] == config.timeline
    ensemble = ASTEnsembleConfig(members=["member-1"], id2label={0: "a", 1: "b"}, timeline=rules)
    assert ensemble.timeline == config.timeline
    with pytest.raises(AstHfError, match=r"ASTEnsembleConfig\.timeline\.threshold.*2 labels"):
        ASTEnsembleConfig(members=["member-1"], id2label={0: "a", 1: "b"}, timeline={"threshold": [0.5]})


def test_rules_that_are_stored_are_those_of_timelines() -> None:
    assert set(TIMELINE_FIELDS) == {*rule_names(), "window_seconds", "hop_seconds"}
    assert (TIMELINE_METHODS, TIMELINE_MEANS) == (timeline_rules.METHODS, timeline_rules.MEANS)
    assert LOWEST_DB == timeline_rules.LOWEST_DB == -200.0
    rules = TimelineRules(threshold=(0.25, 1.0), low_threshold=(0.0, 1.0)).as_dict()
    assert ASTConfig(**{**TINY, "num_labels": 2, "timeline": rules}).timeline == rules


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"num_labels": 3}, (1.5, [0.0, 0.25, 1.0], FITTED["timeline"])),
        ({"id2label": {0: "cat", 1: "dog", 2: "owl"}}, (1.5, [0.0, 0.25, 1.0], FITTED["timeline"])),
        ({"num_labels": 2}, (None, None, None)),
        (
            {"id2label": {0: "low", 1: "mid", 2: "high"}, "label2id": {"low": 0, "mid": 1, "high": 2}},
            (None, None, None),
        ),
        ({"num_labels": 2, "temperature": 3.0}, (3.0, None, None)),
        ({"num_labels": 2, "timeline": {"threshold": 0.4}}, (None, None, {"threshold": 0.4})),
    ],
)
def test_new_labels_drop_temperature_and_thresholds(
    arguments: dict[str, Any], expected: tuple, tmp_path: Path
) -> None:
    ASTConfig(**FITTED).save_pretrained(tmp_path)
    config = ASTConfig.from_pretrained(tmp_path, **arguments)
    assert (config.temperature, config.thresholds, config.timeline) == expected


@pytest.mark.slow
def test_stock_transformers_loads_fitted_temperature_and_thresholds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ASTForAudioClassification(ASTConfig(**FITTED)).eval()
    model.save_pretrained(tmp_path)
    values = torch.linspace(-1, 1, 64 * 32).reshape(1, 64, 32)
    with torch.inference_mode():
        expected = model(input_values=values).logits[0].tolist()
    printed = run_fresh(
        "import sys, torch\n"
        "from transformers import ASTForAudioClassification\n"
        f"model = ASTForAudioClassification.from_pretrained({str(tmp_path)!r}).eval()\n"
        "values = torch.linspace(-1, 1, 64 * 32).reshape(1, 64, 32)\n"
        "print(model(input_values=values).logits[0].tolist(), 'ast_hf' in sys.modules)\n"
        f"model.save_pretrained({str(tmp_path / 'again')!r})\n"
    )
    logits, loaded_ours = printed.strip().rsplit(" ", 1)
    assert json.loads(logits) == pytest.approx(expected, abs=1e-5)
    assert loaded_ours == "False"
    again = ASTConfig.from_pretrained(tmp_path / "again")
    assert (again.temperature, again.thresholds) == (None, [0.0, 0.25, 1.0])  # as in the docstring


@cases(BAD_FIELDS, BAD_ARGUMENTS)
def test_constructor_refuses_invalid_fields(values: dict[str, Any], code: str, names: list[str]) -> None:
    with pytest.raises(AstConfigError) as caught:
        ASTConfig(**{**TINY, **values})
    assert_explains(caught.value, code, names)


@cases(BAD_FIELDS)
def test_config_files_with_invalid_fields_are_refused(
    values: dict[str, Any], code: str, names: list[str], tmp_path: Path
) -> None:
    with pytest.raises(AstConfigError) as caught:
        ASTConfig.from_pretrained(write_config(tmp_path, **values))
    assert caught.value.code == code
    assert next(iter(values)) in str(caught.value) or names[0] in str(caught.value)


@cases(BAD_FIELDS)
def test_field_set_afterwards_is_refused_when_a_model_is_built(
    values: dict, code: str, names: list[str]
) -> None:
    config = ASTConfig(**TINY, num_labels=2)
    with pytest.raises(AstConfigError) as caught:  # noqa: PT012 (assigning may already refuse)
        for field, value in values.items():
            setattr(config, field, value)
        ASTForAudioClassification(config)
    assert_explains(caught.value, code, names)


def test_base_model_validates_its_configuration() -> None:
    config = ASTConfig(**TINY)
    config.hidden_size = 25
    with pytest.raises(AstConfigError, match=r"E302.*hidden_size"):
        ASTModel(config)


@pytest.mark.parametrize(
    ("values", "code", "message"),
    [
        ({"hidden_size": 12_000_000}, "E305", "hidden_size"),
        ({"intermediate_size": 10**9}, "E305", "intermediate_size"),
        ({"num_hidden_layers": 10**6}, "E305", "num_hidden_layers"),
        ({"max_length": 10**9}, "E302", "max_length"),
        ({"max_length": 300_000}, "E305", "position_embeddings"),
        ({"num_mel_bins": 10**9}, "E302", "num_mel_bins"),
        ({"num_mel_bins": 4_000}, "E305", "position_embeddings"),
        ({"num_labels": 10**9}, "E302", "num_labels"),
        ({"num_labels": 90_000}, "E305", "90000 labels"),
    ],
    ids=["width", "mlp", "layers", "frames", "hour", "bins", "more-bins", "labels", "more-labels"],
)
def test_size_beyond_the_weights_is_refused_before_allocating(
    values: dict[str, int],
    code: str,
    message: str,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def build(*args: Any, **kwargs: Any) -> None:
        pytest.fail("went on to build the model")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", build)
    write_config(tmp_path, **values)
    (tmp_path / "model.safetensors").symlink_to(tiny_checkpoint / "model.safetensors")
    with pytest.raises(AstConfigError, match=message) as caught:
        ASTForAudioClassification.from_pretrained(tmp_path)
    assert caught.value.code == code


def test_stride_beyond_the_patch_warns_of_gaps() -> None:
    with pytest.warns(AstHfWarning, match=r"W301.*time_stride.*20.*patch_size=16"):
        config = ASTConfig(**{**TINY, "time_stride": 20})
    assert config.patch_grid == (3, 3)


def test_stride_as_long_as_the_patch_does_not_warn(recwarn: pytest.WarningsRecorder) -> None:
    ASTConfig(**{**TINY, "time_stride": 16})
    assert [str(entry.message) for entry in recwarn] == []


def test_foreign_fields_of_a_file_are_kept(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    config = ASTConfig.from_pretrained(write_config(tmp_path, recorded_in="Oslo"))
    assert config.recorded_in == "Oslo"
    assert [str(entry.message) for entry in recwarn] == []
    config.save_pretrained(tmp_path / "again")
    assert ASTConfig.from_pretrained(tmp_path / "again").recorded_in == "Oslo"


def test_misspelt_field_of_a_file_is_kept_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(AstHfWarning, match=r"W302.*max_lenght.*'max_length'"):
        config = ASTConfig.from_pretrained(write_config(tmp_path, max_lenght=2048))
    assert (config.max_lenght, config.max_length) == (2048, 64)


def test_misspelt_argument_of_from_pretrained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AstConfigError, match=r"E302.*did you mean 'max_length'"):
        ASTConfig.from_pretrained(write_config(tmp_path), max_lenght=2048)


def test_arguments_of_from_pretrained_replace_fields(tmp_path: Path) -> None:
    config = ASTConfig.from_pretrained(write_config(tmp_path), max_length=128, hidden_dropout_prob=0.5)
    assert (config.max_length, config.hidden_dropout_prob, config.patch_grid) == (128, 0.5, (3, 15))


def test_num_labels_replaces_the_files_labels(tmp_path: Path) -> None:
    folder = write_config(tmp_path, id2label={"0": "cat", "1": "dog"}, label2id={"cat": 0, "dog": 1})
    assert ASTConfig.from_pretrained(folder).id2label == {0: "cat", 1: "dog"}
    assert ASTConfig.from_pretrained(folder, num_labels=2).id2label == {0: "cat", 1: "dog"}
    wider = ASTConfig.from_pretrained(folder, num_labels=3)
    assert wider.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert wider.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    with pytest.raises(AstConfigError, match=r"E302.*num_labels"):
        ASTConfig.from_pretrained(folder, num_labels=0)


def test_id2label_replaces_the_files_labels(tmp_path: Path) -> None:
    folder = write_config(tmp_path, id2label={"0": "cat", "1": "dog"}, label2id={"cat": 0, "dog": 1})
    id2label = {0: "low", 1: "mid", 2: "high"}
    config = ASTConfig.from_pretrained(folder, id2label=id2label, label2id={"low": 0, "mid": 1, "high": 2})
    assert (config.id2label, config.num_labels) == (id2label, 3)


def test_label_map_rules() -> None:
    assert ASTConfig(num_labels=3).id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert ASTConfig(id2label={0: "cat", 1: "dog", 2: "owl"}).label2id == {"cat": 0, "dog": 1, "owl": 2}
    assert ASTConfig(id2label={"0": "cat", "1": "dog"}).id2label == {0: "cat", 1: "dog"}
    assert ASTConfig(id2label={0: "cat", 1: "dog"}, num_labels=2).num_labels == 2
    assert ASTConfig(id2label={0: "only"}).num_labels == 1


def test_equality_and_copies() -> None:
    config = ASTConfig(**CHANGED)
    assert config == ASTConfig(**CHANGED)
    assert config != ASTConfig(**{**CHANGED, "max_length": 65})
    twin = copy.deepcopy(config)
    assert twin == config
    twin.id2label[0] = "lion"
    assert config.id2label[0] == "cat"
    assert ASTConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()


@pytest.mark.parametrize("content", ["[1, 2]", '"text"', "3"], ids=["list", "text", "number"])
def test_json_that_is_not_an_object_is_refused(content: str) -> None:
    with pytest.raises(AstConfigError, match=r"E306.*config\.json"):
        ASTConfig.from_dict(json.loads(content))
