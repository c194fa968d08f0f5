# SPDX-License-Identifier: Apache-2.0
"""The generic engine end to end, on a Gemma 3 that was trained when the tests began; nothing in it is replaced."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from FoundationReportLib.engines import Narrative, Said, Watch, load_engine, merge, with_narrative
from FoundationReportLib.engines.hf_chat import HfChat, Settings
from FoundationReportLib.engines.prompts import Question
from FoundationReportLib.errors import Cancelled, EngineError, StateError
from FoundationReportLib.model import Origin, Report, Section, Side, State, Statement, Verdict
from FoundationSegLib.predictor import CancelToken
from FoundationSegLib.segmentation_io import SegmentRecord
from report_engine_case import engine_of, lesion, make_report, vlm_texts

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_vlm  # noqa: E402


@pytest.fixture(scope="module")
def engine(tiny_gemma: Path) -> HfChat:
    return engine_of(tiny_gemma, max_new_tokens=96)


def ask(engine: HfChat, behaviour: str, report: Report | None = None, **options: Any) -> Any:
    return with_narrative(report or make_report(), engine, tiny_vlm.volume_of(behaviour), **options)


# --- What it says ----------------------------------------------------------------------------------------------------


def test_the_text_depends_on_the_image_and_enters_unverified(engine: HfChat) -> None:
    before = make_report()
    bright, dark = ask(engine, "lesion", before).report, ask(engine, "cyst", before).report
    assert vlm_texts(bright) == [
        "A [size not taken from the model] hypodense lesion in the right hepatic lobe.",
        "Small left pleural effusion.",
    ]
    assert vlm_texts(dark) == ["Possible cyst in the left kidney.", "No free fluid is seen."]
    for report in (bright, dark):
        assert report.statements[0] == before.statements[0], "a model has filled what was not assessed"
        for statement in report.statements[1:]:
            assert (statement.origin, statement.judgement, statement.accepted_by) == (Origin.VLM, None, "")
            assert statement.section == "findings" and statement.model == "m1" and statement.slices == tuple(range(6))
        assert report.next_statement == 12 and {s.id for s in report.statements} == {"s1", "s10", "s11"}
        assert report.state is State.DRAFT


def test_the_record_says_which_model_wrote_from_what(engine: HfChat, tiny_gemma: Path) -> None:
    (info,) = ask(engine, "lesion").report.models
    assert (info.id, info.engine, info.model) == ("m1", "hf-chat", "someone/tiny-gemma")
    assert info.revision == engine.snapshot.commit and len(info.revision) == 64
    assert (info.device, info.precision, info.licence) == ("cpu", "float32", "HAI-DEF terms")
    assert info.slices == tuple(range(6)) and len(info.windows) == 3 and len(info.prompt_sha256) == 64
    assert info.decoding == {"greedy": True, "max_new_tokens": 96} and info.seed is None
    text = json.dumps(info.__dict__, default=str)
    assert str(tiny_gemma) not in text and "Tumour" not in text


def test_another_prompt_has_another_hash_and_the_same_one_the_same(engine: HfChat) -> None:
    first, again = (ask(engine, "cyst").report for _ in range(2))
    assert first == again
    other = ask(engine, "cyst", make_report(facts=lesion())).report
    assert other.models[0].prompt_sha256 != first.models[0].prompt_sha256


def test_a_second_model_gets_an_id_of_its_own(engine: HfChat) -> None:
    twice = ask(engine, "cyst", ask(engine, "lesion").report).report
    assert [model.id for model in twice.models] == ["m1", "m2"]
    assert [s.model for s in twice.statements if s.origin is Origin.VLM].count("m2") == 2


def test_each_field_is_a_question_and_answers_stand_behind_it(engine: HfChat) -> None:
    fields = [Statement(f"s{n}", "findings", f"{name}: [not assessed]", Origin.TEMPLATE, placeholder=True)
              for n, name in ((2, "Spleen"), (3, "Bones"))]  # fmt: skip
    told: list[tuple[str, float]] = []
    report = make_report(*fields)
    merged = ask(engine, "cyst", report, watch=Watch(progress=lambda *at: told.append(at))).report
    assert [fraction for stage, fraction in told if stage == "write"] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    # The same sentence for three questions is one statement, at the first.
    assert [s.id for s in merged.statements] == ["s1", "s10", "s11", "s2", "s3"]
    told.clear()
    ask(engine, "cyst", report, each_field=False, watch=Watch(progress=lambda *at: told.append(at)))
    assert [fraction for stage, fraction in told if stage == "write"] == [0, 1]


def test_only_sections_that_a_model_can_add_to_are_asked(engine: HfChat) -> None:
    report = replace(make_report(), sections=(Section("history", "History"), Section("technique", "Technique")))
    with pytest.raises(EngineError, match="no section that a model can add to"):
        ask(engine, "cyst", report)


# --- Facts and the model ---------------------------------------------------------------------------------------------


def test_what_was_measured_is_not_said_a_second_time(engine: HfChat) -> None:
    question = Question("findings", "", "?")
    info = ask(engine, "cyst").report.models[0]
    said = (
        "Lesion in the right hepatic lobe.",
        "A 30 mm mass in the liver.",
        "The right liver lesion has a thick wall.",
    )
    merged = merge(make_report(facts=lesion()), Narrative(tuple(Said(question, text) for text in said), info))
    assert vlm_texts(merged.report) == ["The right liver lesion has a thick wall."]
    assert sum("about lesion-1, which was measured" in note for note in merged.notes) == 2
    empty = merge(make_report(), Narrative((Said(question, "The left kidney."), Said(question, "Cyst.")), info))
    assert vlm_texts(empty.report) == ["Cyst."] and "names no finding" in empty.notes[0]
    again = merge(merged.report, Narrative((Said(question, "Thick wall of the liver lesion on the right."),), info))
    assert vlm_texts(again.report) == vlm_texts(merged.report) and "says so already" in again.notes[0]


def test_a_number_near_the_fact_becomes_the_fact(engine: HfChat) -> None:
    report = ask(engine, "lesion", make_report(facts=lesion(long_axis=25.0))).report
    (statement, _) = [s for s in report.statements if s.origin is Origin.VLM]
    assert statement.text == "A 25 mm hypodense lesion in the right hepatic lobe." and statement.facts == ("f2",)


def test_the_wrong_side_of_a_model_is_contradicted_by_the_check(engine: HfChat) -> None:
    from FoundationReportLib.check import check

    left = ask(engine, "lesion", make_report(facts=lesion(Side.LEFT))).report
    (wrong,) = [s for s in check(left).statements if "hypodense lesion" in s.text]
    assert wrong.judgement is not None and wrong.judgement.verdict is Verdict.CONTRADICTED
    (effusion,) = [s for s in check(left).statements if "effusion" in s.text]
    assert effusion.judgement is not None and effusion.judgement.verdict is not Verdict.SUPPORTED


def test_no_number_of_the_model_gets_into_the_report(engine: HfChat) -> None:
    merged = ask(engine, "lesion")
    assert not any(character.isdigit() for text in vlm_texts(merged.report) for character in text)
    assert any('"24 mm" of the model was measured by nobody' in note for note in merged.notes)


def test_a_signed_report_takes_nothing_from_a_model(engine: HfChat) -> None:
    with pytest.raises(StateError, match="signed"):
        ask(engine, "cyst", replace(make_report(), state=State.SIGNED))


# --- Bad behaviour ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("nothing", "no text"),
        ("json", "a fragment of JSON"),
        ("german", r"not in English \(German\)"),
        ("burned-in", "instructions, perhaps words in a picture: none of the answer is used"),
    ],
)
def test_answers_that_cannot_be_used_leave_the_draft_as_it_was(engine: HfChat, behaviour: str, why: str) -> None:
    report = make_report()
    with pytest.raises(EngineError, match=rf"gave no answer that can be used \({why}\); the draft is as it was"):
        ask(engine, behaviour, report)
    assert report == make_report()


def test_a_loop_ends_early_and_is_one_statement(engine: HfChat) -> None:
    tokens: list[str] = []
    merged = ask(engine, "loop", watch=Watch(on_token=tokens.append))
    assert vlm_texts(merged.report) == ["The spleen is enlarged."]
    assert any("taken once" in note for note in merged.notes)
    endless = engine_of(engine.snapshot.folder, max_new_tokens=1000)
    endless._loaded = engine._load()
    tokens.clear()
    endless._loaded.model.generation_config.eos_token_id = None  # a model that does not come to an end by itself
    try:
        ask(endless, "loop", watch=Watch(on_token=tokens.append))
    finally:
        endless._loaded.model.generation_config.eos_token_id = 1
    assert 0 < len(tokens) < 200


# --- Tokens, cancelling, samples -------------------------------------------------------------------------------------


def test_tokens_are_streamed_as_they_come(engine: HfChat) -> None:
    pieces: list[str] = []
    ask(engine, "lesion", watch=Watch(on_token=pieces.append))
    assert len(pieces) > 5
    assert "".join(pieces).startswith("A 24 mm hypodense lesion in the right hepatic lobe.\nSmall left")
    umlauts: list[str] = []
    with pytest.raises(EngineError):
        ask(engine, "german", watch=Watch(on_token=umlauts.append))
    assert "".join(umlauts) == "Die Leber ist normal groß und zeigt keine Läsion."


def test_cancelling_while_it_writes_stops_at_the_next_token(engine: HfChat) -> None:
    token, pieces = CancelToken(), []
    when: list[float] = []

    def on_token(piece: str) -> None:
        pieces.append(piece)
        token.cancel()
        when.append(time.monotonic())

    report = make_report()
    with pytest.raises(Cancelled, match="the report is as it was"):
        ask(engine, "lesion", report, watch=Watch(cancel=token, on_token=on_token))
    assert len(pieces) == 1 and time.monotonic() - when[0] < 0.2
    assert report == make_report()
    with pytest.raises(Cancelled):
        ask(engine, "lesion", report, watch=Watch(cancel=token))  # before it begins


def test_samples_say_how_often_the_model_repeats_itself(tiny_gemma: Path) -> None:
    engine = engine_of(tiny_gemma, samples=4, seed=7, max_new_tokens=48)
    first = ask(engine, "lesion").report
    agreements = [s.agreement for s in first.statements if s.origin is Origin.VLM]
    assert agreements and all(a is not None and a[1] == 4 and a[0] >= 2 for a in agreements)
    assert first.models[0].seed == 7 and first.models[0].decoding["samples"] == 4
    state = torch.random.get_rng_state()
    assert ask(engine, "lesion").report == first, "the same seed, another answer"
    assert torch.equal(torch.random.get_rng_state(), state), "other code's random numbers were changed"
    wild = engine_of(tiny_gemma, samples=4, temperature=2.0, max_new_tokens=48)
    agreed = [s.agreement for s in ask(wild, "lesion").report.statements if s.origin is Origin.VLM]
    assert min(a[0] for a in agreed if a) < 4, "at a temperature of 2 this model is not sure of anything"


# --- Slices ----------------------------------------------------------------------------------------------------------


def test_the_budget_is_kept_and_key_slices_are_shown(tiny_gemma: Path) -> None:
    engine = engine_of(tiny_gemma, slices=4, max_new_tokens=48)
    volume = tiny_vlm.volume_of("cyst", slices=40)
    mask = np.zeros(volume.shape, dtype=bool)
    mask[17, 4:9, 4:9] = mask[18, 5:8, 5:8] = True
    record = SegmentRecord("Tumour", mask)
    merged = with_narrative(make_report(), engine, volume, [record]).report
    (info,) = merged.models
    assert len(info.slices) == 4 and 17 in info.slices and list(info.slices) == sorted(info.slices)
    assert vlm_texts(merged) == ["Possible cyst in the left kidney.", "No free fluid is seen."]
    assert all(statement.slices == info.slices for statement in merged.statements if statement.origin is Origin.VLM)


# --- Settings and files ----------------------------------------------------------------------------------------------


def test_settings_outside_of_their_range_are_refused() -> None:
    for wrong in ({"slices": 0}, {"samples": 17}, {"temperature": 0.0}, {"max_new_tokens": 0}, {"quantise": "int2"}):
        with pytest.raises(EngineError, match=r"choose|give"):
            Settings(**wrong)  # type: ignore[arg-type]


def test_what_is_not_there_is_said(tiny_gemma: Path) -> None:
    with pytest.raises(EngineError, match=r'There is no model "gpt" for reports; there are: medgemma-1.5-4b, '):
        load_engine("gpt")
    known = engine_of(tiny_gemma)
    with pytest.raises(EngineError, match='There is no device "abacus"'):
        ask(HfChat(known.card, known.snapshot, Settings("abacus")), "cyst")
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match='The device "cuda" is not there'):
            ask(HfChat(known.card, known.snapshot, Settings("cuda")), "cyst")


def test_quantised_loading_says_what_it_needs(tiny_gemma: Path) -> None:
    with pytest.raises(EngineError, match=r"bitsandbytes|accelerate|CUDA"):
        ask(engine_of(tiny_gemma, quantise="int4"), "cyst")


def test_a_folder_of_the_user_s_own_is_an_engine(tiny_gemma: Path) -> None:
    engine = load_engine(str(tiny_gemma), Settings(device="cpu", max_new_tokens=48))
    report = ask(engine, "cyst").report
    assert vlm_texts(report)[0] == "Possible cyst in the left kidney."
    assert report.models[0].model == "own-model" and len(report.models[0].revision) == 64
    engine.close()
    assert engine._loaded is None


def test_how_a_model_wants_to_be_run_does_not_change_how_it_is_asked(
    tiny_gemma: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_gemma, folder)
    file = folder / "generation_config.json"
    wishes = {"do_sample": True, "top_k": 64, "top_p": 0.95, "cache_implementation": "static", "max_length": 20}
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | wishes), encoding="utf-8")
    field = Statement("s2", "findings", "Bones: [not assessed]", Origin.TEMPLATE, placeholder=True)
    report = ask(engine_of(folder, max_new_tokens=48, samples=2), "cyst", make_report(field)).report
    assert vlm_texts(report) == ["Possible cyst in the left kidney.", "No free fluid is seen."]
    assert "warn" not in capfd.readouterr().err.lower()


def test_folders_that_are_no_models_are_refused(tiny_gemma: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineError, match=r"holds no model \(there is no config.json in it\)"):
        load_engine(str(tmp_path / "empty"))
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny_gemma, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(EngineError, match="no weights as safetensors"):
        load_engine(str(pickled))
    cut = tmp_path / "cut"
    shutil.copytree(tiny_gemma, cut)
    (cut / "model.safetensors").write_bytes((tiny_gemma / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(EngineError, match="do not fit together"):
        ask(load_engine(str(cut)), "cyst")
    foreign = tmp_path / "foreign"
    shutil.copytree(tiny_gemma, foreign)
    config = {"model_type": "hulumed", "auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    (foreign / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (foreign / "modeling.py").write_text("raise SystemExit('code of the folder was run')", encoding="utf-8")
    with pytest.raises(EngineError, match=r'kind "hulumed".*brings code of its own, which is never run'):
        ask(load_engine(str(foreign)), "cyst")


def test_nothing_needs_torchvision_and_importing_needs_no_torch(tiny_gemma: Path) -> None:
    root = Path(__file__).parents[3]
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "import FoundationReportLib.engines, FoundationReportLib.suggest, FoundationReportLib.triage\n"
        "import FoundationReportLib.context\n"
        "print([name for name in ('torch', 'transformers', 'PIL', 'scipy', 'huggingface_hub') if name in sys.modules])"
    )
    path = os.pathsep.join(str(root / name) for name in ("FoundationReport", "FoundationSeg"))
    command, environment = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.stdout.strip() == "[]", done.stderr
