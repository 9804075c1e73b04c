//! Any configuration is accepted or refused in one line, and what is accepted loads again.
#![no_main]

use std::path::Path;

use larder::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, Vec<(String, String)>)| {
    let (text, environment) = input;
    let environment = environment
        .into_iter()
        .map(|(name, value)| (format!("REGISTRY_{}", name.to_uppercase()), value));
    match Config::load(Some((Path::new("config.yml"), text.to_owned())), environment) {
        Ok(config) => {
            let again = config.to_yaml();
            let masked = again.contains("********");
            let loaded = Config::load(Some((Path::new("again.yml"), again)), [].into_iter());
            assert!(masked || loaded.is_ok(), "{:?}", loaded.err().map(|error| error.to_string()));
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
