"""Table E: recipes with values that no run can have, and files that are no recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .cases import Case

#: Values of `training:` that transformers accepts, and that fail later or mean something else.
ARGUMENTS: dict[str, Any] = {
    "learning_rate": [".nan", ".inf", "-1", "1e999", "fast", "null", "true", "1:30"],
    "weight_decay": [".nan", ".inf", "-0.1"],
    "warmup_steps": [".nan", "-1"],
    "max_grad_norm": [".nan", ".inf", "-1"],
    "adam_beta1": [".nan", "1", "-0.1"],
    "adam_beta2": ["2", ".inf"],
    "adam_epsilon": [".nan", "-1e-8"],
    "seed": ["1.5", "-1", "4294967296", "99999999999999999999999", "true", "null", "010"],
    "num_train_epochs": ["0", "-1", ".nan", ".inf", "1e12"],
    "max_steps": ["1.5", "-7", ".nan"],
    "per_device_train_batch_size": ["0", "-1", "1.5", "1000000000", "true"],
    "per_device_eval_batch_size": ["0", "-8"],
    "gradient_accumulation_steps": ["0", "-1", "0.5"],
    "dataloader_num_workers": ["-1", "1.5", "1000000"],
    "dataloader_prefetch_factor": ["0"],
    "logging_steps": ["0", "-1", "1.5", ".nan"],
    "save_total_limit": ["1.5"],
    "neftune_noise_alpha": [".nan"],
    "bf16": ["1", "'yes'"],
    "lr_scheduler_type": ["cosin", "3", "null"],
    "optim": ["adamv", "[adamw_torch]"],
    "eval_strategy": ["sometimes"],
    "log_level": ["loud"],
    "gradient_checkpointing_kwargs": ["[1]", "'{\"use_reentrant\"'"],
    "lr_scheduler_kwargs": ["[1]"],
    "label_names": ["labels"],
    "run_name": ["3", "2026-11-28"],
    "parallelism_config": ["{}"],
}

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"b{level}: &b{level} [{','.join([f'*b{level - 1}' if level else '*a'] * 9)}]\n" for level in range(9)
)

#: Contents of a file that is no recipe.
FILES: dict[str, str | bytes] = {
    "brackets nested 2,000 deep": "[" * 2_000,
    "brackets nested 20,000 deep": "[" * 20_000,
    "mappings nested 20,000 deep": "{a: " * 20_000,
    "lists nested 20,000 deep": "- " * 20_000,
    "aliases of aliases (billion laughs)": BOMB,
    "a list that contains itself": "model: {config: &a {b: *a}}",
    "an option twice": "name: a\nname: b",
    "merge of an anchor": "data: &a {source: x}\nmodel: {<<: *a}",
    "tab": "\tname: x",
    "NUL": "name: a\0b",
    "NUL in an escape": 'data: {source: "a\\0b"}',
    "half of a surrogate pair": 'name: "\\ud800"',
    "UTF-16": "name: x".encode("utf-16"),
    "binary": bytes(range(256)),
    "a list": "- name",
    "false": "false",
    "two documents": "name: a\n---\nname: b",
    "a tag of Python": "name: !!python/object/apply:os.system [id]",
    "an empty number": "averaging_decay: !!float ''",
    "6,000 digits": "averaging_decay: 0x" + "f" * 6_000,
    "no and yes as labels": "data: {drop_labels: [no, yes]}",
    "a split called no": "data: {source: {no: a.csv}}",
    "a time as a label": "data: {drop_labels: [1:30]}",
    "a date as a path": "data: {source: {train: 2026-11-28}}",
    "a milestone of -1": "optimization: {milestones: [-1]}",
    "a billion masks": "augmentation: {time_masks: 1000000000}",
    "more than a mebibyte": "name: " + "x" * 2_000_000,
}

#: Changes of `--set` that name no option or have no value.
CHANGES = (
    "",
    "=",
    "=3",
    "a..b=1",
    "training.=1",
    "training",
    "training.seed=[[[[",
    "training={}=3",
    "data=[1]",
)


def _load(value: tuple[Path, tuple[str, ...]]) -> Any:
    from ast_hf.training import load_recipe

    path, changes = value
    return load_recipe(path, changes)


def _stock(value: tuple[Path, tuple[str, ...]]) -> Any:
    """Return the section `training` as TrainingArguments, which is what transformers has for a recipe."""
    import yaml
    from transformers import TrainingArguments

    path, _ = value
    return TrainingArguments("out", report_to="none", **yaml.safe_load(path.read_text())["training"])


def written(content: str | bytes, *changes: str) -> Callable[[Path], tuple[Path, tuple[str, ...]]]:
    """Return a `prepare` that writes a recipe."""

    def prepare(folder: Path) -> tuple[Path, tuple[str, ...]]:
        path = folder / "recipe.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path, changes

    return prepare


def _is_default(recipe: Any) -> bool:
    return bool(recipe.name == "ast")


_VALUES = [(name, value) for name, values in ARGUMENTS.items() for value in values]

CASES = [
    *(
        Case(
            f"E20-{number}",
            f"{name}: {value}",
            written(f"training: {{{name}: {value}}}"),
            _load,
            "E307",
            _stock,
        )
        for number, (name, value) in enumerate(_VALUES, start=1)
    ),
    *(
        Case(f"E21-{number}", title, written(content), _load, "E307")
        for number, (title, content) in enumerate(FILES.items(), start=1)
    ),
    *(
        Case(f"E22-{number}", f"--set {change!r}", written("name: x", change), _load, "E307")
        for number, change in enumerate(CHANGES, start=1)
    ),
    Case("E23", "recipe that is a folder", lambda folder: (folder, ()), _load, "E307"),
    Case("E23-empty", "empty recipe", written(""), _load, _is_default),
    Case("E23-bom", "recipe with a byte order mark", written(b"\xef\xbb\xbfname: ast"), _load, _is_default),
]
