// Operations that show, each, one thing that a plugin can do.
import { writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { definePlugin, PluginError, Type, type Code } from "@consort/sdk";

const CODES: [Code, ...Code[]] = [
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];
const MIB = Buffer.alloc(1024 * 1024, "words ");

export const plugin = definePlugin({
  name: "words",
  version: "0.1.0",
  description: "Shows what a plugin can do: an operation for each way a call can go.",
});

plugin.operation(
  {
    name: "echo",
    description: "Returns the text that it is given.",
    input: Type.Object({ text: Type.String() }),
    output: Type.Object({ text: Type.String() }),
    effect: "read",
  },
  ({ text }) => ({ text }),
);

plugin.operation(
  {
    name: "count",
    description: "Counts, and tells how far it is.",
    input: Type.Object({
      to: Type.Integer({ minimum: 0, maximum: 1_000_000 }),
      delay_ms: Type.Optional(Type.Integer({ minimum: 0, maximum: 60_000 })),
    }),
    output: Type.Object({ total: Type.Integer() }),
    effect: "read",
  },
  async ({ to, delay_ms = 0 }, ctx) => {
    for (let number = 1; number <= to; number += 1) {
      ctx.progress(number / to, `${number} of ${to}`);
      await ctx.log("info", `counted ${number}`);
      if (delay_ms > 0) await sleep(delay_ms, undefined, { signal: ctx.signal });
    }
    return { total: to };
  },
);

plugin.operation(
  {
    name: "sleep",
    description: "Sleeps, and wakes at once when the call is cancelled.",
    input: Type.Object({ ms: Type.Integer({ minimum: 0, maximum: 3_600_000 }) }),
    output: Type.Object({ slept_ms: Type.Integer() }),
    effect: "read",
  },
  async ({ ms }, ctx) => {
    await sleep(ms, undefined, { signal: ctx.signal });
    return { slept_ms: ms };
  },
);

plugin.operation(
  {
    name: "large",
    description: "Yields so many MiB of bytes.",
    input: Type.Object({ mib: Type.Integer({ minimum: 0, maximum: 4096 }) }),
    effect: "read",
  },
  ({ mib }, ctx) => ctx.stream(repeated(mib)),
);

plugin.operation(
  {
    name: "fail",
    description: "Fails with a gRPC status code, by name.",
    input: Type.Object({ code: Type.Enum(CODES), message: Type.Optional(Type.String()) }),
    effect: "read",
  },
  ({ code, message = "as you wish" }) => {
    throw new PluginError(code, message, { reason: "ASKED_FOR" });
  },
);

plugin.operation({ name: "crash", description: "Ends the process with status 7.", effect: "write" }, () =>
  process.exit(7),
);

plugin.operation(
  {
    name: "write",
    description: "Writes a text into a file.",
    input: Type.Object({ path: Type.String({ minLength: 1 }), text: Type.String() }),
    output: Type.Object({ bytes: Type.Integer() }),
    effect: "write",
    dryRun: true,
  },
  async ({ path, text }, ctx) => {
    const bytes = Buffer.byteLength(text);
    await ctx.act(`write ${bytes} bytes to ${path}`, () => writeFile(path, text));
    return { bytes };
  },
);

function* repeated(times: number): Generator<Uint8Array> {
  for (let part = 0; part < times; part += 1) yield MIB;
}
