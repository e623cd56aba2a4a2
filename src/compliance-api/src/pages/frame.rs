//! What every page stands in, and the pages that say why there is none.

use std::sync::LazyLock;

use axum::{
    body::Body,
    extract::{Path, Request},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{Html, IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};
use sha2::{Digest as _, Sha256};

use super::session::Visitor;
use crate::problem::{Problem, Refusal};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const ICON: &str = include_str!("icon.svg");

/// Nothing but what this server serves, and nothing inline.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";

/// The names of what pages load: another text has another name, so that browsers may keep each for good.
static ASSETS: LazyLock<[(String, &str, &str); 3]> = LazyLock::new(|| {
    let named = |stem: &str, end: &str, text: &str| {
        let hash = Sha256::digest(text);
        let short: String = hash.iter().take(8).map(|b| format!("{b:02x}")).collect();
        format!("/assets/{stem}-{short}.{end}")
    };
    [
        (named("style", "css", STYLE), STYLE, "text/css; charset=utf-8"),
        (named("script", "js", SCRIPT), SCRIPT, "text/javascript; charset=utf-8"),
        (named("icon", "svg", ICON), ICON, "image/svg+xml"),
    ]
});

/// A style sheet, script or picture.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    let path = format!("/assets/{name}");
    let Some((_, text, media)) = ASSETS.iter().find(|(known, ..)| *known == path) else {
        return Problem::not_found("there is no such file: load the page anew").into_response();
    };
    let kept = HeaderValue::from_static("public, max-age=31536000, immutable");
    let media = HeaderValue::from_static(media);
    ([(header::CONTENT_TYPE, media), (header::CACHE_CONTROL, kept)], *text).into_response()
}

/// Where one can go from every page.
const PLACES: &[(&str, &str)] =
    &[("/", "Overview"), ("/requirements", "Requirements"), ("/review", "Review"), ("/incidents", "Incidents")];

/// A whole page. `here` is the place in the menu that it belongs to.
pub(super) fn page(title: &str, visitor: Option<&Visitor>, here: &str, body: &Markup) -> Html<String> {
    let [(style, ..), (script, ..), (icon, ..)] = &*ASSETS;
    let whole = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · lockdown" }
                link rel="icon" type="image/svg+xml" href=(icon);
                link rel="stylesheet" href=(style);
                script src=(script) defer {}
            }
            body {
                a.skip href="#main" { "Skip to the page" }
                header { (head(visitor, here)) }
                main #main tabindex="-1" { (body) }
                footer {
                    p { "Times are UTC; the time where you are stands beside them when you point at one. "
                        "What is shown here are records that hosts signed and this server verified; each links to its record." }
                }
            }
        }
    };
    Html(whole.into_string())
}

fn head(visitor: Option<&Visitor>, here: &str) -> Markup {
    html! {
        a.brand href="/" { span aria-hidden="true" { "◧" } " lockdown" }
        @if let Some(visitor) = visitor {
            nav aria-label="Pages" {
                @for (path, name) in PLACES {
                    a href=(path) aria-current=[(*path == here).then_some("page")] { (name) }
                }
            }
            form.search role="search" method="get" action="/search" {
                label.hidden for="q" { "Person, host, fingerprint, ticket or grant" }
                input #q type="search" name="q" required maxlength="128" placeholder="Person, host, key, ticket, grant";
                button type="submit" { "Find" }
            }
            form.out method="post" action="/sign-out" {
                input type="hidden" name="form_key" value=(visitor.form_key);
                span.who { (visitor.auditor.0.token.name) @if let Some(stack) = &visitor.auditor.0.token.stack { " · " (stack.as_str()) } }
                button.quiet type="submit" { "Sign out" }
            }
        }
    }
}

/// A page that leads on to this path, from this server's own page.
pub(super) fn forward(path: &str) -> Html<String> {
    let [(style, ..), ..] = &*ASSETS;
    let whole = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content=(format!("0;url={path}"));
                title { "lockdown" }
                link rel="stylesheet" href=(style);
            }
            body { main { p { "You followed a link from elsewhere. " a href=(path) { "Go on to the page" } "." } } }
        }
    };
    Html(whole.into_string())
}

/// What holds for every page.
pub(super) async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    guard(&mut response);
    response
}

fn guard(response: &mut Response) {
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("referrer-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ] {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

/// Answers a browser's refused request with a page that says why.
pub(crate) async fn refusals(request: Request, next: Next) -> Response {
    let accepts = request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let browser = accepts.into_iter().any(|value| value.contains("text/html"));
    let mut response = next.run(request).await;
    let Some(Refusal { detail }) = response.extensions_mut().remove::<Refusal>().filter(|_| browser) else {
        return response;
    };
    let body = refusal(response.status(), &detail);
    *response.body_mut() = Body::from(body.0);
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    guard(&mut response);
    response
}

fn refusal(status: StatusCode, detail: &str) -> Html<String> {
    let (title, then) = match status {
        StatusCode::UNAUTHORIZED => ("Sign in first", "Sign in again with a token that is in force."),
        StatusCode::FORBIDDEN => {
            ("Not for this token", "Your token reads about other stacks or times, or the form was not sent from here.")
        }
        StatusCode::NOT_FOUND => (
            "Nothing here",
            "Nothing of this name is known, or your token does not read about it. The search box finds people, hosts, keys, tickets and grants.",
        ),
        StatusCode::TOO_MANY_REQUESTS => ("Too much at once", "Wait a few seconds, then load the page again."),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => {
            ("Busy just now", "Nothing is lost. Wait a few seconds, then load the page again.")
        }
        status if status.is_server_error() => ("The server failed", "Its log says why: tell whoever runs it."),
        _ => ("This cannot be shown", "Look at the address, or begin at the overview."),
    };
    let body = html! {
        section.narrow {
            p.code { (status.as_u16()) }
            h1 { (title) }
            p { (detail) }
            p { (then) }
            p { a.button href="/" { "To the overview" } }
        }
    };
    page(title, None, "", &body)
}
