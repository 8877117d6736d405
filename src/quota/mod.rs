//! Data caps: what each link has used of its month, over restarts and wrong clocks.
//!
//! A [`Ledger`] has an [`Account`] for each link. Who keeps it tells it of bytes and of the time; it never asks for
//! either. Days begin at midnight UTC.

mod account;
mod ledger;

pub use account::{Account, Clock};
pub use ledger::Ledger;
