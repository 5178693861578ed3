"""Steps 3 and 5: the wire format. Bytes in, events out: no sockets, no asyncio, no clocks."""
