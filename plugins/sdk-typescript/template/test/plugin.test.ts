import assert from "node:assert/strict";
import { test } from "node:test";
import { testPlugin } from "@consort/sdk/testing";
import { plugin } from "../src/plugin.js";

test("counts words", async () => {
  const { invoke } = await testPlugin(plugin);
  const { output, logs } = await invoke("count", { text: "One two, ONE." });
  assert.deepEqual(output, { total: 3, words: { one: 2, two: 1 } });
  assert.deepEqual(logs, [{ level: "info", message: "3 words" }]);
});

test("a text without words is refused", async () => {
  const { invoke } = await testPlugin(plugin);
  await assert.rejects(invoke("count", { text: "..." }), {
    code: "INVALID_ARGUMENT",
    fields: { text: "there is no word in it" },
  });
});
