"""What a server keeps on disk: runs, tasks, leases and results."""

from lanfit.errors import register
from lanfit_server.store.errors import ERRORS

register(ERRORS)
