"""Fixtures shared by the tests of training: clips of noise and tones, and a finished run on them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from ast_hf.training import Report, finetune
from training.runs import recipe, write_clips


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints without room in the output folder are written into the temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.getbasetemp()))


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return label folders of noise and tones. Read only."""
    root = tmp_path_factory.mktemp("clips")
    write_clips(root)
    return root


@pytest.fixture(scope="session")
def trained(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return a finished run. Read only."""
    return finetune(
        recipe(clips, {"averaging_decay": 0.9}, num_train_epochs=12), tmp_path_factory.mktemp("trained")
    )
