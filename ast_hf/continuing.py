"""How to continue a run that ended before its end, in words that fit how it was started."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path


def running_program() -> list[str]:
    """Return the words that started this program: `ast-hf`, `python -m ast_hf` or a script."""
    program = sys.argv[0]
    if Path(program).name == "__main__.py":
        return [sys.executable, "-m", "ast_hf"]
    if program.endswith(".py"):
        return [sys.executable, program]
    name = Path(program).name
    return [name if shutil.which(name) else program]


def continuing_command(words: Sequence[str] | None = None) -> str:
    """Return the command line that continues a stopped run, quoted for a shell.

    Args:
        words: arguments of the program that was stopped, those of this process when None. Whatever they say of
            resuming becomes `--resume auto`.
    """
    command = _with_resume(sys.argv[1:] if words is None else words, "auto")
    return f"{command} (by the same launcher)" if _is_launched() else command


def continuation(checkpoint: str = "auto") -> str:
    """Return what to do to continue this run, for the end of an error's fix: "run `ast-hf finetune ...`".

    Args:
        checkpoint: `"auto"` for the newest intact checkpoint in the output folder, or a checkpoint folder.
    """
    words = sys.argv[1:]
    is_ours = Path(sys.argv[0]).name in ("ast-hf", "ast-hf.exe", "__main__.py")
    if is_ours and words[:1] == ["demo"]:
        return f"run `{shlex.join([*running_program(), *words])}` again"
    if not (is_ours and words[:1] == ["finetune"]):  # a program of the user, whose options are unknown
        return f"continue with --resume {shlex.quote(checkpoint)}"
    by = " by the same launcher" if _is_launched() else ""
    return f"run `{_with_resume(words, checkpoint)}`{by}"


def _with_resume(words: Sequence[str], checkpoint: str) -> str:
    """Return this program's command line with `--resume checkpoint` instead of what `words` say of resuming."""
    kept: list[str] = []
    is_value = False
    for word in words:
        is_resume = word.replace("_", "-").startswith("--resume")
        if not is_resume and not (is_value and not word.startswith("-")):
            kept.append(word)
        is_value = is_resume and "=" not in word
    return shlex.join([*running_program(), *kept, "--resume", checkpoint])


def _is_launched() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1
