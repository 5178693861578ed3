"""What bench/flower.py has Flower do. Runs in the environment that has flwr; knows nothing of lanfit.

As a Flower app: a ClientApp that trains on its node's rows, a ServerApp that averages and scores. As a program:

    python app.py submit SUPERLINK FOLDER     # starts runs of the app in a folder
    python app.py serve ADDRESS               # the deprecated start_server, whose clients are processes that stay
    python app.py join ADDRESS ROWS           # the deprecated start_client

`submit` and `serve` print a line when both nodes are there, then for each line that they read (JSON, the run's
configuration) one line when the run is over. Keras is imported where it is needed: not every process needs it.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

NODES = 2
#: How often this program and the ServerApp ask for what they wait for. Flower's own `send_and_receive` asks every 3 s.
ASK_SECONDS = 0.1

client, server = ClientApp(), ServerApp()


@cache
def prepare_keras(threads: int) -> Any:
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return keras


@cache
def compiled(rate: float, steps: int, jit: bool, threads: int) -> Any:
    """The model of `federated_parts.mlp`; made once in a process."""
    keras = prepare_keras(threads)
    hidden = (keras.layers.Dense(width, "relu") for width in (200, 200))
    model = keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10, "softmax")])
    model.compile(
        keras.optimizers.SGD(rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=steps,
        jit_compile=jit,
    )
    return model


@cache
def rows(folder: str) -> tuple[Any, Any]:
    """The rows of a folder; read once in a process."""
    return np.load(Path(folder) / "x.npy"), np.load(Path(folder) / "y.npy")


def model_of(config: Any) -> Any:
    return compiled(float(config["rate"]), int(config["steps"]), bool(config["jit"]), int(config["threads"]))


def trained(weights: list[Any], folder: str, config: Any) -> tuple[list[Any], int]:
    """Weights that were trained for a round, and on how many rows."""
    model, (x, y) = model_of(config), rows(folder)
    model.set_weights(weights)
    model.fit(x, y, batch_size=int(config["batch-size"]), epochs=int(config["epochs"]), verbose=0)
    return model.get_weights(), len(x)


def evaluated(weights: list[Any], number: int, config: Any) -> float:
    """The accuracy on the server's test rows; the last round's weights are written."""
    model, (x, y) = model_of(config), rows(str(config["test"]))
    model.set_weights(weights)
    accuracy = float(model.evaluate(x, y, batch_size=256, verbose=0)[1])
    if number == int(config["rounds"]):
        np.savez(str(config["outcome"]), *weights)
    return accuracy


def start_weights(config: Any) -> list[Any]:
    with np.load(str(config["start"])) as arrays:
        return list(arrays.values())


# --- the Flower app ---------------------------------------------------------------------------------------------


@client.train()
def train(message: Message, context: Context) -> Message:
    weights = message.content["arrays"].to_numpy_ndarrays()
    weights, count = trained(weights, str(context.node_config["rows"]), context.run_config)
    content = RecordDict({"arrays": ArrayRecord(weights), "metrics": MetricRecord({"num-examples": count})})
    return Message(content=content, reply_to=message)


class PromptGrid:
    """A grid that looks for replies more often than Flower's own."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        missing, found = set(self._grid.push_messages(messages)), list[Message]()
        end = time.monotonic() + (timeout or float("inf"))
        while missing and time.monotonic() < end:
            for reply in self._grid.pull_messages(missing):
                found.append(reply)
                missing.discard(reply.metadata.reply_to_message_id)
            if missing:
                time.sleep(ASK_SECONDS)
        return found


@server.main()
def serve(grid: Grid, context: Context) -> None:
    config = context.run_config
    # While the clients train, not before: they need not wait for it.
    importing = threading.Thread(target=prepare_keras, args=(int(config["threads"]),))

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord | None:
        if not number:
            importing.start()
            return None
        importing.join()
        return MetricRecord({"accuracy": evaluated(arrays.to_numpy_ndarrays(), number, config)})

    strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=NODES)
    start = ArrayRecord(start_weights(config))
    strategy.start(PromptGrid(grid), start, num_rounds=int(config["rounds"]), evaluate_fn=evaluate)


# --- what starts runs of it -------------------------------------------------------------------------------------


def submit(superlink: str, folder: str) -> None:
    """As `flwr run` does it, without the seconds that a command takes to start: the bundle is made before."""
    import hashlib

    from flwr.cli.build import build_fab_from_disk
    from flwr.cli.typing import SuperLinkConnection
    from flwr.cli.utils import init_http_client_from_connection
    from flwr.common.serde import fab_to_proto, user_config_to_proto
    from flwr.proto.control_pb2 import ListNodesRequest, ListRunsRequest, StartRunRequest
    from flwr.supercore.fab import Fab

    bundle = build_fab_from_disk(Path(folder))
    fab = fab_to_proto(Fab(hashlib.sha256(bundle).hexdigest(), bundle, {}))
    with contextlib.redirect_stdout(sys.stderr):
        control = init_http_client_from_connection(SuperLinkConnection("bench", superlink, insecure=True))
    while sum(node.status == "online" for node in control.ListNodes(ListNodesRequest()).nodes_info) < NODES:
        time.sleep(ASK_SECONDS)
    print("joined", flush=True)
    for line in sys.stdin:
        config = user_config_to_proto(json.loads(line))
        run = control.StartRun(StartRunRequest(fab=fab, override_config=config)).run_id
        while True:
            status = control.ListRuns(ListRunsRequest(run_id=run)).run_dict[run].status
            if status.status == "finished":
                break
            time.sleep(ASK_SECONDS)
        print(status.sub_status, status.details.replace("\n", " "), flush=True)


# --- the deprecated way, whose processes stay -------------------------------------------------------------------


def serve_for_processes(address: str) -> None:
    from flwr.common import ndarrays_to_parameters
    from flwr.server import Server, ServerConfig, SimpleClientManager, start_server
    from flwr.server.strategy import FedAvg

    class Patient(Server):
        """Begins when it is told to, any number of times."""

        def fit(self, num_rounds: int, timeout: float | None) -> Any:
            self.client_manager().wait_for(NODES)
            print("joined", flush=True)
            result = None
            for line in sys.stdin:
                config = json.loads(line)

                def evaluate(number: int, weights: Any, sent: Any, config: Any = config) -> Any:
                    return (0.0, {"accuracy": evaluated(weights, number, config)}) if number else None

                self.strategy = FedAvg(
                    fraction_evaluate=0.0,
                    min_evaluate_clients=0,
                    min_available_clients=NODES,
                    initial_parameters=ndarrays_to_parameters(start_weights(config)),
                    evaluate_fn=evaluate,
                    on_fit_config_fn=lambda number, config=config: config,
                )
                result = super().fit(int(config["rounds"]), timeout)
                print("completed", flush=True)
            return result

    prepare_keras(1)
    start_server(server_address=address, server=Patient(client_manager=SimpleClientManager()), config=ServerConfig())


def join(address: str, folder: str) -> None:
    from flwr.client import NumPyClient, start_client

    class Trains(NumPyClient):
        def fit(self, parameters: Any, config: Any) -> Any:
            return *trained(parameters, folder, config), {}

    prepare_keras(1)
    rows(folder)
    start_client(server_address=address, client=Trains().to_client())


if __name__ == "__main__":
    {"submit": submit, "serve": serve_for_processes, "join": join}[sys.argv[1]](*sys.argv[2:])
