"""The command `lanfit`. Each subcommand is imported when it is used, so that help and questions appear immediately."""

from __future__ import annotations

from lanfit.core.interrupts import INTERRUPTED, Interruptible

with Interruptible():
    import contextlib
    import importlib
    import os
    import sys
    from typing import Any

    import click

    from lanfit import __version__

#: Subcommand → its module, its name there, and its help.
COMMANDS = {
    "prepare": ("lanfit_server.prepare_data.cli", "prepare", "Create dataset/ from a table or a folder of images."),
    "server": ("lanfit_server.cli", "server", "Ask for a job, admit clients, train on them, collect the models."),
    "dashboard": ("lanfit_server.cli", "dashboard", "Serve the live page, and do the runs that are set up there."),
    "client": ("lanfit_client.cli", "client", "Join a server and train for it."),
    "simulate": ("lanfit_server.cli", "simulate", "Run a job on simulated clients."),
    "predict": ("lanfit_server.prepare_data.cli", "predict", "Predict new data with a trained model."),
    "report": ("lanfit_server.cli", "report", "Make the report of a run again, and show it."),
    "demo": ("lanfit_server.cli", "demo", "Run a complete demo on this machine: digits, a server, two clients."),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand only to run it or to show its help."""

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        except SystemExit as end:
            if end.code == INTERRUPTED:
                # If Ctrl-C interrupts generated code (namedtuple), Python would end by the signal itself.
                with contextlib.suppress(OSError):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(INTERRUPTED)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        # Here, because `main` of click turns a Ctrl-C into "Aborted!" and exit code 1.
        with Interruptible():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lanfit")
def main() -> None:
    """model.fit() on all the machines you have."""


if __name__ == "__main__":
    main(prog_name="lanfit")
