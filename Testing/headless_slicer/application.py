# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for what the ``slicer-core`` wheel lacks: ``slicer.app``, ``slicer.modules``, the scripted-module classes.

Only what this repository's modules use is here, and everything else raises AttributeError, so that a call which the
stand-in cannot honour fails the test instead of passing silently.
"""

from __future__ import annotations

import importlib.util
import sys
import unittest
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from .files import CoreIOManager


class Signals:
    """PythonQt's string form of connections, keyed by the signal's name: ``connect("name(types)", slot)``."""

    def __init__(self) -> None:
        self._slots: dict[str, list[Callable[..., Any]]] = {}

    def connect(self, signal: str, slot: Callable[..., Any]) -> None:
        self._slots.setdefault(signal.partition("(")[0], []).append(slot)

    def disconnect(self, signal: str, slot: Callable[..., Any]) -> None:
        self._slots[signal.partition("(")[0]].remove(slot)

    def emit(self, signal: str, *arguments: Any) -> None:
        for slot in list(self._slots.get(signal, ())):
            slot(*arguments)


class Application(Signals):
    """``slicer.app`` in testing mode, with no main window and no event loop of its own."""

    applicationName = "headless stand-in"

    def __init__(self, core: Any) -> None:
        super().__init__()
        self._core = core
        self._moduleManager = Signals()
        self.layout: Any = None  # see views.Layout

    def applicationLogic(self) -> Any:
        return self._core.applicationLogic

    def moduleManager(self) -> Signals:
        return self._moduleManager

    def coreIOManager(self) -> CoreIOManager:
        return CoreIOManager()

    def layoutManager(self) -> Any:
        """None, as without a main window, unless a test has put one into `layout`."""
        return self.layout

    def testingEnabled(self) -> bool:
        return True

    def translate(self, context: str, text: str) -> str:
        return text

    def topLevelWidgets(self) -> list[Any]:
        qt = sys.modules.get("qt")
        return qt.QApplication.topLevelWidgets() if qt is not None else []

    def processEvents(self) -> None:
        qt = sys.modules.get("qt")
        if qt is not None:
            qt.QApplication.processEvents()


class ModuleObject(SimpleNamespace):
    """What ``slicer.modules.<name>`` is: the C++ side of a module, whose description the Python side fills in."""

    def __init__(self, name: str, path: str = "", logic: Any = None) -> None:
        super().__init__(name=name, path=path, title=name, icon=None)
        self._logic = logic

    def logic(self) -> Any:
        return self._logic


class ScriptedLoadableModule:
    def __init__(self, parent: ModuleObject) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__

    def resourcePath(self, filename: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / filename)


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, filename: str) -> str:
        import slicer

        module = getattr(slicer.modules, self.moduleName.lower())
        return str(Path(module.path).parent / "Resources" / filename)

    def setup(self) -> None:
        """The real one adds the developer's Reload section."""


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        import slicer

        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetAttribute("ModuleName", self.moduleName)
            node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        """The real one shows the message; here nobody is looking."""


def install(slicer: Any, core: Any) -> None:
    """Complete the ``slicer`` package of the wheel."""
    slicer.mrmlScene = core.scene
    slicer.app = Application(core)
    slicer.modules = _module("slicer.modules")
    for name, logic in core.logics.items():
        setattr(slicer.modules, name.lower(), ModuleObject(name, logic=logic))

    scripted = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    slicer.ScriptedLoadableModule = _module("slicer.ScriptedLoadableModule", **{c.__name__: c for c in scripted})
    slicer.i18n = _module("slicer.i18n", tr=lambda text: text, translate=slicer.app.translate)


def load_module(path: Path) -> Any:
    """Load a scripted module's file as the application's factory does, and return its Python module."""
    import slicer

    name = path.stem
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    parent = ModuleObject(name, str(path))
    setattr(slicer.modules, name.lower(), parent)
    setattr(slicer.modules, f"{name}Instance", getattr(module, name)(parent))
    return module


def _module(name: str, **attributes: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module
    return module
