"""Step 4: the training loop, what it asks of a backend, and the metrics."""
