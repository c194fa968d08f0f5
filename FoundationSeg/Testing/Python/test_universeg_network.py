# SPDX-License-Identifier: Apache-2.0
"""UniverSeg's network gives the original's numbers for given weights (random ones: nothing is said of accuracy)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the families need the extra `torch`")

from FoundationSegLib.families.universeg.network import UniverSeg  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

FIXTURES = Path(__file__).resolve().parents[4] / "shared" / "fixtures" / "universeg"
pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the parity fixtures are not beside the repository")
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURES / "golden_forward.npz"))


@pytest.fixture(scope="module")
def network() -> UniverSeg:
    widths = json.loads((FIXTURES / "reduced_config.json").read_text())["encoder_blocks"]
    network = UniverSeg(widths)
    network.load_state_dict(load_file(FIXTURES / "reduced_state_dict.safetensors"), strict=True)
    return network


def assert_near(values: torch.Tensor, golden: np.ndarray, what: str) -> None:
    assert tuple(values.shape) == golden.shape, what
    difference = float(np.abs(values.numpy() - golden).max())
    assert difference <= TOLERANCE * np.abs(golden).max(), f"{what} differs by {difference:.2e}"


def test_every_intermediate_and_the_logits(network: UniverSeg, golden: dict[str, np.ndarray]) -> None:
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda _, __, out, name=f"{kind}{n}_target": seen.__setitem__(name, out[0]))
        for kind, blocks in (("enc", network.enc_blocks), ("dec", network.dec_blocks))
        for n, block in enumerate(blocks)
    ]
    target, images, labels = (torch.from_numpy(golden[k]) for k in ("target", "support_images", "support_labels"))
    # The intermediates of the file are those of its last run, with one example.
    assert_near(network(target, images[:, :1], labels[:, :1]), golden["logits_support1"], "logits of one example")
    for hook in hooks:
        hook.remove()
    assert len(seen) == 7
    for name in sorted(seen, key=lambda name: (name.startswith("dec"), name)):
        values = seen[name][:, None]
        assert_near(values[..., ::2, ::2] if values.shape[-1] == 32 else values, golden[name], name)
    assert_near(network(target, images, labels), golden["logits"], "logits of three examples")


def test_remembering_the_examples_changes_nothing(network: UniverSeg, golden: dict[str, np.ndarray]) -> None:
    for number in range(2):
        part = slice(number, number + 1)
        memory = network.remember(*(torch.from_numpy(golden[k][part]) for k in ("support_images", "support_labels")))
        logits = network.answer(torch.from_numpy(golden["target"][part]), memory)
        assert_near(logits, golden["logits"][part], "logits")


def published() -> UniverSeg:
    """The published size with weights drawn as the fixtures' README says."""
    network = UniverSeg()
    seed = int(np.load(FIXTURES / "golden_full.npz")["weight_seed"])
    drawn = {}
    for name, tensor in network.state_dict().items():
        generator = torch.Generator().manual_seed((seed * 1000003 + zlib.crc32(name.encode())) % 2**31)
        values = torch.randn(tensor.shape, generator=generator)
        drawn[name] = 1.3 * values / tensor[0].numel() ** 0.5 if tensor.ndim >= 2 else 0.1 * values
    network.load_state_dict(drawn)
    return network


def test_names_and_shapes_are_those_of_the_published_file() -> None:
    manifest = json.loads((FIXTURES / "manifest_v1_nf64.json").read_text())["tensors"]
    with torch.device("meta"):
        state = UniverSeg().state_dict()
    assert [(name, list(value.shape)) for name, value in state.items()] == [(t["name"], t["shape"]) for t in manifest]


def test_published_size_gives_the_original_logits_both_ways() -> None:
    golden = np.load(FIXTURES / "golden_full.npz")
    network = published()
    probe = network.state_dict()["enc_blocks.0.cross.cross_conv.weight"].flatten()[:8]
    np.testing.assert_allclose(probe.numpy(), golden["weight_probe"], rtol=1e-6)
    generator = torch.Generator().manual_seed(int(golden["data_seed"]))
    target = torch.rand((1, 1, 128, 128), generator=generator)
    images = torch.rand((1, 4, 1, 128, 128), generator=generator)
    labels = (torch.rand((1, 4, 1, 128, 128), generator=generator) > 0.5).float()
    np.testing.assert_allclose(target.flatten()[:8].numpy(), golden["target_first8"], rtol=1e-6)
    for logits in (network(target, images, labels), network.answer(target, network.remember(images, labels))):
        assert_near(logits[..., ::2, ::2], golden["logits_sub"], "logits")
