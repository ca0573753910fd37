"""Plugins in Python: processes whose functions become typed operations of the mesh."""

from consort.plugin._operation import Effect
from consort.plugin.adapter import Adapter, operation
from consort.plugin.author import Plugin
from consort.plugin.call import Call, Origin
from consort.plugin.errors import PluginError
from consort.plugin.host import Host
from consort.plugin.limits import Limits

__all__ = ["Adapter", "Call", "Effect", "Host", "Limits", "Origin", "Plugin", "PluginError", "operation"]
