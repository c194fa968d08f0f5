# SPDX-License-Identifier: Apache-2.0
"""How a worker is started: which Python, with which environment, and what it may take."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import WorkerError

# Large activations come and go with every prediction. glibc gives them back to the system and gets them anew, page by
# page, unless it is told that they are worth keeping. 32 MiB is the most that older versions take.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(1024 * 2**20)}
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True)
class WorkerSettings:
    """All of it optional; times in seconds.

    Attributes:
        python: the interpreter, and arguments that come before `-m`. None: the one that runs this, or 3D Slicer's
            PythonSlicer where the application itself runs this.
        environment: to start from instead of this process's own (for an interpreter that is not Slicer's, see
            `slicer.util.startupEnvironment`).
        threads: of numerical libraries; None: what the environment says, else one per physical core.
        network: whether the worker may open connections. Models are downloaded before, by whoever has consent.
        memory_bytes: the most that the worker may take, address space included; not enforced on Windows.
        idle_s: after this time without work the worker ends (it starts again on demand); None: never.
        start_s: time for an interpreter to start.
        stall_s: the worker is given up when it is busy and says nothing for so long.
        limit_s: it is given up, too, when one stage of a prediction takes longer.
        grace_s: how long a cancelled prediction may go on before the worker is killed.
    """

    python: str | tuple[str, ...] | None = None
    environment: Mapping[str, str] | None = None
    threads: int | None = None
    network: bool = False
    memory_bytes: int | None = None
    idle_s: float | None = 900.0
    start_s: float = 60.0
    stall_s: float = 60.0
    limit_s: float = 1800.0
    grace_s: float = 0.12

    def command(self) -> list[str]:
        """The command line. Raises WorkerError where no interpreter is known."""
        python = default_python() if self.python is None else self.python
        command = [python] if isinstance(python, str) else list(python)
        command += ["-m", __package__ or "FoundationSegLib.worker"]
        if self.idle_s is not None:
            command += ["--idle", repr(self.idle_s)]
        if self.memory_bytes is not None:
            command += ["--memory", str(self.memory_bytes)]
        if self.network:
            command.append("--network")
        return command

    def variables(self) -> dict[str, str]:
        """The worker's environment: this package first on its path, memory and threads to its own measure."""
        result = dict(os.environ if self.environment is None else self.environment)
        package = os.fspath(Path(__file__).resolve().parents[2])
        result["PYTHONPATH"] = os.pathsep.join(filter(None, [package, result.get("PYTHONPATH", "")]))
        result["PYTHONSAFEPATH"] = "1"  # nothing is imported from whatever folder the user is in
        result["PYTHONUTF8"] = "1"
        if sys.platform == "linux":
            result = {**_MALLOC, **result}
        for name in _THREADS:
            if self.threads is not None:
                result[name] = str(self.threads)
            else:
                result.setdefault(name, str(physical_cores()))
        return result if self.network else {**result, **_OFFLINE}


def default_python() -> str:
    """The interpreter that runs this, also where Slicer embeds it. Raises WorkerError if it is not to be found."""
    executable = Path(sys.executable or "")
    if executable.name.lower().startswith(("python", "pypy")):  # PythonSlicer among them
        return os.fspath(executable)
    suffix = ".exe" if sys.platform == "win32" else ""
    for folder in (executable.parent, executable.parent / "bin", executable.parent.parent / "bin"):
        if (found := folder / f"PythonSlicer{suffix}").is_file():
            return os.fspath(found)
    raise WorkerError(
        "The Python interpreter for the worker process was not found beside the application; set one in the settings."
    )


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads not counted; at least 1."""
    if sys.platform == "linux":
        allowed = os.sched_getaffinity(0)
        cores = set()
        for cpu in allowed:
            topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
            try:
                cores.add(tuple((topology / name).read_text() for name in ("physical_package_id", "core_id")))
            except OSError:
                cores.add((str(cpu),))
        return max(1, len(cores))
    if sys.platform == "darwin":
        import ctypes
        import ctypes.util

        count, size = ctypes.c_int(0), ctypes.c_size_t(4)
        system = ctypes.CDLL(ctypes.util.find_library("c"))
        if system.sysctlbyname(b"hw.physicalcpu", ctypes.byref(count), ctypes.byref(size), None, 0) == 0:
            return max(1, count.value)
    if sys.platform == "win32":
        return _windows_cores() or max(1, (os.cpu_count() or 2) // 2)
    return os.cpu_count() or 1


def _windows_cores() -> int:
    """0 where the system does not say."""
    import ctypes

    class Entry(ctypes.Structure):  # SYSTEM_LOGICAL_PROCESSOR_INFORMATION; the union at its end is 16 bytes
        _fields_ = (("mask", ctypes.c_size_t), ("relation", ctypes.c_int), ("rest", ctypes.c_ulonglong * 2))

    ask = ctypes.windll.kernel32.GetLogicalProcessorInformation  # type: ignore[attr-defined, unused-ignore]
    size = ctypes.c_ulong(0)
    ask(None, ctypes.byref(size))
    entries = (Entry * (size.value // ctypes.sizeof(Entry)))()
    if not size.value or not ask(entries, ctypes.byref(size)):
        return 0
    return sum(entry.relation == 0 for entry in entries)  # 0: RelationProcessorCore
