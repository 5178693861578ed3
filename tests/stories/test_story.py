"""lanfit from the outside, as the tutorial tells it: a server and its clients in processes of their own, over TLS."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from breakpoints import BEFORE_THE_REPORTS, Breakpoint
from running import (
    PASSPHRASE,
    Place,
    Program,
    assert_same_weights,
    client,
    each_model,
    fake_client,
    flags,
    free_port,
    lines_of,
    plain_keras,
    port_of,
)
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

pytestmark = pytest.mark.story
SCORES = ("precision", "recall", "f1")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "server")


@pytest.mark.cold
def test_three_clients_fit_and_hand_their_models_back(place: Place, tmp_path: Path) -> None:
    with (
        place.server(*flags(0, 3, epochs=8, normalizer="minmax"), "--json") as server,  # 0: any free port
        client(tmp_path / "a", port_of(server), "lab-1") as first,
        client(tmp_path / "b", port_of(server), "lab-2") as second,
        client(tmp_path / "c", port_of(server), "lab-10") as third,
    ):
        server.finish()
        for each in (first, second, third):
            each.finish()

    summary = place.summary()
    assert json.loads(server.stdout) == summary
    assert summary["status"] == "done"
    rows = {"samples": 1797, "train": 1293, "validation": 144, "test": 360}
    assert summary["data"] == {"source": "files", **rows, "normalizer": "minmax", "labels": None}
    # Natural order: lab-2 before lab-10, whoever came first.
    assert [each["name"] for each in summary["clients"]] == ["lab-1", "lab-2", "lab-10"]
    assert sorted(each["samples"] for each in summary["clients"]) == [479, 479, 479]
    run = summary["run"]
    for each in summary["clients"]:
        assert len(each["history"]["loss"]) == len(each["history"]["val_loss"]) == 8
        assert each["metrics"]["accuracy"] > 0.85
        assert {"join", "receive", "import", "compile", "train", "validate", "send", "wait"} <= set(each["seconds"])
        assert each["bytes"]["received"] > 479 * 64 * 4 * 0.9
        history = lines_of(place.root / "logs" / run / "clients" / each["name"] / "history.csv")
        assert history[0] == "epoch,accuracy,loss,val_accuracy,val_loss"
        assert len(history) == 9
    assert summary["final"]["metrics"]["loss"] == pytest.approx(
        min(c["metrics"]["loss"] for c in summary["clients"]), rel=1e-5
    )
    for folder, name in ((tmp_path / "a", "lab-1"), (tmp_path / "b", "lab-2"), (tmp_path / "c", "lab-10")):
        own = folder / "model" / "trained" / run / f"{name}.h5"
        assert own.is_file()
        assert (folder / "logs" / "trained" / run / name / "history.csv").is_file()
        assert (folder / "logs" / "trained" / run / name / "client.log").is_file()

    # What was collected opens with plain Keras, and scores what the summary says, measured by scikit-learn.
    code = """
import json, keras, numpy as np
from sklearn.metrics import accuracy_score
x = np.loadtxt(sys.argv[1], delimiter=",", skiprows=1).reshape(-1, 8, 8, 1)
y = np.loadtxt(sys.argv[2], delimiter=",", skiprows=1)
raw = keras.models.load_model(sys.argv[3])
models = [keras.models.load_model(path) for path in sys.argv[4:]]
print(json.dumps([accuracy_score(y, raw.predict(x, verbose=0).argmax(1))]
                 + [accuracy_score(y, m.predict(x / 16, verbose=0).argmax(1)) for m in models]))
"""
    data = place.root / "dataset"
    final = place.root / "model" / "collected" / run / "final.keras"
    found = json.loads(plain_keras(code, data / "X/digits.csv", data / "Y/digits.csv", final, *each_model(place, run)))
    assert len(found) == 4
    assert min(found) > 0.85
    constants = json.loads((final.parent / "preprocessing.json").read_text())
    assert constants == {"normalizer": "minmax", "subtract": 0.0, "multiply": 1 / 16, "labels": None}

    # All reports say the same as the summary, and scikit-learn says it of the predictions.
    logs = place.root / "logs" / run
    assert {"report.xlsx", "predictions.csv", "history.png"} <= {path.name for path in logs.iterdir()}
    predicted = np.loadtxt(logs / "predictions.csv", delimiter=",", skiprows=1)
    assert len(predicted) == 360
    true, made = predicted[:, 1], predicted[:, 2]
    assert (predicted[:, 3:].argmax(1) == made).all()
    scores = precision_recall_fscore_support(true, made, average="macro", zero_division=0)[:3]
    for name, value in zip(("accuracy", *SCORES), (accuracy_score(true, made), *scores), strict=True):
        assert summary["final"]["metrics"][name] == pytest.approx(value, abs=1e-9), name
    sheet = openpyxl.load_workbook(logs / "report.xlsx")["predictions"]
    assert [list(row[:3]) for row in sheet.iter_rows(min_row=2, values_only=True)] == predicted[:, :3].tolist()


def test_the_outcome_is_printed_before_the_reports_and_ctrl_c_then_leaves_the_exit_code(
    place: Place, tmp_path: Path
) -> None:
    hold = Breakpoint(tmp_path / "hold", BEFORE_THE_REPORTS)
    with (
        place.server(*flags(0, 1, epochs=1), environment=hold.environment) as server,
        fake_client(tmp_path / "a", port_of(server), "lab-1") as worker,
    ):
        server.expect_output(r"Run \S+: done")
        worker.finish()
        [run] = place.runs
        assert not (place.root / "logs" / run / "report.xlsx").exists()
        server.interrupt()
        server.expect("not all of its reports are written")
        hold.let_go()
        server.finish(0)


def test_answers_are_piped_in_the_order_of_the_questions(place: Place, tmp_path: Path) -> None:
    port = free_port()
    answers = f"127.0.0.1\n{port}\n\ndigits.h5\n1\n{PASSPHRASE}\n1\n16\nSGD\n\n1\n3\nfit\nxy\n"
    with (
        place.server(answers=answers, passphrase=None) as server,
        client(tmp_path / "a", port, "one") as worker,
    ):
        server.finish()
        worker.finish()
    questions = ["Server IP", "Port", "Start training", "Model", "Number of clients", "Passphrase", "Epochs"]
    questions += [
        "Batch size",
        "Optimizer",
        "Loss",
        "Data",
        "Normalizer",
        "Training method",
        "Order of input and output",
    ]
    places = [server.output.index(question) for question in questions]
    assert places == sorted(places)
    assert PASSPHRASE not in server.output
    job = (place.root / "logs" / place.runs[-1] / "job.toml").read_text()
    for line in ("epochs = 1", "batch_size = 16", 'optimizer = "SGD"', 'normalizer = "zscore"', 'method = "fit"'):
        assert line in job.splitlines()


def test_wrong_answers_at_a_terminal_are_explained_and_asked_again(place: Place, tmp_path: Path) -> None:
    port = free_port()
    with place.server("--no-dashboard", terminal=True, passphrase=None) as server:
        server.expect("Server IP.*: ")
        server.type("127.0.0.1")
        server.expect("Port.*: ")
        server.type("many")
        server.expect("'many' is not a whole number from 0 to 65535")
        server.type(str(port))
        for question, answer in (
            ("Start training", "y"), ("Model", "nothing.h5"), ("there is no model 'nothing.h5'", ""),
            ("Number of clients", "1"), ("Passphrase", PASSPHRASE),
            (r"(?s)type p and press Enter.*Epochs", "1"), ("Batch size", ""),
            ("Optimizer", "adm"), ("Did you mean", "adam"), ("Loss", ""), ("Data", ""), ("Normalizer", "minmax"),
            ("Training method", ""), ("Order", ""),
        ):  # fmt: skip
            server.expect(question)
            server.type(answer)
        server.expect("Waiting for 1 more")
        assert PASSPHRASE not in server.output, "it was echoed"
        server.type("p")
        server.expect(f"The passphrase is: {PASSPHRASE}")
        with client(tmp_path / "a", port, "one") as worker:
            server.finish()
            worker.finish()
    assert place.summary()["status"] == "done"


def test_a_wrong_passphrase_is_refused_with_exit_3_and_the_run_continues(place: Place, tmp_path: Path) -> None:
    with place.server(*flags(free_port(), 1)) as server:
        port = port_of(server)
        server.expect("Waiting for 1 more")
        with fake_client(tmp_path / "thief", port, "thief", passphrase="open sesame") as thief:
            thief.finish(3)
            assert "passphrase" in thief.output
            assert "open sesame" not in thief.output
        with fake_client(tmp_path / "a", port, "one") as worker:
            worker.finish()
            server.finish()
    assert [each["name"] for each in place.summary()["clients"]] == ["one"]


def test_a_typed_passphrase_may_be_wrong_twice(place: Place, tmp_path: Path) -> None:
    with place.server(*flags(free_port(), 1)) as server:
        port = port_of(server)
        server.expect("Waiting for 1 more")
        with fake_client(tmp_path / "a", port, "one", terminal=True, passphrase=None) as worker:
            for attempt, text in enumerate(("wrong one", "wrong again", PASSPHRASE), start=1):
                worker.expect(f"(?s)(Passphrase: .*){{{attempt}}}")
                worker.type(text)
            server.finish()
            worker.finish()


def test_a_client_asks_for_address_port_and_passphrase(place: Place, tmp_path: Path) -> None:
    with place.server(*flags(free_port(), 1)) as server:
        port = port_of(server)
        (tmp_path / "a").mkdir()
        with Program("client", "--once", folder=tmp_path / "a", terminal=True, passphrase=None) as worker:
            for question, answer in (
                ("Server IP: ", "127.0.0.1"),
                ("Port .*: ", "eighty"),
                ("'eighty' is not a whole number from 1 to 65535", str(port)),
                ("Passphrase: ", PASSPHRASE),
            ):
                worker.expect(question)
                worker.type(answer)
            server.finish()
            worker.finish()
    # Not in a workspace: one is made.
    assert list((tmp_path / "a" / "lanfit" / "model" / "trained").glob("*/*.h5"))


def test_a_client_waits_for_a_server_that_is_not_up_yet(place: Place, tmp_path: Path) -> None:
    port = free_port()
    with fake_client(tmp_path / "a", port, "early") as worker:
        worker.expect("refused the connection: .* Retrying every 1 s")
        with place.server(*flags(port, 1)) as server:
            server.finish()
            worker.finish()


def test_ctrl_c_on_the_server_keeps_and_names_what_is_done(place: Place, tmp_path: Path) -> None:
    with (
        place.server(*flags(free_port(), 1, epochs=100_000)) as server,
        client(tmp_path / "a", port_of(server), "one") as worker,
    ):
        server.expect(r"one: epoch 2/100000")
        server.interrupt()
        server.finish(130)
        worker.finish()
        assert "interrupted" in worker.output
    assert place.summary()["status"] == "interrupted"
    assert b"interrupted" in server.stdout


def test_ctrl_c_on_a_client_ends_it_and_its_return_ends_the_run(place: Place, tmp_path: Path) -> None:
    hold = Breakpoint(tmp_path / "hold")
    with place.server(*flags(free_port(), 1)) as server:
        port = port_of(server)
        with fake_client(tmp_path / "a", port, "one", environment=hold.environment) as worker:
            server.expect("one: epoch 1/2")
            worker.interrupt()
            worker.finish(130)
        server.expect(r"one left .*its task shard-1 waits")
        with fake_client(tmp_path / "a", port, "one") as worker:
            server.finish()
            worker.finish()
    assert [each["name"] for each in place.summary()["clients"]] == ["one"]


def test_ctrl_c_at_a_question_ends_at_once(place: Place) -> None:
    before = place.files()
    with place.server(terminal=True, passphrase=None) as server:
        server.expect("Server IP")
        server.interrupt()
        server.finish(130)
    assert place.files() == before


def test_a_killed_client_is_replaced_by_another_and_the_models_are_the_same(place: Place, tmp_path: Path) -> None:
    dies = {"LANFIT_CRASH": "client.trained"}

    def run(kill: bool) -> str:
        with (
            place.server(*flags(free_port(), 2), "--threads", 1) as server,
            fake_client(tmp_path / "a", port_of(server), "lab-1", environment=dies if kill else {}) as first,
            fake_client(tmp_path / "b", port_of(server), "lab-2") as second,
        ):
            if kill:
                first.finish(-9)
                server.expect("lab-2 takes over the shard of lab-1")
            server.finish()
            second.finish()
            first.finish(-9 if kill else 0)
        return place.runs[-1]

    baseline, troubled = run(kill=False), run(kill=True)
    for ours, theirs in zip(each_model(place, baseline), each_model(place, troubled), strict=True):
        assert ours.name == theirs.name
        assert_same_weights(ours, theirs)


def test_clients_deliver_what_they_trained_for_a_killed_server_to_the_same_server_started_again(
    place: Place, tmp_path: Path
) -> None:
    port, hold = free_port(), Breakpoint(tmp_path / "hold")
    with (
        place.server(*flags(port, 2, epochs=40, normalizer="minmax")) as server,
        client(tmp_path / "a", port, "lab-1", environment=hold.environment) as first,
        client(tmp_path / "b", port, "lab-2", environment=hold.environment) as second,
    ):
        server.expect("lab-1: epoch 1/40")
        server.expect("lab-2: epoch 1/40")
        server.kill()
        server.finish(-9)
        hold.let_go()
        for worker in (first, second):
            worker.expect("Trained shard-")
        # An empty answer at the passphrase: the one of the unfinished run.
        with place.server(answers=f"127.0.0.1\n{port}\nn\n\n", passphrase=None) as again:
            again.finish()
            for worker in (first, second):
                worker.finish()
    summary = place.summary()
    assert summary["status"] == "done"
    assert [each["metrics"]["accuracy"] > 0.9 for each in summary["clients"]] == [True, True]
    assert summary["final"]["metrics"]["accuracy"] > 0.9
    assert not list((tmp_path / "a" / "client" / "state" / "1" / "outbox").iterdir())
    assert not list((place.root / "server" / "state" / "passphrases").iterdir()), "kept longer than needed"


def test_a_runs_own_job_file_repeats_it_to_the_bit(place: Place) -> None:
    with place.server(*flags(free_port(), 2, normalizer="minmax", local=2)) as server:
        server.finish()
    first = place.runs[-1]
    with place.server("--job", place.root / "logs" / first / "job.toml") as server:
        server.finish()
    second = place.runs[-1]
    assert first != second
    names = [path.name for path in each_model(place, first)]
    assert names == ["local-1.h5", "local-2.h5"]
    for ours, theirs in zip(each_model(place, first), each_model(place, second), strict=True):
        assert_same_weights(ours, theirs)
    collected = place.root / "model" / "collected"
    assert (collected / first / "preprocessing.json").read_bytes() == (
        collected / second / "preprocessing.json"
    ).read_bytes()


def test_a_client_joins_only_the_server_that_has_the_fingerprint(place: Place, tmp_path: Path) -> None:
    with place.server(*flags(free_port(), 1)) as server:
        port = port_of(server)
        with client(tmp_path / "a", port, "one", "--fingerprint", "ab" * 32) as worker:
            worker.finish(3)
            assert "-".join(["abab"] * 16) in worker.output
        real = server.expect("--fingerprint ([0-9a-f-]{24})\n")[1]
        with client(tmp_path / "a", port, "one", "--fingerprint", real) as worker:
            worker.finish()
            server.finish()
    # The same address, but another server: refused before anything is said to it.
    other = Place(tmp_path / "other")
    with other.server(*flags(port, 1), environment={"LANFIT_STATE_DIR": str(tmp_path / "another machine")}) as server:
        server.expect("Waiting for 1 more")
        with client(tmp_path / "a", port, "one") as worker:
            worker.finish(3)
            assert "known_servers" in worker.output
        # Its operator hears of it, and what to do helps.
        server.expect("A client at 127.0.0.1 rejected this server because it expects another fingerprint")
        new = server.expect("--fingerprint ([0-9a-f-]{24})\n")[1]
        with client(tmp_path / "a", port, "one", "--fingerprint", new) as worker:
            worker.expect("which is replaced by the given one")
            server.expect("one joined from")
        server.interrupt()
        server.finish(130)


AUTOENCODER = """
import sys, keras
model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(64)])
model.compile("adam", "mse", metrics=["mae"])
model.save(sys.argv[1])
"""


def test_with_order_xx_the_target_is_the_normalized_input(place: Place) -> None:
    plain_keras(AUTOENCODER, place.root / "model" / "auto.h5")
    settings = {"model": "auto.h5", "order": "XX", "normalizer": "zscore", "local": 1, "epochs": 30}
    with place.server(*flags(free_port(), 1, **settings)) as server:
        server.finish()
    (only,) = place.summary()["clients"]
    assert set(only["metrics"]) == {"loss", "mae", "r2"}
    assert only["metrics"]["r2"] > 0.4
    # Written by Keras with the short names mse and mae, which Keras itself can't load back; what was collected it can.
    opened = plain_keras(
        "import keras; print(keras.models.load_model(sys.argv[1]).loss.__name__)", place.root / only["model"]
    )
    assert opened.strip() == "mean_squared_error"


def test_without_test_and_validation_rows_the_clients_own_figures_count(place: Place) -> None:
    settings = {"test_split": 0, "validation_split": 0, "local": 1, "normalizer": "scale"}
    with place.server(*flags(free_port(), 1, **settings)) as server:
        server.finish()
    summary = place.summary()
    assert summary["metrics_from"] == "clients"
    assert summary["data"]["train"] == summary["clients"][0]["samples"] == 1797
    assert set(summary["clients"][0]["history"]) == {"loss", "accuracy"}
    assert summary["final"]["metrics"]["accuracy"] > 0.5


def test_an_uncompiled_model_trains_with_the_flags_that_its_refusal_names(place: Place) -> None:
    code = "import keras; keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), "
    code += "keras.layers.Dense(10, 'softmax')]).save(sys.argv[1])"
    plain_keras(code, place.root / "model" / "bare.keras")
    settings = {"model": "bare.keras", "optimizer": "adam", "loss": "categorical_crossentropy", "learning_rate": 0.01}
    with place.server(*flags(free_port(), 1, **settings, metrics="accuracy", local=1, normalizer="minmax")) as server:
        server.finish()
        assert "one-hot" in server.output
    (only,) = place.summary()["clients"]
    assert "val_accuracy" in only["history"]
    assert only["metrics"]["accuracy"] > 0.8


def test_a_learning_rate_that_explodes_fails_with_its_name_and_the_epoch(place: Place, tmp_path: Path) -> None:
    plain_keras(AUTOENCODER, place.root / "model" / "auto.h5")
    settings = {"model": "auto.h5", "order": "XX", "optimizer": "SGD", "learning_rate": 1e9, "epochs": 3}
    with place.server(*flags(free_port(), 1, **settings)) as server, client(tmp_path, port_of(server), "one") as worker:
        server.finish(4)
        worker.finish(4)
    summary = place.summary()
    assert summary["status"] == "failed"
    assert summary["final"] is None
    for cause in ("one: ", "epoch 1", "learning rate 1e+09"):
        assert cause in summary["error"]


def test_csv_xlsx_and_npz_go_together_and_labels_may_be_words(place: Place) -> None:
    from openpyxl import Workbook

    x = np.loadtxt(place.root / "dataset/X/digits.csv", delimiter=",", skiprows=1)
    y = np.loadtxt(place.root / "dataset/Y/digits.csv", delimiter=",", skiprows=1, dtype=int)
    words = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])[y]
    for folder in ("X", "Y"):
        (place.root / "dataset" / folder / "digits.csv").unlink()
    np.savetxt(place.root / "dataset/X/part-1.csv", x[:600], delimiter=";", fmt="%g")
    book = Workbook()
    for row in x[600:1200]:
        book.active.append(row.tolist())
    book.save(place.root / "dataset/X/part-2.xlsx")
    np.savez(place.root / "dataset/X/part-10.npz", other=x[:3], rows=x[1200:].astype(np.uint8))
    for part, some in (("1", words[:600]), ("2", words[600:1200]), ("10", words[1200:])):
        (place.root / f"dataset/Y/part-{part}.csv").write_text("digit\n" + "\n".join(some) + "\n")
    settings = {"local": 1, "normalizer": "minmax", "epochs": 8, "npz_key": "rows"}
    with place.server(*flags(free_port(), 1, **settings)) as server:
        server.finish()
    summary = place.summary()
    assert summary["data"]["labels"] == sorted(set(words.tolist()))
    assert summary["data"]["samples"] == 1797
    # The labels are paired with their rows, whatever file they came from.
    assert summary["final"]["metrics"]["accuracy"] > 0.9


def test_the_demo_shows_the_whole_thing_from_nothing(tmp_path: Path) -> None:
    with Program("demo", "--json", folder=tmp_path, passphrase=None) as demo:
        demo.finish()
    summary = json.loads(demo.stdout)
    assert summary["status"] == "done"
    assert len(summary["clients"]) == 2
    assert summary["final"]["metrics"]["accuracy"] > 0.85
    assert (tmp_path / "lanfit" / summary["final"]["model"]).is_file()
