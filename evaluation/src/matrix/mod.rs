//! The matrix: conditions of links × routes × loads × directions, each with a ping and a call under load.
//!
//! - [`condition`]: the conditions as data, and what is asked of them.
//! - [`route`]: bonded, or one link alone.
//! - [`run`]: one run and everything it brought.
//! - [`results`]: all of it, as it is written down; [`table`]: what of it is for people.

pub mod condition;
pub mod results;
pub mod route;
pub mod run;
pub mod table;
