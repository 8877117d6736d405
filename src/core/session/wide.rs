//! Keyed BLAKE2s (RFC 7693) of sixteen messages at once, by AVX-512. Called by `macs` alone.
//!
//! Every vector holds one word of sixteen messages. A message that ends gives its place to the next, so unequal
//! lengths cost little.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_ror_epi32, _mm512_set1_epi32, _mm512_shuffle_i32x4,
    _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::macs::MAC_LEN;
use super::protection::Secret;

/// Messages at once.
pub(super) const LANES: usize = 16;
/// Bytes that are compressed together.
const BLOCK: usize = 64;

/// RFC 7693 §2.6.
const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The state at the beginning (§2.5): lengths of digest and key, fanout and depth of 1.
const BEGUN: [u32; 8] = {
    let mut begun = IV;
    begun[0] ^= 0x0101_0000 ^ (std::mem::size_of::<Secret>() as u32) << 8 ^ MAC_LEN as u32;
    begun
};

/// RFC 7693 §2.7: which words of the message each round takes, in their order.
const SIGMA: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/// Which words of the state the eight mixings of a round take (§3.2): the columns, then the diagonals.
const MIXINGS: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

/// A key, ready for messages.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Wide {
    /// The key's block, which is the first of every message, and the state after it.
    key: [u8; BLOCK],
    keyed: [u32; 8],
}

/// What one place in the vectors is used for.
#[derive(Clone, Copy, Default)]
struct Lane<'a> {
    /// The number of its message; without one, it does what another does, and nobody looks.
    message: Option<usize>,
    /// What is left of the message.
    rest: &'a [u8],
    /// Bytes that are in the state, the key's block among them.
    done: u32,
}

impl Wide {
    /// `None` if the CPU has no AVX-512.
    pub(super) fn new(key: &Secret) -> Option<Self> {
        if !is_x86_feature_detected!("avx512f") {
            return None;
        }
        let mut wide = Self { key: [0; BLOCK], keyed: BEGUN };
        wide.key[..key.0.len()].copy_from_slice(&key.0);
        // SAFETY: the CPU has AVX-512F, which is all that the function asks for.
        wide.keyed = unsafe { after(&wide.key) };
        Some(wide)
    }

    /// The MACs of `messages`, less than 4 GB each, in their order.
    pub(super) fn macs(&self, messages: &[&[u8]], macs: &mut [[u8; MAC_LEN]]) {
        // SAFETY: there is no `Wide` where the CPU has no AVX-512F, which is all that the function asks for.
        unsafe { self.run(messages, macs) }
    }

    #[target_feature(enable = "avx512f")]
    fn run(&self, messages: &[&[u8]], macs: &mut [[u8; MAC_LEN]]) {
        let mut waiting = messages.iter().enumerate();
        let mut lanes = [Lane::default(); LANES];
        let mut state = [[0; LANES]; 8];
        loop {
            for (at, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| lane.message.is_none()) {
                let Some((number, message)) = waiting.next() else { break };
                let (start, rest, done) = match message.len() {
                    0 => (&BEGUN, &self.key[..], 0),
                    _ => (&self.keyed, *message, BLOCK as u32),
                };
                state.iter_mut().zip(start).for_each(|(words, start)| words[at] = *start);
                *lane = Lane { message: Some(number), rest, done };
            }
            let Some(&busy) = lanes.iter().find(|lane| lane.message.is_some()) else { return };
            for lane in lanes.iter_mut().filter(|lane| lane.message.is_none()) {
                *lane = Lane { message: None, ..busy };
            }
            let mut h = state.map(|words| vector(words));
            advance(&mut h, &mut lanes);
            state = h.map(|vector| words(vector));
            for (at, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| lane.rest.is_empty()) {
                let Some(number) = lane.message.take() else { continue };
                for (bytes, words) in macs[number].as_chunks_mut().0.iter_mut().zip(&state) {
                    *bytes = words[at].to_le_bytes();
                }
            }
        }
    }
}

/// Goes on with the messages, each of which goes on, until one of them ends.
#[target_feature(enable = "avx512f")]
fn advance(h: &mut [__m512i; 8], lanes: &mut [Lane<'_>; LANES]) {
    let whole = lanes.iter().map(|lane| (lane.rest.len() - 1) / BLOCK).min().unwrap_or_default();
    let blocks = lanes.map(|lane| &lane.rest.as_chunks::<BLOCK>().0[..whole]);
    let mut done = vector(lanes.map(|lane| lane.done));
    for at in 0..whole {
        done = _mm512_add_epi32(done, each(BLOCK as u32));
        compress(h, blocks.map(|blocks| block(&blocks[at])), done, each(0));
    }
    let mut ends = [[0; BLOCK]; LANES];
    let mut last = [0; LANES];
    for ((lane, end), last) in lanes.iter_mut().zip(&mut ends).zip(&mut last) {
        let (bytes, rest) = lane.rest[whole * BLOCK..].split_at(BLOCK.min(lane.rest.len() - whole * BLOCK));
        end[..bytes.len()].copy_from_slice(bytes);
        lane.done += (whole * BLOCK + bytes.len()) as u32;
        lane.rest = rest;
        *last = if rest.is_empty() { u32::MAX } else { 0 };
    }
    let done = vector(lanes.map(|lane| lane.done));
    compress(h, ends.map(|end| block(&end)), done, vector(last));
}

/// The state after the key's block, if that is not the last.
#[target_feature(enable = "avx512f")]
fn after(key: &[u8; BLOCK]) -> [u32; 8] {
    let mut h = BEGUN.map(|word| each(word));
    compress(&mut h, [block(key); LANES], each(BLOCK as u32), each(0));
    h.map(|vector| words(vector)[0])
}

/// Puts a block of each message into the state (§3.2): `done` bytes are then in it, `last` is all ones for the last.
#[inline]
#[target_feature(enable = "avx512f")]
fn compress(h: &mut [__m512i; 8], blocks: [__m512i; LANES], done: __m512i, last: __m512i) {
    let m = transposed(blocks);
    let [a, b, c, d, e, f, g, i] = IV.map(|word| each(word));
    let (e, g) = (_mm512_xor_si512(e, done), _mm512_xor_si512(g, last));
    let mut v = [h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], a, b, c, d, e, f, g, i];
    for order in &SIGMA {
        for (at, place) in MIXINGS.iter().enumerate() {
            mix(&mut v, *place, m[order[2 * at]], m[order[2 * at + 1]]);
        }
    }
    const XOR_OF_THREE: i32 = 0x96;
    for at in 0..8 {
        h[at] = _mm512_ternarylogic_epi32::<XOR_OF_THREE>(h[at], v[at], v[at + 8]);
    }
}

/// RFC 7693 §3.1.
#[inline]
#[target_feature(enable = "avx512f")]
fn mix(v: &mut [__m512i; 16], [a, b, c, d]: [usize; 4], x: __m512i, y: __m512i) {
    v[a] = _mm512_add_epi32(_mm512_add_epi32(v[a], x), v[b]);
    v[d] = _mm512_ror_epi32::<16>(_mm512_xor_si512(v[d], v[a]));
    v[c] = _mm512_add_epi32(v[c], v[d]);
    v[b] = _mm512_ror_epi32::<12>(_mm512_xor_si512(v[b], v[c]));
    v[a] = _mm512_add_epi32(_mm512_add_epi32(v[a], y), v[b]);
    v[d] = _mm512_ror_epi32::<8>(_mm512_xor_si512(v[d], v[a]));
    v[c] = _mm512_add_epi32(v[c], v[d]);
    v[b] = _mm512_ror_epi32::<7>(_mm512_xor_si512(v[b], v[c]));
}

/// Word `n` of all rows, in the place of row `n`.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut pairs = rows;
    for at in (0..16).step_by(2) {
        pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // Row `4 i + j`: of rows `4 i` to `4 i + 3`, words `j`, `j + 4`, `j + 8` and `j + 12`.
    let mut fours = pairs;
    for at in (0..16).step_by(4) {
        fours[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
        fours[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
        fours[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        fours[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    let mut words = fours;
    for at in 0..4 {
        let [a, b, c, d] = [fours[at], fours[at + 4], fours[at + 8], fours[at + 12]];
        let (low, high) = (_mm512_shuffle_i32x4::<EVEN>(a, b), _mm512_shuffle_i32x4::<EVEN>(c, d));
        words[at] = _mm512_shuffle_i32x4::<EVEN>(low, high);
        words[at + 8] = _mm512_shuffle_i32x4::<ODD>(low, high);
        let (low, high) = (_mm512_shuffle_i32x4::<ODD>(a, b), _mm512_shuffle_i32x4::<ODD>(c, d));
        words[at + 4] = _mm512_shuffle_i32x4::<EVEN>(low, high);
        words[at + 12] = _mm512_shuffle_i32x4::<ODD>(low, high);
    }
    words
}

#[inline]
#[target_feature(enable = "avx512f")]
fn each(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

/// A block as it lies in memory.
#[inline]
#[target_feature(enable = "avx512f")]
fn block(bytes: &[u8; BLOCK]) -> __m512i {
    // SAFETY: both have 64 bytes, and any are a vector.
    unsafe { std::mem::transmute(*bytes) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn vector(words: [u32; LANES]) -> __m512i {
    // SAFETY: both have 64 bytes, and any are a vector.
    unsafe { std::mem::transmute(words) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn words(vector: __m512i) -> [u32; LANES] {
    // SAFETY: both have 64 bytes, and any are words.
    unsafe { std::mem::transmute(vector) }
}
