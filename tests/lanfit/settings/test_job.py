from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanfit.errors import InputError
from lanfit.settings.fields import read_file, read_toml
from lanfit.settings.job import FIELDS, Job, default_of, make_job, to_toml

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("port", "8471", 8471),
        ("clients", "3", 3),
        ("normalizer", "2", "minmax"),
        ("normalizer", "ZScore", "zscore"),
        ("method", "2", "fit"),
        ("data", "files", "files"),
        ("order", "xx", "XX"),
        ("metrics", "accuracy, mae", ("accuracy", "mae")),
        ("learning_rate", "1e-3", 0.001),
        ("test_split", "0", 0.0),
        ("collect", "n", False),
        ("collect", "Yes", True),
        ("seed", "0", 0),
    ],
)
def test_numbers_and_words_are_both_answers(key: str, text: str, value: object) -> None:
    assert FIELDS[key].read(text, key) == value


@pytest.mark.parametrize(
    ("key", "text", "cause"),
    [
        ("port", "-1", "from 0 to 65535"),
        ("port", "65536", "from 0 to 65535"),
        ("clients", "two", "'two' is not a whole number"),
        ("epochs", "1.5", "'1.5' is not a whole number"),
        ("batch_size", "", "whole number"),
        ("test_split", "1", "less than 1"),
        ("validation_split", "-0.1", "at least 0"),
        ("validation_split", "nan", "fraction"),
        ("learning_rate", "inf", "above 0"),
        ("learning_rate", "0", "above 0"),
        ("normalizer", "minmix", "did you mean 'minmax'"),
        ("normalizer", "7", "0 none, 1 scale, 2 minmax, 3 zscore"),
        ("method", "fitt", "2 fit"),
        ("model", "  ", "empty"),
        ("metrics", " , ", "empty"),
        ("collect", "perhaps", "neither"),
    ],
)
def test_a_wrong_value_says_where_it_stood_and_what_is_wanted(key: str, text: str, cause: str) -> None:
    with pytest.raises(InputError) as wrong:
        FIELDS[key].read(text, "in the test")
    assert wrong.value.message.startswith("in the test: ")
    assert cause in wrong.value.message
    assert wrong.value.hint


def test_every_field_of_a_job_is_in_the_table_and_only_those() -> None:
    assert set(FIELDS) == set(Job.__struct_fields__)


def test_the_questions_come_in_the_contracts_order() -> None:
    assert [key for key, field in FIELDS.items() if field.question] == [
        "host", "port", "collect", "model", "clients", "epochs", "batch_size", "optimizer", "loss", "data",
        "dataset", "samples", "normalizer", "method", "order",
    ]  # fmt: skip


def test_the_defaults_are_the_contracts() -> None:
    expected = {
        "host": "0.0.0.0", "port": 8470, "clients": 2, "epochs": 5, "batch_size": 32, "data": "files",
        "normalizer": "none", "method": "fit", "order": "XY", "validation_split": 0.1, "test_split": 0.2, "seed": 0,
    }  # fmt: skip
    assert {key: default_of(key) for key in expected} == expected


jobs = st.builds(
    Job,
    model=st.text(min_size=1)
    .map(lambda text: f"model/{text.strip()}.h5")
    .filter(lambda text: "," not in text and text.isprintable()),
    clients=st.integers(1, 99),
    learning_rate=st.none() | st.floats(1e-9, 10),
    metrics=st.none() | st.just(("accuracy", "mae")),
    test_split=st.floats(0, 0.99),
    order=st.sampled_from(["XY", "XX"]),
    seed=st.integers(0, 2**32 - 1),
    threads=st.none() | st.integers(1, 64),
)


@given(jobs)
def test_a_written_job_reads_back_as_the_same_job(job: Job) -> None:
    assert make_job(read_toml(to_toml(job), "job", FIELDS)) == job


def errors_of(text: str) -> str:
    """What is wrong with a job file; empty when nothing is."""
    try:
        read_toml(text, "job file", FIELDS)
    except InputError as error:
        return error.message
    return ""


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_whatever_a_job_file_holds_it_is_a_job_or_an_input_error(text: str) -> None:
    errors = errors_of(text)
    assert not errors or "job file" in errors


any_value = st.integers() | st.floats() | st.booleans() | st.text(max_size=9)


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), any_value))
def test_values_of_any_type_are_read_or_named(values: dict[str, object]) -> None:
    import tomli_w

    errors = errors_of(tomli_w.dumps(values))
    assert not errors or any(key in errors for key in values)


def test_unknown_keys_wrong_values_and_tables_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text("epochz = 3\nbatch_size = 0\n[order]\nx = 1\n")
    with pytest.raises(InputError) as wrong:
        read_file(path, "job file", FIELDS)
    for cause in ("3 errors", str(path), "did you mean 'epochs'", "batch_size: 0 is not", "order is a table"):
        assert cause in wrong.value.message


@pytest.mark.parametrize(
    ("content", "cause"), [(b"\xff\xff", "UTF-8"), (b"a = ", "not valid TOML"), (None, "there is no")]
)
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes | None, cause: str) -> None:
    path = tmp_path / "job.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=cause):
        read_file(path, "job file", FIELDS)


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"dataset": "mnist"}, "--dataset mnist is for Keras datasets, but this job uses --data files"),
        ({"data": "client", "dataset_args": "num_words=9"}, "--dataset-args num_words=9 is for Keras datasets"),
        ({"data": "client", "samples": 5}, r"the server can.t limit the number of rows \(--samples 5\)"),
    ],
)
def test_what_is_reported_about_the_data_fits_together(values: dict[str, object], cause: str) -> None:
    with pytest.raises(InputError, match=cause) as wrong:
        make_job(values)  # type: ignore[arg-type]
    assert wrong.value.hint


def test_a_job_on_a_set_of_keras_names_it() -> None:
    with pytest.raises(InputError) as wrong:
        make_job({"data": "keras"})
    assert wrong.value.code == "job.no-dataset"


def test_a_sign_in_numbers_has_one_meaning() -> None:
    with pytest.raises(InputError) as wrong:
        make_job({"decimal": "comma", "thousands": "comma"})
    assert wrong.value.code == "job.same-signs"
    assert make_job({"decimal": "comma", "thousands": "point"}).thousands == "point"


def test_a_job_of_clients_data_may_say_that_all_rows_are_used() -> None:
    assert make_job({"data": "client", "samples": 0}).samples == 0
    assert make_job({"data": "files", "samples": 5}).samples == 5


def test_the_settings_files_hold_every_setting_at_its_default() -> None:
    from lanfit_client import settings
    from lanfit_server.start import prompts

    for name, text, fields in (
        ("server/server.toml", prompts.settings_file(), prompts.SETTINGS),
        ("client/client.toml", settings.settings_file(), settings.SETTINGS),
    ):
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name} is stale"
        assert tomllib.loads(text) == {}, "a line is set"
        uncommented = "\n".join(line.removeprefix("#") for line in text.splitlines() if not line.startswith("# "))
        assert set(read_toml(uncommented, name, fields)) == set(fields)
