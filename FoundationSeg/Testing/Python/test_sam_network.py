# SPDX-License-Identifier: Apache-2.0
"""SAM's network against the original's numbers: intermediates in order, manifests, full size, and the plain formula."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if find_spec("segment_anything") is None:
    pytest.skip("segment-anything is not installed", allow_module_level=True)

from FoundationSegLib import families  # noqa: E402
from FoundationSegLib.errors import Cancelled, ModelError  # noqa: E402
from FoundationSegLib.families.sam.config import VARIANTS, SamConfig, config_of, variant_named  # noqa: E402
from FoundationSegLib.families.sam.encoder import ImageEncoder  # noqa: E402
from FoundationSegLib.families.sam.network import TorchPrompts, tensor_shapes  # noqa: E402
from FoundationSegLib.families.sam.quantised import quantise  # noqa: E402
from FoundationSegLib.families.sam.upstream import modeling  # noqa: E402
from sam_case import SAM, assert_close, drawn_network, golden, needs_fixtures, reduced_network  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402


def prompts(case: str) -> TorchPrompts:
    g = {name: torch.from_numpy(value) for name, value in golden(SAM / "golden_forward.npz").items()}
    return TorchPrompts(
        points=g["pts"] if "points" in case else None,
        labels=g["lab"] if "points" in case else None,
        box=g["box"] if "box" in case else None,
        mask=g["mask_in"] if "mask" in case else None,
    )


@needs_fixtures
def test_every_intermediate_of_the_encoder_is_the_originals() -> None:
    g = golden(SAM / "golden_forward.npz")
    network = reduced_network()
    blocks: list[Any] = []
    for block in network.image_encoder.blocks:
        block.register_forward_hook(lambda _module, _given, out: blocks.append(out.clone()))
    embedding = network.encode(torch.from_numpy(g["image"]))
    assert len(blocks) == 4
    for number, block in enumerate(blocks):
        assert_close(block[None], g[f"enc_block{number}"])
    assert_close(embedding, g["image_embedding"])
    assert_close(network.prompt_encoder.get_dense_pe(), g["dense_pe"])


@needs_fixtures
@pytest.mark.parametrize("case", ["points", "box", "points_box", "points_mask"])
def test_prompts_and_masks_are_the_originals(case: str) -> None:
    g = golden(SAM / "golden_forward.npz")
    network = reduced_network()
    p = prompts(case)
    with torch.inference_mode():
        points = None if p.points is None else (p.points, p.labels)
        sparse, dense = network.prompt_encoder(points=points, boxes=p.box, masks=p.mask)
    assert_close(sparse, g[f"{case}_sparse"])
    wanted = g[f"{case}_dense"]
    assert_close(dense[:, :, : wanted.shape[2], : wanted.shape[3]], wanted)
    embedding = network.encode(torch.from_numpy(g["image"]))
    for kind in ("multi", "single"):
        logits, iou = network.decode(embedding, p, kind == "multi")
        assert_close(logits, g[f"{case}_{kind}_low_res"])
        assert_close(iou, g[f"{case}_{kind}_iou"])


@needs_fixtures
@pytest.mark.parametrize("name", VARIANTS)
def test_published_networks_have_the_tensors_of_their_manifests(name: str) -> None:
    manifest = json.loads((SAM / f"manifest_{name}.json").read_text())
    wanted = {tensor["name"]: tuple(tensor["shape"]) for tensor in manifest["tensors"]}
    found = tensor_shapes(VARIANTS[name])
    assert list(found.items()) == list(wanted.items())
    assert config_of(wanted) == VARIANTS[name], "the sizes can be read off the tensors"


@needs_fixtures
@pytest.mark.timeout(1800)
def test_full_size_network_gives_the_originals_numbers() -> None:
    g = golden(SAM / "golden_full.npz")
    network = drawn_network(VARIANTS["vit_b"], int(g["weight_seed"]))
    probe = network.state_dict()["image_encoder.blocks.0.attn.qkv.weight"].flatten()[:8]
    np.testing.assert_allclose(probe, g["weight_probe"], rtol=1e-6, err_msg="weights are drawn differently here")
    image = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(int(g["image_seed"])))
    np.testing.assert_array_equal(image.flatten()[:8], g["image_first8"])
    embedding = network.encode(image)
    assert_close(embedding[:, ::16, ::2, ::2], g["image_embedding_sub"])
    box = TorchPrompts(box=torch.from_numpy(g["box"]))
    with torch.inference_mode():
        sparse, _ = network.prompt_encoder(points=None, boxes=box.box, masks=None)
    assert_close(sparse, g["sparse"])
    logits, iou = network.decode(embedding, box, True)
    assert_close(logits[:, :, ::4, ::4], g["low_res_sub"])
    assert_close(iou, g["iou"])


@pytest.mark.parametrize(
    ("grid", "window"),
    [(8, 5), (10, 5), (6, 5), (5, 7)],  # padded, not padded, a last row of one token, a window beyond the grid
)
def test_leaving_out_the_padding_changes_nothing(grid: int, window: int) -> None:
    torch.manual_seed(grid)
    config = SamConfig(
        img_size=16 * grid,
        embed_dim=32,
        depth=2,
        num_heads=2,
        window_size=window,
        global_attn_indexes=(1,),
        out_chans=8,
    )
    ours = ImageEncoder(config).eval()
    for parameter in ours.parameters():
        parameter.data.normal_(0, 0.5)  # biases and positions large, so that the pads weigh in
    original = (
        modeling()
        .ImageEncoderViT(
            img_size=config.img_size,
            embed_dim=32,
            depth=2,
            num_heads=2,
            mlp_ratio=4,
            out_chans=8,
            qkv_bias=True,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=window,
            global_attn_indexes=(1,),
        )
        .eval()
    )
    original.load_state_dict(ours.state_dict(), strict=True)
    image = torch.randn(2, 3, config.img_size, config.img_size)
    with torch.inference_mode():
        assert_close(ours(image), original(image).numpy(), 1e-5)


def test_scores_of_all_pairs_never_exist_at_once() -> None:
    class Largest(TorchDispatchMode):
        bytes = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and not func.is_view:
                self.bytes = max(self.bytes, out.numel() * out.element_size())
            return out

    with torch.device("meta"), torch.inference_mode():
        block = ImageEncoder(SamConfig(depth=3)).blocks[2]
        tokens = torch.empty(64, 64, 768)
        with Largest() as largest:
            block(tokens)
    assert 0 < largest.bytes <= 12 * 4096**2 * 4 / 16, "a sixteenth of what the scores of all pairs take"


def test_eight_bits_come_close_and_are_not_the_same() -> None:
    torch.manual_seed(0)
    config = SamConfig(img_size=128, embed_dim=64, depth=2, num_heads=2, global_attn_indexes=(1,), out_chans=16)
    encoder = ImageEncoder(config).eval()
    image = torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        exact = encoder(image)
        rounded = quantise(encoder)(image)
    assert torch.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0) > 0.999
    assert not torch.equal(exact, rounded)


def test_a_long_encode_can_be_left_between_blocks() -> None:
    encoder = ImageEncoder(SamConfig(img_size=32, embed_dim=16, depth=4, num_heads=1, out_chans=4)).requires_grad_(
        False
    )
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        encoder(torch.zeros(1, 3, 32, 32), check)
    assert len(calls) == 3


def test_the_originals_package_is_not_run_and_torchvision_not_imported() -> None:
    code = (
        "import sys; from FoundationSegLib.families.sam.upstream import modeling; modeling().MaskDecoder;"
        "print([name for name in ('torchvision', 'segment_anything', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_package_the_answer_is_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError) as error:
        modeling.__wrapped__()
    assert "pip install" in str(families.missing_package("medsam", error.value.name or ""))
    assert "segment-anything" in str(families.missing_package("medsam", error.value.name or ""))


def test_names_of_networks_and_tensors_of_others() -> None:
    assert variant_named("ViT-H") == variant_named("vit_h") == variant_named("h") == VARIANTS["vit_h"]
    with pytest.raises(ModelError, match="vit_b, vit_l, vit_h"):
        variant_named("vit_g")
    with pytest.raises(ModelError, match="not those of a SAM network"):
        config_of({"conv.weight": (3, 3)})
