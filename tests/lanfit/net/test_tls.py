import hashlib
import os
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from lanfit.errors import InputError
from lanfit.net.tls import (
    Identity,
    client_context,
    fingerprint_of,
    format_fingerprint,
    has_fingerprint,
    parse_fingerprint,
    server_context,
)


def test_an_identity_is_made_once_and_read_again(tmp_path: Path) -> None:
    first = Identity.load_or_create(tmp_path / "new" / "state")
    assert Identity.load_or_create(tmp_path / "new" / "state") == first
    assert Identity.load_or_create(tmp_path / "other").fingerprint != first.fingerprint
    assert (len(first.server_id), len(first.salt), len(first.fingerprint)) == (16, 16, 32)
    assert os.listdir(first.path.parent) == [first.path.name]


def test_the_file_holds_a_p256_key_and_its_own_certificate(tmp_path: Path) -> None:
    identity = Identity.load_or_create(tmp_path)
    pem = identity.path.read_bytes()
    key, certificate = load_pem_private_key(pem, None), x509.load_pem_x509_certificate(pem)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key.public_key() == certificate.public_key()
    certificate.verify_directly_issued_by(certificate)
    assert identity.fingerprint == hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    assert identity.fingerprint == fingerprint_of(certificate.public_bytes(Encoding.DER))


@pytest.mark.skipif(os.name != "posix", reason="rights as on POSIX")
def test_only_the_owner_may_read_the_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = Identity.load_or_create(tmp_path).path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not caplog.records  # from its first moment
    path.chmod(0o644)
    Identity.load_or_create(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "was readable by other users" in caplog.text


def test_the_key_is_not_shown(tmp_path: Path) -> None:
    identity = Identity.load_or_create(tmp_path)
    secret = identity.path.read_text().split("-----")[2].split()[0]
    assert secret not in repr(identity)


@pytest.mark.parametrize("damage", ["empty", "no server id", "no certificate", "binary", "cut"])
def test_a_damaged_identity_is_named_with_what_to_do(tmp_path: Path, damage: str) -> None:
    path = Identity.load_or_create(tmp_path).path
    text = path.read_text()
    path.write_bytes(
        {
            "empty": b"",
            "no server id": text.replace("server id", "id").encode(),
            "no certificate": text.partition("-----BEGIN CERT")[0].encode(),
            "binary": b"\xff\xfe\x00" * 100,
            "cut": text[:-60].encode(),
        }[damage]
    )
    with pytest.raises(InputError, match=r"identity\.pem") as error:
        Identity.load_or_create(tmp_path)
    assert error.value.hint


def test_a_key_that_does_not_fit_its_certificate_is_named(tmp_path: Path) -> None:
    one, other = (Identity.load_or_create(tmp_path / name) for name in ("one", "other"))
    marker = "-----BEGIN CERTIFICATE"
    mixed = one.path.read_text().partition(marker)[0] + "".join(other.path.read_text().partition(marker)[1:])
    one.path.write_text(mixed)
    with pytest.raises(InputError, match="does not match"):
        server_context(Identity.load_or_create(tmp_path / "one"))


def test_tls_is_1_3_only_and_resumes_nothing(tmp_path: Path) -> None:
    server = server_context(Identity.load_or_create(tmp_path))
    assert server.minimum_version is ssl.TLSVersion.TLSv1_3
    assert client_context().minimum_version is ssl.TLSVersion.TLSv1_3
    assert server.num_tickets == 0


def test_a_fingerprint_is_shown_by_its_first_80_bits_in_groups_of_one_word() -> None:
    assert format_fingerprint(bytes(range(32))) == "0001-0203-0405-0607-0809"


def test_fingerprints_are_read_as_people_type_them() -> None:
    fingerprint = bytes(range(160, 192))
    digits = fingerprint.hex()
    pairs = [digits[i : i + 2] for i in range(0, 64, 2)]
    shown = format_fingerprint(fingerprint)
    for typed in (
        digits,
        digits.upper(),
        ":".join(pairs),
        " ".join(pairs) + "\n",
        shown,
        shown.replace("-", " ").upper(),
    ):
        assert has_fingerprint(fingerprint, parse_fingerprint(typed))


@given(st.integers(20, 64), st.binary(min_size=32, max_size=32))
def test_every_beginning_of_20_digits_or_more_is_enough_and_one_other_digit_is_not(length: int, one: bytes) -> None:
    digits = parse_fingerprint(one.hex()[:length])
    assert has_fingerprint(one, digits)
    for place in range(length):
        other = "0" if digits[place] != "0" else "1"
        assert not has_fingerprint(one, digits[:place] + other + digits[place + 1 :])


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "it has 0 digits, but at least 20 are needed"),
        ("abc", "it has 3 digits"),
        ("0" * 19, "it has 19 digits"),
        ("0" * 65, "it has 65 digits, but a fingerprint has 64"),
        ("g" * 64, "'g' is not a hex digit"),
        ("3c59dc048e8850243be8079a5c74d079…", "'…' is not a hex digit"),
    ],
)
def test_what_is_no_fingerprint_is_wrong_input(typed: str, why: str) -> None:
    with pytest.raises(InputError, match="not a valid fingerprint") as wrong:
        parse_fingerprint(typed)
    assert why in wrong.value.message


def test_too_few_digits_are_of_no_server() -> None:
    assert not has_fingerprint(bytes(32), "0" * 19)
