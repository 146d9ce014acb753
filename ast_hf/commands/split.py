"""`ast-hf split`: hold out validation and test clips of a data set, and write a table that names them."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import did_you_mean, error
from ..files import write_text
from ..printing import printable
from ..writing_failures import check_file
from .console import STDOUT, add_json_file_option, finite, print_json, quiet_transformers, show
from .data_options import DATA_HELP, add_reading_options, reading_arguments

if TYPE_CHECKING:
    from datasets import DatasetDict

    from ..data.grouping import GroupSearch
    from ..data.split_tables import SplitTable

#: Labels that are printed; `--json` has all.
_MOST_LABELS = 40

#: Share of the clips that may be held out at most, as in recipes.
_MOST_HELD_OUT = 0.9


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("data", help=DATA_HELP)
    parser.add_argument(
        "--output", required=True, metavar="TABLE", help="the table to write: .csv, .tsv, .jsonl or .json"
    )
    parser.add_argument(
        "--validation",
        type=finite,
        default=0.15,
        help="share to hold out for validation (default: %(default)s)",
    )
    parser.add_argument(
        "--test", type=finite, default=0.15, help="share to hold out for test (default: %(default)s)"
    )
    parser.add_argument(
        "--group",
        default="auto",
        metavar="COLUMN|auto|none",
        help="column whose values (speaker, recording) stay together; auto looks for one, and in the names of the "
        "files; none draws clip by clip (default: %(default)s)",
    )
    parser.add_argument(
        "--group_pattern",
        metavar="REGEX",
        help="regular expression that finds the group in each path, in parentheses",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default: %(default)s)")
    parser.add_argument(
        "--redraw",
        action="store_true",
        help="put the clips of all splits together first, instead of keeping them",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the table if it exists")
    add_json_file_option(parser)
    add_reading_options(parser)


def run(options: argparse.Namespace) -> None:
    """Write the table, and print how many clips and groups of each label are in each split."""
    output = Path(options.output).expanduser()
    _check_request(options, output)
    from ..data.holding_out import hold_out_parts, select_parts
    from ..data.split_tables import write_split_table

    quiet_transformers()
    splits = _read(options)
    fractions = {"test": options.test, "validation": options.validation}
    fractions = {name: share for name, share in fractions.items() if share and name not in splits}
    if not fractions:
        what = f"the data have the splits {', '.join(splits)} already, so that nothing is held out"
        fix = "train with these, or put all clips together first with --redraw"
        raise error("E209", where=repr(options.data), what=what, fix=fix)
    if "train" not in splits:
        what = f"has no split 'train' to hold clips out of, only {', '.join(splits)}"
        raise error("E209", where=repr(options.data), what=what, fix="put all clips together with --redraw")
    search, choice = _find_groups(options, splits)
    parts = hold_out_parts(splits["train"], fractions, seed=options.seed, **choice)
    splits = _divided(splits, select_parts(splits["train"], parts))
    table = write_split_table(output, splits, _group_values(splits, choice), list(fractions))
    _show(table, search, choice)
    if options.json:
        report = {**table.to_dict(), "group": choice, "reason": _reason(search, choice), "seed": options.seed}
        if options.json == STDOUT:
            print_json(options, report)
        else:
            write_text(Path(options.json), json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def _check_request(options: argparse.Namespace, output: Path) -> None:
    """Raise E108 and E401 for options that cannot be met, before the data are read."""
    shares = {"--validation": options.validation, "--test": options.test}
    for name, share in shares.items():
        if not 0 <= share <= _MOST_HELD_OUT:
            fix = f"give a share of the clips, 0..{_MOST_HELD_OUT}"
            raise error("E108", where=name, what=f"{share:g} is out of range", fix=fix)
    if not 0 < sum(shares.values()) <= _MOST_HELD_OUT:
        what = f"hold out {sum(shares.values()):g} of the clips"
        fix = f"hold out more than 0 and at most {_MOST_HELD_OUT}"
        raise error("E108", where="--validation and --test", what=what, fix=fix)
    if options.group_pattern and options.group not in ("auto", "none"):
        raise error(
            "E108", where="--group_pattern", what="is set, and --group names a column", fix="give one of them"
        )
    if options.window_seconds is not None:
        what = "cuts recordings into windows, which a table of clips cannot hold"
        fix = (
            "set data.test_fraction and data.validation_fraction in a recipe; they hold out whole recordings"
        )
        raise error("E108", where="--window_seconds", what=what, fix=fix)
    if output.suffix.lower() not in (".csv", ".tsv", ".jsonl", ".json"):
        fix = "name it with .csv, .tsv, .jsonl or .json"
        raise error("E108", where="--output", what=f"{str(output)!r} is not the name of a table", fix=fix)
    if output.exists() and not options.overwrite:
        fix = "name another file, or replace it with --overwrite"
        raise error("E108", where="--output", what=f"{str(output)!r} exists", fix=fix)
    check_file(output)
    if options.json not in (None, STDOUT):
        check_file(options.json, makes_folder=False)


def _read(options: argparse.Namespace) -> DatasetDict:
    """Return the splits of the data, which must be files on this machine."""
    from datasets import DatasetDict

    from ..data.catalog import find_data_set
    from ..data.reading import load_audio_dataset
    from ..data.sources import is_local
    from ..data.split_tables import merge_splits

    arguments = {**find_data_set(options.data), **reading_arguments(options)}
    source = arguments["source"]
    if isinstance(source, str) and not is_local(source):
        what = "is a data set on the Hub, and a table names files on this machine"
        fix = "download its files, or set data.test_fraction and data.validation_fraction in a recipe"
        raise error("E108", where=repr(source), what=what, fix=fix)
    splits = load_audio_dataset(**arguments)
    return DatasetDict(train=merge_splits(splits)) if options.redraw else splits


def _find_groups(
    options: argparse.Namespace, splits: DatasetDict
) -> tuple[GroupSearch | None, dict[str, Any]]:
    """Return what was searched for, and the arguments of `hold_out_parts` that keep the groups together."""
    import re

    from ..data.grouping import search_groups

    if options.group_pattern:
        try:
            re.compile(options.group_pattern)
        except re.error as problem:
            what = f"{options.group_pattern!r} is not a regular expression ({problem})"
            raise error("E108", where="--group_pattern", what=what, fix="correct it") from None
        return None, {"group_pattern": options.group_pattern}
    if options.group == "none":
        return None, {}
    if options.group != "auto":
        columns = sorted(set(next(iter(splits.values())).column_names) - {"audio"})
        if options.group not in columns:
            what = f"there is no column {options.group!r}"
            raise error("E108", where="--group", what=what, fix=did_you_mean(options.group, columns))
        return None, {"group_column": options.group}
    search = search_groups(splits)
    if search.found is None:
        return search, {}
    if search.found.column is not None:
        return search, {"group_column": search.found.column}
    return search, {"group_pattern": search.found.pattern}


def _divided(splits: DatasetDict, parts: DatasetDict) -> DatasetDict:
    """Return the splits with the parts of the training split."""
    from datasets import DatasetDict

    return DatasetDict({**splits, **parts})


def _group_values(splits: DatasetDict, choice: dict[str, Any]) -> dict[str, list[str]] | None:
    """Return split -> group of each clip, None without groups; raise E208 for a clip of a split without one."""
    from ..data.holding_out import group_values

    if not choice:
        return None
    return {name: group_values(split, **choice) for name, split in splits.items()}


def _reason(search: GroupSearch | None, choice: dict[str, Any]) -> str:
    """Return why clips stay together, or why none do, in words."""
    if search is not None and search.found is not None:
        return search.found.reason
    if "group_column" in choice:
        return f"column {choice['group_column']!r}, as --group says"
    if "group_pattern" in choice:
        return f"matches of {choice['group_pattern']!r} in the paths, as --group_pattern says"
    if search is None:
        return "none, as --group says: clips are drawn one by one"
    return "none found in columns and file names: clips are drawn one by one" + "".join(
        f"; {text}" for text in search.rejected
    )


def _show(table: SplitTable, search: GroupSearch | None, choice: dict[str, Any]) -> None:
    """Print the counts, the reason for the groups, and the next command."""
    has_groups = bool(choice)
    names = list(table.sizes)
    labels = list(dict.fromkeys(label for name in names for label in table.clips[name]))
    labels.sort()
    rows = [
        [
            printable(label),
            *(
                _count(table.clips[name].get(label, 0), table.groups[name].get(label, 0), has_groups)
                for name in names
            ),
        ]
        for label in labels[:_MOST_LABELS]
    ]
    total = sum(table.sizes.values())
    rows.append(
        ["all clips", *(_count(table.sizes[name], table.group_counts[name], has_groups) for name in names)]
    )
    rows.append(["share", *(f"{table.sizes[name] / total:.1%}" for name in names)])
    _print_table(["label", *map(printable, names)], rows)
    if len(labels) > _MOST_LABELS:
        show(f"... and {len(labels) - _MOST_LABELS} more labels; --json FILE writes all.")
    if has_groups:
        show("In brackets: groups.")
    show(f"\nGroups: {_reason(search, choice)}.")
    if has_groups:
        show(_divisions(table))
    elif search is not None:
        show(
            "If clips share a speaker, a recording or a source, results on clips drawn one by one are too good: "
            "name a column with --group, or the place in the file name with --group_pattern."
        )
    kept = [name for name in names if name not in (*table.drawn, "train")]
    if kept:
        show(f"Kept as the data have them: {', '.join(map(printable, kept))}; --redraw draws anew.")
    for name in names:
        missing = [label for label in labels if not table.clips[name].get(label)]
        if missing:
            listed = ", ".join(map(printable, missing[:5])) + (" ..." if len(missing) > 5 else "")
            kind = "label" if len(missing) == 1 else "labels"
            show(f"{printable(name)} has no clip of {len(missing)} {kind}: {listed}.")
    show(f"\nWritten: {table.path}")
    if "class_labels" in table.options:
        show(f"Its classes in their order: {table.options['class_labels']}")
    show(f"A recipe for it: {_recipe_command(table)}")
    show(f"Next: {_next_command(table)}")


def _count(clips: int, groups: int, has_groups: bool) -> str:
    return f"{clips} ({groups})" if has_groups else str(clips)


def _print_table(head: list[str], rows: list[list[str]]) -> None:
    """Print rows below a head, numbers to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        first = f"{row[0]:{widths[0]}}"
        cells = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        show("  ".join([first, *cells]))


def _divisions(table: SplitTable) -> str:
    """Return whether a group is in several splits, in words."""
    if not table.shared:
        return "No group is in two splits."
    return (
        f"The splits that the data have divide {table.shared} groups, which makes results on them too good; "
        "--redraw would keep them together."
    )


def _recipe_command(table: SplitTable) -> str:
    """Return a command that writes `recipe.yaml` for the table."""
    words = ["ast-hf", "new", str(table.path)]
    for name, value in table.options.items():
        words += [f"--{name}", value]
    return shlex.join(words)


def _next_command(table: SplitTable) -> str:
    """Return a command that trains on the table."""
    words = ["ast-hf", "finetune", "recipe.yaml", "--data", str(table.path)]
    for name, value in table.options.items():
        words += ["--set", f"data.{name}={json.dumps(value, ensure_ascii=False)}"]
    return shlex.join([*words, "--output", "outputs/model"])
