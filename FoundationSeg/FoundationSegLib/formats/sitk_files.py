# SPDX-License-Identifier: Apache-2.0
"""Reading files through SimpleITK without its noise: no C++ warnings on stderr, no ITK traceback in a message."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import VolumeError

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


def read_image(path: Path, image_io: str) -> sitk.Image:
    """One image file through the named ITK reader, whatever its dimension; VolumeError if it cannot be read whole."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(os.fspath(path))
    with quiet_itk():
        try:
            image: sitk.Image = reader.Execute()
            return image
        except (RuntimeError, MemoryError) as error:
            raise VolumeError(
                "The file is damaged, cut short, or written in a way that is not supported; copy or export it again."
            ) from error
