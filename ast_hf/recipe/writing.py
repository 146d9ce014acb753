"""YAML that recipes are written in: text such as `1e3`, which a recipe's reader takes for a number, is quoted."""

from __future__ import annotations

import re
from typing import Any

import yaml

#: Numbers of YAML 1.2 that PyYAML, which follows 1.1, reads and writes as text: 1e-4.
EXPONENTS = re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
EXPONENT_STARTS = "-+0123456789."


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes the text that `read_yaml` would read as a number."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENTS, list(EXPONENT_STARTS))


def yaml_text(value: Any, **options: Any) -> str:
    """Return plain values as YAML, in their order, that `read_yaml` reads back.

    Args:
        value: nested mappings, lists and plain values.
        options: of `yaml.dump`, such as `default_flow_style`.
    """
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **options))
