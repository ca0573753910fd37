"""The official Python SDK against the server; prints what it saw as one JSON object."""

import asyncio
import json
import sys

from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client


async def main(url: str) -> None:
    seen: dict[str, object] = {"progress": []}

    async def progress(done: float, total: float | None, message: str | None) -> None:
        seen["progress"].append([done, total, message])

    async def elicit(context: object, params: object) -> types.ElicitResult:
        seen["asked"] = params.message
        return types.ElicitResult(action="accept", content={"option": "yes", "reason": "tested"})

    async with streamable_http_client(url) as streams:
        async with ClientSession(streams[0], streams[1], elicitation_callback=elicit) as session:
            info = await session.initialize()
            dumped = info.model_dump(by_alias=True, mode="json")
            seen["version"] = dumped["protocolVersion"]
            tools = await session.list_tools()
            seen["tools"] = sorted(tool.name for tool in tools.tools)
            echo = await session.call_tool("git_echo", {"text": "from python"}, progress_callback=progress)
            seen["echo"] = echo.model_dump(by_alias=True, mode="json").get("structuredContent")
            failed = await session.call_tool("git_fail", {})
            seen["failed"] = failed.model_dump(by_alias=True, mode="json")
            try:
                await session.call_tool("git_echo", {"text": 5})
            except Exception as error:  # noqa: BLE001
                seen["bad"] = str(error)
            run = await session.call_tool("workflow_start", {"workflow": "deploy", "wait_s": 20})
            seen["run"] = run.model_dump(by_alias=True, mode="json").get("structuredContent")
    print(json.dumps(seen))


asyncio.run(main(sys.argv[1]))
