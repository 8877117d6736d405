//! Anonymous network namespaces, and programs and threads inside them.
//!
//! A namespace here has no name in `/run/netns`: it lives as long as our file descriptor, or a
//! process or socket inside it, does. Whatever ends this process, a panic or `kill -9`, takes the
//! namespaces and everything in them along; there is nothing to clean up.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};

use crate::process;

/// How long a program that sets something up (`ip`, `nft`, `ethtool`) may take.
const SETUP_LIMIT: Duration = Duration::from_secs(10);

/// An anonymous network namespace. Clones are handles of the same namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    fd: Arc<OwnedFd>,
}

impl Namespace {
    /// Makes an empty namespace with its loopback interface up. `name` serves messages only.
    pub fn new(name: &str) -> Result<Self> {
        // The namespace of a thread is its own affair: a helper moves to a new one, opens it and
        // ends, and the caller stays where it is.
        let helper = std::thread::spawn(|| -> Result<OwnedFd> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(File::open("/proc/thread-self/ns/net")?.into())
        });
        let fd = match helper.join() {
            Ok(fd) => fd.with_context(|| format!("making the network namespace {name}"))?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let namespace = Self { name: name.to_owned(), fd: Arc::new(fd) };
        namespace.run("ip", &["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path by which other programs reach the namespace while this process lives:
    /// `nsenter --net=PATH`, `ip link … netns PATH`.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", getpid(), self.fd.as_raw_fd())
    }

    /// A command that will run inside the namespace and will be killed with us.
    ///
    /// The kernel ties the child to the *thread* that spawns it: spawn from one that lives at
    /// least as long as the child should.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let fd = Arc::clone(&self.fd);
        let parent = getpid();
        // SAFETY: between fork and exec the closure makes system calls only; it neither
        // allocates nor takes a lock.
        unsafe {
            command.pre_exec(move || enter_and_die_with(&fd, parent));
        }
        command
    }

    /// Runs a program to its end and returns what it printed. A failure names the namespace, the
    /// whole command and what it said.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        self.run_with_input(program, args, "")
    }

    /// As [`run`](Self::run), with `input` on the standard input (`ip -batch -`, `nft -f -`).
    pub fn run_with_input(&self, program: &str, args: &[&str], input: &str) -> Result<String> {
        let mut command = self.command(program);
        command.args(args);
        let what = || format!("{}: {program} {}", self.name, args.join(" "));
        let output = process::output_within(&mut command, input, SETUP_LIMIT).with_context(what)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let input = if input.is_empty() { String::new() } else { format!(", given:\n{input}") };
            bail!("{}: {}: {}{input}", what(), output.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs lines of `ip` (without the word `ip`) in one go.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.run_with_input("ip", &["-batch", "-"], lines).map(drop)
    }

    /// Sets a sysctl such as `net.ipv4.ip_forward` in this namespace.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.sysctls(&[(key, value)])
    }

    /// Sets several sysctls, in order.
    pub fn sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        // `/proc/sys/net` shows the namespace of the thread that looks.
        self.enter(|| {
            for (key, value) in settings {
                let path = format!("/proc/sys/{}", key.replace('.', "/"));
                std::fs::write(&path, value).with_context(|| format!("{}: {path} = {value}", self.name))?;
            }
            Ok(())
        })?
    }

    /// Runs `work` in a thread inside the namespace and returns its result. Sockets opened there
    /// stay in the namespace wherever they are used afterwards. Do not spawn children from
    /// `work`: they would die with its thread; [`command`](Self::command) is for them.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| -> Result<T> {
                setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("entering the network namespace {}", self.name))?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a program in the namespace with nothing on its standard input.
    pub(crate) fn quiet_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command(program);
        command.stdin(Stdio::null());
        command
    }
}

/// The child's part of [`Namespace::command`]: async-signal-safe.
fn enter_and_die_with(fd: &OwnedFd, parent: Pid) -> std::io::Result<()> {
    setns(fd.as_fd(), CloneFlags::CLONE_NEWNET)?;
    set_pdeathsig(Signal::SIGKILL)?;
    // A parent that died before the line above sends no signal any more.
    if getppid() != parent {
        return Err(std::io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}
