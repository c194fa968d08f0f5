# SPDX-License-Identifier: Apache-2.0
"""Change against earlier studies: matching, trends, new and resolved findings, RECIST sums."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from FoundationReportLib.errors import MeasurementError
from FoundationReportLib.measure import ImageHeader, Search, measure
from FoundationReportLib.measure.builder import listed
from FoundationReportLib.measure.matching import match
from FoundationReportLib.model import Fact, Facts, Side
from report_phantom import BoolArray, ellipsoid, grid, positions, record, volume_of

SIZE = (84, 60, 54)
MATRIX = grid(SIZE, (2.0, 2.0, 3.0), None, (10, 0, 0))
POINTS = positions(MATRIX, SIZE)
VOLUME = volume_of(SIZE, MATRIX)
# Places within the liver, far apart.
PLACES = {"a": (30, 10, 40), "b": (60, -10, -30), "c": (45, 20, 0), "d": (45, -30, 20)}


@lru_cache
def _ball(centre: tuple[float, ...], half_axes: tuple[float, ...]) -> BoolArray:
    return ellipsoid(POINTS, centre, half_axes)


LIVER = _ball((45, 0, 0), (45, 50, 70))


def _study(
    lesions: dict[str, float],
    date: str = "",
    prior: Facts | list[Facts] | None = None,
    *,
    searched: list[Search] | None = None,
    targets: list[str] | None = None,
    moved: tuple[float, float, float] = (0, 0, 0),
    frame: str = "",
    names: dict[str, str] | None = None,
    liver: float = 1.0,
) -> Facts:
    """Spheres of these diameters (mm) at PLACES in a liver."""
    records = [record("liver", _ball((45, 0, 0), (45 * liver, 50 * liver, 70 * liver)))]
    for key, diameter in lesions.items():
        centre = np.add(PLACES[key], moved)
        name = (names or {}).get(key, f"liver metastasis {key}")
        records.append(record(name, _ball(tuple(centre.tolist()), (diameter / 2,) * 3)))
    return measure(
        VOLUME,
        records,
        prior=prior,
        header=ImageHeader(date=date, frame_uid=frame),
        searched=searched or (),
        targets=targets,
    )


def _value(facts: Facts, subject: str, quantity: str, of: str = "") -> object:
    found = [f for f in facts.of(subject, quantity) if f.of == of]
    return found[0].value if found else None


def test_matched_lesions_are_compared() -> None:
    old = _study({"a": 20, "b": 30}, "20240101")
    new = _study({"a": 28, "b": 30.5}, "20240410", old)
    name = "liver-metastasis-a"
    before = _value(old, name, "long_axis")
    now = _value(new, name, "long_axis")
    assert _value(new, name, "prior", "long_axis") == before
    assert _value(new, name, "change", "long_axis") == pytest.approx(now - before, abs=1e-5)  # type: ignore[operator]
    assert _value(new, name, "change_percent", "long_axis") == pytest.approx(100 * (now / before - 1), abs=1e-3)  # type: ignore[operator]
    assert _value(new, name, "trend") == "larger"
    assert _value(new, "liver-metastasis-b", "trend") == "unchanged"
    assert _value(new, "image", "interval") == 100
    assert _value(new, "image", "comparison") is True
    ratio = _value(new, name, "volume") / _value(old, name, "volume")  # type: ignore[operator]
    assert _value(new, name, "doubling_time") == pytest.approx(100 * np.log(2) / np.log(ratio), rel=1e-4)
    fact = new.of(name, "change")[0]
    assert {new.fact(i).quantity for i in fact.because} == {"long_axis", "prior"}
    assert fact.source is not None
    assert fact.source.prior == old.study["fingerprint"]


@pytest.mark.parametrize(
    ("before", "now", "word"), [(20, 21, "unchanged"), (40, 34, "smaller"), (40, 43, "unchanged"), (12, 16, "larger")]
)
def test_unchanged_is_within_two_millimetres_or_a_tenth(before: float, now: float, word: str) -> None:
    new = _study({"a": now}, prior=_study({"a": before}))
    assert _value(new, "liver-metastasis-a", "trend") == word


def test_organs_are_compared_by_volume() -> None:
    new = _study({}, prior=_study({}, liver=0.9))
    assert _value(new, "liver", "change_percent", "volume") == pytest.approx(100 * (1 / 0.9**3 - 1), abs=2)
    assert _value(new, "liver", "trend") == "larger"


def test_without_a_prior_nothing_is_compared() -> None:
    facts = _study({"a": 20})
    assert not [f for f in facts.facts if f.quantity in ("prior", "change", "change_percent", "trend", "interval")]
    assert _value(facts, "image", "comparison") is False


def test_a_prior_volume_is_measured() -> None:
    records = [record("liver metastasis a", _ball(PLACES["a"], (10, 10, 10)))]
    new = [record("liver metastasis a", _ball(PLACES["a"], (15, 15, 15)))]
    volume = VOLUME
    assert _value(measure(volume, new, prior=(volume, records)), "liver-metastasis-a", "trend") == "larger"
    both = measure(volume, new, prior=[(volume, records), (volume, new)])
    assert _value(both, "liver-metastasis-a", "trend") == "unchanged"


# --- Matching ---------------------------------------------------------------------------------------------------------


def test_the_same_name_matches_wherever_it_lies() -> None:
    old, new = _study({"a": 20, "b": 30}), _study({"a": 20, "b": 30}, moved=(5, 5, 5))
    assert match(new, old).pairs["liver-metastasis-b"] == "liver-metastasis-b"


def test_in_one_frame_the_nearest_matches_whatever_its_name() -> None:
    names = {"a": "liver metastasis 2", "b": "liver metastasis 1"}
    old = _study({"a": 20, "b": 30}, frame="1.2.3")
    new = _study({"a": 22, "b": 31}, names=names, frame="1.2.3", moved=(3, 0, 0))
    assert match(new, old).pairs["liver-metastasis-2"] == "liver-metastasis-a"
    elsewhere = _study({"a": 22, "b": 31}, names=names, frame="1.2.4")
    assert set(match(elsewhere, old).unclear) == {"liver-metastasis-1", "liver-metastasis-2"}


def test_tracking_uids_win_over_names() -> None:
    old, new = _study({"a": 20, "b": 30}), _study({"a": 20, "b": 30})

    def tracked(facts: Facts, uids: dict[str, str]) -> Facts:
        return replace(facts, subjects=tuple(replace(s, tracking_uid=uids.get(s.id, "")) for s in facts.subjects))

    a, b = "liver-metastasis-a", "liver-metastasis-b"
    pairs = match(tracked(new, {a: "1.1", b: "1.2"}), tracked(old, {a: "1.2", b: "1.1"})).pairs
    assert (pairs[a], pairs[b]) == (b, a)


def test_the_only_one_of_its_kind_matches() -> None:
    old = _study({"a": 20})
    new = _study({"a": 30}, names={"a": "metastasis in segment VI of the liver"})
    pairs = match(new, old).pairs
    assert pairs["metastasis-in-segment-vi-of-the-liver"] == "liver-metastasis-a"


def test_what_cannot_be_told_apart_is_said_and_not_compared() -> None:
    old = _study({"a": 20, "b": 30})
    new = _study({"a": 25, "b": 30}, prior=old, names={"a": "liver metastasis 1", "b": "liver metastasis 2"})
    assert _value(new, "liver-metastasis-1", "trend") is None
    assert any("cannot be told whether" in sentence for sentence in new.warnings)


# --- New and resolved -------------------------------------------------------------------------------------------------


def test_a_finding_that_the_earlier_study_lacks_is_new() -> None:
    new = _study({"a": 20, "c": 15}, prior=_study({"a": 20}))
    assert _value(new, "liver-metastasis-c", "trend") == "new"
    assert _value(new, "liver-metastasis-c", "prior", "long_axis") is None


def test_nothing_is_new_if_nobody_looked_for_it() -> None:
    new = _study({"a": 20}, prior=_study({}))
    assert _value(new, "liver-metastasis-a", "trend") is None
    assert any("does not say whether it was looked for" in sentence for sentence in new.warnings)
    looked = _study({"a": 20}, prior=_study({}, searched=[Search("liver", "metastasis")]))
    assert _value(looked, "liver-metastasis-a", "trend") == "new"


def test_nothing_is_new_where_the_earlier_study_did_not_reach() -> None:
    old = _study({"a": 20})
    cut = replace(
        old, facts=tuple(replace(f, value="partly_in_view") if f.quantity == "coverage" else f for f in old.facts)
    )
    assert _value(_study({"a": 20, "c": 15}, prior=cut), "liver-metastasis-c", "trend") is None


def test_lymph_nodes_count_as_one_organ() -> None:
    nodes = [
        record(f"{place} lymph node", _ball(centre, (10, 10, 12)))
        for place, centre in (("mediastinal", (-50, 0, 40)), ("axillary", (-50, 20, -10)), ("inguinal", (-40, 0, -50)))
    ]
    facts = measure(VOLUME, nodes, targets=["auto"])
    assert len([f for f in facts.facts if f.quantity == "target"]) == 2


def test_a_finding_is_gone_only_if_it_was_searched_for() -> None:
    old = _study({"a": 20, "b": 30})
    silent = _study({"a": 20}, prior=old)
    assert any('"liver metastasis b" of the earlier study has no match' in sentence for sentence in silent.warnings)
    assert not [f for f in silent.facts if f.value == "resolved"]
    new = _study({"a": 20}, prior=old, searched=[Search("liver", "lesion")])
    assert _value(new, "liver-metastasis-b", "trend") == "resolved"
    assert _value(new, "liver-metastasis-b", "presence", "metastasis") == "searched_not_found"
    assert _value(new, "liver-metastasis-b", "prior", "long_axis") == _value(old, "liver-metastasis-b", "long_axis")
    later = _study({"a": 20}, prior=[old, new], searched=[Search("liver", "lesion")])
    assert _value(later, "liver-metastasis-b", "trend") is None


def test_a_search_of_the_other_side_says_nothing_of_a_finding() -> None:
    old = measure(VOLUME, [record("liver", LIVER), record("right lung nodule", _ball(PLACES["a"], (8, 8, 8)))])

    def trends(side: Side) -> list[object]:
        now = measure(VOLUME, [record("liver", LIVER)], prior=old, searched=[Search("lung", "nodule", side)])
        return [f.value for f in now.of("right-lung-nodule", "trend")]

    assert trends(Side.LEFT) == []
    assert trends(Side.RIGHT) == trends(Side.NONE) == ["resolved"]


def test_what_a_person_looked_for_and_did_not_find_is_a_persons_statement() -> None:
    by_person = [Search("liver", "lesion", algorithm=False)]
    gone = _study({}, prior=_study({"a": 20}), searched=by_person).of("liver-metastasis-a", "presence")[0]
    never = _study({}, searched=by_person).of("liver", "presence")[0]
    assert gone.source is not None
    assert never.source is not None
    assert gone.source.by == never.source.by == "human"


# --- RECIST sums ------------------------------------------------------------------------------------------------------


def _sum(facts: Facts, quantity: str = "sum_of_diameters") -> float:
    value = _value(facts, "targets", quantity)
    assert isinstance(value, float)
    return value


def test_sums_over_baseline_nadir_and_now() -> None:
    sizes = ({"a": 30, "b": 40}, {"a": 20, "b": 26}, {"a": 26, "b": 32})
    baseline = _study(sizes[0], "20240101", targets=["auto"])
    second = _study(sizes[1], "20240301", baseline)
    third = _study(sizes[2], "20240501", [baseline, second])
    assert _sum(baseline) == pytest.approx(70, abs=1.5)
    assert _sum(third) == pytest.approx(58, abs=1.5)
    assert _sum(third, "baseline_sum") == pytest.approx(_sum(baseline))
    assert _sum(third, "nadir_sum") == pytest.approx(_sum(second))
    change = {f.of: f.value for f in third.of("targets", "change_percent")}
    assert change["baseline_sum"] == pytest.approx(100 * (_sum(third) / _sum(baseline) - 1), abs=1e-3)
    assert change["nadir_sum"] == pytest.approx(100 * (_sum(third) / _sum(second) - 1), abs=1e-3)
    assert {f.subject for f in third.facts if f.quantity == "target"} == {"liver-metastasis-a", "liver-metastasis-b"}


def test_the_rule_finds_progression_in_these_facts() -> None:
    from FoundationReportLib.rules import suggest

    baseline = _study({"a": 30, "b": 40}, "20240101", targets=["auto"])
    second = _study({"a": 20, "b": 26}, "20240301", baseline)
    third = _study({"a": 28, "b": 34}, "20240501", [baseline, second])
    found = [s for s in suggest(third, {"new_lesion": False, "non_target": "none"}) if s.rule == "recist-1.1"]
    assert [s.outcome for s in found] == ["PD"]


def test_nodes_enter_by_their_short_axis_and_two_per_organ_at_most() -> None:
    node = record("mediastinal lymph node", _ball((-60, 0, 0), (15, 10, 12)))
    lesions = [
        record(f"liver metastasis {key}", _ball(PLACES[key], (size / 2,) * 3))
        for key, size in (("a", 30), ("b", 24), ("c", 16))
    ]
    facts = measure(VOLUME, [*lesions, node], targets=["auto"])
    assert {f.subject for f in facts.facts if f.quantity == "target"} == {
        "liver-metastasis-a",
        "liver-metastasis-b",
        "mediastinal-lymph-node",
    }
    assert _sum(facts) == pytest.approx(30 + 24 + 20, abs=1.5)


def test_targets_by_name() -> None:
    facts = _study({"a": 30, "b": 40}, targets=["liver metastasis a"])
    assert _sum(facts) == pytest.approx(30, abs=1)
    with pytest.raises(MeasurementError, match='no lesion "x"'):
        _study({"a": 30}, targets=["x"])
    assert not [f for f in _study({"a": 30}).facts if f.quantity == "target"]


def test_a_resolved_target_counts_nothing() -> None:
    baseline = _study({"a": 30, "b": 40}, targets=["auto"])
    new = _study({"a": 30}, prior=baseline, searched=[Search("liver", "lesion")])
    assert _sum(new) == pytest.approx(30, abs=1)
    assert _sum(new, "baseline_sum") == pytest.approx(70, abs=1.5)


@pytest.mark.parametrize("targets", [None, ["auto"]])
def test_a_target_that_nobody_followed_leaves_the_sum_out(targets: list[str] | None) -> None:
    baseline = _study({"a": 30, "b": 40}, targets=["auto"])
    new = _study({"a": 30}, prior=baseline, targets=targets)
    assert {f.subject for f in new.facts if f.quantity == "target"} == {"liver-metastasis-a"}
    assert not new.of("targets")
    assert any('Target lesion "liver metastasis b"' in sentence for sentence in new.warnings)


def test_a_target_fact_tells_who_chose_it() -> None:
    def by(facts: Facts) -> set[str]:
        return {f.source.by for f in facts.facts if f.quantity == "target"}

    automatic = _study({"a": 30, "b": 40}, targets=["auto"])
    assert by(automatic) == by(_study({"a": 30, "b": 40}, prior=automatic)) == {"algorithm"}
    chosen = _study({"a": 30, "b": 40}, targets=["liver metastasis a"])
    assert by(chosen) == by(_study({"a": 30, "b": 40}, prior=chosen)) == {"human"}


def test_too_small_for_a_target_is_said() -> None:
    facts = _study({"a": 7}, targets=["auto"])
    assert not [f for f in facts.facts if f.quantity == "target"]
    assert any("large enough at baseline" in sentence for sentence in facts.warnings)


def test_a_target_without_a_match_leaves_that_sum_out() -> None:
    baseline = _study({"a": 30})
    new = _study({"a": 30, "b": 20}, prior=baseline, targets=["liver metastasis a", "liver metastasis b"])
    assert _value(new, "targets", "baseline_sum") is None
    assert any("sums of those studies were left out" in sentence for sentence in new.warnings)


def test_a_prior_without_any_lesion_in_common() -> None:
    other = Facts(facts=(Fact("f1", "image", "modality", "CT"),), modality="CT")
    new = _study({"a": 20}, prior=other)
    assert not [f for f in new.facts if f.quantity in ("change", "prior")]
    assert new.warnings


def test_a_prior_that_is_none_is_refused() -> None:
    with pytest.raises(MeasurementError, match="prior study"):
        measure(VOLUME, [record("liver", LIVER)], prior=["x"])  # type: ignore[list-item]


def test_an_exchanged_order_a_same_image_and_another_method_are_said() -> None:
    late, early = _study({"a": 30}, "20240501"), _study({"a": 24}, "20240101")
    exchanged = _study({"a": 30}, "20240101", replace(early, study={**early.study, "date": "20240501"}))
    assert any("dated after this one" in sentence for sentence in exchanged.warnings)
    assert not [f for f in exchanged.facts if f.quantity in ("interval", "doubling_time")]
    right = _study({"a": 30}, "20240501", early)
    assert [f for f in right.facts if f.quantity == "doubling_time"]
    assert any("this very image" in sentence for sentence in right.warnings)  # the phantoms share their voxels
    other = replace(late, modality="MR", study={**late.study, "fingerprint": "other"})
    warnings = _study({"a": 30}, "20240601", other).warnings
    assert any("is MR and this one CT" in sentence for sentence in warnings)
    assert not any("this very image" in sentence for sentence in warnings)


def test_many_without_a_match_are_one_sentence() -> None:
    names = [f"Liver metastasis {n}" for n in range(7)]
    assert listed(names) == (
        '"Liver metastasis 0", "Liver metastasis 1", "Liver metastasis 2", "Liver metastasis 3" and 3 others'
    )
    new = _study({"c": 20}, prior=_study({"a": 30, "b": 40, "c": 20}))
    sentence = next(sentence for sentence in new.warnings if "no match in this one" in sentence)
    assert sentence.startswith('"liver metastasis a" and "liver metastasis b" of the earlier study have no match')


def test_a_lesion_of_no_organ_is_said() -> None:
    placeless = measure(VOLUME, [record("MS lesion", _ball(PLACES["a"], (6, 6, 6)))])
    assert any('in which organ "MS lesion" lies' in sentence for sentence in placeless.warnings)
    placed = measure(VOLUME, [record("brain lesion", _ball(PLACES["a"], (6, 6, 6)))])
    assert not any("in which organ" in sentence for sentence in placed.warnings)
