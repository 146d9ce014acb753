"""Makes transformers' Auto classes and pipeline give our AST, and takes it back: the package's only side effect.

`import ast_hf` costs milliseconds: nothing of transformers is imported for it. Each of transformers' tables is changed
right after its module is first imported, or at once if it already was (docs/decisions/0002-registration.md).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import wrapt

MODEL_TYPE, ENSEMBLE_TYPE = "audio-spectrogram-transformer", "ast-ensemble"
PIPELINE_TASK = "audio-classification"

_enabled = False
_hooks_placed = False
_finished: set[str] = set()  # modules whose import hook has run: importlib still calls them unfinished at that moment
_undo: dict[str, Callable[[], object]] = {}  # transformers' module -> what undoes our change there


class Change(NamedTuple):
    """One of transformers' tables, and what we put into it."""

    table: str  # transformers' module
    own: str  # our module with the classes that go in
    make: Callable[[Any, Any], Callable[[], object]]  # (table module, own module) -> what undoes it
    needs: tuple[str, ...] = ()  # modules that `own` imports from, and that may be importing the table themselves


def register() -> None:
    """Let `AutoConfig`, `AutoModel`, `AutoModelForAudioClassification`, `AutoFeatureExtractor` and
    `pipeline("audio-classification")` give ours for AST checkpoints. Idempotent; other models are not touched.
    """
    global _enabled, _hooks_placed
    _enabled = True
    if not _hooks_placed:
        _hooks_placed = True  # once: hooks cannot be removed, so they look at `_enabled`
        for name in sorted({name for change in _CHANGES for name in (change.table, change.own, *change.needs)}):
            wrapt.register_post_import_hook(_imported, name)
    _apply_all()


def unregister() -> None:
    """Give transformers' tables back their own entries. `register()` may be called again."""
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
            if change.table not in _undo:  # importing our module may have come here before us
                _undo[change.table] = change.make(sys.modules[change.table], own)


def _under_way(name: str) -> bool:
    """Whether a module is being imported: transformers' tables are often first imported by our own modules."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return name not in _finished and getattr(spec, "_initializing", False)


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


def _change_feature_extractors(table: Any, own: Any) -> Callable[[], object]:
    """`AutoFeatureExtractor` looks a class up by its name, stock entries first: registering alone is not enough."""
    from .configuration_ast import ASTConfig
    from .configuration_ensemble import ASTEnsembleConfig

    configs = (ASTConfig, ASTEnsembleConfig)
    for config in configs:
        table.AutoFeatureExtractor.register(config, own.ASTFeatureExtractor, exist_ok=True)
    stock = table.FEATURE_EXTRACTOR_MAPPING_NAMES.pop(MODEL_TYPE, None)

    def undo() -> None:
        for config in configs:
            table.FEATURE_EXTRACTOR_MAPPING._extra_content.pop(config, None)
        if stock is not None:
            table.FEATURE_EXTRACTOR_MAPPING_NAMES[MODEL_TYPE] = stock

    return undo


def _change_pipeline(table: Any, own: Any) -> Callable[[], object]:
    """The task's entry itself: `register_pipeline` would write code references into every saved pipeline."""
    entry = table.SUPPORTED_TASKS[PIPELINE_TASK]
    stock = dict(entry)
    entry.update(impl=own.ASTAudioClassificationPipeline, pt=(own.AutoModelThatSaysWhy,))
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
        "transformers.pipelines",
        "ast_hf.pipeline_ast",
        _change_pipeline,
        needs=("ast_hf.modeling_ast", "ast_hf.modeling_ensemble"),
    ),
)
