# SPDX-License-Identifier: Apache-2.0
"""Parts of the benchmarks in this folder: cases, simulated clicks, metrics, peers, reports.

Nothing here is part of the product. SciPy, scikit-image, pyamg and slicer-core are needed by the benchmarks only.
"""
