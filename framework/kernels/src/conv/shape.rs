//! Sizes of a convolution.

/// Sizes of a two-dimensional convolution (a correlation, as deep learning means it) without dilation or groups:
/// y\[n, o, i, j\] = b\[o\] + sum over c, u, v of w\[o, c, u, v\] x\[n, c, i stride - top + u, j stride - left + v\], x being 0 outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Images.
    pub batch: usize,
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Steps down and across.
    pub stride: [usize; 2],
    /// Rows added before and after, then columns added before and after.
    pub padding: [[usize; 2]; 2],
}

impl ConvShape {
    /// Height and width of the output; 0 where the padded input is smaller than the kernel.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|d| match self.padded()[d].checked_sub(self.kernel[d]) {
            Some(room) => room / self.stride[d] + 1,
            None => 0,
        })
    }

    /// Height and width of the input with its padding.
    pub fn padded(&self) -> [usize; 2] {
        [0, 1].map(|d| self.size[d] + self.padding[d][0] + self.padding[d][1])
    }

    /// Numbers in one input image.
    pub fn input_len(&self) -> usize {
        self.channels[0] * self.size[0] * self.size[1]
    }

    /// Numbers in one output image.
    pub fn output_len(&self) -> usize {
        self.channels[1] * self.output()[0] * self.output()[1]
    }

    /// Numbers in the kernel.
    pub fn weight_len(&self) -> usize {
        self.channels[0] * self.channels[1] * self.kernel[0] * self.kernel[1]
    }
}
