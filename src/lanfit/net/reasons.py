"""Reasons for failed connections in plain words, because the texts of Python and TLS are not meant for users."""

from __future__ import annotations

import errno
import os
import ssl

from lanfit.errors import LanfitError, lanfit_error

#: A firewall rejects at once. An unused address is detected after some seconds, by a failed address resolution.
AT_ONCE = 0.7
#: A peer that was killed, or whose machine went down: systems report it in several ways.
ENDED = "the other side closed the connection without a message"
_GONE = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_NO_ROUTE = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def why_lost(error: Exception | None) -> str:
    """Return why an established connection was lost."""
    if error is None or isinstance(error, _GONE) or is_end(error):
        return ENDED
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {getattr(error, 'reason', '') or error}"
    if isinstance(error, OSError):
        if isinstance(error, TimeoutError) or error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN):
            return "the other machine can no longer be reached"
        return f"the connection was lost: {system_text(error)}"
    return f"the connection was lost: {error}"


def is_end(error: BaseException) -> bool:
    """Return whether this TLS error means that the other side ended without a goodbye."""
    return isinstance(error, ssl.SSLEOFError) or (
        isinstance(error, ssl.SSLError) and getattr(error, "reason", "") == "UNEXPECTED_EOF_WHILE_READING"
    )


def is_gone(error: BaseException) -> bool:
    """Return whether the other side dropped the connection, for all reports of the system."""
    return is_end(error) or isinstance(error, _GONE)


def system_text(error: OSError) -> str:
    """Return the system's name of an error; asyncio replaces it with its own text."""
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__


def why_not_reached(error: OSError, address: str, after: float, timeout: float) -> LanfitError:
    """Return why no server was reached at an address.

    Args:
        after: how long it took to fail, in seconds: a rejection is immediate.
    """
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return lanfit_error("connect.no-answer", address=address, seconds=timeout, port=address.rpartition(":")[2])
    if isinstance(error, ConnectionRefusedError):
        return lanfit_error("connect.nobody-listens", address=address)
    unreachable = error.errno in (errno.EHOSTUNREACH, errno.EHOSTDOWN)
    if error.errno in _FORBIDDEN or (unreachable and after < AT_ONCE):
        return lanfit_error("connect.rejected", address=address, port=address.rpartition(":")[2])
    if unreachable:
        return lanfit_error("connect.nobody-there", address=address)
    if error.errno in _NO_ROUTE:
        return lanfit_error("connect.no-way", address=address, reason=system_text(error))
    return lanfit_error("connect.failed", address=address, reason=system_text(error))


def explains_more(error: OSError) -> int:
    """Return how informative an error is, among those of several addresses of one name: the largest is shown."""
    if isinstance(error, ConnectionRefusedError):
        return 3
    if isinstance(error, TimeoutError):
        return 2
    return 0 if error.errno in _NO_ROUTE else 1
