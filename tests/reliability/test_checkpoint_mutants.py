"""Mutation of checkpoints: each mutant loads and computes, or is refused; none hangs, swells or runs code.

Mutants of config.json, preprocessor_config.json, safetensors headers and pickles are made from seeds: 1,500 in
the short tier, 20,000 in the long one. They are loaded in forked processes, some hundred in each.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import random
import resource
import shutil
import struct
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .cases import FULL, record
from .tiny_checkpoints import CONFIG, EXTRACTOR, PICKLE, WEIGHTS, auto, ours, pickled, write_checkpoint

MUTANTS = 20_000 if FULL else 1_500
#: Mutants of one process.
_BATCH = 125
#: Limits of one mutant: seconds of CPU time, and bytes of new memory.
_SECONDS = 10.0
_BYTES = 1 << 30

#: Values of other types, and of sizes that no field has.
_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 10**5, 10**9, 2**63, 10**400, 0.5, -0.0, 1e-300, 1e308),
    *(
        float("nan"),
        float("inf"),
        "",
        "x",
        "24",
        "gelu",
        "../x",
        "attacker/evil",
        "a\x1b[2J",
        "\u202e",
        "é" * 300,
    ),
    *([], [1], [[]], {}, {"a": 1}, {"0": "cat"}, ["cat", "dog", "owl"], {"__float__": "NaN"}),
]
#: Fields that transformers or peft interpret, and names of methods.
_NAMES = (
    *(
        "attn_implementation",
        "auto_map",
        "quantization_config",
        "num_labels",
        "dtype",
        "torch_dtype",
        "model_type",
    ),
    *(
        "rope_scaling",
        "per_layer_config",
        "label2id",
        "id2label",
        "output_attentions",
        "problem_type",
        "thresholds",
        "timeline",
    ),
    *(
        "temperature",
        "architectures",
        "configuration_files",
        "sub_configs",
        "to_dict",
        "_commit_hash",
        "return_dict",
    ),
    *("feature_extractor_type", "processor_class", "pruned_heads", "layer_types", "use_cache", "is_decoder"),
)
#: Exceptions that transformers' Auto classes document or raise for files of theirs that are damaged.
_OF_AUTO = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, ImportError)


def _place(content: Any, draw: random.Random) -> tuple[Any, Any]:
    """Return a container inside nested dicts and lists, and one of its keys."""
    while True:
        keys = list(content) if isinstance(content, dict) else range(len(content))
        key = draw.choice(list(keys))
        inner = content[key]
        if not isinstance(inner, (dict, list)) or not inner or draw.random() < 0.5:
            return content, key
        content = inner


def mutated_json(data: bytes, draw: random.Random) -> bytes:
    """Return JSON with up to three changes: values, names, nesting, missing fields, or bytes."""
    if draw.random() < 0.15:
        return mutated_bytes(data, draw)
    content = json.loads(data)
    for _ in range(draw.randint(1, 3)):
        kind = draw.random()
        container, key = _place(content, draw)
        if kind < 0.5:
            container[key] = copy.deepcopy(draw.choice(_VALUES))
        elif kind < 0.6:
            del container[key]
        elif kind < 0.8:
            content[draw.choice(_NAMES)] = copy.deepcopy(draw.choice(_VALUES))
        elif kind < 0.9 and isinstance(container[key], (int, float)):
            container[key] = container[key] * draw.choice((2, 10, -1, 1000))
        else:
            for _ in range(draw.choice((1, 5, 50))):
                container[key] = [container[key]]
        if not content:
            break
    return json.dumps(content).encode()


def mutated_bytes(data: bytes, draw: random.Random) -> bytes:
    """Return bytes with one to four of them changed, or cut, repeated or filled with others."""
    changed = bytearray(data)
    kind = draw.random()
    if kind < 0.6:
        for _ in range(draw.randint(1, 4)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    elif kind < 0.8:
        del changed[draw.randrange(len(changed)) :]
    else:
        place = draw.randrange(len(changed))
        changed[place:place] = changed[place : place + draw.randint(1, 200)] or b"x"
    return bytes(changed)


def mutated_header(data: bytes, draw: random.Random) -> bytes:
    """Return a safetensors file with another header: fields of a tensor, or bytes."""
    size = struct.unpack("<Q", data[:8])[0]
    header = data[8 : 8 + size]
    if draw.random() < 0.3:
        return mutated_bytes(data[: 8 + size], draw) + data[8 + size :]
    header = mutated_json(header, draw)
    length = len(header) if draw.random() < 0.9 else draw.choice((0, 1, 2**40, 2**63, size))
    return struct.pack("<Q", length) + header + data[8 + size :]


def mutated_archive(data: bytes, draw: random.Random) -> bytes:
    """Return a pickle's archive with changes near its records of names and sizes, or anywhere."""
    if draw.random() < 0.5:
        return mutated_bytes(data, draw)
    changed = bytearray(data)
    size = min(len(data), 8_000)  # data.pkl comes first, the directory last
    for _ in range(draw.randint(1, 6)):
        offset = draw.randrange(size)
        changed[offset if draw.random() < 0.7 else -1 - offset] = draw.randrange(256)
    return bytes(changed)


#: File -> its mutation, and the share of mutants.
_MUTATIONS: dict[str, tuple[Callable[[bytes, random.Random], bytes], float]] = {
    CONFIG: (mutated_json, 0.4),
    EXTRACTOR: (mutated_json, 0.2),
    WEIGHTS: (mutated_header, 0.2),
    PICKLE: (mutated_archive, 0.2),
}


def mutate(originals: Path, folder: Path, seed: int) -> str:
    """Write mutant number `seed` into an empty folder, and return the name of the changed file."""
    draw = random.Random(seed)
    names = list(_MUTATIONS)
    name = draw.choices(names, [_MUTATIONS[name][1] for name in names])[0]
    for path in (originals / ("pickled" if name == PICKLE else "plain")).iterdir():
        shutil.copy(path, folder)
    path = folder / name
    path.write_bytes(_MUTATIONS[name][0](path.read_bytes(), draw))
    return name


def _watch(events: list[str]) -> None:
    """Record what a mutant must not do: write, start processes, open connections, import its own code."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        is_write = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        is_null = event == "open" and str(arguments[0]) == os.devnull
        started = event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork")
        if (is_write and not is_null) or started or event == "socket.connect":
            events.append(f"{event} {arguments[0]}")

    sys.addaudithook(hook)


def _outcome(call: Callable[[Path], Any], folder: Path, allowed: tuple[type[BaseException], ...]) -> str:
    """Return `"computed"`, the code of an error of ours or its class, or a text that begins with `"BAD"`."""
    from ast_hf import AstHfError

    try:
        value = call(folder)
    except AstHfError as problem:
        return problem.code
    except allowed as problem:
        return type(problem).__name__
    except BaseException as problem:
        return f"BAD {type(problem).__name__}: {str(problem)[:200]}"
    is_good = isinstance(value, int) or bool(abs(value).max() < 1e30)
    return "computed" if is_good else "BAD not finite"


def _run_batch(originals: Path, root: Path, seeds: range, sender: Any) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    warnings.simplefilter("ignore")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * _BYTES, used + 4 * _BYTES))
    events: list[str] = []
    is_watched = False
    for seed in seeds:
        folder = root / str(seed)
        folder.mkdir()
        name = mutate(originals, folder, seed)
        if not is_watched:
            _watch(events)
            is_watched = True
        for call, allowed in ((ours, ()), (auto, _OF_AUTO)):
            events.clear()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            started = time.process_time()  # not wall time: the machine may be busy
            outcome = _outcome(call, folder, allowed)
            seconds = time.process_time() - started
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
            if events:
                outcome = f"BAD {events[:3]}"
            if seconds > _SECONDS or grown > _BYTES:
                outcome = f"BAD {seconds:.1f} s, {grown / 1e6:.0f} MB: {outcome}"
            sender.send((seed, name, call.__name__, outcome))
        shutil.rmtree(folder)
    sender.send(None)
    os._exit(0)


def _collect(originals: Path, root: Path, seeds: range) -> list[tuple[int, str, str, str]]:
    """Run a batch in a forked process, and return an outcome for each mutant and call."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_batch, args=(originals, root, seeds, sender))
    process.start()
    sender.close()
    outcomes: list[tuple[int, str, str, str]] = []
    try:
        while receiver.poll(20 * _SECONDS):
            outcome = receiver.recv()
            if outcome is None:
                break
            outcomes.append(outcome)
        else:
            outcomes.append((-1, "", "", f"BAD no answer after {outcomes[-1:]}"))
    except EOFError:
        outcomes.append((-1, "", "", f"BAD the process died after {outcomes[-1:]}"))
    process.kill()
    process.join()
    return outcomes


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("originals")
    for name in ("plain", "pickled"):
        write_checkpoint(folder / name)
    pickled()(folder / "pickled")
    ours(folder / "plain")  # imports what a load needs, before processes are forked
    auto(folder / "pickled")
    return folder


def test_every_mutant_computes_or_is_refused(originals: Path, tmp_path: Path) -> None:
    outcomes = []
    for first in range(0, MUTANTS, _BATCH):
        outcomes += _collect(originals, tmp_path, range(first, min(first + _BATCH, MUTANTS)))
    bad = [outcome for outcome in outcomes if outcome[3].startswith("BAD")]
    of_ours = [outcome[3] for outcome in outcomes if outcome[2] == "ours"]
    record(
        "Mutants of checkpoints",
        mutants=MUTANTS,
        computed=of_ours.count("computed"),
        refused=sum(outcome.startswith("E") for outcome in of_ours),
        bad=len(bad),
    )
    assert not bad, "\n".join(map(str, bad[:20]))
    assert len(of_ours) == MUTANTS
    assert {"computed", "E302", "E305", "E306"} <= {*of_ours}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
_EXAMPLES = settings(
    max_examples=2_000 if FULL else 200,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@_EXAMPLES
@given(
    values=st.dictionaries(
        st.sampled_from([*_NAMES, "hidden_size", "max_length", "patch_size"]), _JSON, max_size=4
    )
)
def test_any_configuration_is_built_or_refused(values: dict[str, Any]) -> None:
    from ast_hf import ASTConfig, AstHfError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            config = ASTConfig.from_dict({**values, "model_type": "audio-spectrogram-transformer"})
        except AstHfError:
            return
        again = ASTConfig.from_dict(json.loads(config.to_json_string()))
        assert again.num_labels == config.num_labels >= 1
        assert again.geometry == config.geometry


@_EXAMPLES
@given(
    values=st.dictionaries(
        st.sampled_from(["mean", "std", "max_length", "num_mel_bins", "x"]), _JSON, max_size=3
    )
)
def test_any_extractor_is_built_or_refused(values: dict[str, Any]) -> None:
    from ast_hf import ASTFeatureExtractor, AstHfError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            extractor = ASTFeatureExtractor.from_dict(values)
        except AstHfError:
            return
        assert ASTFeatureExtractor.from_dict(extractor.to_dict()).to_dict() == extractor.to_dict()
