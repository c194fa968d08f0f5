# SPDX-License-Identifier: Apache-2.0
"""Suggestions by image-text models, their calibration, and the order of a worklist."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from FoundationReportLib.calibration import (
    Calibration,
    expected_calibration_error,
    fit_calibration,
    load_calibrations,
    save_calibrations,
)
from FoundationReportLib.engines.base import Watch
from FoundationReportLib.engines.catalogue import ModelCard
from FoundationReportLib.errors import Cancelled, EngineError, FactsError, StateError
from FoundationReportLib.model import Fact, Facts, Kind, ModelInfo, Origin, State, Subject
from FoundationReportLib.suggest import Features, Finding, Suggestion, ZeroShot, accept, likeness
from FoundationReportLib.triage import LEVELS, Study, in_words, triage
from FoundationSegLib.hub.snapshot import local_snapshot
from FoundationSegLib.predictor import CancelToken
from FoundationSegLib.volume import Volume
from report_engine_case import CARD, lesion, make_report

SENTENCES = {
    "CT with pleural effusion": 1000,
    "CT without pleural effusion": -900,
    "CT with free air": 90,
    "CT without free air": -140,
}
EFFUSION = Finding("effusion", "Pleural effusion.", ("CT with pleural effusion",), ("CT without pleural effusion",))
AIR = Finding("free air", "Free air.", ("CT with free air",), ("CT without free air",))


def card(family: str = "hf-zero-shot") -> ModelCard:
    return ModelCard.from_dict({**CARD, "family": family})


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ZeroShot:
    pytest.importorskip("transformers")
    import tiny_vlm

    folder = tiny_vlm.clip(tmp_path_factory.mktemp("clip"), SENTENCES)
    return ZeroShot(card(), local_snapshot(folder), "cpu")


def volume(name: str, slices: int = 6) -> Volume:
    import tiny_vlm

    return tiny_vlm.volume_of(name, slices)


def scores(found: list[Suggestion]) -> dict[str, float]:
    return {one.finding: one.score for one in found}


# --- Suggestions -----------------------------------------------------------------------------------------------------


def test_scores_depend_on_the_image_and_the_sentence(clip: ZeroShot) -> None:
    bright, dark = (scores(clip.suggest(volume(name), [EFFUSION])) for name in ("lesion", "cyst"))
    assert bright["effusion"] > 0.9 and dark["effusion"] < 0.1
    air, none = (scores(clip.suggest(volume(name), [AIR])) for name in ("loop", "nothing"))
    assert air["free air"] > 0.9 and none["free air"] < 0.1


def test_the_slices_that_show_it_are_named_and_the_model_too(clip: ZeroShot) -> None:
    dark = volume("cyst", 20)
    values = dark.array.copy()
    values[13] = volume("lesion", 20).array[13]
    mixed = Volume(values, dark.ijk_to_ras, "CT")
    (found,) = clip.suggest(mixed, [EFFUSION], most_slices=20)
    assert found.slices[0] == 13 and 13 in found.info.slices and found.score > 0.4 and found.calibrated == ""
    assert found.info.revision == clip.snapshot.commit and found.info.windows
    ordered = clip.suggest(volume("lesion"), [AIR, EFFUSION])
    assert [one.score for one in ordered] == sorted((one.score for one in ordered), reverse=True) and len(ordered) == 2


def test_a_calibration_counts_only_for_the_model_that_it_was_fitted_on(clip: ZeroShot) -> None:
    fitted = Calibration("effusion", 0.0, -1.0, 200, "200 own cases", "someone/tiny-gemma", clip.snapshot.commit)
    (found,) = clip.suggest(volume("lesion"), [EFFUSION], {"effusion": fitted})
    assert found.calibrated == "200 own cases" and found.score == pytest.approx(1 / (1 + np.e))
    (other,) = clip.suggest(volume("lesion"), [EFFUSION], {"effusion": replace(fitted, revision="another")})
    assert other.calibrated == "" and other.score > 0.9


def test_cancelling_and_wrong_models(clip: ZeroShot, tmp_path: Path) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        clip.suggest(volume("lesion"), [EFFUSION], watch=Watch(cancel=token))
    import tiny_vlm

    dino = local_snapshot(tiny_vlm.dino(tmp_path / "dino"))
    with pytest.raises(EngineError, match=r"tiny do not fit together|does not compare pictures with text"):
        ZeroShot(card(), dino, "cpu").suggest(volume("lesion"), [EFFUSION])


def test_siglip_goes_the_same_way(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    import tiny_vlm

    model = ZeroShot(card(), local_snapshot(tiny_vlm.siglip(tmp_path, SENTENCES)), "cpu")
    found = scores(model.suggest(volume("lesion"), [EFFUSION, AIR]))
    assert set(found) == {"effusion", "free air"} and all(0 < score < 1 for score in found.values())
    assert found == scores(model.suggest(volume("lesion"), [EFFUSION, AIR]))


def test_features_compare_with_labelled_examples(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    import tiny_vlm

    model = Features(card("hf-features"), local_snapshot(tiny_vlm.dino(tmp_path)), "cpu")
    bright, dark = model.features(volume("lesion")), model.features(volume("cyst"))
    assert bright.shape == (6, 16) and np.linalg.norm(bright, axis=1) == pytest.approx(np.ones(6))
    assert likeness(bright, bright, dark) > 0.5 > likeness(dark, bright, dark)
    with pytest.raises(EngineError, match="with and without"):
        likeness(bright, bright, dark[:0])


# --- Calibration -----------------------------------------------------------------------------------------------------


def test_platt_scaling_recovers_what_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    raw = rng.uniform(0.01, 0.99, 4000)
    truth = 1 / (1 + np.exp(-(2.0 * np.log(raw / (1 - raw)) - 1.0)))
    labels = rng.random(4000) < truth
    fitted = fit_calibration("effusion", raw, labels, "made up")
    assert (fitted.a, fitted.b) == pytest.approx((2.0, -1.0), abs=0.15) and fitted.cases == 4000
    after = [fitted(score) for score in raw]
    assert expected_calibration_error(after, labels) < 0.03 < expected_calibration_error(raw, labels)


def test_perfectly_separable_scores_give_finite_numbers() -> None:
    fitted = fit_calibration("x", [0.1] * 10 + [0.9] * 10, [False] * 10 + [True] * 10, "made up")
    assert np.isfinite([fitted.a, fitted.b]).all() and fitted(0.05) < 0.2 and fitted(0.95) > 0.8
    assert 0 <= fitted(0.0) < fitted(1.0) <= 1


def test_too_few_cases_are_refused() -> None:
    for labels in ([True] * 4 + [False] * 4, [True] * 20):
        with pytest.raises(EngineError, match="at least 10 labelled cases of both kinds"):
            fit_calibration("x", [0.5] * len(labels), labels, "made up")


def test_calibrations_are_kept_in_a_file(tmp_path: Path) -> None:
    one = Calibration("effusion", 1.5, -0.2, 40, "own cases", "m", "r")
    save_calibrations(tmp_path / "c.json", [one])
    assert load_calibrations(tmp_path / "c.json") == {"effusion": one}
    for broken in ("{}", "no", '{"schema": "foundation-report/calibrations/1", "calibrations": [{"a": 1}]}'):
        (tmp_path / "b.json").write_text(broken, encoding="utf-8")
        with pytest.raises(EngineError, match=r"b\.json is no file of calibrations"):
            load_calibrations(tmp_path / "b.json")


# --- Taken over by a person ------------------------------------------------------------------------------------------


def suggestion(finding: str = "effusion", score: float = 0.9, calibrated: str = "") -> Suggestion:
    return Suggestion(finding, "Pleural effusion.", score, calibrated, (3,), ModelInfo("", "hf-zero-shot", "m", "r"))


def test_a_person_takes_a_suggestion_over_and_it_stays_marked() -> None:
    report = make_report()
    after = accept(report, suggestion(), "findings", by="Dr. A")
    (new,) = [s for s in after.statements if s not in report.statements]
    assert (new.text, new.origin, new.accepted_by, new.slices) == ("Pleural effusion.", Origin.VLM, "Dr. A", (3,))
    assert new.model == after.models[-1].id == "m1" and after.state is State.EDITED and new.judgement is None
    assert after.next_statement == report.next_statement + 1
    for wrong, complaint in (({"section": "x"}, "no section"), ({"by": " "}, "No name")):
        with pytest.raises(StateError, match=complaint):
            accept(report, suggestion(), **{"section": "findings", "by": "Dr. A", **wrong})
    with pytest.raises(StateError, match="signed"):
        accept(replace(report, state=State.SIGNED), suggestion(), "findings", "Dr. A")


# --- Triage ----------------------------------------------------------------------------------------------------------


def facts_of(kind: Kind, organ: str, finding: str, **fact: Any) -> Facts:
    return Facts((Subject("a", "a", kind, organ, finding=finding),), (Fact("f1", "a", **fact),), "CT")


BLEEDING = facts_of(Kind.LESION, "brain", "hemorrhage", quantity="volume", value=12.0, unit="mL")
NEW = facts_of(Kind.LESION, "liver", "metastasis", quantity="trend", value="new")
ROUTINE = lesion()


def test_the_order_of_a_worklist_and_its_reasons() -> None:
    places = triage([Study("routine", ROUTINE), Study("unknown"), Study("new", NEW), Study("bleeding", BLEEDING)])
    assert [place.id for place in places] == ["bleeding", "new", "unknown", "routine"]
    assert [LEVELS[place.level] for place in places] == ["at once", "soon", "unknown", "routine"]
    assert places[0].reasons[0].facts == ("f1",) and "Larson" in places[0].reasons[0].source
    assert in_words(places).startswith("1. bleeding: at once (bleeding in the head was segmented)")


def test_what_was_searched_and_not_found_is_no_reason() -> None:
    searched = facts_of(Kind.LESION, "brain", "hemorrhage", quantity="presence", value="searched_not_found")
    assert LEVELS[triage([Study("a", searched)])[0].level] == "routine"
    aneurysm = [facts_of(Kind.LESION, "aorta", "aneurysm", quantity="long_axis", value=v, unit=u)
                for v, u in ((56.0, "mm"), (54.0, "mm"), (56.0, "px"))]  # fmt: skip
    assert [LEVELS[triage([Study("a", f)])[0].level] for f in aneurysm] == ["soon", "routine", "routine"]


def test_only_calibrated_scores_move_a_study_between_levels() -> None:
    limit = {"effusion": 0.8}
    raw, fitted = suggestion(score=0.99), suggestion(score=0.85, calibrated="200 own cases")
    low = suggestion(score=0.5, calibrated="200 own cases")
    places = triage(
        [Study("raw", ROUTINE, (raw,)), Study("low", ROUTINE, (low,)), Study("fitted", ROUTINE, (fitted,))], limit
    )
    assert [place.id for place in places] == ["fitted", "raw", "low"]
    assert [LEVELS[place.level] for place in places] == ["soon", "routine", "routine"]
    assert "calibrated on 200 own cases" in places[0].reasons[0].text
    assert LEVELS[triage([Study("x", ROUTINE, (fitted,))])[0].level] == "routine", "no threshold, no move"


def test_nothing_is_lost_and_the_order_is_always_the_same() -> None:
    studies = [Study(f"s{n}", ROUTINE, waiting_minutes=n % 3) for n in range(9)]
    first = [place.id for place in triage(studies)]
    assert first == [place.id for place in triage(reversed(studies))] and sorted(first) == sorted(s.id for s in studies)
    assert first[:3] == ["s2", "s5", "s8"], "who waits longest comes first"
    with pytest.raises(FactsError, match='two studies with the id "s1"'):
        triage([*studies, Study("s1")])
