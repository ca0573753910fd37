// What npm calls after it installed: builds the SDK.
//
// Also called when a plugin links to this folder; then the build that is there stays as it is, since others may be running it.
import { execSync } from "node:child_process";
import { existsSync } from "node:fs";
import { resolve } from "node:path";

const isLinked = resolve(process.env.INIT_CWD ?? ".") !== process.cwd();
if (!isLinked || !existsSync("dist/src/index.js")) execSync("npm run build", { stdio: "inherit" });
