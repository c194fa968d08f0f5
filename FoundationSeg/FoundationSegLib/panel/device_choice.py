# SPDX-License-Identifier: Apache-2.0
"""Where the model runs: chosen by itself, on the CPU, or on a GPU where this computer has one."""

from __future__ import annotations

import ctypes.util
import sys
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ..scene.live import LiveSegmentation

AUTO, CPU, GPU = "auto", "cpu", "cuda"


def hasGpu() -> bool:
    """Whether the driver of an NVIDIA GPU is at work. No library is loaded for it: PyTorch alone takes seconds."""
    if sys.platform == "win32":
        return ctypes.util.find_library("nvcuda") is not None
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()


class DeviceChoice:
    """A combo box that shows and changes the device which the scene keeps."""

    def __init__(self, combo: Any, live: LiveSegmentation) -> None:
        self._combo = combo
        self._live = live
        self._updating = False
        combo.connect("currentIndexChanged(int)", self._onChosen)

    def show(self) -> None:
        """Offer what there is here, and what the scene asks for even if it is not here, so that it can be seen."""
        device = self._live.parameters.device
        offered = [(AUTO, _("Automatic")), (CPU, _("CPU"))]
        if hasGpu():
            offered.append((GPU, _("GPU (NVIDIA)")))
        if device not in dict(offered):
            text = _("GPU (none found here)") if device.startswith(GPU) else device
            offered.append((device, text))
        shown = [(self._combo.itemData(row), self._combo.itemText(row)) for row in range(self._combo.count)]
        self._updating = True
        try:
            if shown != offered:
                self._combo.clear()
                for name, text in offered:
                    self._combo.addItem(text, name)
            self._combo.setCurrentIndex(self._combo.findData(device))
        finally:
            self._updating = False

    def _onChosen(self, row: int) -> None:
        if not self._updating and row >= 0:
            self._live.setDevice(self._combo.itemData(row))
