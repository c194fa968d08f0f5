# SPDX-License-Identifier: Apache-2.0
"""VISTA3D's two ways of working, both by MONAI's own functions: windows that slide for names, windows around clicks.

What is added around the network is what those functions lack: a place to cancel before every window, progress, and a
bound on memory. Only the logits of what was asked for are kept; where a name stands for several classes (lung: five
lobes) it is their highest logit, window by window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...predictor import Array, CancelToken
from ...region import Box3
from .network import Settings, without_transformers

Share = Callable[[float], None]
# What stands where nothing is known; MONAI's network puts the same in place of what no click reaches.
UNKNOWN_LOGIT = -1.0


class Inference:
    """The network on a device."""

    def __init__(self, network: Any, settings: Settings, device: torch.device) -> None:
        self.network = network
        self.settings = settings
        self.device = device

    @property
    def window(self) -> tuple[int, int, int]:
        return (self.settings.window,) * 3

    @torch.inference_mode()
    def named(self, image: Array, classes: Sequence[int], cancel: CancelToken, share: Share) -> Array:
        """Logits (x, y, z) of the union of some classes on an image (x, y, z). `share` is told how much is done."""
        with without_transformers():
            from monai.inferers import sliding_window_inference

        vector = torch.tensor(classes, device=self.device)[:, None]
        total, done = self._windows(image.shape), 0

        def predict(window: torch.Tensor) -> torch.Tensor:
            nonlocal done
            cancel.check()
            share(done / total)
            done += 1
            logits: torch.Tensor = self.network(window, class_vector=vector, transpose=True)
            return logits.amax(1, keepdim=True)

        logits = sliding_window_inference(
            inputs=torch.from_numpy(image)[None, None],
            roi_size=self.window,
            sw_batch_size=1,
            predictor=predict,
            overlap=self.settings.overlap,
            mode="gaussian",
            sw_device=self.device,
            device="cpu",
        )
        return _array(logits)

    @torch.inference_mode()
    def clicked(
        self,
        image: Array,
        coords: npt.NDArray[np.float64],
        labels: npt.NDArray[np.int64],
        prompt_class: int | None,
        previous: Array | None,
        first: int,
        cancel: CancelToken,
        share: Share,
    ) -> tuple[Array, Box3]:
        """Refines logits by clicks, or draws them from clicks alone.

        Args:
            image: (x, y, z).
            coords: (P, 3) all clicks so far as (x, y, z) in grid points.
            labels: (P,) 0 negative, 1 positive; 2 and 3 for the classes that overlap others.
            prompt_class: whose clicks these are; above 132: of something that the model was not trained for; None: of
                something that it was, unnamed.
            previous: logits (x, y, z) to be refined; finite.
            first: windows are laid around the clicks from this one on; those before made `previous`.

        Returns:
            Logits, and the part of the grid (x, y, z) that the windows cover. Beyond it the logits are the previous
            ones, or `UNKNOWN_LOGIT`, where upstream's files hold 255 for "not processed".
        """
        with without_transformers():
            from monai.apps.vista3d.inferer import point_based_window_inferer

        covered: list[Sequence[slice]] = []
        total = len(coords) - first

        def predict(window: torch.Tensor, **arguments: Any) -> torch.Tensor:
            cancel.check()
            share(len(covered) / total)
            covered.append(arguments["patch_coords"][0][-3:])
            on_device = {
                name: value.to(self.device)
                for name, value in arguments.items()
                if name in _ON_DEVICE and value is not None
            }
            logits: torch.Tensor = self.network(window.to(self.device), **{**arguments, **on_device})
            return logits

        logits = point_based_window_inferer(
            inputs=torch.from_numpy(image)[None, None],
            roi_size=self.window,
            predictor=predict,
            point_coords=torch.from_numpy(coords.astype(np.float32))[None],
            point_labels=torch.from_numpy(labels)[None],
            class_vector=None,
            prompt_class=None if prompt_class is None else torch.tensor([[prompt_class]]),
            prev_mask=None if previous is None else torch.from_numpy(previous)[None, None],
            point_start=first,
            transpose=True,
        )
        return np.nan_to_num(_array(logits), nan=UNKNOWN_LOGIT), self._hull(covered, image.shape)

    def _windows(self, shape: tuple[int, ...]) -> int:
        """How many windows slide over an image."""
        size = self.settings.window
        step = max(1, int(size * (1 - self.settings.overlap)))
        return int(np.prod([-(-max(length - size, 0) // step) + 1 for length in shape]))

    def _hull(self, covered: list[Sequence[slice]], shape: tuple[int, ...]) -> Box3:
        """The box around windows, which MONAI counts on the image padded to the size of a window."""
        sides = []
        for axis, length in enumerate(shape):
            before = max(self.settings.window - length, 0) // 2
            low = min(window[axis].start for window in covered) - before
            high = max(window[axis].stop for window in covered) - before
            sides.append(slice(max(low, 0), min(high, length)))
        return sides[0], sides[1], sides[2]


_ON_DEVICE = ("point_coords", "point_labels", "prompt_class")


def _array(logits: torch.Tensor) -> Array:
    return torch.as_tensor(logits)[0, 0].float().cpu().numpy()
