"""Classification of many recordings, one after the other: a bad one is noted, and the others are classified."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import AstHfError
from ..timelines.formats import FORMATS, write_results
from ..timelines.results import Result
from .inputs import file_names
from .journal import Entry, Journal, stamp_of


class Batch(NamedTuple):
    """Recordings to classify, and how.

    Attributes:
        recordings: their names, in the order of the results.
        arguments: of the pipeline's calls.
        kind: kind of the results, one of `timelines.results.KINDS`.
        batch_size: windows of one recording that the model takes at once. Batches do not span recordings, so
            that a recording's scores do not depend on the others.
    """

    recordings: Sequence[str]
    arguments: Mapping[str, Any]
    kind: str
    batch_size: int = 8

    def settings(self, classifier: Any) -> dict[str, Any]:
        """Return what decides the results, as plain values."""
        return {"model": weights_digest(classifier.model), "kind": self.kind, **self.arguments}


def classify_batch(classifier: Any, batch: Batch, journal: Journal | None = None) -> Iterator[Entry]:
    """Yield the entry of each recording, from the journal if it is there.

    Args:
        classifier: a pipeline of ours.
        batch: the recordings.
        journal: where finished recordings are noted.
    """
    for name in batch.recordings:
        entry = None if journal is None else journal.finished(name)
        if entry is None:
            entry = _classified(classifier, name, batch)
            if journal is not None:
                journal.add(entry)
        yield entry


def _classified(classifier: Any, name: str, batch: Batch) -> Entry:
    stamp = stamp_of(name)
    try:
        content, recording = classifier.classify_recording(
            name, batch_size=batch.batch_size, **batch.arguments
        )
    except AstHfError as problem:
        return Entry(name, stamp, None, 0.0, str(problem))
    partial = None if recording.problem is None else str(recording.problem)
    return Entry(name, stamp, content, recording.seconds, partial)


def weights_digest(model: Any) -> str:
    """Return a digest of a model's weights and configuration."""
    digest = hashlib.sha256(model.config.to_json_string().encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(_bytes()).numpy().data)
    return digest.hexdigest()[:16]


def _bytes() -> Any:
    import torch

    return torch.uint8


def write_files(
    entries: Sequence[Entry], folder: Path, format: str, kind: str, top_hertz: float
) -> list[Path]:
    """Write the results of a batch into a folder, and return the paths of the files.

    Formats for one recording give a file for each, in the folders of the recordings; the others give one file,
    `results` with the suffix of the format. A recording that could not be classified is in none.
    """
    done = [entry for entry in entries if entry.content is not None]
    results = [Result(entry.name, kind, entry.content or [], top_hertz) for entry in done]
    if not FORMATS[format].per_recording:
        path = folder / f"results{FORMATS[format].suffix}"
        write_results(path, results, format, kind)
        return [path]
    names = file_names([entry.name for entry in entries], FORMATS[format].suffix)
    places = dict(zip((entry.name for entry in entries), names, strict=True))
    paths = [folder / places[result.name] for result in results]
    for path, result in zip(paths, results, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_results(path, [result], format, kind)
    return paths
