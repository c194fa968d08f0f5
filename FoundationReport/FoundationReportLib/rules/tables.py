# SPDX-License-Identifier: Apache-2.0
"""Decision tables: rows of conditions, read from the top, the first that holds gives the outcome.

Where an input is not known, every value that makes a difference is tried. What comes out of it is what is still
possible, and which inputs have to be known to decide; nothing is assumed in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Value = float | str | bool
NOT_COVERED = ""
"""The outcome where the rule does not apply, or has no row for the case."""


@dataclass(frozen=True)
class Interval:
    """Bounds of a number; None is open."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        return not (
            (self.at_least is not None and value < self.at_least)
            or (self.above is not None and value <= self.above)
            or (self.at_most is not None and value > self.at_most)
            or (self.below is not None and value >= self.below)
        )

    @property
    def bounds(self) -> tuple[float, ...]:
        return tuple(b for b in (self.at_least, self.above, self.at_most, self.below) if b is not None)


Condition = Interval | tuple[Value, ...]


@dataclass(frozen=True)
class Row:
    """`when`: conditions by input, all of which have to hold."""

    when: Mapping[str, Condition]
    outcome: str


@dataclass(frozen=True)
class Table:
    """`choices`: the values that an input can have; an input that is not in it is a number."""

    rows: tuple[Row, ...]
    choices: Mapping[str, tuple[Value, ...]]


@dataclass(frozen=True)
class Decision:
    """`possible`: outcomes in the table's order, one if it is decided; `needs`: inputs that would decide it."""

    possible: tuple[str, ...]
    needs: tuple[str, ...] = ()


def decide(table: Table, known: Mapping[str, Value]) -> Decision:
    """What the table says of what is known."""
    outcomes, needs = _explore(table, dict(known), 0)
    order = [*dict.fromkeys(row.outcome for row in table.rows), NOT_COVERED]
    inputs = dict.fromkeys(name for row in table.rows for name in row.when)
    return Decision(
        tuple(sorted(outcomes, key=order.index)),
        tuple(name for name in inputs if name in needs),
    )


def _explore(table: Table, known: dict[str, Value], start: int) -> tuple[set[str], set[str]]:
    """Outcomes and decisive inputs from row `start` on; rows before it are known not to hold."""
    for index in range(start, len(table.rows)):
        row = table.rows[index]
        unknown = None
        for name, condition in row.when.items():
            if name in known:
                if not _holds(condition, known[name]):
                    break
            elif unknown is None:
                unknown = name
        else:
            if unknown is None:
                return {row.outcome}, set()
            return _branch(table, known, unknown, index)
    return {NOT_COVERED}, set()


def _branch(table: Table, known: dict[str, Value], name: str, index: int) -> tuple[set[str], set[str]]:
    outcomes: set[str] = set()
    needs: set[str] = set()
    first: set[str] | None = None
    matters = False
    for value in _values(table, name):
        found, deeper = _explore(table, {**known, name: value}, index)
        matters = matters or (first is not None and found != first)
        first = found if first is None else first
        outcomes |= found
        needs |= deeper
    return outcomes, needs | {name} if matters else needs


def _values(table: Table, name: str) -> Iterator[Value]:
    """One value of each kind that the rows tell apart."""
    if name in table.choices:
        yield from table.choices[name]
        return
    conditions = (row.when[name] for row in table.rows if name in row.when)
    bounds = sorted(
        {bound for condition in conditions if isinstance(condition, Interval) for bound in condition.bounds}
    )
    yield from _around(bounds)


def _around(bounds: Sequence[float]) -> Iterator[float]:
    """The bounds, a number between each two, and one outside on either side."""
    for index, bound in enumerate(bounds):
        yield bound - 1 if index == 0 else (bounds[index - 1] + bound) / 2
        yield bound
    if bounds:
        yield bounds[-1] + 1


def _holds(condition: Condition, value: Value) -> bool:
    if isinstance(condition, Interval):
        return not isinstance(value, str) and condition.holds(float(value))
    return value in condition
