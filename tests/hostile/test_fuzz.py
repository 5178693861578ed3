"""10,000 of the inputs of bench/fuzz.py, which gives a million: nothing but lanfit's own errors comes of them."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzzing.engine import Run, chance_of, try_inputs
from fuzzing.targets import TARGETS, make

INPUTS = 10_000
SEED = 14
#: Read by native code, which may take the process with it: these have one of their own here, too.
NATIVE = {"h5", "images", "keras", "xlsx"}
_WHOLE = sum(share for share, _ in TARGETS.values())


def inputs_of(name: str) -> int:
    return -(-INPUTS * TARGETS[name][0] // _WHOLE)


def test_all_parsers_together_get_ten_thousand_inputs() -> None:
    assert INPUTS <= sum(map(inputs_of, TARGETS)) <= INPUTS + len(TARGETS)


@pytest.fixture(autouse=True)
def _unlogged() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in NATIVE])
def test_a_parser_answers_what_is_almost_valid_with_an_error_of_lanfit_only(name: str, tmp_path: Path) -> None:
    target = make(name, tmp_path)
    for number, finding in try_inputs(name, target, SEED, range(inputs_of(name))):
        assert finding is None, f"bench/fuzz.py --only {name} --seed {SEED} --number {number}\n{finding.detail}"


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_a_native_reader_does_so_too_or_ends_only_its_own_process(name: str, tmp_path: Path) -> None:
    run = Run(make, SEED, tmp_path / "findings")
    run.batch(name, range(inputs_of(name)))
    assert run.tallies[name].inputs == inputs_of(name)
    assert not run.tallies[name].findings


@pytest.mark.parametrize("name", TARGETS)
def test_an_input_is_made_again_by_its_seed_and_number(name: str, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    one, again = make(name, tmp_path), make(name, tmp_path / "again")
    made = [one.input(chance_of(3, name, number)) for number in range(5)]
    assert [again.input(chance_of(3, name, number)) for number in range(5)] == made
    assert len(set(made)) > 1


class Broken:
    """A parser with every fault that a fuzzer should find."""

    fine = (KeyError,)

    def input(self, chance: random.Random) -> bytes:
        return b"%d" % chance.randrange(1000)

    def give(self, data: bytes) -> None:
        match int(data) % 10:
            case 0:
                raise KeyError("as it should")
            case 1:
                raise ZeroDivisionError
            case 2:
                os.abort()


def broken(name: str, folder: Path) -> Any:
    return Broken()


def test_errors_and_ends_of_the_process_are_found_kept_and_gone_on_after(tmp_path: Path) -> None:
    numbers, output = range(30), list[str]()
    inputs = {number: int(Broken().input(chance_of(1, "broken", number))) for number in numbers}
    wrong = [number for number, value in inputs.items() if value % 10 in (1, 2)]
    assert {inputs[number] % 10 for number in wrong} == {1, 2}
    run = Run(broken, 1, tmp_path, output.append)
    run.batch("broken", numbers)
    tally = run.tallies["broken"]
    assert tally.inputs == 30
    assert [finding.number for finding in tally.findings] == wrong
    kept = {path.name: int(path.read_bytes()) for path in tmp_path.iterdir()}
    assert kept.items() <= {f"broken-1-{number}": inputs[number] for number in wrong}.items()
    assert f"FOUND broken, seed 1, number {wrong[0]}" in output[0]
