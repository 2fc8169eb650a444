//! How hard the stress variants try: ROUNDS in the environment, 20 without it (500 in the long run).

/// Rounds of a stress test.
pub fn rounds() -> u32 {
    std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20)
}

/// How much longer than usual a test may take.
pub fn patience() -> u32 {
    rounds().div_ceil(20).max(1)
}
