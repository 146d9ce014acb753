"""Features and scores on a GPU equal those on a CPU. Skipped without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, largest_gap, randomise
from transformers import pipeline

from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, padded_attention
from ast_hf.acceleration.placement import default_device, place
from ast_hf.patchout import Patchout

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

#: (3, 64): the first frames of each clip are audio
MASK = (torch.arange(64) < torch.tensor([64, 40, 24])[:, None]).long()


@pytest.fixture(autouse=True)
def _whole_float32() -> Iterator[None]:
    """Turn off TF32 (10 bits), which torch uses for convolutions by default."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def model(**fields: Any) -> ASTForAudioClassification:
    return randomise(ASTForAudioClassification(ASTConfig(**{**TINY, **fields}, num_labels=5)))


def spectrograms(frames: int = 64) -> torch.Tensor:
    return torch.randn(3, frames, 32, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_features(rate: int, tone: np.ndarray) -> None:
    extractor = ASTFeatureExtractor(sampling_rate=rate)
    clips = [tone, tone[:9000]]
    expected = extractor(clips, rate, return_tensors="pt")["input_values"]
    features = extractor(clips, rate, return_tensors="pt", device="cuda")["input_values"]
    assert features.device.type == "cuda"
    assert largest_gap(features.cpu(), expected) <= 5e-4
    moved = extractor([torch.from_numpy(clip).cuda() for clip in clips], rate, return_tensors="pt")[
        "input_values"
    ]
    assert torch.equal(moved, features)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("frames", [64, 90], ids=["own length", "longer"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_scores(implementation: str, frames: int, masked: bool) -> None:
    ours = model(attn_implementation=implementation)
    clips = spectrograms(frames)
    mask = torch.nn.functional.pad(MASK, (0, frames - 64)) if masked else None
    with torch.no_grad():
        expected = ours(clips, attention_mask=mask).logits
        logits = ours.cuda()(clips.cuda(), attention_mask=None if mask is None else mask.cuda()).logits
    assert logits.device.type == "cuda"
    assert expected.abs().max() > 0.1
    assert largest_gap(logits.cpu(), expected) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision_stays_close(dtype: torch.dtype) -> None:
    ours = model()
    with torch.no_grad():
        expected = ours(spectrograms(), attention_mask=MASK).logits
        logits = ours.to("cuda", dtype)(spectrograms().to("cuda", dtype), attention_mask=MASK.cuda()).logits
    assert logits.dtype == dtype
    assert largest_gap(logits.cpu(), expected) <= 0.05 * expected.abs().max()


@pytest.mark.skipif(padded_attention.varlen_attn is None, reason="this torch has no attention on segments")
@pytest.mark.parametrize("head", [8, 64], ids=["heads of 8", "heads of 64"])
def test_segments_give_the_gradients_of_a_mask(head: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = model(hidden_size=2 * head, num_attention_heads=2).cuda().train()
    arguments = {"input_values": spectrograms().cuda(), "attention_mask": MASK.cuda()}
    results: list[list[Any]] = []
    for is_able in (padded_attention.is_able, lambda *_: False):
        monkeypatch.setattr(padded_attention, "is_able", is_able)
        ours.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            assert padded_attention.is_able(ours.base_model.layernorm.weight, head) == (len(results) == 0)
            logits = ours(**arguments).logits
        logits.float().square().sum().backward()
        results.append([logits.detach().float(), *(value.grad for value in ours.parameters())])
    for one, other in zip(*results, strict=True):
        assert largest_gap(one, other) <= 0.05 * max(1.0, float(other.abs().max()))


def test_gradients_with_patchout(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Patchout.kept_tokens
    # Each device has a generator of its own; here both use the CPU's.
    monkeypatch.setattr(Patchout, "kept_tokens", lambda own, grid, device: draw(own, grid).to(device))
    gradients = []
    for device in ("cpu", "cuda"):
        ours = model().to(device).train()
        ours.base_model.patchout = Patchout(time=2, unstructured=3)
        torch.manual_seed(3)
        ours(spectrograms().to(device), labels=torch.tensor([0, 1, 4]).to(device)).loss.backward()
        gradients.append({name: value.grad.cpu() for name, value in ours.named_parameters()})
    assert max(float(value.abs().max()) for value in gradients[0].values()) > 0.1
    assert max(largest_gap(gradients[0][name], gradients[1][name]) for name in gradients[0]) <= 1e-4


def test_pipeline(tiny_checkpoint: Path, tone: np.ndarray) -> None:
    clip = {"raw": tone, "sampling_rate": 16_000}
    answers = [
        pipeline("audio-classification", model=str(tiny_checkpoint), device=device)(clip, top_k=3)
        for device in ("cpu", "cuda:0")
    ]
    assert [answer["label"] for answer in answers[0]] == [answer["label"] for answer in answers[1]]
    scores = [[answer["score"] for answer in part] for part in answers]
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)


def test_embeddings(tone: np.ndarray) -> None:
    ours = model()
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=64)
    clip = {"array": np.tile(tone, 3), "sampling_rate": 16_000}
    expected = ours.get_audio_embedding(clip, feature_extractor=extractor)
    result = ours.cuda().get_audio_embedding(clip, feature_extractor=extractor)
    for name in ("embedding", "windows", "columns"):
        assert result[name].device.type == "cuda"
        assert largest_gap(result[name].cpu(), expected[name]) <= 1e-3
    assert torch.equal(result.column_times, expected.column_times)


def recording(seconds: float) -> dict[str, Any]:
    """Return a recording in which the pitch rises, in samples of 16 bits."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    samples = 0.3 * np.sin(2 * np.pi * (300 + 400 * time) * time)
    return {"array": (np.rint(samples * 32_768) / 32_768).astype(np.float32), "sampling_rate": 16_000}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "options", [{}, {"return_timestamps": True, "threshold": 0.4}], ids=["scores", "times"]
)
def test_windows_of_a_batch_are_scored_as_one_by_one(
    options: dict[str, Any], workers: int, lively_checkpoint: Path
) -> None:
    inputs = [recording(0.5), recording(4.3), recording(0.4), recording(2.0)]
    pipes = [
        pipeline("audio-classification", model=str(lively_checkpoint), device=name)
        for name in ("cpu", "cuda")
    ]
    expected, found = (pipe(inputs, batch_size=8, num_workers=workers, **options) for pipe in pipes)
    for answer, other in zip(found, expected, strict=True):
        assert len(answer) == len(other)
        key = ("start", "label") if options else ("label",)
        pairs = zip(
            *(sorted(each, key=lambda row: [row[k] for k in key]) for each in (answer, other)), strict=True
        )
        for row, of_cpu in pairs:
            assert row["label"] == of_cpu["label"]
            assert row["score"] == pytest.approx(of_cpu["score"], abs=1e-3)


def test_a_command_takes_bfloat16(lively_checkpoint: Path) -> None:
    assert default_device().type == "cuda"
    loaded = ASTForAudioClassification.from_pretrained(lively_checkpoint)
    placed, where = place(loaded, torch.device("cuda"))
    has_it = torch.cuda.is_bf16_supported(including_emulation=False)
    assert where.precision == ("bfloat16" if has_it else "float32")
    assert str(placed.dtype) == f"torch.{where.precision}"


def test_prediction_in_bfloat16_has_the_best_labels_of_float32(tmp_path: Path) -> None:
    """Clips whose best two labels are clearly apart."""
    pytest.importorskip("datasets")
    import soundfile

    from ast_hf.evaluation.prediction import predict_logits
    from ast_hf.training import load_audio_dataset

    for number in range(70):
        path = tmp_path / "test" / f"label{number % 5}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, recording(0.4 + 0.01 * number)["array"], 16_000)
    split = load_audio_dataset(tmp_path)["test"]
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=64)
    ours = model()
    expected = predict_logits(ours, split, extractor)
    on_gpu = predict_logits(ours.cuda(), split, extractor)
    assert np.abs(on_gpu - expected).max() <= 1e-3
    assert np.array_equal(on_gpu, predict_logits(ours, split, extractor, workers=0, batch_size=64))
    found = predict_logits(ours.bfloat16(), split, extractor)
    best = np.sort(expected, axis=1)
    is_clear = best[:, -1] - best[:, -2] > 0.1 * np.abs(expected).max()
    assert is_clear.any()
    assert np.array_equal(found.argmax(1)[is_clear], expected.argmax(1)[is_clear])
