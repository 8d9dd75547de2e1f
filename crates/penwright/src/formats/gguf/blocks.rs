//! The number types of ggml, bit for bit: how a row of values lies in bytes, and back.
//!
//! Values of the quantised types lie in blocks of 32 or 256 that share a scale `d` of 16 bits; layouts and formulas are
//! those of ggml's `ggml-common.h` and `ggml-quants.c` (`dequantize_row_*`, `quantize_row_*_ref`). `lo` and `hi` are
//! the halves of a byte.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// A type that can be read; the first five can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4K,
    Q5K,
    Q6K,
}

/// Number in the file, name, values and bytes a block.
const TYPES: [(Type, u32, &str, usize, usize); 11] = [
    (Type::F32, 0, "F32", 1, 4),
    (Type::F16, 1, "F16", 1, 2),
    (Type::Bf16, 30, "BF16", 1, 2),
    (Type::Q8_0, 8, "Q8_0", 32, 34),
    (Type::Q4_0, 2, "Q4_0", 32, 18),
    (Type::Q4_1, 3, "Q4_1", 32, 20),
    (Type::Q5_0, 6, "Q5_0", 32, 22),
    (Type::Q5_1, 7, "Q5_1", 32, 24),
    (Type::Q4K, 12, "Q4_K", 256, 144),
    (Type::Q5K, 13, "Q5_K", 256, 176),
    (Type::Q6K, 14, "Q6_K", 256, 210),
];

/// Names of the types that are not read, by their numbers in the file.
const OTHERS: [(u32, &str); 23] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

impl Type {
    /// The type of a number in the file, or the name of one that is not known.
    pub(super) fn from_id(id: u32) -> Result<Self, String> {
        let known = TYPES.iter().find(|row| row.1 == id).map(|row| row.0);
        let name = || OTHERS.iter().find(|other| other.0 == id).map(|other| other.1.to_string());
        known.ok_or_else(|| name().unwrap_or_else(|| format!("number {id}")))
    }

    fn row(self) -> &'static (Type, u32, &'static str, usize, usize) {
        TYPES.iter().find(|row| row.0 == self).unwrap_or(&TYPES[0])
    }

    pub(super) fn id(self) -> u32 {
        self.row().1
    }

    pub(super) fn name(self) -> &'static str {
        self.row().2
    }

    /// Values in a block.
    pub(super) fn values(self) -> usize {
        self.row().3
    }

    /// Bytes of so many values; `None` where they are no whole blocks or too many to count.
    pub(super) fn bytes(self, values: usize) -> Option<usize> {
        let &(.., block, bytes) = self.row();
        values.is_multiple_of(block).then_some(values / block)?.checked_mul(bytes)
    }

    /// The values of whole blocks; `bytes` and `out` are of the same number of them.
    pub(super) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Type::F32 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *x = f32::from_le_bytes(*b);
                }
            }
            Type::F16 => decode_f16(bytes, out),
            Type::Bf16 => {
                for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *x = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                }
            }
            Type::Q8_0 => each(bytes, out, q8_0),
            Type::Q4_0 => each(bytes, out, q4_0),
            Type::Q4_1 => each(bytes, out, q4_1),
            Type::Q5_0 => each(bytes, out, q5_0),
            Type::Q5_1 => each(bytes, out, q5_1),
            Type::Q4K => each(bytes, out, q4_k),
            Type::Q5K => each(bytes, out, q5_k),
            Type::Q6K => each(bytes, out, q6_k),
        }
    }

    /// Writes whole blocks. False where a value or a scale is too large for the type, or the type cannot be written;
    /// the bytes are of no use then.
    pub(super) fn encode(self, values: &[f32], out: &mut [u8]) -> bool {
        match self {
            Type::F32 => {
                for (x, b) in values.iter().zip(out.as_chunks_mut::<4>().0) {
                    *b = x.to_le_bytes();
                }
                values.iter().all(|x| x.is_finite())
            }
            Type::F16 => encode_each(values, out, |[x], b: &mut [u8; 2]| put(f16::from_f32(*x), b)),
            Type::Bf16 => encode_each(values, out, |[x], b: &mut [u8; 2]| {
                let y = bf16::from_f32(*x);
                *b = y.to_le_bytes();
                y.is_finite()
            }),
            Type::Q8_0 => encode_each(values, out, to_q8_0),
            Type::Q4_0 => encode_each(values, out, to_q4_0),
            _ => false,
        }
    }
}

fn decode_f16(bytes: &[u8], out: &mut [f32]) {
    // The slice's conversion uses the processor's own, where there is one; a stack buffer, since bytes may lie at odd
    // places.
    let mut buffer = [f16::ZERO; 256];
    for (bytes, out) in bytes.chunks(512).zip(out.chunks_mut(256)) {
        let buffer = &mut buffer[..out.len()];
        for (x, b) in buffer.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *x = f16::from_le_bytes(*b);
        }
        buffer.convert_to_f32_slice(out);
    }
}

/// Decodes block by block.
fn each<const B: usize, const N: usize>(bytes: &[u8], out: &mut [f32], decode: impl Fn(&[u8; B], &mut [f32; N])) {
    for (bytes, out) in bytes.as_chunks::<B>().0.iter().zip(out.as_chunks_mut::<N>().0) {
        decode(bytes, out);
    }
}

/// Encodes block by block; whether all fit.
fn encode_each<const N: usize, const B: usize>(
    values: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; N], &mut [u8; B]) -> bool,
) -> bool {
    let blocks = values.as_chunks::<N>().0.iter().zip(out.as_chunks_mut::<B>().0);
    blocks.fold(true, |fit, (values, bytes)| encode(values, bytes) & fit)
}

fn put(x: f16, bytes: &mut [u8; 2]) -> bool {
    *bytes = x.to_le_bytes();
    x.is_finite()
}

/// The 16-bit number at a byte.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn lo(byte: u8) -> u8 {
    byte & 15
}

fn hi(byte: u8) -> u8 {
    byte >> 4
}

/// `d`, then 32 signed bytes: `q · d`.
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (y, &q) in out.iter_mut().zip(&block[2..]) {
        *y = f32::from(q as i8) * d;
    }
}

/// `d`, then 16 bytes, the first 16 values in their low halves, the others in their high ones: `(q − 8) · d`.
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (j, &q) in block[2..].iter().enumerate() {
        out[j] = (f32::from(lo(q)) - 8.0) * d;
        out[j + 16] = (f32::from(hi(q)) - 8.0) * d;
    }
}

/// `d`, the least value `m`, then as in Q4_0: `q · d + m`.
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (j, &q) in block[4..].iter().enumerate() {
        out[j] = f32::from(lo(q)) * d + m;
        out[j + 16] = f32::from(hi(q)) * d + m;
    }
}

/// The fifth bits of the 32 values lie in four bytes.
fn fifth(bits: &[u8], j: usize) -> u8 {
    (bits[j / 8] >> (j % 8) & 1) << 4
}

/// `d`, fifth bits, then as in Q4_0: `(q − 16) · d`.
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (j, &q) in block[6..].iter().enumerate() {
        out[j] = (f32::from(lo(q) | fifth(&block[2..6], j)) - 16.0) * d;
        out[j + 16] = (f32::from(hi(q) | fifth(&block[2..6], j + 16)) - 16.0) * d;
    }
}

/// `d`, `m`, fifth bits, then as in Q4_0: `q · d + m`.
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (j, &q) in block[8..].iter().enumerate() {
        out[j] = f32::from(lo(q) | fifth(&block[4..8], j)) * d + m;
        out[j + 16] = f32::from(hi(q) | fifth(&block[4..8], j + 16)) * d + m;
    }
}

/// Scale and minimum of the `j`th of eight groups of 32: six bits each, in twelve bytes; of the last four groups the
/// upper two bits lie in the upper bits of the first eight bytes.
fn scale_min(s: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        (lo(s[j + 4]) | s[j - 4] >> 6 << 4, hi(s[j + 4]) | s[j] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// `d`, the scale of the minima, scales and minima of eight groups, then 128 bytes, of which 32 have the values of two
/// groups in their low and high halves: `d · scale · q − dmin · min`.
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    k_groups(block, &block[16..], out, |_, _| 0);
}

/// As Q4_K, with the fifth bits of the `j`th group in bit `j` of 32 bytes.
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    k_groups(block, &block[48..], out, |group, l| (block[16 + l] >> group & 1) << 4);
}

fn k_groups(block: &[u8], quants: &[u8], out: &mut [f32; 256], fifth: impl Fn(usize, usize) -> u8) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    for (group, out) in out.chunks_mut(32).enumerate() {
        let (scale, min) = scale_min(&block[4..16], group);
        let (d, m) = (d * scale, dmin * min);
        for (l, (y, &q)) in out.iter_mut().zip(&quants[group / 2 * 32..]).enumerate() {
            let four = if group % 2 == 0 { lo(q) } else { hi(q) };
            *y = d * f32::from(four | fifth(group, l)) - m;
        }
    }
}

/// 128 bytes of low halves, 64 bytes of two upper bits, sixteen signed scales of 16 values each, `d`; two halves of
/// 128 values, each four rows of 32: `d · scale · (q − 32)`.
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(block, 208);
    for (i, y) in out.iter_mut().enumerate() {
        let (part, row, l) = (i / 128, i / 32 % 4, i % 32);
        let low = block[64 * part + 32 * (row % 2) + l];
        let four = if row < 2 { lo(low) } else { hi(low) };
        let two = block[128 + 32 * part + l] >> (2 * row) & 3;
        *y = d * f32::from(block[192 + i / 16] as i8) * (f32::from(four | two << 4) - 32.0);
    }
}

/// The reciprocal that values are multiplied by; none of zero.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// `d` is the largest magnitude over 127, values are rounded half away from zero.
fn to_q8_0(values: &[f32; 32], out: &mut [u8; 34]) -> bool {
    let d = values.iter().fold(0.0f32, |max, x| max.max(x.abs())) / 127.0;
    let [d0, d1, quants @ ..] = out;
    let scale = inverse(d);
    for (q, x) in quants.iter_mut().zip(values) {
        *q = (x * scale).round() as i8 as u8;
    }
    let d = f16::from_f32(d);
    [*d0, *d1] = d.to_le_bytes();
    d.is_finite()
}

/// `d` is the value of the largest magnitude, the first of several, over −8; `q = ⌊x / d + 8.5⌋`, at most 15.
fn to_q4_0(values: &[f32; 32], out: &mut [u8; 18]) -> bool {
    let largest = values.iter().fold(0.0f32, |max, &x| if max.abs() < x.abs() { x } else { max });
    let d = largest / -8.0;
    let [d0, d1, quants @ ..] = out;
    let scale = inverse(d);
    let quant = |x: f32| (x * scale + 8.5) as u8;
    for (j, q) in quants.iter_mut().enumerate() {
        *q = quant(values[j]).min(15) | quant(values[j + 16]).min(15) << 4;
    }
    let d = f16::from_f32(d);
    [*d0, *d1] = d.to_le_bytes();
    d.is_finite()
}
