"""What a user is told of exceptions that training ends with."""

from __future__ import annotations

import pytest

from lanfit.errors import LanfitError
from lanfit.mistakes import mistake
from lanfit.training.trainer import explained


@pytest.mark.parametrize(
    ("failed", "code", "cause"),
    [
        (MemoryError(), "training.out-of-memory", "the trainer ran out of memory"),
        (ValueError("no such axis\n  in layer 3"), "training.failed", "ValueError: no such axis"),
        (OSError(28, "No space left on device", "result.block"), "system.refused", "No space left on device: result"),
        (mistake("value.empty"), "value.empty", "it is empty"),
    ],
)
def test_an_exception_is_told_in_the_words_of_the_table(failed: Exception, code: str, cause: str) -> None:
    wrong = explained(failed)
    assert isinstance(wrong, LanfitError)
    assert wrong.code == code
    assert cause in wrong.message
    assert "\n" not in wrong.message
