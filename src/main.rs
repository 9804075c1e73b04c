//! The `larder` program. All of it is in the library; start reading there.

use std::process::ExitCode;

fn main() -> ExitCode {
    larder::cli::run()
}
