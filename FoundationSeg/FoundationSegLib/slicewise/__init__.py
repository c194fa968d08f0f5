# SPDX-License-Identifier: Apache-2.0
"""Volumes by models that see one slice: prompted slices are decoded, and their masks spread through the volume.

- `protocol`: what such a model has to offer (`SlicePredictor`).
- `contrast`: intensities to the grey values of an 8-bit picture.
- `plane`: the slices of one of the three canonical orientations, and the choice among them.
- `layout`: prompts in RAS millimetres to points and boxes on slices.
- `judge`: whether the mask of a slice goes on from that of its neighbour.
- `spread`: from slice to slice, between prompted slices and beyond them.
- `segmenter`: all of it behind the session.
"""
