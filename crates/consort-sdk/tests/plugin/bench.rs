//! Plugins on the test bench.

use std::time::Duration;

use consort_sdk::Code;
use consort_sdk::plugin::schemars::{self, JsonSchema};
use consort_sdk::plugin::testing::{Bench, invoke};
use consort_sdk::plugin::{Call, Fault, Level, Nothing, Operation, Permissions, Plugin};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Text {
    text: String,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    greeting: String,
}

fn check(config: &Config, granted: &Permissions) -> Result<(), Fault> {
    if config.greeting.contains('\n') {
        return Err(Fault::bad_input("config.greeting", "has more than one line"));
    }
    if !config.greeting.is_empty() && granted.capabilities.is_empty() {
        return Err(Fault::permission_denied("greeting needs a capability"));
    }
    Ok(())
}

fn plugin() -> Plugin {
    Plugin::new("t", "1.0.0")
        .checked_config::<Config>(check)
        .at_once(4)
        .operation(Operation::read("greet", ""), |call: Call, input: Text| async move {
            let greeting = &call.config::<Config>()?.greeting;
            call.progress(0.5, "half").await;
            call.warn("loud").await;
            Ok(Text { text: format!("{greeting}{}", input.text) })
        })
        .operation(Operation::write("keep", "").dry_run(), |call: Call, input: Text| async move {
            if call.dry_run() {
                call.would(format!("keep {}", input.text));
                return Ok(Nothing {});
            }
            let secret = call.host().get_secret("token").await?;
            let before = call.host().get_state("text").await?.unwrap_or_default();
            call.host().put_state("text", [&before[..], input.text.as_bytes()].concat()).await?;
            call.host().publish_event("KEPT", &json!({"with": secret, "key": call.idempotency_key()})).await?;
            call.did("kept it");
            Ok(Nothing {})
        })
        .operation(Operation::read("panic", ""), |_: Call, _: Nothing| async move {
            let nothing: [Nothing; 0] = [];
            let index = nothing.len();
            Ok(nothing[index])
        })
        .operation(Operation::read("big", ""), |_: Call, _: Nothing| async move {
            Ok(Text { text: "y".repeat(3 * 1024 * 1024) })
        })
        .operation(Operation::read("unfinished", ""), |call: Call, _: Nothing| async move {
            call.writer("text/plain")?.write("lost").await?;
            Ok(Nothing {})
        })
        .operation(Operation::read("stream", ""), |call: Call, _: Nothing| async move {
            let mut writer = call.writer("text/plain")?;
            assert!(call.writer("text/plain").is_err(), "a second writer");
            writer.write("some ").await?;
            writer.write("text").await?;
            writer.finish().await
        })
        .operation(Operation::read("forever", ""), |call: Call, _: Nothing| async move {
            call.blocking(|call| {
                while !call.is_cancelled() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err::<Value, _>(Fault::cancelled())
            })
            .await
        })
}

#[tokio::test]
async fn a_call_gives_output_progress_and_logs() {
    let done = invoke(&plugin(), "greet", json!({"text": "x"})).await.unwrap();
    assert_eq!(done.output::<Text>().unwrap().text, "x");
    assert_eq!(done.progress, [(0.5, "half".to_owned())]);
    assert_eq!(done.logs, [(Level::Warn, "loud".to_owned())]);
}

#[tokio::test]
async fn bad_inputs_name_their_field() {
    for (input, field) in
        [(json!({}), "input.text"), (json!({"text": 1}), "input.text"), (json!({"text": "", "y": 1}), "input.y")]
    {
        let fault = invoke(&plugin(), "greet", input).await.unwrap_err();
        assert_eq!((fault.code, fault.violations[0].0.as_str()), (Code::InvalidArgument, field));
    }
    assert_eq!(invoke(&plugin(), "gret", json!({})).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn configuration_is_typed_and_checked() {
    let plugin = plugin();
    let granted = Permissions { capabilities: vec!["greet".into()], ..Permissions::default() };
    let bench = Bench::new(&plugin).config(json!({"greeting": "Hi "})).granted(granted);
    assert_eq!(bench.invoke("greet", json!({"text": "x"})).await.unwrap().output, json!({"text": "Hi x"}));
    for (config, code) in [
        (json!({"greeting": "a\nb"}), Code::InvalidArgument),
        (json!({"greeting": "Hi"}), Code::PermissionDenied),
        (json!({"greting": ""}), Code::InvalidArgument),
    ] {
        let fault = Bench::new(&plugin).config(config).invoke("greet", json!({"text": "x"})).await.unwrap_err();
        assert_eq!(fault.code, code, "{fault}");
    }
}

#[tokio::test]
async fn the_host_keeps_and_publishes() {
    let plugin = plugin();
    let bench = Bench::new(&plugin).secret("token", "s3cret").idempotency_key("k");
    for _ in 0..2 {
        assert_eq!(bench.invoke("keep", json!({"text": "ab"})).await.unwrap().actions, ["kept it"]);
    }
    assert_eq!(bench.state()["text"], "abab");
    assert_eq!(bench.events()[0], ("KEPT".to_owned(), json!({"with": "s3cret", "key": "k"})));
    let bench = Bench::new(&plugin).dry_run(true);
    assert_eq!(bench.invoke("keep", json!({"text": "ab"})).await.unwrap().would, ["keep ab"]);
    assert!(bench.state().is_empty());
    let fault = bench.invoke("greet", json!({"text": ""})).await.unwrap_err();
    assert_eq!(fault.code, Code::FailedPrecondition, "an operation without dry runs");
}

#[tokio::test]
async fn results_may_be_large_and_mistakes_of_the_author_are_told() {
    let plugin = plugin();
    let big = invoke(&plugin, "big", json!({})).await.unwrap();
    assert_eq!(big.output["text"].as_str().unwrap().len(), 3 * 1024 * 1024);
    let stream = invoke(&plugin, "stream", json!({})).await.unwrap();
    assert_eq!(stream.bytes.unwrap(), ("some text".into(), "text/plain".to_owned()));
    for (operation, part) in [("panic", "out of bounds"), ("unfinished", "Writer::finish")] {
        let fault = invoke(&plugin, operation, json!({})).await.unwrap_err();
        assert!(fault.code == Code::Internal && fault.message.contains(part), "{fault}");
    }
}

#[tokio::test]
async fn a_call_ends_with_its_time() {
    let bench = Bench::new(&plugin()).timeout(Duration::from_millis(50));
    let fault = bench.invoke("forever", json!({})).await.unwrap_err();
    assert_eq!(fault.code, Code::DeadlineExceeded);
}
