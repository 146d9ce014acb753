"""The package under test, by AST_HF_PEER: `transformers` alone, `ast_hf`, or `transformers` with our classes in it."""

from __future__ import annotations

import os

import transformers

SIDE = os.environ["AST_HF_PEER"]

if SIDE == "stock":
    package = transformers
else:
    import ast_hf

    package = ast_hf
    if SIDE == "replaced":
        ast_hf.register(replace_names=True)
        package = transformers
