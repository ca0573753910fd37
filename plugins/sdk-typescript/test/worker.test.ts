// Workers and the client, with the real mesh.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, before, describe, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Client, Plan, RefusedError, RpcError, TaskError, Type, Worker } from "../src/index.js";
import { BINARY, Mesh, MISSING } from "./mesh.js";

const ONE = (agent: string, more = ""): string => `
name: ${agent}
inputs: {value: {description: anything}}
steps:
  - id: only
    agent: ${agent}
    with: {value: "\${{ inputs.value }}"}
    ${more}
output: "\${{ steps.only.output }}"
`;
const Value = Type.Object({ value: Type.Unknown() });

describe("a worker", { skip: MISSING }, () => {
  let mesh: Mesh;
  let client: Client;

  before(async () => {
    mesh = await new Mesh().start();
    client = new Client({ address: mesh.address });
  });

  after(async () => {
    client?.close();
    await mesh?.stop();
  });

  /** Serves until the test ends, which it must do cleanly. */
  async function serve(t: TestContext, worker: (options: { address: string; onReady: () => void }) => Worker) {
    const lines: string[] = [];
    let serving: Promise<void> | undefined;
    let it: Worker | undefined;
    await new Promise<void>((ready, failed) => {
      const log = (_: string, line: string): void => void lines.push(line);
      it = worker(Object.assign({ log }, { address: mesh.address, onReady: ready, drainTimeout: 5 }));
      serving = it.serve();
      serving.catch(failed);
    });
    t.after(async () => {
      it!.stop();
      await serving;
    });
    return { lines, worker: it!, serving: serving! };
  }

  /** What the command line says. */
  function consort(...args: string[]): string {
    return execFileSync(BINARY, [...args, "--addr", mesh.address], { encoding: "utf8" });
  }

  /** Id of the open question with a title, as soon as there is one. */
  async function question(title: string): Promise<string> {
    for (const end = Date.now() + 10_000; Date.now() < end; await sleep(50)) {
      const { decisions = [] } = JSON.parse(consort("decisions", "-o", "json")) as {
        decisions?: Record<string, string>[];
      };
      const name = decisions
        .find((each) => each["title"] === title)
        ?.["name"]?.split("/")
        .at(-1);
      if (name) return name;
    }
    throw new Error(`nobody asks '${title}'`);
  }

  async function run(agent: string, value: unknown, more = "") {
    await client.applyWorkflow(ONE(agent, more));
    return client.waitRun(await client.startRun(agent, { value }));
  }

  test("performs tasks, of any size, and reports", async (t) => {
    await serve(t, (options) =>
      new Worker("reverser", { slots: 2, ...options }).agent(
        "reverser",
        {
          description: "Reverses a text.",
          input: Type.Object({ value: Type.String() }),
          output: Type.String(),
        },
        async ({ value }, task) => {
          assert.match(task.name, /^namespaces\/default\/runs\/.+\/steps\/only\/attempts\/1$/);
          assert.deepEqual([task.agent, task.workflow, task.attempt], ["reverser", "reverser", 1]);
          task.progress(0.5, "half");
          await task.log("info", "a line");
          await task.note("size", { length: value.length });
          return [...value].reverse().join("");
        },
      ),
    );
    const small = await run("reverser", "añb");
    assert.deepEqual([small.state, small.output], ["SUCCEEDED", "bña"]);
    const long = "ab".repeat(100_000);
    assert.equal((await run("reverser", long)).output, "ba".repeat(100_000));
    const wrong = await run("reverser", 5);
    assert.equal(wrong.state, "FAILED");
    assert.equal(wrong.error?.code, "INVALID_ARGUMENT");
    assert.match(wrong.error!.message, /input of 'reverser': value must be string/);
  });

  test("fails as its handler says, and is tried again if that can help", async (t) => {
    const attempts: number[] = [];
    await serve(t, (options) =>
      new Worker("moody", options).agent("moody", { input: Value }, ({ value }, task) => {
        attempts.push(task.attempt);
        if (value === "throw") throw new TypeError("no idea");
        if (value === "plan")
          return new Plan({ name: "child", steps: [{ id: "a", set: 7 }], output: "${{ steps.a.output }}" });
        if (task.attempt < 3) throw new TaskError(value as "ABORTED", "not now", { reason: "MOOD" });
        return task.attempt;
      }),
    );
    const retry = "retry: {max: 5, backoff: 10ms}";
    assert.equal((await run("moody", "ABORTED", retry)).output, 3);
    const final = await run("moody", "NOT_FOUND", retry);
    assert.deepEqual([final.error?.code, final.error?.message], ["NOT_FOUND", "step `only`: not now"]);
    const thrown = await run("moody", "throw");
    assert.deepEqual([thrown.error?.code, thrown.error?.message], ["UNKNOWN", "step `only`: TypeError: no idea"]);
    const planned = await run("moody", "plan", "plan: true");
    assert.deepEqual([planned.state, planned.output], ["SUCCEEDED", 7]);
    assert.deepEqual(attempts, [1, 2, 3, 1, 1, 1]);
  });

  test("asks a person, and goes on with the answer", async (t) => {
    let begun = 0;
    await serve(t, (options) =>
      new Worker("asker", options).agent("asker", { input: Value }, (_, task) => {
        begun += 1;
        try {
          const first = task.ask("Really?", { options: ["yes", "no"], description: "It *matters*." });
          const second = task.ask("How many?", { form: { type: "object", properties: { n: { type: "integer" } } } });
          return [first.option, second.form, second.answeredBy];
        } catch {
          return "a handler that catches everything asks all the same";
        }
      }),
    );
    await client.applyWorkflow(ONE("asker"));
    const name = await client.startRun("asker", { value: 1 });
    consort("decide", await question("Really?"), "yes");
    consort("decide", await question("How many?"), "answer", "--form", '{"n": 3}', "--by", "alice");
    const { state, output } = await client.waitRun(name);
    assert.deepEqual([state, output, begun], ["SUCCEEDED", ["yes", { n: 3 }, "alice"], 3]);
  });

  test("leaves when the mesh drains it", async (t) => {
    const { lines, serving } = await serve(t, (options) => new Worker("guest", options).agent("guest", {}, () => 1));
    consort("drain", "guest");
    await serving;
    assert.equal(lines.at(-1), "drained by the mesh");
  });

  test("gives back what it cannot finish, and another does it", async (t) => {
    await client.applyWorkflow(ONE("heavy"));
    let begun = (): void => undefined;
    const isBegun = new Promise<void>((resolve) => (begun = resolve));
    const first = await serve(t, (options) =>
      new Worker("weak", { ...options, drainTimeout: 0.1 }).agent("heavy", {}, async (_, task) => {
        begun();
        await new Promise((_, stop) => task.signal.addEventListener("abort", () => stop(task.signal.reason)));
      }),
    );
    const name = await client.startRun("heavy", { value: 1 });
    await isBegun;
    first.worker.stop();
    await first.serving;
    await serve(t, (options) =>
      new Worker("strong", options).agent("heavy", {}, (_, { attempt }) => `attempt ${attempt}`),
    );
    assert.equal((await client.waitRun(name)).output, "attempt 1");
  });

  test("stops a task that was cancelled, and takes the next", async (t) => {
    const stopped: string[] = [];
    await serve(t, (options) =>
      new Worker("sleeper", { slots: 1, ...options }).agent("sleeper", { input: Value }, async ({ value }, task) => {
        if (value === "short") return "slept";
        await sleep(600_000, undefined, { signal: task.signal }).catch((error: Error) => {
          stopped.push(error.name);
          throw error;
        });
      }),
    );
    await client.applyWorkflow(ONE("sleeper"));
    const name = await client.startRun("sleeper", { value: "long" });
    await sleep(300);
    await client.cancelRun(name, "changed my mind");
    assert.equal((await client.waitRun(name)).state, "CANCELLED");
    assert.equal((await run("sleeper", "short")).output, "slept");
    assert.deepEqual(stopped, ["AbortError"]);
  });

  test("goes on when the mesh is killed and comes back, and does nothing twice", async (t) => {
    const done: number[] = [];
    const { lines } = await serve(t, (options) =>
      new Worker("counter", { slots: 4, ...options }).agent("counter", { input: Value }, async ({ value }, task) => {
        await sleep(60, undefined, { signal: task.signal });
        done.push(value as number);
        return value;
      }),
    );
    await client.applyWorkflow(`
name: many
steps:
  - id: each
    agent: counter
    for_each: "\${{ [${Array.from({ length: 60 }, (_, at) => at).join(", ")}] }}"
    max_parallel: 4
    with: {value: "\${{ item }}"}
output: "\${{ steps.each.output }}"
`);
    const name = await client.startRun("many");
    await sleep(300);
    await mesh.kill();
    assert.ok(done.length < 60);
    await sleep(300);
    await mesh.start();
    const run = await client.waitRun(name);
    assert.equal(run.state, "SUCCEEDED");
    assert.deepEqual(
      run.output,
      Array.from({ length: 60 }, (_, at) => at),
    );
    assert.equal(done.length, 60, `done more than once: ${done.join(" ")}`);
    assert.ok(
      lines.some((line) => line.startsWith("lost the mesh")),
      lines.join("\n"),
    );
    assert.equal(lines.filter((line) => line.startsWith("attached")).length, 2);
  });

  test("on SIGTERM finishes what is in hand, and ends with status 0", async (t) => {
    const program = fileURLToPath(new URL("./fixtures/worker.js", import.meta.url));
    const child = spawn(process.execPath, [program], {
      env: { PATH: process.env["PATH"], CONSORT_ADDR: mesh.address },
      stdio: ["ignore", "pipe", "pipe"],
    });
    t.after(() => child.kill("SIGKILL"));
    const lines = createInterface(child.stdout);
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    await client.applyWorkflow(ONE("slow"));
    const name = await client.startRun("slow", { value: 500 });
    await new Promise<void>((resolve) => lines.on("line", (line) => line === "begun" && resolve()));
    child.kill("SIGTERM");
    const run = await client.waitRun(name);
    assert.deepEqual([run.state, run.output], ["SUCCEEDED", "slept 500 ms"]);
    assert.equal(await ended, 0);
  });

  test("is refused if another takes its name", async () => {
    const make = (name: string, options: object): Worker =>
      new Worker(name, { address: mesh.address, log: () => undefined, ...options }).agent("idle", {}, () => null);
    let first: Promise<void> | undefined;
    await new Promise<void>((onReady) => (first = make("twin", { onReady }).serve()));
    const refused = assert.rejects(
      first!,
      (error) => error instanceof RefusedError && /took the name 'twin'/.test(error.message),
    );
    const second = make("twin", { onReady: () => second.stop() });
    await second.serve();
    await refused;
  });

  test("mistakes of a workflow are named, each with its place", async () => {
    await assert.rejects(client.applyWorkflow("name: x\nsteps: [{id: a}]\n"), (error) => {
      assert.ok(error instanceof RpcError);
      assert.equal(error.code, "INVALID_ARGUMENT");
      assert.ok(Object.keys(error.fields).length > 0, JSON.stringify(error));
      return true;
    });
  });
});

test("a worker that waits for a mesh ends when it is told", async () => {
  const lines: string[] = [];
  const worker = new Worker("lonely", { address: "127.0.0.1:1", log: (_, line) => void lines.push(line) });
  worker.agent("idle", {}, () => null);
  const serving = worker.serve();
  await sleep(300);
  worker.stop();
  await serving;
  assert.match(lines[0]!, /^no mesh at 127.0.0.1:1 \(UNAVAILABLE/);
  assert.equal(lines.filter((line) => line.startsWith("no mesh")).length, 1);
});

test("mistakes of a worker are named", () => {
  assert.throws(() => new Worker("Bad Name"), /name: 'Bad Name' is malformed/);
  assert.throws(() => new Worker("x", { slots: 0 }), /slots: 0 of type 'default'; give 1 to 10000/);
  assert.throws(() => new Worker("x", { address: "nowhere" }), /address: 'nowhere' is no address/);
  assert.throws(
    () => new Worker("x").agent("a", { slot: "gpu" }, () => 1),
    /no slots of type 'gpu'; the worker offers default/,
  );
  assert.throws(() => new Worker("x").agent("a", {}, () => 1).agent("a", {}, () => 2), /'a' is registered twice/);
});
