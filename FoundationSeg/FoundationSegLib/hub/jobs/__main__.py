# SPDX-License-Identifier: Apache-2.0
"""The process of a job: `python -m FoundationSegLib.hub.jobs`, started by `Job` and of no use by hand."""

from __future__ import annotations

from .serve import main

if __name__ == "__main__":
    main()
