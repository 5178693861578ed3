from importlib import resources
from pathlib import Path

import pytest

from lanfit.core.passphrase import read_passphrase_file
from lanfit.errors import InputError
from lanfit_server.start.passphrase import WORDS, make_passphrase, too_easy

LAN = "0.0.0.0"


def test_a_made_passphrase_has_four_words_and_is_never_the_same() -> None:
    made = {make_passphrase() for _ in range(50)}
    assert len(made) == 50
    assert all(len(passphrase.split(" ")) == WORDS == 4 for passphrase in made)


def test_the_list_has_7776_different_words_and_names_its_source() -> None:
    text = resources.files("lanfit_server.start").joinpath("words.txt").read_text("ascii")
    words = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(words) == len(set(words)) == 6**5
    assert all(word.replace("-", "").isalpha() and word.islower() for word in words)
    assert "Electronic Frontier Foundation" in text
    assert "creativecommons.org/licenses/by/3.0/us" in text


def test_made_passphrases_are_never_too_easy() -> None:
    assert [too_easy(make_passphrase(), LAN) for _ in range(20)] == [None] * 20


@pytest.mark.parametrize(
    "passphrase", ["iloveyou", "letmein123", "qwertyuiop", "lanfit", "12.05.1988", "aaaaaaaaaa", "x"]
)
def test_an_easy_passphrase_is_refused_off_loopback_with_the_reason_and_not_repeated(passphrase: str) -> None:
    reason = too_easy(passphrase, LAN)
    assert reason
    assert len(passphrase) < 3 or passphrase not in reason
    assert too_easy(passphrase, "127.0.0.1") is None
    assert too_easy(passphrase, "localhost") is None


@pytest.mark.parametrize("host", [LAN, "127.0.0.1"])
def test_an_empty_passphrase_is_too_easy_everywhere(host: str) -> None:
    assert too_easy("", host) == too_easy("  ", host) == "it is empty"


def test_a_very_long_passphrase_is_rated_quickly() -> None:
    assert too_easy("correct horse battery staple " * 1000, LAN) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"four words of mine\n", "four words of mine"),
        (b"four words of mine\r\nsecond line\r\n", "four words of mine"),
        (b"no end of line", "no end of line"),
        ("Grüße\n".encode(), "Grüße"),
        (b"\xef\xbb\xbfwith a mark\n", "with a mark"),
        (b"  spaces count \n", "  spaces count "),
    ],
)
def test_the_first_line_of_a_file_is_the_passphrase(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(content)
    assert read_passphrase_file(path) == expected


@pytest.mark.parametrize("content", [None, b"", b"\nsecond line\n", b"   \n", b"secret \xff\xfe\n"])
def test_a_file_without_a_passphrase_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "passphrase"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"passphrase file .*passphrase") as error:
        read_passphrase_file(path)
    assert error.value.hint
    assert "secret" not in f"{error.value}{error.value.__cause__}"


def test_a_folder_is_no_passphrase_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        read_passphrase_file(tmp_path)
