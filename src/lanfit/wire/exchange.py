"""The cryptography of the login: stretching the passphrase, the SPAKE2 exchange, and the proofs that come out of it.

Uses `hashlib`, `spake2` and `cryptography`; implements no cipher and no group arithmetic of its own. The order of
messages is defined in auth.py.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import unicodedata

from lanfit.errors import RemoteProtocolError

PROTOCOL = b"lanfit/1"
EXCHANGE_BYTES = 33
PROOF_BYTES = 32
#: The field of Ed25519: coordinates are numbers below it.
_P = 2**255 - 19
#: The y of the eight points of small order: those of order 1, 2, 4 (two of them) and 8 (twice two).
_EIGHTH = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_SMALL = frozenset({1, _P - 1, 0, _EIGHTH, _P - _EIGHTH})


def stretch(passphrase: str, salt: bytes) -> bytes:
    """Return the 32 bytes that the exchange uses for a passphrase: scrypt over its NFC form; takes about 0.1 s."""
    secret = unicodedata.normalize("NFC", passphrase).encode()
    return hashlib.scrypt(secret, salt=salt, n=2**15, r=8, p=1, maxmem=64 * 1024 * 1024, dklen=32)


def transcript(client_hello: bytes, server_hello: bytes, fingerprint: bytes) -> bytes:
    """SHA-256 over the length-prefixed parts that both sides must have seen identically (security: what the proofs
    cover)."""
    digest = hashlib.sha256()
    for part in (PROTOCOL, client_hello, server_hello, fingerprint):
        digest.update(struct.pack("!I", len(part)) + part)
    return digest.digest()


def _check_point(message: bytes) -> None:
    """Reject points that no honest side sends, before the library sees them; the library checks the rest.

    spake2 0.9 recognizes one of four encodings of the neutral element, and reads y modulo p. No attack is known; but
    each point has one valid encoding, and points of such small order are of no use.

    Raises:
        RemoteProtocolError: it is one of small order, or encoded with a number that is not below p.
    """
    y = int.from_bytes(message[1:], "little") & (2**255 - 1)  # the highest bit is the sign of x
    if y >= _P or y in _SMALL:
        raise RemoteProtocolError("the exchange message is no point of the group that may be used")


class Exchange:
    """The SPAKE2 exchange of one side and the two proofs derived from it."""

    def __init__(
        self, is_client: bool, password: bytes, client_id: bytes, server_id: bytes, fingerprint: bytes
    ) -> None:
        # Imported late: computing its constants takes a tenth of a second, for which `lanfit --help` need not wait.
        from spake2 import SPAKE2_A, SPAKE2_B

        side = SPAKE2_A if is_client else SPAKE2_B
        self._spake = side(password, idA=b"client" + client_id, idB=b"server" + server_id + fingerprint)
        self.message: bytes = self._spake.start()

    def proofs(self, message: bytes, th: bytes) -> tuple[bytes, bytes]:
        """Return the client's and the server's proof, computed from the peer's message and the transcript's hash."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
        from spake2.ed25519_basic import NotOnCurve
        from spake2.spake2 import SPAKEError

        _check_point(message)
        try:
            key = self._spake.finish(message)
        except (SPAKEError, NotOnCurve, ValueError, AssertionError) as error:
            raise RemoteProtocolError("the exchange message is no point of the group") from error

        def proof(who: bytes) -> bytes:
            derived = HKDF(SHA256(), 32, salt=th, info=PROTOCOL + b" confirm " + who).derive(key)
            return hmac.digest(derived, th, "sha256")

        return proof(b"client"), proof(b"server")
