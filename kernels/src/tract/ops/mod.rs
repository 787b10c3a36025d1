//! The operators that the pass puts into a model. Bytes lie in NHWC order; `u8` and `i8` are as the
//! file has them.

use std::cell::RefCell;

use tract_onnx::tract_hir::internal::*;

use super::markers::byte;
use crate::{Activation, Dims, Padding, Quant, Scratch};

thread_local! {
    // A layer's working memory, shared by all layers that run on the thread.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// The type of tensors that hold these bytes.
pub(super) fn datum(quant: &Quant) -> DatumType {
    match quant.ty {
        crate::Byte::U8 => u8::datum_type(),
        crate::Byte::S8 => i8::datum_type(),
    }
}

/// The bytes of a tensor of `u8` or `i8`.
fn bytes(tensor: &Tensor) -> TractResult<&[u8]> {
    ensure!(byte(tensor.datum_type()).is_some(), "bytes expected, found {:?}", tensor.datum_type());
    Ok(tensor.try_as_plain_ram()?.as_bytes())
}

/// A tensor that a kernel is about to fill.
fn blank(dt: DatumType, shape: &[usize]) -> TractResult<Tensor> {
    // SAFETY: u8, i8 and f32 have no invalid bit patterns; every operator here fills all of it, or
    // fails and drops it. Clearing it first would cost as much as a cheap layer.
    unsafe { Tensor::uninitialized_dt(dt, shape) }
}

fn fill_bytes<R>(tensor: &mut Tensor, fill: impl FnOnce(&mut [u8]) -> R) -> TractResult<R> {
    Ok(fill(tensor.try_as_plain_ram_mut()?.as_bytes_mut()))
}

fn fill_floats<R>(tensor: &mut Tensor, fill: impl FnOnce(&mut [f32]) -> R) -> TractResult<R> {
    Ok(fill(tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?))
}

fn nhwc(tensor: &Tensor) -> TractResult<(Dims, usize)> {
    match *tensor.shape() {
        [n, h, w, c] => Ok((Dims::new(n, h, w), c)),
        ref shape => bail!("an NHWC tensor has four dimensions, this one is {shape:?}"),
    }
}

/// `(size + before + after - kernel) / stride + 1`, for sizes that may be symbols.
fn slid(size: &TDim, around: usize, kernel: usize, stride: usize) -> TDim {
    (size.clone() + around as i64 - kernel as i64) / stride as u64 + 1
}

/// Every operator is compared by identity: two layers with equal weights are still two layers.
macro_rules! operator {
    ($op:ident, $name:literal, $validation:ident) => {
        impl std::fmt::Debug for $op {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($name)
            }
        }

        impl PartialEq for $op {
            fn eq(&self, other: &$op) -> bool {
                Arc::ptr_eq(&self.0, &other.0)
            }
        }

        impl Eq for $op {}

        impl Op for $op {
            fn name(&self) -> StaticName {
                $name.into()
            }

            fn validation(&self) -> Validation {
                Validation::$validation
            }

            op_as_typed_op!();
        }
    };
}

mod bytes;
mod layers;

pub(super) use bytes::*;
pub(super) use layers::*;

/// Padding of a window as tract computed it for a picture.
pub(super) fn padding(before: [usize; 2], after: [usize; 2]) -> Padding {
    Padding { top: before[0], left: before[1], bottom: after[0], right: after[1] }
}

/// Bounds as the kernels take them.
pub(super) fn activation(low: f32, high: f32) -> Activation {
    match (low, high) {
        (f32::NEG_INFINITY, f32::INFINITY) => Activation::None,
        (0.0, f32::INFINITY) => Activation::Relu,
        (min, max) => Activation::Clip { min, max },
    }
}
