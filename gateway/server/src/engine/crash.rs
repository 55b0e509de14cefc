//! Named points at which a test may kill the process (`reliability.md` §2.3 K1-K14). Nothing of it is compiled without
//! the feature `failpoints`.

/// Aborts here if the test environment says so: `FAILPOINTS="k2=1%return"`.
#[inline]
pub(super) fn point(name: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name, |_| std::process::abort());
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}
