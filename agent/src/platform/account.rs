//! Users of this host, and becoming one.

use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use nix::libc;
use nix::unistd::{Gid, Uid, User};

use super::native;

/// A user, as the host's database has it.
#[derive(Debug, Clone)]
pub struct Account {
    pub name: String,
    pub home: PathBuf,
    pub shell: PathBuf,
    user: Uid,
    group: Gid,
    /// All groups of the user, the main one among them.
    groups: Vec<Gid>,
}

/// The name of a user, or the number of one that has none.
pub fn user_name(id: u32) -> String {
    let user = User::from_uid(Uid::from_raw(id)).ok().flatten();
    user.map_or_else(|| id.to_string(), |user| user.name)
}

impl Account {
    /// Looks a user up by name; `None` if there is none.
    ///
    /// # Errors
    /// Whatever the database says.
    pub fn named(name: &str) -> io::Result<Option<Self>> {
        let Some(user) = User::from_name(name)? else { return Ok(None) };
        let name = CString::new(user.name.as_str()).map_err(io::Error::other)?;
        let groups = native::groups_of(&name, user.gid)?;
        Ok(Some(Self {
            name: user.name,
            home: user.dir,
            shell: user.shell,
            user: user.uid,
            group: user.gid,
            groups,
        }))
    }

    pub fn user_id(&self) -> u32 {
        self.user.as_raw()
    }

    /// True if becoming this user gives nothing up.
    pub fn is_root(&self) -> bool {
        self.user.is_root()
    }

    /// Becomes this user for good, with its groups and no others, in a child that is about to start
    /// a program. Standard output and error become the user's own too: else a program that opens
    /// them by name, as `/dev/stderr`, could not.
    ///
    /// Allocates nothing and takes no lock, as is due between fork and exec.
    ///
    /// # Errors
    /// Whatever the system says; the child must start nothing then.
    pub fn become_user(&self) -> io::Result<()> {
        for number in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            // SAFETY: the child was given both before it comes here, and closes neither.
            let pipe = unsafe { BorrowedFd::borrow_raw(number) };
            // A failure costs that convenience and nothing else.
            let _ = nix::unistd::fchown(pipe, Some(self.user), Some(self.group));
        }
        native::set_groups(&self.groups)?;
        nix::unistd::setgid(self.group)?;
        nix::unistd::setuid(self.user)?;
        Ok(())
    }
}
