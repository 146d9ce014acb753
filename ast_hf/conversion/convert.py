"""Conversion of weights of the original repository, timm or an image transformer into a checkpoint folder.

The written checkpoint is loaded again and compared with the source's own arithmetic before the folder gets
its name.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..configuration_ast import ASTConfig, Geometry
from ..errors import AstHfError, error, shown, unreadable
from ..feature_extraction_ast import AUDIOSET_MEAN, AUDIOSET_STD, ASTFeatureExtractor
from ..files import sync
from ..json_files import parse_json
from ..modeling_ast import ASTForAudioClassification, ASTModel, ASTPreTrainedModel
from ..paper_data_sets import DATA_SETS, DataSet, class_names, data_set, with_label_count
from ..scalars import is_finite_number
from ..task import Task
from ..weights.image_transformers import SIZED, check_axes, heads_of_width, read_image_transformer
from ..weights.integrity import check_state
from ..weights.names import CLASS_TOKEN, HEAD_KERNEL, KERNEL, POSITIONS, RenamedState, rename_state
from ..weights.pickles import as_state_dict
from ..weights.reading import read_tensors
from ..weights.shapes import backbone_shapes, head_shapes, without_storage
from ..writing_failures import check_folder, explained
from .reference import image_hidden_states, original_logits

State = dict[str, torch.Tensor]

#: LayerNorm epsilons of the original repository: timm's in the encoder, torch's in its `mlp_head`.
ENCODER_EPS = 1e-6
HEAD_EPS = 1e-5
#: Largest difference that rounding explains between float32 and float64, relative to the largest value.
TOLERANCE = 1e-4

_FILES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
#: Keys under which training scripts store the state dict in a file.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "teacher")
#: Strides of the published models, equal along frequency and time; the candidates if none are given.
_STRIDES = (10, 12, 14, 16)


@dataclass(kw_only=True)
class ConversionOptions:
    """User settings for a conversion. A field that is None is inferred from the weights, or E108 is raised.

    Attributes:
        labels: file of class names: text (one a line), the original's CSV (`display_name`), or JSON (a list,
            or names by index).
        data_set: a key of `DATA_SETS`, for names, statistics, clip length and task.
        multi_label: True if clips may have several labels.
        mean: of the raw log-mel values of the training data.
        std: standard deviation of the same values.
        max_length: frames of the input.
        num_mel_bins: mel bins of the input.
        frequency_stride: step between patches along frequency, in mel bins.
        time_stride: step between patches along time, in frames.
        num_attention_heads: heads, for a width that no published model has.
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

    def __post_init__(self) -> None:
        for name, value in {**self.sizes(), "num_attention_heads": self.num_attention_heads}.items():
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise error("E108", where=name, what=f"is {shown(value)}", fix="give 1 or more")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if value is not None and not (is_finite_number(value) and (name == "mean" or value > 0.0)):
                fix = "give a finite number, for std above 0"
                raise error("E108", where=name, what=f"is {shown(value)}", fix=fix)

    def sizes(self) -> dict[str, int]:
        """Return the sizes of the input that are set."""
        names = ("max_length", "num_mel_bins", "frequency_stride", "time_stride")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def convert(
    source: str | Path,
    destination: str | Path,
    options: ConversionOptions | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Convert weights into a checkpoint folder.

    Args:
        source: a file of the original repository or timm (`.pth`, `.safetensors`, ...), or the folder or Hub
            name of an image transformer.
        destination: folder to create; an existing one must be empty.
        options: settings that cannot be read from the weights.
        tell: is called with each step as a line of text.

    Raises:
        AstConfigError: E305 or E306 for weights that are incomplete, unknown, or would run code; E303 for
            labels.
        AstInputError: E108 for a setting that cannot be inferred.
        AstRunError: E601 if the outputs of the result differ from the source's.
    """
    options = options or ConversionOptions()
    source = str(source)
    with new_folder(Path(destination)) as partial:
        is_file = Path(source).suffix in _FILES and not Path(source).is_dir()
        state = read_state_dict(Path(source)) if is_file else None
        if state is not None and any("mlp_head." in name for name in state):
            lines = _convert_original(state, source, partial, options)
        else:
            lines = _convert_image_transformer(source if state is None else state, partial, options)
        for line in lines:
            tell(line)
    tell(f"wrote      {destination}")


@contextmanager
def new_folder(destination: Path) -> Iterator[Path]:
    """Yield a folder that becomes `destination` (E306 unless empty), or is removed after an exception.

    Raises E401, before and after the work, if it cannot be written.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        where = repr(str(destination))
        raise error("E306", where=where, what="is not empty", fix="give a new folder", detail="exists")
    check_folder(destination)
    partial = destination.with_name(destination.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        with explained(destination):
            for path in partial.rglob("*"):
                sync(path)
            if destination.exists():
                destination.rmdir()
            partial.rename(destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_state_dict(path: Path) -> State:
    """Return the state dict in a file, also of a training script's checkpoint; raise E306 for other files."""
    content = read_tensors(path)
    for name in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    return as_state_dict(content, path)


def _convert_original(state: State, source: str, folder: Path, options: ConversionOptions) -> Iterator[str]:
    """Convert a checkpoint of the original repository, with its classifier; yields lines of the report."""
    renamed = rename_state(state, source)
    yield from _mapping_lines(renamed)
    config, extractor = _infer_configuration(renamed.tensors, source, options)
    yield from _summary_lines(config, extractor)
    shapes = {**backbone_shapes(config), **head_shapes(config.hidden_size, len(config.id2label))}
    tensors = {name: tensor.float() for name, tensor in renamed.tensors.items()}
    check_state(tensors, without_storage(shapes), source)
    model = ASTForAudioClassification(config)
    model.load_state_dict(ASTForAudioClassification._under_own_names(tensors))
    _save(model, extractor, folder)
    spectrogram = random_input(config)
    expected = original_logits(state, spectrogram, config)
    logits = ASTForAudioClassification.from_pretrained(folder)(spectrogram).logits
    yield _check_outputs(logits, expected, "logits")


def _convert_image_transformer(source: Any, folder: Path, options: ConversionOptions) -> Iterator[str]:
    """Convert an image transformer into an AST without a classifier; yields lines of the report."""
    vit = read_image_transformer(source, options.num_attention_heads)
    yield from _mapping_lines(vit.renamed)
    entry = data_set(options.data_set) if options.data_set else None
    sizes = {"max_length": entry.max_length} if entry else {}
    labels = _id2label(_label_names(options, None)) if options.labels or entry else {}
    heads = options.num_attention_heads
    model = ASTModel.from_vit(source, num_attention_heads=heads, **{**sizes, **options.sizes(), **labels})
    mean, std = _statistics(options, entry)
    extractor = _extractor(
        model.config, AUDIOSET_MEAN if mean is None else mean, AUDIOSET_STD if std is None else std
    )
    yield from _summary_lines(model.config, extractor)
    if options.mean is None and entry is None:
        yield "statistics are AudioSet's until you train: fine-tuning measures its own"
    _save(model, extractor, folder)
    hidden_states, expected = image_hidden_states(source, vit, heads)
    yield _check_outputs(hidden_states, expected, "hidden states of an image")


def _infer_configuration(
    tensors: State, source: str, options: ConversionOptions
) -> tuple[ASTConfig, ASTFeatureExtractor]:
    """Return the configuration of the model, and the feature extractor, from the tensors and the options."""
    check_axes(tensors, {**SIZED, HEAD_KERNEL: 2}, source, "check that the file is a complete AST checkpoint")
    count = len(tensors[HEAD_KERNEL])
    width = tensors[CLASS_TOKEN].shape[-1]
    data_set_name = options.data_set or with_label_count(count)
    entry = data_set(data_set_name) if data_set_name else None
    geometry = infer_geometry(tensors[POSITIONS].shape[1] - 2, tensors[KERNEL].shape[-1], entry, options)
    mean, std = _statistics(options, entry)
    if mean is None or std is None:
        what = f"cannot be inferred for {count} labels, and inputs with other statistics give wrong scores"
        raise error("E108", where="mean, std", what=what, fix="give --mean and --std, or --data_set")
    layers = [int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layer.")]
    config = ASTConfig(
        hidden_size=width,
        num_hidden_layers=1 + max(layers, default=0),
        num_attention_heads=options.num_attention_heads or heads_of_width(width),
        intermediate_size=len(tensors["encoder.layer.0.intermediate.dense.weight"]),
        qkv_bias="encoder.layer.0.attention.attention.query.bias" in tensors,
        layer_norm_eps=ENCODER_EPS,
        classifier_layer_norm_eps=HEAD_EPS,
        problem_type=_problem_type(options, entry.problem_type if entry else None),
        **_id2label(_label_names(options, data_set_name), count),
        **geometry._asdict(),
    )
    return config, _extractor(config, mean, std)


def _statistics(options: ConversionOptions, entry: DataSet | None) -> tuple[float | None, float | None]:
    """Return mean and std: the user's, else those of the data set, else None."""
    if entry is None:
        return options.mean, options.std
    mean = entry.mean if options.mean is None else options.mean
    return mean, entry.std if options.std is None else options.std


def infer_geometry(patches: int, patch_size: int, entry: Any, options: ConversionOptions) -> Geometry:
    """Return the only published geometry that has so many patches and agrees with the options.

    Tensors hold neither strides nor length. Raises E108 if there is none, or more than one.

    Args:
        patches: number of patches, special tokens not counted.
        patch_size: edge of a patch, in mel bins and frames.
        entry: the data set, or None.
        options: settings of the user.
    """
    bins = options.num_mel_bins or 128
    lengths = _candidate_lengths(options, entry)
    strides = [(options.frequency_stride or step, options.time_stride or step) for step in _STRIDES]
    candidates = {Geometry(length, bins, patch_size, *pair) for length in lengths for pair in strides}
    fitting = [option for option in sorted(candidates) if option.num_tokens == patches + 2]
    if len(fitting) == 1:
        return fitting[0]
    matches = "; ".join(
        f"{geometry.max_length} frames with strides {geometry.frequency_stride}, {geometry.time_stride}"
        for geometry in fitting
    )
    sizes = options.sizes() or "nothing"
    what = f"{patches} patches fit {matches or 'no published geometry'} (given: {sizes})"
    fix = "give --max_length, --frequency_stride and --time_stride (and --num_mel_bins unless 128)"
    raise error("E108", where="geometry", what=what, fix=fix)


def _candidate_lengths(options: ConversionOptions, entry: Any) -> list[int]:
    if options.max_length:
        return [options.max_length]
    if entry:
        return [entry.max_length]
    return sorted({published.max_length for published in DATA_SETS.values()})


def _problem_type(options: ConversionOptions, published: str | None) -> str:
    if options.multi_label is None and published:
        return published
    return (Task.MULTI_LABEL if options.multi_label else Task.SINGLE_LABEL).value


def _label_names(options: ConversionOptions, data_set_name: str | None) -> list[str] | None:
    if options.labels:
        return read_label_file(Path(options.labels))
    name = options.data_set or data_set_name
    return class_names(name) if name else None


def _id2label(names: list[str] | None, count: int | None = None) -> dict[str, Any]:
    """Return the label fields of a configuration; raise E303 unless there is one name for each output."""
    if names is None:
        return {"num_labels": count}
    if count is not None and len(names) != count:
        what = f"{len(names)} names for {count} outputs"
        raise error("E303", where="labels", what=what, fix="give a file with one name for each output")
    return {"id2label": dict(enumerate(names))}


def read_label_file(path: Path) -> list[str]:
    """Return class names by index from text, CSV (`index,mid,display_name`), or JSON (list or index -> name).

    Raises E303 for a file that is missing or cannot be read.
    """
    where = repr(str(path))
    if not path.is_file():
        raise error("E303", where=where, what="does not exist", fix="check the path of the label file")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            content = parse_json(text, where)
            names = content if isinstance(content, list) else [content[str(i)] for i in range(len(content))]
        elif path.suffix == ".csv":
            rows = sorted(csv.DictReader(text.splitlines()), key=lambda row: int(row["index"]))
            names = [row["display_name"] for row in rows]
        else:
            names = [line.strip() for line in text.splitlines() if line.strip()]
    except AstHfError as problem:
        raise unreadable("E303", where=where, problem=problem.what, fix=problem.fix) from problem
    except (ValueError, KeyError, TypeError, OSError, csv.Error) as problem:
        fix = "use one name a line (.txt), index,mid,display_name (.csv), or a list (.json)"
        raise unreadable("E303", where=where, problem=repr(problem), fix=fix) from problem
    if not all(isinstance(name, (str, int)) for name in names):
        raise error(
            "E303", where=where, what="has a name that is not text", fix="give one text for each label"
        )
    return [str(name) for name in names]


def _extractor(config: ASTConfig, mean: float, std: float) -> ASTFeatureExtractor:
    return ASTFeatureExtractor(
        num_mel_bins=config.num_mel_bins, max_length=config.max_length, mean=mean, std=std
    )


def _save(model: ASTPreTrainedModel, extractor: ASTFeatureExtractor, folder: Path) -> None:
    with explained(folder):
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)


def random_input(config: ASTConfig) -> torch.Tensor:
    """Return random log-mel values `(1, max_length, num_mel_bins)` with the spread of normalised ones."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, config.max_length, config.num_mel_bins, generator=generator) / 2


def _check_outputs(outputs: torch.Tensor, expected: torch.Tensor, name: str) -> str:
    """Return a line with the largest difference; raise E601 if rounding does not explain it."""
    fix = "nothing was written; check --num_attention_heads and the sizes, or report the file"
    difference = largest_difference(outputs, expected, f"{name} differ from the source's own", fix)
    return f"checked    {name} against the source's own arithmetic: largest difference {difference:.1e}"


def largest_difference(outputs: torch.Tensor, expected: torch.Tensor, what: str, fix: str) -> float:
    """Return the largest absolute difference; raise E601 if rounding does not explain it."""
    difference = (outputs.detach().double() - expected.double()).abs().max().item()
    scale = max(1.0, expected.abs().max().item())
    if not difference <= TOLERANCE * scale:
        what += f" by {difference:.1e} (largest value {scale:.1e})"
        raise error("E601", where="check", what=what, fix=fix)
    return difference


def _mapping_lines(state: RenamedState) -> Iterator[str]:
    """Yield each kind of tensor once, with its old and new name; block numbers are written N."""
    counts: dict[tuple[str, str], int] = {}
    for theirs, ours in state.renamed.items():
        pair = (_without_number(theirs), _without_number(ours).replace("qkv", "{query,key,value}"))
        counts[pair] = counts.get(pair, 0) + 1
    width = max((len(theirs) for theirs, _ in counts), default=0)
    for (theirs, ours), count in counts.items():
        blocks = f"  ({count} blocks)" if count > 1 else ""
        yield f"mapped     {theirs:{width}} -> {ours}{blocks}"
    for name in state.dropped:
        yield f"left out   {name}"


def _without_number(name: str) -> str:
    return re.sub(r"\.\d+\.(?!weight|bias)", ".N.", name, count=1) if "mlp_head" not in name else name


def _summary_lines(config: ASTConfig, extractor: ASTFeatureExtractor) -> Iterator[str]:
    frequency, time = config.patch_grid
    yield (
        f"model      {config.num_hidden_layers} layers, {config.hidden_size} wide, "
        f"{config.num_attention_heads} heads; {config.num_labels} labels ({config.id2label[0]}, ...); "
        f"{config.problem_type or 'no task set'}"
    )
    yield (
        f"input      {config.max_length} frames x {config.num_mel_bins} mel bins, strides "
        f"{config.frequency_stride} x {config.time_stride}: {frequency} x {time} patches; "
        f"mean {extractor.mean:.4f}, std {extractor.std:.4f}"
    )
