//! The Chef cookbook, evaluated on the host by real Ruby for an instance: `tests/chef` has the stand-in for Chef itself, and
//! says what it is and what it is not.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::host::{Output, finish};
use crate::instance::Instance;

/// The engine that templates are rendered by: Ruby's own, or Chef's.
pub const ENGINES: [&str; 2] = ["erb", "erubis"];

/// What a converge came to.
#[derive(Debug)]
pub struct Converged {
    /// The resources that changed something.
    pub updated: Vec<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// What it warned of.
    pub log: Vec<String>,
    /// The packages that it would have installed.
    pub noted: Vec<Value>,
}

impl Converged {
    /// Whether it went well and changed nothing.
    #[must_use]
    pub fn changed_nothing(&self) -> bool {
        self.error.is_none() && self.updated.is_empty()
    }

    /// What it failed with.
    ///
    /// # Panics
    /// When it did not fail.
    #[must_use]
    #[track_caller]
    pub fn expect_failed(self) -> String {
        self.error.unwrap_or_else(|| panic!("it should have failed; it changed {:?}", self.updated))
    }

    /// What it changed.
    ///
    /// # Panics
    /// When it failed.
    #[track_caller]
    pub fn expect_done(self) -> Vec<String> {
        assert!(self.error.is_none(), "the converge failed: {}", self.error.unwrap_or_default());
        self.updated
    }
}

/// Renders the cookbook's templates for each case, `{"attributes", "items"}`: `{"config", "people"}` or `{"refused"}`.
///
/// # Panics
/// When Ruby fails.
#[must_use]
pub fn render(engine: &str, cases: &[Value]) -> Vec<Value> {
    let asked = json!({ "cookbook": cookbook(), "engine": engine, "cases": cases });
    let Value::Array(rendered) = ruby("render.rb", &asked) else { panic!("no list") };
    assert_eq!(rendered.len(), cases.len());
    rendered
}

/// Evaluates the examples of these pages: what they set and declare, and what there is to document. See `tests/chef/examples.rb`.
///
/// # Panics
/// When one of them fails.
#[must_use]
pub fn examples(pages: &[PathBuf]) -> Value {
    ruby("examples.rb", &json!({ "cookbook": cookbook(), "pages": pages }))
}

/// Evaluates recipes that write no file and run no command.
///
/// # Panics
/// When Ruby itself fails.
#[must_use]
pub fn converge_nowhere(recipes: &[&str]) -> Converged {
    evaluate(
        &json!({ "cookbook": cookbook(), "root": "/nonexistent", "enter": ["false"], "engine": "erubis", "recipes": recipes }),
    )
}

impl Instance {
    /// Evaluates these recipes with these attributes under `lockdownd`: `lockdownd::default`, or Ruby of another cookbook.
    ///
    /// # Panics
    /// When Ruby itself fails; a converge that fails is told.
    #[must_use]
    pub fn converge(&self, attributes: &Value, recipes: &[&str]) -> Converged {
        self.converge_with(attributes, &json!({}), recipes)
    }

    /// The same with data bags: `{BAG: {ID: ITEM}}`.
    ///
    /// # Panics
    /// As [`Instance::converge`].
    #[must_use]
    pub fn converge_with(&self, attributes: &Value, data_bags: &Value, recipes: &[&str]) -> Converged {
        self.evaluate(attributes, data_bags, recipes, false)
    }

    /// The same in why-run: what a converge would change.
    ///
    /// # Panics
    /// As [`Instance::converge`].
    #[must_use]
    pub fn why_run(&self, attributes: &Value, recipes: &[&str]) -> Converged {
        self.evaluate(attributes, &json!({}), recipes, true)
    }

    fn evaluate(&self, attributes: &Value, data_bags: &Value, recipes: &[&str], why_run: bool) -> Converged {
        let leader = self.leader().to_string();
        evaluate(&json!({
            "why_run": why_run,
            "cookbook": cookbook(),
            "root": self.outside("/"),
            "enter": ["nsenter", "-t", leader, "-m", "-u", "-i", "-n", "-p", "--"],
            "engine": "erubis",
            "node": { "lockdownd": attributes },
            "data_bags": data_bags,
            "recipes": recipes,
        }))
    }
}

fn evaluate(asked: &Value) -> Converged {
    let result = ruby("converge.rb", asked);
    let texts = |key: &str| {
        let list = result[key].as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    Converged {
        updated: texts("updated"),
        error: result["error"].as_str().map(str::to_owned),
        log: texts("log"),
        noted: result["noted"].as_array().cloned().unwrap_or_default(),
    }
}

/// Why-run of the cookbook's recipe on a machine with nothing installed, whose files are below `root`: attributes of a role,
/// those that the node kept, and those of `-j`.
///
/// # Panics
/// When Ruby itself fails.
#[must_use]
pub fn why_run(root: &Path, role: &Value, kept: &Value, json: &Value) -> Converged {
    evaluate(&json!({
        "cookbook": cookbook(), "root": root, "enter": ["false"], "engine": "erubis", "why_run": true,
        "node": { "lockdownd": role }, "kept": { "lockdownd": kept }, "json": { "lockdownd": json },
        "recipes": ["lockdownd::default"],
    }))
}

fn work_tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the work tree is above tests")
}

fn cookbook() -> PathBuf {
    work_tree().join("packaging/chef/lockdownd")
}

#[track_caller]
fn ruby(script: &str, asked: &Value) -> Value {
    let mut command = Command::new("ruby");
    command.arg(work_tree().join("tests/chef").join(script)).env("LC_ALL", "C.UTF-8");
    let output: Output = finish(command, script, asked.to_string().as_bytes());
    let said = output.clone().expect_ok();
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("not JSON ({e}): {output}"))
}
