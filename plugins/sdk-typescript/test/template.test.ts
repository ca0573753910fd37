// A project made from the template is built, tested and started without a network.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Started } from "./host.js";

const SDK = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

test("a new plugin passes its tests and says hello", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "consort-ts-new-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(join(SDK, "template"), folder, { recursive: true });
  for (const name of readdirSync(folder, { recursive: true }) as string[]) {
    const path = join(folder, name);
    if (!statSync(path).isFile()) continue;
    const text = readFileSync(path, "utf8").replaceAll("{{name}}", "my-words").replaceAll("{{sdk}}", SDK);
    assert.ok(!/\{\{(?!\$)/.test(text), `${name} has a placeholder that nobody fills in`);
    writeFileSync(path, text);
  }
  const npm = (...args: string[]): string => {
    const nowhere = { npm_config_registry: "http://127.0.0.1:1", npm_config_cache: join(folder, ".cache") };
    const env: NodeJS.ProcessEnv = { ...process.env, ...nowhere };
    // Test runners speak to each other through the environment, and npm to its scripts.
    for (const key of ["NODE_TEST_CONTEXT", "INIT_CWD"]) delete env[key];
    return execFileSync("npm", args, { cwd: folder, encoding: "utf8", env, stdio: ["ignore", "pipe", "pipe"] });
  };
  npm("install", "--offline", "--no-audit", "--no-fund");
  assert.match(npm("test"), /# pass 2\n# fail 0/);

  const plugin = await Started.start(join(folder, "dist/src/main.js"));
  t.after(() => plugin.stop());
  assert.equal((await plugin.greet()).name, "my-words");
  const { output } = await plugin.invoke("count", { text: "a b a" });
  assert.deepEqual(output, { total: 3, words: { a: 2, b: 1 } });
});
