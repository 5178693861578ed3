"""The backends by name: which there are, which are installed, and why one can't be used. Imports none."""

from __future__ import annotations

import pytest

from lanfit import backends
from lanfit.backends import BackendEntry, check_backend, default_backend, installed_backends, make_backend, unusable
from lanfit.errors import InputError
from lanfit.settings.job import FIELDS, backend_name
from lanfit_client.settings import FIELDS as OF_CLIENTS

OURS = ("tensorflow", "jax", "torch")


def test_one_more_entry_is_all_that_one_more_backend_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs, settings and errors know it, and a trainer makes it; without its entry nobody does."""
    entry = BackendEntry("numbers", "fractions:Fraction")
    for field in (FIELDS["backend"], OF_CLIENTS["backend"]):
        with pytest.raises(InputError, match="numbers"):
            field.parse("numbers")
    with backends.register(entry):
        assert backends.names() == (*OURS, "numbers")
        assert backends.listed() == "tensorflow, jax, torch or numbers"
        assert check_backend("numbers") is entry
        assert FIELDS["backend"].parse("numbers") == OF_CLIENTS["backend"].parse("Numbers") == "numbers"
        with pytest.raises(InputError) as error:
            check_backend("theano")
        assert "tensorflow, jax, torch, numbers" in error.value.hint
        with pytest.raises(ValueError, match="numbers"), backends.register(entry):
            pass
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert default_backend() == "numbers"
    assert backends.names() == OURS
    with pytest.raises(InputError):
        backend_name("numbers")
    assert str(make_backend("1/3", entry.make)) == "1/3"


def test_a_backend_that_is_not_installed_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = {"keras", "jax"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in here else None)
    assert (installed_backends(), default_backend()) == (["jax"], "jax")
    check_backend("jax")
    with pytest.raises(InputError, match="the backend torch is not installed here") as error:
        check_backend("torch")
    assert 'python -m pip install -e ".[torch]", or use what is installed: --backend jax' in error.value.hint
    with pytest.raises(InputError, match="'theano' is not a backend") as error:
        check_backend("theano")
    assert error.value.code == "backend.unknown"
    assert "tensorflow, jax, torch" in error.value.hint
    here.remove("keras")
    assert (installed_backends(), default_backend()) == ([], "tensorflow")
    with pytest.raises(InputError, match="the backend tensorflow is not installed here") as error:
        check_backend("tensorflow")
    assert error.value.hint.endswith('pip install -e ".[tensorflow]".')


@pytest.mark.parametrize("exit_code", [-4, 0xC000001D, -1073741795])
def test_an_illegal_instruction_means_that_the_processor_is_too_old(exit_code: int) -> None:
    why = unusable("tensorflow", exit_code, ["some last line"])
    assert why is not None
    assert why.code == "backend.illegal-instruction"
    assert "tensorflow can't run on this machine" in why.message
    assert "AVX" in why.message
    assert "--backend jax" in why.hint


def test_the_end_of_a_process_shows_that_its_backend_is_unusable() -> None:
    lines = [
        "Traceback (most recent call last):",
        "ImportError: DLL load failed while importing _pywrap: not found",
        "",
    ]
    why = unusable("tensorflow", 1, lines)
    assert why is not None
    assert why.code == "backend.no-dll"
    assert "DLL load failed while importing _pywrap" in why.message
    for exit_code in (1, -9, -11, None):
        assert unusable("tensorflow", exit_code, ["Killed"]) is None
