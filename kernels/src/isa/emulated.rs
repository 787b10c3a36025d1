//! The intrinsics of [`super::avx512`] and [`super::avxvnni`] in plain Rust, written from Intel's
//! description of each instruction, so that the kernels' logic is tested on processors without
//! them. Only for tests: slow.

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
pub fn _mm512_sub_ps(a: __m512, b: __m512) -> __m512 {
    std::array::from_fn(|i| a[i] - b[i])
}
pub fn _mm512_castsi512_ps(x: __m512i) -> __m512 {
    x.map(|x| f32::from_bits(x as u32))
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
pub fn _mm512_set1_epi16(x: i16) -> __m512i {
    from_words([x; 32])
}
pub fn _mm512_set1_epi8(x: i8) -> __m512i {
    many_from_bytes([x as u8; 64])
}
pub unsafe fn _mm512_storeu_si512(at: *mut __m512i, x: __m512i) {
    // SAFETY: the caller's.
    unsafe { at.write_unaligned(x) }
}
pub fn _mm512_packs_epi32(a: __m512i, b: __m512i) -> __m512i {
    let saturated = |x: i32| x.clamp(-32768, 32767) as i16;
    // Four of `a`, then four of `b`, quarter by quarter.
    from_words(std::array::from_fn(|i| saturated(if i / 4 % 2 == 0 { a } else { b }[i / 8 * 4 + i % 4])))
}
pub fn _mm512_packus_epi16(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (words(a), words(b));
    let saturated = |x: i16| x.clamp(0, 255) as u8;
    many_from_bytes(std::array::from_fn(|i| {
        saturated(if i / 8 % 2 == 0 { a } else { b }[i / 16 * 8 + i % 8])
    }))
}
pub fn _mm512_adds_epi16(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (words(a), words(b));
    from_words(std::array::from_fn(|i| a[i].saturating_add(b[i])))
}
pub fn _mm512_max_epu8(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (many_bytes(a), many_bytes(b));
    many_from_bytes(std::array::from_fn(|i| a[i].max(b[i])))
}
pub fn _mm512_min_epu8(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (many_bytes(a), many_bytes(b));
    many_from_bytes(std::array::from_fn(|i| a[i].min(b[i])))
}
pub fn _mm512_xor_si512(a: __m512i, b: __m512i) -> __m512i {
    std::array::from_fn(|i| a[i] ^ b[i])
}
pub fn _mm512_permutexvar_epi32(order: __m512i, x: __m512i) -> __m512i {
    order.map(|i| x[i as usize & 15])
}
pub fn _mm512_shuffle_epi8(x: __m512i, order: __m512i) -> __m512i {
    let (x, order) = (many_bytes(x), many_bytes(order));
    many_from_bytes(std::array::from_fn(|i| match order[i] {
        128.. => 0,
        chosen => x[i / 16 * 16 + (chosen & 15) as usize],
    }))
}
pub fn _mm512_zextsi128_si512(x: __m128i) -> __m512i {
    _mm512_inserti32x4::<0>([0; 16], x)
}
pub fn _mm512_inserti32x4<const AT: i32>(a: __m512i, x: __m128i) -> __m512i {
    let (mut a, x) = (many_bytes(a), bytes(x));
    a[16 * AT as usize..][..16].copy_from_slice(&x);
    many_from_bytes(a)
}
pub fn _mm512_extracti32x4_epi32<const AT: i32>(x: __m512i) -> __m128i {
    let x = many_bytes(x);
    from_bytes(std::array::from_fn(|i| x[16 * AT as usize + i]))
}
pub fn _mm512_castsi512_si128(x: __m512i) -> __m128i {
    _mm512_extracti32x4_epi32::<0>(x)
}
pub fn _mm512_extracti64x4_epi64<const AT: i32>(x: __m512i) -> __m256i {
    let half: [i32; 8] = std::array::from_fn(|i| x[8 * AT as usize + i]);
    // SAFETY: 32 bytes of integers.
    unsafe { std::mem::transmute(half) }
}
pub fn _mm512_castsi512_si256(x: __m512i) -> __m256i {
    _mm512_extracti64x4_epi64::<0>(x)
}

fn words(x: __m512i) -> [i16; 32] {
    // SAFETY: 64 bytes of integers.
    unsafe { std::mem::transmute(x) }
}
fn from_words(x: [i16; 32]) -> __m512i {
    // SAFETY: 64 bytes of integers.
    unsafe { std::mem::transmute(x) }
}
fn many_bytes(x: __m512i) -> [u8; 64] {
    // SAFETY: 64 bytes of integers.
    unsafe { std::mem::transmute(x) }
}
fn many_from_bytes(x: [u8; 64]) -> __m512i {
    // SAFETY: 64 bytes of integers.
    unsafe { std::mem::transmute(x) }
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
