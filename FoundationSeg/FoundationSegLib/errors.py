# SPDX-License-Identifier: Apache-2.0
"""The package's own errors.

Every message is one sentence that a panel can show as it is: what was wrong, where, and what to do. No message carries
a patient identifier: DICOM headers never enter one, and a path is named only where the user gave it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .dicom import SeriesInfo


class FoundationSegError(Exception):
    """Base of every error that the package raises on purpose."""


class VolumeError(FoundationSegError):
    """An image cannot be read, or is not a volume that can be segmented."""


class DicomSeriesError(VolumeError):
    """A DICOM folder holds no usable series, or several of which one has to be chosen (they are in `series`)."""

    def __init__(self, message: str, series: Sequence[SeriesInfo] = ()) -> None:
        super().__init__(message)
        self.series: list[SeriesInfo] = list(series)


class PromptError(FoundationSegError):
    """A prompt or a prompt file is malformed, or lies outside of the volume."""


class ModelError(FoundationSegError):
    """A model is unknown, absent, damaged, or cannot run here."""


class ModelTooLarge(ModelError):
    """A model needs more memory than there is."""


class WorkerError(ModelError):
    """The worker process could not be started, ended, fell silent, or said what it should not; nothing was changed."""


class SegmentationFileError(FoundationSegError):
    """A segmentation file cannot be read."""


class OutputError(FoundationSegError):
    """A result cannot be written; what was there before is untouched."""


class Cancelled(FoundationSegError):
    """The user cancelled; nothing was changed."""
