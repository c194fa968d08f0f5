# SPDX-License-Identifier: Apache-2.0
"""Reading files through SimpleITK without its noise: no C++ warnings on stderr, no ITK traceback in a message."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import VolumeError

if TYPE_CHECKING:
    import SimpleITK as sitk


@contextmanager
def quiet_itk() -> Iterator[None]:
    """ITK's warnings off within the block; what they warn about is checked and said by this package."""
    import SimpleITK as sitk

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def existing_path(path: str | os.PathLike[str]) -> Path:
    """The path, or VolumeError if nothing is there, it may not be read, or it is an empty file."""
    result = Path(path)
    if not result.exists():
        raise VolumeError(f"There is no file or folder {result}; check the path.")
    if not os.access(result, os.R_OK):
        raise VolumeError(f"{result} may not be read; check its permissions.")
    if result.is_file() and result.stat().st_size == 0:
        raise VolumeError(f"The file {result} is empty; copy it again from its source.")
    return result


def read_image(path: Path, image_io: str = "") -> sitk.Image:
    """One image file, whatever its dimension and pixel type; VolumeError if ITK cannot read it whole."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(os.fspath(path))
    with quiet_itk():
        try:
            return reader.Execute()
        except (RuntimeError, MemoryError) as error:
            raise VolumeError(
                f"The image file {path} cannot be read: it is damaged, cut short, or of another kind than "
                "its name says; copy or export it again."
            ) from error
