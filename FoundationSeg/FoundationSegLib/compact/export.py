# SPDX-License-Identifier: Apache-2.0
"""Turns a training checkpoint into the files that are shipped: `python -m FoundationSegLib.compact.export RUN OUT`.

One safetensors file (half precision) holds the weights; the ONNX graphs, two per grid size, refer to its bytes as
external data and cast them to single precision when they are loaded. So the torch twin and the ONNX graphs cannot drift
apart, and the weights take their space once.
"""

from __future__ import annotations

import argparse
import json
import struct
import warnings
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

from .network import CompactNetwork, load_network
from .predictor import FEATURES, GRID_SIZES, WEIGHTS, graph_names

_EXTERNAL_FROM = 2048  # elements; smaller tensors are written into the graph


def _offsets(weights: Path) -> dict[str, tuple[int, int, list[int]]]:
    """Byte offset, length and shape of every tensor in a safetensors file."""
    with weights.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    start = 8 + length
    return {
        name: (start + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0], entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _refer_to_weights(graph_file: Path, prefix: str, weights: Path) -> None:
    """Replaces the large tensors of a graph by references into the safetensors file."""
    model = onnx.load(graph_file)
    offsets = _offsets(weights)
    kept, casts = [], []
    for tensor in model.graph.initializer:
        place = offsets.get(prefix + tensor.name)
        count = 1
        for n in tensor.dims:
            count *= n
        if place is None or count < _EXTERNAL_FROM or list(tensor.dims) != place[2]:
            kept.append(tensor)
            continue
        half = TensorProto(name=tensor.name + ".half", data_type=TensorProto.FLOAT16, dims=tensor.dims)
        half.data_location = TensorProto.EXTERNAL
        for key, value in (("location", weights.name), ("offset", place[0]), ("length", place[1])):
            half.external_data.add(key=key, value=str(value))
        kept.append(half)
        casts.append(helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend([*casts, *nodes])
    model.doc_string = ""
    onnx.save(model, graph_file)


def export(checkpoint: Path, out: Path) -> None:
    """Writes the weights and the graphs for all grids into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")["mean"]
    weights = out / WEIGHTS
    save_file({name: tensor.half().contiguous() for name, tensor in state.items()}, weights)
    net = load_network(weights)
    for size in GRID_SIZES:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of shapes that are constant here on purpose
            _export_graphs(net, size, out)
        for name, prefix in zip(graph_names(size), ("encoder.", "decoder."), strict=True):
            _refer_to_weights(out / name, prefix, weights)


def _export_graphs(net: CompactNetwork, n: int, out: Path) -> None:
    encoder, decoder = graph_names(n)
    image = torch.randn(1, net.config.image_channels, n, n, n)
    features = net.encoder(image)
    torch.onnx.export(
        net.encoder,
        (image,),
        out / encoder,
        opset_version=17,
        dynamo=False,
        input_names=["image"],
        output_names=[*FEATURES],
    )
    points, labels = torch.rand(1, 3, 3) * n, torch.tensor([[1, 0, -1]])
    box, mask = torch.zeros(1, 1, n // 2, n // 2, n // 2), torch.zeros(1, 1, n, n, n)
    torch.onnx.export(
        net.decoder,
        (image, *features, points, labels, box, mask),
        out / decoder,
        opset_version=17,
        dynamo=False,
        input_names=["image", *FEATURES, "point_coords", "point_labels", "box", "mask_input"],
        output_names=["logits", "iou"],
        dynamic_axes={"point_coords": {1: "points"}, "point_labels": {1: "points"}},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("out", type=Path, help="folder for the shipped files")
    arguments = parser.parse_args()
    export(arguments.run / "checkpoint.pt", arguments.out)


if __name__ == "__main__":
    main()
