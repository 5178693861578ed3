"""A method made by the steps of docs/architecture.md: two entries, and everything that depends on a method follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest
from fakes.fake_cluster import run_script
from fakes.places import Place, place_of  # noqa: F401

from lanfit.errors import InputError
from lanfit.settings import methods
from lanfit.settings.job import FIELDS, Job, make_job
from lanfit.wire.messages import FitTask
from lanfit_server.methods import registry
from lanfit_server.methods.base import Task
from lanfit_server.store.summary import Summary
from lanfit_server.ui.dashboard.form import shown_if


class Short(registry.Fit):
    """As `fit`, but every client trains a single epoch."""

    settings = replace(methods.FIT, name="short", keys=frozenset({"folds"}), keeps="last", place="nowhere")

    def fit_task(self, fit: FitTask, job: Job, task: Task, rows: Sequence[int]) -> FitTask:
        return msgspec.structs.replace(super().fit_task(fit, job, task, rows), epochs=1)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(methods.METHODS, "short", Short.settings)
    monkeypatch.setitem(registry.METHODS, "short", Short())


def test_a_job_names_it_by_its_name_and_by_the_next_number() -> None:
    assert FIELDS["method"].parse("short") == FIELDS["method"].parse("4") == "short"


def test_its_settings_are_checked_and_shown_by_its_entry() -> None:
    assert make_job({"method": "short"}).keeps_best is False
    assert shown_if("folds") == {"method": ["kfold", "short"]}
    for values, code in (
        ({"merge": ("average",)}, "job.merge-without-fit"),
        ({"changes": ("shard-1:epochs=2",)}, "job.changes-of-method"),
    ):
        with pytest.raises(InputError) as refused:
            make_job({"method": "short", **values})
        assert refused.value.code == code


def test_it_trains_as_its_entry_says(place: Place) -> None:
    async def script() -> Summary:
        async with place.simulation() as session:
            return await (await session.submit(place.request(method="short", epochs=3))).ended()

    summary = run_script(script())
    assert (summary.method, summary.status) == ("short", "done")
    assert [len(client.history["loss"]) for client in summary.clients] == [1, 1]


def test_both_tables_have_the_same_methods() -> None:
    assert methods.METHODS.keys() == registry.METHODS.keys()
    assert all(kind.settings is methods.METHODS[name] for name, kind in registry.METHODS.items())
