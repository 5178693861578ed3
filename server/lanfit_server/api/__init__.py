"""The Python interface: `lanfit.Cluster` and `lanfit.attach`. Runs in the user's program, beside Keras.

It decides nothing about runs: the service process does, with what the command line uses.
"""
