"""Fuzzing: inputs that are almost valid, to everything that reads bytes of a peer or of a file."""
