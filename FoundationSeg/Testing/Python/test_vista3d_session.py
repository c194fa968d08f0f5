# SPDX-License-Identifier: Apache-2.0
"""VISTA3D behind the session, on an oblique volume of thick slices, with a small network of drawn weights.

Drawn weights segment nothing that means anything: these tests are about wiring (names, clicks, windows, history,
cancelling), not about the quality of masks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from FoundationSegLib import (  # noqa: E402
    Box,
    Cancelled,
    CancelToken,
    MaskPrompt,
    Point,
    PromptError,
    SegmentationSession,
    TextPrompt,
    Volume,
)
from FoundationSegLib.families import vista3d  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from vista3d_case import SHAPE, card, network, oblique  # noqa: E402


@pytest.fixture(scope="module")
def volume() -> Volume:
    return oblique()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(network().state_dict(), path)
    return vista3d.load(card(), path, "cpu")


@pytest.fixture
def session(volume: Volume, model: Any) -> SegmentationSession:
    return SegmentationSession(volume, model)


def at(volume: Volume, *kji: float, positive: bool = True) -> Point:
    return Point(tuple(volume.kji_to_ras(np.array(kji, dtype=float))), positive)


def logits(session: SegmentationSession, segment: str) -> np.ndarray:
    prediction: Any = session._histories[segment].current
    return prediction.logits


def test_name_then_clicks_with_undo_redo_and_replay(session: SegmentationSession, volume: Volume) -> None:
    result = session.add("Liver", TextPrompt("liver"))
    first = session.mask("Liver")
    assert 0 < result.voxels == first.sum() < first.size
    assert result.region_box == tuple(slice(0, n) for n in SHAPE), "a name is looked for everywhere"
    assert {"resample", "segment", "voxels"} <= set(result.timings) and result.predicted_iou is None
    result = session.add("Liver", at(volume, 5, 25, 30), at(volume, 5, 25, 10, positive=False))
    second = session.mask("Liver")
    assert "segment" not in result.timings and "clicks" in result.timings
    assert (first != second).any()
    session.undo("Liver")
    assert (session.mask("Liver") == first).all()
    session.redo("Liver")
    assert (session.mask("Liver") == second).all()
    session.replay("again", session.rounds("Liver"))
    assert (session.mask("again") == second).all()
    assert session.cache.misses == 1, "the name was segmented once"
    uncertainty = session.uncertainty("Liver")
    assert uncertainty.shape == SHAPE and 0 <= uncertainty.min() < uncertainty.max() <= 1


def test_name_and_clicks_together_are_a_name_and_then_clicks(session: SegmentationSession, volume: Volume) -> None:
    click = at(volume, 5, 25, 30)
    session.add("together", TextPrompt("liver"), click)
    session.add("apart", TextPrompt("liver"))
    session.add("apart", click)
    assert (logits(session, "together") == logits(session, "apart")).all()


def test_another_name_starts_anew_with_all_clicks(session: SegmentationSession, volume: Volume) -> None:
    click = at(volume, 5, 25, 30)
    session.add("s", TextPrompt("liver"), click)
    session.add("s", TextPrompt("spleen"))
    session.add("spleen", TextPrompt("spleen"), click)
    assert (logits(session, "s") == logits(session, "spleen")).all()
    assert (logits(session, "s") != logits(session, "s") * 0).any()


def test_other_after_a_name_forgets_what_was_found_by_it(session: SegmentationSession, volume: Volume) -> None:
    click = at(volume, 5, 25, 30)
    session.add("s", TextPrompt("liver"), click)
    session.add("s", TextPrompt("other"))
    session.add("other", TextPrompt("other"), click)
    assert np.array_equal(logits(session, "s"), logits(session, "other"))
    session.add("nothing left", TextPrompt("liver"))
    with pytest.raises(PromptError, match="nothing to start from"):
        session.add("nothing left", TextPrompt("other"))


def test_several_classes_under_one_name(session: SegmentationSession) -> None:
    for name in ("left kidney", "right kidney", "kidney"):
        session.add(name, TextPrompt(name))
    both = np.maximum(logits(session, "left kidney"), logits(session, "right kidney"))
    assert (logits(session, "kidney") >= both - 1e-4).all(), "windows are joined after the highest was taken"
    assert (logits(session, "left kidney") != logits(session, "right kidney")).any()


def test_clicks_alone_see_their_window_only(session: SegmentationSession, volume: Volume) -> None:
    result = session.add("s", at(volume, 5, 25, 4), at(volume, 5, 26, 6))
    box = result.region_box[2]
    assert box.stop < SHAPE[2], "the far side was not looked at"
    kept = session.mask("s")
    if kept.any():
        assert kept[5, 25, 4] or kept[5, 26, 6], "what hangs together with no click is dropped"
    else:
        assert any("nothing" in warning for warning in result.warnings)
    session.add("named", TextPrompt("other"), at(volume, 5, 25, 4), at(volume, 5, 26, 6))
    assert (logits(session, "named") != logits(session, "s")).any(), "a class of its own for what was not trained"


def test_special_classes_have_their_own_click_labels(session: SegmentationSession, volume: Volume) -> None:
    seen = []
    inference = session._segmenter.inference  # type: ignore[attr-defined]
    handle = inference.network.point_head.register_forward_pre_hook(lambda _m, args: seen.append(args[2].tolist()))
    try:
        clicks = (at(volume, 5, 25, 30), at(volume, 5, 25, 28, positive=False))
        session.add("a", TextPrompt("liver"), *clicks)
        session.add("b", TextPrompt("hepatic tumor"), *clicks)
    finally:
        handle.remove()
    assert seen[0] == [[1, 0]] and seen[-1] == [[3, 2]]


def test_same_tissue_however_the_volume_is_stored(volume: Volume, model: Any) -> None:
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, SHAPE[2] - 1
    flipped = Volume(volume.array[:, :, ::-1].copy(), volume.ijk_to_ras @ flip, "CT", "volume")
    swap = np.eye(4)[[2, 1, 0, 3]]
    permuted = Volume(volume.array.transpose(2, 1, 0).copy(), volume.ijk_to_ras @ swap, "CT", "volume")
    masks = []
    for stored in (volume, flipped, permuted):
        session = SegmentationSession(stored, model)
        session.add("s", TextPrompt("liver"), at(volume, 5, 25, 30))
        masks.append(session.mask("s"))
    assert masks[0].any()
    assert (masks[1][:, :, ::-1] == masks[0]).mean() >= 0.9999
    assert (masks[2].transpose(2, 1, 0) == masks[0]).mean() >= 0.9999


def test_cancelling_keeps_the_segment_and_progress_grows(session: SegmentationSession, volume: Volume) -> None:
    session.add("s", TextPrompt("liver"))
    before = session.mask("s")
    token, seen = CancelToken(), []

    def progress(_stage: str, share: float) -> None:
        seen.append(share)
        if len(seen) == 4:
            token.cancel()

    with pytest.raises(Cancelled):
        session.add("s", TextPrompt("spleen"), at(volume, 5, 25, 30), cancel=token, progress=progress)
    assert (session.mask("s") == before).all() and len(session.rounds("s")) == 1
    assert seen == sorted(seen)


def test_given_mask_and_exclusions(session: SegmentationSession, volume: Volume) -> None:
    given = volume.array > 0
    session.add("s", TextPrompt("liver"), MaskPrompt(given))
    mask = session.mask("s")
    assert 2 * (mask & given).sum() / (mask.sum() + given.sum()) > 0.9
    axes = (volume.ijk_to_ras[:3, :3] / np.linalg.norm(volume.ijk_to_ras[:3, :3], axis=0)).T
    ends = volume.kji_to_ras(np.array([[-0.5, -0.5, -0.5], [11.5, 49.5, 29.5]])) @ axes.T
    rows = tuple(tuple(row) for row in axes.tolist())
    session.add("s", Box(tuple(ends.min(0)), tuple(ends.max(0)), rows, positive=False))
    assert session.mask("s").any() and not session.mask("s")[:, :, :30].any()


def test_prompts_that_cannot_be_used(session: SegmentationSession, volume: Volume) -> None:
    for prompts, sentence in (
        ((TextPrompt("spleeen"),), "spleen"),
        ((TextPrompt("liver", positive=False), at(volume, 5, 25, 30)), "negative name"),
        ((TextPrompt("liver"), TextPrompt("spleen")), "one structure"),
        ((at(volume, 5, 25, 30, positive=False),), "nothing to start from"),
        ((TextPrompt("other"),), "nothing to start from"),
        ((Box((-10, -10, -10), (10, 10, 10)),), "names and clicks"),
    ):
        with pytest.raises(PromptError, match=sentence):
            session.add("s", *prompts)
    assert session.segments() == []


def test_other_modalities_are_warned_of_and_allowed(model: Any) -> None:
    session = SegmentationSession(oblique("MR"), model)
    result = session.add("s", TextPrompt("liver"))
    assert any("CT only" in warning and "MR" in warning for warning in result.warnings)
    assert not SegmentationSession(oblique(None), model).add("s", TextPrompt("liver")).warnings


def test_provenance_and_file(session: SegmentationSession, volume: Volume, tmp_path: Path) -> None:
    session.add("Liver", TextPrompt("liver"))
    provenance = session.provenance("Liver")
    assert provenance["model"] == "vista3d-small" and {"torch", "monai"} <= set(provenance["versions"])
    assert session.save(tmp_path / "out.seg.nrrd").exists()
