"""The cryptography of the login: stretching the passphrase, the SPAKE2 exchange, and the proofs that come out of it.

Made of `hashlib`, `spake2` and `cryptography`; no cipher and no group arithmetic of our own. In which order things are
said is not decided here: see auth.py.
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


def stretch(passphrase: str, salt: bytes) -> bytes:
    """Return the 32 bytes that the exchange uses for a passphrase: scrypt over its NFC form; takes about 0.1 s."""
    secret = unicodedata.normalize("NFC", passphrase).encode()
    return hashlib.scrypt(secret, salt=salt, n=2**15, r=8, p=1, maxmem=64 * 1024 * 1024, dklen=32)


def transcript(client_hello: bytes, server_hello: bytes, fingerprint: bytes) -> bytes:
    """SHA-256 over the length-prefixed parts that both sides must have seen alike (security: what the proofs cover)."""
    digest = hashlib.sha256()
    for part in (PROTOCOL, client_hello, server_hello, fingerprint):
        digest.update(struct.pack("!I", len(part)) + part)
    return digest.digest()


class Exchange:
    """The SPAKE2 exchange of one side and the two proofs that come out of it."""

    def __init__(
        self, is_client: bool, password: bytes, client_id: bytes, server_id: bytes, fingerprint: bytes
    ) -> None:
        # Imported late: computing its constants takes a tenth of a second, which `lanfit --help` need not wait for.
        from spake2 import SPAKE2_A, SPAKE2_B

        side = SPAKE2_A if is_client else SPAKE2_B
        self._spake = side(password, idA=b"client" + client_id, idB=b"server" + server_id + fingerprint)
        self.message: bytes = self._spake.start()

    def proofs(self, message: bytes, th: bytes) -> tuple[bytes, bytes]:
        """Return the client's and the server's proof, from the peer's message and the transcript's hash."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
        from spake2.ed25519_basic import NotOnCurve
        from spake2.spake2 import SPAKEError

        try:
            key = self._spake.finish(message)
        except (SPAKEError, NotOnCurve, ValueError, AssertionError) as error:
            raise RemoteProtocolError("the exchange message is no point of the group") from error

        def proof(who: bytes) -> bytes:
            derived = HKDF(SHA256(), 32, salt=th, info=PROTOCOL + b" confirm " + who).derive(key)
            return hmac.digest(derived, th, "sha256")

        return proof(b"client"), proof(b"server")
