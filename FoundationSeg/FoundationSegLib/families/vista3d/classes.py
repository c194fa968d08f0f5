# SPDX-License-Identifier: Apache-2.0
"""The 127 structures that VISTA3D knows by name: their numbers, their codes, and the names that people use.

Numbers and names are those of the published model (its label dictionary): 124 classes that the network was trained to
segment, and three (kidney, lung, bone) that stand for several of them. The dictionary's other numbers are labels of
training data sets for which the model gives nothing (such as 18, rectum). Codes come from the terminology: `term` is
the name under which a structure is found there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from ...errors import PromptError
from ...terminology import Terminology, lookup

# Classes that lie within others (tumours, vessels, the trachea in the airway): their clicks carry labels 2 and 3.
SPECIAL = frozenset({23, 24, 25, 26, 27, 57, 128})
LAST_TRAINED = 132


@dataclass(frozen=True)
class Structure:
    """Something that can be asked for by name.

    Attributes:
        name: as in the model's dictionary.
        index: its number there; above 132 for what the model was not trained for.
        classes: what the network is asked for; several for a structure that is made of others, none for "other".
        term: its name in the terminology.
        synonyms: further names.
    """

    name: str
    index: int
    classes: tuple[int, ...]
    term: str
    synonyms: tuple[str, ...] = ()

    @property
    def terminology(self) -> Terminology | None:
        """None where no code is known."""
        return lookup(self.term)

    @property
    def prompt_class(self) -> int | None:
        """What clicks on it are said to be of; None for structures made of several classes."""
        return None if len(self.classes) > 1 else self.index


# Clicks on something that has no name here.
OTHER = Structure("other", LAST_TRAINED + 1, (), "other", ("other structure", "something else", "unknown structure"))


def find(name: str) -> Structure:
    """The structure of a name: in any case and word order, with synonyms; PromptError with the nearest names."""
    known = _names()
    words = _key(name)
    if words in known:
        return known[words]
    term = lookup(name)
    if term is not None and term.entry in _entries():
        return _entries()[term.entry]
    spelled = {structure.name.lower(): structure.name for structure in (*structures(), OTHER)}
    for structure in structures():
        spelled.update({synonym.lower(): structure.name for synonym in structure.synonyms})
    close = [spelled[match] for match in get_close_matches(name.strip().lower(), list(spelled), n=12, cutoff=0.5)]
    nearest = list(dict.fromkeys([*close, *_sharing(name)]))[:5]
    hint = f"; the nearest are: {', '.join(nearest)}" if nearest else ""
    raise PromptError(
        f"VISTA3D does not know {name!r}{hint}. For anything else give the name 'other', or no name, and clicks."
    )


def _sharing(name: str) -> list[str]:
    """Names that share a word with this one."""
    words = _key(name) - {"left", "right"}
    return [structure.name for structure in structures() if words & _key(structure.name)]


@lru_cache(maxsize=1)
def structures() -> tuple[Structure, ...]:
    """All 127, by number."""
    result = [_single(index, *line) for index, line in _SINGLE.items()]
    for first, level in ((33, "L"), (38, "T"), (50, "C")):
        count = {"L": 5, "T": 12, "C": 7}[level]
        for place in range(count):
            number = f"{level}{count - place}"
            result.append(
                _single(first + place, f"vertebrae {number}", f"{number} vertebra", (number, f"vertebra {number}"))
            )
    for first, side in ((63, "left"), (75, "right")):
        for rib, ordinal in enumerate(_ORDINALS):
            short = f"{side} {ordinal} rib"
            result.append(_single(first + rib, f"{side} rib {rib + 1}", short, (short,)))
    for first, name, term, synonyms in _PAIRS:
        for index, side in ((first, "left"), (first + 1, "right")):
            result.append(_single(index, f"{side} {name}", f"{side} {term}", tuple(f"{side} {s}" for s in synonyms)))
    for index, (name, classes, synonyms) in _GROUPS.items():
        result.append(Structure(name, index, classes, name, synonyms))
    return tuple(sorted(result, key=lambda structure: structure.index))


def _single(index: int, name: str, term: str = "", synonyms: tuple[str, ...] = ()) -> Structure:
    return Structure(name, index, (index,), term or name, synonyms)


# Number: name, name in the terminology where it differs, synonyms.
_SINGLE: dict[int, tuple[str] | tuple[str, str] | tuple[str, str, tuple[str, ...]]] = {
    1: ("liver",),
    3: ("spleen",),
    4: ("pancreas",),
    5: ("right kidney",),
    6: ("aorta",),
    7: ("inferior vena cava", "", ("ivc", "vena cava inferior", "postcava")),
    8: ("right adrenal gland", "", ("right adrenal",)),
    9: ("left adrenal gland", "", ("left adrenal",)),
    10: ("gallbladder", "", ("gall bladder",)),
    11: ("esophagus", "", ("oesophagus",)),
    12: ("stomach",),
    13: ("duodenum",),
    14: ("left kidney",),
    15: ("bladder", "urinary bladder", ("urinary bladder",)),
    17: ("portal vein and splenic vein", "", ("portal and splenic vein", "portal vein splenic vein")),
    19: ("small bowel", "small intestine", ("small intestine",)),
    22: ("brain",),
    23: ("lung tumor", "", ("lung cancer", "lung nodule", "pulmonary tumor")),
    24: ("pancreatic tumor", "pancreas tumor", ("pancreas tumor", "pancreatic cancer")),
    25: ("hepatic vessel", "hepatic vein", ("liver vessel",)),
    26: ("hepatic tumor", "liver tumor", ("liver tumor", "liver cancer", "liver lesion")),
    27: ("colon cancer primaries", "colon tumor", ("colon cancer", "colon tumor", "colorectal cancer")),
    28: ("left lung upper lobe", "upper lobe of left lung"),
    29: ("left lung lower lobe", "lower lobe of left lung"),
    30: ("right lung upper lobe", "upper lobe of right lung"),
    31: ("right lung middle lobe", "middle lobe of right lung"),
    32: ("right lung lower lobe", "lower lobe of right lung"),
    57: ("trachea",),
    62: ("colon", "", ("large bowel",)),
    97: ("sacrum",),
    108: ("left atrial appendage", "", ("laa",)),
    109: ("brachiocephalic trunk", "brachiocephalic artery", ("brachiocephalic artery", "innominate artery")),
    114: ("costal cartilages", "costal cartilage", ("costal cartilage",)),
    115: ("heart",),
    116: ("left kidney cyst", "cyst of left kidney", ("left renal cyst",)),
    117: ("right kidney cyst", "cyst of right kidney", ("right renal cyst",)),
    118: ("prostate", "", ("prostate gland",)),
    119: ("pulmonary vein",),
    120: ("skull",),
    121: ("spinal cord",),
    122: ("sternum", "", ("breastbone",)),
    125: ("superior vena cava", "", ("svc",)),
    126: ("thyroid gland", "", ("thyroid",)),
    127: ("vertebrae S1", "S1 vertebra", ("S1", "vertebra S1")),
    128: ("bone lesion", "lesion of bone", ("bone tumor", "bone metastasis")),
    132: ("airway", "trachea and bronchus", ("airways", "bronchial tree")),
}
# First number (left; right follows): name without its side, name in the terminology, synonyms.
_PAIRS: tuple[tuple[int, str, str, tuple[str, ...]], ...] = (
    (58, "iliac artery", "common iliac artery", ("common iliac artery",)),
    (60, "iliac vena", "common iliac vein", ("iliac vein", "common iliac vein")),
    (87, "humerus", "humerus", ()),
    (89, "scapula", "scapula", ("shoulder blade",)),
    (91, "clavicula", "clavicle", ("clavicle", "collarbone")),
    (93, "femur", "femur", ()),
    (95, "hip", "hip", ("hip bone", "hemipelvis")),
    (98, "gluteus maximus", "gluteus maximus muscle", ("gluteus maximus muscle",)),
    (100, "gluteus medius", "gluteus medius muscle", ("gluteus medius muscle",)),
    (102, "gluteus minimus", "gluteus minimus muscle", ("gluteus minimus muscle",)),
    (104, "autochthon", "deep muscle of back", ("autochthonous back muscle", "deep back muscle", "erector spinae")),
    (106, "iliopsoas", "iliopsoas muscle", ("iliopsoas muscle", "psoas")),
    (110, "brachiocephalic vein", "brachiocephalic vein", ("innominate vein",)),
    (112, "common carotid artery", "common carotid artery", ("carotid artery",)),
    (123, "subclavian artery", "subclavian artery", ()),
)
_GROUPS: dict[int, tuple[str, tuple[int, ...], tuple[str, ...]]] = {
    2: ("kidney", (5, 14), ("kidneys", "both kidneys")),
    20: ("lung", (28, 29, 30, 31, 32), ("lungs", "both lungs")),
    21: ("bone", (*range(33, 57), *range(63, 98), 114, 120, 122), ("bones", "skeleton")),
}
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth",
    "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth",
)  # fmt: skip
_FILLERS = frozenset({"the", "of", "in", "a", "and"})
_SAME = {
    "l": "left",
    "r": "right",
    "lt": "left",
    "rt": "right",
    "tumour": "tumor",
    "rib": "rib",
    "vertebrae": "vertebra",
}


def _key(name: str) -> frozenset[str]:
    """The words of a name: lower case, singular, sides and spellings in one form."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return frozenset(_singular(_SAME.get(word, word)) for word in words if word not in _FILLERS)


def _singular(word: str) -> str:
    # "pancreas", "humerus" and "pelvis" are no plurals.
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("as", "us", "is", "ss")) else word


@lru_cache(maxsize=1)
def _names() -> dict[frozenset[str], Structure]:
    """By the words of every name. Names come before synonyms, synonyms before names in the terminology."""
    everything = (*structures(), OTHER)
    result: dict[frozenset[str], Structure] = {}
    for names in ([(s, (s.name,)) for s in everything], [(s, (*s.synonyms, s.term)) for s in everything]):
        for structure, spellings in names:
            for spelling in spellings:
                result.setdefault(_key(spelling), structure)
    return result


@lru_cache(maxsize=1)
def _entries() -> dict[str, Structure]:
    """By terminology: what the terminology's own synonyms lead to."""
    result: dict[str, Structure] = {}
    for structure in structures():
        if structure.terminology is not None:
            result.setdefault(structure.terminology.entry, structure)
    return result
