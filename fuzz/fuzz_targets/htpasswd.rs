//! Any file of users is read; what counts of it can be verified, and costs no more than it may.
#![no_main]

use larder::access::htpasswd::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (users, bad) = parse(bytes);
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(users.len() + bad.len() <= lines);
    assert!(bad.iter().all(|line| (1..=lines).contains(&line.number)));
    let nobodys = users.nobodys_hash();
    assert_eq!(nobodys.len(), 60);
    let cost: u32 = nobodys[4..6].parse().unwrap();
    assert!((4..=14).contains(&cost));
});
