"""What a GPU would be given: operators of a block, reads for which the CPU would wait, passes of the front end."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ast_hf import feature_extraction_ast
from ast_hf.device_features import log_mel_padded

#: Operators that return a value of a tensor, or something that depends on one.
READS = ("item", "_local_scalar_dense", "nonzero", "is_nonzero", "equal", "allclose", "masked_select")
#: Operators that may copy to another device -> place of the argument that is copied from or to.
COPIES = {"_to_copy": 0, "copy_": -1}


class Operators(TorchDispatchMode):
    """Notes the operators of a block.

    Attributes:
        names: of all operators, in order.
        counts: number of calls of each operator that computes, which excludes views of existing memory.
        reads: names of those in `READS`.
        copies: names of those that copy from one device to another.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.counts: Counter[str] = Counter()
        self.reads: list[str] = []
        self.copies: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.names.append(name)
        aliases = [argument.alias_info for argument in func._schema.returns if argument.alias_info]
        if all(alias.is_write for alias in aliases):
            self.counts[str(func)] += 1
        if name in READS:
            self.reads.append(name)
        if name in COPIES and args[COPIES[name]].device != result.device:
            self.copies.append(name)
        return result


def note_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of clips of each pass over a batch by the feature extractor."""
    clips: list[int] = []

    def counted(batch: torch.Tensor, *rest: Any) -> torch.Tensor:
        clips.append(len(batch))
        return log_mel_padded(batch, *rest)

    monkeypatch.setattr(feature_extraction_ast, "log_mel_padded", counted)
    return clips
