// The harness for authors, on the example.
import assert from "node:assert/strict";
import { test } from "node:test";
import { definePlugin, Type } from "../src/index.js";
import { FakeHost, testPlugin } from "../src/testing.js";
import { plugin as words } from "../examples/words/src/plugin.js";

test("a call tells all that its caller would see", async () => {
  const { invoke } = await testPlugin(words);
  const count = await invoke<{ total: number }>("count", { to: 2 });
  assert.equal(count.output.total, 2);
  assert.deepEqual(count.progress, [
    { fraction: 0.5, message: "1 of 2" },
    { fraction: 1, message: "2 of 2" },
  ]);
  assert.deepEqual(
    count.logs.map((line) => line.message),
    ["counted 1", "counted 2"],
  );
  const write = await invoke("write", { path: "/nowhere/x", text: "hi" }, { dryRun: true });
  assert.deepEqual([write.output, write.would, write.actions], [{ bytes: 2 }, ["write 2 bytes to /nowhere/x"], []]);
  const large = await invoke("large", { mib: 2 });
  assert.deepEqual(
    [large.bytes?.length, large.mediaType, large.output],
    [2 << 20, "application/octet-stream", undefined],
  );
});

test("a call fails as its caller would see it", async () => {
  const { invoke } = await testPlugin(words);
  await assert.rejects(invoke("echo", { text: 1 }), { code: "INVALID_ARGUMENT", fields: { text: "must be string" } });
  await assert.rejects(invoke("fail", { code: "DATA_LOSS" }), { code: "DATA_LOSS", message: "as you wish" });
  await assert.rejects(invoke("sleep", { ms: 60_000 }, { timeout: 20 }), { code: "DEADLINE_EXCEEDED" });
  const signal = AbortSignal.timeout(20);
  await assert.rejects(invoke("sleep", { ms: 60_000 }, { signal }), { code: "CANCELLED" });
});

test("configuration is checked, and the mesh is of memory", async () => {
  const plugin = definePlugin({
    name: "keeper",
    version: "0.1.0",
    description: "Keeps things.",
    config: Type.Object({ key: Type.String() }),
  }).operation({ name: "keep", description: "Keeps." }, async (_, { host, config, origin }) => {
    await host.putState(config.key, await host.getSecret("token"));
    await host.publishEvent("KEPT", { by: origin.agent });
  });
  await assert.rejects(testPlugin(plugin, { config: {} }), {
    code: "INVALID_ARGUMENT",
    fields: { key: "is missing" },
  });
  const host = new FakeHost({ token: "t0" });
  const { invoke } = await testPlugin(plugin, { config: { key: "k" }, host });
  assert.equal((await invoke("keep", {}, { origin: { agent: "me" } })).output, null);
  assert.equal(Buffer.from(host.state.get("k")!).toString(), "t0");
  assert.deepEqual(host.events, [{ name: "KEPT", data: { by: "me" } }]);
  const poor = await testPlugin(plugin, { config: { key: "k" } });
  await assert.rejects(poor.invoke("keep"), { code: "PERMISSION_DENIED" });
});

test("chunks leave in order, and none is lost without a word", async () => {
  const plugin = definePlugin({ name: "chunks", version: "0.1.0", description: "Sends chunks." })
    .operation({ name: "hasty", description: "Awaits none." }, (_, ctx) => {
      void ctx.chunk(Buffer.alloc(3 << 20, "a"), "text/plain");
      return ctx.chunk("b", "text/plain");
    })
    .operation({ name: "mixed", description: "Changes its mind." }, async (_, ctx) => {
      await ctx.chunk("a", "text/plain");
      void ctx.chunk("b", "text/html").catch(() => undefined);
    })
    .operation({ name: "both", description: "Sends and returns." }, async (_, ctx) => {
      await ctx.chunk("a");
      return 1;
    });
  const { invoke } = await testPlugin(plugin);
  const { bytes, mediaType } = await invoke("hasty");
  assert.deepEqual([bytes?.length, bytes?.indexOf("b"), mediaType], [(3 << 20) + 1, 3 << 20, "text/plain"]);
  await assert.rejects(invoke("mixed"), { code: "INTERNAL", message: /'text\/html' after 'text\/plain'/ });
  await assert.rejects(invoke("both"), { code: "INTERNAL", reason: "OUTPUT_INVALID" });
});
