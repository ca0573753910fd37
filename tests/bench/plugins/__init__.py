"""What a plugin's call costs through the mesh: beside the same call made directly, go-plugin, and MCP over stdio."""
