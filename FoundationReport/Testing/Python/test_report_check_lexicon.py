# SPDX-License-Identifier: Apache-2.0
"""The checker's data refer to each other rightly, and sentences are split where they end."""

from __future__ import annotations

import pytest
from FoundationReportLib.check.lexicon import lexicon, load_data
from FoundationReportLib.check.sentences import split


def test_places_and_findings_refer_to_places_and_findings_that_exist() -> None:
    lex = lexicon()
    for name, place in lex.places.items():
        assert set(place.parents) <= set(lex.places), name
        assert set(place.host) <= set(lex.places), name
        assert "body" in lex.place_ancestors(name), name
    for name, finding in lex.findings.items():
        assert set(finding.parents) <= set(lex.findings), name
        assert set(finding.at) <= set(lex.places), name
    for name, item in load_data("findings")["findings"].items():
        assert item.get("as", name) in lex.findings, name
        assert set(item.get("makes", ())) <= set(lex.places), name


def test_no_word_has_a_reading_that_another_always_hides() -> None:
    lex = lexicon()
    rank = {kind: n for n, kind in enumerate(load_data("phrases")["priority"])}
    own = {lex.key(name) for name in (*lex.places, *lex.findings)}  # a name is always added, beside what else it means
    for key, entries in lex.phrases.items():
        first = min(entries, key=lambda entry: rank[entry.kind])
        for entry in entries:  # that a word presupposes a technique is said beside what it means
            assert entry is first or entry.kind == "TERM" or (entry.kind in ("SITE", "FIND") and key in own), key


def test_nothing_is_part_of_what_excludes_it() -> None:
    lex = lexicon()
    for name in lex.places:
        for whole in lex.place_ancestors(name):
            assert not lex.disjoint(name, whole), (name, whole)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("upper lobe", "lower lobe", True),
        ("lung", "liver", True),
        ("segment 2", "segment 7", True),
        ("segment 2", "left hepatic lobe", False),
        ("segment 2", "right hepatic lobe", True),
        ("lower pole", "kidney", False),
        ("lower pole", "liver", True),
        ("cerebellum", "frontal lobe", True),
        ("hilum", "lung", False),
        ("L1", "L2", True),
        ("aorta", "abdomen", False),
        ("peritoneum", "pelvis", False),
    ],
)
def test_which_places_exclude_each_other(a: str, b: str, expected: bool) -> None:
    assert lexicon().disjoint(a, b) is expected
    assert lexicon().disjoint(b, a) is expected


@pytest.mark.parametrize(
    ("word", "normal"),
    [
        ("Lesions", "lesion"),
        ("masses", "mass"),
        ("metastases", "metastasis"),
        ("calculi", "calculus"),
        ("ascites", "ascites"),
        ("haematoma", "hematoma"),
        ("tumours", "tumor"),
        ("pancreas", "pancreas"),
        ("biopsies", "biopsy"),
        ("is", "is"),
        ("axis", "axis"),
        ("haemangiomas", "hemangioma"),
        ("visualised", "visualized"),
        ("oesophagus", "esophagus"),
    ],
)
def test_words_are_compared_in_one_form(word: str, normal: str) -> None:
    assert lexicon().normal(word) == normal
    assert lexicon().normal(normal) == normal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A nodule of 1.4 cm. No effusion.", ["A nodule of 1.4 cm.", "No effusion."]),
        ("Lesion in seg. II measuring approx. 2 cm.", ["Lesion in seg. II measuring approx. 2 cm."]),
        ("Metastasis in segment V. Spleen normal.", ["Metastasis in segment V.", "Spleen normal."]),
        ("1. Nodule.\n2. No effusion.", ["1. Nodule.", "2. No effusion."]),
        ("FINDINGS:\nNo effusion.", ["No effusion."]),
        ("IMPRESSION: No effusion.", ["No effusion."]),
        ("Pleural effusion: no. Pneumothorax: no.", ["Pleural effusion: no.", "Pneumothorax: no."]),
        ("The nodule in the right\nupper lobe measures 14 mm.", ["The nodule in the right upper lobe measures 14 mm."]),
        ("- RUL nodule\n- LLL nodule", ["- RUL nodule", "- LLL nodule"]),
        ("Given i.v. contrast. Liver normal.", ["Given i.v. contrast.", "Liver normal."]),
        ("\n\n---\n", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert [s.text for s in split(text)] == expected


def test_headings_hold_until_the_next() -> None:
    found = split("Liver:\nThree lesions.\nSpleen:\nNo lesion.\n\nNo ascites.")
    assert [(s.heading, s.text) for s in found] == [
        ("Liver", "Three lesions."),
        ("Spleen", "No lesion."),
        ("", "No ascites."),
    ]
