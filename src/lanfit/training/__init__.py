"""Training: the loop, the backend protocol, metrics, checkpoints, and the trainer process."""

from lanfit.errors import register
from lanfit.training.errors import ERRORS

register(ERRORS)
