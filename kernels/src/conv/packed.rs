//! A layer that is ready to run, with its weights in the order that the chosen kernel reads.

use super::vector::{Call, Vector};
use super::{Conv, Dims, Epilogue, Output, portable};
use crate::error::{Error, Result, length};
use crate::isa::Isa;
use crate::scratch::Scratch;

/// A convolution packed for one instruction set. Cheap to share: `run` takes `&self`.
#[derive(Debug, Clone)]
pub struct PackedConv {
    conv: Conv,
    isa: Isa,
    epilogue: Epilogue,
    engine: Engine,
}

#[derive(Debug, Clone)]
enum Engine {
    /// Weights for the portable path.
    Portable(Vec<i8>),
    Vector(Vector),
}

impl PackedConv {
    /// Checks and packs a layer for [`Isa::chosen`]. `weights` are OIHW, `bias` has one value per
    /// output channel, in steps of `input.scale * weight_scale` (see [`Conv::fold_bias`]).
    ///
    /// # Errors
    /// Names the value that is out of range; see [`Error`].
    pub fn new(conv: Conv, weights: &[i8], bias: &[i32]) -> Result<PackedConv> {
        PackedConv::for_isa(Isa::chosen()?, conv, weights, bias)
    }

    /// [`PackedConv::new`] for an instruction set of the caller's choice.
    ///
    /// # Errors
    /// As [`PackedConv::new`], and where this processor does not have `isa`.
    pub fn for_isa(isa: Isa, conv: Conv, weights: &[i8], bias: &[i32]) -> Result<PackedConv> {
        isa.require()?;
        let epilogue = conv.check(weights, bias)?;
        let engine = match Vector::new(isa, isa.kernels(), &conv, weights, &epilogue)? {
            Some(vector) => Engine::Vector(vector),
            None => Engine::Portable(portable::pack(&conv, weights)),
        };
        Ok(PackedConv { conv, isa, epilogue, engine })
    }

    /// The layer that was packed.
    pub fn conv(&self) -> &Conv {
        &self.conv
    }

    /// The instruction set it was packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Dimensions of the output for an input of `dims`.
    ///
    /// # Errors
    /// As [`Conv::out_dims`].
    pub fn out_dims(&self, dims: Dims) -> Result<Dims> {
        self.conv.out_dims(dims)
    }

    /// Runs a layer that writes bytes. `input` is NHWC with `in_channels`, `output` and `residual`
    /// are NHWC with `out_channels` and the dimensions of [`PackedConv::out_dims`]. Allocates
    /// nothing once `scratch` has seen the largest layer.
    ///
    /// # Errors
    /// Lengths that do not fit `dims`, a missing or superfluous residual, a layer that writes f32.
    pub fn run(
        &self,
        input: &[u8],
        dims: Dims,
        output: &mut [u8],
        residual: Option<&[u8]>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        if self.conv.output == Output::F32 {
            return Err(Error::OutputType { packed: "f32", called: "bytes" });
        }
        self.run_any(input, dims, output, residual, scratch)
    }

    /// Runs a layer that writes real numbers; else as [`PackedConv::run`].
    ///
    /// # Errors
    /// As [`PackedConv::run`], and for a layer that writes bytes.
    pub fn run_f32(
        &self,
        input: &[u8],
        dims: Dims,
        output: &mut [f32],
        residual: Option<&[u8]>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        if self.conv.output != Output::F32 {
            return Err(Error::OutputType { packed: "bytes", called: "f32" });
        }
        self.run_any(input, dims, output, residual, scratch)
    }

    /// `T` is the layer's output type, as the callers ensure.
    fn run_any<T>(
        &self,
        input: &[u8],
        dims: Dims,
        output: &mut [T],
        residual: Option<&[u8]>,
        scratch: &mut Scratch,
    ) -> Result<()>
    where
        [T]: portable::Sink,
    {
        let out = self.check(input, dims, output.len(), residual)?;
        let (conv, epilogue) = (&self.conv, &self.epilogue);
        match &self.engine {
            Engine::Portable(weights) => {
                let sums = scratch.words(conv.out_channels);
                portable::run(conv, weights, epilogue, input, dims, out, output, residual, sums);
                Ok(())
            }
            Engine::Vector(vector) => {
                let output = output.as_mut_ptr().cast();
                let call = Call { conv, epilogue, input, dims, out, output, residual };
                // SAFETY: the output's length was checked, and its type is the layer's.
                unsafe { vector.run(&call, scratch) }
            }
        }
    }

    fn check(&self, input: &[u8], dims: Dims, output: usize, residual: Option<&[u8]>) -> Result<Dims> {
        let out = self.conv.out_dims(dims)?;
        let expected = out.len(self.conv.out_channels)?;
        length("input", input.len(), dims.len(self.conv.in_channels)?)?;
        length("output", output, expected)?;
        match (self.conv.residual, residual) {
            (Some(_), Some(r)) => length("residual", r.len(), expected)?,
            (None, None) => {}
            (Some(_), None) => return Err(Error::Residual { packed: "with", called: "without" }),
            (None, Some(_)) => return Err(Error::Residual { packed: "without", called: "with" }),
        }
        Ok(out)
    }
}
