//! Stamps the build with its time: the least that a device without a clock can know.
#![allow(
    clippy::print_stdout,
    reason = "cargo reads what a build script prints"
)]

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=TETHER_BUILD_TIME={}", build_time());
}

/// Seconds since the Unix epoch; SOURCE_DATE_EPOCH makes builds reproducible.
fn build_time() -> u64 {
    std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .or_else(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .ok()
                .map(|age| age.as_secs())
        })
        .unwrap_or(0)
}
