"""Lets the tests import what they test, and the web servers of the SDK's tests."""

import sys
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
for folder in (_FOLDER.parent.parent.parent / "python" / "tests", _FOLDER.parent, _FOLDER):
    sys.path.insert(0, str(folder))
