"""Steps 1 and 6: load a model without running its code, take it apart, write it so that plain Keras opens it."""
