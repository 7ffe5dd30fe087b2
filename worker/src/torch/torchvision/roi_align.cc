// The weight of a pixel in a bin is a weight of its row times a weight of its column: the bilinear samples of a bin lie on a
// grid. So both forms compute the weights of each axis first, and then two weighted sums.

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/Dispatch.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "operators.h"

namespace darkroom {
namespace {

// Most samples of one side of a bin, where there is one for each pixel.
constexpr int64_t SAMPLES_MAX = 4096;
// Most numbers in the intermediate result of one product.
constexpr int64_t CHUNK_NUMBERS = 64 << 20;

void check(const at::Tensor &maps, const at::Tensor &regions, int64_t rows, int64_t columns) {
  TORCH_CHECK(maps.dim() == 4, "roi_align: the input must be [n, channels, height, width], not ", maps.sizes());
  TORCH_CHECK(regions.dim() == 2 && regions.size(1) == 5, "roi_align: the regions must be [k, 5], not ", regions.sizes());
  TORCH_CHECK(rows > 0 && columns > 0, "roi_align: the output must have rows and columns");
}

// How much each pixel of one axis counts in each bin of one region.
template <typename T> struct Axis {
  // `T[bins, length]`. Of bin `b`, only the pixels from `first[b]` to before `end[b]` count.
  std::vector<T> weights;
  std::vector<int64_t> first, end;
  T samples; // of each bin

  Axis(int64_t bins, int64_t length) : weights(bins * length), first(bins), end(bins), samples(0) {}

  void place(T from, T to, int64_t samples_wanted, bool aligned) {
    const int64_t bins = static_cast<int64_t>(first.size()), length = static_cast<int64_t>(weights.size()) / bins;
    std::fill(weights.begin(), weights.end(), T(0));
    const T extent = aligned ? to - from : std::max(to - from, T(1));
    const T bin = extent / static_cast<T>(bins);
    samples = samples_wanted > 0 ? static_cast<T>(samples_wanted) : std::ceil(bin);
    if (!std::isfinite(from) || !std::isfinite(samples)) samples = 0;
    for (int64_t b = 0; b < bins; ++b) {
      first[b] = length, end[b] = 0;
      const T start = from + static_cast<T>(b) * bin;
      const auto [low, high] = samples_inside(start, bin, length);
      for (int64_t i = low; i < high; ++i) {
        T at = start + (static_cast<T>(i) + T(0.5)) * bin / samples;
        if (at < T(-1) || at > static_cast<T>(length)) continue;
        at = std::max(at, T(0));
        const int64_t pixel = static_cast<int64_t>(at);
        if (pixel >= length - 1) {
          add(b, length - 1, T(1));
        } else {
          const T part = at - static_cast<T>(pixel);
          add(b, pixel, T(1) - part);
          add(b, pixel + 1, part);
        }
      }
    }
  }

private:
  // A range of samples with all that may be inside: a huge region has most of its samples elsewhere.
  std::pair<int64_t, int64_t> samples_inside(T start, T bin, int64_t length) const {
    const double step = static_cast<double>(bin) / samples, most = std::min(static_cast<double>(samples), 1e15);
    if (!(most >= 1)) return {0, 0};
    if (!(step > 0)) return {0, std::min(static_cast<int64_t>(most), SAMPLES_MAX)};
    const double low = std::floor((-1.0 - start) / step - 0.5) - 2, high = std::ceil((length - start) / step - 0.5) + 3;
    return {static_cast<int64_t>(std::clamp(low, 0.0, most)), static_cast<int64_t>(std::clamp(high, 0.0, most))};
  }

  void add(int64_t bin, int64_t pixel, T weight) {
    const int64_t length = static_cast<int64_t>(weights.size() / first.size());
    weights[bin * length + pixel] += weight;
    first[bin] = std::min(first[bin], pixel);
    end[bin] = std::max(end[bin], pixel + 1);
  }
};

// `maps` is `T[n, height, width, channels]`, `sums` is `T[k, rows, columns, channels]` and zero.
template <typename T>
void sum_bins(const T *maps, c10::IntArrayRef size, const at::Tensor &regions, double scale, int64_t rows, int64_t columns,
              int64_t samples, bool aligned, T *sums) {
  const int64_t channels = size[1], height = size[2], width = size[3];
  const T *region = regions.const_data_ptr<T>();
  const T factor = static_cast<T>(scale), shift = aligned ? T(0.5) : T(0);
  Axis<T> down(rows, height), across(columns, width);
  for (int64_t k = 0; k < regions.size(0); ++k, region += 5) {
    TORCH_CHECK(region[0] >= 0 && region[0] < static_cast<T>(size[0]), "roi_align: a region is of input ", region[0],
                " of ", size[0]);
    const T *map = maps + static_cast<int64_t>(region[0]) * height * width * channels;
    across.place(region[1] * factor - shift, region[3] * factor - shift, samples, aligned);
    down.place(region[2] * factor - shift, region[4] * factor - shift, samples, aligned);
    const T count = std::max(down.samples * across.samples, T(1));
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; ++column, sums += channels) {
        for (int64_t y = down.first[row]; y < down.end[row]; ++y) {
          const T row_weight = down.weights[row * height + y];
          for (int64_t x = across.first[column]; x < across.end[column]; ++x) {
            const T weight = row_weight * across.weights[column * width + x];
            if (weight == T(0)) continue;
            const T *pixel = map + (y * width + x) * channels;
            for (int64_t c = 0; c < channels; ++c) sums[c] += weight * pixel[c];
          }
        }
        for (int64_t c = 0; c < channels; ++c) sums[c] /= count;
      }
    }
  }
}

// `Axis` for all regions at once: the weights `[k, bins, length]`, and the samples of each bin `[k, 1]`.
std::pair<at::Tensor, at::Tensor> axis_weights(const at::Tensor &from, const at::Tensor &to, int64_t bins, int64_t length,
                                               int64_t samples_wanted, bool aligned) {
  const at::Tensor extent = aligned ? to - from : (to - from).clamp_min(1);
  const at::Tensor bin = (extent / static_cast<double>(bins)).unsqueeze(1);
  at::Tensor samples = samples_wanted > 0 ? at::full_like(bin, static_cast<double>(samples_wanted)) : bin.ceil().clamp_min(0);
  samples = at::where(from.unsqueeze(1).isfinite().logical_and(bin.isfinite()), samples, at::zeros_like(samples));
  const int64_t most = samples_wanted > 0 ? samples_wanted : static_cast<int64_t>(samples.max().item<double>());
  TORCH_CHECK(most <= SAMPLES_MAX, "roi_align: a region is too large: ", most, " samples on a side of a bin");
  const at::Tensor start = from.unsqueeze(1) + at::arange(bins, from.options()) * bin;
  const at::Tensor pixels = at::arange(length, from.options());
  at::Tensor weights = at::zeros({from.size(0), bins, length}, from.options());
  for (int64_t i = 0; i < most; ++i) {
    const at::Tensor at = start + (bin * (static_cast<double>(i) + 0.5)) / samples;
    const at::Tensor counts = at.ge(-1).logical_and(at.le(length)).logical_and(samples.gt(static_cast<double>(i)));
    const at::Tensor distance = at.clamp(0, length - 1).unsqueeze(2).sub(pixels).abs();
    const at::Tensor added = at::where(counts.unsqueeze(2), distance.neg().add(1).clamp_min(0), at::zeros_like(distance));
    weights.add_(added);
  }
  return {weights, samples};
}

} // namespace

at::Tensor roi_align_on_cpu(const at::Tensor &maps, const at::Tensor &regions, double scale, int64_t rows, int64_t columns,
                            int64_t samples, bool aligned) {
  check(maps, regions, rows, columns);
  const auto type = computed_in(maps.scalar_type());
  const auto channels_last = at::MemoryFormat::ChannelsLast;
  const at::Tensor input = maps.to(type).contiguous(channels_last), given = regions.to(type).contiguous();
  const at::Tensor output = at::empty({regions.size(0), maps.size(1), rows, columns}, input.options(), channels_last);
  output.zero_();
  if (output.numel() == 0) return output.to(maps.scalar_type()).contiguous();
  TORCH_CHECK(input.numel() > 0, "roi_align: the input is empty");
  AT_DISPATCH_FLOATING_TYPES(type, "roi_align", [&] {
    sum_bins(input.const_data_ptr<scalar_t>(), input.sizes(), given, scale, rows, columns, samples, aligned,
             output.mutable_data_ptr<scalar_t>());
  });
  return output.to(maps.scalar_type()).contiguous();
}

at::Tensor roi_align_anywhere(const at::Tensor &maps, const at::Tensor &regions, double scale, int64_t rows, int64_t columns,
                              int64_t samples, bool aligned) {
  check(maps, regions, rows, columns);
  const auto type = computed_in(maps.scalar_type());
  const at::Tensor input = maps.to(type), given = regions.to(type);
  const int64_t channels = maps.size(1), height = maps.size(2), width = maps.size(3);
  const at::Tensor output = at::zeros({regions.size(0), channels, rows, columns}, input.options());
  if (output.numel() == 0) return output.to(maps.scalar_type());
  TORCH_CHECK(input.numel() > 0, "roi_align: the input is empty");
  const at::Tensor corners = given * scale - (aligned ? 0.5 : 0.0);
  const auto corner = [&](int64_t column) { return corners.select(1, column); };
  const auto [across, samples_x] = axis_weights(corner(1), corner(3), columns, width, samples, aligned);
  const auto [down, samples_y] = axis_weights(corner(2), corner(4), rows, height, samples, aligned);
  const at::Tensor counts = (samples_x * samples_y).clamp_min(1).view({-1, 1, 1, 1});
  const int64_t chunk = std::max<int64_t>(1, CHUNK_NUMBERS / (rows * channels * width));
  for (int64_t n = 0; n < maps.size(0); ++n) {
    const at::Tensor of_map = given.select(1, 0).to(at::kLong).eq(n).nonzero().squeeze(1);
    const at::Tensor map = input.select(0, n).permute({1, 0, 2}).reshape({height, channels * width});
    for (const at::Tensor &some : of_map.split(chunk)) {
      const int64_t k = some.size(0);
      if (k == 0) continue;
      const at::Tensor by_row = at::matmul(down.index_select(0, some).view({k * rows, height}), map);
      const at::Tensor sums =
          at::matmul(by_row.view({k, rows * channels, width}), across.index_select(0, some).transpose(1, 2));
      output.index_copy_(0, some, sums.view({k, rows, channels, columns}).permute({0, 2, 1, 3}));
    }
  }
  return (output / counts).to(maps.scalar_type());
}

} // namespace darkroom
