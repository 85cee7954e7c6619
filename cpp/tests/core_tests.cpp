// SPDX-License-Identifier: Apache-2.0
// Tests of the core alone, made to be run under sanitizers. Exits non-zero if anything fails.
#include <cstdlib>
#include <new>
#include <set>

#include "testing.hpp"

// Every allocation passes here, so that a test can bound what a hostile stream makes us ask for.
void* operator new(std::size_t size) {
  largest_allocation = std::max(largest_allocation, size);
  if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

// ---------------------------------------------------------------------------------------------
// Tables and rANS

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
      const double ideal = kProbabilityBits - std::log2(static_cast<double>(cdf[cheapest + 1] - cdf[cheapest]));
      CHECK(least_bits(tables, row) <= ideal && least_bits(tables, row) > ideal - 1e-6);
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

}  // namespace

int main() {
  test_tables();
  test_rans();
  test_least_bits();
  test_network();
  test_refused_weights();
  test_refused_models();
  test_tile_encoder();
  test_tile_decoder();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
