"""What a peer names is checked when it is decoded: it is shown, and parts of paths are made of it."""

from __future__ import annotations

import msgspec
import pytest

from lanfit.wire.messages import Fetch
from lanfit.wire.tasks import CustomFile, Model

HASH = "0123456789abcdef" * 4
FETCH = {"type": "fetch", "stream": 1}


@pytest.mark.parametrize("block", [HASH + "\n", HASH[:-1], HASH.upper(), "../" + HASH, ""])
def test_a_block_id_is_64_hexadecimal_digits_and_nothing_else(block: str) -> None:
    assert msgspec.convert({**FETCH, "block": HASH}, Fetch).block == HASH
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**FETCH, "block": block}, Fetch)


@pytest.mark.parametrize("name", ["", "a/b.py", "..\\b.py", "b.py\n", "\x1b[2J.py", "b\x9b.py", "b" * 101])
def test_a_file_with_custom_objects_has_a_plain_name(name: str) -> None:
    assert msgspec.convert({"name": "my layers.py", "sha256": HASH}, CustomFile).name == "my layers.py"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": name, "sha256": HASH}, CustomFile)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "layers.py", "sha256": HASH + "\n"}, CustomFile)


@pytest.mark.parametrize("ending", ["", ".py", ".h5/../x", ".keras\n"])
def test_the_ending_of_a_model_file_is_one_of_two(ending: str) -> None:
    fields = {"architecture": "", "compile": "", "input_shape": [None], "output_shape": [None], "target": "values"}
    fields |= {"normalizer": "none", "target_normalizer": "none"}
    assert msgspec.convert({**fields, "ending": ".keras"}, Model).ending == ".keras"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**fields, "ending": ending}, Model)
