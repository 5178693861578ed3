"""What official Keras and TensorFlow examples build, compile and fit, on small data that is made here.

Each function is named after the page whose structure it follows: the same kinds of layers, arguments, callbacks and
use of the history, in code and with data of our own. It gets `fit(model, x, ...)`, which is Keras' or a cluster's, and
returns the loss on the rows that it was fitted on.
"""
