//! What `asker account SERVICE ACCOUNT ADDRESS` prints: one line of JSON with what PAM's account step says.

use serde::{Deserialize, Serialize};

/// What came of PAM's account step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// libpam could not be asked.
    Unasked(String),
    /// It answered.
    Answered {
        /// Its code: 0 lets the account by.
        code: i32,
        /// Its words for that.
        text: String,
        /// What modules had the person told.
        said: Vec<String>,
    },
}

/// How `asker takes ADDRESS` says that libwrap takes a connection from there.
pub const TAKES: &str = "takes";
/// How it says that libwrap drops it. Where there is no libwrap it says neither.
pub const DROPS: &str = "drops";
