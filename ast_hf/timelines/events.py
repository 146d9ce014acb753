"""Events: labels with times in a recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Event(NamedTuple):
    """Sound with its times.

    Attributes:
        start: seconds from the beginning of the recording.
        end: seconds from the beginning of the recording, after `start`.
        label: name of the class.
        score: highest value of the class's score curve within the event, in [0, 1]. 1 for a label of a person.
    """

    start: float
    end: float
    label: str
    score: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """Return `{"label", "score", "start", "end"}`, the form of the pipeline's results."""
        return {"label": self.label, "score": self.score, "start": self.start, "end": self.end}


def as_event(event: Event | Mapping[str, Any]) -> Event:
    """Return an event, also of `{"label", "score", "start", "end"}`, the form of the pipeline's results."""
    if isinstance(event, Event):
        return event
    return Event(event["start"], event["end"], event["label"], event.get("score", 1.0))
