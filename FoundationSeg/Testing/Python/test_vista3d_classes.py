# SPDX-License-Identifier: Apache-2.0
"""The names that VISTA3D answers to."""

from __future__ import annotations

import subprocess
import sys

import pytest
from FoundationSegLib.errors import PromptError
from FoundationSegLib.families.vista3d.classes import LAST_TRAINED, OTHER, SPECIAL, find, structures

# Of the published dictionary's 132 numbers those that label training data only.
NOT_TRAINED = {16, 18, 129, 130, 131}


def test_there_are_127_with_the_published_numbers() -> None:
    numbers = [structure.index for structure in structures()]
    assert len(numbers) == 127 and numbers == sorted(set(range(1, LAST_TRAINED + 1)) - NOT_TRAINED)
    assert len({structure.name for structure in structures()}) == 127
    single = [structure for structure in structures() if len(structure.classes) == 1]
    assert len(single) == 124 and all(structure.classes == (structure.index,) for structure in single)
    by_name = {structure.name: structure for structure in structures()}
    published = {
        "liver": 1, "spleen": 3, "right kidney": 5, "left kidney": 14, "bladder": 15, "lung tumor": 23,
        "left lung upper lobe": 28, "vertebrae L5": 33, "vertebrae L1": 37, "vertebrae T12": 38, "vertebrae T1": 49,
        "vertebrae C7": 50, "vertebrae C1": 56, "trachea": 57, "left iliac artery": 58, "right iliac vena": 61,
        "colon": 62, "left rib 1": 63, "left rib 12": 74, "right rib 1": 75, "right rib 12": 86, "left humerus": 87,
        "right hip": 96, "sacrum": 97, "right iliopsoas": 107, "brachiocephalic trunk": 109,
        "left brachiocephalic vein": 110, "right common carotid artery": 113, "heart": 115, "skull": 120,
        "right subclavian artery": 124, "vertebrae S1": 127, "bone lesion": 128, "airway": 132,
    }  # fmt: skip
    assert {name: by_name[name].index for name in published} == published
    assert by_name["kidney"].classes == (5, 14) and by_name["lung"].classes == (28, 29, 30, 31, 32)
    assert {33, 63, 97, 114, 122} <= set(by_name["bone"].classes) and not set(by_name["bone"].classes) & {1, 57, 98}
    assert set(numbers) >= SPECIAL


def test_every_name_finds_itself() -> None:
    for structure in structures():
        for name in (structure.name, structure.name.upper(), " ".join(reversed(structure.name.split()))):
            assert find(name) is structure
        for synonym in structure.synonyms:
            assert find(synonym) is structure, synonym


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("Liver", 1),
        ("LEFT KIDNEY", 14),
        ("kidney_left", 14),
        ("L kidney", 14),
        ("kidneys", 2),
        ("Urinary bladder", 15),
        ("Hepar", 1),
        ("suprarenal gland left", 9),
        ("tumour of the lung", 23),
        ("liver tumor", 26),
        ("colon cancer", 27),
        ("L3", 35),
        ("L3 vertebra", 35),
        ("first left rib", 63),
        ("right collarbone", 92),
        ("IVC", 7),
        ("small intestine", 19),
        ("both lungs", 20),
    ],
)
def test_synonyms_case_and_word_order(name: str, number: int) -> None:
    assert find(name).index == number


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(PromptError, match=r"the nearest are: .*spleen"):
        find("spleeen")
    with pytest.raises(PromptError, match="left femur"):
        find("left femor")
    with pytest.raises(PromptError, match="rectum"):
        find("rectum")
    with pytest.raises(PromptError, match="clicks"):
        find("xyzzy")
    assert find("something else") is OTHER and OTHER.prompt_class == LAST_TRAINED + 1


def test_almost_all_have_a_code() -> None:
    missing = [structure.name for structure in structures() if structure.terminology is None]
    assert missing == ["left atrial appendage", "bone lesion"]
    by_name = {structure.name: structure.terminology for structure in structures()}
    kidney = by_name["left kidney"]
    assert kidney is not None and kidney.type.value == "64033007" and kidney.type_modifier.meaning == "Left"
    tumor = by_name["hepatic tumor"]
    assert tumor is not None and tumor.region.meaning == "Liver"


def test_names_need_no_torch() -> None:
    code = (
        "import sys\n"
        "from FoundationSegLib.families.vista3d.classes import find\n"
        "assert find('liver').index == 1\n"
        "assert not {'torch', 'monai', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
