# SPDX-License-Identifier: Apache-2.0
"""VISTA3D's two ways of working, both by MONAI's own functions: windows that slide for names, windows around clicks.

What is added around the network is what those functions lack: a place to cancel before every window, progress, and a
bound on memory. Only the logits of what was asked for are kept; where a name stands for several classes (lung: five
lobes) it is their highest logit, window by window.
"""

from __future__ import annotations

import warnings
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

    def named(self, image: Array, classes: Sequence[int], cancel: CancelToken, share: Share) -> Array:
        """Logits (x, y, z) of the union of some classes on an image (x, y, z). `share` is told how much is done."""
        with without_transformers():
            from monai.inferers.utils import sliding_window_inference

        vector = torch.tensor(classes, device=self.device)[:, None]
        total, done = self._windows(image.shape), 0

        def predict(window: torch.Tensor) -> torch.Tensor:
            nonlocal done
            cancel.check()
            share(done / total)
            done += 1
            logits: torch.Tensor = self.network(window, class_vector=vector, transpose=True)
            return logits.amax(1, keepdim=True)

        with torch.inference_mode():
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

        covered: list[Box3] = []
        answers: dict[tuple[int, ...], torch.Tensor] = {}
        total = len(coords) - first

        def predict(window: torch.Tensor, **arguments: Any) -> torch.Tensor:
            cancel.check()
            share(len(covered) / total)
            x, y, z = arguments["patch_coords"][0][-3:]
            covered.append((x, y, z))
            key = (x.start, y.start, z.start)
            if key not in answers:  # near the faces, clicks share their window
                for name in _ON_DEVICE:
                    if arguments[name] is not None:
                        arguments[name] = arguments[name].to(self.device)
                answers[key] = self.network(window.to(self.device), **arguments)
            return answers[key]

        with torch.inference_mode(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting affine", UserWarning)  # of an image that needs none
            stitched = point_based_window_inferer(
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
        logits = np.nan_to_num(_array(stitched), nan=UNKNOWN_LOGIT)
        placed = [self._unpadded(window, image.shape) for window in covered]
        # Where windows overlap MONAI adds up what they say. The sign is that of their mean, the certainty is not.
        count = np.zeros(image.shape, np.float32)
        for part in placed:
            count[part] += 1
        logits /= np.maximum(count, 1)
        return logits, hull(placed)

    def _windows(self, shape: tuple[int, ...]) -> int:
        """How many windows slide over an image."""
        size = self.settings.window
        step = max(1, int(size * (1 - self.settings.overlap)))
        return int(np.prod([-(-max(length - size, 0) // step) + 1 for length in shape]))

    def _unpadded(self, window: Box3, shape: tuple[int, ...]) -> Box3:
        """A window on the image itself; MONAI counts on the image padded to the size of a window."""
        sides = []
        for side, length in zip(window, shape, strict=True):
            before = max(self.settings.window - length, 0) // 2
            sides.append(slice(max(int(side.start) - before, 0), min(int(side.stop) - before, length)))
        return sides[0], sides[1], sides[2]


_ON_DEVICE = ("point_coords", "point_labels", "prompt_class")


def hull(parts: Sequence[Box3]) -> Box3:
    """The smallest box around some boxes."""
    x, y, z = (slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*parts, strict=True))
    return x, y, z


def _array(logits: torch.Tensor) -> Array:
    return torch.as_tensor(logits)[0, 0].float().cpu().numpy()
