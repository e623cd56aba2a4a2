//! What an auditor sees in a browser: who could get in, who did, on whose word, until when.
//!
//! Pages are made on the server, from the same reads and the same judgement as the API's answers, within the same stacks and
//! windows of a token; each page that is read is stated in the server's own ledger. They work without a script, load nothing
//! from elsewhere, and show whatever anybody wrote as text.

mod frame;
mod grant;
mod host;
mod incidents;
mod overview;
mod person;
mod record;
mod requirement;
mod review;
mod search;
mod session;
mod story;
mod timeline;
mod words;

use std::sync::Arc;

use ::record::Stack;
use axum::{
    Router,
    extract::{FromRequestParts, Path},
    http::request::Parts,
    middleware,
    routing::{get, post},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

pub(crate) use self::frame::refusals;
pub use self::session::Ended;
use self::{session::Visitor, timeline::Frame};
use crate::{
    App,
    evidence::Window,
    problem::Problem,
    read::{self, params, seen::Selection},
};

/// Records that one page is made of, at most.
const MOST_RECORDS: usize = 4000;
/// Rows that a table on a page has, at most; the newest ones.
const MOST_ROWS: usize = 200;
/// The time that a page shows, when nobody says.
const SHOWN: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The endpoints of this module.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(overview::show))
        .route("/stacks/{stack}", get(overview::stack))
        .route("/hosts/{host}", get(host::show))
        .route("/people/{person}", get(person::show))
        .route("/grants/{grant}", get(grant::show))
        .route("/records/{ledger}/{seq}", get(record::show))
        .route("/requirements", get(requirement::list))
        .route("/requirements/{id}", get(requirement::show))
        .route("/incidents", get(incidents::show))
        .route("/review", get(review::show))
        .route("/search", get(search::find))
        .route("/sign-in", get(session::ask).post(session::sign_in))
        .route("/sign-out", post(session::sign_out))
        .route("/assets/{name}", get(frame::asset))
        .layer(middleware::from_fn(session::own_forms_alone))
        .layer(middleware::from_fn(frame::guarded))
}

/// Which time, and of what. Other words in a query mean nothing.
#[derive(Debug, Clone, Default, Deserialize)]
struct Shown {
    from: Option<String>,
    to: Option<String>,
    stack: Option<String>,
    host: Option<String>,
}

/// The names in a page's path.
struct Named<T>(T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Named<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, app).await;
        path.map(|Path(name)| Self(name)).map_err(|e| Problem::malformed(e.body_text()))
    }
}

impl Shown {
    /// What the reader may see of it, and the window that is drawn.
    fn selection(&self, visitor: &Visitor) -> Result<(Selection, Frame), Problem> {
        let now = Timestamp::now();
        let asked = params::window(given(&self.from), given(&self.to))?;
        let stack: Option<Stack> = params::name(given(&self.stack))?;
        let own = visitor.auditor.window(asked)?;
        let to = own.to.unwrap_or_else(|| now.max(own.from.unwrap_or(now)));
        let from = own.from.filter(|_| asked.from.is_some());
        let from = from.unwrap_or_else(|| {
            let begin = to.saturating_sub(SHOWN).unwrap_or(Timestamp::MIN);
            own.from.map_or(begin, |own| own.max(begin))
        });
        if from >= to {
            return Err(Problem::malformed("from has to be before to: the time shown goes from one to the other"));
        }
        // What is stated this second belongs to it.
        let end = if own.to.is_some() { Some(to) } else { None };
        let selection = Selection::of(&visitor.auditor, stack, Window { from: Some(from), to: end })?;
        Ok((selection, Frame { from, to, now }))
    }
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// States who reads which page, about what, before anything is read.
async fn stated(app: &App, visitor: &Visitor, page: &str, about: &[(&str, Option<&str>)]) -> Result<(), Problem> {
    let mut query = Map::new();
    query.insert("page".to_owned(), page.into());
    for (name, value) in about {
        if let Some(value) = value {
            query.insert((*name).to_owned(), Value::from(*value));
        }
    }
    read::stated(app, &visitor.auditor, "page", query).await
}
