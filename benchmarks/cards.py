"""Model cards of the checkpoints that the demo and the benchmarks write, generated from their results.

python -m benchmarks.cards           # write every card from model_cards/results
python -m benchmarks.cards --take    # first copy the results of the runs in outputs/
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ast_hf.training import write_card

FOLDER = Path(__file__).parent.parent / "model_cards"


class Source(NamedTuple):
    """Command that trains a checkpoint, and the folder it writes."""

    command: str
    folder: str


_LEARNING = "make bench-learning DATA=sets VIT=weights"
#: Name of a card -> its checkpoint. Those of the learning benchmark are our recipe with seed 0.
SOURCES = {
    "instruments": Source("make demo", "outputs/demo"),
    "esc10": Source(_LEARNING, "outputs/learning/esc10-final-recipe-5e-05-5-0"),
    "arabic-commands": Source(_LEARNING, "outputs/learning/arabic_commands-final-recipe-0.001-40-0"),
}

_PAGE = """\
# Model cards

Written by `make cards` from [results](results), which `make cards TAKE=1` copies from the output folders of the
commands below. They are the cards that `ast-hf push` would publish with each checkpoint. The checkpoints themselves are
not published: the commands train them.

| card | results | made by | {metric} on test | logistic regression |
|---|---|---|---|---|
{rows}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the cards and the page that lists them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cards", description=__doc__.split("\n")[0])
    parser.add_argument("--take", action="store_true", help="first copy the results of the runs in outputs/")
    if parser.parse_args(arguments).take:
        take_all(FOLDER)
    for path, text in pages(FOLDER).items():
        path.write_text(text, encoding="utf-8")
        print(path)


def take_all(folder: Path) -> None:
    """Copy the results and pictures of the checkpoints in outputs/."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    for name, source in SOURCES.items():
        home = Path(source.folder)
        if not (home / "results.json").is_file():
            print(f"{home} is not here: {name} stays as it is")
            continue
        shutil.copyfile(home / "results.json", folder / "results" / f"{name}.json")
        for picture in read(folder, name)["pictures"].values():
            shutil.copyfile(home / picture, folder / "results" / f"{name}-{picture}")


def pages(folder: Path) -> dict[Path, str]:
    """Return the path and text of every generated file."""
    stored = {name: read(folder, name) for name in SOURCES if (folder / "results" / f"{name}.json").is_file()}
    cards = {
        folder / f"{name}.md": str(write_card(results, SOURCES[name].folder, pictures=f"results/{name}-"))
        for name, results in stored.items()
    }
    rows = "\n".join(row(name, results) for name, results in stored.items())
    return {**cards, folder / "README.md": _PAGE.format(metric="accuracy", rows=rows)}


def row(name: str, results: dict[str, Any]) -> str:
    """Return one row of the list of cards."""
    files = f"[{name}]({name}.md) | [{name}.json](results/{name}.json)"
    accuracy = results["results"]["test"]["accuracy"]
    baseline = results["baseline"]["test"]
    return f"| {files} | `{SOURCES[name].command}` | {accuracy:.3f} | {baseline:.3f} |"


def read(folder: Path, name: str) -> dict[str, Any]:
    """Read the stored results of a card."""
    return json.loads((folder / "results" / f"{name}.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
