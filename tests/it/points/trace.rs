//! A tracer: runs a program, numbers every system call with which it changes anything on disk, and ends it at one of
//! them, or lets one of them fail.
//!
//! The kernel asks the tracer before each such call (seccomp's user notification), of all threads of the program at
//! once; what the programs do that it starts is let through and not numbered. A program that is killed at point `n`
//! has done what points 0 to `n - 1` do, and not what `n` does. What goes to a pipe, a terminal or to the files that
//! stand for stdout and stderr is no effect.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use libc::{c_int, c_long};

/// A system call that changes something on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Its name.
    pub call: &'static str,
    /// What it changes, as the program names it: a path, or the path behind a descriptor.
    pub target: String,
}

/// What goes wrong, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Nowhere,
    /// The whole process is killed before this call.
    Kill(usize),
    /// This call does nothing and fails with this number.
    Fail(usize, c_int),
    /// The same, and every later one too.
    FailOn(usize, c_int),
}

/// What became of the program.
pub struct Traced {
    /// Its exit status; 128 + the signal when a signal ended it.
    pub status: i32,
    /// The points that it passed, up to that of the fault.
    pub points: Vec<Point>,
}

/// How a call says what it changes.
#[derive(Clone, Copy)]
enum Says {
    /// The path in this argument.
    Path(usize),
    /// The path in this argument, below the directory in the one before it.
    At(usize),
    /// The descriptor in this argument.
    Fd(usize),
    /// As `At`, and it is an effect only when it may create or truncate: the flags are in this argument.
    Flags(usize),
    /// The same, where this argument points to the flags.
    How(usize),
    Nothing,
}

use Says::{At, Fd, Flags, How, Nothing, Path};

const CALLS: &[(c_long, &str, Says)] = &[
    (libc::SYS_openat, "openat", Flags(2)),
    (libc::SYS_openat2, "openat2", How(2)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, "creat", Path(0)),
    (libc::SYS_write, "write", Fd(0)),
    (libc::SYS_pwrite64, "pwrite64", Fd(0)),
    (libc::SYS_writev, "writev", Fd(0)),
    (libc::SYS_pwritev, "pwritev", Fd(0)),
    (libc::SYS_pwritev2, "pwritev2", Fd(0)),
    (libc::SYS_copy_file_range, "copy_file_range", Fd(2)),
    (libc::SYS_sendfile, "sendfile", Fd(0)),
    (libc::SYS_splice, "splice", Fd(2)),
    (libc::SYS_truncate, "truncate", Path(0)),
    (libc::SYS_ftruncate, "ftruncate", Fd(0)),
    (libc::SYS_fallocate, "fallocate", Fd(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "rename", Path(1)),
    (libc::SYS_renameat, "renameat", At(3)),
    (libc::SYS_renameat2, "renameat2", At(3)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_link, "link", Path(1)),
    (libc::SYS_linkat, "linkat", At(3)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_symlink, "symlink", Path(1)),
    (libc::SYS_symlinkat, "symlinkat", At(2)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "unlink", Path(0)),
    (libc::SYS_unlinkat, "unlinkat", At(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, "mkdir", Path(0)),
    (libc::SYS_mkdirat, "mkdirat", At(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, "rmdir", Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, "mknod", Path(0)),
    (libc::SYS_mknodat, "mknodat", At(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, "chmod", Path(0)),
    (libc::SYS_fchmod, "fchmod", Fd(0)),
    (libc::SYS_fchmodat, "fchmodat", At(1)),
    (libc::SYS_fchmodat2, "fchmodat2", At(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, "chown", Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lchown, "lchown", Path(0)),
    (libc::SYS_fchown, "fchown", Fd(0)),
    (libc::SYS_fchownat, "fchownat", At(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_utime, "utime", Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_utimes, "utimes", Path(0)),
    (libc::SYS_utimensat, "utimensat", At(1)),
    (libc::SYS_setxattr, "setxattr", Path(0)),
    (libc::SYS_lsetxattr, "lsetxattr", Path(0)),
    (libc::SYS_fsetxattr, "fsetxattr", Fd(0)),
    (libc::SYS_removexattr, "removexattr", Path(0)),
    (libc::SYS_lremovexattr, "lremovexattr", Path(0)),
    (libc::SYS_fremovexattr, "fremovexattr", Fd(0)),
    (libc::SYS_fsync, "fsync", Fd(0)),
    (libc::SYS_fdatasync, "fdatasync", Fd(0)),
    (libc::SYS_syncfs, "syncfs", Fd(0)),
    (libc::SYS_sync, "sync", Nothing),
    (libc::SYS_sync_file_range, "sync_file_range", Fd(0)),
    (libc::SYS_msync, "msync", Nothing),
];

/// Runs `command` to its end. `quiet` are paths that are no effects: where stdout and stderr go.
pub fn run(mut command: Command, quiet: &[PathBuf], fault: Fault) -> io::Result<Traced> {
    let filter = filter();
    let (ours, theirs) = UnixDatagram::pair()?;
    let to = theirs.as_raw_fd();
    // SAFETY: system calls only, with what was prepared before the fork.
    unsafe { command.pre_exec(move || install(&filter, to)) };
    let mut child = command.spawn()?;
    let listener = receive(&ours)?;
    let points = Arc::new(Mutex::new(Vec::new()));
    let watch = Watch {
        main: child.id(),
        threads: HashSet::new(),
        quiet: quiet.to_vec(),
        fault,
        is_over: false,
        points: Arc::clone(&points),
    };
    // What the program leaves running is answered as well, until all of it has ended.
    std::thread::spawn(move || watch.serve(&listener));
    let status = child.wait()?;
    let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    let points = points.lock().unwrap().clone();
    Ok(Traced { status, points })
}

/// The filter that asks about each call of the list.
fn filter() -> Vec<libc::sock_filter> {
    let load = |offset| libc::sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: offset,
    };
    let jump = |how, k, jt, jf| libc::sock_filter { code: (libc::BPF_JMP | how | libc::BPF_K) as u16, jt, jf, k };
    let end = |k| libc::sock_filter { code: libc::BPF_RET as u16, jt: 0, jf: 0, k };
    let mut program = vec![load(0)];
    for (number, _, says) in CALLS {
        let number = u32::try_from(*number).unwrap();
        match says {
            Flags(index) => program.extend([
                jump(libc::BPF_JEQ, number, 0, 4),
                // The lower half of the argument, on a little-endian machine.
                load(16 + 8 * u32::try_from(*index).unwrap()),
                jump(libc::BPF_JSET, (libc::O_CREAT | libc::O_TRUNC) as u32, 0, 1),
                end(libc::SECCOMP_RET_USER_NOTIF),
                end(libc::SECCOMP_RET_ALLOW),
            ]),
            _ => program.extend([jump(libc::BPF_JEQ, number, 0, 1), end(libc::SECCOMP_RET_USER_NOTIF)]),
        }
    }
    program.push(end(libc::SECCOMP_RET_ALLOW));
    program
}

/// In the child: installs the filter and sends the descriptor that its questions come from.
fn install(filter: &[libc::sock_filter], to: RawFd) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: system calls only, with pointers to what lives until they return.
    unsafe {
        if libc::geteuid() != 0 && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let listener =
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) as c_int;
        if listener < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut message = Message::new();
        let mut header = message.header();
        let control = libc::CMSG_FIRSTHDR(&raw const header);
        (*control).cmsg_level = libc::SOL_SOCKET;
        (*control).cmsg_type = libc::SCM_RIGHTS;
        (*control).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as u32) as _;
        libc::CMSG_DATA(control).cast::<c_int>().write_unaligned(listener);
        header.msg_controllen = (*control).cmsg_len;
        if libc::sendmsg(to, &raw const header, 0) != 1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// In the parent: the descriptor that the child sent.
fn receive(from: &UnixDatagram) -> io::Result<OwnedFd> {
    let mut message = Message::new();
    let mut header = message.header();
    // SAFETY: `header` points to what `message` owns; the descriptor in it is ours alone.
    unsafe {
        if libc::recvmsg(from.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) != 1 {
            return Err(io::Error::last_os_error());
        }
        let control = libc::CMSG_FIRSTHDR(&raw const header);
        if control.is_null() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(control).cast::<c_int>().read_unaligned()))
    }
}

/// Room for one byte and one descriptor.
struct Message {
    byte: [u8; 1],
    part: libc::iovec,
    control: [u64; 4],
}

impl Message {
    fn new() -> Message {
        Message { byte: [0], part: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 1 }, control: [0; 4] }
    }

    fn header(&mut self) -> libc::msghdr {
        self.part.iov_base = self.byte.as_mut_ptr().cast();
        // SAFETY: it is made of numbers and pointers that may be null.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut self.part;
        header.msg_iovlen = 1;
        header.msg_control = self.control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&self.control) as _;
        header
    }
}

struct Watch {
    main: u32,
    /// The threads of the program that have asked already.
    threads: HashSet<u32>,
    quiet: Vec<PathBuf>,
    fault: Fault,
    /// Whether the fault has happened; nothing is numbered any more.
    is_over: bool,
    points: Arc<Mutex<Vec<Point>>>,
}

impl Watch {
    /// Answers until nobody is left who could ask.
    fn serve(mut self, listener: &OwnedFd) {
        let fd = listener.as_raw_fd();
        loop {
            let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor, on the stack.
            unsafe { libc::poll(&raw mut poll, 1, -1) };
            if poll.revents & libc::POLLIN == 0 {
                if poll.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 {
                    return;
                }
                continue;
            }
            // SAFETY: it is made of numbers; the kernel wants them to be zero.
            let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: the kernel fills in what it points to. It fails for who has been killed meanwhile.
            if unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) } != 0 {
                continue;
            }
            let Some(error) = self.judge(&asked) else { continue };
            let flags = if error == 0 { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 };
            let mut answer = libc::seccomp_notif_resp { id: asked.id, val: 0, error: -error, flags };
            // SAFETY: the kernel reads what it points to.
            unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
        }
    }

    /// The error that a call is to fail with, 0 for none; `None` when it is never to return.
    fn judge(&mut self, asked: &libc::seccomp_notif) -> Option<c_int> {
        if self.is_over && !matches!(self.fault, Fault::Kill(_)) || !self.is_of_the_program(asked.pid) {
            return Some(0);
        }
        if self.is_over {
            return None;
        }
        let Some(point) = self.point(asked.pid, c_long::from(asked.data.nr), &asked.data.args) else { return Some(0) };
        let number = {
            let mut points = self.points.lock().unwrap();
            points.push(point);
            points.len() - 1
        };
        match self.fault {
            Fault::Kill(at) if at == number => {
                self.is_over = true;
                // SAFETY: a process of ours that has not been waited for: it waits for this answer.
                unsafe { libc::kill(self.main.cast_signed(), libc::SIGKILL) };
                None
            }
            Fault::Fail(at, error) if at == number => {
                self.is_over = true;
                Some(error)
            }
            Fault::FailOn(from, error) if from <= number => Some(error),
            _ => Some(0),
        }
    }

    fn is_of_the_program(&mut self, thread: u32) -> bool {
        self.threads.contains(&thread)
            || (std::path::Path::new(&format!("/proc/{}/task/{thread}", self.main)).exists()
                && self.threads.insert(thread))
    }

    /// The point that a call is, if it is one.
    fn point(&self, thread: u32, number: c_long, arguments: &[u64; 6]) -> Option<Point> {
        let (_, call, says) = CALLS.iter().find(|(one, ..)| *one == number)?;
        let target = match *says {
            Path(index) => path(thread, arguments[index])?,
            At(index) => at(thread, arguments, index)?,
            Fd(index) => behind(thread, arguments[index])?,
            Flags(_) => at(thread, arguments, 1)?,
            How(index) => {
                let flags = u64::from_ne_bytes(memory(thread, arguments[index])?);
                if flags & (libc::O_CREAT | libc::O_TRUNC) as u64 == 0 {
                    return None;
                }
                at(thread, arguments, 1)?
            }
            Nothing => String::new(),
        };
        let elsewhere = ["pipe:", "socket:", "anon_inode:", "/dev/null", "/dev/pts/"];
        let none = elsewhere.iter().any(|prefix| target.starts_with(prefix))
            || self.quiet.iter().any(|path| path.as_os_str() == target.as_str());
        (!none).then_some(Point { call, target })
    }
}

fn memory<const N: usize>(thread: u32, address: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let memory = std::fs::File::open(format!("/proc/{thread}/mem")).ok()?;
    memory.read_exact_at(&mut bytes, address).ok()?;
    Some(bytes)
}

/// The path that a pointer points to.
fn path(thread: u32, address: u64) -> Option<String> {
    let memory = std::fs::File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut bytes = vec![0; 4096];
    // It may stand at the end of what is mapped.
    let read = memory.read_at(&mut bytes, address).ok()?;
    let end = bytes[..read].iter().position(|byte| *byte == 0).unwrap_or(read);
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// The path in an argument, below the directory in the one before it.
fn at(thread: u32, arguments: &[u64; 6], index: usize) -> Option<String> {
    let name = if arguments[index] == 0 { String::new() } else { path(thread, arguments[index])? };
    let dir = arguments[index - 1] as c_int;
    if name.starts_with('/') || dir == libc::AT_FDCWD {
        return Some(name);
    }
    Some(format!("{}/{name}", behind(thread, arguments[index - 1])?))
}

/// What is behind a descriptor.
fn behind(thread: u32, descriptor: u64) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/{thread}/fd/{}", descriptor as c_int)).ok()?;
    Some(link.to_string_lossy().into_owned())
}
