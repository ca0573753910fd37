"""A fake MCP server on standard input and output that breaks in the way its argument says."""

import json
import os
import sys
import time

MODE = sys.argv[1] if len(sys.argv) > 1 else "good"


def send(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(request, result):
    send({"jsonrpc": "2.0", "id": request["id"], "result": result})


def refuse(request, code, message):
    send({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}})


def tool(name, **more):
    return {"name": name, "inputSchema": {"type": "object"}, **more}


TOOLS = [
    tool("echo.back", annotations={"readOnlyHint": True}),
    tool("write"),
    tool("slow", annotations={"readOnlyHint": True}),
    tool("huge"),
    tool("garbage"),
    tool("nonsense"),
    tool("die", annotations={"readOnlyHint": True}),
    tool("fail"),
    tool("bad_params"),
    tool("hidden"),
    tool("environment"),
    tool("old", inputSchema={"$schema": "http://json-schema.org/draft-04/schema#", "properties": {"a": {"pattern": "^(?!x)", "type": "string"}}}),
]
CANCELLED = []


def call(request):
    name = request["params"]["name"]
    token = request["params"].get("_meta", {}).get("progressToken")
    if name == "echo.back":
        for at in (1, 2):
            progress = {"progressToken": token, "progress": at, "total": 2, "message": f"part {at}"}
            send({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
        send({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "warning", "data": "a log"}})
        time.sleep(0.1)
        answer(request, {"content": [], "structuredContent": request["params"].get("arguments", {})})
    elif name == "write":
        answer(request, {"content": [{"type": "text", "text": json.dumps(CANCELLED)}]})
    elif name == "slow":
        pass
    elif name == "huge":
        text = "x" * (17 * 1024 * 1024)
        sys.stdout.write(json.dumps({"result": {"content": [{"type": "text", "text": text}]}, "jsonrpc": "2.0", "id": request["id"]}) + "\n")
        sys.stdout.flush()
    elif name == "garbage":
        sys.stdout.write("this is no JSON\n\n{\"half\": \n[1, 2]\n\x1b[2J\n")
        answer(request, {"content": [{"type": "text", "text": "y" * (3 * 1024 * 1024)}]})
    elif name == "nonsense":
        send({"jsonrpc": "2.0", "id": request["id"], "result": 7, "error": "both"})
    elif name == "die":
        sys.stderr.write("a last word\n")
        sys.stderr.flush()
        os._exit(3)
    elif name == "fail":
        answer(request, {"isError": True, "content": [{"type": "text", "text": "the disk is full"}]})
    elif name == "environment":
        names = sorted(name for name in os.environ if name.startswith("CONSORT") or name == "GIVEN")
        answer(request, {"content": [], "structuredContent": {"names": names}})
    else:
        refuse(request, -32602, f"there is no tool {name}")


def main():
    if MODE == "deaf":
        time.sleep(600)
    if MODE == "dead":
        sys.stderr.write("first line\nno licence was found\n")
        sys.exit(4)
    if MODE == "babble":
        while True:
            sys.stdout.write("log line on standard output\n")
            sys.stdout.flush()
            time.sleep(0.001)
    for line in sys.stdin:
        request = json.loads(line)
        method = request.get("method")
        if method == "notifications/cancelled":
            CANCELLED.append(request["params"]["requestId"])
        if "id" not in request:
            continue
        if method == "server/discover":
            if MODE != "silent":
                refuse(request, -32601, "Method not found")
        elif method == "initialize":
            version = "2024-11-05" if MODE == "old" else request["params"]["protocolVersion"]
            answer(request, {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "fake", "version": "v1.5"}})
        elif method == "tools/list":
            at = int(request.get("params", {}).get("cursor", 0))
            if MODE == "circle":
                answer(request, {"tools": [tool("echo")], "nextCursor": "1"})
            elif MODE == "empty":
                answer(request, {"tools": []})
            else:
                page = {"tools": TOOLS[at : at + 5]}
                if at + 5 < len(TOOLS):
                    page["nextCursor"] = str(at + 5)
                answer(request, page)
        elif method == "tools/call":
            call(request)
        else:
            refuse(request, -32601, "Method not found")


main()
