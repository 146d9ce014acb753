"""The paper's data sets: their folders and Hub names, and the options that read them.

In the folder that the environment variable `AST_HF_DATA` names:

- `ESC-50-master/meta/esc50.csv`, `ESC-50-master/audio/`: as github.com/karolpiczak/ESC-50 unpacks,
- `speech_commands_v0.02/WORD/*.wav`, `validation_list.txt`, `testing_list.txt`: as Google's archive unpacks,
- `audioset/*.json`, `audioset/class_labels_indices.csv`: as the original AST repository lists its clips.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import error
from ..paper_data_sets import class_names
from .naming_conventions import Source

#: The environment variable that names the folder of data sets.
DATA_VARIABLE = "AST_HF_DATA"

Arguments = dict[str, Any]


class KnownSet(NamedTuple):
    """A data set with a name in recipes, and the functions that return its arguments of `load_audio_dataset`.

    Attributes:
        local: arguments for a folder of data sets, None if the data set is not in it.
        expected: the files that `local` looks for, for messages.
        hub: arguments for the Hub; None if the Hub has no readable copy.
    """

    local: Callable[[Path], Arguments | None]
    expected: str
    hub: Callable[[], Arguments] | None


def find_data_set(name_or_path: Source) -> Arguments:
    """Return the arguments of `load_audio_dataset` for a data set of the paper, or for any other source.

    Args:
        name_or_path: `"audioset-balanced"`, `"audioset-full"`, `"esc50"` or `"speech-commands"`, which are
            looked up in the folder that the environment variable `AST_HF_DATA` names, then on the Hub. Any
            other source is returned as `{"source": name_or_path}`; write `./esc50` for a folder of that name.

    Returns:
        Keyword arguments, which options of the user override. ESC-50 comes with `test_fold=1`, Speech
        Commands with its official validation and test lists; classes are in the order of the published
        checkpoints.

    Raises:
        AstDataError: E206, naming the expected files, if they are not in that folder and the Hub has no
            readable copy.
    """
    if str(name_or_path) not in KNOWN_SETS:
        return {"source": name_or_path}
    known_set = KNOWN_SETS[str(name_or_path)]
    folder = os.environ.get(DATA_VARIABLE)
    if folder and not Path(folder).expanduser().is_dir():
        fix = f"set {DATA_VARIABLE} to the folder of your data sets"
        raise error("E206", where=f"{DATA_VARIABLE}={folder!r}", what="is not a folder", fix=fix)
    arguments = known_set.local(Path(folder).expanduser()) if folder else None
    if arguments is not None:
        return arguments
    if known_set.hub is not None:
        return known_set.hub()
    what = f"is not in {folder!r}" if folder else f"is not here, since {DATA_VARIABLE} is not set"
    fix = f"download it, and set {DATA_VARIABLE} to the folder that holds {known_set.expected}"
    raise error("E206", where=f"data set {str(name_or_path)!r}", what=what, fix=fix)


def _first(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _esc50(folder: Path) -> Arguments | None:
    root = _first(folder, "ESC-50-master", "ESC-50", "esc50")
    if root is None or not (root / "meta" / "esc50.csv").is_file() or not (root / "audio").is_dir():
        return None
    return {"source": str(root / "meta" / "esc50.csv"), "audio_root": str(root / "audio"), **_esc50_options()}


def _esc50_options() -> Arguments:
    return {"label_column": "category", "class_labels": class_names("esc50"), "test_fold": 1}


def _speech_commands(folder: Path) -> Arguments | None:
    root = _first(folder, "speech_commands_v0.02", "speech_commands_v2")
    if root is None:
        return None
    lists = {"validation": root / "validation_list.txt", "test": root / "testing_list.txt"}
    if not all(path.is_file() for path in lists.values()):
        return None
    return {
        "source": str(root),
        "split_lists": {split: str(path) for split, path in lists.items()},
        "class_labels": class_names("speech_commands_v2"),
        "drop_labels": ["_background_noise_"],
    }


def _audioset(*training: str) -> Callable[[Path], Arguments | None]:
    def local(folder: Path) -> Arguments | None:
        root = _first(folder, "audioset", "AudioSet") or folder
        train = _first(root, *training)
        test = _first(root, "eval_data.json")
        labels = _first(root, "class_labels_indices.csv")
        if train is None or test is None or labels is None:
            return None
        source = {"train": str(train), "test": str(test)}
        return {"source": source, "class_labels": str(labels), "label_separator": ","}

    return local


def _audioset_on_hub(config: str, **more: Any) -> Callable[[], Arguments]:
    """Return the arguments for agkphysics/AudioSet: Parquet with FLAC, display names in `human_labels`."""
    return lambda: {
        "source": "agkphysics/AudioSet",
        "config_name": config,
        "label_column": "human_labels",
        "class_labels": class_names("audioset"),
        **more,
    }


#: name -> data set. The Hub's google/speech_commands is a loading script, which `datasets` no longer runs.
#: AudioSet's full set on the Hub is 2.4 TB, so it is streamed. The file names of AudioSet's lists are those
#: of the original (`egs/audioset/run.sh`), whose balanced list has PSLA's enhanced labels.
KNOWN_SETS = {
    "audioset-balanced": KnownSet(
        _audioset("balanced_train_data_type1_2_mean.json", "balanced_train_data.json"),
        "audioset/ with balanced_train_data.json, eval_data.json and class_labels_indices.csv",
        _audioset_on_hub("balanced"),
    ),
    "audioset-full": KnownSet(
        _audioset("whole_train_data.json"),
        "audioset/ with whole_train_data.json, eval_data.json and class_labels_indices.csv",
        _audioset_on_hub(
            "full", merge_splits={"train": ["bal_train", "unbal_train"], "test": ["eval"]}, streaming=True
        ),
    ),
    "esc50": KnownSet(
        _esc50,
        "ESC-50-master/ with meta/esc50.csv and audio/",
        lambda: {"source": "ashraq/esc50", **_esc50_options()},
    ),
    "speech-commands": KnownSet(
        _speech_commands,
        "speech_commands_v0.02/ with a folder for each word, validation_list.txt and testing_list.txt",
        None,
    ),
}
