"""Mutants of the shipped recipes: each is read, or refused with our error; none hangs, crashes or runs anything.

Bytes are flipped, cut and repeated; values are replaced by others of every kind. The seed is fixed.
"""

from __future__ import annotations

import copy
import math
import random
import signal
import subprocess
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from ast_hf import AstHfError
from ast_hf.recipe.arguments import build_arguments
from ast_hf.training import Recipe, load_recipe

from .cases import FULL, record

RECIPES = sorted((ROOT / "examples" / "recipes").glob("*.yaml"))
MUTANTS = 20_000 if FULL else 1_500
SEED = 17
#: Longest time of one mutant, in seconds.
LIMIT = 10

NESTED: Any = []
for _ in range(40):
    NESTED = [NESTED]

#: Values that replace others.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 1.5, -0.0, 1e-300, 1e300, 2**31, 2**63, 10**30, -(10**30)),
    *(
        math.nan,
        math.inf,
        -math.inf,
        "",
        "x",
        "no",
        "1e-4",
        "\x1b[2J",
        "\u202e",
        "../../x",
        "/dev/null",
        "a" * 5_000,
    ),
    *(
        [],
        {},
        [None],
        [1, "a"],
        {"a": 1},
        {"a": {"b": []}},
        {1: 2},
        NESTED,
        b"bytes",
        "{{1}}",
        "$(id)",
        "!!python/none",
    ),
)
#: Pieces of YAML that are written into the text.
PIECES = (
    *(
        b"&a ",
        b"*a",
        b"<<: *a\n",
        b"!!python/object/apply:os.system ['id']",
        b"!!binary ",
        b"!!set ",
        b"? ",
        b"- ",
    ),
    *(
        b"[" * 50,
        b"{" * 50,
        b"\t",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"---\n",
        b"...\n",
        b"%YAML 9.9\n",
        b": ",
        b"'",
        b'"',
    ),
    *(
        b".nan",
        b"1:30",
        b"0x" + b"f" * 300,
        b"2026-11-28",
        b"\r",
        b"\xe2\x80\xa8",
        b"|\n",
        b">-\n",
        b"no",
        b"~",
    ),
)


def changed_bytes(text: bytes, random: random.Random) -> bytes:
    content = bytearray(text)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(content) + 1)
        kind = random.randrange(5)
        if kind == 0 and place < len(content):
            content[place] ^= 1 << random.randrange(8)
        elif kind == 1:
            content[place:place] = random.choice(PIECES)
        elif kind == 2:
            del content[place : place + random.randint(1, 60)]
        elif kind == 3:
            content[place:place] = content[place : place + random.randint(1, 200)] * random.randint(1, 5)
        else:
            content[place : place + random.randint(0, 8)] = random.choice(PIECES)
    return bytes(content)


def places(values: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key or index) of every value."""
    entries = values.items() if isinstance(values, dict) else enumerate(values)
    for key, entry in list(entries):
        yield values, key
        if isinstance(entry, (dict, list)):
            yield from places(entry)


def all_options() -> list[tuple[str, str]]:
    """Return (section, option) of every section of a recipe."""
    sections = {name: values for name, values in Recipe().to_dict().items() if isinstance(values, dict)}
    from transformers import TrainingArguments

    names = [("training", name) for name in TrainingArguments.__dataclass_fields__]
    return [(section, name) for section, values in sections.items() for name in values] + names * 2


def changed_values(values: dict[str, Any], options: list[tuple[str, str]], random: random.Random) -> bytes:
    values = copy.deepcopy(values)
    for _ in range(random.randint(1, 3)):
        if random.random() < 0.6:
            section, name = random.choice(options)
            values.setdefault(section, {})
            if isinstance(values[section], dict):
                values[section][name] = random.choice(VALUES)
        else:
            container, key = random.choice(list(places(values)))
            container[key] = random.choice(VALUES)
    return yaml.dump(values, allow_unicode=True, sort_keys=False).encode("utf-8", "replace")


def outcome_of(path: Path, folder: Path) -> str:
    """Return `accepted` or the code and detail of the error; any other exception is raised."""
    try:
        recipe = load_recipe(path)
        recipe.to_yaml()
        build_arguments({"report_to": "none", **recipe.training}, folder)
    except AstHfError as problem:
        return checked(problem)
    return "accepted"


def checked(problem: AstHfError) -> str:
    """Return the code and detail of an error, whose message is one line of limited length."""
    text = str(problem)
    assert "\n" not in text
    assert len(text) < 10_000, text
    return f"{problem.code} {problem.detail}"


def too_long(*_: Any) -> None:
    raise TimeoutError(f"a mutant took more than {LIMIT} s")


def test_mutants_are_read_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **_: Any) -> Any:
        raise AssertionError(f"a recipe started a process: {arguments}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr("os.system", refuse)
    random_numbers = random.Random(SEED)
    texts = [path.read_bytes() for path in RECIPES]
    contents = [yaml.safe_load(text) for text in texts]
    options = all_options()
    outcomes: Counter[str] = Counter()
    path = tmp_path / "recipe.yaml"
    previous = signal.signal(signal.SIGALRM, too_long)
    slowest = 0.0
    try:
        for number in range(MUTANTS):
            source = random_numbers.randrange(len(texts))
            if number % 2:
                path.write_bytes(changed_bytes(texts[source], random_numbers))
            else:
                path.write_bytes(changed_values(contents[source], options, random_numbers))
            signal.alarm(LIMIT)
            started = time.monotonic()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    outcomes[outcome_of(path, tmp_path / "out")] += 1
                except BaseException as problem:
                    pytest.fail(f"mutant {number}: {problem!r}\n{path.read_bytes()[:3_000]!r}")
            slowest = max(slowest, time.monotonic() - started)
            signal.alarm(0)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert outcomes["accepted"] > MUTANTS / 50
    assert outcomes["E307 range"] > MUTANTS / 100
    record("Mutants of recipes", mutants=MUTANTS, seed=SEED, slowest_seconds=round(slowest, 2), **outcomes)
