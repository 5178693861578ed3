"""Steps 3 and 5: what goes over the wire. Bytes in, events out: no socket, no asyncio, no clock."""
