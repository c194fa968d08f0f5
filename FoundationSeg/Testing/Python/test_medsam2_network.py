# SPDX-License-Identifier: Apache-2.0
"""MedSAM2's network: names against the published manifest, numbers against the original implementation.

No published weights and no goldens of them are at hand. What is shown instead: the names and shapes of the published
checkpoint are exactly those that the family asks for, and on drawn weights of a small configuration the original
implementation (bowang-lab/MedSAM2 332f30d, its predictor for volumes, on a CPU) and this family give the same masks.
`data/medsam2_reduced.npz` holds the original's numbers: low-resolution logits of six slices for a box on slice 2
followed upwards and downwards, of a click, of a slice after a given mask, and of a correction of slice 4 in the light
of slice 2. Weights and slices are drawn anew by `medsam2_case.py`; the probes in the file tell whether the draw agrees.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from FoundationSegLib.errors import ModelError  # noqa: E402
from FoundationSegLib.families import medsam2  # noqa: E402
from FoundationSegLib.families.medsam2 import keys  # noqa: E402
from FoundationSegLib.families.medsam2.memory import Prompted, Tracker, encode  # noqa: E402
from FoundationSegLib.families.medsam2.network import Settings, build, load_network  # noqa: E402
from medsam2_case import SETTINGS, card, checkpoint, frames, network  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

MANIFEST = Path(__file__).parents[4] / "shared" / "fixtures" / "medsam2" / "manifest_sam2.1_hiera_t512.json"
GOLDEN = Path(__file__).parent / "data" / "medsam2_reduced.npz"
BOX = Prompted(np.array([[28, 27], [85, 100]], np.float32), np.array([2, 3], np.int32))
KEY = 2


@pytest.fixture(scope="module")
def small() -> Any:
    return network()


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def tracker(small: Any) -> Tracker:
    video = frames().numpy()
    encoded: dict[int, list[np.ndarray]] = {}

    def features(index: int) -> list[np.ndarray]:
        if index not in encoded:
            encoded[index] = encode(small, torch.device("cpu"), video[index])
        return encoded[index]

    return Tracker(small, torch.device("cpu"), len(video), features)


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Logits reach 100 here; the fixtures' tolerance is relative to the largest."""
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
    assert ((ours > 0) == (theirs > 0)).mean() >= 0.999


def test_expected_tensors_are_those_of_the_published_checkpoint() -> None:
    if not MANIFEST.exists():
        pytest.skip(f"the manifest is not at hand ({MANIFEST.name} in ../shared/fixtures)")
    listed = json.loads(MANIFEST.read_text(encoding="utf-8"))["tensors"]
    expected = medsam2.expected_tensors(card(architecture={}))
    assert expected == {tensor["name"]: tuple(tensor["shape"]) for tensor in listed}
    assert len(expected) == 471


def test_names_are_a_bijection() -> None:
    with torch.device("meta"):
        state = build(Settings()).state_dict()
    pairs = keys.checkpoint_names(state)
    counts = Counter(name for names in pairs.values() for name in names)
    assert set(counts.values()) == {1}, "no tensor of the checkpoint is read twice"
    assert [name for name, old in pairs.items() if not old] == ["shared_image_embedding.positional_embedding"]
    assert {name: len(old) for name, old in pairs.items() if len(old) > 1} == {"prompt_encoder.point_embed.weight": 4}


def test_every_tensor_arrives_where_it_belongs() -> None:
    weights = checkpoint()
    state = network().state_dict()
    back = {old: state[name] for name, names in keys.checkpoint_names(state).items() for old in names[:1]}
    assert all(torch.equal(back[name].reshape(-1)[:3], weights[name].reshape(-1)[:3]) for name in back)
    assert torch.equal(
        state["prompt_encoder.point_embed.weight"][3:], weights["sam_prompt_encoder.point_embeddings.3.weight"]
    )


def test_draw_is_the_one_behind_the_golden_numbers(golden: dict[str, np.ndarray]) -> None:
    probe = checkpoint()["image_encoder.trunk.blocks.0.attn.qkv.weight"].flatten()[:8].numpy()
    np.testing.assert_array_equal(probe, golden["weight_probe"])
    np.testing.assert_array_equal(frames().flatten()[:8].numpy(), golden["video_probe"])


@pytest.mark.parametrize(("name", "reverse"), [("forward", False), ("backward", True)])
def test_box_followed_both_ways_as_in_the_original(
    tracker: Tracker, golden: dict[str, np.ndarray], name: str, reverse: bool
) -> None:
    memories = {KEY: tracker.condition(KEY, BOX, {}, None)}
    order = range(KEY, -1, -1) if reverse else range(KEY, 6)
    steps = list(tracker.track(memories, order, reverse))
    assert [index for index, *_ in steps] == list(order)
    close(np.stack([logits for _, logits, _ in steps]), golden[name])
    assert all(0 <= quality <= 1 for *_, quality in steps)


def test_click_mask_and_correction_as_in_the_original(tracker: Tracker, golden: dict[str, np.ndarray]) -> None:
    click = Prompted(np.array([[64, 40]], np.float32), np.array([1], np.int32))
    close(tracker.condition(1, click, {}, None).logits, golden["click"])
    size = SETTINGS.image_size
    picture = np.zeros((size, size), np.float32)
    picture[30:80, 40:100] = 1
    given = tracker.condition(1, Prompted(np.zeros((0, 2), np.float32), np.zeros(0, np.int32), picture), {}, None)
    *_, (_, logits, _) = tracker.track({1: given}, range(1, 3), False)
    close(logits, golden["from_mask"])
    memories = {KEY: tracker.condition(KEY, BOX, {}, None)}
    points = Prompted(np.array([[50, 60], [90, 20]], np.float32), np.array([1, 0], np.int32))
    corrected = tracker.condition(4, points, memories, golden["forward"][2])
    close(corrected.logits, golden["correction"])


@pytest.mark.parametrize("reverse", [False, True])
def test_driving_equals_the_librarys_own_session(small: Any, tracker: Tracker, reverse: bool) -> None:
    """The library's propagation over a whole video against ours with slices on demand: equal to 1e-5."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    size = SETTINGS.image_size
    session = Sam2VideoInferenceSession(video=frames(), video_height=size, video_width=size, dtype=torch.float32)
    session.add_point_inputs(
        session.obj_id_to_idx(1),
        KEY,
        {
            "point_coords": torch.from_numpy(BOX.coords)[None, None],
            "point_labels": torch.from_numpy(BOX.labels)[None, None],
        },
    )
    session.obj_with_new_inputs = [1]
    theirs = {
        out.frame_idx: out.pred_masks[0, 0].numpy()
        for out in small.propagate_in_video_iterator(session, start_frame_idx=KEY, reverse=reverse)
    }
    memories = {KEY: tracker.condition(KEY, BOX, {}, None)}
    order = range(KEY, -1, -1) if reverse else range(KEY, 6)
    ours = {index: logits for index, logits, _ in tracker.track(memories, order, reverse)}
    assert ours.keys() == theirs.keys()
    assert max(np.abs(ours[index] - theirs[index]).max() for index in ours) <= 1e-5


def test_loading_is_strict(tmp_path: Path) -> None:
    weights = checkpoint()
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    loaded = load_network(SETTINGS, path, torch.device("cpu"))
    state = network().state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    del weights["no_mem_embed"]
    save_file(weights, path)
    with pytest.raises(ModelError, match="no_mem_embed"):
        load_network(SETTINGS, path, torch.device("cpu"))
    with pytest.raises(ModelError, match="sizes"):
        medsam2.expected_tensors(card(architecture={"sizes": 3}))


def test_family_needs_neither_torchvision_nor_monai() -> None:
    code = (
        "import sys\n"
        "from FoundationSegLib.families import medsam2\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "from medsam2_case import card\n"
        "import FoundationSegLib.families.medsam2.model\n"
        "assert len(medsam2.expected_tensors(card())) > 300\n"
        "found = {'torchvision', 'monai', 'hydra', 'sam2', 'matplotlib'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
