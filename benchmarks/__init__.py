"""Measurements against hand-written twins; see __main__.py."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for twins, too: nothing leaves the machine
