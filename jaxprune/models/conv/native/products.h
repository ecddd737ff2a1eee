// The transpose in the kernel: sums over pixels for a tile of the kernel.

#ifndef JAXPRUNE_PRODUCTS_H_
#define JAXPRUNE_PRODUCTS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "plan.h"

namespace jaxprune {

// What the products for a row of the window are summed over: rows of images, in their frames and in their results.
struct Pixels {
  const float *frame, *results;
  int64_t images, rows, frame_size, results_size;
};

// M numbers of a window's row times N vectors of channels.
template <int M, int N>
void Products(const Plan& p, const Pixels& pixels, int64_t m, int64_t e, float* totals) {
  Vector sums[M][N] = {};
  int64_t step = p.stride * p.depth, next = p.stride * p.framed(), columns = p.out_columns, wide = p.wide();
  for (int64_t image = 0; image < pixels.images; ++image) {
    const float* y = pixels.results + image * pixels.results_size + e;
    for (int64_t h = 0; h < pixels.rows; ++h) {
      const float* x = pixels.frame + image * pixels.frame_size + h * next + m;
      for (int64_t w = 0; w < columns; ++w, x += step, y += wide) {
        Vector v[N];
        for (int n = 0; n < N; ++n) v[n] = Load(y + n * kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < M; ++i) {
          for (int n = 0; n < N; ++n) sums[i][n] += v[n] * x[i];
        }
      }
    }
  }
  for (int i = 0; i < M; ++i) {
    float* total = totals + (m + i) * wide + e;
    for (int n = 0; n < N; ++n) Put(total + n * kLanes, Load(total + n * kLanes) + sums[i][n]);
  }
}

template <int N>
void ProductsOfRun(const Plan& p, const Pixels& pixels, int64_t e, float* totals) {
  constexpr int kWide = kTile / N;
  int64_t m = 0;
  auto next = [&](auto products, int64_t taken) {
    for (; m + taken <= p.run(); m += taken) products(p, pixels, m, e, totals);
  };
  next(Products<kWide, N>, kWide);
  if constexpr (kWide > 8) next(Products<8, N>, 8);
  if constexpr (kWide > 4) next(Products<4, N>, 4);
  if constexpr (kWide > 2) next(Products<2, N>, 2);
  next(Products<1, N>, 1);
}

// Rows of results, filled up by zeros to whole vectors of channels.
inline const float* Widened(const Plan& p, const float* y, int64_t pixels, std::vector<float>& copy) {
  if (p.wide() == p.features) return y;
  copy.assign(pixels * p.wide(), 0);
  for (int64_t i = 0; i < pixels; ++i) std::copy_n(y + i * p.features, p.features, copy.data() + i * p.wide());
  return copy.data();
}

// What part of the kernel is summed: rows of the window and channels.
struct Part {
  int64_t first_row, last_row, first, last;
};

// Adds the products of images with their results to the totals, [rows, run, wide].
inline void Correlate(const Plan& p, const Part& part, const float* source, const float* y, int64_t images,
                      float* totals) {
  thread_local std::vector<float> frame, copy;
  int64_t block = p.block(), wide = p.wide(), size = p.height * p.width * p.depth, line = p.out_columns * wide;
  // Small images are taken together, that their sums are not added to the totals after every few pixels.
  int64_t together = block < p.out_rows ? 1 : Ceil(128, p.out_rows * p.out_columns);
  for (int64_t image = 0; image < images; image += together) {
    together = std::min(together, images - image);
    for (int64_t begin = 0; begin < p.out_rows; begin += block) {
      int64_t end = std::min(begin + block, p.out_rows), frame_size = p.frame(end - begin);
      frame.resize(together * frame_size);
      for (int64_t i = 0; i < together; ++i) {
        Frame(p, source + (image + i) * size, begin, end, frame.data() + i * frame_size);
      }
      const float* of_block = y + (image * p.out_rows + begin) * p.out_columns * p.features;
      const float* results = Widened(p, of_block, together * (end - begin) * p.out_columns, copy);
      for (int64_t i = part.first_row; i < part.last_row; ++i) {
        int64_t from = begin, to = end;  // the result rows that row i of the window does not meet zeros for
        while (from < to && i < p.first(from)) ++from;
        while (to > from && i >= p.end(to - 1)) --to;
        Pixels pixels = {frame.data() + ((from - begin) * p.stride + i) * p.framed(),
                         results + (from - begin) * line,
                         together,
                         to - from,
                         frame_size,
                         (end - begin) * line};
        for (int64_t e = part.first; e < part.last; e += 2 * kLanes) {
          auto products = e + 2 * kLanes <= part.last ? ProductsOfRun<2> : ProductsOfRun<1>;
          products(p, pixels, e, totals + i * p.run() * wide);
        }
      }
    }
  }
}

}  // namespace jaxprune

#endif  // JAXPRUNE_PRODUCTS_H_
