// The generated types are those of the protos.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const script = new URL("../../scripts/generate.mjs", import.meta.url).href;
const { findBuf, generate } = (await import(script)) as {
  findBuf: () => string | undefined;
  generate: (buf: string, target: string) => void;
};
const buf = findBuf();
const skip = !buf
  ? "no buf: set BUF to its path, or run `make setup-dev` in the repository"
  : !existsSync(join(PACKAGE, "../../proto")) && "no proto/: this is not the repository";

test("src/gen is what `npm run generate` writes", { skip }, (t) => {
  const folder = mkdtempSync(join(tmpdir(), "consort-ts-gen-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  generate(buf!, folder);
  assert.deepEqual(files(join(PACKAGE, "src/gen")), files(folder), "run `npm run generate`");
});

/** Text by path. */
function files(folder: string): Record<string, string> {
  const names = (readdirSync(folder, { recursive: true }) as string[]).filter((name) =>
    statSync(join(folder, name)).isFile(),
  );
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}
