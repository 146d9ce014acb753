"""Stores of clips: the same inputs to the bit, nothing stale, damage found, one copy for all processes."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset

from ast_hf import AstConfigError, ASTFeatureExtractor, AstHfWarning, AstInputError, AstRunError
from ast_hf.errors import _warned  # each warning is given once in a process
from ast_hf.inputs.clip_store import ClipStore, StoredClip, add_clips, find_clips
from ast_hf.inputs.collation import collate
from ast_hf.inputs.normalization import measure_statistics
from ast_hf.inputs.stored_clips import check_room, fill_store, plan_store
from ast_hf.training import (
    Augmentation,
    ClipInputs,
    Recipe,
    load_audio_dataset,
    plan_run,
    prepare,
    store_clips,
)
from ast_hf.training.checkpoints.run_options import plain_options
from ast_hf.training.preparing import Rehearsal, rehearse
from training.runs import Stop, checkpoint_digest, recipe

SPECTROGRAM = Augmentation(
    equalizer_db=3.0,
    time_stretch=1.3,
    mel_shift=2,
    mixstyle_probability=0.5,
    frequency_masks=1,
    frequency_mask_width=6,
    noise=0.1,
    label_smoothing=0.1,
)
WAVEFORM = Augmentation(speed=1.3, random_crop=True, mel_low_jitter_hz=20.0, mixup_probability=0.5)


def extractor(**fields: Any) -> ASTFeatureExtractor:
    return ASTFeatureExtractor(**{"num_mel_bins": 32, "max_length": 64, "mean": -4.0, "std": 3.0, **fields})


def write(folder: Path, lengths: list[int], subtype: str = "PCM_16") -> None:
    for number, length in enumerate(lengths):
        (folder / str(number % 2)).mkdir(exist_ok=True, parents=True)
        samples = np.random.default_rng(number).uniform(-0.4, 0.4, length)
        soundfile.write(folder / str(number % 2) / f"{number}.wav", samples, 16_000, subtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "clips", [8000, 4000, 16_000, 12_345])
    return tmp_path / "clips"


@pytest.fixture
def split(folder: Path) -> Dataset:
    return load_audio_dataset(folder)["train"]


def stored(
    split: Dataset,
    root: Path,
    augmentation: Augmentation | None = None,
    dtype: str = "float32",
    **fields: Any,
) -> ClipInputs:
    """Return a split that reads from a store."""
    inputs = ClipInputs(split, extractor(**fields), augmentation=augmentation, seed=3, cache=False)
    plan = plan_store(inputs, root, dtype, disable_tqdm=True)
    inputs.use_store(fill_store(plan, disable_tqdm=True), plan.dtype)
    return inputs


def items(inputs: ClipInputs) -> list[tuple[bytes, list]]:
    """Return three epochs of inputs and labels."""
    found = (inputs[key] for key in range(3 * len(inputs)))
    return [(item["input_values"].numpy().tobytes(), item["labels"].tolist()) for item in found]


def refuse_to_decode(inputs: ClipInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(clip: int) -> None:
        raise AssertionError(f"clip {clip} was decoded")

    monkeypatch.setattr(inputs, "decode", fail)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize(
    "augmentation", [None, SPECTROGRAM, WAVEFORM], ids=["none", "spectrogram", "waveform"]
)
@pytest.mark.parametrize("masked", [False, True])
def test_inputs_are_the_same_to_the_bit_without_decoding(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    augmentation: Augmentation | None,
    subtype: str,
    masked: bool,
) -> None:
    write(tmp_path / "clips", [8000, 4000, 16_000, 12_345], subtype)
    split = load_audio_dataset(tmp_path / "clips")["train"]
    plain = ClipInputs(split, extractor(return_attention_mask=masked), augmentation=augmentation, seed=3)
    inputs = stored(split, tmp_path / "store", augmentation, return_attention_mask=masked)
    refuse_to_decode(inputs, monkeypatch)
    assert items(inputs) == items(plain)
    assert (inputs.feature_store is None) == (augmentation is WAVEFORM)


def test_whole_samples_take_two_bytes_and_others_four(tmp_path: Path) -> None:
    sizes = {}
    for subtype in ("PCM_16", "FLOAT"):
        write(tmp_path / subtype, [8000, 4000], subtype)
        stored(load_audio_dataset(tmp_path / subtype)["train"], tmp_path / f"{subtype}-store", WAVEFORM)
        values = next((tmp_path / f"{subtype}-store").glob("*/*/values.npy"))
        sizes[subtype] = np.load(values).nbytes
    assert sizes == {"PCM_16": 2 * 12_000, "FLOAT": 4 * 12_000}


def test_mean_and_std_are_the_same_without_decoding(
    split: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = stored(split, tmp_path / "store")
    expected = measure_statistics(ClipInputs(split, extractor()), disable_tqdm=True)
    refuse_to_decode(inputs, monkeypatch)
    assert measure_statistics(inputs, disable_tqdm=True) == expected


def test_float16_rounds_raw_log_mel_by_less_than_documented(split: Dataset, tmp_path: Path) -> None:
    exact, rounded = (stored(split, tmp_path / "store", dtype=dtype) for dtype in ("float32", "float16"))
    differences = [
        (exact.stored_features(clip) - rounded.stored_features(clip)).abs().max()
        for clip in range(len(split))
    ]
    assert 0 < max(differences) <= 0.004


def test_a_changed_clip_is_not_read_stale_and_the_others_are_not_written_again(
    folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "store"
    before = items(stored(load_audio_dataset(folder)["train"], root))
    path = folder / "0" / "2.wav"
    times = path.stat()
    soundfile.write(path, np.random.default_rng(9).uniform(-0.4, 0.4, 16_000), 16_000, "PCM_16")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    split = load_audio_dataset(folder)["train"]
    assert len(plan_store(ClipInputs(split, extractor()), root, "float32", disable_tqdm=True).missing) == 1
    after = items(stored(split, root))
    assert after == items(ClipInputs(split, extractor(), seed=3))
    assert sum(left != right for left, right in zip(before, after, strict=True)) == 3


def test_each_setting_has_a_folder_and_mean_and_std_need_none(split: Dataset, tmp_path: Path) -> None:
    settings: list[dict[str, Any]] = [{}, {"num_mel_bins": 16}, {"max_length": 32}, {"dtype": "float16"}]
    for fields in [*settings, {"mean": 1.0, "std": 2.0}]:
        stored(split, tmp_path, **fields)
    stored(split, tmp_path, WAVEFORM)
    assert len(list(tmp_path.glob("*-*"))) == len(settings) + 1


def test_another_front_end_is_not_read(
    split: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(split, tmp_path / "store")
    monkeypatch.setattr("ast_hf.inputs.stored_clips.front_end", lambda: "another")
    plan = plan_store(ClipInputs(split, extractor()), tmp_path / "store", "float32", disable_tqdm=True)
    assert len(plan.missing) == len(split)


def remove_mark(segment: Path) -> None:
    (segment / "segment.json").unlink()


def cut_values(segment: Path) -> None:
    os.truncate(segment / "values.npy", (segment / "values.npy").stat().st_size - 1)


def change_table(segment: Path) -> None:
    content = bytearray((segment / "clips.npy").read_bytes())
    content[-8] ^= 1
    (segment / "clips.npy").write_bytes(content)


def change_mark(segment: Path) -> None:
    text = (segment / "segment.json").read_text().replace("<f4", "<f2")
    (segment / "segment.json").write_text(text)


def leave_part(segment: Path) -> None:
    segment.rename(segment.with_name(f"{segment.name}.part"))


@pytest.mark.parametrize("damage", [remove_mark, cut_values, change_table, change_mark, leave_part])
def test_a_damaged_or_half_written_store_is_written_again(
    split: Dataset, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    expected = items(stored(split, tmp_path / "store"))
    (segment,) = (tmp_path / "store").glob("*/*-*")
    damage(segment)
    assert items(stored(split, tmp_path / "store")) == expected
    (left,) = (tmp_path / "store").glob("*/*-*")
    assert left.name.split("-")[0] == segment.name.split("-")[0]
    assert left.name != segment.name


def test_changed_values_are_found_when_they_are_read(split: Dataset, tmp_path: Path) -> None:
    inputs = stored(split, tmp_path / "store", dtype="float16")
    expected = items(inputs)
    (values,) = (tmp_path / "store").glob("*/*/values.npy")
    content = bytearray(values.read_bytes())
    content[200] ^= 1
    values.write_bytes(content)
    _warned.clear()
    damaged = stored(split, tmp_path / "store", dtype="float16")
    with pytest.warns(AstHfWarning, match="W409.*damaged"):
        assert items(damaged) == expected
    plan = plan_store(ClipInputs(split, extractor()), tmp_path / "store", "float16", disable_tqdm=True)
    assert len(plan.missing) == len(split)


DIGESTS = [bytes([number]) * 16 for number in range(3)]


def arrays(numbers: list[int]) -> list[StoredClip]:
    return [StoredClip(np.full((2, 4), number, np.float32), 0.0, 1.0) for number in numbers]


def test_two_runs_at_once_write_each_clip_once(tmp_path: Path) -> None:
    computed: list[int] = []
    results: list[ClipStore] = []
    begun = threading.Event()

    def compute(numbers: list[int]) -> list[StoredClip]:
        begun.set()
        computed.extend(numbers)
        return arrays(numbers)

    def run() -> None:
        results.append(add_clips(tmp_path, DIGESTS, compute, dtype=np.dtype("<f4"), width=4))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert begun.is_set()
    assert computed == [0, 1, 2]
    for store in results:
        assert [store.read(clip).max() for clip in range(3)] == [0, 1, 2]


def test_a_clip_that_is_there_twice_is_stored_once(tmp_path: Path) -> None:
    twice = [DIGESTS[0], DIGESTS[1], DIGESTS[0]]
    store = add_clips(tmp_path, twice, arrays, dtype=np.dtype("<f4"), width=4)
    assert [store.read(clip).max() for clip in range(3)] == [0, 1, 0]
    assert find_clips(tmp_path, [DIGESTS[2], DIGESTS[1]])[1] == [0]


def test_a_full_disk_is_an_error_that_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(AstRunError, match=r"E401.*values\.npy.*No space left"):
            add_clips(tmp_path, DIGESTS, arrays, dtype=np.dtype("<f4"), width=4)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert add_clips(tmp_path, DIGESTS, arrays, dtype=np.dtype("<f4"), width=4) is not None


def test_too_little_room_is_found_before_clips_are_decoded(
    split: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20_000))
    plan = plan_store(ClipInputs(split, extractor()), tmp_path / "store", "float32", disable_tqdm=True)
    with pytest.raises(AstRunError, match=r"E401.*data\.store needs about 0\.0\d+ MB, and 0\.02 MB are free"):
        check_room([plan])
    assert not (tmp_path / "store").exists()


def test_workers_map_the_files_instead_of_copying_them(split: Dataset, tmp_path: Path) -> None:
    inputs = stored(split, tmp_path / "store")
    assert len(pickle.dumps(inputs.feature_store)) < 4_000
    again = pickle.loads(pickle.dumps(inputs.feature_store))
    assert again.read(2).tobytes() == inputs.feature_store.read(2).tobytes()
    loader = torch.utils.data.DataLoader(inputs, 2, collate_fn=collate, num_workers=2)
    read = torch.cat([batch["input_values"] for batch in loader])
    assert read.numpy().tobytes() == b"".join(values for values, _ in items(inputs)[: len(inputs)])


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"store": " "}, r"data\.store: is empty"),
        ({"store_dtype": "float16"}, r"data\.store names no folder"),
        ({"store": "x", "store_dtype": "int8"}, "store_dtype"),
        ({"store": "x", "streaming": True}, r"data\.store: keeps clips"),
    ],
)
def test_options_that_contradict_each_other_are_refused(data: dict[str, Any], match: str) -> None:
    training = {"max_steps": 3} if "streaming" in data else {}
    values = {
        "data": {"source": "clips", **data},
        "features": {"mean": 0.0, "std": 1.0},
        "training": training,
    }
    with pytest.raises(AstConfigError, match=rf"E307.*{match}"):
        Recipe.from_dict(values)


def test_the_published_recipe_has_no_folder_of_this_machine() -> None:
    values = {"data": {"source": "clips", "store": "/home/me/store", "store_dtype": "float16"}}
    published = Recipe.from_dict(values).to_dict()
    assert published["data"]["store"] == "store"
    assert Recipe.from_dict(published).data.store_dtype == "float16"


def test_the_dry_run_says_what_will_be_written_and_writes_nothing(clips: Path, tmp_path: Path) -> None:
    values = {"data": {"source": str(clips), "store": str(tmp_path / "store")}}
    plan = plan_run(recipe(clips, values), tmp_path / "out", estimates=False)
    assert not list(tmp_path.iterdir())
    train, test = plan.stores
    assert "float32 features of train (24 of 24 clips, " in train
    assert "float32 features of test (8 of 8 clips, " in test
    assert any(train in line for line in plan.lines())


def stored_recipe(clips: Path, store: Path | None, dtype: str = "float32") -> Recipe:
    augmentation = {"frequency_masks": 1, "frequency_mask_width": 6}
    data = {"source": str(clips), "store": None if store is None else str(store), "store_dtype": dtype}
    return recipe(clips, {"data": data, "augmentation": augmentation})


def test_a_resumed_run_has_the_weights_of_an_unbroken_one_without_a_store(
    clips: Path, tmp_path: Path
) -> None:
    """Mean and std are measured on the store, too; the resumed run finds the store of the first one damaged."""
    prepare(stored_recipe(clips, None), tmp_path / "plain").trainer.train()
    trainer = prepare(stored_recipe(clips, tmp_path / "store"), tmp_path / "run").trainer
    trainer.add_callback(Stop(epoch=1))
    trainer.train()
    remove_mark(next((tmp_path / "store").glob("*/*-*")))
    trainer = prepare(stored_recipe(clips, tmp_path / "store"), tmp_path / "run").trainer
    trainer.train(resume_from_checkpoint="auto")
    plain, resumed = (tmp_path / name / "checkpoint-6" for name in ("plain", "run"))
    assert checkpoint_digest(plain) == checkpoint_digest(resumed)
    facts = [(path / "preprocessor_config.json").read_bytes() for path in (plain, resumed)]
    assert facts[0] == facts[1]


def test_the_folder_may_change_when_a_run_is_resumed_but_not_the_dtype(clips: Path, tmp_path: Path) -> None:
    def options(store: Path | None, dtype: str = "float32") -> dict[str, Any]:
        run = rehearse(stored_recipe(clips, store, dtype), tmp_path / "run", Rehearsal(tmp_path))
        assert run.trainer.decided is not None
        return plain_options(run.trainer.decided)

    plain = options(None)
    assert options(tmp_path / "a") == plain
    rounded = options(tmp_path / "a", "float16")
    assert {name for name in plain if plain[name] != rounded[name]} == {"data.store_dtype"}


def test_another_dtype_is_refused(split: Dataset, tmp_path: Path) -> None:
    with pytest.raises(AstInputError, match=r"E108.*'int8' is not one of them.*'float32' or 'float16'"):
        store_clips(ClipInputs(split, extractor()), tmp_path, dtype="int8")
