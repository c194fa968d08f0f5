# SPDX-License-Identifier: Apache-2.0
"""The image file formats, one module each; `volume_io` chooses among them, `dicom` reads DICOM with their help."""
