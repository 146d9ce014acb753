"""Clips pushed to a Hub load unchanged by name in another process, stored and streamed; no path or token is sent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
from conftest import TOKEN
from hub_server import Hub, run_python

from ast_hf import AstHfError, AstHfWarning, cli
from ast_hf.training import Recipe, load_audio_dataset, push_audio_dataset
from ast_hf.training.splits import read_splits

#: Prints the content of data sets by name as JSON: class names, and rows with a digest of each waveform.
READ = """
import hashlib, json, sys
from ast_hf import AstHfError, load_audio
from ast_hf.training import load_audio_dataset
from ast_hf.data.splits import label_names

def rows(part):
    samples = [load_audio(row["audio"], start=row.get("start"), end=row.get("end")) for row in part]
    cells = [{name: cell for name, cell in row.items() if name != "audio"} for row in part]
    names = [row["audio"]["path"].split("/")[-1] for row in part]
    digests = [hashlib.sha256(waveform.tobytes()).hexdigest() for waveform in samples]
    return [[*clip] for clip in zip(cells, names, digests, strict=True)]

def read(splits):
    return {name: [label_names(part), rows(part)] for name, part in splits.items()}

def contents(name):
    try:
        return [read(load_audio_dataset(name, streaming=streaming)) for streaming in (False, True)]
    except AstHfError as problem:
        return str(problem)

if __name__ == "__main__":
    print(json.dumps({name: contents(name) for name in sys.argv[1:]}))
"""


def contents_of(splits: Any) -> Any:
    """Return the same content of splits in this process."""
    names: dict[str, Any] = {"__name__": "read"}
    exec(READ, names)
    return json.loads(json.dumps(names["read"](splits)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return label folders of noise in several formats, 0.3 to 0.9 s: three clips each to train on, one to test on."""
    random = np.random.default_rng(0)
    for number, suffix in enumerate(("wav", "flac", "ogg", "mp3")):
        for label in ("köter", "cat"):
            place = tmp_path / "my clips" / ("test" if suffix == "mp3" else "train") / label
            place.mkdir(parents=True, exist_ok=True)
            samples = random.uniform(-0.5, 0.5, (8_000 * (number + 1), 1 + number % 2))
            soundfile.write(place / f"{number} ü.{suffix}", samples, 22_050 if number else 16_000)
    return tmp_path / "my clips"


def absolute_table(folder: Path) -> Path:
    """Return a table with several labels per clip, absolute paths, boundaries and columns of text."""
    lines = ["path,label,start,end,speaker,original"]
    for number, path in enumerate(sorted(folder.rglob("*.*"))):
        label = ("cat;owl", "owl", "dog;cat;owl")[number % 3]
        lines.append(f"{path},{label},0.1,{0.2 + number / 100},speaker {number},{path.parent / 'raw.wav'}")
    table = folder.parent / "table.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    return table


def embedded_table(folder: Path) -> Path:
    """Return Parquet with the files' bytes and their local paths."""
    paths = sorted(folder.rglob("*.wav"))
    rows = {"audio": [{"bytes": path.read_bytes(), "path": str(path)} for path in paths], "label": ["a", "b"]}
    features = {"audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}}
    stored = datasets.Dataset.from_dict(
        rows, features=datasets.Features(**features, label=datasets.Value("string"))
    )
    stored.cast_column("audio", datasets.Audio(decode=False)).to_parquet(folder.parent / "embedded.parquet")
    return folder.parent / "embedded.parquet"


@pytest.mark.long
def test_pushed_clips_load_unchanged_by_name(data_hub: Hub, folder: Path, tmp_path: Path) -> None:
    sources = {
        "user/folders": load_audio_dataset(folder),
        "user/table": load_audio_dataset(absolute_table(folder), label_separator=";"),
        "lab/embedded": load_audio_dataset(embedded_table(folder)),
    }
    expected = {}
    for name, splits in sources.items():
        pushed = push_audio_dataset(splits, name)
        assert (pushed.repo_id, pushed.commit) == (name, data_hub.commits(f"datasets/{name}")[-1].oid)
        expected[name] = contents_of(splits)
    assert {split: [names, len(rows)] for split, (names, rows) in expected["user/folders"].items()} == {
        "train": [["cat", "köter"], 6],
        "test": [["cat", "köter"], 2],
    }
    assert expected["user/table"]["train"][0] == ["cat", "dog", "owl"]
    for row, *_ in expected["user/table"]["train"][1]:
        row["original"] = "raw.wav"
    push_audio_dataset(sources["user/folders"], "user/secret", private=True)
    assert data_hub.repositories["datasets/user/secret"].private

    home = str(tmp_path).encode()
    uploads = data_hub.uploads()
    assert len(uploads) > 8
    assert {name for name, content in uploads if home in content or TOKEN.encode() in content} == set()
    shutil.rmtree(folder)

    process = run_python(data_hub, tmp_path / "cache", "-c", READ, *expected, "user/secret", "user/nothing")
    assert process.returncode == 0, process.stderr[-4000:]
    loaded = json.loads(process.stdout)
    for name, splits in expected.items():
        assert loaded[name] == [splits, splits], name
    for name in ("user/secret", "user/nothing"):
        assert loaded[name].startswith("[AST-E702] "), loaded[name]
        assert f"'{name}'" in loaded[name]
        assert "hf auth login" in loaded[name]


def test_the_card_declares_a_playable_audio_column(data_hub: Hub, folder: Path) -> None:
    push_audio_dataset(load_audio_dataset(folder), "user/clips")
    card = data_hub.files("datasets/user/clips")["README.md"].content.decode()
    assert "- name: audio\n    dtype: audio\n" in card
    assert "'0': cat" in card


def test_each_push_is_one_commit_that_replaces_the_last(data_hub: Hub, folder: Path) -> None:
    splits = load_audio_dataset(folder)
    push_audio_dataset(splits, "user/clips")
    push_audio_dataset(datasets.DatasetDict(train=splits["test"]), "user/clips")
    first, second = (set(commit.files) for commit in data_hub.commits("datasets/user/clips"))
    train, test = (f"data/{name}-00000-of-00001.parquet" for name in ("train", "test"))
    assert first == {"README.md", train, test}
    assert second == {"README.md", train}


def test_a_set_of_several_configurations(data_hub: Hub, folder: Path) -> None:
    for config, split in (("small", "test"), ("large", "train")):
        part = load_audio_dataset(folder)[split].cast_column("audio", datasets.Audio())
        datasets.DatasetDict(train=part).push_to_hub("user/clips", config_name=config, token=TOKEN)
    with pytest.raises(AstHfError, match=r"E209.*'user/clips'.*'small'.*Fix: name one with config_name"):
        load_audio_dataset("user/clips")
    with pytest.raises(AstHfError, match=r"E209.*'medium' not found.*'small'"):
        load_audio_dataset("user/clips", config_name="medium")
    assert len(load_audio_dataset("user/clips", config_name="small")["train"]) == 2
    recipe = Recipe.from_dict({"data": {"source": "user/clips", "config_name": "large", "eval_splits": []}})
    assert len(read_splits(recipe.data, seed=0)[0]) == 6
    assert cli.main(["stats", "user/clips", "--config_name", "small", "--streaming"]) == 0
    with pytest.raises(AstHfError, match=r"E108.*audio_root.*no effect on a data set on the Hub"):
        load_audio_dataset("user/clips", config_name="small", audio_root=folder)


def test_a_push_goes_to_a_branch(data_hub: Hub, folder: Path) -> None:
    push_audio_dataset(load_audio_dataset(folder), "user/clips", revision="v2")
    assert data_hub.files("datasets/user/clips") == {}
    assert len(data_hub.files("datasets/user/clips", "v2")) == 3


@pytest.mark.parametrize(
    ("request_", "how"),
    [
        ("POST /api/repos/create", {"status": 503}),
        ("POST .*/objects/batch", {"status": 500}),
        ("PUT /lfs/", {"kind": "reset", "after": 1000}),
        ("POST .*/commit/main", {"status": 503}),
        ("POST .*/commit/main", {"kind": "reset"}),
    ],
    ids=["create", "batch", "upload breaks off", "commit", "commit breaks off"],
)
def test_an_interrupted_push_is_retried(
    data_hub: Hub, folder: Path, waits: list[float], request_: str, how: dict
) -> None:
    data_hub.fail(request_, **how)
    push_audio_dataset(load_audio_dataset(folder), "user/clips")
    assert waits
    assert len(data_hub.commits("datasets/user/clips")) == 1
    assert len(data_hub.files("datasets/user/clips")) == 3


@pytest.mark.parametrize("kind", ["lost", "reset"])
def test_a_lost_answer_makes_one_commit_of_a_later_version(
    data_hub: Hub, folder: Path, waits: list[float], kind: str
) -> None:
    splits = load_audio_dataset(folder)
    push_audio_dataset(splits, "user/clips")
    data_hub.fail("POST .*/commit/.*", kind=kind)
    fewer = datasets.DatasetDict({"train": splits["train"].select(range(2)), "test": splits["test"]})
    pushed = push_audio_dataset(fewer, "user/clips")
    assert len(data_hub.commits("datasets/user/clips")) == 2
    assert pushed.commit == data_hub.commits("datasets/user/clips")[-1].oid


@pytest.mark.parametrize("after", [1, 5000], ids=["not a table", "another sound"])
def test_clips_that_differ_from_the_hubs_are_downloaded_again(
    data_hub: Hub, folder: Path, after: int
) -> None:
    push_audio_dataset(load_audio_dataset(folder), "user/clips")
    data_hub.fail("GET .*/train-.*parquet", kind="flip", after=after)
    with pytest.raises(AstHfError, match=r"E706.*train-00000"):
        load_audio_dataset("user/clips")
    assert contents_of(load_audio_dataset("user/clips")) == contents_of(load_audio_dataset(folder))


def test_a_failed_push_names_the_command_that_finishes_it(
    data_hub: Hub, folder: Path, waits: list[float]
) -> None:
    splits = load_audio_dataset(folder)
    push_audio_dataset(datasets.DatasetDict(train=splits["test"]), "user/clips")
    before = data_hub.files("datasets/user/clips")
    data_hub.fail("POST .*/commit/main", 503, times=100)
    with pytest.raises(AstHfError, match=r"E704.*'user/clips'.*503.*call push_audio_dataset again") as caught:
        push_audio_dataset(splits, "user/clips")
    assert TOKEN not in str(caught.value)
    assert data_hub.files("datasets/user/clips") == before
    sent = data_hub.uploaded_bytes

    data_hub.faults.clear()
    push_audio_dataset(splits, "user/clips")
    assert len(data_hub.files("datasets/user/clips")) == 3
    assert data_hub.uploaded_bytes == sent


def test_pushes_that_the_hub_does_not_allow(
    data_hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    splits = load_audio_dataset(folder)
    push_audio_dataset(splits, "user/clips")
    sent = data_hub.count("POST .*/(preupload|commit|objects)/")
    with pytest.raises(AstHfError, match=r"E705.*public already"):
        push_audio_dataset(splits, "user/clips", private=True)
    with pytest.raises(AstHfError, match=r"E701.*write access"):
        push_audio_dataset(splits, "somebody/clips")
    assert data_hub.count("POST .*/(preupload|commit|objects)/") == sent > 0
    requests = len(data_hub.log)
    for name in ("clips", "no name", "user/a/b"):
        with pytest.raises(AstHfError, match=r"E702"):
            push_audio_dataset(splits, name)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(AstHfError, match=r"E701.*there is no token"):
        push_audio_dataset(splits, "user/clips")
    assert len(data_hub.log) == requests
    assert waits == []


def test_a_token_in_a_column_or_a_class_name_is_refused(data_hub: Hub, folder: Path) -> None:
    table = folder.parent / "table.csv"
    for cells in (f"a,{TOKEN}", f"{TOKEN},quiet"):
        table.write_text(f"path,label,note\n{next(folder.rglob('*.wav'))},{cells}\n", encoding="utf-8")
        with pytest.raises(
            AstHfError, match=r"E705.*split 'train', column.*holds a Hugging Face token"
        ) as caught:
            push_audio_dataset(load_audio_dataset(table), "user/clips")
        assert TOKEN not in str(caught.value)
    assert data_hub.log == []


def linked(folder: Path) -> Any:
    """Return label folders with a link to a clip elsewhere."""
    private = folder.parent / "private.wav"
    next(folder.rglob("0*.wav")).rename(private)
    (folder / "train" / "cat" / "linked.wav").symlink_to(private)
    return folder


def linked_folder(folder: Path) -> Any:
    """Return label folders of which one is a link."""
    (folder / "train" / "cat").rename(folder.parent / "private")
    (folder / "train" / "cat").symlink_to(folder.parent / "private")
    return folder


def table_of_others(folder: Path) -> Any:
    """Return a table in a folder of its own, with paths that leave it."""
    (folder.parent / "tables").mkdir()
    rows = [
        f"../{path.relative_to(folder.parent)},{path.parent.name}" for path in sorted(folder.rglob("*.*"))
    ]
    (folder.parent / "tables" / "t.csv").write_text("path,label\n" + "\n".join(rows), encoding="utf-8")
    return folder.parent / "tables" / "t.csv"


@pytest.mark.parametrize("make", [linked, linked_folder, table_of_others])
def test_clips_from_outside_are_warned_of_and_not_pushed(data_hub: Hub, folder: Path, make: Any) -> None:
    source = make(folder)
    with pytest.warns(
        AstHfWarning, match=r"W216.*clips outside of .*: \d, first '.*they are read, but not published"
    ) as record:
        splits = load_audio_dataset(source)
    assert sum("W216" in str(warning.message) for warning in record) == 1
    chosen = datasets.DatasetDict(
        {name: part.shuffle(seed=0).flatten_indices() for name, part in splits.items()}
    )
    for each in (splits, chosen):
        with pytest.raises(AstHfError, match=r"E705.*split 'train': has \d clips from outside"):
            push_audio_dataset(each, "user/clips")
    assert data_hub.log == []


def test_audio_root_makes_clips_elsewhere_its_own(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    table = folder.parent / "tables" / "t.csv"
    table.parent.mkdir()
    table.write_text(
        "path,label\n" + "".join(f"{path},x\n" for path in folder.rglob("*.wav")), encoding="utf-8"
    )
    load_audio_dataset(table, audio_root=folder)
    assert [str(each.message) for each in recwarn if "W216" in str(each.message)] == []


def test_links_of_the_hubs_cache_and_of_git_annex_are_inside(
    folder: Path, recwarn: pytest.WarningsRecorder
) -> None:
    stores = {"datasets--a/snapshots/1/train": "datasets--a/blobs", "repo/audio": "repo/.git/annex/objects/x"}
    for place, store in stores.items():
        for number, clip in enumerate(sorted(folder.rglob("*.wav"))):
            content = folder.parent / store / f"{number}"
            content.parent.mkdir(parents=True, exist_ok=True)
            content.write_bytes(clip.read_bytes())
            link = folder.parent / place / clip.parent.name / "1.wav"
            link.parent.mkdir(parents=True)
            link.symlink_to(content)
        root = folder.parent / place
        assert len(load_audio_dataset(root.parent if root.name == "train" else root)["train"]) == 2
    assert [str(each.message) for each in recwarn if "W216" in str(each.message)] == []


def test_a_file_that_is_no_audio_is_not_pushed(data_hub: Hub, folder: Path) -> None:
    (folder / "train" / "cat" / "key.wav").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    with pytest.raises(AstHfError, match=r"E201.*key\.wav"):
        push_audio_dataset(load_audio_dataset(folder), "user/clips")
    assert data_hub.log == []


def test_streams_and_single_splits_are_refused(folder: Path) -> None:
    splits = load_audio_dataset(folder)
    for wrong in (
        load_audio_dataset(folder, streaming=True),
        splits["train"],
        splits.remove_columns("audio"),
        "clips",
    ):
        with pytest.raises(AstHfError, match=r"E102.*splits"):
            push_audio_dataset(wrong, "user/clips")


def test_split_names_invalid_on_the_hub_are_refused(data_hub: Hub, folder: Path) -> None:
    splits = load_audio_dataset(folder)
    splits["unseen-speaker"] = splits["train"]
    with pytest.raises(AstHfError, match=r"E102.*'unseen-speaker'"):
        push_audio_dataset(splits, "user/clips")
    assert data_hub.log == []


def test_text_inside_lists_and_structures_is_cleaned_too(data_hub: Hub, folder: Path, tmp_path: Path) -> None:
    splits = datasets.DatasetDict({"train": load_audio_dataset(folder)["train"]})
    note = {"from": str(tmp_path / "secret" / "tape.wav"), "tags": [str(tmp_path / "a.txt"), "b"]}
    splits["train"] = splits["train"].add_column("notes", [note] * len(splits["train"]))
    push_audio_dataset(splits, "user/clips")
    assert all(str(tmp_path).encode() not in content for _, content in data_hub.uploads())
    assert load_audio_dataset("user/clips")["train"][0]["notes"] == {
        "from": "tape.wav",
        "tags": ["a.txt", "b"],
    }
    token = [{"from": TOKEN, "tags": []}] * len(splits["train"])
    splits["train"] = splits["train"].remove_columns("notes").add_column("notes", token)
    with pytest.raises(AstHfError, match=r"E705.*'notes'"):
        push_audio_dataset(splits, "user/clips")
