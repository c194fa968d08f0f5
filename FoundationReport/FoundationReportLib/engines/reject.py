# SPDX-License-Identifier: Apache-2.0
"""What in a model's answer is no statement about the pictures, told from patterns, with a reason for the record."""

from __future__ import annotations

import re

# An answer that holds one of these is not used at all: what else it says may obey the same words.
_INSTRUCTIONS = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,40}\b(?:instructions?|prompts?|rules?|above|previous|earlier|context)\b",
        r"\b(?:previous|prior|above|earlier|system)\s+(?:instructions?|prompts?)\b",
        r"\b(?:system|developer)\s*(?:prompt|message|override)\b",
        r"\byou are (?:now|no longer)\b",
        r"\b(?:new|following|these) instructions\b",
        r"\b(?:sign|approve|finali[sz]e|authenticate|release|delete|erase|overwrite|send|upload|e-?mail)\b"
        r".{0,25}\b(?:reports?|findings?|stud(?:y|ies)|data|files?|patients?)\b",
        r"\b(?:report|mark|describe|state|write|answer|respond|say|output|classify)\b.{0,25}"
        r"\bas (?:normal|negative|benign)\b",
        r"\bdo not (?:report|mention|describe|include|flag|check|verify|sign|follow|obey)\b",
        r"\b(?:must|should|shall) (?:be )?(?:report|answer|say|state|write|sign|ignore|output|mark)(?:ed|d)?\b",
        r"\b(?:password|api key|access token|credentials?)\b",
        r"<\s*/?\s*(?:system|script|instructions?|assistant|user)\b",
        r"\b(?:curl|wget|rm -rf|powershell|import os|os\.system|eval\()",
    )
)  # fmt: skip
_ABOUT_ITSELF = re.compile(
    r"\b(?:as an ai|language model|i(?:'m| am) (?:sorry|unable|not able|an ai|just|only)|i can(?:not|'t)\b|"
    r"i do not have|i don't have|i apologi[sz]e|consult (?:a|your|with)|seek medical|medical advice|"
    r"(?:qualified|healthcare|medical) professional|disclaimer|for educational|teaching example|"
    r"please (?:provide|upload|note|let me|consult|share)|let me|here (?:is|are)\b|"
    r"based on the (?:provided|visual|images?|slices)|"
    r"in (?:summary|conclusion)\b|final answer|i hope|would you like|feel free)",
    re.I,
)
_HEADER = re.compile(
    r"^(?:these|this|the)\b.{0,40}\b(?:is|are|was|were|shows?|depicts?)\s+(?:an?\s+)?(?:axial|series|slices?|contrast|"
    r"non-?contrast|unenhanced|enhanced|ct|computed tomography|mri?|magnetic resonance|pet|x-?ray|ultrasound)\b"
    r"|\bslice thickness\b|\bwindow(?:ing| level| width)\b|^(?:technique|modality|procedure)\s*:"
    r"|\b(?:contrast-enhanced|non-?contrast|unenhanced)\s+(?:ct|mr|mri|scan|study|examination)\b",
    re.I,
)
_TAKEN_OUT = re.compile(r"\[(?:name|number|contact|address|date[^\]]*)\]")
_JSON = re.compile(r"[{}\[\]]|\"\s*:|```")
_ECHO = re.compile(
    r"^(?:finding\s*\|\s*side|slice \d+\.?$|section\s*:|one line each|no numbers|answer none|measured,? do not|"
    r"which findings do the|the referrer says|known from the header|you read \d+)",
    re.I,
)
# Words that are common in one language and are no words of English reports.
_FOREIGN = {
    "German": "der die das und ist sind nicht keine kein eine einen mit ohne im den dem zeigt links rechts leber niere "
    "lunge normal groß unauffällig nachweis von auf befund",
    "French": "le la les des du une est sont pas sans dans avec et au aux il elle gauche droite foie rein poumon "
    "aucune lésion normale visible",
    "Spanish": "el la los las del de se en con sin una es son hay y no observa observan hígado riñón pulmón derecho "
    "izquierdo lesión lesiones normales",
    "Italian": "il lo la gli della del di non con senza una è sono nel nella e si osserva fegato rene polmone destro "
    "sinistro lesione lesioni",
    "Portuguese": "o os as do da dos das não com sem uma é são no na e fígado rim pulmão direito esquerdo lesão lesões",
    "Dutch": "de het een en is zijn geen niet met zonder van in op lever nier long links rechts normaal",
    "Polish": "nie jest są bez w na z i oraz wątroba nerka płuco zmian prawidłowa",
    "Turkish": "ve bir bu ile yok var karaciğer böbrek akciğer sağ sol normal",
}
_FOREIGN_WORDS = {language: frozenset(words.split()) for language, words in _FOREIGN.items()}
_ENGLISH_WORDS = (
    "the is are was of with without no there and or in on at to from within seen noted present shows showing small "
    "large right left normal mild moderate severe possible probable likely not a an this that lobe upper lower"
)
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_LATIN_SHARE = 0.7
_LONGEST = 400
_WORDS = re.compile(r"[^\W\d_]+")


def is_instruction(text: str) -> bool:
    """Whether it tells somebody to do something: words that stood in a picture, or that pretend to."""
    return any(pattern.search(text) for pattern in _INSTRUCTIONS)


def reason(sentence: str) -> str:
    """Why a sentence of an answer, after `redact`, is not taken; empty if it can be."""
    if _TAKEN_OUT.search(sentence):
        return "held what may identify a person"
    if _JSON.search(sentence):
        return "a fragment of JSON"
    if _ECHO.search(sentence):
        return "words of the question"
    if _ABOUT_ITSELF.search(sentence):
        return "about the model or the reader, not about the pictures"
    if _HEADER.search(sentence):
        return "known from the header"
    if language := foreign(sentence):
        return f"not in English ({language})"
    if not re.search(r"[^\W\d_]{3}", sentence):
        return "no words"
    if len(sentence) > _LONGEST:
        return "longer than a statement"
    if loops(sentence):
        return "goes round in circles"
    return ""


def foreign(sentence: str) -> str:
    """The language that a sentence seems to be in, where that is not English; else empty."""
    letters = [letter for letter in sentence if letter.isalpha()]
    if letters and sum(letter < "ɐ" for letter in letters) < _LATIN_SHARE * len(letters):
        return "other letters"
    words = [word.casefold() for word in _WORDS.findall(sentence)]
    english = sum(word in _ENGLISH for word in words)
    hits = {language: sum(word in known for word in words) for language, known in _FOREIGN_WORDS.items()}
    best = max(hits, key=lambda language: hits[language])
    return best if hits[best] >= 2 and hits[best] > english else ""


def loops(text: str, times: int = 4) -> bool:
    """Whether one to eight words follow themselves at least `times` times in a row."""
    words = [word.casefold() for word in re.findall(r"\S+", text)]
    for size in range(1, 9):
        run = 0
        for at in range(size, len(words)):
            run = run + 1 if words[at] == words[at - size] else 0
            if run >= size * (times - 1):
                return True
    return False
