//! Weaves four rows of bytes: with instructions that every processor of an architecture has, or on
//! x86-64 with AVX2.

/// Writes `a0 b0 c0 d0 a1 b1 c1 d1 ..`, 64 bytes, from 16 of each row, with the bits of `flip`
/// flipped.
///
/// # Safety
/// 16 bytes can be read at each of `rows`, and 64 written at `to`.
#[inline(always)]
pub(crate) unsafe fn weave(rows: [*const u8; 4], to: *mut u8, flip: u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: as said; SSE2 is everywhere.
        unsafe {
            let flip = _mm_set1_epi8(flip as i8);
            let [a, b, c, d] = rows.map(|row| _mm_xor_si128(_mm_loadu_si128(row.cast()), flip));
            let (ab, cd) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
            let to: *mut __m128i = to.cast();
            _mm_storeu_si128(to, _mm_unpacklo_epi16(ab, cd));
            _mm_storeu_si128(to.add(1), _mm_unpackhi_epi16(ab, cd));
            let (ab, cd) = (_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
            _mm_storeu_si128(to.add(2), _mm_unpacklo_epi16(ab, cd));
            _mm_storeu_si128(to.add(3), _mm_unpackhi_epi16(ab, cd));
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::aarch64::*;
        // SAFETY: as said; NEON is everywhere.
        unsafe {
            let flip = vdupq_n_u8(flip);
            let [a, b, c, d] = rows.map(|row| veorq_u8(vld1q_u8(row), flip));
            vst4q_u8(to, uint8x16x4_t(a, b, c, d));
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    for at in 0..64 {
        // SAFETY: as said.
        unsafe { to.add(at).write(rows[at % 4].add(at / 4).read() ^ flip) };
    }
}

/// [`weave`] for 32 bytes of each row; the second 64 bytes go to `to[1]`.
///
/// # Safety
/// As [`weave`], of 32 bytes; AVX2 on x86-64.
#[inline(always)]
pub(crate) unsafe fn weave_two(rows: [*const u8; 4], to: [*mut u8; 2], flip: u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: as said.
        unsafe {
            let flip = _mm256_set1_epi8(flip as i8);
            let [a, b, c, d] = rows.map(|row| _mm256_xor_si256(_mm256_loadu_si256(row.cast()), flip));
            // Unpacking works on halves, which are a block of channels each.
            let (ab, cd) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
            let (e, f) = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
            let fours = [
                _mm256_unpacklo_epi16(ab, cd),
                _mm256_unpackhi_epi16(ab, cd),
                _mm256_unpacklo_epi16(e, f),
                _mm256_unpackhi_epi16(e, f),
            ];
            for (at, four) in fours.into_iter().enumerate() {
                _mm_storeu_si128(to[0].add(16 * at).cast(), _mm256_castsi256_si128(four));
                _mm_storeu_si128(to[1].add(16 * at).cast(), _mm256_extracti128_si256::<1>(four));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: passed on.
    unsafe {
        weave(rows, to[0], flip);
        weave(rows.map(|row| row.add(16)), to[1], flip);
    }
}
