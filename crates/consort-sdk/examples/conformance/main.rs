//! The plugin with which the conformance checks try this SDK: the same operations in every language.

use std::time::Duration;

use consort_sdk::Code;
use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::{Call, Fault, Nothing, Operation, Plugin};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Text {
    /// Any text.
    text: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Count {
    /// The last number, from 1 on.
    to: u32,
    /// Pause before each number.
    #[serde(default)]
    delay_ms: u64,
}

#[derive(Serialize, JsonSchema)]
struct Total {
    /// Sum of the numbers.
    total: u64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sleep {
    ms: u64,
}

#[derive(Serialize, JsonSchema)]
struct Slept {
    slept_ms: u64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Large {
    /// Size of the result in MiB.
    mib: u32,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Failing {
    /// Name of a gRPC code, for example `NOT_FOUND`.
    code: String,
    message: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Write {
    path: String,
    text: String,
}

#[derive(Serialize, JsonSchema)]
struct Size {
    bytes: usize,
}

async fn count(call: Call, input: Count) -> Result<Total, Fault> {
    let mut total = 0;
    for number in 1..=input.to {
        tokio::time::sleep(Duration::from_millis(input.delay_ms)).await;
        total += u64::from(number);
        call.progress(f64::from(number) / f64::from(input.to), format!("at {number}")).await;
        call.info(format!("counted {number}")).await;
    }
    Ok(Total { total })
}

async fn sleep(call: Call, input: Sleep) -> Result<Slept, Fault> {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(input.ms)) => Ok(Slept { slept_ms: input.ms }),
        () = call.cancelled() => Err(Fault::cancelled()),
    }
}

async fn write(call: Call, input: Write) -> Result<Size, Fault> {
    let bytes = input.text.len();
    let line = |done| format!("{done} {bytes} bytes to {}", input.path);
    if call.dry_run() {
        call.would(line("write"));
        return Ok(Size { bytes });
    }
    tokio::fs::write(&input.path, &input.text).await?;
    call.did(line("wrote"));
    Ok(Size { bytes })
}

fn code(name: &str) -> Option<Code> {
    // 1 to 16 are the codes of failures.
    (1..=16).map(Code::from_i32).find(|code| {
        let spelled = format!("{code:?}");
        spelled.eq_ignore_ascii_case(&name.replace('_', ""))
    })
}

#[tokio::main]
async fn main() -> Result<(), consort_sdk::Error> {
    Plugin::new("conformance-rust", "0.1.0")
        .description("Does what the conformance checks ask for.")
        .operation(Operation::read("echo", "Gives back a text."), |_: Call, input: Text| async move { Ok(input) })
        .operation(Operation::read("count", "Counts, and tells of it."), count)
        .operation(Operation::read("sleep", "Does nothing for a while."), sleep)
        .operation(Operation::read("large", "Gives many bytes."), |call: Call, input: Large| async move {
            let mut writer = call.writer("application/octet-stream")?;
            for _ in 0..input.mib {
                writer.write(vec![b'x'; 1024 * 1024]).await?;
            }
            writer.finish().await
        })
        .operation(Operation::read("fail", "Fails as asked."), |_: Call, input: Failing| async move {
            let code = code(&input.code).ok_or_else(|| {
                Fault::bad_input("input.code", format!("`{}` is no code; give one such as `NOT_FOUND`", input.code))
            })?;
            Err::<Nothing, _>(Fault::new(code, input.message))
        })
        .operation(Operation::read("crash", "Ends the process."), |_: Call, _: Nothing| async move {
            std::process::exit(7);
            #[allow(unreachable_code)]
            Ok(Nothing {})
        })
        .operation(Operation::write("write", "Writes a file.").dry_run(), write)
        .serve()
        .await
}
