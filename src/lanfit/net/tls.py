"""TLS 1.3 and a server's identity: its key, its certificate, its id and its salt.

The certificate is signed by nobody: what proves it to a client is the login (wire/auth.py), which covers the
certificate's fingerprint.
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

from lanfit.durable import write_whole
from lanfit.mistakes import mistake
from lanfit.text import pluralize
from lanfit.wire.auth import ID_BYTES

ALPN = "lanfit/1"
IDENTITY_FILE = "identity.pem"
#: Hex digits of a fingerprint that are shown, and needed: 80 bits. Who wants to look like a given server has to find a
#: certificate with the same ones (a second preimage); that two of his own are alike is of no use to him.
LEAST_DIGITS = 20
ALL_DIGITS = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Who a server is. The key is only in the file."""

    server_id: bytes
    salt: bytes
    fingerprint: bytes
    """SHA-256 of the certificate's DER."""
    path: Path
    """The PEM file with key and certificate."""

    @classmethod
    def load_or_create(cls, state_dir: Path) -> Identity:
        """Read the identity from a state folder; make it first if there is none.

        Raises:
            InputError: the file is there but no identity, or it can't be written.
        """
        path = state_dir / IDENTITY_FILE
        try:
            if not path.exists():
                write_whole(path, new_key() + new_ids(), mode=0o600)
        except OSError as error:
            raise mistake("identity.unusable", file=path, reason=error) from error
        return cls.read(path, path)

    @classmethod
    def read(cls, path: Path, ids: Path) -> Identity:
        """Read the identity with the key and certificate in one file and the ids in another, or in the same.

        Raises:
            InputError: one can't be read, or is damaged.
        """
        try:
            fingerprint = _certificate_fingerprint(_text(path))
        except ValueError as error:
            raise mistake("identity.damaged", file=path, reason=error) from error
        try:
            text = _text(ids)
            return cls(_field(text, "server id"), _field(text, "salt"), fingerprint, path)
        except ValueError as error:
            if ids == path:
                raise mistake("identity.damaged", file=path, reason=error) from error
            raise mistake("identity.damaged-ids", file=ids, reason=error) from error


def server_context(identity: Identity) -> ssl.SSLContext:
    """TLS of a server: 1.3 only, no tickets, ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nothing is resumed: every connection logs in
    context.set_alpn_protocols([ALPN])
    try:
        context.load_cert_chain(identity.path)
    except ssl.SSLError as error:
        raise mistake("identity.other-key", file=identity.path, reason=error.reason) from error
    return context


def client_context() -> ssl.SSLContext:
    """TLS of a client: 1.3 only, ALPN, no certificate authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    # Right here, wrong elsewhere: nobody signs the certificate of a machine in a LAN. The login that follows fails
    # unless both ends saw the same certificate, so who stands in the middle is found out without an authority.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def fingerprint_of(der: bytes) -> bytes:
    """The fingerprint of a certificate: SHA-256 of its DER, 32 bytes."""
    return hashlib.sha256(der).digest()


def format_fingerprint(fingerprint: bytes) -> str:
    """A fingerprint as people see and type it: its first 20 digits, in groups."""
    return grouped(fingerprint.hex()[:LEAST_DIGITS])


def grouped(digits: str) -> str:
    """Digits in groups of four; with dashes, so that it is one word in every shell."""
    return "-".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def parse_fingerprint(text: str) -> str:
    """Read a fingerprint as people type it: its first 20 hex digits or more of them, in any case and any groups.

    Returns the digits, to be compared by `has_fingerprint`.

    Raises:
        InputError: it is none, or too short to tell one server from another that somebody made to look like it.
    """
    digits = re.sub(r"[\s:.\-]", "", text).lower()
    if wrong := re.search("[^0-9a-f]", digits):
        why = f"{wrong[0]!r} is no hex digit"
    elif len(digits) < LEAST_DIGITS:
        why = f"it has {pluralize(len(digits), 'digit')}, and {LEAST_DIGITS} are needed"
    elif len(digits) > ALL_DIGITS:
        why = f"it has {len(digits)} digits, and there are {ALL_DIGITS}"
    else:
        return digits
    raise mistake("fingerprint.malformed", text=text.strip()[:80], why=why)


def has_fingerprint(fingerprint: bytes, digits: str) -> bool:
    """Whether a server with this fingerprint is the one that these digits are of."""
    return len(digits) >= LEAST_DIGITS and fingerprint.hex().startswith(digits)


def _keep_private(path: Path) -> None:
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        log.warning("%s could be read by others; its rights are now 0600", path)
        path.chmod(0o600)


def _text(path: Path) -> str:
    try:
        text = path.read_text("ascii")
        _keep_private(path)
    except (OSError, UnicodeDecodeError) as error:
        raise mistake("identity.unusable", file=path, reason=error) from error
    return text


def ids_text(server_id: bytes, salt: bytes) -> str:
    """The lines of a file with these ids."""
    return f"server id: {server_id.hex()}\nsalt: {salt.hex()}\n"


def new_ids() -> str:
    """The lines of a file with new ids."""
    return ids_text(os.urandom(ID_BYTES), os.urandom(ID_BYTES))


def new_key() -> str:
    """The text of a file with a new key and its certificate."""
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
        # No clock decides about this certificate: a machine whose date is wrong must be able to join.
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    # Readers of PEM skip text in front of the blocks (RFC 7468, section 2).
    return (
        "The identity of a lanfit server. Keep it secret; without it, clients that joined must be told to trust anew.\n"
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
