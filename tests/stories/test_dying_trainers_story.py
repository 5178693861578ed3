"""Row of the fault table (docs/failures.md): a trainer runs out of memory. The system kills it, as kill -9 does.

One task kills every trainer that begins it, wherever that is; the others are trained.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from breakpoints import shim
from running import Program, assert_same_weights, each_model, fake_client, flags, free_port, port_of
from small_workspace import SmallWorkspace

from lanfit.core.seeds import derive_seed

pytestmark = pytest.mark.story
JOB = {"model": "classes.h5", "epochs": 2, "batch_size": 2, "seed": 7}
LAST_LINE = "could not allocate 12884901888 bytes for dense/kernel"
#: Lets a trainer say something and die when it begins the task with a certain seed, and counts that.
SHIM = f"""
import os, signal, sys

if "lanfit.training.trainer" in sys.orig_argv:
    import lanfit.training.loop as loop
    fit = loop.fit

    def begin(backend, job, *rest):
        if str(job.seed) == os.environ["LANFIT_TEST_DOOMED"]:
            with open(os.environ["LANFIT_TEST_DEATHS"], "a") as file:
                file.write("died\\n")
            print("{LAST_LINE}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return fit(backend, job, *rest)

    loop.fit = begin
"""


def worker(folder: Path, port: int, name: str, **options: object) -> Program:
    return fake_client(folder, port, name, **options)


def test_a_task_that_kills_its_trainers_is_tried_elsewhere_and_given_up_and_the_others_count(
    small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    place, deaths = small_workspace, tmp_path / "deaths"
    with (
        place.server(*flags(free_port(), 2, **JOB), "--threads", 1) as baseline,
        worker(tmp_path / "calm-1", port_of(baseline), "lab-1") as one,
        worker(tmp_path / "calm-2", port_of(baseline), "lab-2") as other,
    ):
        for program in (baseline, one, other):
            program.finish()
    [peace] = place.runs

    environment = {
        **shim(tmp_path / "shim", SHIM),
        "LANFIT_TEST_DOOMED": str(derive_seed(7, "fit", 0)),
        "LANFIT_TEST_DEATHS": str(deaths),
    }
    with (
        place.server(*flags(free_port(), 2, **JOB), "--threads", 1) as server,
        worker(tmp_path / "lab-1", port_of(server), "lab-1", environment=environment) as first,
        worker(tmp_path / "lab-2", port_of(server), "lab-2", environment=environment) as second,
    ):
        server.expect(r"lab-1 could not train shard-1: the trainer was killed by signal 9 — it is tried again\.")
        server.expect("lab-2 takes over the shard of lab-1")
        server.expect(r"lab-2 could not train shard-1: the trainer was killed by signal 9 — it is tried again\.")
        server.expect(r"could not train shard-1: the trainer was killed by signal 9 — it is given up\.")
        server.finish(4)
        first.finish(4)
        second.finish(4)
    assert deaths.read_text().count("died") == 3
    assert server.output.count("could not train") == 3
    assert "Traceback" not in server.output + first.output + second.output

    # Why, for who looks at the summary, at what the server printed, or into the logs.
    run, summary = place.runs[-1], place.summary()
    assert summary["status"] == "partial"
    failures = next(each for each in summary["clients"] if each["name"] == "lab-1")["errors"]
    assert Counter(error.partition(":")[0] for error in failures) == {"lab-1": 2, "lab-2": 1}
    assert all("the trainer was killed by signal 9" in error for error in failures)
    assert summary["error"] == failures[-1]
    assert f"Why: {failures[-1]}" in server.stdout.decode()
    logs = [(place.root / "logs" / run / "clients" / name / "client.log").read_text() for name in ("lab-1", "lab-2")]
    assert [log.count(LAST_LINE) for log in logs] == [2, 1]

    # What could be trained is there, and is the best.
    [ours], [theirs] = ([path for path in each_model(place, name) if path.name == "lab-2.h5"] for name in (run, peace))
    assert_same_weights(ours, theirs)
    assert [path.name for path in each_model(place, run)] == ["lab-2.h5"]
    assert summary["final"]["client"] == "lab-2"
    assert (place.root / summary["final"]["model"]).is_file()
