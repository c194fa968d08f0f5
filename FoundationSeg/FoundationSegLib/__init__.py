# SPDX-License-Identifier: Apache-2.0
"""FoundationSeg's engine: promptable volumetric segmentation without 3D Slicer, Qt or torch.

>>> from FoundationSegLib import Point, SegmentationSession, Volume
"""

from __future__ import annotations

__version__ = "0.1.0"

from .errors import (
    Cancelled,
    DicomSeriesError,
    FoundationSegError,
    ModelError,
    OutputError,
    PromptError,
    SegmentationFileError,
    VolumeError,
    WorkerError,
)
from .predictor import CancelToken
from .prompts import (
    Box,
    LabelledSlice,
    Lasso,
    MaskPrompt,
    Point,
    Prompt,
    Scribble,
    SegmentPrompts,
    TextPrompt,
    load_prompts,
)
from .session import Result, SegmentationSession
from .volume import Volume
from .worker import WorkerSession, WorkerSettings

__all__ = [
    "Box",
    "CancelToken",
    "Cancelled",
    "DicomSeriesError",
    "FoundationSegError",
    "LabelledSlice",
    "Lasso",
    "MaskPrompt",
    "ModelError",
    "OutputError",
    "Point",
    "Prompt",
    "PromptError",
    "Result",
    "Scribble",
    "SegmentPrompts",
    "SegmentationFileError",
    "SegmentationSession",
    "TextPrompt",
    "Volume",
    "VolumeError",
    "WorkerError",
    "WorkerSession",
    "WorkerSettings",
    "load_prompts",
]
