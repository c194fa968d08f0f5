# SPDX-License-Identifier: Apache-2.0
"""The command `foundation-report`: a case from its draft to its retraction, and every failure as one sentence."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from FoundationReportLib.case import Case
from FoundationReportLib.cli import _parser, main
from FoundationReportLib.model import Facts
from FoundationReportLib.rules import parse_answers
from FoundationReportLib.serialise import facts_data, json_text, load_facts
from FoundationSegLib.segmentation_io import SegmentRecord, write_segmentation
from FoundationSegLib.volume import Volume
from report_case import small_facts, small_report

ROOT = Path(__file__).resolve().parents[3]
TRUE, FALSE = "The liver has a volume of 1500 mL.", "The liver has a volume of 900 mL."
UNKNOWN = "The gallbladder contains stones."


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        result = json.loads(self.out)
        assert isinstance(result, dict)
        return result


class Runner:
    """Runs the command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Ran:
        self._capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        assert "fault of the program" not in captured.err, captured.err
        return Ran(status, captured.out, captured.err)

    def fails(self, *arguments: object, says: str, status: int = 1) -> None:
        """With one sentence, which --json gives to programs too."""
        ran = self(*arguments)
        assert (ran.status, ran.out) == (status, ""), ran
        sentence = ran.err.strip().splitlines()[-1]
        assert re.search(says, sentence), sentence
        assert sentence.endswith((".", ")"))
        if status == 1:
            assert self(*arguments, "--json").data["error"]["message"] == sentence


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    Case.create(tmp_path / "case", small_report(), "FoundationReport").close()
    return tmp_path / "case"


# --- a study as files -------------------------------------------------------------------------------------------------


def study(folder: Path, radius_mm: float = 8.0, shift_mm: float = 0.0) -> tuple[Path, Path]:
    """A chest on an oblique-free, anisotropic grid: two lungs, a liver, a ball in the right lung. RAS: right is +."""
    shape, spacing = (48, 64, 64), (5.0, 4.0, 4.0)
    matrix = np.diag([-4.0, -4.0, 5.0, 1.0])  # LPS order of the voxels, as CT has it
    matrix[:3, 3] = (126, 126, -120)
    k, j, i = np.indices(shape)
    r, a, s = matrix[0, 3] - 4 * i, matrix[1, 3] - 4 * j, matrix[2, 3] + 5 * k
    assert spacing == (5.0, 4.0, 4.0)

    def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        return sum(((x - c) / d) ** 2 for x, c, d in zip((r, a, s), centre, radii, strict=True)) <= 1

    body = ellipsoid((0, 0, 0), (120, 90, 400))
    right, left = ellipsoid((60, 0, 30), (40, 60, 80)), ellipsoid((-60, 0, 30), (40, 60, 80))
    liver = ellipsoid((50, 0, -85), (55, 50, 30))
    nodule = ellipsoid((60 + shift_mm, 10, 40), (radius_mm,) * 3)
    voxels = np.full(shape, -1000, np.int16)
    for mask, value in ((body, 40), (right | left, -850), (liver, 60), (nodule, 30)):
        voxels[mask] = value
    folder.mkdir(parents=True, exist_ok=True)
    volume = Volume(voxels, matrix, "CT")
    sitk.WriteImage(volume.to_sitk(), str(folder / "ct.nrrd"))
    records = [
        SegmentRecord(name, mask)
        for name, mask in (
            ("Right lung", right & ~nodule),
            ("Left lung", left),
            ("Liver", liver & ~right),
            ("Pulmonary nodule", nodule),
        )
    ]
    write_segmentation(folder / "ct.seg.nrrd", volume, records)
    return folder / "ct.nrrd", folder / "ct.seg.nrrd"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return study(tmp_path_factory.mktemp("study"))


def draft_arguments(files: tuple[Path, Path], out: Path) -> tuple[object, ...]:
    return ("draft", "--volume", files[0], "--segmentation", files[1], "--modality", "CT", "--out", out)


# --- draft ------------------------------------------------------------------------------------------------------------


def test_a_report_from_its_draft_to_its_retraction(run: Runner, files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "case"
    drafted = run(*draft_arguments(files, out), "--template", "ct-chest", "--json").data
    assert drafted["state"] == "draft" and drafted["label"].startswith("AI-ASSISTED DRAFT")
    assert drafted["verdicts"].get("contradicted", 0) == 0 and drafted["verdicts"]["supported"] >= 3
    texts = " ".join(statement["text"] for statement in drafted["statements"])
    assert re.search(r"right (lung|upper|middle|lower)", texts) and re.search(r"1[5-9] x 1[0-9] mm", texts)
    assert "normal" not in texts.lower()

    run.fails("sign", out, "--signer", "Dr. A", says="cannot be signed")
    filling = [s["id"] for s in drafted["statements"] if s.get("placeholder")]
    todo = drafted["unresolved"]
    assert sorted(filling) == sorted(todo["unfilled"])
    run("edit", out, filling[0], "--text", "The thyroid is small.", "--by", "Dr. A")
    edited = run("show", out, "--json").data
    assert filling[0] in edited["unresolved"]["unverifiable"] and edited["state"] == "edited"
    accepted = edited["unresolved"]["unverifiable"] + edited["unresolved"]["unfilled"] + edited["omitted"]
    assert run("accept", out, *accepted, "--by", "Dr. A").status == 0

    signed = run("sign", out, "--signer", "Dr. A", "--organisation", "Clinic", "--json").data
    assert signed["state"] == "signed" and signed["signatures"][0]["organisation"] == "Clinic"
    assert signed["label"].startswith("Signed by Dr. A")
    run.fails("edit", out, filling[0], "--text", "No.", says="signed and cannot be edited")
    added = run("addendum", out, "--text", "Discussed by telephone.", "--signer", "Dr. B", "--accept", "--json").data
    assert added["state"] == "amended" and len(added["signatures"]) == 2

    changes = run("diff", out, "--json").data["changes"]
    assert {(c["kind"], c["statement"]) for c in changes if c["kind"] != "accepted"} == {
        ("changed", filling[0]),
        ("added", added["statements"][-1]["id"]),
    }
    assert "{+The thyroid is small.+}" in run("diff", out).out
    verified = run("verify", out, "--head", signed["head"], "--json").data
    assert verified["ok"] and verified["head"] == added["head"]
    events = [entry["event"] for entry in run("log", out, "--json").data["entries"]]
    assert events[0] == "draft" and [e for e in events if e != "check"][1:] == ["edit", "accept", "sign", "addendum"]

    retracted = run("retract", out, "--reason", "Wrong patient", "--signer", "Dr. A", "--json").data
    assert retracted["state"] == "retracted" and retracted["label"].startswith("RETRACTED")
    run.fails("addendum", out, "--text", "x", "--signer", "x", says="retracted")
    assert run("verify", out).status == 0
    assert "Wrong patient" in run("show", out, "--plain").out


def test_a_draft_shows_facts_findings_and_evidence(run: Runner, files: tuple[Path, Path], tmp_path: Path) -> None:
    ran = run(*draft_arguments(files, tmp_path / "case"))
    assert ran.status == 0
    for text in ("FACTS", "Pulmonary nodule", "longest axial diameter", "FINDINGS", "AI-ASSISTED DRAFT", "Case: "):
        assert text in ran.out
    facts = load_facts(tmp_path / "case" / "facts.json")
    volumes = {s.id: f.value for s in facts.subjects for f in facts.of(s.id, "volume")}
    nodule = next(s for s in facts.subjects if s.name == "Pulmonary nodule")
    assert nodule.side == "right" and abs(float(volumes[nodule.id]) - 2.14) < 0.3
    assert "longest axial diameter" in run("show", tmp_path / "case", "--facts").out


def test_the_same_files_give_the_same_report(run: Runner, files: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = (run(*draft_arguments(files, tmp_path / name), "--json").data for name in "ab")
    assert a["statements"] == b["statements"] and a["id"] == b["id"]
    reports = [json.loads((tmp_path / name / "report.json").read_text(encoding="utf-8")) for name in "ab"]
    assert [report.pop("audit")["n"] for report in reports] == [0, 0]
    assert reports[0] == reports[1]
    assert run("diff", tmp_path / "a", "--against", tmp_path / "b", "--json").data["changes"] == []


def test_a_prior_study_is_compared(run: Runner, files: tuple[Path, Path], tmp_path: Path) -> None:
    prior = study(tmp_path / "prior", radius_mm=12.0)
    arguments = (*draft_arguments(files, tmp_path / "case"), "--template", "oncology")
    ran = run(*arguments, "--prior", prior[0], "--prior-segmentation", prior[1], "--json")
    assert ran.status == 0
    changes = [f for f in load_facts(tmp_path / "case" / "facts.json").facts if f.quantity == "change_percent"]
    assert changes and any(abs(float(f.value) + 33) < 8 for f in changes)
    run.fails(*arguments, "--prior", prior[0], says="both --prior and --prior-segmentation", status=2)


def test_contrast_is_what_a_person_states(run: Runner, files: tuple[Path, Path], tmp_path: Path) -> None:
    ran = run(*draft_arguments(files, tmp_path / "case"), "--contrast", "with", "--json")
    assert ran.status == 0
    (fact,) = load_facts(tmp_path / "case" / "facts.json").of("image", "contrast")
    assert (fact.value, fact.source.by) == ("with", "human")
    said = [s for s in ran.data["statements"] if "contrast" in s["text"]]
    assert [(s["judgement"]["verdict"], s.get("placeholder", False)) for s in said] == [("supported", False)]
    run.fails(*draft_arguments(files, tmp_path / "x"), "--contrast", "maybe", says="with", status=2)


def test_an_oncology_draft_chooses_targets_and_says_so(run: Runner, files: tuple[Path, Path], tmp_path: Path) -> None:
    def targets(name: str, *more: object) -> tuple[list[str], list[str], list[str]]:
        arguments = (*draft_arguments(files, tmp_path / name), *more, "--json")
        statements = run(*arguments).data["statements"]
        facts = [f.source.by for f in load_facts(tmp_path / name / "facts.json").facts if f.quantity == "target"]
        chosen = [s["judgement"]["verdict"] for s in statements if "chosen automatically" in s["text"]]
        return facts, chosen, [s["text"] for s in statements if s["text"].startswith("The sum of the target")]

    oncology = ("--template", "oncology")
    assert targets("auto", *oncology)[:2] == (["algorithm"], ["supported"])
    assert len(targets("auto2", *oncology)[2]) == 1
    assert targets("named", *oncology, "--targets", "Pulmonary nodule")[:2] == (["human"], [])
    assert targets("none", *oncology, "--targets", "none") == ([], [], [])
    assert targets("chest", "--template", "ct-chest") == ([], [], [])
    assert targets("german", *oncology, "--language", "de")[0] == ["algorithm"]
    followed = targets("followed", *oncology, "--prior", tmp_path / "named")
    assert followed[:2] == (["human"], [])


def test_no_path_and_no_header_text_enters_a_case(run: Runner, files: tuple[Path, Path], tmp_path: Path) -> None:
    image = sitk.ReadImage(str(files[0]))
    image.SetMetaData("PatientName", "DOE^JANE")
    sitk.WriteImage(image, str(tmp_path / "jane.nrrd"))
    assert run(*draft_arguments((tmp_path / "jane.nrrd", files[1]), tmp_path / "case")).status == 0
    for path in (tmp_path / "case").iterdir():
        text = path.read_text(encoding="utf-8")
        assert not [word for word in (str(tmp_path), str(files[1].parent), "DOE^JANE", "jane") if word in text]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--volume": "missing.nrrd"}, "missing.nrrd"),
        ({"--segmentation": "missing.seg.nrrd"}, "missing.seg.nrrd"),
        ({"--segmentation": "VOLUME"}, "segment"),
        ({"--template": "ct-toe"}, "no report template 'ct-toe'"),
        ({"--template": "mr-brain"}, "for MR"),
        ({"--template": "broken.json"}, "schema at"),
        ({"--language": "xx"}, "xx"),
        ({"--context": "broken.json"}, "broken.json"),
        ({"--answer": "solid"}, "name=value"),
        ({"--prior": "missing.nrrd", "--prior-segmentation": "missing.seg.nrrd"}, "missing.nrrd"),
        ({"--out": "full"}, "holds other files"),
    ],
)
def test_what_cannot_be_drafted_is_named_and_leaves_no_case(
    run: Runner, files: tuple[Path, Path], tmp_path: Path, change: dict[str, str], says: str
) -> None:
    (tmp_path / "broken.json").write_text('{"a": 1}', encoding="utf-8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    options = {"--volume": files[0], "--segmentation": files[1], "--out": tmp_path / "case", "--modality": "CT"}
    for name, value in change.items():
        own = tmp_path / value
        options[name] = files[0] if value == "VOLUME" else own if "." in value or value == "full" else value  # type: ignore[assignment]
    run.fails("draft", *(part for pair in options.items() for part in pair), says=re.escape(says))
    assert not (tmp_path / "case").exists()


def test_a_segmentation_from_elsewhere_is_refused(run: Runner, files: tuple[Path, Path], tmp_path: Path) -> None:
    volume = Volume(
        np.arange(1000, dtype=np.int16).reshape(10, 10, 10),
        np.array([[1.0, 0, 0, 900], [0, 1, 0, 900], [0, 0, 1, 900], [0, 0, 0, 1]]),
    )
    write_segmentation(tmp_path / "far.seg.nrrd", volume, [SegmentRecord("Liver", np.ones((10, 10, 10), bool))])
    run.fails(
        *draft_arguments((files[0], tmp_path / "far.seg.nrrd"), tmp_path / "case"), says="segment|frame|lie|outside"
    )


# --- check ------------------------------------------------------------------------------------------------------------


def test_any_text_is_checked_against_any_facts(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text(json_text(facts_data(small_facts())), encoding="utf-8")
    (tmp_path / "report.txt").write_text(f"{TRUE} {FALSE}\n{UNKNOWN}", encoding="utf-8")
    arguments = ("check", "--facts", tmp_path / "facts.json", "--text", tmp_path / "report.txt")
    data = run(*arguments, "--json").data
    assert [(s["text"], s["verdict"]) for s in data["sentences"]] == [
        (TRUE, "supported"),
        (FALSE, "contradicted"),
        (UNKNOWN, "unverifiable"),
    ]
    assert data["sentences"][0]["facts"] == ["f3"] and data["sentences"][1]["facts"] == ["f3"]
    assert data["verdicts"] == {"supported": 1, "contradicted": 1, "unverifiable": 1}
    assert data["omitted"]  # the nodule
    assert run(*arguments).status == 0 and run(*arguments, "--strict").status == 1
    assert "1 supported, 1 contradicted, 1 cannot be verified." in run(*arguments).out


def test_a_text_comes_from_standard_input_too(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    (tmp_path / "facts.json").write_text(json_text(facts_data(small_facts())), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(TRUE))
    assert run("check", "--facts", tmp_path / "facts.json", "--text", "-", "--json").data["verdicts"]["supported"] == 1


def test_what_cannot_be_checked_is_named(run: Runner, case: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TRUE, encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes("Befund: unauffällig".encode("latin-1"))
    facts = case / "facts.json"
    run.fails("check", "--facts", tmp_path / "no.json", "--text", tmp_path / "text.txt", says=r"no\.json")
    run.fails("check", "--facts", tmp_path / "text.txt", "--text", tmp_path / "text.txt", says="not JSON")
    run.fails("check", "--facts", facts, "--text", tmp_path / "no.txt", says=r"no\.txt")
    run.fails("check", "--facts", facts, "--text", tmp_path / "latin.txt", says="not UTF-8")
    run.fails("check", "--facts", facts, "--text", tmp_path, says="director|folder")
    run.fails("check", "--facts", facts, says="--text", status=2)
    run.fails("check", says="give a case folder", status=2)
    run.fails("check", case, "--facts", facts, says="not both", status=2)


def test_a_case_is_checked_and_the_result_kept(run: Runner, case: Path) -> None:
    assert run("show", case, "--json").data["verdicts"]["unchecked"] == 1
    assert "unchecked" not in run("check", case, "--json").data["verdicts"]
    assert "unchecked" not in run("show", case, "--json").data["verdicts"]
    run("edit", case, "s1", "--text", FALSE)
    shown = run("show", case).out
    assert "!! s1" in shown and "contradicted: " in shown and "[f3 " in shown
    assert run("check", case, "--strict").status == 1


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_statements_are_added_and_removed(run: Runner, case: Path) -> None:
    assert "s4" in run("edit", case, "--add", "impression", "--text", TRUE, "--by", "me").out
    data = run("edit", case, "s2", "--remove", "--json").data
    assert [s["id"] for s in data["statements"]] == ["s1", "s3", "s4"]
    out = run("diff", case).out
    assert re.search(r"added +s4 \(impression", out) and re.search(r"removed +s2 \(findings, first written by vlm", out)
    actors = [entry["actor"] for entry in run("log", case, "--json").data["entries"] if entry["event"] == "add"]
    assert actors == ["me"]


def test_all_fields_that_stay_open_are_accepted_at_once(run: Runner, case: Path) -> None:
    data = run("accept", case, "--by", "Dr. A", "fields", "s2", "--json").data
    assert [s["id"] for s in data["statements"] if s.get("accepted_by") == "Dr. A"] == ["s2", "s3"]
    assert not data["unresolved"]["unfilled"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["edit", "CASE"],
        ["edit", "CASE", "s1"],
        ["edit", "CASE", "s1", "--text", "x", "--remove"],
        ["edit", "CASE", "--add", "findings"],
        ["edit", "CASE", "s1", "--add", "findings", "--text", "x"],
        ["sign", "CASE"],
        ["accept", "CASE"],
        ["addendum", "CASE", "--signer", "x"],
        ["draft", "--out", "CASE"],
        ["paint"],
        [],
    ],
)
def test_wrong_use_is_two(run: Runner, case: Path, arguments: list[str]) -> None:
    ran = run(*(str(case) if argument == "CASE" else argument for argument in arguments))
    assert ran.status == 2 and ran.out == "" and ran.err.count("\n") == 1


@pytest.mark.parametrize("command", ["show", "verify", "diff", "log", "check"])
def test_what_is_no_case_is_named(run: Runner, tmp_path: Path, command: str) -> None:
    run.fails(command, tmp_path / "nothing", says="no case folder")
    run.fails(command, tmp_path, says="holds no report")


def test_tampering_ends_with_one(run: Runner, case: Path) -> None:
    path = case / "report.json"
    path.write_text(path.read_text(encoding="utf-8").replace("1500 mL", "1600 mL"), encoding="utf-8")
    ran = run("verify", case)
    assert ran.status == 1 and ran.out.startswith("PROBLEM: ")
    assert run("verify", case, "--json").data["ok"] is False
    run.fails("edit", case, "s1", "--text", "x", says="changed outside")


def test_templates_are_listed_shown_and_imported(run: Runner, tmp_path: Path) -> None:
    names = [template["id"] for template in run("templates", "list", "--json").data["templates"]]
    assert {"ct-chest", "ct-abdomen", "mr-brain", "oncology", "generic"} <= set(names)
    shown = run("templates", "show", "ct-chest", "--source").out
    (tmp_path / "own.json").write_text(shown, encoding="utf-8")
    assert run("templates", "show", tmp_path / "own.json", "--json").data["template"]["id"] == "ct-chest"
    readable = run("templates", "show", "ct-chest").out
    assert "density=solid|part-solid|ground-glass" in readable and "age=NUMBER" in readable
    for answer in run("templates", "show", "oncology", "--json").data["answers"]:
        for value in answer["values"] or ["7"]:
            assert parse_answers([f"{answer['name']}={value}"])
    assert "--answer" not in run("templates", "show", "mr-brain").out
    run.fails("templates", "show", "nothing", says="no report template")
    run.fails("templates", "import", tmp_path / "no.html", "--out", tmp_path / "x.json", says=r"no\.html")


def test_it_runs_as_a_program(case: Path) -> None:
    folders = [str(ROOT / "FoundationReport"), str(ROOT / "FoundationSeg")]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60}
    options["env"] = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    command = [sys.executable, "-m", "FoundationReportLib", "verify", str(case)]
    done = subprocess.run([*command, "--json"], check=False, **options)
    assert done.returncode == 0 and json.loads(done.stdout)["ok"]
    shutil.rmtree(case)
    done = subprocess.run(command, check=False, **options)
    assert done.returncode == 1 and "no case folder" in done.stderr


def test_a_person_who_stops_it_is_told_so(
    run: Runner, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from FoundationReportLib import commands_draft

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands_draft, "_measured", stopped)
    ran = run(*draft_arguments(files, tmp_path / "case"))
    assert ran.status == 130 and "Cancelled" in ran.err and not (tmp_path / "case").exists()


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A volume that makes the small trained model see a lesion, and a segment of no consequence, as files."""
    import tiny_vlm

    folder = tmp_path_factory.mktemp("shown")
    volume = tiny_vlm.volume_of("lesion", slices=8)
    mask = np.zeros(volume.shape, bool)
    mask[3:5, 10:14, 20:24] = True
    sitk.WriteImage(volume.to_sitk(), str(folder / "ct.nrrd"))
    write_segmentation(folder / "ct.seg.nrrd", volume, [SegmentRecord("Spleen", mask)])
    return folder / "ct.nrrd", folder / "ct.seg.nrrd"


def test_a_model_s_sentences_enter_unverified_and_are_recorded(
    run: Runner, tiny_gemma: Path, shown: tuple[Path, Path], files: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "case"
    ran = run(*draft_arguments(shown, out), "--engine", tiny_gemma, "--device", "cpu", "--json")
    assert ran.status == 0 and "Asking" in ran.err
    written = [s for s in ran.data["statements"] if s["origin"] == "vlm"]
    assert written and all(s["judgement"]["verdict"] != "supported" and s["slices"] for s in written)
    assert not any("24" in s["text"] for s in written)  # its numbers are never taken
    entries = run("log", out, "--json").data["entries"]
    narrative = next(entry for entry in entries if entry["event"] == "narrative")
    assert narrative["models"][0]["prompt_sha256"] and narrative["models"][0]["engine"] == "hf-chat"
    assert all(str(tiny_gemma) not in path.read_text(encoding="utf-8") for path in out.iterdir())
    run.fails("sign", out, "--signer", "Dr. A", says=written[0]["id"])
    assert run("verify", out).status == 0

    again = ("narrate", out, "--engine", tiny_gemma, "--device", "cpu", "--modality", "CT")
    run.fails(*again, "--volume", files[0], "--segmentation", files[1], says="not the image that")
    run.fails(
        *draft_arguments(files, tmp_path / "other"),
        "--engine",
        "gpt-9",
        says='no model "gpt-9" for reports; there are: ',
    )
    assert not (tmp_path / "other").exists()


def test_models_are_listed(run: Runner) -> None:
    models = run("models", "--json").data["models"]
    assert models[0]["name"] == "medgemma-1.5-4b" and all(model["licence"] for model in models)


def test_a_worklist_has_an_order_with_reasons(run: Runner, case: Path, tmp_path: Path) -> None:
    Case.create(tmp_path / "empty", replace(small_report(), facts=Facts(modality="CT"), statements=()), "x").close()
    worklist = run("triage", tmp_path / "empty", case, "--json").data["worklist"]
    assert sorted(place["id"] for place in worklist) == sorted([str(case), str(tmp_path / "empty")])
    assert all(place["reasons"] for place in worklist)
    assert run("triage", case).out.startswith("1. ")


def test_suggestions_are_taken_over_by_a_person_only(
    run: Runner, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, shown: tuple[Path, Path]
) -> None:
    pytest.importorskip("transformers")
    import tiny_vlm
    from test_report_suggest import SENTENCES

    model = tiny_vlm.clip(tmp_path_factory.mktemp("clip"), SENTENCES)
    findings = [
        {"name": "bleeding", "statement": "There is a bleeding.", "present": [first], "absent": [second]}
        for first, second in [list(SENTENCES)[:2]]
    ]
    (tmp_path / "findings.json").write_text(json.dumps(findings), encoding="utf-8")
    out = tmp_path / "case"
    run(*draft_arguments(shown, out))
    arguments = ("suggest", out, "--volume", shown[0], "--segmentation", shown[1], "--modality", "CT")
    arguments = (*arguments, "--model", model, "--findings", tmp_path / "findings.json", "--device", "cpu")
    before = run("show", out, "--json").data["statements"]
    suggested = run(*arguments, "--json").data
    assert [s["finding"] for s in suggested["suggestions"]] == ["bleeding"] and suggested["statements"] == before
    assert 0 <= suggested["suggestions"][0]["score"] <= 1
    assert "not calibrated" in run(*arguments).out
    run.fails(*arguments, "--take", "bleeding", says="--by NAME", status=2)
    taken = run(*arguments, "--take", "bleeding", "--by", "Dr. A", "--json").data["statements"]
    (new,) = [s for s in taken if s["id"] not in {old["id"] for old in before}]
    assert new["text"] == "There is a bleeding." and new["accepted_by"] == "Dr. A" and new["origin"] == "vlm"
    assert run("verify", out).status == 0
    run.fails(*arguments, "--take", "stroke", "--by", "Dr. A", says='no finding "stroke"')
    (tmp_path / "findings.json").write_text('[{"name": 3}]', encoding="utf-8")
    run.fails(*arguments, says="finding 1: name should be text")


# --- README -----------------------------------------------------------------------------------------------------------

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)


def test_the_readme_s_commands_are_understood() -> None:
    lines = [line for _, block in BLOCKS for line in block.splitlines() if line.startswith("foundation-report ")]
    assert len(lines) >= 8
    for line in lines:
        assert callable(_parser().parse_args(shlex.split(line)[1:]).run)


def test_the_readme_s_python_runs(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = next(block for language, block in BLOCKS if language == "python" and "FoundationReportLib import" in block)
    monkeypatch.chdir(files[0].parent)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["report"].state == "signed" and "supported" in capsys.readouterr().out
