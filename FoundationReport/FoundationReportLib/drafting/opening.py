# SPDX-License-Identifier: Apache-2.0
"""Clinical information, technique, comparison: what is known before anything is looked at."""

from __future__ import annotations

from ..model import ClinicalContext
from .pen import Pen


def write_history(pen: Pen, context: ClinicalContext | None) -> None:
    """What the referrer says, in the referrer's words; a field to be filled where nothing is known."""
    words = pen.language
    before = len(pen.lines)
    if context is not None:
        age = pen.image("age")
        if context.age is not None and context.sex:
            pen.say(
                words.sentence("age_sex", age=str(context.age), sex=words.sex(context.sex)), [age, pen.image("sex")]
            )
        elif context.age is not None:
            pen.say(words.sentence("age", age=str(context.age)), [age])
        for key, texts in (
            ("indication", (context.indication,)),
            ("history", context.history),
            ("labs", context.labs),
        ):
            for text in texts:
                if text.strip():
                    pen.say(words.sentence(key, text=_ended(text)))
    if len(pen.lines) == before:
        pen.ask(words.part("history_missing"))


def write_technique(pen: Pen) -> None:
    """Modality, contrast and slice thickness as the header has them."""
    words = pen.language
    modality, contrast, phase = pen.image("modality"), pen.image("contrast"), pen.image("phase")
    name = words.modality(str(modality.value) if modality is not None else pen.facts.modality)
    if name and contrast is not None and contrast.value == "with" and phase is not None:
        pen.say(words.sentence("with_phase", modality=name, phase=str(phase.value)), [modality, contrast, phase])
    elif name and contrast is not None and contrast.value in ("with", "without"):
        pen.say(words.sentence(f"{contrast.value}_contrast", modality=name), [modality, contrast])
    else:
        if name:
            pen.say(words.sentence("modality", modality=name), [modality])
        if pen.facts.modality in ("CT", "MR", "XA", ""):
            pen.ask(words.part("contrast_missing"))
    thickness = pen.image("slice_thickness")
    if thickness is not None and not isinstance(thickness.value, str):
        # As the header has it: 1.25 mm is a thickness that everybody knows, 1.3 mm is none.
        value = words.decimal(f"{float(thickness.value):.2f}".rstrip("0").rstrip("."))
        pen.say(words.sentence("slice_thickness", value=f"{value} mm"), [thickness])


def write_comparison(pen: Pen) -> None:
    """Whether there is an earlier study, and how old it is."""
    words = pen.language
    compared, interval = pen.image("comparison"), pen.image("interval")
    has_prior = any(fact.quantity in ("prior", "trend") for fact in pen.facts.facts)
    if interval is not None and isinstance(interval.value, int | float):
        days = round(interval.value)
        key = "prior_day" if days == 1 else "prior_days"
        pen.say(words.sentence(key, days=str(days)), [compared, interval])
    elif (compared is not None and compared.value is True) or has_prior:
        pen.say(words.sentence("prior"), [compared])
    else:
        pen.say(words.sentence("no_prior"), [compared])


def _ended(text: str) -> str:
    """The text on one line, with a full stop."""
    line = " ".join(text.split())
    return line if line.endswith((".", "!", "?")) else f"{line}."
