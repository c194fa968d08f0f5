# SPDX-License-Identifier: Apache-2.0
"""The worker process: `python -m FoundationSegLib.worker`, started by `Link` and of no use by hand."""

from __future__ import annotations

import sys

from .server import main

if __name__ == "__main__":
    main(sys.argv[1:])
