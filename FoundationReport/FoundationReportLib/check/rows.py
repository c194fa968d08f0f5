# SPDX-License-Identifier: Apache-2.0
"""What the words around a mention say: looks along a row of mentions, and which of two counts is kept."""

from __future__ import annotations

from .claims import Claim, Count
from .mentions import Mention


def of_places(bag: Claim, row: list[Mention], n: int) -> bool:
    """Whether "each" or "all" is said of a place, not of findings: "a stone in each kidney"; "each renal stone"."""
    rest = [m.kind for m in row[n + 1 :] if m.kind not in ("NEUTRAL", "DET")]
    return rest[:1] == ["SITE"] and rest[1:2] != ["FIND"] and (bool(bag.finding) or row[n].text.lower() != "all")


def narrower(old: Count | None, new: Count) -> Count:
    """Which of two counts of a thing is kept: the exact one, else what says more ("at least five scattered")."""
    if old is None or new.op == "=":
        return new
    if old.op == "=":
        return old
    if old.op == new.op:
        pick = max if new.op == ">=" else min
        return pick(old, new, key=lambda count: count.n)
    return old if new.op == ">=" else new


def of_the(row: list[Mention], n: int) -> bool:
    """ "two of the three": whether "of" stands between two counts."""
    for mention in reversed(row[:n]):
        if mention.kind == "COUNT":
            return any(m.text.lower() == "of" for m in row[row.index(mention) : n])
        if mention.kind not in ("NEUTRAL", "DET"):
            return False
    return False


def than_follows(rest: list[Mention]) -> bool:
    """Whether "than" comes next, at most a quantity or a property away ("higher uptake than")."""
    for mention in rest:
        if mention.kind == "THAN":
            return True
        if mention.kind not in ("NEUTRAL", "DET", "SKIP", "UPTAKE", "QUANTITY", "DENSITY", "AVID"):
            return False
    return False


def ranging(mention: Mention) -> bool:
    return "-" in mention.text or "\u2013" in mention.text
