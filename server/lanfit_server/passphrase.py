"""Passphrases: making one, and telling whether one is too easy.

What the passphrase does is in lanfit.wire.auth. No function here logs or repeats a passphrase.
"""

from __future__ import annotations

import secrets
from importlib import resources

from lanfit.mistakes import mistake
from lanfit.net.addresses import is_loopback

WORDS = 4
#: Guesses that a passphrase must withstand; the gate allows 30 a minute, 16 million a year.
ENOUGH_GUESSES = 1e10
#: zxcvbn's time grows with the length; what is longer than this is judged by its beginning.
JUDGED_LENGTH = 72


def make_passphrase() -> str:
    """Return four words of a list of 7,776, drawn by the system's generator: 51 bits."""
    words = _words()
    return " ".join(secrets.choice(words) for _ in range(WORDS))


def check_passphrase(passphrase: str, host: str) -> None:
    """Check one that somebody chose.

    Raises:
        InputError: it is too easy for a server on this address.
    """
    if reason := too_easy(passphrase, host):
        raise mistake("passphrase.too-easy", reason=reason)


def too_easy(passphrase: str, host: str) -> str | None:
    """Return why a passphrase is too easy for a server on this address, or None.

    On loopback everything but an empty one will do: who could guess there is on this machine already.
    """
    if not passphrase.strip():
        return "it is empty"
    if is_loopback(host):
        return None
    from zxcvbn import zxcvbn

    judged = zxcvbn(passphrase[:JUDGED_LENGTH], user_inputs=["lanfit", host])
    if float(judged["guesses"]) >= ENOUGH_GUESSES:
        return None
    warning = judged["feedback"]["warning"].rstrip(".")
    return warning[:1].lower() + warning[1:] or "it can be guessed: take four words that don't belong together"


def _words() -> list[str]:
    text = resources.files(__package__).joinpath("words.txt").read_text("ascii")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
