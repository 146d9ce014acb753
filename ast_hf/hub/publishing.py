"""Publishing on the Hub: repositories, and commits that hold all files or none.

Files that the repository has already are not sent again.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from ..downloads import file_hash, git_hash
from ..errors import AstHfError, error, short_reason
from .access import PUBLISHING, check_account, check_name, reach
from .published_files import publication_of

#: First line of a commit.
COMMIT_MESSAGE = "Upload model with ast_hf"
#: Messages that nobody chose, which a finishing command does not repeat; the others are training's.
_DEFAULT_MESSAGES = (COMMIT_MESSAGE, "Fine-tuned with ast_hf", "End of training")


class Pushed(NamedTuple):
    """Result of a push.

    Attributes:
        repo_id: the repository's full name.
        url: page of the commit, or of the pull request.
        commit: hash of the commit.
    """

    repo_id: str
    url: str
    commit: str


def check_full_name(repo_id: str) -> None:
    """Raise E702 unless `repo_id` can be the name of a repository, with its user."""
    check_name(repo_id)
    if "/" not in repo_id:
        raise error("E702", where=repr(repo_id), what="does not name its user", fix=f"give user/{repo_id}")


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str = COMMIT_MESSAGE,
    token: str | None = None,
    tell: Callable[[str], None] | None = None,
    patience: float = PUBLISHING,
) -> Pushed:
    """Publish a model's folder on the Hub in one commit. Files that are there already are not sent again.

    Args:
        folder: a complete model with its feature extractor and README.md, see `publication_of`.
        repo_id: `user/name` or `organization/name`; created if it does not exist.
        private: create a repository that only its owner sees.
        revision: branch to push to, created from `main` if it does not exist; None for `main`.
        create_pr: open a pull request instead, in an existing repository.
        commit_message: first line of the commit.
        token: as for `huggingface_hub`; None for the one of `hf auth login` or HF_TOKEN.
        tell: is called with a line of text for each file.
        patience: seconds for which each step is tried while the Hub fails in a way that may pass.

    Raises:
        AstConfigError: E305, E306 and E705 as `publication_of`, before anything is sent; E702 for an invalid
            name, or one that does not exist; E705 for a card that the Hub refuses, and for a public
            repository that should be private.
        AstInputError: E108 for a pull request to a branch, or one that should be private.
        AstRunError: E701 and E704 if the Hub refuses, or cannot be reached. The message has the command that
            finishes the push.
    """
    check_full_name(repo_id)
    if create_pr and revision is not None:
        fix = "leave revision out, or create_pr"
        raise error("E108", where="create_pr", what="opens a request to main", fix=fix)
    if create_pr and private:
        what = "does not apply to a pull request, which is as public as its repository"
        raise error("E108", where="private", what=what, fix="leave it out, or create_pr")
    publication = publication_of(folder, repo_id)
    if tell is not None:
        tell("\n".join(publication.lines()))
    check_account(token)
    command = finishing_command(
        folder, repo_id, private=private, revision=revision, create_pr=create_pr, message=commit_message
    )
    again = f"run `{command}`, which sends the missing files"
    if not create_pr:
        open_repository(
            repo_id, private=private, revision=revision, token=token, then=again, patience=patience
        )
    return send(
        publication.files,
        repo_id,
        revision=revision,
        create_pr=create_pr,
        message=commit_message,
        token=token,
        then=again,
        patience=patience,
    )


def finishing_command(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    message: str = COMMIT_MESSAGE,
) -> str:
    """Return the command line that pushes a folder, or finishes an interrupted push."""
    command = ["ast-hf", "push", str(folder), repo_id]
    if private:
        command.append("--private")
    if revision:
        command += ["--revision", revision]
    if create_pr:
        command.append("--create-pr")
    if message not in _DEFAULT_MESSAGES:
        command += ["--message", message]
    return " ".join(map(_quoted, command))


def _quoted(word: str) -> str:
    """Return a word for a shell; messages are one line with single blanks, so others are written as escapes."""
    if not re.search(r"\s\s|[^\S ]|^\s|\s$", word):
        return shlex.quote(word)
    escaped = "".join(f"\\u{ord(sign):04x}" if sign.isspace() or sign in "\\'" else sign for sign in word)
    return f"$'{escaped}'"


def open_repository(
    repo_id: str,
    *,
    repo_type: str = "model",
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    then: str = "",
    patience: float = PUBLISHING,
) -> str:
    """Create a repository and a branch unless they exist, and return the repository's full name."""
    api = HfApi(token=token)

    def create() -> str:
        return api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id

    def is_private() -> bool:
        return bool(api.repo_info(name, repo_type=repo_type).private)

    name = reach(create, where=repr(repo_id), then=then, patience=patience)
    if private and not reach(is_private, where=repr(name), then=then, patience=patience):
        what = "is public already, and should be private; nothing was sent"
        fix = "make it private in its settings, or push without private"
        raise error("E705", where=repr(name), what=what, fix=fix)
    if revision is not None and not revision.startswith("refs/"):
        reach(
            lambda: api.create_branch(name, branch=revision, repo_type=repo_type, exist_ok=True),
            where=f"{name!r}, branch {revision!r}",
            then=then,
            patience=patience,
        )
    return name


def send(
    files: dict[str, Path | bytes],
    repo_id: str,
    *,
    message: str,
    delete: Iterable[str] = (),
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
    then: str = "",
    patience: float = PUBLISHING,
) -> Pushed:
    """Commit files to a repository, all of them or none. Files that it has already are not sent again.

    Other arguments and the errors are those of `push_folder`.

    Args:
        files: path in the repository -> local file or content.
        repo_id: full name.
        message: first line of the commit.
        delete: paths to remove in the same commit.
        then: as for `access.reach`.
    """
    api = HfApi(token=token)
    commit = _Commit(api, repo_id, files, list(delete), message, revision, create_pr)
    done = reach(commit.make, where=repr(repo_id), then=then, patience=patience)
    present = reach(
        lambda: {entry.path for entry in api.get_paths_info(repo_id, list(files), revision=done.commit)},
        where=repr(repo_id),
        then=then,
        patience=patience,
    )
    if missing := sorted(files.keys() - present):
        what = f"ignored {', '.join(missing)}, because of its .gitignore"
        raise error("E704", where=repr(repo_id), what=what, fix=f"change .gitignore there, then {then}")
    return done


class _Commit:
    """One commit, made at most once: after an answer that was lost, the Hub is searched for it first.

    Args:
        api: client of the Hub.
        repo_id: full name.
        files: path in the repository -> local file or content.
        delete: paths to remove.
        message: first line of the commit.
        revision: branch, None for `main`.
        create_pr: open a pull request instead.
    """

    def __init__(
        self,
        api: HfApi,
        repo_id: str,
        files: dict[str, Path | bytes],
        delete: list[str],
        message: str,
        revision: str | None,
        create_pr: bool,
    ) -> None:
        self.api = api
        self.repo_id = repo_id
        self.files = files
        self.delete = delete
        self.message = message
        self.revision = revision
        self.create_pr = create_pr
        self._was_sent = False
        self._earlier_requests: set[str] | None = None

    def make(self) -> Pushed:
        """Make one attempt, or return the commit of an earlier one."""
        parent = None
        if self.create_pr and self._earlier_requests is None:
            self._earlier_requests = self._pull_requests()
        if self._was_sent:
            if found := self._find():
                return found
            parent = self._head(
                self.revision
            )  # the Hub refuses the commit if the earlier one arrives meanwhile
        try:
            return self._send(parent)
        except AstHfError:
            raise
        except Exception:
            self._was_sent = True
            raise

    def _send(self, parent: str | None) -> Pushed:
        operations: list[Any] = [  # new ones: the client changes them
            *(CommitOperationDelete(path, is_folder=False) for path in self.delete),
            *(CommitOperationAdd(path, content) for path, content in self.files.items()),
        ]
        try:
            done = self.api.create_commit(
                self.repo_id,
                operations,
                commit_message=self.message,
                revision=self.revision,
                create_pr=self.create_pr,
                parent_commit=parent,
            )
        except ValueError as problem:
            if "metadata" not in str(problem):
                raise
            what = f"is refused by the Hub: {short_reason(problem, limit=200)}"
            fix = "correct the lines between the two ---"
            raise error("E705", where="README.md", what=what, fix=fix) from problem
        return Pushed(self.repo_id, done.pr_url or done.commit_url, done.oid)

    def _find(self) -> Pushed | None:
        """Return the newest commit of the branch, or of a new pull request, if it holds the files."""
        page = f"{self.api.endpoint}/{self.repo_id}"
        if not self.create_pr:
            head = self._head(self.revision)
            return Pushed(self.repo_id, f"{page}/commit/{head}", head) if self._holds(head) else None
        for ref in sorted(self._pull_requests() - (self._earlier_requests or set())):
            head = self._head(ref)
            if self._holds(head):
                return Pushed(self.repo_id, f"{page}/discussions/{ref.rsplit('/', 1)[1]}", head)
        return None

    def _head(self, revision: str | None) -> str:
        return str(self.api.model_info(self.repo_id, revision=revision).sha)

    def _pull_requests(self) -> set[str]:
        refs = self.api.list_repo_refs(self.repo_id, include_pull_requests=True)
        return {entry.ref for entry in refs.pull_requests or []}

    def _holds(self, commit: str) -> bool:
        """Return True if a commit holds exactly these files, and none of those to remove."""
        paths = [*self.files, *self.delete]
        entries = {
            entry.path: entry for entry in self.api.get_paths_info(self.repo_id, paths, revision=commit)
        }
        return entries.keys() == self.files.keys() and all(
            _is_same(content, entries[path]) for path, content in self.files.items()
        )


def _is_same(content: Path | bytes, entry: Any) -> bool:
    """Return True if a file on the Hub has the content of a local one."""
    expected = entry.lfs.sha256 if entry.lfs else entry.blob_id
    return expected == (file_hash(content) if entry.lfs else git_hash(content))
