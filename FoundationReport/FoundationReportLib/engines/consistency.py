# SPDX-License-Identifier: Apache-2.0
"""Whether further samples of a model say the same as its first answer.

After RadFlag (Zhang et al., arXiv 2411.00299): what a model says only sometimes is more often wrong. Whether two
sentences say the same is decided here by their words, side and negation, not by another model: the result is the same
every time, and errs towards "not the same".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SIDES = {
    **dict.fromkeys(("left", "left-sided"), "left"),
    **dict.fromkeys(("right", "right-sided"), "right"),
    **dict.fromkeys(("both", "bilateral"), "both"),
}
_NEGATIONS = {"no", "not", "without", "absent", "absence", "negative", "free", "none", "resolved"}
_HEDGED = "possible possibly probable probably likely suspected suspicious questionable may maybe"
_HEDGES = frozenset(_HEDGED.split())
# What adds nothing to what is said, and sizes and grades.
_IDLE_WORDS = (
    "a an and are at be by evidence finding findings for has have identified in is it its noted of on or present seen "
    "shown side the there this visible visualized was were with within mild small large moderate severe mm cm ml"
)
_IDLE = frozenset(_IDLE_WORDS.split())
_SAME_WORDS = {
    "hepatic": "liver",
    "renal": "kidney",
    "kidneys": "kidney",
    "pulmonary": "lung",
    "lungs": "lung",
    "splenic": "spleen",
    "pancreatic": "pancreas",
    "cerebral": "brain",
    "cardiac": "heart",
    "lesions": "lesion",
    "effusions": "effusion",
    "nodules": "nodule",
    "cysts": "cyst",
    "enlarged": "enlargement",
}
_ALIKE = 0.5


@dataclass(frozen=True)
class Claim:
    """A sentence as compared: its content words, its side ("" for none), and whether it denies."""

    words: frozenset[str]
    side: str
    denies: bool


def claim(sentence: str) -> Claim:
    """What a sentence says, without sizes, grades and hedges."""
    words = [_SAME_WORDS.get(word, word) for word in re.findall(r"[a-zà-ÿ]+(?:-[a-z]+)*", sentence.casefold())]
    sides = {_SIDES[word] for word in words if word in _SIDES}
    content = frozenset(words).difference(_IDLE, _HEDGES, _NEGATIONS, _SIDES)
    side = "both" if len(sides) > 1 else next(iter(sides), "")
    return Claim(content, side, any(word in _NEGATIONS for word in words))


def about_the_same(a: Claim, b: Claim) -> bool:
    """Whether at least half of their content words are common (Jaccard)."""
    union = a.words | b.words
    return bool(union) and len(a.words & b.words) / len(union) >= _ALIKE


def same(a: Claim, b: Claim) -> bool:
    return about_the_same(a, b) and a.denies == b.denies and (a.side == b.side or not (a.side and b.side))


def opposite(a: Claim, b: Claim) -> bool:
    """The same matter with the other side, or denied by one only."""
    return about_the_same(a, b) and not same(a, b)


def agreement(sentence: str, samples: Sequence[Sequence[str]]) -> tuple[int, int]:
    """(k, n): in k of n samples a sentence says the same."""
    wanted = claim(sentence)
    return sum(any(same(wanted, claim(other)) for other in sample) for sample in samples), len(samples)


def disagreements(sentences: Sequence[str], samples: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Sentences of the samples that say the opposite of one of `sentences`, each once."""
    wanted = [claim(sentence) for sentence in sentences]
    found = [
        other
        for sample in samples
        for other in sample
        if any(opposite(one, claim(other)) for one in wanted) and not any(same(one, claim(other)) for one in wanted)
    ]
    return tuple(dict.fromkeys(found))
