// The convolution of images by Winograd's form, and its transpose in the kernel.

#ifndef JAXPRUNE_WINOGRAD_H_
#define JAXPRUNE_WINOGRAD_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "plan.h"
#include "results.h"
#include "tiles.h"

namespace jaxprune {

constexpr int64_t kTransformed = 1 << 15;  // numbers of transformed tiles at a time: they stay in the second cache
constexpr int64_t kSummed = 96;            // tiles over which a sum is kept in registers

// Whether it can be done so for so many images, and takes less time, as was measured: a narrow image is mostly frame,
// and few tiles do not make up for a transformed kernel.
inline bool Winograd(const Plan& p, int64_t images) {
  bool window = p.rows == 3 && p.columns == 3 && p.stride == 1;
  bool channels = p.depth > 0 && p.depth % 16 == 0 && p.features % 16 == 0;
  if (!window || !channels || std::min(p.out_rows, p.out_columns) < 4) return false;
  return images * TilesOf(p) >= std::max<int64_t>(32, p.depth * p.features / 2048);
}

// How many tiles of results are computed at a time.
inline int64_t TilesTogether(const Plan& p) {
  int64_t each = kPlaces * (p.depth + Vectors(p) * kLanes);
  return std::clamp<int64_t>(kTransformed / each / 8 * 8, 8, 64);
}

// The products of L * C tiles with N vectors of channels. `Results` of single pixels are the same, but take a fifth
// longer for a convolution over 16 channels: with so short a loop what comes before and after it counts.
template <int L, int C, int N>
void Multiply(const float* tiles, int64_t depth, const float* kernel, float* products) {
  Vector sums[L][C][N] = {};
  const float* lines[L];
  for (int l = 0; l < L; ++l) lines[l] = tiles + l * C * depth;
  for (int64_t d = 0; d < depth; ++d, kernel += N * kLanes) {
    Vector k[N];
    for (int n = 0; n < N; ++n) k[n] = Load(kernel + n * kLanes);
    for (int l = 0; l < L; ++l) {
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        for (int n = 0; n < N; ++n) sums[l][c][n] += k[n] * lines[l][c * depth];
      }
      ++lines[l];
    }
  }
  for (int l = 0; l < L; ++l) {
    for (int c = 0; c < C; ++c) {
      for (int n = 0; n < N; ++n) Put(products + ((l * C + c) * N + n) * kLanes, sums[l][c][n]);
    }
  }
}

template <int N>
void MultiplyAll(const float* tiles, int64_t count, int64_t depth, const float* kernel, float* products) {
  constexpr int kWide = std::min(8, kTile / N);
  auto next = [&](auto multiply, int64_t taken) {
    for (; count >= taken; count -= taken, tiles += taken * depth, products += taken * N * kLanes) {
      multiply(tiles, depth, kernel, products);
    }
  };
  if constexpr (kTile / N > 8) next(Multiply<2, 8, N>, 16);
  next(Multiply<1, kWide, N>, kWide);
  if constexpr (kWide > 4) next(Multiply<1, 4, N>, 4);
  if constexpr (kWide > 2) next(Multiply<1, 2, N>, 2);
  next(Multiply<1, 1, N>, 1);
}

// Tiles [from, to) of the results.
inline void Filter(const Plan& p, const float* source, const float* kernel, int64_t from, int64_t to, float* out) {
  thread_local std::vector<float> tiles, products;
  int64_t count = to - from, whole = Vectors(p) * kLanes;
  tiles.resize(kPlaces * Apart(count, p.depth));
  products.resize(kPlaces * Apart(count, whole));
  ImageTiles(p, source, from, to, tiles.data());
  for (int64_t e = 0; e < p.features; e += whole) {
    int64_t wide = std::min(whole, p.features - e);
    auto multiply = wide == kLanes ? MultiplyAll<1> : MultiplyAll<2>;
    for (int64_t i = 0; i < kPlaces; ++i) {
      multiply(tiles.data() + i * Apart(count, p.depth), count, p.depth,
               kernel + (e / whole * kPlaces + i) * Apart(p.depth, whole), products.data() + i * Apart(count, wide));
    }
    TileResults(p, products.data(), from, to, e, wide, out);
  }
}

// M numbers of the source times N vectors of channels, summed over tiles.
template <int M, int N>
void SumProducts(const float* tiles, int64_t depth, const float* results, int64_t wide, int64_t count, bool fresh,
                 float* totals, int64_t features) {
  Vector sums[M][N] = {};
  for (int64_t t = 0; t < count; ++t, tiles += depth, results += wide) {
    Vector v[N];
    for (int n = 0; n < N; ++n) v[n] = Load(results + n * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      for (int n = 0; n < N; ++n) sums[i][n] += v[n] * tiles[i];
    }
  }
  for (int i = 0; i < M; ++i) {
    for (int n = 0; n < N; ++n) {
      float* total = totals + i * features + n * kLanes;
      Put(total, fresh ? sums[i][n] : Load(total) + sums[i][n]);
    }
  }
}

// The sums of products of tiles [from, to) with channels [first, last) of their results, in [16, depth, features].
inline void FilterTranspose(const Plan& p, const float* source, const float* results, int64_t from, int64_t to,
                            int64_t first, int64_t last, float* totals) {
  thread_local std::vector<float> tiles, of_results;
  int64_t wide = last - first;
  for (int64_t begin = from; begin < to; begin += kSummed) {
    int64_t end = std::min(begin + kSummed, to), count = end - begin;
    tiles.resize(kPlaces * Apart(count, p.depth));
    of_results.resize(kPlaces * Apart(count, wide));
    ImageTiles(p, source, begin, end, tiles.data());
    ResultTiles(p, results, begin, end, first, last, of_results.data());
    for (int64_t i = 0; i < kPlaces; ++i) {
      const float* x = tiles.data() + i * Apart(count, p.depth);
      const float* y = of_results.data() + i * Apart(count, wide);
      float* total = totals + i * p.depth * p.features + first;
      for (int64_t e = 0; e < wide; e += 2 * kLanes) {
        bool pair = e + 2 * kLanes <= wide;
        auto sum = pair ? SumProducts<kTile / 2, 2> : SumProducts<kTile, 1>;
        for (int64_t d = 0; d < p.depth; d += pair ? kTile / 2 : kTile) {
          sum(x + d, p.depth, y + e, wide, count, begin == from, total + d * p.features + e, p.features);
        }
      }
    }
  }
}

}  // namespace jaxprune

#endif  // JAXPRUNE_WINOGRAD_H_
