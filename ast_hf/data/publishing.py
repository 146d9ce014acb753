"""Publishing labelled clips on the Hub, as Parquet with the audio files inside."""

from __future__ import annotations

import json
import re
from typing import Any

from datasets import Audio, Dataset, DatasetDict, Value

from ..errors import error
from ..hub.access import PUBLISHING, check_account, reach
from ..hub.cleaning import check_secrets, cut_paths_in_json
from ..hub.publishing import Pushed, check_full_name, open_repository
from .audio_headers import read_header
from .publishing_rights import check_inside

#: Clips whose paths are read at once; their audio may be embedded.
_BATCH = 100

_COMMIT_MESSAGE = "Upload clips with ast_hf"


def push_audio_dataset(
    splits: DatasetDict,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    patience: float = PUBLISHING,
) -> Pushed:
    """Publish the splits of `load_audio_dataset` as a data set on the Hub, replacing its contents.

    Audio files are uploaded byte for byte, with their names but without their folders. Text columns are
    uploaded too, with absolute local paths cut to their last part. Files that the Hub has are not sent again.

    Args:
        splits: splits of `load_audio_dataset`, not streams.
        repo_id: `user/name` or `organization/name`; created if it does not exist.
        private: True for a private data set.
        revision: branch to push to, created from `main` if it does not exist; None for `main`.
        token: as for `huggingface_hub`; None for the token of `hf auth login` or HF_TOKEN.
        patience: seconds for which each step is tried while the Hub fails in a way that may pass.

    Raises:
        AstDataError: the error of `load_audio` for a file that is not audio.
        AstInputError: E102 for streams and anything else but stored splits of clips.
        AstConfigError: E702 for an impossible name; E705 for a token or a key in text columns or class names,
            for a public data set that should be private, and for clips that were read from outside of their
            data folder (W216).
        AstRunError: E701 and E704 if the Hub refuses or cannot be reached, also after several attempts.

    Example:
        >>> push_audio_dataset(load_audio_dataset("my_clips"), "user/clips", private=True)
        >>> splits = load_audio_dataset("user/clips")
    """
    if not isinstance(splits, DatasetDict) or not all(
        "audio" in part.column_names for part in splits.values()
    ):
        fix = "give the result of load_audio_dataset without streaming"
        raise error(
            "E102", where="splits", what=f"is a {type(splits).__name__}, not splits of clips", fix=fix
        )
    check_full_name(repo_id)
    for name in splits:
        if not re.fullmatch(r"\w+(\.\w+)*", str(name)):
            fix = "rename it, with letters, digits, _ and dots"
            raise error("E102", where=f"split {name!r}", what="is not a name that the Hub accepts", fix=fix)
    for name, part in splits.items():
        _check_clips(part, f"split {name!r}")
    ready = DatasetDict({name: _ready(part, name) for name, part in splits.items()})
    check_account(token)
    again = "call push_audio_dataset again, which sends what is missing"
    open_repository(
        repo_id,
        repo_type="dataset",
        private=private,
        revision=revision,
        token=token,
        then=again,
        patience=patience,
    )
    done: Any = reach(
        lambda: ready.push_to_hub(repo_id, revision=revision, token=token, commit_message=_COMMIT_MESSAGE),
        where=f"data set {repo_id!r}",
        then=again,
        patience=patience,
    )
    return Pushed(repo_id, done.commit_url, done.oid)


def _check_clips(part: Dataset, where: str) -> None:
    """Raise E705 for clips from outside of the data folder, and the error of a file that is not audio."""
    files: list[str] = []
    for batch in part.select_columns(["audio"]).with_format("arrow").iter(batch_size=_BATCH):
        clips = batch["audio"].combine_chunks()
        files += clips.field("path").filter(clips.field("bytes").is_null()).to_pylist()
    check_inside(files, where)
    for path in dict.fromkeys(files):
        read_header({"path": path})


def _ready(part: Dataset, split: str) -> Dataset:
    """Return a split to publish: audio that the Hub's viewer plays, text without secrets and local paths."""
    check_secrets(json.dumps(part.features.to_dict()).encode(), f"split {split!r}, column and class names")
    for name in [name for name, feature in part.features.items() if _has_text(feature)]:
        text, count = cut_paths_in_json(json.dumps(list(part[name])))
        check_secrets(text.encode(), f"split {split!r}, column {name!r}")
        if count:
            feature = part.features[name]
            part = part.remove_columns(name).add_column(name, json.loads(text), feature=feature)
    return part.cast_column("audio", Audio())


def _has_text(feature: Any) -> bool:
    """Return True if a column holds text, also in lists and structs."""
    if isinstance(feature, Value):
        return feature.dtype in ("string", "large_string")
    if isinstance(feature, dict):
        return any(map(_has_text, feature.values()))
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    return inner is not None and _has_text(inner)
