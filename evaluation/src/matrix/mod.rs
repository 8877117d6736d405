//! The matrix: conditions of links × routes × loads × directions, each with a ping and a call under load.
//!
//! - [`condition`]: the conditions as data, and what is asked of them.
//! - [`route`]: bonded, one link alone, or without a tunnel.
//! - [`run`]: one run and everything it brought.
//! - [`results`]: all of it, as it is written down; [`table`] and [`plots`]: what of it is for
//!   people.

pub mod condition;
pub mod plots;
pub mod results;
pub mod route;
pub mod run;
pub mod table;
