"""The live page: a web server inside the server process that shows runs and takes requests. See its `app.py`."""
