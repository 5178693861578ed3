"""`python -m lanfit_client` is `lanfit client`: how the server starts clients on its own machine."""

from lanfit_client.cli import client

client(prog_name="lanfit client")
