//! Errors of packing and of calls. Each one names the offending value.

/// Why a layer, a call or an instruction set was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A size, stride or count outside the supported range.
    #[error("{what} is {value}: {reason}")]
    Shape {
        /// The name of the value, such as `kernel height`.
        what: &'static str,
        /// The value itself.
        value: usize,
        /// What it must be.
        reason: &'static str,
    },
    /// A scale that is zero, negative, infinite or NaN, or that makes a product overflow.
    #[error("{what} is {value}: {reason}")]
    Scale {
        /// The name of the scale, with the channel where there is one.
        what: String,
        /// The value itself.
        value: f32,
        /// What it must be.
        reason: &'static str,
    },
    /// A zero point that its type cannot hold.
    #[error("{what} is {value}, outside of {low}..={high}")]
    ZeroPoint {
        /// Whose zero point.
        what: &'static str,
        /// The value itself.
        value: i32,
        /// The least that the type holds.
        low: i32,
        /// The greatest that the type holds.
        high: i32,
    },
    /// An accumulator that could leave 32 bits with these weights and this bias.
    #[error("the sum of output channel {channel} could reach {bound}, which 32 bits do not hold")]
    Overflow {
        /// The output channel.
        channel: usize,
        /// The greatest magnitude that an input of this type can produce.
        bound: i64,
    },
    /// A slice whose length does not match the shape.
    #[error("{what} has length {got}, expected {expected}")]
    Length {
        /// Whose length.
        what: &'static str,
        /// The length that was given.
        got: usize,
        /// The length that the shape requires.
        expected: usize,
    },
    /// [`crate::Conv::inner`] without a residual.
    #[error("an inner activation stands before a residual, and this layer adds none; use the activation")]
    Inner,
    /// A residual that is missing, or given to a layer that adds none.
    #[error("this layer was packed {packed} a residual and was called {called} one")]
    Residual {
        /// `with` or `without`.
        packed: &'static str,
        /// `with` or `without`.
        called: &'static str,
    },
    /// The layer's output does not have the type that the call asks for.
    #[error("this layer writes {packed}, the call asks for {called}")]
    OutputType {
        /// What the layer was packed for.
        packed: &'static str,
        /// What the call asked for.
        called: &'static str,
    },
    /// An instruction set that this processor does not have.
    #[error("{isa} is not available on this processor; available: {available}")]
    IsaMissing {
        /// The instruction set that was asked for.
        isa: &'static str,
        /// Those that would do.
        available: String,
    },
    /// A name that is not an instruction set.
    #[error("{name:?} is not an instruction set; known: {known}")]
    IsaUnknown {
        /// The name that was given.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// Bounds of an activation that no value satisfies, or that are NaN.
    #[error("the activation's bounds are {min} and {max}: they must be numbers with min <= max")]
    Bounds {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
}

/// This crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn length(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::Length { what, got, expected }) }
}
