"""Registration of the package's classes with transformers, the only side effect of `import ast_hf`.

`import ast_hf` takes milliseconds, since it does not import transformers. Each of transformers' tables is
changed right after its module is first imported, or at once if it already was
(docs/decisions/0002-registration.md).
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import wrapt

MODEL_TYPE = "audio-spectrogram-transformer"
ENSEMBLE_TYPE = "ast-ensemble"
PIPELINE_TASK = "audio-classification"
EMBEDDING_TASK = "feature-extraction"

#: transformers' package of its own AST classes. Its modelling module is not changed: the stock classes refer
#: to each other there.
STOCK_PACKAGE = "transformers.models.audio_spectrogram_transformer"
#: Names that `register(replace_names=True)` replaces in `transformers` and in `STOCK_PACKAGE`.
REPLACED_NAMES = (
    "ASTConfig",
    "ASTFeatureExtractor",
    "ASTForAudioClassification",
    "ASTModel",
    "ASTPreTrainedModel",
)

_enabled = False
_hooks_placed = False
#: Modules whose import hook has run. importlib still marks them as being imported at that moment.
_finished: set[str] = set()
#: transformers' module -> function that undoes the change there.
_undo: dict[str, Callable[[], object]] = {}
#: transformers' modules that are being changed.
_in_progress: set[str] = set()


class Change(NamedTuple):
    """Change to one of transformers' tables.

    Attributes:
        table: transformers' module with the table.
        source: module of this package with the classes to register.
        make: makes the change from (table module, source module), and returns a function that undoes it.
        needs: modules that `source` imports from, and that may themselves be importing `table`.
    """

    table: str
    source: str
    make: Callable[[Any, Any], Callable[[], object]]
    needs: tuple[str, ...] = ()


def register(*, replace_names: bool = False) -> None:
    """Make transformers use this package's classes for AST checkpoints.

    Idempotent; other models are not affected. `AutoConfig`, `AutoModel`, `AutoModelForAudioClassification`,
    `AutoFeatureExtractor` and `pipeline` for "audio-classification" and "feature-extraction" then return these
    classes.

    Args:
        replace_names: also replace `transformers.ASTForAudioClassification`, `ASTConfig`, `ASTModel`,
            `ASTPreTrainedModel` and `ASTFeatureExtractor`, for code that imports them by name. Call it before
            those imports. It imports transformers at once.
    """
    global _enabled, _hooks_placed
    _enabled = True
    if not _hooks_placed:
        _hooks_placed = True  # hooks cannot be removed, so they check `_enabled`
        names = {name for change in _CHANGES for name in (change.table, change.source, *change.needs)}
        for name in sorted(names):
            wrapt.register_post_import_hook(_on_import, name)
    _apply_all()
    if replace_names and STOCK_PACKAGE not in _undo:
        _undo[STOCK_PACKAGE] = _replace_names()


def unregister() -> None:
    """Restore transformers' own entries and names. `register()` may be called again."""
    global _enabled
    _enabled = False
    while _undo:
        _undo.popitem()[1]()


def _on_import(module: ModuleType) -> None:
    _finished.add(module.__name__)
    _apply_all()


def _apply_all() -> None:
    """Make every change that is due: its table is imported, and no module that it needs is being imported."""
    for change in _CHANGES:
        blocked = any(map(_is_being_imported, (change.table, change.source, *change.needs)))
        if _enabled and change.table not in _undo and change.table in sys.modules and not blocked:
            source = importlib.import_module(change.source)
            if change.table not in {*_undo, *_in_progress}:  # that import may have run this function already
                _in_progress.add(change.table)
                try:
                    _undo[change.table] = change.make(sys.modules[change.table], source)
                finally:
                    _in_progress.discard(change.table)


def _is_being_imported(name: str) -> bool:
    """Return True while a module is being imported; modules of this package often import the tables first."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return name not in _finished and getattr(spec, "_initializing", False)


def _replace_names() -> Callable[[], object]:
    """Replace `REPLACED_NAMES` in `transformers` and in its AST package; return a function that undoes it."""
    classes = _own_classes()
    # transformers 5.23 executes `transformers` again here, which makes a second module object.
    importlib.import_module("transformers.processing_utils")
    package = importlib.import_module("transformers")
    stock_package = importlib.import_module(STOCK_PACKAGE)
    # Code that imported `transformers` earlier still refers to the first module object.
    modules = (item for item in gc.get_objects() if type(item) is type(package))
    copies = [module for module in modules if module.__name__ == "transformers"]
    originals: list[tuple[ModuleType, str, Any]] = []
    for module in {id(module): module for module in (package, stock_package, *copies)}.values():
        for name in REPLACED_NAMES:
            originals.append((module, name, getattr(module, name)))
            setattr(module, name, classes[name])

    def undo() -> None:
        for module, name, original in originals:
            setattr(module, name, original)

    return undo


def _own_classes() -> dict[str, Any]:
    from .configuration_ast import ASTConfig
    from .feature_extraction_ast import ASTFeatureExtractor
    from .modeling_ast import ASTForAudioClassification, ASTModel, ASTPreTrainedModel

    classes = (ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel, ASTPreTrainedModel)
    return {cls.__name__: cls for cls in classes}


def _change_configs(table: Any, source: Any) -> Callable[[], object]:
    from .configuration_ensemble import ASTEnsembleConfig

    classes = {MODEL_TYPE: source.ASTConfig, ENSEMBLE_TYPE: ASTEnsembleConfig}
    for name, config in classes.items():
        table.AutoConfig.register(name, config, exist_ok=True)
    return lambda: [table.CONFIG_MAPPING._extra_content.pop(name, None) for name in classes]


def _change_models(table: Any, source: Any) -> Callable[[], object]:
    from .modeling_ensemble import ASTEnsembleForAudioClassification

    models = [
        (table.AutoModel, source.ASTModel),
        (table.AutoModelForAudioClassification, source.ASTForAudioClassification),
        (table.AutoModelForAudioClassification, ASTEnsembleForAudioClassification),
    ]
    for auto, model in models:
        auto.register(model.config_class, model, exist_ok=True)
    return lambda: [
        auto._model_mapping._extra_content.pop(model.config_class, None) for auto, model in models
    ]


def _change_stock_config(table: Any, source: Any) -> Callable[[], object]:
    """Map transformers' `ASTConfig` to this package's models; `register` refuses a foreign config class."""
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    models = {
        auto.AutoModel: source.ASTModel,
        auto.AutoModelForAudioClassification: source.ASTForAudioClassification,
    }
    for kind, model in models.items():
        kind._model_mapping._extra_content[table.ASTConfig] = model
    return lambda: [kind._model_mapping._extra_content.pop(table.ASTConfig, None) for kind in models]


def _change_feature_extractors(table: Any, source: Any) -> Callable[[], object]:
    """Register the extractor, and replace the error for a checkpoint without one by an error with the fix."""
    unregister_extractor = _register_extractor(
        table, source, "AutoFeatureExtractor", "FEATURE_EXTRACTOR_MAPPING"
    )
    stock = table.FeatureExtractionMixin
    table.FeatureExtractionMixin = source.FeatureExtractionFiles

    def undo() -> None:
        table.FeatureExtractionMixin = stock
        unregister_extractor()

    return undo


def _register_extractor(table: Any, source: Any, auto: str, mapping: str) -> Callable[[], object]:
    """Register the extractor with an Auto class, and remove the stock entry, which has precedence."""
    from .configuration_ast import ASTConfig
    from .configuration_ensemble import ASTEnsembleConfig

    configs = (ASTConfig, ASTEnsembleConfig)
    names = getattr(table, f"{mapping}_NAMES")
    for config in configs:
        getattr(table, auto).register(config, source.ASTFeatureExtractor, exist_ok=True)
    stock = names.pop(MODEL_TYPE, None)

    def undo() -> None:
        for config in configs:
            getattr(table, mapping)._extra_content.pop(config, None)
        if stock is not None:
            names[MODEL_TYPE] = stock

    return undo


def _change_audio_processors(table: Any, source: Any) -> Callable[[], object]:
    """Register with `AutoAudioProcessor`, which `AutoFeatureExtractor` will call (transformers#48113)."""
    return _register_extractor(table, source, "AutoAudioProcessor", "AUDIO_PROCESSOR_MAPPING")


def _change_pipeline(table: Any, source: Any) -> Callable[[], object]:
    """Change the tasks' entries; `register_pipeline` would write code references into every saved pipeline."""
    from .inference import embedding_pipeline

    classes = {
        PIPELINE_TASK: (source.ASTAudioClassificationPipeline, source.AutoModelWithReason),
        EMBEDDING_TASK: (embedding_pipeline.ASTFeatureExtractionPipeline, embedding_pipeline.AutoBaseModel),
    }
    stock = {task: dict(table.SUPPORTED_TASKS[task]) for task in classes}
    for task, (pipeline, model) in classes.items():
        table.SUPPORTED_TASKS[task].update(impl=pipeline, pt=(model,))
    return lambda: [table.SUPPORTED_TASKS[task].update(entry) for task, entry in stock.items()]


_AUTO = "transformers.models.auto"
_EXTRACTOR = "ast_hf.feature_extraction_ast"
_ENSEMBLE = ("ast_hf.configuration_ensemble",)
#: The tables are not public in transformers; `tests/test_registration.py` tests each in a fresh process.
_CHANGES = (
    Change(f"{_AUTO}.configuration_auto", "ast_hf.configuration_ast", _change_configs, _ENSEMBLE),
    Change(
        f"{_AUTO}.modeling_auto",
        "ast_hf.modeling_ast",
        _change_models,
        # in most programs, transformers.modeling_layers is the module that imports the table first
        needs=("transformers.modeling_layers", "ast_hf.modeling_ensemble"),
    ),
    Change(f"{_AUTO}.feature_extraction_auto", _EXTRACTOR, _change_feature_extractors, _ENSEMBLE),
    Change(f"{_AUTO}.audio_processing_auto", _EXTRACTOR, _change_audio_processors, _ENSEMBLE),
    Change(
        f"{STOCK_PACKAGE}.configuration_audio_spectrogram_transformer",
        "ast_hf.modeling_ast",
        _change_stock_config,
        needs=("transformers.modeling_layers", f"{_AUTO}.modeling_auto"),
    ),
    Change(
        "transformers.pipelines",
        "ast_hf.inference.pipeline",
        _change_pipeline,
        needs=("ast_hf.modeling_ast", "ast_hf.modeling_ensemble", "ast_hf.inference.embedding_pipeline"),
    ),
)
