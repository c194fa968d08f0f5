# SPDX-License-Identifier: Apache-2.0
"""Facts from a volume and its segments: sizes, intensities, places, coverage, change."""
