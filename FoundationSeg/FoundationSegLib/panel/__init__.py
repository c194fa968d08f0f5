# SPDX-License-Identifier: Apache-2.0
"""Parts of the module's panel, each a class that fills a container widget. Only here and in FoundationSeg.py is Qt."""
