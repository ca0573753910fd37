// The real mesh as a process; for tests.
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const START = 20_000;

/** The server's program. */
export const BINARY = process.env["CONSORT_BINARY"] ?? resolve(PACKAGE, "../../target/debug/consort");

/** Why tests with a mesh cannot run here, or false. */
export const MISSING = existsSync(BINARY) ? false : `no ${BINARY}: build it, or set CONSORT_BINARY`;

/** A mesh that can be killed and started again on the same port and data. */
export class Mesh {
  readonly folder = mkdtempSync(join(tmpdir(), "consort-ts-mesh-"));
  address = "";
  log = "";
  #child: ChildProcess | undefined;

  /** Starts it; resolves when it is ready. */
  async start(): Promise<this> {
    const listen = this.address || "127.0.0.1:0";
    const args = ["serve", "--data", this.folder, "--listen", listen, "--no-models"];
    const child = spawn(BINARY, args, { stdio: ["ignore", "pipe", "pipe"], env: { PATH: process.env["PATH"] } });
    this.#child = child;
    let isReady = false;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (text: Buffer) => {
        this.log += text.toString();
        isReady ||= / ready on /.test(text.toString());
      });
    }
    for (const end = Date.now() + START; !isReady; await sleep(20)) {
      if (child.exitCode !== null || Date.now() > end) throw new Error(`the mesh did not start:\n${this.log}`);
    }
    this.address = readFileSync(join(this.folder, "endpoint"), "utf8").trim();
    return this;
  }

  /** Ends it without a word. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((done) => child.once("exit", done));
    child.kill("SIGKILL");
    await ended;
  }

  /** Ends it and takes its data away. */
  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
