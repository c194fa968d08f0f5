# SPDX-License-Identifier: Apache-2.0
"""What a user chose, kept in a vtkMRMLScriptedModuleNode, so that the scene saves and restores it.

A typed class over the scene's own node, the same with and without a window. Slicer's parameterNodeWrapper needs Qt's
side of Slicer, so that neither scripts on the plain wheel nor tests could use it.
"""

from __future__ import annotations

from typing import Any

from ..catalogue import EMBEDDED

MODULE = "FoundationSeg"


class _Node:
    """A node of the scene that the parameter node refers to."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._role = name

    def __get__(self, instance: FoundationSegParameters, owner: type) -> Any:
        return instance.node.GetNodeReference(self._role)

    def __set__(self, instance: FoundationSegParameters, node: Any) -> None:
        instance.node.SetNodeReferenceID(self._role, node.GetID() if node is not None else None)


class _Text:
    def __init__(self, default: str = "") -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: FoundationSegParameters, owner: type) -> str:
        return instance.node.GetParameter(self._name) or self._default

    def __set__(self, instance: FoundationSegParameters, value: str) -> None:
        if value != self.__get__(instance, type(instance)):
            instance.node.SetParameter(self._name, value)


class _Flag:
    def __init__(self, default: bool) -> None:
        self._text = _Text("1" if default else "0")

    def __set_name__(self, owner: type, name: str) -> None:
        self._text.__set_name__(owner, name)

    def __get__(self, instance: FoundationSegParameters, owner: type) -> bool:
        return self._text.__get__(instance, owner) == "1"

    def __set__(self, instance: FoundationSegParameters, value: bool) -> None:
        self._text.__set__(instance, "1" if value else "0")


class FoundationSegParameters:
    """The choices; assigning to one of them modifies the node, which observers of the node hear of."""

    volume = _Node()
    segmentation = _Node()
    segmentId = _Text()  # the current segment
    model = _Text(EMBEDDED)  # name of a card of the catalogue
    checkpoint = _Text()  # path of weights of the user's own; "" for those of the card
    device = _Text("auto")
    positive = _Flag(True)  # sign of the next prompt
    autoUpdate = _Flag(True)  # predict as soon as prompts change
    showUncertainty = _Flag(False)
    showSurface = _Flag(False)

    def __init__(self, node: Any) -> None:
        self.node = node


def parametersOf(scene: Any) -> FoundationSegParameters:
    """The scene's parameters; the node is made where it is missing, and is the one that Slicer's module logic uses."""
    node = scene.GetSingletonNode(MODULE, "vtkMRMLScriptedModuleNode")
    if node is None:
        node = scene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetSingletonTag(MODULE)
        node.SetAttribute("ModuleName", MODULE)
        node.SetName(scene.GenerateUniqueName(MODULE))
        node = scene.AddNode(node)
    return FoundationSegParameters(node)
