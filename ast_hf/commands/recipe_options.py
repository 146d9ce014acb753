"""All options of a recipe with meaning and default, read without importing the training code.

`options.json` of `recipe/` is generated from the option classes (`make reference`). The arguments of transformers are
read from the source of the installed version, which its classes would take seconds to import.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import AstHfError, error

#: Keys of an option: full name, type, default and meaning.
Option = dict[str, str]

_FILE = Path(__file__).parents[1] / "recipe" / "options.json"
#: Names of other tools -> the option.
_COMMON_NAMES = {
    "epochs": "training.num_train_epochs",
    "num_epochs": "training.num_train_epochs",
    "lr": "training.learning_rate",
    "steps": "training.max_steps",
    "batch": "training.per_device_train_batch_size",
    "batch_size": "training.per_device_train_batch_size",
    "workers": "training.dataloader_num_workers",
    "seed": "training.seed",
    "patience": "stopping.patience",
}
#: Section that holds transformers' arguments.
TRAINING = "training"
#: An entry of transformers' docstring: name, type, text.
_ARGUMENT = re.compile(r"^ {8}(\w+) ?\((.*?)\):?\n((?: {12}.*\n|\n)*)", re.MULTILINE)


@functools.cache
def recipe_options() -> dict[str, list[Option]]:
    """Return the options by section; `""` has those without one, which is the first."""
    sections = {name: section["options"] for name, section in _document()["sections"].items()}
    return {**sections, TRAINING: list(_training_options())}


def section_meanings() -> dict[str, str]:
    """Return what each section is about."""
    meanings = {name: section["meaning"] for name, section in _document()["sections"].items()}
    return {
        **meanings,
        TRAINING: "arguments of transformers' TrainingArguments, with the defaults of this package.",
    }


def recipe_option(word: str) -> str | None:
    """Return the full name of an option by its last part or a common name, as `--epochs`; None if there is none."""
    wanted = word.strip("-").replace("-", "_")
    wanted = _COMMON_NAMES.get(wanted, wanted)
    names = [option["name"] for entries in recipe_options().values() for option in entries]
    return next((name for name in names if wanted in (name, name.rpartition(".")[2])), None)


def naming_option(problem: AstHfError) -> AstHfError:
    """Return the error of an unknown option (E307) with the full name of the one that was meant, if there is one."""
    word = problem.where.rpartition(": ")[2].rpartition(".")[2]
    if problem.code != "E307" or problem.detail != "unknown" or not problem.fix.startswith("use one of"):
        return problem
    name = recipe_option(word) or _config_option(word)
    if name is None:
        return problem
    fix = f"did you mean {name!r}?"
    return error("E307", where=problem.where, what=problem.what, fix=fix, detail=problem.detail)


def _config_option(word: str) -> str | None:
    """Return the full name of a field of the model's config, such as `hidden_size`; None if there is none."""
    from ..configuration_ast import ASTConfig

    return f"model.config.{word}" if word in ASTConfig().to_dict() else None


@functools.cache
def _document() -> dict[str, Any]:
    return json.loads(_FILE.read_text(encoding="utf-8"))


def _training_options() -> Iterator[Option]:
    """Yield the arguments of the installed transformers' `TrainingArguments`, in its order."""
    rules = _document()[TRAINING]
    arguments = _training_class()
    docstring = ast.get_docstring(arguments, clean=False) or ""
    meanings = _meanings(docstring)
    stated = _stated_defaults(docstring)
    for node in arguments.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        name = node.target.id
        default = rules["defaults"].get(name, _default(node.value))
        if name.startswith("_") or default is None:
            continue
        meaning = rules["refused"].get(name) or meanings.get(name) or _help(node.value)
        yield {
            "name": f"{TRAINING}.{name}",
            "type": ast.unparse(node.annotation).strip("'"),
            "default": stated.get(name, default) if default.isidentifier() and default.islower() else default,
            "meaning": meaning,
        }


def _training_class() -> ast.ClassDef:
    """Return the class in the source of transformers; an empty one if it has another place there."""
    found = find_spec("transformers")
    folders = found.submodule_search_locations if found is not None else None
    path = Path(next(iter(folders or [""])), "training_args.py")
    source = path.read_text(encoding="utf-8") if path.is_file() else ""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments":
            return node
    return ast.ClassDef(name="", bases=[], keywords=[], body=[], decorator_list=[])


def _meanings(docstring: str) -> dict[str, str]:
    return {name: " ".join(text.split()) for name, _, text in _ARGUMENT.findall(f"{docstring}\n")}


def _stated_defaults(docstring: str) -> dict[str, str]:
    """Return the defaults that a docstring states, for those that the source computes."""
    stated = {
        name: kind.partition("defaults to ")[2].replace("`", "")
        for name, kind, _ in _ARGUMENT.findall(docstring)
    }
    return {name: text for name, text in stated.items() if text}


def _default(value: ast.expr | None) -> str | None:
    """Return the source of a default, None for a field that is not an argument."""
    if not isinstance(value, ast.Call):
        return None if value is None else ast.unparse(value).replace("'", '"')
    given = {keyword.arg: keyword.value for keyword in value.keywords}
    init = given.get("init")
    if isinstance(init, ast.Constant) and init.value is False:
        return None
    default = given.get("default")
    return "..." if default is None else ast.unparse(default).replace("'", '"')


def _help(value: ast.expr | None) -> str:
    """Return the help text of a field, for arguments that the docstring leaves out."""
    for node in ast.walk(value) if value is not None else ():
        if isinstance(node, ast.Dict):
            for key, text in zip(node.keys, node.values, strict=True):
                is_help = isinstance(key, ast.Constant) and key.value == "help"
                if is_help and isinstance(text, ast.Constant):
                    return " ".join(str(text.value).split())
    return ""
