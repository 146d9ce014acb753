"""The fold that becomes the split `test`: how folds are named, found and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import AstHfError, error
from .option_spelling import option


def fold_name(value: Any) -> str:
    """Return the name of a fold, the same for 1, `"1"` and 1.0 (as pandas writes a column with gaps)."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return str(int(number)) if number.is_integer() else str(value)


@dataclass(frozen=True)
class FoldChoice:
    """One fold as the split `test`, all others as `train`.

    Attributes:
        test_fold: name of the fold, see `fold_name`.
        column: column that holds the fold of each clip.
    """

    test_fold: str
    column: str

    @classmethod
    def of(cls, test_fold: int | str | None, column: str) -> FoldChoice | None:
        """Return the choice for the arguments of `load_audio_dataset`, or None if `test_fold` is None."""
        return None if test_fold is None else cls(fold_name(test_fold), column)

    def split(self, row: Mapping[str, Any]) -> str:
        """Return `"test"` for a row of the test fold, else `"train"`."""
        return "test" if fold_name(row[self.column]) == self.test_fold else "train"

    def check_not_empty(self, folds: Iterable[Any]) -> None:
        """Raise E209 if none of the clips' folds is the test fold."""
        names = sorted({fold_name(fold) for fold in folds})
        if self.test_fold not in names:
            what = f"no clip is in fold {self.test_fold}, the folds are {', '.join(names)}"
            raise error("E209", where="test_fold", what=what, fix="name one of them")

    def missing_column(self, where: str, columns: Iterable[str]) -> AstHfError:
        """Return the E208 for a table or row without a fold."""
        what = f"has no column {self.column!r}; its columns are {', '.join(columns)}"
        return error("E208", where=where, what=what, fix=f"name the column with {option('fold_column')}")
