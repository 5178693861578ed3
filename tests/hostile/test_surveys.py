"""A client that knows the passphrase and lies about the rows that it has itself: refused by name, or without effect.

No lie makes the server warn of its own arithmetic, and none makes constants that are no numbers for the others.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn
from peer import AttackedCluster, run_script

from lanfit.data.labels import Target
from lanfit.data.normalize import NORMALIZERS, OF_TARGETS, Moments
from lanfit.data.text_labels import LABELS, MAX_LABELS, MAX_LENGTH
from lanfit.errors import InputError, RemoteProtocolError
from lanfit.wire.arrays import AnyArray, ArraySpec, BlockSpec, block_of, buffers
from lanfit.wire.messages import ClientData, Fetch, Model, Surveyed
from lanfit_server.clusters.events import SurveyDone, SurveyFailed
from lanfit_server.data.survey import ClientSurvey, check_survey, unite

OWN = ClientData(8, 0.2, 0.1, 0, 0, None)
ROWS = np.arange(12.0).reshape(4, 3)
NAN, INF = float("nan"), float("inf")


def model(normalizer: str = "zscore", target: Target = Target.CLASSES) -> Model:
    return Model("{}", "{}", (None, 3), (None, 4), target, normalizer, "none")


HONEST = Moments.of(ROWS).to_arrays()


def reported(arrays: Mapping[str, AnyArray], **counts: int) -> tuple[Surveyed, Mapping[str, AnyArray]]:
    """A survey of these arrays, of four rows unless it says otherwise."""
    output: dict[str, int] = {"train": 4, "validation": 0, "test": 1, "values": 4, "target_values": 0, **counts}
    return Surveyed(block=block_of(arrays), notes=(), **output), arrays


def of_arrays(**arrays: Any) -> tuple[Surveyed, Mapping[str, AnyArray]]:
    return reported({**HONEST, **{name: np.asarray(array, np.float64) for name, array in arrays.items()}})


def of_labels(content: bytes) -> tuple[Surveyed, Mapping[str, AnyArray]]:
    return reported({**HONEST, LABELS: np.frombuffer(content, np.uint8)})


def of_words(*words: str) -> tuple[Surveyed, Mapping[str, AnyArray]]:
    return of_labels(json.dumps(words).encode())


def taken(surveyed: Surveyed, arrays: Mapping[str, AnyArray], of: Model) -> None:
    """What the server does with a survey of lab-2, beside an honest one of lab-1."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_survey(surveyed)
        honest = ClientSurvey.of("lab-1", of, *reported(HONEST))
        data, _ = unite([honest, ClientSurvey.of("lab-2", of, surveyed, arrays)], of, OWN)
        assert np.isfinite(data.normalizers.x.subtract).all()
        assert np.isfinite(data.normalizers.x.multiply).all()
        with np.errstate(over="ignore"):  # what is too large for a float32 is so on the client that has it
            data.normalizers.x.apply(ROWS)


HUGE = [1e300, 1e300, 1e300]
LIES: dict[str, tuple[tuple[Surveyed, Mapping[str, AnyArray]], str]] = {
    "a mean that is no number": (of_arrays(mean=[1, NAN, 3]), "survey.no-numbers"),
    "an endless largest value": (of_arrays(maximum=[1, INF, 3]), "survey.no-numbers"),
    "a spread below nothing": (of_arrays(m2=[1, -1, 1]), "survey.impossible-statistics"),
    "a spread larger than that of the extremes": (of_arrays(m2=HUGE), "survey.impossible-statistics"),
    "a smallest value above the largest": (of_arrays(minimum=[100, 0, 0]), "survey.impossible-statistics"),
    "a mean above the largest value": (of_arrays(mean=[1e9, 5, 6]), "survey.impossible-statistics"),
    "a mean below the smallest value": (of_arrays(mean=[-1e9, 5, 6]), "survey.impossible-statistics"),
    "a mean of 1e300": (of_arrays(mean=HUGE), "survey.impossible-statistics"),
    "values of 1e300": (of_arrays(mean=HUGE, minimum=HUGE, maximum=HUGE, m2=[0, 0, 0]), "survey.too-large"),
    "values of -1e300": (of_arrays(minimum=[-1e300, 0, 0]), "survey.too-large"),
    "other columns": (reported(Moments.of(ROWS[:, :2]).to_arrays()), "survey.other-shape"),
    "one number for all columns": (reported(Moments.of(ROWS.reshape(2, 2, 3)).to_arrays()), "survey.other-shape"),
    "targets that are numbers": (
        reported({**HONEST, **Moments.of(ROWS).to_arrays(OF_TARGETS)}, target_values=4), "survey.other-targets",
    ),
    "labels that steer a terminal": (of_words("\x1b[2J", "a"), "survey.impossible-labels"),
    "labels of two lines": (of_words("a\nRun 7: done", "b"), "survey.impossible-labels"),
    "labels written from right to left": (of_words("a\u202eb", "c"), "survey.impossible-labels"),
    "a label without a letter": (of_words("", "a"), "survey.impossible-labels"),
    "labels that are not sorted": (of_words("b", "a"), "survey.impossible-labels"),
    "a label twice": (of_words("a", "a"), "survey.impossible-labels"),
    "no labels": (of_words(), "survey.impossible-labels"),
    "a label that is too long": (of_words("a" * (MAX_LENGTH + 1)), "survey.impossible-labels"),
    "too many labels": (of_words(*(f"{n:05}" for n in range(MAX_LABELS + 1))), "survey.impossible-labels"),
    "labels that are numbers": (of_labels(b"[1, 2]"), "survey.impossible-labels"),
    "labels that are half a text": (of_labels(b'["a'), "survey.impossible-labels"),
    "labels that are no UTF-8": (of_labels(b'["\xff\xfe"]'), "survey.impossible-labels"),
    "labels that are half a character": (of_labels(rb'["\ud800"]'), "survey.impossible-labels"),
    "100,000 lists in one another": (of_labels(b"[" * 100_000), "survey.impossible-labels"),
    "10,000 labels of 200 characters": (
        of_words(*(f"{n:05}".ljust(MAX_LENGTH, "x") for n in range(MAX_LABELS))), "survey.words-and-numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("lie", "code"), LIES.values(), ids=LIES)
def test_a_lie_is_refused_and_its_client_is_named(lie: tuple[Surveyed, Mapping[str, AnyArray]], code: str) -> None:
    with pytest.raises(InputError, match="lab-2") as wrong:
        taken(*lie, model())
    assert wrong.value.code == code
    assert len(wrong.value.message) < 500
    assert wrong.value.message.isprintable()


def test_a_client_with_a_value_of_1e300_is_named_with_the_value() -> None:
    """It need not be a lie: some programs write such numbers where values are missing."""
    rows = np.array([[1.0, 2.0, 1e300], [1.0, 2.0, 1e300]])
    with pytest.raises(InputError, match=r"lab-2 reported a value of magnitude 1\.0e\+300") as wrong:
        taken(*reported(Moments.of(rows).to_arrays()), model())
    assert wrong.value.code == "survey.too-large"
    assert "dataset/" in wrong.value.hint


def test_of_10000_labels_that_the_model_has_no_outputs_for_a_few_are_named() -> None:
    lie = LIES["10,000 labels of 200 characters"][0]
    with pytest.raises(InputError, match=r"10,?000 different labels") as wrong:
        unite([ClientSurvey.of("lab-2", model(), *lie)], model(), OWN)
    assert len(wrong.value.message) < 5000


COUNTS = [{"train": -1}, {"train": 0}, {"validation": -1}, {"test": -(2**63)}, {"values": 0}, {"target_values": -1},
          {"train": 2**63 - 1}, {"values": 2**63 - 1}, {"target_values": 2**62}]  # fmt: skip


@pytest.mark.parametrize("counts", COUNTS, ids=map(str, COUNTS))
def test_numbers_of_rows_that_nobody_has_are_refused_before_anything_is_fetched(counts: dict[str, int]) -> None:
    with pytest.raises(RemoteProtocolError, match="impossible numbers"):
        check_survey(reported(HONEST, **counts)[0])


#: Any bits that a float64 can have, and what is near the limits.
NUMBERS = st.floats(width=64) | st.sampled_from([0.0, -0.0, 5e-324, 1e-320, 1e139, 1e140, 1.1e140, -1e154, 1.7e308])
THREE = hn.arrays(np.float64, 3, elements=NUMBERS)


@given(
    mean=THREE, m2=THREE, ends=st.tuples(THREE, THREE), values=st.integers(1, 2**50), name=st.sampled_from(NORMALIZERS),
    honest=st.booleans(),
)  # fmt: skip
def test_whatever_numbers_are_reported_the_constants_are_numbers_or_the_client_is_named(
    mean: AnyArray, m2: AnyArray, ends: tuple[AnyArray, AnyArray], values: int, name: str, honest: bool
) -> None:
    low, high = (np.minimum(*ends), np.maximum(*ends)) if honest else ends
    with np.errstate(all="ignore"):
        mean = np.clip(mean, low, high) if honest else mean
        m2 = np.minimum(np.abs(m2), np.square(high - low) * values) if honest else m2
    arrays = {"mean": mean, "m2": m2, "minimum": low, "maximum": high}
    with contextlib.suppress(InputError):
        taken(*reported(arrays, values=values, train=values), model(name))


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[AttackedCluster]:
    made = AttackedCluster(tmp_path)
    yield made
    made.close()


def test_a_survey_of_terabytes_is_not_fetched_and_an_honest_one_beside_it_is(attacked: AttackedCluster) -> None:
    table = tuple(ArraySpec(name, "float64", (2**40,)) for name in Moments.ARRAYS)
    lies = [
        Surveyed(4, 0, 1, 4, 0, BlockSpec("0" * 64, table), ()),
        Surveyed(4, 0, 1, 4, 0, BlockSpec("0" * 64, (ArraySpec("x_train", "float32", (4, 3)),)), ()),
        msgspec.structs.replace(reported(HONEST)[0], train=-4, notes=("\x1b[2J",)),
    ]

    async def script() -> None:
        async with attacked.client("lab-1") as evil, attacked.client("lab-2") as honest:
            for lie in lies:
                await evil.send(lie)
                while not isinstance(failed := await attacked.cluster.events.get(), SurveyFailed):
                    pass
                assert (failed.client, failed.error.code) == ("lab-1", "survey.malformed")
            surveyed, arrays = reported(HONEST)
            await honest.send(surveyed)
            while not isinstance(fetch := await honest.receive(), Fetch):
                pass
            await honest.send_block(fetch, buffers(arrays))
            while not isinstance(done := await attacked.cluster.events.get(), SurveyDone):
                pass
            assert done.client == "lab-2"
            assert not evil.closed.is_set()

    run_script(script())
