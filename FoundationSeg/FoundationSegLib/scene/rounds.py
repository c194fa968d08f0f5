# SPDX-License-Identifier: Apache-2.0
"""Which prompt belongs to which round, and how the rounds follow when a person adds, moves or removes prompts.

A round refines the result of the rounds before it, so their order is part of the result. This module keeps, for every
prompt of every round, the markup that it was read from. Nothing here knows the scene; a key names a markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..prompts import Box, Lasso, MaskPrompt, Point, Prompt, Round, Scribble, TextPrompt

Key = tuple[str, str]  # ID of a prompt node, and of a control point in it ("" for a prompt that is the whole node)

_SAME_MM = 1e-3  # markups that differ by less were not moved
_FILE_MM = 0.1  # what curves may differ by after a scene was saved and read again


@dataclass(frozen=True)
class Entry:
    """A prompt of a round.

    Attributes:
        prompt: as the model got it.
        key: of the markup that stands for it; None for one that has none (a mask).
        seen: what the markup read like when the prompt was taken from it.
    """

    prompt: Prompt
    key: Key | None = None
    seen: Prompt | None = None


Book = tuple[tuple[Entry, ...], ...]


def rounds_of(book: Book) -> tuple[Round, ...]:
    """The prompts alone, as the engine takes them and the segment's tag stores them."""
    return tuple(tuple(entry.prompt for entry in round_) for round_ in book)


def entries_of(book: Book) -> Iterator[Entry]:
    for round_ in book:
        yield from round_


def keys_of(book: Book) -> set[Key]:
    return {entry.key for entry in entries_of(book) if entry.key is not None}


def is_hand_edit(round_: Round) -> bool:
    """Whether the round is nothing but the segment as a person had edited it."""
    return len(round_) == 1 and isinstance(round_[0], MaskPrompt) and round_[0].positive


def last_hand_edit(rounds: tuple[Round, ...]) -> int | None:
    """Index of the last round that is a hand edit; None without one."""
    return next((n for n in range(len(rounds) - 1, -1, -1) if is_hand_edit(rounds[n])), None)


def follow(book: Book, present: Mapping[Key, Prompt]) -> Book:
    """The rounds that the markups ask for now.

    What was not touched stays as it was, to the bit. What was moved is moved in its round, what is gone is dropped, and
    what is new makes a round of its own at the end. Before a hand edit nothing can be moved, because the edited mask
    stands for all that came before: a prompt that is moved there joins the new round.
    """
    edit = last_hand_edit(rounds_of(book))
    result: list[tuple[Entry, ...]] = []
    new: list[Entry] = []
    for n, round_ in enumerate(book):
        kept: list[Entry] = []
        for entry in round_:
            if entry.key is None or (entry.key in present and alike(entry.seen, present[entry.key])):
                kept.append(entry)
            elif entry.key in present:
                moved = Entry(present[entry.key], entry.key, present[entry.key])
                (new if edit is not None and n < edit else kept).append(moved)
        if kept:
            result.append(tuple(kept))
    known = keys_of(book)
    new += [Entry(prompt, key, prompt) for key, prompt in present.items() if key not in known]
    return (*result, tuple(new)) if new else tuple(result)


def has_new_round(book: Book, goal: Book) -> bool:
    """Whether the last round of `goal` has prompts that are new, and not only moved."""
    known = keys_of(book)
    return bool(goal) and any(entry.key is not None and entry.key not in known for entry in goal[-1])


def pending_keys(book: Book, present: Mapping[Key, Prompt]) -> list[Key]:
    """Markups that the result does not follow yet: new and moved ones, in the order in which they are in the scene."""
    seen = {entry.key: entry.seen for entry in entries_of(book)}
    return [key for key, prompt in present.items() if key not in seen or not alike(seen[key], prompt)]


def adopt(rounds: tuple[Round, ...], book: Book, present: Mapping[Key, Prompt]) -> Book:
    """The book of rounds that came from elsewhere: from a file, or from an undo history.

    A prompt keeps the markup that it had in `book`; otherwise the first free markup that is alike is taken.
    """
    before = [entry for entry in entries_of(book) if entry.key in present]
    free = {key: prompt for key, prompt in present.items() if key not in keys_of(book)}

    def entry_for(prompt: Prompt) -> Entry:
        for entry in before:
            if entry.prompt == prompt:
                before.remove(entry)
                return entry
        for key, other in free.items():
            if alike(prompt, other, _FILE_MM):
                del free[key]
                return Entry(prompt, key, other)
        return Entry(prompt)

    return tuple(tuple(entry_for(prompt) for prompt in round_) for round_ in rounds)


def with_markup(book: Book, entry: Entry, key: Key, seen: Prompt) -> Book:
    """The book after a markup was made for an entry that had none."""
    return tuple(tuple(Entry(e.prompt, key, seen) if e is entry else e for e in round_) for round_ in book)


def needs_markup(entry: Entry) -> bool:
    """Whether a markup (for a name: a text node) can stand for the prompt and none does."""
    return entry.key is None and isinstance(entry.prompt, Point | Box | Scribble | Lasso | TextPrompt)


def alike(a: Prompt | None, b: Prompt | None, tolerance_mm: float = _SAME_MM) -> bool:
    """Whether two prompts are of one kind and sign and at one place."""
    if a is b:
        return True
    if a is None or b is None or type(a) is not type(b) or a.positive != b.positive:
        return False
    if isinstance(a, Point) and a == b:  # by far the most frequent case, and much faster than what follows
        return True
    if isinstance(a, Point) and isinstance(b, Point):
        return _near([a.ras], [b.ras], tolerance_mm)
    if isinstance(a, Box) and isinstance(b, Box):
        return _near(a.corners_ras, b.corners_ras, tolerance_mm)
    if isinstance(a, Scribble | Lasso) and isinstance(b, Scribble | Lasso):
        if len(a.points) == len(b.points):
            return _near(a.points, b.points, tolerance_mm)
        # Curves are sampled along their length, so that rounding in a file may change the number of points.
        return tolerance_mm > _SAME_MM and _near(_summary(a), _summary(b), 10 * tolerance_mm)
    return a == b


def _near(a: object, b: object, tolerance_mm: float) -> bool:
    return bool(np.allclose(np.asarray(a), np.asarray(b), rtol=0, atol=tolerance_mm))


def _summary(stroke: Scribble | Lasso) -> object:
    points = np.asarray(stroke.points)
    return np.stack([points[0], points.min(axis=0), points.max(axis=0)])
