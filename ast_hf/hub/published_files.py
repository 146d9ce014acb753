"""Files of a model's folder that are published on the Hub: selected, checked and cleaned."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from huggingface_hub import ModelCard
from huggingface_hub.utils import yaml_dump

from ..configuration_ast import ASTConfig
from ..configuration_ensemble import MEMBER, ASTEnsembleConfig
from ..containment import is_outside
from ..errors import error, unreadable
from ..feature_extraction_ast import ASTFeatureExtractor
from ..files import write_bytes
from ..modeling_ast import ASTForAudioClassification
from ..modeling_ensemble import ASTEnsembleForAudioClassification
from ..versions import requirement_lines
from ..weights.integrity import check_folder
from ..weights.reading import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MODEL_FILES, WEIGHTS_FILES, read_tensors
from .cleaning import check_secrets, cut_paths, cut_paths_in_json
from .published_names import check_names, is_hub_name

#: Patterns of the files of a model's folder that are published; other files are never sent.
PUBLISHED = (
    *MODEL_FILES,
    *(f"{MEMBER}*/{name}" for name in MODEL_FILES),
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
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
#: File with the versions of a run, and the file that they are published in.
_RESULTS = "results.json"
_REQUIREMENTS = "requirements.txt"

#: Model's name in the snippets of a card, which is its folder at the time of writing.
_MODEL_NAME = re.compile(r"""(model=|from_pretrained\((?:base, )?|ast-hf merge )(["'])([^"'\n]+)\2""")


class Publication(NamedTuple):
    """Files of a folder that are published.

    Attributes:
        files: path in the repository -> the local file, or the content to publish instead.
        cleaned: files with local paths -> number of paths that were cut to their last part.
        left_out: other files and folders, which are not published.
    """

    files: dict[str, Path | bytes]
    cleaned: dict[str, int]
    left_out: list[str]

    def lines(self) -> list[str]:
        """Return a description for the user: files with sizes in bytes, and the changes in them."""
        sizes = {path: f"{_size(content):,}" for path, content in self.files.items()}
        width = max(map(len, sizes.values()))
        lines = [f"{size:>{width}}  {path}" for path, size in sizes.items()]
        lines += [f"local paths cut in {path}: {count}" for path, count in self.cleaned.items()]
        return [*lines, f"not published: {', '.join(self.left_out)}"] if self.left_out else lines


def publication_of(folder: str | Path, repo_id: str) -> Publication:
    """Check a model's folder, and return the files to publish.

    Args:
        folder: as written by `save_pretrained` of model and feature extractor, with a README.md.
        repo_id: `user/name`, for the snippets of the card.

    Raises:
        AstConfigError: E306 and E305 for weights that do not load, E705 for an incomplete folder, and for
            files that hold a token or a key, or are links to files elsewhere.
    """
    folder = Path(folder)
    check_publishable(folder)
    everything = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    published = [path for path in everything if _is_published(path.relative_to(folder))]
    by_name = {path.relative_to(folder).as_posix(): path for path in published}
    for name, path in by_name.items():
        if is_outside(path, folder):
            what = f"is a link to {str(path.resolve())!r}, outside of the folder"
            raise error("E705", where=repr(str(folder / name)), what=what, fix="replace it by a copy")
    files: dict[str, Path | bytes] = {}
    cleaned: dict[str, int] = {}
    samples = [name for name in by_name if name.startswith("samples/")]
    for name, path in by_name.items():
        files[name], count = _clean(path, folder, repo_id, samples)
        if count:
            cleaned[name] = count
    if _REQUIREMENTS not in files:
        files |= _requirements(folder)
    for name, content in files.items():
        check_secrets(content, name)
    others = {path.relative_to(folder).parts for path in everything if path not in published}
    left_out = sorted({parts[0] + ("/" if len(parts) > 1 else "") for parts in others})
    return Publication(files, cleaned, left_out)


def _is_published(path: Path) -> bool:
    patterns = (pattern.split("/") for pattern in PUBLISHED)
    same_depth = (parts for parts in patterns if len(parts) == len(path.parts))
    return any(all(map(fnmatchcase, path.parts, parts)) for parts in same_depth)


def check_publishable(folder: Path) -> None:
    """Raise E705, or the error of loading, unless others can use the folder's model, ensemble or adapter."""
    is_adapter = (folder / ADAPTER_CONFIG).is_file()
    needed = dict(_NEEDED)
    if is_adapter:
        needed[ADAPTER_WEIGHTS] = "save the adapter there"
    else:
        check_folder(folder.resolve())
    for name, fix in needed.items():
        if not (folder / name).is_file():
            raise error("E705", where=repr(str(folder)), what=f"has no {name}", fix=fix)
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = _ADAPTER if is_adapter else fields.get("model_type")
    library, check = _KINDS.get(kind, _KINDS[ASTConfig.model_type])
    metadata = _check_card(folder / "README.md", library)
    check(folder)
    check_names(metadata, folder)


def _check_model(folder: Path) -> None:
    _check_weights(folder)
    config = ASTConfig.from_pretrained(folder)
    extractor = ASTFeatureExtractor.from_pretrained(folder)
    _check_config(config, folder / "config.json")
    for name in ("num_mel_bins", "max_length"):
        if getattr(config, name) != getattr(extractor, name):
            what = f"{name} is {getattr(extractor, name)}, but {getattr(config, name)} in config.json"
            where = repr(str(folder / "preprocessor_config.json"))
            fix = "save the extractor that the model was trained with"
            raise error("E705", where=where, what=what, fix=fix)
    ASTForAudioClassification.from_pretrained(folder)


def _check_adapter(folder: Path) -> None:
    """Raise E705 for an adapter whose base is not on the Hub, so that others cannot load it."""
    read_tensors(folder / ADAPTER_WEIGHTS)
    _check_config(ASTConfig.from_pretrained(folder), folder / "config.json")
    base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not is_hub_name(base):
        what = f"is {base!r}, which is not a model on the Hub: nobody else could use the adapter"
        fix = "push the base, and write its name there; or push the merged model, the folder above"
        where = f"{str(folder / ADAPTER_CONFIG)!r}: base_model_name_or_path"
        raise error("E705", where=where, what=what, fix=fix)


def _check_ensemble(folder: Path) -> None:
    """Raise E705 unless all members load and fit config and extractor, and there are no other weights."""
    config = ASTEnsembleConfig.from_pretrained(folder)
    extractor = ASTFeatureExtractor.from_pretrained(folder)
    _check_config(config, folder / "config.json")
    members = {*(config.members or [])}
    folders = {path.name for path in folder.glob(f"{MEMBER}*") if path.is_dir()}
    extra = sorted(folders - members) + [name for name in WEIGHTS_FILES[:2] if (folder / name).exists()]
    if extra:
        what = f"holds {extra[0]!r}, which is not part of the ensemble"
        fix = "remove it, or save the ensemble to a new folder"
        raise error("E705", where=repr(str(folder)), what=what, fix=fix)
    for name in members:
        _check_weights(folder / name)
    expected = ASTEnsembleForAudioClassification.from_pretrained(folder).feature_extractor.to_dict()
    for name, value in extractor.to_dict().items():
        if value != expected[name]:
            where = f"{str(folder / 'preprocessor_config.json')!r}: {name}"
            what = f"{value!r}, but the members need {expected[name]!r}"
            raise error("E705", where=where, what=what, fix="save the ensemble again")


def _check_weights(folder: Path) -> None:
    if not any((folder / name).is_file() for name in WEIGHTS_FILES[:2]):
        what = f"has no {WEIGHTS_FILES[0]} with its weights"
        fix = "load it with from_pretrained and save it again with save_pretrained"
        raise error("E705", where=repr(str(folder)), what=what, fix=fix)


_ADAPTER = "adapter"
#: "adapter", or model_type -> (library that loads the folder, check of the folder). Any other kind is checked
#: as a single model, which reports the problem.
_KINDS: dict[str | None, tuple[str, Callable[[Path], None]]] = {
    _ADAPTER: ("peft", _check_adapter),
    ASTConfig.model_type: ("transformers", _check_model),
    ASTEnsembleConfig.model_type: ("ast_hf", _check_ensemble),
}


def _check_config(config: ASTConfig | ASTEnsembleConfig, path: Path) -> None:
    """Raise E705 unless config.json names the task and every label."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    if fields.get("problem_type") is None:
        what = "is not set: other tools need the task to compute scores"
        raise error("E705", where=f"{str(path)!r}: problem_type", what=what, fix="set problem_type")
    unnamed = [name for name in config.id2label.values() if re.fullmatch(r"LABEL_\d+", str(name))]
    if unnamed:
        what = f"has no names for {len(unnamed)} of {config.num_labels} labels, first {unnamed[0]}"
        raise error("E705", where=f"{str(path)!r}: id2label", what=what, fix="give every label its name")


def _check_card(path: Path, library: str) -> Any:
    """Return the metadata of a card; raise E705 unless they name library and pipeline, which the Hub needs."""
    try:
        metadata = ModelCard(path.read_text(encoding="utf-8")).data
    except Exception as problem:  # yaml and huggingface_hub raise several classes
        what = "has metadata that cannot be read"
        fix = "correct the lines between the two ---"
        raise unreadable("E705", where=repr(str(path)), what=what, problem=problem, fix=fix) from problem
    for name, expected in {"library_name": library, "pipeline_tag": "audio-classification"}.items():
        if metadata.get(name) != expected:
            what = f"has {name}: {metadata.get(name)}" if metadata.get(name) else f"names no {name}"
            fix = f"write {name}: {expected} between two lines of --- at its start"
            raise error("E705", where=repr(str(path)), what=what, fix=fix)
    return metadata


def _clean(path: Path, folder: Path, repo_id: str, samples: list[str]) -> tuple[Path | bytes, int]:
    """Return a file in its published form, and the number of local paths in it that were cut."""
    if path.suffix not in _TEXTS:
        return path, 0
    text = _read_text(path)
    published = text
    if path.suffix == ".md":
        published = _with_samples(_with_repository(text, folder, repo_id), repo_id, samples)
    clean, count = cut_paths_in_json(published) if path.suffix == ".json" else cut_paths(published)
    return (path, 0) if clean == text else (clean.encode(), count)


def _read_text(path: Path) -> str:
    """Return the contents of a text file; raise E705 unless it is UTF-8, and JSON if its name says so."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            json.loads(text)
    except ValueError as problem:  # of the encoding, or of JSON
        fix = "save it as UTF-8, or restore it"
        raise unreadable("E705", where=repr(str(path)), problem=problem, fix=fix) from problem
    return text


def _with_repository(text: str, folder: Path, repo_id: str) -> str:
    """Return a card whose snippets load the repository instead of the folder, also of a renamed folder."""
    names = {folder.resolve().name, repo_id.split("/")[-1]}
    adapter = folder / ADAPTER_CONFIG
    base = json.loads(_read_text(adapter)).get("base_model_name_or_path") if adapter.is_file() else None

    def rename(match: re.Match[str]) -> str:
        before, quote, name = match.groups()
        is_this_model = name != base and (Path(name).is_absolute() or Path(name).name in names)
        return f"{before}{quote}{repo_id}{quote}" if is_this_model else match[0]

    return _MODEL_NAME.sub(rename, text)


def _with_samples(text: str, repo_id: str, samples: list[str]) -> str:
    """Return a card whose page offers the samples to try, unless its metadata choose others."""
    if not samples or not text.startswith("---\n") or ModelCard(text).data.get("widget"):
        return text
    place = f"https://huggingface.co/{repo_id}/resolve/main/"
    widget = [{"src": place + quote(name), "example_title": Path(name).stem} for name in samples]
    return "---\n" + yaml_dump({"widget": widget}) + text.removeprefix("---\n")


def _requirements(folder: Path) -> dict[str, Path | bytes]:
    """Return requirements.txt with the versions in a run's results.json; empty if there are none."""
    path = folder / _RESULTS
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    lines = requirement_lines(results)
    return {_REQUIREMENTS: "".join(f"{line}\n" for line in lines).encode()} if lines else {}


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _bytes(content: Path | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def dry_run_folder(source: Path) -> Path:
    """Return the default folder of a dry run, next to the model's; an earlier one is replaced."""
    place = source if source.name else source.resolve()
    return place.with_name(f"{place.name}-to-push")


def write_publication(publication: Publication, folder: Path, source: Path) -> None:
    """Write exactly the published files of the model's folder `source` into `folder`.

    Raises:
        AstInputError: E108 for a folder that is, contains or is inside `source`; that holds other files; or
            that holds the same names with other contents and is not `dry_run_folder`.
    """
    target = folder.resolve()
    origin = source.resolve()
    where = repr(str(folder))
    fix = "name a folder that is empty or does not exist"
    if target == origin or target in origin.parents or origin in target.parents:
        raise error("E108", where=where, what="is not separate from the model's own folder", fix=fix)
    existing = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if folder.is_file():
        raise error("E108", where=where, what="is a file", fix=fix)
    files = publication.files
    if extra := existing - files.keys():
        raise error("E108", where=where, what=f"holds {min(extra)!r}", fix=fix)

    differing = [name for name in sorted(existing) if _bytes(files[name]) != (folder / name).read_bytes()]
    if differing and folder.name != dry_run_folder(source).name:
        raise error("E108", where=where, what=f"holds another {differing[0]}, which would be lost", fix=fix)
    for name, content in files.items():
        write_bytes(folder / name, _bytes(content))
