//! Notices secrets in bytes, in each form that output is masked for.

use muster_protocol::frame::output::Stream;
use muster_protocol::library::{LeakPlace, Rehearsal};
use muster_protocol::parameter::secret_parameters::SecretParameters;

use crate::executions::shim::mask::{Masker, Masks, TooManySecrets};

const BUFFER_BYTES: usize = 64 * 1024;

/// One for each secret.
pub struct SecretDetectors(Vec<SecretDetector>);

struct SecretDetector {
    name: String,
    masker: Masker,
    read_bytes: u64,
    kept_bytes: u64,
}

impl SecretDetectors {
    /// Secrets that are too short to be masked are not noticed.
    ///
    /// # Errors
    /// [`TooManySecrets`]
    pub fn of(secrets: &SecretParameters) -> Result<Self, TooManySecrets> {
        let mut detectors = Vec::new();
        for (name, value) in secrets.iter() {
            let mut alone = SecretParameters::default();
            alone.insert(name.to_owned(), value.to_owned());
            if let Some(masks) = Masks::of(&alone)? {
                let masker = Masker::new(masks);
                let name = name.to_owned();
                detectors.push(SecretDetector { name, masker, read_bytes: 0, kept_bytes: 0 });
            }
        }
        Ok(Self(detectors))
    }

    /// Reads on.
    pub fn push(&mut self, bytes: &[u8]) {
        for SecretDetector { masker, read_bytes, kept_bytes, .. } in &mut self.0 {
            *read_bytes += bytes.len() as u64;
            masker.push(bytes, &mut |kept| *kept_bytes += kept.len() as u64);
        }
    }

    /// The text has ended: the names of the secrets that were in it.
    pub fn finish(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for SecretDetector { name, masker, read_bytes, kept_bytes } in &mut self.0 {
            masker.finish(&mut |kept| *kept_bytes += kept.len() as u64);
            // A mask is shorter than each secret.
            if read_bytes != kept_bytes {
                found.push(name.clone());
            }
            (*read_bytes, *kept_bytes) = (0, 0);
        }
        found
    }

    /// The names of the secrets in these bytes.
    pub fn found_in(&mut self, bytes: &[u8]) -> Vec<String> {
        self.push(bytes);
        self.finish()
    }

    /// The names of the secrets in a file, as far as it can be read.
    pub fn found_in_file(&mut self, mut file: impl std::io::Read) -> Vec<String> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(read @ 1..) = file.read(&mut buffer) {
            self.push(&buffer[..read]);
        }
        self.finish()
    }
}

/// Notices secrets in the output of a run.
pub struct OutputWatch {
    stdout: SecretDetectors,
    stderr: SecretDetectors,
    report: Rehearsal,
}

impl OutputWatch {
    /// # Errors
    /// [`TooManySecrets`]
    pub fn of(secrets: &SecretParameters) -> Result<Self, TooManySecrets> {
        let (stdout, stderr) = (SecretDetectors::of(secrets)?, SecretDetectors::of(secrets)?);
        Ok(Self { stdout, stderr, report: Rehearsal::empty() })
    }

    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Stdout => self.stdout.push(bytes),
            Stream::Stderr => self.stderr.push(bytes),
        }
    }

    pub fn finish(mut self) -> Rehearsal {
        for (mut detectors, place) in
            [(self.stdout, LeakPlace::Stdout), (self.stderr, LeakPlace::Stderr)]
        {
            for name in detectors.finish() {
                self.report.add(&name, place, None);
            }
        }
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_secret_is_noticed_alone_and_in_each_form_that_is_masked() {
        let mut secrets = SecretParameters::default();
        secrets.insert("A".into(), "dummy-0123456789".into());
        secrets.insert("B".into(), "another-9876543210".into());
        let mut detectors = SecretDetectors::of(&secrets).expect("few");
        assert_eq!(detectors.found_in(b"nothing dummy-012345678 here"), Vec::<String>::new());
        assert_eq!(detectors.found_in(b"xdummy-0123456789x"), ["A"]);
        // Base64 of `another-9876543210`.
        assert_eq!(detectors.found_in(b"x YW5vdGhlci05ODc2NTQzMjEw y"), ["B"]);
        assert_eq!(detectors.found_in(b"dummy-0123456789\0another-9876543210"), ["A", "B"]);
        detectors.push(b"dummy-01234");
        detectors.push(b"56789");
        assert_eq!(detectors.finish(), ["A"]);
        assert_eq!(detectors.finish(), Vec::<String>::new(), "a new text");
    }
}
