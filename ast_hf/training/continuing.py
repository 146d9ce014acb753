"""How to continue a run that ended before its end, in words that fit how it was started."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

_RESUME = ("--resume", "--resume_from_checkpoint")


def continuation(checkpoint: str = "auto") -> str:
    """Return what to do to continue this run, for the end of a message: "run `ast-hf finetune ... --resume auto`".

    Args:
        checkpoint: `"auto"` for the newest intact checkpoint in the output folder, or a checkpoint folder.
    """
    words = sys.argv[1:]
    is_ours = Path(sys.argv[0]).name in ("ast-hf", "ast-hf.exe", "__main__.py")
    if is_ours and words[:1] == ["demo"]:
        return f"run `ast-hf {shlex.join(words)}` again"
    if "RANK" in os.environ or not is_ours or words[:1] != ["finetune"]:
        return f"continue with --resume {shlex.quote(checkpoint)}"
    return f"run `ast-hf {shlex.join([*_without_resume(words), '--resume', checkpoint])}`"


def _without_resume(words: list[str]) -> list[str]:
    """Return the words of a command line without `--resume` and its value."""
    kept: list[str] = []
    skips_value = False
    for word in words:
        if skips_value and not word.startswith("--"):
            skips_value = False
            continue
        name = word.partition("=")[0].replace("-", "_").replace("__", "--", 1)
        skips_value = name in _RESUME and "=" not in word
        if name not in _RESUME:
            kept.append(word)
    return kept
