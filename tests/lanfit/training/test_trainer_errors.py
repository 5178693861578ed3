"""What a user is told of exceptions that training ends with."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lanfit.errors import LanfitError, lanfit_error
from lanfit.training.trainer import explained


@pytest.mark.parametrize(
    ("failed", "code", "cause"),
    [
        (MemoryError(), "training.out-of-memory", "the trainer ran out of memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 32 bytes."), "training.out-of-memory", "memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "training.out-of-memory", "memory"),
        (ValueError("no such axis\n  in layer 3"), "training.failed", "ValueError: no such axis"),
        (OSError(28, "No space left on device", "result.block"), "system.refused", "No space left on device: result"),
        (lanfit_error("value.empty"), "value.empty", "the value is empty"),
    ],
)
def test_an_exception_is_reported_in_the_words_of_the_table(failed: Exception, code: str, cause: str) -> None:
    wrong = explained(failed)
    assert isinstance(wrong, LanfitError)
    assert wrong.code == code
    assert cause in wrong.message
    assert "\n" not in wrong.message


LIMITED = """
import threading
import numpy as np
from lanfit.training import trainer
from lanfit.training.commands import Build
from lanfit.wire.messages import Model

trainer.free_of_machine, trainer.LEAST_MEMORY = lambda: 1 << 28, 1 << 28
class Hungry:
    size = 1 << 32
    def use_custom(self, files): pass
    def check_model(self, model, keras): np.ones(self.size, np.uint8)

found = object.__new__(trainer.Trainer)
found._requests, found._limited, found._backend = trainer.Requests(), True, Hungry()
order = Build(1, Model("{}", "{}", (None, 1), (None, 1), "values", "none", "none"), "")
for _ in range(2):
    print(found._work(order).code)
found._backend.size = 1 << 20
print(found._work(order).number)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts all writable memory")
def test_an_order_that_takes_more_memory_than_there_is_fails_and_the_next_one_is_done() -> None:
    run = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["training.out-of-memory", "training.out-of-memory", "1"]
