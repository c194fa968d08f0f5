# SPDX-License-Identifier: Apache-2.0
"""The real network, reduced and with drawn weights, from card to session. It proves the wiring, never the accuracy."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if find_spec("segment_anything") is None:
    pytest.skip("segment-anything is not installed", allow_module_level=True)

from FoundationSegLib import Cancelled, CancelToken, ModelError, PromptError, SegmentationSession, families  # noqa: E402
from FoundationSegLib.catalogue import ModelCard  # noqa: E402
from FoundationSegLib.prompts import rounds_from_list, rounds_to_list  # noqa: E402
from FoundationSegLib.segmentation_io import read_segmentation  # noqa: E402
from FoundationSegLib.slicewise.judge import SpreadPolicy  # noqa: E402
from FoundationSegLib.slicewise.segmenter import SliceModel, SlicePolicy  # noqa: E402
from sam_case import REDUCED, REDUCED_WEIGHTS, SAM, needs_fixtures  # noqa: E402
from test_slicewise import BALL, at, box_of, dice, phantom, state_of  # noqa: E402

pytestmark = needs_fixtures
# Drawn weights know no tissue and no quality: with the rules for ends off, masks spread over some slices at least.
LENIENT = SpreadPolicy(inside=0.0, grow=1e6, shrink=0.0, least_iou=None, tissue_slack=256.0, most_slices=4)


def card(tmp_path: Path, family: str, **architecture: object) -> ModelCard:
    path = tmp_path / f"{family}.json"
    path.write_text(
        json.dumps(
            {
                "name": f"{family}-reduced",
                "title": "Reduced",
                "family": family,
                "revision": "test",
                "licence": "Apache-2.0",
                "prompts": ["box"],
                "modalities": ["CT", "MR"],
                "description": "Drawn weights, for tests.",
                "architecture": {**REDUCED, **architecture},
                "weights": {"source": "user", "sha256": "0" * 64},
            }
        )
    )
    return ModelCard.read(path)


def load(tmp_path: Path, family: str, **architecture: object) -> SliceModel:
    model = families.load(card(tmp_path, family, **architecture), REDUCED_WEIGHTS, "cpu")
    assert isinstance(model, SliceModel)
    return SliceModel(model.predictor, SlicePolicy(spread=LENIENT))


def test_cards_describe_networks(tmp_path: Path) -> None:
    from safetensors import safe_open

    expected = families.expected_tensors(card(tmp_path, "sam"))
    with safe_open(REDUCED_WEIGHTS, "pt") as file:
        assert {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()} == expected  # noqa: SIM118
    published = families.expected_tensors(card(tmp_path, "medsam", sizes={}))
    manifest = json.loads((SAM / "manifest_vit_b.json").read_text())["tensors"]
    assert published == {tensor["name"]: tuple(tensor["shape"]) for tensor in manifest}
    with pytest.raises(ModelError, match="no size named depht"):
        families.expected_tensors(card(tmp_path, "sam", sizes={"depht": 3}))
    with pytest.raises(ModelError, match="float32, or int8"):
        families.load(card(tmp_path, "sam", precision="int4"), REDUCED_WEIGHTS, "cpu")


def test_clicks_corrections_undo_and_replay_with_sam(tmp_path: Path) -> None:
    volume = phantom((BALL, 160))
    session = SegmentationSession(volume, load(tmp_path, "sam"))
    first_result = session.add("s", at(volume, 14, 20, 18))
    first = session.mask("s")
    assert first.any() and 0 <= (first_result.predicted_iou or 0) <= 1
    prompted = state_of(session).slices[14].logits
    session.add("s", at(volume, 14, 30, 30, positive=False), at(volume, 16, 24, 18))
    second = session.mask("s")
    assert not np.array_equal(state_of(session).slices[14].logits, prompted), "the correction was heard"
    session.add("s", box_of(volume, (6.6, 10, 8), (21.4, 30, 28)))
    third = session.mask("s")
    session.undo("s")
    np.testing.assert_array_equal(session.mask("s"), second)
    session.undo("s")
    np.testing.assert_array_equal(session.mask("s"), first)
    session.redo("s"), session.redo("s")

    again = SegmentationSession(volume, load(tmp_path, "sam"))
    again.replay("s", rounds_from_list(rounds_to_list(session.rounds("s"))))
    assert again.mask("s").tobytes() == third.tobytes()
    assert again.uncertainty("s").tobytes() == session.uncertainty("s").tobytes()
    assert session.provenance("s")["model"] == "sam-reduced" and session.provenance("s")["versions"]["torch"]
    path = session.save(tmp_path / "s.seg.nrrd")
    np.testing.assert_array_equal(read_segmentation(path).records[0].mask, third)


def test_boxes_with_medsam(tmp_path: Path) -> None:
    volume = phantom((BALL, 160))
    session = SegmentationSession(volume, load(tmp_path, "medsam"))
    result = session.add("s", box_of(volume, (9.6, 8, 6), (18.4, 32, 30)))
    assert result.predicted_iou is None
    mask = session.mask("s")
    filled = np.flatnonzero(mask.any((1, 2)))
    assert len(filled) and filled[0] >= 10 and filled[-1] <= 18, "the box's depth is kept"
    with pytest.raises(PromptError, match="medsam-reduced cannot use a negative point; it takes boxes"):
        session.add("s", at(volume, 14, 20, 18, positive=False))
    np.testing.assert_array_equal(session.mask("s"), mask)


def test_cancelling_between_blocks_of_the_encoder(tmp_path: Path) -> None:
    volume = phantom((BALL, 160))
    model = load(tmp_path, "sam")
    session = SegmentationSession(volume, model)
    session.add("s", at(volume, 14, 20, 18))
    before, cancel = session.mask("s"), CancelToken()
    blocks: list[int] = []

    def cancel_in_second_block(*_: object) -> None:
        blocks.append(1)
        if len(blocks) == 2:
            cancel.cancel()

    for block in model.predictor.network.image_encoder.blocks:
        block.register_forward_hook(cancel_in_second_block)
    with pytest.raises(Cancelled):
        session.add("s", at(volume, 25, 20, 18), cancel=cancel)
    assert len(blocks) == 2, "not even the slice in work was finished"
    np.testing.assert_array_equal(session.mask("s"), before)
    session.add("s", at(volume, 25, 20, 18))
    assert len(blocks) > 2


def test_eight_bits_are_opted_in_by_the_card_and_named_in_the_provenance(tmp_path: Path) -> None:
    volume = phantom((BALL, 160))
    masks = {}
    for precision in ("float32", "int8"):
        session = SegmentationSession(volume, load(tmp_path, "sam", precision=precision))
        session.add("s", at(volume, 14, 20, 18))
        masks[precision] = session.mask("s")[14]
        assert session.provenance("s")["precision"] == precision
    assert dice(masks["float32"], masks["int8"]) > 0.9


def test_weights_of_another_network_do_not_load(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    shutil.copy(REDUCED_WEIGHTS, other)
    with pytest.raises(RuntimeError, match="size mismatch"):
        families.load(card(tmp_path, "sam", sizes={**REDUCED["sizes"], "window_size": 7}), other, "cpu")
