// What the README shows compiles.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));

test("the README's examples are sound", (t) => {
  const text = readFileSync(join(PACKAGE, "README.md"), "utf8");
  const blocks = [...text.matchAll(/```ts\n(.*?)```/gs)].map((match) => match[1]!);
  assert.equal(blocks.length, 4);
  const folder = join(PACKAGE, "dist/readme");
  mkdirSync(folder, { recursive: true });
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  for (const [at, block] of blocks.entries()) writeFileSync(join(folder, `example${at}.ts`), block);
  const compilerOptions = {
    module: "nodenext",
    target: "es2023",
    strict: true,
    noEmit: true,
    types: ["node"],
    skipLibCheck: true,
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
  const { status, stdout } = spawnSync(join(PACKAGE, "node_modules/.bin/tsc"), ["-p", folder], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
  // The one about tests can also be run: it asserts what it says.
  writeFileSync(join(folder, "run.mjs"), blocks[1]!);
  const run = spawnSync(process.execPath, [join(folder, "run.mjs")], { encoding: "utf8" });
  assert.equal(run.status, 0, run.stderr);
});
