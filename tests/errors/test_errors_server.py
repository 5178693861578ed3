"""Errors of a server beside those of files and rows, triggered from the outside: model, job, clients, demo."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from breakpoints import shim
from error_cases import Dialogue, ErrorCase, ErrorCases, Start, assert_reported, check, exit_code
from running import PASSPHRASE, ROOT, Program, flags, free_port, plain_keras, port_of
from small_workspace import TINY_JOB, SmallWorkspace
from warm import WarmModels

from lanfit.errors import ConnectionFailed
from lanfit.wire.arrays import ArraySpec, BlockSpec
from lanfit.wire.messages import Join, Survey, Surveyed
from lanfit_client.connect import connect

pytestmark = pytest.mark.story
ERROR_CASES = ErrorCases()
fails_with = ERROR_CASES.fails_with


@pytest.mark.parametrize("case", ERROR_CASES, ids=str)
def test_what_is_wrong_with_a_job_is_named(small_workspace: SmallWorkspace, case: ErrorCase, warm: WarmModels) -> None:
    check(small_workspace, case, warm, **TINY_JOB)


# --- the model --------------------------------------------------------------------------------------------------


@fails_with("model.not-found", "'other.h5'", "classes.h5", "--model")
def a_model_of_another_name(place: SmallWorkspace) -> Start:
    return Start({"model": "other.h5"})


@fails_with("model.none", "there is no model in model/")
def no_models(place: SmallWorkspace) -> Start:
    shutil.rmtree(place.root / "model")
    (place.root / "model").mkdir()
    return Start({"host": "127.0.0.1", "port": free_port()}, ["--yes"], answers="")


@fails_with("compile.incomplete", "optimizer", "--optimizer and --loss")
def a_model_that_is_not_compiled(place: SmallWorkspace) -> None:
    import h5py

    with h5py.File(place.root / "model" / "classes.h5", "r+") as file:
        del file.attrs["training_config"]


@fails_with("model.too-large-to-send", "large.keras")
def a_model_of_a_million_letters(place: SmallWorkspace) -> Start:
    layers = "[keras.layers.ReLU(name=f'{i}' + 'x' * 50_000) for i in range(20)]"
    code = f"import keras; model = keras.Sequential([keras.Input((2,)), *{layers}]); "
    plain_keras(f"{code}model.compile('adam', 'mse'); model.save(sys.argv[1])", place.root / "model" / "large.keras")
    return Start({"model": "large.keras"})


# --- answers that do not fit together ---------------------------------------------------------------------------


@fails_with("job.more-local-than-clients", "2 local clients", "only 1")
def more_local_clients_than_all(place: SmallWorkspace) -> Start:
    return Start({"local": 2})


@fails_with("job.set-without-keras", "--dataset mnist", "this job uses --data files")
def a_set_and_files(place: SmallWorkspace) -> Start:
    return Start({"data": "files", "dataset": "mnist"})


@fails_with("job.samples-on-clients", "--samples 100")
def rows_of_others(place: SmallWorkspace) -> Start:
    return Start({"data": "client", "samples": 100})


@fails_with("job.merge-without-fit", "--merge average", "method kfold")
def folds_that_are_to_be_merged(place: SmallWorkspace) -> Start:
    return Start({"merge": "average", "method": "kfold"})


@fails_with("job.other-strategy", "--server-momentum", "fedavgm", "fedavg")
def a_parameter_of_another_strategy(place: SmallWorkspace) -> Start:
    return Start({"method": "federated", "server_momentum": 0.5})


@fails_with("job.min-above-clients", "at least 2 clients", "1 in all")
def more_clients_in_a_round_than_in_all(place: SmallWorkspace) -> Start:
    return Start({"method": "federated", "min_clients": 2})


@fails_with("aggregation.krum", "f = 0", "there are 1")
def krum_of_one(place: SmallWorkspace) -> Start:
    return Start({"method": "federated", "aggregation": "krum"})


@fails_with("aggregation.trim", "0.5")
def a_trim_that_leaves_nothing(place: SmallWorkspace) -> Start:
    return Start({"method": "federated", "aggregation": "trimmed-mean", "trim": 0.5})


def test_a_passphrase_that_is_too_easy_for_a_network_is_refused_and_not_repeated(
    small_workspace: SmallWorkspace,
) -> None:
    with small_workspace.server(*flags(free_port(), 2, host="0.0.0.0"), passphrase="dragon") as server:
        server.finish(2)
    assert_reported("passphrase.too-easy", server.output)
    assert "dragon" not in server.output


def test_at_a_terminal_what_does_not_fit_is_explained_and_asked_again(small_workspace: SmallWorkspace) -> None:
    with small_workspace.server("--local", 2, terminal=True, passphrase=None) as server:
        dialogue = Dialogue(server)
        dialogue.answer("Server IP", "203.0.113.7")
        dialogue.explains("listen.other-machine", "Server IP")
        dialogue.answer("Server IP", "no..name")
        dialogue.explains("listen.unknown-name", "Server IP")
        dialogue.answer("Server IP", "0.0.0.0")
        dialogue.answer("Port", str(free_port()))
        dialogue.answer("Start training", "y")
        dialogue.answer("Model", "other.h5")
        dialogue.explains("model.not-found", "Model")
        dialogue.answer("Model", "classes.h5")
        dialogue.answer("Number of clients", "1")
        dialogue.explains("job.more-local-than-clients", "Number of clients")
        dialogue.answer("Number of clients", "2")
        dialogue.answer("Passphrase", "dragon")
        dialogue.explains("passphrase.too-easy", "Passphrase")
        server.interrupt()
        server.finish(130)
    assert "Traceback" not in server.output


# --- clients and the system -------------------------------------------------------------------------------------


@fails_with("client.local-gave-up", "local-1")
def local_clients_that_die_at_once(place: SmallWorkspace) -> Start:
    dying = "import os, sys\nif 'lanfit_client' in sys.orig_argv:\n    os._exit(3)\n"
    return Start({"local": 1}, options={"environment": shim(place.root / "site", dying)})


def test_a_client_that_tells_what_cannot_be_is_named(small_workspace: SmallWorkspace) -> None:
    impossible = Surveyed(0, 0, 0, 1, 0, BlockSpec("0" * 64, (ArraySpec("mean", "float64", (2,)),)), ())

    async def lie(port: int) -> None:
        link, _ = await connect("127.0.0.1", port, os.urandom(16), PASSPHRASE)
        await link.send(Join("liar", "0", "tensorflow", "cpu", 1, 0))
        with contextlib.suppress(ConnectionFailed):
            while True:
                if isinstance(await link.receive(), Survey):
                    await link.send(impossible)

    with small_workspace.server(*flags(free_port(), **{**TINY_JOB, "data": "client"})) as server:
        port = port_of(server)
        server.expect("Waiting for 1 more")
        asyncio.run(lie(port))
        server.finish(2)
    assert_reported("survey.malformed", server.output)
    assert "liar" in server.output


def test_a_folder_that_models_cannot_be_written_to_is_named(small_workspace: SmallWorkspace) -> None:
    (small_workspace.root / "model" / "collected").write_text("a file where a folder must be")
    with small_workspace.server("--json", *flags(free_port(), **{**TINY_JOB, "local": 1, "epochs": 1})) as server:
        server.finish(exit_code("system.refused"))
    assert_reported("system.refused", server.output)
    assert b'"code":"system.refused"' in server.stdout
    assert "model/collected" in server.output
    assert "Traceback" not in server.output


# --- the demo ---------------------------------------------------------------------------------------------------


def other_files(folder: Path) -> dict[str, str]:
    (folder / "lanfit" / "dataset" / "X").mkdir(parents=True)
    (folder / "lanfit" / "dataset" / "X" / "mine.csv").write_text("1,2\n")
    return {}


def half_an_installation(folder: Path) -> dict[str, str]:
    """A server without the samples that lie beside it."""
    shutil.copytree(ROOT / "server" / "lanfit_server", folder / "installed" / "lanfit_server")
    path = [str(folder / "installed"), str(ROOT / "src"), str(ROOT / "client")]
    return {"PYTHONPATH": os.pathsep.join(path)}


@pytest.mark.parametrize(
    ("corrupt", "code", "cause"),
    [
        (other_files, "demo.other-files", "dataset"),
        (half_an_installation, "demo.no-sample", "model/digits.h5"),
    ],
)
def test_what_keeps_the_demo_from_starting_is_named(
    corrupt: Callable[[Path], dict[str, str]], code: str, cause: str, tmp_path: Path
) -> None:
    environment = corrupt(tmp_path)
    with Program("demo", "--json", folder=tmp_path, passphrase=None, environment=environment) as demo:
        demo.finish(2)
    assert_reported(code, demo.output)
    assert f'"code":"{code}"'.encode() in demo.stdout
    assert cause in demo.output
