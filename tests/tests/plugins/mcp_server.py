"""A small MCP server on standard input and output: `digest` tells of its secret without telling it, `shout` shouts."""

import hashlib
import json
import os
import sys
from typing import Any

ANY: dict[str, Any] = {"type": "object"}
TOOLS = [
    {"name": name, "description": f"The tool {name}", "inputSchema": ANY, "annotations": {"readOnlyHint": True}}
    for name in ("digest", "shout")
]


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    match method:
        case "initialize":
            return {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "small", "version": "1.0.0"},
            }
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call":
            secret = os.environ.get("TOKEN", "")
            said = {"digest": hashlib.sha256(secret.encode()).hexdigest(), "shout": "HEY"}[params["name"]]
            return {"content": [], "structuredContent": {"said": said}}
        case _:
            return None


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    result = answer(message["method"], message.get("params", {}))
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
    reply |= {"result": result} if result else {"error": {"code": -32601, "message": "no such method"}}
    print(json.dumps(reply), flush=True)
