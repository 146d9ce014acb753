"""`ast-hf push`: publish a model's folder on the Hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from .console import add_json_option, print_json, quiet_transformers, show


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("folder", help="output of training or save_pretrained, with a README.md")
    parser.add_argument(
        "repo_id", metavar="user/name", help="its name on the Hub; created if it does not exist"
    )
    parser.add_argument("--private", action="store_true", default=None, help="create a private repository")
    parser.add_argument("--revision", help="branch to push to, created if it does not exist (default: main)")
    parser.add_argument(
        "--create-pr", action="store_true", help="open a pull request in an existing repository"
    )
    parser.add_argument(
        "--message", default="Upload model with ast_hf", help="of the commit (default: %(default)s)"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="for which each step is tried while the Hub fails in a way that may pass (default: %(default)g)",
    )
    parser.add_argument(
        "--dry-run",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="send nothing: write the files to publish next to the folder or into FOLDER, and list them",
    )
    add_json_option(parser)


def run(options: argparse.Namespace) -> None:
    """Publish the folder, and print the page of the commit."""
    from ..hub.publishing import push_folder

    quiet_transformers()
    if options.dry_run is not None:
        _write_dry_run(options)
        return
    result = push_folder(
        options.folder,
        options.repo_id,
        private=options.private,
        revision=options.revision,
        create_pr=options.create_pr,
        commit_message=options.message,
        tell=show,
        patience=options.patience,
    )
    if options.json:
        print_json(options, {"repo_id": options.repo_id, **result._asdict()})
    else:
        show(result.url)


def _write_dry_run(options: argparse.Namespace) -> None:
    from ..hub.published_files import dry_run_folder, publication_of, write_publication
    from ..hub.publishing import check_full_name

    folder = Path(options.folder)
    check_full_name(options.repo_id)
    target = Path(options.dry_run) if options.dry_run else dry_run_folder(folder)
    publication = publication_of(folder, options.repo_id)
    write_publication(publication, target, folder)
    if options.json:
        files = {"files": sorted(publication.files), "cleaned": publication.cleaned}
        content = {"repo_id": options.repo_id, "sent": False, "folder": str(target), **files}
        print_json(options, {**content, "left_out": publication.left_out})
    show("\n".join(publication.lines()))
    show(f"Nothing was sent; the files for {options.repo_id} are in {target}")
