// What is computed: windows on a source, and where their results go. Rows of the source are framed by zeros in a copy.

#ifndef JAXPRUNE_PLAN_H_
#define JAXPRUNE_PLAN_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace jaxprune {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kTile = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8, kTile = 8;
#else
constexpr int kLanes = 4, kTile = 8;
#endif
// Numbers of the source that are framed at a time: they stay in the second cache.
constexpr int64_t kFrame = 32768;
// Numbers of a kernel that is read where it is: in a larger one, neighbours in a window would share too few cache sets.
constexpr int64_t kNear = 65536;

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

inline Vector Load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
inline void Put(float* to, Vector v) { *reinterpret_cast<Vector*>(to) = v; }

inline int64_t Ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A convolution without stride or with one, of which the results may lie apart.
struct Plan {
  int64_t height, width, depth;   // of the source
  int64_t rows, columns, stride;  // of the window
  int64_t top, left;              // where the first window begins, in pixels of the source: negative is padding
  int64_t out_rows, out_columns;  // how many results
  int64_t apart, first_row, first_column, out_width, features;  // where they go
  int64_t run() const { return columns * depth; }
  int64_t panels() const { return Ceil(features, kLanes); }
  int64_t wide() const { return panels() * kLanes; }
  int64_t framed() const { return ((out_columns - 1) * stride + columns) * depth; }  // numbers of a framed row
  int64_t frame(int64_t results) const { return ((results - 1) * stride + rows) * framed(); }  // of so many rows
  // The rows of the window that meet the source where result row h is: the others meet zeros.
  int64_t first(int64_t h) const { return std::clamp<int64_t>(-(top + h * stride), 0, rows); }
  int64_t end(int64_t h) const { return std::clamp<int64_t>(height - (top + h * stride), first(h), rows); }
  // Rows of results to be computed from one frame.
  int64_t block() const {
    int64_t fits = (kFrame / framed() - rows) / stride + 1;
    return std::clamp<int64_t>(fits, std::min(out_rows, Ceil(16, out_columns)), out_rows);
  }
};

// The rows of the source under result rows [from, to), with zeros where there is no source.
inline void Frame(const Plan& p, const float* source, int64_t from, int64_t to, float* frame) {
  int64_t rows = (to - from - 1) * p.stride + p.rows, begin = p.top + from * p.stride, width = p.framed() / p.depth;
  int64_t before = std::clamp<int64_t>(-p.left, 0, width);
  int64_t skipped = std::max<int64_t>(p.left, 0);
  int64_t copied = std::clamp<int64_t>(p.width - skipped, 0, width - before);
  for (int64_t r = 0; r < rows; ++r) {
    float* row = frame + r * width * p.depth;
    int64_t at = begin + r;
    if (at < 0 || at >= p.height) {
      std::memset(row, 0, width * p.depth * sizeof(float));
      continue;
    }
    std::memset(row, 0, before * p.depth * sizeof(float));
    std::memcpy(row + before * p.depth, source + (at * p.width + skipped) * p.depth, copied * p.depth * sizeof(float));
    std::memset(row + (before + copied) * p.depth, 0, (width - before - copied) * p.depth * sizeof(float));
  }
}

}  // namespace jaxprune

#endif  // JAXPRUNE_PLAN_H_
