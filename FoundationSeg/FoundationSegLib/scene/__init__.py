# SPDX-License-Identifier: Apache-2.0
"""The scene layer beyond `mrml.py`: what runs on MRML nodes, views and events, without a widget."""
