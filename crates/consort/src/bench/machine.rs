//! What a figure was read on.

use std::path::Path;

use serde_json::{Value, json};

/// Processor, cores, memory, kernel, load, and the folder of the store. What the system does not tell is null.
pub(super) fn describe(folder: &Path) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    json!({
        "cpu": read("/proc/cpuinfo").and_then(|text| field(&text, "model name").map(str::to_owned)),
        "cores": std::thread::available_parallelism().ok().map(usize::from),
        "memory_mib": read("/proc/meminfo").and_then(|text| {
            field(&text, "MemTotal")?.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
        }),
        "kernel": read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
        "load": read("/proc/loadavg").and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok()),
        "folder": folder.display().to_string(),
    })
}

/// The first value of a name in lines of `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "MemTotalX: 1 kB\nMemTotal:   2048 kB\nmodel name\t: A: B\n";
        assert_eq!(field(text, "MemTotal"), Some("2048 kB"));
        assert_eq!(field(text, "model name"), Some("A: B"));
        assert_eq!(field(text, "flags"), None);
    }

    #[test]
    fn this_machine_says_what_it_is() {
        let machine = describe(Path::new("/tmp"));
        assert!(machine["cores"].as_u64() > Some(0), "{machine}");
        assert!(machine["memory_mib"].as_u64() > Some(0), "{machine}");
        assert!(machine["kernel"].is_string(), "{machine}");
    }
}
