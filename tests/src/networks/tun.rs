//! A TUN device: a network interface whose packets this process reads and writes.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::libc;

nix::ioctl_write_ptr_bad!(
    /// Makes an open `/dev/net/tun` the device of this name.
    set_interface,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    libc::ifreq
);

/// The device; it disappears when this is dropped.
#[derive(Debug)]
pub struct Tun(File);

impl Tun {
    /// Creates a device. Needs root.
    pub fn create(name: &str) -> Self {
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .expect("open /dev/net/tun; these tests need root");
        // SAFETY: all-zero bytes are a valid `ifreq`.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(15)) {
            *to = from as libc::c_char;
        }
        let flags = libc::IFF_TUN | libc::IFF_NO_PI;
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: the request lives until the call returns, which only reads it.
        unsafe { set_interface(file.as_raw_fd(), &raw const request) }.expect("create the device");
        Self(file)
    }

    /// The next packet; `None` if none comes within 50 ms.
    pub fn read<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::from(50u8)).unwrap_or(0);
        if ready == 0 {
            return None;
        }
        let length = (&self.0).read(buffer).ok()?;
        buffer.get(..length)
    }

    /// Gives a packet to the interface.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        (&self.0).write(packet).map(drop)
    }
}
