"""Columns of decoded audio, `{"array": [...], "sampling_rate": 16000}`, as the audio files that splits hold."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Audio, Dataset, Features

from ..audio import load_audio
from ..errors import AstHfError, error, unreadable
from .splits import STORED

#: Fields without which samples cannot be read.
_FIELDS = frozenset({"array", "sampling_rate"})

#: Rows that are in memory at once.
_BATCH = 100

#: Head of a WAV file of one channel in float32: sizes, `fmt ` with format 3 (IEEE float), `data`.
_HEAD = struct.Struct("<4sI4s4sIHHIIHH4sI")


def is_decoded(value: Any) -> bool:
    """Return True for a cell, or for the feature of a column, that holds samples and their rate."""
    return isinstance(value, Mapping) and value.keys() >= _FIELDS


def with_files(column: Dataset, name: str, where: str) -> Dataset:
    """Return a column of decoded audio as WAV files, float32 and mono, in the cache of `datasets`.

    Reading them gives the samples that `load_audio` makes of the arrays, bit by bit. Raises the errors of
    `load_audio` with the row in `where`.
    """
    files = column.with_format("arrow").map(
        _encode_rows,
        with_indices=True,
        batched=True,
        batch_size=_BATCH,
        features=Features({name: STORED}),
        fn_kwargs={"name": name, "where": where},
    )
    return files.with_format(None).cast_column(name, Audio(decode=False))


def files_of_cells(cells: Sequence[Mapping[str, Any]], name: str, where: str) -> Dataset:
    """Return cells of decoded audio as the only column of a data set, as `with_files`."""
    fields = [*sorted(_FIELDS), "path"]
    try:
        stored = Dataset.from_dict({name: [{field: cell.get(field) for field in fields} for cell in cells]})
    except (pa.ArrowException, TypeError, ValueError) as problem:
        fix = 'write each cell as {"array": [0.1, ...], "sampling_rate": 16000}'
        raise unreadable("E208", where=f"{where} column {name!r}", problem=problem, fix=fix) from problem
    return with_files(stored, name, where)


def _encode_rows(table: pa.Table, numbers: list[int], *, name: str, where: str) -> pa.Table:
    cells = zip(table.column(name), numbers, strict=True)
    files = [_encode(cell, f"{where} row {number + 1}, column {name!r}") for cell, number in cells]
    return pa.table({name: pa.array(files, Features({name: STORED}).arrow_schema.field(name).type)})


def _encode(cell: pa.StructScalar, where: str) -> dict[str, Any]:
    """Return a cell as `datasets` stores audio, without bytes if it has no samples."""
    samples = cell["array"] if cell.is_valid else None
    if samples is None or not samples.is_valid:
        return {"bytes": None, "path": None}
    values = samples.values
    nested = pa.types.is_nested(values.type)
    array = values.to_pylist() if nested else values.to_numpy(zero_copy_only=False)
    rate = cell["sampling_rate"].as_py()
    try:
        waveform = load_audio({"array": array, "sampling_rate": rate}, rate or 16_000)
    except AstHfError as problem:
        raise error(
            problem.code, where=where, what=problem.what, fix=problem.fix, detail=problem.detail
        ) from problem
    path = cell["path"].as_py() if "path" in cell else None
    return {"bytes": _wave_file(waveform, int(rate)), "path": path}


def _wave_file(waveform: np.ndarray, rate: int) -> bytes:
    """Return the bytes of a WAV file; without a time stamp, so that equal samples are equal files."""
    samples = waveform.astype("<f4").tobytes()
    sizes = (16, 3, 1, rate, 4 * rate, 4, 32)
    head = _HEAD.pack(b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", *sizes, b"data", len(samples))
    return head + samples
