// A direct convolution and its two transposes for CPUs: float32, channels last, any window, stride and padding.
//
//   convolution       y[b, h, w, e]  = sum_ijd x[b, hs + i - p, ws + j - p, d] k[i, j, d, e]
//   image_transpose   x'[b, r, c, d] = sum_ije y[b, (r + p - i) / s, (c + p - j) / s, e] k[i, j, d, e], where s divides
//   kernel_transpose  k'[i, j, d, e] = sum_bhw x[b, hs + i - p, ws + j - p, d] y[b, h, w, e]
//
// All operands have a leading axis R over which both are mapped. A window's row is one run of numbers in memory, so the
// inner loops are products of a register tile: one number of the image, spread over a vector, times vectors of
// neighbouring channels. A strided image transpose is s * s convolutions without stride, one for each remainder.
// The order of every sum is fixed by the shapes, whatever the number of threads.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "parallel.h"
#include "plan.h"
#include "products.h"
#include "results.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace jaxprune {
namespace {

constexpr int64_t kTotals = 1 << 19;  // numbers of all parts' sums for the kernel's transpose
constexpr int64_t kPixels = 1024;     // results of which a part has at least as many
constexpr int64_t kShared = 1 << 14;  // numbers of kernels from which on they are arranged by several threads

using In = ffi::Buffer<ffi::F32>;
using Out = ffi::ResultBuffer<ffi::F32>;

// Items are blocks of rows of images, so that few images are spread as well as many.
int64_t Parts(ffi::ThreadPool& pool, int64_t images, int64_t rows) {
  return std::clamp<int64_t>(Ceil(4 * pool.num_threads(), std::max<int64_t>(images, 1)), 1, rows);
}

Plan Forward(int64_t height, int64_t width, int64_t depth, int64_t rows, int64_t columns, int64_t features,
             int64_t stride, int64_t padding) {
  int64_t out_rows = (height + 2 * padding - rows) / stride + 1,
          out_columns = (width + 2 * padding - columns) / stride + 1;
  return {height,   width,       depth, rows, columns, stride,      -padding, -padding,
          out_rows, out_columns, 1,     0,    0,       out_columns, features};
}

// The kernels of all replicas as they are read.
class Kernels {
 public:
  Kernels(const Plan& plan, const Entries& entries, int64_t replicas, int64_t size) : plan_(plan) {
    for (int64_t r = 0; r < replicas; ++r) {
      entries_.push_back(entries);
      entries_.back().first += r * size;
      panels_.push_back(Arrange(plan, entries_.back()));
    }
  }

  void Fill(ffi::ThreadPool& pool) {
    int64_t rows = plan_.rows, items = panels_.size() * rows;
    auto fill = [&](int64_t item) { Pack(plan_, entries_[item / rows], item % rows, panels_[item / rows]); };
    if (items * plan_.run() * plan_.features < kShared || panels_.front().packed.empty()) {
      for (int64_t item = 0; item < items; ++item) fill(item);
    } else {
      Parallel(pool, items, fill);
    }
  }

  const Panels& operator[](int64_t replica) const { return panels_[replica]; }

 private:
  Plan plan_;
  std::vector<Entries> entries_;
  std::vector<Panels> panels_;
};

ffi::Error Convolution(ffi::ThreadPool pool, In x, In k, Out out, int64_t stride, int64_t padding) {
  auto xs = x.dimensions(), ks = k.dimensions();
  Plan p = Forward(xs[2], xs[3], xs[4], ks[1], ks[2], ks[4], stride, padding);
  int64_t batch = xs[1], parts = Parts(pool, xs[0] * batch, p.out_rows), each = Ceil(p.out_rows, parts);
  int64_t depth = p.depth * p.features;
  Kernels kernels(p, {k.typed_data(), p.columns * depth, depth, p.features, 1}, xs[0], p.rows * p.columns * depth);
  kernels.Fill(pool);
  int64_t together = Together(p), groups = Ceil(batch, together), size = p.height * p.width * p.depth;
  int64_t out_size = p.out_rows * p.out_columns * p.features;
  Parallel(pool, xs[0] * groups * parts, [&](int64_t item) {
    int64_t group = item / parts, from = item % parts * each, to = std::min(from + each, p.out_rows);
    int64_t b = group % groups * together, image = group / groups * batch + b;
    Convolve(p, std::min(together, batch - b), x.typed_data() + image * size, kernels[group / groups],
             out->typed_data() + image * out_size, out_size, from, to);
  });
  return ffi::Error::Success();
}

// The pixels of one remainder by the stride: which numbers of the kernel reach them, from the nearest pixel of y on.
struct Remainder {
  int64_t taps, last, offset, count;
  Remainder(int64_t remainder, int64_t window, int64_t stride, int64_t padding, int64_t size) {
    int64_t first = (remainder + padding) % stride;
    taps = first < window ? (window - 1 - first) / stride + 1 : 0;
    last = first + (taps - 1) * stride;
    offset = (remainder + padding - last) / stride;
    count = remainder < size ? (size - 1 - remainder) / stride + 1 : 0;
  }
};

ffi::Error ImageTranspose(ffi::ThreadPool pool, In y, In k, Out out, int64_t stride, int64_t padding) {
  auto ys = y.dimensions(), ks = k.dimensions(), xs = out->dimensions();
  int64_t batch = ys[1], kernel_size = ks[1] * ks[2] * ks[3] * ks[4];
  std::vector<std::pair<Plan, Kernels>> remainders;
  bool whole = true;
  for (int64_t a = 0; a < stride; ++a) {
    for (int64_t b = 0; b < stride; ++b) {
      Remainder rows(a, ks[1], stride, padding, xs[2]), columns(b, ks[2], stride, padding, xs[3]);
      if (rows.count == 0 || columns.count == 0) continue;
      if (rows.taps == 0 || columns.taps == 0) {
        whole = false;
        continue;
      }
      Plan p = {ys[2],         ys[3],  ys[4], rows.taps, columns.taps, 1,    rows.offset, columns.offset, rows.count,
                columns.count, stride, a,     b,         xs[3],        xs[4]};
      int64_t depth = ks[3] * ks[4];
      const float* first = k.typed_data() + (rows.last * ks[2] + columns.last) * depth;
      Kernels kernels(p, {first, -stride * ks[2] * depth, -stride * depth, 1, ks[4]}, ys[0], kernel_size);
      kernels.Fill(pool);
      remainders.emplace_back(p, std::move(kernels));
    }
  }
  int64_t size = ys[2] * ys[3] * ys[4], out_size = xs[2] * xs[3] * xs[4];
  int64_t together = whole && !remainders.empty() ? Together(remainders[0].first) : 1, groups = Ceil(batch, together);
  int64_t split = Parts(pool, ys[0] * batch * remainders.size(), Ceil(xs[2], stride));
  if (!whole) std::memset(out->typed_data(), 0, ys[0] * batch * out_size * sizeof(float));
  Parallel(pool, ys[0] * groups * split, [&](int64_t item) {
    int64_t group = item / split, b = group % groups * together, image = group / groups * batch + b;
    for (const auto& [p, kernels] : remainders) {
      int64_t each = Ceil(p.out_rows, split), from = item % split * each, to = std::min(from + each, p.out_rows);
      Convolve(p, std::min(together, batch - b), y.typed_data() + image * size, kernels[group / groups],
               out->typed_data() + image * out_size, out_size, from, to);
    }
  });
  return ffi::Error::Success();
}

ffi::Error KernelTranspose(ffi::ThreadPool pool, In x, In y, Out out, int64_t stride, int64_t padding) {
  auto xs = x.dimensions(), ks = out->dimensions();
  Plan p = Forward(xs[2], xs[3], xs[4], ks[1], ks[2], ks[4], stride, padding);
  int64_t wide = p.wide(), lines = p.rows * p.run(), size = lines * wide, batch = xs[1];
  int64_t pixels = batch * p.out_rows * p.out_columns, parts = 1;
  while (parts < 8 && 2 * parts <= batch && 2 * parts * kPixels <= pixels && 2 * parts * size <= kTotals) parts *= 2;
  // Where the parts are too few for the threads, each is cut by channels and by rows of the window.
  int64_t each = Ceil(batch, parts), pairs = Ceil(p.panels(), 2), wanted = Ceil(4 * pool.num_threads(), xs[0] * parts);
  int64_t cuts = std::clamp<int64_t>(wanted, 1, pairs), rows = wanted > cuts ? p.rows : 1;
  bool in_place = parts == 1 && wide == p.features;
  std::vector<float> room(in_place ? 0 : xs[0] * parts * size);
  float* totals = in_place ? out->typed_data() : room.data();
  if (in_place) std::memset(totals, 0, xs[0] * size * sizeof(float));
  Parallel(pool, xs[0] * parts * cuts * rows, [&](int64_t item) {
    int64_t row = item % rows, cut = item / rows % cuts, part = item / rows / cuts;
    int64_t from = std::min(batch, part % parts * each), image = part / parts * batch + from;
    Part of = {row, rows > 1 ? row + 1 : p.rows, cut * pairs / cuts * 2 * kLanes,
               std::min(wide, (cut + 1) * pairs / cuts * 2 * kLanes)};
    Correlate(p, of, x.typed_data() + image * p.height * p.width * p.depth,
              y.typed_data() + image * p.out_rows * p.out_columns * p.features, std::min(each, batch - from),
              totals + part * size);
  });
  if (in_place) return ffi::Error::Success();
  Parallel(pool, xs[0] * p.rows, [&](int64_t item) {
    int64_t r = item / p.rows, run = p.run(), begin = item % p.rows * run;
    for (int64_t line = begin; line < begin + run; ++line) {
      float* to = out->typed_data() + (r * lines + line) * p.features;
      const float* from = totals + r * parts * size + line * wide;
      std::copy_n(from, p.features, to);
      for (int64_t part = 1; part < parts; ++part) {
        for (int64_t e = 0; e < p.features; ++e) to[e] += from[part * size + e];
      }
    }
  });
  return ffi::Error::Success();
}

#define JAXPRUNE_BIND()             \
  ffi::Ffi::Bind()                  \
      .Ctx<ffi::ThreadPool>()       \
      .Arg<In>()                    \
      .Arg<In>()                    \
      .Ret<ffi::Buffer<ffi::F32>>() \
      .Attr<int64_t>("stride")      \
      .Attr<int64_t>("padding")

}  // namespace

extern "C" {
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxprune_convolution, Convolution, JAXPRUNE_BIND());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxprune_image_transpose, ImageTranspose, JAXPRUNE_BIND());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxprune_kernel_transpose, KernelTranspose, JAXPRUNE_BIND());
}

}  // namespace jaxprune
