# SPDX-License-Identifier: Apache-2.0
"""What goes wrong between this computer and the Hub, each in one sentence that says what to do.

No sentence repeats what a server or a library said: that can hold signed addresses and tokens.
"""

from __future__ import annotations

from typing import Any

from ..errors import ModelError
from .home import is_full

_AGAIN = "try again later; what was downloaded so far is kept"


def answer(error: BaseException, repo: str, file: str, revision: str, endpoint: str, place: str) -> ModelError | None:
    """A ModelError for what huggingface_hub, its HTTP library or the file system raised; None if it is none of these.

    `place` is the folder that is written to. Classes are told by name, since the HTTP library below huggingface_hub has
    changed between its versions.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    what = f"{repo}/{file}"
    response = getattr(error, "response", None)
    if "OfflineModeIsEnabled" in kinds:
        return ModelError(
            f"{what} is not on this computer and the offline mode is on (HF_HUB_OFFLINE); switch it off, or import a "
            "bundle made on a computer with network (foundation-seg models bundle)."
        )
    if "HfHubHTTPError" in kinds and response is not None:
        return _status(response, kinds, repo, file, revision, endpoint)
    if is_full(error):
        return ModelError(f"The disk that holds {place} is full; free some space and try again, which then resumes.")
    if isinstance(error, PermissionError):
        return ModelError(
            f"The folder {place} cannot be written to; make it writable, or choose another one with HF_HUB_CACHE."
        )
    if "FileMetadataError" in kinds:
        return ModelError(
            f"What answers at {endpoint} is not a Hub (it does not say which commit {what} is of); check HF_ENDPOINT, "
            "the proxy and the firewall."
        )
    if "ProxyError" in kinds:
        return ModelError(
            f"The proxy did not let the request to {endpoint} through; check HTTPS_PROXY and its password."
        )
    if "TimeoutException" in kinds or isinstance(error, TimeoutError):
        return ModelError(f"The server of {endpoint} stopped answering while {what} was asked for; {_AGAIN}.")
    if "TransportError" in kinds or "RequestException" in kinds or isinstance(error, ConnectionError):
        if "CERTIFICATE" in str(error).upper():
            return ModelError(
                f"The certificate of {endpoint} is not trusted; if a proxy of your institution is in between, name its "
                "certificates in SSL_CERT_FILE."
            )
        return ModelError(
            f"There is no connection to {endpoint}, which {what} comes from; check the network, the proxy "
            f"(HTTPS_PROXY) and HF_ENDPOINT, then {_AGAIN}."
        )
    return None


def _status(response: Any, kinds: set[str], repo: str, file: str, revision: str, endpoint: str) -> ModelError:
    status, page = int(response.status_code), f"{endpoint}/{repo}"
    token = (
        f"make a token at {endpoint}/settings/tokens and give it with `hf auth login` or the environment variable "
        "HF_TOKEN"
    )
    if "GatedRepoError" in kinds:
        return ModelError(
            f"{repo} is gated ({status}): sign in and accept its terms at {page}, {token}, then try again."
        )
    if status == 401:
        return ModelError(
            f"The Hub did not let you read {repo} (401): it is private, or gated, or the token is wrong or expired; "
            f"see {page}, {token}, then try again."
        )
    if status == 403:
        return ModelError(
            f"The Hub refused {repo} to you (403): accept its terms at {page} with the account of your token, or "
            f"{token}, then try again."
        )
    if "RevisionNotFoundError" in kinds:
        return ModelError(
            f"{repo} has no revision {revision} any more (404); look for a newer version of FoundationSeg."
        )
    if "RepositoryNotFoundError" in kinds:
        return ModelError(
            f"There is no repository {repo} at {endpoint} (404), or it is private; see {page}, and {token}."
        )
    if status == 404:
        return ModelError(
            f"{repo} has no file {file} at revision {revision} (404); look for a newer version of FoundationSeg."
        )
    if status == 429:
        wait = response.headers.get("Retry-After", "")
        when = f"in {wait} s" if wait.isdigit() else "in some minutes"
        return ModelError(f"The Hub has had too many requests from here (429); try again {when}, or with a token.")
    if status >= 500:
        return ModelError(f"The Hub has a fault of its own ({status}); {_AGAIN}.")
    return ModelError(f"The Hub answered with status {status} when {repo}/{file} was asked for; {_AGAIN}.")
