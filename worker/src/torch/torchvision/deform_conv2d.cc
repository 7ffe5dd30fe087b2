// A convolution is a product of matrices: a row for each place of the output, with the pixels that the kernel sees there. Here
// these pixels are bilinear samples beside their usual positions.

#include <algorithm>
#include <array>
#include <cmath>

#include <ATen/Dispatch.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "operators.h"

namespace darkroom {
namespace {

// Most bytes of the matrix of samples: it should stay in a cache until it is multiplied.
constexpr int64_t CHUNK_BYTES = 2 << 20;

// All sizes of one convolution.
struct Sizes {
  int64_t images, channels, height, width, out_channels, kernel_y, kernel_x, out_y, out_x;
  int64_t stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x, groups, offset_groups;

  int64_t kernel() const { return kernel_y * kernel_x; }
  int64_t places() const { return out_y * out_x; }
};

Sizes sizes_of(const at::Tensor &input, const at::Tensor &weight, const at::Tensor &offset, const at::Tensor &mask,
               const at::Tensor &bias, int64_t stride_y, int64_t stride_x, int64_t pad_y, int64_t pad_x, int64_t dilation_y,
               int64_t dilation_x, int64_t groups, int64_t offset_groups, bool use_mask) {
  TORCH_CHECK(input.dim() == 4 && weight.dim() == 4 && offset.dim() == 4,
              "deform_conv2d: the input, the weight and the offset must have 4 dimensions");
  const int64_t channels = input.size(1), kernel_y = weight.size(2), kernel_x = weight.size(3);
  TORCH_CHECK(kernel_y > 0 && kernel_x > 0 && stride_y > 0 && stride_x > 0 && dilation_y > 0 && dilation_x > 0 && pad_y >= 0 &&
                  pad_x >= 0,
              "deform_conv2d: kernel, stride and dilation must be at least 1, the padding at least 0");
  TORCH_CHECK(groups > 0 && channels % groups == 0 && weight.size(0) % groups == 0 && weight.size(1) * groups == channels,
              "deform_conv2d: a weight of ", weight.sizes(), " in ", groups, " groups does not fit ", channels, " channels");
  TORCH_CHECK(offset_groups > 0 && channels % offset_groups == 0, "deform_conv2d: ", offset_groups,
              " offset groups do not divide ", channels, " channels");
  const auto side = [](int64_t length, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
    const int64_t room = length + 2 * pad - (dilation * (kernel - 1) + 1);
    return room < 0 ? 0 : room / stride + 1;
  };
  const int64_t out_y = side(input.size(2), kernel_y, stride_y, pad_y, dilation_y);
  const int64_t out_x = side(input.size(3), kernel_x, stride_x, pad_x, dilation_x);
  TORCH_CHECK(out_y > 0 && out_x > 0, "deform_conv2d: an input of ", input.sizes(), " is smaller than the kernel");
  const std::array<int64_t, 4> offset_size{input.size(0), 2 * offset_groups * kernel_y * kernel_x, out_y, out_x};
  TORCH_CHECK(offset.sizes() == at::IntArrayRef(offset_size), "deform_conv2d: the offset must be ",
              at::IntArrayRef(offset_size), ", not ", offset.sizes());
  const std::array<int64_t, 4> mask_size{input.size(0), offset_groups * kernel_y * kernel_x, out_y, out_x};
  TORCH_CHECK(!use_mask || mask.sizes() == at::IntArrayRef(mask_size), "deform_conv2d: the mask must be ",
              at::IntArrayRef(mask_size), ", not ", mask.sizes());
  TORCH_CHECK(bias.dim() == 1 && bias.size(0) == weight.size(0), "deform_conv2d: the bias must be [", weight.size(0),
              "], not ", bias.sizes());
  return {input.size(0), channels, input.size(2), input.size(3), weight.size(0), kernel_y,   kernel_x, out_y,        out_x,
          stride_y,      stride_x, pad_y,         pad_x,         dilation_y,     dilation_x, groups,   offset_groups};
}

// Adds the bilinear sample at `y`, `x` of `map`, `T[height, width, stride]`, times `factor` to `sums`, `T[channels]`.
template <typename T>
void add_sample(const T *map, int64_t height, int64_t width, int64_t stride, int64_t channels, T y, T x, T factor, T *sums) {
  if (!(y > T(-1) && y < static_cast<T>(height) && x > T(-1) && x < static_cast<T>(width))) return;
  const T top = std::floor(y), left = std::floor(x);
  for (int64_t down = 0; down < 2; ++down) {
    const int64_t row = static_cast<int64_t>(top) + down;
    if (row < 0 || row >= height) continue;
    const T row_weight = down ? y - top : T(1) - (y - top);
    for (int64_t right = 0; right < 2; ++right) {
      const int64_t column = static_cast<int64_t>(left) + right;
      if (column < 0 || column >= width) continue;
      const T weight = row_weight * (right ? x - left : T(1) - (x - left)) * factor;
      const T *pixel = map + (row * width + column) * stride;
      for (int64_t c = 0; c < channels; ++c) sums[c] += weight * pixel[c];
    }
  }
}

// Samples for the places from `first` to before `end` of one image, into `T[places, kernel, channels]`.
//
// - map: `T[height, width, channels]`
// - offset: `T[offset groups, kernel, 2, places]`; mask: `T[offset groups, kernel, places]`, or null
template <typename T>
void sample(const T *map, const T *offset, const T *mask, const Sizes &s, int64_t first, int64_t end, T *samples) {
  const int64_t each = s.channels / s.offset_groups;
  std::fill(samples, samples + (end - first) * s.kernel() * s.channels, T(0));
  for (int64_t place = first; place < end; ++place) {
    const int64_t from_y = place / s.out_x * s.stride_y - s.pad_y, from_x = place % s.out_x * s.stride_x - s.pad_x;
    for (int64_t at = 0; at < s.kernel(); ++at) {
      for (int64_t group = 0; group < s.offset_groups; ++group, samples += each) {
        const int64_t plane = group * s.kernel() + at;
        const T y = static_cast<T>(from_y + at / s.kernel_x * s.dilation_y) + offset[2 * plane * s.places() + place];
        const T x = static_cast<T>(from_x + at % s.kernel_x * s.dilation_x) + offset[(2 * plane + 1) * s.places() + place];
        const T factor = mask ? mask[plane * s.places() + place] : T(1);
        add_sample(map + group * each, s.height, s.width, s.channels, each, y, x, factor, samples);
      }
    }
  }
}

} // namespace

at::Tensor deform_conv2d_on_cpu(const at::Tensor &input, const at::Tensor &weight, const at::Tensor &offset,
                                const at::Tensor &mask, const at::Tensor &bias, int64_t stride_y, int64_t stride_x,
                                int64_t pad_y, int64_t pad_x, int64_t dilation_y, int64_t dilation_x, int64_t groups,
                                int64_t offset_groups, bool use_mask) {
  const Sizes s = sizes_of(input, weight, offset, mask, bias, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x, groups,
                           offset_groups, use_mask);
  const auto type = computed_in(input.scalar_type());
  const at::Tensor maps = input.to(type).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor offsets = offset.to(type).contiguous(), masks = mask.to(type).contiguous();
  // [groups, kernel × channels of a group, out channels of a group]
  const at::Tensor weights = weight.to(type)
                                 .reshape({s.groups, s.out_channels / s.groups, s.channels / s.groups, s.kernel()})
                                 .permute({0, 3, 2, 1})
                                 .reshape({s.groups, s.kernel() * s.channels / s.groups, s.out_channels / s.groups});
  const int64_t row_bytes = s.kernel() * s.channels * static_cast<int64_t>(maps.element_size());
  const int64_t chunk = std::clamp<int64_t>(CHUNK_BYTES / std::max<int64_t>(row_bytes, 1), 1, s.places());
  const at::Tensor samples = at::empty({chunk, s.kernel(), s.groups, s.channels / s.groups}, maps.options());
  const at::Tensor output = at::empty({s.images, s.places(), s.groups, s.out_channels / s.groups}, maps.options());
  for (int64_t image = 0; image < s.images; ++image) {
    for (int64_t first = 0; first < s.places(); first += chunk) {
      const int64_t end = std::min(first + chunk, s.places());
      AT_DISPATCH_FLOATING_TYPES(type, "deform_conv2d", [&] {
        const scalar_t *map = maps.const_data_ptr<scalar_t>() + image * s.height * s.width * s.channels;
        const int64_t planes = s.offset_groups * s.kernel() * s.places();
        const scalar_t *factors = use_mask ? masks.const_data_ptr<scalar_t>() + image * planes : nullptr;
        sample(map, offsets.const_data_ptr<scalar_t>() + image * 2 * planes, factors, s, first, end,
               samples.mutable_data_ptr<scalar_t>());
      });
      for (int64_t group = 0; group < s.groups; ++group) {
        const at::Tensor seen = samples.narrow(0, 0, end - first).select(2, group).reshape({end - first, -1});
        output.select(0, image).narrow(0, first, end - first).select(1, group).copy_(at::mm(seen, weights.select(0, group)));
      }
    }
  }
  const at::Tensor sums = output.view({s.images, s.out_y, s.out_x, s.out_channels}) + bias.to(type);
  return sums.permute({0, 3, 1, 2}).to(input.scalar_type()).contiguous();
}

at::Tensor deform_conv2d_anywhere(const at::Tensor &input, const at::Tensor &weight, const at::Tensor &offset,
                                  const at::Tensor &mask, const at::Tensor &bias, int64_t stride_y, int64_t stride_x,
                                  int64_t pad_y, int64_t pad_x, int64_t dilation_y, int64_t dilation_x, int64_t groups,
                                  int64_t offset_groups, bool use_mask) {
  const Sizes s = sizes_of(input, weight, offset, mask, bias, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x, groups,
                           offset_groups, use_mask);
  const auto type = computed_in(input.scalar_type());
  const at::Tensor maps = input.to(type).reshape({s.images, s.offset_groups, s.channels / s.offset_groups, s.height * s.width});
  const at::Tensor offsets = offset.to(type).reshape({s.images, s.offset_groups, s.kernel(), 2, s.places()});
  const at::Tensor weights = weight.to(type).reshape({s.groups, s.out_channels / s.groups, -1});
  const auto numbers = [&](int64_t count) { return at::arange(count, maps.options()); };
  // The usual positions, [kernel, places].
  const auto positions = [&](const at::Tensor &kernel, int64_t dilation, const at::Tensor &places, int64_t stride, int64_t pad) {
    return (kernel * dilation).unsqueeze(1) + (places * stride - pad).unsqueeze(0);
  };
  const at::Tensor usual_y =
      positions(numbers(s.kernel_y).repeat_interleave(s.kernel_x), s.dilation_y,
                numbers(s.out_y).repeat_interleave(s.out_x), s.stride_y, s.pad_y);
  const at::Tensor usual_x = positions(numbers(s.kernel_x).repeat({s.kernel_y}), s.dilation_x,
                                       numbers(s.out_x).repeat({s.out_y}), s.stride_x, s.pad_x);
  const at::Tensor output = at::empty({s.images, s.out_channels, s.out_y, s.out_x}, maps.options());
  for (int64_t image = 0; image < s.images; ++image) {
    // [offset groups, kernel, places]
    at::Tensor y = usual_y + offsets.select(0, image).select(2, 0), x = usual_x + offsets.select(0, image).select(2, 1);
    const at::Tensor is_inside = y.gt(-1).logical_and(y.lt(s.height)).logical_and(x.gt(-1)).logical_and(x.lt(s.width));
    y = at::where(is_inside, y, at::zeros_like(y)), x = at::where(is_inside, x, at::zeros_like(x));
    const at::Tensor top = y.floor(), left = x.floor();
    at::Tensor seen = at::zeros({s.offset_groups, s.channels / s.offset_groups, s.kernel() * s.places()}, maps.options());
    for (int64_t corner = 0; corner < 4; ++corner) {
      const bool down = corner / 2 == 1, right = corner % 2 == 1;
      const at::Tensor row = top + (down ? 1 : 0), column = left + (right ? 1 : 0);
      at::Tensor part = (down ? y - top : 1 - (y - top)) * (right ? x - left : 1 - (x - left));
      part = part * is_inside * row.ge(0) * row.lt(s.height) * column.ge(0) * column.lt(s.width);
      const at::Tensor pixel =
          row.clamp(0, s.height - 1).to(at::kLong) * s.width + column.clamp(0, s.width - 1).to(at::kLong);
      const at::Tensor index = pixel.reshape({s.offset_groups, 1, -1}).expand_as(seen);
      seen.add_(maps.select(0, image).gather(2, index) * part.reshape({s.offset_groups, 1, -1}));
    }
    if (use_mask) seen = seen * mask.select(0, image).to(type).reshape({s.offset_groups, 1, -1});
    const at::Tensor columns = seen.view({s.groups, s.channels / s.groups * s.kernel(), s.places()});
    output.select(0, image).copy_(at::matmul(weights, columns).view({s.out_channels, s.out_y, s.out_x}));
  }
  return (output + bias.to(type).view({1, -1, 1, 1})).to(input.scalar_type());
}

} // namespace darkroom
