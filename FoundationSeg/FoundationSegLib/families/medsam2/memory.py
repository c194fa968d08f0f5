# SPDX-License-Identifier: Apache-2.0
"""Following a structure from slice to slice: what prompted slices leave behind, and how it is carried on.

The steps are transformers' own (`Sam2VideoModel` with its inference session). What is done differently here is where
the slices come from (encoded one at a time when they are reached, and kept by the caller) and what survives a call (the
memories of the prompted slices, so that a correction need not repeat the prompts before it). Two steps that the library
keeps to itself are used by name, `_run_single_frame_inference` and `_batch_encode_memories`, because its public call
passes no earlier mask on to a corrected slice; a test holds both ways to the same numbers. In one thing the library
differs from the original, see `_as_in_the_original`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ...predictor import Array

Features = Callable[[int], list[Array]]
_OBJECT = 0
# The greatest magnitude of an earlier mask's logits that the decoder is shown, as in the original.
_MOST_LOGIT = 32.0


@dataclass(frozen=True)
class Memory:
    """What a prompted slice leaves behind: `tensors` of the library's session, never written to."""

    tensors: dict[str, torch.Tensor]
    quality: float

    @property
    def logits(self) -> Array:
        """The mask, (low_res, low_res)."""
        return _logits(self.tensors["pred_masks"])


@dataclass(frozen=True)
class Prompted:
    """Prompts on one slice in the network's pixels (0 to its image size)."""

    coords: npt.NDArray[np.float32]  # (P, 2) as (x, y); a box comes first, as its two corners
    labels: npt.NDArray[np.int32]  # (P,) 0 negative, 1 positive, 2 and 3 the corners of a box
    mask: npt.NDArray[np.float32] | None = None  # (size, size) of 0 and 1


class Tracker:
    """The network on one stack of slices."""

    def __init__(self, network: Any, device: torch.device, count: int, features: Features) -> None:
        """`features(index)` gives a slice's three feature maps (HW, C), finest first, as `encode` makes them."""
        self.network = network
        self.device = device
        self.count = count
        self._features = _FrameFeatures(network, device, features)
        self._quality = 0.0

    def condition(
        self, index: int, prompts: Prompted, memories: Mapping[int, Memory], previous: Array | None
    ) -> Memory:
        """Segments a slice from its prompts; where a mask is given with points, they correct it.

        Without `memories` the slice stands for itself, as in SAM. With those of other slices it is corrected in their
        light. `previous` are the logits (low_res, low_res) that are being corrected.
        """
        with torch.inference_mode():
            return self._condition(index, prompts, memories, previous)

    def _condition(
        self, index: int, prompts: Prompted, memories: Mapping[int, Memory], previous: Array | None
    ) -> Memory:
        others = {at: memory for at, memory in memories.items() if at != index}
        session = self._session(others)
        points = mask = shown = None
        if prompts.mask is not None and len(prompts.labels):
            alone = Prompted(prompts.coords[:0], prompts.labels[:0], prompts.mask)
            previous = self._condition(index, alone, {}, None).logits
        if prompts.mask is not None and not len(prompts.labels):
            mask = torch.from_numpy(prompts.mask)[None, None].to(self.device)
        else:
            points = {
                "point_coords": torch.from_numpy(prompts.coords)[None, None].to(self.device),
                "point_labels": torch.from_numpy(prompts.labels)[None, None].to(self.device),
            }
            if previous is not None:
                bounded = np.clip(previous, -_MOST_LOGIT, _MOST_LOGIT)
                shown = torch.from_numpy(bounded)[None, None].to(self.device)
        with self._judged():
            output = self.network._run_single_frame_inference(
                inference_session=session,
                frame_idx=index,
                obj_idx=_OBJECT,
                batch_size=1,
                is_init_cond_frame=not others,
                point_inputs=points,
                mask_inputs=mask,
                # Pointers are read from slices on one side only: the side of the nearest one.
                reverse=bool(others) and min(others, key=lambda at: (abs(at - index), at)) > index,
                prev_sam_mask_logits=shown,
            )
        if mask is not None:
            self._as_in_the_original(output, mask, session, index)
        session.store_output(_OBJECT, index, output_value=output, is_conditioning_frame=True)
        self.network._batch_encode_memories(
            session, index, [_OBJECT], [output["high_res_masks"]], [output["object_score_logits"]], [True]
        )
        kept = dict(session.output_dict_per_obj[_OBJECT]["cond_frame_outputs"][index])
        del kept["high_res_masks"]  # large, and read only for the memory
        return Memory(kept, 1.0 if mask is not None else self._quality)

    def track(
        self, memories: Mapping[int, Memory], order: Iterable[int], reverse: bool
    ) -> Iterator[tuple[int, Array, float]]:
        """Slice, logits (low_res, low_res) and predicted IoU for each slice of `order`, which runs slice by slice."""
        session = self._session(memories)
        outputs = session.output_dict_per_obj[_OBJECT]["non_cond_frame_outputs"]
        reach = max(self.network.num_maskmem, self.network.config.max_object_pointers_in_encoder)
        for index in order:
            if index in memories:
                yield index, memories[index].logits, memories[index].quality
                continue
            with self._judged():
                result = self.network(session, frame_idx=index, reverse=reverse)
            outputs[index].pop("high_res_masks", None)
            outputs.pop(index + reach if reverse else index - reach, None)  # out of sight from now on
            yield index, _logits(result.pred_masks), self._quality

    def _as_in_the_original(self, output: dict[str, Any], mask: torch.Tensor, session: Any, index: int) -> None:
        """Of a given mask the library keeps other things than the original, which changes the slices that follow.

        The original takes the pointer to the structure from the decoder's single mask (the library: from the best of
        three), and the memory from the mask at the decoder's resolution (the library: as it was given).
        """
        network = self.network
        maps, _ = network._prepare_vision_features(session, index, 1)
        shaped = [
            feature.permute(1, 2, 0).view(1, -1, *size)
            for feature, size in zip(maps, network.backbone_feature_sizes, strict=True)
        ]
        output["object_pointer"] = network._single_frame_forward(
            input_masks=network.mask_downsample(mask), image_embeddings=shaped, multimask_output=False
        ).object_pointer
        output["high_res_masks"] = F.interpolate(
            output["pred_masks"], size=mask.shape[-2:], mode="bilinear", align_corners=False
        )

    def _session(self, memories: Mapping[int, Memory]) -> Any:
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        size = self.network.image_size
        session: Any = Sam2VideoInferenceSession(
            video_height=size,
            video_width=size,
            inference_device=self.device,
            inference_state_device=self.device,
            video_storage_device=self.device,
            dtype=torch.float32,
        )
        session.processed_frames = dict.fromkeys(range(self.count))  # counted, never looked into: see `cache`
        session.cache = self._features
        session.obj_id_to_idx(_OBJECT)
        session.output_dict_per_obj[_OBJECT]["cond_frame_outputs"] = {
            index: dict(memories[index].tensors) for index in sorted(memories)
        }
        return session

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Keeps the decoder's own estimate of its mask's IoU, which the library's sessions drop."""

        def keep(_module: Any, _inputs: Any, outputs: Any) -> None:
            # Of several masks the library takes the one with the highest estimate.
            self._quality = float(outputs[1].float().max())

        handle = self.network.mask_decoder.register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()


def encode(network: Any, device: torch.device, pixels: npt.NDArray[np.float32]) -> list[Array]:
    """The feature maps of a slice (3, size, size): three arrays (HW, C), finest first."""
    image = torch.from_numpy(pixels)[None].to(device)
    with torch.inference_mode():
        maps = network.get_image_features(image, return_dict=True).fpn_hidden_states
    return [feature[:, 0].float().cpu().numpy() for feature in maps]


class _FrameFeatures:
    """Stands where the library's session keeps encoded frames; asks the caller for them instead."""

    def __init__(self, network: Any, device: torch.device, features: Features) -> None:
        self._features = features
        self._device = device
        neck = network.vision_encoder.neck
        self._positions = [
            neck.position_encoding(torch.Size([1, neck.config.fpn_hidden_size, *size]), device, torch.float32)
            .flatten(2)
            .permute(2, 0, 1)
            for size in network.backbone_feature_sizes
        ]

    def get_vision_features(self, index: int) -> dict[str, list[torch.Tensor]]:
        maps = [
            torch.tensor(feature, dtype=torch.float32)[:, None].to(self._device) for feature in self._features(index)
        ]
        return {"vision_feats": maps, "vision_pos_embeds": self._positions}


def _logits(masks: torch.Tensor) -> Array:
    return masks[0, 0].float().cpu().numpy()
