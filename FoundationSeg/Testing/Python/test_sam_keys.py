# SPDX-License-Identifier: Apache-2.0
"""Checkpoints with transformers' names: a bijection to the published names, and the same numbers."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
if find_spec("segment_anything") is None:
    pytest.skip("segment-anything is not installed", allow_module_level=True)

from FoundationSegLib.families.medsam import rename as medsam_rename  # noqa: E402
from FoundationSegLib.families.sam import rename  # noqa: E402
from FoundationSegLib.families.sam.config import VARIANTS, config_of  # noqa: E402
from FoundationSegLib.families.sam.network import SamNetwork, TorchPrompts, tensor_shapes  # noqa: E402
from sam_case import assert_close  # noqa: E402

AGAIN = "prompt_encoder.shared_embedding.positional_embedding"
TINY = {
    "vision_config": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 96,
        "mlp_dim": 64,
        "output_channels": 16,
        "window_size": 4,
        "global_attn_indexes": [2],
        "num_pos_feats": 8,
    },
    "prompt_encoder_config": {"hidden_size": 16, "image_size": 96, "image_embedding_size": 6},
    "mask_decoder_config": {
        "hidden_size": 16,
        "mlp_dim": 32,
        "num_attention_heads": 4,
        "iou_head_hidden_dim": 24,
        "iou_head_depth": 4,
    },
}


@pytest.fixture(scope="module")
def theirs() -> object:
    torch.manual_seed(0)
    model = transformers.SamModel(transformers.SamConfig(**TINY)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


def test_every_tensor_finds_its_own_place(theirs: torch.nn.Module) -> None:
    state = theirs.state_dict()
    renamed = rename(dict(state))
    ours = tensor_shapes(config_of({name: tuple(t.shape) for name, t in renamed.items()}, 4))
    assert {name: tuple(t.shape) for name, t in renamed.items()} == ours
    # One to one but for the matrix that transformers stores twice.
    places = [t.data_ptr() for name, t in state.items() if name != AGAIN]
    assert sorted(places) == sorted(t.data_ptr() for t in renamed.values())
    assert torch.equal(state[AGAIN], renamed["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"])


def test_the_same_weights_give_the_same_masks(theirs: torch.nn.Module) -> None:
    state = rename(theirs.state_dict())
    network = SamNetwork(config_of({name: tuple(t.shape) for name, t in state.items()}, 4)).eval()
    network.load_state_dict(state, strict=True)
    image = torch.randn(1, 3, 96, 96)
    points, labels = torch.tensor([[[20.0, 31.0], [70.0, 12.0]]]), torch.tensor([[1, 0]])
    with torch.no_grad():
        embedding = theirs.get_image_embeddings(image)
        wanted = theirs(
            image_embeddings=embedding, input_points=points[None], input_labels=labels[None], multimask_output=True
        )
    found = network.encode(image)
    assert_close(found, embedding.numpy())
    logits, iou = network.decode(found, TorchPrompts(points, labels), True)
    # transformers adds 1e-6 to variances in the decoder, where the original adds 1e-5.
    assert_close(logits, wanted.pred_masks[0].numpy(), 1e-3)
    assert_close(iou, wanted.iou_scores[0].numpy(), 1e-3)


@pytest.mark.parametrize("name", VARIANTS)
def test_names_of_the_published_sizes(name: str) -> None:
    config = VARIANTS[name]
    vision = {
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "global_attn_indexes": list(config.global_attn_indexes),
        "mlp_dim": int(config.embed_dim * config.mlp_ratio),
    }
    with torch.device("meta"):
        state = transformers.SamModel(transformers.SamConfig(vision_config=vision)).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in rename(state).items()} == tensor_shapes(config)


def test_published_names_stay_as_they_are_and_unknown_ones_come_through() -> None:
    own = {"image_encoder.pos_embed": 1, "mask_decoder.iou_token.weight": 2}
    assert medsam_rename(own) == own
    assert rename({"vision_encoder.pos_embed": 1, "surplus": 2}) == {"image_encoder.pos_embed": 1, "surplus": 2}
    assert (
        rename({"vision_encoder.pos_embed": 1, AGAIN: 3})["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
        == 3
    ), "files of older versions hold the matrix only once"
