// SPDX-License-Identifier: Apache-2.0
#include "scale_network.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

namespace softstair {
namespace {

// Grids: activations in 2^-bits, clipped. Weights are in 2^-9.
constexpr Range kHyper{-127, 127};       // bits 0
constexpr Range kHidden{0, 2047};        // bits 6
constexpr Range kSigned{-2047, 2047};    // bits 6
constexpr Range kOctaves{-1024, 1023};   // bits 5
constexpr Range kMagnitude{0, 48};       // bits 4
constexpr int kHiddenFromHyper = 9 + 0 - 6, kHiddenFromHidden = 9 + 6 - 6;
constexpr int kOctavesFromHidden = 9 + 6 - 5, kSignedFromMagnitude = 9 + 4 - 6;

// Largest bias that is not part of a layer; the constructors below check against it.
constexpr std::int64_t kOuterBias = 1 << 28;

const Weights& layer(const ScaleNetwork::Layers& layers, const std::string& name) {
  const auto found = layers.find(name);
  if (found == layers.end()) throw std::invalid_argument("layer " + name + " is missing");
  return found->second;
}

void require_multiple(int value, int of, const char* what) {
  if (value <= 0 || value % of != 0 || value > 4096)
    throw std::invalid_argument(std::string(what) + " must be a multiple of " + std::to_string(of));
}

// Lay the 3x3 neighbourhoods of a line of a padded plane side by side: (width, 9 * channels).
void unfold_line(const std::int16_t* padded, int width, int channels, int y, std::int16_t* out) {
  const std::size_t pitch = static_cast<std::size_t>(width + 2) * channels;
  const std::size_t run = 3 * static_cast<std::size_t>(channels);
  for (int x = 0; x < width; ++x)
    for (int row = 0; row < 3; ++row, out += run)
      std::memcpy(out, padded + (y + row) * pitch + static_cast<std::size_t>(x) * channels,
                  run * sizeof *out);
}

}  // namespace

ScaleNetwork::ScaleNetwork(const Layers& layers, std::vector<std::int32_t> phase_bias, bool simd)
    : phase_bias_(std::move(phase_bias)) {
  latents_ = layer(layers, "log_scale_head").outputs;
  hyper_latents_ = layer(layers, "hyper").inputs;
  hyper_width_ = layer(layers, "hyper").outputs;
  width_ = layer(layers, "mix").outputs;
  require_multiple(latents_, 4 * Matrix::kPanel, "the number of latent channels");
  require_multiple(hyper_latents_, 2, "the number of z channels");
  require_multiple(hyper_width_, Matrix::kPanel, "the width of the hyper layers");
  require_multiple(width_, Matrix::kPanel, "the width of the scale layers");
  if (phase_bias_.size() != static_cast<std::size_t>(kPhases) * width_)
    throw std::invalid_argument("the phase bias has the wrong shape");
  for (const std::int32_t bias : phase_bias_)
    if (std::abs(static_cast<std::int64_t>(bias)) << 6 > kOuterBias / 4)
      throw std::invalid_argument("the phase bias is too large");
  simd = simd && simd_available();
  const auto check = [&](const char* name, int outputs, int inputs, int taps, Range range,
                         std::int64_t extra) -> const Weights& {
    const Weights& w = layer(layers, name);
    check_weights(w, outputs, inputs, taps, range.magnitude(), extra, name);
    return w;
  };
  hyper_ = Matrix(check("hyper", hyper_width_, hyper_latents_, 9, kHyper, kOuterBias), simd);
  expand_ = Matrix(check("expand", 4 * width_, hyper_width_, 1, kHidden, 1 << 9), simd);
  mix_ = Matrix(check("mix", width_, width_, 9, kHidden, 1 << 9), simd);
  log_scale_head_ = Matrix(check("log_scale_head", latents_, width_, 1, kHidden, 1 << 10), simd);
  neighbours_ = Depthwise(check("neighbours", latents_, 1, 25, kMagnitude, 1 << 9), simd);
  // gather + 2 log_scale_entry + phase share one accumulator: half of int32 for each.
  const std::int64_t half = std::int64_t{1} << 30;
  gather_ = Matrix(check("gather", width_, latents_, 1, kSigned, half + kOuterBias), simd);
  log_scale_entry_ =
      Matrix(check("log_scale_entry", width_, latents_, 1, kOctaves, half + half / 2), simd);
  local_ = Depthwise(check("local", width_, 1, 9, kHidden, 1 << 9), simd);
  widen_ = Matrix(check("widen", width_, width_, 1, kSigned, 2048 << 9), simd);
  correction_head_ =
      Matrix(check("correction_head", latents_, width_, 1, kHidden, 1 << 10), simd);
}

ScaleField::ScaleField(std::shared_ptr<const ScaleNetwork> network, const std::int16_t* z,
                       int height, int width, const std::int32_t* rate_bias,
                       const std::int32_t* exponent)
    : network_(std::move(network)),
      height_(height),
      width_(width),
      exponent_(exponent, exponent + network_->latents()) {
  const auto area = static_cast<std::size_t>(height_) * width_;
  const int channels = network_->latents(), inner = network_->width();
  log_scale_.resize(area * channels);
  magnitude_.assign(static_cast<std::size_t>(height_ + 2 * kReach) * (width_ + 2 * kReach) * channels, 0);
  entered_.resize(area * inner);
  hidden_.assign(static_cast<std::size_t>(height_ + 2) * (width_ + 2) * inner, 0);
  wide_.resize(static_cast<std::size_t>(width_) * inner);
  accumulators_.resize(static_cast<std::size_t>(width_ + 1) *
                       std::max({channels, 4 * inner, network_->hyper_width()}));
  run_hyper(z, rate_bias);
  enter_log_scale();
}

void ScaleField::run_hyper(const std::int16_t* z, const std::int32_t* rate_bias) {
  const int rows = (height_ + 1) / 2, columns = (width_ + 1) / 2;
  const int zc = network_->hyper_latents(), hc = network_->hyper_width(), inner = network_->width();
  const int channels = network_->latents();

  std::vector<std::int16_t> padded(static_cast<std::size_t>(rows + 2) * (columns + 2) * zc, 0);
  for (int y = 0; y < rows; ++y)
    for (std::size_t i = 0; i < static_cast<std::size_t>(columns) * zc; ++i)
      padded[(static_cast<std::size_t>(y + 1) * (columns + 2) + 1) * zc + i] =
          kHyper.clip(z[static_cast<std::size_t>(y) * columns * zc + i]);

  // z^ -> hyper -> expand, spread to twice the resolution, with a zero border.
  const int spread_width = 2 * columns;
  std::vector<std::int16_t> spread(static_cast<std::size_t>(2 * rows + 2) * (spread_width + 2) * inner, 0);
  std::vector<std::int16_t> patches(static_cast<std::size_t>(columns) * 9 * zc);
  std::vector<std::int16_t> hidden(static_cast<std::size_t>(columns) * hc);
  for (int y = 0; y < rows; ++y) {
    unfold_line(padded.data(), columns, zc, y, patches.data());
    network_->hyper_.multiply(patches.data(), 9 * zc, columns, accumulators_.data());
    for (int x = 0; x < columns; ++x)
      for (int o = 0; o < hc; ++o)
        hidden[static_cast<std::size_t>(x) * hc + o] = kHidden.clip(shift_round(
            accumulators_[static_cast<std::size_t>(x) * hc + o] + rate_bias[o], kHiddenFromHyper));
    network_->expand_.multiply(hidden.data(), hc, columns, accumulators_.data());
    for (int x = 0; x < columns; ++x)
      for (int o = 0; o < 4 * inner; ++o) {
        const int channel = o / 4, dy = o / 2 % 2, dx = o % 2;
        spread[(static_cast<std::size_t>(2 * y + dy + 1) * (spread_width + 2) + 2 * x + dx + 1) * inner +
               channel] =
            kHidden.clip(shift_round(accumulators_[static_cast<std::size_t>(x) * 4 * inner + o],
                                     kHiddenFromHidden));
      }
  }

  // -> mix -> log-scale, cut to the size of y.
  std::vector<std::int16_t> around(static_cast<std::size_t>(width_) * 9 * inner);
  std::vector<std::int16_t> mixed(static_cast<std::size_t>(width_) * inner);
  const std::size_t pitch = static_cast<std::size_t>(spread_width + 2) * inner;
  for (int y = 0; y < height_; ++y) {
    std::int16_t* out = around.data();
    for (int x = 0; x < width_; ++x)
      for (int row = 0; row < 3; ++row, out += 3 * inner)
        std::memcpy(out, spread.data() + (y + row) * pitch + static_cast<std::size_t>(x) * inner,
                    3 * static_cast<std::size_t>(inner) * sizeof *out);
    network_->mix_.multiply(around.data(), 9 * inner, width_, accumulators_.data());
    for (std::size_t i = 0; i < mixed.size(); ++i)
      mixed[i] = kHidden.clip(shift_round(accumulators_[i], kHiddenFromHidden));
    network_->log_scale_head_.multiply(mixed.data(), inner, width_, accumulators_.data());
    std::int16_t* line = log_scale_.data() + static_cast<std::size_t>(y) * width_ * channels;
    for (std::size_t i = 0; i < static_cast<std::size_t>(width_) * channels; ++i)
      line[i] = kOctaves.clip(shift_round(accumulators_[i], kOctavesFromHidden));
  }
}

void ScaleField::enter_log_scale() {
  const int channels = network_->latents(), inner = network_->width();
  std::vector<std::int16_t> line(static_cast<std::size_t>(width_) * channels);
  for (int y = 0; y < height_; ++y) {
    const std::int16_t* s = log_scale_.data() + static_cast<std::size_t>(y) * width_ * channels;
    for (int x = 0; x < width_; ++x)
      for (int c = 0; c < channels; ++c)
        line[static_cast<std::size_t>(x) * channels + c] =
            kOctaves.clip(s[static_cast<std::size_t>(x) * channels + c] + exponent_[c]);
    std::int32_t* out = entered_.data() + static_cast<std::size_t>(y) * width_ * inner;
    network_->log_scale_entry_.multiply(line.data(), channels, width_, out);
    // Its grid is 2^-14, the accumulator it joins 2^-15.
    for (std::size_t i = 0; i < static_cast<std::size_t>(width_) * inner; ++i) out[i] *= 2;
  }
}

void ScaleField::gather_line(int y, std::int16_t* line) const {
  const int channels = network_->latents();
  const int taps = 2 * network_->neighbours_.pairs();
  std::vector<std::int32_t> sums(channels);
  // The 5x5 window as int16, moved along the line column by column.
  std::vector<std::int16_t> window(static_cast<std::size_t>(5) * (width_ + 2 * kReach) * channels);
  const std::size_t pitch = static_cast<std::size_t>(width_ + 2 * kReach) * channels;
  std::copy_n(magnitude_.data() + y * pitch, 5 * pitch, window.data());
  std::vector<const std::int16_t*> at(taps);
  for (int x = 0; x < width_; ++x) {
    for (int tap = 0; tap < taps; ++tap) {
      const int used = tap < 25 ? tap : 0;  // the last has zero weights
      at[tap] = window.data() + used / 5 * pitch + static_cast<std::size_t>(x + used % 5) * channels;
    }
    network_->neighbours_.apply(at.data(), sums.data());
    for (int c = 0; c < channels; ++c)
      line[static_cast<std::size_t>(x) * channels + c] =
          kSigned.clip(shift_round(sums[c], kSignedFromMagnitude));
  }
}

void ScaleField::begin_phase(int phase) {
  phase_ = phase;
  const int channels = network_->latents(), inner = network_->width();
  const std::int32_t* bias = network_->phase_bias_.data() + static_cast<std::size_t>(phase) * inner;
  std::vector<std::int16_t> line(static_cast<std::size_t>(width_) * channels);
  for (int y = 0; y < height_; ++y) {
    gather_line(y, line.data());
    network_->gather_.multiply(line.data(), channels, width_, accumulators_.data());
    const std::int32_t* entered = entered_.data() + static_cast<std::size_t>(y) * width_ * inner;
    std::int16_t* out = hidden_.data() + (static_cast<std::size_t>(y + 1) * (width_ + 2) + 1) * inner;
    for (int x = 0; x < width_; ++x)
      for (int o = 0; o < inner; ++o) {
        const std::size_t i = static_cast<std::size_t>(x) * inner + o;
        out[i] = kHidden.clip(
            shift_round(accumulators_[i] + entered[i] + bias[o] * (1 << 6), kHiddenFromHidden));
      }
  }
}

void ScaleField::rows(int y, const RowRule& rule, std::int16_t* out) {
  const int channels = network_->latents(), inner = network_->width(), group = this->group();
  const std::size_t pitch = static_cast<std::size_t>(width_ + 2) * inner;
  std::vector<std::int16_t> local(static_cast<std::size_t>(width_) * inner);
  std::vector<std::int32_t> sums(inner);
  std::vector<const std::int16_t*> at(2 * network_->local_.pairs());
  for (int x = 0; x < width_; ++x) {
    for (std::size_t tap = 0; tap < at.size(); ++tap) {
      const std::size_t used = tap < 9 ? tap : 0;
      at[tap] = hidden_.data() + (y + used / 3) * pitch + (x + used % 3) * inner;
    }
    network_->local_.apply(at.data(), sums.data());
    for (int o = 0; o < inner; ++o)
      local[static_cast<std::size_t>(x) * inner + o] =
          kSigned.clip(shift_round(sums[o], kHiddenFromHidden));
  }
  network_->widen_.multiply(local.data(), inner, width_, accumulators_.data());
  const std::int16_t* centre = hidden_.data() + (y + 1) * pitch + inner;
  for (std::size_t i = 0; i < wide_.size(); ++i)
    wide_[i] = kHidden.clip(shift_round(accumulators_[i] + centre[i] * (1 << 9), kHiddenFromHidden));
  // Positions of one parity code the same group of channels.
  for (int parity = 0; parity < 2; ++parity) {
    const int count = (width_ - parity + 1) / 2;
    if (count <= 0) continue;
    const int first = channel_group(y, parity, phase_) * group;
    network_->correction_head_.multiply(wide_.data() + static_cast<std::size_t>(parity) * inner,
                                        2 * inner, count, accumulators_.data(), first, first + group);
    for (int i = 0; i < count; ++i) {
      const int x = 2 * i + parity;
      const std::int16_t* s =
          log_scale_.data() + (static_cast<std::size_t>(y) * width_ + x) * channels + first;
      for (int c = 0; c < group; ++c) {
        const std::int32_t t = kOctaves.clip(shift_round(
            accumulators_[static_cast<std::size_t>(i) * group + c], kOctavesFromHidden));
        out[static_cast<std::size_t>(x) * group + c] = rule.row(s[c] + exponent_[first + c] + t);
      }
    }
  }
}

}  // namespace softstair
