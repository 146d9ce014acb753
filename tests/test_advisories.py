"""Known defects of libraries: which versions they affect, and a description of the environment that never fails."""

from __future__ import annotations

import builtins
import importlib.metadata
import re
import sys
from typing import Any

import pytest
from conftest import ROOT

from ast_hf import cli
from ast_hf.advisories import ADVISORIES, advisories_for, fixed_in
from ast_hf.commands.environment_description import describe_environment


@pytest.mark.parametrize(
    ("package", "version", "names"),
    [
        ("torch", "2.13.0+cpu", []),
        ("torch", "2.10", []),
        ("torch", "2.9.1", ["CVE-2026-24747"]),
        ("torch", "2.5.1", ["CVE-2026-24747", "CVE-2025-32434"]),
        ("transformers", "5.18.0", []),
        ("transformers", "5.2.0.dev0", ["CVE-2026-4372"]),
        ("numpy", "1.0", []),
    ],
)
def test_versions_are_compared_as_numbers(package: str, version: str, names: list[str]) -> None:
    assert [entry.name for entry in advisories_for(package, version)] == names


@pytest.mark.parametrize("version", ["1.2.2", "1.10.0", "", "unknown"])
def test_a_defect_without_a_fix_affects_every_version(version: str) -> None:
    assert "CVE-2026-37555" in [entry.name for entry in advisories_for("libsndfile", version)]


def test_the_floors_of_the_package_are_past_every_fix() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for package in ("torch", "transformers", "gradio"):
        floor = re.search(rf'"{package}>=([\d.]+)', text)
        assert floor is not None
        assert advisories_for(package, floor[1]) == []
        assert fixed_in(package)


def test_each_name_is_listed_once() -> None:
    names = [entry.name for entry in ADVISORIES]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"CVE-\d{4}-\d{4,}", name) for name in names)


def test_info_names_the_defects_of_libsndfile(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^libsndfile +\d+\.\d+", text, re.MULTILINE)
    assert "CVE-2026-37555: 32-bit wrap of the length of IMA ADPCM; not reachable" in text


def test_info_survives_broken_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def broken(name: str, *rest: Any, **more: Any) -> Any:
        if name in ("torch", "soundfile"):
            raise OSError(f"cannot load\nlib{name}.so")
        return original(name, *rest, **more)

    def no_metadata(name: str) -> str:
        raise ValueError("broken metadata")

    for name in ("torch", "soundfile"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(builtins, "__import__", broken)
    monkeypatch.setattr(importlib.metadata, "version", no_metadata)
    monkeypatch.setenv("HF_HOME", "~nobody-of-this-name/x")
    lines = dict(describe_environment())
    assert lines["libsndfile"] == "unknown (OSError: cannot load libsoundfile.so)"
    assert lines["hardware"].startswith("unknown (OSError")
    assert lines["ast_hf"] == "unknown (ValueError: broken metadata)"
    assert lines["hub cache"].startswith("unknown (RuntimeError")
