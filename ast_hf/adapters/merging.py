"""Merging of an adapter and its base into one plain checkpoint, also for adapters that plain peft wrote."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..configuration_ast import FITTED_FIELDS, ASTConfig
from ..conversion.convert import largest_difference, new_folder, random_input, read_label_file
from ..downloads import verify_folder
from ..errors import (
    AstConfigError,
    AstHfError,
    AstHfWarning,
    error,
    short_reason,
    unreadable,
    warning_text,
)
from ..feature_extraction_ast import ASTFeatureExtractor
from ..json_files import read_json
from ..modeling_ast import ASTForAudioClassification
from ..task import Task
from ..weights.integrity import check_folder
from ..weights.paths import missing_checkpoint
from ..weights.peft_names import check_sizes, own_config, own_state
from ..weights.reading import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_adapter_weights
from ..writing_failures import explained
from .lora import ADAPTER_FOLDER, backbone_digest, check_base, insert_adapter, load_adapter_state

_MODEL_CONFIG = "config.json"
_EXTRACTOR = "preprocessor_config.json"
#: Prefix that peft adds to the names of a model's tensors.
_PREFIX = "base_model.model."
_HEAD = f"{_PREFIX}classifier.dense.weight"


class StoredAdapter(NamedTuple):
    """Folder, configuration and weights of a stored adapter."""

    folder: Path
    config: Any  # a `peft.PeftConfig`
    state: dict[str, torch.Tensor]


class BaseReference(NamedTuple):
    """Name or folder of an adapter's base, and where to look for it on the Hub."""

    name: str
    hub: dict[str, Any]  # arguments of `from_pretrained`


def merge_adapter(
    adapter: str | PathLike,
    destination: str | PathLike,
    *,
    base: str | None = None,
    labels: str | PathLike | None = None,
    multi_label: bool | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Add an adapter to the weights of its base and write the sum as a plain checkpoint, extractor included.

    Args:
        adapter: folder or Hub name of an adapter of a run or of peft, with the module names of `ast_hf` (and
            transformers 4) or of transformers 5, of any method of peft that can be merged.
        destination: folder to create; an existing one must be empty.
        base: folder or Hub name of the base; None for the one that the adapter names.
        labels: file of class names, for an adapter without a config.json: text, CSV or JSON.
        multi_label: True if clips may have several labels, False for one; None for the task in config.json,
            or one label per clip if `labels` is used.
        tell: is called with each step as a line of text.

    Raises:
        AstConfigError: E306 for an adapter that is missing, or was trained on other weights than the base's;
            E305 for one that does not fit or cannot be merged; E303 for missing or surplus labels.
        AstRunError: E601 if the outputs of the result differ from those of base and adapter.
    """
    with new_folder(Path(destination)) as partial:
        stored_adapter = read_adapter(adapter)
        source = _base_of(stored_adapter) if base is None else BaseReference(base, {})
        config = _merged_config(stored_adapter, source, labels, multi_label)
        model, is_verified = _base_model(stored_adapter, source, config)
        if not is_verified:
            is_verified = _compare_with_named(stored_adapter, source, model)
        note = "" if is_verified else " (the adapter has no digest to verify it by)"
        tell(f"base       {source.name}{note}")
        names = textwrap.shorten(", ".join(model.config.id2label.values()), 60, placeholder=" ...")
        tell(f"labels     {model.config.num_labels} ({names}); {model.config.problem_type or 'no task set'}")
        gap = _write(stored_adapter, model, source, partial)
    tell(f"checked    logits of base and adapter against the checkpoint's: largest difference {gap:.1e}")
    tell(f"wrote      {destination}")


def read_adapter(source: str | PathLike) -> StoredAdapter:
    """Return an adapter's configuration, and its weights under the names of `ast_hf`.

    Raises E306 for a missing or damaged adapter, E305 for one that does not change weights (prompt learning).
    """
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    folder = Path(source) if Path(source).is_dir() else _download(str(source))
    where = repr(str(source))
    if (folder / ADAPTER_FOLDER / ADAPTER_CONFIG).is_file() and not (folder / ADAPTER_CONFIG).is_file():
        fix = f"its adapter alone is in {folder / ADAPTER_FOLDER}"
        raise error(
            "E306", where=where, what="is a complete checkpoint already", fix=fix, detail="unsupported"
        )
    if not (folder / ADAPTER_CONFIG).is_file():
        what = f"holds no adapter ({ADAPTER_CONFIG})"
        fix = "give the folder that peft or a run wrote"
        raise error("E306", where=where, what=what, fix=fix, detail="missing")
    read_json(folder / ADAPTER_CONFIG)
    check_adapter_weights(folder)
    try:
        config = PeftConfig.from_pretrained(str(folder))
        state = load_peft_weights(str(folder), device="cpu")
    except Exception as problem:  # peft, json, safetensors and torch raise many classes
        raise unreadable("E306", where=where, problem=problem, fix="copy or download it again") from problem
    if config.is_prompt_learning:
        what = f"is a {config.peft_type.value} adapter, which does not change weights"
        raise error("E305", where=where, what=what, fix="use it through peft")
    check_sizes(config, state, str(folder))
    return StoredAdapter(folder, config, own_state(state))


def _download(name: str) -> Path:
    """Return the folder in the cache of an adapter on the Hub; raise E306 if there is none."""
    if problem := missing_checkpoint(name, None):
        raise error("E306", where=repr(name), what=problem[0], fix=problem[1], detail="missing")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(snapshot_download(name, allow_patterns=["adapter_*", _MODEL_CONFIG, _EXTRACTOR]))
    except (OSError, HFValidationError) as problem:
        what = f"is neither a folder nor an adapter on the Hub ({short_reason(problem)})"
        raise error("E306", where=repr(name), what=what, fix="check the path", detail="missing") from problem
    verify_folder(folder)
    return folder


def _base_of(adapter: StoredAdapter) -> BaseReference:
    name = adapter.config.base_model_name_or_path
    revision = adapter.config.revision
    if not name:
        where = repr(str(adapter.folder))
        raise error("E306", where=where, what="names no base", fix="give it with --base", detail="missing")
    return BaseReference(name, {"revision": revision} if revision else {})


def _merged_config(
    adapter: StoredAdapter, base: BaseReference, labels: str | PathLike | None, multi_label: bool | None
) -> ASTConfig:
    """Return the merged model's configuration: the adapter's, else the base's with the adapter's labels."""
    where = repr(str(adapter.folder))
    own_config_file = adapter.folder / _MODEL_CONFIG
    try:
        check_folder(base.name, classifier=False)
        config = ASTConfig.from_pretrained(base.name, **base.hub)
    except (OSError, AstConfigError) as problem:
        what = f"has the base {base.name!r}, which cannot be read"
        fix = "give the base with --base"
        raise unreadable("E306", where=where, what=what, problem=problem, fix=fix) from problem
    if own_config_file.is_file():
        config = ASTConfig.from_pretrained(adapter.folder)
    outputs = len(adapter.state[_HEAD]) if _HEAD in adapter.state else config.num_labels
    names = read_label_file(Path(labels)) if labels is not None else None
    if names is None and outputs == config.num_labels:
        names = [config.id2label[index] for index in range(outputs)]
    if names is None or len(names) != outputs:
        count = config.num_labels if names is None else len(names)
        what = f"has {outputs} outputs; there are names for {count}"
        raise error("E303", where=where, what=what, fix="give a file of the names with --labels")
    if multi_label is not None or (labels is not None and not own_config_file.is_file()):
        config.problem_type = (Task.MULTI_LABEL if multi_label else Task.SINGLE_LABEL).value
    if not own_config_file.is_file():  # what was fitted to the base does not hold for other weights
        for field in FITTED_FIELDS:
            setattr(config, field, None)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    return config


def _base_model(
    adapter: StoredAdapter, base: BaseReference, config: ASTConfig
) -> tuple[ASTForAudioClassification, bool]:
    """Return the base in float32, configured by `config`, and True if its digest was verified."""
    with warnings.catch_warnings():  # W303: the adapter has its own classifier
        warnings.filterwarnings("ignore", r"\[AST-W303\]")
        model, info = ASTForAudioClassification.from_pretrained(
            base.name, config=config, dtype=torch.float32, output_loading_info=True, **base.hub
        )
    fresh = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
    missing = sorted(name for name in fresh if _PREFIX + name not in adapter.state)
    if missing:
        what = f"is neither in the base {base.name!r} nor in the adapter"
        fix = _advice(adapter)
        raise error("E305", where=missing[0], what=what, fix=fix)
    weights = adapter.folder / ADAPTER_WEIGHTS
    if not weights.is_file():  # earlier versions of peft wrote a pickle, which has no metadata
        return model, False
    return model, check_base(weights, backbone_digest(model), _advice(adapter))


def _advice(adapter: StoredAdapter) -> str:
    """Return how to find the right base: the adapter's files name it."""
    named = adapter.config.base_model_name_or_path
    if not named:
        return "give the base that it was trained on with --base"
    revision = f", revision {adapter.config.revision!r}" if adapter.config.revision else ""
    return f"give the base that it was trained on with --base; it names {named!r}{revision}"


def _compare_with_named(
    adapter: StoredAdapter, base: BaseReference, model: ASTForAudioClassification
) -> bool:
    """Return True if the base has the weights of the one that an adapter without a digest names.

    The named base is read from its folder or from the cache only. If it is in neither, another name is a warning
    (W302): a copy in another folder has another name, too.

    Raises:
        AstConfigError: E306 if the named base is there, and has other weights.
    """
    named = adapter.config.base_model_name_or_path
    hub = {"revision": adapter.config.revision} if adapter.config.revision else {}
    if not named or (_is_same(named, base.name) and hub == base.hub):
        return False
    digest = _local_digest(named, hub)
    where = repr(str(adapter.folder))
    if digest is None and not _is_same(named, base.name):
        what = f"names the base {named!r}, and is merged into {base.name!r}; nothing shows that the two are the same"
        warnings.warn(warning_text("W302", where=where, what=what), AstHfWarning, stacklevel=3)
    elif digest not in (None, backbone_digest(model)):
        what = f"was trained on {named!r}, whose weights are not those of {base.name!r}"
        raise error("E306", where=where, what=what, fix=_advice(adapter), detail="mismatch")
    return digest is not None


def _is_same(named: str, given: str) -> bool:
    """Return True for equal names, and for two spellings of one folder."""
    return named == given or (Path(named).is_dir() and Path(given).is_dir() and Path(named).samefile(given))


def _local_digest(name: str, hub: dict[str, Any]) -> str | None:
    """Return the digest of a base that is on this machine, None if it is not, or cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstHfWarning)
            model = ASTForAudioClassification.from_pretrained(
                name, dtype=torch.float32, local_files_only=True, **hub
            )
    except (OSError, ValueError, RuntimeError, AstHfError):
        return None
    return backbone_digest(model)


@torch.no_grad()
def _write(
    adapter: StoredAdapter, model: ASTForAudioClassification, base: BaseReference, folder: Path
) -> float:
    """Merge and save; return the result of `largest_difference` for the logits."""
    spectrogram = random_input(model.config)
    fix = _advice(adapter)  # before peft names the model that it wraps as the base
    try:
        adapted = insert_adapter(model, own_config(adapter.config, model)).eval()
        load_adapter_state(adapted, adapter.state, str(adapter.folder))
    except (KeyError, ValueError) as problem:
        where = repr(str(adapter.folder))
        if isinstance(problem, AstHfError):
            fix = f"{problem.fix}; {fix}"
            raise error(
                problem.code, where=problem.where, what=problem.what, fix=fix, detail=problem.detail
            ) from problem
        what = f"does not fit the base {base.name!r}"
        raise unreadable("E305", where=where, what=what, problem=problem, fix=fix) from problem
    expected = model(spectrogram).logits
    merged = adapted.merge_and_unload()
    extractor = _extractor(adapter, base, model.config)
    with explained(folder):
        merged.save_pretrained(folder)
        extractor.save_pretrained(folder)
    logits = ASTForAudioClassification.from_pretrained(folder)(spectrogram).logits
    what = "logits differ from those of base and adapter"
    return largest_difference(logits, expected, what, "nothing was written; report the adapter")


def _extractor(adapter: StoredAdapter, base: BaseReference, config: ASTConfig) -> ASTFeatureExtractor:
    if (adapter.folder / _EXTRACTOR).is_file():
        return ASTFeatureExtractor.from_pretrained(adapter.folder)
    sizes = {"max_length": config.max_length, "num_mel_bins": config.num_mel_bins}
    return ASTFeatureExtractor.from_pretrained(base.name, **sizes, **base.hub)
