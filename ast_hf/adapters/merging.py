"""`ast-hf merge`: an adapter and its base as one plain checkpoint, also for adapters that plain peft made."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..configuration_ast import ASTConfig
from ..conversion.convert import TOLERANCE, new_folder, random_input, read_label_file
from ..errors import AstConfigError, AstHfError, error
from ..feature_extraction_ast import ASTFeatureExtractor
from ..hub.publishing import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from ..modeling_ast import ASTForAudioClassification
from ..weights.integrity import check_folder
from ..weights.peft_names import own_config, own_state
from .lora import ADAPTER_FOLDER, backbone_digest, check_base, fill, inserted

_MODEL_CONFIG, _EXTRACTOR = "config.json", "preprocessor_config.json"
#: What peft writes before the names of a model's own tensors.
_PREFIX = "base_model.model."
_HEAD = f"{_PREFIX}classifier.dense.weight"


class Stored(NamedTuple):
    """An adapter as it lies in its folder."""

    folder: Path
    config: Any  # a `peft.PeftConfig`
    state: dict[str, torch.Tensor]


class Base(NamedTuple):
    """Where an adapter's base is."""

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
        adapter: folder or Hub name of what a run or peft wrote, with the module names of `ast_hf` (and transformers 4)
            or of transformers 5, and any method of peft that can be merged.
        destination: folder to make; must not hold anything yet.
        base: folder or Hub name of the base; the one that the adapter names when None.
        labels: file of class names, where the adapter's folder has no config.json: text, CSV or JSON.
        multi_label: the same for what the labels are for; None for the base's own, or one label a clip.
        tell: is given each step as a line of text.

    Raises:
        AstConfigError: E306 for an adapter that is not there, or was trained beside other weights than the base's; E305
            for one that does not fit or cannot be merged; E303 for labels that are missing or too many.
        AstRunError: E601 when the result does not answer as base and adapter.
    """
    with new_folder(Path(destination)) as partial:
        stored = read_adapter(adapter)
        source = _base_of(stored) if base is None else Base(base, {})
        model, known = _base_model(stored, source, _describe(stored, source, labels, multi_label))
        tell(f"base       {source.name}" + ("" if known else " (the adapter has no digest to know it by)"))
        names = textwrap.shorten(", ".join(model.config.id2label.values()), 60, placeholder=" ...")
        tell(f"labels     {model.config.num_labels} ({names}); {model.config.problem_type or 'no task set'}")
        gap = _write(stored, model, source, partial)
    tell(f"checked    logits of base and adapter against the checkpoint's: largest difference {gap:.1e}")
    tell(f"wrote      {destination}")


def read_adapter(source: str | PathLike) -> Stored:
    """An adapter's configuration, and its weights under the names of `ast_hf`; raises E306 and E305."""
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    folder = Path(source) if Path(source).is_dir() else _downloaded(str(source))
    if not (folder / ADAPTER_CONFIG).is_file():
        what, fix = f"holds no adapter ({ADAPTER_CONFIG})", "give the folder that peft or a run wrote"
        if (folder / ADAPTER_FOLDER / ADAPTER_CONFIG).is_file():
            what, fix = "is a whole checkpoint already", f"its adapter alone is in {folder / ADAPTER_FOLDER}"
        raise error("E306", where=repr(str(source)), what=what, fix=fix)
    try:
        config = PeftConfig.from_pretrained(str(folder))
        state = load_peft_weights(str(folder), device="cpu")
    except Exception as problem:  # peft, json, safetensors and torch have their own for each way of being broken
        what = f"cannot be read ({' '.join(str(problem).split())[:160]})"
        raise error("E306", where=repr(str(source)), what=what, fix="copy or download it again") from problem
    if config.is_prompt_learning:
        what = f"is a {config.peft_type.value} adapter, which is no change of weights"
        raise error("E305", where=repr(str(source)), what=what, fix="use it through peft")
    return Stored(folder, config, own_state(state))


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        wanted = ["adapter_*", _MODEL_CONFIG, _EXTRACTOR]
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (OSError, HFValidationError) as problem:
        what = f"is no folder, and no adapter on the Hub ({' '.join(str(problem).split())[:120]})"
        raise error("E306", where=repr(name), what=what, fix="check the path") from problem


def _base_of(stored: Stored) -> Base:
    name, revision = stored.config.base_model_name_or_path, stored.config.revision
    if not name:
        raise error("E306", where=repr(str(stored.folder)), what="names no base", fix="give it with --base")
    return Base(name, {"revision": revision} if revision else {})


def _describe(stored: Stored, base: Base, labels: str | PathLike | None, multi_label: bool | None) -> ASTConfig:
    """The merged model's configuration: the one beside the adapter; or the base's, with the labels of the head."""
    beside = stored.folder / _MODEL_CONFIG
    try:
        check_folder(base.name, classifier=False)
        config = ASTConfig.from_pretrained(base.name, **base.hub)
    except (OSError, AstConfigError) as problem:
        what = f"has the base {base.name!r}, which cannot be read ({' '.join(str(problem).split())[:160]})"
        raise error("E306", where=repr(str(stored.folder)), what=what, fix="give the base with --base") from problem
    if beside.is_file():
        config = ASTConfig.from_pretrained(stored.folder)
    outputs = len(stored.state[_HEAD]) if _HEAD in stored.state else config.num_labels
    names = read_label_file(Path(labels)) if labels is not None else None
    if names is None and outputs == config.num_labels:
        names = [config.id2label[index] for index in range(outputs)]
    if names is None or len(names) != outputs:
        what = f"has {outputs} outputs; there are names for {config.num_labels if names is None else len(names)}"
        raise error("E303", where=repr(str(stored.folder)), what=what, fix="give a file of the names with --labels")
    kind = config.problem_type
    if multi_label is not None or (labels is not None and not beside.is_file()):
        kind = "multi_label_classification" if multi_label else "single_label_classification"
    config.id2label, config.label2id = dict(enumerate(names)), {name: index for index, name in enumerate(names)}
    config.problem_type = kind
    return config


def _base_model(stored: Stored, base: Base, config: ASTConfig) -> tuple[ASTForAudioClassification, bool]:
    """The base in float32, with the labels and the size of input of `config`; and whether it is known to be it."""
    with warnings.catch_warnings():  # W303: the adapter brings its classifier
        warnings.filterwarnings("ignore", r"\[AST-W303\]")
        model, info = ASTForAudioClassification.from_pretrained(
            base.name, config=config, dtype=torch.float32, output_loading_info=True, **base.hub
        )
    fresh = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
    lost = sorted(name for name in fresh if _PREFIX + name not in stored.state)
    if lost:
        what = f"is neither in the base {base.name!r} nor in the adapter"
        fix = "give the base that the adapter was trained on with --base"
        raise error("E305", where=lost[0], what=what, fix=fix)
    weights = stored.folder / ADAPTER_WEIGHTS
    if not weights.is_file():  # a pickle of earlier versions of peft, which tells nothing
        return model, False
    return model, check_base(weights, backbone_digest(model), "give the base that it was trained on with --base")


@torch.no_grad()
def _write(stored: Stored, model: ASTForAudioClassification, base: Base, folder: Path) -> float:
    """Merge and save; returns the largest difference of logits before and after, raises E601 if rounding is not why."""
    spectrogram = random_input(model.config)
    try:
        adapted = inserted(model, own_config(stored.config, model)).eval()
        fill(adapted, stored.state, str(stored.folder))
    except (KeyError, ValueError) as problem:
        if isinstance(problem, AstHfError):
            raise
        what = f"does not fit the base ({' '.join(str(problem).split())[:160]})"
        fix = "give the base that it was trained on with --base"
        raise error("E305", where=repr(str(stored.folder)), what=what, fix=fix) from problem
    expected = model(spectrogram).logits
    adapted.merge_and_unload().save_pretrained(folder)
    _extractor(stored, base, model.config).save_pretrained(folder)
    answer = ASTForAudioClassification.from_pretrained(folder)(spectrogram).logits
    gap, largest = (answer - expected).abs().max().item(), max(1.0, expected.abs().max().item())
    if not gap <= TOLERANCE * largest:
        what = f"logits differ from those of base and adapter by {gap:.1e} (largest value {largest:.1e})"
        raise error("E601", where="check", what=what, fix="nothing was written; report the adapter")
    return gap


def _extractor(stored: Stored, base: Base, config: ASTConfig) -> ASTFeatureExtractor:
    if (stored.folder / _EXTRACTOR).is_file():
        return ASTFeatureExtractor.from_pretrained(stored.folder)
    sizes = {"max_length": config.max_length, "num_mel_bins": config.num_mel_bins}
    return ASTFeatureExtractor.from_pretrained(base.name, **sizes, **base.hub)
