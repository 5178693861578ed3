"""Steps 3 and 5: the wire protocol over TLS and asyncio, and over memory for tests."""

from lanfit.errors import register
from lanfit.net.errors import ERRORS

register(ERRORS)
