"""Cleaning of files before they are published: local paths are cut, and secrets raise E705."""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path
from typing import Any

from huggingface_hub import get_token

from ..errors import error

#: Patterns of secrets: tokens of the Hub, GitHub and AWS, and private keys in PEM. Each begins with its
#: letters instead of \b, which makes the search forty times as fast; it blocks all other threads.
_SECRETS = {
    "a Hugging Face token": re.compile(rb"hf_(?<!\whf_)[A-Za-z0-9]{20,}"),
    "a Hugging Face organisation's token": re.compile(rb"api_org_(?<!\wapi_org_)[A-Za-z0-9]{20,}"),
    "a GitHub token": re.compile(rb"gh[pousr]_(?<!\wgh[pousr]_)[A-Za-z0-9]{36}"),
    "a fine-grained GitHub token": re.compile(rb"github_pat_[A-Za-z0-9_]{60,}"),
    "an AWS key": re.compile(rb"AKIA(?<!\wAKIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}

#: Top folders of users' files on any machine; others count as local if they exist here. AudioSet's
#: identifiers, for example /m/09x0r, are not paths.
_HOMES = ("home", "Users", "root", "mnt", "media", "Volumes")
_SYSTEM = ("bin", "dev", "etc", "lib", "proc", "sbin", "sys", "usr")
#: An absolute path, on Windows too: all of a quoted string, the rest of a YAML line, or up to a blank.
_ABSOLUTE = r"(?:file://)?(?:/|[A-Za-z]:(?:\\\\?|/))"
_PATHS = re.compile(
    rf"(?<=[\"'])(?P<quoted>{_ABSOLUTE}[^\"'\n]+)(?=[\"'])"
    rf"|(?<=: )(?P<line>{_ABSOLUTE}[^\"'\n]+)$"
    rf"|(?<![\w.:/~\\-])(?P<bare>{_ABSOLUTE}[^\s\"'`<>|*?,;)\]}}]+)",
    re.MULTILINE,
)


def cut_paths(text: str) -> tuple[str, int]:
    """Return the text with each absolute local path cut to its last part, and the number of those paths."""
    count = 0

    def cut(match: re.Match[str]) -> str:
        nonlocal count
        name = _last_part(match[0])
        count += name is not None
        return match[0] if name is None else name

    return _PATHS.sub(cut, text), count


def cut_paths_in_json(text: str) -> tuple[str, int]:
    """Return the same for JSON, cut value by value; text without local paths is returned unchanged."""
    count = 0

    def clean(value: Any) -> Any:
        nonlocal count
        if isinstance(value, dict):
            return {clean(name): clean(part) for name, part in value.items()}
        if isinstance(value, list):
            return [clean(part) for part in value]
        if not isinstance(value, str):
            return value
        name = _last_part(value) if re.match(_ABSOLUTE, value) else None  # may hold blanks
        short, cuts = cut_paths(value) if name is None else (name, 1)
        count += cuts
        return short

    values = clean(json.loads(text))
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n", count) if count else (text, 0)


def _last_part(path: str) -> str | None:
    """Return the last part of a local path; None for a class name, a system's folder or a single name."""
    parts = [part for part in re.split(r"[\\/]+", path.removeprefix("file://")) if part]
    if not parts or (parts[0] not in _HOMES and len(parts) == 1):
        return None
    is_local = parts[0].endswith(":") or parts[0] in _HOMES or Path("/", parts[0]).is_dir()
    return parts[-1] if is_local and parts[0] not in _SYSTEM else None


def check_secrets(content: Path | bytes, name: str) -> None:
    """Raise E705 if a file holds a token or a key, also this machine's; the message does not repeat it."""
    kinds = dict(_SECRETS)
    if token := get_token():
        kinds["the token of this machine"] = re.compile(re.escape(token.encode()))
    for kind, pattern in kinds.items():
        if _contains(content, pattern):
            fix = "remove it, and revoke it if the file was ever shared; nothing was sent"
            raise error("E705", where=repr(name), what=f"holds {kind}", fix=fix)


def _contains(content: Path | bytes, pattern: re.Pattern[bytes]) -> bool:
    if isinstance(content, bytes):
        return pattern.search(content) is not None
    if content.stat().st_size == 0:  # an empty file cannot be mapped
        return False
    with content.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return pattern.search(mapped) is not None
