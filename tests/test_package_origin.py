"""Where others find the package: what pip recorded, or what the clone pushes to; nothing is made up."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ast_hf.package_origin import Origin, is_public, package_origin
from ast_hf.reports.model_card_values import package_values
from ast_hf.versions import requirement_lines, result_origins, result_versions

NAME = "some_package"
ADDRESS = "https://code.example.org/team/some_package.git"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def install(
    root: Path,
    direct: dict[str, Any] | None,
    *,
    installer: str = "pip",
    version: str = "1.2.0",
    urls: str = "",
) -> None:
    """Write the metadata of an installed package, as pip does."""
    folder = root / f"{NAME}-1.2.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\n{urls}")
    (folder / "INSTALLER").write_text(f"{installer}\n")
    if direct is not None:
        (folder / "direct_url.json").write_text(json.dumps(direct))


GIT = {"vcs": "git", "commit_id": COMMIT, "requested_revision": "main"}
ORIGINS: list[tuple[str, dict[str, Any] | None, dict[str, str], Origin]] = [
    ("index", None, {}, Origin(f"{NAME}==1.2.0", None)),
    ("build-of-a-version", None, {"version": "1.2.0+cpu"}, Origin(f"{NAME}==1.2.0", None)),
    ("nightly", None, {"version": "1.3.0.dev20260101+cu126"}, Origin(None, None)),
    ("conda", None, {"installer": "conda"}, Origin(None, None)),
    (
        "page",
        None,
        {"urls": "Project-URL: Paper, https://a.org/p\nProject-URL: Source Code, https://a.org/s\n"},
        Origin(f"{NAME}==1.2.0", "https://a.org/s"),
    ),
    ("git", {"url": ADDRESS, "vcs_info": GIT}, {}, Origin(f"{NAME} @ git+{ADDRESS}@{COMMIT}", ADDRESS)),
    (
        "git-subfolder",
        {"url": ADDRESS, "vcs_info": GIT, "subdirectory": "python"},
        {},
        Origin(f"{NAME} @ git+{ADDRESS}@{COMMIT}#subdirectory=python", ADDRESS),
    ),
    ("git-ssh", {"url": "ssh://git@code.example.org/team/x.git", "vcs_info": GIT}, {}, Origin(None, None)),
    (
        "git-token",
        {"url": "https://user:secret@code.example.org/x.git", "vcs_info": GIT},
        {},
        Origin(None, None),
    ),
    ("git-private", {"url": "https://git.corp.internal/x.git", "vcs_info": GIT}, {}, Origin(None, None)),
    (
        "wheel",
        {"url": "https://a.org/some_package-1.2.0-py3-none-any.whl", "archive_info": {}},
        {},
        Origin(
            f"{NAME} @ https://a.org/some_package-1.2.0-py3-none-any.whl",
            "https://a.org/some_package-1.2.0-py3-none-any.whl",
        ),
    ),
    ("local-wheel", {"url": "file:///nowhere/x.whl", "archive_info": {}}, {}, Origin(None, None)),
    ("folder", {"url": "file:///nowhere/clone", "dir_info": {"editable": True}}, {}, Origin(None, None)),
]


@pytest.mark.parametrize(
    ("direct", "fields", "expected"), [row[1:] for row in ORIGINS], ids=[row[0] for row in ORIGINS]
)
def test_origin_is_what_pip_recorded(
    direct: dict[str, Any] | None,
    fields: dict[str, str],
    expected: Origin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(tmp_path, direct, **fields)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert package_origin(NAME) == expected


def test_a_clone_has_the_address_that_it_pushes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commit is a requirement once it is on the remote, and while nothing is changed."""
    clone = tmp_path / "my clone"
    clone.mkdir()
    install(tmp_path / "site", {"url": clone.as_uri(), "dir_info": {"editable": True}})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def git(*arguments: str) -> str:
        names = ("-c", "user.name=a", "-c", "user.email=a@b.org")
        command = ["git", "-C", str(clone), *names, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (clone / "code.py").write_text("")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    assert package_origin(NAME) == Origin(None, None)
    git("remote", "add", "origin", ADDRESS)
    assert package_origin(NAME) == Origin(None, ADDRESS)  # nobody else has the commit
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    assert package_origin(NAME) == Origin(f"{NAME} @ git+{ADDRESS}@{git('rev-parse', 'HEAD')}", ADDRESS)
    (clone / "code.py").write_text("changed = True\n")
    assert package_origin(NAME) == Origin(None, ADDRESS)
    git("checkout", "--quiet", "code.py")
    inner = clone / "python"
    install(
        inner, None, installer=""
    )  # metadata beside the code, as `python -m` in the source folder finds them
    (inner / "pyproject.toml").write_text("")
    monkeypatch.syspath_prepend(str(inner))
    assert package_origin(NAME) == Origin(
        None, None
    )  # an unpacked archive is not part of the repository around it
    git("add", "python/pyproject.toml")
    git("commit", "--quiet", "--message", "second")
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    commit = git("rev-parse", "HEAD")
    assert package_origin(NAME) == Origin(f"{NAME} @ git+{ADDRESS}@{commit}#subdirectory=python", ADDRESS)
    git("remote", "set-url", "origin", "git@code.example.org:team/some_package.git")
    assert package_origin(NAME) == Origin(None, None)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (ADDRESS, True),
        ("https://huggingface.co/spaces/a/b", True),
        ("http://code.example.org/x", False),
        ("https://localhost/x", False),
        ("https://10.0.0.7/x", False),
        ("https://code.example.org:8443/x", False),
        ("https://token@code.example.org/x", False),
        ("https://code.example.org/x)[y](z", False),
        ("git@code.example.org:x.git", False),
        ("", False),
        ("https://[::1", False),
    ],
)
def test_public_addresses(address: str, expected: bool) -> None:
    assert is_public(address) is expected


def test_every_requirement_is_one_that_pip_reads() -> None:
    from packaging.requirements import Requirement

    lines = requirement_lines({"versions": result_versions(), "origins": result_origins()})
    assert len(lines) == len(result_versions())
    parsed = [Requirement(line).name for line in lines if not line.startswith("#")]
    assert {"torch", "numpy"} <= set(parsed)
    (own,) = [line for line in lines if "ast_hf" in line]
    assert own.startswith("#") == (result_origins()["ast_hf"]["requirement"] is None)
    assert "==" not in own or not own.startswith("#")


def test_results_of_older_versions_name_no_index_for_this_package() -> None:
    assert requirement_lines({"versions": {"torch": "2.13.0+cpu", "ast_hf": "0.1.0"}}) == [
        "# ast_hf 0.1.0: no address of it is known; in a clone of its repository, run pip install .",
        "torch==2.13.0",
    ]
    assert requirement_lines({}) == []


def test_packages_that_pip_cannot_install_are_comments_that_lead_somewhere() -> None:
    origins = {"ast_hf": {"requirement": None, "url": ADDRESS}, "torch": {"url": "https://pytorch.org"}}
    lines = requirement_lines({"versions": {"torch": "2.14.0.dev1", "ast_hf": "0.1.0"}, "origins": origins})
    assert lines == [
        f"# ast_hf 0.1.0: installed from a local copy; in a clone of {ADDRESS}, run pip install .",
        "# torch 2.14.0.dev1: not from the index of pip, see https://pytorch.org",
    ]


def test_a_card_links_only_what_is_known() -> None:
    assert package_values(None) == {"package": "`ast_hf`", "install": "`pip install .`", "in_clone": True}
    known = {"requirement": f"ast_hf @ git+{ADDRESS}@{COMMIT}", "url": ADDRESS}
    assert package_values(known) == {
        "package": f"[`ast_hf`]({ADDRESS})",
        "install": f'`pip install "ast_hf @ git+{ADDRESS}@{COMMIT}"`',
        "in_clone": False,
    }
