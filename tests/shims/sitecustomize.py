"""Read by every Python that a test starts: forks those that only need a backend (see forking.py).

A script, or code of a test, starts as it is, but Python looks less often for garbage in all that TensorFlow has made,
and not when it ends: that took seconds.

A client that a test starts with `LANFIT_TEST_FAKE` knows the fake backend, see `running.fake_client`.
"""

import os
import sys

tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if "-m" in sys.orig_argv[-3:-1] and "lanfit.cli" not in sys.orig_argv:  # looking costs each of them something
    sys.path.insert(0, tests)
    try:
        from forking import hand_over
    finally:
        sys.path.remove(tests)
    hand_over(__file__)
elif "-m" not in sys.orig_argv:
    import atexit
    import gc

    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)

if os.environ.get("LANFIT_TEST_FAKE") and "lanfit.cli" in sys.orig_argv and "client" in sys.orig_argv:
    sys.path.append(tests)
    from fakes.backend import registered

    _registered = registered()  # for good: what is not kept is closed
    _registered.__enter__()
