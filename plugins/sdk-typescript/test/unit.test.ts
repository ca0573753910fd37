// Schemas, errors, texts and frames, each by itself.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { Metadata, type ServiceError } from "@grpc/grpc-js";
import { definePlugin, PluginError, Type, type Static } from "../src/index.js";
import { asStatusError, fromServiceError, toServiceError } from "../src/errors.js";
import { ConnectRequestSchema } from "../src/gen/consort/agent/v1/worker_service_pb.js";
import { DebugInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../src/gen/google/rpc/status_pb.js";
import { pauses } from "../src/net.js";
import { Schema } from "../src/schema.js";
import { cut } from "../src/text.js";
import { duration, seconds } from "../src/time.js";
import { encode } from "../src/values.js";
import { SDK } from "../src/version.js";
import { keyOf, Outbox } from "../src/worker/outbox.js";
import { Plan, TaskError } from "../src/worker/task.js";

const ORDER = Type.Object(
  {
    items: Type.Array(Type.Object({ name: Type.String({ minLength: 1 }), count: Type.Integer({ default: 1 }) })),
    mode: Type.Optional(Type.Union([Type.Literal("fast"), Type.Literal("safe")])),
  },
  { additionalProperties: false },
);

function mistakes(value: unknown, size = 0): unknown {
  return new Schema(ORDER, "order").mistakes(value, size);
}

test("a schema names all wrong fields by their paths", () => {
  assert.equal(mistakes({ items: [{ name: "a", count: 2 }] }), undefined);
  assert.deepEqual(mistakes({ items: [{ name: "a" }, { name: "", count: 0.5 }], extra: 1 }), {
    extra: "is not known",
    "items[1].name": "must NOT have fewer than 1 characters",
    "items[1].count": "must be integer",
  });
  assert.deepEqual(mistakes({}), { items: "is missing" });
  assert.deepEqual(mistakes([]), { value: "must be object" });
});

test("a large value is read up to its first mistake", () => {
  const items = Array.from({ length: 1000 }, () => ({ name: "" }));
  assert.equal(Object.keys(mistakes({ items }, 1 << 20) as object).length, 1);
  assert.equal(Object.keys(mistakes({ items }) as object).length, 1000);
});

test("defaults are filled in, formats only annotate, and 2020-12 is spoken", () => {
  const value = { items: [{ name: "a" }] };
  assert.equal(mistakes(value), undefined);
  assert.deepEqual(value, { items: [{ name: "a", count: 1 }] });
  assert.equal(new Schema(Type.String({ format: "email" }), "x").mistakes("nobody", 0), undefined);
  const pair = new Schema({ prefixItems: [{ type: "string" }], unevaluatedItems: false }, "pair");
  assert.equal(pair.mistakes(["a"], 0), undefined);
  assert.ok(pair.mistakes(["a", "b"], 0));
  assert.throws(() => new Schema({ type: "strin" }, "input"), /^TypeError: input: no JSON Schema \(2020-12\): /);
});

test("the schema that is sent is plain JSON", () => {
  assert.deepEqual(new Schema(Type.Object({ a: Type.Optional(Type.Null()) }), "x").json, {
    type: "object",
    properties: { a: { type: "null" } },
  });
});

test("types follow from schemas, of TypeBox and of JSON alike", () => {
  const order: Static<typeof ORDER> = { items: [{ name: "a", count: 1 }], mode: "fast" };
  assert.equal(order.mode, "fast");
  definePlugin({
    name: "typed",
    version: "1.0.0",
    description: "Is compiled.",
    config: Type.Object({ url: Type.String() }),
  })
    .operation(
      { name: "a", description: "A.", input: ORDER, output: Type.Integer() },
      // @ts-expect-error a text is no integer
      ({ items }) => items[0]!.name,
    )
    .operation(
      {
        name: "b",
        description: "B.",
        input: { type: "object", properties: { n: { type: "integer" } }, required: ["n"] },
      },
      ({ n }, { config }) => {
        const both: [number, string] = [n, config.url];
        return both;
      },
    );
});

test("mistakes of a plugin are named", () => {
  const who = { name: "x", version: "1.0.0", description: "X." };
  const what = { name: "do", description: "Does." };
  const nothing = (): null => null;
  assert.throws(() => definePlugin({ ...who, name: "X" }), /name: 'X' is malformed/);
  assert.throws(() => definePlugin({ ...who, version: "1" }), /version: '1' is no semantic version/);
  assert.throws(() => definePlugin({ ...who, description: "" }), /description: empty/);
  assert.throws(() => definePlugin(who).operation({ ...what, name: "9" }, nothing), /operation: '9' is malformed/);
  assert.throws(() => definePlugin(who).operation(what, nothing).operation(what, nothing), /'do' is there twice/);
  assert.throws(
    () => definePlugin(who).operation({ ...what, input: Type.String() }, nothing),
    /of type "string"; make it/,
  );
  assert.throws(() => definePlugin(who).operation({ ...what, timeout: 0 }, nothing), /timeout: 0; give seconds/);
  assert.throws(() => definePlugin(who).serve(), /operations: none/);
});

test("an error keeps what it says on its way over the wire", () => {
  const error = new PluginError("NOT_FOUND", "no such file", {
    reason: "FILE_MISSING",
    metadata: { path: "/x" },
    field: "path",
    retryAfter: 1.5,
  });
  const sent = toServiceError(error);
  const back = fromServiceError(sent as ServiceError);
  const { code, message, reason, metadata, fields, retryAfter } = back;
  assert.deepEqual(
    { code, message, reason, metadata, fields, retryAfter },
    {
      code: "NOT_FOUND",
      message: "no such file",
      reason: "FILE_MISSING",
      metadata: { path: "/x" },
      fields: { path: "no such file" },
      retryAfter: 1.5,
    },
  );
  assert.throws(() => new PluginError("OK" as "ABORTED", "x"), /'OK' is no gRPC status code of a failure/);
});

test("trailers stay small, whatever is in them", () => {
  const fields = Object.fromEntries(Array.from({ length: 1000 }, (_, at) => [`field${at}`, "é".repeat(500)]));
  const metadata = Object.fromEntries(Array.from({ length: 10 }, (_, at) => [`key${at}`, "x".repeat(1000)]));
  const big = toServiceError(
    new PluginError("INTERNAL", "ü".repeat(50_000) + "\ud800", { fields, metadata, reason: "R" }),
  );
  const [bytes] = big.metadata!.get("grpc-status-details-bin") as Buffer[];
  assert.ok(bytes!.length <= 6 * 1024, `${bytes!.length}`);
  assert.ok(encodeURI(big.details!).length <= 5 * 1024);
});

test("what is thrown is INTERNAL, with its stack for developers", () => {
  const known = asStatusError(new RangeError("too far"));
  assert.deepEqual([known.code, known.message], ["INTERNAL", "too far"]);
  const [bytes] = toServiceError(known).metadata!.get("grpc-status-details-bin") as Buffer[];
  const debug = fromBinary(StatusSchema, bytes!).details.map((detail) => anyUnpack(detail, DebugInfoSchema))[0]!;
  assert.equal(debug.detail, "RangeError: too far");
  assert.match(debug.stackEntries[0]!, /unit\.test/);
  assert.equal(asStatusError("just text").message, "just text");
  const broken = Object.assign(new Error("x"), { code: 99, details: "odd", metadata: new Metadata() });
  assert.equal(asStatusError(broken).code, "UNKNOWN");
});

test("text is cut between characters", () => {
  assert.equal(cut("short", 10), "short");
  assert.equal(cut("äöü", 6), "äöü");
  assert.equal(cut("äöüß", 7), "äö…");
  assert.equal(cut("a\ud800b", 10), "a\ufffdb");
  assert.ok(Buffer.byteLength(cut("😀".repeat(100), 33)) <= 33);
});

test("values have their JSON", () => {
  assert.equal(encode(undefined), "null");
  assert.equal(encode({ at: new Date(0) }), '{"at":"1970-01-01T00:00:00.000Z"}');
  for (const odd of [() => 1, Symbol("s"), 1n]) assert.throws(() => encode(odd), TypeError);
  assert.equal(seconds(duration(2.25)), 2.25);
  assert.equal(new Plan({ name: "x" }).text, '{"name":"x"}');
  assert.throws(() => new Plan("x".repeat(1 << 21)), /more than 1 MiB/);
  assert.deepEqual([new TaskError("ABORTED", "").retryable, new TaskError("NOT_FOUND", "").retryable], [true, false]);
});

test("pauses grow to their limit, with jitter", () => {
  const waits = pauses(100, 400);
  for (const most of [100, 200, 400, 400]) {
    const wait = waits.next().value;
    assert.ok(wait >= most / 2 && wait <= most, `${wait} of ${most}`);
  }
});

test("an outbox keeps answers until they are on record, and the last progress only", async () => {
  const outbox = new Outbox();
  const lease = { task: "t", token: 5n };
  const wire = { task: "t", leaseToken: 5n };
  const progress = (fraction: number) => ({
    reports: [{ lease: wire, report: { kind: { case: "progress" as const, value: { fraction } } } }],
  });
  const frame = () => fromBinary(ConnectRequestSchema, outbox.take() ?? new Uint8Array());
  outbox.progress(lease, progress(0.1));
  outbox.progress(lease, progress(0.2));
  outbox.answer(lease, { completed: [{ lease: wire, plan: "p" }] });
  outbox.renew(0.5, 1000);
  const first = frame();
  assert.deepEqual(
    first.reports.map(({ report }) => report?.kind.value).map((kind) => (kind as { fraction: number }).fraction),
    [0.2],
  );
  assert.deepEqual([first.completed.length, first.renew?.memoryBytes], [1, 1000n]);
  assert.equal(outbox.take(), undefined);
  outbox.rewind(true);
  const again = frame();
  assert.deepEqual([again.completed.length, again.draining, again.renew], [1, true, undefined]);
  outbox.acknowledge(keyOf(lease));
  outbox.rewind(false);
  assert.equal(outbox.take(), undefined);
});

test("reports wait for room, and frames have a limit", async () => {
  const outbox = new Outbox();
  const text = "x".repeat(8000);
  const report = { reports: [{ report: { kind: { case: "log" as const, value: { text } } } }] };
  const control = new AbortController();
  let queued = 0;
  const writing = Promise.all(
    Array.from({ length: 1000 }, () => outbox.report(report, control.signal).then(() => (queued += 1))),
  );
  await new Promise(setImmediate);
  assert.ok(queued >= 500 && queued < 600, `${queued}`);
  const frame = outbox.take()!;
  assert.ok(frame.length < 1.1 * (1 << 20));
  let received = fromBinary(ConnectRequestSchema, frame).reports.length;
  while (received < 1000) {
    const next = outbox.take();
    if (next) received += fromBinary(ConnectRequestSchema, next).reports.length;
    else await new Promise(setImmediate);
  }
  await writing;
  assert.equal(queued, 1000);
});

test("schemas may have the same $id", () => {
  for (const type of ["string", "integer"]) {
    const schema = new Schema(
      { $id: "https://example.org/x", $defs: { v: { type } }, properties: { v: { $ref: "#/$defs/v" } } },
      type,
    );
    assert.equal(schema.mistakes({ v: type === "string" ? "a" : 1 }, 0), undefined);
    assert.deepEqual(schema.mistakes({ v: null }, 0), { v: `must be ${type}` });
  }
});

test("the SDK calls itself by its version", () => {
  const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  assert.equal(SDK, `typescript ${manifest.version}`);
});
