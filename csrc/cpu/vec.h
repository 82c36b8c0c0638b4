// A vector of W lanes with exactly the operations that the sweeps need, in three spellings chosen by the flags of the translation unit:
// AVX-512 and AVX2 intrinsics for float, and the compiler's own vector types for everything else (double, SSE2, NEON).
//
// Every unit includes this file inside its own namespace (DADKIT_UNIT), so that the linker can never merge code that was compiled
// for AVX-512 into the plain path. For the same reason nothing here uses templates of the standard library.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(DADKIT_AVX512) || defined(DADKIT_AVX2)
#include <immintrin.h>
#endif

#ifndef DADKIT_UNIT
#error "include this file from one of the unit_*.cpp files"
#endif

#define DADKIT_INLINE inline __attribute__((always_inline))

namespace dadkit::DADKIT_UNIT {

// ---------------------------------------------------------------- the compiler's vector types
template <typename T, int kBytes>
struct PortableVec {
  using Scalar = T;
  static constexpr int W = kBytes / static_cast<int>(sizeof(T));
  typedef T F __attribute__((vector_size(kBytes)));
  using Lane = typename std::conditional<sizeof(T) == 8, int64_t, int32_t>::type;
  typedef Lane I __attribute__((vector_size(kBytes)));
  using M = I;  // -1 where true

  static DADKIT_INLINE F load(const T* p) {
    F v;
    std::memcpy(&v, p, sizeof(F));
    return v;
  }
  static DADKIT_INLINE void store(T* p, F v) { std::memcpy(p, &v, sizeof(F)); }
  static DADKIT_INLINE void store_counts(Lane* p, I v) { std::memcpy(p, &v, sizeof(I)); }
  static DADKIT_INLINE F set1(T x) { return F{} + x; }
  static DADKIT_INLINE F zero() { return F{}; }
  static DADKIT_INLINE I no_counts() { return I{}; }
  static DADKIT_INLINE F abs(F a) {
    constexpr Lane kMagnitude = static_cast<Lane>(~(static_cast<uint64_t>(1) << (8 * sizeof(T) - 1)));
    return reinterpret_cast<F>(reinterpret_cast<I>(a) & kMagnitude);
  }
  static DADKIT_INLINE F min(F a, F b) { return a < b ? a : b; }
  static DADKIT_INLINE F max(F a, F b) { return a > b ? a : b; }
  static DADKIT_INLINE M lt(F a, F b) { return a < b; }
  static DADKIT_INLINE M le(F a, F b) { return a <= b; }
  static DADKIT_INLINE M ge(F a, F b) { return a >= b; }
  static DADKIT_INLINE M eq(F a, F b) { return a == b; }
  static DADKIT_INLINE M lt_in(M m, F a, F b) { return m & (a < b); }
  static DADKIT_INLINE M differ_in(M m, F a, F b) { return m & ((a < b) | (b < a)); }
  static DADKIT_INLINE M both(M a, M b) { return a & b; }
  static DADKIT_INLINE M without(M a, M b) { return a & ~b; }
  static DADKIT_INLINE F select(M m, F a, F b) {
    return reinterpret_cast<F>((m & reinterpret_cast<I>(a)) | (~m & reinterpret_cast<I>(b)));
  }
  // a, with its sign turned where e is negative
  static DADKIT_INLINE F turned(F a, F e) {
    constexpr Lane kSign = static_cast<Lane>(static_cast<uint64_t>(1) << (8 * sizeof(T) - 1));
    return reinterpret_cast<F>(reinterpret_cast<I>(a) ^ (reinterpret_cast<I>(e) & kSign));
  }
  static DADKIT_INLINE F keep(M m, F a) { return reinterpret_cast<F>(m & reinterpret_cast<I>(a)); }
  static DADKIT_INLINE F add_if(F acc, M m, F a) { return acc + keep(m, a); }
  static DADKIT_INLINE F sub_if(F acc, M m, F a) { return acc - keep(m, a); }
  static DADKIT_INLINE I inc_if(I n, M m) { return n - m; }
  static DADKIT_INLINE bool any(M m) {
    Lane all = 0;
    for (int k = 0; k < W; ++k) all |= m[k];
    return all != 0;
  }
  static DADKIT_INLINE M leaf_is(const uint8_t* leaf, uint8_t c) {
    I v;
    for (int k = 0; k < W; ++k) v[k] = leaf[k];
    return v == static_cast<Lane>(c);
  }
  // every lane has leaf c or none
  static DADKIT_INLINE bool uniform(const uint8_t* leaf, uint8_t c) {
    bool same = true;
    for (int k = 0; k < W; ++k) same &= (leaf[k] == c) | (leaf[k] == 255);
    return same;
  }
  // the same of four vectors at once
  static DADKIT_INLINE bool uniform4(const uint8_t* leaf, uint8_t c) {
    constexpr int kBytesAtOnce = 4 * W < 16 ? 4 * W : 16;
    typedef uint8_t B __attribute__((vector_size(kBytesAtOnce)));
    B same = ~B{};
    for (int k = 0; k < 4 * W; k += kBytesAtOnce) {
      B v;
      std::memcpy(&v, leaf + k, sizeof(B));
      same &= reinterpret_cast<B>(v == c) | reinterpret_cast<B>(v == 255);
    }
    uint64_t all = ~static_cast<uint64_t>(0);
    for (int k = 0; k < kBytesAtOnce; k += 8) {
      uint64_t word;
      std::memcpy(&word, reinterpret_cast<const char*>(&same) + k, 8);
      all &= word;
    }
    return all == ~static_cast<uint64_t>(0);
  }
  static DADKIT_INLINE M mask_of(const uint8_t* valid) {
    I v;
    for (int k = 0; k < W; ++k) v[k] = valid[k];
    return v != static_cast<Lane>(0);
  }
  static DADKIT_INLINE void store_bytes(uint8_t* out, I v) {
    for (int k = 0; k < W; ++k) out[k] = static_cast<uint8_t>(v[k]);
  }
  static DADKIT_INLINE I select_counts(M m, I a, I b) { return (m & a) | (~m & b); }
  static DADKIT_INLINE I counts1(int x) { return I{} + static_cast<Lane>(x); }
  static DADKIT_INLINE T* compress(T* out, M m, F v) {
    for (int k = 0; k < W; ++k) {
      *out = v[k];
      out += (m[k] != 0);
    }
    return out;
  }
  // the first, third, fifth … lane of a and then of b
  static DADKIT_INLINE F evens(F a, F b) {
    F v;
    for (int k = 0; k < W / 2; ++k) {
      v[k] = a[2 * k];
      v[k + W / 2] = b[2 * k];
    }
    return v;
  }
  // x[0], 0, x[1], 0, …
  static DADKIT_INLINE F spread(const T* x) {
    F v{};
    for (int k = 0; k < W / 2; ++k) v[2 * k] = x[k];
    return v;
  }
  // a[i] and a[i + 1] for W indices, for the bilinear taps
  static DADKIT_INLINE void gather_pair(const T* a, const int32_t* at, F& left, F& right) {
    for (int k = 0; k < W; ++k) {
      left[k] = a[at[k]];
      right[k] = a[at[k] + 1];
    }
  }
};

#if defined(DADKIT_AVX512)
struct FloatVec {
  using Scalar = float;
  using Lane = int32_t;
  static constexpr int W = 16;
  using F = __m512;
  using I = __m512i;
  using M = __mmask16;

  static DADKIT_INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
  static DADKIT_INLINE void store(float* p, F v) { _mm512_storeu_ps(p, v); }
  static DADKIT_INLINE void store_counts(Lane* p, I v) { _mm512_storeu_si512(p, v); }
  static DADKIT_INLINE F set1(float x) { return _mm512_set1_ps(x); }
  static DADKIT_INLINE F zero() { return _mm512_setzero_ps(); }
  static DADKIT_INLINE I no_counts() { return _mm512_setzero_si512(); }
  static DADKIT_INLINE F abs(F a) { return _mm512_abs_ps(a); }
  static DADKIT_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
  static DADKIT_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
  static DADKIT_INLINE M lt(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  static DADKIT_INLINE M le(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
  static DADKIT_INLINE M ge(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
  static DADKIT_INLINE M eq(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
  static DADKIT_INLINE M lt_in(M m, F a, F b) { return _mm512_mask_cmp_ps_mask(m, a, b, _CMP_LT_OQ); }
  static DADKIT_INLINE M differ_in(M m, F a, F b) { return _mm512_mask_cmp_ps_mask(m, a, b, _CMP_NEQ_OQ); }
  static DADKIT_INLINE F turned(F a, F e) {  // a ^ (e & sign)
    const I sign = _mm512_set1_epi32(INT32_MIN);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(a), _mm512_castps_si512(e), sign, 0x78));
  }
  static DADKIT_INLINE M both(M a, M b) { return _kand_mask16(a, b); }
  static DADKIT_INLINE M without(M a, M b) { return _kandn_mask16(b, a); }
  static DADKIT_INLINE F select(M m, F a, F b) { return _mm512_mask_blend_ps(m, b, a); }
  static DADKIT_INLINE F add_if(F acc, M m, F a) { return _mm512_mask_add_ps(acc, m, acc, a); }
  static DADKIT_INLINE F sub_if(F acc, M m, F a) { return _mm512_mask_sub_ps(acc, m, acc, a); }
  static DADKIT_INLINE I inc_if(I n, M m) { return _mm512_mask_sub_epi32(n, m, n, _mm512_set1_epi32(-1)); }
  static DADKIT_INLINE bool any(M m) { return m != 0; }
  static DADKIT_INLINE M leaf_is(const uint8_t* leaf, uint8_t c) {
    return _mm_cmpeq_epi8_mask(_mm_loadu_si128(reinterpret_cast<const __m128i*>(leaf)), _mm_set1_epi8(static_cast<char>(c)));
  }
  static DADKIT_INLINE bool uniform(const uint8_t* leaf, uint8_t c) {
    return (leaf_is(leaf, c) | leaf_is(leaf, 255)) == 0xffff;
  }
  static DADKIT_INLINE bool uniform4(const uint8_t* leaf, uint8_t c) {
    const __m512i v = _mm512_loadu_si512(leaf);
    const __mmask64 other = _mm512_cmpneq_epi8_mask(v, _mm512_set1_epi8(static_cast<char>(c)));
    return other == 0 || _mm512_mask_cmpneq_epi8_mask(other, v, _mm512_set1_epi8(-1)) == 0;
  }
  static DADKIT_INLINE M mask_of(const uint8_t* valid) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(valid));
    return _mm_test_epi8_mask(v, v);
  }
  static DADKIT_INLINE void store_bytes(uint8_t* out, I v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(v));
  }
  static DADKIT_INLINE I select_counts(M m, I a, I b) { return _mm512_mask_blend_epi32(m, b, a); }
  static DADKIT_INLINE I counts1(int x) { return _mm512_set1_epi32(x); }
  // Compress in the register and store whole: compressing straight to memory is microcoded on some processors.
  static DADKIT_INLINE float* compress(float* out, M m, F v) {
    _mm512_storeu_ps(out, _mm512_maskz_compress_ps(m, v));
    return out + __builtin_popcount(m);
  }
  static DADKIT_INLINE F evens(F a, F b) {
    const __m256i low = _mm512_cvtepi64_epi32(_mm512_castps_si512(a)), high = _mm512_cvtepi64_epi32(_mm512_castps_si512(b));
    return _mm512_castsi512_ps(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
  }
  static DADKIT_INLINE F spread(const float* x) {
    return _mm512_castsi512_ps(_mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x))));
  }
  static DADKIT_INLINE void gather_pair(const float* a, const int32_t* at, F& left, F& right) {
    const __m512i i = _mm512_loadu_si512(at);
    left = _mm512_i32gather_ps(i, a, 4);
    right = _mm512_i32gather_ps(i, a + 1, 4);
  }
};
#elif defined(DADKIT_AVX2)
// For every set of lanes to keep: their numbers, first to last. (pext would do it without a table, but is microcoded on older processors.)
struct CompressTable {
  uint8_t lanes[256][8];
  constexpr CompressTable() : lanes() {
    for (int bits = 0; bits < 256; ++bits) {
      int n = 0;
      for (int k = 0; k < 8; ++k)
        if (bits >> k & 1) lanes[bits][n++] = static_cast<uint8_t>(k);
    }
  }
};
static constexpr CompressTable kCompress{};

// The compiler's vector, but for what it does not put into one or two instructions.
struct FloatVec : PortableVec<float, 32> {
  static DADKIT_INLINE F as_f(I v) { return reinterpret_cast<F>(v); }
  static DADKIT_INLINE __m256i bits(I v) { return reinterpret_cast<__m256i>(v); }
  static DADKIT_INLINE I ints(__m256i v) { return reinterpret_cast<I>(v); }
  static DADKIT_INLINE F min(F a, F b) { return _mm256_min_ps(a, b); }
  static DADKIT_INLINE F max(F a, F b) { return _mm256_max_ps(a, b); }
  static DADKIT_INLINE M differ_in(M m, F a, F b) { return m & reinterpret_cast<I>(_mm256_cmp_ps(a, b, _CMP_NEQ_OQ)); }
  static DADKIT_INLINE F select(M m, F a, F b) { return _mm256_blendv_ps(b, a, as_f(m)); }
  static DADKIT_INLINE I select_counts(M m, I a, I b) { return ints(_mm256_blendv_epi8(bits(b), bits(a), bits(m))); }
  static DADKIT_INLINE bool any(M m) { return _mm256_testz_si256(bits(m), bits(m)) == 0; }
  static DADKIT_INLINE I widen(const uint8_t* p) { return ints(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))); }
  static DADKIT_INLINE M leaf_is(const uint8_t* leaf, uint8_t c) { return widen(leaf) == counts1(c); }
  static DADKIT_INLINE bool uniform(const uint8_t* leaf, uint8_t c) {
    const __m128i v = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(leaf));
    const __m128i same = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(static_cast<char>(c))), _mm_cmpeq_epi8(v, _mm_set1_epi8(-1)));
    return (_mm_movemask_epi8(same) & 0xff) == 0xff;
  }
  static DADKIT_INLINE bool uniform4(const uint8_t* leaf, uint8_t c) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(leaf));
    const __m256i same = _mm256_or_si256(_mm256_cmpeq_epi8(v, _mm256_set1_epi8(static_cast<char>(c))), _mm256_cmpeq_epi8(v, _mm256_set1_epi8(-1)));
    return _mm256_movemask_epi8(same) == -1;
  }
  static DADKIT_INLINE M mask_of(const uint8_t* valid) { return widen(valid) > no_counts(); }
  static DADKIT_INLINE void store_bytes(uint8_t* out, I v) {
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(bits(v)), _mm256_extracti128_si256(bits(v), 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(words, words));
  }
  static DADKIT_INLINE float* compress(float* out, M m, F v) {
    const unsigned lanes = static_cast<unsigned>(_mm256_movemask_ps(as_f(m)));
    store(out, _mm256_permutevar8x32_ps(v, bits(widen(kCompress.lanes[lanes]))));
    return out + __builtin_popcount(lanes);
  }
  static DADKIT_INLINE F evens(F a, F b) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88)), 0xd8));
  }
  static DADKIT_INLINE F spread(const float* x) {
    return _mm256_castsi256_ps(_mm256_cvtepu32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))));
  }
  static DADKIT_INLINE void gather_pair(const float* a, const int32_t* at, F& left, F& right) {
    const __m256i i = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
    left = _mm256_i32gather_ps(a, i, 4);
    right = _mm256_i32gather_ps(a + 1, i, 4);
  }
};
#else
using FloatVec = PortableVec<float, 16>;
#endif

#if defined(DADKIT_AVX512) || defined(DADKIT_AVX2)
using DoubleVec = PortableVec<double, 32>;
#else
using DoubleVec = PortableVec<double, 16>;
#endif

}  // namespace dadkit::DADKIT_UNIT
