// grpc.health.v1 for the socket of a plugin.
import { create } from "@bufbuild/protobuf";
import {
  status,
  type sendUnaryData,
  type ServerUnaryCall,
  type ServerWritableStream,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import {
  HealthCheckResponse_ServingStatus as Serving,
  HealthCheckResponseSchema,
  type HealthCheckRequest,
  type HealthCheckResponse,
} from "./gen/grpc/health/v1/health_pb.js";

type Watcher = ServerWritableStream<HealthCheckRequest, HealthCheckResponse>;

/** Watchers at most: the mesh needs one. */
const WATCHERS = 16;

/** How the plugin is, for those who ask and those who watch. */
export class Health {
  readonly #services: readonly string[];
  readonly #watchers = new Set<Watcher>();
  #status = Serving.SERVING;

  /** `services` are the full names that are known, beside the empty one. */
  constructor(...services: string[]) {
    this.#services = ["", ...services];
  }

  /** Nothing new is taken. */
  stop(): void {
    this.#status = Serving.NOT_SERVING;
    for (const watcher of this.#watchers) watcher.write(create(HealthCheckResponseSchema, { status: this.#status }));
  }

  /** Nobody can be told any more. */
  close(): void {
    for (const watcher of this.#watchers) watcher.end();
  }

  /** The methods, for grpc-js. */
  methods(): UntypedServiceImplementation {
    return {
      check: (
        call: ServerUnaryCall<HealthCheckRequest, HealthCheckResponse>,
        done: sendUnaryData<HealthCheckResponse>,
      ) => {
        if (this.#services.includes(call.request.service)) {
          done(null, create(HealthCheckResponseSchema, { status: this.#status }));
        } else {
          done({ code: status.NOT_FOUND, details: `no service '${call.request.service}'` });
        }
      },
      watch: (call: Watcher) => {
        if (this.#watchers.size >= WATCHERS) {
          call.emit("error", { code: status.RESOURCE_EXHAUSTED, details: `${WATCHERS} watch already` });
          return;
        }
        const isKnown = this.#services.includes(call.request.service);
        call.write(create(HealthCheckResponseSchema, { status: isKnown ? this.#status : Serving.SERVICE_UNKNOWN }));
        if (isKnown) this.#watchers.add(call);
        call.on("cancelled", () => this.#watchers.delete(call));
      },
    };
  }
}
