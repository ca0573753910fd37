"""The operations of the plugin: those of each module, all registered by importing them."""

from forge import issues, publish, pulls, repositories
from forge.plugin import plugin

__all__ = ["issues", "plugin", "publish", "pulls", "repositories"]
