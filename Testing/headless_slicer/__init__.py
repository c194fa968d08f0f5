# SPDX-License-Identifier: Apache-2.0
"""A 3D Slicer without its desktop, for tests: real MRML classes (``slicer-core``), the rest stood in for.

:func:`start` makes ``slicer.mrmlScene``, ``slicer.app`` and the scripted-module classes usable in plain Python;
``start(panel=True)`` adds PySide6 dressed up as ``qt``, ``ctk`` and the MRML widgets that our panels use. It proves
that a module is wired correctly against real nodes. It proves nothing about PythonQt, threads or pixels, and a picture
of such a panel is never to be called "3D Slicer".
"""

from __future__ import annotations

import os
from typing import Any

from .application import load_module

__all__ = ["load_module", "start"]


def start(panel: bool = False) -> Any:
    """Complete the ``slicer`` package once per process and return it.

    ``panel`` patches PySide6 for the whole process, so tests of panels run in processes of their own.
    """
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")  # no display, and no search for one
    import slicer
    import vtk

    if not hasattr(slicer, "app"):
        from . import application, core

        application.install(slicer, core.MRMLCore(slicer, vtk))
    if panel:
        from . import panels

        panels.install(slicer)
    return slicer
