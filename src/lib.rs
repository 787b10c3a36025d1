//! spotd
