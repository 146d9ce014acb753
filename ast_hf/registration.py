"""Makes transformers' Auto classes and pipeline give our AST, and takes it back: the package's only side effect.

`import ast_hf` costs milliseconds: nothing of transformers is imported for it. Each of transformers' tables is changed
right after its module is first imported, or at once if it already was (docs/decisions/0002-registration.md).
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import wrapt

MODEL_TYPE, ENSEMBLE_TYPE = "audio-spectrogram-transformer", "ast-ensemble"
PIPELINE_TASK = "audio-classification"

#: Where transformers offers its AST classes by name, and their names there. Its modelling module is left alone: the
#: stock classes refer to each other there.
STOCK_PACKAGE = "transformers.models.audio_spectrogram_transformer"
REPLACED_NAMES = ("ASTConfig", "ASTFeatureExtractor", "ASTForAudioClassification", "ASTModel", "ASTPreTrainedModel")

_enabled = False
_hooks_placed = False
_finished: set[str] = set()  # modules whose import hook has run: importlib still calls them unfinished at that moment
_undo: dict[str, Callable[[], object]] = {}  # transformers' module -> what undoes our change there
_under_change: set[str] = set()  # transformers' modules that are being changed


class Change(NamedTuple):
    """One of transformers' tables, and what we put into it."""

    table: str  # transformers' module
    own: str  # our module with the classes that go in
    make: Callable[[Any, Any], Callable[[], object]]  # (table module, own module) -> what undoes it
    needs: tuple[str, ...] = ()  # modules that `own` imports from, and that may be importing the table themselves


def register(*, replace_names: bool = False) -> None:
    """Let transformers give our classes for AST checkpoints. Idempotent; other models are not touched.

    That is what `AutoConfig`, `AutoModel`, `AutoModelForAudioClassification`, `AutoFeatureExtractor` and
    `pipeline("audio-classification")` give.

    Args:
        replace_names: also make `from transformers import ASTForAudioClassification` (and `ASTConfig`, `ASTModel`,
            `ASTPreTrainedModel`, `ASTFeatureExtractor`) give ours, for code that names them. Call it before that
            import. Imports transformers at once.
    """
    global _enabled, _hooks_placed
    _enabled = True
    if not _hooks_placed:
        _hooks_placed = True  # once: hooks cannot be removed, so they look at `_enabled`
        for name in sorted({name for change in _CHANGES for name in (change.table, change.own, *change.needs)}):
            wrapt.register_post_import_hook(_imported, name)
    _apply_all()
    if replace_names and STOCK_PACKAGE not in _undo:
        _undo[STOCK_PACKAGE] = _replace_names()


def unregister() -> None:
    """Give transformers its own entries and names back. `register()` may be called again."""
    global _enabled
    _enabled = False
    while _undo:
        _undo.popitem()[1]()


def _imported(module: ModuleType) -> None:
    _finished.add(module.__name__)
    _apply_all()


def _apply_all() -> None:
    for change in _CHANGES:
        blocked = any(map(_under_way, (change.table, change.own, *change.needs)))
        if _enabled and change.table not in _undo and change.table in sys.modules and not blocked:
            own = importlib.import_module(change.own)
            if change.table not in {*_undo, *_under_change}:  # importing our modules may have come here before us
                _under_change.add(change.table)
                try:
                    _undo[change.table] = change.make(sys.modules[change.table], own)
                finally:
                    _under_change.discard(change.table)


def _under_way(name: str) -> bool:
    """Whether a module is being imported: transformers' tables are often first imported by our own modules."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return name not in _finished and getattr(spec, "_initializing", False)


def _replace_names() -> Callable[[], object]:
    """Put our classes under the names that `transformers` and its AST package offer."""
    own = _own_classes()
    importlib.import_module("transformers.processing_utils")  # executes `transformers` again (5.23): a second module
    package, stock_package = (importlib.import_module(name) for name in ("transformers", STOCK_PACKAGE))
    # Whoever imported `transformers` before that holds the first one.
    first = [found for found in gc.get_objects() if type(found) is type(package) and found.__name__ == "transformers"]
    changed: list[tuple[ModuleType, str, Any]] = []
    for module in {id(module): module for module in (package, stock_package, *first)}.values():
        for name in REPLACED_NAMES:
            changed.append((module, name, getattr(module, name)))
            setattr(module, name, own[name])

    def undo() -> None:
        for module, name, stock in changed:
            setattr(module, name, stock)

    return undo


def _own_classes() -> dict[str, Any]:
    """Return our classes under the names of `REPLACED_NAMES`."""
    from .configuration_ast import ASTConfig
    from .feature_extraction_ast import ASTFeatureExtractor
    from .modeling_ast import ASTForAudioClassification, ASTModel, ASTPreTrainedModel

    classes = (ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel, ASTPreTrainedModel)
    return {cls.__name__: cls for cls in classes}


def _change_configs(table: Any, own: Any) -> Callable[[], object]:
    from .configuration_ensemble import ASTEnsembleConfig

    classes = {MODEL_TYPE: own.ASTConfig, ENSEMBLE_TYPE: ASTEnsembleConfig}
    for name, config in classes.items():
        table.AutoConfig.register(name, config, exist_ok=True)
    return lambda: [table.CONFIG_MAPPING._extra_content.pop(name, None) for name in classes]


def _change_models(table: Any, own: Any) -> Callable[[], object]:
    from .modeling_ensemble import ASTEnsembleForAudioClassification

    models = [
        (table.AutoModel, own.ASTModel),
        (table.AutoModelForAudioClassification, own.ASTForAudioClassification),
        (table.AutoModelForAudioClassification, ASTEnsembleForAudioClassification),
    ]
    for auto, model in models:
        auto.register(model.config_class, model, exist_ok=True)
    return lambda: [auto._model_mapping._extra_content.pop(model.config_class, None) for auto, model in models]


def _change_stock_config(table: Any, own: Any) -> Callable[[], object]:
    """Give our models for transformers' own `ASTConfig` too, which they convert; `register` would refuse the pair."""
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    models = {auto.AutoModel: own.ASTModel, auto.AutoModelForAudioClassification: own.ASTForAudioClassification}
    for kind, model in models.items():
        kind._model_mapping._extra_content[table.ASTConfig] = model
    return lambda: [kind._model_mapping._extra_content.pop(table.ASTConfig, None) for kind in models]


def _change_feature_extractors(table: Any, own: Any) -> Callable[[], object]:
    """Also let its error for a checkpoint in which no extractor was saved say how to save one."""
    unregister_extractor = _register_extractor(table, own, "AutoFeatureExtractor", "FEATURE_EXTRACTOR_MAPPING")
    stock = table.FeatureExtractionMixin
    table.FeatureExtractionMixin = own.FeatureExtractionFiles

    def undo() -> None:
        table.FeatureExtractionMixin = stock
        unregister_extractor()

    return undo


def _register_extractor(table: Any, own: Any, auto: str, mapping: str) -> Callable[[], object]:
    """Register our extractor with an Auto class, which looks a class up by its name, stock entries first.

    So the stock entry goes out of its table, too.
    """
    from .configuration_ast import ASTConfig
    from .configuration_ensemble import ASTEnsembleConfig

    configs = (ASTConfig, ASTEnsembleConfig)
    names = getattr(table, f"{mapping}_NAMES")
    for config in configs:
        getattr(table, auto).register(config, own.ASTFeatureExtractor, exist_ok=True)
    stock = names.pop(MODEL_TYPE, None)

    def undo() -> None:
        for config in configs:
            getattr(table, mapping)._extra_content.pop(config, None)
        if stock is not None:
            names[MODEL_TYPE] = stock

    return undo


def _change_audio_processors(table: Any, own: Any) -> Callable[[], object]:
    """`AutoAudioProcessor`, which `AutoFeatureExtractor` will delegate to (transformers#48113, not released yet)."""
    return _register_extractor(table, own, "AutoAudioProcessor", "AUDIO_PROCESSOR_MAPPING")


def _change_pipeline(table: Any, own: Any) -> Callable[[], object]:
    """The task's entry itself: `register_pipeline` would write code references into every saved pipeline."""
    entry = table.SUPPORTED_TASKS[PIPELINE_TASK]
    stock = dict(entry)
    entry.update(impl=own.ASTAudioClassificationPipeline, pt=(own.AutoModelWithReason,))
    return lambda: entry.update(stock)


#: The tables are not documented interfaces; `tests/test_registration.py` guards each of them in fresh processes.
_CHANGES = (
    Change(
        "transformers.models.auto.configuration_auto",
        "ast_hf.configuration_ast",
        _change_configs,
        needs=("ast_hf.configuration_ensemble",),
    ),
    Change(
        "transformers.models.auto.modeling_auto",
        "ast_hf.modeling_ast",
        _change_models,
        # the first is the module that imports the table first, in most programs
        needs=("transformers.modeling_layers", "ast_hf.modeling_ensemble"),
    ),
    Change(
        "transformers.models.auto.feature_extraction_auto",
        "ast_hf.feature_extraction_ast",
        _change_feature_extractors,
        needs=("ast_hf.configuration_ensemble",),
    ),
    Change(
        "transformers.models.auto.audio_processing_auto",
        "ast_hf.feature_extraction_ast",
        _change_audio_processors,
        needs=("ast_hf.configuration_ensemble",),
    ),
    Change(
        f"{STOCK_PACKAGE}.configuration_audio_spectrogram_transformer",
        "ast_hf.modeling_ast",
        _change_stock_config,
        needs=("transformers.modeling_layers", "transformers.models.auto.modeling_auto"),
    ),
    Change(
        "transformers.pipelines",
        "ast_hf.inference.pipeline",
        _change_pipeline,
        needs=("ast_hf.modeling_ast", "ast_hf.modeling_ensemble"),
    ),
)
