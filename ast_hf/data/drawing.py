"""Random draws of whole groups of clips, each label in its share, for splits that are held out.

The draw depends on the names of the groups and on the seed, not on the order of the clips or on the machine. It
follows iterative stratification (Sechidis et al. 2011, "On the Stratification of Multi-Label Data"), with groups in
place of clips, and then moves single groups as long as that brings the shares nearer.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import AstHfError, error

#: Number of groups up to which several draws are compared: with few groups, one draw may be far from the shares.
_FEW = 2000
_DRAWS = 8

#: Passes over all groups that move single ones. Most draws need two.
_PASSES = 10

#: Least change of the cost that counts, above rounding errors.
_LEAST = 1e-12


@dataclass(frozen=True)
class _Unit:
    """Clips that stay together: their name, where they are, how many have each label, and both counts as a key."""

    key: str
    rows: tuple[int, ...]
    labels: Mapping[int, int]
    kind: tuple[Any, ...]


def draw_rows(
    labels: Sequence[Sequence[int]],
    groups: Sequence[str],
    fractions: Mapping[str, float],
    *,
    seed: int,
    label_names: Sequence[str],
    unit: str = "clip",
) -> dict[str, list[int]]:
    """Return the numbers of the clips of `train` and of each part, in ascending order.

    Every label that clips have stays in `train`. Shares are met as far as the groups allow.

    Args:
        labels: label indices of each clip.
        groups: group of each clip, all of which is in one part.
        fractions: part -> share of all clips, each in (0, 1); drawn in this order.
        seed: seed of the draw.
        label_names: names of the labels, for messages.
        unit: what a group is, for messages: `"value of 'speaker'"`.

    Raises:
        AstDataError: E209 if there are fewer groups than parts, or if every group has the only clips of a label.
    """
    units = _units(labels, groups)
    if len(units) <= len(fractions):
        have = f"{len(units)} {unit}{'' if len(units) == 1 else 's'}"
        what = f"{have} cannot fill train and {' and '.join(fractions)}"
        raise _impossible(next(iter(fractions)), what)
    rest = units
    parts = {}
    for number, (name, fraction) in enumerate(fractions.items()):
        draw = _Draw(rest, units, fraction, len(fractions) - number)
        seeds = [f"{seed} {name} {trial}" for trial in range(_DRAWS if len(units) <= _FEW else 1)]
        candidates = [draw.draw(text) for text in seeds]
        chosen = min(candidates, key=lambda found: (found[1], found[2]))[0]
        if not chosen:
            raise _no_group_is_free(name, draw, label_names, unit)
        parts[name] = sorted(row for unit_ in rest if unit_.key in chosen for row in unit_.rows)
        rest = [unit_ for unit_ in rest if unit_.key not in chosen]
    return {"train": sorted(row for unit_ in rest for row in unit_.rows), **parts}


def _units(labels: Sequence[Sequence[int]], groups: Sequence[str]) -> list[_Unit]:
    """Return the groups, sorted by name, each with its labels sorted: sums of floats depend on the order."""
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    units = []
    for key in sorted(rows):
        found = Counter(index for row in rows[key] for index in set(labels[row]))
        counts = dict(sorted(found.items()))
        kind = (len(rows[key]), *counts.items())
        units.append(_Unit(key, tuple(rows[key]), counts, kind))
    return units


class _Draw:
    """A part that is drawn from the groups that are left.

    Args:
        rest: groups that are in no other part.
        units: all groups, of which `fraction` is wanted.
        fraction: share of the clips.
        needed: number of parts that are still to be filled, with this one; train needs one more group.
    """

    def __init__(self, rest: Sequence[_Unit], units: Sequence[_Unit], fraction: float, needed: int) -> None:
        self.rest = rest
        self.counts = Counter[int]()
        for unit in units:
            self.counts.update(unit.labels)
        self.left = Counter[int]()
        for unit in rest:
            self.left.update(unit.labels)
        self.holders = Counter(index for unit in rest for index in unit.labels)
        self.clips = sum(len(unit.rows) for unit in units)
        self.fraction = fraction
        self.most = len(rest) - needed
        self.taken = Counter[int]()
        self.size = 0
        self._refused: set[tuple[Any, ...]] = set()

    def draw(self, seed: str) -> tuple[set[str], int, float]:
        """Return the names of drawn groups, the labels that could be there and are not, and the cost."""
        order = sorted(self.rest, key=lambda unit: _digest(seed, unit.key))
        by_rarity = sorted(
            order, key=lambda unit: min((self.holders[index] for index in unit.labels), default=0)
        )
        self.taken = Counter()
        self.size = 0
        self._refused = set()
        chosen: set[str] = set()
        for unit in by_rarity:
            if len(chosen) < self.most and self._helps(unit, 1, counts_size=False):
                self._move(unit, chosen)
        for _ in range(_PASSES):
            if not self._improve(order, chosen):
                break
        if not chosen:
            free = [unit for unit in order if self._is_free(unit)]
            if free:
                self._move(min(free, key=lambda unit: self._gain(unit, 1)), chosen)
        missing = sum(1 for index, count in self.holders.items() if count > 1 and not self.taken[index])
        return chosen, missing, self._cost()

    def _improve(self, order: Sequence[_Unit], chosen: set[str]) -> bool:
        """Move single groups that bring the shares nearer; return False if there were none."""
        is_changed = False
        for unit in order:
            if unit.key in chosen:
                moves = len(chosen) > 1 and self._helps(unit, -1)
            else:
                moves = len(chosen) < self.most and self._helps(unit, 1)
            if moves:
                self._move(unit, chosen)
                is_changed = True
        return is_changed

    def _helps(self, unit: _Unit, sign: int, *, counts_size: bool = True) -> bool:
        """Return True if adding (`sign` 1) or removing (-1) a group brings the shares nearer.

        Groups of the same kind have the same answer until one is moved.
        """
        question = (unit.kind, sign, counts_size)
        if question in self._refused:
            return False
        is_free = sign < 0 or self._is_free(unit)
        if is_free and self._gain(unit, sign, counts_size=counts_size) < -_LEAST:
            return True
        self._refused.add(question)
        return False

    def _is_free(self, unit: _Unit) -> bool:
        """Return True if all labels stay in the training split without a group."""
        return all(self.left[index] - self.taken[index] > count for index, count in unit.labels.items())

    def _gain(self, unit: _Unit, sign: int, *, counts_size: bool = True) -> float:
        """Return the change of the cost if a group is added (`sign` 1) or removed (-1)."""
        change = 0.0
        for index, count in unit.labels.items():
            before = self.taken[index] - self.fraction * self.counts[index]
            change += ((before + sign * count) ** 2 - before**2) / self.counts[index]
        if counts_size or not unit.labels:
            before = self.size - self.fraction * self.clips
            change += ((before + sign * len(unit.rows)) ** 2 - before**2) / self.clips
        return change

    def _cost(self) -> float:
        """Return the squared distances from the shares, of each label and of all clips."""
        labels = (
            (self.taken[index] - self.fraction * count) ** 2 / count for index, count in self.counts.items()
        )
        return sum(labels) + (self.size - self.fraction * self.clips) ** 2 / self.clips

    def _move(self, unit: _Unit, chosen: set[str]) -> None:
        """Add a group, or remove it."""
        sign = -1 if unit.key in chosen else 1
        for index, count in unit.labels.items():
            self.taken[index] += sign * count
        self.size += sign * len(unit.rows)
        self._refused.clear()
        chosen ^= {unit.key}


def _digest(seed: str, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{key}".encode("utf-8", "surrogatepass")).digest()


def _no_group_is_free(name: str, draw: _Draw, label_names: Sequence[str], unit: str) -> AstHfError:
    """Return the E209 for a part that no group can be in."""
    if draw.most < 1:
        return _impossible(name, f"too few groups ({unit}s) are left for it and train")
    rarest = min(draw.holders, key=lambda index: (draw.holders[index], index))
    what = f"every {unit} has the only clips of a label, such as {label_names[rarest]!r}, which train needs"
    return _impossible(name, what)


def _impossible(name: str, what: str) -> AstHfError:
    fix = "add clips, group them by something else or not at all, or give the split as data"
    return error("E209", where=f"{name}_fraction", what=f"cannot hold out clips: {what}", fix=fix)
