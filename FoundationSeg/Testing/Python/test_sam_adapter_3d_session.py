# SPDX-License-Identifier: Apache-2.0
"""The 3DSAM-adapter behind the session, reduced in size and with random weights: they prove the wiring, no accuracy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the families need the extra `torch`")

from FoundationSegLib import (  # noqa: E402
    Box,
    Cancelled,
    CancelToken,
    Lasso,
    MaskPrompt,
    ModelError,
    Point,
    PromptError,
    Scribble,
    SegmentationSession,
    families,
)
from FoundationSegLib.catalogue import ModelCard, model_card  # noqa: E402
from FoundationSegLib.families.sam_adapter_3d.intensity import WINDOWS  # noqa: E402
from FoundationSegLib.families.sam_adapter_3d.predictor import AdapterModel  # noqa: E402
from FoundationSegLib.hub.checkpoint import read_state  # noqa: E402
from FoundationSegLib.prompts import rounds_from_list, rounds_to_list  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from sam_adapter_3d_case import card, oblique_volume, random_network  # noqa: E402

VOLUME, TRUTH = oblique_volume()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AdapterModel:
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(random_network().state_dict(), path)
    return families.load(card("region"), path, "cpu")


@pytest.fixture
def session(model: AdapterModel) -> SegmentationSession:
    return SegmentationSession(VOLUME, model)


def at(*kji: float, positive: bool = True) -> Point:
    return Point(tuple(VOLUME.kji_to_ras(np.array(kji, dtype=float))), positive)


def test_region_is_that_of_the_network_and_further_clicks_cost_no_encoder_run(session: SegmentationSession) -> None:
    result = session.add("s", at(8, 28, 24))
    extent = [(part.stop - part.start) * mm for part, mm in zip(result.region_box, (2.5, 0.7, 0.9), strict=True)]
    assert all(29 < mm <= 40.5 * 1.6 for mm in extent), "32 points 1 mm apart, or grown once from there"
    assert result.predicted_iou is None and result.voxels == session.mask("s").sum()
    runs = session.cache.misses
    again = session.add("t", at(8, 28, 24))
    assert session.cache.misses == runs and "encode" not in again.timings
    assert np.array_equal(session.mask("s"), session.mask("t"))


def test_undo_redo_and_replay_are_the_same_to_the_bit(session: SegmentationSession, model: AdapterModel) -> None:
    session.add("s", at(8, 28, 24))
    first = session.mask("s")
    session.add("s", at(7, 24, 20), Scribble((at(8, 30, 24).ras, at(8, 33, 28).ras)))
    second = session.mask("s")
    assert first.any() and (second & first).sum() == first.sum(), "clicks on the structure only add"
    session.undo("s")
    assert np.array_equal(session.mask("s"), first)
    session.redo("s")
    assert np.array_equal(session.mask("s"), second)
    stored = json.loads(json.dumps(rounds_to_list(session.rounds("s"))))
    other = SegmentationSession(VOLUME, model)
    other.replay("s", rounds_from_list(stored))
    assert np.array_equal(other.mask("s"), second)
    assert other.provenance("s")["model"] == "sam-adapter-3d" and "torch" in other.provenance("s")["versions"]


def test_a_box_alone_counts_as_its_centre(model: AdapterModel) -> None:
    corners = VOLUME.kji_to_ras(np.array([[5, 18, 14], [11, 38, 34]]))
    axes = VOLUME.ijk_to_ras[:3, :3] / np.array(VOLUME.spacing_mm)
    along = corners @ axes
    session = SegmentationSession(VOLUME, model)
    box = Box(tuple(along.min(0)), tuple(along.max(0)), tuple(map(tuple, axes.T)))
    session.add("box", box)
    assert session.mask("box").any()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (at(8, 10, 10, positive=False), "no clicks beside the structure"),
        (Scribble((at(8, 10, 10).ras, at(8, 12, 10).ras), positive=False), "no clicks beside the structure"),
        (Lasso((at(8, 10, 10).ras, at(8, 30, 10).ras, at(8, 30, 30).ras)), "no lasso"),
        (MaskPrompt(TRUTH), "cannot start from a mask"),
    ],
    ids=["point", "scribble", "lasso", "mask"],
)
def test_what_the_network_has_no_notion_of_is_answered_before_it_runs(
    session: SegmentationSession, prompt: object, message: str
) -> None:
    session.add("s", at(8, 28, 24))
    before, runs = session.mask("s"), session.cache.misses
    with pytest.raises(PromptError, match=message):
        session.add("s", prompt)  # type: ignore[arg-type]
    assert np.array_equal(session.mask("s"), before) and session.cache.misses == runs


def test_cancel_leaves_the_segment(session: SegmentationSession) -> None:
    token = CancelToken()
    with pytest.raises(Cancelled):
        session.add("s", at(8, 28, 24), cancel=token, progress=lambda stage, _: stage == "encode" and token.cancel())
    assert session.segments() == []


def test_uncertainty_is_a_share(session: SegmentationSession) -> None:
    result = session.add("s", at(8, 28, 24))
    doubt = session.uncertainty("s")
    assert doubt.shape == session.mask("s")[result.region_box].shape
    assert doubt.min() >= 0 and doubt.max() <= 1 and doubt.std() > 0


def test_intensity_is_the_cards(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(random_network().state_dict(), path)
    crops = []
    for intensity in (None, "region", "kits"):
        segmenter = families.load(card(intensity), path, "cpu").segmenter(VOLUME, SegmentationSession(VOLUME).cache)
        region = segmenter._around(np.array([[10.0, 10, 10], [30, 30, 30]]))
        crops.append(segmenter.predictor.prepare(VOLUME, segmenter.frame, region))
    assert np.array_equal(crops[0], crops[1]) and not np.array_equal(crops[0], crops[2])
    with pytest.raises(ModelError, match="kits, lits"):
        families.load(card("spleen"), path, "cpu")


@pytest.mark.parametrize("task", sorted(WINDOWS))
def test_each_published_checkpoint_has_a_card_with_its_window(task: str) -> None:
    assert model_card(f"sam-adapter-3d-{task}").architecture == {"intensity": task}
    assert model_card("sam-adapter-3d").architecture == {"intensity": "region"}, "what own training makes"


# --- the published layout ---------------------------------------------------------------------------------------------


def published_layout(seed: int = 4) -> dict[str, object]:
    """`best.pth.tar` as the original's training writes it, reduced."""
    state = random_network(seed).state_dict()

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

    masks = {f"blocks.{index}.attn_mask": torch.zeros(8, 64, 64) for index in range(0, 12, 2)}
    other = {name: value + 1 for name, value in part("prompt_encoder.").items()}
    parameter = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([parameter], lr=1e-3)
    parameter.sum().backward()
    optimiser.step()
    return {
        "epoch": 7,
        "best_val_loss": np.float32(0.3),
        "encoder_dict": part("encoder.") | masks,
        "decoder_dict": part("mask_decoder."),
        "feature_dict": [other, other, other, part("prompt_encoder.")],
        "encoder_opt": optimiser.state_dict(),
        "feature_opt": optimiser.state_dict(),
        "decoder_opt": optimiser.state_dict(),
    }


def test_published_layout_is_read_without_code_masks_and_optimisers(tmp_path: Path) -> None:
    path = tmp_path / "best.pth.tar"
    torch.save(published_layout(), path)
    state = read_state(path, card(), path.name, intact=False)
    wanted = random_network(4).state_dict()
    assert state.keys() == wanted.keys() == families.expected_tensors(card()).keys()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted), "of four prompt encoders the last is used"


def test_published_layout_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.pth.tar"
    layout = published_layout()
    del layout["encoder_dict"]["blocks.3.attn.lr"]  # type: ignore[attr-defined]
    torch.save(layout, path)
    with pytest.raises(ModelError, match=r"1 tensor missing \(encoder.blocks.3.attn.lr\)"):
        read_state(path, card(), path.name, intact=False)


def test_sizes_that_do_not_exist_are_answered() -> None:
    wrong: ModelCard = replace(card(), data={**card().data, "architecture": {"sizes": {"height": 3}}})
    with pytest.raises(ModelError, match="sizes"):
        families.expected_tensors(wrong)
