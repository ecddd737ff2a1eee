// Winograd's F(2x2, 3x3): images, kernels and results as tiles that are multiplied number by number.
//
// The 4x4 pixels under a tile of 2x2 results and the kernel are transformed, multiplied, and transformed back (Lavin
// and Gray, CVPR 2016, equations 8 and 12): sixteen products for four results of a 3x3 window, in place of 36. All
// transforms add and halve. A number that is not finite spreads over the tiles that it lies under.

#ifndef JAXPRUNE_TILES_H_
#define JAXPRUNE_TILES_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "plan.h"
#include "results.h"

namespace jaxprune {

constexpr int kPlaces = 16;  // numbers of a transformed tile

inline int64_t TileRows(const Plan& p) { return Ceil(p.out_rows, 2); }
inline int64_t TileColumns(const Plan& p) { return Ceil(p.out_columns, 2); }
inline int64_t TilesOf(const Plan& p) { return TileRows(p) * TileColumns(p); }

// From one number of transformed tiles to the next: a line more than they take, as else all sixteen would share one set
// of the first cache.
inline int64_t Apart(int64_t count, int64_t channels) { return count * channels + 16; }

// One direction of each transform, on four numbers that are `S` apart: B'd, Gk, A'm and their transposes.
template <int S>
inline void Differences(Vector* d) {
  Vector a = d[0] - d[2 * S], b = d[S] + d[2 * S], c = d[2 * S] - d[S], e = d[S] - d[3 * S];
  d[0] = a, d[S] = b, d[2 * S] = c, d[3 * S] = e;
}
template <int S>
inline void KernelForth(Vector* k) {  // from three
  Vector ends = (k[0] + k[2 * S]) * 0.5f, middle = k[S] * 0.5f;
  k[3 * S] = k[2 * S], k[S] = ends + middle, k[2 * S] = ends - middle;
}
template <int S>
inline void KernelBack(Vector* u) {  // to three
  Vector half = (u[S] + u[2 * S]) * 0.5f, difference = (u[S] - u[2 * S]) * 0.5f;
  u[0] += half, u[S] = difference, u[2 * S] = half + u[3 * S];
}
template <int S>
inline void Sums(Vector* m) {  // to two
  Vector a = m[0] + m[S] + m[2 * S], b = m[S] - m[2 * S] - m[3 * S];
  m[0] = a, m[S] = b;
}
template <int S>
inline void Spread(Vector* y) {  // from two
  Vector a = y[0], b = y[S];
  y[S] = a + b, y[2 * S] = a - b, y[3 * S] = -b;
}

// Where a tile of the images is: its first result.
struct Tile {
  int64_t image, row, column;
  Tile(const Plan& p, int64_t number)
      : image(number / TilesOf(p)),
        row(number % TilesOf(p) / TileColumns(p) * 2),
        column(number % TileColumns(p) * 2) {}
  void Next(const Plan& p) {
    if ((column += 2) < p.out_columns) return;
    column = 0;
    if ((row += 2) < p.out_rows) return;
    row = 0, ++image;
  }
  int64_t result(const Plan& p) const { return ((image * p.out_rows + row) * p.out_columns + column) * p.features; }
};

// Tiles [from, to) of the source, transformed: [16, to - from, depth].
inline void ImageTiles(const Plan& p, const float* source, int64_t from, int64_t to, float* tiles) {
  thread_local std::vector<float> zeros;
  if (static_cast<int64_t>(zeros.size()) < p.depth) zeros.assign(p.depth, 0);
  int64_t apart = Apart(to - from, p.depth), line = p.width * p.depth;
  Tile tile(p, from);
  for (int64_t number = from; number < to; ++number, tile.Next(p), tiles += p.depth) {
    int64_t row = p.top + tile.row, column = p.left + tile.column;
    const float* first = source + (tile.image * p.height + row) * line + column * p.depth;
    const float* pixels[kPlaces];
    for (int i = 0; i < kPlaces; ++i) pixels[i] = first + i / 4 * line + i % 4 * p.depth;
    if (row < 0 || row + 4 > p.height || column < 0 || column + 4 > p.width) {
      for (int i = 0; i < kPlaces; ++i) {
        int64_t r = row + i / 4, c = column + i % 4;
        if (r < 0 || r >= p.height || c < 0 || c >= p.width) pixels[i] = zeros.data();
      }
    }
    for (int64_t d = 0; d < p.depth; d += kLanes) {
      Vector v[kPlaces];
      for (int i = 0; i < kPlaces; ++i) v[i] = Load(pixels[i] + d);
      for (int j = 0; j < 4; ++j) Differences<4>(v + j);
      for (int i = 0; i < 4; ++i) Differences<1>(v + 4 * i);
      for (int i = 0; i < kPlaces; ++i) Put(tiles + i * apart + d, v[i]);
    }
  }
}

// Channels [first, last) of tiles [from, to) of results, by the transpose of what makes results of tiles:
// [16, to - from, last - first].
inline void ResultTiles(const Plan& p, const float* results, int64_t from, int64_t to, int64_t first, int64_t last,
                        float* tiles) {
  int64_t apart = Apart(to - from, last - first);
  Tile tile(p, from);
  for (int64_t number = from; number < to; ++number, tile.Next(p), tiles += last - first) {
    bool below = tile.row + 1 < p.out_rows, right = tile.column + 1 < p.out_columns;
    const float* y = results + tile.result(p);
    const float* next = y + p.out_columns * p.features;
    for (int64_t e = first; e < last; e += kLanes) {
      Vector v[kPlaces] = {};
      v[0] = Load(y + e);
      if (right) v[1] = Load(y + p.features + e);
      if (below) v[4] = Load(next + e);
      if (below && right) v[5] = Load(next + p.features + e);
      for (int j = 0; j < 2; ++j) Spread<4>(v + j);
      for (int i = 0; i < 4; ++i) Spread<1>(v + 4 * i);
      for (int i = 0; i < kPlaces; ++i) Put(tiles + i * apart + (e - first), v[i]);
    }
  }
}

// Channels [e, e + wide) of the results of tiles [from, to), from their products [16, to - from, wide].
inline void TileResults(const Plan& p, const float* products, int64_t from, int64_t to, int64_t e, int64_t wide,
                        float* out) {
  int64_t apart = Apart(to - from, wide);
  Tile tile(p, from);
  for (int64_t number = from; number < to; ++number, tile.Next(p), products += wide) {
    bool below = tile.row + 1 < p.out_rows, right = tile.column + 1 < p.out_columns;
    float* y = out + tile.result(p) + e;
    float* next = y + p.out_columns * p.features;
    for (int64_t n = 0; n < wide; n += kLanes) {
      Vector m[kPlaces];
      for (int i = 0; i < kPlaces; ++i) m[i] = Load(products + i * apart + n);
      for (int j = 0; j < 4; ++j) Sums<4>(m + j);
      for (int i = 0; i < 2; ++i) Sums<1>(m + 4 * i);
      Put(y + n, m[0]);
      if (right) Put(y + p.features + n, m[1]);
      if (below) Put(next + n, m[4]);
      if (below && right) Put(next + p.features + n, m[5]);
    }
  }
}

// Numbers of a transformed kernel: for every panel [16, depth, channels of the panel].
inline int64_t KernelSize(const Plan& p) {
  return kPlaces * Apart(p.depth, Vectors(p) * kLanes) * Ceil(p.features, Vectors(p) * kLanes);
}

// One panel of a transformed kernel.
inline void KernelTiles(const Plan& p, const Panels& panels, int64_t panel, float* tiles) {
  int64_t whole = Vectors(p) * kLanes, wide = std::min(whole, p.features - panel * whole), step = panels.step;
  int64_t apart = Apart(p.depth, whole);
  const float* kernel = panels.data() + panel * panels.panel;
  tiles += panel * kPlaces * apart;
  for (int64_t d = 0; d < p.depth; ++d) {
    for (int64_t n = 0; n < wide; n += kLanes) {
      Vector k[kPlaces];
      for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) k[4 * i + j] = Load(kernel + ((i * 3 + j) * p.depth + d) * step + n);
      }
      for (int j = 0; j < 3; ++j) KernelForth<4>(k + j);
      for (int i = 0; i < 4; ++i) KernelForth<1>(k + 4 * i);
      for (int i = 0; i < kPlaces; ++i) Put(tiles + i * apart + d * wide + n, k[i]);
    }
  }
}

// The transposed kernel [3, 3, depth, features] from totals of parts that are `apart` apart.
inline void KernelOfTiles(const Plan& p, const float* totals, int64_t parts, int64_t apart, int64_t d, float* out) {
  for (int64_t e = 0; e < p.features; e += kLanes) {
    Vector u[kPlaces];
    for (int i = 0; i < kPlaces; ++i) {
      const float* from = totals + (i * p.depth + d) * p.features + e;
      u[i] = Load(from);
      for (int64_t part = 1; part < parts; ++part) u[i] += Load(from + part * apart);
    }
    for (int j = 0; j < 4; ++j) KernelBack<4>(u + j);
    for (int i = 0; i < 3; ++i) KernelBack<1>(u + 4 * i);
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) Put(out + ((i * 3 + j) * p.depth + d) * p.features + e, u[4 * i + j]);
    }
  }
}

}  // namespace jaxprune

#endif  // JAXPRUNE_TILES_H_
