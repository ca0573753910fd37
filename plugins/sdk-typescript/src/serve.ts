// A plugin as a process: the handshake with the mesh that started it, and its end.
import { chmodSync } from "node:fs";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { PluginService } from "./gen/consort/plugin/v1/plugin_service_pb.js";
import { Health as HealthService } from "./gen/grpc/health/v1/health_pb.js";
import { Health } from "./health.js";
import { MeshHost } from "./host.js";
import type { Served } from "./plugin.js";
import { definition } from "./rpc.js";
import { PROTOCOL, Service } from "./service.js";
import { pause } from "./time.js";

/** How a plugin is served. */
export interface ServeOptions {
  /**
   * Calls in work at once, beyond which further ones are refused; 256 if it is left out. The manifest's limit goes
   * before.
   */
  inFlight?: number;
}

const COOKIE = "consort-plugin-host";
const HANDSHAKE = 1;
const MAX_MESSAGE = 4 * 1024 * 1024;
const IN_FLIGHT = 256;
/** Milliseconds that calls, and then `close`, may take when the process is told to end. */
const END = 1000;
/** Milliseconds that the last answers may take to leave. */
const FLUSH = 250;

/** Serves the mesh that started this process, until it ends. */
export async function serve(plugin: Served, options: ServeOptions): Promise<never> {
  const env = process.env;
  if (env["CONSORT_PLUGIN_COOKIE"] !== COOKIE || !env["CONSORT_PLUGIN_SOCKET"]) {
    complain(`'${plugin.name}' is a plugin, which a Consort mesh starts; try it with \`consort plugin test\``);
    process.exit(2);
  }
  const [low = PROTOCOL, high = low] = (env["CONSORT_PLUGIN_PROTOCOLS"] ?? "").split("-").map(Number);
  if (!(low <= PROTOCOL && PROTOCOL <= high)) {
    complain(`the mesh speaks protocols ${env["CONSORT_PLUGIN_PROTOCOLS"]}, this plugin ${PROTOCOL}; take another SDK`);
    process.exit(1);
  }
  const socket = env["CONSORT_PLUGIN_SOCKET"];
  const host = new MeshHost(env["CONSORT_HOST_SOCKET"] ?? "", env["CONSORT_PLUGIN_TOKEN"] ?? "");
  const health = new Health(PluginService.typeName);
  // Programs that the plugin starts have no business with the mesh.
  delete env["CONSORT_PLUGIN_TOKEN"];
  const service = new Service(plugin, host, options.inFlight ?? IN_FLIGHT, () => health.stop());
  const server = new Server({
    "grpc.max_receive_message_length": MAX_MESSAGE,
    "grpc.max_send_message_length": MAX_MESSAGE,
  });
  server.addService(definition(PluginService), service.methods());
  server.addService(definition(HealthService), health.methods());
  await listen(server, socket);
  const ended = untilTold();
  // A log that nobody reads any more is no reason to die in the middle of a call.
  process.stdout.on("error", () => undefined);
  process.stderr.on("error", () => undefined);
  process.stdout.write(`${HANDSHAKE}|${PROTOCOL}|unix|${socket}|grpc\n`);
  await ended;
  await service.drain(0);
  await Promise.race([plugin.closed().catch((error: unknown) => complain(`close: ${String(error)}`)), pause(END)]);
  host.close();
  health.close();
  // What was told to callers at last is on its way still.
  await Promise.race([new Promise<void>((resolve) => server.tryShutdown(() => resolve())), pause(FLUSH)]);
  process.exit(0);
}

/** Resolves when the mesh ends this process: with SIGTERM, or with the end of standard input when it is gone itself. */
function untilTold(): Promise<void> {
  return new Promise((resolve) => {
    process.once("SIGTERM", resolve);
    // A terminal sends it to the mesh as well, which drains first.
    process.on("SIGINT", () => undefined);
    for (const event of ["end", "close", "error"]) process.stdin.once(event, () => resolve());
    process.stdin.resume();
  });
}

function listen(server: Server, socket: string): Promise<void> {
  return new Promise((resolve) => {
    server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => {
      if (error) {
        complain(`${socket}: ${error.message}`);
        process.exit(1);
      }
      chmodSync(socket, 0o600);
      resolve();
    });
  });
}

function complain(line: string): void {
  process.stderr.write(`${line}\n`);
}
