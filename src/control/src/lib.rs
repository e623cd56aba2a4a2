//! All that may be asked of the daemon, as one enum, with framing and a client. This library never knows the daemon's insides.

mod duration;

pub use duration::{DurationError, MAX_DURATION, format_duration, parse_duration};
