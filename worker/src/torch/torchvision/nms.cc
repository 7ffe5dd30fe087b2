#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/tensor.h>

#include "operators.h"

namespace darkroom {
namespace {

void check(const at::Tensor &boxes, const at::Tensor &scores) {
  TORCH_CHECK(boxes.dim() == 2 && boxes.size(1) == 4, "nms: boxes must be [n, 4], not ", boxes.sizes());
  TORCH_CHECK(scores.dim() == 1 && scores.size(0) == boxes.size(0), "nms: scores must be [", boxes.size(0), "], not ",
              scores.sizes());
}

// The largest `T` that is at most `value`: a `T` exceeds one of them exactly if it exceeds the other.
template <typename T> T at_most(double value) {
  const T near = static_cast<T>(value);
  return static_cast<double>(near) > value ? std::nextafter(near, -std::numeric_limits<T>::infinity()) : near;
}

// `boxes` is `T[4, n]`, the highest score first. Returns the positions that stay.
template <typename T> std::vector<int64_t> survivors(const T *boxes, int64_t n, double iou_max) {
  const T *left = boxes, *top = boxes + n, *right = boxes + 2 * n, *bottom = boxes + 3 * n;
  std::vector<T> areas(n);
  for (int64_t i = 0; i < n; ++i) areas[i] = (right[i] - left[i]) * (bottom[i] - top[i]);
  const T limit = at_most<T>(iou_max);
  std::vector<int64_t> stay;
  std::vector<int32_t> is_out(n, 0); // as wide as a float, so that the compiler can use vectors
  for (int64_t i = 0; i < n; ++i) {
    if (is_out[i]) continue;
    stay.push_back(i);
    const T x1 = left[i], y1 = top[i], x2 = right[i], y2 = bottom[i], area = areas[i];
    for (int64_t j = i + 1; j < n; ++j) {
      const T width = std::max(T(0), std::min(x2, right[j]) - std::max(x1, left[j]));
      const T height = std::max(T(0), std::min(y2, bottom[j]) - std::max(y1, top[j]));
      const T shared = width * height;
      is_out[j] |= shared / (area + areas[j] - shared) > limit;
    }
  }
  return stay;
}

} // namespace

at::Tensor nms_on_cpu(const at::Tensor &boxes, const at::Tensor &scores, double iou_max) {
  check(boxes, scores);
  if (boxes.size(0) == 0) return at::empty({0}, scores.options().dtype(at::kLong));
  const at::Tensor order = std::get<1>(at::sort(scores, /*stable=*/true, /*dim=*/0, /*descending=*/true));
  const at::Tensor ordered = boxes.to(computed_in(boxes.scalar_type())).index_select(0, order).t().contiguous();
  std::vector<int64_t> stay;
  AT_DISPATCH_FLOATING_TYPES(ordered.scalar_type(), "nms", [&] {
    stay = survivors(ordered.const_data_ptr<scalar_t>(), boxes.size(0), iou_max);
  });
  return order.index_select(0, at::tensor(stay, order.options()));
}

// Each box depends on all better ones, so a CPU is the better place for this loop.
at::Tensor nms_anywhere(const at::Tensor &boxes, const at::Tensor &scores, double iou_max) {
  return nms_on_cpu(boxes.cpu(), scores.cpu(), iou_max).to(boxes.device());
}

} // namespace darkroom
