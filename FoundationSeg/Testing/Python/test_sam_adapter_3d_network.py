# SPDX-License-Identifier: Apache-2.0
"""The 3DSAM-adapter's network gives the original's numbers (for random weights: nothing is said of accuracy), and its
crops are the original's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the families need the extra `torch`")

import torch.nn.functional as F  # noqa: E402
from FoundationSegLib import Volume  # noqa: E402
from FoundationSegLib.families.sam_adapter_3d.encoder import shift_mask  # noqa: E402
from FoundationSegLib.families.sam_adapter_3d.intensity import WINDOWS, crop, normalise  # noqa: E402
from FoundationSegLib.families.sam_adapter_3d.network import (  # noqa: E402
    AdapterConfig,
    SamAdapter3d,
    difference,
    empty_network,
)
from FoundationSegLib.families.sam_adapter_3d.patches import embed_patches  # noqa: E402
from FoundationSegLib.region import CanonicalFrame, Region  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from sam_adapter_3d_case import CONFIG, random_network  # noqa: E402

FIXTURES = Path(__file__).resolve().parents[4] / "shared" / "fixtures" / "3dsam_adapter"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the parity fixtures are not beside the repository")
TOLERANCE = 2e-4
PARTS = {"encoder": "encoder_dict", "prompt_encoder": "feature_dict_item", "mask_decoder": "decoder_dict"}


def assert_near(values: torch.Tensor, golden: np.ndarray, what: str) -> None:
    assert tuple(values.shape) == golden.shape, what
    difference = float(np.abs(values.numpy() - golden).max())
    assert difference <= TOLERANCE * np.abs(golden).max(), f"{what} differs by {difference:.2e}"


@needs_fixtures
@pytest.mark.timeout(900)  # windows of 512 tokens, however few their channels
def test_every_intermediate_and_the_logits() -> None:
    golden = np.load(FIXTURES / "golden_forward.npz")
    reduced = json.loads((FIXTURES / "reduced_config.json").read_text())
    config = AdapterConfig(
        crop=reduced["crop"],
        scale=reduced["sam_scale"] // reduced["crop"],
        patch=reduced["encoder"]["patch_size"],
        width=reduced["encoder"]["embed_dim"],
        heads=reduced["encoder"]["num_heads"],
        mlp_ratio=reduced["encoder"]["mlp_ratio"],
        feature_channels=reduced["encoder"]["out_chans"],
        head_channels=reduced["decoder"]["mlahead_channels"],
        prompt_heads=reduced["prompt"]["num_heads"],
        prompt_mlp=reduced["prompt"]["mlp_dim"],
        decoder_size=reduced["decoder_low"],
    )
    network = SamAdapter3d(config)
    for part, file in (("encoder", "encoder"), ("prompt_encoder", "prompt_encoder"), ("mask_decoder", "decoder")):
        getattr(network, part).load_state_dict(load_file(FIXTURES / f"reduced_{file}.safetensors"), strict=True)
    image = torch.from_numpy(golden["image_crop"].astype(np.float32))[0]
    blocks: dict[int, torch.Tensor] = {}
    for index in (0, 1, 2, 3, 11):
        network.encoder.blocks[index].register_forward_hook(
            lambda _, __, out, index=index: blocks.__setitem__(index, out)
        )
    with torch.inference_mode():
        adapted = network.encoder.blocks[0].adapter(torch.from_numpy(golden["adapter_in"]))
        assert_near(adapted, golden["adapter_out"], "adapter")
        patches = network.encoder.patch_embed.proj(image[0, :2, None].expand(2, 3, 64, 64)).permute(0, 2, 3, 1)
        assert_near(patches, golden["patch_embed_first2slices"], "patch embedding")
        features = network.encoder(image)
        for index, values in blocks.items():
            assert_near(values[:, ::4, ::4, ::4], golden[f"enc_block{index}_sub"], f"block {index}")
        for index, values in enumerate(features):
            assert_near(values[..., ::4, ::4, ::4], golden[f"feat{index}_sub"], f"feature {index}")
        encoding = network.prompt_encoder.position_encoding(32)
        assert_near(encoding[..., ::4, ::4, ::4], golden["image_pe_sub"], "position encoding")
        fixed = network.mask_decoder.fixed(features[:3], image)
        for number in (1, 3):
            points = torch.from_numpy(golden[f"points{number}"])  # d, w, h
            prompted = network.prompt_encoder(features[3], points)
            assert_near(prompted[..., ::4, ::4, ::4], golden[f"prompt_feat{number}_sub"], "prompt encoder")
            logits = network.answer(fixed, features[3], points[..., [0, 2, 1]])
            assert_near(logits[..., 1::3, 1::3, 1::3], golden[f"logits{number}_sub"], f"logits of {number} clicks")
            if number == 1:
                bits = np.unpackbits(golden["prob1_maskbits"]).reshape(64, 64, 64) > 0
                assert ((difference(logits)[0] > 0).numpy() == bits).mean() >= 0.999 and 0.1 < bits.mean() < 0.9


@needs_fixtures
@pytest.mark.parametrize("part", PARTS)
def test_names_and_shapes_are_those_of_the_published_checkpoints(part: str) -> None:
    manifest = json.loads((FIXTURES / f"manifest_{PARTS[part]}.json").read_text())["tensors"]
    wanted = [(t["name"], t["shape"]) for t in manifest if not t["name"].endswith("attn_mask")]
    state = getattr(empty_network(), part).state_dict()
    assert [(name, list(value.shape)) for name, value in state.items()] == wanted
    masks = [t["shape"] for t in manifest if t["name"].endswith("attn_mask")]
    assert masks == [[64, 512, 512]] * (6 if part == "encoder" else 0), "these are computed instead"


def test_shift_mask_parts_what_the_shift_brought_together() -> None:
    mask = shift_mask(8, 4)  # windows of 4 on a grid of 8, shifted by 2
    assert mask.shape == (8, 64, 64) and set(mask.unique().tolist()) == {0.0, -100.0}
    assert not mask[0].any(), "the first window lies in one piece"
    last = mask[-1].reshape(4, 4, 4, 4, 4, 4)
    assert last[0, 0, 0, 1, 1, 1] == 0 and last[0, 0, 0, 2, 0, 0] == -100 and last[3, 3, 3, 2, 2, 2] == 0


def test_folded_patches_are_those_of_the_enlarged_image() -> None:
    """The original's way, written out: enlarge, repeat to three channels, embed every slice, join slices."""
    torch.manual_seed(0)
    patch = torch.nn.Conv2d(3, 6, 16, stride=16)
    slices = torch.nn.Conv3d(6, 6, (1, 1, 16), stride=(1, 1, 16), groups=6)
    image = torch.randn(1, 40, 40, 40)
    with torch.inference_mode():
        enlarged = F.interpolate(image[:, None].expand(1, 3, 40, 40, 40), scale_factor=4, mode="trilinear")[0]
        embedded = patch(enlarged.transpose(0, 1)).permute(1, 2, 3, 0)[None]
        expected = slices(embedded).permute(0, 2, 3, 4, 1)
        tokens = embed_patches(image, patch, slices, 4)
    assert tokens.shape == expected.shape == (1, 10, 10, 10, 6)
    assert float((tokens - expected).abs().max()) < 2e-6 * float(expected.abs().max()) + 2e-6


def test_windows_at_once_change_nothing() -> None:
    network = random_network()
    image = torch.randn(1, 32, 32, 32)
    with torch.inference_mode():
        one = network.encoder(image)[-1]
        network.encoder.windows_at_once = 64
        assert torch.allclose(network.encoder(image)[-1], one, atol=1e-5)


def test_split_decoder_is_the_whole_one() -> None:
    """The share of a click, computed alone, is what the convolution over all 4 C + 1 channels makes of it."""
    network = random_network()
    decoder = network.mask_decoder
    image, features = torch.randn(1, 32, 32, 32), [torch.randn(1, 8, 8, 8, 8) for _ in range(4)]
    with torch.inference_mode():
        logits = decoder(decoder.fixed(features[:3], image), features[3])
        heads = [decoder.mlahead.head2, decoder.mlahead.head3, decoder.mlahead.head4, decoder.mlahead.head5]
        parts = [
            F.interpolate(head(feature), scale_factor=2, mode="trilinear", align_corners=True)
            for head, feature in zip(heads, features, strict=True)
        ]
        parts.append(F.interpolate(image.permute(0, 2, 3, 1)[:, None], scale_factor=0.5, mode="trilinear"))
        whole = F.interpolate(decoder.cls(torch.cat(parts, 1)), scale_factor=2, mode="trilinear", align_corners=True)
    assert torch.allclose(logits, whole.permute(0, 1, 4, 2, 3), atol=1e-5)


def test_clicks_are_found_where_they_are() -> None:
    """A click's feature is sampled at its voxel: (d, h, w) of the crop, though the map's axes are (h, w, d)."""
    network = random_network()
    seen = []
    network.prompt_encoder.transformer.layers[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[1]))
    feature = torch.zeros(1, 8, 8, 8, 8)
    feature[:, :, 2, 5, 7] = 1  # h, w, d, four voxels each
    with torch.inference_mode():
        fixed = torch.zeros(1, 4, 16, 16, 16)
        network.answer(fixed, feature, torch.tensor([[[29.5, 9.5, 21.5], [9.5, 29.5, 21.5]]]))
    assert torch.allclose(seen[0][0, 0], torch.ones(8)) and not seen[0][0, 1].any()


# --- crops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", sorted(WINDOWS))
def test_crop_is_the_original_preprocessing(task: str) -> None:
    """The original's steps, written out: resample to 1 mm, clip, standardise, cut around the click, pad with zeros."""
    spacing = (2.5, 0.75, 0.8)  # k, j, i
    array = np.random.default_rng(2).normal(80, 90, (14, 44, 35)).astype(np.float32)
    volume = Volume(array, np.diag([spacing[2], spacing[1], spacing[0], 1.0]))
    resampled = F.interpolate(torch.from_numpy(array)[None, None], scale_factor=spacing, mode="trilinear")[0, 0]
    window = WINDOWS[task]
    standard = (resampled.clamp(window.low, window.high) - window.mean) / window.std
    size, start = 32, np.array([-4, 10, 3])  # it sticks out on both sides
    expected = np.zeros((size,) * 3, np.float32)
    stop = np.minimum(start + size, standard.shape)
    low = np.maximum(start, 0)
    inner = tuple(slice(a - s, b - s) for a, b, s in zip(low, stop, start, strict=True))
    expected[inner] = standard[tuple(slice(a, b) for a, b in zip(low, stop, strict=True))].numpy()
    origin = (start + 0.5) - 0.5 * np.array(spacing)  # mm from the centre of voxel (0, 0, 0)
    region = Region(tuple(origin + (size - 1) / 2), 1.0, size)
    found = crop(volume, CanonicalFrame.of(volume), region, task)
    assert found.dtype == np.float32 and (expected != 0).mean() > 0.3
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_region_intensity_does_not_depend_on_the_unit() -> None:
    values = np.random.default_rng(1).gamma(2, 30, (12, 12, 12)).astype(np.float32)
    known = np.ones(values.shape, bool)
    known[:2] = False
    a, b = normalise(values, known, "region"), normalise(values * 0.01 - 7, known, "region")
    np.testing.assert_allclose(a, b, atol=1e-3)
    assert not a[:2].any() and abs(float(a[2:].mean())) < 1e-4 and abs(float(a[2:].std()) - 1) < 1e-4


def test_sizes_of_the_published_network() -> None:
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in empty_network().named_children()}
    assert count == {"encoder": 104_056_588, "prompt_encoder": 3_164_160, "mask_decoder": 7_088_256}
    assert CONFIG.crop == 32
