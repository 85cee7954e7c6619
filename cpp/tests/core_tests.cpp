// SPDX-License-Identifier: Apache-2.0
// Tests of the core alone, made to be run under sanitizers. Exits non-zero if anything fails.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <new>
#include <random>
#include <set>

#include "latents.hpp"

namespace {
std::size_t largest_allocation = 0;
}

// Every allocation passes here, so that a test can bound what a hostile stream makes us ask for.
void* operator new(std::size_t size) {
  largest_allocation = std::max(largest_allocation, size);
  if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

using namespace softstair;

namespace {

constexpr std::int32_t kLowest = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t kHighest = std::numeric_limits<std::int32_t>::max();

int passed = 0, failed = 0;

void check(bool holds, const char* what, int line) {
  ++(holds ? passed : failed);
  if (!holds) std::printf("core_tests.cpp:%d: failed: %s\n", line, what);
}
#define CHECK(condition) check((condition), #condition, __LINE__)

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

// ---------------------------------------------------------------------------------------------
// Tables and rANS

// Rows with the given K; `peak` slots go to zero, the others are shared at random.
Tables make_tables(Random& random, const std::vector<int>& largest, int peak) {
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

void test_tables() {
  const auto make = [](std::vector<std::uint16_t> cdf, std::vector<std::int32_t> offsets) {
    return refused([&] { Tables(cdf, offsets); });
  };
  constexpr std::uint16_t kOne = kProbabilityOne;
  CHECK(!make({0, 1, kOne}, {0, 3}));
  CHECK(!make({0, 1, kOne, 0, 7, 8, 9, kOne}, {0, 3, 8}));
  CHECK(make({}, {}));
  CHECK(make({}, {0}));
  CHECK(make({}, {0, 0}));
  CHECK(make({0, 1, kOne}, {0, 2}));               // does not cover the table
  CHECK(make({0, 1, kOne}, {1, 3}));
  CHECK(make({0, 1, kOne}, {0, 4}));
  CHECK(make({0, kOne}, {0, 2}));                  // one symbol
  CHECK(make({0, 1, 2, kOne}, {0, 4}));            // an odd number of symbols
  CHECK(make({1, 2, kOne}, {0, 3}));               // does not start at 0
  CHECK(make({0, 1, kOne - 1}, {0, 3}));           // does not end at 2^14
  CHECK(make({0, 1, kOne + 1}, {0, 3}));
  CHECK(make({0, 0, kOne}, {0, 3}));               // an empty symbol
  CHECK(make({0, kOne, kOne}, {0, 3}));
  CHECK(make({0, 9, 5, 12, kOne}, {0, 5}));        // a decreasing row
  CHECK(make({0, 65535, kOne}, {0, 3}));
  CHECK(make({0, 1, kOne, 0, 1, kOne}, {0, 6}));   // two rows as one
  CHECK(make({0, 1, kOne, 0, 1, kOne}, {0, 3, 3, 6}));
  CHECK(make({0, 1, kOne, 0, 1, kOne}, {0, -3, 6}));
  CHECK(make({0, 1, kOne, 0, 1, kOne}, {0, 9, 6}));
  CHECK(make({0, 1, kOne, 0, 1, kOne}, {0, kLowest, 6}));
  CHECK(make({0, 1, kOne, 0, 1, kOne}, {0, kHighest, 6}));

  Random random(1);
  const Tables tables = make_tables(random, {0, 1, 40, 8191}, 3000);
  bool found = true;
  for (int row = 0; row < tables.rows(); ++row)
    for (std::uint32_t slot = 0; slot < kProbabilityOne; ++slot) {
      const int symbol = tables.find(row, slot);
      found &= tables.cdf(row)[symbol] <= slot && slot < tables.cdf(row)[symbol + 1];
    }
  CHECK(found);
  CHECK(tables.largest(0) == 0 && tables.largest(3) == 8191 && tables.symbols(3) == 16384);
}

struct List {
  std::vector<std::int16_t> rows, values;
};

std::vector<std::uint8_t> encode(const Tables& tables, int lanes, const List& list) {
  return encode_rows(tables, list.rows, list.values, lanes);
}

bool decodes(const Tables& tables, int lanes, const List& list,
             std::span<const std::uint8_t> bytes) {
  std::vector<std::int16_t> values;
  const Fault fault = decode_rows(tables, list.rows, bytes, lanes, values);
  return fault == Fault::none && values == list.values;
}

// Round trips, what they cost, and that a word more or less is noticed.
void check_round_trip(const Tables& tables, int lanes, const List& list) {
  std::vector<std::uint8_t> bytes = encode(tables, lanes, list);
  CHECK(decodes(tables, lanes, list, bytes));
  double bits = 0;
  for (std::size_t i = 0; i < list.rows.size(); ++i)
    bits += tables.bits(list.rows[i], list.values[i]);
  CHECK(!cannot_hold(bytes.size(), bits));
  CHECK(8.0 * static_cast<double>(bytes.size()) <= 1.01 * bits + 48 * lanes);
  CHECK(!decodes(tables, lanes, list, std::span(bytes).first(bytes.size() - 2)));
  bytes.insert(bytes.end(), {0, 0});
  CHECK(!decodes(tables, lanes, list, bytes));
}

void test_rans() {
  Random random(2);
  const Tables tables = make_tables(random, {0, 1, 2, 7, 30, 255, 8191}, 5000);
  for (const int lanes : {1, 4}) {
    List list;
    for (int value = -kLargestSymbol; value <= kLargestSymbol; ++value)
      list.values.push_back(static_cast<std::int16_t>(value));
    list.rows = random.values<std::int16_t>(list.values.size(), 0, tables.rows() - 1);
    check_round_trip(tables, lanes, list);
    std::reverse(list.values.begin(), list.values.end());
    check_round_trip(tables, lanes, list);
    for (int trial = 0; trial < 200; ++trial) {
      list.rows = random.values<std::int16_t>(random.between(0, 300), 0, tables.rows() - 1);
      list.values.resize(list.rows.size());
      for (auto& value : list.values) value = static_cast<std::int16_t>(random.symbol());
      check_round_trip(tables, lanes, list);
    }
  }
  const auto encodes = [&](std::int16_t row, std::int16_t value, int lanes) {
    return !refused([&] { encode(tables, lanes, {{row}, {value}}); });
  };
  CHECK(encodes(6, -32767, 2));
  CHECK(!encodes(6, -32768, 2) && !encodes(7, 0, 2) && !encodes(-1, 0, 2));
  CHECK(!encodes(0, 0, 0) && !encodes(0, 0, 3) && !encodes(0, 0, 8));
  CHECK(refused([&] { encode(tables, 1, {{1, 1}, {0}}); }));
}

// The bound that refuses sizes must never refuse a stream, however its symbols were chosen.
void test_least_bits() {
  Random random(3);
  for (const int peak : {0, 1000, 8000, 12000, 16000, 16370, 16382}) {
    const Tables tables = make_tables(random, {0, 1, 3}, peak);
    for (int row = 0; row < tables.rows(); ++row) {
      const std::uint16_t* cdf = tables.cdf(row);
      int cheapest = 0;
      for (int i = 0; i < tables.symbols(row); ++i)
        if (cdf[i + 1] - cdf[i] > cdf[cheapest + 1] - cdf[cheapest]) cheapest = i;
      CHECK(least_bits(tables, row) ==
            kProbabilityBits - std::log2(static_cast<double>(cdf[cheapest + 1] - cdf[cheapest])));
      for (const int lanes : {1, 4})
        for (const int count : {1, 10, 1000, 100000}) {
          const auto value = static_cast<std::int16_t>(cheapest - tables.largest(row));
          const List list{std::vector<std::int16_t>(count, static_cast<std::int16_t>(row)),
                          std::vector<std::int16_t>(count, value)};
          CHECK(!cannot_hold(encode(tables, lanes, list).size(), count * least_bits(tables, row)));
        }
    }
  }
  CHECK(cannot_hold(100, 900));
  CHECK(!cannot_hold(100, 800));
}

// ---------------------------------------------------------------------------------------------
// The scale network

struct Widths {
  int latents, hyper_latents, hyper_width, width;
};
constexpr Widths kSmall{64, 2, 16, 16}, kWider{128, 6, 48, 32};

struct Shape {
  const char* name;
  int outputs, inputs, side, magnitude;
};

std::vector<Shape> shapes(Widths w) {
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
ScaleNetwork::Layers make_layers(Random& random, Widths widths, bool loud) {
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

constexpr Size kSizes[] = {{1, 1}, {1, 7}, {7, 1},  {2, 2},  {3, 5},
                           {6, 4}, {9, 13}, {16, 16}, {5, 61}};

// The network as docs/format/scale-network.md words it, a position at a time.
class Reference {
 public:
  Reference(const Setting& setting, Size size, const std::vector<std::int16_t>& z)
      : s_(setting), size_(size), magnitude_(area() * latents()), hidden_(area() * width()) {
    const Size half{size.z_height(), size.z_width()}, even{2 * half.height, 2 * half.width};
    std::vector<int> clipped(z.begin(), z.end());
    for (int& v : clipped) v = std::clamp(v, -127, 127);
    const auto hyper = layer("hyper", half, clipped, 3, s_.rate_bias);
    const auto blocks = layer("expand", half, hyper, 9, {});
    std::vector<int> spread(static_cast<std::size_t>(even.height) * even.width * width());
    for (int y = 0; y < even.height; ++y)
      for (int x = 0; x < even.width; ++x)
        for (int c = 0; c < width(); ++c)
          spread[(static_cast<std::size_t>(y) * even.width + x) * width() + c] =
              blocks[(static_cast<std::size_t>(y / 2) * half.width + x / 2) * 4 * width() + 4 * c +
                     y % 2 * 2 + x % 2];
    const auto wide = layer("log_scale_head", even, layer("mix", even, spread, 9, {}), 10, {});
    for (int y = 0; y < size.height; ++y)
      for (int x = 0; x < size.width; ++x)
        for (int c = 0; c < latents(); ++c)
          scale_.push_back(wide[(static_cast<std::size_t>(y) * even.width + x) * latents() + c] +
                           s_.exponent[c]);
  }

  // Rows of every channel; those of other phases mean nothing.
  std::vector<int> rows(int phase) {
    std::vector<int> entered(scale_);
    for (int& v : entered) v = std::clamp(v, -1024, 1023);
    const auto near = layer("neighbours", size_, magnitude_, 7, {});
    const auto gathered = sums("gather", size_, near);
    const auto entry = sums("log_scale_entry", size_, entered);
    for (std::size_t i = 0; i < hidden_.size(); ++i)
      hidden_[i] = grid(gathered[i] + 2 * entry[i] +
                            64 * std::int64_t{s_.phase_bias[phase * width() + i % width()]},
                        9, 0, 2047);
    const auto widened = sums("widen", size_, layer("local", size_, hidden_, 9, {}));
    std::vector<int> wide(hidden_.size());
    for (std::size_t i = 0; i < wide.size(); ++i)
      wide[i] = grid(widened[i] + 512 * std::int64_t{hidden_[i]}, 9, 0, 2047);
    std::vector<int> rows = layer("correction_head", size_, wide, 10, {});
    const RowRule rule = s_.rule();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const int row = (scale_[i] + rows[i] - rule.base) >> 2;
      rows[i] = row < rule.skip ? kSkipped : std::clamp(row, 0, rule.rows - 1);
    }
    return rows;
  }
  void set(std::size_t index, int symbol) {
    constexpr int kMagnitude[] = {0, 16, 25, 32, 37, 41, 45, 48};
    magnitude_[index] = kMagnitude[std::min(std::abs(symbol), 7)];
  }

 private:
  std::size_t area() const { return static_cast<std::size_t>(size_.height) * size_.width; }
  int latents() const { return s_.widths.latents; }
  int width() const { return s_.widths.width; }

  static int grid(std::int64_t sum, int shift, int low, int high) {
    return static_cast<int>(
        std::clamp<std::int64_t>((sum + (std::int64_t{1} << (shift - 1))) >> shift, low, high));
  }

  std::vector<std::int64_t> sums(const std::string& name, Size size,
                                 const std::vector<int>& in) const {
    const Weights& w = s_.layers.at(name);
    const bool depthwise = w.inputs == 1;
    const int channels = depthwise ? w.outputs : w.inputs;
    const int side = w.taps == 25 ? 5 : w.taps == 9 ? 3 : 1;
    std::vector<std::int64_t> out;
    for (int y = 0; y < size.height; ++y)
      for (int x = 0; x < size.width; ++x)
        for (int o = 0; o < w.outputs; ++o) {
          std::int64_t sum = w.bias[o];
          for (int tap = 0; tap < w.taps; ++tap) {
            const int v = y + tap / side - side / 2, u = x + tap % side - side / 2;
            if (v < 0 || u < 0 || v >= size.height || u >= size.width) continue;
            const int* at = in.data() + (static_cast<std::size_t>(v) * size.width + u) * channels;
            for (int i = 0; i < w.inputs; ++i)
              sum += std::int64_t{at[depthwise ? o : i]} *
                     w.values[(static_cast<std::size_t>(o) * w.inputs + i) * w.taps + tap];
          }
          out.push_back(sum);
        }
    return out;
  }

  std::vector<int> layer(const std::string& name, Size size, const std::vector<int>& in, int shift,
                         const std::vector<std::int32_t>& extra) const {
    const bool octaves = name.ends_with("head");
    const bool keeps_sign = name == "neighbours" || name == "local";
    const int low = octaves ? -1024 : keeps_sign ? -2047 : 0, high = octaves ? 1023 : 2047;
    const auto sum = sums(name, size, in);
    std::vector<int> out;
    for (std::size_t i = 0; i < sum.size(); ++i)
      out.push_back(grid(sum[i] + (extra.empty() ? 0 : extra[i % extra.size()]), shift, low, high));
    return out;
  }

  const Setting& s_;
  Size size_;
  std::vector<int> magnitude_, hidden_, scale_;
};

// Rows of all phases from the vector kernels, the portable ones and the reference.
void check_rows(const Setting& setting, Size size, unsigned seed, std::set<int>& seen) {
  Random random(seed);
  const auto z = setting.random_z(random, size), y = setting.random_y(random, size);
  TileEncoder vector(setting.model(true), size, z), portable(setting.model(false), size, z);
  Reference reference(setting, size, z);
  const int group = vector.channels() / kPhases;
  for (int phase = 0; phase < kPhases; ++phase) {
    const auto& rows = vector.begin_phase();
    CHECK(rows == portable.begin_phase());
    vector.put(y.data());
    portable.put(y.data());
    const auto expected = reference.rows(phase);
    bool agrees = true;
    std::size_t in_phase = 0;
    for (int v = 0; v < size.height; ++v)
      for (int u = 0; u < size.width; ++u)
        for (int c = 0; c < group; ++c, ++in_phase) {
          const std::size_t position = static_cast<std::size_t>(v) * size.width + u;
          const std::size_t at =
              position * vector.channels() + channel_group(v, u, phase) * group + c;
          agrees &= rows[in_phase] == expected[at];
          seen.insert(rows[in_phase]);
          if (rows[in_phase] != kSkipped) reference.set(at, y[at]);
        }
    CHECK(agrees);
  }
  CHECK(vector.finish() == portable.finish());
}

void test_network() {
  unsigned seed = 100;
  for (const Widths widths : {kSmall, kWider})
    for (const bool loud : {false, true}) {
      const Setting setting(++seed, widths, loud);
      std::set<int> seen;
      for (const Size size : kSizes) check_rows(setting, size, ++seed, seen);
      // Otherwise the weights above prove little.
      CHECK(seen.size() > (loud ? 3 : 40) && seen.contains(kSkipped));
    }
}

void test_refused_weights() {
  const Setting setting(7, kWider);
  const auto refuses = [&](const auto& change) {
    auto layers = setting.layers;
    change(layers);
    return refused([&] { ScaleNetwork(layers, setting.phase_bias, true); });
  };
  CHECK(!refuses([](auto&) {}));
  for (const Shape& shape : shapes(kWider)) {
    const char* name = shape.name;
    CHECK(refuses([&](auto& layers) { layers.erase(name); }));
    CHECK(refuses([&](auto& layers) { layers[name].bias[1] = kHighest; }));
    CHECK(refuses([&](auto& layers) { layers[name].bias[0] = kLowest; }));
    CHECK(refuses([&](auto& layers) { layers[name].bias.pop_back(); }));
    CHECK(refuses([&](auto& layers) { layers[name].values.pop_back(); }));
    CHECK(refuses([&](auto& layers) { ++layers[name].taps; }));
    CHECK(refuses([&](auto& layers) { layers[name].outputs -= kPanel; }));
  }
  // In the other layers int16 weights alone are not enough to overflow.
  for (const char* name : {"expand", "mix", "gather", "widen"})
    CHECK(refuses([&](auto& layers) {
      auto& values = layers[name].values;
      std::fill(values.begin(), values.end(), std::int16_t{-32768});
    }));
  for (const std::int32_t bias : {kLowest, 1 << 24}) {
    auto phase_bias = setting.phase_bias;
    phase_bias[3] = bias;
    CHECK(refused([&] { ScaleNetwork(setting.layers, phase_bias, true); }));
    phase_bias.pop_back();
    CHECK(refused([&] { ScaleNetwork(setting.layers, phase_bias, true); }));
  }

  // The bound itself, to the last unit: 2 * 1000 * 1000 + bias + 5.
  const auto bound = [](std::int32_t bias) {
    return refused([=] { check_weights({{1000, -1000}, {bias}, 1, 2, 1}, 1, 2, 1, 1000, 5, "x"); });
  };
  constexpr std::int32_t kMost = kHighest - 2000005;
  CHECK(!bound(kMost) && !bound(-kMost) && bound(kMost + 1) && bound(-kMost - 1));
}

void test_refused_models() {
  const Setting setting(8, kSmall);
  const auto refuses = [&](const auto& change) {
    Model model = *setting.model();
    change(model);
    return refused([&] { model.check(); });
  };
  CHECK(!refuses([](Model&) {}));
  CHECK(refuses([](Model& m) { m.z_tables = m.y_tables; }));
  CHECK(refuses([](Model& m) { m.y_tables = m.z_tables; }));
  CHECK(refuses([](Model& m) { ++m.rule.rows; }));
  CHECK(refuses([](Model& m) { m.rule.skip = m.rule.rows + 1; }));
  CHECK(refuses([](Model& m) { m.rule.base = 1 << 20; }));
  CHECK(refuses([](Model& m) { m.rate_bias.pop_back(); }));
  CHECK(refuses([](Model& m) { m.rate_bias[0] = kLowest; }));
  CHECK(refuses([](Model& m) { m.exponent.pop_back(); }));
  CHECK(refuses([](Model& m) { m.exponent[2] = 1025; }));
}

// ---------------------------------------------------------------------------------------------
// Tiles

std::vector<std::uint8_t> encode_tile(const std::shared_ptr<const Model>& model, Size size,
                                      const Symbols& symbols) {
  TileEncoder encoder(model, size, symbols.z);
  for (int phase = 0; phase < kPhases; ++phase) {
    encoder.begin_phase();
    encoder.put(symbols.y.data());
  }
  return encoder.finish();
}

void check_quantized_tile(const Setting& setting, Size size, int states, unsigned seed) {
  Random random(seed);
  const auto model = setting.model(true, states);
  const auto z = setting.random_z(random, size);
  const int channels = setting.widths.latents;
  const auto plane = static_cast<std::size_t>(size.height) * size.width;
  std::vector<float> y(plane * channels), mean(y.size()), decoded(y.size()), again(y.size());
  std::vector<float> gain(channels), step(channels);
  for (float& v : y) v = static_cast<float>(random.symbol()) / 4;
  for (float& v : mean) v = static_cast<float>(random.between(-8, 8)) / 4;
  for (float& g : gain) g = static_cast<float>(random.between(1, 8)) / 2;
  std::transform(gain.begin(), gain.end(), step.begin(), [](float g) { return 1 / g; });
  y[0] = std::numeric_limits<float>::quiet_NaN();
  y[plane] = std::numeric_limits<float>::infinity();
  y[2 * plane] = -std::numeric_limits<float>::infinity();

  const bool fine = states > 1;
  const Staircase staircase{fine ? 0.05f : 0.0f, {}};
  TileEncoder encoder(model, size, z);
  for (int phase = 0; phase < kPhases; ++phase) {
    encoder.begin_phase();
    encoder.quantize(y.data(), mean.data(), gain.data(), staircase, decoded.data());
    reconstruct_phase(phase, size, channels, encoder.symbols().data(), fine, staircase, mean.data(),
                      step.data(), again.data());
  }
  bool nearest = true;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const float scaled = (y[i] - mean[i]) * gain[i / plane];
    const float limited =
        std::clamp<float>(std::nearbyint(scaled), -kLargestSymbol, kLargestSymbol);
    const int symbol = encoder.symbols()[i % plane * channels + i / plane];
    nearest &= fine || symbol == 0 || symbol == static_cast<int>(limited);  // zero if skipped
  }
  CHECK(nearest);
  CHECK(encoder.symbols()[0] == 0);
  CHECK(decoded == again);
  const auto bytes = encoder.finish();
  CHECK(bytes == encode_tile(model, size, {z, encoder.symbols()}));
  for (const bool simd : {true, false}) {
    const Decoded result = decode_symbols(*setting.model(simd, states), size, bytes);
    CHECK(result.fault == Fault::none);
    CHECK(result.symbols.z == z && result.symbols.y == encoder.symbols());
  }
  const auto [z_bits, y_bits] = encoder.cross_entropy();
  CHECK(8.0 * static_cast<double>(bytes.size()) <= 1.01 * (z_bits + y_bits) + 48 * lanes_for(size));
}

void test_tiles() {
  unsigned seed = 200;
  for (const Widths widths : {kSmall, kWider}) {
    const Setting setting(++seed, widths);
    for (const Size size : kSizes)
      for (const int states : {1, 4, 8, 16, 32}) check_quantized_tile(setting, size, states, ++seed);
  }
}

// The best of all sequences of branches, one by one, on short lanes: the search finds it.
void test_search() {
  Random random(300);
  const Tables tables = make_tables(random, std::vector<int>(16, 5), 3000);
  for (const int states : {4, 8, 16, 32})
    for (int trial = 0; trial < 60; ++trial) {
      constexpr int kLatents = 5, kMost = 4;
      const int lanes = trial % 3 == 0 ? 4 : 1, count = lanes * kLatents - (lanes > 1);
      std::vector<float> residual(count);
      for (float& r : residual) r = static_cast<float>(random.between(-3000, 3000)) / 1000;
      const auto rows = random.values<std::int16_t>(count, 0, 7);
      // Without rates the nearest of every subset is the best of it, so all levels may compete.
      const Trellis& trellis = Trellis::of(states);
      std::vector<std::int16_t> levels(count);
      search(trellis, tables, {}, residual, rows, lanes, trial % 4 < 2, levels.data());
      for (int lane = 0; lane < lanes; ++lane) {
        const auto cost_of = [&](const auto& level_at) {
          int state = 0;
          float cost = 0;
          for (int i = lane, step = 0; i < count; i += lanes, ++step) {
            const int level = level_at(i, step);
            const float error = residual[i] - 0.5f * index_of(level, quantizer_of(state));
            cost += error * error;
            state = trellis.next(state, level);
          }
          return cost;
        };
        float least = 1e9f;
        for (int code = 0; code < 9 * 9 * 9 * 9 * 9; ++code) {
          int digits[kLatents];
          for (int i = 0, rest = code; i < kLatents; ++i, rest /= 9) digits[i] = rest % 9 - kMost;
          least = std::min(least, cost_of([&](int, int step) { return digits[step]; }));
        }
        const float found = cost_of([&](int i, int) { return int{levels[i]}; });
        CHECK(std::abs(found - least) < 1e-4f);
      }
    }
  CHECK(refused([] { Trellis::of(2); }));
}

void test_misuse() {
  const Setting setting(9, kSmall);
  const Size size{3, 3};
  Random random(10);
  auto z = setting.random_z(random, size);
  auto y = setting.random_y(random, size);
  TileEncoder encoder(setting.model(), size, z);
  CHECK(refused([&] { encoder.put(y.data()); }));
  for (int phase = 0; phase < kPhases; ++phase) encoder.begin_phase();
  CHECK(refused([&] { encoder.begin_phase(); }));
  y[4] = -32768;
  CHECK(refused([&] { encoder.put(y.data()); }));
  z[1] = -32768;
  CHECK(refused([&] { TileEncoder(setting.model(), size, z); }));
}

// ---------------------------------------------------------------------------------------------
// Hostile streams

// Whatever is read without a fault is what an encoder would have written.
bool survives(const std::shared_ptr<const Model>& model, Size size,
              std::span<const std::uint8_t> bytes) {
  const Decoded decoded = decode_symbols(*model, size, bytes);
  if (decoded.fault != Fault::none) return true;
  const auto again = encode_tile(model, size, decoded.symbols);
  return std::equal(bytes.begin(), bytes.end(), again.begin(), again.end());
}

// A tile whose latents are far from what its tables expect, so that escapes are among its symbols.
std::vector<std::uint8_t> random_tile(const Setting& setting, const std::shared_ptr<const Model>& model,
                                      Size size, Random& random) {
  const auto z = setting.random_z(random, size);
  const auto symbols = setting.random_y(random, size);
  const std::vector<float> y(symbols.begin(), symbols.end()), mean(y.size());
  const std::vector<float> gain(setting.widths.latents, 1.0f);
  std::vector<float> decoded(y.size());
  TileEncoder encoder(model, size, z);
  for (int phase = 0; phase < kPhases; ++phase) {
    encoder.begin_phase();
    encoder.quantize(y.data(), mean.data(), gain.data(), {}, decoded.data());
  }
  return encoder.finish();
}

void check_hostile(const Setting& setting, Size size, int states, unsigned seed, int stride) {
  Random random(seed);
  const auto model = setting.model(true, states);
  const auto bytes = random_tile(setting, model, size, random);
  CHECK(decode_symbols(*model, size, bytes).fault == Fault::none);
  bool all_fail = true, all_survive = true;
  for (std::size_t length = 0; length < bytes.size(); length += stride)
    all_fail &= decode_symbols(*model, size, std::span(bytes).first(length)).fault != Fault::none;
  for (std::size_t at = 0; at < bytes.size(); at += stride) {
    auto changed = bytes;
    changed[at] ^= static_cast<std::uint8_t>(random.between(1, 255));
    all_survive &= survives(model, size, changed);
  }
  CHECK(all_fail);
  CHECK(all_survive);
  auto longer = bytes;
  longer.push_back(0);
  CHECK(decode_symbols(*model, size, longer).fault == Fault::corrupt);
}

void test_hostile_streams() {
  const Setting setting(11, kSmall);
  for (const int states : {1, 8}) {
    check_hostile(setting, {1, 1}, states, 12, 1);
    check_hostile(setting, {3, 4}, states, 13, 1);
    check_hostile(setting, {16, 17}, states, 14, 19);
  }

  Random random(15);
  bool all_survive = true;
  for (int trial = 0; trial < 6000; ++trial) {
    const auto model = setting.model(true, trial % 2 == 0 ? 1 : 4 << trial % 4);
    const bool large = trial % 50 == 0;  // four lanes
    const Size size = large ? Size{16, 18} : Size{random.between(1, 4), random.between(1, 5)};
    const int length = random.between(0, large ? 20000 : 400);
    all_survive &= survives(model, size, random.values<std::uint8_t>(length, 0, 255));
  }
  CHECK(all_survive);
}

// A claimed size alone must not make the decoder allocate.
void test_claimed_sizes() {
  const Setting setting(16, kSmall);
  const auto model = setting.model();
  Random random(17);
  auto bytes = random.values<std::uint8_t>(1000, 1, 255);
  for (const Size size : {Size{65536, 65536}, Size{1, 65536}, Size{65536, 1}, Size{4000, 6000}}) {
    largest_allocation = 0;
    CHECK(decode_symbols(*model, size, bytes).fault == Fault::truncated);
    CHECK(largest_allocation < 4096);
  }
}

}  // namespace

int main() {
  test_tables();
  test_rans();
  test_least_bits();
  test_network();
  test_refused_weights();
  test_refused_models();
  test_search();
  test_tiles();
  test_misuse();
  test_hostile_streams();
  test_claimed_sizes();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
