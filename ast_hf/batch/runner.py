"""Classification of many recordings, one after the other: a bad one is noted, and the others are classified."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import AstHfError, error
from .journal import Entry, Journal, stamp_of

#: Values of configurations that do not change scores.
_NO_EFFECT = ("_name_or_path", "transformers_version")


class Batch(NamedTuple):
    """Recordings to classify, and how.

    Attributes:
        recordings: their names, in the order of the results.
        arguments: of the pipeline's calls.
        kind: kind of the results, one of `timelines.results.KINDS`.
        batch_size: windows of one recording that the model takes at once. Batches do not span recordings, so
            that a recording's scores do not depend on the others.
        problems: names of `recordings` that are none -> why.
    """

    recordings: Sequence[str]
    arguments: Mapping[str, Any]
    kind: str
    batch_size: int = 8
    problems: Mapping[str, AstHfError] = {}

    def settings(self, classifier: Any) -> dict[str, Any]:
        """Return what decides the results, as plain values."""
        return {"model": model_digest(classifier), "kind": self.kind, **self.arguments}


def classify_batch(
    classifier: Any,
    batch: Batch,
    journal: Journal | None = None,
    finish: Callable[[Entry], None] | None = None,
) -> Iterator[Entry]:
    """Yield the entry of each recording, from the journal if it is there.

    Args:
        classifier: a pipeline of ours.
        batch: the recordings.
        journal: where finished recordings are noted.
        finish: called with each entry that is new, before it is noted.
    """
    for name in batch.recordings:
        if name in batch.problems:
            yield Entry(name, None, None, 0.0, str(batch.problems[name]))
            continue
        entry = None if journal is None else journal.finished(name)
        if entry is None:
            entry = _classified(classifier, name, batch)
            if finish is not None:
                finish(entry)
            if journal is not None:
                journal.add(entry)
        yield entry


def _classified(classifier: Any, name: str, batch: Batch) -> Entry:
    stamp = stamp_of(name)
    try:
        with warnings.catch_warnings():  # W217 is the entry's problem
            warnings.filterwarnings("ignore", r"\[AST-W217\]")
            content, recording = classifier.classify_recording(
                name, batch_size=batch.batch_size, **batch.arguments
            )
        _check_finite(content, name)
    except AstHfError as problem:
        return Entry(name, stamp, None, 0.0, str(problem))
    return Entry(name, stamp, content, recording.seconds, recording.warning)


def _check_finite(content: Sequence[Mapping[str, Any]], name: str) -> None:
    """Raise E104 for a score that is NaN or infinite, as a model in float16 may give."""
    for part in content:
        for row in part.get("scores", [part]):
            if not math.isfinite(row["score"]):
                what = f"has the score {row['score']} for {row['label']!r}"
                raise error(
                    "E104", where=repr(name), what=what, fix="compute in float32 (--precision float32)"
                )


def model_digest(classifier: Any) -> str:
    """Return a digest of what makes a pipeline's scores: weights, configuration and feature extractor."""
    digest = hashlib.sha256()
    for part in (classifier.model.config, classifier.feature_extractor):
        values = {name: value for name, value in part.to_dict().items() if name not in _NO_EFFECT}
        digest.update(json.dumps(values, sort_keys=True, default=str).encode())
    for name, tensor in sorted(classifier.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(_bytes()).numpy().data)
    return digest.hexdigest()[:16]


def _bytes() -> Any:
    import torch

    return torch.uint8
