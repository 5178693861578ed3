"""What is answered at a client's question for the server."""

import pytest

from lanfit.errors import InputError
from lanfit.net.addresses import Address
from lanfit_client.settings import FIELDS, JoinLine

SHOWN = "3c59-dc04-8e88-5024-3be8"
DIGITS = "3c59dc048e8850243be8"


@pytest.mark.parametrize(
    ("typed", "address", "fingerprint"),
    [
        ("10.99.0.1:8470", Address("10.99.0.1", 8470), None),
        ("lab", Address("lab"), None),
        (f"python client 10.99.0.1:8470 --fingerprint {SHOWN}", Address("10.99.0.1", 8470), DIGITS),
        (f"lanfit client [fd00::1]:8470 --fingerprint={SHOWN} ", Address("fd00::1", 8470), DIGITS),
        (rf".venv\Scripts\python.exe client lab --fingerprint {SHOWN}", Address("lab"), DIGITS),
        ("  python3 client lab:1  ", Address("lab", 1), None),
    ],
)
def test_it_is_an_address_or_the_line_that_the_server_shows(
    typed: str, address: Address, fingerprint: str | None
) -> None:
    assert JoinLine.read(typed) == JoinLine(address, fingerprint)


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("lanfit client 0.0.0.0:8470", "address.all"),
        ("lanfit client lab --fingerprint abc", "fingerprint.malformed"),
        ("lanfit client", "address.no-port"),
        ("lanfit server lab", "address.no-port"),
    ],
)
def test_a_line_that_is_none_is_refused(typed: str, code: str) -> None:
    with pytest.raises(InputError) as wrong:
        JoinLine.read(typed)
    assert wrong.value.code == code


def test_a_settings_file_may_name_the_port_with_the_address() -> None:
    assert FIELDS["host"].read("192.168.1.20:8471", "host") == "192.168.1.20:8471"
    assert FIELDS["host"].read(" [fd00::1]:8471", "host") == "[fd00::1]:8471"
