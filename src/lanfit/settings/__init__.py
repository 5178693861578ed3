"""What can be set: each setting is declared once, with its type, default, prompt, help and flag."""

from lanfit.errors import register
from lanfit.settings.errors import ERRORS

register(ERRORS)
