//! A driver's answers: what it is, and what its pictures look like.

use ::v4l::capability::Flags;

/// What a picture looks like in memory. The numbers are those in the kernel's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PixFormat {
    pub width: u32,
    pub height: u32,
    /// Layout of the pixels.
    pub fourcc: [u8; 4],
    /// Bytes from row to row.
    pub stride: u32,
    /// `V4L2_FIELD_*`.
    pub field: u32,
    /// `V4L2_COLORSPACE_*`.
    pub colorspace: u32,
    /// `V4L2_YCBCR_ENC_*`.
    pub encoding: u32,
    /// `V4L2_QUANTIZATION_*`.
    pub quantization: u32,
}

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Kernel driver.
    pub driver: String,
    /// The camera's name.
    pub card: String,
    /// Where it is plugged in.
    pub bus: String,
    /// `V4L2_CAP_*` of this node.
    pub capabilities: u32,
}

impl Identity {
    /// Whether the node can do this.
    pub fn can(&self, what: Flags) -> bool {
        self.capabilities & what.bits() == what.bits()
    }
}
