"""Origin of installed packages: the index, repository, file or folder that pip installed them from.

Nothing here asks the network, and no address is made up: each is one that pip recorded (`direct_url.json`, PEP 610)
or that the package's own clone pushes to.
"""

from __future__ import annotations

import importlib.metadata
import ipaddress
import json
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

#: Installers that record the origin of whatever is not from an index (PEP 610).
_INSTALLERS = ("pip", "uv", "poetry", "pdm")
#: Labels of project URLs that lead to the package itself, without case and signs (PEP 753).
_URL_LABELS = ("source", "sourcecode", "repository", "github", "homepage", "home")
#: Seconds that git may take.
_GIT_SECONDS = 10
#: Ends of host names that only one network knows (RFC 2606, RFC 6762, RFC 8375).
_PRIVATE_ENDS = (".local", ".localhost", ".internal", ".lan", ".home.arpa", ".corp", ".test", ".invalid")


class Origin(NamedTuple):
    """Where others find a package.

    Attributes:
        requirement: what pip installs this very package from anywhere: `name==version` or `name @ address`; None if
            no such text is known.
        url: address of its page or repository, None if unknown.
    """

    requirement: str | None
    url: str | None

    def to_dict(self) -> dict[str, str | None]:
        """Return plain values for results.json."""
        return self._asdict()


def package_origin(name: str) -> Origin:
    """Return the origin of an installed package; without addresses for one that is not installed.

    A package that was installed from a folder has the address of the folder's repository if that is public in form. A
    commit of it is a requirement only if it is on a remote branch and no file of the package was changed.
    """
    try:
        installed = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return Origin(None, None)
    page = _project_page(installed)
    recorded = _direct_url(installed)
    if recorded is None:
        source = Path(str(installed.locate_file("")))
        if (source / "pyproject.toml").is_file():  # metadata beside the code: it runs from its source folder
            return _local_origin(name, source, page)
        return Origin(_index_requirement(name, installed), page)
    address = str(recorded.get("url", ""))
    if "dir_info" in recorded or address.startswith("file:"):
        return _local_origin(name, _local_path(address), page)
    if not is_public(address):
        return Origin(None, page)
    control = recorded.get("vcs_info")
    if control is None:
        return Origin(f"{name} @ {address}", page or address)
    commit = control.get("commit_id")
    folder = recorded.get("subdirectory")
    place = f"#subdirectory={folder}" if folder else ""
    requirement = f"{name} @ {control.get('vcs', 'git')}+{address}@{commit}{place}" if commit else None
    return Origin(requirement, page or address)


def is_public(address: str) -> bool:
    """Return True if an address has the form of a public one: https, a name with a dot, no user, no port."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        has_more = parts.username is not None or parts.password is not None or parts.port is not None
    except ValueError:
        return False
    if parts.scheme != "https" or has_more or not re.fullmatch(r"[\w.-]+\.[A-Za-z]{2,}", host):
        return False
    with suppress(ValueError):
        return not ipaddress.ip_address(host)
    is_clean = re.fullmatch(r"[\w.~%/+@:-]*", parts.path) is not None and not parts.query
    return is_clean and not f".{host}".endswith(_PRIVATE_ENDS)


def _project_page(installed: importlib.metadata.Distribution) -> str | None:
    """Return the project URL of a package that leads to its source or home page."""
    for entry in installed.metadata.get_all("Project-URL") or []:
        label, _, address = entry.partition(",")
        if re.sub(r"[\W_]", "", label).lower() in _URL_LABELS and is_public(address.strip()):
            return address.strip()
    return None


def _direct_url(installed: importlib.metadata.Distribution) -> dict[str, Any] | None:
    """Return the content of direct_url.json; None for a package from an index."""
    text = installed.read_text("direct_url.json")
    if not text:
        return None
    with suppress(ValueError):
        content = json.loads(text)
        return content if isinstance(content, dict) else {}
    return {}


def _index_requirement(name: str, installed: importlib.metadata.Distribution) -> str | None:
    """Return `name==version` for a package that its installer took from an index; None for nightly builds."""
    installer = (installed.read_text("INSTALLER") or "").strip()
    # the local part, such as +cpu, names a build of the same version, which indexes leave out
    version = installed.version.partition("+")[0]
    return f"{name}=={version}" if installer in _INSTALLERS and ".dev" not in version else None


def _local_path(address: str) -> Path:
    path = unquote(urlsplit(address).path)
    return Path(path.lstrip("/") if re.match(r"/[A-Za-z]:", path) else path)


def _local_origin(name: str, folder: Path, page: str | None) -> Origin:
    """Return the origin of a package that was installed from a folder or a file."""
    # a folder that git does not track is not part of the repository around it, as an unpacked archive
    is_tracked = folder.is_dir() and bool(_git(folder, "ls-files", "--", "."))
    remote = _git(folder, "remote", "get-url", "origin") if is_tracked else None
    if remote is None or not is_public(remote):
        return Origin(None, page)
    commit = _git(folder, "rev-parse", "HEAD")
    is_pushed = bool(commit) and bool(_git(folder, "branch", "--remotes", "--contains", "HEAD"))
    is_clean = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".") == ""
    inner = (_git(folder, "rev-parse", "--show-prefix") or "").rstrip("/")
    place = f"#subdirectory={inner}" if inner else ""
    requirement = f"{name} @ git+{remote}@{commit}{place}" if is_pushed and is_clean else None
    return Origin(requirement, page or remote)


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of git in a folder; None without git, or if it fails."""
    with suppress(OSError, subprocess.SubprocessError):
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
        return result.stdout.strip()
    return None
