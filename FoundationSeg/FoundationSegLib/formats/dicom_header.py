# SPDX-License-Identifier: Apache-2.0
"""A reader for the headers of DICOM files: the few attributes that decide which images form a volume, and where.

The pixels are GDCM's business. The header is read here because GDCM gives no nested sequences (an enhanced multi-frame
image keeps the position of each frame in one), and does not tell what a file is that it cannot show. Everything is
bounded by the file: lengths are checked before they are believed, nesting is limited, no value but a wanted one is
copied.
"""

from __future__ import annotations

import math
import mmap
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

TRANSFER_SYNTAX = (0x0002, 0x0010)

_PREAMBLE = 128
_MAGIC = b"DICM"
_PIXEL_GROUP = 0x7FE0
_ITEM = (0xFFFE, 0xE000)
_ITEM_END = (0xFFFE, 0xE00D)
_SEQUENCE_END = (0xFFFE, 0xE0DD)
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_IMPLICIT = "1.2.840.10008.1.2"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MAX_DEPTH = 16
_MAX_INFLATED = 1 << 28

Tag = tuple[int, int]
Value = bytes | list["Attributes"]
Attributes = Mapping[Tag, Value]


class DamagedHeader(Exception):
    """The file begins as DICOM and does not go on as such."""


class DicomHeader(NamedTuple):
    """Wanted attributes of a file, and whether its pixel data are all there (as far as lengths tell)."""

    attributes: Attributes
    complete: bool


def read_header(path: Path, wanted: frozenset[Tag]) -> DicomHeader | None:
    """The wanted attributes of a DICOM file (sequences with what is wanted within); None if it is not DICOM.

    Raises:
        DamagedHeader: if the file begins as DICOM and is cut short or inconsistent.
        OSError: if it cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(_PREAMBLE + len(_MAGIC))
        if not looks_like_dicom(head):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _parse(data, wanted)
            except (DamagedHeader, struct.error, zlib.error) as error:
                if not head.endswith(_MAGIC):
                    # Without the magic word the likeness was chance.
                    return None
                raise DamagedHeader from error


def looks_like_dicom(head: bytes) -> bool:
    """Whether bytes begin a DICOM file: the magic word, or (old files) a data set that starts in group 0008."""
    if head[_PREAMBLE : _PREAMBLE + len(_MAGIC)] == _MAGIC:
        return True
    return head[:2] == b"\x08\x00" and head[2:4] in (b"\x00\x00", b"\x01\x00", b"\x05\x00", b"\x08\x00", b"\x16\x00")


def text(attributes: Attributes, tag: Tag) -> str:
    """A text attribute without padding; empty if it is not there."""
    value = attributes.get(tag, b"")
    return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else ""


def numbers(attributes: Attributes, tag: Tag) -> tuple[float, ...]:
    """The numbers of a decimal or integer string attribute; empty if it is not there or not made of finite numbers."""
    try:
        values = tuple(float(part) for part in text(attributes, tag).split("\\"))
    except ValueError:
        return ()
    return values if all(map(math.isfinite, values)) else ()


def short(attributes: Attributes, tag: Tag) -> int:
    """An unsigned 16-bit attribute; 0 if it is not there."""
    value = attributes.get(tag, b"")
    return int(struct.unpack("<H", value[:2])[0]) if isinstance(value, bytes) and len(value) >= 2 else 0


def items(attributes: Attributes, tag: Tag) -> list[Attributes]:
    """The items of a sequence attribute; empty if it is not there."""
    value = attributes.get(tag, [])
    return value if isinstance(value, list) else []


def _parse(data: mmap.mmap, wanted: frozenset[Tag]) -> DicomHeader:
    if data[_PREAMBLE : _PREAMBLE + len(_MAGIC)] != _MAGIC:
        return _data_set(data, 0, "<", data[4:6].isalpha(), wanted)
    meta, offset = _Reader(data, "<", True, wanted | {TRANSFER_SYNTAX}).elements(
        _PREAMBLE + len(_MAGIC), stop_group=0x0003
    )
    syntax = text(meta, TRANSFER_SYNTAX)
    if syntax == _DEFLATED:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[offset:], _MAX_INFLATED)
        return _data_set(inflated, 0, "<", True, wanted)
    return _data_set(data, offset, ">" if syntax == _BIG_ENDIAN else "<", syntax != _IMPLICIT, wanted)


def _data_set(data: mmap.mmap | bytes, offset: int, order: str, explicit: bool, wanted: frozenset[Tag]) -> DicomHeader:
    attributes, end = _Reader(data, order, explicit, wanted).elements(offset)
    return DicomHeader(attributes, end <= len(data))


class _Reader:
    """Walks the elements of one data set in one encoding."""

    def __init__(self, data: mmap.mmap | bytes, order: str, explicit: bool, wanted: frozenset[Tag]) -> None:
        self._data = data
        self._order = order
        self._explicit = explicit
        self._wanted = wanted
        self._tag = struct.Struct(order + "HH")
        self._long = struct.Struct(order + "L")
        self._short = struct.Struct(order + "H")

    def elements(
        self, offset: int, end: int | None = None, stop_group: int = 0x10000, depth: int = 0
    ) -> tuple[dict[Tag, Value], int]:
        """The wanted elements from `offset` up to `end`, the item's end marker, the pixel data or `stop_group`.

        Also returns the offset after them; after pixel data where these have to end, which may be beyond the file.
        """
        if depth > _MAX_DEPTH:
            raise DamagedHeader
        limit = len(self._data) if end is None else end
        found: dict[Tag, Value] = {}
        while offset + 8 <= limit:
            tag, vr, length, start = self._element(offset)
            if tag[0] >= stop_group:
                break
            if tag == _ITEM_END:
                return found, start
            if tag[0] == _PIXEL_GROUP:
                offset = self._after_fragments(start) if length == _UNDEFINED else start + length
                if depth == 0:
                    return found, offset
                continue
            if length != _UNDEFINED and start + length > limit:
                raise DamagedHeader
            if length == _UNDEFINED or (tag in self._wanted and self._is_sequence(vr, start, length)):
                reader = _Reader(self._data, "<", False, self._wanted) if vr == b"UN" else self
                value, offset = reader.items(start, None if length == _UNDEFINED else start + length, depth)
                if tag in self._wanted:
                    found[tag] = value
                continue
            if tag in self._wanted:
                raw = bytes(self._data[start : start + length])
                # Numbers are kept as little-endian ones, whatever the file's order.
                found[tag] = raw[::-1] if self._order == ">" and vr == b"US" else raw
            offset = start + length
        return found, offset

    def items(self, offset: int, end: int | None, depth: int) -> tuple[list[Attributes], int]:
        """The items of a sequence that ends at `end`, or at its end marker, and the offset after it."""
        found: list[Attributes] = []
        while end is None or offset < end:
            tag, _, length, start = self._element(offset)
            if tag == _SEQUENCE_END:
                return found, start
            if tag != _ITEM:
                raise DamagedHeader
            stop = None if length == _UNDEFINED else start + length
            if stop is not None and stop > len(self._data):
                raise DamagedHeader
            item, after = self.elements(start, stop, depth=depth + 1)
            found.append(item)
            offset = after if stop is None else stop
        return found, offset

    def _element(self, offset: int) -> tuple[Tag, bytes, int, int]:
        """Tag, value representation (empty where the encoding has none), length, and offset of the value."""
        tag = self._tag.unpack_from(self._data, offset)
        if not self._explicit or tag[0] == _ITEM[0]:
            return tag, b"", self._long.unpack_from(self._data, offset + 4)[0], offset + 8
        vr = self._data[offset + 4 : offset + 6]
        if not (vr.isalpha() and vr.isupper()):
            # Some writers leave the representation out here and there: the four bytes are a length then.
            return tag, b"", self._long.unpack_from(self._data, offset + 4)[0], offset + 8
        if vr in _LONG_VRS:
            return tag, vr, self._long.unpack_from(self._data, offset + 8)[0], offset + 12
        return tag, vr, self._short.unpack_from(self._data, offset + 6)[0], offset + 8

    def _is_sequence(self, vr: bytes, start: int, length: int) -> bool:
        if self._explicit:
            return vr == b"SQ"
        return length >= 8 and self._tag.unpack_from(self._data, start) == _ITEM

    def _after_fragments(self, offset: int) -> int:
        """The offset after compressed pixel data, which lie in items whose contents are not elements."""
        while offset + 8 <= len(self._data):
            tag, _, length, start = self._element(offset)
            if tag == _SEQUENCE_END:
                return start
            if tag != _ITEM or length == _UNDEFINED:
                raise DamagedHeader
            offset = start + length
        return len(self._data) + 1
