# SPDX-License-Identifier: Apache-2.0
"""Defects of the cross-check that a reader from outside found, each in several wordings: none may come back."""

from __future__ import annotations

import pytest
from FoundationReportLib.check import check_text
from FoundationReportLib.model import Facts, Kind, Side, Subject, Verdict
from test_report_check import IMAGE, C, S, U, build

BRAIN = build(
    ("image", "contrast", "with"),
    ("brain", "coverage", "assessed"),
    ("brain", "presence", "searched_not_found", "", "hemorrhage"),
    ("m1", "presence", "present"),
    ("m1", "long_axis", 41.0, "mm"),
    ("m2", "presence", "present"),
    ("m2", "long_axis", 9.0, "mm"),
    ("brain", "count", 2, "1", "lesion", True),
    subjects=(
        IMAGE,
        Subject("brain", "Brain", Kind.ORGAN, "brain"),
        Subject("m1", "Mass", Kind.LESION, "brain", Side.LEFT, "mass", "frontal lobe"),
        Subject("m2", "Cerebellar metastasis", Kind.LESION, "cerebellum", Side.RIGHT, "metastasis"),
    ),
    modality="MR",
)
PET = build(
    ("pr", "presence", "present", "", "pleural effusion"),
    ("pr", "volume", 210.0, "mL", "pleural effusion"),
    ("pl", "presence", "present", "", "pleural effusion"),
    ("pl", "volume", 60.0, "mL", "pleural effusion"),
    ("liver", "coverage", "assessed"),
    ("liver", "suv_mean", 2.1, "g/mL{SUVbw}"),
    ("t1", "presence", "present"),
    ("t1", "mtv", 38.0, "mL"),
    ("t2", "presence", "present"),
    ("t2", "long_axis", 7.0, "mm"),
    subjects=(
        IMAGE,
        Subject("liver", "Liver", Kind.ORGAN, "liver"),
        Subject("pl", "Left pleura", Kind.ORGAN, "pleura", Side.LEFT),
        Subject("pr", "Right pleura", Kind.ORGAN, "pleura", Side.RIGHT),
        Subject("t1", "Primary tumour", Kind.LESION, "lung", Side.RIGHT, "mass", "upper lobe"),
        Subject("t2", "Nodule", Kind.LESION, "lung", Side.LEFT, "nodule", "lower lobe"),
    ),
    modality="PT",
)
KNEE = build(
    ("femur", "coverage", "assessed"),
    ("tibia", "coverage", "assessed"),
    ("tibia", "presence", "searched_not_found", "", "fracture"),
    ("bone", "presence", "present"),
    ("bone", "long_axis", 21.0, "mm"),
    ("cyst", "presence", "present"),
    ("cyst", "trend", "smaller"),
    ("femur", "count", 1, "1", "lesion", True),
    subjects=(
        IMAGE,
        Subject("femur", "Femur", Kind.ORGAN, "femur", Side.RIGHT),
        Subject("tibia", "Tibia", Kind.ORGAN, "tibia", Side.RIGHT),
        Subject("bone", "Bone lesion", Kind.LESION, "femur", Side.RIGHT, "lesion", "distal"),
        Subject("cyst", "Cyst", Kind.LESION, "knee", Side.RIGHT, "cyst", "popliteal fossa"),
    ),
    modality="MR",
)
KIDNEYS = build(
    ("image", "comparison", True),
    ("image", "interval", 365.0, "d"),
    ("kr", "coverage", "assessed"),
    ("kl", "coverage", "assessed"),
    ("c", "presence", "present"),
    ("c", "long_axis", 46.0, "mm"),
    ("c", "prior", 40.0, "mm", "long_axis"),
    ("c", "trend", "larger"),
    ("gone", "presence", "searched_not_found"),
    ("gone", "trend", "resolved"),
    ("aaa", "presence", "present"),
    ("aaa", "long_axis", 48.0, "mm"),
    ("aorta", "coverage", "assessed"),
    subjects=(
        IMAGE,
        Subject("kr", "Right kidney", Kind.ORGAN, "kidney", Side.RIGHT),
        Subject("kl", "Left kidney", Kind.ORGAN, "kidney", Side.LEFT),
        Subject("aorta", "Aorta", Kind.ORGAN, "aorta"),
        Subject("c", "Cyst", Kind.LESION, "kidney", Side.LEFT, "cyst"),
        Subject("gone", "Old cyst", Kind.LESION, "kidney", Side.LEFT, "cyst"),
        Subject("aaa", "Aneurysm", Kind.LESION, "aorta", Side.NONE, "aneurysm", "infrarenal"),
    ),
)


LIVER = build(
    ("liver", "coverage", "assessed"),
    ("liver", "presence", "searched_not_found", "", "lesion"),
    ("spleen", "coverage", "assessed"),
    subjects=(
        IMAGE,
        Subject("liver", "Liver", Kind.ORGAN, "liver"),
        Subject("spleen", "Spleen", Kind.ORGAN, "spleen"),
    ),
)


def verdicts(facts: Facts, text: str) -> list[Verdict]:
    return [judgement.verdict for _, judgement in check_text(facts, text).statements]


@pytest.mark.parametrize(
    ("facts", "text", "expected"),
    [
        # A numeral stands, whatever vague word of number follows it.
        (BRAIN, "At least five lesions scattered throughout both hemispheres.", [C]),
        (BRAIN, "Five or more scattered lesions.", [C]),
        (BRAIN, "At least two scattered lesions.", [S]),
        # "No others" than those that were named.
        (BRAIN, "Solitary left frontal lesion; no other lesions.", [C]),
        (BRAIN, "Left frontal mass. No other lesions.", [S, C]),
        (BRAIN, "Left frontal mass. Metastasis of the right cerebellum. No other lesions.", [S, S, S]),
        (BRAIN, "Two lesions, the larger one in the left frontal lobe; no other lesions.", [S]),
        # "All", "both" and "the only one".
        (BRAIN, "Both lesions lie in the left hemisphere.", [C]),
        (BRAIN, "All lesions are supratentorial.", [C]),
        (BRAIN, "One supratentorial and one infratentorial lesion.", [S]),
        (BRAIN, "Both lesions measure 41 mm.", [C]),
        (BRAIN, "The only intracranial lesion is a 41 mm left frontal mass.", [C]),
        (BRAIN, "The only left-sided brain lesion is a 41 mm frontal mass.", [S]),
        (BRAIN, "The only cerebellar lesion is 9 mm.", [S]),
        # What "findings" are compatible with denies and asserts nothing of other findings.
        (BRAIN, "No acute infarct. No hydrocephalus. Findings most compatible with glioblastoma.", [U, U, U]),
        (BRAIN, "No infarct. There is an infarct.", [C, C]),
        # A number belongs to what has such a number, and is not put upon what was spoken of before.
        (PET, "The liver has a mean SUV of 2.1. The metabolic tumor volume of the primary is 38 mL.", [S, S]),
        (PET, "The liver has a mean SUV of 2.1. The metabolic tumor volume of the primary is 83 mL.", [S, C]),
        (PET, "The liver has a mean SUV of 2.1. The metabolic tumor volume is 38 mL.", [S, S]),
        # Measurements of a finding that are stated of the organ, on either side.
        (PET, "Moderate right pleural effusion of about 210 mL.", [S]),
        (PET, "Right pleural effusion of about 60 mL.", [C]),
        (PET, "Left pleural effusion of about 60 mL.", [S]),
        # Ends of a bone, the side of a study that shows one limb.
        (KNEE, "Lesion in the distal femur, 21 mm.", [S]),
        (KNEE, "Lesion in the proximal femur, 21 mm.", [U]),
        (KNEE, "MRI of the right knee.", [S]),
        (KNEE, "MRI of the left knee.", [C]),
        (KNEE, "No tibial fracture.", [S]),
        (KNEE, "The tibia is not fractured.", [S]),
        (KNEE, "Solitary femoral lesion.", [S]),
        # What is called intact and not understood is not the whole study; an unknown word may be the place.
        (KNEE, "The zygapophysis is intact.", [U]),
        (KNEE, "Lesion of the femur, smaller cyst of the knee.", [S]),
        (KNEE, "Lesion of the femur, larger cyst of the knee.", [C]),
        # "Each" and "all" of places; all of those that have resolved.
        (KIDNEYS, "A cyst in each kidney.", [C]),
        (KIDNEYS, "A cyst in the left kidney.", [S]),
        (KIDNEYS, "All renal cysts have resolved.", [C]),
        (KIDNEYS, "A renal cyst has resolved.", [S]),
        # A duration is the time between the studies.
        (KIDNEYS, "The left renal cyst has grown by 6 mm over the past year.", [S]),
        (KIDNEYS, "The left renal cyst has grown by 6 mm over 3 months.", [C]),
        # An aneurysm and the calibre of the vessel, and how many there are.
        (KIDNEYS, "The abdominal aorta is of normal caliber.", [C]),
        (KIDNEYS, "At least two aneurysms of the abdominal aorta.", [U]),
        # That the liver was searched says nothing of lesions elsewhere.
        (LIVER, "No lesion was found in the liver.", [S]),
        (LIVER, "No lesion was found.", [U]),
    ],
)
def test_defects_found_from_outside(facts: Facts, text: str, expected: list[Verdict]) -> None:
    assert verdicts(facts, text) == expected
