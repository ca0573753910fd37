"""Helps to test plugins: functions in this process, or the whole as the mesh starts it, in any language."""

from consort.plugin.testing._fakes import FakeHost
from consort.plugin.testing._inside import invoke, invoke_async
from consort.plugin.testing._outcome import Outcome
from consort.plugin.testing._process import Manifest, PluginProcess

__all__ = ["FakeHost", "Manifest", "Outcome", "PluginProcess", "invoke", "invoke_async"]
