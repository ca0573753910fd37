"""The official Python SDK against the server, in the current version and an older one; prints what it saw as one JSON object."""

import asyncio
import json
import sys
from typing import Any

from mcp import Client, types


async def main(url: str, mode: str) -> None:
    seen: dict[str, Any] = {"progress": []}

    async def progress(done: float, total: float | None, message: str | None) -> None:
        seen["progress"].append([done, total, message])

    async def elicit(context: Any, params: Any) -> types.ElicitResult:
        seen["asked"] = params.message
        return types.ElicitResult(action="accept", content={"option": "yes", "reason": "tested"})

    def plain(result: Any) -> Any:
        return result.model_dump(by_alias=True, mode="json")

    async with Client(url, mode=mode, elicitation_callback=elicit) as client:
        seen["version"] = client.protocol_version
        tools = await client.list_tools()
        seen["tools"] = sorted(tool.name for tool in tools.tools)
        echo = await client.call_tool("git_echo", {"text": "from python"}, progress_callback=progress)
        seen["echo"] = plain(echo).get("structuredContent")
        seen["failed"] = plain(await client.call_tool("git_fail", {}))
        try:
            await client.call_tool("git_echo", {"text": 5})
        except Exception as error:
            seen["bad"] = str(error)
        run = await client.call_tool("workflow_start", {"workflow": "deploy", "wait_s": 20})
        seen["run"] = plain(run).get("structuredContent")
    print(json.dumps(seen))


asyncio.run(main(sys.argv[1], sys.argv[2]))
