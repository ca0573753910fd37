// Writes the types of `proto/` into the SDK: `npm run generate`, or `node scripts/generate.mjs TARGET`.
//
// Needs buf, which is no npm package here: $BUF, else the repository's `.venv/bin/buf`, else the one on PATH.
import { execFileSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(dirname(fileURLToPath(import.meta.url)));
const REPOSITORY = resolve(HERE, "../..");
// What plugins, workers and the client speak, and what those import.
const WANTED = [
  "consort/agent/v1",
  "consort/blob/v1",
  "consort/inference/v1/generation.proto",
  "consort/orchestrator/v1",
  "consort/plugin/v1/plugin_host_service.proto",
  "consort/plugin/v1/plugin_service.proto",
  "google/rpc",
];

/** The program, or undefined if there is none. */
export function findBuf() {
  const named = [process.env.BUF, join(REPOSITORY, ".venv/bin/buf")].find((path) => path && existsSync(path));
  const onPath = (process.env.PATH ?? "").split(":").map((folder) => join(folder, "buf"));
  return named ?? onPath.find((path) => existsSync(path));
}

/** Generates every module below `target`. Throws if buf refuses; its own words are on stderr. */
export function generate(buf, target) {
  const plugin = {
    local: join(HERE, "node_modules/.bin/protoc-gen-es"),
    out: target,
    opt: ["target=ts", "import_extension=js"],
  };
  const template = JSON.stringify({ version: "v2", plugins: [plugin] });
  const run = (folder, paths) =>
    execFileSync(
      buf,
      ["generate", folder, "--template", template, ...paths.flatMap((path) => ["--path", join(folder, path)])],
      { stdio: ["ignore", "inherit", "inherit"], cwd: HERE },
    );
  run(join(REPOSITORY, "proto"), WANTED);
  run(join(HERE, "proto"), ["google", "grpc"]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const buf = findBuf();
  if (!buf) throw new Error("no buf: set BUF to its path, or run `make setup-dev` in the repository");
  const target = resolve(process.argv[2] ?? join(HERE, "src/gen"));
  rmSync(target, { recursive: true, force: true });
  generate(buf, target);
}
