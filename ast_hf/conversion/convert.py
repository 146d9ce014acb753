"""`ast-hf convert`: weights of the original repository, timm or an image transformer as a complete checkpoint folder.

What is written is loaded again and compared with the source's own arithmetic before the folder gets its name.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..configuration_ast import ASTConfig, Geometry
from ..errors import error
from ..feature_extraction_ast import AUDIOSET_MEAN, AUDIOSET_STD, ASTFeatureExtractor
from ..modeling_ast import ASTForAudioClassification, ASTModel, ASTPreTrainedModel
from ..paper_data_sets import DATA_SETS, class_names, data_set, with_label_count
from ..weights.image_transformers import heads_of_width, read_image_transformer
from ..weights.integrity import check_state
from ..weights.names import BACKBONE, CLASS_TOKEN, KERNEL, POSITIONS, RenamedState, rename_state
from ..weights.reading import read_tensors
from .reference import image_hidden_states, original_logits

State = dict[str, torch.Tensor]

#: LayerNorm epsilons of the original repository: timm's in the encoder, torch's in its `mlp_head`.
ENCODER_EPS, HEAD_EPS = 1e-6, 1e-5
#: Largest difference that rounding explains between float32 and float64, as a share of the largest value.
TOLERANCE = 1e-4

_FILES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
#: Where training scripts put the state dict inside a file.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "teacher")
#: Strides of the published models, each the same along frequency and time; tried when none are given.
_STRIDES = (10, 12, 14, 16)


@dataclass(kw_only=True)
class Wishes:
    """What the user says about a conversion; None is inferred from the weights or is an error.

    Attributes:
        labels: file of class names: text (one a line), the original's CSV (`display_name`), or JSON (a list, or names
            by index).
        data_set: a key of `DATA_SETS`, for names, statistics, clip length and task.
        multi_label: clips may have several labels.
        mean: of the raw log-mel values of the training data.
        std: the same.
        max_length: frames of the input.
        num_mel_bins: mel bins of the input.
        frequency_stride: step between patches along frequency.
        time_stride: step between patches along time.
        num_attention_heads: heads, where the width does not tell.
    """

    labels: str | None = None
    data_set: str | None = None
    multi_label: bool | None = None
    mean: float | None = None
    std: float | None = None
    max_length: int | None = None
    num_mel_bins: int | None = None
    frequency_stride: int | None = None
    time_stride: int | None = None
    num_attention_heads: int | None = None

    def sizes(self) -> dict[str, int]:
        """The sizes of the input that are given."""
        names = ("max_length", "num_mel_bins", "frequency_stride", "time_stride")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def convert(
    source: str | Path,
    destination: str | Path,
    wishes: Wishes | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Convert weights into a checkpoint folder.

    Args:
        source: a file of the original repository or timm (`.pth`, `.safetensors`, ...), or the folder or Hub name of an
            image transformer.
        destination: folder to make; must not hold anything yet.
        wishes: what the weights do not tell.
        tell: is given each step as a line of text.

    Raises:
        AstConfigError: E305 or E306 for weights that are not whole, not known, or would run code; E303 for labels.
        AstInputError: E108 for what cannot be inferred.
        AstRunError: E601 when the result does not answer as the source.
    """
    wishes, source = wishes or Wishes(), str(source)
    with new_folder(Path(destination)) as partial:
        is_file = Path(source).suffix in _FILES and not Path(source).is_dir()
        state = read_state_dict(Path(source)) if is_file else None
        if state is not None and any("mlp_head." in name for name in state):
            lines = _convert_original(state, source, partial, wishes)
        else:
            lines = _convert_image_transformer(source if state is None else state, partial, wishes)
        for line in lines:
            tell(line)
    tell(f"wrote      {destination}")


@contextmanager
def new_folder(destination: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `destination` at the end and is removed when anything goes wrong.

    Raises:
        AstConfigError: E306 when `destination` holds anything.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise error("E306", where=repr(str(destination)), what="is not empty", fix="give a new folder")
    partial = destination.with_name(destination.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        if destination.exists():
            destination.rmdir()
        partial.rename(destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_state_dict(path: Path) -> State:
    """The state dict in a file, from inside a training script's checkpoint too; raises E306 for anything else."""
    content = read_tensors(path)
    for name in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise error("E306", where=repr(str(path)), what="is no state dict", fix="save model.state_dict() alone")
    return content


def _convert_original(state: State, source: str, folder: Path, wishes: Wishes) -> Iterator[str]:
    """A checkpoint of the original repository, head included."""
    named = rename_state(state, source)
    yield from _mapping_lines(named)
    config, extractor = _describe(named.tensors, source, wishes)
    yield from _summary_lines(config, extractor)
    model = ASTForAudioClassification(config)
    wanted = {name.removeprefix(BACKBONE): part for name, part in model.state_dict().items()}
    tensors = {name: tensor.float() for name, tensor in named.tensors.items()}
    check_state(tensors, wanted, source)
    model.load_state_dict(ASTForAudioClassification._under_own_names(tensors))
    _save(model, extractor, folder)
    spectrogram = random_input(config)
    expected = original_logits(state, spectrogram, config)
    yield _compared(ASTForAudioClassification.from_pretrained(folder)(spectrogram).logits, expected, "logits")


def _convert_image_transformer(source: Any, folder: Path, wishes: Wishes) -> Iterator[str]:
    """An image transformer as an AST without a head."""
    vit = read_image_transformer(source, wishes.num_attention_heads)
    yield from _mapping_lines(vit.renamed)
    entry = data_set(wishes.data_set) if wishes.data_set else None
    sizes = {"max_length": entry.max_length} if entry else {}
    labels = _id2label(_label_names(wishes, None)) if wishes.labels or entry else {}
    heads, fields = wishes.num_attention_heads, {**sizes, **wishes.sizes(), **labels}
    model = ASTModel.from_vit(source, num_attention_heads=heads, **fields)
    mean, std = (entry.mean, entry.std) if entry else (AUDIOSET_MEAN, AUDIOSET_STD)
    mean, std = (mean if wishes.mean is None else wishes.mean), (std if wishes.std is None else wishes.std)
    extractor = _extractor(model.config, mean, std)
    yield from _summary_lines(model.config, extractor)
    if wishes.mean is None and entry is None:
        yield "statistics are AudioSet's until you train: fine-tuning measures its own"
    _save(model, extractor, folder)
    answer, expected = image_hidden_states(source, vit, heads)
    yield _compared(answer, expected, "hidden states of an image")


def _describe(tensors: State, source: str, wishes: Wishes) -> tuple[ASTConfig, ASTFeatureExtractor]:
    """Configuration of model and extractor, from the tensors and what the user says."""
    for needed in (CLASS_TOKEN, POSITIONS, KERNEL, "classifier.dense.weight"):
        if needed not in tensors:
            fix = "check that the file is a whole AST checkpoint"
            raise error("E305", where=source, what=f"holds nothing that becomes {needed}", fix=fix)
    count, width = len(tensors["classifier.dense.weight"]), tensors[CLASS_TOKEN].shape[-1]
    known = wishes.data_set or with_label_count(count)
    entry = data_set(known) if known else None
    geometry = infer_geometry(tensors[POSITIONS].shape[1] - 2, tensors[KERNEL].shape[-1], entry, wishes)
    mean, std = wishes.mean, wishes.std
    if entry:
        mean, std = entry.mean if mean is None else mean, entry.std if std is None else std
    if mean is None or std is None:
        what = f"are not known for {count} labels, and inputs normalised otherwise than in training give wrong scores"
        raise error("E108", where="mean, std", what=what, fix="give --mean and --std, or --data_set")
    layers = [int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layer.")]
    config = ASTConfig(
        hidden_size=width,
        num_hidden_layers=1 + max(layers, default=0),
        num_attention_heads=wishes.num_attention_heads or heads_of_width(width),
        intermediate_size=len(tensors["encoder.layer.0.intermediate.dense.weight"]),
        qkv_bias="encoder.layer.0.attention.attention.query.bias" in tensors,
        layer_norm_eps=ENCODER_EPS,
        classifier_layer_norm_eps=HEAD_EPS,
        problem_type=_problem_type(wishes, entry.problem_type if entry else None),
        **_id2label(_label_names(wishes, known), count),
        **geometry._asdict(),
    )
    return config, _extractor(config, mean, std)


def infer_geometry(patches: int, patch_size: int, entry: Any, wishes: Wishes) -> Geometry:
    """The one published geometry that has so many patches and agrees with what the user says.

    Raises:
        AstInputError: E108 when there is none, or more than one: tensors alone do not tell strides and length.
    """
    bins, given = wishes.num_mel_bins or 128, wishes.sizes()
    lengths = [wishes.max_length] if wishes.max_length else [entry.max_length] if entry else _published_lengths()
    strides = [(wishes.frequency_stride or step, wishes.time_stride or step) for step in _STRIDES]
    candidates = {Geometry(length, bins, patch_size, *pair) for length in lengths for pair in strides}
    fitting = [option for option in sorted(candidates) if option.num_tokens == patches + 2]
    if len(fitting) == 1:
        return fitting[0]
    found = "; ".join(f"{g.max_length} frames with strides {g.frequency_stride}, {g.time_stride}" for g in fitting)
    what = f"{patches} patches fit {found or 'no published geometry'} (given: {given or 'nothing'})"
    fix = "give --max_length, --frequency_stride and --time_stride (and --num_mel_bins unless 128)"
    raise error("E108", where="geometry", what=what, fix=fix)


def _published_lengths() -> list[int]:
    return sorted({entry.max_length for entry in DATA_SETS.values()})


def _problem_type(wishes: Wishes, known: str | None) -> str:
    if wishes.multi_label is None and known:
        return known
    return "multi_label_classification" if wishes.multi_label else "single_label_classification"


def _label_names(wishes: Wishes, known: str | None) -> list[str] | None:
    if wishes.labels:
        return read_label_file(Path(wishes.labels))
    name = wishes.data_set or known
    return class_names(name) if name else None


def _id2label(names: list[str] | None, count: int | None = None) -> dict[str, Any]:
    """Label fields of a configuration; raises E303 when there are not as many names as outputs."""
    if names is None:
        return {"num_labels": count}
    if count is not None and len(names) != count:
        what = f"{len(names)} names for {count} outputs"
        raise error("E303", where="labels", what=what, fix="give a file with one name for each output")
    return {"id2label": dict(enumerate(names))}


def read_label_file(path: Path) -> list[str]:
    """Class names by index, from text, CSV (`index,mid,display_name`) or JSON (a list, or names by index)."""
    where = repr(str(path))
    if not path.is_file():
        raise error("E303", where=where, what="does not exist", fix="check the path of the label file")
    text = path.read_text(encoding="utf-8-sig")
    try:
        if path.suffix == ".json":
            content = json.loads(text)
            names = content if isinstance(content, list) else [content[str(index)] for index in range(len(content))]
        elif path.suffix == ".csv":
            rows = sorted(csv.DictReader(text.splitlines()), key=lambda row: int(row["index"]))
            names = [row["display_name"] for row in rows]
        else:
            names = [line.strip() for line in text.splitlines() if line.strip()]
    except (ValueError, KeyError, TypeError) as problem:
        fix = "use one name a line (.txt), index,mid,display_name (.csv), or a list (.json)"
        raise error("E303", where=where, what=f"cannot be read ({problem!r})", fix=fix) from problem
    return names


def _extractor(config: ASTConfig, mean: float, std: float) -> ASTFeatureExtractor:
    return ASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length, mean=mean, std=std)


def _save(model: ASTPreTrainedModel, extractor: ASTFeatureExtractor, folder: Path) -> None:
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)


def random_input(config: ASTConfig) -> torch.Tensor:
    """One spectrogram with the spread of normalised log-mel values."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, config.max_length, config.num_mel_bins, generator=generator) / 2


def _compared(answer: torch.Tensor, expected: torch.Tensor, what: str) -> str:
    """A line that says how near the result is; raises E601 where rounding does not explain the difference."""
    difference = (answer.detach().double() - expected.double()).abs().max().item()
    scale = max(1.0, expected.abs().max().item())
    if not difference <= TOLERANCE * scale:
        problem = f"{what} differ from the source's own by {difference:.1e} (largest value {scale:.1e})"
        fix = "nothing was written; check --num_attention_heads and the sizes, or report the file"
        raise error("E601", where="check", what=problem, fix=fix)
    return f"checked    {what} against the source's own arithmetic: largest difference {difference:.1e}"


def _mapping_lines(named: RenamedState) -> Iterator[str]:
    """Each kind of tensor once, with its old and new name; block numbers are written N."""
    seen: dict[tuple[str, str], int] = {}
    for theirs, ours in named.renamed.items():
        pair = (_without_number(theirs), _without_number(ours).replace("qkv", "{query,key,value}"))
        seen[pair] = seen.get(pair, 0) + 1
    width = max((len(theirs) for theirs, _ in seen), default=0)
    for (theirs, ours), count in seen.items():
        yield f"mapped     {theirs:{width}} -> {ours}{f'  ({count} blocks)' if count > 1 else ''}"
    for name in named.dropped:
        yield f"left out   {name}"


def _without_number(name: str) -> str:
    return re.sub(r"\.\d+\.(?!weight|bias)", ".N.", name, count=1) if "mlp_head" not in name else name


def _summary_lines(config: ASTConfig, extractor: ASTFeatureExtractor) -> Iterator[str]:
    frequency, time = config.patch_grid
    yield (
        f"model      {config.num_hidden_layers} layers, {config.hidden_size} wide, {config.num_attention_heads} heads; "
        f"{config.num_labels} labels ({config.id2label[0]}, ...); {config.problem_type or 'no task set'}"
    )
    yield (
        f"input      {config.max_length} frames x {config.num_mel_bins} mel bins, strides {config.frequency_stride} x "
        f"{config.time_stride}: {frequency} x {time} patches; mean {extractor.mean:.4f}, std {extractor.std:.4f}"
    )
