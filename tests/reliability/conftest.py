"""The suite has its own command, `make test-reliability`: every test in this folder is marked as slow."""

from __future__ import annotations

from pathlib import Path

import pytest
from training.runs import write_clips

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return label folders of noise and tones. Read only."""
    root = tmp_path_factory.mktemp("few")
    write_clips(root, {"train": 12, "test": 3})
    return root
