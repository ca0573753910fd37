//! Reading an archive line by line, and holding it against itself.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Seek};

use consort_core::data::BlobRef;
use consort_core::event::{Record, chain};
use consort_core::ids::RunId;
use consort_core::keep::KeepError;
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::line::{End, Header, Line, VERSION};

/// Bytes of one line: more than a transition can be.
const LINE: u64 = 256 * 1024 * 1024;

/// Runs of one archive.
const RUNS: usize = 1_000_000;

/// Where an archive is read from.
pub(crate) trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}
pub(crate) type Source = Box<dyn ReadSeek>;

/// The lines of a file, checked as they come.
pub(super) struct Reader {
    lines: Box<dyn BufRead + Send>,
    hash: Sha256,
    end: End,
    number: u64,
    /// The run whose rows come: the number and hash of its last event.
    run: Option<(RunId, u64, [u8; 32], u64)>,
    blob: Option<(BlobRef, Sha256, u64)>,
    seen: HashSet<RunId>,
    over: bool,
}

/// What a line says, once it is checked.
pub(super) enum Item {
    Line(Line),
    Row(u64, Record),
    Bytes(Vec<u8>),
}

impl Reader {
    /// Reads a file from its beginning, gzip or plain.
    pub(super) fn open(mut file: Source) -> Result<(Reader, Header), KeepError> {
        let mut magic = [0; 2];
        let compressed = file.rewind().and_then(|()| file.read_exact(&mut magic)).is_ok() && magic == [0x1f, 0x8b];
        file.rewind().map_err(|error| damaged(0, &error.to_string()))?;
        let plain = BufReader::new(file);
        let lines: Box<dyn BufRead + Send> =
            if compressed { Box::new(BufReader::new(MultiGzDecoder::new(plain))) } else { Box::new(plain) };
        let mut reader = Reader {
            lines,
            hash: Sha256::new(),
            end: End::default(),
            number: 0,
            run: None,
            blob: None,
            seen: HashSet::new(),
            over: false,
        };
        let not_one = || KeepError::Damaged("this is not an archive of Consort".into());
        let header = match reader.line() {
            Ok(Some(Line::ConsortArchive(header))) => header,
            Err(cut_off) if compressed => return Err(cut_off),
            _ => return Err(not_one()),
        };
        if header.version > VERSION {
            let text = format!("the archive has version {}, and this program reads up to {VERSION}", header.version);
            return Err(KeepError::Damaged(text));
        }
        Ok((reader, header))
    }

    /// The next line; `None` behind the last one, which must be the end.
    pub(super) fn next(&mut self) -> Result<Option<Item>, KeepError> {
        let Some(line) = self.line()? else {
            if self.over {
                return Ok(None);
            }
            let text = format!("the archive is cut off after line {}: it has no end", self.number);
            return Err(KeepError::Damaged(text));
        };
        if self.over {
            return Err(damaged(self.number, "it stands behind the end"));
        }
        let blob_line = matches!(line, Line::Part(_));
        if let Some((blob, _, left)) = &self.blob
            && (*left > 0) != blob_line
        {
            return Err(damaged(self.number, &format!("blob {} has other parts than its size says", blob.sha256)));
        }
        let within_run = matches!(line, Line::Row(_) | Line::Over(_) | Line::Blob(_) | Line::Part(_));
        if self.run.is_some() && !within_run {
            return Err(damaged(self.number, "the run before it is not complete"));
        }
        self.check(line).map(Some)
    }

    fn check(&mut self, line: Line) -> Result<Item, KeepError> {
        let number = self.number;
        match line {
            Line::Run(head) => {
                if !self.seen.insert(head.id) {
                    return Err(damaged(number, &format!("run {} comes twice", head.id)));
                }
                if self.seen.len() > RUNS {
                    return Err(damaged(number, &format!("an archive has at most {RUNS} runs")));
                }
                self.run = Some((head.id, 0, [0; 32], 0));
                Ok(Item::Line(Line::Run(head)))
            }
            Line::Row(row) => {
                let Some((run, sequence, hash, position)) = self.run else {
                    return Err(damaged(number, "it is a row without a run"));
                };
                let found = row.record(run).filter(|(_, record)| {
                    record.entries().is_ok_and(|entries| entries.len() == record.count as usize && record.count > 0)
                });
                let (at, record) = found.ok_or_else(|| damaged(number, "its events cannot be read"))?;
                if record.sequence != sequence + 1 || at <= position {
                    return Err(damaged(
                        number,
                        &format!("run {run} goes from event {sequence} to {}", record.sequence),
                    ));
                }
                if chain(&hash, &record.body) != record.hash {
                    let text = format!("event {} of run {run} breaks the chain of hashes", record.sequence);
                    return Err(damaged(number, &text));
                }
                self.run = Some((run, record.last_sequence(), record.hash, at));
                Ok(Item::Row(at, record))
            }
            Line::Over(run) => match self.run.take() {
                Some((open, sequence, _, _)) if open == run && sequence > 0 => Ok(Item::Line(Line::Over(run))),
                _ => Err(damaged(number, "it ends a run that is not open")),
            },
            Line::Blob(blob) => {
                if blob.sha256.len() != 64 || !blob.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(damaged(number, "it names no SHA-256"));
                }
                let left = blob.size;
                self.blob = (left > 0).then(|| (blob.clone(), Sha256::new(), left));
                Ok(Item::Line(Line::Blob(blob)))
            }
            Line::Part(part) => {
                let bytes = hex::decode(&part).map_err(|_| damaged(number, "it is not hexadecimal"))?;
                let Some((blob, hash, left)) = &mut self.blob else {
                    return Err(damaged(number, "it is a part of no blob"));
                };
                if bytes.is_empty() || bytes.len() as u64 > *left {
                    return Err(damaged(number, &format!("blob {} has other parts than its size says", blob.sha256)));
                }
                hash.update(&bytes);
                *left -= bytes.len() as u64;
                if *left == 0 {
                    if hex::encode(hash.clone().finalize()) != *blob.sha256 {
                        return Err(damaged(
                            number,
                            &format!("blob {} has other bytes than its name says", blob.sha256),
                        ));
                    }
                    self.blob = None;
                }
                Ok(Item::Bytes(bytes))
            }
            Line::End(end) => {
                if end != self.end {
                    return Err(damaged(number, "the counts or the SHA-256 of what stands before it are not these"));
                }
                self.over = true;
                Ok(Item::Line(Line::End(end)))
            }
            Line::ConsortArchive(_) => Err(damaged(number, "a second archive begins")),
            other => Ok(Item::Line(other)),
        }
    }

    fn line(&mut self) -> Result<Option<Line>, KeepError> {
        let mut text = Vec::new();
        self.number += 1;
        let read = (&mut self.lines).take(LINE).read_until(b'\n', &mut text);
        match read {
            Ok(0) => {
                self.number -= 1;
                return Ok(None);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(KeepError::Damaged(format!("the archive is cut off in line {}", self.number)));
            }
            Err(error) => return Err(damaged(self.number, &error.to_string())),
        }
        if text.last() != Some(&b'\n') {
            return Err(KeepError::Damaged(format!("the archive is cut off in line {}", self.number)));
        }
        let line: Line = serde_json::from_slice(&text).map_err(|error| damaged(self.number, &error.to_string()))?;
        if let Line::End(_) = &line {
            self.end.sha256 = hex::encode(self.hash.clone().finalize());
        }
        self.end.count(&line);
        self.hash.update(&text);
        Ok(Some(line))
    }
}

fn damaged(line: u64, why: &str) -> KeepError {
    KeepError::Damaged(format!("the archive is damaged in line {line}: {why}"))
}
