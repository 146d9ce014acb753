"""A Hub that fails, never answers, drips, or sends other bytes. Rows from G40 on are F40 to F48 of the plan."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from conftest import TINY, TOKEN
from hub_server import HubServer

from .cases import Case

NAME = "user/pets"
COMMIT = "POST .*/commit/.*"


_CARD = b"""---
license: mit
library_name: transformers
pipeline_tag: audio-classification
---
# Pets
"""


@functools.cache
def _model() -> dict[str, bytes]:
    """Return the files of a tiny checkpoint by name."""
    import torch

    from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    torch.manual_seed(0)
    folder = Path(tempfile.mkdtemp())
    config = ASTConfig(**TINY, id2label={0: "cat", 1: "dog"}, problem_type="single_label_classification")
    ASTForAudioClassification(config).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    return {
        **files,
        "README.md": _CARD,
    }


class Place:
    """A Hub on loopback, its client's settings, a folder to push, and a clip."""

    def __init__(self, folder: Path) -> None:
        server = HubServer("user", TOKEN)
        server.__enter__()  # until the end of the process
        self.server = server
        self.hub = server.hub
        self.folder = folder
        self.model = folder / "model"
        self.model.mkdir()
        for name, content in _model().items():
            (self.model / name).write_bytes(content)
        self.clip = folder / "clip.wav"
        soundfile.write(self.clip, 0.1 * np.random.default_rng(0).standard_normal(9600), 16_000)

    def connect(self) -> None:
        """Make this process a client of the Hub; waits between tries take no time."""
        from huggingface_hub import constants, hf_api
        from huggingface_hub.utils import close_session
        from transformers.utils import hub as transformers_hub

        close_session()
        values = {
            "ENDPOINT": self.hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(self.folder / "cache"),
            "HF_HOME": str(self.folder / "home"),
            "HF_HUB_ETAG_TIMEOUT": 1.0,
            "HF_HUB_DOWNLOAD_TIMEOUT": 1.0,
        }
        for name, value in values.items():
            setattr(constants, name, value)
        hf_api.api.endpoint = self.hub.url
        transformers_hub._hf_api = None
        os.environ["HF_TOKEN"] = TOKEN
        time.sleep = lambda _: None

    def shorten_limits(self) -> None:
        """Let requests of ours fail after a second."""
        from ast_hf.hub import time_limits

        time_limits.SILENCE = 1.0
        time_limits.WINDOW = 1.0

    def commits(self) -> int:
        """Return the number of commits on the Hub."""
        import json

        with urllib.request.urlopen(f"{self.hub.url}/test/{NAME}/messages") as answer:
            return len(json.load(answer))


def _hub(*faults: tuple[str, dict[str, Any]], filled: bool = False) -> Callable[[Path], Place]:
    """Return a `prepare`: a Hub with these faults; `filled` puts the model there."""

    def prepare(folder: Path) -> Place:
        place = Place(folder)
        if filled:
            place.hub.put(NAME, _model())
        for pattern, how in faults:
            place.hub.fail(pattern, **how)
        return place

    return prepare


def _push(place: Place) -> int:
    """Push with ours, and return the number of commits."""
    from ast_hf import push_folder

    place.connect()
    place.shorten_limits()
    push_folder(place.model, NAME)
    return place.commits()


def _push_briefly(place: Place) -> int:
    from ast_hf import push_folder

    place.connect()
    place.shorten_limits()
    push_folder(place.model, NAME, patience=1.0)
    return place.commits()


def _stock_push(place: Place) -> int:
    """Push as a Trainer's last commit does: `create_repo`, `upload_folder`."""
    from huggingface_hub import create_repo, upload_folder

    place.connect()
    create_repo(NAME, exist_ok=True)
    upload_folder(folder_path=place.model, repo_id=NAME)
    return place.commits()


def _load(place: Place) -> str:
    from transformers import AutoModelForAudioClassification

    import ast_hf  # noqa: F401

    place.connect()
    return type(AutoModelForAudioClassification.from_pretrained(NAME)).__name__


def _stock_load(place: Place) -> str:
    """Load as transformers does: its client's download, then safetensors."""
    from huggingface_hub import hf_hub_download
    from safetensors.numpy import load_file

    place.connect()
    load_file(hf_hub_download(NAME, "model.safetensors"))
    return "loaded"


#: The line of a label: its score, then its name.
_CAT = re.compile(r"\b0\.\d+ cat\b")


def _classify(place: Place) -> str:
    """Return what the command prints on both streams."""
    from ast_hf import cli

    place.connect()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(["classify", NAME, str(place.clip)])
    text = " ".join((out.getvalue() + err.getvalue()).split())
    return f"{code}: {text}"


def _cached_then(*faults: tuple[str, dict[str, Any]]) -> Callable[[Path], Place]:
    """Return a `prepare`: the cache is filled by another process, then the Hub fails."""

    def prepare(folder: Path) -> Place:
        import subprocess

        place = _hub(filled=True)(folder)
        cache = str(folder / "cache")
        code = f"from huggingface_hub import snapshot_download as s; s({NAME!r}, cache_dir={cache!r})"
        online = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
        env = {**online, "HF_ENDPOINT": place.hub.url, "HF_HUB_DISABLE_XET": "1"}
        subprocess.run([sys.executable, "-c", code], check=True, env=env, capture_output=True)
        for pattern, how in faults:
            place.hub.fail(pattern, **how)
        return place

    return prepare


def _checkpoint_push(place: Place) -> None:
    from ast_hf.training.checkpoints.hub import CheckpointPushes, HubPlace
    from ast_hf.training.checkpoints.sealing import seal

    place.connect()
    checkpoint = place.folder / "checkpoint-2"
    place.model.rename(checkpoint)
    seal(checkpoint, step=2)
    pushes = CheckpointPushes(HubPlace(NAME), "checkpoint")
    pushes.push(checkpoint)
    pushes.finish()


def _once(value: Any) -> bool:
    return value == 1


def _loaded(value: Any) -> bool:
    return value in ("ASTForAudioClassification", "loaded")


def _from_cache(value: Any) -> bool:
    return (
        value.startswith("0: ")
        and _CAT.search(value) is not None
        and "uses the copy in the cache, revision" in value
    )


def _classified(value: Any) -> bool:
    return value.startswith("0: ") and _CAT.search(value) is not None and "uses the copy" not in value


def _unreached(value: Any) -> bool:
    return value.startswith("75: ") and "AST-E704" in value and "uses the copy" not in value


def _pushed(
    id: str, title: str, *faults: tuple[str, dict[str, Any]], right: Any = _once, **more: Any
) -> Case:
    return Case(id, title, _hub(*faults), more.pop("ours", _push), right, _stock_push, **more)


def _downloaded(id: str, title: str, *faults: tuple[str, dict[str, Any]], right: Any = _loaded) -> Case:
    return Case(id, title, _hub(*faults, filled=True), _load, right, _stock_load)


def _status(status: int, times: int = 1, **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"status": status, "times": times, "headers": named}


_PAST = "Fri, 31 Dec 1999 23:59:59 GMT"


def _own_load(place: Place) -> str:
    from ast_hf import ASTForAudioClassification

    place.connect()
    return type(ASTForAudioClassification.from_pretrained(NAME)).__name__


def _stock_config(place: Place) -> str:
    from transformers import PreTrainedConfig

    place.connect()
    PreTrainedConfig.get_config_dict(NAME)
    return "loaded"


ALWAYS = 10_000
FILE = "GET .*/model.safetensors"
HANG = {"kind": "hang", "times": ALWAYS}
DRIP = {"kind": "drip", "times": ALWAYS}
NEVER_ANSWERED = {
    "commit": COMMIT,
    "create": "POST .*/create",
    "preupload": "POST .*/preupload",
    "upload": "PUT /lfs",
}

CASES = [
    _pushed("G1", "the repository cannot be created (500) twice", ("POST .*/create", _status(500, 2))),
    _pushed("G2", "no right to write", ("POST .*/create", _status(401, ALWAYS)), right="E701"),
    _pushed("G3", "commit: 500 once", (COMMIT, _status(500))),
    _pushed("G3-reset", "commit: connection reset", (COMMIT, {"kind": "reset"})),
    _pushed("G3-lost", "commit accepted, its answer lost", (COMMIT, {"kind": "lost"})),
    _pushed("G3-cut", "commit accepted, its answer cut", (COMMIT, {"kind": "truncate"})),
    _pushed(
        "G3-gateway", "commit: 502, 504, 520, 529", *((COMMIT, _status(s)) for s in (502, 504, 520, 529))
    ),
    _pushed(
        "G3-conflict", "commit during another one: 409, 412", *((COMMIT, _status(s)) for s in (409, 412))
    ),
    Case("G4", "push of a checkpoint fails", _hub((COMMIT, _status(403, ALWAYS))), _checkpoint_push, "W701"),
    _pushed(
        "G5",
        "LFS PUT 500 eight times, preupload 429",
        ("PUT /lfs", _status(500, 8)),
        ("POST .*/preupload", _status(429)),
    ),
    _downloaded("G7", "right size, wrong bytes", (FILE, {"kind": "flip"}), right="E706"),
    _downloaded("G8", "download cut once", (FILE, {"kind": "truncate"})),
    _pushed("G40", "commit: 503 three times", (COMMIT, _status(503, 3))),
    _pushed("G40-long", "commit: 503 eight times", (COMMIT, _status(503, 8))),
    _pushed("G41", "reset in the middle of an LFS PUT", ("PUT /lfs", {"kind": "reset", "after": 2000})),
    _pushed("G42", "429 with Retry-After", (COMMIT, _status(429, 2, Retry_After="30"))),
    _pushed("G42-date", "429, Retry-After is past", (COMMIT, _status(429, Retry_After=_PAST))),
    _pushed("G42-limit", "429 with RateLimit", (COMMIT, _status(429, RateLimit='"api";r=0;t=55'))),
    _pushed("G43", "500 for ever", (COMMIT, _status(500, ALWAYS)), right="E704"),
    _pushed("G44", "token revoked before the commit", (COMMIT, _status(401, ALWAYS)), right="E701"),
    _pushed("G44-403", "commit forbidden", (COMMIT, _status(403, ALWAYS)), right="E701"),
    _pushed("G44-422", "commit refused for its content", (COMMIT, _status(422, ALWAYS)), right="E704"),
    Case(
        "G46",
        "wrong bytes in config.json",
        _hub(("GET .*/config.json", {"kind": "flip"}), filled=True),
        _own_load,
        "E706",
        _stock_config,
    ),
    _downloaded("G47", "download cut five times", (FILE, {"kind": "truncate", "times": 5})),
    _downloaded("G47-reset", "download reset five times", (FILE, {"kind": "reset", "times": 5})),
    *(
        Case(f"G48{name}", f"{title}, files in the cache", _cached_then((".*", how)), _classify, _from_cache)
        for name, title, how in (
            ("", "Hub never answers", HANG),
            ("-503", "Hub answers 503", _status(503, ALWAYS)),
            ("-drip", "Hub sends a byte a second", DRIP),
            ("-reset", "Hub resets connections", {"kind": "reset", "times": ALWAYS}),
            ("-loop", "Hub redirects without end", {"kind": "loop", "times": ALWAYS}),
        )
    ),
    _pushed("G49", "commit accepted, not answered", (COMMIT, {"kind": "hang", "after": 1})),
    *(
        _pushed(f"G49-{name}", f"{name}: never answered", (pattern, HANG), right="E704", ours=_push_briefly)
        for name, pattern in NEVER_ANSWERED.items()
    ),
    *(
        _pushed(f"G51-{name}", f"commit answered by {title}", (COMMIT, {"status": 200, "body": body}))
        for name, title, body in (
            ("html", "a page of a proxy", b"<html>log in</html>"),
            ("form", "JSON of another form", b"{}"),
            ("list", "a JSON list", b"[]"),
            ("bytes", "bytes that are no text", b"\xff\xfe{"),
        )
    ),
    _pushed("G51-half", "half of the answer to a commit, then nothing", (COMMIT, {"kind": "half"})),
    _pushed("G51-gzip", "commit answered in gzip", (COMMIT, {"kind": "gzip"})),
    Case(
        "G52",
        "download: connection reset five times, by the command line",
        _hub((FILE, {"kind": "reset", "times": 5}), filled=True),
        _classify,
        _classified,
    ),
    Case(
        "G52-503",
        "download: 503 three times, by the command line",
        _hub((FILE, _status(503, 3)), filled=True),
        _classify,
        _classified,
    ),
    Case(
        "G52-hang",
        "download that is never answered, by the command line",
        _hub((FILE, HANG), filled=True),
        _classify,
        _unreached,
    ),
    Case(
        "G52-size",
        "download of the wrong size",
        _hub((FILE, {"status": 200, "body": b"", "times": ALWAYS}), filled=True),
        _classify,
        _unreached,
    ),
    _pushed("G50", "commit answered a byte a second", (COMMIT, DRIP), right="E704", ours=_push_briefly),
]
