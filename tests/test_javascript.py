"""transformers.js reads saved folders from disk, and computes the same features from the same samples.

It computes in float64 and we in float32, so values far below the loudest of their frame differ most. Only features are
compared: the model itself would have to be an ONNX file. `make test-javascript` installs what is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import INSTRUMENTS, ROOT, TINY

from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, load_audio

JAVASCRIPT = ROOT / "tests" / "javascript"
PACKAGE = JAVASCRIPT / "node_modules" / "@huggingface" / "transformers"
#: Set by `make test-javascript`: a missing tool is then a failure.
REQUIRED = os.environ.get("AST_HF_TEST_JAVASCRIPT") == "1"
if shutil.which("node") is None:
    MISSING = "needs node"
elif not PACKAGE.is_dir():
    MISSING = "needs `make test-javascript`"
else:
    MISSING = ""
pytestmark = pytest.mark.skipif(bool(MISSING) and not REQUIRED, reason=MISSING)

TIME = np.arange(5 * 16_000) / 16_000
NOISE = np.random.default_rng(0).standard_normal(len(TIME))
#: 5 s have 498 frames: all of them are cut by the extractors of 64 to 320 frames, and padded by that of 1024.
SIGNALS = {
    "tone": 0.3 * np.sin(2 * np.pi * 440 * TIME),
    "noise": 0.1 * NOISE,
    "quiet noise with an offset": 1e-3 * NOISE + 0.3,
    "silence and a burst": np.where((TIME > 0.3) & (TIME < 0.4), 0.5 * NOISE, 0.0),
    "full scale square": np.sign(np.sin(2 * np.pi * 100 * TIME)),
    "half a second": 0.1 * NOISE[:8_000],
    "one frame": 0.1 * NOISE[:400],
    "one sample less than two frames": 0.1 * NOISE[:559],
    "exactly 64 frames": 0.1 * NOISE[: 400 + 63 * 160],
}
RECORDINGS = {path.stem: path for path in sorted((INSTRUMENTS / "audio").glob("*.ogg"))}
SOME = sorted(RECORDINGS)[::24]

#: Folder -> fields of its extractor.
EXTRACTORS: dict[str, dict[str, Any]] = {
    "published": {},
    "short": {"max_length": 320},
    "small": {"num_mel_bins": 64, "max_length": 128, "mean": -6.0, "std": 4.0},
    "tiny": {"num_mel_bins": 32, "max_length": 64},
    "raw": {"max_length": 128, "do_normalize": False},
    "other_rate": {"max_length": 128, "sampling_rate": 8_000, "return_attention_mask": True},
}
LABELS = {0: "cat", 1: "Köter", 2: "owl, hooting"}


def save(folder: Path, fields: dict[str, Any]) -> None:
    extractor = ASTFeatureExtractor(**fields)
    sizes = {"num_mel_bins": extractor.num_mel_bins, "max_length": extractor.max_length}
    config = ASTConfig(**{**TINY, **sizes}, id2label=LABELS, problem_type="single_label_classification")
    ASTForAudioClassification(config).save_pretrained(folder)
    extractor.save_pretrained(folder)


class Reading:
    """The report of transformers.js on each folder, and the features that it computed."""

    def __init__(self, root: Path, report: dict[str, Any]) -> None:
        self.root = root
        self.models = report["models"]
        self.version = report["version"]
        self.extractors = {name: ASTFeatureExtractor.from_pretrained(root / name) for name in self.models}

    def features(self, folder: str, sound: str) -> np.ndarray:
        shape = self.models[folder]["shapes"][sound]
        return np.fromfile(self.root / folder / f"{sound}.features", dtype=np.float32).reshape(shape)

    def gap(self, folder: str, sound: str) -> float:
        """Return the largest difference from the features of the folder's own extractor."""
        samples = np.fromfile(self.root / f"{sound}.f32", dtype=np.float32)
        extractor = self.extractors[folder]
        ours = extractor(samples, 16_000, return_tensors="np", truncation=True)["input_values"]
        theirs = self.features(folder, sound)
        assert theirs.shape == ours.shape == (1, extractor.max_length, extractor.num_mel_bins)
        return float(np.abs(theirs - ours).max())


def read(root: Path, folders: list[str], sounds: dict[str, np.ndarray]) -> Reading:
    """Save checkpoints and samples, and let transformers.js read them."""
    assert not MISSING, MISSING
    for name in folders:
        save(root / name, EXTRACTORS[name])
    for name, samples in sounds.items():
        samples.astype(np.float32).tofile(root / f"{name}.f32")
    (root / "jobs.json").write_text(json.dumps({"root": f"{root}/", "models": folders, "sounds": [*sounds]}))
    command = ["node", str(JAVASCRIPT / "features.mjs"), str(root / "jobs.json")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr[-4000:]
    return Reading(root, json.loads(process.stdout))


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    recordings = {name: load_audio(RECORDINGS[name], 16_000) for name in SOME}
    return read(tmp_path_factory.mktemp("javascript"), [*EXTRACTORS], recordings | SIGNALS)


def test_the_installed_version_is_that_of_package_json(reading: Reading) -> None:
    dependencies = json.loads((JAVASCRIPT / "package.json").read_text())["dependencies"]
    assert reading.version == dependencies["@huggingface/transformers"]


@pytest.mark.parametrize("folder", EXTRACTORS)
def test_transformers_js_reads_saved_folders(reading: Reading, folder: str) -> None:
    report, fields = reading.models[folder], EXTRACTORS[folder]
    assert report["config"] == {
        "model_type": "audio-spectrogram-transformer",
        "id2label": {"0": "cat", "1": "Köter", "2": "owl, hooting"},
        "num_mel_bins": fields.get("num_mel_bins", 128),
        "max_length": fields.get("max_length", 1024),
    }
    assert report["extractor"] == "ASTFeatureExtractor"


@pytest.mark.parametrize("sound", SIGNALS)
@pytest.mark.parametrize("folder", ["published", "short", "small", "tiny"])
def test_transformers_js_computes_our_features_of_signals(reading: Reading, folder: str, sound: str) -> None:
    assert reading.gap(folder, sound) <= 1e-3


@pytest.mark.parametrize("folder", ["published", "short", "small", "tiny"])
def test_transformers_js_computes_our_features_of_recordings(reading: Reading, folder: str) -> None:
    gaps = {name: reading.gap(folder, name) for name in SOME}
    assert {name: gap for name, gap in gaps.items() if gap > 1e-3} == {}
    assert np.median([*gaps.values()]) < 1e-4


def test_raw_values_agree_as_well(reading: Reading) -> None:
    """Raw values differ 9.1 times as much as those normalised for AudioSet."""
    assert max(reading.gap("raw", name) for name in SOME) <= 9.1e-3


@pytest.mark.slow
def test_all_recordings_of_the_demo(tmp_path: Path) -> None:
    """589 are within 1e-3 everywhere; three of 27,904 values of `sax_reed__BagPipe__0516` are up to 1.2e-3 off."""
    reading = read(tmp_path, ["short"], {name: load_audio(path, 16_000) for name, path in RECORDINGS.items()})
    gaps = {name: reading.gap("short", name) for name in RECORDINGS}
    assert len(gaps) == 590
    assert sum(gap > 1e-3 for gap in gaps.values()) <= 3
    assert max(gaps.values()) < 2e-3


def test_other_rates_and_masks_are_not_supported(reading: Reading) -> None:
    """transformers.js uses 400 samples every 160 at any rate: 48 frames of 8,000 samples; at 8 kHz there are 98."""
    padded = np.abs(reading.features("other_rate", "half a second")[0] - 0.4670327).max(axis=1) < 1e-5
    assert padded.tolist() == [False] * 48 + [True] * 80
    assert reading.models["other_rate"]["outputs"] == ["input_values"]


def test_padding_and_truncation_match_ours(reading: Reading) -> None:
    short, long = reading.features("published", "half a second"), reading.features("published", "noise")
    assert np.abs(short[0, 48:] - 0.4670327).max() < 1e-5  # -mean / (2 * std) of AudioSet, not silence
    assert np.array_equal(long[0, :128], reading.features("short", "noise")[0, :128])
