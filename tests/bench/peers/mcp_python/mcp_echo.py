"""An MCP server over stdio with the tool `echo`, on the official Python SDK."""

import logging

from mcp.server.mcpserver import MCPServer

server = MCPServer("echo", log_level="ERROR")


async def echo(text: str) -> str:
    """Yields what it gets."""
    return text


server.add_tool(echo, structured_output=False)

if __name__ == "__main__":
    logging.disable(logging.INFO)
    server.run("stdio")
