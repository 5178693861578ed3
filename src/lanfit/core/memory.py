"""How much memory this machine can still give; asked before something large is read or allocated.

An estimate for clear errors, not an allocator: nothing is reserved.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: What errors of TensorFlow, JAX (XLA), PyTorch and the C++ library have where memory did not suffice.
_NO_MEMORY = (
    "ResourceExhaustedError",
    "RESOURCE_EXHAUSTED",
    "OutOfMemoryError",
    "OOM when allocating",
    "can't allocate memory",
    "not enough memory: you tried to allocate",
    "bad_alloc",
)


def free_memory() -> int:
    """Return the bytes that this process can take without swapping; 0 if unknown."""
    found = [size for size in (free_of_machine(), _own_limit()) if size > 0]
    return min(found, default=0)


def free_of_machine() -> int:
    """Return the bytes that can be taken without swapping, a container's limit included; 0 if unknown."""
    if sys.platform == "win32":
        return _windows()
    found = [size for size in (_meminfo(), _cgroup()) if size > 0]
    if found:
        return min(found)
    try:  # macOS reports free memory only to a subprocess: all the memory is at least an upper bound
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def readable_size(size: int) -> str:
    """Return a number of bytes for people: `1.5 GB`."""
    value, units = float(size), ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" else f"{value:,.1f} {units[0]}"


def _meminfo() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)


def _cgroup() -> int:
    """Return what a container (control group version 2) may still use."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text())
        return max(1, limit - int((folder / "memory.current").read_text()))
    except (OSError, ValueError):  # no such file, or "max": no limit
        return 0


def _own_limit() -> int:
    """Return what this process may still use, if its memory is limited."""
    limit, used = limit_of_memory(), _data_bytes()
    return max(1, limit - used) if limit and used else 0


def _windows() -> int:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            *((name, ctypes.c_uint64) for name in ("total", "free", "page", "page_free", "virtual", "virtual_free")),
            ("extended", ctypes.c_uint64),
        ]

    status = Status(length=ctypes.sizeof(Status))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  (only Windows has the attribute)
    return int(status.free) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else 0


def limit_memory(limit: int) -> bool:
    """Let this process take at most `limit` bytes more memory than it has now; return False where that can't be done.

    What it asks for beyond fails with MemoryError. Linux counts what may be written to; macOS counts only the heap;
    Windows has no such limit.
    """
    try:
        import resource
    except ImportError:
        return False
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _data_bytes() + limit
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    except (ValueError, OSError):
        return False
    return True


def ran_out(error: BaseException) -> bool:
    """Return whether an error, or its cause, reports too little memory: NumPy's, or a backend's."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return False
        if isinstance(seen, MemoryError) or any(sign in f"{type(seen).__name__}: {seen}" for sign in _NO_MEMORY):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def limit_of_memory() -> int:
    """Return the bytes of writable private memory that this process may have; 0 without such a limit."""
    try:
        import resource
    except ImportError:
        return 0
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return 0 if soft == resource.RLIM_INFINITY else soft


def _data_bytes() -> int:
    """Return the bytes of writable private memory of this process, as RLIMIT_DATA counts them; 0 if unknown."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return 0
