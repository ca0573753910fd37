// Calls the tool `echo` over stdio with the official TypeScript SDK's client, in a closed loop of lanes over one connection.
//
//   node load.mjs --concurrency N --seconds S --warmup S
//
// It prints one line of JSON with the rate and the latencies of the calls that ended within the window.
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const text = "hello";
const { values } = parseArgs({
  options: {
    concurrency: { type: "string", default: "16" },
    seconds: { type: "string", default: "5" },
    warmup: { type: "string", default: "1" },
  },
});
const [concurrency, seconds, warmup] = [values.concurrency, values.seconds, values.warmup].map(Number);

const client = new Client({ name: "bench", version: "1.0.0" });
const server = fileURLToPath(new URL("echo.mjs", import.meta.url));
await client.connect(new StdioClientTransport({ command: process.execPath, args: [server] }));
await client.listTools();

const took = [];
const examples = [];
let errors = 0;
const begin = performance.now() + warmup * 1_000;
const end = begin + seconds * 1_000;

async function lane() {
  for (let begun; (begun = performance.now()) < end; ) {
    try {
      const answer = await client.callTool({ name: "echo", arguments: { text } });
      if (answer.isError || answer.content[0].text !== text) throw new Error(`echoed ${JSON.stringify(answer)}`);
    } catch (error) {
      errors += 1;
      if (examples.length < 3) examples.push(String(error));
      await new Promise((resolve) => setTimeout(resolve, 20));
      continue;
    }
    const ended = performance.now();
    if (begin <= ended && ended <= end) took.push(ended - begun);
  }
}

await Promise.all(Array.from({ length: concurrency }, lane));
await client.close();
took.sort((one, other) => one - other);
const at = (share) => (took.length ? took[Math.min(Math.floor(share * took.length), took.length - 1)] : 0);
console.log(
  JSON.stringify({
    concurrency,
    seconds,
    calls: took.length,
    calls_per_s: took.length / seconds,
    p50_ms: at(0.5),
    p99_ms: at(0.99),
    errors,
    error_examples: examples,
  }),
);
