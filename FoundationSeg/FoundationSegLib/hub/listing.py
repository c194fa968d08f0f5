# SPDX-License-Identifier: Apache-2.0
"""The catalogue as a person looks through it: each model with its size, its terms, and where it stands here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..catalogue import ModelCard, model_cards
from ..resources import resource_folder
from . import licence
from .weights import on_disk

READY, HERE, ABSENT, YOUR_FILE, NOT_YET = "ready", "on disk", "to download", "needs your file", "not yet"


@dataclass(frozen=True)
class Entry:
    """A model and its state on this computer; nothing was imported or verified to find it out.

    Attributes:
        state: READY (comes with the program), HERE, ABSENT, YOUR_FILE or NOT_YET.
        path: of the weights where they are HERE.
        size_bytes: of what is downloaded, or of what comes with the program; None where it is not known.
        restrictions: the kinds of terms that restrict the use.
        accepted: the licence was accepted by this user.
    """

    card: ModelCard
    state: str
    path: Path | None
    size_bytes: int | None
    restrictions: tuple[str, ...]
    accepted: bool

    @property
    def usable(self) -> bool:
        """Whether it can be chosen without a download."""
        return self.state in (READY, HERE)

    @property
    def disk_bytes(self) -> int:
        """What removing the converted weights would free, the Hub's cache left out."""
        return self.path.stat().st_size if self.path is not None and self.path.is_file() else 0


def entries() -> list[Entry]:
    """All models, the embedded one first. Raises ModelError if a card or the lock file is damaged."""
    return [entry(card) for card in model_cards()]


def entry(card: ModelCard) -> Entry:
    """One model."""
    path = on_disk(card) if card.source == "hub" else None
    kinds = card.terms.get("kinds", [])
    return Entry(
        card=card,
        state=state(card, path),
        path=path,
        size_bytes=embedded_bytes() if card.source == "embedded" else card.size_bytes,
        restrictions=tuple(kind for kind in kinds if kind in licence.WARNINGS and kind != "none-found"),
        accepted=card.source != "hub" or licence.accepted(card),
    )


def state(card: ModelCard, path: Path | None) -> str:
    """`path` is `on_disk(card)`."""
    if card.source == "hub":
        return ABSENT if path is None else HERE
    return {"none": NOT_YET, "embedded": READY, "user": YOUR_FILE}[card.source]


def embedded_bytes() -> int:
    return sum(path.stat().st_size for path in resource_folder("Weights").glob("compact*"))
