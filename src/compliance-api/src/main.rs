//! The server's and its operator's command: see `compliance-api --help`.

fn main() -> std::process::ExitCode {
    compliance_api::cli::run()
}
