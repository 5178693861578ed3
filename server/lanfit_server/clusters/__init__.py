"""Where the clients are: on the network, on this machine, simulated."""

from lanfit.errors import register
from lanfit_server.clusters.errors import ERRORS

register(ERRORS)
