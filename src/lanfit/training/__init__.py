"""Step 4: the training loop, what it asks of a backend, the metrics, and the process that trains."""
