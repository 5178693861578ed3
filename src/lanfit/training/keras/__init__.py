"""Training with Keras 3 on TensorFlow, JAX or PyTorch: one of the backends. Only the registry refers to it."""
