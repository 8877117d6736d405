//! A race between portals and other tunnels over paths that hold nothing up: what counts is the processor.
//!
//! - [`track`]: two hosts and the paths between them.
//! - [`contestant`]: who takes part, and how each is started; [`peers`] are the other tunnels.
//! - [`measure`]: what is measured of each; [`packets`]: how many small packets pass without loss.
//! - [`results`]: all of it, as it is written down; [`table`]: what of it is for people, and what was asked.

pub mod contestant;
pub mod measure;
pub mod packets;
mod peers;
pub mod results;
pub mod table;
pub mod track;
