//! A `libnvidia-ml.so` for tests.
