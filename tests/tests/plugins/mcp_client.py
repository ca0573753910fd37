"""The official Python SDK before the real server: what an assistant would do. Prints what it saw as one JSON object."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from mcp import Client, types


def plain(result: Any) -> Any:
    return result.model_dump(by_alias=True, mode="json")


async def until(look: Callable[[], Awaitable[Any]], member: str) -> Any:
    """Looks again and again until a member says something."""
    while True:
        if found := (await look())[member]:
            return found
        await asyncio.sleep(0.05)


async def main(url: str, mode: str) -> None:
    seen: dict[str, Any] = {"asked": []}

    async def elicit(context: Any, params: Any) -> types.ElicitResult:
        asked = plain(params)
        seen["asked"].append([asked["message"], asked["requestedSchema"]["properties"]["option"]["enum"]])
        return types.ElicitResult(action="accept", content={"option": "ship", "why": "tested"})

    async with Client(url, mode=mode, elicitation_callback=elicit) as client:

        async def call(tool: str, **arguments: Any) -> Any:
            said = plain(await client.call_tool(tool, arguments))
            text = said["content"][0].get("text") if said.get("content") else None
            return {"failed": text} if said.get("isError") else said["structuredContent"]

        async def refusal(tool: str, **arguments: Any) -> str:
            try:
                return f"NOT REFUSED: {await call(tool, **arguments)}"
            except Exception as error:
                return str(error)

        seen["version"] = client.protocol_version
        seen["tools"] = sorted(tool.name for tool in (await client.list_tools()).tools)
        seen["echo"] = await call("conformance_echo", text="hi")

        # The run asks while the client waits, and the person before the client answers.
        seen["waited"] = await call("workflow_start", workflow="ship-it", inputs={"what": "tea"}, wait_s=60)

        # Nobody waits: the question stands in the inbox.
        run = (await call("workflow_start", workflow="ship-it", inputs={"what": "milk"}))["run"]
        seen["open"] = await until(lambda: call("decisions_list", run=run), "decisions")
        seen["status"] = await call("workflow_status", run=run)
        decision = seen["open"][0]["decision"]
        seen["bad_option"] = await refusal("decision_answer", decision=decision, option="eat", by="ada")
        seen["bad_form"] = await refusal("decision_answer", decision=decision, option="keep", form={"why": 5}, by="ada")
        form = {"why": "later"}
        seen["answered"] = await call("decision_answer", decision=decision, option="keep", form=form, by="ada")
        await until(lambda: call("workflow_status", run=run), "is_over")
        seen["ended"] = await call("workflow_status", run=run)

        # A wait has an end, and the run goes on without it.
        seen["bounded"] = await call("workflow_start", workflow="ship-slowly", wait_s=0.3)

        seen["missing_input"] = await refusal("workflow_start", workflow="ship-it", inputs={"wat": 1})
        seen["unknown"] = await call("workflow_start", workflow="ship-nothing")
        seen["unknown_run"] = await call("workflow_status", run="01939d0e-6f6b-7c3a-8a52-0123456789ab")
        seen["no_id"] = await refusal("workflow_status", run="the last one")
        seen["other_workflow"] = await refusal("workflow_start", workflow="secret")
        seen["other_operation"] = await refusal("conformance_write", path="x", text="y")
    print(json.dumps(seen))


asyncio.run(main(sys.argv[1], sys.argv[2]))
