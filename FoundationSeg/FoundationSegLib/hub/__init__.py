# SPDX-License-Identifier: Apache-2.0
"""Weights of the models that are not shipped: consent, download, verification, conversion, bundles for other machines.

`huggingface_hub` does the transfer, into the Hub's own cache; what is here is policy. The policy in short: nothing is
downloaded before the user agreed to its licence; the commit and sha256 of the first download are recorded and enforced
afterwards; pickles are read with `weights_only=True`, compared with the family's network and kept as safetensors.
"""
