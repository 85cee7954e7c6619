// SPDX-License-Identifier: Apache-2.0
// Planes of float32, channels last, with a border of zeros for the convolutions that read them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>

#include "kernels.hpp"

namespace softstair {

class Tensor {
 public:
  Tensor() = default;
  // (height, width, channels); what is inside the border is not set.
  Tensor(int height, int width, int channels, int border)
      : height_(height), width_(width), channels_(channels), border_(border), values_(new float[size_of(height, width, channels, border)]) {
    float* first = values_.get();
    const std::ptrdiff_t side = static_cast<std::ptrdiff_t>(border) * channels;
    std::fill_n(first, border * pitch(), 0.0f);
    for (int y = 0; y < height; ++y) {
      std::fill_n(row(y) - side, side, 0.0f);
      std::fill_n(row(y) + static_cast<std::ptrdiff_t>(width) * channels, side, 0.0f);
    }
    float* end = first + (border + height) * pitch();
    std::fill(end, first + size_of(height, width, channels, border), 0.0f);
  }

  static std::size_t size_of(int height, int width, int channels, int border) {
    return (static_cast<std::size_t>(height + 2 * border) * (width + 2 * border) + kPositionsBehind) * channels;
  }

  int height() const { return height_; }
  int width() const { return width_; }
  int channels() const { return channels_; }
  bool empty() const { return !values_; }
  // From one row to the next, in values.
  std::ptrdiff_t pitch() const { return static_cast<std::ptrdiff_t>(width_ + 2 * border_) * channels_; }
  float* row(int y) { return values_.get() + (y + border_) * pitch() + static_cast<std::ptrdiff_t>(border_) * channels_; }
  const float* row(int y) const { return const_cast<Tensor*>(this)->row(y); }
  float* at(int y, int x) { return row(y) + static_cast<std::ptrdiff_t>(x) * channels_; }
  const float* at(int y, int x) const { return row(y) + static_cast<std::ptrdiff_t>(x) * channels_; }
  void fill(float value) {
    for (int y = 0; y < height_; ++y) std::fill_n(row(y), static_cast<std::size_t>(width_) * channels_, value);
  }

 private:
  int height_ = 0, width_ = 0, channels_ = 0, border_ = 0;
  std::unique_ptr<float[]> values_;
};

}  // namespace softstair
