// Times and spans of the wire.
import { create } from "@bufbuild/protobuf";
import { DurationSchema, timestampNow, type Duration, type Timestamp } from "@bufbuild/protobuf/wkt";

/** A span of seconds. */
export function duration(span: number): Duration {
  const whole = Math.trunc(span);
  return create(DurationSchema, { seconds: BigInt(whole), nanos: Math.round((span - whole) * 1e9) });
}

/** The seconds of a span. */
export function seconds(span: Duration): number {
  return Number(span.seconds) + span.nanos / 1e9;
}

/** The time by this machine's clock. */
export function now(): Timestamp {
  return timestampNow();
}

/** Resolves after so many milliseconds, or as soon as the signal says so. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
  });
}
