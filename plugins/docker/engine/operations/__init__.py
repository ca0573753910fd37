"""The operations of the plugin, by what they are about."""

from engine.operations import building, containers, images, networks, output, running, state, volumes
from engine.operations._plugin import plugin

__all__ = ["building", "containers", "images", "networks", "output", "plugin", "running", "state", "volumes"]
