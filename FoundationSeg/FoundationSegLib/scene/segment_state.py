# SPDX-License-Identifier: Apache-2.0
"""What is known of a segment beyond the scene, and which model it is worked on with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..catalogue import model_card
from .outcome import EMPTY, Patch
from .rounds import Book

EDITED = -1  # a stamp that no labelmap has


@dataclass(frozen=True)
class ModelChoice:
    """Which model to run, and where."""

    name: str
    checkpoint: Path | None = None
    device: str = "auto"

    @property
    def takesMasks(self) -> bool:
        """Whether the model can go on from a mask. Raises ModelError for an unknown name."""
        return ":" in self.name or "mask" in model_card(self.name).prompts


@dataclass
class SegmentState:
    """What is known of a segment beyond the scene.

    Attributes:
        book: the rounds that the segment's voxels follow, with their markups.
        tag: the segment's tag as it was when `book` was made from it or stored in it.
        written: what the rounds come to; None if that is not known (the scene was loaded, or an undo history used).
        base: the model's own mask behind it.
        stamp: of the labelmap when it was the same as `written`, so that the same stamp means: nobody has edited.
        quality, reachesFace, warnings: what there is to say of the result.
    """

    book: Book = ()
    tag: str = ""
    written: Patch | None = None
    base: Patch = EMPTY
    stamp: int = EDITED
    quality: float | None = None
    reachesFace: bool = False
    warnings: tuple[str, ...] = ()
