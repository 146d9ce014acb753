"""The README's comparison with transformers, row by row: the behaviour of transformers' AST, and the tests of ours.

`ROWS` has one entry per row. The tests here run transformers' classes, the pipeline in a process without `ast_hf`. If
the installed version differs from the README's, the reason of the skip names the difference.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import logging
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
import transformers
import yaml
from conftest import ROOT, TINY, TOKEN, randomise, run_fresh
from packaging.version import Version
from safetensors.torch import load_file, save_file
from transformers import DeiTConfig, DeiTModel, Trainer, TrainingArguments, ViTConfig, ViTModel
from transformers.models.audio_spectrogram_transformer.configuration_audio_spectrogram_transformer import (
    ASTConfig,
)
from transformers.models.audio_spectrogram_transformer.feature_extraction_audio_spectrogram_transformer import (
    ASTFeatureExtractor,
)
from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import (
    ASTForAudioClassification,
    ASTModel,
)

if TYPE_CHECKING:
    from hub_server import Hub


class Row(NamedTuple):
    """Tests of one row: functions of this file for the left column, `file::test` for the right one."""

    left: tuple[str, ...]
    right: tuple[str, ...]


#: Tests of the first rows with `import ast_hf` as the only change.
SAME_CALLS = "test_stock_column.py::test_the_same_calls_with_one_import_more"

#: First cell of a row -> its tests, in the order of the README.
ROWS = {
    "files, bytes, other rates, stereo in `pipeline`": Row(
        ("test_pipeline_needs_other_programs_for_files_and_rates", "test_pipeline_refuses_a_stereo_array"),
        (
            "test_pipeline.py::test_audio_files_give_the_scores_of_their_samples",
            "test_pipeline.py::test_other_rates",
            "test_pipeline.py::test_every_kind_of_input_gives_the_same_scores",
            SAME_CALLS,
        ),
    ),
    "clips longer than the model's input": Row(
        ("test_long_clips_are_cut_without_a_warning",),
        (
            "test_feature_extraction.py::test_truncated_seconds_are_warned_of_once_per_extractor",
            "test_long_recordings.py::test_default_is_the_mean_of_windows_that_cover_all",
            SAME_CALLS,
        ),
    ),
    "events with start and end": Row(
        ("test_times_are_not_returned",),
        (
            "test_long_recordings.py::test_timeline_is_a_list_of_events",
            "timelines/test_live.py::test_chunks_of_any_sizes_give_the_events_of_the_recording",
        ),
    ),
    "NaN or infinity in a clip": Row(
        ("test_scores_of_broken_samples_are_nan",),
        ("test_feature_extraction.py::test_invalid_clips_are_refused", SAME_CALLS),
    ),
    "clips under 25 ms": Row(
        ("test_short_clips_are_an_error_or_padding",),
        (
            "test_feature_extraction.py::test_invalid_clips_are_refused",
            "test_pipeline.py::test_bad_call_is_refused",
            SAME_CALLS,
        ),
    ),
    "int16 samples": Row(
        ("test_int16_is_read_as_floats",),
        (
            "test_feature_extraction.py::test_samples_are_scaled_exactly",
            "test_feature_extraction.py::test_shapes_and_warnings_of_unusual_calls",
            SAME_CALLS,
        ),
    ),
    "`max_length`, `padding`, `return_attention_mask` in a call": Row(
        ("test_arguments_of_a_call_are_ignored",),
        (
            "test_feature_extraction.py::test_length_of_a_batch",
            "test_feature_extraction.py::test_attention_mask_marks_real_frames",
            "test_feature_extraction.py::test_invalid_call_arguments_are_refused",
            "test_drop_in.py::test_max_length_in_samples_is_ignored",
        ),
    ),
    "a checkpoint with missing tensors": Row(
        ("test_missing_tensors_are_random",),
        ("test_checkpoints.py::test_broken_checkpoint_is_refused",),
    ),
    "another `max_length`, stride or patch size": Row(
        ("test_other_sizes_are_an_error_or_positions_of_zero",),
        (
            "test_any_size.py::test_from_pretrained_adapts_the_weights",
            "test_any_size.py::test_from_pretrained_cuts_the_centre_of_a_published_grid",
        ),
    ),
    "an image transformer as the start": Row(
        ("test_image_transformers_are_an_error_or_blocks_alone",),
        ("test_image_transformers.py::test_initial_weights_match_the_original",),
    ),
    "clips of another length, or of mixed lengths with a mask": Row(
        ("test_other_lengths_are_an_error", "test_masks_are_not_made", "test_masks_are_not_understood"),
        (
            "test_any_size.py::test_any_length_matches_a_model_resized_to_it",
            "test_any_size.py::test_masked_logits_do_not_depend_on_the_batch",
        ),
    ),
    "another number of labels": Row(
        ("test_other_labels_need_a_flag",),
        ("test_drop_in.py::test_new_head_is_reported_in_one_line",),
    ),
    "soft labels (mixup, distillation) with cross-entropy": Row(
        ("test_soft_labels_are_an_error",),
        ("test_modeling.py::test_loss_values", "test_modeling.py::test_gradient_of_soft_labels_by_hand"),
    ),
    "`problem_type`": Row(
        ("test_the_first_batch_sets_the_problem_type",),
        ("test_modeling.py::test_the_problem_type_is_not_inferred_from_the_first_batch",),
    ),
    "resuming training": Row(
        ("test_most_weights_are_not_restored", "test_two_processes_resume_at_the_right_clips"),
        (
            "training/test_trainer.py::test_resumed_run_equals_an_unbroken_one",
            "training/test_trainer.py::test_resume_under_the_plain_trainer",
            "training/test_distributed.py::test_resumed_run_of_two_equals_an_unbroken_one",
        ),
    ),
    "`train_sampling_strategy: group_by_length`": Row(
        ("test_grouping_by_length_keeps_the_padding",),
        (
            "training/test_lengths.py::test_batches_are_as_long_as_their_longest_clip",
            "training/test_lengths.py::test_batches_of_a_run",
        ),
    ),
    "the model page after training": Row(
        ("test_the_page_lacks_scores_and_usage",),
        (
            "training/test_trainer.py::test_card_holds_the_results",
            "test_push.py::test_the_snippets_of_the_card_run",
        ),
    ),
    "a push of checkpoints while training": Row(
        ("test_a_push_uploads_the_token",),
        (
            "training/test_hub_checkpoints.py::test_a_run_resumes_to_the_bit_on_another_machine_without_private_data",
            "training/test_hub_checkpoints.py::test_a_run_survives_a_hub_that_fails_all_the_time",
        ),
    ),
    "a run killed while it saves": Row(
        ("test_a_checkpoint_without_its_last_file_cannot_be_resumed", "test_a_killed_save_cannot_be_resumed"),
        (
            "training/test_sealing.py::test_a_save_killed_at_any_point_is_resumed_to_the_bit",
            "training/test_sealing.py::test_auto_warns_of_skipped_checkpoints_and_ends_at_the_same_weights",
        ),
    ),
    "a loss of NaN": Row(
        ("test_a_loss_of_nan_is_logged_as_zero",),
        ("training/test_trainer.py::test_broken_loss_stops_the_run",),
    ),
    "training script": Row(
        ("test_a_method_that_the_audio_script_calls_is_missing",),
        ("test_cli.py::test_finetune_trains_by_a_recipe",),
    ),
    "features of a 10 s clip, one thread (`make bench`)": Row(
        ("test_features_take_three_times_as_long",),
        ("test_documentation.py::test_readme_results_match_the_bench_page",),
    ),
}

RATE = 16_000
NOISE = (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
CLIP = NOISE[:9_600]  # 58 frames of the 64 of the tiny model
INT16 = np.round(CLIP * 32_767).astype(np.int16)
SIZES = {"num_mel_bins": 32, "max_length": 64}


# The table.


def readme_rows() -> list[str]:
    """Return the first cells of the README's comparison."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## What it does that transformers' AST does not")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [line.split("|")[1].strip() for line in lines[2:]]


#: Tests of this file without a left cell.
OF_NO_LEFT_CELL = {
    "test_every_row_of_the_readme_has_its_tests",
    "test_every_test_named_in_a_row_exists",
    "test_the_same_calls_with_one_import_more",
}


def test_every_row_of_the_readme_has_its_tests() -> None:
    assert readme_rows() == list(ROWS)
    assert all(row.left and row.right for row in ROWS.values())


def test_every_test_named_in_a_row_exists() -> None:
    here = {
        name for name, value in globals().items() if name.startswith("test_") and inspect.isfunction(value)
    }
    tests = [name for row in ROWS.values() for name in row.left]
    assert len(tests) == len(set(tests))
    assert set(tests) == here - OF_NO_LEFT_CELL
    for place in {place for row in ROWS.values() for place in row.right}:
        file, _, name = place.partition("::")
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), place


# Fixtures.


def installed(package: str) -> Version:
    return Version(importlib.metadata.version(package))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny models are slower on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> Any:
    """Return a tiny model, every parameter random. Read only."""
    return randomise(ASTForAudioClassification(ASTConfig(**TINY, num_labels=3)))


@pytest.fixture(scope="module")
def checkpoint(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of `model`, saved by transformers. Read only."""
    folder = tmp_path_factory.mktemp("stock")
    model.save_pretrained(folder)
    ASTFeatureExtractor(**SIZES).save_pretrained(folder)
    return folder


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Return the messages that transformers logs, warnings and above."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_warning()
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)
    transformers.logging.set_verbosity(verbosity)


def extract(clip: Any, **options: Any) -> np.ndarray:
    """Return the features of one clip."""
    (features,) = ASTFeatureExtractor(**SIZES)(clip, sampling_rate=RATE, return_tensors="np", **options)[
        "input_values"
    ]
    return features


def spectrograms(count: int, frames: int = 64) -> torch.Tensor:
    return torch.randn(count, frames, 32, generator=torch.Generator().manual_seed(0))


# Classification, in a process of its own.

CLASSIFY = """
import json, logging, sys, warnings
from pathlib import Path

sys.modules["torchaudio"] = None  # as if it were not installed
import numpy as np
import transformers
from transformers import pipeline

messages = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: messages.append(record.getMessage())
transformers.logging.add_handler(handler)
warnings.showwarning = lambda message, kind, *_: messages.append(f"{kind.__name__}: {message}")

classify = pipeline("audio-classification", model=FOLDER)
clips = dict(np.load(CLIPS + "/clips.npz"))
rate = {"array": clips["clip"], "sampling_rate": 8_000}
inputs = {**clips, "file": CLIPS + "/clip.wav", "bytes": Path(CLIPS, "clip.wav").read_bytes(), "rate": rate}
results = {}
for name, source in inputs.items():
    messages.clear()
    try:
        answer = {entry["label"]: entry["score"] for entry in classify(source)}
    except Exception as problem:
        answer = f"{type(problem).__name__}: {problem}"
    results[name] = {"answer": answer, "messages": list(messages)}
times = classify(clips["clip"], return_timestamps=True)
results["times"] = {"answer": sorted({key for entry in times for key in entry}), "messages": []}
ours = "ast_hf" in sys.modules
print("FOUND" + json.dumps([ours, results]))
"""


def spoilt(value: float) -> np.ndarray:
    clip = CLIP.copy()
    clip[5_000] = value
    return clip


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of inputs."""
    folder = tmp_path_factory.mktemp("clips")
    arrays = {
        "clip": CLIP,
        "stereo": np.stack([CLIP, CLIP]),
        "NaN": spoilt(np.nan),
        "infinity": spoilt(np.inf),
        "200 samples": CLIP[:200],
        "300 samples": CLIP[:300],
        "no samples": np.zeros(0, np.float32),
        "300 of silence": np.zeros(300, np.float32),
        "int16": INT16,
        "unscaled": INT16.astype(np.float32),
        "long": np.concatenate([NOISE[:10_480], np.ones(RATE, np.float32)]),
        "cut": NOISE[:10_480],  # exactly 64 frames
    }
    np.savez(folder / "clips.npz", **arrays)  # type: ignore[arg-type]
    soundfile.write(folder / "clip.wav", CLIP, RATE, subtype="FLOAT")
    return folder


def classify(checkpoint: Path, clips: Path, *, ours: bool) -> dict[str, Any]:
    """Return scores and warnings of `pipeline` for each input, in a process without ffmpeg and torchaudio."""
    code = (
        f"FOLDER, CLIPS = {str(checkpoint)!r}, {str(clips)!r}\n{'import ast_hf' if ours else ''}\n{CLASSIFY}"
    )
    imported, results = json.loads(run_fresh(code, env={"PATH": ""}).rpartition("FOUND")[2])
    assert imported == ours
    return results


@pytest.fixture(scope="module")
def classified(checkpoint: Path, clips: Path) -> dict[str, Any]:
    return classify(checkpoint, clips, ours=False)


def test_pipeline_needs_other_programs_for_files_and_rates(classified: dict[str, Any]) -> None:
    assert classified["clip"]["answer"].keys() == {"LABEL_0", "LABEL_1", "LABEL_2"}
    assert classified["file"]["answer"].startswith("ValueError: ffmpeg was not found")
    assert classified["bytes"]["answer"].startswith("ValueError: ffmpeg was not found")
    assert classified["rate"]["answer"].startswith("ImportError: torchaudio is required to resample")


def test_pipeline_refuses_a_stereo_array(classified: dict[str, Any]) -> None:
    assert classified["stereo"]["answer"].startswith("ValueError: We expect a single channel")


def test_long_clips_are_cut_without_a_warning(classified: dict[str, Any]) -> None:
    assert classified["long"]["answer"] == pytest.approx(classified["cut"]["answer"], abs=1e-6)
    assert classified["long"]["messages"] == []


@pytest.mark.parametrize("kind", ["NaN", "infinity"])
def test_scores_of_broken_samples_are_nan(kind: str, classified: dict[str, Any]) -> None:
    assert np.isnan(list(classified[kind]["answer"].values())).tolist() == [True] * 3


def test_short_clips_are_an_error_or_padding(classified: dict[str, Any]) -> None:
    """Torchaudio's features, if it is installed, are padding for both lengths."""
    assert classified["200 samples"]["answer"] == "ValueError: negative dimensions are not allowed"
    assert classified["no samples"]["answer"] == "ValueError: negative dimensions are not allowed"
    assert classified["300 samples"]["answer"] == classified["300 of silence"]["answer"]
    assert classified["300 samples"]["messages"] == []


def test_int16_is_read_as_floats(classified: dict[str, Any]) -> None:
    assert classified["int16"]["answer"] == pytest.approx(classified["unscaled"]["answer"], abs=1e-5)
    assert classified["int16"]["messages"] == []
    louder = (extract(INT16) - extract(CLIP))[:58]  # of frames, and not of padding
    assert louder.mean() == pytest.approx(np.log(32_767.0**2) / (2 * 4.5689974), abs=1e-3)


def test_times_are_not_returned(classified: dict[str, Any]) -> None:
    assert classified["times"]["answer"] == ["label", "score"]


@pytest.mark.long
def test_the_same_calls_with_one_import_more(checkpoint: Path, clips: Path) -> None:
    """Tests the right column of these rows."""
    results = classify(checkpoint, clips, ours=True)
    answers = {name: entry["answer"] for name, entry in results.items()}
    assert answers["clip"].keys() == {"LABEL_0", "LABEL_1", "LABEL_2"}
    for name in ("file", "bytes", "stereo"):
        assert answers[name] == pytest.approx(answers["clip"], abs=1e-6), name
    assert answers["int16"] == pytest.approx(answers["clip"], abs=1e-4)
    assert answers["rate"].keys() == answers["clip"].keys()
    assert answers["long"] != pytest.approx(answers["cut"], abs=1e-3)  # all of it counts
    assert results["long"]["messages"] == []
    assert answers["times"] in ([], ["end", "label", "score", "start"])
    assert "[AST-W202]" in results["unscaled"]["messages"][0]
    codes = {
        "NaN": "E104",
        "infinity": "E104",
        "200 samples": "E103",
        "300 samples": "E103",
        "no samples": "E101",
    }
    for name, code in codes.items():
        assert answers[name].startswith(f"AstInputError: [AST-{code}]"), name


# Features.


def test_arguments_of_a_call_are_ignored() -> None:
    """Misspelt ones, too."""
    plain = ASTFeatureExtractor(**SIZES)(CLIP, sampling_rate=RATE, return_tensors="np")
    options: list[dict[str, Any]] = [
        {"max_length": 32},
        {"max_lenght": 32},
        {"padding": False},
        {"padding": "longest"},
        {"return_attention_mask": True},
    ]
    for option in options:
        features = ASTFeatureExtractor(**SIZES)(CLIP, sampling_rate=RATE, return_tensors="np", **option)
        assert list(features) == ["input_values"], option
        np.testing.assert_array_equal(features["input_values"], plain["input_values"])


@pytest.mark.slow
def test_features_take_three_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures CPU time with the benchmark of the README, with fewer turns."""
    from benchmarks import features

    monkeypatch.setattr(features, "PAIRS", 7)
    measured = features.measure()
    assert measured["ratio"] >= 3
    assert measured["mean"] < 1e-3  # the same features


# Loading.

QUERY = "encoder.layer.1.attention.attention.query.weight"  # in files of every version


def test_missing_tensors_are_random(checkpoint: Path, tmp_path: Path, log: list[str]) -> None:
    shutil.copy(checkpoint / "config.json", tmp_path)
    stored = load_file(checkpoint / "model.safetensors")
    remaining = {name: tensor for name, tensor in stored.items() if not name.endswith(QUERY)}
    assert len(remaining) == len(stored) - 1
    save_file(remaining, tmp_path / "model.safetensors", metadata={"format": "pt"})
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        states.append(ASTForAudioClassification.from_pretrained(tmp_path).state_dict())
    differing = [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]
    assert len(differing) == 1
    assert [message for message in log if "MISSING" in message and differing[0] in message]


@pytest.mark.parametrize(
    "sizes", [{"max_length": 100}, {"frequency_stride": 16}, {"time_stride": 16}, {"patch_size": 8}], ids=str
)
def test_other_sizes_are_an_error_or_positions_of_zero(sizes: dict[str, int], checkpoint: Path) -> None:
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        ASTForAudioClassification.from_pretrained(checkpoint, **sizes)
    model = ASTForAudioClassification.from_pretrained(checkpoint, ignore_mismatched_sizes=True, **sizes)
    assert not model.audio_spectrogram_transformer.embeddings.position_embeddings.any()


@pytest.mark.parametrize(
    ("config", "kind"), [(ViTConfig, ViTModel), (DeiTConfig, DeiTModel)], ids=["ViT", "DeiT"]
)
def test_image_transformers_are_an_error_or_blocks_alone(config: Any, kind: Any, tmp_path: Path) -> None:
    widths = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
    randomise(kind(config(**widths, image_size=64, patch_size=16))).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        ASTModel.from_pretrained(tmp_path)
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        states.append(ASTModel.from_pretrained(tmp_path, ignore_mismatched_sizes=True).state_dict())
    assert not states[0]["embeddings.position_embeddings"].any()
    assert not torch.equal(*(state["embeddings.patch_embeddings.projection.weight"] for state in states))
    ours = {name: tensor for name, tensor in states[0].items() if "embeddings" not in name}
    stored = [
        tensor for name, tensor in load_file(tmp_path / "model.safetensors").items() if "layer." in name
    ]
    assert len(stored) == 32
    assert all(any(torch.equal(tensor, parameter) for parameter in ours.values()) for tensor in stored)


def test_other_labels_need_a_flag(checkpoint: Path) -> None:
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        ASTForAudioClassification.from_pretrained(checkpoint, num_labels=5)
    model = ASTForAudioClassification.from_pretrained(checkpoint, num_labels=5, ignore_mismatched_sizes=True)
    assert model.classifier.dense.out_features == 5


# The model.


def test_other_lengths_are_an_error(model: Any) -> None:
    for frames in (48, 80):
        with pytest.raises(RuntimeError, match="size of tensor"):
            model(spectrograms(2, frames))


def test_masks_are_not_made() -> None:
    extractor = ASTFeatureExtractor(**SIZES, return_attention_mask=True)
    clips = [CLIP, CLIP[:4_000]]
    assert list(extractor(clips, sampling_rate=RATE, return_attention_mask=True)) == ["input_values"]


def test_masks_are_not_understood(model: Any) -> None:
    """Masks of frames. Early versions of transformers 5 ignore all; later ones ignore those that hide nothing."""
    values = spectrograms(2)
    mask = torch.ones(2, 64, dtype=torch.long)
    with torch.no_grad():
        plain = model(values).logits
        assert torch.equal(model(values, attention_mask=mask).logits, plain)
        mask[1, 38:] = 0
        if "attention_mask" not in inspect.signature(ASTModel.forward).parameters:
            assert torch.equal(model(values, attention_mask=mask).logits, plain)
            return
        with pytest.raises(RuntimeError, match="size of tensor"):
            model(values, attention_mask=mask)


def test_soft_labels_are_an_error(checkpoint: Path) -> None:
    kind = "single_label_classification"
    model = ASTForAudioClassification.from_pretrained(checkpoint, problem_type=kind)
    with pytest.raises((RuntimeError, ValueError)):
        model(spectrograms(2), labels=torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.2, 0.8]]))
    assert model(spectrograms(2), labels=torch.tensor([0, 2])).loss.isfinite()


def test_the_first_batch_sets_the_problem_type(checkpoint: Path) -> None:
    model = ASTForAudioClassification.from_pretrained(checkpoint)
    assert model.config.problem_type is None
    model(spectrograms(2), labels=torch.tensor([0, 2]))
    assert model.config.problem_type == "single_label_classification"
    tags = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    with pytest.raises((RuntimeError, ValueError)):
        model(spectrograms(2), labels=tags)
    other = ASTForAudioClassification.from_pretrained(checkpoint)
    assert other(spectrograms(2), labels=tags).loss.isfinite()  # the same batch is accepted as the first one


# Training.


def examples(count: int = 8) -> list[dict[str, Any]]:
    return [{"input_values": values, "labels": index % 3} for index, values in enumerate(spectrograms(count))]


def trainer_for(
    folder: Path, *, seed: int = 0, data: Any = None, options: dict[str, Any] | None = None, **arguments: Any
) -> Trainer:
    """Return transformers' Trainer of a new tiny model; eight clips make four steps."""
    torch.manual_seed(seed)
    fixed = {"per_device_train_batch_size": 2, "num_train_epochs": 1, "report_to": [], "disable_tqdm": True}
    steps = {"use_cpu": True, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-2}
    return Trainer(
        ASTForAudioClassification(ASTConfig(**TINY, num_labels=3)),
        TrainingArguments(str(folder), **{**fixed, **steps, **arguments}),
        train_dataset=examples() if data is None else data,
        **(options or {}),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """Return the folder of a run with checkpoint-2 and checkpoint-4, and its final weights. Read only."""
    folder = tmp_path_factory.mktemp("trained")
    run = trainer_for(folder)
    run.train()
    assert {path.name for path in folder.iterdir()} == {"checkpoint-2", "checkpoint-4"}
    return folder, {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def test_most_weights_are_not_restored(
    trained: tuple[Path, dict[str, torch.Tensor]], log: list[str], tmp_path: Path
) -> None:
    """The encoder is not restored: its names in files differ from those of the model."""
    folder, weights = trained
    if any(name.endswith(QUERY) for name in weights):
        pytest.skip(
            f"transformers {transformers.__version__} names AST's modules as its files do, and restores all"
        )
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    run = trainer_for(tmp_path, seed=1)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    assert run.train(resume_from_checkpoint=True).global_step == 4
    after = run.model.state_dict()
    restored = [name for name in after if torch.equal(after[name], weights[name])]
    left = [name for name in after if torch.equal(after[name], before[name])]
    assert (len(restored), len(left), len(after)) == (11, 32, 43)
    assert all(".layers." in name for name in left)
    assert [message for message in log if "missing keys" in message]


def test_grouping_by_length_keeps_the_padding(tmp_path: Path) -> None:
    extractor = ASTFeatureExtractor(**SIZES)
    clips = [NOISE[:length] for length in (1_000, 9_000, 2_000, 8_000, 3_000, 7_000, 4_000, 6_000)]
    data = [{"input_values": extract(clip), "labels": index % 3} for index, clip in enumerate(clips)]
    options = {"processing_class": extractor}
    run = trainer_for(
        tmp_path, data=data, options=options, train_sampling_strategy="group_by_length", save_steps=9
    )
    shapes: list[tuple[int, ...]] = []
    run.model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_values"].shape)), with_kwargs=True
    )
    run.train()
    assert shapes == [(2, 64, 32)] * 4


def test_the_page_lacks_scores_and_usage(tmp_path: Path) -> None:
    """Also if the script passes every argument."""
    scores = {"accuracy": 0.5, "mAP": 0.25, "AUC": 0.75, "d_prime": 1.5}
    options = {
        "processing_class": ASTFeatureExtractor(**SIZES),
        "eval_dataset": examples(2),
        "compute_metrics": lambda prediction: scores,
    }
    run = trainer_for(tmp_path, options=options, eval_strategy="epoch", logging_steps=1)
    run.train()
    data_set = {"dataset": "Noises", "dataset_tags": "noises", "dataset_args": "plain"}
    run.create_model_card(language="en", license="apache-2.0", tasks="audio-classification", **data_set)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---\n")[1])
    (entry,) = header["model-index"]
    metric_names = [metric["name"] for result in entry["results"] for metric in result["metrics"]]
    assert metric_names == ["Accuracy"]
    assert "pipeline_tag" not in header
    assert "```" not in text
    assert "from_pretrained" not in text


def test_a_push_uploads_the_token(hub: Hub, tmp_path: Path) -> None:
    push: dict[str, Any] = {
        "push_to_hub": True,
        "hub_model_id": "user/run",
        "hub_token": TOKEN,
        "hub_strategy": "checkpoint",
    }
    trainer_for(tmp_path, data=examples(2), save_steps=1, **push).train()
    files = hub.files("user/run")
    holding = {name for name, blob in files.items() if TOKEN.encode() in blob.content}
    assert holding == {"training_args.bin", "last-checkpoint/training_args.bin"}


#: Files of a killed save: none, the weights alone, or all but the last one.
LEFT = {"nothing": 0, "weights": 2, "all but the last": 6}


@pytest.mark.parametrize("left", LEFT)
def test_a_checkpoint_without_its_last_file_cannot_be_resumed(
    left: str, trained: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    files = sorted((tmp_path / "checkpoint-4").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    assert (len(files), files[-1].name) == (7, "trainer_state.json")
    for file in files[LEFT[left] :]:
        file.unlink()
    with pytest.raises((ValueError, OSError)):
        trainer_for(tmp_path).train(resume_from_checkpoint=True)
    older = str(tmp_path / "checkpoint-2")
    assert trainer_for(tmp_path, save_strategy="no").train(resume_from_checkpoint=older).global_step == 4


KILLED = """
import os, signal, sys
import torch
from transformers import ASTConfig, ASTForAudioClassification, Trainer, TrainingArguments

def kill(event, arguments):
    if event == "open" and str(arguments[0]).endswith("checkpoint-4/trainer_state.json"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
data = [{"input_values": torch.randn(64, 32), "labels": index % 3} for index in range(8)]
arguments = TrainingArguments(
    sys.argv[1], per_device_train_batch_size=2, num_train_epochs=1, save_strategy="steps", save_steps=2, report_to=[],
    use_cpu=True,
)
Trainer(ASTForAudioClassification(ASTConfig(**eval(sys.argv[2]))), arguments, train_dataset=data).train()
"""


@pytest.mark.slow
def test_a_killed_save_cannot_be_resumed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str({**TINY, "num_labels": 3})]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd="/")
    assert result.returncode == -signal.SIGKILL, result.stderr[-4000:]
    assert (tmp_path / "checkpoint-2" / "trainer_state.json").exists()
    with pytest.raises(FileNotFoundError, match=r"checkpoint-4.trainer_state\.json"):
        trainer_for(tmp_path).train(resume_from_checkpoint=True)


def test_a_loss_of_nan_is_logged_as_zero(tmp_path: Path) -> None:
    data = examples()
    data[5]["input_values"] = torch.full((64, 32), torch.nan)
    run = trainer_for(tmp_path, data=data, num_train_epochs=2, logging_steps=1, save_strategy="no")
    assert run.train().global_step == 8
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    first = losses.index(0.0)
    assert first < 4
    assert all(loss > 0 for loss in losses[:first])
    assert losses[first:] == [0.0] * (8 - first)
    assert all(parameter.isnan().any() for parameter in run.model.parameters())


def test_a_method_that_the_audio_script_calls_is_missing() -> None:
    """`run_audio_classification.py` freezes the feature encoder of its default model, wav2vec2, by default."""
    from transformers import Wav2Vec2ForSequenceClassification

    assert callable(Wav2Vec2ForSequenceClassification.freeze_feature_encoder)
    assert not hasattr(ASTForAudioClassification, "freeze_feature_encoder")


TWO = """
import json, os, sys
import torch
from transformers import ASTConfig, ASTForAudioClassification, Trainer, TrainingArguments

class Clips(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        return {"input_values": torch.full((64, 32), float(index)), "labels": index % 3}

def clips_of(folder, steps, resume):
    seen = []
    model = ASTForAudioClassification(ASTConfig(**eval(sys.argv[2])))
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_values"][:, 0, 0].int().tolist()), with_kwargs=True
    )
    arguments = TrainingArguments(
        os.path.join(sys.argv[1], folder), per_device_train_batch_size=2, max_steps=steps, save_strategy="steps",
        save_steps=6, report_to=[], use_cpu=True, ddp_find_unused_parameters=False, disable_tqdm=True,
    )
    assert arguments.world_size == 2
    Trainer(model, arguments, train_dataset=Clips()).train(resume_from_checkpoint=resume)
    return seen

runs = [clips_of("unbroken", 12, None), clips_of("broken", 6, None), clips_of("broken", 12, True)]
with open(os.path.join(sys.argv[1], f"clips-{os.environ['RANK']}.json"), "w") as file:
    json.dump(runs, file)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.skipif(
    installed("transformers") < Version("5.23"),
    reason=f"transformers 5.5 cannot load the optimizers of two CPU processes, this is {transformers.__version__}",
)
@pytest.mark.skipif(
    installed("accelerate") < Version("1.7"),
    reason=f"tried with accelerate 1.7 and 1.15, this is {installed('accelerate')}",
)
def test_two_processes_resume_at_the_right_clips(tmp_path: Path) -> None:
    """The weights are wrong after resuming in mid-epoch, the clips are not. Four steps are an epoch."""
    script = tmp_path / "two.py"
    script.write_text(TWO)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(script),
    ]
    result = subprocess.run(
        [*command, str(tmp_path), str({**TINY, "num_labels": 3})],
        capture_output=True, text=True, timeout=300, check=False, cwd="/",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:]
    for rank in (0, 1):
        unbroken, before, after = json.loads((tmp_path / f"clips-{rank}.json").read_text(encoding="utf-8"))
        assert (len(unbroken), len(before), len(after)) == (12, 6, 6)
        assert before + after == unbroken
        assert len(re.findall(r"\d+", str(unbroken))) == 24
