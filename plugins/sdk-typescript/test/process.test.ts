// A plugin as a process, called as the mesh calls it.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Effect, PluginService } from "../src/gen/consort/plugin/v1/plugin_service_pb.js";
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
  type HealthCheckResponse,
} from "../src/gen/grpc/health/v1/health_pb.js";
import { serverStream, unary } from "../src/rpc.js";
import { duration } from "../src/time.js";
import { Started, WORDS } from "./host.js";

const ASKS = fileURLToPath(new URL("./fixtures/asks.js", import.meta.url));
let plugin: Started;

/** Starts one that ends with the test. */
async function begin(t: TestContext, ...how: Parameters<typeof Started.start>): Promise<Started> {
  const started = await Started.start(...how);
  t.after(() => started.stop());
  return started;
}

before(async () => {
  plugin = await Started.start();
  await plugin.greet();
});

after(() => plugin.stop());

test("it says where it listens, in one line", () => {
  assert.equal(plugin.line, `1|1|unix|${plugin.socket}|grpc`);
  assert.equal(statSync(plugin.socket).mode & 0o777, 0o600);
});

test("started by hand it says so and ends with status 2", () => {
  const { status, stderr, stdout } = spawnSync(process.execPath, [WORDS], { env: { PATH: process.env["PATH"] } });
  assert.equal(status, 2);
  assert.match(stderr.toString(), /'words' is a plugin, which a Consort mesh starts/);
  assert.equal(stdout.toString(), "");
});

test("a mesh of another protocol is refused in words", async (t) => {
  const other = await begin(t, WORDS, { CONSORT_PLUGIN_PROTOCOLS: "2-3" });
  assert.equal(await other.ended, 1);
  assert.match(other.stderr, /speaks protocols 2-3, this plugin 1/);
});

test("it says what it is and what it can do, and that it is well", async () => {
  const hello = await plugin.greet();
  assert.equal(hello.name, "words");
  assert.match(hello.sdk, /^typescript \d/);
  const names = hello.operations.map((operation) => operation.name);
  assert.deepEqual(names, ["echo", "count", "sleep", "large", "fail", "crash", "write"]);
  const echo = hello.operations[0]!;
  assert.equal(echo.effect, Effect.READ);
  assert.deepEqual(echo.inputSchema, {
    type: "object",
    required: ["text"],
    properties: { text: { type: "string" } },
  });
  const write = hello.operations[6]!;
  assert.deepEqual([write.effect, write.dryRun], [Effect.WRITE, true]);
  for (const service of ["", "consort.plugin.v1.PluginService"]) {
    const { status } = await unary(plugin.client, Health.method.check, { service });
    assert.equal(status, Serving.SERVING);
  }
  await assert.rejects(unary(plugin.client, Health.method.check, { service: "nobody" }), { code: "NOT_FOUND" });
});

test("nothing is done before Configure", async (t) => {
  const fresh = await begin(t);
  await assert.rejects(fresh.invoke("echo", { text: "x" }), { code: "FAILED_PRECONDITION", message: /Configure/ });
});

test("an answer, with progress and logs on the way", async () => {
  assert.deepEqual((await plugin.invoke("echo", { text: "héllo" })).output, { text: "héllo" });
  const seen = await plugin.invoke("count", { to: 3, delay_ms: 5 });
  assert.deepEqual(seen.output, { total: 3 });
  assert.deepEqual(seen.progress.at(-1), { fraction: 1, message: "3 of 3" });
  assert.deepEqual(seen.logs, ["info: counted 1", "info: counted 2", "info: counted 3"]);
});

test("wrong input names its fields, and nothing is called", async () => {
  await assert.rejects(plugin.invoke("count", { to: -1, delay_ms: "x" }), {
    code: "INVALID_ARGUMENT",
    reason: "INPUT_INVALID",
    fields: { to: "must be >= 0", delay_ms: "must be integer" },
  });
  await assert.rejects(plugin.invoke("nothing"), { code: "NOT_FOUND", message: /'words' has echo, count/ });
  await assert.rejects(plugin.invoke("echo", { text: "x" }, { dryRun: true }), { code: "FAILED_PRECONDITION" });
});

test("a message that is too large is refused, and the plugin lives", async () => {
  await assert.rejects(plugin.invoke("echo", { text: "x".repeat(5 << 20) }), { code: "RESOURCE_EXHAUSTED" });
  const text = "x".repeat(3 << 20);
  const seen = await plugin.invoke("echo", { text }, { keep: true });
  assert.deepEqual([seen.mediaType, seen.largest], ["application/json", 1 << 20]);
  assert.deepEqual(JSON.parse(Buffer.concat(seen.parts).toString()), { text });
});

test("who watches its health hears when it ends", async (t) => {
  const fresh = await begin(t);
  const watch = serverStream(fresh.client, Health.method.watch, { service: "" });
  const seen: Serving[] = [];
  const over = (async () => {
    for await (const { status } of watch as AsyncIterable<HealthCheckResponse>) {
      seen.push(status);
      if (seen.length === 1) fresh.child.kill("SIGTERM");
    }
  })();
  assert.equal(await fresh.ended, 0);
  await over;
  assert.deepEqual(seen, [Serving.SERVING, Serving.NOT_SERVING]);
});

test("an operation fails as it wants to", async () => {
  const failed = { code: "ABORTED", message: "50 % — töö\nbad", reason: "ASKED_FOR" };
  await assert.rejects(plugin.invoke("fail", { code: failed.code, message: failed.message }), failed);
  const long = "x".repeat(100_000);
  await assert.rejects(plugin.invoke("fail", { code: "INTERNAL", message: long }), {
    code: "INTERNAL",
    message: /^x{1000,1600}…$/,
  });
});

test("a dry run says what would be done, and a call what was done", async () => {
  const path = join(plugin.folder, "note.txt");
  const would = await plugin.invoke("write", { path, text: "hello" }, { dryRun: true });
  assert.deepEqual([would.would, would.actions, existsSync(path)], [[`write 5 bytes to ${path}`], [], false]);
  const done = await plugin.invoke("write", { path, text: "hello" });
  assert.deepEqual([done.would, done.actions, readFileSync(path, "utf8")], [[], [`write 5 bytes to ${path}`], "hello"]);
  const nowhere = join(plugin.folder, "no", "folder");
  await assert.rejects(plugin.invoke("write", { path: nowhere, text: "" }), { code: "INTERNAL", message: /ENOENT/ });
});

test("a cancelled call stops, and a deadline is kept", async (t) => {
  const control = new AbortController();
  const call = plugin.invoke("sleep", { ms: 3_600_000 }, { signal: control.signal });
  await sleep(50);
  control.abort();
  await assert.rejects(call, { code: "CANCELLED" });
  await assert.rejects(plugin.invoke("sleep", { ms: 3_600_000 }, { timeout: 100 }), { code: "DEADLINE_EXCEEDED" });
  // Neither sleeps on: draining finds nothing to cancel.
  const other = await begin(t);
  await other.greet();
  await assert.rejects(other.invoke("sleep", { ms: 3_600_000 }, { timeout: 50 }), { code: "DEADLINE_EXCEEDED" });
  const { cancelled } = await unary(other.client, PluginService.method.drain, { grace: duration(5) });
  assert.equal(cancelled, 0);
});

test("64 MiB are sent in chunks of a MiB at the speed of a slow reader, in little memory", async (t) => {
  const fresh = await begin(t);
  await fresh.greet();
  const resident = (): number => {
    const line = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${fresh.child.pid}/status`, "utf8"));
    return Number(line![1]) * 1024;
  };
  await fresh.invoke("large", { mib: 1 });
  const before = resident();
  const slowly = (): Promise<void> => sleep(5);
  const seen = await fresh.invoke("large", { mib: 64 }, { slowly });
  assert.deepEqual([seen.bytes, seen.largest, seen.mediaType], [64 << 20, 1 << 20, "application/octet-stream"]);
  assert.equal(seen.output, undefined);
  const grown = (resident() - before) / (1 << 20);
  assert.ok(grown < 40, `grew by ${grown.toFixed(0)} MiB`);
});

test("what is asked of the mesh carries the token", async (t) => {
  const asking = await begin(t, ASKS);
  const state = new Map<string, Uint8Array>();
  const tokens = new Set<unknown>();
  await asking.callbacks({
    getSecret: (call: any, done: any) => {
      tokens.add(call.metadata.get("authorization")[0]);
      done(null, { value: `of ${call.request.name}` });
    },
    getState: (call: any, done: any) => {
      const value = state.get(call.request.key);
      if (value) done(null, { value });
      else done({ code: 5, details: "nothing" });
    },
    putState: (call: any, done: any) => {
      state.set(call.request.key, call.request.value);
      done(null, {});
    },
    publishEvent: (call: any, done: any) => done({ code: 7, details: `no '${call.request.event}' for you` }),
  });
  await asking.greet({ greeting: "hi" });
  const { output } = await asking.invoke("remember", { word: "abc" });
  assert.deepEqual(output, { before: null, after: "abc", secret: "of key", greeting: "hi", times: 3 });
  assert.deepEqual([...tokens], ["Bearer secret-token"]);
  await assert.rejects(asking.invoke("publish"), { code: "PERMISSION_DENIED", message: "no 'DONE' for you" });
});

test("a wrong configuration ends the start with its fields", async (t) => {
  const asking = await begin(t, ASKS);
  await assert.rejects(asking.greet({ greeting: 1 }), {
    code: "INVALID_ARGUMENT",
    fields: { greeting: "must be string" },
  });
  await assert.rejects(asking.greet({ greeting: "no" }), { code: "INVALID_ARGUMENT", message: "say something nice" });
});

test("what is thrown arrives with its stack, and lies about the output do not", async (t) => {
  const asking = await begin(t, ASKS);
  await asking.greet({ greeting: "hi" });
  await assert.rejects(asking.invoke("throw"), { code: "INTERNAL", message: "x is not a function" });
  await assert.rejects(asking.invoke("lie"), {
    code: "INTERNAL",
    reason: "OUTPUT_INVALID",
    message: /number must be integer/,
  });
  const whole = await asking.invoke("list", { length: 400_000 }, { keep: true });
  assert.equal(whole.mediaType, "application/json");
  assert.ok(whole.largest <= 1 << 20 && whole.parts.length > 1);
  assert.equal((JSON.parse(Buffer.concat(whole.parts).toString()) as string[]).length, 400_000);
  const flood = await asking.invoke("flood", { lines: 5_000 });
  assert.ok(
    flood.logs.length <= 5_001 && flood.logs.some((line) => line.includes("lines were left out")),
    `${flood.logs.length}`,
  );
  assert.deepEqual(flood.progress.at(-1)?.fraction, 1);
  await assert.rejects(asking.invoke("greedy"), { code: "RESOURCE_EXHAUSTED", message: /await each ctx.chunk/ });
});

test("no more calls than the limit are in work", async (t) => {
  const asking = await begin(t, ASKS);
  await asking.greet({ greeting: "hi" });
  const results = await Promise.allSettled([1, 2, 3, 4, 5].map(() => asking.invoke("nap")));
  const codes = results.map((each) => (each.status === "rejected" ? (each.reason as { code: string }).code : "OK"));
  assert.deepEqual(codes.sort(), ["OK", "OK", "OK", "OK", "RESOURCE_EXHAUSTED"]);
});

test("a crash is the plugin's own", async (t) => {
  const fresh = await begin(t);
  await fresh.greet();
  await assert.rejects(fresh.invoke("crash"), { code: "UNAVAILABLE" });
  assert.equal(await fresh.ended, 7);
});

test("drain waits for what is in work, then cancels, and takes nothing new", async (t) => {
  const fresh = await begin(t);
  await fresh.greet();
  const short = fresh.invoke("sleep", { ms: 150 });
  const long = fresh.invoke("sleep", { ms: 3_600_000 });
  const ends = Promise.allSettled([short, long]);
  await sleep(50);
  const began = performance.now();
  const drained = unary(fresh.client, PluginService.method.drain, { grace: duration(0.4) }, { timeout: 10_000 });
  await sleep(30);
  await assert.rejects(fresh.invoke("echo", { text: "late" }), { code: "UNAVAILABLE", reason: "DRAINING" });
  const { status } = await unary(fresh.client, Health.method.check, {});
  assert.equal(status, Serving.NOT_SERVING);
  assert.equal((await drained).cancelled, 1);
  assert.ok(performance.now() - began < 1_000);
  const [first, second] = await ends;
  assert.equal(first.status, "fulfilled");
  assert.equal((second as PromiseRejectedResult).reason.code, "CANCELLED");
  fresh.child.kill("SIGTERM");
  assert.equal(await fresh.ended, 0);
});

test("it ends when told, and when standard input ends", async (t) => {
  for (const end of [(it: Started) => it.child.kill("SIGTERM"), (it: Started) => it.child.stdin!.end()]) {
    const fresh = await begin(t);
    await fresh.greet();
    const call = fresh.invoke("sleep", { ms: 3_600_000 });
    const failed = assert.rejects(call, { code: "CANCELLED" });
    await sleep(50);
    end(fresh);
    assert.equal(await fresh.ended, 0);
    await failed;
  }
});
