# SPDX-License-Identifier: Apache-2.0
"""Collects subjects, facts and warnings, and numbers the facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .. import __version__
from ..model import Fact, Facts, Source, Subject
from .quantities import QUANTITIES

Value = float | int | str | bool

_NAMED = 5  # subjects that a warning names; the others it counts


@dataclass
class Builder:
    """Facts under construction.

    Attributes:
        subjects: by id, in order of appearance.
        volume: fingerprint of the image, which goes into every source.
        frame_uid: DICOM frame of reference; empty where nobody says.
        models: of a subject's id the (model, revision) that drew its segment.
    """

    volume: str
    frame_uid: str = ""
    subjects: dict[str, Subject] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    models: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(
        self,
        subject: str,
        quantity: str,
        value: Value,
        method: str,
        *,
        unit: str | None = None,
        of: str = "",
        exhaustive: bool = False,
        because: Iterable[str] = (),
        by: str = "algorithm",
        slice_k: int | None = None,
        points: Iterable[tuple[float, float, float]] = (),
        prior: str = "",
    ) -> str:
        """Adds a fact and returns its id. `unit`: the quantity's own unless another is given."""
        listed = QUANTITIES[quantity]
        model, revision = self.models.get(subject, ("", ""))
        fact = Fact(
            id=f"f{len(self.facts) + 1}",
            subject=subject,
            quantity=quantity,
            value=value if isinstance(value, bool | int | str) else round(float(value), 6) + 0.0,
            unit=listed.unit if unit is None else unit,
            of=of,
            exhaustive=exhaustive,
            because=tuple(because),
            code=listed.code,
            source=Source(
                method=method,
                version=__version__,
                by=by,
                volume=self.volume,
                prior=prior,
                model=model,
                revision=revision,
                slice_k=slice_k,
                points=tuple((round(r, 3) + 0.0, round(a, 3) + 0.0, round(s, 3) + 0.0) for r, a, s in points),
            ),
        )
        self.facts.append(fact)
        return fact.id

    def warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def update(self, subject: str, **changes: str) -> None:
        """Replaces fields of a subject ("region", "organ", "side")."""
        self.subjects[subject] = replace(self.subjects[subject], **changes)  # type: ignore[arg-type]

    def find(self, subject: str, quantity: str, of: str | None = None) -> Fact | None:
        """The first such fact; None if there is none."""
        return next(
            (f for f in self.facts if f.subject == subject and f.quantity == quantity and of in (None, f.of)), None
        )

    def build(self, modality: str, study: Mapping[str, str]) -> Facts:
        return Facts(
            subjects=tuple(self.subjects.values()),
            facts=tuple(self.facts),
            modality=modality,
            study=dict(study),
            warnings=tuple(self.warnings),
        )


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names in quotation marks for a warning: '"a", "b" and "c"', of many the first and how many others."""
    quoted = [f'"{name}"' for name in names]
    if len(quoted) > _NAMED:
        quoted = [*quoted[: _NAMED - 1], f"{len(quoted) - _NAMED + 1} others"]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"
