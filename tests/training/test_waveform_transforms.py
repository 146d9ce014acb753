"""Transforms of audiomentations: built strictly, keyed, checked. Most tests use a small stand-in for the library;
those marked `real` need the library itself, which `test_in_an_environment_with_audiomentations` installs.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import pickle
import random as python_random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import INSTRUMENTS, ROOT

from ast_hf import ASTFeatureExtractor, AstHfError
from ast_hf.inputs.collation import collate
from ast_hf.inputs.waveform_transforms import apply_transforms, build_transforms, try_transforms
from ast_hf.training import Augmentation, ClipInputs, Recipe, load_audio_dataset

real = pytest.mark.skipif(
    importlib.util.find_spec("audiomentations") is None, reason='needs pip install "ast_hf[augment]"'
)

#: A small audiomentations: it draws from both global generators, and some of its transforms are faulty.
LIBRARY = """
import random
from collections.abc import Callable
import numpy as np

class Transform:
    def __init__(self, p: float = 0.5):
        assert 0 <= p <= 1
        self.p = p
    def __call__(self, samples, sample_rate):
        return self.apply(samples, sample_rate) if random.random() < self.p else samples

class AddNoise(Transform):
    def __init__(self, level: float = 0.1, p: float = 0.5):
        super().__init__(p)
        self.level = level + 0
    def apply(self, samples, sample_rate):
        return samples + self.level * random.uniform(0.5, 1.0) * np.random.randn(len(samples))

class Louder(Transform):
    def apply(self, samples, sample_rate):
        samples *= 2.0  # in place
        return samples

class Slower(Transform):
    def apply(self, samples, sample_rate):
        return samples.repeat(3)

class NotRepeatable(Transform):
    def apply(self, samples, sample_rate):
        return samples + np.random.default_rng().standard_normal(len(samples))

class Divides(Transform):
    def apply(self, samples, sample_rate):
        return samples / np.float32(samples[0] != 0)

class Refuses(Transform):
    def apply(self, samples, sample_rate):
        if len(samples) == 8000:
            raise ValueError("half a second is too short")
        return samples

class Stereo(Transform):
    def apply(self, samples, sample_rate):
        return np.stack((samples, samples)) if len(samples) == 8000 else samples

class Empties(Transform):
    def apply(self, samples, sample_rate):
        return samples[:0] if len(samples) == 8000 else samples

class Background(Transform):
    def __init__(self, sounds_path: str, p: float = 0.5):
        super().__init__(p)

class Custom(Transform):
    def __init__(self, transform: Callable, p: float = 0.5):
        super().__init__(p)

class OneOf:
    def __init__(self, transforms, p: float = 1.0, weights=None):
        assert weights is None or isinstance(weights, tuple)
        self.transforms, self.p = transforms, p
    def __call__(self, samples, sample_rate):
        return random.choice(self.transforms)(samples, sample_rate) if random.random() < self.p else samples
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the stand-in for audiomentations."""
    (tmp_path / "stand_in" / "audiomentations").mkdir(parents=True)
    (tmp_path / "stand_in" / "audiomentations" / "__init__.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path / "stand_in")
    monkeypatch.delitem(sys.modules, "audiomentations", raising=False)
    yield
    sys.modules.pop("audiomentations", None)


def varied(entries: list, waveform: np.ndarray, seed: int = 0, rate: int = 16_000) -> np.ndarray:
    return apply_transforms(build_transforms(entries, "here"), waveform, rate, np.random.default_rng(seed))


def extractor() -> ASTFeatureExtractor:
    return ASTFeatureExtractor(num_mel_bins=32, max_length=64, mean=-4.0, std=3.0)


@pytest.fixture
def six(tmp_path: Path) -> Any:
    """Return six clips of noise of 0.4 to 0.9 s, two classes; row 1 has 8000 samples, row 2 begins with a zero."""
    random = np.random.default_rng(0)
    lines = ["path,label"]
    for number in range(6):
        samples = random.uniform(-0.4, 0.4, 6400 + 1600 * number)
        samples[0] *= number != 2
        soundfile.write(tmp_path / f"{number}.wav", samples, 16_000)
        lines.append(f"{number}.wav,{'ab'[number % 2]}")
    (tmp_path / "clips.csv").write_text("\n".join(lines))
    return load_audio_dataset(tmp_path / "clips.csv")["train"]


def inputs(split: Any, *entries: dict, cache: bool = True, **options: Any) -> ClipInputs:
    augmentation = Augmentation(audiomentations=list(entries), **options)
    return ClipInputs(split, extractor(), augmentation=augmentation, seed=3, cache=cache)


#: mistake -> (entries, fragments of the message)
REFUSED = {
    "unknown name": ([{"AddNoize": {}}], ["'AddNoize'", "did you mean 'AddNoise'?"]),
    "unknown argument": ([{"AddNoise": {"levle": 1}}], ["AddNoise.levle", "did you mean 'level'?"]),
    "impossible value": ([{"AddNoise": {"p": 2}}], ["AddNoise", "AssertionError: assert 0 <= p <= 1"]),
    "value of another kind": ([{"AddNoise": {"level": "loud"}}], ["AddNoise", "TypeError"]),
    "files left out": (
        [{"Background": {}}],
        ["Background", "needs sounds_path", "a file or folder of sounds"],
    ),
    "no such files": ([{"Background": {"sounds_path": "nowhere"}}], ["Background.sounds_path", "'nowhere'"]),
    "one of the files": ([{"Background": {"sounds_path": [".", "nowhere"]}}], ["sounds_path", "'nowhere'"]),
    "a function": ([{"Custom": {"transform": "print"}}], ["Custom.transform", "subclass of Augmentation"]),
    "a function left out": ([{"Custom": {}}], ["Custom.transform", "subclass of Augmentation"]),
    "a name alone": (["AddNoise"], ["'AddNoise'", "its name and its arguments"]),
    "two in one": ([{"AddNoise": {}, "Louder": {}}], ["its name and its arguments"]),
    "arguments in a list": ([{"AddNoise": [0.5]}], ["AddNoise", "[0.5]"]),
    "nothing inside": ([{"OneOf": {"transforms": []}}], ["OneOf", "no list of transforms"]),
    "transforms left out": ([{"OneOf": {}}], ["OneOf", "needs transforms"]),
    "unknown inside": (
        [{"OneOf": {"transforms": [{"Lauder": {}}]}}],
        ["OneOf: 'Lauder'", "did you mean 'Louder'?"],
    ),
}


@pytest.mark.parametrize(("entries", "fragments"), REFUSED.values(), ids=REFUSED)
def test_invalid_transforms_are_refused_with_the_recipe(
    library: None, entries: list, fragments: list[str]
) -> None:
    with pytest.raises(AstHfError) as caught:
        Recipe.from_dict({"augmentation": {"audiomentations": entries}}, "mine.yaml")
    assert caught.value.code == "E307"
    assert [
        part
        for part in ["mine.yaml: augmentation.audiomentations", *fragments]
        if part not in str(caught.value)
    ] == []


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "audiomentations", None)
    with pytest.raises(AstHfError, match=r'E307.*needs audiomentations.*pip install "ast_hf\[augment\]"'):
        Recipe.from_dict({"augmentation": {"audiomentations": [{"Gain": {}}]}})
    assert Recipe.from_dict({"augmentation": {"audiomentations": []}}) == Recipe()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"NotRepeatable": {"p": 0.01}}, "NotRepeatable.*same seed"),
        (
            {"OneOf": {"transforms": [{"Louder": {}}, {"NotRepeatable": {"p": 0.0}}]}},
            "NotRepeatable.*same seed",
        ),
        ({"AddNoise": {"level": float("nan"), "p": 0.01}}, "AddNoise.*NaN"),
        ({"Background": {"sounds_path": ".", "p": 0.01}}, "Background.*fails.*apply"),
    ],
    ids=["own draws", "own draws inside", "nan", "fails"],
)
def test_failing_transforms_are_refused_before_training(
    library: None, six: Any, entry: dict, message: str
) -> None:
    with pytest.raises(AstHfError, match=f"E307.*augmentation.audiomentations: {message}"):
        inputs(six, entry)


def test_trying_transforms_does_not_change_probabilities(library: None) -> None:
    transforms = build_transforms([{"OneOf": {"transforms": [{"Louder": {"p": 0.2}}], "p": 0.3}}], "here")
    try_transforms(transforms, 16_000, "here")
    call: Any = transforms[0].call
    assert (call.p, call.transforms[0].p) == (0.3, 0.2)


def test_probability_0_is_the_identity_and_1_changes(library: None, tone: np.ndarray) -> None:
    tone.setflags(write=False)
    for name in ("AddNoise", "Louder", "Slower"):
        np.testing.assert_array_equal(varied([{name: {"p": 0.0}}], tone), tone)
        changed = varied([{name: {"p": 1}}], tone)
        assert changed.dtype == np.float32
        assert not np.array_equal(changed, tone)
    np.testing.assert_array_equal(varied([], tone), tone)


def test_arguments_and_order_reach_the_transforms(library: None, tone: np.ndarray) -> None:
    np.testing.assert_array_equal(
        varied([{"Louder": {"p": 1}}, {"Slower": {"p": 1.0}}], tone), (2 * tone).repeat(3)
    )
    quiet, loud = (varied([{"AddNoise": {"level": level, "p": 1.0}}], tone) - tone for level in (0.01, 0.02))
    np.testing.assert_allclose(loud, 2 * quiet, atol=1e-6)
    assert 0.005 < quiet.std() < 0.0105


def test_one_of_several(library: None, tone: np.ndarray) -> None:
    both = [{"OneOf": {"transforms": [{"Louder": {"p": 1.0}}, {"Slower": {"p": 1.0}}], "weights": [1, 1]}}]
    lengths = [len(varied(both, tone, seed)) for seed in range(40)]
    assert set(lengths) == {16_000, 48_000}
    assert 8 < lengths.count(48_000) < 32


def test_probability_of_a_share(library: None, tone: np.ndarray) -> None:
    changed = [len(varied([{"Slower": None}], tone[:100], seed)) == 300 for seed in range(400)]
    assert np.mean(changed) == pytest.approx(0.5, abs=0.08)  # the library's own default


def test_global_generators_are_restored(library: None, tone: np.ndarray) -> None:
    def upcoming() -> tuple:
        # every other normal draw is kept for later
        return python_random.random(), np.random.standard_normal()

    for entry in ({"AddNoise": {"p": 1.0}}, {"Refuses": {"p": 1.0}}):
        python_random.seed(5)
        np.random.seed(5)
        expected = [upcoming() for _ in range(3)]
        python_random.seed(5)
        np.random.seed(5)
        drawn = [upcoming()]
        if "Refuses" in entry:
            with pytest.raises(AstHfError, match="too short"):
                varied([entry], tone[:8000])
        else:
            varied([entry], tone)
        assert drawn + [upcoming() for _ in range(2)] == expected


def test_an_item_depends_on_its_key_alone(library: None, six: Any) -> None:
    entries: list[dict] = [
        {"AddNoise": {"p": 0.5}},
        {"OneOf": {"transforms": [{"Louder": {}}, {"Slower": {}}]}},
    ]
    options: dict[str, Any] = {"mixup_probability": 0.5, "gain_db": 3.0}
    one, other = inputs(six, *entries, **options), inputs(six, *entries, cache=False, **options)
    expected = {key: one[key]["input_values"] for key in range(18)}
    assert len({values.numpy().tobytes() for values in expected.values()}) == 18
    for key in np.random.default_rng(0).permutation(18).tolist():
        np.random.seed(key)
        python_random.seed(key)
        assert torch.equal(other[key]["input_values"], expected[key])


def test_workers_give_the_same_items(library: None, six: Any) -> None:
    loader = torch.utils.data.DataLoader(
        inputs(six, {"AddNoise": {"p": 0.7}}), batch_size=2, collate_fn=collate, num_workers=2
    )
    alone = inputs(six, {"AddNoise": {"p": 0.7}})
    values = torch.cat([batch["input_values"] for batch in loader])
    assert torch.equal(values, torch.stack([alone[key]["input_values"] for key in range(6)]))


def test_nothing_else_is_drawn_differently_without_transforms(library: None, six: Any) -> None:
    plain = ClipInputs(six, extractor(), augmentation=Augmentation(gain_db=3.0), seed=3)
    assert torch.equal(inputs(six, gain_db=3.0)[4]["input_values"], plain[4]["input_values"])


def test_the_cached_clip_is_spared_and_the_result_cut(library: None, six: Any) -> None:
    varying = inputs(six, {"Louder": {"p": 1.0}}, {"Slower": {"p": 1.0}})
    before = varying.waveform(0).copy()
    assert varying[0]["input_values"].shape == (64, 32)
    np.testing.assert_array_equal(varying.waveform(0), before)
    limited = Augmentation(audiomentations=[{"Slower": {"p": 1.0}}]).vary_waveform(
        before, 16_000, 7000, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(limited, before.repeat(3)[:7000])


#: transform -> (row that it breaks, code, part of the message)
BROKEN = {
    "Divides": (2, "E104", "Divides: gives NaN or infinite samples"),
    "Refuses": (1, "E307", "Refuses: fails (ValueError: half a second is too short)"),
    "Stereo": (1, "E106", "Stereo: gives an array of shape (2, 8000)"),
    "Empties": (1, "E106", "Empties: gives an array of shape (0,)"),
}


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize(
    ("name", "row", "code", "message"), [(name, *rest) for name, rest in BROKEN.items()], ids=BROKEN
)
def test_a_broken_result_names_clip_and_transform(
    library: None, six: Any, name: str, row: int, code: str, message: str
) -> None:
    varying = inputs(six, {name: {"p": 1.0}})
    assert varying[0]["input_values"].isfinite().all()
    with pytest.raises(AstHfError, match=rf"row {row + 1}, .*{row}\.wav', {re.escape(message)}") as caught:
        _ = varying[row]
    assert caught.value.code == code


def test_a_broken_result_is_reported_through_a_worker(library: None, six: Any) -> None:
    varying = inputs(six, {"Refuses": {"p": 1.0}})
    loader = torch.utils.data.DataLoader(varying, batch_size=6, collate_fn=collate, num_workers=1)
    with pytest.raises(AstHfError, match=r"E307.*row 2, .*1\.wav', Refuses: fails"):
        next(iter(loader))


def test_recipe_reads_back_equal_and_holds_no_local_paths(library: None, tmp_path: Path) -> None:
    inside = [{"Background": {"sounds_path": str(tmp_path)}}, {"Louder": None}]
    entries = [{"AddNoise": {"level": 0.5, "p": 0.1}}, {"OneOf": {"transforms": inside}}]
    recipe = Recipe.from_dict({"augmentation": {"audiomentations": entries}})
    transforms = recipe.to_dict()["augmentation"]["audiomentations"]
    assert transforms[1]["OneOf"]["transforms"][0]["Background"]["sounds_path"] == tmp_path.name
    assert recipe.augmentation.audiomentations == entries
    plain = Recipe.from_dict({"augmentation": {"audiomentations": entries[:1]}})
    assert Recipe.from_dict(plain.to_dict()) == plain


# The library itself.


def all_transforms() -> dict[str, dict]:
    """Return transforms of the installed library, with arguments, that need no files, functions or other packages."""
    import audiomentations

    further = {"Limiter", "LoudnessNormalization", "Mp3Compression", "RoomSimulator"}
    needed = {"AdjustDuration": {"duration_seconds": 0.4}}
    return {
        name: {**needed.get(name, {}), "p": 1.0}
        for name, kind in vars(audiomentations).items()
        if inspect.isclass(kind) and name not in further
        if not {"sounds_path", "ir_path", "transform", "transforms"} & set(inspect.signature(kind).parameters)
    }


@real
def test_library_is_keyed_throughout(tone: np.ndarray) -> None:
    names = all_transforms()
    assert len(names) > 25
    for name, arguments in names.items():
        first, again, other = (varied([{name: arguments}], tone, seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again, err_msg=name)
        np.testing.assert_array_equal(varied([{name: {**arguments, "p": 0.0}}], tone), tone, err_msg=name)
        fixed = name in {
            "AdjustDuration",
            "Clip",
            "Normalize",
            "Padding",
            "PolarityInversion",
            "Reverse",
            "Trim",
        }
        assert fixed or first.shape != other.shape or not np.array_equal(first, other), name


@real
def test_library_adds_noise_at_the_requested_level(tone: np.ndarray) -> None:
    noise = varied([{"AddGaussianSNR": {"min_snr_db": 20, "max_snr_db": 20, "p": 1.0}}], tone) - tone
    assert 20 * np.log10(np.std(tone) / np.std(noise)) == pytest.approx(20.0, abs=0.2)


@real
def test_library_with_sounds_of_a_folder_and_compositions(tone: np.ndarray) -> None:
    sounds = str(INSTRUMENTS / "audio")
    some = [{"Shift": {"p": 1.0}}, {"TimeStretch": {"p": 1.0}}, {"PitchShift": {"p": 1.0}}]
    entries = [
        {"AddBackgroundNoise": {"sounds_path": sounds, "p": 1.0}},
        {"SomeOf": {"num_transforms": [1, None], "transforms": some}},
    ]
    transforms = build_transforms(entries, "here")
    try_transforms(transforms, 16_000, "here")
    first, other, again = (
        apply_transforms(transforms, tone, 16_000, np.random.default_rng(seed)) for seed in (1, 2, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@real
@pytest.mark.parametrize("name", ["AddGausianSNR", "AddGaussianSNR"])
def test_library_is_checked_strictly(name: str) -> None:
    with pytest.raises(AstHfError, match=r"E307.*did you mean '(AddGaussianSNR|min_snr_db)'"):
        build_transforms([{name: {"min_snr": 5}}], "here")


@real
def test_library_missing_an_optional_package_is_reported_before_training() -> None:
    if importlib.util.find_spec("pyroomacoustics") is not None:
        pytest.skip("pyroomacoustics is installed")
    with pytest.raises(AstHfError, match=r"E307.*RoomSimulator.*pyroomacoustics.*pip install"):
        try_transforms(build_transforms([{"RoomSimulator": {}}], "here"), 16_000, "here")


@real
def test_library_travels_to_spawned_workers(six: Any) -> None:
    background = {"sounds_path": str(INSTRUMENTS / "audio"), "p": 0.3}
    inside = [{"PitchShift": {}}, {"BandPassFilter": {}}, {"AddBackgroundNoise": background}]
    varying = inputs(six, {"AddGaussianSNR": {"p": 0.8}}, {"OneOf": {"transforms": inside}})
    sent = pickle.loads(pickle.dumps(varying))
    for key in range(6):
        assert torch.equal(sent[key]["input_values"], varying[key]["input_values"])


@pytest.mark.slow
def test_in_an_environment_with_audiomentations(tmp_path: Path) -> None:
    """audiomentations needs a soxr below 1, older than ours, so it gets an environment of its own."""
    tomllib = pytest.importorskip("tomllib")
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][
        "augment"
    ]
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "ours.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    pins = str(ROOT / "constraints-augment.txt")
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-c", pins, *extra], check=True)
    result = subprocess.run(
        [
            str(python),
            "-m",
            "pytest",
            "-rs",
            "-p",
            "no:cacheprovider",
            "-k",
            "test_library",
            str(Path(__file__)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=dict(os.environ),
    )
    assert result.returncode == 0, result.stdout[-4000:]
    assert "needs pip install" not in result.stdout
