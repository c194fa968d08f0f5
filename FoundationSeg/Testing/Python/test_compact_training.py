# SPDX-License-Identifier: Apache-2.0
"""Synthesis, simulated prompts and training of the compact model, in seconds; needs the `torch` extra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `torch`")

import torch.nn.functional as F  # noqa: E402
from FoundationSegLib.compact import network, simulate, synthesis, train  # noqa: E402
from FoundationSegLib.compact.export import export  # noqa: E402
from FoundationSegLib.compact.inputs import box_map, normalise  # noqa: E402
from FoundationSegLib.resources import resource_folder  # noqa: E402


def test_scenes_differ_by_seed_and_repeat_with_it() -> None:
    first, again, other = (synthesis.synthesise(np.random.default_rng(seed), 32, 3) for seed in (1, 1, 2))
    assert np.array_equal(first.image, again.image) and not np.array_equal(first.image, other.image)
    for scene in (first, other):
        assert len(scene.targets) == 3 and np.isfinite(scene.image).all()
        assert all(6 <= mask.sum() < mask.size for mask in scene.targets)


def test_prompts_lie_in_the_target_and_say_so() -> None:
    kinds = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        mask = synthesis.synthesise(rng, 32, 1).targets[0]
        prompts = simulate.simulate_prompts(rng, mask)
        positive = np.rint(prompts.point_coords[prompts.point_labels == 1]).astype(int).clip(0, 31)
        # Clicks are jittered by up to half a voxel, so they may round to a neighbour.
        near = F.max_pool3d(torch.from_numpy(mask[None, None].astype(np.float32)), 3, 1, 1)[0, 0].numpy() > 0
        assert near[tuple(positive.T)].all()
        kinds.add((len(positive) > 0, bool(prompts.box.any()), bool(prompts.mask_input.any())))
        assert len(positive) or prompts.box.any()
    assert len(kinds) >= 5, "clicks, boxes and earlier masks all occur, alone and together"


def test_correction_clicks_where_the_error_is() -> None:
    target = torch.zeros(2, 1, 16, 16, 16)
    target[:, :, 4:12, 4:12, 4:12] = 1
    logits = torch.full_like(target, -3.0)
    logits[0, :, 4:12, 4:12, 2:8] = 3  # sample 0 misses one half; sample 1 has a surplus block only
    logits[1] = torch.where(target[1] > 0, 3.0, -3.0)
    logits[1, :, 0:3, 0:3, 0:3] = 3
    coords, labels = torch.zeros(2, 4, 3), torch.full((2, 4), -1)
    simulate.correct(logits, target, coords, labels, torch.Generator().manual_seed(0))
    assert labels[:, 0].tolist() == [1, 0] and (labels[:, 1:] == -1).all()
    k, j, i = coords[0, 0].long().tolist()
    assert target[0, 0, k, j, i] == 1 and logits[0, 0, k, j, i] < 0
    assert (coords[1, 0] < 3).all()


def test_no_error_gets_no_click() -> None:
    target = torch.zeros(1, 1, 16, 16, 16)
    target[..., 4:9] = 1
    coords, labels = torch.zeros(1, 4, 3), torch.full((1, 4), -1)
    simulate.correct(target * 6 - 3, target, coords, labels, torch.Generator().manual_seed(0))
    assert (labels == -1).all()


def test_depth_counts_steps_to_the_edge_and_not_to_the_face() -> None:
    mask = torch.zeros(1, 1, 9, 9, 9)
    mask[..., 2:7, 2:7, 2:7] = 1
    assert simulate.depth(mask)[0, 0, 4, 4].tolist() == [0, 0, 1, 2, 3, 2, 1, 0, 0]
    assert simulate.depth(torch.ones(1, 1, 4, 4, 4), steps=5).min() == 5


def test_dilation_is_max_pooling() -> None:
    x = torch.randn(2, 3, 7, 7, 7)
    assert torch.equal(network.dilate(x), F.max_pool3d(x, 3, stride=1, padding=1))


@pytest.mark.parametrize("times", [2, 4])
def test_doubling_is_nearest_neighbour_interpolation(times: int) -> None:
    x = torch.randn(2, 3, 5, 5, 5)
    assert torch.equal(network.double(x, times), F.interpolate(x, scale_factor=times))


def test_space_to_depth_loses_nothing() -> None:
    x = torch.randn(2, 3, 8, 8, 8)
    assert torch.equal(network.depth_to_space(network.space_to_depth(x)), x)


def test_box_map_is_positive_inside_only() -> None:
    field = box_map(np.array([15.0, 16.0, 17.0]), np.eye(3), np.array([4.0, 6.0, 8.0]), 16)[0]
    k, j, i = np.meshgrid(*[2 * np.arange(16) + 0.5] * 3, indexing="ij")
    inside = (abs(k - 15) < 4) & (abs(j - 16) < 6) & (abs(i - 17) < 8)
    assert np.array_equal(field > 0, inside) and field.max() <= 1 and field.min() == -1


def test_normalisation_does_not_depend_on_unit_and_offset() -> None:
    image = synthesis.synthesise(np.random.default_rng(3), 32, 1).image
    a, b = normalise(image), normalise(image * 40 - 1000)
    assert a.shape == (2, 32, 32, 32) and a.dtype == np.float32
    assert abs(a).max() <= 1 and np.abs(a - b).max() < 1e-3


def test_training_lowers_the_loss_resumes_and_exports(tmp_path: Path) -> None:
    batch = train.make_batch(7, 16, 1, 2)
    torch.manual_seed(0)
    net = network.CompactNetwork()
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss, dices = train.step_loss(net, batch, 2, torch.Generator().manual_seed(0))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        assert len(dices) == 2
    assert losses[-1] < 0.8 * losses[0]

    config = train.TrainConfig(minutes=0.08, stages=((1.0, 16, 1, 2),), targets=1, workers=0)
    checkpoint = train.train(config, tmp_path)
    steps = torch.load(checkpoint, weights_only=True)["step"]
    assert steps > 0
    train.train(train.TrainConfig(minutes=0.12, stages=((1.0, 16, 1, 2),), targets=1, workers=0), tmp_path, resume=True)
    assert torch.load(checkpoint, weights_only=True)["step"] > steps

    export(checkpoint, tmp_path / "weights")
    twin = network.load_network(tmp_path / "weights" / "compact.safetensors")
    stored = torch.load(checkpoint, weights_only=True)["mean"]
    assert all(torch.equal(tensor, stored[name].half().float()) for name, tensor in twin.state_dict().items())


def test_training_begins_with_given_weights_also_in_bfloat16(tmp_path: Path) -> None:
    weights = resource_folder("Weights") / "compact.safetensors"
    config = train.TrainConfig(
        minutes=0.06,
        stages=((1.0, 32, 1, 2),),  # in bfloat16 gradients at 16 points are often not finite, and the step is skipped
        targets=1,
        workers=0,
        learning_rate=1e-5,
        bfloat16=True,
        init=str(weights),
    )
    state = torch.load(train.train(config, tmp_path), weights_only=True)
    given = network.load_network(weights).state_dict()
    assert state["step"] > 0
    changed = [name for name, tensor in given.items() if not torch.equal(tensor, state["net"][name])]
    assert changed, "it trains"
    assert all((given[name] - state["net"][name]).abs().max() < 1e-2 for name in given), "from there, not from chance"
