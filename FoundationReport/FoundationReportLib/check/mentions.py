# SPDX-License-Identifier: Apache-2.0
"""What a reader finds in a sentence: mentions, and the numbers among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..measure.quantities import Dimension
from .lexicon import Entry


@dataclass(frozen=True)
class Measure:
    """A number or some, in the base unit of its dimension (mm, mm2, mL, HU, SUV, %, days).

    Attributes:
        values: one, or two or three of "14 x 9 x 8 mm".
        dimension: None if no unit is written.
        to: the other end of "6 to 8 mm"; None otherwise.
        signed: written with a sign.
        decimals: digits after the point as written.
    """

    values: tuple[float, ...]
    dimension: Dimension | None
    to: float | None = None
    signed: bool = False
    decimals: int = 0
    factor: float = 1.0


@dataclass(frozen=True)
class Mention:
    """Something a sentence names, with its place in the text (characters)."""

    kind: str
    value: Any
    start: int
    end: int
    text: str = ""
    plural: bool = False
    others: tuple[Entry, ...] = ()


def free(start: int, end: int, taken: Iterable[tuple[int, int]]) -> bool:
    return all(end <= a or start >= b for a, b in taken)
