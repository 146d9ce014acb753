"""Clips that are much longer than a model's input: the rule, and its words."""

#: How many times as long as the model's input a clip is to be much longer: less than half of it is used.
_MUCH = 2


def is_much_longer(seconds: float, window: float) -> bool:
    """Return True for a clip that is much longer than a model's input of `window` seconds."""
    return seconds > _MUCH * window


def describe_much_longer(window: float) -> str:
    """Return in words what `is_much_longer` means."""
    return f"more than twice as long as the model's input of {window:.2f} s"
