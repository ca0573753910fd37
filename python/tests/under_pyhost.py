"""Starts every Python plugin of a test in `consort-pyhost`, the program that CONSORT_PYHOST names.

Used as `pytest -p under_pyhost`.
"""

import os
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import consort
from consort.plugin.testing import Manifest, PluginProcess

PYHOST = os.environ["CONSORT_PYHOST"]
# Plugins of tests have no virtual environment: they have the packages of this one.
PACKAGES = os.pathsep.join([str(Path(consort.__file__).parents[1]), sysconfig.get_path("purelib")])

_argv = Manifest.argv
_init = PluginProcess.__init__


def _in_pyhost(self: Manifest) -> list[str]:
    return [PYHOST, *self.command[1:]] if self.command[0] in ("python", "consort-pyhost") else _argv(self)


def _with_packages(self: Any, folder: Any, *, environment: Mapping[str, str] | None = None, **rest: Any) -> None:
    _init(self, folder, environment={"PYTHONPATH": PACKAGES, **(environment or {})}, **rest)


Manifest.argv = _in_pyhost  # type: ignore[method-assign]
PluginProcess.__init__ = _with_packages  # type: ignore[method-assign]
