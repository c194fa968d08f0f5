# SPDX-License-Identifier: Apache-2.0
"""PySide6 dressed up as PythonQt, with stand-ins of the few CTK and MRML widgets that our panels use.

PythonQt's manners, given to PySide6's own classes, hence to the whole process: Qt properties are plain attributes
(``button.enabled = False``), and signals connect by their C++ name (``button.connect("clicked(bool)", slot)``), a slot
receiving no more arguments than it takes. What is not stood in for fails: an unknown widget class in a .ui file, and
an unknown signal, are errors here.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from types import ModuleType
from typing import Any

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtWidgets import QComboBox, QSizePolicy, QVBoxLayout, QWidget

from .segments_table import qMRMLSegmentsTableView

# --- PythonQt's manners -----------------------------------------------------------------------------------------------


class _QtProperty:
    """A Qt property as an attribute of the instance; on the class the method of the same name stays reachable."""

    def __init__(self, name: str, original: Any) -> None:
        self.name, self.original = name, original

    def __get__(self, instance: Any, owner: type) -> Any:
        return self.original if instance is None else instance.property(self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        instance.setProperty(self.name, value)


def _expose_properties(classes: set[type]) -> None:
    for cls in sorted(classes, key=lambda c: len(c.__mro__)):
        meta = cls.staticMetaObject  # type: ignore[attr-defined]
        for n in range(meta.propertyOffset(), meta.propertyCount()):
            name = meta.property(n).name()
            if name not in ("sizeHint", "minimumSizeHint"):  # virtual functions, called back from C++
                setattr(cls, name, _QtProperty(name, getattr(cls, name, None)))


def _taking_few_arguments(slot: Callable[..., Any]) -> Callable[..., Any]:
    """The slot, handed only as many arguments as its signature takes."""
    parameters = inspect.signature(slot).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return slot
    taken = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return lambda *arguments: slot(*arguments[:taken])


def _connect_by_name(self: QtCore.QObject) -> Callable[[str, Callable[..., Any]], None]:
    def connect(signal: str, slot: Callable[..., Any]) -> None:
        getattr(self, signal.partition("(")[0]).connect(_taking_few_arguments(slot))

    return connect


def _give_manners(names: dict[str, Any]) -> None:
    classes = {value for value in names.values() if isinstance(value, type) and issubclass(value, QtCore.QObject)}
    _expose_properties(classes)
    QtCore.QObject.name = _QtProperty("objectName", None)  # type: ignore[attr-defined]
    original = QtCore.QObject.__getattribute__

    def getattribute(self: QtCore.QObject, name: str) -> Any:
        # Setting QObject.connect has no effect: Shiboken looks its static and instance overloads up on its own.
        return _connect_by_name(self) if name == "connect" else original(self, name)

    setattr(QtCore.QObject, "__getattribute__", getattribute)  # noqa: B010  # mypy knows that it should not be done


# --- widgets ----------------------------------------------------------------------------------------------------------


class qMRMLWidget(QWidget):
    mrmlSceneChanged = Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)


class ctkCollapsibleButton(QWidget):
    """A titled section; folded, it hides what is in it."""

    HEADER = 24
    contentsCollapsed = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._text = ""
        self._collapsed = False
        self.setContentsMargins(0, self.HEADER, 0, 0)

    text = Property(str, lambda self: self._text, lambda self, value: setattr(self, "_text", value))
    collapsed = Property(bool, lambda self: self._collapsed, lambda self, value: self.setCollapsed(value))

    def setCollapsed(self, collapsed: bool) -> None:
        changed, self._collapsed = collapsed != self._collapsed, collapsed
        self._fold()
        if changed:
            self.contentsCollapsed.emit(collapsed)

    def _fold(self) -> None:
        self.setMaximumHeight(self.HEADER if self._collapsed else 16777215)
        for child in self.children():
            if isinstance(child, QWidget):
                child.setVisible(not self._collapsed)

    def showEvent(self, event: QtGui.QShowEvent) -> None:
        if self._collapsed:  # a .ui file sets the property before it adds what is in the section
            self._fold()

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
        if event.position().y() < self.HEADER:
            self.setCollapsed(not self._collapsed)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        header = QtCore.QRect(0, 0, self.size.width(), self.HEADER)  # type: ignore[attr-defined]  # a property by now
        painter.fillRect(header, QtGui.QPalette().mid())
        sign = "▸ " if self._collapsed else "▾ "
        painter.drawText(header.adjusted(8, 0, -8, 0), Qt.AlignmentFlag.AlignVCenter, sign + self._text)


def _option(name: str, kind: Any, default: Any) -> Property:
    """A property that only describes the selector; the entries follow it."""

    def write(self: Any, value: Any) -> None:
        setattr(self, f"_{name}", value)
        self._rebuild()

    return Property(kind, lambda self: getattr(self, f"_{name}", default), write)


class qMRMLNodeComboBox(QWidget):
    """Chooses a node of the real scene."""

    currentNodeChanged = Signal(object)

    nodeTypes = _option("nodeTypes", "QStringList", [])
    hideChildNodeTypes = _option("hideChildNodeTypes", "QStringList", [])
    showChildNodeTypes = _option("showChildNodeTypes", bool, True)
    noneEnabled = _option("noneEnabled", bool, False)
    noneDisplay = _option("noneDisplay", str, "None")
    addEnabled = _option("addEnabled", bool, True)
    removeEnabled = _option("removeEnabled", bool, True)
    renameEnabled = _option("renameEnabled", bool, False)
    selectNodeUponCreation = _option("selectNodeUponCreation", bool, True)
    baseName = _option("baseName", str, "")

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._node: Any = None
        self._combo = QComboBox()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._combo.activated.connect(lambda row: self.setCurrentNode(self._combo.itemData(row)))

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._scene = scene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent):
            scene.AddObserver(event, lambda caller, event: self._rebuild())
        self._rebuild()

    def currentNode(self) -> Any:
        return self._node

    def setCurrentNode(self, node: Any) -> None:
        nodes = self._nodes()
        chosen = node if node in nodes else None
        changed = chosen is not self._node
        self._node = chosen
        self._combo.setCurrentIndex(nodes.index(chosen) if chosen in nodes else -1)
        if changed:
            self.currentNodeChanged.emit(chosen)

    def addNode(self) -> Any:
        """What choosing "Create new ..." does."""
        name = self._scene.GenerateUniqueName(self.property("baseName"))
        node = self._scene.AddNewNodeByClass(self.property("nodeTypes")[0], name)
        self.setCurrentNode(node)
        return node

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        nodes = (self._scene.GetNthNode(n) for n in range(self._scene.GetNumberOfNodes()))
        fitting = [node for node in nodes if self._accepts(node)]
        return [None, *fitting] if self.property("noneEnabled") else fitting

    def _accepts(self, node: Any) -> bool:
        kinds = self.property("nodeTypes")
        if node.GetHideFromEditors() or any(node.IsA(kind) for kind in self.property("hideChildNodeTypes")):
            return False
        if self.property("showChildNodeTypes"):
            return any(node.IsA(kind) for kind in kinds)
        return node.GetClassName() in kinds

    def _rebuild(self) -> None:
        nodes = self._nodes()
        self._combo.clear()
        for node in nodes:
            self._combo.addItem(node.GetName() if node is not None else self.property("noneDisplay"), node)
        # As the real one: a node that went away gives way to "None", or to the first of its kind.
        self.setCurrentNode(self._node if self._node in nodes else nodes[0] if nodes else None)


STAND_INS: tuple[type, ...] = (qMRMLWidget, ctkCollapsibleButton, qMRMLNodeComboBox, qMRMLSegmentsTableView)


# --- .ui files --------------------------------------------------------------------------------------------------------


class QUiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file with the stand-ins. Connections that carry MRML objects are made here, by object name."""

    def __init__(self) -> None:
        super().__init__()
        for cls in STAND_INS:
            self.registerCustomWidget(cls)

    def load(self, file: Any, parentWidget: QWidget | None = None) -> QWidget:
        root = ElementTree.fromstring(bytes(file.readAll().data()))
        used = {element.get("class", "") for element in root.iter("widget")}
        unknown = sorted(used - set(self.availableWidgets()))
        if unknown:
            raise RuntimeError(f"No stand-in for {', '.join(unknown)}; write one or use another widget.")
        connections = root.find("connections")
        carried = [c for c in connections or () if "vtk" in (c.findtext("signal") or "")]
        for connection in carried:
            connections.remove(connection)  # type: ignore[union-attr]
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(buffer, parentWidget)
        for connection in carried:
            named = {child.property("objectName"): child for child in (widget, *widget.findChildren(QWidget))}
            source, target = (named[connection.findtext(end)] for end in ("sender", "receiver"))
            signal, slot = ((connection.findtext(end) or "").partition("(")[0] for end in ("signal", "slot"))
            getattr(source, signal).connect(getattr(target, slot))
        return widget


# PySide6 6.12 gives away one reference to None with every call that returns nothing. Before Python 3.12, where None
# became immortal, that ends the process once none are left, at the latest when it finalizes: a list of spare references
# would be let go of then. So None is made immortal here: its count is the first field of every object.
if sys.version_info < (3, 12):
    ctypes.c_ssize_t.from_address(id(None)).value += 2**40


# --- installation -----------------------------------------------------------------------------------------------------


def install(slicer: Any) -> None:
    """Put ``qt`` and ``ctk`` into ``sys.modules`` and the MRML widgets into ``slicer``.

    Settings of the user are neither read nor written.
    """
    if "qt" in sys.modules:
        return
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    folder = tempfile.mkdtemp(prefix="headless_slicer_settings_")
    QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope, folder)
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["headless_slicer"])
    QtWidgets.QApplication.setStyle("Fusion")

    qt, ctk = ModuleType("qt"), ModuleType("ctk")
    for module in (QtCore, QtGui, QtWidgets):
        # dir, because PySide6 makes its classes when they are first asked for.
        qt.__dict__.update({name: getattr(module, name) for name in dir(module) if not name.startswith("_")})
    _give_manners(vars(qt))
    qt.__dict__.update(QUiLoader=QUiLoader, application=application)
    for cls in STAND_INS:
        setattr(slicer if cls.__name__.startswith("qMRML") else ctk, cls.__name__, cls)
    sys.modules.update(qt=qt, ctk=ctk)
