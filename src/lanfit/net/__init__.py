"""Steps 3 and 5: the wire protocol over TLS and asyncio, and over memory for tests."""
