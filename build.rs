//! Tells rustc which Python this build is for, so that `cfg(Py_3_12)` and friends are true where they should be.
//! Without it the cheap await of 3.12 and later would be compiled out in silence; a Python test asserts it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "python")]
    pyo3_build_config::use_pyo3_cfgs();
}
