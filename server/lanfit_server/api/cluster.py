"""`lanfit.Cluster`: Keras' `fit` on clients. Sends jobs to a service process, and hears how they get on."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from lanfit.errors import ChildDied, LanfitError
from lanfit.job import FIELDS
from lanfit.mistakes import mistake
from lanfit.passphrase import PASSPHRASE_VARIABLE
from lanfit_server.api.arguments import (
    check_model,
    check_rounds,
    check_steps,
    check_supported,
    in_rounds,
    job_values,
    loudness,
)
from lanfit_server.api.callbacks import check_callbacks, keeps_best, listed
from lanfit_server.api.configs import check_functions, whole_configs
from lanfit_server.api.connection import Connection
from lanfit_server.api.custom_objects import check_own_training, files_for, named_files, travelling, used_by
from lanfit_server.api.datasets import is_dataset
from lanfit_server.api.progress import Progress
from lanfit_server.api.rows import Names, Rows, class_weights, kind_of, rows_of
from lanfit_server.api.watching import Watcher
from lanfit_server.api.wording import in_python
from lanfit_server.api.workspaces import workspace_of
from lanfit_server.given_rows import GivenRows
from lanfit_server.resuming import read_summary
from lanfit_server.service_messages import Began, EpochDone, Finished, Fit, GoOn, Open, Opened, RoundDone, Said
from lanfit_server.summary import Summary

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8470
DEFAULT_BATCH = 32
#: Fields of a job that say where rows are, or how files are read: not beside arrays.
OF_FILES = ("data", "dataset", "npz_key", "decimal", "thousands")


class Cluster:
    """Clients to train on: machines of the LAN, processes of this one, or simulated in memory.

    Clients stay, with their trainers warm, from one `fit` to the next, until `close` or the end of the `with`.

    Args:
        address: HOST or HOST:PORT to listen on, for clients of the LAN; "0.0.0.0" is every interface.
        clients: how many of them take part; 2 if nothing is said.
        local: instead of an address: start so many clients on this machine.
        simulated: instead of both: so many clients in memory, which share a pool of trainers.
        pool: how many trainers those are; as many as the machine has cores, if nothing is said.
        passphrase: that clients of the LAN must know; else LANFIT_PASSPHRASE, else one is made and shown.
        workspace: the folder for models and logs; else the current folder if it has model/ and dataset/, else
            ./lanfit/.
        threads: of each trainer of this machine; else its cores, divided by their number.
        backend: what trains: "tensorflow", "jax" or "torch"; else what each client has.
        custom_objects: the Python file that defines the layers, losses and metrics of models that are not Keras' own:
            a path, the imported module, or a dict as Keras has it. Clients of the LAN must have and allow the same
            file; for others it is found by itself.

    Raises:
        InputError: not one place, or it can't be had.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        clients: int | None = None,
        local: int | None = None,
        simulated: int | None = None,
        pool: int | None = None,
        passphrase: str | None = None,
        workspace: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        backend: str | None = None,
        custom_objects: Any = None,
    ) -> None:
        places = {"an address": address, "local=": local, "simulated=": simulated}
        given = [name for name, value in places.items() if value is not None]
        if len(given) != 1:
            raise mistake("cluster.one-place", given=" and ".join(given) or "none")
        if pool is not None and simulated is None:
            raise mistake("cluster.pool", given=given[0])
        if backend is not None:
            FIELDS["backend"].read(backend, "backend")
        own = _whole("local", local) or _whole("simulated", simulated)
        if own and _whole("clients", clients) not in (0, own):
            raise mistake("cluster.clients-of-local", kind=given[0].strip("="), own=own, clients=clients)
        host, port = (LOOPBACK, 0) if own else _address(str(address))
        self.clients = own or _whole("clients", clients) or 2
        self.workspace = workspace_of(workspace)
        self._backend = backend
        self._custom = named_files(custom_objects)
        self._own_machines = own > 0
        self._lock = threading.Lock()
        self._number = 0
        self._is_over = False
        # As many trainers of this machine share its cores.
        trainers = _whole("local", local) or _whole("pool", pool) or os.cpu_count() or 1
        self._opening = Open(
            workspace=str(self.workspace.root),
            host=host,
            port=port,
            clients=self.clients,
            local=_whole("local", local),
            threads=_whole("threads", threads) or max(1, (os.cpu_count() or 1) // trainers),
            passphrase=None if own else passphrase or os.environ.get(PASSPHRASE_VARIABLE) or None,
            simulated=simulated is not None,
            pool=_whole("pool", pool),
            backend=backend,
        )
        self._open()

    def _open(self) -> None:
        """Start the service process, which opens the place for clients; again after one that an error has ended."""
        self._connection = Connection()
        with self._let_go_by_errors():
            self._connection.send(self._opening)
            while not isinstance(opened := self._connection.receive(), Opened):
                pass  # lines about the simulated clients, which are not asked for yet
        self._scratch = Path(opened.scratch)
        if self._opening.local or self._opening.simulated:
            return
        told = Progress(1, "", 0)
        told.note(opened.how_to_join)
        if opened.passphrase is not None:
            told.note(f"The passphrase is: {opened.passphrase}")
            self._opening = msgspec.structs.replace(self._opening, passphrase=opened.passphrase)

    # --- its end ------------------------------------------------------------------------------------------------

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the clients that were started here, let go of all others; harmless when that is done."""
        self._is_over = True
        self._connection.close()

    @contextlib.contextmanager
    def _let_go_by_errors(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._connection.close()
            raise

    # --- fit ----------------------------------------------------------------------------------------------------

    def fit(
        self,
        model: Any,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
        *,
        method: str = "federated",
        rounds: int | None = None,
        normalizer: str = "none",
        seed: int = 0,
        min_clients: int | None = None,
        start_after: float | str | None = None,
        strategy: str = "fedavg",
        test_split: float = 0.0,
        keep: str = "last",
        custom_objects: Any = None,
        **fields: Any,
    ) -> Any:
        """Train a compiled model on the clients, in place; returns a `keras.callbacks.History`.

        Names, order and meaning of the arguments are those of Keras' `fit`; what a cluster can't do is refused. Those
        behind `*` are fields of a job, as are all `fields`: see docs/reference.md.

        Args:
            steps_per_epoch: of a dataset so many batches are read, and they are every epoch's.
            epochs: passes over the rows. With method federated a round is one of them; when rounds are given, too, so
                many in each round.
            callbacks: called in this program at the ends of rounds, or of epochs; batch hooks are not.
            validation_split: the share of each client's rows; drawn with the seed, stratified (Keras takes the last).
            validation_data: what every round is evaluated on; with method fit each client's validation rows.
            min_clients, start_after: a fit waits for as many clients as the cluster has; with `start_after`, seconds or
                "5m", it begins then with those that are there, if they are at least `min_clients`.
            custom_objects: as for `Cluster`; for this fit instead of what was said there.

        Raises:
            InputError: an argument, the model or the rows can't be used; nothing was begun.
            TrainingError: the run ended without a model.
        """
        check_supported(
            {
                "shuffle": shuffle,
                "initial_epoch": initial_epoch,
                "steps_per_epoch": None if is_dataset(x) else steps_per_epoch,
                "validation_steps": validation_steps,
                "validation_batch_size": validation_batch_size,
                "validation_freq": validation_freq,
            }
        )
        check_model(model)
        check_own_training(model)
        used = used_by(model)
        check_functions(model)
        files = files_for(used, named_files(custom_objects) or self._custom, own_machines=self._own_machines)
        chosen = {"method": method, "normalizer": normalizer, "seed": seed, "test_split": test_split, "keep": keep}
        check_rounds(method, {"rounds": rounds, "strategy": strategy})
        if method == "federated":
            rounds, epochs = in_rounds(rounds, epochs)
            chosen |= {"rounds": rounds, "strategy": strategy}
        chosen |= {"start_after": start_after, "min_clients": min_clients}
        chosen |= {"epochs": epochs, "backend": self._backend, **fields}
        chosen["validation_split"] = 0.0 if validation_data is not None else validation_split
        values = job_values({**chosen, "custom_objects": [str(file) for file in files] or None})
        loud = loudness(verbose)
        if self._is_over:
            raise mistake("cluster.closed")
        if not self._lock.acquire(blocking=False):
            raise mistake("cluster.busy")
        try:
            if self._connection.is_closed:
                self._open()
            steps = check_steps(steps_per_epoch)
            rows, notes = self._rows(
                model, x, y, batch_size, sample_weight, class_weight, validation_data, steps, values
            )
            sent = travelling(model, used, rows["arrays"]["x"] if rows is not None else None)
            if not sent.built and rows is not None:
                model.build((None, *rows["arrays"]["x"].shape[1:]))
            given = listed(callbacks)
            is_validated = validation_data is not None or validation_split > 0
            if method == "federated" and is_validated and keeps_best(given):
                values["keep"] = "best"  # so that the outcome of the run is what the model has in the end
            watcher, progress = self._watcher(model, given, loud, values)
            with contextlib.closing(progress), used.known():
                for note in notes:
                    progress.note(note)
                history = self._run(self._order(sent, rows, values, watcher, progress), watcher, progress)
                history._known = used.known
                return history
        finally:
            self._lock.release()

    def _rows(
        self,
        model: Any,
        x: Any,
        y: Any,
        batch_size: int | None,
        sample_weight: Any,
        class_weight: Mapping[int, float] | None,
        validation_data: Any,
        steps: int | None,
        values: dict[str, str],
    ) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
        """The arrays to deal out, and how; None when they are where the job says; and notes. Completes `values`."""
        if x is None:
            with_x = (y, sample_weight, class_weight)
            if any(value is not None for value in with_x) or not {"data", "dataset"} & set(values):
                raise mistake("fit.no-rows")
            if validation_data is not None:
                raise mistake("fit.other-rows-too", name="validation_data")
            values.setdefault("data", "keras" if "dataset" in values else "files")
            values["batch_size"] = str(batch_size or DEFAULT_BATCH)
            return None, ()
        if (other := next((name for name in OF_FILES if name in values), None)) is not None:
            raise mistake("fit.other-rows-too", name=other)
        values["data"] = "arrays"
        needs_targets, rank = values.get("order") != "XX", _rank(model)
        names = _names(model)
        rows = rows_of(
            x, y, sample_weight, rank, needs_targets=needs_targets, wanted=batch_size, names=names, steps=steps
        )
        if rows.frozen:
            frozen = f"{rows.frozen} in the dataset: it is read once, so that every epoch has the same rows"
            warnings.warn(f"{frozen}. Put random layers into the model, e.g. keras.layers.RandomFlip.", stacklevel=3)
        values["batch_size"] = str(rows.batch or DEFAULT_BATCH)
        FIELDS["batch_size"].read(values["batch_size"], "batch_size")
        weights = rows.weights
        if class_weight is not None:
            weights = class_weights(class_weight, rows, _outputs(model))
        held = _validation(validation_data, rank, needs_targets, names)
        given = {
            "arrays": {
                "x": rows.x,
                "y": rows.y,
                "weights": weights,
                "x_validation": held.x if held else None,
                "y_validation": held.y if held else None,
                "weights_validation": held.weights if held else None,
            },
            "weigh_validation": class_weight is None,
            "shared_validation": held is not None and values["method"] == "fit",
        }
        return given, rows.notes + (held.notes if held else ())

    def _watcher(
        self, model: Any, callbacks: list[Any], verbose: int, values: Mapping[str, str]
    ) -> tuple[Watcher, Progress]:
        in_rounds = values["method"] == "federated"
        total = int(values["rounds"] if in_rounds else values["epochs"])
        check_callbacks(callbacks, model, values["method"])
        progress = Progress(verbose, "round" if in_rounds else "epoch", total)
        watcher = Watcher(
            model,
            callbacks,
            progress,
            in_rounds=in_rounds,
            total=total,
            clients=self.clients,
            verbose=verbose,
        )
        return watcher, progress

    def _order(
        self, model: Any, rows: dict[str, Any] | None, values: dict[str, str], watcher: Watcher, progress: Progress
    ) -> Fit:
        """Write model and rows to where the service finds them."""
        self._number += 1
        folder = self._scratch / f"fit-{self._number}"
        folder.mkdir(parents=True)
        path = folder / f"{model.name}.keras"
        with whole_configs(model) as left_out:
            model.save(path)
        for line in left_out:
            progress.note(line)
        given = GivenRows.write(folder / "rows.block", **rows) if rows is not None else None
        return Fit(values, str(path), given, str(folder), watcher.has_callbacks)

    def _run(self, order: Fit, watcher: Watcher, progress: Progress) -> Any:
        """Let the service run it, and follow; whatever ends this early ends the service."""
        with self._let_go_by_interrupts(watcher, progress):
            self._connection.send(order)
            watcher.begin()
            while True:
                match told := self._connection.receive():
                    case Said(text):
                        progress.detail(in_python(text))
                    case Began(run):
                        watcher.run = run
                        progress.note(f"Run {run} has begun; lanfit.attach({run!r}) reads it if this program ends.")
                    case EpochDone():
                        watcher.epoch(told)
                    case RoundDone():
                        stop = watcher.round(told)
                        if order.hears_rounds:
                            self._connection.send(GoOn(stop))
                    case Finished(summary):
                        return self._finished(read_summary(summary), watcher, progress)
                    case _:
                        raise AssertionError(f"the service told {told!r} in the middle of a run")

    @contextlib.contextmanager
    def _let_go_by_interrupts(self, watcher: Watcher, progress: Progress) -> Iterator[None]:
        """A mistake leaves the clients as they are; Ctrl-C, or an error of a callback, ends them with the run.

        The next `fit` starts them again. The model keeps what was trained so far, as in Keras.
        """
        try:
            yield
        except LanfitError as wrong:
            if isinstance(wrong, ChildDied):
                self._connection.close()
            raise
        except BaseException:
            self._connection.close()
            if (kept := watcher.interrupted(self.workspace)) is not None:
                progress.note(kept)
            raise

    def _finished(self, summary: Summary, watcher: Watcher, progress: Progress) -> Any:
        if summary.final is None:
            why = f" ({in_python(summary.error)})" if summary.error else ""
            log = self.workspace.run_folder(summary.run) / "server.log"
            raise mistake("fit.ended", run=summary.run, status=summary.status, why=why, log=log)
        history = watcher.finish(summary, self.workspace)
        figures = " - ".join(f"{name}: {value:.4f}" for name, value in summary.final.metrics.items())
        progress.note(f"Run {summary.run}: {summary.status}, {summary.seconds['total']:.1f} s. {figures}".rstrip())
        return history


def _whole(name: str, value: int | None) -> int:
    """A number of things, 0 for none given.

    Raises:
        InputError: it is no whole number from 1 on.
    """
    if value is None:
        return 0
    field = FIELDS["threads" if name == "threads" else "clients"]
    return int(str(replace(field, help="How many there are.").read(value, name)))


def _address(address: str) -> tuple[str, int]:
    """Host and port of HOST or HOST:PORT; an IPv6 address with a port stands in brackets."""
    host, colon, port = address.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = address, str(DEFAULT_PORT)
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise mistake("cluster.address", address=address)
    return host, int(port)


def _rank(model: Any) -> int:
    """Dimensions of the model's input, rows included; 2 for one that is not built yet."""
    inputs = getattr(model, "inputs", None)
    return len(inputs[0].shape) if inputs else 2


def _outputs(model: Any) -> int:
    outputs = getattr(model, "outputs", None)
    return int(outputs[0].shape[-1] or 1) if outputs else 1


def _names(model: Any) -> Names:
    """What a model of one input and one output calls them."""
    inputs, outputs = getattr(model, "inputs", None) or (), getattr(model, "output_names", None) or ()
    return Names(tuple(str(each.name) for each in inputs), tuple(map(str, outputs)))


def _validation(given: Any, rank: int, needs_targets: bool, names: Names) -> Rows | None:
    if given is None:
        return None
    if is_dataset(given):
        return rows_of(given, None, None, rank, needs_targets=needs_targets, name="validation_data's ", names=names)
    if not isinstance(given, tuple | list) or not 2 <= len(given) <= 3:
        what = f"a tuple of {len(given)}" if isinstance(given, tuple) else kind_of(given)
        raise mistake("fit.validation-data", what=what)
    x, y, weights = (*given, None)[:3]
    return rows_of(x, y, weights, rank, needs_targets=needs_targets, name="validation_data's ", names=names)
