# SPDX-License-Identifier: Apache-2.0
"""What the two processes say to each other, and how: lines, errors, boxes, and masks as the bits that changed."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import errors
from ..errors import FoundationSegError, WorkerError
from ..prompts import Prompt, Round, from_dict, to_dict
from ..region import Box3
from ..segmenter import Prediction
from .blocks import Block

PROTOCOL = 1
LINE_LIMIT = 2**20  # bytes from the worker
SHORT = 2**14  # bytes of a line to the worker; longer messages travel in a block, so that writing never waits

Message = dict[str, Any]
BoolArray = npt.NDArray[np.bool_]
NOTHING: Box3 = (slice(0, 0), slice(0, 0), slice(0, 0))


class ProtocolError(Exception):
    """What came over the pipe is no message."""


class Lines:
    """Cuts a stream into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now. Raises ProtocolError for one that does not end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_LIMIT:
            raise ProtocolError("a line without end")
        return lines


def to_line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def from_line(line: bytes, key: str) -> Message:
    """A message; `key` ("op" or "event") is what every one has. Raises ProtocolError."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError("a line that is not JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get(key), str):
        raise ProtocolError("a line that is no message")
    return message


def boxed(message: Mapping[str, Any]) -> tuple[Message, Block | None]:
    """The message itself if it is short, else one that names a block with it (see `unboxed`)."""
    line = to_line(message)
    if len(line) <= SHORT:
        return dict(message), None
    block = Block.create(len(line))
    block.array((len(line),))[:] = np.frombuffer(line, np.uint8)
    return {"op": "boxed", "block": block.name, "bytes": len(line)}, block


def unboxed(message: Message) -> Message:
    """The inverse of `boxed`. Raises OSError if the block is gone, ProtocolError for damaged contents."""
    if message["op"] != "boxed":
        return message
    block = Block.attach(message["block"])
    line = block.array((int(message["bytes"]),)).tobytes()
    block.close()
    return from_line(line, "op")


def error_to_message(error: FoundationSegError) -> Message:
    """The name of the package's own class that describes the error best, and its sentence."""
    kind = next(cls.__name__ for cls in type(error).__mro__ if vars(errors).get(cls.__name__) is cls)
    return {"kind": kind, "message": str(error)}


def error_from_message(message: Message) -> FoundationSegError:
    """The inverse of `error_to_message`; a WorkerError for what is no error of the package's own."""
    kind, text = vars(errors).get(str(message.get("kind"))), str(message.get("message", ""))
    if isinstance(kind, type) and issubclass(kind, FoundationSegError):
        return kind(text)
    return WorkerError(text)


def round_to_list(round_: Round) -> list[Message]:
    return [to_dict(prompt) for prompt in round_]


def round_from_list(items: Sequence[object]) -> Round:
    prompts: list[Prompt] = [from_dict(item) for item in items]
    return tuple(prompts)


def box_to_list(box: Box3) -> list[list[int]]:
    return [[int(part.start), int(part.stop)] for part in box]


def box_from_list(data: Any, shape: tuple[int, int, int]) -> Box3:
    """Slices (k, j, i) that lie in the shape. Raises ValueError or TypeError."""
    k, j, i = (slice(int(start), int(stop)) for start, stop in data)
    for part, size in zip((k, j, i), shape, strict=True):
        if not 0 <= part.start <= part.stop <= size:
            raise ValueError("a box beyond the volume")
    return k, j, i


def box_shape(box: Box3) -> tuple[int, int, int]:
    k, j, i = (part.stop - part.start for part in box)
    return k, j, i


def cut(box: Box3, mask: BoolArray, wanted: Box3) -> BoolArray:
    """The part of a mask, known in `box` and empty beyond, that lies in the box `wanted`; a copy."""
    result = np.zeros(box_shape(wanted), dtype=bool)
    paste(box, mask, wanted, result)
    return result


def paste(box: Box3, mask: BoolArray, wanted: Box3, result: BoolArray) -> None:
    """Writes a mask that is known in `box` where that meets the box `wanted` of `result`."""
    common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, wanted, strict=True)]
    if any(start >= stop for start, stop in common):
        return
    into = tuple(slice(s - w.start, e - w.start) for (s, e), w in zip(common, wanted, strict=True))
    out_of = tuple(slice(s - b.start, e - b.start) for (s, e), b in zip(common, box, strict=True))
    result[into] = mask[out_of]


def pack(after: Prediction, changed: Box3, mailbox: npt.NDArray[np.uint8]) -> Message:
    """Writes the mask's bits in the box `changed` to the mailbox; the message that goes with them."""
    bits = np.packbits(cut(after.box, after.mask, changed))
    mailbox[: len(bits)] = bits
    return {
        "box": box_to_list(after.box),
        "changed": box_to_list(changed),
        "region_box": box_to_list(after.region_box),
        "bytes": len(bits),
        "crc": zlib.crc32(bits.tobytes()),
        "predicted_iou": None if after.predicted_iou is None else float(after.predicted_iou),
        "warnings": list(after.warnings),
        "timings": {stage: float(seconds) for stage, seconds in after.timings.items()},
    }


def unpack(
    message: Message, before: Prediction | None, mailbox: npt.NDArray[np.uint8], shape: tuple[int, int, int]
) -> dict[str, Any]:
    """The arguments of a Prediction, whose mask is that of `before` but for the box that changed.

    Raises ProtocolError if the message does not fit the volume's `shape` or its bits.
    """
    try:
        box, changed = box_from_list(message["box"], shape), box_from_list(message["changed"], shape)
        count = int(np.prod(box_shape(changed)))
        bits = mailbox[: (count + 7) // 8].copy()
        if len(bits) != message["bytes"] or zlib.crc32(bits.tobytes()) != message["crc"]:
            raise ValueError("bits that are not those that were sent")
        mask = np.zeros(box_shape(box), dtype=bool) if before is None else cut(before.box, before.mask, box)
        paste(changed, np.unpackbits(bits, count=count).astype(bool).reshape(box_shape(changed)), box, mask)
        iou = message["predicted_iou"]
        return {
            "predicted_iou": None if iou is None else float(iou),
            "box": box,
            "mask": mask,
            "region_box": box_from_list(message["region_box"], shape),
            "warnings": tuple(str(warning) for warning in message["warnings"]),
            "timings": {str(stage): float(seconds) for stage, seconds in message["timings"].items()},
        }
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ProtocolError(f"a result that does not fit ({error})") from None


def digest(prediction: Prediction) -> str:
    """Of the mask and where it lies: equal for equal masks."""
    found = hashlib.sha256(json.dumps(box_to_list(prediction.box)).encode())
    found.update(np.packbits(prediction.mask).tobytes())
    return found.hexdigest()
