"""Feature extractor for a model: a given one, or that of the checkpoint which the model was loaded from."""

from __future__ import annotations

import weakref
from os import PathLike
from pathlib import Path
from typing import Any

from .configuration_ast import ASTConfig
from .errors import AstHfError, error, short_reason, wrong_type
from .feature_extraction_ast import ASTFeatureExtractor, check_fits

#: model -> (its name, the extractor that was loaded for it from the Hub).
_LOADED: weakref.WeakKeyDictionary[Any, tuple[str, ASTFeatureExtractor]] = weakref.WeakKeyDictionary()


def extractor_of(model: Any, given: Any = None) -> ASTFeatureExtractor:
    """Return the extractor for a model: the given one, or that of the checkpoint that it was loaded from.

    Raises:
        AstInputError: E102 for another type, E108 if neither is known, E304 if it does not fit the model.
        AstConfigError: E306 if it cannot be loaded.
    """
    name = getattr(model, "name_or_path", "") or "the model"
    if given is None:
        given = getattr(model, "name_or_path", "") or None
    if given is None:
        what = "is not given, and the model was not loaded from a checkpoint that could have it"
        fix = "pass feature_extractor=, with the mean and std that the model was trained with"
        raise error("E108", where="feature_extractor", what=what, fix=fix)
    extractor = _load(model, str(given)) if isinstance(given, (str, PathLike)) else given
    if not isinstance(extractor, ASTFeatureExtractor):
        expected = "an ast_hf.ASTFeatureExtractor, or the folder or Hub name of one"
        raise wrong_type("E102", where="feature_extractor", value=type(extractor).__name__, expected=expected)
    check_fits(extractor, model.config, name)
    return extractor


def _load(model: Any, name: str) -> ASTFeatureExtractor:
    """Return the extractor of a checkpoint; one of the Hub is loaded once for a model."""
    if name == _LOADED.get(model, ("", None))[0]:
        return _LOADED[model][1]
    is_own = name == getattr(model, "name_or_path", None)
    revision = getattr(model.config, "_commit_hash", None) if is_own else None
    options = {"revision": revision} if revision else {}
    try:
        stored, _ = ASTConfig.get_config_dict(name, **options) if is_own else ({}, None)
        if stored.get("model_type", ASTConfig.model_type) != ASTConfig.model_type:
            raise _not_its_own(name)
        extractor = ASTFeatureExtractor.from_pretrained(name, **options)
    except AstHfError:
        raise
    except (OSError, ValueError) as problem:
        what = f"has no feature extractor that can be loaded ({short_reason(problem)})"
        fix = "pass feature_extractor=, with the mean and std that the model was trained with"
        raise error("E306", where=repr(name), what=what, fix=fix, detail="missing") from None
    if not Path(name).is_dir():
        _LOADED[model] = (name, extractor)
    return extractor


def _not_its_own(name: str) -> AstHfError:
    what = f"is not given, and {name!r} is not this model alone: it may be a member of an ensemble there"
    fix = "pass feature_extractor=, for a member ensemble.extractors[number]"
    return error("E108", where="feature_extractor", what=what, fix=fix)
