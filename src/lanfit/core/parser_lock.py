"""The lock around what makes syntax trees: `ast.parse`, and NumPy's readers of headers.

Until Python 3.13 all threads share one count of how deep a tree is. A thread that makes one while another does, which
the garbage collector brings about, fails: "SystemError: AST constructor recursion depth mismatch"
(python/cpython#106905).
"""

from __future__ import annotations

import threading

PARSER_LOCK = threading.Lock()
