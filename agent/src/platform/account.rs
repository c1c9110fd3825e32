//! Users of this host, and switching to one.

use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use nix::libc;
use nix::unistd::{Gid, Uid, User};

use super::native;

/// A user as listed in the host's user database.
#[derive(Debug, Clone)]
pub struct Account {
    pub name: String,
    pub home: PathBuf,
    pub shell: PathBuf,
    user: Uid,
    group: Gid,
    /// All groups of the user, the primary group included.
    groups: Vec<Gid>,
}

/// The name of a user, or the number of a user without a name.
pub fn user_name(id: u32) -> String {
    let user = User::from_uid(Uid::from_raw(id)).ok().flatten();
    user.map_or_else(|| id.to_string(), |user| user.name)
}

impl Account {
    /// Looks up a user by name; `None` if the user does not exist.
    ///
    /// # Errors
    /// The error of the user database.
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

    /// True if switching to this user gives up no rights.
    pub fn is_root(&self) -> bool {
        self.user.is_root()
    }

    /// Makes this user the owner of an open file or folder.
    ///
    /// # Errors
    /// The system's error.
    pub fn own(&self, file: &std::fs::File) -> io::Result<()> {
        nix::unistd::fchown(file, Some(self.user), Some(self.group))?;
        Ok(())
    }

    /// Switches to this user for good, with its groups and no others, in a child that is about to
    /// start a program. Standard output and error are given to the user too, because otherwise a
    /// program could not open them by name, as `/dev/stderr`.
    ///
    /// Allocates nothing and takes no lock, as required between fork and exec.
    ///
    /// # Errors
    /// The system's error; the child must start nothing then.
    pub fn become_user(&self) -> io::Result<()> {
        for number in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            // SAFETY: the child has both descriptors from its start and closes neither.
            let pipe = unsafe { BorrowedFd::borrow_raw(number) };
            // A failure only affects programs that open the stream by name.
            let _ = nix::unistd::fchown(pipe, Some(self.user), Some(self.group));
        }
        native::set_groups(&self.groups)?;
        nix::unistd::setgid(self.group)?;
        nix::unistd::setuid(self.user)?;
        Ok(())
    }
}
