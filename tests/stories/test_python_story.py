"""`lanfit.Cluster` and `lanfit.attach` as a user has them: in scripts of their own, with real clients."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from breakpoints import Breakpoint
from fakes.pages import Browser
from running import PATIENCE, Program, free_port

#: What every script begins with: no main guard, a tiny model, rows of two classes.
HEAD = """
import json, os, sys
import numpy as np
import keras
import lanfit

random = np.random.default_rng(0)
x = random.normal(size=(64, 2)).astype("float32")
y = (x[:, 0] > 0).astype("int64")
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "softmax")], name="tiny")
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

def say(*what):
    print(*what, file=sys.stderr, flush=True)
"""
#: A test holds it before its second epoch, or lets it die.
FIT = """
class Tell(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        say("epoch", epoch)

with lanfit.Cluster(local=2, threads=1, workspace=".") as cluster:
    say("open")
    cluster.fit(model, x, y, batch_size=4, epochs=2, method="fit", callbacks=[Tell()], verbose=2)
"""


def script(folder: Path, text: str, **options: Any) -> Program:
    """A script that is run in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.py").write_text(HEAD + text, encoding="utf-8")
    return Program(command="python script.py", folder=folder, passphrase=None, **options)


def runs(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in (folder / "logs").glob("*/ledger.sqlite"))


def attached(folder: Path, run: str) -> dict[str, Any]:
    """What `lanfit.attach` gives of a run."""
    with script(
        folder,
        f"""
found = lanfit.attach({run!r}, workspace=".")
print("\\n" + json.dumps({{"status": found.status, "history": found.history.history, "final": str(found.final),
    "models": [m.name for m in found.models], "model": found.model.name}}))
""",
    ) as program:
        program.finish(seconds=2 * PATIENCE)
    return dict(json.loads(program.stdout.splitlines()[-1]))


@pytest.mark.story
def test_two_fits_in_a_script_without_a_main_guard(tmp_path: Path) -> None:
    """The second one from within a running event loop, as in a notebook, with callbacks."""
    with script(
        tmp_path,
        """
import asyncio, psutil, threading, warnings

def code_of(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except lanfit.errors.LanfitError as wrong:
        return wrong.code

class Hooks(keras.callbacks.Callback):
    called = []
    def on_train_begin(self, logs=None): self.called.append("begin")
    def on_epoch_begin(self, epoch, logs=None): self.called.append(f"{epoch} begins")
    def on_epoch_end(self, epoch, logs=None):
        self.called.append(f"{epoch} ends {sorted(logs)}")
        if epoch == 0:
            codes.append(code_of(cluster.fit, model, x, y, method="fit"))
    def on_train_end(self, logs=None): self.called.append("end")
    def on_train_batch_end(self, batch, logs=None): pass

codes = []
before = [w.copy() for w in model.get_weights()]
cluster = lanfit.Cluster(local=2, threads=1)
first = cluster.fit(model, x, y, 8, 2, validation_split=0.25, method="fit")
after = model.get_weights()
for wrong in (dict(), dict(y=y), dict(x=x, y=y, dataset="mnist"), dict(x=x, y=y, validation_data=x)):
    codes.append(code_of(cluster.fit, model, method="fit", **wrong))

async def in_a_loop():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = cluster.fit(model, x, y, 8, 3, 1, [Hooks()], validation_data=(x[:20], y[:20]), method="fit")
    return history, [str(each.message) for each in caught if "batch hooks" in str(each.message)]

second, warned = asyncio.run(in_a_loop())
wild = keras.models.clone_model(model)
wild.compile(keras.optimizers.SGD(1e38), "sparse_categorical_crossentropy")
hopeless = random.permutation(y)  # whatever the model begins with, some rows are wrong: the first step is infinite
codes.append(code_of(cluster.fit, wild, 1e4 * x, hopeless, method="fit", verbose=0))
processes = psutil.Process().children(recursive=True)
ledgers = {os.path.dirname(f.path) for p in processes for f in p.open_files() if "ledger.sqlite" in f.path}
cluster.close()
codes.append(code_of(cluster.fit, model, x, y, method="fit"))
best = [each for each in first.clients if each.name == first.summary.final.client][0]
collected = keras.models.load_model(os.path.join("lanfit", best.model))
print("\\n" + json.dumps({
    "is history": isinstance(first, keras.callbacks.History),
    "keys": sorted(first.history),
    "keras": sorted(model.fit(x, y, epochs=1, validation_split=0.25, verbose=0).history),
    "epochs": [first.epoch, second.epoch],
    "params": first.params["epochs"],
    "changed": any((a != b).any() for a, b in zip(before, after)),
    "as collected": all((a == b).all() for a, b in zip(after, collected.get_weights())),
    "models": [m.name for m in first.models],
    "clients": [[c.name for c in h.clients] for h in (first, second)],
    "runs": [first.run, second.run],
    "tests": [first.summary.data.test, second.summary.data.test],
    "called": Hooks.called, "warned": warned, "codes": codes, "ledgers": len(ledgers),
}))
""",
    ) as program:
        program.finish(seconds=2 * PATIENCE)
    *lines, last = program.stdout.decode().splitlines()
    reported = json.loads(last)
    assert reported["is history"]
    assert reported["ledgers"] <= 1, "of three runs those that are over must not keep files open"
    assert reported["keys"] == reported["keras"] == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert reported["epochs"] == [[0, 1], [0, 1, 2]]
    assert reported["params"] == 2
    assert reported["changed"]
    assert reported["as collected"]
    assert reported["models"] == ["tiny", "tiny"]
    assert reported["clients"] == [["local-1", "local-2"]] * 2, "the same clients, still connected"
    assert reported["tests"] == [0, 20]
    hooks = "['accuracy', 'loss', 'val_accuracy', 'val_loss']"
    each = [line for epoch in range(3) for line in (f"{epoch} begins", f"{epoch} ends {hooks}")]
    assert reported["called"] == ["begin", *each, "end"]
    assert len(reported["warned"]) == 1
    assert "Hooks" in reported["warned"][0]
    expected = ["fit.no-rows", "fit.no-rows", "fit.other-rows-too", "fit.validation-data"]
    assert reported["codes"] == [*expected, "cluster.busy", "fit.ended", "cluster.closed"]
    assert any("Models and logs are written to" in line for line in lines)
    assert any(line.startswith("Epoch 2/2 - loss: ") for line in lines)
    assert not any(sign in program.stdout for sign in (b"\r", b"\x1b")), "there are control characters in a log"
    assert {"local-1 joined" in line for line in lines} == {True, False}
    assert sum("local-1 joined" in line for line in lines) == 1, "its link stayed for the second fit"
    assert not any("was lost" in line or "ended with exit code" in line for line in lines)


@pytest.mark.story
def test_one_model_of_all_round_by_round_until_a_callback_stops_it(tmp_path: Path) -> None:
    with script(
        tmp_path,
        """
class Rounds(keras.callbacks.Callback):
    weights, logs = [], []
    def on_epoch_end(self, epoch, logs=None):
        self.weights.append([w.copy() for w in self.model.get_weights()])
        self.logs.append(logs)
        if epoch == 1:
            self.model.stop_training = True

held = x[:16], y[:16]
with lanfit.Cluster(local=2, threads=1, workspace=".") as cluster:
    history = cluster.fit(model, x, y, 8, validation_data=held, callbacks=[Rounds()], rounds=5, verbose=2)

def same(left, right):
    return all((a == b).all() for a, b in zip(left, right))

files = [keras.models.load_model(each.model) for each in history.summary.rounds]
loss = float(model.evaluate(*held, verbose=0, return_dict=True)["loss"])
print("\\n" + json.dumps({
    "epochs": history.epoch, "history": history.history, "logs": Rounds.logs, "status": history.summary.status,
    "each": [same(a, b.get_weights()) for a, b in zip(Rounds.weights, files)],
    "changed": not same(*Rounds.weights), "last": same(model.get_weights(), Rounds.weights[-1]), "loss": loss,
}))
""",
    ) as program:
        program.finish(seconds=2 * PATIENCE)
    *lines, last = program.stdout.decode().splitlines()
    reported = json.loads(last)
    assert reported["epochs"] == [0, 1]
    assert reported["status"] == "done"
    assert reported["each"] == [True, True], "on_epoch_end found the weights of its round"
    assert reported["changed"]
    assert reported["last"]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= reported["history"].keys()
    assert reported["logs"] == [{name: values[n] for name, values in reported["history"].items()} for n in (0, 1)]
    assert reported["history"]["val_loss"][-1] == pytest.approx(reported["loss"], abs=1e-5)
    assert any(line.startswith("Round 2/5 - ") for line in lines)


@pytest.mark.story
def test_simulated_clients_give_what_real_ones_do(tmp_path: Path) -> None:
    with script(
        tmp_path,
        """
start, given = model.get_weights(), []
for place in ({"local": 2}, {"simulated": 2, "pool": 1}):
    model.set_weights(start)
    with lanfit.Cluster(**place, threads=1, workspace=".") as cluster:
        history = cluster.fit(model, x, y, 8, validation_split=0.25, rounds=2, verbose=0)
    given.append([[w.tolist() for w in model.get_weights()], history.history])
print("\\n" + json.dumps(given))
""",
    ) as program:
        program.finish(seconds=2 * PATIENCE)
    assert program.stdout.count(b"\n") == 2, "verbose=0 shows nothing"
    real, simulated = json.loads(program.stdout.splitlines()[-1])
    assert real == simulated
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= real[1].keys()
    assert {len(values) for values in real[1].values()} == {2}


#: A service that has a run's outcome, before it writes the report.
BEFORE_THE_REPORT = """
if "lanfit_server.api.service" in sys.orig_argv:
    import lanfit_server.run.finish as finish
    write = finish.write_reports

    def held(*arguments):
        stand_still()
        return write(*arguments)

    finish.write_reports = held
"""


@pytest.mark.story
def test_fit_returns_before_the_report_is_written_and_the_end_of_the_with_waits_for_it(tmp_path: Path) -> None:
    hold = Breakpoint(tmp_path / "hold", BEFORE_THE_REPORT)
    with script(
        tmp_path,
        """
with lanfit.Cluster(local=1, threads=1, workspace=".") as cluster:
    history = cluster.fit(model, x, y, 8, epochs=1, rounds=1, validation_data=(x, y), verbose=0)
    say("returned " + history.summary.status)
print(lanfit.attach(history.summary.run, workspace=".").status)
""",
        environment=hold.environment,
    ) as program:
        program.expect("returned done")
        [run] = runs(tmp_path)
        report = tmp_path / "logs" / run / "report.xlsx"
        assert not report.exists()
        hold.let_go()
        program.finish()
    assert report.exists()
    assert program.stdout.decode().split() == ["done"], "attach did not find the run closed"


@pytest.mark.story
def test_ctrl_c_ends_the_cluster_and_what_was_done_is_kept(tmp_path: Path) -> None:
    with script(tmp_path, FIT, environment=Breakpoint(tmp_path / "hold").environment) as program:
        program.expect("epoch 0")
        began = program.descendants()
        assert len(began) >= 4
        program.interrupt()
        program.finish(-signal.SIGINT)
        _, alive = psutil.wait_procs(began, timeout=20)
        assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
    assert "KeyboardInterrupt" in program.output
    [run] = runs(tmp_path)
    found = json.loads((tmp_path / "logs" / run / "summary.json").read_text())
    assert found["status"] == "interrupted"


@pytest.mark.story
def test_an_error_in_the_with_ends_everything(tmp_path: Path) -> None:
    with script(tmp_path, FIT.replace('say("open")', 'raise RuntimeError("of my own")')) as program:
        program.finish(1)
    # Leaving the block has shown that nothing of it was left, soon after.
    assert "of my own" in program.output


@pytest.mark.story
def test_a_run_whose_program_is_killed_is_finished_and_can_be_attached_to(tmp_path: Path) -> None:
    hold = Breakpoint(tmp_path / "hold")
    with_page = FIT.replace('workspace="."', 'workspace=".", dashboard=True, dashboard_port=0')
    with_page = with_page.replace('say("open")', 'say("page at", cluster.dashboard_url)')
    with script(tmp_path, with_page, environment=hold.environment) as program:
        link = program.expect(r"page at (\S+)\n")[1]
        program.expect("epoch 0")
        program.kill()
        browser = Browser(urlsplit(link).port or 0)
        assert browser.open(link).status < 400
        assert browser.get("/training_status").json["state"] == "running", "the page stays until the run is finished"
        hold.let_go()
        [run] = runs(tmp_path)
        found = attached(tmp_path, run)
        assert found["status"] == "done"
        assert {len(values) for values in found["history"].values()} == {2}
        assert found["models"] == ["tiny", "tiny"]
        assert Path(found["final"]).is_file()
    # Leaving the block has shown that nothing of it was left.


@pytest.mark.story
def test_a_run_whose_service_is_killed_can_be_gone_on_with(tmp_path: Path) -> None:
    with script(tmp_path, FIT, environment={"LANFIT_CRASH": "server.result-fetched"}) as program:
        program.finish(1)
        [run] = runs(tmp_path)
    assert "the service process was killed by signal 9" in program.output
    attach = f"""
try:
    lanfit.attach({run!r}, workspace=".")
except lanfit.errors.LanfitError as wrong:
    print(wrong.code)
"""
    with script(tmp_path, attach) as attaching:
        attaching.finish()
    assert attaching.stdout.decode().split() == ["attach.abandoned"]
    job = tmp_path / "logs" / run / "job.toml"
    with Program("server", "--job", job, "--yes", "--json", "--port", free_port(), folder=tmp_path) as again:
        again.finish(2)
    assert json.loads(again.stdout)["code"] == "job.arrays"
    with Program(
        "server",
        "--resume",
        run,
        "--workspace",
        ".",
        "--host",
        "127.0.0.1",
        "--port",
        free_port(),
        "--yes",
        folder=tmp_path,
    ) as server:
        server.finish(seconds=2 * PATIENCE)
    assert attached(tmp_path, run)["status"] == "done"
    assert not list((tmp_path / "logs" / run).glob("rows.*"))
