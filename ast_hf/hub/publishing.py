"""What of a folder is published on the Hub, and how does it get there? It is checked and cleaned before anything is
sent, goes up in one commit, and what is there already is not sent again.
"""

from __future__ import annotations

import json
import mmap
import re
import shlex
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, get_token
from huggingface_hub.utils import yaml_dump

from ..configuration_ast import ASTConfig
from ..configuration_ensemble import MEMBER, ASTEnsembleConfig
from ..errors import error
from ..feature_extraction_ast import ASTFeatureExtractor
from ..modeling_ast import ASTForAudioClassification
from ..modeling_ensemble import ASTEnsembleForAudioClassification
from ..weights.integrity import check_folder
from ..weights.reading import WEIGHTS_FILES, read_tensors
from .access import check_account, check_name, reach

#: peft's names for what an adapter is, and for its weights.
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

#: Everything that is ever published of a model's folder, path by path; whatever else lies there stays at home.
PUBLISHED = (
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    "member-*/config.json",
    "member-*/preprocessor_config.json",
    "member-*/model.safetensors",
    "member-*/model-*-of-*.safetensors",
    "member-*/model.safetensors.index.json",
    "README.md",
    "LICENSE*",
    "recipe.yaml",
    "results.json",
    "requirements.txt",
    "training_args.json",
    "*.png",
    ".eval_results/*.yaml",
    "samples/*.flac",
    "samples/*.ogg",
    "samples/*.wav",
)
_NEEDED = {
    "config.json": "save the model again",
    "preprocessor_config.json": "save the feature extractor there",
    "README.md": "write the model card, or let ast_hf train the model, which does",
}
_TEXTS = (".json", ".yaml", ".md", ".txt")
#: Where the versions of a run stand, and the file that they become.
_RESULTS, _REQUIREMENTS = "results.json", "requirements.txt"

#: What must never leave the machine: the forms of tokens of the Hub, GitHub and AWS, and PEM. Each begins with its
#: letters, not with \b: a search for those is forty times as fast, and holds everything else in the process up.
_SECRETS = {
    "a Hugging Face token": re.compile(rb"hf_(?<!\whf_)[A-Za-z0-9]{20,}"),
    "a Hugging Face organisation's token": re.compile(rb"api_org_(?<!\wapi_org_)[A-Za-z0-9]{20,}"),
    "a GitHub token": re.compile(rb"gh[pousr]_(?<!\wgh[pousr]_)[A-Za-z0-9]{36}"),
    "a fine-grained GitHub token": re.compile(rb"github_pat_[A-Za-z0-9_]{60,}"),
    "an AWS key": re.compile(rb"AKIA(?<!\wAKIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}

#: Folders that hold a user's files wherever they are; others count when they exist here. AudioSet's identifiers, such
#: as /m/09x0r, are no paths.
_HOMES = ("home", "Users", "root", "mnt", "media", "Volumes")
_SYSTEM = ("bin", "dev", "etc", "lib", "proc", "sbin", "sys", "usr")
#: An absolute path, on Windows too: all of a quoted string, the rest of a YAML line, or up to a blank.
_ABSOLUTE = r"(?:file://)?(?:/|[A-Za-z]:(?:\\\\?|/))"
_PATHS = re.compile(
    rf"(?<=[\"'])(?P<quoted>{_ABSOLUTE}[^\"'\n]+)(?=[\"'])"
    rf"|(?<=: )(?P<line>{_ABSOLUTE}[^\"'\n]+)$"
    rf"|(?<![\w.:/~\\-])(?P<bare>{_ABSOLUTE}[^\s\"'`<>|*?,;)\]}}]+)",
    re.MULTILINE,
)

#: In a card, whose snippets name the folder that the model lay in when the card was written.
_MODEL_NAME = re.compile(r"""(model=|from_pretrained\((?:base, )?|ast-hf merge )(["'])([^"'\n]+)\2""")


class Publication(NamedTuple):
    """What is published of a folder.

    Attributes:
        files: path in the repository -> the local file, or the content that goes there instead.
        cleaned: files with local paths -> how many of them were cut down to their last part.
        left_out: what else lies in the folder.
    """

    files: dict[str, Path | bytes]
    cleaned: dict[str, int]
    left_out: list[str]

    def lines(self) -> list[str]:
        """The files with their sizes in bytes, and what was done to them, to be shown."""
        sizes = {path: f"{_size(content):,}" for path, content in self.files.items()}
        width = max(map(len, sizes.values()))
        shown = [f"{size:>{width}}  {path}" for path, size in sizes.items()]
        shown += [f"local paths cut in {path}: {count}" for path, count in self.cleaned.items()]
        return [*shown, *([f"not published: {', '.join(self.left_out)}"] if self.left_out else [])]


class Pushed(NamedTuple):
    """A finished push: the repository's full name, the page and hash of the commit, or page of the pull request."""

    repo_id: str
    url: str
    commit: str


# ---------------------------------------------------------------- what is published


def publication_of(folder: str | Path, repo_id: str) -> Publication:
    """What of a model's folder goes to the Hub, once it is known to be whole, to load and to hold no secret.

    Args:
        folder: as `save_pretrained` of model and feature extractor left it, with a README.md.
        repo_id: `user/name`, which the card's snippets name.

    Raises:
        AstConfigError: E306 and E305 for weights that do not load, E705 for a folder that is not complete, and for
            files that hold a token or a key.
    """
    folder = Path(folder)
    check_publishable(folder)
    inside = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    chosen = {path.relative_to(folder).as_posix(): path for path in inside if _is_published(path.relative_to(folder))}
    files: dict[str, Path | bytes] = {}
    cleaned: dict[str, int] = {}
    samples = [name for name in chosen if name.startswith("samples/")]
    for name, path in chosen.items():
        files[name], count = _ready(path, folder, repo_id, samples)
        cleaned |= {name: count} if count else {}
    files |= _requirements(folder) if _REQUIREMENTS not in files else {}
    for name, content in files.items():
        check_secrets(content, name)
    others = {path.relative_to(folder).parts for path in inside if path not in chosen.values()}
    left_out = sorted({parts[0] + ("/" if len(parts) > 1 else "") for parts in others})
    return Publication(files, cleaned, left_out)


def _is_published(path: Path) -> bool:
    """Whether a path matches `PUBLISHED`, folder by folder."""
    wanted = (pattern.split("/") for pattern in PUBLISHED)
    return any(len(parts) == len(path.parts) and all(map(fnmatchcase, path.parts, parts)) for parts in wanted)


def check_publishable(folder: Path) -> None:
    """Raise E705, or what loading raises, unless a folder holds a model, ensemble or adapter that others can use."""
    if (folder / ADAPTER_CONFIG).is_file():
        kind, needed = "adapter", {**_NEEDED, ADAPTER_WEIGHTS: "save the adapter there"}
    else:
        check_folder(folder.resolve())
        kind, needed = "", _NEEDED
    for name, fix in needed.items():
        if not (folder / name).is_file():
            raise error("E705", where=repr(str(folder)), what=f"has no {name}", fix=fix)
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    library, check = _KINDS.get(kind or stored.get("model_type"), _KINDS[ASTConfig.model_type])
    _check_card(folder / "README.md", library)
    check(folder)


def _check_model(folder: Path) -> None:
    _check_weights(folder)
    config, extractor = ASTConfig.from_pretrained(folder), ASTFeatureExtractor.from_pretrained(folder)
    _check_config(config, folder / "config.json")
    for name in ("num_mel_bins", "max_length"):
        if getattr(config, name) != getattr(extractor, name):
            what = f"{name} is {getattr(extractor, name)}, but {getattr(config, name)} in config.json"
            where = str(folder / "preprocessor_config.json")
            raise error("E705", where=repr(where), what=what, fix="save the extractor that the model was trained with")
    ASTForAudioClassification.from_pretrained(folder)


def _check_adapter(folder: Path) -> None:
    """An adapter alone, as peft reads it, beside the base that it names."""
    read_tensors(folder / ADAPTER_WEIGHTS)
    _check_config(ASTConfig.from_pretrained(folder), folder / "config.json")
    base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", str(base)) or Path(str(base)).exists():
        what = f"is {base!r}, which is no model on the Hub: nobody else could use the adapter"
        fix = "push the base, and write its name there; or push the merged model, the folder above"
        raise error("E705", where=f"{str(folder / ADAPTER_CONFIG)!r}: base_model_name_or_path", what=what, fix=fix)


def _check_ensemble(folder: Path) -> None:
    """Every member loads, config and extractor are theirs, and nothing else would be taken for a part."""
    config, extractor = ASTEnsembleConfig.from_pretrained(folder), ASTFeatureExtractor.from_pretrained(folder)
    _check_config(config, folder / "config.json")
    known = {*(config.members or [])}
    strange = sorted(path.name for path in folder.glob(f"{MEMBER}*") if path.is_dir() and path.name not in known)
    strange += [name for name in WEIGHTS_FILES[:2] if (folder / name).exists()]
    if strange:
        what = f"holds {strange[0]!r}, which is no part of the ensemble"
        raise error("E705", where=repr(str(folder)), what=what, fix="remove it, or save the ensemble to a new folder")
    for name in known:
        _check_weights(folder / name)
    wanted = ASTEnsembleForAudioClassification.from_pretrained(folder).feature_extractor.to_dict()
    for name, value in extractor.to_dict().items():
        if value != wanted[name]:
            where = f"{str(folder / 'preprocessor_config.json')!r}: {name}"
            fix = "save the ensemble again"
            raise error("E705", where=where, what=f"{value!r}, but the members ask for {wanted[name]!r}", fix=fix)


def _check_weights(folder: Path) -> None:
    if not any((folder / name).is_file() for name in WEIGHTS_FILES[:2]):
        fix = "load it with from_pretrained and save it again with save_pretrained"
        raise error("E705", where=repr(str(folder)), what=f"has its weights in no {WEIGHTS_FILES[0]}", fix=fix)


#: "adapter", or model_type -> the library that a card names, since it loads the whole, and what has to hold. Another
#: kind is checked as one model, which says what is wrong with it.
_KINDS: dict[str | None, tuple[str, Callable[[Path], None]]] = {
    "adapter": ("peft", _check_adapter),
    ASTConfig.model_type: ("transformers", _check_model),
    ASTEnsembleConfig.model_type: ("ast_hf", _check_ensemble),
}


def _check_config(config: ASTConfig | ASTEnsembleConfig, path: Path) -> None:
    stored = json.loads(path.read_text(encoding="utf-8"))
    if stored.get("problem_type") is None:
        what, fix = "does not say whether clips have one label or several", "set problem_type"
        raise error("E705", where=f"{str(path)!r}: problem_type", what=what, fix=fix)
    unnamed = [name for name in config.id2label.values() if re.fullmatch(r"LABEL_\d+", str(name))]
    if unnamed:
        what = f"has no names for {len(unnamed)} of {config.num_labels} labels, first {unnamed[0]}"
        raise error("E705", where=f"{str(path)!r}: id2label", what=what, fix="give every label its name")


def _check_card(path: Path, library: str) -> None:
    """Raise E705 unless the head of a card tells the Hub, and `pipeline`, what the model is for and what loads it."""
    try:
        head = ModelCard(path.read_text(encoding="utf-8")).data
    except Exception as problem:  # yaml and huggingface_hub have several
        what = f"has a head that cannot be read ({' '.join(str(problem).split())[:120]})"
        raise error("E705", where=repr(str(path)), what=what, fix="correct the lines between the two ---") from problem
    for name, wanted in {"library_name": library, "pipeline_tag": "audio-classification"}.items():
        if head.get(name) != wanted:
            what = f"says {name}: {head.get(name)}" if head.get(name) else f"names no {name}"
            fix = f"write {name}: {wanted} between two lines of --- at its start"
            raise error("E705", where=repr(str(path)), what=what, fix=fix)


def _ready(path: Path, folder: Path, repo_id: str, samples: list[str]) -> tuple[Path | bytes, int]:
    """A file as it is published, and the number of local paths in it that were cut."""
    if path.suffix not in _TEXTS:
        return path, 0
    text = _text(path)
    named = _with_samples(_named(text, folder, repo_id), repo_id, samples) if path.suffix == ".md" else text
    clean, count = (cut_paths_in_json if path.suffix == ".json" else cut_paths)(named)
    return (path, 0) if clean == text else (clean.encode(), count)


def _text(path: Path) -> str:
    """A text file that is to be published; E705 when it is not UTF-8, or no JSON where its name says so."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            json.loads(text)
    except ValueError as problem:  # of the encoding, or of JSON
        what = f"cannot be read ({' '.join(str(problem).split())[:120]})"
        raise error("E705", where=repr(str(path)), what=what, fix="save it as UTF-8, or restore it") from problem
    return text


def _named(text: str, folder: Path, repo_id: str) -> str:
    """A card whose snippets load the repository instead of the folder, whatever that was called when it was written."""
    names, adapter = {folder.resolve().name, repo_id.split("/")[-1]}, folder / ADAPTER_CONFIG
    base = json.loads(_text(adapter)).get("base_model_name_or_path") if adapter.is_file() else None

    def rename(found: re.Match[str]) -> str:
        before, quote, name = found.groups()
        is_it = name != base and (Path(name).is_absolute() or Path(name).name in names)
        return f"{before}{quote}{repo_id}{quote}" if is_it else found[0]

    return _MODEL_NAME.sub(rename, text)


def _with_samples(text: str, repo_id: str, samples: list[str]) -> str:
    """A card whose page offers the samples to try the model with, unless its head chooses others."""
    if not samples or not text.startswith("---\n") or ModelCard(text).data.get("widget"):
        return text
    place = f"https://huggingface.co/{repo_id}/resolve/main/"
    widget = [{"src": place + quote(name), "example_title": Path(name).stem} for name in samples]
    return "---\n" + yaml_dump({"widget": widget}) + text.removeprefix("---\n")


def cut_paths(text: str) -> tuple[str, int]:
    """Text in which of each absolute local path only the last part is left, and the number of those paths."""
    count = 0

    def cut(found: re.Match[str]) -> str:
        nonlocal count
        name = _last_part(found[0])
        count += name is not None
        return found[0] if name is None else name

    return _PATHS.sub(cut, text), count


def cut_paths_in_json(text: str) -> tuple[str, int]:
    """The same for JSON, value by value; text without such paths stays as it is."""
    count = 0

    def clean(value: Any) -> Any:
        nonlocal count
        if isinstance(value, dict):
            return {clean(name): clean(part) for name, part in value.items()}
        if isinstance(value, list):
            return [clean(part) for part in value]
        if not isinstance(value, str):
            return value
        whole = _last_part(value) if re.match(_ABSOLUTE, value) else None
        short, cuts = cut_paths(value) if whole is None else (whole, 1)
        count += cuts
        return short

    clean_values = clean(json.loads(text))
    return (json.dumps(clean_values, indent=2, ensure_ascii=False) + "\n", count) if count else (text, 0)


def _last_part(path: str) -> str | None:
    """Of a local path its last part; None for what is none: a class name, a system's folder, a single name."""
    parts = [part for part in re.split(r"[\\/]+", path.removeprefix("file://")) if part]
    if not parts or (parts[0] not in _HOMES and len(parts) == 1):
        return None
    local = parts[0].endswith(":") or parts[0] in _HOMES or Path("/", parts[0]).is_dir()
    return parts[-1] if local and parts[0] not in _SYSTEM else None


def _requirements(folder: Path) -> dict[str, Path | bytes]:
    """The versions that a run noted with its results, as requirements.txt; nothing when it noted none."""
    path = folder / _RESULTS
    versions = json.loads(path.read_text(encoding="utf-8")).get("versions") if path.is_file() else None
    if not versions:
        return {}
    lines = [f"{name}=={version.partition('+')[0]}\n" for name, version in sorted(versions.items())]
    return {_REQUIREMENTS: "".join(lines).encode()}


def check_secrets(content: Path | bytes, name: str) -> None:
    """Raise E705 when a file holds a token or a key, the one that is in use included. Which one is not repeated."""
    kinds = dict(_SECRETS)
    if token := get_token():
        kinds["the token of this machine"] = re.compile(re.escape(token.encode()))
    found = next((kind for kind, pattern in kinds.items() if _holds(content, pattern)), None)
    if found is not None:
        fix = "remove it, and revoke it if the file was ever shared; nothing was sent"
        raise error("E705", where=repr(name), what=f"holds {found}", fix=fix)


def _holds(content: Path | bytes, pattern: re.Pattern[bytes]) -> bool:
    if isinstance(content, bytes):
        return pattern.search(content) is not None
    if content.stat().st_size == 0:  # which cannot be mapped
        return False
    with content.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return pattern.search(mapped) is not None


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _bytes(content: Path | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def dry_run_folder(source: Path) -> Path:
    """Where a dry run writes when it is not told: beside the model's folder, over what an earlier one left there."""
    place = source if source.name else source.resolve()
    return place.with_name(f"{place.name}-to-push")


def write_publication(publication: Publication, folder: Path, source: Path) -> None:
    """Write exactly what would be published into a folder.

    Raises:
        AstInputError: E108 for a folder that is, holds or lies in `source`, or that holds anything else, or the same
            names with other contents, unless it is `dry_run_folder`.
    """
    place, origin = folder.resolve(), source.resolve()
    where, fix = repr(str(folder)), "name a folder that is empty or does not exist"
    if place == origin or place in origin.parents or origin in place.parents:
        raise error("E108", where=where, what="is not apart from the model's own folder", fix=fix)
    here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if folder.is_file() or here - publication.files.keys():
        what = f"holds {sorted(here - publication.files.keys())[0]!r}" if here else "is a file"
        raise error("E108", where=where, what=what, fix=fix)
    ours = folder.name == dry_run_folder(source).name
    other = [name for name in sorted(here) if _bytes(publication.files[name]) != (folder / name).read_bytes()]
    if other and not ours:
        what = f"holds another {other[0]}, which would be lost"
        raise error("E108", where=where, what=what, fix=fix)
    for name, content in publication.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_bytes(content))


# ---------------------------------------------------------------- how it gets there


def check_full_name(repo_id: str) -> None:
    """Raise E702 unless `repo_id` can be the name of a repository, and says whose it is."""
    check_name(repo_id)
    if "/" not in repo_id:
        raise error("E702", where=repr(repo_id), what="does not say whose it is", fix=f"give user/{repo_id}")


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
    """Publish a model's folder on the Hub in one commit. What is there already is not sent again.

    Args:
        folder: a whole model with its feature extractor and README.md, see `publication_of`.
        repo_id: `user/name` or `organization/name`; made when it does not exist.
        private: True for a repository that only its owner sees.
        revision: branch to push to, made from `main` when it does not exist; None for `main`.
        create_pr: open a pull request instead, in a repository that exists.
        commit_message: first line of the commit.
        token: as for `huggingface_hub`; None for the one of `hf auth login` or HF_TOKEN.
        tell: gets a line of text for each file.

    Raises:
        AstConfigError: E305, E306 and E705 as `publication_of`, before anything is sent; E702 for a name that cannot
            be, or is not there; E705 for a card that the Hub refuses, and for a public repository that should be
            private.
        AstInputError: E108 for a pull request to a branch, or one that should be private.
        AstRunError: E701 and E704 when the Hub does not let us, or cannot be reached. The message has the command that
            finishes the push.
    """
    check_full_name(repo_id)
    if create_pr and revision is not None:
        raise error("E108", where="create_pr", what="opens a request to main", fix="leave revision out, or create_pr")
    if create_pr and private:
        what = "cannot be had for a pull request, which is as public as its repository"
        raise error("E108", where="private", what=what, fix="leave it out, or create_pr")
    publication = publication_of(folder, repo_id)
    if tell is not None:
        tell("\n".join(publication.lines()))
    check_account(token)
    command = finishing_command(folder, repo_id, private=private, revision=revision, create_pr=create_pr)
    again = f"run `{command}`, which sends what is missing"
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
    """The command that pushes a folder; on one that was pushed in part, it sends what is missing."""
    options = [*(["--private"] if private else []), *(["--revision", revision] if revision else [])]
    return shlex.join(["ast-hf", "push", str(folder), repo_id, *options, *(["--create-pr"] if create_pr else [])])


def open_repository(
    repo_id: str,
    *,
    repo_type: str = "model",
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    then: str = "",
) -> str:
    """Make a repository and a branch where they do not exist, and return the repository's full name.

    Raises:
        AstHfError: as `push_folder`.
    """
    api = HfApi(token=token)

    def make() -> str:
        return api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id

    def is_private() -> bool:
        return bool(api.repo_info(name, repo_type=repo_type).private)

    name = reach(make, where=repr(repo_id), then=then)
    if private and not reach(is_private, where=repr(name), then=then):
        what = "is public already, and should be private; nothing was sent"
        raise error("E705", where=repr(name), what=what, fix="make it private in its settings, or push without private")
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
    """Commit files to a repository, all of them or none. Those that are there already are not sent again.

    Args:
        files: path in the repository -> local file or content.
        repo_id: full name.
        message: first line of the commit.
        delete: paths to remove in the same commit.
        revision: as for `push_folder`.
        create_pr: the same.
        token: the same.
        then: as for `hub_access.reach`.

    Raises:
        AstHfError: as `push_folder`.
    """
    api = HfApi(token=token)

    def commit() -> Any:
        """Operations are made anew each time, since the client changes them."""
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
            what = f"is refused by the Hub: {' '.join(str(problem).split())[:200]}"
            raise error("E705", where="README.md", what=what, fix="correct the lines between the two ---") from problem

    done = reach(commit, where=repr(repo_id), then=then)
    there = reach(
        lambda: {entry.path for entry in api.get_paths_info(repo_id, list(files), revision=done.oid)},
        where=repr(repo_id),
        then=then,
    )
    if missing := sorted(files.keys() - there):
        what = f"did not take {', '.join(missing)}, as its .gitignore says"
        raise error("E704", where=repr(repo_id), what=what, fix=f"change .gitignore there, then {then}")
    return Pushed(repo_id, done.pr_url or done.commit_url, done.oid)
