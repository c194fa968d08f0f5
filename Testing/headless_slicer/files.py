# SPDX-License-Identifier: Apache-2.0
"""``slicer.app.coreIOManager()`` for volumes, markups and segmentations, with MRML's own readers and writers."""

from __future__ import annotations

from typing import Any

# The kind of a file by the end of its name; longer ends come first.
_KINDS = (
    (".seg.nrrd", "SegmentationFile"),
    (".mrk.json", "MarkupsFile"),
    (".nii.gz", "VolumeFile"),
    (".nrrd", "VolumeFile"),
    (".nii", "VolumeFile"),
    (".mha", "VolumeFile"),
)


class CoreIOManager:
    """Reads and writes files; a kind that is not known fails."""

    def fileType(self, filename: str) -> str:
        for end, kind in _KINDS:
            if str(filename).lower().endswith(end):
                return kind
        raise NotImplementedError(f"The stand-in reads no {filename}.")

    def fileWriterFileType(self, node: Any) -> str:
        return str(node.GetClassName())

    def loadNodes(self, kind: str, properties: dict[str, Any], loaded: Any, messages: Any = None) -> bool:
        import slicer

        logics = {name: getattr(slicer.modules, name).logic() for name in ("volumes", "markups", "segmentations")}
        filename = properties["fileName"]
        if kind == "VolumeFile":
            node = logics["volumes"].AddArchetypeVolume(filename, properties.get("name") or _baseName(filename), 0)
        elif kind == "MarkupsFile":
            node = logics["markups"].LoadMarkups(filename, properties.get("name") or _baseName(filename), messages)
            node = slicer.mrmlScene.GetNodeByID(node) if isinstance(node, str) else node
        elif kind == "SegmentationFile":
            node = logics["segmentations"].LoadSegmentationFromFile(filename, True)
        else:
            raise NotImplementedError(f"The stand-in reads no {kind}.")
        if node is None:
            return False
        loaded.AddItem(node)
        return True

    def saveNodes(self, kind: str, properties: dict[str, Any], messages: Any = None) -> bool:
        import slicer

        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        storage = node.GetStorageNode() or node.CreateDefaultStorageNode()
        if storage.GetScene() is None:
            slicer.mrmlScene.AddNode(storage)
            node.SetAndObserveStorageNodeID(storage.GetID())
        storage.SetFileName(properties["fileName"])
        return bool(storage.WriteData(node))


def _baseName(filename: str) -> str:
    name = str(filename).replace("\\", "/").rpartition("/")[2]
    return next((name[: -len(end)] for end, _ in _KINDS if name.lower().endswith(end)), name)
