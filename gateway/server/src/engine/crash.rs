//! Named points at which a test may kill the process (`reliability.md` §2.3 K1-K16; k17: in its line, not dead yet; k18:
//! handed over, the place not saved yet), and a long time that it may make
//! short. Nothing of it is compiled without the feature `failpoints`.

/// Aborts here if the test environment says so: `FAILPOINTS="k2=1%return"`.
#[inline]
pub(super) fn point(name: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name, |_| std::process::abort());
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

/// How long something may be held: as it says, or as the test environment says, in milliseconds: `FAILPOINTS="held=return(500)"`.
#[inline]
pub(super) fn held(usual: std::time::Duration) -> std::time::Duration {
    #[cfg(feature = "failpoints")]
    fail::fail_point!("held", |told| {
        told.and_then(|told| told.parse().ok()).map_or(usual, std::time::Duration::from_millis)
    });
    usual
}
