// SPDX-License-Identifier: Apache-2.0
// What the core's tests share: checks, numbers at random, networks and models made of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>

#include "tile_encoder.hpp"

using namespace softstair;

inline constexpr std::int32_t kLowest = std::numeric_limits<std::int32_t>::min();
inline constexpr std::int32_t kHighest = std::numeric_limits<std::int32_t>::max();

inline int passed = 0, failed = 0;
inline std::size_t largest_allocation = 0;  // every allocation passes core_tests.cpp

inline void check(bool holds, const char* what, const char* file, int line) {
  ++(holds ? passed : failed);
  if (!holds) std::printf("%s:%d: failed: %s\n", file, line, what);
}
#define CHECK(condition) check((condition), #condition, __FILE__, __LINE__)

template <typename Action>
bool refused(Action action) {
  try {
    action();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

// Its own way from bits to numbers: the same everywhere, unlike the standard distributions.
class Random {
 public:
  explicit Random(unsigned seed) : bits_(seed) {}
  int between(int low, int high) {
    return low + static_cast<int>(bits_() % static_cast<std::uint32_t>(high - low + 1));
  }
  // Small magnitudes often, large ones now and then.
  int symbol() {
    const int limit = 1 << between(0, 4) >> between(0, 4);
    return between(0, 200) == 0 ? between(-kLargestSymbol, kLargestSymbol) : between(-limit, limit);
  }
  template <typename T>
  std::vector<T> values(std::size_t count, int low, int high) {
    std::vector<T> v(count);
    for (T& value : v) value = static_cast<T>(between(low, high));
    return v;
  }

 private:
  std::mt19937 bits_;
};

// Rows with the given K; `peak` slots go to zero, the others are shared at random.
inline Tables make_tables(Random& random, const std::vector<int>& largest, int peak) {
  std::vector<std::uint16_t> cdf;
  std::vector<std::int32_t> offsets{0};
  for (const int k : largest) {
    std::vector<int> slots(2 * k + 2, 1);
    int left = static_cast<int>(kProbabilityOne) - (2 * k + 2);
    const int to_zero = std::min(peak, left);
    slots[k] += to_zero;
    for (left -= to_zero; left > 0;) {
      const int some = random.between(1, std::min(left, 500));
      slots[random.between(0, 2 * k + 1)] += some;
      left -= some;
    }
    int sum = 0;
    cdf.push_back(0);
    for (const int s : slots) cdf.push_back(static_cast<std::uint16_t>(sum += s));
    offsets.push_back(static_cast<std::int32_t>(cdf.size()));
  }
  return Tables(cdf, offsets);
}

struct Widths {
  int latents, hyper_latents, hyper_width, width;
};
inline constexpr Widths kSmall{64, 2, 16, 16}, kWider{128, 6, 48, 32};

struct Shape {
  const char* name;
  int outputs, inputs, side, magnitude;
};

inline std::vector<Shape> shapes(Widths w) {
  return {{"hyper", w.hyper_width, w.hyper_latents, 3, 127},
          {"expand", 4 * w.width, w.hyper_width, 1, 2047},
          {"mix", w.width, w.width, 3, 2047},
          {"log_scale_head", w.latents, w.width, 1, 2047},
          {"neighbours", w.latents, 1, 5, 48},
          {"gather", w.width, w.latents, 1, 2047},
          {"log_scale_entry", w.width, w.latents, 1, 1024},
          {"local", w.width, 1, 3, 2047},
          {"widen", w.width, w.width, 1, 2047},
          {"correction_head", w.latents, w.width, 1, 2047}};
}

// Weights that use the middle of all ranges, or (loud) as much of int32 as the core allows.
inline ScaleNetwork::Layers make_layers(Random& random, Widths widths, bool loud) {
  ScaleNetwork::Layers layers;
  for (const Shape& shape : shapes(widths)) {
    const int taps = shape.side * shape.side, terms = shape.inputs * taps;
    int limit = static_cast<int>(1600 / std::sqrt(terms));
    if (loud) limit = std::min(32767, (1 << 28) / (terms * shape.magnitude));
    const auto count = static_cast<std::size_t>(shape.outputs) * terms;
    layers[shape.name] = {random.values<std::int16_t>(count, -limit, limit),
                          random.values<std::int32_t>(shape.outputs, -4000, 4000), shape.outputs,
                          shape.inputs, taps};
  }
  return layers;
}

struct Setting {
  Widths widths;
  ScaleNetwork::Layers layers;
  std::vector<std::int32_t> phase_bias, rate_bias, exponent;
  std::shared_ptr<const Tables> z_tables, y_tables;

  Setting(unsigned seed, Widths w, bool loud = false) : widths(w) {
    Random random(seed);
    layers = make_layers(random, w, loud);
    phase_bias = random.values<std::int32_t>(static_cast<std::size_t>(kPhases) * w.width, -99, 99);
    rate_bias = random.values<std::int32_t>(w.hyper_width, -99, 99);
    exponent = random.values<std::int32_t>(w.latents, -40, 120);
    z_tables = std::make_shared<Tables>(
        make_tables(random, random.values<int>(w.hyper_latents, 0, 9), 4000));
    y_tables = std::make_shared<Tables>(make_tables(random, random.values<int>(60, 0, 30), 4000));
  }

  RowRule rule(int states = 1) const { return {-60, 3, y_tables->rows() / (states > 1 ? 2 : 1)}; }
  std::shared_ptr<const Model> model(bool simd = true, int states = 1) const {
    auto model = std::make_shared<Model>(
        Model{std::make_shared<ScaleNetwork>(layers, phase_bias, simd), z_tables,
              &Trellis::of(states), y_tables, rule(states), rate_bias, exponent});
    model->check();
    return model;
  }
  std::vector<std::int16_t> random_z(Random& random, Size size) const {
    std::vector<std::int16_t> z(static_cast<std::size_t>(size.z_height()) * size.z_width() *
                                widths.hyper_latents);
    for (auto& symbol : z) symbol = static_cast<std::int16_t>(random.symbol());
    return z;
  }
  std::vector<std::int16_t> random_y(Random& random, Size size) const {
    const auto area = static_cast<std::size_t>(size.height) * size.width;
    std::vector<std::int16_t> y(area * widths.latents);
    for (auto& symbol : y) symbol = static_cast<std::int16_t>(random.symbol());
    return y;
  }
};

inline constexpr Size kSizes[] = {{1, 1}, {1, 7}, {7, 1},  {2, 2},  {3, 5},
                           {6, 4}, {9, 13}, {16, 16}, {5, 61}};

inline std::vector<std::uint8_t> encode_tile(const std::shared_ptr<const Model>& model, Size size,
                                      const Symbols& symbols) {
  TileEncoder encoder(model, size, symbols.z);
  for (int phase = 0; phase < kPhases; ++phase) {
    encoder.begin_phase();
    encoder.put(symbols.y.data());
  }
  return encoder.finish();
}

void test_tile_encoder();
void test_tile_decoder();
