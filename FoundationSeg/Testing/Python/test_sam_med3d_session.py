# SPDX-License-Identifier: Apache-2.0
"""SAM-Med3D behind the session, reduced in size and with random weights: they prove the wiring, no accuracy."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the families need the extra `torch`")

from FoundationSegLib import (  # noqa: E402
    Box,
    Cancelled,
    CancelToken,
    Lasso,
    MaskPrompt,
    Point,
    PromptError,
    Scribble,
    SegmentationSession,
    Volume,
    families,
)
from FoundationSegLib.families.sam_med3d.config import SamMed3dConfig  # noqa: E402
from FoundationSegLib.families.sam_med3d.model import SamMed3dModel  # noqa: E402
from FoundationSegLib.families.sam_med3d.predictor import SamMed3dPredictor  # noqa: E402
from FoundationSegLib.predictor import GridPrompts  # noqa: E402
from FoundationSegLib.prompts import rounds_from_list, rounds_to_list  # noqa: E402
from FoundationSegLib.region import CanonicalFrame  # noqa: E402
from FoundationSegLib.region_segmenter import RegionModel, RegionPolicy  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from sam_med3d_case import MODEL_A, card, drawn_network, oblique_volume  # noqa: E402

VOLUME = oblique_volume()
FIRST, SECOND = (14, 24, 22), (15, 28, 25)  # k, j, i


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SamMed3dModel:
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(drawn_network(SamMed3dConfig.from_dict(MODEL_A), 31).state_dict(), path)
    loaded = families.load(card(MODEL_A), path, "cpu")
    assert isinstance(loaded, SamMed3dModel)
    return loaded


@pytest.fixture
def session(model: SamMed3dModel) -> SegmentationSession:
    return SegmentationSession(VOLUME, model)


def at(*kji: float, positive: bool = True, volume: Volume = VOLUME) -> Point:
    return Point(tuple(volume.kji_to_ras(np.array(kji, dtype=float))), positive)


def test_points_undo_redo_and_replay(session: SegmentationSession, model: SamMed3dModel) -> None:
    result = session.add("lesion", at(*FIRST))
    first = session.mask("lesion")
    assert first.shape == VOLUME.shape and result.voxels == first.sum() > 0
    assert 0 <= (result.predicted_iou if result.predicted_iou is not None else -1) <= 1
    assert {"crop", "encode", "decode", "voxels"} <= set(result.timings)
    session.add("lesion", at(16, 30, 30), at(10, 10, 60, positive=False))
    second = session.mask("lesion")
    assert (first != second).any(), "random weights, but other prompts"
    session.undo("lesion")
    np.testing.assert_array_equal(session.mask("lesion"), first)
    session.redo("lesion")
    np.testing.assert_array_equal(session.mask("lesion"), second)
    stored = json.loads(json.dumps(rounds_to_list(session.rounds("lesion"))))
    anew = SegmentationSession(VOLUME, model)
    anew.replay("again", rounds_from_list(stored))
    np.testing.assert_array_equal(anew.mask("again"), second)


def test_a_second_object_in_the_region_and_further_clicks_cost_no_encoder_run(model: SamMed3dModel) -> None:
    volume = oblique_volume((18, 56, 50))  # fits into one region, since random weights fill whatever they are shown
    session = SegmentationSession(volume, model)
    session.add("a", at(*FIRST, volume=volume))
    beside = session.add("b", at(*SECOND, volume=volume))
    further = session.add("a", at(16, 20, 24, volume=volume))
    assert session.cache.misses == 1
    assert "encode" not in beside.timings and "encode" not in further.timings
    alone = SegmentationSession(volume, model)
    alone.add("b", at(*SECOND, volume=volume))
    np.testing.assert_array_equal(alone.mask("b"), session.mask("b"), "what was segmented before does not matter")


def test_refinement_is_the_original_loop(session: SegmentationSession, model: SamMed3dModel) -> None:
    """All clicks so far, and the network's own low-resolution logits of the step before as mask prompt."""
    session.add("s", at(*FIRST))
    session.add("s", at(*SECOND, positive=False))
    segmenter = model.segmenter(VOLUME, session.cache)
    frame, predictor = CanonicalFrame.of(VOLUME), model.predictor
    region = segmenter.lattice.region(segmenter.lattice.around(frame.from_kji(FIRST)))
    image = torch.from_numpy(predictor.prepare(VOLUME, frame, region))[None]
    # Axes of the original: x, y, z.
    clicks = torch.from_numpy(region.to_grid(frame.from_kji([FIRST, SECOND]))[None, :, ::-1].copy()).float()
    with torch.inference_mode():
        embedding = predictor.network.encode(image)
        zero = torch.zeros(1, 1, 16, 16, 16)
        logits, _ = predictor.network.decode(embedding, clicks[:, :1], torch.tensor([[1]]), zero)
        logits, _ = predictor.network.decode(embedding, clicks, torch.tensor([[1, 0]]), logits)
    prediction = session._histories["s"].current
    tile = next(t for t in prediction.tiles if segmenter.lattice.region(t.place) == region)  # type: ignore[union-attr]
    np.testing.assert_allclose(tile.logits, logits[0, 0].numpy().transpose(2, 1, 0), atol=1e-4)


def test_boxes_become_clicks_and_are_said_to(session: SegmentationSession, model: SamMed3dModel) -> None:
    centre = np.array(at(*FIRST).ras)
    result = session.add("box", Box(tuple(centre - 9), tuple(centre + 9)))
    assert any("takes no boxes" in warning for warning in result.warnings)
    session.add("click", Point(tuple(centre)))
    np.testing.assert_array_equal(session.mask("box"), session.mask("click"))
    half = Box(tuple(centre - 99), tuple(centre + np.array([99, 0, 99])), positive=False)
    session.add("click", half)
    k, j, i = np.nonzero(session.mask("click"))
    assert (VOLUME.kji_to_ras(np.stack([k, j, i], axis=1))[:, 1] > centre[1]).all()


def test_every_kind_of_prompt_goes_through(session: SegmentationSession) -> None:
    around = [(14, 24 + 8 * np.sin(t), 22 + 8 * np.cos(t)) for t in np.linspace(0, 6, 12)]
    session.add("lasso", Lasso(tuple(at(*p).ras for p in around)))
    session.add("scribble", Scribble(tuple(at(14, 20 + n, 22).ras for n in range(6))))
    ball = np.zeros(VOLUME.shape, bool)
    ball[12:17, 18:30, 17:28] = True
    result = session.add("mask", MaskPrompt(ball))
    assert result.voxels == session.mask("mask").sum()
    session.add("mask", at(*FIRST))
    dot = np.zeros(VOLUME.shape, bool)
    dot[14, 24, 22] = True
    session.add("dot", MaskPrompt(dot))


def test_wrong_prompts_and_cancelling_change_nothing(session: SegmentationSession) -> None:
    with pytest.raises(PromptError, match="All prompts are negative"):
        session.add("s", at(*FIRST, positive=False))
    session.add("s", at(*FIRST))
    before = session.mask("s")
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        session.add("s", at(*SECOND), cancel=token)
    np.testing.assert_array_equal(session.mask("s"), before)
    assert len(session.rounds("s")) == 1


def test_uncertainty_and_provenance(session: SegmentationSession, model: SamMed3dModel) -> None:
    result = session.add("s", at(*FIRST))
    doubt = session.uncertainty("s")
    assert doubt.shape == tuple(part.stop - part.start for part in result.region_box)
    assert doubt.dtype == np.float32 and 0 <= doubt.min() < doubt.max() <= 1
    told = session.provenance("s")
    assert told["model"] == "sam-med3d-turbo" and told["sha256"] == "0" * 64 and told["precision"] == "float32"
    assert told["versions"]["torch"] == torch.__version__


def test_predictor_stands_behind_other_region_strategies(model: SamMed3dModel) -> None:
    """The general region strategy hands on logits on the region's grid; the network's own come back out of them."""
    predictor: SamMed3dPredictor = model.predictor
    low = np.random.default_rng(0).normal(0, 4, (16, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(predictor._reduced(predictor.upsample(low)), low, atol=1e-4)
    session = SegmentationSession(VOLUME, RegionModel(predictor, RegionPolicy(spacing_mm=1.5)))
    session.add("s", at(*FIRST))
    session.add("s", at(*SECOND, positive=False))
    prompts = GridPrompts(np.array([[4, 9, 20]], np.float32), np.array([1]))
    embedding = predictor.encode(np.random.default_rng(1).normal(size=(1, 32, 32, 32)).astype(np.float32))
    once, again = (predictor.decode(embedding, prompts, None).logits for _ in range(2))
    np.testing.assert_array_equal(once, again)
