"""Shared fixtures: no network, tiny checkpoints of our own, and a way to run code in a fresh process."""

from __future__ import annotations

import gc
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Set before huggingface_hub is imported: a request to the Hub then fails at once instead of waiting.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest

if TYPE_CHECKING:
    import torch
    from hub_server import Hub

ROOT = Path(__file__).resolve().parent.parent
INSTRUMENTS = ROOT / "examples" / "data" / "instruments"

#: Messages of pip if no package index can be reached; any other is a failure.
UNREACHABLE = re.compile(
    r"NewConnectionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|Temporary failure in name resolution|"
    r"Name or service not known|Network is unreachable|Connection refused|getaddrinfo failed|\(from versions: none\)"
)

#: A model small enough for any test: 2 layers, 24 wide, 3 x 7 patches of a 64-frame, 32-bin spectrogram.
TINY: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "patch_size": 16,
    "frequency_stride": 8,
    "time_stride": 8,
    "num_mel_bins": 32,
    "max_length": 64,
}


def pytest_collection_finish() -> None:
    """Exempt imported objects from garbage collection, which accelerate runs at the end of every training."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_outside_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"tests are offline, refused to connect to {address!r}")
        return connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def tone() -> np.ndarray:
    """Return one second of a 440 Hz tone with a little noise, 16 kHz, float32."""
    time = np.arange(16_000) / 16_000
    noise = np.random.default_rng(0).standard_normal(16_000)
    return (0.3 * np.sin(2 * np.pi * 440 * time) + 0.01 * noise).astype(np.float32)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny three-label model and its feature extractor. Read only."""
    import torch

    from ast_hf import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    config = ASTConfig(
        **TINY, id2label={0: "cat", 1: "dog", 2: "owl"}, problem_type="single_label_classification"
    )
    ASTForAudioClassification(config).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def lively_checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny checkpoint with larger weights, so that different audio gets different scores. Read only."""
    import torch

    from ast_hf import ASTForAudioClassification

    folder = tmp_path_factory.mktemp("lively")
    shutil.copytree(tiny_checkpoint, folder, dirs_exist_ok=True)
    model = ASTForAudioClassification.from_pretrained(folder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


#: Has the form of a real token; joined from parts so that scanners of this repository do not report it.
TOKEN = "hf_" + "MustNeverLeaveThisMachine"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Start a Hub for one test; the client of this process uses it as "user" with a token."""
    from hub_server import HubServer
    from huggingface_hub import constants, hf_api
    from huggingface_hub.utils import close_session
    from transformers.utils import hub as transformers_hub

    with HubServer("user", TOKEN) as server:
        url = server.hub.url
        addresses = {
            "ENDPOINT": url,
            "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        }
        plain = {
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
        }
        for name, value in {**addresses, **plain}.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(hf_api.api, "endpoint", url)
        # of transformers, made on first use
        monkeypatch.setattr(transformers_hub, "_hf_api", None, raising=False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server.hub
        close_session()


@pytest.fixture
def data_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """Start a Hub for `datasets` too, which has its own copy of the Hub's address and its own cache."""
    import datasets

    replaced = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": False,
        "HF_DATASETS_CACHE": tmp_path / "datasets-cache",
    }
    for name, value in replaced.items():
        monkeypatch.setattr(datasets.config, name, value)
    return hub


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace `time.sleep`; return the list of seconds that it is called with."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.fixture
def unwarned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the warnings that are given once per process."""
    from ast_hf import errors

    monkeypatch.setattr(errors, "_warned", set())


@pytest.fixture
def flex_attention_uncompiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run flex attention uncompiled: the same result without half a minute of C++. Tests with "compile" in their name
    compile it.
    """
    import torch

    with torch.compiler.set_stance("default" if "compile" in request.node.name else "force_eager"):
        yield


def randomise(model: Any, seed: int = 1) -> Any:
    """Set every parameter to random values, none near zero or one, and the model to evaluation mode."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + 0.05)
    return model.eval()


def largest_gap(left: torch.Tensor, right: torch.Tensor) -> float:
    """Return the largest difference of two tensors of one shape."""
    assert left.shape == right.shape
    return (left.double() - right.double()).abs().max().item()


def count_calls(function: Callable[[], object]) -> int:
    """Count the Python and C functions that a call runs: its work, independent of other load on the machine."""
    count = 0

    def profile(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def run_fresh(code: str, *, env: dict[str, str] | None = None, timeout: float = 120) -> str:
    """Run Python code in a new process, outside the checkout, and return what it printed; fails with its stderr."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        cwd="/",
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout
