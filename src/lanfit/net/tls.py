"""TLS 1.3 and a server's identity: its key, its certificate, its id and its salt.

The certificate is self-signed: the login (wire/auth.py), which covers the certificate's fingerprint, proves it to a
client.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import re
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from lanfit.core.durable import atomic_write
from lanfit.core.text import pluralize
from lanfit.errors import lanfit_error
from lanfit.wire.auth import ID_BYTES

ALPN = "lanfit/1"
IDENTITY_FILE = "identity.pem"
#: The hex digits of a fingerprint that are shown and required: 80 bits. Posing as a given server requires a
#: certificate with the same digits (a second preimage); a collision between two certificates of an attacker is of no
#: use.
LEAST_DIGITS = 20
ALL_DIGITS = 64

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """The identity of a server. The key is only in the file."""

    server_id: bytes
    salt: bytes
    fingerprint: bytes
    """SHA-256 of the certificate's DER."""
    path: Path
    """The PEM file with key and certificate."""

    @classmethod
    def load_or_create(cls, state_dir: Path) -> Identity:
        """Read the identity from a state folder; create it first if there is none.

        Raises:
            InputError: the file exists but is not an identity, or it can't be written.
        """
        path = state_dir / IDENTITY_FILE
        try:
            if not path.exists():
                atomic_write(path, new_key() + new_ids(), mode=0o600)
        except OSError as error:
            raise lanfit_error("identity.unusable", file=path, reason=error) from error
        return cls.read(path, path)

    @classmethod
    def read(cls, path: Path, ids: Path) -> Identity:
        """Read the identity: the key and certificate from one file, the ids from another or the same.

        Raises:
            InputError: one can't be read, or is damaged.
        """
        try:
            fingerprint = _certificate_fingerprint(_text(path))
        except ValueError as error:
            raise lanfit_error("identity.damaged", file=path, reason=error) from error
        try:
            text = _text(ids)
            return cls(_field(text, "server id"), _field(text, "salt"), fingerprint, path)
        except ValueError as error:
            if ids == path:
                raise lanfit_error("identity.damaged", file=path, reason=error) from error
            raise lanfit_error("identity.damaged-ids", file=ids, reason=error) from error


def server_context(identity: Identity) -> ssl.SSLContext:
    """Return the TLS context of a server: only 1.3, no tickets, ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nothing is resumed: every connection logs in
    context.set_alpn_protocols([ALPN])
    try:
        context.load_cert_chain(identity.path)
    except ssl.SSLError as error:
        raise lanfit_error("identity.other-key", file=identity.path, reason=error.reason) from error
    return context


def client_context() -> ssl.SSLContext:
    """Return the TLS context of a client: only 1.3, ALPN, no certificate authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    # Right here, wrong elsewhere: there is no certificate authority for machines in a LAN. The login that follows
    # fails unless both ends saw the same certificate, so a man in the middle is detected without one.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def fingerprint_of(der: bytes) -> bytes:
    """Return the fingerprint of a certificate: SHA-256 of its DER, 32 bytes."""
    return hashlib.sha256(der).digest()


def format_fingerprint(fingerprint: bytes) -> str:
    """Return a fingerprint as it is shown and typed: its first 20 digits, in groups."""
    return grouped(fingerprint.hex()[:LEAST_DIGITS])


def grouped(digits: str) -> str:
    """Return digits in groups of four, separated by dashes so that shells treat them as one word."""
    return "-".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def parse_fingerprint(text: str) -> str:
    """Parse a fingerprint as users type it: its first 20 hex digits or more, in any case and grouping.

    Returns the digits, to be compared by `has_fingerprint`.

    Raises:
        InputError: it is invalid, or too short to distinguish a server from an impostor.
    """
    digits = re.sub(r"[\s:.\-]", "", text).lower()
    if wrong := re.search("[^0-9a-f]", digits):
        why = f"{wrong[0]!r} is not a hex digit"
    elif len(digits) < LEAST_DIGITS:
        why = f"it has {pluralize(len(digits), 'digit')}, but at least {LEAST_DIGITS} are needed"
    elif len(digits) > ALL_DIGITS:
        why = f"it has {len(digits)} digits, but a fingerprint has {ALL_DIGITS}"
    else:
        return digits
    raise lanfit_error("fingerprint.malformed", text=text.strip()[:80], why=why)


def has_fingerprint(fingerprint: bytes, digits: str) -> bool:
    """Return whether these digits belong to the server with this fingerprint."""
    return len(digits) >= LEAST_DIGITS and fingerprint.hex().startswith(digits)


def _keep_private(path: Path) -> None:
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        logger.warning("%s was readable by other users; its permissions are now 0600", path)
        path.chmod(0o600)


def _text(path: Path) -> str:
    try:
        text = path.read_text("ascii")
        _keep_private(path)
    except (OSError, UnicodeDecodeError) as error:
        raise lanfit_error("identity.unusable", file=path, reason=error) from error
    return text


def ids_text(server_id: bytes, salt: bytes) -> str:
    """Return the lines of a file with these ids."""
    return f"server id: {server_id.hex()}\nsalt: {salt.hex()}\n"


def new_ids() -> str:
    """Return the lines of a file with new ids."""
    return ids_text(os.urandom(ID_BYTES), os.urandom(ID_BYTES))


def new_key() -> str:
    """Return the text of a file with a new key and its certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lanfit")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # This certificate has no meaningful dates: a machine with a wrong clock must be able to join.
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    # Readers of PEM skip text in front of the blocks (RFC 7468, section 2).
    return (
        "The identity of a lanfit server. Keep it secret; without it, known clients must confirm a new fingerprint.\n"
        + pem.decode()
    )


def _field(text: str, name: str) -> bytes:
    found = re.search(rf"^{name}: ([0-9a-f]{{{2 * ID_BYTES}}})$", text, re.MULTILINE)
    if not found:
        raise ValueError(f"it has no line {name!r}")
    return bytes.fromhex(found[1])


def _certificate_fingerprint(text: str) -> bytes:
    found = re.search("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", text, re.DOTALL)
    if not found:
        raise ValueError("it has no certificate")
    return fingerprint_of(ssl.PEM_cert_to_DER_cert(found[0] + "\n"))
