"""The command `lanfit client`: reads the command line, and nothing more."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lanfit import backends
from lanfit.core.commands import interrupt_on_termination, reported
from lanfit.core.terminal import Terminal
from lanfit.core.workspace import find_workspace
from lanfit.net.addresses import Address, parse_address
from lanfit.settings.fields import Value, read_file
from lanfit_client.settings import DEFAULT_PORT, FIELDS, SETTINGS


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("address", required=False, metavar="[HOST[:PORT]]")
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="A file whose first line is the passphrase.")
@click.option("--fingerprint", help="The fingerprint that the server shows: join no other server.")
@click.option("--name", help="The name of this client.  [default: the name last entered, or the machine's name]")
@click.option("--parts", help="The parts to train on, if the job uses parts: 4 or 3-5.  [default: asks]")
@click.option("--backend", help=f"The backend: {backends.listed()}.  [default: the one that is installed]")
@click.option("--device", help="The device: auto, cpu or gpu.  [default: auto]")
@click.option("--threads", help="The number of threads of the trainer.  [default: the number of cores]")
@click.option(
    "--data",
    help="The folder with this client's own data in X/ and Y/: allows the server to train on it.  [default: asks]",
)
@click.option(
    "--min-rows", help="Own data: the minimum number of training rows to share anything with the server.  [default: 50]"
)
@click.option(
    "--custom-objects",
    help="Python files with custom layers and losses that this client's trainer may execute.  [default: none]",
)
@click.option("--workspace", type=click.Path(path_type=Path), help="The folder for models, logs and state.")
@click.option("--once", is_flag=True, help="Exit when a run has ended, instead of waiting for the next one.")
@click.option("--keep-data", is_flag=True, help="Keep received data after a run, for the next one.")
@click.option("--child", is_flag=True, hidden=True)
def client(
    address: str | None,
    passphrase_file: Path | None,
    fingerprint: str | None,
    name: str | None,
    parts: str | None,
    backend: str | None,
    device: str | None,
    threads: str | None,
    data: str | None,
    min_rows: str | None,
    custom_objects: str | None,
    workspace: Path | None,
    once: bool,
    keep_data: bool,
    child: bool,
) -> None:
    """Join the server at HOST and train for it.

    Without PORT, the port is 8470. Asks for anything that is not given.
    """
    interrupt_on_termination()
    terminal = Terminal().take_logs()
    with reported():
        place = find_workspace(workspace, Path.cwd())
        settings = read_file(place.client_settings, "settings file", SETTINGS) if place.client_settings.exists() else {}
        server = parse_address(address) if address else Address("")
        host, port = server.host or None, str(server.port or settings.get("port") or DEFAULT_PORT)
        texts = {"host": host, "port": port if host else None, "name": name, "parts": parts}
        texts |= {"backend": backend, "device": device, "threads": threads}
        texts["keep_data"] = "yes" if keep_data else None
        texts["data"] = str(Path(data).resolve()) if data else data
        texts["custom_objects"], texts["min_rows"] = custom_objects, min_rows
        given: dict[str, Value] = {
            key: FIELDS[key].read(value, FIELDS[key].question or FIELDS[key].flag)
            for key, value in texts.items()
            if value is not None
        }
        from lanfit_client.app import Client, Options

        sys.exit(Client(Options(place, given, settings, passphrase_file, fingerprint, once, child), terminal).run())
