"""Write api.md, recipe.md and cli.md next to this file, and `options.json` of the package: `make reference`.

The sources are the public names, their docstrings, the fields of `Recipe`, and the command-line parser. The pages do
not depend on the machine, the width of the terminal or the version of Python.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ForwardRef

import ast_hf
import ast_hf.training
from ast_hf import cli
from ast_hf.commands.console import argument_name, short_usage
from ast_hf.docstrings import docstring_sections, entries, joined
from ast_hf.recipe.option_reference import options_document, recipe_sections, section_options
from ast_hf.training import Recipe

FOLDER = Path(__file__).resolve().parent
OPTIONS_FILE = Path(ast_hf.__file__).parent / "recipe" / "options.json"
WIDTH = 100  # of a signature on one line
#: Kind of a parameter -> what precedes its name.
STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
NOTE = "<!-- Made by `make reference`; edit the source of this text, not this page. -->"

#: Heading of a docstring section, without its colon -> heading on the page.
SECTIONS = {
    "Args": "Arguments",
    "Attributes": "Attributes",
    "Returns": "Returns",
    "Yields": "Yields",
    "Raises": "Raises",
    "Example": "Example",
}
#: Sections that are lists of `name: text`.
LISTS = ("Args", "Attributes", "Raises")


def pages() -> dict[str, str]:
    """Return the text of every generated page by its file name."""
    return {"api.md": api_page(), "recipe.md": recipe_page(), "cli.md": cli_page()}


# Docstrings


def reflow(text: str) -> str:
    """Return prose with one line per paragraph and list item. Outside of code, HTML tags are escaped."""
    parts = re.split(r"(`[^`]*`)", joined(text))
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def item(head: str, text: str) -> str:
    """Return a list item, with nested lists indented under it."""
    return f"- {head}: " + reflow(text).replace("\n", "\n  ")


def prose(text: str | None) -> str:
    """Return a docstring without its sections, as Markdown."""
    return reflow(docstring_sections(text)[""])


def summary(text: str | None) -> str:
    """Return the first sentence of a docstring's first paragraph."""
    return re.split(r"(?<=[.?!])\s+(?=[A-Z`])", prose(text).split("\n")[0], maxsplit=1)[0]


def described(text: str | None, leave_out: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a docstring as Markdown blocks: its prose, then its sections."""
    sections = docstring_sections(text)
    yield reflow(sections.pop(""))
    for name, content in sections.items():
        if name in leave_out:
            continue
        yield f"**{SECTIONS[name]}**"
        if name == "Example":
            yield f"```pycon\n{content}\n```"
        elif name in LISTS:
            yield "\n".join(item(f"`{key}`", value) for key, value in entries(content).items())
        else:
            yield reflow(content)


# Signatures


def type_name(annotation: Any) -> str:
    """Return an annotation as it is written in the source."""
    if isinstance(annotation, ForwardRef):  # those of a NamedTuple
        annotation = annotation.__forward_arg__
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(typing|collections\.abc)\.", "", text)


def default_value(value: Any) -> str:
    """Return the source of a default; `...` for an object whose representation has an address."""
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}()"
    return "..." if " at 0x" in repr(value) else repr(value).replace("'", '"')


def field_default(field: dataclasses.Field[Any], *, call: bool) -> str | None:
    """Return the source of a field's default, None for a field without.

    Args:
        field: of a dataclass.
        call: call any factory. Otherwise only classes are called, and `...` replaces the values of other factories,
            which may differ from day to day.
    """
    if field.default is not dataclasses.MISSING:
        return default_value(field.default)
    factory = field.default_factory
    if factory is dataclasses.MISSING:
        return None
    return default_value(factory()) if call or isinstance(factory, type) else "..."


def parameters(subject: Callable[..., Any]) -> Iterator[str]:
    """Yield the parameters of a function or class, as they are written in the source.

    transformers' classes pass many parameters on to their subclasses, and these differ between its versions. So if a
    class documents `**kwargs` but does not have them, only its documented parameters are yielded.
    """
    documented = entries(docstring_sections(subject.__doc__).get("Args", ""))
    signature = inspect.signature(subject)
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    inherits = "**kwargs" in documented and inspect.Parameter.VAR_KEYWORD not in kinds
    keyword_only = False
    for name, parameter in signature.parameters.items():
        if name in ("self", "cls") or (inherits and name not in documented):
            continue
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            yield "*"
        keyword_only = keyword_only or parameter.kind is inspect.Parameter.VAR_POSITIONAL
        text = STARS.get(parameter.kind, "") + name
        if parameter.annotation is not inspect.Parameter.empty:
            text += f": {type_name(parameter.annotation)}"
        if parameter.default is not inspect.Parameter.empty:
            text += f" = {default_value(parameter.default)}"
        yield text
    if inherits:
        yield "**kwargs"


def fields(subject: type) -> Iterator[str]:
    """Yield the fields of a dataclass as parameters."""
    keyword_only = False
    for field in dataclasses.fields(subject):
        if field.kw_only and not keyword_only:
            keyword_only = True
            yield "*"
        default = field_default(field, call=subject in recipe_classes())
        yield f"{field.name}: {type_name(field.type)}" + ("" if default is None else f" = {default}")


def is_own_dataclass(subject: type) -> bool:
    """Return True for a dataclass that inherits nothing from other packages."""
    bases = inspect.getmro(subject)[:-1]
    return dataclasses.is_dataclass(subject) and all(base.__module__.startswith("ast_hf") for base in bases)


def has_constructor(subject: type) -> bool:
    """Return True if `__init__` or `__new__` is written in Python, so that `inspect` finds its parameters."""
    return any(inspect.isfunction(getattr(subject, name)) for name in ("__init__", "__new__"))


def signature(name: str, subject: Callable[..., Any]) -> str:
    """Return a signature as in the source, or `""` for a class without a constructor in Python."""
    returned = ""
    if not inspect.isclass(subject):
        names = list(parameters(subject))
        annotation = inspect.signature(subject).return_annotation
        if annotation is not inspect.Signature.empty:
            returned = f" -> {type_name(annotation)}"
    elif is_own_dataclass(subject):
        names = list(fields(subject))
    elif has_constructor(subject):
        names = list(parameters(subject))
    else:
        return ""
    line = f"{name}({', '.join(names)}){returned}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {text}," for text in names), f"){returned}"])


def code(text: str) -> str:
    """Return a block of Python. Marked `py`, because tests run the blocks that are marked `python`."""
    return f"```py\n{text}\n```" if text else ""


# api.md


@functools.cache
def recipe_classes() -> dict[type, str]:
    """Return the dataclasses of a recipe -> the name of their section, `""` for the recipe itself."""
    return {kind: name for name, kind in recipe_sections().items()}


def public_names(module: ModuleType) -> dict[str, Any]:
    """Return the public classes and functions of a module by name."""
    names = {name: getattr(module, name) for name in module.__all__}
    return {name: value for name, value in names.items() if callable(value)}


def members(subject: type, public: set[type]) -> Iterator[tuple[str, Any]]:
    """Yield the documented public methods and properties of a class, except those of its public bases."""
    seen: set[str] = set()
    for base in inspect.getmro(subject):
        if not base.__module__.startswith("ast_hf") or (base is not subject and base in public):
            continue
        for name, value in vars(base).items():
            function = getattr(value, "__func__", value)
            documented = inspect.isfunction(function) or isinstance(
                value, (property, functools.cached_property)
            )
            if documented and function.__doc__ and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, value


def member_entry(name: str, value: Any) -> Iterator[str]:
    """Yield a method or property of a class as Markdown blocks."""
    if isinstance(value, (property, functools.cached_property)):
        function: Any = value.fget if isinstance(value, property) else value.func
        annotation = inspect.signature(function).return_annotation
        typed = "" if annotation is inspect.Signature.empty else f": {type_name(annotation)}"
        yield code(f"{name}{typed}  # property")
    else:
        function = getattr(value, "__func__", value)
        decorator = f"@{type(value).__name__}\n" if isinstance(value, (classmethod, staticmethod)) else ""
        yield code(decorator + signature(name, function))
    yield from described(function.__doc__)


def api_page() -> str:
    """Return api.md: every public name with its signature and docstring."""
    modules = (ast_hf, ast_hf.training)
    public = {
        value for module in modules for value in public_names(module).values() if inspect.isclass(value)
    }
    blocks = [
        "# Public names",
        NOTE,
        "What `ast_hf` and `ast_hf.training` offer. Other modules may change without notice. Error codes such as "
        "E302 are explained in [errors.md](errors.md).",
    ]
    for module in modules:
        blocks += [f"## {module.__name__}", prose(module.__doc__)]
        names = public_names(module)
        blocks.append(
            "\n".join(f"- [`{name}`](#{name.lower()}): {summary(names[name].__doc__)}" for name in names)
        )
        for name, subject in names.items():
            blocks += [f"### {name}", *api_entry(name, subject, public)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def api_entry(name: str, subject: Any, public: set[type]) -> Iterator[str]:
    """Yield a public name as Markdown blocks."""
    if not inspect.isclass(subject):
        yield code(signature(name, subject))
        yield from described(subject.__doc__)
        return
    bases = [base.__name__ for base in subject.__bases__ if base in public]
    if bases:
        yield "Base: " + ", ".join(f"[`{base}`](#{base.lower()})" for base in bases)
    yield code(signature(name, subject))
    if subject in recipe_classes():
        section = recipe_classes()[subject]
        yield from described(subject.__doc__, leave_out=("Attributes",))
        yield f"Its fields are options of a recipe: [recipe.md](recipe.md{'#' + section if section else ''})."
    else:
        yield from described(subject.__doc__)
    for member, value in members(subject, public):
        yield f"#### {name}.{member}"
        yield from member_entry(member, value)


# recipe.md


def option_items(section: str) -> Iterator[str]:
    """Yield the options of a section that are not sections themselves."""
    for option in section_options(section):
        yield item(f"`{option.name}` (`{option.type}`, default `{option.default}`)", option.meaning)


def recipe_page() -> str:
    """Return recipe.md: every option of a recipe with its type, default and meaning."""
    meanings = entries(docstring_sections(Recipe.__doc__).get("Attributes", ""))
    sections = {name: kind for kind, name in recipe_classes().items() if name}
    blocks = [
        "# Recipe options",
        NOTE,
        "A recipe is a YAML file; [examples/recipes](../../examples/recipes) has some to start from. Sections nest: "
        "`data.source` is the option `source` of the section `data`. `ast-hf finetune ... --set OPTION=VALUE` changes "
        "an option on the command line, by its full name. An option that is left out has its default. In YAML, "
        "`None`, `True` and `False` are written `null`, `true` and `false`. An option that does not exist is an error "
        "(E307).",
        "The sections:",
        "\n".join(item(f"[`{name}`](#{name})", meanings[name]) for name in sections),
        "## Top level",
        "\n".join(option_items("")),
    ]
    for name, kind in sections.items():
        blocks += [f"## {name}", prose(kind.__doc__), "\n".join(option_items(name))]
    return "\n\n".join(blocks) + "\n"


# cli.md


def sentence(text: str) -> str:
    """Return a command's description with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def command_entry(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield a command as Markdown blocks: what it does, its usage, its arguments and options."""
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    yield f"## {name}"
    yield sentence(parser.description or "")
    yield f"```text\n{short_usage(parser)}\n```"
    yield "\n".join(argument_item(action) for action in actions)


def argument_item(action: argparse.Action) -> str:
    """Return an argument or option as a list item."""
    names = [f"`{argument_name(action)}`", *(f"`{other}`" for other in action.option_strings[1:])]
    required = " (required)" if action.option_strings and action.required else ""
    return item(" or ".join(names) + required, (action.help or "") % {"default": action.default})


def cli_page() -> str:
    """Return cli.md: every command with its usage and options."""
    parser = cli.build_parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    blocks = [
        "# Commands",
        NOTE,
        "`ast-hf COMMAND --help` shows the same in a terminal, and `ast-hf --version` the version. Hyphens and "
        "underscores in options are the same: `--top-k` and `--top_k`. An option may be shortened as long as it "
        "stays unique.",
        f"The exit code is 0 on success, 2 for a mistake on the command line, {cli.EXIT_DATA} for bad input and for "
        f"files that cannot be written (the message says what to do), {cli.EXIT_STOPPED} if a process of a run stopped "
        f"or was lost (the message has the command that continues), {cli.EXIT_IN_USE} when another run uses the "
        f"output folder, {cli.EXIT_UNPUBLISHED} "
        "when everything but the upload to the Hub is done (the message has the command that finishes it), and 128 "
        f"plus the number of a signal that stopped the command: {cli.EXIT_INTERRUPTED} for SIGINT (Ctrl-C), 143 for "
        "SIGTERM, 129 for SIGHUP. `finetune` and `demo` save the current step first, and print the command that "
        "continues ([Interrupted runs](../how-to/interrupted-runs.md)). Any other code is a bug.",
        "\n".join(
            item(f"[`{name}`](#{name})", command.description) for name, command in commands.choices.items()
        ),
    ]
    for name, command in commands.choices.items():
        blocks += command_entry(name, command)
    return "\n\n".join(blocks) + "\n"


def options_file() -> str:
    """Return the text of the file that `ast-hf options` reads."""
    return json.dumps(options_document(), indent=1) + "\n"


if __name__ == "__main__":
    OPTIONS_FILE.write_text(options_file(), encoding="utf-8")
    for file_name, page in pages().items():
        (FOLDER / file_name).write_text(page, encoding="utf-8")
