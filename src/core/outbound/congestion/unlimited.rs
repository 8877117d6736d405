//! No control: the flow's own transport does it, or the user does not want it.

use super::{Acked, Controller, Lost};
use crate::core::rtt::Rtt;
use crate::core::units::{Instant, Rate};

/// Neither window nor pacing.
pub struct Unlimited;

impl Controller for Unlimited {
    fn on_ack(&mut self, _: Instant, _: &Acked, _: u64, _: &Rtt) {}

    fn on_loss(&mut self, _: Instant, _: &Lost) {}

    fn on_spurious_loss(&mut self, _: Instant) {}

    fn window(&self) -> Option<u64> {
        None
    }

    fn pacing_rate(&self, _: &Rtt) -> Option<Rate> {
        None
    }

    fn is_searching(&self) -> bool {
        false
    }

    fn name(&self) -> &'static str {
        "none"
    }
}
