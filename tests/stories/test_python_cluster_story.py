"""`lanfit.Cluster` with machines of the LAN, at a terminal, and with weights of rows: scripts of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from running import PATIENCE, Program, free_port
from test_python_story import script

pytestmark = pytest.mark.story
#: Standard output goes to the terminal, which has a size, as those of people do.
TERMINAL = "import termios; sys.stdout = sys.stderr; termios.tcsetwinsize(2, (25, 120))"


def staying(folder: Path, port: int, name: str) -> Program:
    """A client that stays for the next run."""
    for part in ("model", "dataset"):
        (folder / part).mkdir(parents=True)
    words = ("client", f"127.0.0.1:{port}", "--name", name, "--threads", 1)
    return Program(*words, folder=folder, passphrase="only on this machine")


def test_clients_of_the_lan_join_a_program_and_stay_from_one_fit_to_the_next(tmp_path: Path) -> None:
    port = free_port()
    with script(
        tmp_path / "program",
        f"""
os.environ["LANFIT_PASSPHRASE"] = "only on this machine"
given = []
with lanfit.Cluster("127.0.0.1:{port}", clients=2, workspace=".") as cluster:
    say("open")
    for method in ("fit", "federated"):
        fields = {{"rounds": 2}} if method == "federated" else {{}}
        history = cluster.fit(model, x, y, 8, 2, validation_split=0.25, method=method, verbose=2, **fields)
        names, status = [c.name for c in history.clients], history.summary.status
        given.append([status, names, len(history.history["loss"]), history.run])
print("\\n" + json.dumps(given))
""",
    ) as program:
        program.expect(r"(?m)^open", seconds=PATIENCE)
        with staying(tmp_path / "a", port, "lab-1") as first, staying(tmp_path / "b", port, "lab-2") as second:
            program.finish(seconds=2 * PATIENCE)
            for worker in (first, second):
                worker.expect(r"The server at 127\.0\.0\.1:\d+ closed the connection\. This client waits")
                worker.interrupt()
                worker.finish(130)
    output = program.stdout.decode()
    assert f"lanfit client 127.0.0.1:{port} --fingerprint" in output
    assert "The passphrase is" not in output, "it was given"
    fit, federated = json.loads(output.splitlines()[-1])
    assert fit[:3] == ["done", ["lab-1", "lab-2"], 2]
    assert federated[:3] == ["done", ["lab-1", "lab-2"], 2]
    for worker in (first, second):
        assert worker.output.count("Joined ") == 1, "it stayed"
        for run in (fit[3], federated[3]):
            assert run in worker.output


def test_at_a_terminal_a_bar_shows_the_rounds_and_in_a_file_lines_do(tmp_path: Path) -> None:
    code = """
WHERE
with lanfit.Cluster(simulated=2, pool=1, threads=1, workspace=".") as cluster:
    cluster.fit(model, x, y, 8, rounds=2)
    cluster.fit(model, x, y, 8, method="fit", epochs=2, verbose=2)
"""
    with script(tmp_path / "bar", code.replace("WHERE", TERMINAL), terminal=True) as program:
        program.expect(r"100%.* 2/2 .*loss: \d", seconds=2 * PATIENCE)
        program.expect(r"Epoch 2/2 - .*loss: \d", seconds=PATIENCE)
        program.finish()
    assert "Round 2/2 - " not in program.output
    with script(tmp_path / "file", code.replace("WHERE", "")) as program:
        program.finish(seconds=2 * PATIENCE)
    lines = program.stdout.decode().splitlines()
    assert [line.partition(" - ")[0] for line in lines if re.match(r"Round \d/2 - ", line)] == [
        "Round 1/2",
        "Round 2/2",
    ]
    assert "\r" not in program.stdout.decode() + program.output
    assert "it/s" not in program.stdout.decode() + program.output


def test_weights_of_classes_and_of_rows_are_those_of_keras(tmp_path: Path) -> None:
    with script(
        tmp_path,
        """
start, given = model.get_weights(), []
with lanfit.Cluster(simulated=2, pool=1, threads=1, workspace=".") as cluster:
    for weights in ({}, {"class_weight": {0: 0.25, 1: 2.0}}, {"sample_weight": np.where(y == 1, 2.0, 0.25)}):
        model.set_weights(start)
        cluster.fit(model, x, y, 8, 2, validation_split=0.25, rounds=2, verbose=0, **weights)
        given.append([w.tolist() for w in model.get_weights()])
    first = y == 0
    for values in (0.5, -3.0):  # what rows of weight nothing hold must not matter
        x[first] = values
        model.set_weights(start)
        cluster.fit(model, x, y, 8, 2, rounds=2, verbose=0, sample_weight=np.where(first, 0.0, 1.0), deal="equal")
        given.append([w.tolist() for w in model.get_weights()])
given.append([w.tolist() for w in start])
print("\\n" + json.dumps(given))
""",
    ) as program:
        program.finish(seconds=2 * PATIENCE)
    plain, of_classes, of_rows, one, other, start = json.loads(program.stdout.splitlines()[-1])
    assert of_classes == of_rows != plain
    assert one == other != start, "the rows that count were learned, and only these"


def test_a_program_steers_the_run_that_it_has_begun(tmp_path: Path) -> None:
    with script(
        tmp_path,
        """
from lanfit.errors import LanfitError

class Steer(keras.callbacks.Callback):
    def __init__(self, *steps):
        super().__init__()
        self.steps = steps
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            for step in self.steps:
                step()

def refused(call):
    try:
        call()
    except LanfitError as wrong:
        return wrong.code

given = []
with lanfit.Cluster(simulated=2, pool=1, threads=1, workspace=".") as cluster:
    given.append(refused(cluster.stop))
    change = lambda: cluster.change(rounds=3, learning_rate=0.01)
    for steps in ([cluster.pause, cluster.resume, change], [cluster.stop]):
        history = cluster.fit(model, x, y, 8, rounds=40, callbacks=[Steer(*steps)], verbose=0)
        given.append([history.summary.status, len(history.epoch), history.run])
print("\\n" + json.dumps(given))
""",
    ) as program:
        program.finish(seconds=2 * PATIENCE)
    code, changed, stopped = json.loads(program.stdout.splitlines()[-1])
    assert code == "cluster.no-run"
    assert changed[:2] == ["done", 3]
    assert stopped[0] == "partial"
    assert 2 <= stopped[1] <= 3
    job = (tmp_path / "logs" / changed[2] / "job.toml").read_text()
    assert "rounds = 3\n" in job, "repeated, it has as many"
    assert '"3:learning_rate=0.01"' in job
    lines = (tmp_path / "logs" / changed[2] / "events.jsonl").read_text().splitlines()
    commands = [event["command"] for event in map(json.loads, lines) if event["event"] == "command"]
    assert commands == ["pause", "resume", "set rounds", "set learning_rate"]


def test_a_fit_in_progress_is_paused_resumed_and_changed(tmp_path: Path) -> None:
    """Each client has its only task from the beginning; unchanged, it would train for hours."""
    with script(
        tmp_path,
        """
import pathlib, threading
epochs = threading.Semaphore(0)

class Counting(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        epochs.release()

def paused():
    logs = pathlib.Path("logs").glob("*/clients/local-*/client.log")
    return sum("The operator paused the run." in log.read_text() for log in logs)

def steer():
    epochs.acquire()
    cluster.pause()
    while paused() < 2:
        threading.Event().wait(0.05)
    cluster.change(learning_rate=0.001)
    while epochs.acquire(blocking=False):
        pass
    cluster.resume()
    for _ in range(3):
        epochs.acquire()
    cluster.change(epochs=1)

with lanfit.Cluster(local=2, threads=1, workspace=".") as cluster:
    steering = threading.Thread(target=steer)
    steering.start()
    history = cluster.fit(model, x, y, 8, method="fit", epochs=100_000, callbacks=[Counting()], verbose=0)
    steering.join()
print("\\n" + json.dumps([history.summary.status, history.run]))
""",
    ) as program:
        program.finish(seconds=2 * PATIENCE)
    status, run = json.loads(program.stdout.splitlines()[-1])
    assert status == "done"
    job = (tmp_path / "logs" / run / "job.toml").read_text()
    for shard in (1, 2):
        [epochs] = re.findall(rf'"shard-{shard}:epochs=([0-9]+)"', job)
        [begin] = re.findall(rf'"shard-{shard}@([0-9]+):learning_rate=0.001"', job)
        assert 1 < int(begin) < int(epochs) < 100_000, "the epoch in progress was the last"
