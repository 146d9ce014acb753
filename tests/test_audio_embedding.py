"""Embeddings of recordings: exact for short clips, computed by hand for long ones, and in bounded memory."""

from __future__ import annotations

import copy
import io
import itertools
import json
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from conftest import TINY, randomise, run_fresh
from datasets import Dataset
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

import ast_hf
from ast_hf import (
    ASTConfig,
    ASTEnsembleForAudioClassification,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AstHfError,
    ASTModel,
    audio_embedding_blocks,
    load_audio,
)
from ast_hf.embeddings_ast import column_means
from ast_hf.patchout import Patchout

RATE = 16_000
WINDOW = 63 * 160 + 400  # samples of the tiny model's 64 frames


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny checkpoint with weights so large that different audio gets different embeddings."""
    folder = tmp_path_factory.mktemp("lively")
    config = ASTConfig(**TINY, num_labels=3, problem_type="single_label_classification")
    randomise(ASTForAudioClassification(config)).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64, mean=-5.0, std=3.0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> ASTForAudioClassification:
    return ASTForAudioClassification.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def extractor(checkpoint: Path) -> ASTFeatureExtractor:
    return ASTFeatureExtractor.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """Return four seconds of noise that changes."""
    random = np.random.default_rng(0)
    return (random.standard_normal(4 * RATE) * np.linspace(0.01, 0.5, 4 * RATE)).astype(np.float32)


def clip(samples: np.ndarray) -> dict[str, Any]:
    return {"array": samples, "sampling_rate": RATE}


def outputs_of(model: Any, extractor: Any, samples: np.ndarray) -> Any:
    """Run the model as a user would without this module."""
    with torch.no_grad():
        return model.base_model(**extractor(samples, sampling_rate=RATE, return_tensors="pt"))


def assert_close(left: Any, right: Any, tolerance: float = 1e-5) -> None:
    assert left.shape == right.shape
    assert torch.allclose(left, right, rtol=0, atol=tolerance), (left - right).abs().max()


# Short clips


@pytest.mark.parametrize("length", [400, 2_000, 7_000, WINDOW - 1, WINDOW, WINDOW + 159])
def test_a_clip_of_one_window_has_the_pooled_output(
    model: Any, extractor: Any, noise: np.ndarray, length: int
) -> None:
    samples = noise[:length]
    result = model.get_audio_embedding(clip(samples))
    expected = outputs_of(model, extractor, samples)
    assert torch.equal(result.embedding, expected.pooler_output[0])
    assert torch.equal(result.windows, expected.pooler_output)
    assert result.window_times.tolist() == [[0.0, length / RATE]]
    columns = column_means(model.config, expected.last_hidden_state, 64)[0]
    assert torch.equal(result.columns, columns[: len(result.columns)])
    assert result.column_times[-1, 1] == length / RATE
    # a patch of 16 frames lasts 2,800 samples, and one begins every 1,280
    inside = sum(1_280 * column + 1_400 < length for column in range(7))
    assert len(result.columns) == max(inside, 1)


def test_base_model_and_classifier_give_the_same(checkpoint: Path, model: Any, noise: np.ndarray) -> None:
    result = ASTModel.from_pretrained(checkpoint).get_audio_embedding(clip(noise))
    for name, values in model.get_audio_embedding(clip(noise)).items():
        assert torch.equal(result[name], values), name


def test_every_kind_of_source(model: Any, noise: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise, RATE, subtype="FLOAT")
    sources = [
        str(path),
        path,
        path.read_bytes(),
        io.BytesIO(path.read_bytes()),
        {"path": str(path), "bytes": None},
        clip(noise),
        noise,
        torch.from_numpy(noise),
        noise.tolist(),
    ]
    expected = model.get_audio_embedding(clip(noise)).embedding
    for source in sources[:6]:
        assert torch.equal(model.get_audio_embedding(source).embedding, expected), type(source)
    for source in sources[6:]:
        assert torch.equal(model.get_audio_embedding(source, sampling_rate=RATE).embedding, expected)
    stereo = {"array": np.stack([noise, noise]), "sampling_rate": RATE}
    assert_close(model.get_audio_embedding(stereo).embedding, expected)


def test_bare_samples_have_the_models_rate_with_a_warning(
    model: Any, noise: np.ndarray, unwarned: None
) -> None:
    with pytest.warns(ast_hf.AstHfWarning, match=r"W212.*16000 Hz"):
        result = model.get_audio_embedding(noise)
    assert torch.equal(result.embedding, model.get_audio_embedding(clip(noise)).embedding)


# Long recordings


def by_hand(model: Any, extractor: Any, samples: np.ndarray, starts: list[int]) -> Any:
    windows = [outputs_of(model, extractor, samples[start : start + WINDOW]) for start in starts]
    pooled = torch.cat([output.pooler_output for output in windows])
    columns = [column_means(model.config, output.last_hidden_state, 64)[0] for output in windows]
    return pooled, columns


def test_windows_are_those_of_the_samples(model: Any, extractor: Any, noise: np.ndarray) -> None:
    samples = noise[: 3 * WINDOW + 4_000]
    starts = [0, WINDOW, 2 * WINDOW, 2 * WINDOW + 4_000]
    result = model.get_audio_embedding(clip(samples))
    pooled, _ = by_hand(model, extractor, samples, starts)
    assert_close(result.windows, pooled)
    times = [[start / RATE, (start + WINDOW) / RATE] for start in starts]
    assert result.window_times.tolist() == times


def test_each_second_counts_once_in_the_clips_embedding(model: Any, noise: np.ndarray) -> None:
    """A short tail does not count as much as a window."""
    for tail in (1_000, 5_000):
        samples = noise[: 2 * WINDOW + tail]
        result = model.get_audio_embedding(clip(samples))
        border = WINDOW + tail / 2 + 3 * 1_280 + 1_400  # halfway between the middles of the last two windows
        weights = torch.tensor([WINDOW, border - WINDOW, len(samples) - border])
        expected = (result.windows.double() * weights[:, None]).sum(0) / len(samples)
        assert_close(result.embedding.double(), expected)


def test_a_repeated_clip_has_the_embedding_of_the_clip(model: Any, noise: np.ndarray) -> None:
    once = model.get_audio_embedding(clip(noise[:WINDOW]))
    thrice = model.get_audio_embedding(clip(np.tile(noise[:WINDOW], 3)))
    assert_close(thrice.embedding, once.embedding)
    assert_close(thrice.columns, once.columns.repeat(3, 1))


@pytest.mark.parametrize("hop", [0.655, 0.5, 0.3, 0.16375, 0.08, 0.05, 0.01])
def test_columns_of_overlapping_windows_are_one_timeline(
    model: Any, extractor: Any, noise: np.ndarray, hop: float
) -> None:
    samples = noise[:35_001]
    result = model.get_audio_embedding(clip(samples), hop_seconds=hop, batch_size=16)
    times = result.column_times.numpy()
    assert (times[0, 0], times[-1, 1]) == (0.0, len(samples) / RATE)
    assert np.array_equal(times[1:, 0], times[:-1, 1])
    lengths = np.diff(times)[:, 0]
    assert lengths.min() >= 0.02
    assert lengths.max() <= 0.175
    starts = (result.window_times[:, 0].numpy() * RATE).round().astype(int)
    _, columns = by_hand(model, extractor, samples, starts.tolist())
    centres = np.array([[start + 1_280 * column + 1_400 for column in range(7)] for start in starts])
    taken = []
    for row, (first, last) in zip(result.columns, times, strict=True):
        gaps = torch.stack([(values - row).abs().amax(1) for values in columns])
        window, column = np.unravel_index(int(gaps.argmin()), gaps.shape)
        assert gaps.min() < 1e-5
        assert first <= centres[window, column] / RATE <= last  # its time has its middle in it
        taken.append(centres[window, column])
    assert (np.diff(taken) >= 640).all()  # half a step at least: no sound is there twice


def test_shorter_windows_are_not_padded(model: Any, extractor: Any, noise: np.ndarray) -> None:
    result = model.get_audio_embedding(clip(noise[:8_000]), window_seconds=0.25)
    assert result.windows.shape == (2, 24)
    features = extractor(
        noise[:4_000], sampling_rate=RATE, return_tensors="pt", max_length=23, truncation=True
    )
    assert features["input_values"].shape[1] == 23
    with torch.no_grad():
        assert_close(result.windows[0], model.base_model(**features).pooler_output[0])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_lists_are_batched_over_recordings(model: Any, noise: np.ndarray, batch_size: int) -> None:
    lengths = [500, 60_000, WINDOW, 12_000, 30_000]
    clips = [clip(noise[:length]) for length in lengths]
    results = model.get_audio_embedding(clips, batch_size=batch_size)
    assert len(results) == len(clips)
    for result, source in zip(results, clips, strict=True):
        alone = model.get_audio_embedding(source, batch_size=1)
        for name, values in alone.items():
            assert_close(result[name], values)


def test_the_model_computes_in_batches(model: Any, noise: np.ndarray) -> None:
    sizes = []
    hook = model.base_model.register_forward_pre_hook(
        lambda _, __, inputs: sizes.append(len(inputs["input_values"])), with_kwargs=True
    )
    try:
        model.get_audio_embedding([clip(noise[:9_000])] * 5 + [clip(noise[: 3 * WINDOW])], batch_size=3)
    finally:
        hook.remove()
    assert sizes == [3, 3, 2]


def test_levels(model: Any, noise: np.ndarray) -> None:
    full = model.get_audio_embedding(clip(noise))
    clip_only = model.get_audio_embedding(clip(noise), level="clip")
    windows = model.get_audio_embedding(clip(noise), level="window")
    assert set(clip_only.keys()) == {"embedding"}
    assert set(windows.keys()) == {"embedding", "windows", "window_times"}
    for name, values in [*clip_only.items(), *windows.items()]:
        assert torch.equal(values, full[name])


def test_blocks_joined_are_the_result(model: Any, noise: np.ndarray, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", noise, RATE, subtype="FLOAT")
    full = model.get_audio_embedding(tmp_path / "noise.wav", hop_seconds=0.2)
    blocks = list(audio_embedding_blocks(model, tmp_path / "noise.wav", hop_seconds=0.2))
    assert torch.equal(torch.stack([block.window for block in blocks]), full.windows)
    assert torch.equal(torch.cat([block.columns for block in blocks]), full.columns)
    assert torch.equal(torch.cat([block.column_times for block in blocks]), full.column_times)
    assert [list(block.window_time) for block in blocks] == full.window_times.tolist()
    assert sum(block.weight for block in blocks) == pytest.approx(4.0)


def test_memory_does_not_grow_with_the_recording(model: Any, tmp_path: Path) -> None:
    """A million samples are one block of a file; the level "clip" keeps one vector."""
    peaks = []
    model.get_audio_embedding(clip(np.arange(400) / 500), level="clip")
    for minutes in (3, 9):
        path = tmp_path / f"{minutes}.wav"
        soundfile.write(path, np.tile(np.sin(np.arange(RATE) / 9), 60 * minutes) / 2, RATE)
        tracemalloc.start()
        model.get_audio_embedding(path, level="clip", batch_size=64)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        path.unlink()
    assert peaks[1] < 1.2 * peaks[0]


# The model's state


def test_modes_of_all_modules_are_kept(checkpoint: Path, noise: np.ndarray) -> None:
    model = ASTForAudioClassification.from_pretrained(
        checkpoint, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5
    )
    expected = model.get_audio_embedding(clip(noise))
    model.train()
    model.classifier.eval()
    modes = [module.training for module in model.modules()]
    result = model.get_audio_embedding(clip(noise))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(result.columns, expected.columns)  # no dropout
    with pytest.raises(AstHfError, match="E101"):
        model.get_audio_embedding(clip(noise[:0]))
    assert [module.training for module in model.modules()] == modes


def test_patchout_of_a_model_in_training_is_not_applied(checkpoint: Path, noise: np.ndarray) -> None:
    model = ASTForAudioClassification.from_pretrained(checkpoint)
    expected = model.get_audio_embedding(clip(noise))
    model.base_model.patchout = Patchout(time=2)
    model.train()
    assert torch.equal(model.get_audio_embedding(clip(noise)).columns, expected.columns)


def test_gradients_only_on_request(checkpoint: Path, noise: np.ndarray) -> None:
    model = ASTForAudioClassification.from_pretrained(checkpoint)
    assert not model.get_audio_embedding(clip(noise)).embedding.requires_grad
    result = model.get_audio_embedding(clip(noise), gradients=True)
    (result.embedding.sum() + result.columns.sum()).backward()
    assert model.base_model.encoder.layer[0].output.dense.weight.grad.abs().max() > 0
    with torch.no_grad():
        assert not model.get_audio_embedding(clip(noise), gradients=True).embedding.requires_grad


def test_half_precision_gives_float32(checkpoint: Path, noise: np.ndarray) -> None:
    model = ASTForAudioClassification.from_pretrained(checkpoint, dtype=torch.bfloat16)
    result = model.get_audio_embedding(clip(noise))
    assert {values.dtype for name, values in result.items() if "times" not in name} == {torch.float32}
    assert np.isfinite(result.embedding.numpy()).all()
    pooled = pipeline("feature-extraction", model=model)(clip(noise), pool=True, return_tensors=True)
    assert_close(pooled[0], result.embedding, 1e-2)
    assert pooled.dtype == torch.float32


@pytest.mark.parametrize("setting", ["return_dict", "output_hidden_states", "output_attentions"])
def test_settings_of_the_config_change_nothing(checkpoint: Path, noise: np.ndarray, setting: str) -> None:
    model = ASTModel.from_pretrained(checkpoint, attn_implementation="eager")
    expected = model.get_audio_embedding(clip(noise)).embedding
    setattr(model.config, setting, setting != "return_dict")
    assert_close(model.get_audio_embedding(clip(noise)).embedding, expected)


def test_models_in_wrappers(checkpoint: Path, noise: np.ndarray) -> None:
    peft = pytest.importorskip("peft")
    plain = ASTForAudioClassification.from_pretrained(checkpoint)
    adapter = peft.LoraConfig(target_modules=["query", "value"], r=2, init_lora_weights=False)
    adapted = peft.get_peft_model(ASTForAudioClassification.from_pretrained(checkpoint), adapter)
    expected = adapted.get_audio_embedding(clip(noise))
    assert not torch.allclose(expected.embedding, plain.get_audio_embedding(clip(noise)).embedding, atol=1e-3)
    for wrapper in (adapted, torch.nn.DataParallel(adapted), torch.compile(adapted, backend="eager")):
        blocks = audio_embedding_blocks(wrapper, clip(noise))
        assert torch.equal(torch.stack([block.window for block in blocks]), expected.windows)
    pooled = pipeline("feature-extraction", model=adapted)(clip(noise), pool=True, return_tensors=True)
    assert_close(pooled[0], expected.embedding)


def test_models_of_transformers_are_refused(noise: np.ndarray) -> None:
    stock = transformers.ASTModel(transformers.ASTConfig(num_hidden_layers=0, hidden_size=12))
    with pytest.raises(AstHfError, match=r"E102.*'transformers.ASTModel' is not an ast_hf.ASTModel"):
        next(audio_embedding_blocks(stock, clip(noise)))


def test_an_extractor_with_masks_is_followed(model: Any, noise: np.ndarray) -> None:
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=64, return_attention_mask=True)
    result = model.get_audio_embedding(clip(noise[:5_000]), feature_extractor=extractor)
    assert torch.equal(result.embedding, outputs_of(model, extractor, noise[:5_000]).pooler_output[0])


def test_another_sampling_rate(noise: np.ndarray) -> None:
    """At 22,050 Hz a step of frames is 220 samples, so a column is 79.8 ms."""
    model = randomise(ASTModel(ASTConfig(**TINY)))
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=64, sampling_rate=22_050)
    result = model.get_audio_embedding(clip(noise), feature_extractor=extractor)
    assert result.column_times[-1, 1] == pytest.approx(4.0, abs=1e-3)
    assert torch.diff(result.column_times[1]).item() == pytest.approx(8 * 220 / 22_050)


def test_silent_parts_do_not_warn_and_silent_clips_do(model: Any, noise: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.get_audio_embedding(clip(np.concatenate([noise, np.zeros(2 * WINDOW, np.float32)])))
    with pytest.warns(ast_hf.AstHfWarning, match="W203"):
        model.get_audio_embedding(clip(np.zeros(5_000, np.float32)))


# The feature extractor


def test_the_extractor_of_the_checkpoint_is_used(
    model: Any, extractor: Any, checkpoint: Path, noise: Any
) -> None:
    expected = model.get_audio_embedding(clip(noise)).embedding
    for given in (extractor, str(checkpoint), checkpoint):
        assert torch.equal(
            model.get_audio_embedding(clip(noise), feature_extractor=given).embedding, expected
        )
    other = ASTFeatureExtractor(num_mel_bins=32, max_length=64)
    assert not torch.allclose(
        model.get_audio_embedding(clip(noise), feature_extractor=other).embedding, expected
    )


def test_a_new_model_needs_an_extractor(noise: np.ndarray) -> None:
    model = ASTModel(ASTConfig(**TINY))
    with pytest.raises(AstHfError, match=r"E108.*feature_extractor: is not given"):
        model.get_audio_embedding(clip(noise))
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=64)
    assert model.get_audio_embedding(clip(noise), feature_extractor=extractor).embedding.shape == (24,)


def test_a_checkpoint_without_extractor_is_named(checkpoint: Path, tmp_path: Path, noise: np.ndarray) -> None:
    model = ASTModel.from_pretrained(checkpoint)
    model.save_pretrained(tmp_path / "bare")
    with pytest.raises(AstHfError, match=r"E306.*bare.*preprocessor_config"):
        ASTModel.from_pretrained(tmp_path / "bare").get_audio_embedding(clip(noise))
    model.name_or_path = "somebody/gone"
    with pytest.raises(AstHfError, match=r"E\d+.*somebody/gone"):
        model.get_audio_embedding(clip(noise))


def test_another_kind_of_extractor_is_refused(model: Any, noise: np.ndarray) -> None:
    with pytest.raises(AstHfError, match=r"E102.*feature_extractor.*int"):
        model.get_audio_embedding(clip(noise), feature_extractor=3)
    with pytest.raises(AstHfError, match=r"E304.*max_length"):
        model.get_audio_embedding(clip(noise), feature_extractor=ASTFeatureExtractor(num_mel_bins=32))


@pytest.mark.long
def test_ensembles_name_their_members(checkpoint: Path, tmp_path: Path, noise: np.ndarray) -> None:
    ensemble = ASTEnsembleForAudioClassification.from_members([checkpoint, checkpoint])
    with pytest.raises(AstHfError, match=r"E108.*ensemble\.members\[0\]\.get_audio_embedding"):
        ensemble.get_audio_embedding(clip(noise))
    ensemble.save_pretrained(tmp_path)
    ensemble = ASTEnsembleForAudioClassification.from_pretrained(tmp_path)
    member = ensemble.members[1]
    with pytest.raises(
        AstHfError, match=r"E108.*member of an ensemble"
    ):  # else it gets member 1's mean and std
        member.get_audio_embedding(clip(noise))
    assert (
        member.get_audio_embedding(clip(noise), feature_extractor=ensemble.extractors[1]).columns is not None
    )
    for source in (str(tmp_path), ensemble):
        with pytest.raises(AstHfError, match=r"E108.*get_audio_embedding"):
            pipeline("feature-extraction", model=source)


# Bad input


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"hop_seconds": 0}, "hop_seconds"),
        ({"hop_seconds": -1}, "hop_seconds"),
        ({"hop_seconds": 0.7}, "hop_seconds"),
        ({"hop_seconds": float("nan")}, "hop_seconds"),
        ({"window_seconds": 0.3, "hop_seconds": 0.4}, "hop_seconds"),
        ({"window_seconds": 2}, "window_seconds"),
        ({"window_seconds": 0.05}, "window_seconds"),
        ({"window_seconds": "0.5"}, "window_seconds"),
        ({"window_seconds": True}, "window_seconds"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"level": "clips"}, "level"),
        ({"level": None}, "level"),
    ],
)
def test_impossible_options(model: Any, noise: np.ndarray, options: dict[str, Any], where: str) -> None:
    with pytest.raises(AstHfError, match=rf"E108\] {where}"):
        model.get_audio_embedding(clip(noise), **options)


def test_numbers_of_numpy_are_numbers(model: Any, noise: np.ndarray) -> None:
    expected = model.get_audio_embedding(clip(noise), window_seconds=0.5, hop_seconds=0.25, batch_size=2)
    options = {"window_seconds": np.float32(0.5), "hop_seconds": np.float64(0.25), "batch_size": np.int64(2)}
    assert torch.equal(model.get_audio_embedding(clip(noise), **options).columns, expected.columns)


def test_recordings_that_cannot_be_embedded(model: Any, noise: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(AstHfError, match="E101"):
        model.get_audio_embedding([])
    with pytest.raises(AstHfError, match="E103"):
        model.get_audio_embedding(clip(noise[:300]))
    with pytest.raises(AstHfError, match="E206"):
        model.get_audio_embedding(tmp_path / "missing.wav")
    with pytest.raises(AstHfError, match="E102"):
        model.get_audio_embedding(None)
    (tmp_path / "short.wav").write_bytes(b"")
    with pytest.raises(AstHfError, match=r"short\.wav"):
        model.get_audio_embedding([clip(noise), tmp_path / "short.wav"])
    with pytest.raises(AstHfError, match=r"E103.*0\.300 s, less than window_seconds"):
        model.get_audio_embedding(clip(noise[:4_800]), window_seconds=0.5)
    model.get_audio_embedding(clip(noise[:8_000]), window_seconds=0.5)
    loud = noise.copy()
    loud[50_000] = 1e13
    with pytest.raises(AstHfError, match=r"E104\] audio \(dict\), [23]\.\d\d s"):
        model.get_audio_embedding(clip(loud))


def test_a_file_that_is_damaged_in_the_middle(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "damaged.wav"
    samples = np.sin(np.arange(2_200_000) / 9).astype(np.float32)
    samples[2_000_000] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    with pytest.raises(AstHfError, match=r"E104.*damaged\.wav"):
        model.get_audio_embedding(path, level="clip", batch_size=32)
    blocks = audio_embedding_blocks(model, path)
    assert len(list(itertools.islice(blocks, 80))) == 80
    with pytest.raises(AstHfError, match=r"E104.*damaged\.wav"):
        list(blocks)


# The pipeline


def test_pipeline_returns_hidden_states_in_transformers_form(
    checkpoint: Path, model: Any, extractor: Any, noise: np.ndarray
) -> None:
    pipe = pipeline("feature-extraction", model=str(checkpoint))
    short = noise[:7_000]
    expected = outputs_of(model, extractor, short).last_hidden_state
    assert pipe(clip(short)) == expected.tolist()
    assert torch.equal(pipe(clip(short), return_tensors=True), expected)
    states = pipe(clip(noise), return_tensors=True)
    assert states.shape == (1, 7 * 23, 24)


def test_pipeline_pools_to_the_embedding(checkpoint: Path, model: Any, noise: np.ndarray) -> None:
    pipe = pipeline("feature-extraction", model=str(checkpoint))
    options: dict[str, Any]
    for options in ({}, {"hop_seconds": 0.2}, {"window_seconds": 0.4}):
        expected = model.get_audio_embedding(clip(noise), **options).embedding
        (embedding,) = pipe(clip(noise), pool=True, **options)
        assert_close(torch.tensor(embedding), expected)
    fixed = pipeline("feature-extraction", model=model, pool=True, hop_seconds=0.2, return_tensors=True)
    expected = model.get_audio_embedding(clip(noise), hop_seconds=0.2).embedding
    assert_close(fixed(clip(noise))[0], expected)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_pipeline_takes_lists_and_data_sets(
    checkpoint: Path, model: Any, noise: np.ndarray, batch_size: int
) -> None:
    pipe = pipeline("feature-extraction", model=str(checkpoint), pool=True, return_tensors=True)
    clips = [clip(noise[:length]) for length in (5_000, 50_000, WINDOW)]
    expected = torch.stack([result.embedding for result in model.get_audio_embedding(clips)])
    rows = Dataset.from_list([{"audio": {**entry, "array": entry["array"].tolist()}} for entry in clips])
    for inputs in (clips, KeyDataset(rows, "audio"), (entry for entry in clips)):
        results = torch.cat(list(pipe(inputs, batch_size=batch_size)))
        assert_close(results, expected)


def test_pipeline_reads_files(checkpoint: Path, model: Any, noise: np.ndarray, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.flac", noise, RATE)
    pipe = pipeline("feature-extraction", model=str(checkpoint), pool=True)
    expected = model.get_audio_embedding(load_audio(tmp_path / "noise.flac"), sampling_rate=RATE).embedding
    for source in (str(tmp_path / "noise.flac"), (tmp_path / "noise.flac").read_bytes()):
        assert_close(torch.tensor(pipe(source)[0]), expected)
    assert copy.copy(pipe)(str(tmp_path / "noise.flac")) == pipe(str(tmp_path / "noise.flac"))


def test_pipeline_refuses_misspelt_arguments(checkpoint: Path, noise: np.ndarray) -> None:
    pipe = pipeline("feature-extraction", model=str(checkpoint))
    with pytest.raises(AstHfError, match=r"E108\] hop_second.*hop_seconds"):
        pipe(clip(noise), hop_second=1)
    with pytest.raises(AstHfError, match="E101"):
        pipe([])
    with pytest.raises(AstHfError, match=r"E703.*127\.0\.0\.1:9/clip"):  # URLs are read, too
        pipe("http://127.0.0.1:9/clip.wav")
    with pytest.warns(ast_hf.AstHfWarning, match=r"W302.*truncation"):
        pipe(clip(noise[:3_000]), truncation=True)


@pytest.mark.long
def test_pipeline_in_a_fresh_process_and_for_text(
    checkpoint: Path, noise: np.ndarray, tmp_path: Path
) -> None:
    """Text models get transformers' own pipeline, with its errors; `unregister` restores everything."""
    np.save(tmp_path / "noise.npy", noise[:7_000])
    printed = run_fresh(f"""
import json, sys
import ast_hf
assert "transformers" not in sys.modules
import numpy as np
from transformers import BertConfig, BertModel, BertTokenizer, Wav2Vec2Config, Wav2Vec2Model, pipeline
from transformers.pipelines import FeatureExtractionPipeline
folder = {str(tmp_path)!r}
open(folder + "/vocab.txt", "w").write("\\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "test"]))
sizes = dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12)
BertModel(BertConfig(vocab_size=7, **sizes)).save_pretrained(folder + "/bert")
BertTokenizer(folder + "/vocab.txt").save_pretrained(folder + "/bert")
layers = dict(conv_dim=(8, 8), conv_kernel=(10, 3), conv_stride=(5, 2), num_conv_pos_embeddings=16)
Wav2Vec2Model(Wav2Vec2Config(**layers, **sizes, num_conv_pos_embedding_groups=2)).save_pretrained(folder + "/wav2vec2")

def attempt(model):
    try:
        pipe = pipeline("feature-extraction", model=model)
    except Exception as problem:
        return type(problem).__name__ + str(problem)
    assert type(pipe) is FeatureExtractionPipeline, type(pipe)
    return [pipe("a test"), pipe(["a", "a test"], batch_size=2)]

sources = [folder + "/bert", folder + "/wav2vec2", BertModel.from_pretrained(folder + "/bert")]
audio = {{"array": np.load(folder + "/noise.npy"), "sampling_rate": 16_000}}
embedding = np.array(pipeline("feature-extraction", model={str(checkpoint)!r})(audio))
ours = [attempt(source) for source in sources]
ast_hf.unregister()
stock = [attempt(source) for source in sources]
try:
    pipeline("feature-extraction", model={str(checkpoint)!r})
    without = "works"
except Exception as problem:
    without = "fails"
print("REPORT" + json.dumps([embedding.shape, ours, stock, without]))
""")
    shape, ours, stock, without = json.loads(printed[printed.index("REPORT") + len("REPORT") :])
    assert shape == [1, 23, 24]
    assert ours == stock
    assert [type(result) for result in ours] == [list, str, str]
    assert without == "fails"
