"""`ast-hf options`: list the options of a recipe."""

from __future__ import annotations

import argparse
import shutil
import textwrap

from ..errors import error
from .completion import recipe_sections
from .console import add_json_option, print_json, show
from .recipe_options import Option, recipe_options, section_meanings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    words = parser.add_argument(
        "about",
        nargs="*",
        metavar="SECTION|WORD",
        help="a section (data, training, ...), an option (data.source), or words to search for in names and meanings",
    )
    words.completer = recipe_sections  # type: ignore[attr-defined]  # argcomplete's attribute
    add_json_option(parser)


def run(options: argparse.Namespace) -> None:
    """Print the options of all sections, of one, or those that have all words in name or meaning."""
    found = find_options(options.about)
    if options.json:
        print_json(options, [option for entries in found.values() for option in entries])
        return
    meanings = section_meanings()
    for section, entries in found.items():
        show(f"{section or 'top level'}: {meanings[section]}\n")
        for option in entries:
            _show_option(option)
    if not options.about:
        show(
            "In a recipe, a section holds its options: `data:` above `source: DIR`. "
            "On the command line: --set NAME=VALUE."
        )


def find_options(words: list[str]) -> dict[str, list[Option]]:
    """Return options by section; raise E108 if no option has all the words.

    Args:
        words: none for all options; a section; the full name of an option; or words in any case.
    """
    every = recipe_options()
    if not words:
        return every
    if len(words) == 1 and words[0].strip(".") in every and words[0]:
        return {words[0].strip("."): every[words[0].strip(".")]}
    for is_match in (_is_named, _has_words):
        found = {
            name: [entry for entry in entries if is_match(entry, words)] for name, entries in every.items()
        }
        if any(found.values()):
            return {name: entries for name, entries in found.items() if entries}
    from ..errors import nearest

    text = " ".join(words)
    names = [*filter(None, every), *(entry["name"] for entries in every.values() for entry in entries)]
    near = nearest(text, names)
    fix = f"did you mean {near!r}?" if near else "search for another word, or leave it out for the whole list"
    raise error("E108", where=text, what="is in no name and no meaning of an option", fix=fix)


def _is_named(option: Option, words: list[str]) -> bool:
    return [option["name"]] == words


def _has_words(option: Option, words: list[str]) -> bool:
    text = f"{option['name']} {option['name'].replace('_', ' ')} {option['meaning']}".lower()
    return all(word.lower() in text for word in words)


def _show_option(option: Option) -> None:
    width = max(40, min(shutil.get_terminal_size((110, 24)).columns, 110))
    show(f"  {option['name']}  ({option['type']}, default {option['default']})")
    for line in option["meaning"].splitlines():
        show(textwrap.fill(line, width, initial_indent=" " * 6, subsequent_indent=" " * 6))
