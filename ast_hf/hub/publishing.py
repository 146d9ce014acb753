"""Publishing on the Hub: repositories, and commits that hold all files or none.

Files that the repository has already are not sent again.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from ..errors import error, short_reason
from .access import check_account, check_name, reach
from .published_files import publication_of


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
    commit_message: str = "Upload model with ast_hf",
    token: str | None = None,
    tell: Callable[[str], None] | None = None,
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
    command = finishing_command(folder, repo_id, private=private, revision=revision, create_pr=create_pr)
    again = f"run `{command}`, which sends the missing files"
    if not create_pr:
        open_repository(repo_id, private=private, revision=revision, token=token, then=again)
    return send(
        publication.files,
        repo_id,
        revision=revision,
        create_pr=create_pr,
        message=commit_message,
        token=token,
        then=again,
    )


def finishing_command(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> str:
    """Return the command line that pushes a folder, or finishes an interrupted push."""
    command = ["ast-hf", "push", str(folder), repo_id]
    if private:
        command.append("--private")
    if revision:
        command += ["--revision", revision]
    if create_pr:
        command.append("--create-pr")
    return shlex.join(command)


def open_repository(
    repo_id: str,
    *,
    repo_type: str = "model",
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    then: str = "",
) -> str:
    """Create a repository and a branch unless they exist, and return the repository's full name."""
    api = HfApi(token=token)

    def create() -> str:
        return api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id

    def is_private() -> bool:
        return bool(api.repo_info(name, repo_type=repo_type).private)

    name = reach(create, where=repr(repo_id), then=then)
    if private and not reach(is_private, where=repr(name), then=then):
        what = "is public already, and should be private; nothing was sent"
        fix = "make it private in its settings, or push without private"
        raise error("E705", where=repr(name), what=what, fix=fix)
    if revision is not None and not revision.startswith("refs/"):
        reach(
            lambda: api.create_branch(name, branch=revision, repo_type=repo_type, exist_ok=True),
            where=f"{name!r}, branch {revision!r}",
            then=then,
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

    def commit() -> Any:
        """Make one attempt, with new operations: the client changes them."""
        operations: list[Any] = [
            *(CommitOperationDelete(path, is_folder=False) for path in delete),
            *(CommitOperationAdd(path, content) for path, content in files.items()),
        ]
        try:
            return api.create_commit(
                repo_id, operations, commit_message=message, revision=revision, create_pr=create_pr
            )
        except ValueError as problem:
            if "metadata" not in str(problem):
                raise
            what = f"is refused by the Hub: {short_reason(problem, limit=200)}"
            fix = "correct the lines between the two ---"
            raise error("E705", where="README.md", what=what, fix=fix) from problem

    done = reach(commit, where=repr(repo_id), then=then)
    present = reach(
        lambda: {entry.path for entry in api.get_paths_info(repo_id, list(files), revision=done.oid)},
        where=repr(repo_id),
        then=then,
    )
    if missing := sorted(files.keys() - present):
        what = f"ignored {', '.join(missing)}, because of its .gitignore"
        raise error("E704", where=repr(repo_id), what=what, fix=f"change .gitignore there, then {then}")
    return Pushed(repo_id, done.pr_url or done.commit_url, done.oid)
