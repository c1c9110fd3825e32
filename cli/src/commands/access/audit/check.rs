//! Checks an exported audit log line by line, without the server.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use muster_protocol::audit::{
    AuditAnchor, AuditHash, AuditHead, AuditKeyChange, AuditLink, ChainVerifier, EXPORT_FORMAT,
    FindingKind, KEY_CHANGE_ACTION, StoredEntry, VerifiedChain,
};
use muster_protocol::identity::{AgentPublicKey, Fingerprint};
use serde_json::json;
use uuid::Uuid;

use super::AuditVerifyArgs;
use super::exported_line::{EntryLine, ExportedLine};
use crate::error::CliError;
use crate::output::printer::{Output, print_note};
use crate::output::text::{pluralize, sanitize};

/// Longest line.
pub const MAX_LOG_LINE_BYTES: u64 = 4 * 1024 * 1024;

/// A log that was read to its end.
struct ReadLog {
    chain: VerifiedChain,
    /// The link behind which the file starts.
    after: u64,
    head: Option<AuditHead>,
    /// Retention removed the link of the kept head.
    is_kept_removed: bool,
}

/// What a log is compared with, before it is read.
///
/// # Errors
/// [`CliError::Usage`] if the options do not fit together, [`CliError::File`].
pub fn start(args: &AuditVerifyArgs) -> Result<LogReader, CliError> {
    let kept = args.head.as_deref().map(read_head).transpose()?;
    let trusted = args.public_key.or(kept.as_ref().map(|head| head.public_key.fingerprint()));
    if args.from.is_some() && trusted.is_none() {
        // A person who changes a file can also sign it again with a key of their own.
        return Err(CliError::Usage(
            "pass the server's key with --public-key, or a head that you kept with --head; a file alone proves nothing"
                .into(),
        ));
    }
    if let (Some(kept), Some(key)) = (&kept, args.public_key)
        && kept.public_key.fingerprint() != key
    {
        return Err(CliError::Usage(
            "the kept head was signed with another key than --public-key".into(),
        ));
    }
    Ok(LogReader::new(trusted, kept))
}

/// Checks an exported file.
///
/// # Errors
/// [`CliError::Unsuccessful`] if something is wrong, [`CliError::Usage`] for a file that is no export.
pub fn verify_file(args: &AuditVerifyArgs, path: &Path, output: Output) -> Result<u8, CliError> {
    let mut log = start(args)?;
    let mut file = BufReader::new(File::open(path).map_err(CliError::file("read", path))?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = file.by_ref().take(MAX_LOG_LINE_BYTES);
        bounded.read_until(b'\n', &mut line).map_err(CliError::file("read", path))?;
        if line.is_empty() {
            break;
        }
        log.read_line(&line)?;
    }
    finish(args, log, output)
}

/// Ends the check of a log that was read to its end, and reports the result.
///
/// # Errors
/// As [`verify_file`].
pub fn finish(args: &AuditVerifyArgs, log: LogReader, output: Output) -> Result<u8, CliError> {
    let (kept, trusted) = (log.kept.clone(), log.given);
    let log = log.finish()?;
    if let (Some(path), Some(head)) = (&args.save_head, &log.head)
        && log.chain.finding_count == 0
    {
        save_head(path, head)?;
    }
    report(&log, kept.as_ref(), trusted, output)
}

/// Reads a head from a file, and checks that it is signed.
fn read_head(path: &Path) -> Result<AuditHead, CliError> {
    let text = std::fs::read(path).map_err(CliError::file("read", path))?;
    let head = serde_json::from_slice::<AuditHead>(&text).ok().filter(AuditHead::is_signed);
    head.ok_or_else(|| CliError::Usage(format!("{} contains no signed head", path.display())))
}

fn save_head(path: &Path, head: &AuditHead) -> Result<(), CliError> {
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        serde_json::to_writer_pretty(&mut file, head)?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().map_err(CliError::file("write", path))
}

/// Reads a log line by line.
pub struct LogReader {
    /// The key that the user trusts.
    given: Option<Fingerprint>,
    /// The keys that may have signed: the given one, else the one of the log itself, and each that one of them has
    /// named as the next.
    signers: Vec<Fingerprint>,
    /// A key that has signed a link, and is compared when all changes of the key are known.
    signatures: Vec<(AgentPublicKey, u64)>,
    kept: Option<AuditHead>,
    verifier: Option<(Uuid, ChainVerifier)>,
    /// The link whose entries follow.
    link: Option<AuditLink>,
    entries: Vec<StoredEntry>,
    lines: u64,
    after: u64,
    head: Option<AuditHead>,
    is_partial: bool,
    is_kept_removed: bool,
}

impl LogReader {
    fn new(given: Option<Fingerprint>, kept: Option<AuditHead>) -> Self {
        Self {
            given,
            signers: given.into_iter().collect(),
            signatures: Vec::new(),
            kept,
            verifier: None,
            link: None,
            entries: Vec::new(),
            lines: 0,
            after: 0,
            head: None,
            is_partial: false,
            is_kept_removed: false,
        }
    }

    /// Reads the next line.
    ///
    /// # Errors
    /// [`CliError::Unsuccessful`] for a line that is none of an export, [`CliError::Usage`] for an export that
    /// can't be verified.
    pub fn read_line(&mut self, text: &[u8]) -> Result<(), CliError> {
        self.lines += 1;
        let line = serde_json::from_slice::<ExportedLine>(text).map_err(|_| {
            CliError::Unsuccessful(format!("line {} is no line of an audit log", self.lines))
        })?;
        if self.head.is_some() && !matches!(line, ExportedLine::Header { .. }) {
            let message = format!("line {} follows the head, which must be the last", self.lines);
            return Err(CliError::Unsuccessful(message));
        }
        self.take(line)
    }

    fn finish(mut self) -> Result<ReadLog, CliError> {
        self.close_link();
        self.check_signers();
        let Some((_, mut verifier)) = self.verifier else {
            return Err(CliError::Usage("this is no exported audit log".into()));
        };
        if let Some(head) = &self.head {
            verifier.check_head(head);
        }
        let chain = verifier.finish(!self.is_kept_removed);
        if self.head.is_none() && chain.finding_count == 0 {
            let message =
                "the log has no signed head: its end was removed, or the export was cut off";
            return Err(CliError::Unsuccessful(message.into()));
        }
        let (after, head, is_kept_removed) = (self.after, self.head, self.is_kept_removed);
        Ok(ReadLog { chain, after, head, is_kept_removed })
    }

    fn take(&mut self, line: ExportedLine) -> Result<(), CliError> {
        match line {
            ExportedLine::Header { format, tenant_id, after, public_key, is_complete } => {
                if format != EXPORT_FORMAT {
                    let message = format!("this version does not know the format \"{format}\"");
                    return Err(CliError::Usage(sanitize(&message)));
                }
                if !is_complete {
                    let message = "an export with a filter can't be verified; export the whole log";
                    return Err(CliError::Usage(message.into()));
                }
                self.start(tenant_id, after, public_key);
            }
            ExportedLine::Anchor(anchor) => self.start_behind(&anchor),
            ExportedLine::Link(link) => {
                self.close_link();
                self.link = Some(link);
            }
            ExportedLine::Entry(entry) => self.add_entry(&entry),
            ExportedLine::Head(head) => {
                self.signatures.push((head.public_key, head.number));
                self.head = Some(head);
            }
            ExportedLine::End {} => {}
        }
        Ok(())
    }

    /// The first header decides. A later one is of an export that continues an earlier one.
    fn start(&mut self, tenant_id: Uuid, after: u64, public_key: Option<AgentPublicKey>) {
        self.close_link();
        if self.verifier.is_some() {
            return;
        }
        if self.signers.is_empty() {
            self.signers.extend(public_key.map(|key| key.fingerprint()));
        }
        self.after = after;
        self.is_partial = after > 0;
        let kept = self.kept.clone();
        let verifier = ChainVerifier::new(tenant_id, after, AuditHash::default(), kept);
        self.verifier = Some((tenant_id, verifier));
    }

    /// Retention has removed the links up to the anchor.
    fn start_behind(&mut self, anchor: &AuditAnchor) {
        let Some((tenant_id, _)) = &self.verifier else { return };
        if self.after > anchor.number || self.link.is_some() {
            return;
        }
        let tenant_id = *tenant_id;
        self.is_kept_removed = self.kept.as_ref().is_some_and(|kept| kept.number < anchor.number);
        let kept = self.kept.clone().filter(|_| !self.is_kept_removed);
        let mut verifier = ChainVerifier::new(tenant_id, anchor.number, anchor.hash, kept);
        if !anchor.is_signed() || anchor.tenant_id != tenant_id {
            let message =
                "the anchor, where retention cut the log, is not signed by the server's key";
            verifier.add(FindingKind::SignatureInvalid, anchor.number, None, message.into());
        }
        self.verifier = Some((tenant_id, verifier));
        self.is_partial = false;
        self.after = anchor.number;
        self.signatures.push((anchor.public_key, anchor.number));
    }

    fn check_signers(&mut self) {
        let Some((_, verifier)) = &mut self.verifier else { return };
        for (key, number) in std::mem::take(&mut self.signatures) {
            let signer = key.fingerprint();
            if !self.signers.is_empty() && !self.signers.contains(&signer) {
                let message = format!("link {number} is signed with another key: {signer}");
                verifier.add(FindingKind::SignatureInvalid, number, None, message);
            }
        }
    }

    /// A key that a trusted key has named as the next one is trusted too.
    fn follow_key_change(&mut self, entry: &EntryLine) {
        if entry.action != KEY_CHANGE_ACTION {
            return;
        }
        let change = serde_json::from_value::<AuditKeyChange>(entry.detail.clone());
        if let Ok(change) = change
            && change.is_signed()
            && self.signers.contains(&change.previous_public_key.fingerprint())
            && !self.signers.contains(&change.public_key.fingerprint())
        {
            self.signers.push(change.public_key.fingerprint());
        }
    }

    fn add_entry(&mut self, entry: &EntryLine) {
        self.follow_key_change(entry);
        let Some((tenant_id, verifier)) = &mut self.verifier else { return };
        let stored = entry.stored(*tenant_id);
        match &self.link {
            Some(link) if link.number == stored.link => self.entries.push(stored),
            _ => verifier.add_unlinked(stored),
        }
    }

    fn close_link(&mut self) {
        let (Some(link), Some((tenant_id, verifier))) = (self.link.take(), &mut self.verifier)
        else {
            return;
        };
        if self.is_partial {
            // What came before is not in the file.
            let after = link.number.saturating_sub(1);
            self.is_kept_removed = self.kept.as_ref().is_some_and(|kept| kept.number < after);
            let kept = self.kept.clone().filter(|_| !self.is_kept_removed);
            *verifier = ChainVerifier::new(*tenant_id, after, link.previous_hash, kept);
            self.is_partial = false;
            self.after = after;
        }
        verifier.check(&link, &std::mem::take(&mut self.entries));
    }
}

fn report(
    log: &ReadLog,
    kept: Option<&AuditHead>,
    trusted: Option<Fingerprint>,
    output: Output,
) -> Result<u8, CliError> {
    let chain = &log.chain;
    let signer = log.head.as_ref().map(|head| head.public_key.fingerprint().to_string());
    let answer = json!({
        "verified": chain.finding_count == 0,
        "links": chain.links,
        "entries": chain.entries,
        "after": log.after,
        "head": log.head,
        "findings": chain.findings,
        "finding_count": chain.finding_count,
    });
    if chain.finding_count > 0 {
        if output.json {
            output.answer(&answer, |_| String::new())?;
        }
        for finding in &chain.findings {
            print_note(&sanitize(&finding.message));
        }
        let count = pluralize(chain.finding_count, "finding");
        return Err(CliError::Unsuccessful(format!("the audit log was changed: {count}")));
    }
    output.answer(&answer, |_| {
        let links = pluralize(chain.links, "link");
        let entries = match chain.entries {
            1 => "1 entry".to_owned(),
            count => format!("{count} entries"),
        };
        let mut lines = vec![match &signer {
            Some(signer) => format!(
                "verified: {links} with {entries} are as they were written; the server signed link {} with {signer}",
                chain.last_number
            ),
            None => "not verified: the log has no head".to_owned(),
        }];
        if log.after > 0 {
            lines.push(format!("not checked: links 1 to {}, which are not in the log any more", log.after));
        }
        match kept {
            Some(kept) if log.is_kept_removed => lines.push(format!(
                "not checked: the kept head of link {}, which is not in the log any more", kept.number
            )),
            Some(kept) => lines.push(format!("the kept head of link {} is part of the log", kept.number)),
            None => lines.push(
                "not checked: whether the end of the log was removed; keep a head with --save-head and pass it with --head"
                    .to_owned(),
            ),
        }
        if trusted.is_none() {
            lines.push("not checked: the server's key, because the server itself showed it".to_owned());
        }
        lines.push("not checked: names of actors and subjects; the ids are".to_owned());
        lines.iter().map(|line| sanitize(line)).collect::<Vec<_>>().join("\n")
    })?;
    Ok(0)
}
