//! Programs of other makers: whether they are here, and in which version.

use std::time::Duration;

use tokio::process::Command;

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);

/// A language that plugins and workers can be written in, and that the mesh itself does without.
#[derive(Debug)]
pub(crate) struct Language {
    /// Its name.
    pub name: &'static str,
    /// The program that it needs, and what prints the version.
    pub program: &'static str,
    version: &'static str,
    /// The oldest version that will do: major and minor.
    least: (u32, u32),
    /// The program's name for people, with that version.
    pub wanted: &'static str,
}

/// Those that are looked for. Rust and Python are not among them: without these there would be no demo.
pub(crate) const LANGUAGES: [Language; 2] = [
    Language { name: "TypeScript", program: "node", version: "--version", least: (20, 0), wanted: "Node 20" },
    Language { name: "Go", program: "go", version: "version", least: (1, 26), wanted: "Go 1.26" },
];

impl Language {
    /// The version that is here, or why it does not do.
    pub(crate) async fn find(&self) -> Result<String, String> {
        let said = output_of(Command::new(self.program).arg(self.version)).await.map_err(|_| "not found".to_owned())?;
        let version = version_in(&said);
        if is_at_least(&version, self.least) { Ok(version) } else { Err(format!("{version} is too old")) }
    }
}

/// The first word of a line that looks like a version, without what stands before its digits: `v20.1.0`, `go1.26.0`.
fn version_in(line: &str) -> String {
    let words = line.split_whitespace().map(|word| word.trim_start_matches(|c: char| c.is_ascii_alphabetic()));
    words.into_iter().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap_or("?").to_owned()
}

/// Whether the version is as new as that, or newer.
pub(crate) fn is_at_least(version: &str, least: (u32, u32)) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= least
}

/// The first line of what a command prints, or why there is none.
pub(crate) async fn output_of(command: &mut Command) -> Result<String, String> {
    let ran = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await;
    let ran =
        ran.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?.map_err(|error| error.to_string())?;
    let line = |bytes: &[u8], last: bool| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let line = if last { lines.next_back() } else { lines.next() };
        line.unwrap_or_default().trim().to_owned()
    };
    if ran.status.success() { Ok(line(&ran.stdout, false)) } else { Err(line(&ran.stderr, true)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_compared_as_numbers() {
        for (line, version) in [("v22.1.0", "22.1.0"), ("go version go1.26.1 linux/amd64", "1.26.1"), ("none", "?")] {
            assert_eq!(version_in(line), version);
        }
        for (version, recent) in [("3.11.2", true), ("3.9.18", false), ("4.0.0", true), ("2.7.18", false), ("", false)]
        {
            assert_eq!(is_at_least(version, (3, 11)), recent, "{version}");
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_says_why() {
        assert_eq!(output_of(Command::new("sh").args(["-c", "echo 1; echo 2"])).await, Ok("1".to_owned()));
        let error = output_of(Command::new("sh").args(["-c", "echo a >&2; echo b >&2; exit 1"])).await;
        assert_eq!(error, Err("b".to_owned()));
    }

    #[tokio::test]
    async fn what_is_not_there_or_too_old_is_told() {
        let language = |program, least| Language { name: "L", program, version: "--version", least, wanted: "L 1" };
        assert_eq!(language("no-such-program", (1, 0)).find().await.unwrap_err(), "not found");
        // Every system has a shell tool that knows its version.
        let found = language("bash", (1, 0)).find().await.unwrap();
        assert_eq!(language("bash", (1_000, 0)).find().await.unwrap_err(), format!("{found} is too old"));
    }
}
