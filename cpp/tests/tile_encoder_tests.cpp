// SPDX-License-Identifier: Apache-2.0
#include "refinement.hpp"
#include "testing.hpp"
#include "viterbi.hpp"

namespace {

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

// Layers come back as they were written, each level is a child of the one before, and errors fall.
void check_layers(const Setting& setting, Size size, int layers, unsigned seed) {
  Random random(seed);
  const auto model = setting.model(true, 1);
  const auto z = setting.random_z(random, size);
  const int channels = setting.widths.latents;
  const auto plane = static_cast<std::size_t>(size.height) * size.width;
  const std::vector<float> gain(channels, 1), mean(plane * channels, 0);
  std::vector<float> y(plane * channels), decoded(y.size());
  for (float& v : y) v = static_cast<float>(random.symbol()) / 4 + static_cast<float>(random.between(-8, 8)) / 16;
  const float grid[] = {0, (1 + kInCell) / 2, 1 + kInCell};
  const Staircase staircase{0.05f, grid, layers - 1};
  TileEncoder encoder(model, size, z);
  for (int phase = 0; phase < kPhases; ++phase) {
    encoder.begin_phase();
    encoder.quantize(y.data(), mean.data(), gain.data(), staircase, decoded.data());
  }
  std::vector<std::uint8_t> bytes = encoder.finish();
  LayerWriter writer(*model->y_tables, size, z, encoder.symbols(), y);
  std::vector<std::vector<std::int16_t>> levels = {encoder.symbols()};
  double before = 1e30;
  for (int layer = 1; layer < layers; ++layer) {
    const auto part = writer.write(*model, layers - 1 - layer, 0.05f);
    CHECK(8.0 * static_cast<double>(part.size()) <= 1.01 * writer.bits() + 48 * lanes_for(size));
    bytes.insert(bytes.end(), part.begin(), part.end());
    levels.push_back(writer.levels());
    double error = 0;
    bool children = true;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const int level = levels[layer][i % plane * channels + i / plane], coarse = levels[layer - 1][i % plane * channels + i / plane];
      children &= coarse == (level < 0 ? -(-level / 2) : level / 2);
      const float off = y[i] - value_in_layer(level, layers - 1 - layer) / static_cast<float>(1 << layer);
      error += off * off;
    }
    CHECK(children);
    CHECK(error <= before);
    before = error;
  }
  for (const bool simd : {true, false}) {
    const auto reading = setting.model(simd, 1);
    TileDecoder decoder(*reading, size, bytes, true);
    for (int phase = 0; phase < kPhases; ++phase) decoder.read_phase();
    CHECK(decoder.fault() == Fault::none);
    std::span<const std::uint8_t> rest = std::span(bytes).subspan(decoder.bytes_read());
    Symbols symbols = std::move(decoder).take();
    CHECK(symbols.y == levels[0]);
    LayerReader reader(*reading->y_tables, size, symbols.z, symbols.y);
    for (int layer = 1; layer < layers; ++layer) {
      std::size_t read = 0;
      CHECK(reader.read(*reading, rest, read) == Fault::none);
      CHECK(symbols.y == levels[layer]);
      rest = rest.subspan(read);
    }
    CHECK(rest.empty());
    // Damage and early ends are found, or read as something else, and never more than that.
    symbols.y = levels[0];
    std::vector<std::uint8_t> hostile(bytes.end() - std::min<std::ptrdiff_t>(bytes.size(), 64), bytes.end());
    hostile[random.between(0, static_cast<int>(hostile.size()) - 1)] ^= 16;
    std::size_t read = 0;
    LayerReader(*reading->y_tables, size, symbols.z, symbols.y).read(*reading, hostile, read);
    CHECK(read <= hostile.size());
    CHECK(LayerReader(*reading->y_tables, size, symbols.z, symbols.y).read(*reading, std::span(bytes).first(2), read) == Fault::truncated);
    std::fill(symbols.y.begin(), symbols.y.end(), std::int16_t{kLargestSymbol});
    CHECK(LayerReader(*reading->y_tables, size, symbols.z, symbols.y).read(*reading, hostile, read) != Fault::none);
  }
}

void test_layers() {
  unsigned seed = 400;
  for (const Widths widths : {kSmall, kWider}) {
    const Setting setting(++seed, widths);
    for (const Size size : kSizes)
      for (const int layers : {2, 4}) check_layers(setting, size, layers, ++seed);
  }
}

void test_tiles() {
  unsigned seed = 200;
  for (const Widths widths : {kSmall, kWider}) {
    const Setting setting(++seed, widths);
    for (const Size size : kSizes)
      for (const int states : {1, 4, 8, 16, 32, 512}) check_quantized_tile(setting, size, states, ++seed);
  }
}

// The best of all sequences of branches, one by one, on short lanes: the search finds it.
void test_search() {
  Random random(300);
  const Tables tables = make_tables(random, std::vector<int>(16, 5), 3000);
  for (const int states : {4, 8, 16, 32, 512})
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

// Every vector kernel that this machine has, and the portable one: the same levels, in a window and from one to the
// next, and where a residual is no number.
void test_kernels() {
  struct Kind {
    int largest;
    float unit, rate_weight;
  };
  Random random(500);
  const Tables tables = make_tables(random, random.values<int>(40, 0, 30), 3000);
  // As pictures have; beyond the most that a branch costs; far beyond the tables; full of ties.
  for (const Kind kind : {Kind{4000, 1e-3f, 0.04f}, {4000, 1e-3f, 1}, {40'000'000, 1e-3f, 0.04f}, {16, 0.25f, 0}})
    for (const int states : {4, 8, 16, 32, 512})
      for (const int latents : {0, 1, 2, 9, 90, 4700}) {
        const int lanes = 1 << random.between(0, 2), count = lanes * latents + random.between(0, lanes - 1);
        std::vector<float> residual(count);
        for (float& r : residual) r = static_cast<float>(random.between(-kind.largest, kind.largest)) * kind.unit;
        for (int i = 30; i < count; i += 70) residual[i] = std::numeric_limits<float>::quiet_NaN();
        const auto rows = random.values<std::int16_t>(count, 0, 19);
        const Staircase staircase{kind.rate_weight};
        std::vector<std::int16_t> levels(count), found(count);
        search(Trellis::of(states), tables, staircase, residual, rows, lanes, false, levels.data());
        for (const auto kernel : {search_avx2, search_avx512})
          if (kernel(states, {tables, staircase, residual, rows, lanes}, found.data())) CHECK(found == levels);
      }
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

}  // namespace

void test_tile_encoder() {
  test_search();
  test_kernels();
  test_tiles();
  test_layers();
  test_misuse();
}
