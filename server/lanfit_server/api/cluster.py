"""`lanfit.Cluster`: Keras' `fit` on clients. Sends jobs to a service process, and receives its events."""

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

from lanfit.core.passphrase import PASSPHRASE_VARIABLE
from lanfit.errors import ChildDied, LanfitError, lanfit_error
from lanfit.models.structure import gives_dict, input_names, output_names, takes_dict
from lanfit.settings.job import FIELDS
from lanfit_server.api.arguments import (
    check_model,
    check_rounds,
    check_steps,
    check_supported,
    job_values,
    loudness,
    method_of,
    rounds_and_epochs,
)
from lanfit_server.api.callbacks import check_callbacks, keeps_best, listed
from lanfit_server.api.configs import check_functions, full_configs
from lanfit_server.api.connection import Connection
from lanfit_server.api.custom_objects import (
    check_arrays,
    check_own_training,
    files_for,
    named_files,
    travelling,
    used_by,
)
from lanfit_server.api.datasets import Names, is_dataset
from lanfit_server.api.progress import Progress
from lanfit_server.api.rows import Rows, class_weights, kind_of, rows_of
from lanfit_server.api.service_messages import (
    Began,
    EpochDone,
    Finished,
    Fit,
    GoOn,
    Notice,
    Open,
    Opened,
    RoundDone,
    Steer,
)
from lanfit_server.api.watching import Watcher
from lanfit_server.api.wording import in_python
from lanfit_server.api.workspaces import workspace_of
from lanfit_server.methods.changes import checked, read_change, unchangeable
from lanfit_server.methods.registry import METHODS
from lanfit_server.run.instructions import Change
from lanfit_server.start.page_settings import PAGE
from lanfit_server.store.array_source import ArraySource
from lanfit_server.store.summary import Summary, read_summary

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8470
DEFAULT_BATCH = 32
#: Fields of a job about data folders or reading files, which can't be combined with arrays.
OF_FILES = ("data", "dataset", "npz_key", "decimal", "thousands")


class Cluster:
    """Clients to train on: machines in the LAN, processes on this machine, or simulated ones.

    Clients stay, with their trainers warm, from one `fit` to the next, until `close` or the end of the `with`.

    Args:
        address: HOST or HOST:PORT to listen on, for clients of the LAN; "0.0.0.0" is every interface.
        clients: how many of them take part; default: 2.
        local: instead of an address: the number of clients to start on this machine.
        simulated: instead of both: the number of simulated clients, which share a pool of trainers.
        pool: the number of those trainers; default: the number of cores of the machine.
        passphrase: that clients of the LAN must know; else LANFIT_PASSPHRASE, else one is made and shown.
        workspace: the folder for models and logs; else the current folder if it has model/ and dataset/, else
            ./lanfit/.
        threads: of each trainer of this machine; else its cores, divided by their number.
        backend: what trains: "tensorflow", "jax" or "torch"; else what each client has.
        dashboard: whether the live page is served: the link is printed, and is in `dashboard_url`. Every fit of this
            cluster is shown there, and can be paused, stopped and changed; further runs can be set up when none is in
            progress.
        dashboard_host: the address at which it is served: 127.0.0.1 if nothing is said here and in server.toml.
            "0.0.0.0" serves it on the network as well; then `class_url` is a second link, which allows looking only.
        dashboard_port: its port: 8471 if nothing is said; 0 is any free one. If it is in use, the next free one.
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
        dashboard: bool = False,
        dashboard_host: str | None = None,
        dashboard_port: int | None = None,
    ) -> None:
        places = {"an address": address, "local=": local, "simulated=": simulated}
        given = [name for name, value in places.items() if value is not None]
        if len(given) != 1:
            raise lanfit_error("cluster.one-place", given=" and ".join(given) or "none")
        if pool is not None and simulated is None:
            raise lanfit_error("cluster.pool", given=given[0])
        if backend is not None:
            FIELDS["backend"].read(backend, "backend")
        if (named := _named(dashboard_host=dashboard_host, dashboard_port=dashboard_port)) and not dashboard:
            raise lanfit_error("cluster.dashboard", given=" and ".join(f"{name}=" for name in named))
        for name, value in named.items():
            PAGE[name].read(value, name)
        own = _positive_int("local", local) or _positive_int("simulated", simulated)
        if own and _positive_int("clients", clients) not in (0, own):
            raise lanfit_error("cluster.clients-of-local", kind=given[0].strip("="), own=own, clients=clients)
        host, port = (LOOPBACK, 0) if own else _address(str(address))
        self.clients = own or _positive_int("clients", clients) or 2
        self.workspace = workspace_of(workspace)
        self._backend = backend
        self._custom = named_files(custom_objects)
        self._own_machines = own > 0
        self._lock = threading.Lock()
        self._number = 0
        self._is_over = False
        self._following: Watcher | None = None
        """The watcher of the current fit."""
        # The trainers of this machine share its cores.
        trainers = _positive_int("local", local) or _positive_int("pool", pool) or os.cpu_count() or 1
        self._open_message = Open(
            workspace=str(self.workspace.root),
            host=host,
            port=port,
            clients=self.clients,
            local=_positive_int("local", local),
            threads=_positive_int("threads", threads) or max(1, (os.cpu_count() or 1) // trainers),
            passphrase=None if own else passphrase or os.environ.get(PASSPHRASE_VARIABLE) or None,
            simulated=simulated is not None,
            pool=_positive_int("pool", pool),
            backend=backend,
            dashboard=dashboard,
            dashboard_host=dashboard_host,
            dashboard_port=dashboard_port,
        )
        self.dashboard_url: str | None = None
        """The link to the live page; None if it is not served. Another one after an error that ended the clients."""
        self.class_url: str | None = None
        """The link for those who only look, if other machines reach the page."""
        self._open()

    def _open(self) -> None:
        """Start the service process, which listens for clients; restart it if it ended with an error."""
        self._connection = Connection()
        with self._let_go_by_errors():
            self._connection.send(self._open_message)
            while not isinstance(opened := self._connection.receive(), Opened):
                pass  # lines about simulated clients, which were not requested yet
        self._scratch = Path(opened.scratch)
        self.dashboard_url, self.class_url = opened.dashboard_url, opened.class_url
        opening_progress = Progress(1, "", 0)
        for line in opened.dashboard_lines:
            opening_progress.note(line)
        if self._open_message.local or self._open_message.simulated:
            return
        opening_progress.note(opened.how_to_join)
        if opened.passphrase is not None:
            opening_progress.note(f"The passphrase is: {opened.passphrase}")
            self._open_message = msgspec.structs.replace(self._open_message, passphrase=opened.passphrase)

    # --- close ------------------------------------------------------------------------------------------------

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the clients that were started here, and disconnect all others. Can be called repeatedly."""
        self._is_over = True
        self._connection.close()

    @contextlib.contextmanager
    def _let_go_by_errors(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._connection.close()
            raise

    # --- commands -----------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Pause the run: clients stop after the current batches, and get no further tasks.

        Call it during `fit`, from callbacks or other threads.

        Raises:
            InputError: no run is in progress. The same for the other commands.
        """
        self._steer(Steer("pause"))

    def resume(self) -> None:
        """Resume the run after `pause`."""
        self._steer(Steer("resume"))

    def stop(self) -> None:
        """End the run with its results so far: `fit` returns the outcome, with the status "partial"."""
        self._steer(Steer("stop"))

    def change(
        self, *, rounds: int | None = None, epochs: int | None = None, learning_rate: float | None = None
    ) -> None:
        """Change settings of the run in progress. Its job.toml records the changes, so that it repeats the run.

        The events of the run record from when a change holds. If nothing is left that a change could apply to, a
        warning gives the reason, and nothing is changed.

        Args:
            rounds: the number of rounds, with method federated; a round in progress is finished.
            epochs: with method federated: the epochs per round, from the next round on; with methods fit and kfold:
                the epochs of every shard and fold that is not finished; an epoch in progress is finished.
            learning_rate: the learning rate of the clients' optimizer, from the next round or epoch on. It can't
                replace a schedule.

        Raises:
            InputError: no run is in progress, a setting can't be changed, or a value is not valid; nothing is changed.
        """
        given = {"rounds": rounds, "epochs": epochs, "learning_rate": learning_rate}
        values = {setting: value for setting, value in given.items() if value is not None}
        if not values:
            raise lanfit_error("cluster.no-change")
        watcher = self._running("change")
        steers = [Steer("change", setting, read_change(setting, value)) for setting, value in values.items()]
        for each in steers:
            checked(Change(each.setting, each.value), watcher.method, watcher.unchangeable)
        for each in steers:
            self._connection.send(each)
        if rounds is not None:
            watcher.expect(int(rounds))

    def _steer(self, steer: Steer) -> None:
        self._running(steer.command)
        self._connection.send(steer)

    def _running(self, command: str) -> Watcher:
        if self._following is None or self._following.run is None:
            raise lanfit_error("cluster.no-run", command=command)
        return self._following

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
        """Train a compiled model on the clients, in place; return a `keras.callbacks.History`.

        Names, order and meaning of the arguments are those of Keras' `fit`; what a cluster can't do is refused. Those
        behind `*` are fields of a job, as are all `fields`: see docs/reference.md.

        Args:
            steps_per_epoch: the number of batches that are read from a dataset and used in every epoch.
            epochs: passes over the rows. With method federated a round is one of them; when rounds are given, too, so
                many in each round.
            callbacks: called in this program at the ends of rounds, or of epochs; batch hooks are not.
            validation_split: the share of each client's rows; drawn with the seed, stratified (Keras takes the last).
            validation_data: what every round is evaluated on; with method fit each client's validation rows.
            min_clients, start_after: a fit waits for as many clients as the cluster has; with `start_after`, seconds or
                "5m", it begins then with the connected ones, if they are at least `min_clients`.
            custom_objects: as for `Cluster`; for this fit instead of those of the cluster.

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
        check_arrays(model, x, y)
        used = used_by(model)
        check_functions(model)
        files = files_for(used, named_files(custom_objects) or self._custom, own_machines=self._own_machines)
        method = method_of(method)
        chosen = {"method": method, "normalizer": normalizer, "seed": seed, "test_split": test_split, "keep": keep}
        check_rounds(method, {"rounds": rounds, "strategy": strategy})
        if METHODS[method].in_rounds:
            rounds, epochs = rounds_and_epochs(rounds, epochs)
            chosen |= {"rounds": rounds, "strategy": strategy}
        chosen |= {"start_after": start_after, "min_clients": min_clients}
        chosen |= {"epochs": epochs, "backend": self._backend, **fields}
        chosen["validation_split"] = 0.0 if validation_data is not None else validation_split
        values = job_values({**chosen, "custom_objects": [str(file) for file in files] or None})
        loud = loudness(verbose)
        if self._is_over:
            raise lanfit_error("cluster.closed")
        if not self._lock.acquire(blocking=False):
            raise lanfit_error("cluster.busy")
        try:
            if self._connection.is_closed:
                self._open()
            steps = check_steps(steps_per_epoch)
            rows, notes = self._rows(
                model, x, y, batch_size, sample_weight, class_weight, validation_data, steps, values
            )
            sent = travelling(model, used, rows["rows"] if rows is not None else None)
            if not sent.built and rows is not None:
                model.build((None, *rows["rows"].x.shape[1:]))
            given = listed(callbacks)
            is_validated = validation_data is not None or validation_split > 0
            if METHODS[method].in_rounds and is_validated and keeps_best(given):
                values["keep"] = "best"  # so that the model gets the outcome of the run
            watcher, progress = self._watcher(model, given, loud, values)
            with contextlib.closing(progress), used.known():
                for note in notes:
                    progress.note(note)
                history = self._run(self._request(sent, rows, values, watcher, progress), watcher, progress)
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
        """Return the arrays and their partition, None if the job names folders; and notes. Complete `values`."""
        if x is None:
            with_x = (y, sample_weight, class_weight)
            if any(value is not None for value in with_x) or not {"data", "dataset"} & set(values):
                raise lanfit_error("fit.no-rows")
            if validation_data is not None:
                raise lanfit_error("fit.other-rows-too", name="validation_data")
            values.setdefault("data", "keras" if "dataset" in values else "files")
            values["batch_size"] = str(batch_size or DEFAULT_BATCH)
            return None, ()
        if (other := next((name for name in OF_FILES if name in values), None)) is not None:
            raise lanfit_error("fit.other-rows-too", name=other)
        values["data"] = "arrays"
        needs_targets, rank = values.get("order") != "XX", _rank(model)
        names = _names(model)
        rows = rows_of(
            x, y, sample_weight, rank, needs_targets=needs_targets, wanted=batch_size, names=names, steps=steps
        )
        if rows.frozen:
            frozen = f"{rows.frozen} in the dataset: the dataset is read once, so every epoch has the same rows"
            warnings.warn(f"{frozen}. Put random layers into the model, e.g. keras.layers.RandomFlip.", stacklevel=3)
        values["batch_size"] = str(rows.batch or DEFAULT_BATCH)
        FIELDS["batch_size"].read(values["batch_size"], "batch_size")
        weights = rows.weights
        if class_weight is not None:
            weights = class_weights(class_weight, rows, _outputs(model))
        held = _validation(validation_data, rank, needs_targets, names)
        given = {
            "rows": replace(rows.samples, weights=weights),
            "validation": held.samples if held else None,
            "weigh_validation": class_weight is None,
            "shared_validation": held is not None and METHODS[values["method"]].shares_validation,
        }
        return given, rows.notes + (held.notes if held else ())

    def _watcher(
        self, model: Any, callbacks: list[Any], verbose: int, values: Mapping[str, str]
    ) -> tuple[Watcher, Progress]:
        has_rounds = METHODS[values["method"]].in_rounds
        total = int(values["rounds"] if has_rounds else values["epochs"])
        check_callbacks(callbacks, model, values["method"])
        progress = Progress(verbose, "round" if has_rounds else "epoch", total)
        watcher = Watcher(
            model,
            callbacks,
            progress,
            method=values["method"],
            in_rounds=has_rounds,
            total=total,
            clients=self.clients,
            verbose=verbose,
            unchangeable=_unchangeable(model, values),
        )
        return watcher, progress

    def _request(
        self, model: Any, rows: dict[str, Any] | None, values: dict[str, str], watcher: Watcher, progress: Progress
    ) -> Fit:
        """Write model and rows to files for the service."""
        self._number += 1
        folder = self._scratch / f"fit-{self._number}"
        folder.mkdir(parents=True)
        path = folder / f"{model.name}.keras"
        with full_configs(model) as left_out:
            model.save(path)
        for line in left_out:
            progress.note(line)
        given = ArraySource.write(folder / "rows.block", **rows) if rows is not None else None
        return Fit(values, str(path), given, str(folder), watcher.has_callbacks)

    def _run(self, request: Fit, watcher: Watcher, progress: Progress) -> Any:
        """Let the service run the job, and follow it; an exception ends the service."""
        with self._watched(watcher), self._let_go_by_interrupts(watcher, progress):
            self._connection.send(request)
            watcher.begin()
            while True:
                match message := self._connection.receive():
                    case Notice(text, warns=True):
                        warnings.warn(in_python(text), stacklevel=3)
                    case Notice(text):
                        progress.detail(in_python(text))
                    case Began(run):
                        watcher.run = run
                        progress.note(f"Run {run} has started; lanfit.attach({run!r}) returns it if this program ends.")
                    case EpochDone():
                        watcher.epoch(message)
                    case RoundDone():
                        stop = watcher.round(message)
                        if request.follows_rounds:
                            self._connection.send(GoOn(stop))
                    case Finished(summary):
                        return self._finished(read_summary(summary), watcher, progress)
                    case _:
                        raise AssertionError(f"the service sent {message!r} in the middle of a run")

    @contextlib.contextmanager
    def _watched(self, watcher: Watcher) -> Iterator[None]:
        """Direct commands to the run of this watcher in this block."""
        self._following = watcher
        try:
            yield
        finally:
            self._following = None

    @contextlib.contextmanager
    def _let_go_by_interrupts(self, watcher: Watcher, progress: Progress) -> Iterator[None]:
        """Keep the clients after an input error; end them with the run after Ctrl-C or an error in a callback.

        The next `fit` starts them again. The model keeps what was trained so far, as in Keras.
        """
        try:
            yield
        except LanfitError as error:
            if isinstance(error, ChildDied):
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
            raise lanfit_error("fit.ended", run=summary.run, status=summary.status, why=why, log=log)
        history = watcher.finish(summary, self.workspace)
        figures = " - ".join(f"{name}: {value:.4f}" for name, value in summary.final.metrics.items())
        progress.note(f"Run {summary.run}: {summary.status}, {summary.seconds['total']:.1f} s. {figures}".rstrip())
        return history


def _unchangeable(model: Any, values: Mapping[str, str]) -> Mapping[str, LanfitError]:
    """Return the settings that can't be changed in a run with these values, and why, as far as known here."""
    import keras

    in_rounds = METHODS[values["method"]].in_rounds
    local_steps = int(values["local_steps"]) if in_rounds and "local_steps" in values else None
    found = unchangeable(local_steps, keras.saving.serialize_keras_object(model.optimizer))
    if {"optimizer", "learning_rate"} & values.keys():  # which replace those of the model
        found.pop("learning_rate", None)
    return found


def _named(**given: Any) -> dict[str, Any]:
    """Return the arguments that were given."""
    return {name: value for name, value in given.items() if value is not None}


def _positive_int(name: str, value: int | None) -> int:
    """Return a number, 0 if it was not given.

    Raises:
        InputError: it is no whole number from 1 on.
    """
    if value is None:
        return 0
    field = FIELDS["threads" if name == "threads" else "clients"]
    return int(str(replace(field, help="How many there are.").read(value, name)))


def _address(address: str) -> tuple[str, int]:
    """Return host and port of HOST or HOST:PORT; an IPv6 address with a port is in brackets."""
    host, colon, port = address.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = address, str(DEFAULT_PORT)
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise lanfit_error("cluster.address", address=address)
    return host, int(port)


def _rank(model: Any) -> int:
    """Return the number of dimensions of the model's input, with rows; 2 for a model that is not built yet."""
    inputs = getattr(model, "inputs", None)
    return len(inputs[0].shape) if inputs else 2


def _outputs(model: Any) -> int:
    outputs = getattr(model, "outputs", None)
    return int(outputs[0].shape[-1] or 1) if outputs else 1


def _names(model: Any) -> Names:
    """Return the names of a model's inputs and outputs, which are unknown before it is built."""
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        return Names()
    return Names(input_names(model), output_names(model), takes_dict(model), gives_dict(model))


def _validation(given: Any, rank: int, needs_targets: bool, names: Names) -> Rows | None:
    if given is None:
        return None
    if is_dataset(given):
        return rows_of(given, None, None, rank, needs_targets=needs_targets, name="validation_data's ", names=names)
    if not isinstance(given, tuple | list) or not 2 <= len(given) <= 3:
        what = f"a tuple of {len(given)}" if isinstance(given, tuple) else kind_of(given)
        raise lanfit_error("fit.validation-data", what=what)
    x, y, weights = (*given, None)[:3]
    return rows_of(x, y, weights, rank, needs_targets=needs_targets, name="validation_data's ", names=names)
