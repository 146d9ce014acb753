"""Published defects of the libraries that read untrusted files, and what of them a user of this package can meet."""

from __future__ import annotations

import re
from typing import NamedTuple


class Advisory(NamedTuple):
    """A defect of a library.

    Attributes:
        package: name of the library.
        name: its CVE.
        fixed: first version without it, None while there is none.
        what: the defect.
        reach: whether a file or a name given to this package meets it.
    """

    package: str
    name: str
    fixed: str | None
    what: str
    reach: str


#: Reviewed in November 2026. libsndfile 1.2.2 (August 2023), which soundfile's wheels contain, is the newest release.
#: PyAV's wheels have contained FFmpeg 8.1.1 since 17.1, and 8.1.2 since 18.1.
ADVISORIES = (
    Advisory(
        "libsndfile",
        "CVE-2026-37555",
        None,
        "32-bit wrap of the length of IMA ADPCM",
        "not reachable: ADPCM is refused (E205)",
    ),
    Advisory(
        "libsndfile",
        "CVE-2025-56226",
        None,
        "leak in the MP3 encoder",
        "not reachable: no MP3 is written",
    ),
    Advisory(
        "libsndfile",
        "CVE-2025-52194",
        None,
        "overflow in the header of IRCAM",
        "not reachable: IRCAM is refused (E205)",
    ),
    Advisory(
        "libsndfile",
        "CVE-2024-50613",
        None,
        "assertion in the MP3 encoder",
        "not reachable: no MP3 is written",
    ),
    Advisory(
        "libsndfile",
        "CVE-2024-50612",
        None,
        "over-read in the Vorbis encoder",
        "not reachable: no Ogg is written",
    ),
    Advisory(
        "libsndfile",
        "CVE-2022-33065",
        None,
        "integer overflow in the headers of AU and MAT4",
        "reachable with AU, whose length is then wrong; MAT4 is refused (E205)",
    ),
    Advisory(
        "ffmpeg",
        "CVE-2026-40962",
        "8.1",
        "out-of-bounds write by an encrypted MP4",
        "reachable before 8.1: the boxes of an MP4 are read by FFmpeg",
    ),
    Advisory(
        "torch",
        "CVE-2026-24747",
        "2.10",
        "code execution by a .bin or .pth despite weights_only=True",
        "reachable before 2.10",
    ),
    Advisory(
        "torch",
        "CVE-2025-32434",
        "2.6",
        "code execution by a .bin or .pth despite weights_only=True",
        "reachable before 2.6",
    ),
    Advisory(
        "transformers",
        "CVE-2026-4372",
        "5.5",
        "code execution by a config.json",
        "reachable before 5.5, if `kernels` is installed",
    ),
    Advisory(
        "transformers",
        "CVE-2026-1839",
        "5.0",
        "code execution by the rng_state.pth of a checkpoint",
        "reachable before 5.0, by resuming",
    ),
    Advisory("gradio", "CVE-2026-28414", "6.7", "files of the server are readable", "reachable before 6.7"),
    Advisory("gradio", "CVE-2026-28416", "6.7", "requests from the server", "reachable before 6.7"),
)


def advisories_for(package: str, version: str) -> list[Advisory]:
    """Return the advisories that affect a version; all of the package for a version that is not a number."""
    number = _number(version)
    return [
        entry
        for entry in ADVISORIES
        if entry.package == package and (entry.fixed is None or not number or number < _number(entry.fixed))
    ]


def fixed_in(package: str) -> dict[str, list[str]]:
    """Return first fixed version -> names of the advisories of a package."""
    fixed: dict[str, list[str]] = {}
    for entry in ADVISORIES:
        if entry.package == package and entry.fixed is not None:
            fixed.setdefault(entry.fixed, []).append(entry.name)
    return fixed


def _number(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
