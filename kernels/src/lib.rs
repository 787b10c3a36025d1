//! int8 convolution operators for tract.
//!
//! The crate is empty of kernels so far: the daemon runs models in f32 through tract alone.
