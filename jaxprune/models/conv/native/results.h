// The convolution of an image: sums over a window for a tile of results.

#ifndef JAXPRUNE_RESULTS_H_
#define JAXPRUNE_RESULTS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "plan.h"

namespace jaxprune {

inline void Store(float* to, Vector v, int64_t count) {
  if (count >= kLanes) {
    Put(to, v);
  } else if (count > 0) {
    std::memcpy(to, &v, count * sizeof(float));
  }
}

// L lines of C results times N vectors of channels. From one line to the next it is `apart` in the frame and
// `out_apart` in the results: a line of its own has a pointer of its own, as there are not enough registers for sixteen
// offsets.
template <int L, int C, int N>
void Results(const Plan& p, int64_t rows, const float* frame, int64_t apart, const float* kernel, int64_t kernel_step,
             float* out, int64_t out_apart, int64_t features) {
  Vector sums[L][C][N] = {};
  int64_t run = p.run(), step = p.stride * p.depth, row = p.framed(), out_step = p.apart * p.features;
  for (int64_t i = 0; i < rows; ++i, frame += row) {
    const float* lines[L];
    for (int l = 0; l < L; ++l) lines[l] = frame + l * apart;
    for (int64_t m = 0; m < run; ++m, kernel += kernel_step) {
      Vector k[N];
      for (int n = 0; n < N; ++n) k[n] = Load(kernel + n * kLanes);
      for (int l = 0; l < L; ++l) {
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
          for (int n = 0; n < N; ++n) sums[l][c][n] += k[n] * lines[l][c * step];
        }
        ++lines[l];
      }
    }
  }
  for (int l = 0; l < L; ++l) {
    for (int c = 0; c < C; ++c) {
      for (int n = 0; n < N; ++n) {
        Store(out + l * out_apart + c * out_step + n * kLanes, sums[l][c][n], features - n * kLanes);
      }
    }
  }
}

// A row of results of one image, or of two images that are too narrow to fill a tile alone.
template <int N>
void ResultsOfRow(const Plan& p, int64_t images, int64_t rows, const float* frame, int64_t frame_size,
                  const float* kernel, int64_t kernel_step, float* out, int64_t out_size, int64_t features) {
  constexpr int kWide = std::min(8, kTile / N), kHalf = std::min(8, kTile / N / 2);
  int64_t c = 0, step = p.stride * p.depth, out_step = p.apart * p.features;
  auto next = [&](auto results, int64_t taken, int64_t apart, int64_t out_apart) {
    for (; c + taken <= p.out_columns; c += taken) {
      results(p, rows, frame + c * step, apart, kernel, kernel_step, out + c * out_step, out_apart, features);
    }
  };
  if (images == 2) {
    next(Results<2, kHalf, N>, kHalf, frame_size, out_size);
    if constexpr (kHalf > 4) next(Results<2, 4, N>, 4, frame_size, out_size);
    if constexpr (kHalf > 2) next(Results<2, 2, N>, 2, frame_size, out_size);
    next(Results<2, 1, N>, 1, frame_size, out_size);
  } else {
    if constexpr (kTile / N > 8) next(Results<2, 8, N>, 16, 8 * step, 8 * out_step);
    next(Results<1, kWide, N>, kWide, 0, 0);
    if constexpr (kWide > 4) next(Results<1, 4, N>, 4, 0, 0);
    if constexpr (kWide > 2) next(Results<1, 2, N>, 2, 0, 0);
    next(Results<1, 1, N>, 1, 0, 0);
  }
}

inline int64_t Vectors(const Plan& p) { return p.panels() == 1 ? 1 : 2; }  // of channels, in a tile

inline int64_t Together(const Plan& p) { return 2 * p.out_columns * Vectors(p) <= kTile ? 2 : 1; }  // images, in a tile

// A kernel as it is in memory: how far one number is from the next in each direction, backwards too.
struct Entries {
  const float* first;
  int64_t row, column, depth, feature;
};

// A kernel as it is read: panels of so many channels as a tile has.
struct Panels {
  const float* in_place;
  int64_t step, panel;              // from one number of a window to the next, and from panel to panel
  std::unique_ptr<float[]> packed;  // where it has to be copied
  const float* data() const { return packed ? packed.get() : in_place; }
};

// Reads a kernel where it is, if its channels are whole panels that lie close enough for the cache, or makes room for a
// copy, which `Pack` fills.
inline Panels Arrange(const Plan& p, const Entries& k) {
  int64_t wide = Vectors(p) * kLanes, lines = p.rows * p.run();
  bool in_order = k.feature == 1 && k.depth == p.features && k.column == p.depth * p.features &&
                  k.row == p.columns * p.depth * p.features;
  if (in_order && p.features % wide == 0 && lines * p.features <= kNear) return {k.first, p.features, wide, nullptr};
  return {nullptr, wide, lines * wide, std::unique_ptr<float[]>(new float[Ceil(p.features, wide) * lines * wide])};
}

// Fills in one panel.
inline void Pack(const Plan& p, const Entries& k, int64_t panel, Panels& panels) {
  int64_t wide = panels.step, e = panel * wide, count = std::min(wide, p.features - e);
  float* to = panels.packed.get() + panel * panels.panel;
  if (count < wide) std::fill_n(to, panels.panel, 0.0f);
  for (int64_t i = 0; i < p.rows; ++i) {
    for (int64_t j = 0; j < p.columns; ++j, to += p.depth * wide) {
      const float* from = k.first + i * k.row + j * k.column + e * k.feature;
      if (k.feature == 1) {
        for (int64_t d = 0; d < p.depth; ++d) std::copy_n(from + d * k.depth, count, to + d * wide);
      } else {
        for (int64_t f = 0; f < count; ++f) {
          for (int64_t d = 0; d < p.depth; ++d) to[d * wide + f] = from[f * k.feature + d * k.depth];
        }
      }
    }
  }
}

// Result rows [from, to) of one image or two; from one to the next it is `out_size` in the results.
inline void Convolve(const Plan& p, int64_t images, const float* source, const Panels& panels, float* out,
                     int64_t out_size, int64_t from, int64_t to) {
  thread_local std::vector<float> frame;
  int64_t vectors = Vectors(p), wide = vectors * kLanes, block = p.block(), size = p.height * p.width * p.depth;
  auto results = vectors == 1 ? ResultsOfRow<1> : ResultsOfRow<2>;
  for (int64_t begin = from; begin < to; begin += block) {
    int64_t end = std::min(begin + block, to), frame_size = p.frame(end - begin);
    frame.resize(images * frame_size);
    for (int64_t i = 0; i < images; ++i) Frame(p, source + i * size, begin, end, frame.data() + i * frame_size);
    for (int64_t e = 0; e < p.features; e += wide) {
      const float* kernel = panels.data() + e / wide * panels.panel;
      for (int64_t h = begin; h < end; ++h) {
        int64_t first = p.first(h), place = (p.first_row + h * p.apart) * p.out_width + p.first_column;
        const float* rows = frame.data() + ((h - begin) * p.stride + first) * p.framed();
        results(p, images, p.end(h) - first, rows, frame_size, kernel + first * p.run() * panels.step, panels.step,
                out + place * p.features + e, out_size, p.features - e);
      }
    }
  }
}

}  // namespace jaxprune

#endif  // JAXPRUNE_RESULTS_H_
