//! The intrinsics of [`super::avx512`] and [`super::avxvnni`] in plain Rust, written from Intel's description of each
//! instruction, so that the kernels' logic is tested on processors without them. Only for tests: slow.

#![allow(non_camel_case_types, clippy::missing_safety_doc)]

pub use std::arch::x86_64::*;

pub type __m512i = [i32; 16];
pub type __m512 = [f32; 16];

pub fn _mm512_set1_epi32(x: i32) -> __m512i {
    [x; 16]
}
pub fn _mm512_set1_ps(x: f32) -> __m512 {
    [x; 16]
}
pub unsafe fn _mm512_loadu_si512(at: *const __m512i) -> __m512i {
    // SAFETY: the caller's.
    unsafe { at.read_unaligned() }
}
pub unsafe fn _mm512_loadu_ps(at: *const f32) -> __m512 {
    // SAFETY: the caller's.
    unsafe { at.cast::<__m512>().read_unaligned() }
}
pub unsafe fn _mm512_mask_storeu_ps(at: *mut f32, mask: __mmask16, x: __m512) {
    for lane in (0..16).filter(|lane| mask >> lane & 1 == 1) {
        // SAFETY: the caller's.
        unsafe { at.add(lane).write_unaligned(x[lane]) };
    }
}
pub unsafe fn _mm_mask_storeu_epi8(at: *mut i8, mask: __mmask16, x: __m128i) {
    for lane in (0..16).filter(|lane| mask >> lane & 1 == 1) {
        // SAFETY: the caller's.
        unsafe { at.add(lane).write(bytes(x)[lane] as i8) };
    }
}
pub unsafe fn _mm_maskz_loadu_epi8(mask: __mmask16, at: *const i8) -> __m128i {
    // SAFETY: the caller's.
    let byte = |lane| if mask >> lane & 1 == 1 { unsafe { at.add(lane).read() as u8 } } else { 0 };
    from_bytes(std::array::from_fn(byte))
}
pub fn _mm512_cvtepi32_ps(x: __m512i) -> __m512 {
    x.map(|x| x as f32)
}
pub fn _mm512_cvtepu8_epi32(x: __m128i) -> __m512i {
    bytes(x).map(i32::from)
}
pub fn _mm512_cvtepi32_epi8(x: __m512i) -> __m128i {
    from_bytes(x.map(|x| x as u8))
}
pub fn _mm512_cvtps_epi32(x: __m512) -> __m512i {
    // What does not fit becomes the "integer indefinite".
    x.map(|x| if (-2147483648.0..2147483648.0).contains(&x) { x.round_ties_even() as i32 } else { i32::MIN })
}
pub fn _mm512_add_epi32(a: __m512i, b: __m512i) -> __m512i {
    std::array::from_fn(|i| a[i].wrapping_add(b[i]))
}
pub fn _mm512_sub_epi32(a: __m512i, b: __m512i) -> __m512i {
    std::array::from_fn(|i| a[i].wrapping_sub(b[i]))
}
pub fn _mm512_add_ps(a: __m512, b: __m512) -> __m512 {
    std::array::from_fn(|i| a[i] + b[i])
}
pub fn _mm512_mul_ps(a: __m512, b: __m512) -> __m512 {
    std::array::from_fn(|i| a[i] * b[i])
}
pub fn _mm512_max_ps(a: __m512, b: __m512) -> __m512 {
    std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
}
pub fn _mm512_min_ps(a: __m512, b: __m512) -> __m512 {
    std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
}
pub fn _mm512_dpbusd_epi32(sums: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
    std::array::from_fn(|i| {
        let (a, b) = (unsigned[i].to_ne_bytes(), signed[i].to_ne_bytes());
        let products = a.iter().zip(b).map(|(&a, b)| a as i32 * (b as i8) as i32);
        sums[i].wrapping_add(products.sum())
    })
}
pub fn _mm256_dpbusd_avx_epi32(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    let wide = |x| std::array::from_fn(|i| halves(x)[i % 8]);
    let sums = _mm512_dpbusd_epi32(wide(sums), wide(unsigned), wide(signed));
    // SAFETY: 32 bytes of integers.
    unsafe { std::mem::transmute::<[i32; 8], __m256i>(std::array::from_fn(|i| sums[i])) }
}
pub fn _mm512_dpwssd_epi32(sums: __m512i, a: __m512i, b: __m512i) -> __m512i {
    std::array::from_fn(|i| {
        let low = a[i] as i16 as i32 * b[i] as i16 as i32;
        let high = (a[i] >> 16) * (b[i] >> 16);
        sums[i].wrapping_add(low).wrapping_add(high)
    })
}
pub fn _mm512_castsi256_si512(x: __m256i) -> __m512i {
    let low = halves(x);
    std::array::from_fn(|i| if i < 8 { low[i] } else { -1 })
}
pub fn _mm512_inserti64x4<const AT: i32>(a: __m512i, x: __m256i) -> __m512i {
    let (at, x) = (8 * AT as usize, halves(x));
    std::array::from_fn(|i| if i / 8 * 8 == at { x[i % 8] } else { a[i] })
}
pub fn _mm512_permutexvar_epi16(order: __m512i, x: __m512i) -> __m512i {
    // SAFETY: 64 bytes of integers.
    let words = |x: __m512i| unsafe { std::mem::transmute::<__m512i, [u16; 32]>(x) };
    let (order, x) = (words(order), words(x));
    let chosen: [u16; 32] = std::array::from_fn(|i| x[order[i] as usize & 31]);
    // SAFETY: as before.
    unsafe { std::mem::transmute(chosen) }
}

fn bytes(x: __m128i) -> [u8; 16] {
    // SAFETY: 16 bytes of integers.
    unsafe { std::mem::transmute(x) }
}
fn from_bytes(x: [u8; 16]) -> __m128i {
    // SAFETY: 16 bytes of integers.
    unsafe { std::mem::transmute(x) }
}
fn halves(x: __m256i) -> [i32; 8] {
    // SAFETY: 32 bytes of integers.
    unsafe { std::mem::transmute(x) }
}
