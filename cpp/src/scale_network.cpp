// SPDX-License-Identifier: Apache-2.0
#include "scale_network.hpp"

#include <algorithm>
#include <cstdlib>

#include "refuse.hpp"

#if defined(SOFTSTAIR_SIMD) && defined(__x86_64__) && defined(__GNUC__)
#define SOFTSTAIR_AVX2 __attribute__((target("avx2")))
#endif

namespace softstair {
namespace {

// Grids: activations in 2^-bits, clipped. Weights are in 2^-9.
constexpr Range kHyper{-127, 127};       // bits 0
constexpr Range kHidden{0, 2047};        // bits 6
constexpr Range kSigned{-2047, 2047};    // bits 6
constexpr Range kOctaves{-1024, 1023};   // bits 5
constexpr Range kMagnitude{0, 48};       // bits 4
// Shifts: fraction bits of weight and input less those of the output.
constexpr Requantize kHiddenFromHyper{9 + 0 - 6, kHidden};
constexpr Requantize kHiddenFromHidden{9 + 6 - 6, kHidden};
constexpr Requantize kSignedFromHidden{9 + 6 - 6, kSigned};
constexpr Requantize kOctavesFromHidden{9 + 6 - 5, kOctaves};
constexpr Requantize kSignedFromMagnitude{9 + 4 - 6, kSigned};

// Largest bias that is not part of a layer; the constructors below check against it.
constexpr std::int64_t kOuterBias = 1 << 28;

const Weights& layer(const ScaleNetwork::Layers& layers, const std::string& name) {
  const auto found = layers.find(name);
  if (found == layers.end()) refuse("layer ", name, " is missing");
  return found->second;
}

template <int kOf>
void require_multiple(int value, const char* wrong) {
  if (value <= 0 || value % kOf != 0 || value > 4096) refuse(wrong);
}

// Class of a position, or of the distance between two: classes add by XOR, as coordinates do.
int position_class(int y, int x) { return channel_group(y, x, 0); }

// Loops over channels that compilers vectorise, for whatever processor they are told.
#if defined(__GNUC__)
#define SOFTSTAIR_INLINE inline __attribute__((always_inline))
#else
#define SOFTSTAIR_INLINE inline
#endif

SOFTSTAIR_INLINE void add_exponents(const std::int16_t* s, const std::int16_t* exponent, int count, std::int16_t* out) {
  for (int c = 0; c < count; ++c) out[c] = kOctaves.clip(s[c] + exponent[c]);
}

// out: corrections, which become rows.
SOFTSTAIR_INLINE void find_rows(const std::int16_t* s, const std::int16_t* exponent, RowRule rule, int count, std::int16_t* out) {
  for (int c = 0; c < count; ++c) out[c] = rule.row(s[c] + exponent[c] + out[c]);
}

void add_exponents_plainly(const std::int16_t* s, const std::int16_t* exponent, int count, std::int16_t* out) {
  add_exponents(s, exponent, count, out);
}
void find_rows_plainly(const std::int16_t* s, const std::int16_t* exponent, RowRule rule, int count, std::int16_t* out) {
  find_rows(s, exponent, rule, count, out);
}
#ifdef SOFTSTAIR_AVX2
SOFTSTAIR_AVX2 void add_exponents_avx2(const std::int16_t* s, const std::int16_t* exponent, int count, std::int16_t* out) {
  add_exponents(s, exponent, count, out);
}
SOFTSTAIR_AVX2 void find_rows_avx2(const std::int16_t* s, const std::int16_t* exponent, RowRule rule, int count, std::int16_t* out) {
  find_rows(s, exponent, rule, count, out);
}
#endif

// Taps of a square neighbourhood two by two, such that both of a pair have the same class.
Depthwise::Pairs pairs_by_class(int side) {
  Depthwise::Pairs pairs;
  for (int wanted = 0; wanted < kPhases; ++wanted) {
    int open = Depthwise::kNoTap;
    for (int tap = 0; tap < side * side; ++tap) {
      if (position_class(tap / side - side / 2, tap % side - side / 2) != wanted) continue;
      if (open != Depthwise::kNoTap) pairs.push_back({open, tap});
      open = open == Depthwise::kNoTap ? tap : Depthwise::kNoTap;
    }
    if (open != Depthwise::kNoTap) pairs.push_back({open, Depthwise::kNoTap});
  }
  return pairs;
}

}  // namespace

ScaleNetwork::ScaleNetwork(const Layers& layers, const std::vector<std::int32_t>& phase_bias,
                           bool simd)
    : simd_(simd) {
  read_widths(layers);
  if (phase_bias.size() != static_cast<std::size_t>(kPhases) * width_)
    refuse("the phase bias has the wrong shape");
  for (const std::int32_t bias : phase_bias)
    if (std::abs(static_cast<std::int64_t>(bias)) << 6 > kOuterBias / 4)
      refuse("the phase bias is too large");
  add_layers(layers, simd);
  find_starts(phase_bias);
}

void ScaleNetwork::read_widths(const Layers& layers) {
  latents_ = layer(layers, "log_scale_head").outputs;
  hyper_latents_ = layer(layers, "hyper").inputs;
  hyper_width_ = layer(layers, "hyper").outputs;
  width_ = layer(layers, "mix").outputs;
  static_assert(kPanel == 16, "what follows says so");
  require_multiple<64>(latents_, "the number of latent channels must be a multiple of 64");
  require_multiple<2>(hyper_latents_, "the number of z channels must be a multiple of 2");
  require_multiple<16>(hyper_width_, "the width of the hyper layers must be a multiple of 16");
  require_multiple<16>(width_, "the width of the scale layers must be a multiple of 16");
}

void ScaleNetwork::add_layers(const Layers& layers, bool simd) {
  const auto check = [&](const char* name, int outputs, int inputs, int taps, Range range,
                         std::int64_t extra) -> const Weights& {
    const Weights& w = layer(layers, name);
    check_weights(w, outputs, inputs, taps, range.magnitude(), extra, name);
    return w;
  };
  // `extra`: what joins a layer's own sum, and half of the last bit.
  const auto matrix = [&](const Weights& w, Requantize to) { return Matrix(w, to, simd); };
  hyper_ = matrix(check("hyper", hyper_width_, hyper_latents_, 9, kHyper, kOuterBias),
                  kHiddenFromHyper);
  const Weights& expand = check("expand", 4 * width_, hyper_width_, 1, kHidden, 1 << 9);
  for (int i = 0; i < 4; ++i) expand_[i] = matrix(expand.slice(i, 4, width_), kHiddenFromHidden);
  mix_ = matrix(check("mix", width_, width_, 9, kHidden, 1 << 9), kHiddenFromHidden);
  log_scale_head_ =
      matrix(check("log_scale_head", latents_, width_, 1, kHidden, 1 << 10), kOctavesFromHidden);
  neighbours_ = Depthwise(check("neighbours", latents_, 1, 25, kMagnitude, 1 << 9),
                          pairs_by_class(kSide), kSignedFromMagnitude, simd);
  // gather + 2 log_scale_entry + phase share one accumulator: half of int32 for each.
  const std::int64_t half = std::int64_t{1} << 30;
  gather_ = matrix(check("gather", width_, latents_, 1, kSigned, half + kOuterBias),
                   kHiddenFromHidden);
  log_scale_entry_ = matrix(
      check("log_scale_entry", width_, latents_, 1, kOctaves, half + half / 2), kHiddenFromHidden);
  local_ = Depthwise(check("local", width_, 1, 9, kHidden, 1 << 9), pairs_by_class(3),
                     kSignedFromHidden, simd);
  widen_ = matrix(check("widen", width_, width_, 1, kSigned, 2048 << 9), kHiddenFromHidden);
  const Weights& head = check("correction_head", latents_, width_, 1, kHidden, 1 << 10);
  const int group = latents_ / kPhases;
  for (int i = 0; i < kPhases; ++i)
    correction_head_[i] = matrix(head.slice(i * group, 1, group), kOctavesFromHidden);
}

void ScaleNetwork::find_starts(const std::vector<std::int32_t>& phase_bias) {
  for (int phase = 0; phase < kPhases; ++phase) {
    phase_start_[phase] = gather_.bias();
    for (int o = 0; o < width_; ++o)
      phase_start_[phase][o] += phase_bias[static_cast<std::size_t>(phase) * width_ + o] * (1 << 6);
  }
  // Before anything is decoded all magnitudes are zero, at every position: gather once.
  const std::vector<std::uint8_t> nothing(latents_);
  std::vector<std::int16_t> sums(latents_);
  neighbours_.apply(nothing.data(), {}, 0, latents_, sums.data());
  first_start_.resize(width_);
  gather_.accumulate({sums.data(), 0, 1}, first_start_.data());
  for (int o = 0; o < width_; ++o) first_start_[o] += phase_start_[0][o] - gather_.bias()[o];
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
  const std::size_t magnitude_pitch = static_cast<std::size_t>(width_ + 2 * kReach) * channels;
  magnitude_.resize((height_ + 2 * kReach) * magnitude_pitch);
  entered_.resize(area * inner);
  hidden_.resize((height_ + 2) * hidden_pitch());
  near_ = network_->neighbours_.place(kSide, static_cast<std::ptrdiff_t>(magnitude_pitch),
                                      channels);
  local_ = network_->local_.place(3, static_cast<std::ptrdiff_t>(hidden_pitch()), inner);
  line_.resize(static_cast<std::size_t>(width_) * channels);
  narrow_.resize(static_cast<std::size_t>(width_) * inner);
  wide_.resize(narrow_.size());
  start_.resize(narrow_.size());
  run_mix(spread_hyper(z, rate_bias));
}

// z^ -> hyper -> expand: twice the resolution of z, with a zero border.
std::vector<std::int16_t> ScaleField::spread_hyper(const std::int16_t* z,
                                                   const std::int32_t* rate_bias) const {
  const int rows = (height_ + 1) / 2, columns = (width_ + 1) / 2;
  const int zc = network_->hyper_latents(), hc = network_->hyper_width(), inner = network_->width();

  const std::size_t z_pitch = static_cast<std::size_t>(columns + 2) * zc;
  std::vector<std::int16_t> padded((rows + 2) * z_pitch, 0);
  const std::size_t z_line = static_cast<std::size_t>(columns) * zc;
  for (int y = 0; y < rows; ++y)
    std::transform(z + y * z_line, z + (y + 1) * z_line, padded.data() + (y + 1) * z_pitch + zc,
                   [](std::int16_t symbol) { return kHyper.clip(symbol); });

  std::vector<std::int32_t> start = network_->hyper_.bias();
  for (int o = 0; o < hc; ++o) start[o] += rate_bias[o];
  std::vector<std::int16_t> hidden(static_cast<std::size_t>(columns) * hc);
  const std::size_t pitch = static_cast<std::size_t>(2 * columns + 2) * inner;
  std::vector<std::int16_t> spread((2 * rows + 2) * pitch, 0);
  for (int y = 0; y < rows; ++y) {
    const Inputs around{padded.data() + y * z_pitch, zc, columns, 3,
                        static_cast<std::ptrdiff_t>(z_pitch)};
    network_->hyper_.apply(around, {start.data(), 0}, hidden.data(), hc);
    for (int i = 0; i < 4; ++i)
      network_->expand_[i].apply({hidden.data(), hc, columns},
                                 spread.data() + (2 * y + i / 2 + 1) * pitch + (i % 2 + 1) * inner,
                                 2 * inner);
  }
  return spread;
}

// -> mix -> log-scale, cut to the size of y; the log-scale enters the second part at once.
void ScaleField::run_mix(const std::vector<std::int16_t>& spread) {
  const int channels = network_->latents(), inner = network_->width();
  const std::size_t pitch = static_cast<std::size_t>((width_ + 1) / 2 * 2 + 2) * inner;
  for (int y = 0; y < height_; ++y) {
    const Inputs around{spread.data() + y * pitch, inner, width_, 3,
                        static_cast<std::ptrdiff_t>(pitch)};
    network_->mix_.apply(around, narrow_.data(), inner);
    network_->log_scale_head_.apply({narrow_.data(), inner, width_},
                                    log_scale_.data() + y * line_.size(), channels);
    enter_log_scale(y);
  }
}

void ScaleField::enter_log_scale(int y) {
  const int channels = network_->latents();
  const std::int16_t* s = log_scale_.data() + y * line_.size();
  auto* add = add_exponents_plainly;
#ifdef SOFTSTAIR_AVX2
  if (network_->simd() && simd_available()) add = add_exponents_avx2;
#endif
  for (int x = 0; x < width_; ++x, s += channels) {
    add(s, exponent_.data(), channels, line_.data() + static_cast<std::size_t>(x) * channels);
  }
  network_->log_scale_entry_.accumulate({line_.data(), channels, width_},
                                        entered_.data() + y * start_.size());
}

void ScaleField::begin_phase(int phase) {
  phase_ = phase;
  if (phase != 0) {
    find_known([phase](int of_tap) { return of_tap < phase; });
    enter_phase(network_->phase_start_[phase]);
    return;
  }
  const int inner = network_->width();
  for (int y = 0; y < height_; ++y) {
    start_line(y, network_->first_start_);
    std::transform(start_.begin(), start_.end(), hidden_.data() + (y + 1) * hidden_pitch() + inner, kHiddenFromHidden);
  }
}

// With other names for the classes of positions, any phase is the last.
void ScaleField::begin_refining(int phase) {
  phase_ = phase;
  find_known([phase](int of_tap) { return of_tap != phase; });
  enter_phase(network_->phase_start_[kPhases - 1]);
}

void ScaleField::enter_phase(const std::vector<std::int32_t>& bias) {
  const int channels = network_->latents(), inner = network_->width();
  for (int y = 0; y < height_; ++y) {
    start_line(y, bias);
    sum_neighbours(y);
    network_->gather_.apply({line_.data(), channels, width_}, {start_.data(), inner}, hidden_.data() + (y + 1) * hidden_pitch() + inner, inner);
  }
}

// The grid of the entry is 2^-14, that of the accumulator it joins 2^-15.
void ScaleField::start_line(int y, const std::vector<std::int32_t>& bias) {
  const int inner = network_->width();
  const std::int32_t* entered = entered_.data() + y * start_.size();
  for (std::size_t i = 0; i < start_.size(); i += inner)
    for (int o = 0; o < inner; ++o) start_[i + o] = 2 * entered[i + o] + bias[o];
}

// A neighbour at a distance of class d codes its group g in phase d ^ r, where r is the class of
// the position itself XOR g: taps of phases that are not known see only zeros and are left out.
template <typename Known>
void ScaleField::find_known(Known known) {
  const auto& pairs = network_->neighbours_.pairs();
  for (int r = 0; r < kPhases; ++r) {
    known_[r].clear();
    for (const TapPair& pair : near_) {
      const int tap = pairs[pair.index][0];
      if (known(position_class(tap / kSide, tap % kSide) ^ r)) known_[r].push_back(pair);
    }
  }
}

void ScaleField::sum_neighbours(int y) {
  const int channels = network_->latents(), group = this->group();
  const std::uint8_t* corner = magnitude_.data() + magnitude_index(y - kReach, -kReach);
  std::int16_t* line = line_.data();
  for (int x = 0; x < width_; ++x, corner += channels, line += channels)
    for (int g = 0; g < kPhases; ++g)
      network_->neighbours_.apply(corner, known_[position_class(y, x) ^ g], g * group,
                                  (g + 1) * group, line);
}

void ScaleField::rows(int y, RowRule rule, std::int16_t* out) {
  const int channels = network_->latents(), inner = network_->width(), group = this->group();
  const std::int16_t* corner = hidden_.data() + y * hidden_pitch();
  for (std::size_t i = 0; i < narrow_.size(); i += inner)
    network_->local_.apply(corner + i, local_, 0, inner, narrow_.data() + i);

  // widen adds to the position itself.
  const std::int16_t* centre = corner + hidden_pitch() + inner;
  const auto& bias = network_->widen_.bias();
  for (std::size_t i = 0; i < start_.size(); i += inner)
    for (int o = 0; o < inner; ++o) start_[i + o] = bias[o] + centre[i + o] * (1 << 9);
  network_->widen_.apply({narrow_.data(), inner, width_}, {start_.data(), inner}, wide_.data(),
                         inner);

  // Positions of one parity code the same group of channels.
  for (int parity = 0; parity < 2; ++parity)
    network_->correction_head_[channel_group(y, parity, phase_)].apply(
        {wide_.data() + parity * inner, 2 * inner, (width_ - parity + 1) / 2}, out + parity * group,
        2 * group);
  const std::int16_t* s = log_scale_.data() + y * line_.size();
  auto* find = find_rows_plainly;
#ifdef SOFTSTAIR_AVX2
  if (network_->simd() && simd_available()) find = find_rows_avx2;
#endif
  for (int x = 0; x < width_; ++x, s += channels, out += group) {
    const int first = channel_group(y, x, phase_) * group;
    find(s + first, exponent_.data() + first, rule, group, out);
  }
}

}  // namespace softstair
