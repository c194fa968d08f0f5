# SPDX-License-Identifier: Apache-2.0
"""What the extension's command lines share: exit status, errors as one sentence, results for people or programs.

Exit status: 0 success, 1 a failure that is named in one sentence, 2 wrong use, 130 cancelled. Results go to standard
output (with --json one object), all else to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from .errors import DicomSeriesError, FoundationSegError

_TRACEBACK = "FOUNDATIONSEG_TRACEBACK"


@dataclass(frozen=True)
class Report:
    """What a command has to say: `data` fit for JSON, `text` for people, and the exit status."""

    data: dict[str, Any]
    text: str
    status: int = 0


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of half a page."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message.rstrip('.')}. (All options: {self.prog} --help)\n")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(
    parser: Callable[[], argparse.ArgumentParser],
    arguments: Sequence[str],
    errors: tuple[type[Exception], ...] = (),
    cancelled: tuple[type[Exception], ...] = (),
) -> int:
    """Parses the arguments and runs the command, whose function is in `run` and returns a Report; the exit status.

    Args:
        errors: further errors whose text is an answer; FoundationSegError always is one.
        cancelled: errors that stand for the user's wish to stop.
    """
    stops: tuple[type[BaseException], ...] = (KeyboardInterrupt, *cancelled)
    answers: tuple[type[Exception], ...] = (FoundationSegError, *errors)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name may have letters that the terminal has not
    try:
        parsed = parser().parse_args(arguments)
        report = parsed.run(parsed)
        print(json.dumps(report.data) if parsed.json else report.text, flush=True)
        return int(report.status)
    except SystemExit as leaving:  # argparse has said what is wrong, or printed the help
        return int(leaving.code or 0)
    except stops:
        return _failed(None, "Cancelled; no file was left half written.", arguments, 130)
    except answers as error:
        return _failed(error, str(error), arguments, 1)
    except BrokenPipeError:  # the reader of the output has gone; nothing more can be said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except MemoryError as error:
        return _failed(error, "There is not enough memory; crop or resample the volume first.", arguments, 1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("Foundation"):
            return _failed(error, f"This installation is damaged ({error}); install it again.", arguments, 1)
        sentence = f"The Python package {error.name} is missing; install it with python -m pip install {error.name}."
        return _failed(error, sentence, arguments, 1)
    except Exception as error:
        hint = f"set {_TRACEBACK}=1 to see where, and report it"
        sentence = f"This is a fault of the program ({type(error).__name__}: {error}); {hint}."
        return _failed(error, sentence, arguments, 1)


def _failed(error: BaseException | None, sentence: str, arguments: Sequence[str], status: int) -> int:
    if error is not None and os.environ.get(_TRACEBACK):
        traceback.print_exception(error)
    end = "\n" if sys.stderr.isatty() else ""  # leaves the line that shows progress
    print(f"{end}{sentence}", file=sys.stderr)
    if "--json" in arguments:
        kind = type(error).__name__ if error is not None else "Cancelled"
        data: dict[str, Any] = {"error": {"type": kind, "message": sentence}}
        if isinstance(error, DicomSeriesError):
            # Not its description or UID: what is printed for programs ends up in logs.
            data["error"]["series"] = [
                {"number": info.number, "modality": info.modality, "images": info.images} for info in error.series
            ]
        print(json.dumps(data))
    return status
