"""The server machine: asks, listens, deals, collects."""
