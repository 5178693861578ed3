"""Passphrases: generating one, and checking whether one is too easy.

lanfit.wire.auth describes how the passphrase is used. No function here logs or repeats a passphrase.
"""

from __future__ import annotations

import secrets
from importlib import resources

from lanfit.errors import lanfit_error
from lanfit.net.addresses import is_loopback

WORDS = 4
#: Guesses that a passphrase must withstand; the gate allows 30 a minute, 16 million a year.
ENOUGH_GUESSES = 1e10
#: zxcvbn's time grows with the length; of a longer passphrase only the beginning is rated.
RATED_LENGTH = 72


def make_passphrase() -> str:
    """Return four words from a list of 7,776, chosen by the system's random generator: 51 bits."""
    words = _words()
    return " ".join(secrets.choice(words) for _ in range(WORDS))


def check_passphrase(passphrase: str, host: str) -> None:
    """Check a typed passphrase.

    Raises:
        InputError: it is too easy for a server on this address.
    """
    if reason := too_easy(passphrase, host):
        raise lanfit_error("passphrase.too-easy", reason=reason)


def too_easy(passphrase: str, host: str) -> str | None:
    """Return why a passphrase is too easy for a server on this address, or None.

    On loopback anything but an empty one is sufficient: an attacker would already be on this machine.
    """
    if not passphrase.strip():
        return "it is empty"
    if is_loopback(host):
        return None
    from zxcvbn import zxcvbn

    rating = zxcvbn(passphrase[:RATED_LENGTH], user_inputs=["lanfit", host])
    if float(rating["guesses"]) >= ENOUGH_GUESSES:
        return None
    warning = rating["feedback"]["warning"].rstrip(".")
    return warning[:1].lower() + warning[1:] or "it can be guessed; use four unrelated words"


def _words() -> list[str]:
    text = resources.files(__package__).joinpath("words.txt").read_text("ascii")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
