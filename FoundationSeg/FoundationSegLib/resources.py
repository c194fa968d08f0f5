# SPDX-License-Identifier: Apache-2.0
"""Where the extension's shared data (model catalogue, weights, terminology, ...) lies.

The same package runs from three layouts: a checkout (`<root>/FoundationSeg/FoundationSegLib`, `<root>/Resources`),
installed in 3D Slicer (`qt-scripted-modules/FoundationSegLib` beside `qt-scripted-modules/Resources`), and a wheel
(`FoundationSegLib/Resources`).
"""

from __future__ import annotations

from pathlib import Path

from .errors import FoundationSegError

_PACKAGE = Path(__file__).resolve().parent


def resource_folder(name: str) -> Path:
    """Folder `name` ("Models", "Weights", "Terminology", ...) of the shared resources.

    The folder that is asked for decides, not `Resources` itself: in a checkout `FoundationSeg/Resources` (icons and
    panel layouts of one module) comes before the shared one and has none of these.

    Raises:
        FoundationSegError: if no layout has it, which means a damaged installation.
    """
    for parent in (_PACKAGE, _PACKAGE.parent, _PACKAGE.parent.parent):
        folder = parent / "Resources" / name
        if folder.is_dir():
            return folder
    raise FoundationSegError(
        f"The folder Resources/{name} is missing from this installation of FoundationSeg; install the extension again."
    )
