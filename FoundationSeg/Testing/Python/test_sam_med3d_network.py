# SPDX-License-Identifier: Apache-2.0
"""SAM-Med3D against the original's numbers: every intermediate in order, every quirk, and the names of the files.

All weights here are drawn at random, so agreement says that the computation is the same, and nothing about accuracy.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the families need the extra `torch`")

from FoundationSegLib import ModelError, families  # noqa: E402
from FoundationSegLib.families.sam_med3d.attention import Attention, position_bias  # noqa: E402
from FoundationSegLib.families.sam_med3d.config import SamMed3dConfig  # noqa: E402
from FoundationSegLib.families.sam_med3d.image_encoder import Block, ImageEncoder  # noqa: E402
from FoundationSegLib.families.sam_med3d.network import SamMed3d, load_network  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from sam_med3d_case import (  # noqa: E402
    FIXTURES,
    MODEL_A,
    MODEL_B,
    assert_close,
    card,
    drawn_network,
    drawn_state,
    golden,
    needs_fixtures,
)

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def model_a() -> SamMed3d:
    return load_network(SamMed3dConfig.from_dict(MODEL_A), FIXTURES / "reduced_state_dict.safetensors", "cpu")


@pytest.fixture(scope="module")
def encoder_b() -> ImageEncoder:
    encoder = ImageEncoder(SamMed3dConfig.from_dict(MODEL_B))
    encoder.load_state_dict(load_file(FIXTURES / "reduced_b_encoder.safetensors"), strict=True)
    return encoder.eval().requires_grad_(False)


def outputs(modules: list[torch.nn.Module], run: object) -> list[np.ndarray]:
    """What each module returned while `run()` ran."""
    found: dict[int, np.ndarray] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, n=n: found.__setitem__(n, out.numpy()))
        for n, module in enumerate(modules)
    ]
    run()  # type: ignore[operator]
    for hook in hooks:
        hook.remove()
    return [found[n] for n in range(len(modules))]


def tensor(name: str, file: str = "golden_forward.npz") -> torch.Tensor:
    return torch.from_numpy(golden(file)[name])


@needs_fixtures
def test_the_reduced_configuration_is_the_fixtures() -> None:
    for ours, file in ((MODEL_A, "reduced_config.json"), (MODEL_B, "reduced_b_config.json")):
        theirs = json.loads((FIXTURES / file).read_text())
        names = {"img_size": "image_size", "embed_dim": "width", "num_heads": "heads", "window_size": "window"}
        names |= {"global_attn_indexes": "global_blocks", "out_chans": "channels"}
        for name in ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "window_size",
                     "global_attn_indexes", "out_chans"):  # fmt: skip
            assert ours[names.get(name, name)] == theirs[name]


@needs_fixtures
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "collapsed"])
def test_image_encoder_step_by_step(model_a: SamMed3d, plain: bool) -> None:
    want, encoder = golden("golden_forward.npz"), model_a.image_encoder
    assert_close(encoder.patch_embed(tensor("image")), want["patch_embed"])
    blocks = outputs(list(encoder.blocks), lambda: encoder(tensor("image"), plain))
    for index, block in enumerate(blocks):
        assert_close(block, want[f"enc_block{index}"])
    assert_close(encoder(tensor("image"), plain), want["image_embedding"])


@needs_fixtures
def test_prompts_step_by_step(model_a: SamMed3d) -> None:
    want, encoder = golden("golden_forward.npz"), model_a.prompt_encoder
    assert_close(encoder.dense_positions(), want["dense_pe"])
    sparse, dense = encoder(tensor("step1_coords"), tensor("step1_labels"), tensor("step1_mask_in"))
    assert_close(sparse, want["step1_sparse"])
    assert_close(dense, want["step1_dense"])
    sparse, dense = encoder(tensor("step2_coords"), tensor("step2_labels"), tensor("step1_low_res"))
    assert_close(sparse, want["step2_sparse"])
    assert_close(dense, want["step2_dense"])
    assert_close(encoder(tensor("step2_coords"), tensor("step2_labels"), None)[0], want["nomask_sparse"])
    assert_close(encoder(None, None, tensor("step2_low_res"))[0], want["maskonly_sparse"])


@needs_fixtures
@pytest.mark.parametrize(
    ("step", "points", "mask", "alternatives"),
    [
        ("step1", "step1", "step1_mask_in", False),
        ("step1_multi", "step1", "step1_mask_in", True),
        ("step2", "step2", "step1_low_res", False),
        ("nomask", "step2", None, False),
        ("maskonly", None, "step2_low_res", False),
    ],
)
def test_decoder(model_a: SamMed3d, step: str, points: str | None, mask: str | None, alternatives: bool) -> None:
    want = golden("golden_forward.npz")
    coords, labels = (tensor(f"{points}_coords"), tensor(f"{points}_labels")) if points else (None, None)
    logits, quality = model_a.decode(
        tensor("image_embedding"), coords, labels, tensor(mask) if mask else None, alternatives
    )
    assert_close(logits, want[f"{step}_low_res"])
    if f"{step}_iou" in want:
        assert_close(quality, want[f"{step}_iou"])


@needs_fixtures
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "collapsed"])
def test_encoder_with_a_window_larger_than_the_grid(encoder_b: ImageEncoder, plain: bool) -> None:
    want = golden("golden_b_encoder.npz")
    image = tensor("image", "golden_b_encoder.npz")
    blocks = outputs(list(encoder_b.blocks), lambda: encoder_b(image, plain))
    for index, block in enumerate(blocks):
        assert_close(block, want[f"enc_block{index}"])
    assert_close(encoder_b(image, plain), want["image_embedding"])
    if plain:  # the collapsed form never makes the padded rows
        attentions = outputs([block.attn for block in encoder_b.blocks], lambda: encoder_b(image, True))
        for index, out in enumerate(attentions):
            assert_close(out, want[f"attn{index}_out"])


@needs_fixtures
def test_relative_positions_are_the_published_ones_and_not_the_textbooks() -> None:
    want = golden("golden_b_encoder.npz")
    q, d, h, w = (tensor(f"relpos_{name}", "golden_b_encoder.npz") for name in "qdhw")
    q = q.view(2, 3, 3, 3, 6)
    assert_close(position_bias(q, (d, h, w)), want["relpos_term"])
    index = torch.arange(3)[:, None] - torch.arange(3)[None, :] + 2
    textbook = (
        torch.einsum("ndhwc,dkc->ndhwk", q, d[index])[..., :, None, None]
        + torch.einsum("ndhwc,hkc->ndhwk", q, h[index])[..., None, :, None]
        + torch.einsum("ndhwc,wkc->ndhwk", q, w[index])[..., None, None, :]
    )
    assert np.abs(textbook.reshape(2, 27, 27).numpy() - want["relpos_term"]).max() > 1


@pytest.mark.parametrize("grid", [3, 4, 5, 8])
@pytest.mark.parametrize("window", [2, 3, 5, 7, 14])
def test_collapsed_padding_is_exact(grid: int, window: int) -> None:
    """Whole windows, windows with one real layer, and windows with hardly any padding; two images at once."""
    config = SamMed3dConfig(image_size=8 * grid, patch_size=8, width=24, heads=2, window=window, depth=1)
    block = Block(config, window)
    block.load_state_dict(drawn_state({k: tuple(v.shape) for k, v in block.state_dict().items()}, grid * 100 + window))
    x = 3 * torch.randn(2, grid, grid, grid, 24, generator=torch.Generator().manual_seed(1))
    assert_close(block(x), block(x, plain=True).numpy(), 1e-5)


def test_collapsed_padding_is_exact_on_unequal_axes_and_for_steep_biases() -> None:
    """Attention that the padding dominates, and attention in which it all but vanishes."""
    attention = Attention(16, 2, 5)
    for scale in (1.0, 30.0):
        state = drawn_state({k: tuple(v.shape) for k, v in attention.state_dict().items()}, 7)
        attention.load_state_dict(
            {k: v * (scale if "rel_pos" in k or "qkv.bias" in k else 1) for k, v in state.items()}
        )
        x = torch.randn(1, 4, 7, 5, 16, generator=torch.Generator().manual_seed(2))
        filled = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 3, 0, 1))
        cubes = torch.cat([filled[:, :, :5], filled[:, :, 5:]])
        wanted = attention(cubes)
        assert_close(attention.on_grid(x), torch.cat([wanted[:1], wanted[1:]], dim=2)[:, :4, :7].numpy(), 1e-5)


def test_padding_takes_part_in_the_softmax() -> None:
    """The shortcut must not be to leave the padding out: that is another function."""
    attention = Attention(16, 2, 5)
    attention.load_state_dict(drawn_state({k: tuple(v.shape) for k, v in attention.state_dict().items()}, 8))
    x = torch.randn(1, 4, 4, 4, 16, generator=torch.Generator().manual_seed(3))
    with_padding = attention.on_grid(x)
    attention.window = 4
    for axis in "dhw":
        setattr(attention, f"rel_pos_{axis}", torch.nn.Parameter(getattr(attention, f"rel_pos_{axis}")[1:-1]))
    assert (attention.on_grid(x) - with_padding).abs().max() > 0.01 * with_padding.abs().max()


@needs_fixtures
@pytest.mark.parametrize(
    ("manifest", "architecture"),
    [("manifest_vit_b_ori_128.json", None), ("manifest_vit_b_ori_128_cvpr25_bbox.json", {"point_kinds": 4})],
)
def test_tensors_are_those_of_the_published_files(manifest: str, architecture: dict[str, int] | None) -> None:
    listed = json.loads((FIXTURES / manifest).read_text())["tensors"]
    assert {entry["dtype"] for entry in listed} == {"float32"}
    expected = families.expected_tensors(card(architecture))
    assert list(expected.items()) == [(entry["name"], tuple(entry["shape"])) for entry in listed]
    state = SamMed3d(SamMed3dConfig.from_dict({**MODEL_A, **(architecture or {})})).state_dict()
    assert list(state) == [entry["name"] for entry in listed if ".blocks." not in entry["name"] or
                           int(entry["name"].split(".")[2]) < 4]  # fmt: skip
    assert {value.dtype for value in state.values()} == {torch.float32}


@needs_fixtures
@pytest.mark.timeout(1200)
def test_published_size() -> None:
    """Weights drawn by recipe; 2.5 s and 1.3 GB on one core."""
    want = golden("golden_full.npz")
    start = time.perf_counter()
    network = drawn_network(SamMed3dConfig(), int(want["weight_seed"]))
    probe = network.image_encoder.blocks[0].attn.qkv.weight.flatten()[:8]
    image = torch.randn(1, 1, 128, 128, 128, generator=torch.Generator().manual_seed(int(want["image_seed"])))
    np.testing.assert_allclose(probe, want["weight_probe"], rtol=1e-6, err_msg="the weights are drawn otherwise here")
    np.testing.assert_allclose(
        image.flatten()[:8], want["image_first8"], rtol=1e-6, err_msg="another image is drawn here"
    )
    embedding = network.encode(image)
    assert_close(embedding[:, ::8], want["image_embedding_sub"])
    coords, labels = torch.from_numpy(want["coords"]), torch.from_numpy(want["labels"])
    mask = torch.zeros(1, 1, 32, 32, 32)
    assert_close(network.prompt_encoder(coords, labels, mask)[0], want["sparse"])
    logits, quality = network.decode(embedding, coords, labels, mask, alternatives=True)
    assert_close(logits[:, :, ::2, ::2, ::2], want["low_res_sub"])
    assert_close(quality, want["iou"])
    print(f"published size: {time.perf_counter() - start:.1f} s")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    config = SamMed3dConfig.from_dict(MODEL_A)
    state = drawn_network(config, 1).state_dict()
    path = tmp_path / "weights.safetensors"
    for broken in (
        {k: v for k, v in state.items() if k != "mask_decoder.iou_token.weight"},
        {**state, "mask_decoder.extra": torch.zeros(1)},
        {**state, "mask_decoder.iou_token.weight": torch.zeros(1, 47)},
    ):
        save_file(broken, path)
        with pytest.raises(ModelError, match=r"1 tensors are missing, left over or of another shape"):
            load_network(config, path, "cpu")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be read"):
        load_network(config, path, "cpu")
    with pytest.raises(ModelError, match="unknown sizes: windows"):
        families.expected_tensors(card({"windows": 3}))
