# SPDX-License-Identifier: Apache-2.0
"""A stand-in of qMRMLSegmentsTableView: colour and name of the segments of a real segmentation node."""

from __future__ import annotations

from typing import Any

from PySide6 import QtGui
from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget


class qMRMLSegmentsTableView(QWidget):
    """Names can be edited; what the real one has beyond (visibility, opacity, terminology) is left out."""

    mrmlSceneChanged = Signal(object)
    selectionChanged = Signal(object, object)
    segmentAboutToBeModified = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._tags: list[tuple[Any, int]] = []
        self._filling = False
        self._table = QTableWidget(0, 2)
        self._table.setHorizontalHeaderLabels(["", "Name"])
        self._table.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self._table.setColumnWidth(0, 28)
        self._table.verticalHeader().hide()
        self._table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.itemSelectionChanged.connect(self._onSelection)
        self._table.itemChanged.connect(self._onEdited)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)

    def _flag(name: str, default: bool) -> Property:  # type: ignore[misc]
        """An option that shows no difference here."""
        return Property(bool, lambda s: getattr(s, name, default), lambda s, value: setattr(s, name, value))

    opacityColumnVisible = _flag("_opacityColumnVisible", True)
    statusColumnVisible = _flag("_statusColumnVisible", False)
    filterBarVisible = _flag("_filterBarVisible", False)

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)

    def tableWidget(self) -> QTableWidget:
        return self._table

    def setSelectionMode(self, mode: int) -> None:
        self._table.setSelectionMode(QAbstractItemView.SelectionMode(mode))

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        if node is self._node:
            return
        for observed, tag in self._tags:
            observed.RemoveObserver(tag)
        self._tags = []
        self._node = node
        if node is not None:
            segmentation = node.GetSegmentation()
            for event in (segmentation.SegmentAdded, segmentation.SegmentRemoved, segmentation.SegmentModified):
                tag = segmentation.AddObserver(event, lambda caller, event: self._fill())
                self._tags.append((segmentation, tag))
        self._fill()

    def selectedSegmentIDs(self) -> list[str]:
        rows = sorted({index.row() for index in self._table.selectedIndexes()})
        return [self._table.item(row, 1).data(Qt.ItemDataRole.UserRole) for row in rows]

    def setSelectedSegmentIDs(self, ids: list[str]) -> None:
        if list(ids) == self.selectedSegmentIDs():
            return
        self._table.clearSelection()
        for row in range(self._table.model().rowCount()):
            if self._table.item(row, 1).data(Qt.ItemDataRole.UserRole) in ids:
                self._table.selectRow(row)

    def clearSelection(self) -> None:
        self._table.clearSelection()

    def segmentCount(self) -> int:
        return int(self._table.model().rowCount())

    def _fill(self) -> None:
        selected = self.selectedSegmentIDs()
        self._filling = True
        segmentation = None if self._node is None else self._node.GetSegmentation()
        count = 0 if segmentation is None else segmentation.GetNumberOfSegments()
        self._table.setRowCount(count)
        for row in range(count):
            segment = segmentation.GetNthSegment(row)
            swatch = QTableWidgetItem()
            swatch.setBackground(QtGui.QColor.fromRgbF(*segment.GetColor()))
            swatch.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
            name = QTableWidgetItem(segment.GetName())
            name.setData(Qt.ItemDataRole.UserRole, segmentation.GetNthSegmentID(row))
            self._table.setItem(row, 0, swatch)
            self._table.setItem(row, 1, name)
        self.setSelectedSegmentIDs(selected)
        self._filling = False
        if self.selectedSegmentIDs() != selected:
            self._onSelection()

    def _onSelection(self) -> None:
        if not self._filling:
            self.selectionChanged.emit(None, None)

    def _onEdited(self, item: QTableWidgetItem) -> None:
        if not self._filling and item.column() == 1:
            segmentId = item.data(Qt.ItemDataRole.UserRole)
            self.segmentAboutToBeModified.emit(segmentId)
            self._node.GetSegmentation().GetSegment(segmentId).SetName(item.text())
