"""Steps 1 and 2 of the way of the data: read files, pair and check rows, split, normalize. No network, no Keras."""
