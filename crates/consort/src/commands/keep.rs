//! `consort backup`, `restore`, `prune`, `archives` and `import`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use consort_core::keep::KeepStore as _;
use consort_core::rfc3339;
use consort_core::workflow::parse_duration;
use consort_proto::admin::{
    CreateBackupRequest, DownloadArchiveRequest, ImportRunsRequest, ListArchivesRequest, PruneRunsRequest,
};
use consort_store::{RestoreError, SqliteStore, restore};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::cli::Global;
use crate::context::{Context, request_id};
use crate::failure::{Failure, Result};
use crate::output::{self, Format, Table, text};

/// Bytes of one message of an import.
const CHUNK: usize = 256 * 1024;

/// Reads an age such as `30d`.
pub(crate) fn age(text: &str) -> std::result::Result<Duration, String> {
    parse_duration(text)
}

/// Write a backup of a running server.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort backup mesh.tar                  everything that was acknowledged until now
  consort backup - | zstd > mesh.tar.zst   to another program
  consort restore mesh.tar --data ~/mesh   make a data folder of it")]
pub(crate) struct Backup {
    /// The file to write; `-` for standard output. A file that is there is not overwritten.
    pub file: PathBuf,
}

impl Backup {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let client = &context.mesh.client;
        let parts = context.mesh.answer(client.admin().create_backup(CreateBackupRequest {}).await)?;
        if self.file == Path::new("-") {
            if io::stdout().is_terminal() {
                return Err(Failure::usage("a backup is no text for a terminal").hint("name a file, or add `> FILE`"));
            }
            take(context, parts, |part| part.chunk, &mut io::stdout()).await?;
            return Ok(());
        }
        let size = save(context, parts, |part| part.chunk, &self.file).await?;
        let value = json!({"file": self.file.display().to_string(), "size_bytes": size});
        said(context.format, &value, &format!("{} ({})\n", self.file.display(), text::bytes(size as i64)))
    }
}

/// Make a data folder of a backup.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort restore mesh.tar --data ~/mesh   the folder must be empty or not there
  zstd -dc mesh.tar.zst | consort restore - --data ~/mesh

The backup is checked as `consort doctor --data` checks a folder before the folder gets its name.")]
pub(crate) struct Restore {
    /// The backup; `-` for standard input.
    pub file: PathBuf,
}

impl Restore {
    /// Runs the command.
    pub(crate) async fn run(self, global: &Global) -> Result<()> {
        let folder = global.data_folder();
        let source: Box<dyn io::Read + Send> = if self.file == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(io::BufReader::new(open(&self.file)?))
        };
        let restored = restore(source, &folder).await.map_err(|error| match error {
            RestoreError::NotEmpty(_) => Failure::usage(error.to_string()),
            other => Failure::failed(other.to_string()),
        })?;
        let value = json!({
            "folder": folder.display().to_string(),
            "store": restored.store.to_string(),
            "made": rfc3339(restored.created_at),
            "position": restored.position,
            "files": restored.files,
            "size_bytes": restored.bytes,
        });
        let made = rfc3339(restored.created_at);
        let text =
            format!("{} is as the store was at {made}, up to position {}\n", folder.display(), restored.position);
        said(global.output, &value, &text)
    }
}

/// Move finished runs to archives, and delete what nobody needs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort prune --older-than 30d --dry-run          how much would go
  consort prune --older-than 30d --keep-failed      archive what ended well or was cancelled more than 30 days ago
  consort prune --keep-last 1000                    all but the newest 1000 finished runs of each workflow
  consort prune --others-older-than 90d --blobs     events, signals, dead letters, closed projects; and unused blobs

The archives stand in the folder `archive` of the server's data; see `consort archives`. `consort import` brings them back.
`consort serve --prune-older-than 30d` does this by itself.")]
pub(crate) struct Prune {
    /// Runs that ended longer ago than this go.
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub older_than: Option<Duration>,
    /// So many of the newest finished runs of each workflow stay.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub keep_last: Option<i32>,
    /// Failed runs stay.
    #[arg(long)]
    pub keep_failed: bool,
    /// Published events, signals, dead letters and closed projects older than this go too.
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub others_older_than: Option<Duration>,
    /// Delete blobs that nothing refers to and nobody asked for during the last 24 hours.
    #[arg(long)]
    pub blobs: bool,
    /// In all namespaces.
    #[arg(long)]
    pub all_namespaces: bool,
    /// Only count.
    #[arg(long)]
    pub dry_run: bool,
}

impl Prune {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let of_runs = self.older_than.is_some() || self.keep_last.is_some();
        if !of_runs && self.others_older_than.is_none() && !self.blobs {
            return Err(Failure::usage("nothing is said to go")
                .hint("give --older-than AGE, --keep-last N, --others-older-than AGE or --blobs"));
        }
        let wire = |age: Option<Duration>| {
            age.map(|age| prost_types::Duration { seconds: age.as_secs() as i64, nanos: age.subsec_nanos() as i32 })
        };
        let request = PruneRunsRequest {
            parent: if self.all_namespaces { String::new() } else { context.parent.clone() },
            older_than: wire(self.older_than),
            keep_last: self.keep_last.unwrap_or(0),
            keep_failed: self.keep_failed,
            others_older_than: wire(self.others_older_than),
            blobs: self.blobs,
            dry_run: self.dry_run,
            request_id: request_id(),
        };
        let answer = context.mesh.answer(context.mesh.client.admin().prune_runs(request).await)?;
        context.format.print(&answer, || {
            let mut table = Table::new(&["WHAT", if self.dry_run { "WOULD GO" } else { "WENT" }]);
            for (what, count) in [
                ("runs", answer.runs),
                ("runs that must stay for now", answer.runs_held),
                ("events", answer.events),
                ("signals", answer.signals),
                ("dead letters", answer.dead_letters),
                ("projects", answer.projects),
                ("blobs", answer.blobs),
            ] {
                table.row([what.to_owned(), count.to_string()]);
            }
            let mut text = table.render();
            for archive in &answer.archives {
                text += &format!("archived in {} ({})\n", text::id(&archive.name), text::bytes(archive.size_bytes));
            }
            text
        })
    }
}

/// List archives, or download one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort archives                                             list them
  consort archives 2026-11-21T10-00-00-000Z-1a2b3c4d.jsonl.gz --to old.jsonl.gz")]
pub(crate) struct Archives {
    /// The archive to download.
    #[arg(requires = "to")]
    pub name: Option<String>,
    /// The file to write it to.
    #[arg(long, value_name = "FILE", requires = "name")]
    pub to: Option<PathBuf>,
}

impl Archives {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let client = &context.mesh.client;
        if let (Some(name), Some(to)) = (self.name, self.to) {
            let name = format!("archives/{}", text::id(&name));
            let request = DownloadArchiveRequest { name, offset: 0 };
            let parts = context.mesh.answer(client.admin().download_archive(request).await)?;
            let size = save(context, parts, |part| part.chunk, &to).await?;
            let value = json!({"file": to.display().to_string(), "size_bytes": size});
            return said(context.format, &value, &format!("{} ({})\n", to.display(), text::bytes(size as i64)));
        }
        let request = ListArchivesRequest { page_size: 1_000, page_token: String::new() };
        let page = context.mesh.answer(client.admin().list_archives(request).await)?;
        context.format.print(&page, || {
            let mut table = Table::new(&["ARCHIVE", "SIZE"]);
            for archive in &page.archives {
                table.row([text::id(&archive.name).to_owned(), text::bytes(archive.size_bytes)]);
            }
            table.render_or("no archives; `consort prune` makes them")
        })
    }
}

/// Bring back what an archive holds.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  consort import old.jsonl.gz                          into the server that it came from
  consort import old.jsonl.gz --offline --data ~/old   into an empty folder, to look at it with a server of its own

Rows go back to the places they had. Importing twice is importing once, and nothing starts because something came back.")]
pub(crate) struct Import {
    /// The archive, gzip or plain.
    pub file: PathBuf,
    /// Import into the data folder itself, while no server runs there. An empty folder takes any archive.
    #[arg(long)]
    pub offline: bool,
}

impl Import {
    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let mut file = open(&self.file)?;
        let (sender, receiver) = mpsc::channel(4);
        let reading = tokio::task::spawn_blocking(move || -> io::Result<()> {
            loop {
                let mut chunk = vec![0; CHUNK];
                let read = file.read(&mut chunk)?;
                chunk.truncate(read);
                if read == 0 || sender.blocking_send(ImportRunsRequest { chunk: chunk.into() }).is_err() {
                    return Ok(());
                }
            }
        });
        let answer = context.mesh.client.admin().import_runs(ReceiverStream::new(receiver)).await;
        reading.await.map_err(|error| Failure::failed(error.to_string()))??;
        let answer = context.mesh.answer(answer)?;
        context.format.print(&answer, || came(answer.runs, answer.runs_known, answer.rows, answer.others))
    }

    /// Runs the command without a server.
    pub(crate) async fn run_offline(self, global: &Global) -> Result<()> {
        let folder = global.data_folder();
        let mut file = open(&self.file)?;
        let failed = |error: consort_core::keep::KeepError| Failure::failed(error.to_string());
        let store = SqliteStore::open(&folder).await.map_err(|error| Failure::usage(error.to_string()))?;
        let store = Arc::new(store.alone());
        store.settle().await.map_err(|error| failed(error.into()))?;
        let mut intake = Arc::clone(&store).import().await.map_err(failed)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            intake.write(&chunk[..read]).await.map_err(failed)?;
        }
        let imported = intake.finish().await;
        store.close().await;
        let imported = imported.map_err(failed)?;
        let (runs, known, rows, others) = (imported.runs, imported.known, imported.rows, imported.others);
        let value = json!({"runs": runs, "runsKnown": known, "rows": rows, "others": others});
        said(global.output, &value, &came(runs as i64, known as i64, rows as i64, others as i64))
    }
}

fn came(runs: i64, known: i64, rows: i64, others: i64) -> String {
    format!("{runs} runs and {others} other things came back with {rows} rows; {known} runs were there already\n")
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| Failure::usage(format!("cannot read `{}`: {error}", path.display())))
}

/// Writes a stream to a file that gets its name once it is whole and on disk.
async fn save<T>(
    context: &Context,
    parts: Streaming<T>,
    chunk: impl Fn(T) -> bytes::Bytes,
    path: &Path,
) -> Result<u64> {
    let refused = |error: io::Error| Failure::usage(format!("cannot write `{}`: {error}", path.display()));
    if path.exists() {
        return Err(refused(io::Error::new(io::ErrorKind::AlreadyExists, "it is there already")));
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(".part");
    let draft = PathBuf::from(draft);
    let mut file = File::create(&draft).map_err(refused)?;
    let taken = take(context, parts, chunk, &mut file).await;
    let done = taken.and_then(|size| {
        file.sync_all().and_then(|()| std::fs::rename(&draft, path)).map_err(refused)?;
        Ok(size)
    });
    if done.is_err() {
        // The reason is told already.
        let _ = std::fs::remove_file(&draft);
    }
    done
}

async fn take<T>(
    context: &Context,
    mut parts: Streaming<T>,
    chunk: impl Fn(T) -> bytes::Bytes,
    out: &mut impl io::Write,
) -> Result<u64> {
    let mut size = 0;
    loop {
        let next: std::result::Result<Option<T>, Status> = parts.message().await;
        let Some(part) = context.mesh.answer(next.map(tonic::Response::new))? else { break };
        let chunk = chunk(part);
        size += chunk.len() as u64;
        out.write_all(&chunk)?;
    }
    out.flush()?;
    Ok(size)
}

fn said(format: Format, value: &serde_json::Value, text: &str) -> Result<()> {
    if format == Format::Table { output::print(text) } else { format.print_value(value) }
}
