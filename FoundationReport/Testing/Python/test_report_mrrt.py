# SPDX-License-Identifier: Apache-2.0
"""Import of MRRT templates: sections, fields, codes; no default "normal" gets through, nothing in the file is run."""

from __future__ import annotations

from pathlib import Path

import pytest
from FoundationReportLib.draft import draft
from FoundationReportLib.errors import TemplateError
from FoundationReportLib.model import Fact, Facts, Kind, Side, Subject
from FoundationReportLib.mrrt import read_mrrt
from hypothesis import given, settings
from hypothesis import strategies as st

# Written for this test after the standard's content module: every kind of field, codes, deeper sections, defaults.
TEMPLATE = """<!DOCTYPE html>
<html><head><title>ignored</title><meta charset="UTF-8"/>
<meta name="dcterms.title" content="CT Abdomen &amp; Pelvis"/>
<meta name="dcterms.identifier" content="0001"/>
<meta name="dcterms.type" content="IMAGE_REPORT_TEMPLATE"/>
<meta name="dcterms.language" content="en-US"/>
<meta name="dcterms.license" content="CC0"/>
<script type="text/javascript">alert("never run"); document.write("<section>no</section>");</script>
<script type="text/xml"><template_attributes><coded_content>
<coding_schemes><coding_scheme name="RADLEX" designator="2.16.840.1.113883.6.256"/></coding_schemes>
<entry origtxt="sec-f"><term><code meaning="Procedure Findings" value="59776-5" scheme="LOINC"/></term></entry>
<entry origtxt="f-gb"><term><code meaning="gallbladder" value="http://x.org/RID187" scheme="RADLEX"/></term></entry>
<entry origtxt="f-stone"><term><code meaning="gallstone" value="RID4990" scheme="RADLEX"/></term></entry>
</coded_content></template_attributes></script>
</head><body>
<section id="sec-p" class="level1" data-section-name="Procedure Information"><header class="level1">Procedure</header>
 <p><label for="p1">Text:</label><textarea id="p1" data-field-type="TEXT">CT with contrast was obtained.</textarea></p>
</section>
<section id="sec-c" class="level1" data-section-name="Clinical Information"><header>Clinical Information</header>
 <p><label for="c1">Indication:</label><input type="text" id="c1" data-field-type="TEXT" value="Pain."/></p></section>
<section id="sec-f" class="level1" data-section-name="Results"><header class="level1">Results</header>
 <p>The lung bases are clear.</p>
 <p><label for="f-liver">Liver:</label><input type="text" id="f-liver" data-field-type="TEXT" value="Normal."/></p>
 <p><label for="f-gb">GB:</label><input type="text" id="f-gb" data-field-type="TEXT" value="Normal."/></p>
 <p><label for="f-adr">Adrenals</label><input type="text" id="f-adr" value="Unremarkable."/></p>
 <p><label for="f-ku">Kidneys/Ureters:</label><input type="text" id="f-ku" value="Normal."/></p>
 <p><label for="f-lk">Left kidney</label><input type="text" id="f-lk"/></p>
 <p><label for="f-n">Lymph nodes:</label><input type="text" id="f-n" value="Normal."/></p>
 <p><label for="f-stone">Stones:</label><select id="f-stone" data-field-type="SELECTION_LIST">
   <option id="o0" name="f-stone" value="None." selected>None.</option>
   <option id="o1" name="f-stone" value="Present.">Present.</option></select></p>
 <section id="sec-a" class="level2" data-section-name="Appendix"><header class="level2">Appendix</header>
  <p title="https://www.radelement.org/element/RDE196"><label for="a1">Appendiceal diameter</label>
   <input type="number" id="a1" data-field-type="NUMBER" data-field-unit="mm" min="0" max="50" value="RDE196"/></p>
  <p><label for="a2">Fluid</label><span id="a2" data-field-type="CHECKBOX">
    <input type="checkbox" id="a2_0" name="a2" value="pelvic" checked/>pelvic
    <input type="checkbox" id="a2_1" name="a2" value="pericecal"/>pericecal
    <input type="text" id="a2_free" value="other"/></span></p>
 </section></section>
<section id="sec-i" class="level1" data-section-name="Impression"><header>Impression</header>
 <p><label for="i1"></label><textarea id="i1">No acute findings.</textarea></p></section>
</body></html>"""


def written(folder: Path, text: str = TEMPLATE, name: str = "template.html") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def abdomen() -> Facts:
    subjects = (
        Subject("image", "image", Kind.IMAGE),
        Subject("liver", "Liver", Kind.ORGAN, "liver"),
        Subject("kidney-l", "Left kidney", Kind.ORGAN, "kidney", Side.LEFT),
        Subject("c1", "cyst", Kind.LESION, "kidney", Side.LEFT, "cyst"),
    )
    facts = (
        Fact("f1", "liver", "volume", 1500.0, "mL"),
        Fact("f2", "kidney-l", "volume", 160.0, "mL"),
        Fact("f3", "c1", "long_axis", 18.0, "mm"),
        Fact("f4", "c1", "short_axis", 17.0, "mm"),
    )
    return Facts(subjects, facts, "CT")


def test_sections_fields_and_codes(tmp_path: Path) -> None:
    template, _ = read_mrrt(written(tmp_path))
    assert template.id == "ct-abdomen-pelvis"
    assert template.title == {"en": "CT Abdomen & Pelvis"}
    assert (template.modality, template.languages) == (("CT",), ("en",))
    assert template.data["origin"]["license"] == "CC0"
    assert [section.key for section in template.sections] == ["technique", "history", "findings", "impression"]
    findings = template.sections[2]
    assert findings.title == {"en": "Results"}
    assert findings.code is not None
    assert (findings.code.scheme, findings.code.value) == ("LN", "59776-5")
    items = {item.get("label", {}).get("en", item["item"]): item for item in findings.items}
    assert items["Liver"]["organs"] == ["liver"]
    assert items["GB"]["organs"] == ["gallbladder"]  # by its code, since the label says nothing
    assert items["Adrenals"]["organs"] == ["adrenal gland"]
    assert items["Kidneys/Ureters"]["organs"] == ["kidney", "ureter"]
    assert items["Left kidney"]["side"] == "left"
    assert items["Lymph nodes"]["item"] == "nodes"
    assert items["Stones"]["choices"] == ["None.", "Present."]
    assert items["Stones"]["code"]["value"] == "RID4990"
    diameter = items["Appendix, appendiceal diameter"]
    assert (diameter["type"], diameter["unit"], diameter["maximum"]) == ("number", "mm", 50.0)
    assert diameter["code"]["value"] == "RDE196"
    assert (items["Appendix, fluid"]["type"], items["Appendix, fluid"]["choices"]) == (
        "choices",
        ["pelvic", "pericecal"],
    )
    assert list(items)[-1] == "other"


def test_a_unit_behind_a_field_is_its_unit_and_no_label(tmp_path: Path) -> None:
    fields = '<p>Length: <input type="text" id="a"/> mm width: <input type="text" id="b"/> cm</p>'
    text = f'<section data-section-name="Befunde">{fields}</section>'.replace("Befunde", "Findings")
    template, _ = read_mrrt(written(tmp_path, text))
    items = [item for item in template.sections[0].items if item["item"] == "field"]
    assert [(item["label"]["en"], item.get("unit")) for item in items] == [("Length", "mm"), ("width", None)]


def test_a_bound_without_end_is_left_out(tmp_path: Path) -> None:
    text = f"""<section data-section-name="Findings"><p><label for="a">Size</label>
        <input type="number" id="a" min="{"9" * 400}" max="-50.5"/></p></section>"""
    template, _ = read_mrrt(written(tmp_path, text))
    (item,) = (item for item in template.sections[0].items if item["item"] == "field")
    assert (item.get("minimum"), item["maximum"]) == (None, -50.5)


def test_a_draft_says_nothing_that_the_template_says_by_default(tmp_path: Path) -> None:
    template, notes = read_mrrt(written(tmp_path))
    report = draft(abdomen(), template)
    text = "\n".join(statement.text for statement in report.statements)
    for default in ("normal", "clear", "unremarkable", "no acute", "none.", "pain", "contrast was obtained", "alert"):
        assert default not in text.lower()
    assert "The liver has a volume of 1500 mL." in text
    assert "An 18 x 17 mm cyst is present in the left kidney." in text
    for label in ("GB", "Adrenals", "Lymph nodes", "Stones", "Appendix, appendiceal diameter", "Indication"):
        assert f"{label}: [not assessed]" in text
    assert any("Normal." in note and "left out" in note for note in notes)
    assert any("lung bases are clear" in note for note in notes)


def test_only_the_named_side_is_written_to_a_field_of_one_side(tmp_path: Path) -> None:
    template, _ = read_mrrt(written(tmp_path, TEMPLATE.replace("Kidneys/Ureters", "Right kidney")))
    report = draft(abdomen(), template)
    texts = [statement.text for statement in report.statements]
    assert "Right kidney: [not assessed]" in texts
    assert texts.index("Right kidney: [not assessed]") < texts.index("The left kidney has a volume of 160 mL.")


def test_german_templates_make_german_reports(tmp_path: Path) -> None:
    text = TEMPLATE.replace('content="en-US"', 'content="de-DE"').replace("Liver:", "Leber:")
    template, _ = read_mrrt(written(tmp_path, text))
    report = draft(abdomen(), template, language_code="de")
    assert any("Leber" in s.text and "1500 ml" in s.text for s in report.statements)
    with pytest.raises(TemplateError, match="is in de and not in en"):
        draft(abdomen(), template)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not an MRRT report template"),
        ("<html><body><p>Hello</p></body></html>", "not an MRRT report template"),
        ('{"schema": 1}', "not an MRRT report template"),
        (TEMPLATE.replace("en-US", "fr"), "is in 'fr'"),
        ("<section>" * 10_000, "not an MRRT report template"),
    ],
)
def test_what_is_no_template(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(TemplateError, match=complaint):
        read_mrrt(written(tmp_path, text))


def test_a_missing_file_a_folder_and_a_huge_file(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="no such file"):
        read_mrrt(tmp_path / "gone.html")
    with pytest.raises(TemplateError, match="is a folder"):
        read_mrrt(tmp_path)
    with pytest.raises(TemplateError, match="too large"):
        read_mrrt(written(tmp_path, " " * 5_000_001))


def test_entities_in_the_coded_content_are_not_expanded(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    text = TEMPLATE.replace("<template_attributes>", f"{bomb}<template_attributes>").replace("gallstone", "&b;")
    template, _ = read_mrrt(written(tmp_path, text))
    assert "aaaa" not in str(template.data)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*TEMPLATE.splitlines(), "</p></section>", "<section>", "<input id='x'>"]), max_size=80)
)
def test_any_order_of_lines_is_a_template_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = written(tmp_path_factory.mktemp("mrrt"), "\n".join(lines))
    try:
        template, _ = read_mrrt(path)
    except TemplateError:
        return
    assert draft(abdomen(), template).statements
