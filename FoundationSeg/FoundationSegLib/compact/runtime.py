# SPDX-License-Identifier: Apache-2.0
"""Runs the exported graphs: ONNX Runtime anywhere, OpenVINO where it is installed (twice as fast on Intel CPUs)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import ModelError

Feeds = dict[str, npt.NDArray[Any]]

# In the order in which "auto" prefers them. CoreML has no fast path for 3-D convolutions, so it is used when asked for.
_PROVIDERS = {"cuda": "CUDAExecutionProvider", "directml": "DmlExecutionProvider"}
_BY_NAME = {**_PROVIDERS, "coreml": "CoreMLExecutionProvider", "cpu": "CPUExecutionProvider"}
DEVICES = ("auto", *_BY_NAME, "openvino")


class Graph(Protocol):
    """A loaded graph."""

    def run(self, feeds: Feeds) -> Feeds: ...


class OnnxGraph:
    """A graph on ONNX Runtime; what the provider cannot run falls back to the CPU."""

    def __init__(self, path: Path, provider: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Idle threads sleep: the same computer runs Slicer's views.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = list(dict.fromkeys([provider, "CPUExecutionProvider"]))
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # ONNX Runtime's exception types are private and differ between builds
            raise ModelError(f"The model file {path.name} cannot be loaded; install the extension again.") from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Feeds) -> Feeds:
        return dict(zip(self._outputs, self._session.run(self._outputs, feeds), strict=True))


class OpenVinoGraph:
    """A graph compiled by OpenVINO for the CPU, in full precision so that it agrees with ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        import openvino

        model = openvino.Core().compile_model(
            path, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        )
        self._request = model.create_infer_request()
        self._outputs = [port.get_any_name() for port in model.outputs]

    def run(self, feeds: Feeds) -> Feeds:
        results = self._request.infer(feeds)
        return {name: np.array(results[index]) for index, name in enumerate(self._outputs)}


def choose_device(device: str) -> str:
    """The device that "auto" stands for here, or the one asked for; ModelError where it is not available."""
    if device not in DEVICES:
        raise ModelError(f"The device {device!r} is unknown; use one of {', '.join(DEVICES)}.")
    if find_spec("onnxruntime") is None:
        raise ModelError("ONNX Runtime is not installed; install the package onnxruntime (about 20 MB).")
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if device == "auto":
        for name, provider in _PROVIDERS.items():
            if provider in available:
                return name
        return "openvino" if find_spec("openvino") is not None else "cpu"
    if device == "openvino":
        if find_spec("openvino") is None:
            raise ModelError('OpenVINO is not installed; install the package openvino, or use the device "cpu".')
    elif _BY_NAME[device] not in available:
        raise ModelError(f'The device "{device}" is not offered by the installed ONNX Runtime; use "cpu" or "auto".')
    return device


def load_graph(path: Path, device: str) -> Graph:
    """A graph on a device that `choose_device` returned."""
    return OpenVinoGraph(path) if device == "openvino" else OnnxGraph(path, _BY_NAME[device])


def runtime_versions(device: str) -> dict[str, str]:
    """Name and version of the library that runs the graphs."""
    from importlib.metadata import version

    import onnxruntime

    return {"openvino": version("openvino")} if device == "openvino" else {"onnxruntime": onnxruntime.__version__}
