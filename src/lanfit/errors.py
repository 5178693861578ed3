"""The one error tree of lanfit.

Every error that a user can meet says what happened and where (`message`) and what to do next (`hint`), and knows
the exit code of the command that it ends. What they say, and the `code` by which scripts tell them apart, stands in
`lanfit.mistakes`; only what is no user's mistake, the protocol errors, is worded where it is raised.

    LanfitError              4   failed
    ├── InputError           2   wrong input: a file, an answer, a flag
    ├── RefusedError         3   the other side refused: passphrase, version, fingerprint
    ├── TrainingError        4   a task could not be trained
    ├── ConnectionFailed     4   no link, or the link ended
    ├── LocalProtocolError   4   our own bug: we were about to break the protocol
    └── RemoteProtocolError  4   the peer broke the protocol; the link is cut
"""

from __future__ import annotations

from typing import Self


class LanfitError(Exception):
    """Something that the user must know: what happened, and what to do next."""

    exit_code = 4

    def __init__(self, message: str, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def at(self, where: str, about: str = "") -> Self:
        """The same error with the place in front of it, and what is to be said about that place behind the hint."""
        return type(self)(f"{where}: {self.message}", f"{self.hint} {about}".strip(), self.code)


class InputError(LanfitError):
    """Wrong input; nothing was changed."""

    exit_code = 2


class RefusedError(LanfitError):
    """The other side refused to let us in."""

    exit_code = 3


class TrainingError(LanfitError):
    """A task could not be trained."""


class ChildDied(TrainingError):
    """A process that trains died of its task."""


class ConnectionFailed(LanfitError):
    """There is no link to the peer, or it ended."""


class LocalProtocolError(LanfitError):
    """We were about to break the protocol: a bug in lanfit."""


class RemoteProtocolError(LanfitError):
    """The peer broke the protocol; its link is cut."""
