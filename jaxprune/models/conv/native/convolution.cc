// A convolution and its two transposes for CPUs: float32, channels last, any window, stride and padding.
//
//   convolution       y[b, h, w, e]  = sum_ijd x[b, hs + i - p, ws + j - p, d] k[i, j, d, e]
//   image_transpose   x'[b, r, c, d] = sum_ije y[b, (r + p - i) / s, (c + p - j) / s, e] k[i, j, d, e], where s divides
//   kernel_transpose  k'[i, j, d, e] = sum_bhw x[b, hs + i - p, ws + j - p, d] y[b, h, w, e]
//
// All operands have a leading axis R over which both are mapped. A window's row is one run of numbers in memory, so the
// inner loops are products of a register tile: one number of the image, spread over a vector, times vectors of
// neighbouring channels. A strided image transpose is s * s convolutions without stride, one for each remainder.
// Windows of 3x3 over multiples of 16 channels go by Winograd's form (tiles.h), which multiplies 2.25 times less, where
// there are enough of them. The order of every sum is fixed by the shapes, whatever the number of threads.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "parallel.h"
#include "plan.h"
#include "products.h"
#include "results.h"
#include "winograd.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace jaxprune {
namespace {

constexpr int64_t kTotals = 1 << 19;  // numbers of all parts' sums for the kernel's transpose
constexpr int64_t kPixels = 1024;     // results of which a part has at least as many
constexpr int64_t kTiles = 64;        // tiles of which a part has at least as many

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

// The kernels of all replicas as they are read: packed, transformed, or where they are.
class Kernels {
 public:
  Kernels(const Plan& plan, const Entries& entries, int64_t replicas, int64_t size, bool winograd) : plan_(plan) {
    for (int64_t r = 0; r < replicas; ++r) {
      entries_.push_back(entries);
      entries_.back().first += r * size;
      panels_.push_back(Arrange(plan, entries_.back()));
    }
    if (winograd) tiles_.reset(new float[replicas * KernelSize(plan)]);
  }

  // What is to be done before they are read: so many tasks.
  int64_t tasks() const {
    bool as_they_are = panels_.empty() || (!tiles_ && !panels_.front().packed);
    return as_they_are ? 0 : panels_.size() * each();
  }
  void Prepare(int64_t task) {
    int64_t r = task / each(), panel = task % each();
    if (panels_[r].packed) Pack(plan_, entries_[r], panel, panels_[r]);
    if (tiles_) KernelTiles(plan_, panels_[r], panel, tiles_.get() + r * KernelSize(plan_));
  }

  const Panels& operator[](int64_t replica) const { return panels_[replica]; }
  const float* tiles(int64_t replica) const { return tiles_.get() + replica * KernelSize(plan_); }

 private:
  int64_t each() const { return Ceil(plan_.panels(), Vectors(plan_)); }
  Plan plan_;
  std::vector<Entries> entries_;
  std::vector<Panels> panels_;
  std::unique_ptr<float[]> tiles_;
};

// All images' convolution by Winograd's form, in as many blocks of tiles for each of the threads.
void ConvolveTiles(ffi::ThreadPool& pool, const Plan& p, int64_t replicas, int64_t batch, const float* source,
                   Kernels& kernels, float* out) {
  int64_t threads = pool.num_threads(), tiles = batch * TilesOf(p), before = kernels.tasks();
  int64_t blocks = Ceil(Ceil(tiles, TilesTogether(p)), threads) * threads, each = Ceil(tiles, blocks);
  int64_t images = batch * p.height * p.width * p.depth, results = batch * p.out_rows * p.out_columns * p.features;
  Parallel(pool, before, before + replicas * blocks, [&](int64_t task) {
    if (task < before) return kernels.Prepare(task);
    int64_t r = (task - before) / blocks, block = (task - before) % blocks;
    int64_t from = std::min(tiles, block * each), to = std::min(tiles, from + each);
    if (from < to) Filter(p, source + r * images, kernels.tiles(r), from, to, out + r * results);
  });
}

ffi::Error Convolution(ffi::ThreadPool pool, In x, In k, Out out, int64_t stride, int64_t padding) {
  auto xs = x.dimensions(), ks = k.dimensions();
  Plan p = Forward(xs[2], xs[3], xs[4], ks[1], ks[2], ks[4], stride, padding);
  int64_t batch = xs[1], parts = Parts(pool, xs[0] * batch, p.out_rows), each = Ceil(p.out_rows, parts);
  int64_t depth = p.depth * p.features;
  bool winograd = Winograd(p, batch);
  Entries entries = {k.typed_data(), p.columns * depth, depth, p.features, 1};
  Kernels kernels(p, entries, xs[0], p.rows * p.columns * depth, winograd);
  if (winograd) {
    ConvolveTiles(pool, p, xs[0], batch, x.typed_data(), kernels, out->typed_data());
    return ffi::Error::Success();
  }
  int64_t together = Together(p), groups = Ceil(batch, together), size = p.height * p.width * p.depth;
  int64_t out_size = p.out_rows * p.out_columns * p.features;
  int64_t before = kernels.tasks();
  Parallel(pool, before, before + xs[0] * groups * parts, [&](int64_t task) {
    if (task < before) return kernels.Prepare(task);
    int64_t item = task - before, group = item / parts, from = item % parts * each,
            to = std::min(from + each, p.out_rows);
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
  int64_t before = 0;
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
      Entries entries = {first, -stride * ks[2] * depth, -stride * depth, 1, ks[4]};
      remainders.emplace_back(p, Kernels(p, entries, ys[0], kernel_size, stride == 1 && Winograd(p, batch)));
      before += remainders.back().second.tasks();
    }
  }
  if (stride == 1 && !remainders.empty() && Winograd(remainders[0].first, batch)) {
    auto& [p, kernels] = remainders[0];
    ConvolveTiles(pool, p, ys[0], batch, y.typed_data(), kernels, out->typed_data());
    return ffi::Error::Success();
  }
  int64_t size = ys[2] * ys[3] * ys[4], out_size = xs[2] * xs[3] * xs[4];
  int64_t together = whole && !remainders.empty() ? Together(remainders[0].first) : 1, groups = Ceil(batch, together);
  int64_t split = Parts(pool, ys[0] * batch * remainders.size(), Ceil(xs[2], stride));
  if (!whole) std::memset(out->typed_data(), 0, ys[0] * batch * out_size * sizeof(float));
  Parallel(pool, before, before + ys[0] * groups * split, [&](int64_t task) {
    if (task < before) {
      for (auto& [p, kernels] : remainders) {
        if (task < kernels.tasks()) return kernels.Prepare(task);
        task -= kernels.tasks();
      }
    }
    int64_t item = task - before, group = item / split, b = group % groups * together,
            image = group / groups * batch + b;
    for (const auto& [p, kernels] : remainders) {
      int64_t each = Ceil(p.out_rows, split), from = item % split * each, to = std::min(from + each, p.out_rows);
      Convolve(p, std::min(together, batch - b), y.typed_data() + image * size, kernels[group / groups],
               out->typed_data() + image * out_size, out_size, from, to);
    }
  });
  return ffi::Error::Success();
}

// The kernels' transpose by Winograd's form.
void CorrelateTiles(ffi::ThreadPool& pool, const Plan& p, int64_t replicas, int64_t batch, const float* source,
                    const float* results, float* out) {
  int64_t tiles = batch * TilesOf(p), size = kPlaces * p.depth * p.features, parts = 1;
  while (replicas * parts < 8 && 2 * parts * kTiles <= tiles && 2 * parts * size <= kTotals) parts *= 2;
  int64_t each = Ceil(tiles, parts), pairs = Ceil(p.panels(), 2),
          wanted = Ceil(2 * pool.num_threads(), replicas * parts);
  int64_t cuts = std::clamp<int64_t>(wanted, 1, pairs), images = batch * p.height * p.width * p.depth;
  int64_t pixels = batch * p.out_rows * p.out_columns * p.features, kernel = 9 * p.depth * p.features;
  if (parts == 1 && cuts == 1) {  // such as one image for each replica: no thread needs another's sums
    return Parallel(pool, 0, replicas, [&](int64_t r) {
      thread_local std::vector<float> total;
      total.resize(size);
      FilterTranspose(p, source + r * images, results + r * pixels, 0, tiles, 0, p.features, total.data());
      for (int64_t d = 0; d < p.depth; ++d) KernelOfTiles(p, total.data(), 1, size, d, out + r * kernel);
    });
  }
  std::unique_ptr<float[]> totals(new float[replicas * parts * size]);
  int64_t before = replicas * parts * cuts;
  Parallel(pool, before, before + replicas * p.depth, [&](int64_t task) {
    if (task < before) {
      int64_t cut = task % cuts, part = task / cuts, r = part / parts, from = std::min(tiles, part % parts * each);
      FilterTranspose(p, source + r * images, results + r * pixels, from, std::min(tiles, from + each),
                      cut * pairs / cuts * 2 * kLanes, std::min(p.features, (cut + 1) * pairs / cuts * 2 * kLanes),
                      totals.get() + part * size);
    } else {
      int64_t r = (task - before) / p.depth, d = (task - before) % p.depth;
      KernelOfTiles(p, totals.get() + r * parts * size, parts, size, d, out + r * kernel);
    }
  });
}

ffi::Error KernelTranspose(ffi::ThreadPool pool, In x, In y, Out out, int64_t stride, int64_t padding) {
  auto xs = x.dimensions(), ks = out->dimensions();
  Plan p = Forward(xs[2], xs[3], xs[4], ks[1], ks[2], ks[4], stride, padding);
  if (Winograd(p, xs[1])) {
    CorrelateTiles(pool, p, xs[0], xs[1], x.typed_data(), y.typed_data(), out->typed_data());
    return ffi::Error::Success();
  }
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
  int64_t before = xs[0] * parts * cuts * rows;
  Parallel(pool, before, before + (in_place ? 0 : xs[0] * p.rows), [&](int64_t task) {
    if (task < before) {
      int64_t row = task % rows, cut = task / rows % cuts, part = task / rows / cuts;
      int64_t from = std::min(batch, part % parts * each), image = part / parts * batch + from;
      Part of = {row, rows > 1 ? row + 1 : p.rows, cut * pairs / cuts * 2 * kLanes,
                 std::min(wide, (cut + 1) * pairs / cuts * 2 * kLanes)};
      Correlate(p, of, x.typed_data() + image * p.height * p.width * p.depth,
                y.typed_data() + image * p.out_rows * p.out_columns * p.features, std::min(each, batch - from),
                totals + part * size);
      return;
    }
    int64_t r = (task - before) / p.rows, run = p.run(), begin = (task - before) % p.rows * run;
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
