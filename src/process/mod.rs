//! The portal as a process of its system: one per interface, in the background or under a
//! service manager, with a log, and with the operator's commands around it.
//!
//! A portal starts in this order. Each step may fail, and then tells whoever waits for it:
//!
//! 1. [`daemon::daemonise`] (or [`daemon::Readiness::foreground`]), before any thread exists;
//! 2. [`lock::Lock::acquire`], which keeps a second portal from the same interface;
//! 3. [`logging::init`];
//! 4. [`hooks::run`] with `PreUp`, the interface, its links, [`routes::up`], then `PostUp`;
//! 5. [`daemon::Readiness::ready`].
//!
//! It stops with [`service::stopping`], `PreDown`, [`routes::down`], the end of the interface, `PostDown`, and the
//! lock is given up last: who finds it free knows that all is gone.

pub mod daemon;
pub mod hooks;
pub mod lock;
pub mod logging;
pub mod privilege;
pub mod routes;
pub mod run_dir;
pub mod service;
mod syslog;
